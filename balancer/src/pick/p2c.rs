//! Power of two choices: of two drawn by weight, the one with fewer requests under way for its weight.
//!
//! Nearly as even as asking all of them, at the cost of asking two (Mitzenmacher 2001), and workers that know
//! each other's loads late do not all run to the same idle endpoint. With equal loads the one drawn
//! first goes, so that shares are by weight when nothing is under way.

use super::random::Sampler;
use super::Chance;

/// Of two drawn; `load` gives requests under way and the weight.
#[inline]
pub fn choose(sampler: &Sampler, chance: &Chance, load: impl Fn(usize) -> (u32, u32)) -> Option<usize> {
    let first = sampler.draw(chance)?;
    let Some(second) = sampler.draw_other(first, chance) else { return Some(first) };
    let (a, b) = (load(first), load(second));
    // a.0 / a.1 against b.0 / b.1, exactly.
    let less = u64::from(b.0) * u64::from(a.1) < u64::from(a.0) * u64::from(b.1);
    Some(if less { second } else { first })
}
