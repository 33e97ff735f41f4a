//! When a breaker is open: APISIX's `api-breaker` rule as arithmetic.
//!
//! Every `failures` unhealthy outcomes trip it. It is then open for 2 s, at the
//! second trip 4 s, then 8 s and so on up to a maximum. The time is derived from
//! the failures counted since the last healthy state, so the first failure after a
//! rest already belongs to the next run: within the doubled time since the last
//! trip it opens the breaker again at once, later it begins a run of its own.
//! `successes` healthy outcomes without an unhealthy one between make it forget all.
//!
//! Two things differ from APISIX. Times are milliseconds, not whole seconds, so
//! that 2 s are not up to 3. And outcomes that come in while it is open are not
//! counted: they are of requests sent before it opened. APISIX counts them, and 30
//! requests in flight to a path that fails rest it for 300 s at its first failure.

use super::window::SKEW_MILLIS_MAX;

/// When a breaker opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRule {
    /// Unhealthy outcomes to each trip, at least 1.
    pub failures: u64,
    /// Healthy outcomes in a row to be as new, at least 1.
    pub successes: u64,
    /// The longest it is open.
    pub open_max_millis: u64,
}

/// What one path did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Breaker {
    /// Unhealthy outcomes since it was healthy.
    failures: u64,
    /// Healthy outcomes since the last unhealthy one.
    successes: u64,
    /// When it last tripped.
    tripped_millis: Option<u64>,
}

impl Breaker {
    /// Whether no request passes now.
    pub(super) fn is_open(&self, now_millis: u64, rule: &BreakerRule) -> bool {
        self.tripped_millis.is_some_and(|tripped| {
            let set_back = tripped > now_millis.saturating_add(SKEW_MILLIS_MAX);
            now_millis < tripped.saturating_add(self.open_millis(rule)) && !set_back
        })
    }

    /// 2 s, doubled with each run of failures.
    fn open_millis(&self, rule: &BreakerRule) -> u64 {
        let runs = self.failures.div_ceil(rule.failures).max(1);
        let seconds = u32::try_from(runs).ok().and_then(|runs| 1_u64.checked_shl(runs)).unwrap_or(u64::MAX);
        seconds.saturating_mul(1000).min(rule.open_max_millis)
    }

    /// An unhealthy outcome.
    pub(super) fn fails(&mut self, now_millis: u64, rule: &BreakerRule) {
        if self.is_open(now_millis, rule) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.successes = 0;
        if self.failures % rule.failures == 0 {
            self.tripped_millis = Some(now_millis);
        }
    }

    /// A healthy outcome; true if all is well again.
    pub(super) fn succeeds(&mut self, now_millis: u64, rule: &BreakerRule) -> bool {
        if self.is_open(now_millis, rule) {
            return false;
        }
        self.successes += 1;
        self.successes >= rule.successes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps are `<seconds> bad|ok`, an outcome if a request passes, which `bad` and
    /// `ok` say, and `no` where none does; a healthy state is a new breaker.
    #[track_caller]
    fn check(failures: u64, successes: u64, max_seconds: u64, steps: &str) {
        let rule = BreakerRule { failures, successes, open_max_millis: max_seconds * 1000 };
        let mut breaker = Breaker::default();
        for step in steps.split(", ") {
            let (at, word) = step.split_once(' ').expect("time word");
            let now = (at.parse::<f64>().expect("seconds") * 1000.0) as u64;
            assert_eq!(breaker.is_open(now, &rule), word == "no", "{step} of {steps}");
            match word {
                "bad" => breaker.fails(now, &rule),
                "ok" if breaker.succeeds(now, &rule) => breaker = Breaker::default(),
                _ => {}
            }
        }
    }

    #[test]
    fn opens_for_longer_with_each_run() {
        check(3, 3, 300, "0 bad, 0 bad, 0 bad, 0 no, 1.999 no, 2 ok");
        check(
            1,
            3,
            10,
            "0 bad, 1.9 no, 2 bad, 5.9 no, 6 bad, 13.9 no, 14 bad, 23.9 no, 24 bad, 33.9 no, 34 ok",
        );
        check(1, 1, 3, "0 bad, 2 bad, 4.9 no, 5 bad, 7.9 no, 8 ok");
        // The first failure soon after a rest opens it again, a later one counts anew.
        check(3, 3, 300, "0 bad, 0 bad, 0 bad, 3 bad, 3.9 no, 4 bad, 4 bad, 4 no, 7.9 no, 8 ok");
        check(3, 3, 300, "0 bad, 0 bad, 0 bad, 5 bad, 5 bad, 5 bad, 8.9 no, 9 ok");
    }

    #[test]
    fn heals_after_successes_without_a_failure_between() {
        check(2, 2, 300, "0 bad, 0 ok, 0 bad, 1.9 no, 2 ok, 2 ok, 2 bad, 2 bad, 3.9 no, 4 ok");
        check(2, 2, 300, "0 bad, 0 ok, 0 bad, 2 ok, 4 bad, 4 ok, 4 bad, 7.9 no, 8 ok");
        check(3, 3, 300, "0 bad, 0 bad, 0 ok, 0 ok, 0 ok, 0 bad, 0 bad, 0 ok");
    }

    #[test]
    fn outcomes_while_open_are_of_old_requests() {
        let rule = BreakerRule { failures: 3, successes: 1, open_max_millis: 300_000 };
        let mut breaker = Breaker::default();
        for _ in 0..1000 {
            breaker.fails(1_000, &rule);
        }
        assert!(breaker.is_open(2_999, &rule) && !breaker.is_open(3_000, &rule));
        assert!(!breaker.succeeds(2_000, &rule));
        assert!(breaker.is_open(2_999, &rule));
    }

    #[test]
    fn extremes() {
        let rule = BreakerRule { failures: 1, successes: u64::MAX, open_max_millis: u64::MAX };
        let open_millis = |failures| Breaker { failures, ..Breaker::default() }.open_millis(&rule);
        assert_eq!(open_millis(0), 2_000);
        assert_eq!(open_millis(10), 1_024_000);
        assert_eq!(open_millis(63), u64::MAX);
        assert_eq!(open_millis(u64::MAX), u64::MAX);
        // A clock that was set back by more than cores differ ends the rest.
        let mut breaker = Breaker::default();
        breaker.fails(90_000, &rule);
        assert!(breaker.is_open(89_000, &rule) && !breaker.is_open(10, &rule));
    }
}
