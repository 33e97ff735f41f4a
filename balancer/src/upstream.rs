//! One upstream as one worker sees it: which of its endpoints is next.
//!
//! Endpoints stand in tiers: the higher `priority` first, and inside a priority those that are
//! no `backup` first. A lower tier serves only when all of the tiers above were tried or are down.
//! Weight 0 gets nothing while anything of a weight can be used, in whichever tier; only
//! then is it the last resort, each with an equal share.
//!
//! A `Group` is one worker's own: nothing in it is shared, so a pick takes no lock. Workers begin at
//! different endpoints, so that together they are smooth as well.

use std::cmp::Reverse;

use crate::pick::roundrobin::SmoothRoundRobin;

/// What a pick knows of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its share inside its tier.
    pub weight: u32,
    /// Higher goes first.
    pub priority: i32,
    /// A tier below those of its priority.
    pub backup: bool,
    /// Taken out by the operator.
    pub down: bool,
}

/// The endpoints that were tried for one request: a bit set, without memory of its own up to 128.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    first: u128,
    more: Vec<usize>,
}

impl Tried {
    /// Nothing was tried.
    pub fn new() -> Tried {
        Tried::default()
    }

    /// Notes an endpoint.
    pub fn add(&mut self, index: usize) {
        if index < 128 {
            self.first |= 1 << index;
        } else if !self.more.contains(&index) {
            self.more.push(index);
        }
    }

    /// Whether an endpoint was tried.
    pub fn contains(&self, index: usize) -> bool {
        if index < 128 {
            self.first >> index & 1 == 1
        } else {
            self.more.contains(&index)
        }
    }

    /// How many were tried.
    pub fn len(&self) -> usize {
        self.first.count_ones() as usize + self.more.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.first == 0 && self.more.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.first = 0;
        self.more.clear();
    }
}

/// The balance of one upstream on one worker. The default has no endpoint.
#[derive(Clone, Debug, Default)]
pub struct Group {
    tiers: Vec<Tier>,
    /// Endpoints that are not down.
    up: usize,
}

#[derive(Clone, Debug)]
struct Tier {
    /// Endpoint indexes, by number in the balances.
    weighted: Vec<usize>,
    by_weight: SmoothRoundRobin,
    weightless: Vec<usize>,
    evenly: SmoothRoundRobin,
}

impl Tier {
    fn new(nodes: &[NodeSpec], members: &[usize], worker: usize) -> Tier {
        let (weighted, weightless): (Vec<_>, Vec<_>) =
            members.iter().copied().partition(|index| nodes[*index].weight > 0);
        let weights = weighted.iter().map(|index| nodes[*index].weight);
        Tier {
            by_weight: SmoothRoundRobin::new(weights, worker),
            evenly: SmoothRoundRobin::new(weightless.iter().map(|_| 1), worker),
            weighted,
            weightless,
        }
    }

    fn pick(&mut self, tried: &Tried) -> Option<usize> {
        pick_of(&mut self.by_weight, &self.weighted, tried)
    }

    fn pick_weightless(&mut self, tried: &Tried) -> Option<usize> {
        pick_of(&mut self.evenly, &self.weightless, tried)
    }
}

fn pick_of(balance: &mut SmoothRoundRobin, indexes: &[usize], tried: &Tried) -> Option<usize> {
    // The plain way, at a first try, asks nothing.
    let number = match tried.is_empty() {
        true => balance.next(|_| true),
        false if indexes.iter().all(|index| tried.contains(*index)) => None,
        false => balance.next(|number| !tried.contains(indexes[number])),
    };
    number.map(|number| indexes[number])
}

impl Group {
    /// The balance of `nodes` on worker number `worker`. Picks are indexes into `nodes`.
    pub fn new(nodes: &[NodeSpec], worker: usize) -> Group {
        let mut up: Vec<usize> = (0..nodes.len()).filter(|index| !nodes[*index].down).collect();
        let rank = |index: &usize| (Reverse(nodes[*index].priority), nodes[*index].backup);
        up.sort_by_key(rank);
        let tiers = up.chunk_by(|a, b| rank(a) == rank(b)).map(|members| Tier::new(nodes, members, worker));
        Group { tiers: tiers.collect(), up: up.len() }
    }

    /// The next endpoint that was not tried yet; an only endpoint is picked again. `None` when there is
    /// no endpoint, or all were tried.
    pub fn pick(&mut self, tried: &Tried) -> Option<usize> {
        let none = Tried::default();
        let tried = if self.up == 1 { &none } else { tried };
        let weighted = self.tiers.iter_mut().find_map(|tier| tier.pick(tried));
        weighted.or_else(|| self.tiers.iter_mut().find_map(|tier| tier.pick_weightless(tried)))
    }

    /// How many endpoints a further pick could give: those not down and not tried, 1 for an only one.
    pub fn untried(&self, tried: &Tried) -> usize {
        if self.up == 1 {
            return 1;
        }
        let members = self.tiers.iter().flat_map(|tier| tier.weighted.iter().chain(&tier.weightless));
        members.filter(|index| !tried.contains(**index)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"5 1p1 0 3b 2d"` (weight, priority, backup, down); expected: tries of one request after
    /// another, requests apart by spaces: each tries until nothing is left or as many as expected.
    fn check(nodes: &str, expected: &str) {
        let specs: Vec<NodeSpec> = nodes.split(' ').map(spec).collect();
        let mut group = Group::new(&specs, 0);
        let requests: Vec<String> = expected
            .split(' ')
            .map(|tries| {
                let mut tried = Tried::new();
                let picks = tries.chars().map(|_| match group.pick(&tried) {
                    Some(index) => {
                        tried.add(index);
                        char::from(b'a' + index as u8)
                    }
                    None => '-',
                });
                picks.collect()
            })
            .collect();
        assert_eq!(requests.join(" "), expected, "{nodes}");
    }

    fn spec(text: &str) -> NodeSpec {
        let flags = text.trim_end_matches(['b', 'd']);
        let (weight, priority) = flags.split_once('p').unwrap_or((flags, "0"));
        NodeSpec {
            weight: weight.parse().expect("a weight"),
            priority: priority.parse().expect("a priority"),
            backup: text.contains('b'),
            down: text.contains('d'),
        }
    }

    #[test]
    fn tiers_and_weights() {
        check("1 1", "a b a b");
        check("1 1 1", "abc- abc-");
        check("1", "aaa");
        check("1 1d", "aaa");
        check("1d", "-");
        check("2 1", "a a b a a b");
        check("1 1b", "a a ab- a");
        check("1 1p1", "b b ba- b");
        check("1p-1 1b 1", "c c cba-");
        check("1p1 1p1b 1", "a abc- a");
        check("0 1", "b b ba- b");
        check("0 0", "a b a ba-");
        check("0p5 1", "b ba-");
        check("0 1b", "b ba-");
        check("0 1d", "aa");
        check("0d 1d", "-");
    }

    #[test]
    fn tried() {
        let mut tried = Tried::new();
        for index in [0, 5, 127, 128, 900, 900, 5] {
            tried.add(index);
        }
        assert_eq!(tried.len(), 5);
        assert!([0, 5, 127, 128, 900].into_iter().all(|index| tried.contains(index)));
        assert!(![1, 129, 899].into_iter().any(|index| tried.contains(index)));
        tried.clear();
        assert!(tried.is_empty() && !tried.contains(128));
    }

    #[test]
    fn untried() {
        let specs: Vec<NodeSpec> = "1 1 0 1b 1d".split(' ').map(spec).collect();
        let group = Group::new(&specs, 1);
        let mut tried = Tried::new();
        assert_eq!(group.untried(&tried), 4);
        tried.add(3);
        tried.add(0);
        assert_eq!(group.untried(&tried), 2);
        let mut only = Group::new(&specs[..1], 0);
        assert_eq!((only.untried(&tried), only.pick(&tried)), (1, Some(0)));
        assert_eq!(Group::default().untried(&tried), 0);
    }
}
