//! One endpoint of one upstream as the whole process knows it.
//!
//! Made when a plan is compiled and carried from plan to plan by address, so that what is known of an
//! endpoint survives reloads. Workers and control write it on events alone (a failure, the first success after
//! one, a probe's result, a published load), never on the plain way of a request: a well endpoint costs a pick
//! one relaxed load, and the end of a try one to four of the same cache line.
//!
//! Each judge's state is one word, and each transition one compare-and-swap of it, so that of all workers
//! exactly one takes a trial and exactly one reports a change. No word is read together with another as
//! if both were of one moment; hence relaxed ordering throughout. A lock was tried on paper and
//! dropped: an upstream that fails as a whole would have all cores wait for one another.
//!
//! The words' arithmetic is in [`crate::health`], `outlier` and `breaker`, without
//! atomics; connections and loads are `load`'s, on cache lines of their own.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use crate::breaker::{Circuit, Passage, TrialEnd};
use crate::health::{is_error, probe_sign, Counters, Fails, HealthRules, Marks, Sign, Thresholds};
use crate::load::{Connections, Loads};
use crate::outlier::{Streak, Window};

pub use crate::load::Load;
pub use crate::status::{Out, Status, StatusWord};

/// What came of one try at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response head with this status came.
    Status(u16),
    /// No connection: refused, unreachable, reset while connecting; or it broke before the answer.
    Failed,
    /// No connection, or no answer, in time.
    TimedOut,
    /// Given up for a reason that says nothing of the endpoint: the client left, another try was faster.
    Cancelled,
}

/// What came of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// An answer with this status.
    Status(u16),
    /// The connection stood (tcp), or the gRPC server serves.
    Ok,
    /// No connection, a broken one, an answer that is none, or a gRPC server that does not serve.
    Failed,
    /// Not within the time.
    TimedOut,
}

/// An endpoint went out of use or came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whether it may be used now.
    pub healthy: bool,
    /// Who says so.
    pub by: By,
}

/// Who found an endpoint well or ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A probe.
    Active,
    /// `checks.passive` or `max_fails`.
    Passive,
    /// The outlier detection.
    Outlier,
    /// Its circuit breaker.
    Breaker,
}

/// What a pick may do with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usable {
    /// Use it.
    Yes,
    /// Its rest is over: one request may try it ([`SharedEndpoint::claim_trial`]).
    Trial,
    /// It is out: only to be used when all are (the panic threshold).
    Resting,
    /// Its circuit is open: never to be used before this time, in microseconds.
    Open {
        /// When a trial may be made.
        until: u64,
    },
}

/// Held while the outlier detection asks whether one more may be out and takes it out, so that two workers
/// cannot both take the last place. Never waited for: who finds it held asks again at the next try.
static EJECTING: Mutex<()> = Mutex::new(());

/// See the module. Shared by all cores and control.
#[derive(Debug)]
pub struct SharedEndpoint {
    health: Health,
    connections: Connections,
    loads: Loads,
}

/// The words of the judges: 64 bytes together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Health {
    /// [`Marks`]: zero is well.
    marks: AtomicU64,
    /// [`Circuit`]: zero is closed.
    circuit: AtomicU64,
    /// [`Counters`] of `checks.passive`.
    counters: AtomicU64,
    /// [`Fails`] of `max_fails`.
    fails: AtomicU64,
    /// [`Window`] of the outlier detection.
    outlier: AtomicU64,
    /// [`Window`] of the breaker.
    breaker: AtomicU64,
    /// [`Streak`] of ejections by the outlier detection.
    streak: AtomicU64,
    /// [`Counters`] of probes: control alone writes them.
    probes: AtomicU64,
    up_since: AtomicU64,
}

impl SharedEndpoint {
    /// What is known of an endpoint that is new: nothing bad. `workers` is how many cores publish their loads.
    pub fn new(workers: usize) -> SharedEndpoint {
        SharedEndpoint {
            health: Health::default(),
            connections: Connections::default(),
            loads: Loads::new(workers),
        }
    }

    /// How many cores publish their loads.
    pub fn workers(&self) -> usize {
        self.loads.workers()
    }

    /// What a pick may do with it, by what counts under `rules`. One relaxed load where it is well and no
    /// breaker is set, two with one.
    #[inline]
    pub fn usable(&self, rules: &HealthRules, now: u64) -> Usable {
        let well = self.health.marks.load(Relaxed) & rules.marks == 0;
        if well && (rules.breaker.is_none() || self.health.circuit.load(Relaxed) == 0) {
            return Usable::Yes;
        }
        self.usable_ill(rules, now)
    }

    #[cold]
    fn usable_ill(&self, rules: &HealthRules, now: u64) -> Usable {
        let passage = self.passage(rules, now);
        let marks = self.marks();
        match passage {
            Passage::Shut(until) => Usable::Open { until },
            _ if marks.has(rules.marks & rules.until_probed()) => Usable::Resting,
            _ if marks.has(rules.marks) && !marks.is_over(now) => Usable::Resting,
            Passage::Free if !marks.has(rules.marks) => Usable::Yes,
            _ => Usable::Trial,
        }
    }

    /// Takes the trial of an endpoint that is [`Usable::Trial`]: of all workers one wins per rest, and as many
    /// as the breaker's `trials` where it is half open. The winner's try ends with `trial` in
    /// [`SharedEndpoint::finished`]; a claim that is dropped instead is void once the longest
    /// possible try is over (`per_try_timeout`, or the upstream's timeouts together).
    pub fn claim_trial(&self, rules: &HealthRules, now: u64) -> bool {
        if self.usable(rules, now) != Usable::Trial {
            return false;
        }
        let circuit = match &rules.breaker {
            Some(rule) if self.health.circuit.load(Relaxed) != 0 => {
                let claim = |word| Some(Circuit(word).claimed(rule, rules.trial_expiry, now)?.0);
                update(&self.health.circuit, claim).is_some()
            }
            _ => true,
        };
        if !circuit {
            return false;
        }
        let claim = |word| {
            let marks = Marks(word);
            let resting = marks.has(rules.marks & !rules.until_probed());
            let claimed = if resting { marks.claimed(rules.trial_expiry, now)? } else { marks };
            Some(claimed.0)
        };
        let won = update(&self.health.marks, claim).is_some();
        if !won {
            self.end_circuit_trial(rules, TrialEnd::Cancelled, now);
        }
        won
    }

    /// Takes in what came of a try; `trial` where it was begun by [`SharedEndpoint::claim_trial`]. `Some` when
    /// the endpoint went out or came back by it, once over all workers; where two judges take it out by the
    /// same try, the first of passive, outlier, breaker is named. `may_eject` is asked before the outlier
    /// detection takes it out.
    ///
    /// Only relaxed loads for a success of an endpoint whose last failures are over and done with.
    #[inline]
    pub fn finished(
        &self,
        rules: &HealthRules,
        outcome: Outcome,
        trial: bool,
        now: u64,
        may_eject: &dyn Fn() -> bool,
    ) -> Option<Change> {
        if !trial && rules.is_well(outcome) && self.is_quiet(rules, now) {
            return None;
        }
        self.take_in(rules, outcome, trial, now, may_eject)
    }

    /// Whether a success changes nothing.
    fn is_quiet(&self, rules: &HealthRules, now: u64) -> bool {
        let health = &self.health;
        let window = |word: &AtomicU64, length| Window(word.load(Relaxed)).runs(length, now);
        let passive = rules.passive.is_some()
            && (health.counters.load(Relaxed) != 0 || self.marks().has(Marks::PASSIVE));
        let outlier = rules.outlier.as_ref().is_some_and(|rule| window(&health.outlier, rule.interval));
        let breaker = rules.breaker.as_ref().is_some_and(|rule| window(&health.breaker, rule.window));
        !passive && !outlier && !breaker
    }

    #[cold]
    fn take_in(
        &self,
        rules: &HealthRules,
        outcome: Outcome,
        trial: bool,
        now: u64,
        may_eject: &dyn Fn() -> bool,
    ) -> Option<Change> {
        if trial {
            let (ended, change) = self.trial_ended(rules, outcome, now);
            if ended {
                return change;
            }
        }
        if outcome == Outcome::Cancelled {
            return None;
        }
        let passive = self.count_passive(rules, outcome, now);
        let outlier = self.count_outlier(rules, outcome, now, may_eject);
        let breaker = self.count_breaker(rules, outcome, now);
        passive.or(outlier).or(breaker)
    }

    /// Ends the trials that this try was: of the circuit, of the rest, or both. Whether it was any, and the
    /// change where nothing that counts keeps it out any more.
    fn trial_ended(&self, rules: &HealthRules, outcome: Outcome, now: u64) -> (bool, Option<Change>) {
        let end = match outcome {
            Outcome::Cancelled => TrialEnd::Cancelled,
            _ if is_error(outcome) => TrialEnd::Failure,
            _ => TrialEnd::Success,
        };
        let (ended, closed) = self.end_circuit_trial(rules, end, now);
        let marks = self.marks();
        if !marks.is_claimed() {
            return (ended, closed);
        }
        let judges = marks.0 & rules.marks & !rules.until_probed();
        if outcome != Outcome::Cancelled && !rules.trial_failed(judges, outcome) {
            let by = if judges & Marks::OUTLIER != 0 { By::Outlier } else { By::Passive };
            return (true, self.comes_back(rules, Marks::PASSIVE | Marks::OUTLIER, by, now).or(closed));
        }
        let mut rest = Duration::ZERO;
        let mut streak = None;
        if outcome != Outcome::Cancelled {
            if judges & Marks::PASSIVE != 0 {
                rest = rules.fail_timeout;
            }
            if let Some(rule) = rules.outlier.as_ref().filter(|_| judges & Marks::OUTLIER != 0) {
                let (next, longer) = Streak(self.health.streak.load(Relaxed)).failed_again(rule, now);
                (rest, streak) = (rest.max(longer), Some(next));
            }
        }
        let rested = update(&self.health.marks, |word| Some(Marks(word).rests_again(rest, now)?.0));
        if let (Some(_), Some(streak)) = (rested, streak) {
            self.health.streak.store(streak.0, Relaxed);
        }
        (true, closed)
    }

    /// Ends a trial of the circuit: whether it was one, and the change where the circuit closed by it.
    fn end_circuit_trial(&self, rules: &HealthRules, end: TrialEnd, now: u64) -> (bool, Option<Change>) {
        let Some(rule) = &rules.breaker else { return (false, None) };
        let ended = update(&self.health.circuit, |word| Some(Circuit(word).ended(end, rule, now)?.0));
        let closed = ended.is_some_and(|(_, after)| after == 0);
        if closed {
            self.health.up_since.store(now.max(1), Relaxed);
        }
        let back = closed && !self.marks().has(rules.marks);
        (ended.is_some(), back.then_some(Change { healthy: true, by: By::Breaker }))
    }

    /// `checks.passive` and `max_fails`.
    fn count_passive(&self, rules: &HealthRules, outcome: Outcome, now: u64) -> Option<Change> {
        let mut out = false;
        if let Some(max) = rules.max_fails.filter(|_| rules.is_fail(outcome)) {
            let more = |word| Some(Fails(word).after(rules.fail_timeout, now).0);
            let (_, after) = update(&self.health.fails, more)?;
            out = Fails(after).count(rules.fail_timeout, now) >= max;
        }
        if let Some((rule, sign)) = rules.passive.as_ref().and_then(|rule| Some((rule, rule.sign(outcome)?)))
        {
            let is_out = self.marks().has(Marks::PASSIVE);
            if let Some(counters) = self.count(&self.health.counters, sign, is_out) {
                let reached = rule.thresholds.reached(counters, sign);
                if sign == Sign::Success && reached && is_out && !rules.probes_heal {
                    return self.comes_back(rules, Marks::PASSIVE, By::Passive, now);
                }
                out |= sign != Sign::Success && reached;
            }
        }
        let change = || self.goes_out(Marks::PASSIVE, By::Passive, rules.fail_timeout, now);
        out.then(change).flatten()
    }

    /// Counts one more sign; `None` when that changes nothing.
    fn count(&self, word: &AtomicU64, sign: Sign, out: bool) -> Option<Counters> {
        let more = |word| Some(Counters::unpack(word).after(sign, out).pack()).filter(|after| *after != word);
        update(word, more).map(|(_, after)| Counters::unpack(after))
    }

    fn count_outlier(
        &self,
        rules: &HealthRules,
        outcome: Outcome,
        now: u64,
        may_eject: &dyn Fn() -> bool,
    ) -> Option<Change> {
        let rule = rules.outlier.as_ref().filter(|_| !self.marks().has(Marks::OUTLIER))?;
        let word = &self.health.outlier;
        let more = |word| Some(Window(word).after(is_error(outcome), rule.interval, now)?.0);
        let (_, window) = update(word, more)?;
        if !Window(window).is_over(rule.error_ratio, rule.min_requests) {
            return None;
        }
        let _held = match EJECTING.try_lock() {
            Ok(held) => held,
            // Who panicked while asking has not left anything half done.
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        // Out or not: what was counted has had its effect. So a refusal is asked for again only after
        // `min_requests` more tries.
        word.store(0, Relaxed);
        if !may_eject() {
            return None;
        }
        let (streak, rest) = Streak(self.health.streak.load(Relaxed)).ejected(rule, now);
        let change = self.goes_out(Marks::OUTLIER, By::Outlier, rest, now)?;
        self.health.streak.store(streak.0, Relaxed);
        Some(change)
    }

    fn count_breaker(&self, rules: &HealthRules, outcome: Outcome, now: u64) -> Option<Change> {
        let rule = rules.breaker.as_ref().filter(|_| self.health.circuit.load(Relaxed) == 0)?;
        let more = |word| Some(Window(word).after(is_error(outcome), rule.window, now)?.0);
        let (_, window) = update(&self.health.breaker, more)?;
        if !Window(window).is_over(rule.error_ratio, rule.min_requests) {
            return None;
        }
        let open = |word| (word == 0).then(|| Circuit::opened(rule, now).0);
        update(&self.health.circuit, open)?;
        self.health.breaker.store(0, Relaxed);
        Some(Change { healthy: false, by: By::Breaker })
    }

    /// Marks it; the change where the mark is new.
    fn goes_out(&self, mark: u64, by: By, rest: Duration, now: u64) -> Option<Change> {
        update(&self.health.marks, |word| Some(Marks(word).ejected(mark, rest, now)?.0))?;
        Some(Change { healthy: false, by })
    }

    /// Clears marks of live traffic, but for what probes alone may clear; the change where nothing that counts
    /// keeps it out any more.
    fn comes_back(&self, rules: &HealthRules, marks: u64, by: By, now: u64) -> Option<Change> {
        let clear = marks & !rules.until_probed();
        let (before, after) = update(&self.health.marks, |word| Some(Marks(word).cleared(clear)?.0))?;
        self.starts_clean(now);
        let back = before & rules.marks != 0 && !self.is_out(rules) && after & rules.marks == 0;
        back.then_some(Change { healthy: true, by })
    }

    /// What led to an ejection says nothing any more once it is over.
    fn starts_clean(&self, now: u64) {
        self.health.counters.store(0, Relaxed);
        self.health.fails.store(0, Relaxed);
        self.health.outlier.store(0, Relaxed);
        self.health.up_since.store(now.max(1), Relaxed);
    }

    /// Takes in a probe's result; control alone calls it. `Some` when the endpoint's health changed by it:
    /// the workers have to be told then. Successes bring back what live traffic took out as well, but
    /// for what the outlier detection did: an endpoint that serves probes and fails requests is its case.
    pub fn probed(
        &self,
        rule: &config::balance::ActiveCheck,
        outcome: ProbeOutcome,
        now: u64,
    ) -> Option<Change> {
        let sign = probe_sign(rule, outcome)?;
        // A success counts while anybody has it out; a failure until probes do.
        let judges = if sign == Sign::Success { Marks::ACTIVE | Marks::PASSIVE } else { Marks::ACTIVE };
        let counters = self.count(&self.health.probes, sign, self.marks().has(judges))?;
        if !Thresholds::of(rule).reached(counters, sign) {
            return None;
        }
        if sign != Sign::Success {
            return self.goes_out(Marks::ACTIVE, By::Active, Duration::ZERO, now);
        }
        update(&self.health.marks, |word| Some(Marks(word).cleared(judges)?.0))?;
        self.health.probes.store(0, Relaxed);
        self.starts_clean(now);
        Some(Change { healthy: true, by: By::Active })
    }

    /// Whether it is out by any judge that counts, its circuit included, its rest over or not.
    pub fn is_out(&self, rules: &HealthRules) -> bool {
        self.marks().has(rules.marks) || (rules.breaker.is_some() && self.health.circuit.load(Relaxed) != 0)
    }

    /// When it came (back), in microseconds; 0 when slow start does not apply.
    pub fn up_since(&self) -> u64 {
        self.health.up_since.load(Relaxed)
    }

    /// A new endpoint of a later plan: slow start from now.
    pub fn begins_slowly(&self, now: u64) {
        self.health.up_since.store(now.max(1), Relaxed);
    }

    /// Takes one of `max` connections over all workers; false when there is none.
    pub fn take_connection(&self, max: u32) -> bool {
        self.connections.take(max)
    }

    /// Gives back what [`SharedEndpoint::take_connection`] took.
    pub fn release_connection(&self) {
        self.connections.release();
    }

    /// This worker's load, for the others. A store to its own cache line, and only when it changed.
    pub fn publish(&self, worker: usize, load: Load) {
        self.loads.publish(worker, load);
    }

    /// The load of all other workers: what is under way added up, latencies averaged by it.
    pub fn others(&self, worker: usize) -> Load {
        self.loads.others(worker)
    }

    /// What `/v1/healthcheck` says of it.
    pub fn status(&self, rules: &HealthRules, now: u64) -> Status {
        let passive = Counters::unpack(self.health.counters.load(Relaxed));
        let probes = Counters::unpack(self.health.probes.load(Relaxed));
        let fails = Fails(self.health.fails.load(Relaxed)).count(rules.fail_timeout, now);
        let fails = if rules.max_fails.is_some() { fails } else { 0 };
        let out = self.out(rules);
        let larger = |passive: u16, probes: u16| {
            let passive = if rules.passive.is_some() { passive } else { 0 };
            let probes = if rules.marks & Marks::ACTIVE != 0 { probes } else { 0 };
            u32::from(passive.max(probes))
        };
        let success = larger(passive.success, probes.success);
        let http_failure = larger(passive.http, probes.http);
        let tcp_failure = larger(passive.tcp, probes.tcp).max(u32::from(fails));
        let timeout_failure = larger(passive.timeout, probes.timeout);
        let word = match out {
            Some(_) if success > 0 => StatusWord::MostlyUnhealthy,
            Some(_) => StatusWord::Unhealthy,
            None if http_failure + tcp_failure + timeout_failure > 0 => StatusWord::MostlyHealthy,
            None => StatusWord::Healthy,
        };
        Status { word, success, http_failure, tcp_failure, timeout_failure, out }
    }

    fn out(&self, rules: &HealthRules) -> Option<Out> {
        let marks = Marks(self.marks().0 & (rules.marks | !Marks::JUDGES));
        let circuit = Circuit(self.health.circuit.load(Relaxed));
        let (by, until) = match marks {
            _ if marks.has(Marks::ACTIVE) => (By::Active, None),
            _ if marks.has(Marks::PASSIVE & rules.until_probed()) => (By::Passive, None),
            _ if marks.has(Marks::PASSIVE) => (By::Passive, Some(marks.until())),
            _ if marks.has(Marks::OUTLIER) => (By::Outlier, Some(marks.until())),
            _ if rules.breaker.is_some() && circuit.0 != 0 => (By::Breaker, Some(circuit.until())),
            _ => return None,
        };
        Some(Out { by, until: until.map(|until| until * 1000) })
    }

    fn marks(&self) -> Marks {
        Marks(self.health.marks.load(Relaxed))
    }

    fn passage(&self, rules: &HealthRules, now: u64) -> Passage {
        let circuit = Circuit(self.health.circuit.load(Relaxed));
        rules.breaker.as_ref().map_or(Passage::Free, |rule| circuit.passage(rule, now))
    }
}

/// Changes a word as `step` says, unless that says `None`; gives it as it was and as it is. The loop ends with
/// the first round in which nobody else changed it, and somebody always comes through.
fn update(word: &AtomicU64, step: impl Fn(u64) -> Option<u64>) -> Option<(u64, u64)> {
    let mut before = word.load(Relaxed);
    loop {
        let after = step(before)?;
        match word.compare_exchange_weak(before, after, Relaxed, Relaxed) {
            Ok(_) => return Some((before, after)),
            Err(now) => before = now,
        }
    }
}

#[cfg(test)]
mod tests;
