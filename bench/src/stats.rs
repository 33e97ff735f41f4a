//! The statistics of a comparison: medians, and ratios of paired blocks with their 95 % interval.
//!
//! The ratio is taken inside each block, where both subjects met the same neighbours on the machine, and averaged as
//! logarithms: being 10 % slower and 10 % faster then cancel, and the interval never reaches below zero.

/// The middle value; the mean of both middles of an even number. `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// A geometric mean of ratios with its 95 % interval.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ratio {
    /// The geometric mean.
    pub mean: f64,
    /// Lower and upper end of the interval; `None` of a single block, which says nothing about its noise.
    pub interval: Option<(f64, f64)>,
    /// How many blocks.
    pub blocks: usize,
}

impl Ratio {
    /// The same the other way round: peer / ours.
    pub fn inverse(&self) -> Ratio {
        let interval = self.interval.map(|(low, high)| (1.0 / high, 1.0 / low));
        Ratio { mean: 1.0 / self.mean, interval, blocks: self.blocks }
    }

    /// Whether the interval excludes 1.
    pub fn decided(&self) -> bool {
        self.interval.is_some_and(|(low, high)| low > 1.0 || high < 1.0)
    }

    /// Whether the whole interval lies within `1 ± share`.
    pub fn within(&self, share: f64) -> bool {
        self.interval.is_some_and(|(low, high)| low >= 1.0 - share && high <= 1.0 + share)
    }
}

/// The ratio `ours / peer` over blocks of pairs. `None` of no pair, or of one that is not positive.
pub fn paired_ratio(pairs: &[(f64, f64)]) -> Option<Ratio> {
    if pairs.is_empty() || pairs.iter().any(|(ours, peer)| *ours <= 0.0 || *peer <= 0.0) {
        return None;
    }
    let logs: Vec<f64> = pairs.iter().map(|(ours, peer)| (ours / peer).ln()).collect();
    let count = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / count;
    let interval = (logs.len() > 1).then(|| {
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let half = student(logs.len() - 1) * (variance / count).sqrt();
        ((mean - half).exp(), (mean + half).exp())
    });
    Some(Ratio { mean: mean.exp(), interval, blocks: logs.len() })
}

/// The 97.5 % quantile of Student's t with so many degrees of freedom.
fn student(degrees: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
        2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048,
        2.045, 2.042,
    ];
    if let Some(value) = degrees.checked_sub(1).and_then(|index| TABLE.get(index)) {
        return *value;
    }
    // Cornish and Fisher's expansion; at 31 degrees it is off by less than 0.001.
    let (normal, degrees) = (1.959_964_f64, degrees as f64);
    normal
        + (normal.powi(3) + normal) / (4.0 * degrees)
        + (5.0 * normal.powi(5) + 16.0 * normal.powi(3) + 3.0 * normal) / (96.0 * degrees.powi(2))
}

/// A small random source for the order of blocks; its seed is printed with the run.
pub struct Random(u64);

impl Random {
    /// From a seed; 0 is taken as another number, since xorshift stays at 0.
    pub fn new(seed: u64) -> Random {
        Random(if seed == 0 { 0x9e37_79b9_7f4a_7c15 } else { seed })
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// Puts a list into random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-3 * expected.abs(), "{got} for {expected}");
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn ratios() {
        assert_eq!(paired_ratio(&[]), None);
        assert_eq!(paired_ratio(&[(1.0, 0.0)]), None);
        let one = paired_ratio(&[(3.0, 4.0)]).expect("one pair");
        assert_eq!((one.mean, one.interval, one.decided()), (0.75, None, false));
        // Half and double cancel.
        let even = paired_ratio(&[(1.0, 2.0), (2.0, 1.0)]).expect("two pairs");
        near(even.mean, 1.0);
        assert!(!even.decided());
        // By hand: logs -0.2231, -0.2877, -0.1625; mean -0.2244, sd 0.0626, t(2) 4.303, half 0.1555.
        let three = paired_ratio(&[(0.8, 1.0), (0.75, 1.0), (0.85, 1.0)]).expect("three pairs");
        near(three.mean, 0.798_96);
        let (low, high) = three.interval.expect("three blocks");
        near(low, 0.6839);
        near(high, 0.9334);
        assert!(three.decided() && !three.within(0.02));
        let inverse = three.inverse();
        near(inverse.mean, 1.0 / 0.798_96);
        near(inverse.interval.expect("three blocks").0, 1.0 / 0.9334);
        near(inverse.interval.expect("three blocks").1, 1.0 / 0.6839);
        assert!(paired_ratio(&[(1.0, 1.0), (1.001, 1.0), (0.999, 1.0)]).expect("pairs").within(0.02));
    }

    #[test]
    fn student_quantiles() {
        near(student(1), 12.706);
        near(student(11), 2.201);
        near(student(31), 2.0395);
        near(student(60), 2.0003);
        near(student(1000), 1.9623);
    }

    #[test]
    fn every_order_comes() {
        let mut random = Random::new(7);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let mut list = [1, 2, 3];
            random.shuffle(&mut list);
            seen.insert(list);
        }
        assert_eq!(seen.len(), 6);
    }
}
