//! Error ratios: which endpoint stands out, and how long it rests.
//!
//! A ratio needs the tries too, and counting every one would put a shared write on the plain way of each
//! request. So a window begins with an error: while an endpoint makes none, nothing is written, and
//! only while one is younger than the interval do successes count in the shared word. That sees the same
//! as a window which began at leisure, or sooner: an endpoint that broke is judged by what it did since,
//! not by the good minutes before. The error that opens it weighs at most `1 / min_requests` too much.
//!
//! The word holds the start in 32 bits of 16.4 ms (two years until it wraps), tries and errors in 16 each;
//! both are halved before they overflow, which keeps their ratio. So `min_requests` above 32,767 is that.
//!
//! The circuit breaker counts by the same window; see [`crate::breaker`].

use std::time::Duration;

use config::balance::Outlier;

use crate::health::{after, micros};

/// Microseconds of a tick are two to this power.
const TICK_BITS: u32 = 14;
/// Beyond this many tries both counts are halved.
const TRIES_MAX: u16 = u16::MAX;
/// The most that `min_requests` can ask for.
const MIN_REQUESTS_MAX: u32 = (TRIES_MAX / 2) as u32;

/// Tries and errors since the first error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window(pub(crate) u64);

impl Window {
    fn of(start: u32, tries: u16, errors: u16) -> Window {
        Window(u64::from(start) << 32 | u64::from(tries) << 16 | u64::from(errors))
    }

    fn tries(self) -> u16 {
        (self.0 >> 16) as u16
    }

    fn errors(self) -> u16 {
        self.0 as u16
    }

    /// Whether an error is young enough for successes to count.
    pub(crate) fn runs(self, length: Duration, now: u64) -> bool {
        let start = (self.0 >> 32) as u32;
        // Workers read their clocks apart: a time before the start is the start.
        let age = (tick(now).wrapping_sub(start) as i32).max(0) as u64;
        self.0 != 0 && age << TICK_BITS < micros(length)
    }

    /// With one more try; `None` when it need not be counted.
    pub(crate) fn after(self, error: bool, length: Duration, now: u64) -> Option<Window> {
        if !self.runs(length, now) {
            return error.then(|| Window::of(tick(now), 1, 1));
        }
        let half = u16::from(self.tries() == TRIES_MAX);
        let (tries, errors) = (self.tries() >> half, self.errors() >> half);
        Some(Window::of((self.0 >> 32) as u32, tries + 1, errors + u16::from(error)))
    }

    /// Whether there are enough tries, and enough of them errors.
    pub(crate) fn is_over(self, error_ratio: f64, min_requests: u32) -> bool {
        let tries = u32::from(self.tries());
        tries >= min_requests.clamp(1, MIN_REQUESTS_MAX)
            && f64::from(self.errors()) >= error_ratio * f64::from(tries)
    }
}

fn tick(now: u64) -> u32 {
    (now >> TICK_BITS) as u32
}

/// How often in a row it was ejected, and when its last rest ended: 16 and 48 bits, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streak(pub(crate) u64);

impl Streak {
    /// Ejected once more; also how long it rests: `base_time` times the ejections in a row, of which each
    /// `interval` that was well since the last rest takes one away.
    pub(crate) fn ejected(self, rule: &Outlier, now: u64) -> (Streak, Duration) {
        let well = (now / 1000).saturating_sub(self.0 >> 16);
        let intervals = u128::from(well) / rule.interval.as_millis().max(1);
        let times = (self.0 as u16).saturating_sub(u16::try_from(intervals).unwrap_or(u16::MAX));
        Streak::resting(times, rule, now)
    }

    /// Its trial failed: the row goes on, however long it waited for the trial.
    pub(crate) fn failed_again(self, rule: &Outlier, now: u64) -> (Streak, Duration) {
        Streak::resting(self.0 as u16, rule, now)
    }

    fn resting(before: u16, rule: &Outlier, now: u64) -> (Streak, Duration) {
        let times = before.saturating_add(1);
        let rest = rule.base_time.saturating_mul(u32::from(times)).min(rule.max_time);
        (Streak(after(now, rest) << 16 | u64::from(times)), rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::check;
    use config::balance::Outlier;

    #[test]
    fn ratio() {
        check("outlier", "0 fail*19 yes fail! rest unhealthy out");
        check("outlier", "0 fail*10 200*9 yes 200! rest");
        check("outlier", "0 fail*9 200*99 yes");
        check("outlier", "0 200*999 fail*19 yes fail!");
        check("outlier", "0 500*10 404*9 yes 404!");
        check("outlier", "0 late*19 gone*9 yes 503!");
        check("outlier o.min=4 o.ratio=1", "0 fail*3 200 fail*9 yes");
        check("outlier o.min=0 o.ratio=0.1", "0 fail! rest");
    }

    #[test]
    fn only_an_interval_counts() {
        check("outlier o.min=4", "0 fail*3, 9.9 fail!");
        check("outlier o.min=4", "0 fail*3, 10.1 fail*3 yes fail!");
        check("outlier o.min=4", "0 fail*3, 10.1 200*99 yes, 10.2 fail*3 yes fail!");
    }

    #[test]
    fn the_cap_is_asked() {
        check("outlier o.min=4", "0 full fail*4 yes room fail*3 yes fail! rest");
        check("outlier o.min=4 max_fails=1", "0 full fail! rest fail*9 rest, 10 claim try:200+ yes");
    }

    #[test]
    fn rests_grow_and_shrink() {
        check("outlier o.min=4", "0 fail*3 fail!, 29.9 rest lost, 30 claim rest lost try:200+ yes healthy");
        check(
            "outlier o.min=4",
            "0 fail*3 fail!, 30 claim try:500, 89.9 rest, 90 claim try:late, 179.9 rest, 180 trial",
        );
        check("outlier o.min=4", "0 fail*3 fail!, 999 claim try:fail, 1058.9 rest, 1059 trial");
        check("outlier o.min=4", "0 fail*3 fail!, 30 claim try:200+, 31 fail*3 fail!, 90.9 rest, 91 trial");
        check("outlier o.min=4", "0 fail*3 fail!, 30 claim try:200+, 41 fail*3 fail!, 70.9 rest, 71 trial");
        check("outlier o.min=4 o.max=40", "0 fail*3 fail!, 30 claim try:fail, 69.9 rest, 70 trial");
    }

    #[test]
    fn with_others() {
        check("outlier o.min=4 active", "0 fail*3 fail!, 5 probe:ok*9 rest, 30 claim try:200+ yes");
        check("outlier o.min=4 max_fails=2", "0 fail fail! fail fail! rest, 10 rest, 30 claim try:200+ yes");
        check(
            "outlier o.min=4 max_fails=2",
            "0 fail fail! fail fail!, 1 rules:-outlier rest, 30 claim try:200+ yes",
        );
        check("outlier o.min=2", "0 fail fail! rules:-outlier yes in");
        check(
            "outlier o.min=2 max_fails=1 active",
            "0 fail! fail! rest, 30 rest probe:ok probe:ok+ trial claim try:200+ yes",
        );
    }

    #[test]
    fn windows_keep_their_ratio_when_full() {
        let length = Duration::from_secs(10);
        let mut window = Window::default();
        for try_number in 0..200_000 {
            window = window.after(try_number % 4 == 0, length, 5).unwrap_or(window);
        }
        assert!(window.is_over(0.249, u32::MAX) && !window.is_over(0.251, 1));
        assert!(window.runs(length, 0) && !window.runs(length, 10_100_000));
    }

    #[test]
    fn times_that_do_not_fit() {
        let (longest, none) = (Duration::MAX, Duration::ZERO);
        let rule = Outlier { base_time: longest, max_time: longest, interval: none, ..Outlier::default() };
        let (streak, rest) = Streak::default().ejected(&rule, u64::MAX);
        assert_eq!((streak.0 as u16, rest), (1, Duration::MAX));
        assert_eq!(Streak(u64::MAX).failed_again(&Outlier::default(), 0).1, Outlier::default().max_time);
    }
}
