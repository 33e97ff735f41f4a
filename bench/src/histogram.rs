//! A histogram of latencies: logarithmic buckets, each at most 1/64 (1.6 %) wide.
//!
//! Values are nanoseconds. Below 64 they are exact; above, each power of two is cut into 64 equal buckets. The whole
//! range to 18 minutes takes 2,304 counters, so that recording is two shifts and an add.

/// Buckets per power of two.
const SUB: u64 = 64;
const SUB_BITS: u32 = SUB.trailing_zeros();
/// Largest power of two that is told apart.
const TOP_BITS: u32 = 40;
const BUCKETS: usize = ((TOP_BITS - SUB_BITS + 1) as usize + 1) * SUB as usize;

/// Counts by latency.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: 0 }
    }
}

fn bucket(value: u64) -> usize {
    let value = value.min((1 << (TOP_BITS + 1)) - 1);
    if value < SUB {
        return value as usize;
    }
    let exponent = 63 - value.leading_zeros();
    let sub = (value >> (exponent - SUB_BITS)) - SUB;
    (u64::from(exponent - SUB_BITS + 1) * SUB + sub) as usize
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let (row, sub) = (bucket as u64 / SUB, bucket as u64 % SUB);
    if row == 0 {
        return sub;
    }
    ((SUB + sub + 1) << (row - 1)) - 1
}

impl Histogram {
    /// Puts one latency in, in nanoseconds.
    pub fn record(&mut self, nanos: u64) {
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    /// How many were recorded.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The largest, in nanoseconds.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that `share` (0 to 1) of all are at most, in nanoseconds; 0 for an empty one.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((share * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper(index).min(self.max);
            }
        }
        self.max
    }

    /// The buckets that hold something: largest value in nanoseconds, count.
    pub fn sparse(&self) -> Vec<(u64, u64)> {
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(index, count)| (upper(index), *count)).collect()
    }

    /// Adds what [`Histogram::sparse`] gave.
    pub fn add_sparse(&mut self, buckets: &[(u64, u64)]) {
        for (value, count) in buckets {
            self.counts[bucket(*value)] += count;
            self.total += count;
            self.max = self.max.max(*value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_in_order() {
        let mut last = None;
        for exponent in 0..40 {
            for offset in [0_u64, 1, 3, 1000] {
                let value = (1_u64 << exponent) + offset;
                let top = upper(bucket(value));
                assert!(top >= value, "{value} lies in its bucket");
                assert!((top - value) as f64 <= value as f64 / 64.0, "{value} to {top}");
            }
        }
        for index in 0..BUCKETS {
            assert_eq!(bucket(upper(index)), index);
            assert!(last < Some(upper(index)));
            last = Some(upper(index));
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=1000).for_each(|micros| histogram.record(micros * 1000));
        let check = |share: f64, micros: f64| {
            let got = histogram.quantile(share) as f64 / 1000.0;
            assert!((got - micros).abs() <= micros / 64.0, "{share}: {got} for {micros}");
        };
        check(0.5, 500.0);
        check(0.99, 990.0);
        check(0.999, 999.0);
        assert_eq!(histogram.quantile(1.0), 1_000_000);
        let mut copy = Histogram::default();
        copy.add_sparse(&histogram.sparse());
        assert_eq!((copy.total(), copy.quantile(0.99)), (1000, histogram.quantile(0.99)));
    }
}
