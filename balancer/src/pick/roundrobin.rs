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

use super::Verdict;

/// One cycle on the clock of due times. At least the largest weight, so that a step is never 0, and
/// small enough that 2^22 cycles fit before the times are wound back.
const CYCLE: u64 = 1 << 40;
/// When the clock is past this, all times are wound back by whole cycles.
const REWIND: u64 = 1 << 62;

/// The state of one balance. Weight 0 is never picked.
#[derive(Clone, Debug, Default)]
pub struct SmoothRoundRobin {
    /// A binary heap, the earliest due on top.
    turns: Vec<Turn>,
    clocks: Vec<Clock>,
    /// Due time of the last pick.
    now: u64,
    /// Taken off the heap for the pick that is being made.
    aside: Vec<u32>,
}

/// An endpoint's place in the heap: the due time above its number, so that one comparison without a branch orders
/// both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn(u128);

impl Turn {
    fn new(due: u64, index: usize) -> Turn {
        Turn(u128::from(due) << 64 | index as u128)
    }

    fn index(self) -> usize {
        self.0 as u64 as usize
    }
}

/// An endpoint's clock.
#[derive(Clone, Copy, Debug)]
struct Clock {
    due: u64,
    /// What the due time lacks, in parts of `weight`: the exact time is `due + carry / weight`.
    carry: u64,
    weight: u32,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// In the heap.
    In,
    /// In the heap, to be taken off when it comes to the top.
    Leaving,
    /// Not in the heap.
    Out,
}

impl Clock {
    /// The clock of an endpoint whose first turn is `phase` (of [`CYCLE`]) into its first step.
    fn new(weight: u32, phase: u64) -> Clock {
        let step = u64::from(weight.max(1));
        Clock { due: phase / step, weight, carry: phase % step, standing: Standing::Out }
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
}

impl SmoothRoundRobin {
    /// A balance over endpoints `0..` of these weights. `start` (the worker's index) shifts the
    /// beginning, so that workers do not all begin with the same endpoint.
    pub fn new(weights: impl Iterator<Item = u32>, start: usize) -> Self {
        let weights: Vec<u32> = weights.collect();
        let count = weights.iter().filter(|weight| **weight > 0).count().max(1) as u64;
        let mut number = 0;
        let clock = |weight: &u32| {
            let phase = CYCLE / count * number + CYCLE / count / 2;
            number += u64::from(*weight > 0);
            Clock::new(*weight, phase)
        };
        let clocks: Vec<Clock> = weights.iter().map(clock).collect();
        let turns = Vec::with_capacity(clocks.len());
        let aside = Vec::with_capacity(clocks.len());
        let mut balance = SmoothRoundRobin { turns, clocks, now: begin(start), aside };
        (0..weights.len()).for_each(|index| balance.enter(index));
        balance
    }

    /// The next endpoint that is taken; `None` if there is none. O(log n) for each that is put forward.
    pub fn next(&mut self, mut verdict: impl FnMut(usize) -> Verdict) -> Option<usize> {
        if self.now >= REWIND {
            self.rewind();
        }
        let picked = loop {
            let Some(top) = self.turns.first() else { break None };
            let index = top.index();
            if self.clocks[index].standing == Standing::Leaving {
                self.drop_top();
                continue;
            }
            match verdict(index) {
                Verdict::Take => {
                    let clock = &mut self.clocks[index];
                    self.now = clock.due;
                    clock.advance();
                    let turn = Turn::new(clock.due, index);
                    self.sink(turn);
                    break Some(index);
                }
                Verdict::Skip | Verdict::Again => {
                    self.clocks[index].advance();
                    self.aside.push(index as u32);
                }
                Verdict::Leave => {}
            }
            self.drop_top();
        };
        while let Some(index) = self.aside.pop() {
            self.enter(index as usize);
        }
        picked
    }

    /// An endpoint may be picked again: from its next turn on.
    pub fn enter(&mut self, index: usize) {
        let now = self.now;
        let clock = &mut self.clocks[index];
        if clock.weight == 0 {
            return;
        }
        if std::mem::replace(&mut clock.standing, Standing::In) == Standing::Out {
            clock.catch_up(now);
            let turn = Turn::new(clock.due, index);
            self.turns.push(turn);
            self.rise(turn);
        }
    }

    /// An endpoint is not picked until it enters again.
    pub fn leave(&mut self, index: usize) {
        let standing = &mut self.clocks[index].standing;
        if *standing == Standing::In {
            *standing = Standing::Leaving;
        }
    }

    fn drop_top(&mut self) {
        let top = self.turns.swap_remove(0);
        self.clocks[top.index()].standing = Standing::Out;
        if let Some(moved) = self.turns.first() {
            self.sink(*moved);
        }
    }

    /// Puts a turn where it belongs, from the last place up.
    fn rise(&mut self, moving: Turn) {
        let mut at = self.turns.len() - 1;
        while at > 0 && moving < self.turns[(at - 1) / 2] {
            self.turns[at] = self.turns[(at - 1) / 2];
            at = (at - 1) / 2;
        }
        self.turns[at] = moving;
    }

    /// Puts a turn where it belongs, from the top down.
    fn sink(&mut self, moving: Turn) {
        let turns = &mut self.turns[..];
        let mut at = 0;
        loop {
            let left = 2 * at + 1;
            let Some(first) = turns.get(left) else { break };
            let right = turns.get(left + 1).unwrap_or(first);
            // Which of two children is earlier cannot be foretold: no branch.
            let child = left + usize::from(right < first);
            if moving <= turns[child] {
                break;
            }
            turns[at] = turns[child];
            at = child;
        }
        turns[at] = moving;
    }

    /// Winds all times back by whole cycles. Turns in the heap are not before `now`: their order stays. Those of
    /// endpoints that are out may be: their exact place in the past does not matter.
    fn rewind(&mut self) {
        let cycles = self.now / CYCLE * CYCLE;
        self.now -= cycles;
        self.turns.iter_mut().for_each(|turn| turn.0 -= u128::from(cycles) << 64);
        self.clocks.iter_mut().for_each(|clock| clock.due = clock.due.saturating_sub(cycles));
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

    fn all(_: usize) -> Verdict {
        Verdict::Take
    }

    fn only(usable: impl Fn(usize) -> bool) -> impl Fn(usize) -> Verdict {
        move |index| if usable(index) { Verdict::Take } else { Verdict::Skip }
    }

    fn check(weights: &str, expected: &str) {
        let weights: Vec<u32> = weights.split(' ').map(|weight| weight.parse().expect("a weight")).collect();
        let mut balance = SmoothRoundRobin::new(weights.into_iter(), 0);
        let picked = (0..expected.len()).map(|_| balance.next(all));
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
                counts[balance.next(all).expect("a weight above 0")] += 1;
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
        (0..600).for_each(|_| counts[balance.next(only(|index| index != 0)).expect("three are left")] += 1);
        assert_eq!(counts, [0, 100, 300, 200]);
        // Back again: no burst, the old shares at once.
        let mut counts = [0; 4];
        (0..110).for_each(|_| counts[balance.next(all).expect("all")] += 1);
        assert_eq!(counts, [50, 10, 30, 20]);
        assert_eq!(balance.next(only(|_| false)), None);
    }

    #[test]
    fn most_of_many_unusable() {
        let mut balance = SmoothRoundRobin::new(std::iter::repeat_n(1, 1000), 5);
        let mut counts = [0; 1000];
        (0..300).for_each(|_| counts[balance.next(only(|index| index >= 997)).expect("three")] += 1);
        assert_eq!(counts[997..], [100, 100, 100]);
        let mut counts = [0; 1000];
        (0..1000).for_each(|_| counts[balance.next(all).expect("all")] += 1);
        assert!(counts.iter().all(|count| *count == 1), "{counts:?}");
    }

    #[test]
    fn workers_start_elsewhere() {
        let first = |start| SmoothRoundRobin::new(std::iter::repeat_n(1, 8), start).next(all);
        let firsts: std::collections::BTreeSet<_> = (0..8).map(first).collect();
        assert!(firsts.len() >= 6, "{firsts:?}");
        let mut other = SmoothRoundRobin::new([1, 1, 1].into_iter(), 1);
        let cycle: std::collections::BTreeSet<_> = (0..3).map(|_| other.next(all)).collect();
        assert_eq!(cycle.len(), 3);
    }

    #[test]
    fn runs_for_ever() {
        let weights = [3, 1, u32::MAX];
        let mut balance = SmoothRoundRobin::new([3, 1].into_iter(), 0);
        balance.now = REWIND - 2 * CYCLE;
        let now = balance.now;
        balance.clocks.iter_mut().for_each(|clock| clock.catch_up(now));
        balance.turns = (0..2).map(|index| Turn::new(balance.clocks[index].due, index)).collect();
        balance.turns.sort();
        let mut counts = [0; 2];
        (0..400).for_each(|_| counts[balance.next(all).expect("two")] += 1);
        assert_eq!(counts, [300, 100]);
        assert!(balance.now < REWIND);
        let mut extreme = SmoothRoundRobin::new(weights.into_iter(), 2);
        (0..100).for_each(|_| assert!(extreme.next(all).is_some()));
        assert_eq!(extreme.next(only(|index| index == 1)), Some(1));
    }
}
