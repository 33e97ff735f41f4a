//! Draws that plugins make from an exchange's random bits.
//!
//! A draw maps 64 random bits onto a range by a product, not by a remainder: no
//! division, and the deviation from equal shares is below bound / 2^64.

use crate::Exchange;

/// A number from 0 to `bound` - 1; 0 where `bound` is 0.
pub(crate) fn below(x: &mut dyn Exchange, bound: u64) -> u64 {
    ((u128::from(x.random()) * u128::from(bound)) >> 64) as u64
}

/// True in this share of all draws, 0 to 1. A share of 1 draws nothing.
pub(crate) fn hits(x: &mut dyn Exchange, share: f64) -> bool {
    // 53 bits: all that a float between 0 and 1 can tell apart.
    share >= 1.0 || ((x.random() >> 11) as f64) < share * (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeExchange;

    /// Hits of 100,000 draws, within four standard deviations of what is expected.
    #[track_caller]
    fn check(expected_share: f64, mut hit: impl FnMut(&mut FakeExchange) -> bool) {
        let mut x = FakeExchange::new("GET /");
        let draws = 100_000.0;
        let hits = (0..100_000).filter(|_| hit(&mut x)).count() as f64;
        let tolerance = 4.0 * (draws * expected_share * (1.0 - expected_share)).sqrt();
        assert!((hits - draws * expected_share).abs() <= tolerance, "{hits} for {expected_share}");
    }

    #[test]
    fn shares_hold() {
        check(0.0, |x| hits(x, 0.0));
        check(0.3, |x| hits(x, 0.3));
        check(0.001, |x| hits(x, 0.001));
        check(1.0, |x| hits(x, 1.0));
        check(0.2, |x| below(x, 5) == 4);
        check(0.2, |x| below(x, 5) == 0);
        check(0.0, |x| below(x, 5) >= 5);
        check(1.0, |x| below(x, 0) == 0);
    }
}
