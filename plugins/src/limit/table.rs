//! The counters of all keys, shared by all cores.
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
use std::sync::{Mutex, PoisonError};

use super::window::{Counter, Decision, Quota};

/// A power of two, far more than cores, so that two seldom meet.
const SHARDS: usize = 64;
/// Keys over all shards: at about 100 bytes each, 50 MiB in the worst case.
pub(super) const KEYS_MAX: usize = 1 << 19;
const KEYS_PER_SHARD_MAX: usize = KEYS_MAX / SHARDS;
/// Slots looked at to find a victim: bounds the time under the lock.
const VICTIM_SCAN: usize = 16;

/// Counters by key.
pub(super) struct Table {
    shards: Box<[Shard]>,
}

/// On a cache line of its own: a neighbour's lock would else slow this one down.
#[repr(align(128))]
struct Shard(Mutex<Slots>);

struct Slots {
    places: HashMap<u128, u32, BuildHasherDefault<Fingerprint>>,
    slots: Vec<Slot>,
    keys_max: usize,
    /// Where the next search for a victim begins.
    hand: usize,
}

struct Slot {
    key: u128,
    counter: Counter,
    touched_millis: u64,
    expires_millis: u64,
}

impl Table {
    pub(super) fn new() -> Table {
        Table::with_keys_max(KEYS_PER_SHARD_MAX)
    }

    fn with_keys_max(keys_max: usize) -> Table {
        let shard = |_| {
            let places = HashMap::default();
            Shard(Mutex::new(Slots { places, slots: Vec::new(), keys_max, hand: 0 }))
        };
        Table { shards: (0..SHARDS).map(shard).collect() }
    }

    /// Counts one request of `key`.
    pub(super) fn take(&self, key: u128, now_millis: u64, quota: &Quota) -> Decision {
        // The high bits: the map inside the shard takes the low ones.
        let shard = &self.shards[(key >> 96) as usize % SHARDS];
        let mut slots = shard.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.slot(key, now_millis);
        slot.touched_millis = now_millis;
        let decision = slot.counter.take(now_millis, quota);
        slot.expires_millis = slot.counter.expires_millis(quota.window);
        decision
    }

    /// Keys that are held now.
    pub(super) fn len(&self) -> usize {
        let held = |shard: &Shard| shard.0.lock().unwrap_or_else(PoisonError::into_inner).slots.len();
        self.shards.iter().map(held).sum()
    }
}

impl Slots {
    /// The slot of `key`, a new one if it has none.
    fn slot(&mut self, key: u128, now_millis: u64) -> &mut Slot {
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

impl Slot {
    fn new(key: u128) -> Slot {
        Slot { key, counter: Counter::default(), touched_millis: 0, expires_millis: 0 }
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
    use super::super::window::Window;
    use super::*;

    const QUOTA: Quota = Quota { limit: 1, window_millis: 1000, window: Window::Fixed };

    /// Keys `+k` pass and `-k` are rejected, at the time before the colon, in one
    /// shard of three keys.
    fn check(steps: &str) {
        let table = Table::with_keys_max(3);
        for step in steps.split(", ") {
            let (now, key) = step.split_once(':').expect("time:key");
            let (want, key) = key.split_at(1);
            let decision = table.take(key.parse().expect("a key"), now.parse().expect("a time"), &QUOTA);
            assert_eq!(decision.allowed, want == "+", "{step} of {steps}");
        }
    }

    #[test]
    fn keys_are_apart_and_bounded() {
        check("1:+1, 1:+2, 1:+3, 2:-1, 2:-2, 2:-3");
        check("1:+1, 2:+2, 3:+3, 4:+4, 5:-2, 5:-3, 5:-4"); // 1 was the oldest
        check("1:+1, 2:+2, 3:+3, 4:-1, 5:+4, 6:-1, 7:+2"); // 1 was touched again, so 2 went
        check("1:+1, 900:+2, 901:+3, 950:-1, 1001:+4, 1002:-2, 1002:-3"); // 1 was touched but had expired
    }

    #[test]
    fn a_flood_of_keys_stays_within_the_bound() {
        let table = Table::with_keys_max(8);
        for key in 0..10_000_u128 {
            table.take(key << 96 | key, 1, &QUOTA);
        }
        assert_eq!(table.len(), 8 * SHARDS);
        let places: usize = table.shards.iter().map(|shard| shard.0.lock().unwrap().places.len()).sum();
        assert_eq!(places, table.len());
    }
}
