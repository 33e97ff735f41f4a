//! What must hold at every step, checked by somebody who keeps books of his own.

use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::{By, Change, SharedEndpoint, Usable};
use crate::health::HealthRules;
use crate::upstream::{NodeSpec, Picked, Tried};

/// Within which time each worker has heard that an endpoint came back.
pub(super) const NEWS_AGE_MAX: u64 = 10_000;

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) requests: u64,
    pub(super) retries: u64,
    pub(super) refused_retries: u64,
    pub(super) trials: u64,
    pub(super) failed_trials: u64,
    pub(super) full: u64,
    pub(super) open: u64,
    pub(super) panics: u64,
    pub(super) outs: [u64; 4],
    pub(super) backs: [u64; 4],
    pub(super) reloads: u64,
}

impl Totals {
    /// Adds another run's.
    pub(super) fn add(&mut self, other: &Totals) {
        self.requests += other.requests;
        self.retries += other.retries;
        self.refused_retries += other.refused_retries;
        self.trials += other.trials;
        self.failed_trials += other.failed_trials;
        self.full += other.full;
        self.open += other.open;
        self.panics += other.panics;
        self.reloads += other.reloads;
        for judge in 0..4 {
            self.outs[judge] += other.outs[judge];
            self.backs[judge] += other.backs[judge];
        }
    }

    /// Each kind of event is among them.
    pub(super) fn assert_all_happened(&self) {
        let counts = [self.retries, self.refused_retries, self.trials, self.failed_trials, self.full];
        let more = [self.open, self.panics, self.reloads];
        let all = counts.iter().chain(&more).chain(&self.outs).chain(&self.backs);
        assert!(all.copied().all(|count| count > 0), "something never happened: {self:?}");
    }
}

/// The books of one worker.
struct Worker {
    /// What it was told, or found itself: which endpoints are out.
    dead: Vec<bool>,
    requests: u64,
    active: u32,
    active_most: u32,
    retries: u64,
    retries_active: u32,
}

/// The books of all.
pub(super) struct Watch {
    shared: Vec<Arc<SharedEndpoint>>,
    rules: Vec<HealthRules>,
    specs: Vec<NodeSpec>,
    source: config::Upstream,
    workers: Vec<Worker>,
    /// Under way by endpoint, and those that are trials.
    under_way: Vec<u32>,
    trials: Vec<u32>,
    /// A panic sent others beside a trial: a worker cannot tell which of them it was, and need not.
    overruled: Vec<bool>,
    /// Since when each is well.
    live_since: Vec<u64>,
    /// When each endpoint last got a request that was no trial.
    used: Vec<u64>,
    pub(super) totals: Totals,
}

impl Watch {
    pub(super) fn new(
        source: &config::Upstream,
        specs: &[NodeSpec],
        shared: &[Arc<SharedEndpoint>],
        workers: usize,
    ) -> Watch {
        let nodes = specs.len();
        let worker = || Worker {
            dead: vec![false; nodes],
            requests: 0,
            active: 0,
            active_most: 0,
            retries: 0,
            retries_active: 0,
        };
        Watch {
            shared: shared.to_vec(),
            rules: specs.iter().map(|spec| HealthRules::new(source, spec)).collect(),
            specs: specs.to_vec(),
            source: source.clone(),
            workers: (0..workers).map(|_| worker()).collect(),
            under_way: vec![0; nodes],
            trials: vec![0; nodes],
            overruled: vec![false; nodes],
            live_since: vec![0; nodes],
            used: vec![0; nodes],
            totals: Totals::default(),
        }
    }

    /// How the endpoints stand before a pick.
    pub(super) fn look(&self, now: u64) -> Vec<Usable> {
        self.shared.iter().zip(&self.rules).map(|(shared, rules)| shared.usable(rules, now)).collect()
    }

    /// A pick was made; whether it is a trial.
    pub(super) fn picked(
        &mut self,
        worker: usize,
        before: &[Usable],
        tried: &Tried,
        picked: Picked,
        now: u64,
    ) -> bool {
        let nodes = self.specs.len();
        let untried = |index: &usize| nodes == 1 || !tried.contains(*index);
        let live = |index: &usize| before[*index] == Usable::Yes && self.has_room(*index);
        let live: Vec<usize> = (0..nodes).filter(untried).filter(live).collect();
        let index = match picked {
            Picked::Endpoint(index) => index,
            none => {
                assert!(live.is_empty(), "{none:?} while {live:?} are live: {before:?}");
                self.totals.full += u64::from(none == Picked::Full);
                self.totals.open += u64::from(matches!(none, Picked::Open(_)));
                let shut = |index: usize| matches!(before[index], Usable::Open { .. });
                let shut = (0..nodes).filter(untried).any(shut);
                assert!(shut || !matches!(none, Picked::Open(_)), "no circuit is open: {before:?}");
                return false;
            }
        };
        assert!(untried(&index), "{index} was tried");
        assert!(self.has_room(index), "{index} is full");
        assert!(!matches!(before[index], Usable::Open { .. }), "the circuit of {index} is open");
        if before[index] == Usable::Resting {
            // That another came back a moment ago a worker need not know.
            let known = |index: &&usize| now - self.live_since[**index] >= NEWS_AGE_MAX;
            let known_live: Vec<_> = live.iter().filter(known).collect();
            let dead = self.workers[worker].dead[index];
            assert!(!dead || known_live.is_empty(), "{index} is dead, {known_live:?} are live");
            self.totals.panics += 1;
            self.overruled[index] = self.trials[index] > 0;
        }
        self.under_way[index] += 1;
        let trial = before[index] == Usable::Trial;
        if trial {
            self.trials[index] += 1;
            self.totals.trials += 1;
            let most = self.source.breaker.map_or(1, |rule| rule.trials);
            let single = self.trials[index] <= most || self.overruled[index];
            assert!(single, "{} trials of {index}", self.trials[index]);
        } else {
            self.used[index] = now;
        }
        trial
    }

    /// A try ended.
    pub(super) fn ended(
        &mut self,
        worker: usize,
        index: usize,
        trial: bool,
        change: Option<Change>,
        now: u64,
    ) {
        self.under_way[index] -= 1;
        self.trials[index] -= u32::from(trial);
        self.overruled[index] &= self.trials[index] > 0;
        if let Some(change) = change {
            self.changed(index, change, now);
            self.told(worker, index, change.healthy);
        }
        self.assert_cap();
    }

    /// A change was reported.
    pub(super) fn changed(&mut self, index: usize, change: Change, now: u64) {
        if change.healthy {
            self.live_since[index] = now;
        }
        let judge = match change.by {
            By::Active => 0,
            By::Passive => 1,
            By::Outlier => 2,
            By::Breaker => 3,
        };
        let counts = if change.healthy { &mut self.totals.backs } else { &mut self.totals.outs };
        counts[judge] += 1;
    }

    /// A worker knows that an endpoint is well or not.
    pub(super) fn told(&mut self, worker: usize, index: usize, healthy: bool) {
        self.workers[worker].dead[index] = !healthy;
    }

    pub(super) fn request_begins(&mut self, worker: usize) {
        self.totals.requests += 1;
        let worker = &mut self.workers[worker];
        worker.requests += 1;
        worker.active += 1;
        worker.active_most = worker.active_most.max(worker.active);
    }

    pub(super) fn request_ends(&mut self, worker: usize) {
        self.workers[worker].active -= 1;
    }

    /// A further try was asked for.
    pub(super) fn retry_begins(&mut self, worker: usize, granted: bool, now: u64) {
        self.totals.retries += u64::from(granted);
        self.totals.refused_retries += u64::from(!granted);
        let worker = &mut self.workers[worker];
        let Some(share) = self.source.retry.budget else {
            assert!(granted, "a budget without bound refuses");
            return;
        };
        worker.retries += u64::from(granted);
        worker.retries_active += u32::from(granted);
        let live = (share * f64::from(worker.active)).max(3.0) + 1e-6;
        assert!(!granted || f64::from(worker.retries_active) <= live, "too many retries at once");
        let saved = (share * f64::from(worker.active_most)).max(3.0) + (now / 10_000_000) as f64 + 1e-6;
        let most = share * worker.requests as f64 + saved;
        assert!(worker.retries as f64 <= most, "{} retries, {most} are allowed", worker.retries);
    }

    pub(super) fn retry_ends(&mut self, worker: usize) {
        if self.source.retry.budget.is_some() {
            self.workers[worker].retries_active -= 1;
        }
    }

    /// Nothing is under way any more, and all that is well is used, since `well` at the latest.
    pub(super) fn at_the_end(&self, well: u64, now: u64) {
        assert!(self.under_way.iter().all(|count| *count == 0), "under way: {:?}", self.under_way);
        assert!(self.trials.iter().all(|count| *count == 0), "trials: {:?}", self.trials);
        for (index, (shared, rules)) in self.shared.iter().zip(&self.rules).enumerate() {
            let status = shared.status(rules, now);
            assert_eq!(shared.usable(rules, now), Usable::Yes, "{index} is well: {status:?}");
            assert!(self.used[index] > well, "{index} is not used since {}", self.used[index]);
            if let Some(max) = self.specs[index].max_conns {
                let taken = (0..max).take_while(|_| shared.take_connection(max)).count();
                assert_eq!(taken, max as usize, "connections of {index} are lost");
            }
            let others = shared.others(usize::MAX);
            assert_eq!(others.active, 0, "loads of {index} stay");
        }
    }

    fn has_room(&self, index: usize) -> bool {
        self.specs[index].max_conns.is_none_or(|max| self.under_way[index] < max)
    }

    /// What the outlier detection took out stays under its cap; one may always be out.
    fn assert_cap(&self) {
        let Some(rule) = self.source.outlier else { return };
        let ejected = |(shared, rules): &(&Arc<SharedEndpoint>, &HealthRules)| {
            shared.status(rules, 0).out.is_some_and(|out| out.by == By::Outlier)
        };
        let ejected = self.shared.iter().zip(&self.rules).filter(ejected).count();
        let cap = (rule.max_ejected * self.specs.len() as f64).floor().max(1.0);
        assert!(ejected as f64 <= cap, "{ejected} of {} are ejected", self.specs.len());
    }
}

/// A duration in the world's time.
pub(super) fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}
