//! How much of a quota is left: the arithmetic of fixed and sliding windows.
//!
//! Pure: a counter, a quota and the time give a decision. Integers throughout, so
//! that a limit of 1000 means 1000 and not what a float rounds to.
//!
//! Cores read their clocks once per turn of the loop, so the time given here may
//! go back by some milliseconds between two calls; that must not open a window
//! again. A clock that was set back by more than [`SKEW_MILLIS_MAX`] must: a
//! counter would else reject until the old time is reached again.

/// Two cores' times differ by less than this, unless a clock was set back.
pub(super) const SKEW_MILLIS_MAX: u64 = 5_000;

/// How windows follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// Begins with a key's first request and ends `window` later (APISIX's local policy).
    Fixed,
    /// Aligned to the epoch; the window before counts by the part of it that a
    /// window's length, ending now, still covers.
    Sliding,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests per window, at least 1.
    pub limit: u64,
    /// Length of the window in milliseconds, at least 1.
    pub window_millis: u64,
    /// How windows follow one another.
    pub window: Window,
}

/// What a key may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether this request passes (and was counted).
    pub allowed: bool,
    /// Requests left after this one.
    pub remaining: u64,
    /// Milliseconds until the window ends; for a request that a sliding window
    /// rejects, until one will pass.
    pub reset_millis: u64,
}

/// What one key did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counter {
    /// When the window began: milliseconds since the epoch.
    begin_millis: u64,
    /// The window's length when it began; 0 before the first request.
    window_millis: u64,
    /// Requests that passed in this window.
    current: u64,
    /// Requests that passed in the one before (sliding).
    previous: u64,
}

impl Counter {
    /// Counts one request at `now_millis` if the quota has room for it.
    pub fn take(&mut self, now_millis: u64, quota: &Quota) -> Decision {
        match quota.window {
            Window::Fixed => self.take_fixed(now_millis, quota),
            Window::Sliding => self.take_sliding(now_millis, quota),
        }
    }

    /// From when on the counter says nothing that a new one would not say.
    pub fn expires_millis(&self, window: Window) -> u64 {
        let windows = if window == Window::Sliding { 2 } else { 1 };
        self.begin_millis.saturating_add(self.window_millis.saturating_mul(windows))
    }

    fn end_millis(&self) -> u64 {
        self.begin_millis.saturating_add(self.window_millis)
    }

    fn take_fixed(&mut self, now: u64, quota: &Quota) -> Decision {
        let set_back = self.begin_millis > now.saturating_add(SKEW_MILLIS_MAX);
        if now >= self.end_millis() || set_back {
            *self = Counter { begin_millis: now, window_millis: quota.window_millis, ..Counter::default() };
        }
        let reset_millis = self.end_millis() - now.max(self.begin_millis);
        let allowed = self.current < quota.limit;
        self.current += u64::from(allowed);
        Decision { allowed, remaining: quota.limit.saturating_sub(self.current), reset_millis }
    }

    fn take_sliding(&mut self, now: u64, quota: &Quota) -> Decision {
        let window = quota.window_millis;
        self.slide(now, window);
        let rest = self.end_millis() - now.max(self.begin_millis);
        let previous = self.previous.min(quota.limit);

        // All sides times `window`, so that the weighted part stays whole. The
        // operands are below 2^64 each, so u128 holds every product.
        let weighted = u128::from(previous) * u128::from(rest);
        let room = u128::from(quota.limit) * u128::from(window);
        let used = u128::from(self.current) * u128::from(window);
        if used + weighted >= room {
            let reset_millis = wait_until_room(quota.limit, self.current, previous, window, rest);
            return Decision { allowed: false, remaining: 0, reset_millis };
        }
        self.current += 1;
        let left = room.saturating_sub(used + u128::from(window) + weighted) / u128::from(window);
        Decision { allowed: true, remaining: u64::try_from(left).unwrap_or(u64::MAX), reset_millis: rest }
    }

    /// Moves on to the window that `now` lies in.
    fn slide(&mut self, now: u64, window: u64) {
        let begin = now - now % window;
        let set_back = self.begin_millis > now.saturating_add(SKEW_MILLIS_MAX);
        if self.window_millis != window || set_back {
            *self = Counter { begin_millis: begin, window_millis: window, ..Counter::default() };
        } else if begin > self.begin_millis {
            let adjacent = begin - self.begin_millis == window;
            self.previous = if adjacent { self.current } else { 0 };
            self.current = 0;
            self.begin_millis = begin;
        }
    }
}

/// Milliseconds until the weight of the previous window has fallen so far that
/// one more request fits: at the latest when this window ends.
fn wait_until_room(limit: u64, current: u64, previous: u64, window: u64, rest: u64) -> u64 {
    if current >= limit || previous == 0 {
        return rest;
    }
    let weight_max = u128::from(limit - current) * u128::from(window) / u128::from(previous);
    let weight_max = u64::try_from(weight_max).unwrap_or(u64::MAX);
    rest.saturating_sub(weight_max).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each step is `time +remaining/reset` for a request that passes and
    /// `time -reset` for one that does not; times in milliseconds.
    fn check(window: Window, limit: u64, window_millis: u64, steps: &str) {
        let quota = Quota { limit, window_millis, window };
        let mut counter = Counter::default();
        let mut seen = String::new();
        for step in steps.split(", ") {
            let now = step.split(' ').next().and_then(|time| time.parse().ok()).expect("a time");
            let decision = counter.take(now, &quota);
            let separator = if seen.is_empty() { "" } else { ", " };
            let said = match decision {
                Decision { allowed: true, remaining, reset_millis } => {
                    format!("+{remaining}/{reset_millis}")
                }
                Decision { reset_millis, .. } => format!("-{reset_millis}"),
            };
            seen.push_str(&format!("{separator}{now} {said}"));
        }
        assert_eq!(seen, steps);
    }

    #[test]
    fn fixed_window() {
        use Window::Fixed;
        check(Fixed, 2, 1000, "500 +1/1000, 900 +0/600, 1499 -1, 1500 +1/1000"); // begins with the first request
        check(Fixed, 1, 1000, "500 +0/1000, 600 -900, 700 -800"); // a rejected request does not lengthen it
        check(Fixed, 2, 1000, "500 +1/1000, 499 +0/1000, 498 -1000"); // another core's clock is behind
        check(Fixed, 1, 1000, "90000 +0/1000, 10 +0/1000, 11 -999"); // the clock was set back
        check(Fixed, u64::MAX, u64::MAX, "5 +18446744073709551614/18446744073709551610");
    }

    #[test]
    fn sliding_window() {
        use Window::Sliding;
        check(Sliding, 2, 1000, "1000 +1/1000, 1100 +0/900, 1200 -800, 1999 -1");
        // Half of the previous window's 2 still count at half of this one.
        check(Sliding, 2, 1000, "1000 +1/1000, 1000 +0/1000, 2000 -1, 2500 +0/500, 2600 +0/400, 2700 -300");
        check(Sliding, 2, 1000, "1000 +1/1000, 1000 +0/1000, 3000 +1/1000"); // an empty window between
        check(Sliding, 4, 1000, "1000 +3/1000, 2000 +2/1000, 2500 +1/500"); // the weight is rounded to who asks
        check(Sliding, 1, 1000, "2000 +0/1000, 1999 -1000"); // another core's clock is behind
        check(Sliding, 1, 1000, "90000 +0/1000, 10 +0/990"); // the clock was set back
        check(Sliding, 1, 1, "7 +0/1, 8 -1, 9 +0/1");
    }

    #[test]
    fn a_changed_window_starts_anew() {
        let quota = |window_millis| Quota { limit: 1, window_millis, window: Window::Sliding };
        let mut counter = Counter::default();
        assert!(counter.take(1000, &quota(1000)).allowed);
        assert!(!counter.take(1001, &quota(1000)).allowed);
        assert!(counter.take(1002, &quota(500)).allowed);
    }

    #[test]
    fn expiry() {
        let quota = |window| Quota { limit: 1, window_millis: 1000, window };
        let expiry = |window| {
            let mut counter = Counter::default();
            counter.take(1500, &quota(window));
            counter.expires_millis(window)
        };
        assert_eq!(expiry(Window::Fixed), 2500);
        assert_eq!(expiry(Window::Sliding), 3000);
    }
}
