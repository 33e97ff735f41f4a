//! The states of all keys, shared by all cores: counters and breakers.
//!
//! Sharded by the key, each shard behind a lock that is held for one look-up and
//! one addition, some 50 ns: two cores meet only when they serve keys of one shard
//! in the same moment. An atomic per key would still need a shared table that
//! grows and evicts, whose readers have to be held off just the same.
//!
//! A key is kept as a 128-bit fingerprint under a secret that is new in every
//! process, not as its bytes: entries have one small size however long a header
//! value a client sends, and nobody can aim at a collision. By chance alone two of
//! 2^19 keys meet once in 2^90 tables.

use std::collections::hash_map::Entry;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A power of two, far more than cores, so that two seldom meet.
pub(super) const SHARDS: usize = 64;
/// Slots looked at to find a victim: bounds the time under the lock.
const VICTIM_SCAN: usize = 16;

/// States by key.
pub(super) struct Table<S> {
    shards: Box<[Shard<S>]>,
    /// Keys that are held, so that an empty table is seen without a lock.
    held: AtomicUsize,
}

/// On a cache line of its own: a neighbour's lock would else slow this one down.
#[repr(align(128))]
struct Shard<S>(Mutex<Slots<S>>);

struct Slots<S> {
    places: HashMap<u128, u32, BuildHasherDefault<Fingerprint>>,
    slots: Vec<Slot<S>>,
    keys_max: usize,
    /// Where the next search for a victim begins.
    hand: usize,
}

struct Slot<S> {
    key: u128,
    state: S,
    touched_millis: u64,
    expires_millis: u64,
}

impl<S: Default> Table<S> {
    /// No keys yet, and never more than `keys_max`, a multiple of [`SHARDS`].
    pub(super) fn new(keys_max: usize) -> Table<S> {
        let shard = |_| {
            let places = HashMap::default();
            let slots = Slots { places, slots: Vec::new(), keys_max: keys_max / SHARDS, hand: 0 };
            Shard(Mutex::new(slots))
        };
        Table { shards: (0..SHARDS).map(shard).collect(), held: AtomicUsize::new(0) }
    }

    /// Changes the state of `key`, a new one if it has none. `change` gives from when on
    /// the state says nothing that a new one would not say, beside its result.
    pub(super) fn change<R>(&self, key: u128, now_millis: u64, change: impl FnOnce(&mut S) -> (R, u64)) -> R {
        let mut slots = self.lock(key);
        let before = slots.slots.len();
        let slot = slots.slot(key, now_millis);
        slot.touched_millis = now_millis;
        let (result, expires_millis) = change(&mut slot.state);
        slot.expires_millis = expires_millis;
        self.held.fetch_add(slots.slots.len() - before, Ordering::Relaxed);
        result
    }

    /// Looks at the state of `key`, if it has one.
    pub(super) fn look<R>(&self, key: u128, look: impl FnOnce(&S) -> R) -> Option<R> {
        let slots = self.lock(key);
        let place = *slots.places.get(&key)?;
        Some(look(&slots.slots[place as usize].state))
    }

    /// Changes the state of `key`, if it has one, and forgets it where `keep` says no.
    pub(super) fn change_or_forget(&self, key: u128, keep: impl FnOnce(&mut S) -> bool) {
        let mut slots = self.lock(key);
        let Some(place) = slots.places.get(&key).map(|place| *place as usize) else { return };
        if keep(&mut slots.slots[place].state) {
            return;
        }
        slots.forget(key, place);
        self.held.fetch_sub(1, Ordering::Relaxed);
    }

    /// Keys that are held now.
    pub(super) fn len(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn lock(&self, key: u128) -> MutexGuard<'_, Slots<S>> {
        // The high bits: the map inside the shard takes the low ones.
        let shard = &self.shards[(key >> 96) as usize % SHARDS];
        shard.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Default> Slots<S> {
    /// The slot of `key`, a new one if it has none.
    fn slot(&mut self, key: u128, now_millis: u64) -> &mut Slot<S> {
        let full = self.slots.len() >= self.keys_max;
        let place = match self.places.entry(key) {
            Entry::Occupied(place) => *place.get() as usize,
            Entry::Vacant(vacant) if !full => {
                vacant.insert(self.slots.len() as u32);
                self.slots.push(Slot::new(key));
                self.slots.len() - 1
            }
            Entry::Vacant(_) => self.replace(key, now_millis),
        };
        &mut self.slots[place]
    }

    /// Gives a victim's slot to `key`.
    fn replace(&mut self, key: u128, now_millis: u64) -> usize {
        let place = self.victim(now_millis);
        self.places.remove(&self.slots[place].key);
        self.places.insert(key, place as u32);
        self.slots[place] = Slot::new(key);
        place
    }

    /// Takes a key out; the last slot moves into its place.
    fn forget(&mut self, key: u128, place: usize) {
        self.places.remove(&key);
        self.slots.swap_remove(place);
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(moved.key, place as u32);
        }
    }

    /// One that has expired, else the one that was touched longest ago, among the
    /// next few: a search through all would hold the lock for too long.
    fn victim(&mut self, now_millis: u64) -> usize {
        let count = self.slots.len();
        let first = self.hand;
        self.hand = (first + VICTIM_SCAN) % count;
        (0..VICTIM_SCAN.min(count))
            .map(|step| (first + step) % count)
            .min_by_key(|&place| {
                let slot = &self.slots[place];
                (slot.expires_millis > now_millis, slot.touched_millis)
            })
            .expect("a full shard has slots")
    }
}

impl<S: Default> Slot<S> {
    fn new(key: u128) -> Slot<S> {
        Slot { key, state: S::default(), touched_millis: 0, expires_millis: 0 }
    }
}

/// The fingerprint is a hash already: its low half is taken as it is.
#[derive(Default)]
struct Fingerprint(u64);

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::{Counter, Decision, Quota, Window};
    use super::*;

    const QUOTA: Quota = Quota { limit: 1, window_millis: 1000, window: Window::Fixed };

    fn take(table: &Table<Counter>, key: u128, now: u64) -> Decision {
        table.change(key, now, |counter| (counter.take(now, &QUOTA), counter.expires_millis(QUOTA.window)))
    }

    /// Keys `+k` pass and `-k` are rejected, at the time before the colon, in one
    /// shard of three keys; `xk` is forgotten.
    fn check(steps: &str) {
        let table = Table::new(3 * SHARDS);
        for step in steps.split(", ") {
            let (now, key) = step.split_once(':').expect("time:key");
            let (want, key) = key.split_at(1);
            let key = key.parse().expect("a key");
            if want == "x" {
                table.change_or_forget(key, |_| false);
                continue;
            }
            let decision = take(&table, key, now.parse().expect("a time"));
            assert_eq!(decision.allowed, want == "+", "{step} of {steps}");
        }
    }

    #[test]
    fn keys_are_apart_and_bounded() {
        check("1:+1, 1:+2, 1:+3, 2:-1, 2:-2, 2:-3");
        check("1:+1, 2:+2, 3:+3, 4:+4, 5:-2, 5:-3, 5:-4"); // 1 was the oldest
        check("1:+1, 2:+2, 3:+3, 4:-1, 5:+4, 6:-1, 7:+2"); // 1 was touched again, so 2 went
        check("1:+1, 900:+2, 901:+3, 950:-1, 1001:+4, 1002:-2, 1002:-3"); // 1 was touched but had expired
        check("1:+1, 1:+2, 1:+3, 2:x1, 2:+1, 2:-2, 2:-3"); // the last took the place of the forgotten
        check("1:+1, 1:+2, 2:x2, 2:x2, 2:x9, 2:-1, 2:+2");
    }

    #[test]
    fn a_flood_of_keys_stays_within_the_bound() {
        let table = Table::new(8 * SHARDS);
        for key in 0..10_000_u128 {
            take(&table, key << 96 | key, 1);
        }
        assert_eq!(table.len(), 8 * SHARDS);
        let places: usize = table.shards.iter().map(|shard| shard.0.lock().unwrap().places.len()).sum();
        assert_eq!(places, table.len());
        for key in 0..10_000_u128 {
            table.change_or_forget(key << 96 | key, |_| key % 2 == 0);
        }
        let even = |key: &u128| table.look(key << 96 | key, |_| ()).is_some();
        assert_eq!((0..10_000).filter(even).count(), table.len());
        assert!(
            (0..10_000).step_by(2).any(|key| even(&key)) && !(1..10_000).step_by(2).any(|key| even(&key))
        );
    }
}
