//! Maglev's table: a key's hash is an index into a table in which every node has its exact share.
//!
//! Google's (NSDI 2016): each node goes through the table in an order of its own and in turn takes the next
//! place that is free, in proportion to weights. Shares are exact to about one place per node, where a ring's are
//! off by several percent; in return, a node that comes or goes also moves a few keys of others (about
//! one in a hundred with 65,537 places and ten nodes).
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
/// How often a key is hashed again before the table is walked.
const REHASHES: u64 = 64;

/// The table of some nodes, by number.
#[derive(Debug, Default)]
pub struct Maglev {
    places: Vec<u32>,
    members: usize,
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
        Maglev { places, members: nodes.len() }
    }

    /// The node of a key's place, or of the next place by another hash that is taken.
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
                (refused == self.members).then_some(None)
            }
        };
        let mut at = 0;
        for round in 1..=REHASHES {
            at = self.place(hash::mix(key.wrapping_add(round.wrapping_mul(hash::GOLDEN))));
            if let Some(end) = ask(self.number(at)) {
                return end;
            }
        }
        for _ in 0..self.places.len() {
            at = (at + 1) % self.places.len();
            if let Some(end) = ask(self.number(at)) {
                return end;
            }
        }
        None
    }

    fn place(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.places.len() as u128) >> 64) as usize
    }

    fn number(&self, at: usize) -> usize {
        self.places[at] as usize
    }
}
