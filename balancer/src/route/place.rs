//! Places: the order of the document, kept while the document changes piece by piece.
//!
//! Routes of equal rank are tried in the order in which they are written. A table that is edited
//! rather than rebuilt has to know that order: a route that is written before another and was added
//! after it must go first, or a restart would serve other answers than the reload did. Numbering
//! anew would touch every route, so places are numbers with gaps.

/// The distance between neighbours that are placed at once.
pub const GAP: u64 = 1 << 20;

/// Places for the routes of a document, in its order, strictly ascending.
///
/// `previous` holds for each route the place it has in the table, `None` for those that are new. As
/// many as possible keep theirs; each whose place differs from its previous one has to be inserted anew. Routes
/// between two that stay share the gap evenly; when a gap is too small, all get new places.
pub fn assign(previous: &[Option<u64>]) -> Vec<u64> {
    let kept = longest_ascending(previous);
    let mut places = vec![0; previous.len()];
    let mut start = 0;
    let mut low = 0;
    for &at in &kept {
        let high = previous[at].expect("only placed routes are kept");
        if !fill(&mut places[start..at], low, high) {
            return (1..=previous.len() as u64).map(|number| number * GAP).collect();
        }
        places[at] = high;
        (start, low) = (at + 1, high);
    }
    for place in &mut places[start..] {
        low = low.saturating_add(GAP);
        *place = low;
    }
    places
}

/// Spreads places strictly between `low` and `high`; false if there is no room.
fn fill(places: &mut [u64], low: u64, high: u64) -> bool {
    let step = (high - low) / (places.len() as u64 + 1);
    let mut next = low;
    for place in places.iter_mut() {
        next += step;
        *place = next;
    }
    places.is_empty() || step > 0
}

/// The indexes of a longest strictly ascending choice of the places.
fn longest_ascending(previous: &[Option<u64>]) -> Vec<usize> {
    let placed = || previous.iter().enumerate().filter_map(|(at, place)| place.map(|place| (at, place)));
    // ends[n]: the index that ends the best choice of n + 1; before[at]: the one chosen before it.
    let mut ends: Vec<(u64, usize)> = Vec::new();
    let mut before = vec![usize::MAX; previous.len()];
    // Place 0 is below every gap, so that nothing could be put before it: such a route is placed anew.
    for (at, place) in placed().filter(|(_, place)| *place > 0) {
        let length = ends.partition_point(|(end, _)| *end < place);
        if length > 0 {
            before[at] = ends[length - 1].1;
        }
        match ends.get_mut(length) {
            Some(end) => *end = (place, at),
            None => ends.push((place, at)),
        }
    }
    let mut chosen = Vec::with_capacity(ends.len());
    let mut at = ends.last().map_or(usize::MAX, |(_, at)| *at);
    while at != usize::MAX {
        chosen.push(at);
        at = before[at];
    }
    chosen.reverse();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::Random;

    #[test]
    fn few_move() {
        let first = assign(&[None; 4]);
        assert_eq!(first, [GAP, 2 * GAP, 3 * GAP, 4 * GAP]);
        let with_new = assign(&[Some(GAP), None, Some(2 * GAP), Some(3 * GAP), Some(4 * GAP)]);
        assert_eq!(with_new, [GAP, GAP + GAP / 2, 2 * GAP, 3 * GAP, 4 * GAP]);
        // The last went to the front: it alone moves.
        assert_eq!(assign(&[Some(4 * GAP), Some(GAP), Some(2 * GAP)]), [GAP / 2, GAP, 2 * GAP]);
        assert_eq!(assign(&[Some(7), None, Some(8)]), [GAP, 2 * GAP, 3 * GAP], "no room");
    }

    #[test]
    fn always_ascending() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut places = Vec::new();
            for _ in 0..60 {
                let mut next: Vec<Option<u64>> = places.iter().copied().map(Some).collect();
                match random.below(3) {
                    0 if !next.is_empty() => {
                        let moved = next.remove(random.below(next.len()));
                        next.insert(random.below(next.len() + 1), moved);
                    }
                    1 if !next.is_empty() => drop(next.remove(random.below(next.len()))),
                    _ => next.insert(random.below(next.len() + 1), None),
                }
                places = assign(&next);
                assert!(places.is_sorted_by(|a, b| a < b), "seed {seed}: {places:?}");
                assert_eq!(places.len(), next.len());
            }
        }
    }
}
