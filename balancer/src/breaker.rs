//! The circuit of one endpoint: closed, open, half open.
//!
//! It opens by the error ratio of a [`crate::outlier::Window`]. Open, the endpoint gets nothing, even if there is
//! nothing else: that is what tells it from an ejection. After `open` it is half open: `trials` requests may
//! try it, all of which must succeed to close it; the first to fail opens it again.
//!
//! One for the process, in one word: milliseconds in 40 bits (34 years), trials claimed and succeeded in 12
//! each. Zero is closed, so the plain way compares with zero. A claim whose request never
//! ends is void after a while: the time of the word is the end of the rest before the first claim, and the
//! end of the claims after it.

use std::time::Duration;

use config::balance::Breaker;

use crate::health::after;

/// More trials than this count as this.
const TRIALS_MAX: u32 = (1 << 12) - 1;
const TRIALS_MASK: u64 = TRIALS_MAX as u64;

/// What a circuit lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// All.
    Free,
    /// A trial, by a claim.
    Trial,
    /// Nothing until this time, in microseconds.
    Shut(u64),
}

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrialEnd {
    Success,
    Failure,
    /// It says nothing; another may be made.
    Cancelled,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Circuit(pub(crate) u64);

impl Circuit {
    fn of(until: u64, claimed: u64, succeeded: u64) -> Circuit {
        Circuit(until.max(1) << 24 | claimed << 12 | succeeded)
    }

    /// Until when it is shut, or its claims hold: milliseconds.
    pub(crate) fn until(self) -> u64 {
        self.0 >> 24
    }

    fn claims(self) -> u64 {
        self.0 >> 12 & TRIALS_MASK
    }

    fn successes(self) -> u64 {
        self.0 & TRIALS_MASK
    }

    /// Open from now.
    pub(crate) fn opened(rule: &Breaker, now: u64) -> Circuit {
        Circuit::of(after(now, rule.open), 0, 0)
    }

    /// What it lets through.
    pub(crate) fn passage(self, rule: &Breaker, now: u64) -> Passage {
        let over = now / 1000 >= self.until();
        let free = self.claims() > 0 && self.claims() < trials(rule);
        match self.0 {
            0 => Passage::Free,
            _ if over || free => Passage::Trial,
            _ => Passage::Shut(self.until() * 1000),
        }
    }

    /// With one trial more taken; `None` when there is none to take.
    pub(crate) fn claimed(self, rule: &Breaker, expiry: Duration, now: u64) -> Option<Circuit> {
        if self.passage(rule, now) != Passage::Trial {
            return None;
        }
        // Over with claims: those are void, and the round begins anew.
        let anew = now / 1000 >= self.until();
        let (claims, successes) = if anew { (0, 0) } else { (self.claims(), self.successes()) };
        Some(Circuit::of(after(now, expiry), claims + 1, successes))
    }

    /// With one trial ended; `None` when none is under way (its claim was void, another failed).
    pub(crate) fn ended(self, end: TrialEnd, rule: &Breaker, now: u64) -> Option<Circuit> {
        let (claims, successes) = (self.claims(), self.successes());
        if claims == successes {
            return None;
        }
        Some(match end {
            TrialEnd::Failure => Circuit::opened(rule, now),
            TrialEnd::Success if successes + 1 >= trials(rule) => Circuit::default(),
            TrialEnd::Success => Circuit::of(self.until(), claims, successes + 1),
            TrialEnd::Cancelled if claims == 1 => Circuit::of(now.min(self.until() * 1000) / 1000, 0, 0),
            TrialEnd::Cancelled => Circuit::of(self.until(), claims - 1, successes),
        })
    }
}

/// How many trials close it.
fn trials(rule: &Breaker) -> u64 {
    u64::from(rule.trials.clamp(1, TRIALS_MAX))
}
