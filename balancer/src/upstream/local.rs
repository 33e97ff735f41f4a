//! What one worker knows of one endpoint: how much is under way there and how soon it answers.
//!
//! It outlives the group that made it: a group that follows another one takes these over by `Rc`, so tries
//! that began before a reload and end after it are counted right in both. Those that end in the old
//! group are told to the newest by way of [`Lineage::ended`], since its heap is ordered by them.

use std::cell::{Cell, RefCell};

use crate::pick::ewma::Latency;

/// What one worker knows of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Local {
    /// This worker's tries under way.
    pub active: Cell<u32>,
    /// The other workers', as they were published last.
    pub others: Cell<u32>,
    pub latency: Latency,
    /// How many of `active` are trials after a rest, and when the last of them began.
    pub trials: Cell<u32>,
    pub trial_at: Cell<u64>,
    /// Its index in the newest group that has it.
    pub index: Cell<u32>,
    /// New in a later plan: it starts slowly from the first pick on.
    pub newborn: Cell<bool>,
}

impl Local {
    /// Requests under way over all workers.
    pub fn load(&self) -> u32 {
        self.active.get().saturating_add(self.others.get())
    }

    /// Whether a try that ends now was a trial. `began`: its beginning as far as it is known, which is not before
    /// its pick. A try that began before the last trial did is none, unless none but trials are left.
    pub fn ends_trial(&self, began: u64) -> bool {
        let trials = self.trials.get();
        let is_trial = trials > 0 && (began >= self.trial_at.get() || trials > self.active.get());
        if is_trial {
            self.trials.set(trials - 1);
        }
        is_trial
    }
}

/// What the groups of one upstream on one worker share, one after another.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    /// The number of the newest group.
    pub newest: Cell<u64>,
    /// Endpoints, by index in the newest group, at which tries of older groups ended.
    pub ended: RefCell<Vec<u32>>,
    /// Whether there are any.
    pub has_ended: Cell<bool>,
    /// Tries under way at any endpoint, begun in any group.
    pub under_way: Cell<u32>,
}
