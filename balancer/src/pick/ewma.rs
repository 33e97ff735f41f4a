//! Peak EWMA with the power of two choices: of two drawn, the one that would answer sooner.
//!
//! What an endpoint costs is its latency times the requests under way there and this one. The
//! latency is a moving average that rises at once to a slower answer and falls with a half-life of seven seconds (a
//! time constant of ten), as Finagle's does: a stall is seen by the next request, and a node that
//! was slow is tried again after a while, since its cost falls without answers too.
//!
//! - An endpoint without a sample costs nothing until one request is under way there: it is tried at once, and
//!   gets one at a time until it answered.
//! - A failure counts as [`FAILED_MICROS`] at least; answers with a 5xx count the more, the larger their share is
//!   of late. A node that refuses quickly would otherwise draw all traffic to it.
//! - Costs within a fifth of each other are equal: between 80 and 90 microseconds the one drawn first goes, by
//!   weight, or else a quiet upstream would use one node alone.
//! - Others' latencies come as they published them and fall here by the same half-life: two workers that never
//!   try a node again because of what the other once said would be wrong for ever.

use std::cell::Cell;

use super::random::Sampler;
use super::Chance;
use crate::endpoint::Outcome;

/// In microseconds: ten seconds times ln 2.
const HALF_LIFE: u64 = 6_931_472;
/// What a failed connection or a timeout counts as, at least.
pub const FAILED_MICROS: u64 = 1_000_000;
/// What an endpoint of unknown latency costs while a request is under way there.
const UNKNOWN_MICROS: f64 = 1e9;
/// How much of the share of errors one outcome replaces.
const ERROR_PART: f64 = 0.125;
/// A second choice is cheaper when it costs less than this part of the first.
const CLEARLY: f64 = 0.8;

/// What one worker knows of an endpoint's latency.
#[derive(Debug, Default)]
pub struct Latency {
    /// Microseconds at `stamp`; 0 when nothing is known.
    peak: Cell<f64>,
    /// The share of errors of late, at `stamp`.
    errors: Cell<f64>,
    stamp: Cell<u64>,
    /// What the others published last, and when it was new.
    others: Cell<u32>,
    others_stamp: Cell<u64>,
}

impl Latency {
    /// Takes in what came of a try after so many microseconds.
    pub fn sample(&self, outcome: Outcome, micros: u64, now: u64) {
        let decay = decay(now.saturating_sub(self.stamp.get()));
        let peak = self.peak.get() * decay;
        let errors = self.errors.get() * decay;
        let sample = micros.max(1) as f64;
        let (peak, errors) = match outcome {
            Outcome::Failed | Outcome::TimedOut => (peak.max(micros.max(FAILED_MICROS) as f64), errors),
            // It says how long the answer takes at least.
            Outcome::Cancelled if self.peak.get() > 0.0 => (peak.max(sample), errors),
            Outcome::Cancelled => return,
            Outcome::Status(500..) => (peak.max(sample), errors + (1.0 - errors) * ERROR_PART),
            // What the decay took off is what the sample adds: an average over time, not over requests.
            Outcome::Status(_) if sample < self.peak.get() => {
                (peak + sample * (1.0 - decay), errors * (1.0 - ERROR_PART))
            }
            Outcome::Status(_) => (sample, errors * (1.0 - ERROR_PART)),
        };
        self.peak.set(peak);
        self.errors.set(errors);
        // A long answer ends with the time of its head: what came since is not made older by it.
        self.stamp.set(now.max(self.stamp.get()));
    }

    /// Takes in what the others published; 0 is nothing.
    pub fn heard(&self, micros: u32, now: u64) {
        if self.others.replace(micros) != micros {
            self.others_stamp.set(now);
        }
    }

    /// What this worker found, in microseconds; 0 when nothing.
    pub fn own(&self, now: u64) -> f64 {
        let decay = decay(now.saturating_sub(self.stamp.get()));
        let errors = self.errors.get();
        (self.peak.get() + errors * errors * FAILED_MICROS as f64) * decay
    }

    /// The worst that is known, in microseconds; 0 when nothing is.
    #[inline]
    pub fn micros(&self, now: u64) -> f64 {
        let others = match self.others.get() {
            0 => 0.0,
            micros => f64::from(micros) * decay(now.saturating_sub(self.others_stamp.get())),
        };
        self.own(now).max(others)
    }
}

/// What is left of 1 after so long: halvings by shifts and straight lines between them, which is within 6 % of
/// the exponential and the same on every machine.
#[inline]
fn decay(micros: u64) -> f64 {
    let halvings = micros / HALF_LIFE;
    let part = (micros % HALF_LIFE) as f64 / HALF_LIFE as f64;
    if halvings >= 64 {
        return 0.0;
    }
    (1.0 - part / 2.0) / (1_u64 << halvings) as f64
}

/// What a request costs at an endpoint. `under_way` is by its weight: requests times the mean weight, divided by its
/// own.
#[inline]
pub fn cost(micros: f64, under_way: f64) -> f64 {
    match micros > 0.0 {
        true => micros * (under_way + 1.0),
        false if under_way > 0.0 => UNKNOWN_MICROS * under_way,
        false => 0.0,
    }
}

/// The cheaper of two drawn by weight.
#[inline]
pub fn choose(sampler: &Sampler, chance: &Chance, cost: impl Fn(usize) -> f64) -> Option<usize> {
    let first = sampler.draw(chance)?;
    let Some(second) = sampler.draw_other(first, chance) else { return Some(first) };
    let cheaper = cost(second) < cost(first) * CLEARLY;
    Some(if cheaper { second } else { first })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"ok 1000 @0, ok 500 @10"`: outcomes with their microseconds at a second; then what is known at second 10.
    fn check(script: &str, expected: std::ops::RangeInclusive<f64>) {
        let latency = Latency::default();
        for step in script.split(", ").filter(|step| !step.is_empty()) {
            let words: Vec<&str> = step.split(' ').collect();
            let outcome = match words[0] {
                "failed" => Outcome::Failed,
                "late" => Outcome::TimedOut,
                "left" => Outcome::Cancelled,
                status => Outcome::Status(status.parse().expect("a status")),
            };
            let second: u64 = words[2][1..].parse().expect("a second");
            latency.sample(outcome, words[1].parse().expect("microseconds"), second * 1_000_000);
        }
        let known = latency.micros(10_000_000);
        assert!(expected.contains(&known), "{script}: {known}");
    }

    #[test]
    fn peaks_and_falls() {
        check("", 0.0..=0.0);
        check("200 1000 @10", 1000.0..=1000.0);
        check("200 1000 @9, 200 5000 @10", 5000.0..=5000.0);
        check("200 5000 @10, 200 1000 @10", 5000.0..=5000.0);
        check("200 5000 @3, 200 1000 @10", 2950.0..=3050.0);
        check("200 5000 @3", 2400.0..=2600.0);
        check("failed 50 @10", 1e6..=1e6);
        check("late 3000000 @10", 3e6..=3e6);
        check("left 900 @10", 0.0..=0.0);
        check("200 100 @10, left 900 @10", 900.0..=900.0);
        check("200 1000 @10, left 900 @10", 1000.0..=1000.0);
        check("200 1000 @10, 503 10 @10", 16_000.0..=17_000.0);
        check("200 1000 @10, 503 10 @10, 503 10 @10, 503 10 @10, 503 10 @10", 150_000.0..=200_000.0);
        check("200 1000 @10, 404 10 @10", 1000.0..=1000.0);
    }

    #[test]
    fn others_count_and_are_forgotten() {
        let latency = Latency::default();
        latency.heard(500_000, 0);
        assert_eq!(latency.micros(0), 500_000.0);
        latency.heard(500_000, 60_000_000);
        assert!(latency.micros(70_000_000) < 1000.0, "{}", latency.micros(70_000_000));
        assert_eq!(latency.micros(u64::MAX), 0.0);
    }

    /// An answer whose body took ten minutes ends with the time of its head.
    #[test]
    fn a_long_answer_makes_nothing_older() {
        let latency = Latency::default();
        latency.sample(Outcome::Status(200), 500_000, 600_000_000);
        latency.sample(Outcome::Status(200), 1_000, 1_000);
        assert!(latency.micros(600_000_000) > 400_000.0, "{latency:?}");
    }

    #[test]
    fn costs() {
        assert_eq!(cost(0.0, 0.0), 0.0);
        assert!(cost(0.0, 1.0) > cost(500_000.0, 100.0));
        assert_eq!(cost(100.0, 1.0), 200.0);
    }
}
