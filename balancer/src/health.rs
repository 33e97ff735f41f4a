//! What counts as a failure or a success of an endpoint, and how many of them take it out or bring it back.
//!
//! Three judges share this file because they share its counters' arithmetic and the word of marks:
//! - Probes, as lua-resty-healthcheck counts them: consecutive outcomes of each kind; a status in neither list
//!   says nothing; a threshold of zero never counts.
//! - `checks.passive`: the same over live traffic.
//! - nginx's `max_fails` within `fail_timeout`: a failure is an error or a timeout, or a status that `retry.on`
//!   lists (as `proxy_next_upstream` does). As in nginx a success does not reset the count; a
//!   failure more than `fail_timeout` after the last one begins anew. Unlike in nginx it holds only where
//!   `max_fails` is written: APISIX, whose names these are, ejects nothing by default.
//!
//! What live traffic took out rests for `fail_timeout` (default 10 s); then one trial request decides. Where
//! active checks can bring it back, they alone do, as in APISIX.
//!
//! All state is packed into words so that each transition is one compare-and-swap of
//! [`crate::endpoint::SharedEndpoint`]; this file holds the pure halves. Thresholds above 65,535 count as that.

use std::time::Duration;

use config::balance::{ActiveCheck, Breaker, Outlier, PassiveCheck};

use crate::endpoint::{Outcome, ProbeOutcome};
use crate::upstream::NodeSpec;

/// nginx's default of `fail_timeout`.
const FAIL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Each phase's timeout where none is written, as in resources.md.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// What a trial's claim outlives the longest try by.
const TRIAL_SLACK: Duration = Duration::from_secs(1);

/// The rules of one endpoint: those of its upstream, and its own.
#[derive(Clone, Debug, Default)]
pub struct HealthRules {
    /// Which of [`Marks`] count. A mark whose rule is gone does not.
    pub(crate) marks: u64,
    /// Whether probes, and they alone, bring back what live traffic took out.
    pub(crate) probes_heal: bool,
    /// `max_fails`, where it is written and not zero.
    pub(crate) max_fails: Option<u16>,
    /// How long one rests that live traffic took out; also the reach of `max_fails`.
    pub(crate) fail_timeout: Duration,
    /// `checks.passive`
    pub(crate) passive: Option<Passive>,
    /// `outlier`
    pub(crate) outlier: Option<Outlier>,
    /// `breaker`
    pub(crate) breaker: Option<Breaker>,
    /// When the claim of a trial that never ends is void.
    pub(crate) trial_expiry: Duration,
    /// The statuses that are a failure to `max_fails`.
    fail_statuses: Statuses,
    /// Those that are a failure to any rule: all others are well for the plain way.
    bad_statuses: Statuses,
}

/// `checks.passive`, for quick answers.
#[derive(Clone, Debug)]
pub(crate) struct Passive {
    healthy: Statuses,
    unhealthy: Statuses,
    pub(crate) thresholds: Thresholds,
}

impl HealthRules {
    /// Those of an upstream's checks, outlier detection and breaker, and of the node.
    pub fn new(source: &config::Upstream, spec: &NodeSpec) -> HealthRules {
        let active = source.checks.as_ref().and_then(|checks| checks.active.as_ref());
        let passive = source.checks.as_ref().and_then(|checks| checks.passive.as_ref()).map(Passive::new);
        let max_fails = spec.max_fails.filter(|max| *max > 0).map(clamp);
        let fail_statuses = match max_fails {
            Some(_) => source.retry.on_statuses.iter().copied().collect(),
            None => Statuses::default(),
        };
        let mut bad_statuses = fail_statuses.clone();
        if let Some(passive) = &passive {
            bad_statuses.extend(&passive.unhealthy);
        }
        if source.outlier.is_some() || source.breaker.is_some() {
            bad_statuses.extend(&(500..600).collect());
        }
        let mark = |mark: u64, counts: bool| if counts { mark } else { 0 };
        HealthRules {
            marks: mark(Marks::ACTIVE, active.is_some())
                | mark(Marks::PASSIVE, passive.is_some() || max_fails.is_some())
                | mark(Marks::OUTLIER, source.outlier.is_some()),
            // Probes that are not sent, or never suffice, would leave it out for ever.
            probes_heal: active.is_some_and(|rule| rule.successes > 0 && !rule.unhealthy_interval.is_zero()),
            max_fails,
            fail_timeout: spec.fail_timeout.unwrap_or(FAIL_TIMEOUT_DEFAULT),
            passive,
            outlier: source.outlier,
            breaker: source.breaker,
            trial_expiry: trial_expiry(source),
            fail_statuses,
            bad_statuses,
        }
    }

    /// Those of [`Marks`] that only probes take away.
    pub(crate) fn until_probed(&self) -> u64 {
        Marks::ACTIVE | if self.probes_heal { Marks::PASSIVE } else { 0 }
    }

    /// Whether no rule calls it a failure.
    pub(crate) fn is_well(&self, outcome: Outcome) -> bool {
        matches!(outcome, Outcome::Status(status) if !self.bad_statuses.contains(status))
    }

    /// Whether `max_fails` calls it a failure.
    pub(crate) fn is_fail(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Status(status) => self.fail_statuses.contains(status),
            Outcome::Failed | Outcome::TimedOut => true,
            Outcome::Cancelled => false,
        }
    }

    /// Whether a trial of an endpoint that these marks took out failed. No connection and no answer in time
    /// always do, whatever the thresholds; an answer that no rule calls bad is what was hoped for.
    pub(crate) fn trial_failed(&self, marks: u64, outcome: Outcome) -> bool {
        let unhealthy = |status| self.passive.as_ref().is_some_and(|rule| rule.unhealthy.contains(status));
        let by_passive = match outcome {
            Outcome::Status(status) => unhealthy(status) || self.fail_statuses.contains(status),
            _ => is_error(outcome),
        };
        (marks & Marks::PASSIVE != 0 && by_passive) || (marks & Marks::OUTLIER != 0 && is_error(outcome))
    }
}

/// Whether the error ratios count it as an error: a 5xx, or no answer.
pub(crate) fn is_error(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Status(status) => status >= 500,
        Outcome::Failed | Outcome::TimedOut => true,
        Outcome::Cancelled => false,
    }
}

/// A try ends by then: its longest phases one after another.
fn trial_expiry(source: &config::Upstream) -> Duration {
    let phases = [source.timeout.connect, source.timeout.send, source.timeout.read];
    let phases = phases.into_iter().map(|phase| phase.unwrap_or(TIMEOUT_DEFAULT)).sum();
    source.retry.per_try_timeout.unwrap_or(phases).saturating_add(TRIAL_SLACK)
}

impl Passive {
    fn new(rule: &PassiveCheck) -> Passive {
        Passive {
            healthy: rule.healthy_statuses.iter().copied().collect(),
            unhealthy: rule.unhealthy_statuses.iter().copied().collect(),
            thresholds: Thresholds {
                success: clamp(rule.successes),
                http: clamp(rule.http_failures),
                tcp: clamp(rule.tcp_failures),
                timeout: clamp(rule.timeouts),
            },
        }
    }

    /// What an outcome says; `None` is nothing.
    pub(crate) fn sign(&self, outcome: Outcome) -> Option<Sign> {
        match outcome {
            Outcome::Status(status) if self.unhealthy.contains(status) => Some(Sign::Http),
            Outcome::Status(status) if self.healthy.contains(status) => Some(Sign::Success),
            Outcome::Status(_) | Outcome::Cancelled => None,
            Outcome::Failed => Some(Sign::Tcp),
            Outcome::TimedOut => Some(Sign::Timeout),
        }
    }
}

/// What a probe's outcome says; `None` is nothing.
pub(crate) fn probe_sign(rule: &ActiveCheck, outcome: ProbeOutcome) -> Option<Sign> {
    match outcome {
        ProbeOutcome::Status(status) if rule.healthy_statuses.contains(&status) => Some(Sign::Success),
        ProbeOutcome::Status(status) if rule.unhealthy_statuses.contains(&status) => Some(Sign::Http),
        ProbeOutcome::Status(_) => None,
        ProbeOutcome::Ok => Some(Sign::Success),
        ProbeOutcome::Failed => Some(Sign::Tcp),
        ProbeOutcome::TimedOut => Some(Sign::Timeout),
    }
}

/// What an outcome is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Success,
    Http,
    Tcp,
    Timeout,
}

/// From how many of each on it is one state or the other; zero never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thresholds {
    success: u16,
    http: u16,
    tcp: u16,
    timeout: u16,
}

impl Thresholds {
    /// Those of probes.
    pub(crate) fn of(rule: &ActiveCheck) -> Thresholds {
        Thresholds {
            success: clamp(rule.successes),
            http: clamp(rule.http_failures),
            tcp: clamp(rule.tcp_failures),
            timeout: clamp(rule.timeouts),
        }
    }

    /// Whether the counter that a sign moved is there.
    pub(crate) fn reached(&self, counters: Counters, sign: Sign) -> bool {
        let (threshold, counter) = match sign {
            Sign::Success => (self.success, counters.success),
            Sign::Http => (self.http, counters.http),
            Sign::Tcp => (self.tcp, counters.tcp),
            Sign::Timeout => (self.timeout, counters.timeout),
        };
        threshold > 0 && counter >= threshold
    }
}

fn clamp(threshold: u32) -> u16 {
    u16::try_from(threshold).unwrap_or(u16::MAX)
}

/// Consecutive outcomes by kind; sixteen bits each in a word, which is zero when there is nothing to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) success: u16,
    pub(crate) http: u16,
    pub(crate) tcp: u16,
    pub(crate) timeout: u16,
}

impl Counters {
    pub(crate) fn unpack(word: u64) -> Counters {
        let at = |shift: u32| (word >> shift) as u16;
        Counters { success: at(48), http: at(32), tcp: at(16), timeout: at(0) }
    }

    pub(crate) fn pack(self) -> u64 {
        u64::from(self.success) << 48
            | u64::from(self.http) << 32
            | u64::from(self.tcp) << 16
            | u64::from(self.timeout)
    }

    /// Once more of one kind. While `out`, as in lua-resty-healthcheck, failures are no longer counted and end a
    /// row of successes; while not, successes are not, and end all rows of failures.
    pub(crate) fn after(self, sign: Sign, out: bool) -> Counters {
        match (sign, out) {
            (Sign::Success, false) => Counters::default(),
            (Sign::Success, true) => {
                Counters { success: self.success.saturating_add(1), ..Counters::default() }
            }
            (_, true) => Counters { success: 0, ..self },
            (Sign::Http, false) => Counters { http: self.http.saturating_add(1), ..self },
            (Sign::Tcp, false) => Counters { tcp: self.tcp.saturating_add(1), ..self },
            (Sign::Timeout, false) => Counters { timeout: self.timeout.saturating_add(1), ..self },
        }
    }
}

/// The count of `max_fails`: how many, and when the last was, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fails(pub(crate) u64);

impl Fails {
    /// Once more.
    pub(crate) fn after(self, fail_timeout: Duration, now: u64) -> Fails {
        let now = now / 1000;
        Fails(now.max(self.last()) << 16 | u64::from(self.count(fail_timeout, now * 1000).saturating_add(1)))
    }

    /// How many there are, as long as the last is not too long ago.
    pub(crate) fn count(self, fail_timeout: Duration, now: u64) -> u16 {
        let since = (now / 1000).saturating_sub(self.last());
        let forgotten = u128::from(since) > fail_timeout.as_millis();
        if forgotten {
            0
        } else {
            self.0 as u16
        }
    }

    fn last(self) -> u64 {
        self.0 >> 16
    }
}

/// Who took an endpoint out, and until when it rests: one word, zero when nobody did. The lowest bits are
/// marks, the upper 48 a time in milliseconds that concerns passive and outlier marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks(pub(crate) u64);

impl Marks {
    /// By probes.
    pub(crate) const ACTIVE: u64 = 1;
    /// By `checks.passive` or `max_fails`.
    pub(crate) const PASSIVE: u64 = 2;
    /// By the outlier detection.
    pub(crate) const OUTLIER: u64 = 4;
    /// All that take it out.
    pub(crate) const JUDGES: u64 = Marks::ACTIVE | Marks::PASSIVE | Marks::OUTLIER;
    /// A trial is under way; the time is when its claim is void.
    const CLAIMED: u64 = 8;
    const BITS: u32 = 16;

    fn of(marks: u64, until: u64) -> Marks {
        Marks(until << Marks::BITS | marks)
    }

    fn bits(self) -> u64 {
        self.0 & ((1 << Marks::BITS) - 1)
    }

    pub(crate) fn has(self, marks: u64) -> bool {
        self.0 & marks != 0
    }

    pub(crate) fn is_claimed(self) -> bool {
        self.has(Marks::CLAIMED)
    }

    /// Until when it rests, in milliseconds.
    pub(crate) fn until(self) -> u64 {
        self.0 >> Marks::BITS
    }

    /// Whether the rest is over, at a time in microseconds.
    pub(crate) fn is_over(self, now: u64) -> bool {
        now / 1000 >= self.until()
    }

    /// Taken out by one more judge, for so long from now; `None` when it had already.
    pub(crate) fn ejected(self, mark: u64, rest: Duration, now: u64) -> Option<Marks> {
        let until = if mark == Marks::ACTIVE { 0 } else { after(now, rest) };
        (!self.has(mark)).then(|| Marks::of(self.bits() | mark, self.until().max(until)))
    }

    /// With the trial taken; `None` when its time has not come.
    pub(crate) fn claimed(self, expiry: Duration, now: u64) -> Option<Marks> {
        self.is_over(now).then(|| Marks::of(self.bits() | Marks::CLAIMED, after(now, expiry)))
    }

    /// Its trial came to nothing or failed: it rests for so long from now (zero: another may try at once).
    pub(crate) fn rests_again(self, rest: Duration, now: u64) -> Option<Marks> {
        self.is_claimed().then(|| Marks::of(self.bits() & !Marks::CLAIMED, after(now, rest)))
    }

    /// Brought back by some judges; `None` when these had not taken it out. A trial that is under way for one
    /// that is not among them goes on.
    pub(crate) fn cleared(self, marks: u64) -> Option<Marks> {
        let claim = if marks & Marks::OUTLIER != 0 { Marks::CLAIMED } else { 0 };
        let rest = self.bits() & !(marks | claim);
        let resting = rest & (Marks::PASSIVE | Marks::OUTLIER) != 0;
        self.has(marks).then(|| {
            if resting {
                Marks::of(rest, self.until())
            } else {
                Marks(rest & Marks::ACTIVE)
            }
        })
    }
}

/// So long from now, in milliseconds, rounded up: nothing rests shorter than it should.
pub(crate) fn after(now: u64, rest: Duration) -> u64 {
    now.saturating_add(micros(rest)).div_ceil(1000)
}

/// A duration in microseconds, at most thirty years: so the times of all packed words fit.
pub(crate) fn micros(duration: Duration) -> u64 {
    const YEARS: u128 = 30 * 366 * 86_400 * 1_000_000;
    duration.as_micros().min(YEARS) as u64
}

/// A set of statuses up to 639: a bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statuses([u64; 10]);

impl Statuses {
    /// Whether it is one of them.
    pub(crate) fn contains(&self, status: u16) -> bool {
        self.0.get(usize::from(status / 64)).is_some_and(|word| word >> (status % 64) & 1 == 1)
    }

    fn extend(&mut self, other: &Statuses) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }
}

impl FromIterator<u16> for Statuses {
    fn from_iter<I: IntoIterator<Item = u16>>(statuses: I) -> Statuses {
        let mut set = Statuses::default();
        for status in statuses {
            if let Some(word) = set.0.get_mut(usize::from(status / 64)) {
                *word |= 1 << (status % 64);
            }
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{By, SharedEndpoint};
    use crate::script::{check, Rules};
    use config::balance::ActiveCheck;

    #[test]
    fn nothing_is_judged_without_rules() {
        check("", "0 fail*50 late*50 500*50 yes in healthy, 1 lost");
        check("max_fails=0", "0 fail*50 yes in healthy");
        check("fail_timeout=1 on=500", "0 fail*50 500*50 yes");
    }

    #[test]
    fn max_fails() {
        check("max_fails=1", "0 yes fail! rest out unhealthy, 9.99 rest lost, 10 trial");
        check("max_fails=1", "0 fail!, 10 trial claim rest lost try:200+ yes in healthy lost");
        check("max_fails=1", "0 fail!, 10 claim try:fail rest lost, 19.9 rest, 20 claim try:200+ yes");
        check("max_fails=1", "0 fail!, 10 claim try:gone, 10.01 trial claim try:200+");
        check("max_fails=1", "0 late! rest, 10 claim try:500+ yes");
        check("max_fails=1 fail_timeout=2", "0 fail! rest, 1.9 rest, 2 trial claim rest");
        check("max_fails=3", "0 fail*2 yes mostly_healthy, 1 fail! rest");
        check("max_fails=2", "0 fail, 1 200 yes mostly_healthy, 2 fail!");
        check("max_fails=2", "0 fail, 11 healthy fail yes, 20 fail! rest");
        check("max_fails=3", "0 fail, 9 fail, 18 fail!");
        check("max_fails=2", "0 502*9 404*9 gone*9 yes healthy");
        check("max_fails=2 on=502 on=404", "0 502 404! rest");
    }

    #[test]
    fn after_a_rest_it_starts_clean() {
        check("max_fails=2", "0 fail fail!, 10 claim try:200+ fail yes fail! rest");
        check("passive", "0 fail fail!, 10 claim try:200+ fail yes fail! rest");
    }

    #[test]
    fn claims_that_never_end_are_void() {
        check("max_fails=1", "0 fail!, 10 claim rest, 190.9 rest, 191 trial claim lost");
        check("max_fails=1 per_try=2", "0 fail!, 10 claim rest, 12.9 rest, 13 claim try:200+ yes");
        check("max_fails=1 per_try=2", "0 fail!, 10 claim, 13 claim try:fail rest, 13 try:200 rest");
    }

    #[test]
    fn passive() {
        check("passive", "0 fail mostly_healthy fail! rest unhealthy");
        check("passive", "0 fail 200 healthy fail yes 200 fail yes");
        check("passive", "0 fail 404 fail!");
        check("passive", "0 500*4 503! rest");
        check("passive", "0 500*4 301 500*4 yes");
        check("passive", "0 late*6 yes late! rest");
        check("passive", "0 502*99 504*99 yes healthy");
        check("passive", "0 late*6 500*4 fail yes fail!");
        check("passive p.tcp=0 p.http=0 p.timeouts=0", "0 fail*99 late*99 500*99 yes");
        check("passive", "0 fail fail!, 9.9 rest, 10 claim try:200+ yes");
        check("passive", "0 fail fail!, 10 claim try:404+ yes");
        check("passive", "0 fail fail!, 10 claim try:500 rest, 20 trial claim try:late rest");
        check("passive fail_timeout=3", "0 fail fail!, 3 trial");
        check("passive max_fails=1", "0 fail! rest");
        check("passive max_fails=9", "0 fail fail! rest");
    }

    #[test]
    fn passive_successes_bring_back() {
        check("passive", "0 fail fail! 200*4 mostly_unhealthy rest 200+ yes");
        check("passive", "0 fail fail! 200*4 fail unhealthy 200*4 rest 200+");
        check("passive p.successes=0", "0 fail fail! 200*99 rest, 10 claim try:200+");
        check("max_fails=1", "0 fail! 200*99 rest");
        check("passive active", "0 fail fail! 200*99 rest");
    }

    #[test]
    fn probes() {
        check("active", "0 probe:fail mostly_healthy probe:fail! rest out unhealthy lost");
        check("active", "0 probe:fail probe:200 healthy probe:fail yes");
        check(
            "active",
            "0 probe:500*4 probe:404! rest probe:500*9 probe:200 mostly_unhealthy probe:302+ yes",
        );
        check("active", "0 probe:late*2 probe:late! probe:ok probe:fail unhealthy probe:ok rest probe:ok+");
        check("active", "0 probe:fail probe:403 probe:fail!");
        check("active", "0 probe:403*99 healthy yes");
        check("active a.tcp=0 a.http=0 a.timeouts=0", "0 probe:fail*99 probe:500*99 probe:late*99 yes");
        check("active a.successes=0", "0 probe:fail probe:fail! probe:ok*99 rest");
        check("active a.successes=1", "0 probe:fail probe:fail! probe:ok+ probe:ok yes");
        check("active", "0 fail*99 500*99 yes healthy");
        check("active", "0 probe:fail probe:fail!, 9999 rest lost");
    }

    #[test]
    fn probes_alone_heal_where_they_can() {
        check(
            "active passive",
            "0 fail fail! rest, 99 rest lost probe:200 rest mostly_unhealthy probe:200+ yes",
        );
        check("active max_fails=1", "0 fail! rest, 99 rest lost probe:200 rest probe:200+ yes fail!");
        check("active a.interval=0 max_fails=1", "0 fail!, 10 trial claim try:200+ yes");
        check("active a.successes=0 max_fails=1", "0 fail!, 10 trial claim try:200+ yes");
        check("active passive", "0 fail fail! probe:fail probe:fail! probe:200 probe:200+ yes");
        check(
            "active max_fails=1 a.interval=0",
            "0 fail!, 10 claim probe:fail probe:fail! try:200 rest probe:200",
        );
    }

    #[test]
    fn a_mark_whose_rule_is_gone_does_not_count() {
        check("active", "0 probe:fail probe:fail! rest rules:-active yes in healthy");
        check("max_fails=1", "0 fail! rest rules:-max_fails yes healthy, 1 rules:max_fails=1 rest, 10 trial");
        check("max_fails=1 active", "0 fail! rest, 5 rules:-active rest, 10 claim try:200+ yes");
        check("max_fails=1", "0 fail!, 5 rules:active rest, 10 rest probe:ok probe:ok+ yes");
        check("max_fails=1", "0 fail!, 10 claim rules:-max_fails yes try:200 yes rules:max_fails=1 yes");
        check("max_fails=2", "0 fail rules:max_fails=1 yes fail!");
    }

    #[test]
    fn status_says_who_and_until_when() {
        let rules = Rules::new("max_fails=1 active");
        let endpoint = SharedEndpoint::new(1);
        let health = rules.health();
        endpoint.finished(&health, Outcome::Failed, false, 1_000_000, &|| true);
        let out =
            |health: &HealthRules| endpoint.status(health, 2_000_000).out.map(|out| (out.by, out.until));
        assert_eq!(out(&health), Some((By::Passive, None)));
        assert_eq!(out(&Rules::new("max_fails=1").health()), Some((By::Passive, Some(11_000_000))));
        assert_eq!(out(&Rules::new("active").health()), None);
        endpoint.probed(&ActiveCheck::default(), ProbeOutcome::TimedOut, 0);
        let status = endpoint.status(&health, 2_000_000);
        assert_eq!((status.tcp_failure, status.timeout_failure), (1, 1));
        endpoint.probed(&ActiveCheck::default(), ProbeOutcome::TimedOut, 0);
        endpoint.probed(&ActiveCheck::default(), ProbeOutcome::TimedOut, 0);
        assert_eq!(out(&health), Some((By::Active, None)));
        assert_eq!(endpoint.up_since(), 0);
        endpoint.probed(&ActiveCheck::default(), ProbeOutcome::Ok, 4_000_000);
        endpoint.probed(&ActiveCheck::default(), ProbeOutcome::Ok, 5_000_000);
        assert_eq!((out(&health), endpoint.up_since()), (None, 5_000_000));
    }

    #[test]
    fn statuses() {
        let set: Statuses = [0, 200, 599, 639, 640, 65535].into_iter().collect();
        assert!([0, 200, 599, 639].into_iter().all(|status| set.contains(status)));
        assert!(![1, 199, 640, 65535].into_iter().any(|status| set.contains(status)));
    }
}
