//! Who of an upstream's endpoints may be picked just now, as one worker saw it last.
//!
//! What counts is the endpoint's own word ([`SharedEndpoint::usable`]), asked for the one that a policy
//! puts forward: nothing here lets a request go to an endpoint that is out. What stands here only spares
//! picks the others: those seen out or full are parked, and looked at again at most every five milliseconds.

use std::rc::Rc;
use std::sync::Arc;

use super::local::Local;
use super::rules::{EndpointRules, Rules};
use super::tried::Tried;
use crate::endpoint::{SharedEndpoint, Usable};
use crate::pick::{Chance, Verdict};

/// The least probability with which an endpoint is taken that has just come back: it has to be asked to
/// get warm.
const SLOW_START_LEAST: f64 = 0.05;
const NOWHERE: u32 = u32::MAX;

/// How one worker sees the endpoints of an upstream.
#[derive(Default)]
pub(super) struct Watch {
    pub slots: Vec<Slot>,
    /// Those that are not put forward, in no order.
    pub parked: Vec<u32>,
    /// Endpoints with a seat that are well.
    pub well: usize,
    /// Too few are: all are used.
    pub panic: bool,
    /// Those that are starting slowly are taken like others: there is no other.
    pub at_once: bool,
    /// Numbers the passes: an endpoint was refused in the one that its slot names.
    pass: u64,
    /// Whether one was refused in this pass since it is full, or starting slowly.
    pub saw_full: bool,
    pub saw_slow: bool,
}

/// An endpoint.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    refused: u64,
    parked_at: u32,
    pub standing: Standing,
    well: bool,
    /// Its load has to be published.
    pub dirty: bool,
}

/// Whether policies put an endpoint forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    In,
    /// It rests, or its circuit is open.
    Out,
    /// It is at `max_conns`.
    Full,
}

/// What is asked while one request's endpoint is picked.
pub(super) struct Scene<'a> {
    pub rules: &'a Rules,
    pub shared: &'a [Arc<SharedEndpoint>],
    pub locals: &'a [Rc<Local>],
    pub chance: &'a Chance,
    pub tried: &'a Tried,
    pub now: u64,
}

impl Watch {
    pub fn new(endpoints: usize) -> Watch {
        let slot = Slot { refused: 0, parked_at: NOWHERE, standing: Standing::In, well: false, dirty: false };
        Watch { slots: vec![slot; endpoints], parked: Vec::with_capacity(endpoints), ..Watch::default() }
    }

    /// A new pass over some endpoints begins.
    pub fn begin_pass(&mut self, at_once: bool) {
        self.pass += 1;
        self.at_once = at_once;
        self.saw_full = false;
        self.saw_slow = false;
    }

    /// What becomes of an endpoint that a policy puts forward; one that is taken has its connection and, after a
    /// rest, its trial. `forgets`: whether the policy will not put it forward again when it is to leave.
    #[inline]
    pub fn verdict(&mut self, scene: &Scene<'_>, index: usize, forgets: bool) -> Verdict {
        if self.slots[index].refused == self.pass {
            return Verdict::Again;
        }
        let verdict = self.judge(scene, index, forgets);
        if verdict != Verdict::Take {
            self.slots[index].refused = self.pass;
        }
        verdict
    }

    #[inline]
    fn judge(&mut self, scene: &Scene<'_>, index: usize, forgets: bool) -> Verdict {
        if scene.tried.contains(index) || self.slots[index].standing != Standing::In {
            return Verdict::Skip;
        }
        let rules = &scene.rules.endpoints[index];
        let usable = scene.shared[index].usable(&rules.health, scene.now);
        self.set_well(index, usable == Usable::Yes);
        if !self.in_play(usable) {
            self.park(index, Standing::Out);
            return Verdict::Leave;
        }
        if rules.slow_start > 0 && !self.at_once && starts_slowly(scene, rules, index) {
            self.saw_slow = true;
            return Verdict::Skip;
        }
        if !self.take(scene, index, usable) {
            return match self.slots[index].standing {
                Standing::In if !forgets => Verdict::Skip,
                Standing::In => {
                    // It is full: a policy that forgets it is spared it until a try there ends.
                    self.park(index, Standing::Full);
                    Verdict::Leave
                }
                _ => Verdict::Leave,
            };
        }
        Verdict::Take
    }

    /// Takes a connection and, after a rest, the trial of an endpoint in play.
    #[inline]
    pub fn take(&mut self, scene: &Scene<'_>, index: usize, usable: Usable) -> bool {
        let rules = &scene.rules.endpoints[index];
        let shared = &scene.shared[index];
        if rules.max_conns > 0 && !shared.take_connection(rules.max_conns) {
            self.saw_full = true;
            return false;
        }
        if usable != Usable::Trial {
            return true;
        }
        if shared.claim_trial(&rules.health, scene.now) {
            let local = &scene.locals[index];
            local.trials.set(local.trials.get() + 1);
            local.trial_at.set(scene.now);
            return true;
        }
        // Another worker has it. In a panic all rests are overruled, but a circuit never is.
        let usable = shared.usable(&rules.health, scene.now);
        if self.panic && matches!(usable, Usable::Resting | Usable::Yes) {
            return true;
        }
        if rules.max_conns > 0 {
            shared.release_connection();
        }
        if rules.seat.is_some() && self.slots[index].standing == Standing::In {
            self.park(index, Standing::Out);
        }
        false
    }

    /// Whether an endpoint of which this is said may be picked.
    pub fn in_play(&self, usable: Usable) -> bool {
        match usable {
            Usable::Yes | Usable::Trial => true,
            Usable::Resting => self.panic,
            Usable::Open { .. } => false,
        }
    }

    /// Notes whether an endpoint with a seat is well.
    #[inline]
    pub fn set_well(&mut self, index: usize, well: bool) {
        if std::mem::replace(&mut self.slots[index].well, well) != well {
            match well {
                true => self.well += 1,
                false => self.well -= 1,
            }
        }
    }

    /// An endpoint is put forward no more.
    pub fn park(&mut self, index: usize, standing: Standing) {
        let slot = &mut self.slots[index];
        if slot.parked_at == NOWHERE {
            slot.parked_at = self.parked.len() as u32;
            self.parked.push(index as u32);
        }
        slot.standing = standing;
    }

    /// An endpoint is put forward again.
    pub fn unpark(&mut self, index: usize) {
        let at = std::mem::replace(&mut self.slots[index].parked_at, NOWHERE);
        self.slots[index].standing = Standing::In;
        if at == NOWHERE {
            return;
        }
        self.parked.swap_remove(at as usize);
        if let Some(moved) = self.parked.get(at as usize) {
            self.slots[*moved as usize].parked_at = at;
        }
    }
}

/// Whether an endpoint that is starting slowly is passed over this time. The probability to take it is
/// how far it has come.
fn starts_slowly(scene: &Scene<'_>, rules: &EndpointRules, index: usize) -> bool {
    let since = scene.shared[index].up_since();
    let age = scene.now.saturating_sub(since);
    if since == 0 || age >= rules.slow_start {
        return false;
    }
    let progress = age as f64 / rules.slow_start as f64;
    !scene.chance.is(progress.max(SLOW_START_LEAST))
}
