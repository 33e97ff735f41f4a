//! Drawn by weight: and the draw that `p2c` and `ewma` are made of.
//!
//! Two structures over the weights. An alias table (Walker, Vose) draws in O(1), from all members: one that is
//! out is drawn in vain. A binary indexed tree draws from those that are in alone, by a descent in O(log n), and
//! follows who leaves and enters in O(log n). A draw tries the table a few times and then asks the tree: both
//! give each member that is in its share (the table to one part in 2^32), so any mixture of them does, and it is quick whether none or
//! most are out.

use super::{Chance, Verdict};

/// Draws from the alias table before the tree is asked.
const TABLE_DRAWS: usize = 4;

/// Members by weight, to draw from.
#[derive(Clone, Debug, Default)]
pub struct Sampler {
    /// The alias table, by number: over all members, in or out.
    table: Vec<Column>,
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

/// A column of the alias table: below `own`, of 2^32, it stands for its own number, else for the other.
#[derive(Clone, Copy, Debug)]
struct Column {
    own: u32,
    other: u32,
}

impl Sampler {
    /// Over members `0..` of these weights.
    pub fn new(weights: impl Iterator<Item = u32>) -> Sampler {
        let weights: Vec<u32> = weights.collect();
        let count = weights.len();
        let mut sampler = Sampler {
            table: table(&weights),
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
    pub fn draw(&self, chance: &Chance) -> Option<usize> {
        for _ in 0..TABLE_DRAWS {
            if let Some(number) = self.look_up(chance).filter(|number| self.present[*number]) {
                return Some(number);
            }
        }
        (self.total > 0).then(|| self.at(chance.below(self.total)))
    }

    /// Another one than `first`.
    #[inline]
    pub fn draw_other(&self, first: usize, chance: &Chance) -> Option<usize> {
        for _ in 0..TABLE_DRAWS {
            let drawn = self.look_up(chance).filter(|number| self.present[*number] && *number != first);
            if drawn.is_some() {
                return drawn;
            }
        }
        let weight = u64::from(self.weights[first]);
        let others = self.total - weight;
        if others == 0 {
            return None;
        }
        let place = chance.below(others);
        let is_after = place >= self.sum_before(first);
        Some(self.at(if is_after { place + weight } else { place }))
    }

    /// One of all members by weight, in or out.
    #[inline]
    fn look_up(&self, chance: &Chance) -> Option<usize> {
        // The upper half of the product is the column, the lower one, still even, where in it.
        let place = u128::from(chance.next()) * self.table.len() as u128;
        let number = (place >> 64) as usize;
        let column = self.table.get(number)?;
        let is_own = ((place as u64) >> 32) < u64::from(column.own);
        Some(if is_own { number } else { column.other as usize })
    }

    /// The sum of the weights of the members before one that are in.
    fn sum_before(&self, number: usize) -> u64 {
        let mut at = number;
        let mut sum = 0;
        while at > 0 {
            sum += self.tree[at];
            at &= at - 1;
        }
        sum
    }

    /// The member at a place of the total.
    fn at(&self, place: u64) -> usize {
        let mut number = 0;
        let mut left = place;
        let mut step = self.top;
        while step > 0 {
            if let Some(sum) = self.tree.get(number + step).filter(|sum| **sum <= left) {
                left -= sum;
                number += step;
            }
            step >>= 1;
        }
        number
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

/// Vose's alias table: columns of equal width, each of one member's share, filled up by one other's. In whole
/// numbers, so that it is the same everywhere; a member without weight gets nothing.
fn table(weights: &[u32]) -> Vec<Column> {
    let count = weights.len() as u64;
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    if total == 0 {
        return Vec::new();
    }
    // In units in which a column is `total` wide.
    let mut left: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) * count).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..weights.len()).partition(|number| left[*number] < total);
    let mut columns: Vec<Column> =
        (0..weights.len()).map(|number| Column { own: u32::MAX, other: number as u32 }).collect();
    while let (Some(poor), Some(rich)) = (small.pop(), large.pop()) {
        let own = (u128::from(left[poor]) << 32) / u128::from(total);
        columns[poor] = Column { own: own as u32, other: rich as u32 };
        left[rich] -= total - left[poor];
        match left[rich] < total {
            true => small.push(rich),
            false => large.push(rich),
        }
    }
    columns
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
                counts[drawn] += 1;
                if let Some(other) = sampler.draw_other(drawn, &chance) {
                    assert!(other != drawn && due(other) > 0, "seed {seed}");
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
            |sampler| sampler.draw(&chance),
            |number| {
                asked.push(number);
                if number == 1 {
                    Verdict::Leave
                } else {
                    Verdict::Skip
                }
            },
        );
        asked.sort_unstable();
        assert_eq!((none, asked), (None, vec![0, 1, 2]));
        for _ in 0..50 {
            let drawn = sampler.draw(&chance);
            assert!(matches!(drawn, Some(0 | 2)), "{drawn:?}");
        }
        sampler.enter(1);
        assert!((0..100).any(|_| sampler.draw(&chance) == Some(1)));
    }
}
