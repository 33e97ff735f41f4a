//! How one of several endpoints is picked: one policy per file.
//!
//! A policy knows its members by number (`0..`) and puts them forward in its order; whoever asks says of
//! each what becomes of it ([`Verdict`]). So a policy knows nothing of health, tries or limits, and those
//! know nothing of rings and heaps. A member that is out for longer leaves the policy, so that it costs later picks
//! nothing, and enters it again when it is back.

use std::cell::Cell;

pub mod chash;
pub mod ewma;
pub mod hash;
pub mod ip_hash;
pub mod least_conn;
pub mod maglev;
pub mod p2c;
pub mod random;
pub mod roundrobin;

/// What becomes of a member that a policy puts forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the pick.
    Take,
    /// Not this time.
    Skip,
    /// Skipped already in this pick: only policies that may put one forward twice hear it.
    Again,
    /// Not before it enters again.
    Leave,
}

/// The chance that picks are made by: SplitMix64, seeded by whoever makes the balance.
#[derive(Clone, Debug, Default)]
pub struct Chance(Cell<u64>);

impl Chance {
    /// The same seed gives the same run.
    pub fn new(seed: u64) -> Chance {
        Chance(Cell::new(seed))
    }

    /// The next 64 bits.
    #[inline]
    pub fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(hash::GOLDEN));
        hash::mix(self.0.get())
    }

    /// A number below `end`; 0 if `end` is 0.
    #[inline]
    pub fn below(&self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// True with this probability.
    pub fn is(&self, probability: f64) -> bool {
        // 53 bits are what an f64 holds exactly.
        ((self.next() >> 11) as f64) < probability * (1_u64 << 53) as f64
    }
}
