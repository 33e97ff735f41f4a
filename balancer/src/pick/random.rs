//! Drawn by weight: and the draw that `p2c` and `ewma` are made of.
//!
//! A binary indexed tree over the weights: a draw is one descent, a member that leaves or enters one climb,
//! both in O(log n), and exact whichever members are out. An alias table would draw in O(1), but only over all of
//! them: with most members out it would draw in vain again and again.

use super::{Chance, Verdict};

/// Members by weight, to draw from.
#[derive(Clone, Debug, Default)]
pub struct Sampler {
    /// From index 1 on: the sum of the weights of the `lowest set bit` members up to this one.
    tree: Vec<u64>,
    weights: Vec<u32>,
    present: Vec<bool>,
    total: u64,
    /// The largest power of two that is no larger than the number of members.
    top: usize,
    /// Taken out for the pick that is being made.
    aside: Vec<u32>,
}

/// One that was drawn.
#[derive(Clone, Copy, Debug)]
pub struct Drawn {
    /// Its number.
    pub number: usize,
    /// The sum of the weights before it.
    start: u64,
}

impl Sampler {
    /// Over members `0..` of these weights.
    pub fn new(weights: impl Iterator<Item = u32>) -> Sampler {
        let weights: Vec<u32> = weights.collect();
        let count = weights.len();
        let mut sampler = Sampler {
            tree: vec![0; count + 1],
            present: vec![false; count],
            aside: Vec::with_capacity(count),
            top: if count == 0 { 0 } else { 1 << count.ilog2() },
            total: 0,
            weights,
        };
        (0..count).for_each(|number| sampler.enter(number));
        sampler
    }

    /// A member may be drawn (again).
    pub fn enter(&mut self, number: usize) {
        if !self.present[number] {
            self.present[number] = true;
            let weight = u64::from(self.weights[number]);
            self.total += weight;
            self.climb(number, |sum| *sum += weight);
        }
    }

    /// A member is drawn no more.
    pub fn leave(&mut self, number: usize) {
        if self.present[number] {
            self.present[number] = false;
            let weight = u64::from(self.weights[number]);
            self.total -= weight;
            self.climb(number, |sum| *sum -= weight);
        }
    }

    fn climb(&mut self, number: usize, change: impl Fn(&mut u64)) {
        let mut at = number + 1;
        while let Some(sum) = self.tree.get_mut(at) {
            change(sum);
            at += at & at.wrapping_neg();
        }
    }

    /// One by weight; `None` when there is none to draw.
    #[inline]
    pub fn draw(&self, chance: &Chance) -> Option<Drawn> {
        (self.total > 0).then(|| self.at(chance.below(self.total)))
    }

    /// Another one than `first`.
    #[inline]
    pub fn draw_other(&self, first: Drawn, chance: &Chance) -> Option<Drawn> {
        let weight = u64::from(self.weights[first.number]);
        let others = self.total - weight;
        if others == 0 {
            return None;
        }
        let mut place = chance.below(others);
        if place >= first.start {
            place += weight;
        }
        Some(self.at(place))
    }

    /// The member at a place of the total: a descent without branches.
    #[inline]
    fn at(&self, place: u64) -> Drawn {
        let mut number = 0;
        let mut left = place;
        let mut step = self.top;
        while step > 0 {
            let next = number + step;
            let sum = self.tree.get(next).copied().unwrap_or(u64::MAX);
            let beyond = sum <= left;
            number = if beyond { next } else { number };
            left -= if beyond { sum } else { 0 };
            step >>= 1;
        }
        Drawn { number, start: place - left }
    }

    /// The pick: draws by `choose` until one is taken.
    pub fn next(
        &mut self,
        mut choose: impl FnMut(&Sampler) -> Option<usize>,
        mut verdict: impl FnMut(usize) -> Verdict,
    ) -> Option<usize> {
        let picked = loop {
            let Some(number) = choose(self) else { break None };
            match verdict(number) {
                Verdict::Take => break Some(number),
                Verdict::Skip | Verdict::Again => {
                    self.aside.push(number as u32);
                    self.leave(number);
                }
                Verdict::Leave => self.leave(number),
            }
        };
        while let Some(number) = self.aside.pop() {
            self.enter(number as usize);
        }
        picked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::Random;

    #[test]
    fn draws_by_weight_whoever_is_out() {
        for seed in 0..40 {
            let mut random = Random::new(seed);
            let weights: Vec<u32> = (0..1 + random.below(40)).map(|_| random.below(5) as u32).collect();
            let mut sampler = Sampler::new(weights.iter().copied());
            let out: Vec<bool> = weights.iter().map(|_| random.below(3) == 0).collect();
            (0..weights.len()).filter(|number| out[*number]).for_each(|number| sampler.leave(number));
            let due = |number: usize| if out[number] { 0 } else { weights[number] };
            let total: u32 = (0..weights.len()).map(due).sum();
            let chance = Chance::new(seed);
            let mut counts = vec![0_u32; weights.len()];
            for _ in 0..20_000 {
                let Some(drawn) = sampler.draw(&chance) else { break };
                counts[drawn.number] += 1;
                if let Some(other) = sampler.draw_other(drawn, &chance) {
                    assert!(other.number != drawn.number && due(other.number) > 0, "seed {seed}");
                }
            }
            for (number, count) in counts.iter().enumerate() {
                let wanted = 20_000.0 * f64::from(due(number)) / f64::from(total.max(1));
                assert!((f64::from(*count) - wanted).abs() <= 6.0 * wanted.sqrt(), "seed {seed} {number}");
            }
        }
    }

    #[test]
    fn skips_are_for_one_pick_and_leaves_for_good() {
        let mut sampler = Sampler::new([1, 1, 1].into_iter());
        let chance = Chance::new(3);
        let mut asked = Vec::new();
        let none = sampler.next(
            |sampler| sampler.draw(&chance).map(|drawn| drawn.number),
            |number| {
                asked.push(number);
                if number == 1 { Verdict::Leave } else { Verdict::Skip }
            },
        );
        asked.sort_unstable();
        assert_eq!((none, asked), (None, vec![0, 1, 2]));
        for _ in 0..50 {
            let drawn = sampler.draw(&chance).map(|drawn| drawn.number);
            assert!(matches!(drawn, Some(0 | 2)), "{drawn:?}");
        }
        sampler.enter(1);
        assert!((0..100).any(|_| sampler.draw(&chance).map(|drawn| drawn.number) == Some(1)));
    }
}
