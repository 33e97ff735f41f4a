//! How many further tries an upstream's requests may have, so that retries do not multiply an outage.
//!
//! Two bounds, both by the share that `retry.budget` gives, both of which must hold:
//! - Of live requests, as Envoy's retry budget: retries under way at once are at most the share of requests
//!   under way, or `RESERVE`.
//! - Over time, as a bucket of tokens: each request that begins brings the share of a token, each retry takes
//!   one. Envoy's bound alone does not hold where tries fail at once: each retry is over before the next
//!   begins, and all of them pass.
//!
//! The bucket holds at most the share of live requests, or `RESERVE`, so quiet hours save nothing up
//! for an outage. From any moment on, the retries are hence at most `share * requests begun` plus the larger of
//! `RESERVE` and the share of the requests then under way, plus one per `REFILL`: a token that
//! comes by time, up to `RESERVE`, so that an upstream with few requests may retry as well. All of it per
//! worker. A share of zero allows none at all.

use std::time::Duration;

/// Retries that may always be under way, and tokens that few requests may save up.
const RESERVE: f64 = 3.0;
/// How long one token takes to come without requests.
const REFILL: Duration = Duration::from_secs(10);
/// Slack for the sums of shares such as 0.1, which binary fractions miss by a hair.
const ROUNDING: f64 = 1e-9;

/// The retry budget of one upstream on one worker.
#[derive(Clone, Debug)]
pub struct Budget {
    /// `None` is without bound.
    share: Option<f64>,
    /// Requests under way.
    active: u32,
    /// Retries under way.
    retries: u32,
    tokens: f64,
    /// When the last token came by time, in microseconds.
    refilled: u64,
}

impl Budget {
    /// A budget of this share of requests; `None` is without bound.
    pub fn new(share: Option<f64>) -> Budget {
        Budget { share, active: 0, retries: 0, tokens: RESERVE, refilled: 0 }
    }

    /// A request begins.
    #[inline]
    pub fn request_begins(&mut self, now: u64) {
        self.active = self.active.saturating_add(1);
        if let Some(share) = self.share {
            self.refill(now);
            self.tokens = (self.tokens + share).min(self.allowed(share));
        }
    }

    /// A request ends.
    #[inline]
    pub fn request_ends(&mut self) {
        self.active = self.active.saturating_sub(1);
    }

    /// Takes a further try, if there is one; [`Budget::retry_ends`] ends it.
    pub fn retry_begins(&mut self, now: u64) -> bool {
        let Some(share) = self.share else { return true };
        self.refill(now);
        let room = f64::from(self.retries) + 1.0 <= self.allowed(share) + ROUNDING;
        if share <= 0.0 || !room || self.tokens + ROUNDING < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        self.retries += 1;
        true
    }

    /// A further try has ended.
    pub fn retry_ends(&mut self) {
        self.retries = self.retries.saturating_sub(1);
    }

    /// How many retries may be under way, and tokens saved.
    fn allowed(&self, share: f64) -> f64 {
        (share * f64::from(self.active)).max(RESERVE)
    }

    /// Takes in the tokens that came by time.
    fn refill(&mut self, now: u64) {
        let each = REFILL.as_micros() as u64;
        let since = now.saturating_sub(self.refilled);
        if since < each {
            return;
        }
        let came = since / each;
        self.refilled += came * each;
        if self.tokens < RESERVE {
            self.tokens = (self.tokens + came as f64).min(RESERVE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps `0 b*9 r n e d`: a second, then requests begin, retries begin or (`n`) are refused, requests and
    /// (`d`) retries end.
    fn check(share: f64, script: &str) {
        let mut budget = Budget::new(Some(share));
        let mut now = 0;
        for word in script.split(' ') {
            if let Ok(seconds) = word.parse::<u64>() {
                now = seconds * 1_000_000;
                continue;
            }
            let (what, times) = word.split_once('*').unwrap_or((word, "1"));
            for time in 0..times.parse().expect("how often") {
                match what {
                    "b" => budget.request_begins(now),
                    "e" => budget.request_ends(),
                    "r" | "n" => {
                        assert_eq!(budget.retry_begins(now), what == "r", "{script}: {word} {time}");
                    }
                    "d" => budget.retry_ends(),
                    _ => panic!("`{word}` is none"),
                }
            }
        }
    }

    #[test]
    fn rules() {
        check(0.2, "0 b r*3 n d*3 n");
        check(0.2, "0 b*5 e*5 r*3 d*3 n b*5 r n");
        check(0.2, "0 b*100 r*20 n d*20 n");
        check(0.2, "0 b*100 e*99 r*3 n");
        check(0.2, "0 b*100 e*99 r*3 d*3 r*3 d*3 r*3");
        check(0.2, "0 b*100 e*100 b r*3 d*3 n");
        check(0.1, "0 b r*3 d*3 b*9 n b r d n");
        check(1.0, "0 b*9 r*9 n d*9 n b*9 r*9 n");
        check(0.0, "0 b*99 n*9 99 n");
    }

    #[test]
    fn tokens_come_by_time() {
        check(0.2, "0 b r*3 d*3 9 n 10 r n 19 n 20 r n");
        check(0.2, "0 b r*3 d*3 999 r*3 n");
        check(0.2, "991 b r*3 d*3 n 999 n 1000 r n");
        check(0.2, "0 b r*3 d*3 n e b 10 b e r");
    }

    #[test]
    fn without_bound() {
        let mut budget = Budget::new(None);
        assert!((0..1000).all(|_| budget.retry_begins(0)));
    }

    /// The bound that the module promises, in an upstream that fails as a whole, each request tried as often as
    /// it may be, with any share and any number under way.
    #[test]
    fn total_failure() {
        for seed in 0..200 {
            let mut random = crate::seeded::Random::new(seed);
            let share = random.below(101) as f64 / 100.0;
            let under_way = 1 + random.below(200);
            let mut budget = Budget::new(Some(share));
            (0..under_way).for_each(|_| budget.request_begins(0));
            let mut retries = 0_u32;
            let requests = 20_000;
            for number in 0..requests {
                let now = number * 1000;
                budget.request_ends();
                budget.request_begins(now);
                for _ in 0..10 {
                    if budget.retry_begins(now) {
                        retries += 1;
                        budget.retry_ends();
                    }
                }
            }
            let start = (share * under_way as f64).max(RESERVE);
            let by_time = (requests / 10_000) as f64 + 1.0;
            let bound = share * requests as f64 + start + by_time;
            assert!(f64::from(retries) <= bound, "seed {seed}: {retries} retries, share {share}");
            let least = if share > 0.0 { share * requests as f64 } else { 0.0 };
            assert!(f64::from(retries) >= least - 1.0, "seed {seed}: {retries} retries, share {share}");
        }
    }
}
