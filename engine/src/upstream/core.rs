//! One upstream in one worker's hands: its balance, its pools, and the tries that
//! are under way.
//!
//! A [`Try`] counts from the pick to its end, whatever way it ends: dropped without
//! a word, as when a task panics, it is a try that was given up.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use balancer::endpoint::Outcome;
use balancer::upstream::{Admission, Ask, Group, Picked};

use super::pool::Pool;
use super::queue::Queue;
use crate::clock;
use crate::plan::UpstreamPlan;
use crate::worker::Worker;

/// Of an endpoint whose tries fail this core tells control no more often.
const SUSPECT_GAP_MICROS: u64 = 10_000;

/// See the module.
pub struct CoreUpstream {
    /// The shared part.
    pub plan: Arc<UpstreamPlan>,
    /// Whose turn it is, and who is well.
    pub group: RefCell<Group>,
    /// One pool per endpoint, shared by upstreams that name the same address.
    pub pools: Vec<Rc<Pool>>,
    /// Each endpoint's text.
    pub texts: Vec<Rc<str>>,
    /// Requests that wait until an endpoint has room.
    pub queue: Queue,
    /// Whether this core's loads are being published.
    pub loads_told: Cell<bool>,
    /// When each endpoint was suspected last, in microseconds; empty without active checks.
    suspected: Vec<Cell<u64>>,
}

impl CoreUpstream {
    /// The hold on an upstream that goes on with what `before` knows of the same endpoints.
    pub fn new(worker: &Rc<Worker>, plan: &Arc<UpstreamPlan>, before: Option<&CoreUpstream>) -> Self {
        let shared: Vec<_> = plan.endpoints.iter().map(|endpoint| endpoint.shared.clone()).collect();
        let before = before.map(|before| before.group.borrow());
        let group = Group::new(&plan.rules, &shared, worker.index, worker.random(), before.as_deref());
        drop(before);
        let keepalive = &plan.source.keepalive;
        CoreUpstream {
            pools: plan.endpoints.iter().map(|one| worker.pools.of(one, keepalive)).collect(),
            texts: plan.endpoints.iter().map(|one| Rc::from(one.text.as_str())).collect(),
            group: RefCell::new(group),
            queue: Queue::default(),
            loads_told: Cell::new(false),
            suspected: match plan.source.checks.as_ref().is_some_and(|checks| checks.active.is_some()) {
                true => plan.endpoints.iter().map(|_| Cell::new(0)).collect(),
                false => Vec::new(),
            },
            plan: plan.clone(),
        }
    }

    /// Picks an endpoint; the try counts from now on.
    pub fn pick(self: &Rc<Self>, worker: &Rc<Worker>, ask: &Ask<'_>) -> Result<Try, Picked> {
        let picked = self.group.borrow_mut().pick(ask);
        let Picked::Endpoint(index) = picked else { return Err(picked) };
        self.tell_loads(worker, ask.now);
        let (upstream, worker) = (self.clone(), worker.clone());
        Ok(Try { upstream, worker, index, began: ask.now, answered: Cell::new(false), ended: false })
    }

    /// Lets a request in, or says for how long it is shed.
    pub fn admit(self: &Rc<Self>, now: u64) -> Result<Admitted, std::time::Duration> {
        if !self.plan.counts_requests {
            return Ok(Admitted { upstream: None, micros: None });
        }
        match self.group.borrow_mut().request_begins(now) {
            Admission::Admitted => Ok(Admitted { upstream: Some(self.clone()), micros: None }),
            Admission::Shed(after) => Err(after),
        }
    }

    /// A try failed. Where probes decide over the endpoint, control is told, so that it need not wait for the
    /// next interval.
    fn suspect(&self, worker: &Worker, index: usize, now: u64) {
        let Some(last) = self.suspected.get(index) else { return };
        if last.get() == 0 || now.saturating_sub(last.get()) >= SUSPECT_GAP_MICROS {
            last.set(now.max(1));
            worker.report_suspect(&self.plan.endpoints[index].shared);
        }
    }

    /// Has this core's loads published for the others: at once where they were at rest, and then from time to
    /// time until they are again.
    fn tell_loads(self: &Rc<Self>, worker: &Rc<Worker>, now: u64) {
        if self.plan.rules.wants_loads() && !self.loads_told.replace(true) {
            self.group.borrow_mut().publish(now);
            worker.tell_loads(self.clone());
        }
    }
}

/// One try at one endpoint, from its pick to its end.
pub struct Try {
    upstream: Rc<CoreUpstream>,
    worker: Rc<Worker>,
    /// Which endpoint.
    pub index: usize,
    /// When it began, in microseconds.
    pub began: u64,
    /// Whether the balance knows of its head already.
    answered: Cell<bool>,
    ended: bool,
}

impl Try {
    /// Ends it in order. `answered_at`: when the response's head came, in microseconds.
    pub fn end(mut self, outcome: Outcome, answered_at: u64) {
        // The plain way asks no clock: the head's arrival is recent enough.
        self.finish(outcome, answered_at, answered_at);
    }

    /// Ends it otherwise. `answered_at`: when the response's head came, if one came: what a client does with the
    /// rest is not the endpoint's time.
    pub fn fail(mut self, outcome: Outcome, answered_at: Option<u64>) {
        let now = clock::micros();
        self.finish(outcome, answered_at.unwrap_or(now), now);
    }

    /// Tells the balance of the response's head before the end, where that may be far: a trial is over then,
    /// and a latency known.
    pub fn answered(&self, outcome: Outcome, at: u64) {
        if !self.answered.replace(true) {
            self.judge(outcome, at, at);
        }
    }

    fn judge(&self, outcome: Outcome, until: u64, now: u64) {
        let upstream = &self.upstream;
        let micros = until.saturating_sub(self.began);
        if matches!(outcome, Outcome::Failed | Outcome::TimedOut) {
            upstream.suspect(&self.worker, self.index, now);
        }
        let change = upstream.group.borrow_mut().judge(self.index, outcome, self.began, micros, now);
        if let Some(change) = change {
            self.worker.report_health(&upstream.plan.id, &upstream.texts[self.index], change);
        }
    }

    fn finish(&mut self, outcome: Outcome, until: u64, now: u64) {
        self.ended = true;
        self.upstream.group.borrow_mut().release(self.index);
        // What broke after a good head is news, all else is known.
        if !self.answered.get() || matches!(outcome, Outcome::Failed | Outcome::TimedOut) {
            self.judge(outcome, until, now);
        }
        self.upstream.tell_loads(&self.worker, now);
        self.upstream.queue.wake_first();
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        if !self.ended {
            let now = clock::micros();
            self.finish(Outcome::Cancelled, now, now);
        }
    }
}

/// A request that an upstream has let in, to its end.
pub struct Admitted {
    upstream: Option<Rc<CoreUpstream>>,
    /// Its latency, where it was answered in order.
    pub micros: Option<u64>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(upstream) = &self.upstream {
            upstream.group.borrow_mut().request_ends(self.micros, clock::micros());
        }
    }
}
