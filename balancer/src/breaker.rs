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

#[cfg(test)]
mod tests {
    use crate::script::check;

    #[test]
    fn opens_by_ratio() {
        check("breaker", "0 fail*19 yes fail! open out unhealthy lost");
        check("breaker", "0 fail*10 200*9 yes 200! open");
        check("breaker", "0 fail*3, 10.1 fail*19 yes fail! open");
        check("breaker b.min=2 b.ratio=1", "0 500 200 yes, 11 500 late! open");
    }

    #[test]
    fn half_open() {
        check("breaker b.min=1", "0 fail!, 4.9 open, 5 trial claim trial claim claim open lost");
        check("breaker b.min=1", "0 fail!, 5 claim*3 try:200*2 open try:200+ yes in healthy");
        check("breaker b.min=1", "0 fail!, 5 claim try:200 trial claim try:200 trial claim try:200+ yes");
        check("breaker b.min=1", "0 fail!, 5 claim*3 try:200 try:500 open try:200 open, 9.9 open, 10 trial");
        check("breaker b.min=1", "0 fail!, 5 claim*3 try:gone trial claim lost try:200*2 try:200+ yes");
        check("breaker b.min=1 b.trials=1", "0 fail!, 5 claim lost try:gone, 5.01 trial claim try:200+");
        check("breaker b.min=1 b.trials=0", "0 fail!, 5 claim lost try:200+");
        check("breaker b.min=1", "0 fail! fail*9 200*9 open, 5 trial fail*9 200*9 trial");
    }

    #[test]
    fn claims_that_never_end_are_void() {
        check(
            "breaker b.min=1 per_try=2",
            "0 fail!, 5 claim*3 open, 7.9 open, 8 claim*3 lost try:200*2 try:200+",
        );
        check(
            "breaker b.min=1 per_try=2",
            "0 fail!, 5 claim try:200, 8.1 claim try:200*1 claim*2 try:200 try:200+",
        );
    }

    #[test]
    fn with_others() {
        check(
            "breaker b.min=2 max_fails=1",
            "0 fail! rest fail! open, 5 rest lost, 10 trial claim try:200 trial claim*2 try:200 try:200+ yes",
        );
        check(
            "breaker b.min=2 max_fails=1",
            "0 fail! fail!, 10 claim rest lost try:fail open, 15 rest, 20 trial",
        );
        check("breaker b.min=1", "0 fail! rules:-breaker yes in healthy rules:breaker open, 5 trial");
        check("breaker b.min=1", "0 fail!, 5 claim*2 rules:b.trials=1 open try:200+ yes try:200 yes");
    }
}
