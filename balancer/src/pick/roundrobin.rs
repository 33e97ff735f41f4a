//! Smooth weighted round robin, exact: over each cycle every endpoint gets precisely its weight.
//!
//! nginx's algorithm raises and compares the credit of every endpoint at every pick, which is linear
//! in their number. Here each endpoint has a clock instead: it is due `weight` times per
//! cycle, evenly spaced, and the one that is due first is picked. A heap of due times makes that
//! logarithmic. Due times are integers, advanced by whole steps and a carried remainder (as
//! Bresenham draws a line), so that nothing drifts and a cycle is exact however long it runs.
//! Endpoints of equal weight are due at offsets spread over their step: with equal weights
//! this is a plain rotation in the order given.
//!
//! An endpoint that may not be used when it is due loses that turn, and only that: it is not
//! owed anything when it comes back, which would be a burst onto something that just recovered.
//! Over the others the weights stay exact.

/// One cycle on the clock of due times. At least the largest weight, so that a step is never 0, and
/// small enough that 2^22 cycles fit before the times are wound back.
const CYCLE: u64 = 1 << 40;
/// When the clock is past this, all times are wound back by whole cycles.
const REWIND: u64 = 1 << 62;
/// Endpoints passed over one by one; after so many, the first usable one is searched for.
const PASSED_MAX: usize = 8;

/// The state of one balance. Weight 0 is never picked.
#[derive(Clone, Debug, Default)]
pub struct SmoothRoundRobin {
    /// A binary heap, the earliest due on top.
    turns: Vec<Turn>,
    /// Due time of the last pick.
    now: u64,
}

/// An endpoint's clock.
#[derive(Clone, Copy, Debug)]
struct Turn {
    due: u64,
    index: u32,
    weight: u32,
    /// What the due time lacks, in parts of `weight`: the exact time is `due + carry / weight`.
    carry: u64,
}

impl Turn {
    /// The clock of an endpoint whose first turn is `phase` (of [`CYCLE`]) into its first step.
    fn new(index: u32, weight: u32, phase: u64) -> Turn {
        let step = u64::from(weight);
        Turn { due: phase / step, index, weight, carry: phase % step }
    }

    fn advance(&mut self) {
        let weight = u64::from(self.weight);
        self.due += CYCLE / weight;
        self.carry += CYCLE % weight;
        if self.carry >= weight {
            self.carry -= weight;
            self.due += 1;
        }
    }

    /// Moves to the first turn that is not before `now`.
    fn catch_up(&mut self, now: u64) {
        let Some(late) = now.checked_sub(self.due) else { return };
        let weight = u128::from(self.weight);
        // Whole cycles keep the carry; what is left is less than a cycle, so at most `weight` steps.
        self.due += late / CYCLE * CYCLE;
        let late = u128::from(now.saturating_sub(self.due));
        let steps = (late * weight).saturating_sub(u128::from(self.carry)) / u128::from(CYCLE);
        let moved = u128::from(self.carry) + steps * u128::from(CYCLE);
        self.due += (moved / weight) as u64;
        self.carry = (moved % weight) as u64;
        while self.due < now {
            self.advance();
        }
    }

    fn key(&self) -> (u64, u32) {
        (self.due, self.index)
    }
}

impl SmoothRoundRobin {
    /// A balance over endpoints `0..` of these weights. `start` (the worker's index) shifts the
    /// beginning, so that workers do not all begin with the same endpoint.
    pub fn new(weights: impl Iterator<Item = u32>, start: usize) -> Self {
        let weights: Vec<u32> = weights.collect();
        let count = weights.iter().filter(|weight| **weight > 0).count().max(1) as u64;
        let weighted = (0..).zip(weights).filter(|(_, weight)| *weight > 0);
        let turns = (0..count).zip(weighted).map(|(number, (index, weight))| {
            Turn::new(index, weight, CYCLE / count * number + CYCLE / count / 2)
        });
        let mut balance = SmoothRoundRobin { turns: turns.collect(), now: begin(start) };
        let now = balance.now;
        balance.turns.iter_mut().for_each(|turn| turn.catch_up(now));
        (0..balance.turns.len() / 2).rev().for_each(|at| balance.sink(at));
        balance
    }

    /// The next endpoint for which `usable` holds; `None` if there is none.
    ///
    /// O(log n). Where most endpoints are unusable it is O(n): give a balance those that are worth asking.
    pub fn next(&mut self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        if self.now >= REWIND {
            self.rewind();
        }
        let mut passed = 0;
        while passed < PASSED_MAX {
            let now = self.now;
            let top = self.turns.first_mut()?;
            if top.due < now {
                // It was passed over by a search; those turns are gone.
                top.catch_up(now);
                self.sink(0);
                continue;
            }
            if usable(top.index as usize) {
                return Some(self.take(0));
            }
            top.advance();
            self.sink(0);
            passed += 1;
        }
        self.search(usable)
    }

    /// Picks the turn at `at` of the heap.
    fn take(&mut self, at: usize) -> usize {
        let turn = &mut self.turns[at];
        let index = turn.index as usize;
        self.now = turn.due;
        turn.advance();
        self.sink(at);
        index
    }

    /// Looks at all of them.
    fn search(&mut self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let now = self.now;
        let caught_up = |turn: &Turn| {
            let mut turn = *turn;
            turn.catch_up(now);
            turn.key()
        };
        let candidates = self.turns.iter().enumerate().filter(|(_, turn)| usable(turn.index as usize));
        let (at, _) = candidates.min_by_key(|(_, turn)| caught_up(turn))?;
        self.turns[at].catch_up(now);
        Some(self.take(at))
    }

    /// Restores the heap after the turn at `at` became later.
    fn sink(&mut self, mut at: usize) {
        let turns = &mut self.turns[..];
        let Some(&moving) = turns.get(at) else { return };
        loop {
            let left = 2 * at + 1;
            let Some(first) = turns.get(left) else { break };
            let right = turns.get(left + 1).filter(|right| right.key() < first.key());
            let (child, earlier) = match right {
                Some(right) => (left + 1, *right),
                None => (left, *first),
            };
            if moving.key() <= earlier.key() {
                break;
            }
            turns[at] = earlier;
            at = child;
        }
        turns[at] = moving;
    }

    /// Winds all times back by whole cycles.
    fn rewind(&mut self) {
        let cycles = self.now / CYCLE * CYCLE;
        self.now -= cycles;
        for turn in &mut self.turns {
            // One that is late stays late: its exact place in the past does not matter.
            turn.due = turn.due.saturating_sub(cycles);
        }
        (0..self.turns.len() / 2).rev().for_each(|at| self.sink(at));
    }
}

/// Where in the cycle a worker begins: multiples of the golden ratio spread evenly however many there are.
fn begin(start: usize) -> u64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    (start as u64).wrapping_mul(GOLDEN) >> (64 - CYCLE.trailing_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::Random;

    fn check(weights: &str, expected: &str) {
        let weights: Vec<u32> = weights.split(' ').map(|weight| weight.parse().expect("a weight")).collect();
        let mut balance = SmoothRoundRobin::new(weights.into_iter(), 0);
        let picked = (0..expected.len()).map(|_| balance.next(|_| true));
        let letters: String =
            picked.map(|index| index.map_or('-', |index| char::from(b'a' + index as u8))).collect();
        assert_eq!(letters, expected);
    }

    #[test]
    fn sequences() {
        check("1 1 1", "abcabcabc");
        check("7", "aaaa");
        check("2 1", "aabaab");
        check("5 1 1", "aaabacaaaabaca");
        check("0 1 0 1", "bdbd");
        check("0", "--");
        check("3 3 3", "abcabcabcabc");
    }

    #[test]
    fn exact_and_smooth() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let most = [3, 20, 100][random.below(3)];
            let weights: Vec<u32> = (0..1 + random.below(12)).map(|_| random.below(most) as u32).collect();
            let total: u32 = weights.iter().sum();
            let mut balance = SmoothRoundRobin::new(weights.iter().copied(), random.below(8));
            let mut counts = vec![0u32; weights.len()];
            for picked in 1..=3 * total {
                counts[balance.next(|_| true).expect("a weight above 0")] += 1;
                for (count, weight) in counts.iter().zip(&weights) {
                    let due = f64::from(picked) * f64::from(*weight) / f64::from(total);
                    let off = (f64::from(*count) - due).abs();
                    assert!(off < 2.0, "seed {seed} {weights:?} after {picked}: {counts:?}");
                }
                if picked % total == 0 {
                    let exact: Vec<u32> = weights.iter().map(|weight| weight * (picked / total)).collect();
                    assert_eq!(counts, exact, "seed {seed}");
                }
            }
        }
    }

    #[test]
    fn exact_over_those_that_can_be_used() {
        let mut balance = SmoothRoundRobin::new([5, 1, 3, 2].into_iter(), 3);
        let mut counts = [0; 4];
        (0..600).for_each(|_| counts[balance.next(|index| index != 0).expect("three are left")] += 1);
        assert_eq!(counts, [0, 100, 300, 200]);
        // Back again: no burst, the old shares at once.
        let mut counts = [0; 4];
        (0..110).for_each(|_| counts[balance.next(|_| true).expect("all")] += 1);
        assert_eq!(counts, [50, 10, 30, 20]);
        assert_eq!(balance.next(|_| false), None);
    }

    #[test]
    fn most_of_many_unusable() {
        let mut balance = SmoothRoundRobin::new(std::iter::repeat_n(1, 1000), 5);
        let mut counts = [0; 1000];
        (0..300).for_each(|_| counts[balance.next(|index| index >= 997).expect("three")] += 1);
        assert_eq!(counts[997..], [100, 100, 100]);
        let mut counts = [0; 1000];
        (0..1000).for_each(|_| counts[balance.next(|_| true).expect("all")] += 1);
        assert!(counts.iter().all(|count| *count == 1), "{counts:?}");
    }

    #[test]
    fn workers_start_elsewhere() {
        let first = |start| SmoothRoundRobin::new(std::iter::repeat_n(1, 8), start).next(|_| true);
        let firsts: std::collections::BTreeSet<_> = (0..8).map(first).collect();
        assert!(firsts.len() >= 6, "{firsts:?}");
        let mut other = SmoothRoundRobin::new([1, 1, 1].into_iter(), 1);
        let cycle: std::collections::BTreeSet<_> = (0..3).map(|_| other.next(|_| true)).collect();
        assert_eq!(cycle.len(), 3);
    }

    #[test]
    fn runs_for_ever() {
        let weights = [3, 1, u32::MAX];
        let mut balance = SmoothRoundRobin::new([3, 1].into_iter(), 0);
        balance.now = REWIND - 2 * CYCLE;
        let now = balance.now;
        balance.turns.iter_mut().for_each(|turn| turn.catch_up(now));
        let mut counts = [0; 2];
        (0..400).for_each(|_| counts[balance.next(|_| true).expect("two")] += 1);
        assert_eq!(counts, [300, 100]);
        assert!(balance.now < REWIND);
        let mut extreme = SmoothRoundRobin::new(weights.into_iter(), 2);
        (0..100).for_each(|_| assert!(extreme.next(|_| true).is_some()));
        assert_eq!(extreme.next(|index| index == 1), Some(1));
    }
}
