//! The world: endpoints with moods, workers with requests, control with probes, messages that take their time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::{Change, Outcome, ProbeOutcome, SharedEndpoint};
use crate::retry::{Failed, Failure, RetryPolicy};
use crate::upstream::{Admission, Ask, Group, NodeSpec, Picked, Rules, Tried};

use super::rules::{chance, draw, recovery};
use super::watch::{micros, Totals, Watch, NEWS_AGE_MAX};
use crate::seeded::Random;

const MILLI: u64 = 1000;
const SECOND: u64 = 1_000_000;
/// Endpoints have moods until then.
const FAULTS_END: u64 = 20 * SECOND;
/// How long after they should be back requests still come, so that each is seen in use.
const IN_USE: u64 = 6 * SECOND;
/// The mean time between two requests of a worker.
const BETWEEN: u64 = 40 * MILLI;
/// How often workers publish their loads.
const PUBLISH: u64 = 50 * MILLI;

/// How an endpoint is.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Well,
    Refuses,
    Hangs,
    Errs,
    Slow,
    Flaky,
}

enum Event {
    Arrives {
        worker: usize,
    },
    /// A backoff is over.
    Again {
        request: usize,
    },
    Ends {
        request: usize,
        outcome: Outcome,
    },
    Mood {
        endpoint: usize,
    },
    Probe {
        endpoint: usize,
    },
    Probed {
        endpoint: usize,
        outcome: ProbeOutcome,
    },
    /// Control's word reaches a worker.
    Told {
        worker: usize,
        endpoint: usize,
        healthy: bool,
    },
    Publish {
        worker: usize,
    },
    Reload,
}

/// A request under way.
struct Request {
    worker: usize,
    generation: usize,
    key: [u8; 2],
    tried: Tried,
    tries: u32,
    began: u64,
    /// Its try: at whom, since when, whether it is a trial.
    at: Option<(usize, u64, bool)>,
}

pub(super) struct World {
    random: Random,
    now: u64,
    number: u64,
    events: BTreeMap<(u64, u64), Event>,
    source: config::Upstream,
    specs: Vec<NodeSpec>,
    rules: Arc<Rules>,
    shared: Vec<Arc<SharedEndpoint>>,
    policy: RetryPolicy,
    moods: Vec<Mood>,
    /// By worker, one per plan.
    groups: Vec<Vec<Group>>,
    /// When the last message to each worker arrives: they keep their order.
    mail: Vec<u64>,
    requests: Vec<Request>,
    watch: Watch,
    /// When all that is well must be in use again, and when requests stop.
    back: u64,
    end: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let workers = 1 + random.below(4);
        let (source, specs) = draw(&mut random);
        let rules = Arc::new(Rules::new(&source, specs.clone(), &[7; 32]));
        let shared: Vec<_> = specs.iter().map(|_| Arc::new(SharedEndpoint::new(workers))).collect();
        let group = |worker| vec![Group::new(&rules, &shared, worker, seed, None)];
        let groups = (0..workers).map(group).collect();
        let back = FAULTS_END + specs.iter().map(|spec| micros(recovery(&source, spec))).max().unwrap_or(0);
        let mut world = World {
            random,
            now: 0,
            number: 0,
            events: BTreeMap::new(),
            policy: RetryPolicy::of(&source, specs.len()),
            moods: vec![Mood::Well; specs.len()],
            groups,
            mail: vec![0; workers],
            requests: Vec::new(),
            watch: Watch::new(&source, &specs, &shared, workers),
            back,
            end: back + IN_USE,
            source,
            specs,
            rules,
            shared,
        };
        world.begin();
        world
    }

    /// Runs until nothing is left to happen.
    pub(super) fn run(mut self) -> Totals {
        while let Some(((time, _), event)) = self.events.pop_first() {
            self.now = time;
            self.happens(event);
        }
        self.watch.at_the_end(self.back, self.now);
        self.watch.totals
    }

    fn begin(&mut self) {
        for worker in 0..self.groups.len() {
            self.after(0, BETWEEN, Event::Arrives { worker });
            self.after(0, PUBLISH, Event::Publish { worker });
        }
        for endpoint in 0..self.specs.len() {
            self.after(0, 8 * SECOND, Event::Mood { endpoint });
            self.after(0, SECOND, Event::Probe { endpoint });
        }
        if self.source.retry.budget.is_none() {
            self.after(0, self.end, Event::Reload);
        }
    }

    /// Something happens a random time from now.
    fn after(&mut self, least: u64, most: u64, event: Event) {
        let time = self.now + least + self.random.below((most - least + 1) as usize) as u64;
        self.number += 1;
        self.events.insert((time, self.number), event);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrives { worker } => self.arrives(worker),
            Event::Again { request } => self.attempt(request),
            Event::Ends { request, outcome } => self.ends(request, outcome),
            Event::Mood { endpoint } => self.mood(endpoint),
            Event::Probe { endpoint } => self.probe(endpoint),
            Event::Probed { endpoint, outcome } => self.probed(endpoint, outcome),
            Event::Told { worker, endpoint, healthy } => {
                for group in &mut self.groups[worker] {
                    group.refresh(self.now);
                }
                self.watch.told(worker, endpoint, healthy);
            }
            Event::Publish { worker } => {
                // The last plan's group speaks for the worker.
                let busy = self.groups[worker].last_mut().expect("a plan").publish(self.now);
                if self.now < self.end || busy {
                    self.after(PUBLISH, PUBLISH, Event::Publish { worker });
                }
            }
            Event::Reload => {
                self.watch.totals.reloads += 1;
                for (worker, groups) in self.groups.iter_mut().enumerate() {
                    let before = groups.last();
                    groups.push(Group::new(&self.rules, &self.shared, worker, self.now, before));
                }
            }
        }
    }

    fn mood(&mut self, endpoint: usize) {
        let moods = [&Mood::Well, &Mood::Refuses, &Mood::Hangs, &Mood::Errs, &Mood::Slow, &Mood::Flaky];
        self.moods[endpoint] = if self.now < FAULTS_END { *self.random.of(&moods) } else { Mood::Well };
        if self.now < FAULTS_END {
            let left = (FAULTS_END - self.now).min(6 * SECOND);
            self.after(left.min(100 * MILLI), left, Event::Mood { endpoint });
        }
    }

    fn arrives(&mut self, worker: usize) {
        if self.now < self.end {
            self.after(0, 2 * BETWEEN, Event::Arrives { worker });
        }
        let generation = self.groups[worker].len() - 1;
        let key = (self.random.next() as u16).to_be_bytes();
        let request =
            Request { worker, generation, key, tried: Tried::new(), tries: 0, began: self.now, at: None };
        self.watch.request_begins(worker);
        let admission = self.groups[worker][generation].request_begins(self.now);
        assert_eq!(admission, Admission::Admitted, "nothing limits the concurrency");
        self.requests.push(request);
        self.attempt(self.requests.len() - 1);
    }

    fn attempt(&mut self, number: usize) {
        let now = self.now;
        let request = &mut self.requests[number];
        let (worker, generation) = (request.worker, request.generation);
        let before = self.watch.look(now);
        let ask = Ask { now, key: &request.key, sticky: None, tried: &request.tried };
        let picked = self.groups[worker][generation].pick(&ask);
        let trial = self.watch.picked(worker, &before, &request.tried, picked, now);
        let Picked::Endpoint(index) = picked else {
            if request.tries > 0 {
                self.groups[worker][generation].retry_ends();
                self.watch.retry_ends(worker);
            }
            return self.request_ends(number);
        };
        request.tried.add(index);
        request.tries += 1;
        request.at = Some((index, now, trial));
        let (millis, outcome) = self.answer(index);
        if chance(&mut self.random, 2) {
            self.after(0, millis * MILLI, Event::Ends { request: number, outcome: Outcome::Cancelled });
        } else {
            self.after(millis * MILLI / 2, millis * MILLI, Event::Ends { request: number, outcome });
        }
    }

    /// What an endpoint does with a try, and the most that it takes in milliseconds.
    fn answer(&mut self, endpoint: usize) -> (u64, Outcome) {
        match self.moods[endpoint] {
            Mood::Well => (20, Outcome::Status(200)),
            Mood::Refuses => (1, Outcome::Failed),
            Mood::Hangs => (500, Outcome::TimedOut),
            Mood::Errs => (4, Outcome::Status(500)),
            Mood::Slow => (400, Outcome::Status(200)),
            Mood::Flaky => (20, Outcome::Status(if chance(&mut self.random, 50) { 200 } else { 500 })),
        }
    }

    fn ends(&mut self, number: usize, outcome: Outcome) {
        let now = self.now;
        let request = &mut self.requests[number];
        let worker = request.worker;
        let (index, since, trial) = request.at.take().expect("a try that ends has begun");
        let group = &mut self.groups[worker][request.generation];
        let change = group.finish(index, outcome, now - since, now);
        if request.tries > 1 {
            group.retry_ends();
            self.watch.retry_ends(worker);
        }
        let failed_trial = trial && !matches!(outcome, Outcome::Status(200) | Outcome::Cancelled);
        self.watch.totals.failed_trials += u64::from(failed_trial);
        self.watch.ended(worker, index, trial, change, now);
        if let Some(change) = change {
            self.broadcast(Some(worker), index, change);
        }
        self.goes_on(number, outcome);
    }

    /// A further try, or the end.
    fn goes_on(&mut self, number: usize, outcome: Outcome) {
        let request = &mut self.requests[number];
        let failure = match outcome {
            Outcome::Failed => Failure::NotSent,
            Outcome::TimedOut => Failure::Timeout,
            Outcome::Status(status) => Failure::Status(status),
            Outcome::Cancelled => return self.request_ends(number),
        };
        let group = &mut self.groups[request.worker][request.generation];
        let failed = Failed {
            method: b"GET",
            failure,
            sent: failure != Failure::NotSent,
            replayable: true,
            tries: request.tries,
            elapsed: Duration::from_micros(self.now - request.began),
            untried: group.untried(&request.tried),
        };
        if !self.policy.may_retry(&failed) {
            return self.request_ends(number);
        }
        let granted = group.retry_begins(self.now);
        self.watch.retry_begins(request.worker, granted, self.now);
        match granted {
            true => self.after(0, 5 * MILLI, Event::Again { request: number }),
            false => self.request_ends(number),
        }
    }

    fn request_ends(&mut self, number: usize) {
        let request = &self.requests[number];
        self.watch.request_ends(request.worker);
        let micros = self.now - request.began;
        self.groups[request.worker][request.generation].request_ends(Some(micros), self.now);
    }

    fn probe(&mut self, endpoint: usize) {
        let Some(rule) = self.source.checks.as_ref().and_then(|checks| checks.active.clone()) else { return };
        let (millis, outcome) = match self.answer(endpoint) {
            (millis, Outcome::Status(status)) => (millis, ProbeOutcome::Status(status)),
            (millis, Outcome::TimedOut) => (millis, ProbeOutcome::TimedOut),
            (millis, _) => (millis, ProbeOutcome::Failed),
        };
        self.after(millis * MILLI, millis * MILLI, Event::Probed { endpoint, outcome });
        if self.now < self.end {
            let interval = micros(rule.unhealthy_interval);
            self.after(interval, interval, Event::Probe { endpoint });
        }
    }

    fn probed(&mut self, endpoint: usize, outcome: ProbeOutcome) {
        let Some(rule) = self.source.checks.as_ref().and_then(|checks| checks.active.clone()) else { return };
        if let Some(change) = self.shared[endpoint].probed(&rule, outcome, self.now) {
            self.watch.changed(endpoint, change, self.now);
            self.broadcast(None, endpoint, change);
        }
    }

    /// Control tells all workers, but for the one that told it.
    fn broadcast(&mut self, from: Option<usize>, endpoint: usize, change: Change) {
        for worker in (0..self.groups.len()).filter(|worker| Some(*worker) != from) {
            let arrives = self.now + self.random.below(NEWS_AGE_MAX as usize) as u64;
            self.mail[worker] = self.mail[worker].max(arrives);
            let delay = self.mail[worker] - self.now;
            self.after(delay, delay, Event::Told { worker, endpoint, healthy: change.healthy });
        }
    }
}
