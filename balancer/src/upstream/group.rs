//! One worker's balance of one upstream.
//!
//! Nothing in it is shared between workers but the endpoints themselves ([`SharedEndpoint`]), which a pick
//! reads and, without `max_conns` and trials, does not write: so a pick takes no lock, and it allocates nothing.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::upstream::Kind;

use super::local::{Lineage, Local};
use super::part::{Part, View};
use super::rules::{PartRules, Rules};
use super::tried::Tried;
use super::watch::{Scene, Standing, Watch};
use super::{Admission, Ask, Picked};
use crate::budget::Budget;
use crate::endpoint::{Change, Load, Outcome, SharedEndpoint, Usable};
use crate::pick::Chance;

/// How often those that are out are looked at, and others' loads are taken in: microseconds. What others
/// publish is as old again, so that loads are ten milliseconds old at most.
const LOOK_EVERY: u64 = 5_000;

/// The balance of one upstream on one worker.
pub struct Group {
    rules: Arc<Rules>,
    shared: Vec<Arc<SharedEndpoint>>,
    locals: Vec<Rc<Local>>,
    parts: Vec<Part>,
    watch: Watch,
    chance: Chance,
    worker: usize,
    /// Whether there are other workers whose loads count.
    shares_loads: bool,
    lineage: Rc<Lineage>,
    generation: u64,
    /// Nothing was picked yet: no time is known.
    fresh: bool,
    next_look: u64,
    next_merge: u64,
    /// Endpoints whose load has to be published.
    dirty: Vec<u32>,
    budget: Rc<RefCell<Budget>>,
}

impl Group {
    /// The balance of an upstream on worker number `worker`. Picks are indexes into the rules' nodes, as is
    /// `shared`. What `before` (the balance that this one follows) knows of the same endpoints goes on,
    /// as does its turn where nothing changed. `seed` is all of chance that there is.
    pub fn new(
        rules: &Arc<Rules>,
        shared: &[Arc<SharedEndpoint>],
        worker: usize,
        seed: u64,
        before: Option<&Group>,
    ) -> Group {
        let locals = locals(shared, before);
        let lineage = before.map(|before| before.lineage.clone()).unwrap_or_default();
        let generation = lineage.newest.get() + 1;
        lineage.newest.set(generation);
        lineage.ended.borrow_mut().clear();
        lineage.has_ended.set(false);
        let parts = rules.parts.iter().enumerate().map(|(number, part)| {
            let known = before.and_then(|before| before.same_part(number, rules.kind, part, shared));
            known.map_or_else(|| Part::new(rules.kind, part, worker), |known| known.follow(part))
        });
        let budget = before.filter(|before| before.rules.budget == rules.budget);
        let count = rules.endpoints.len();
        let mut group = Group {
            parts: parts.collect(),
            watch: Watch::new(count),
            chance: Chance::new(seed),
            shares_loads: rules.wants_loads() && shared.iter().any(|endpoint| endpoint.workers() > 1),
            fresh: true,
            next_look: 0,
            next_merge: 0,
            dirty: Vec::with_capacity(count),
            budget: budget.map_or_else(
                || Rc::new(RefCell::new(Budget::new(rules.budget))),
                |known| known.budget.clone(),
            ),
            rules: rules.clone(),
            shared: shared.to_vec(),
            locals,
            worker,
            lineage,
            generation,
        };
        (0..count).for_each(|index| group.loaded(index));
        group
    }

    /// The next endpoint that was not tried yet; an only endpoint is picked again.
    pub fn pick(&mut self, ask: &Ask<'_>) -> Picked {
        self.prepare(ask.now);
        let none = Tried::default();
        let tried = if self.rules.up == 1 { &none } else { ask.tried };
        if let Some(index) = ask.sticky {
            if self.take_sticky(index, tried, ask.now) {
                return Picked::Endpoint(index);
            }
        }
        let picked = self.look_through(ask, tried);
        if matches!(picked, Picked::Endpoint(_)) {
            return picked;
        }
        // What is parked may be out of date, and those that were found out may make a panic.
        self.survey(ask.now);
        match self.look_through(ask, tried) {
            // A request that was tried has an answer of its own: the circuits of others are not the reason.
            Picked::None if ask.tried.is_empty() => self.opens_in(ask.now).map_or(Picked::None, Picked::Open),
            picked => picked,
        }
    }

    /// Ends a try that a pick began. `micros`: from its beginning to the response head, or to its failure.
    /// `Some` when the endpoint went out or came back by it: control has to be told then.
    pub fn finish(&mut self, index: usize, outcome: Outcome, micros: u64, now: u64) -> Option<Change> {
        self.release(index);
        self.judge(index, outcome, now.saturating_sub(micros), micros, now)
    }

    /// Ends a try of which [`Group::judge`] has been told all.
    pub fn release(&mut self, index: usize) {
        let Some(local) = self.locals.get(index) else { return };
        local.active.set(local.active.get().saturating_sub(1));
        self.lineage.under_way.set(self.lineage.under_way.get().saturating_sub(1));
        if self.generation != self.lineage.newest.get() {
            self.lineage.ended.borrow_mut().push(local.index.get());
            self.lineage.has_ended.set(true);
        }
        if self.rules.endpoints[index].max_conns > 0 {
            self.shared[index].release_connection();
            if self.watch.slots[index].standing == Standing::Full {
                self.enter(index);
            }
        }
        self.loaded(index);
    }

    /// Takes in what came of a try that goes on, such as the head of a long response; `began` is its pick's
    /// time. `Some` as in [`Group::finish`]. What came of it after may be told as well: not the same again.
    pub fn judge(
        &mut self,
        index: usize,
        outcome: Outcome,
        began: u64,
        micros: u64,
        now: u64,
    ) -> Option<Change> {
        let local = self.locals.get(index)?;
        let trial = local.ends_trial(began);
        if self.rules.kind == Kind::Ewma {
            local.latency.sample(outcome, micros, now);
            self.loaded(index);
        }
        let change = self.tell(index, outcome, trial, now);
        if change.is_some() {
            self.look(index, now);
        }
        change
    }

    /// Tells an endpoint what came of a try. The rules are borrowed, not cloned: their count is all workers'.
    fn tell(&self, index: usize, outcome: Outcome, trial: bool, now: u64) -> Option<Change> {
        let may_eject = || self.out() < self.rules.ejected_max();
        self.shared[index].finished(&self.rules.endpoints[index].health, outcome, trial, now, &may_eject)
    }

    /// Reads the endpoints' shared health anew: control said that it changed.
    pub fn refresh(&mut self, now: u64) {
        self.survey(now);
    }

    /// Publishes this core's loads for the others and takes in theirs. To be called at least every 5 ms while
    /// it returns true (there is more to tell).
    pub fn publish(&mut self, now: u64) -> bool {
        self.catch_up();
        if !self.shares_loads {
            return false;
        }
        let told = !self.dirty.is_empty();
        while let Some(index) = self.dirty.pop() {
            let index = index as usize;
            self.watch.slots[index].dirty = false;
            let local = &self.locals[index];
            let latency = local.latency.own(now).min(f64::from(u32::MAX)) as u32;
            self.shared[index].publish(self.worker, Load { active: local.active.get(), latency });
        }
        if now >= self.next_merge {
            self.merge(now);
        }
        told || self.lineage.under_way.get() > 0
    }

    /// A request begins: the retry budget grows by it, and the concurrency limit may shed it.
    pub fn request_begins(&mut self, now: u64) -> Admission {
        if let Some(Err(again_in)) = self.rules.limiter.as_ref().map(|limiter| limiter.begin()) {
            return Admission::Shed(again_in);
        }
        self.budget.borrow_mut().request_begins(now);
        Admission::Admitted
    }

    /// It ends. `micros`: its latency where it was answered in order, for the concurrency limit.
    pub fn request_ends(&mut self, micros: Option<u64>, now: u64) {
        self.budget.borrow_mut().request_ends();
        if let Some(limiter) = &self.rules.limiter {
            limiter.end(micros, now);
        }
    }

    /// Takes a further try from the retry budget; [`Group::retry_ends`] ends it.
    pub fn retry_begins(&mut self, now: u64) -> bool {
        self.budget.borrow_mut().retry_begins(now)
    }

    /// A further try has ended.
    pub fn retry_ends(&mut self) {
        self.budget.borrow_mut().retry_ends();
    }

    /// How many endpoints a further pick could give: those not down, not draining and not tried, 1 for an only
    /// one.
    pub fn untried(&self, tried: &Tried) -> usize {
        if self.rules.up == 1 {
            return 1;
        }
        let members = self.rules.parts.iter().flat_map(|part| &part.members);
        members.filter(|index| !tried.contains(**index as usize)).count()
    }

    /// Whether a further pick could give an endpoint now. Looks at all: for the rare case that something is
    /// given up for it.
    pub fn has_another(&self, tried: &Tried, now: u64) -> bool {
        if self.rules.up == 1 {
            return true;
        }
        let mut members = self.rules.parts.iter().flat_map(|part| &part.members).map(|index| *index as usize);
        members.any(|index| {
            let usable = self.shared[index].usable(&self.rules.endpoints[index].health, now);
            !tried.contains(index) && self.watch.in_play(usable)
        })
    }

    /// What has to be done from time to time, before a pick.
    #[inline]
    fn prepare(&mut self, now: u64) {
        if self.fresh {
            self.fresh = false;
            for (local, shared) in self.locals.iter().zip(&self.shared) {
                if local.newborn.take() && shared.up_since() == 0 {
                    shared.begins_slowly(now);
                }
            }
            self.survey(now);
        }
        self.catch_up();
        if self.shares_loads && now >= self.next_merge {
            self.merge(now);
        }
        if now >= self.next_look && (self.watch.panic || !self.watch.parked.is_empty()) {
            self.next_look = now + LOOK_EVERY;
            if self.watch.panic {
                self.survey(now);
            }
            self.look_at_parked(now);
        }
        if self.watch.panic != self.rules.too_few(self.watch.well) {
            self.survey(now);
        }
    }

    /// Takes in that tries of older groups ended.
    #[inline]
    fn catch_up(&mut self) {
        if self.lineage.has_ended.get() && self.generation == self.lineage.newest.get() {
            let lineage = self.lineage.clone();
            lineage.has_ended.set(false);
            for index in lineage.ended.borrow_mut().drain(..) {
                let index = index as usize;
                if index < self.locals.len() {
                    self.loaded(index);
                    if self.watch.slots[index].standing == Standing::Full {
                        self.enter(index);
                    }
                }
            }
        }
    }

    /// Takes in the others' loads.
    fn merge(&mut self, now: u64) {
        self.next_merge = now + LOOK_EVERY;
        for index in 0..self.shared.len() {
            let others = self.shared[index].others(self.worker);
            let local = &self.locals[index];
            local.latency.heard(others.latency, now);
            if local.others.replace(others.active) != others.active {
                self.reorder(index);
            }
        }
    }

    /// Takes the endpoint that a cookie names, if it may be used.
    fn take_sticky(&mut self, index: usize, tried: &Tried, now: u64) -> bool {
        let Group { rules, shared, locals, chance, watch, .. } = self;
        let Some(endpoint) = rules.endpoints.get(index).filter(|endpoint| !endpoint.down) else {
            return false;
        };
        let usable = shared[index].usable(&endpoint.health, now);
        if tried.contains(index) || !watch.in_play(usable) {
            return false;
        }
        let standing = watch.slots[index].standing;
        let scene = Scene { rules, shared, locals, chance, tried, now };
        let taken = watch.take(&scene, index, usable);
        if standing != watch.slots[index].standing {
            self.leave(index);
        }
        if taken {
            self.began(index);
        }
        taken
    }

    /// Goes through the tiers, and through those without weight after all others.
    fn look_through(&mut self, ask: &Ask<'_>, tried: &Tried) -> Picked {
        for part in 0..self.parts.len() {
            let mut picked = self.look_into(part, ask, tried, false);
            if picked.is_none() && self.watch.saw_slow {
                let full = self.watch.saw_full;
                picked = self.look_into(part, ask, tried, true);
                self.watch.saw_full |= full;
            }
            if let Some(index) = picked {
                self.began(index);
                return Picked::Endpoint(index);
            }
            // A tier of which some are only full keeps its requests: the next is for when it failed.
            if self.watch.saw_full || self.has_full(part, tried) {
                return Picked::Full;
            }
        }
        Picked::None
    }

    /// The pick of one part, as an endpoint index.
    #[inline]
    fn look_into(&mut self, part: usize, ask: &Ask<'_>, tried: &Tried, at_once: bool) -> Option<usize> {
        let Group { rules, shared, locals, parts, watch, chance, .. } = self;
        watch.begin_pass(at_once);
        let members = &rules.parts[part];
        let view = View { rules: members, locals, chance, key: ask.key, now: ask.now };
        let scene = Scene { rules, shared, locals, chance, tried, now: ask.now };
        let part = &mut parts[part];
        let again = !tried.is_empty();
        let forgets = part.forgets() && !again;
        let parked = watch.parked.len();
        let verdict = |number: usize| watch.verdict(&scene, members.members[number] as usize, forgets);
        let number = if again { part.next_again(&view, verdict) } else { part.next(&view, verdict) };
        // What one of the part's turns was found to be without, the other is spared.
        for index in &watch.parked[parked.min(watch.parked.len())..] {
            if let Some(seat) = rules.endpoints[*index as usize].seat {
                part.leave(seat.number as usize);
            }
        }
        number.map(|number| members.members[number] as usize)
    }

    /// Whether an endpoint of a part, not tried yet, is parked since it is full.
    fn has_full(&self, part: usize, tried: &Tried) -> bool {
        self.watch.parked.iter().any(|index| {
            let index = *index as usize;
            let seat = self.rules.endpoints[index].seat;
            self.watch.slots[index].standing == Standing::Full
                && seat.is_some_and(|seat| seat.part as usize == part)
                && !tried.contains(index)
        })
    }

    /// When the first circuit may be tried again.
    fn opens_in(&self, now: u64) -> Option<Duration> {
        let seated = self.rules.parts.iter().flat_map(|part| &part.members);
        let open = seated.filter_map(|index| {
            let index = *index as usize;
            match self.shared[index].usable(&self.rules.endpoints[index].health, now) {
                Usable::Open { until } => Some(until.saturating_sub(now)),
                _ => None,
            }
        });
        open.min().map(Duration::from_micros)
    }

    /// A try at an endpoint begins.
    #[inline]
    fn began(&mut self, index: usize) {
        let active = &self.locals[index].active;
        active.set(active.get() + 1);
        self.lineage.under_way.set(self.lineage.under_way.get() + 1);
        self.loaded(index);
    }

    /// What is under way at an endpoint changed.
    #[inline]
    fn loaded(&mut self, index: usize) {
        if self.shares_loads && !std::mem::replace(&mut self.watch.slots[index].dirty, true) {
            self.dirty.push(index as u32);
        }
        self.reorder(index);
    }

    #[inline]
    fn reorder(&mut self, index: usize) {
        if let Some(seat) = self.rules.endpoints[index].seat {
            self.parts[seat.part as usize].load(seat.number as usize, &self.locals[index]);
        }
    }

    /// Looks at every endpoint.
    fn survey(&mut self, now: u64) {
        let rules = self.rules.clone();
        let seated = || rules.parts.iter().flat_map(|part| &part.members).map(|index| *index as usize);
        for index in seated() {
            let usable = self.shared[index].usable(&rules.endpoints[index].health, now);
            self.watch.set_well(index, usable == Usable::Yes);
        }
        self.watch.panic = rules.too_few(self.watch.well);
        seated().for_each(|index| self.look(index, now));
    }

    /// Looks at those that are parked.
    fn look_at_parked(&mut self, now: u64) {
        // From the end on: one that is unparked is replaced by one that was looked at.
        for at in (0..self.watch.parked.len()).rev() {
            self.look(self.watch.parked[at] as usize, now);
        }
    }

    /// Looks at an endpoint: whether policies may put it forward.
    fn look(&mut self, index: usize, now: u64) {
        let rules = &self.rules.endpoints[index];
        if rules.seat.is_none() {
            return;
        }
        let usable = self.shared[index].usable(&rules.health, now);
        self.watch.set_well(index, usable == Usable::Yes);
        let in_play = self.watch.in_play(usable);
        match self.watch.slots[index].standing {
            Standing::Out if in_play => self.enter(index),
            // Where this worker has all of the connections, no other can have ended one.
            Standing::Full if in_play && self.locals[index].active.get() < rules.max_conns => {
                self.enter(index);
            }
            Standing::In if !in_play => {
                self.watch.park(index, Standing::Out);
                self.leave(index);
            }
            Standing::Full if !in_play => self.watch.park(index, Standing::Out),
            _ => {}
        }
    }

    fn enter(&mut self, index: usize) {
        self.watch.unpark(index);
        if let Some(seat) = self.rules.endpoints[index].seat {
            self.parts[seat.part as usize].enter(seat.number as usize);
        }
    }

    fn leave(&mut self, index: usize) {
        if let Some(seat) = self.rules.endpoints[index].seat {
            self.parts[seat.part as usize].leave(seat.number as usize);
        }
    }

    /// How many endpoints are out.
    fn out(&self) -> usize {
        let seated = self.rules.endpoints.iter().zip(&self.shared).filter(|(rules, _)| rules.seat.is_some());
        seated.filter(|(rules, shared)| shared.is_out(&rules.health)).count()
    }

    /// The part of this number, if it has the same policy over the same endpoints.
    fn same_part(
        &self,
        number: usize,
        kind: Kind,
        now: &PartRules,
        shared: &[Arc<SharedEndpoint>],
    ) -> Option<&Part> {
        let known = self.rules.parts.get(number)?;
        let same = |(a, b): (&u32, &u32)| Arc::ptr_eq(&self.shared[*a as usize], &shared[*b as usize]);
        let is_same = self.rules.kind == kind
            && known.weights == now.weights
            && known.members.iter().zip(&now.members).all(same);
        is_same.then(|| &self.parts[number])
    }
}

/// What is known of these endpoints, from the group before or anew.
fn locals(shared: &[Arc<SharedEndpoint>], before: Option<&Group>) -> Vec<Rc<Local>> {
    let mut known: HashMap<*const SharedEndpoint, &Rc<Local>> = HashMap::new();
    for (endpoint, local) in before.into_iter().flat_map(|before| before.shared.iter().zip(&before.locals)) {
        local.index.set(u32::MAX);
        known.insert(Arc::as_ptr(endpoint), local);
    }
    // Where all are new, none has to go slowly for another.
    let has_known = shared.iter().any(|endpoint| known.contains_key(&Arc::as_ptr(endpoint)));
    let local = |(index, endpoint): (usize, &Arc<SharedEndpoint>)| {
        // Taken once: of two nodes with one address the second counts its own.
        let local = match known.remove(&Arc::as_ptr(endpoint)) {
            Some(local) => local.clone(),
            None => Rc::new(Local { newborn: Cell::new(has_known), ..Local::default() }),
        };
        local.index.set(index as u32);
        local
    };
    shared.iter().enumerate().map(local).collect()
}
