//! The fewest requests under way for its weight: exactly, over all endpoints.
//!
//! A heap by load, whose places are known by number: an endpoint whose load changed is moved to its new place, in
//! O(log n). Among equals the one that is due first in a weighted round robin goes, so that an upstream
//! without load is used evenly, as nginx does it, and not from the top of the list.
//!
//! Whose requests count (own and others') is the caller's: see [`LeastConn::load`].

/// A step of a weight of 1 in the round robin among equals.
const STEP: u64 = 1 << 32;
/// Where an endpoint stands that is not in the heap.
const NOWHERE: u32 = u32::MAX;
/// Requests beyond this count as this many: what a load times 2^40 has room for.
const LOAD_MAX: u32 = (1 << 24) - 1;

use super::Verdict;

/// The state of one balance. All weights are above 0.
#[derive(Clone, Debug, Default)]
pub struct LeastConn {
    /// A binary heap, the least loaded on top.
    heap: Vec<Entry>,
    members: Vec<Member>,
    /// Due time of the last pick.
    now: u64,
    aside: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Load by weight: exact, since two fractions of weights up to a million differ by more than 2^-40.
    share: u64,
    due: u64,
    number: u32,
}

impl Entry {
    fn key(&self) -> (u64, u64) {
        (self.share, self.due)
    }
}

#[derive(Clone, Copy, Debug)]
struct Member {
    place: u32,
    weight: u32,
    load: u32,
    due: u64,
}

impl LeastConn {
    /// A balance over endpoints `0..` of these weights without load. `start` (the worker's index) is where the round
    /// robin among equals begins.
    pub fn new(weights: impl Iterator<Item = u32>, start: usize) -> LeastConn {
        let mut members: Vec<Member> =
            weights.map(|weight| Member { place: NOWHERE, weight: weight.max(1), load: 0, due: 0 }).collect();
        let count = members.len().max(1) as u64;
        for (number, member) in members.iter_mut().enumerate() {
            // The middle of its part of the first step, in the order given, from `start` on.
            let turn = (number as u64 + count - start as u64 % count) % count;
            member.due = STEP / u64::from(member.weight) / count * turn + STEP / u64::from(member.weight) / 2;
        }
        let count = members.len();
        let heap = Vec::with_capacity(count);
        let mut balance = LeastConn { heap, members, now: 0, aside: Vec::with_capacity(count) };
        (0..count).for_each(|number| balance.enter(number));
        balance
    }

    /// The least loaded that is taken.
    pub fn next(&mut self, mut verdict: impl FnMut(usize) -> Verdict) -> Option<usize> {
        let picked = loop {
            let Some(top) = self.heap.first() else { break None };
            let number = top.number as usize;
            match verdict(number) {
                Verdict::Take => break Some(number),
                Verdict::Skip | Verdict::Again => {
                    // Among equals it loses its turn, as in a round robin.
                    self.turn(number);
                    self.aside.push(number as u32);
                    self.leave(number);
                }
                Verdict::Leave => self.leave(number),
            }
        };
        while let Some(number) = self.aside.pop() {
            self.enter(number as usize);
        }
        if let Some(number) = picked {
            self.now = self.now.max(self.members[number].due);
            self.turn(number);
            self.place(number);
        }
        picked
    }

    /// A member has had its turn among equals. One that was busy for long is not owed the turns that it missed.
    fn turn(&mut self, number: usize) {
        let member = &mut self.members[number];
        member.due = self.now.max(member.due) + STEP / u64::from(member.weight);
    }

    /// So many requests are under way at an endpoint.
    pub fn load(&mut self, number: usize, load: u32) {
        if self.members[number].load != load {
            self.members[number].load = load;
            self.place(number);
        }
    }

    /// An endpoint may be picked (again).
    pub fn enter(&mut self, number: usize) {
        if self.members[number].place == NOWHERE {
            self.members[number].place = self.heap.len() as u32;
            self.heap.push(Entry { share: 0, due: 0, number: number as u32 });
            self.place(number);
        }
    }

    /// An endpoint is not picked any more.
    pub fn leave(&mut self, number: usize) {
        let place = self.members[number].place;
        if place == NOWHERE {
            return;
        }
        self.members[number].place = NOWHERE;
        self.heap.swap_remove(place as usize);
        if let Some(moved) = self.heap.get(place as usize) {
            let moved = moved.number as usize;
            self.members[moved].place = place;
            self.place(moved);
        }
    }

    /// Moves an endpoint to where its key belongs.
    fn place(&mut self, number: usize) {
        let member = self.members[number];
        if member.place == NOWHERE {
            return;
        }
        let share = (u64::from(member.load.min(LOAD_MAX)) << 40) / u64::from(member.weight);
        let moving = Entry { share, due: member.due, number: number as u32 };
        let at = self.rise(member.place as usize, moving);
        self.sink(at, moving);
    }

    /// Moves the hole at `at` up for an entry; returns where it is then.
    fn rise(&mut self, mut at: usize, moving: Entry) -> usize {
        while at > 0 {
            let parent = (at - 1) / 2;
            let above = self.heap[parent];
            if above.key() <= moving.key() {
                break;
            }
            self.put(at, above);
            at = parent;
        }
        at
    }

    /// Moves the hole at `at` down and puts the entry there.
    fn sink(&mut self, mut at: usize, moving: Entry) {
        loop {
            let left = 2 * at + 1;
            let Some(first) = self.heap.get(left) else { break };
            let right = self.heap.get(left + 1).filter(|right| right.key() < first.key());
            let (child, least) = right.map_or((left, *first), |right| (left + 1, *right));
            if moving.key() <= least.key() {
                break;
            }
            self.put(at, least);
            at = child;
        }
        self.put(at, moving);
    }

    fn put(&mut self, at: usize, entry: Entry) {
        self.heap[at] = entry;
        self.members[entry.number as usize].place = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::Random;

    /// `"a b !a c"`: what is picked one after another, each under way until `!` ends it.
    fn check(weights: &str, script: &str) {
        let weights: Vec<u32> = weights.split(' ').map(|weight| weight.parse().expect("a weight")).collect();
        let mut loads = vec![0; weights.len()];
        let mut balance = LeastConn::new(weights.into_iter(), 0);
        for step in script.split(' ') {
            let number = usize::from(step.as_bytes()[step.len() - 1] - b'a');
            if step.starts_with('!') {
                loads[number] -= 1;
            } else {
                assert_eq!(balance.next(|_| Verdict::Take), Some(number), "{script}: {step}");
                loads[number] += 1;
            }
            balance.load(number, loads[number]);
        }
    }

    #[test]
    fn least_loaded_first_and_in_turn_among_equals() {
        check("1 1 1", "a b c a b c");
        check("1 1 1", "a !a b !b c !c a");
        check("1 1 1", "a b c !b b !c !a a c");
        check("2 1", "a b a a b a");
        check("2 1", "a !a a !a b !b a !a a !a b");
        check("1000000 1", "a b a a a a");
    }

    #[test]
    fn the_minimum_always() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let count = 1 + random.below(30);
            let weights: Vec<u32> = (0..count).map(|_| 1 + random.below(4) as u32).collect();
            let mut loads = vec![0_u32; count];
            let mut out = vec![false; count];
            let mut balance = LeastConn::new(weights.iter().copied(), random.below(5));
            for _ in 0..500 {
                let number = random.below(count);
                match random.below(8) {
                    0 => {
                        out[number] = true;
                        balance.leave(number);
                    }
                    1 => {
                        out[number] = false;
                        balance.enter(number);
                    }
                    2..=4 if loads[number] > 0 => {
                        loads[number] -= 1;
                        balance.load(number, loads[number]);
                    }
                    _ => {
                        let refused = random.below(count);
                        let share = |number: usize| f64::from(loads[number]) / f64::from(weights[number]);
                        let usable = |number: &usize| !out[*number] && *number != refused;
                        let least = (0..count).filter(usable).map(share).fold(f64::MAX, f64::min);
                        let verdict = |number| match number == refused {
                            true => Verdict::Skip,
                            false => Verdict::Take,
                        };
                        match balance.next(verdict) {
                            Some(picked) => {
                                assert!(usable(&picked) && share(picked) == least, "seed {seed}");
                                loads[picked] += 1;
                                balance.load(picked, loads[picked]);
                            }
                            None => assert_eq!((0..count).filter(usable).count(), 0, "seed {seed}"),
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn even_without_load() {
        let mut balance = LeastConn::new([3, 2, 1].into_iter(), 1);
        let mut counts = [0; 3];
        (0..60).for_each(|_| counts[balance.next(|_| Verdict::Take).expect("all")] += 1);
        assert_eq!(counts, [30, 20, 10]);
    }
}
