//! Maglev's table: a key's hash is an index into a table in which every node has its exact share.
//!
//! Google's (NSDI 2016): each node goes through the table in an order of its own and in turn takes the next
//! place that is free, in proportion to weights. Shares are exact to about one place per node, where a ring's are
//! off by several percent; in return, a node that comes or goes also moves a few keys of others (two
//! in a thousand with 65,537 places and ten nodes).
//!
//! A node that is out keeps its places: its keys are hashed again, and so on, to nodes that are in. So a failure
//! moves its own keys alone, to all others evenly.

use super::hash;
use super::roundrobin::SmoothRoundRobin;
use super::Verdict;

/// Table sizes, primes: so large that each node has some fifty places.
const SIZES: [u64; 3] = [65_537, 262_147, 1_048_583];
/// Places wanted for each node.
const PLACES_PER_NODE: u64 = 50;
/// How often a key is hashed again before the nodes themselves are asked.
const REHASHES: u64 = 64;

/// The table of some nodes, by number.
#[derive(Debug, Default)]
pub struct Maglev {
    places: Vec<u32>,
    /// All nodes, in the order of their hashes.
    members: Vec<u32>,
}

/// How a node goes through the table.
struct Course {
    number: u32,
    at: u64,
    skip: u64,
}

/// A place that no node has taken yet.
const FREE: u32 = u32::MAX;

impl Course {
    fn new(number: usize, name: u64, size: u64) -> Course {
        let skip = hash::mix(name ^ hash::GOLDEN) % (size - 1) + 1;
        Course { number: number as u32, at: hash::mix(name) % size, skip }
    }

    /// Takes the next free place; there is one. The size is prime: every course comes by every place.
    fn take(&mut self, places: &mut [u32]) {
        while places[self.at as usize] != FREE {
            self.at = (self.at + self.skip) % places.len() as u64;
        }
        places[self.at as usize] = self.number;
    }
}

impl Maglev {
    /// The table of these names and weights, all above 0.
    pub fn new(nodes: &[(&str, u32)]) -> Maglev {
        if nodes.is_empty() {
            return Maglev::default();
        }
        let wanted = nodes.len() as u64 * PLACES_PER_NODE;
        let size = SIZES.into_iter().find(|size| *size >= wanted).unwrap_or(SIZES[SIZES.len() - 1]);
        let names = hash::distinct(nodes.iter().map(|(name, _)| *name));
        // In the order of their hashes: the table does not hang on the order in which they are written.
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_unstable_by_key(|number| names[*number]);
        let mut courses: Vec<Course> =
            order.iter().map(|number| Course::new(*number, names[*number], size)).collect();
        let mut places = vec![FREE; size as usize];
        // A place for each, however small its weight: it has to be found when all others are out.
        let first = courses.len().min(places.len());
        courses[..first].iter_mut().for_each(|course| course.take(&mut places));
        let mut turns = SmoothRoundRobin::new(order.iter().map(|number| nodes[*number].1), 0);
        for _ in first..places.len() {
            if let Some(next) = turns.next(|_| Verdict::Take) {
                courses[next].take(&mut places);
            }
        }
        Maglev { places, members: order.iter().map(|number| *number as u32).collect() }
    }

    /// The node of a key's place, or of the next place by another hash that is taken; where nearly all places are of
    /// nodes that are out, the next of all nodes from a place in their list that hangs on the key.
    pub fn next(&self, key: &[u8], mut verdict: impl FnMut(usize) -> Verdict) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        let key = hash::key(key);
        let mut refused = 0;
        let mut ask = |number: usize| match verdict(number) {
            Verdict::Take => Some(Some(number)),
            Verdict::Again => None,
            Verdict::Skip | Verdict::Leave => {
                refused += 1;
                (refused == self.members.len()).then_some(None)
            }
        };
        for round in 1..=REHASHES {
            let at = self.place(hash::mix(key.wrapping_add(round.wrapping_mul(hash::GOLDEN))));
            if let Some(end) = ask(self.number(at)) {
                return end;
            }
        }
        let (before, after) = self.members.split_at(hash::below(hash::mix(key), self.members.len()));
        after.iter().chain(before).find_map(|number| ask(*number as usize)).flatten()
    }

    fn place(&self, hash: u64) -> usize {
        hash::below(hash, self.places.len())
    }

    fn number(&self, at: usize) -> usize {
        self.places[at] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::Random;

    fn names(count: usize) -> Vec<(String, u32)> {
        (0..count).map(|number| (format!("10.0.0.{number}:80"), 1)).collect()
    }

    fn table(nodes: &[(String, u32)]) -> Maglev {
        let nodes: Vec<(&str, u32)> = nodes.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
        Maglev::new(&nodes)
    }

    fn home(table: &Maglev, key: &str) -> usize {
        table.next(key.as_bytes(), |_| Verdict::Take).expect("a node")
    }

    #[test]
    fn shares_are_exact() {
        for weights in [vec![1; 3], vec![1; 700], vec![3, 2, 1], vec![1_000_000, 1, 1], vec![7; 2000]] {
            let mut nodes = names(weights.len());
            nodes.iter_mut().zip(&weights).for_each(|(node, weight)| node.1 = *weight);
            let table = table(&nodes);
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let mut counts = vec![0_u32; weights.len()];
            table.places.iter().for_each(|number| counts[*number as usize] += 1);
            for (count, weight) in counts.iter().zip(&weights) {
                let due = table.places.len() as f64 * f64::from(*weight) / total;
                assert!(*count > 0 && (f64::from(*count) - due).abs() <= 3.0, "{count} of {due}");
            }
        }
    }

    #[test]
    fn few_keys_of_others_move() {
        for seed in 0..10 {
            let mut random = Random::new(seed);
            let all = names(4 + random.below(20));
            let gone = random.below(all.len());
            let mut fewer = all.clone();
            fewer.remove(gone);
            let (before, after) = (table(&all), table(&fewer));
            let mut moved = 0;
            for key in 0..5000 {
                let key = format!("key-{key}");
                let (was, is) = (&all[home(&before, &key)].0, &fewer[home(&after, &key)].0);
                moved += usize::from(*was != all[gone].0 && was != is);
            }
            assert!(moved < 5000 / 100, "seed {seed}: {moved} of 5000 keys of others moved");
        }
    }

    #[test]
    fn a_failure_moves_its_own_keys_to_all_others() {
        let table = table(&names(5));
        let mut counts = [0; 5];
        for key in 0..5000 {
            let key = format!("key-{key}");
            let mut asked = false;
            let verdict = |number| match number {
                2 if std::mem::replace(&mut asked, true) => Verdict::Again,
                2 => Verdict::Skip,
                _ => Verdict::Take,
            };
            let now = table.next(key.as_bytes(), verdict).expect("four are left");
            match home(&table, &key) {
                2 => counts[now] += 1,
                home => assert_eq!(home, now),
            }
        }
        assert!([0, 1, 3, 4].iter().all(|other| (180..320).contains(&counts[*other])), "{counts:?}");
    }

    #[test]
    fn bounds() {
        assert_eq!(Maglev::new(&[]).next(b"k", |_| Verdict::Take), None);
        let many = table(&names(300));
        let last = many.next(b"k", |number| if number == 299 { Verdict::Take } else { Verdict::Again });
        assert_eq!(last, Some(299));
        let mut asked = std::collections::BTreeSet::new();
        let none =
            many.next(b"k", |number| if asked.insert(number) { Verdict::Skip } else { Verdict::Again });
        assert_eq!((none, asked.len()), (None, 300));
        let heavy = Maglev::new(&[("a", 1_000_000), ("b", 1)]);
        let mut steps = 0;
        let light = heavy.next(b"k", |number| {
            steps += 1;
            if number == 1 {
                Verdict::Take
            } else {
                Verdict::Again
            }
        });
        assert_eq!((light, steps <= REHASHES + 2), (Some(1), true), "{steps} steps");
        let mut turned = names(300);
        turned.reverse();
        let other = table(&turned);
        assert!((0..300).all(|key| {
            let key = format!("key-{key}");
            home(&many, &key) == 299 - home(&other, &key)
        }));
    }
}
