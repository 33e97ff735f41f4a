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
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::{Change, Outcome, SharedEndpoint};
use crate::pick::roundrobin::SmoothRoundRobin;

/// What a pick knows of an endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeSpec {
    /// Its address as text: what rings and sticky cookies know it by.
    pub name: String,
    /// Its share inside its tier.
    pub weight: u32,
    /// Higher goes first.
    pub priority: i32,
    /// A tier below those of its priority.
    pub backup: bool,
    /// Taken out by the operator.
    pub down: bool,
    /// No new sessions; sticky ones stay.
    pub drain: bool,
    /// nginx's: failures within `fail_timeout` after which it rests for `fail_timeout`; 0 never.
    pub max_fails: Option<u32>,
    /// See `max_fails`; default 10 s.
    pub fail_timeout: Option<Duration>,
    /// Requests at once over all cores.
    pub max_conns: Option<u32>,
    /// To its full share after it came back; zero is at once.
    pub slow_start: Duration,
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

/// What all cores share of an upstream's balance: made once, when a plan is compiled.
pub struct Rules {
    nodes: Vec<NodeSpec>,
}

impl Rules {
    /// The rules of an upstream over these endpoints. `sticky_key` is what cookies are authenticated with.
    pub fn new(_source: &config::Upstream, nodes: Vec<NodeSpec>, _sticky_key: &[u8; 32]) -> Rules {
        Rules { nodes }
    }

    /// Whether a pick wants a key ([`Ask::key`]).
    pub fn wants_key(&self) -> bool {
        false
    }

    /// Whether loads have to be published ([`Group::publish`]).
    pub fn wants_loads(&self) -> bool {
        false
    }

    /// The endpoint that a sticky cookie names; `None` for a forged or outdated one.
    pub fn sticky_endpoint(&self, _cookie: &[u8]) -> Option<usize> {
        None
    }

    /// The value of the sticky cookie of an endpoint.
    pub fn sticky_value(&self, _index: usize) -> &str {
        ""
    }
}

/// What a pick is asked with. Times are microseconds since the process began.
pub struct Ask<'a> {
    /// Now.
    pub now: u64,
    /// What `hash_on` found, or the client's address where that is empty.
    pub key: &'a [u8],
    /// What the request's sticky cookie names.
    pub sticky: Option<usize>,
    /// The endpoints that this request has tried.
    pub tried: &'a Tried,
}

/// What a pick gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picked {
    /// This endpoint. The try counts from now on: [`Group::finish`] ends it.
    Endpoint(usize),
    /// Those that could be used are at `max_conns`.
    Full,
    /// Their circuits are open (503), for so long.
    Open(Duration),
    /// There is none, or all were tried.
    None,
}

/// Whether a request is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is; [`Group::request_ends`] ends it.
    Admitted,
    /// It is shed: the concurrency limit is reached. Try again after so long.
    Shed(Duration),
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
    /// The balance of an upstream on worker number `worker`. Picks are indexes into the rules' nodes, as is
    /// `shared`. What `before` (the balance that this one follows) knows of the same endpoints goes on,
    /// as does its turn where nothing changed. `seed` is all of chance that there is.
    pub fn new(
        rules: &Arc<Rules>,
        _shared: &[Arc<SharedEndpoint>],
        worker: usize,
        seed: u64,
        _before: Option<&Group>,
    ) -> Group {
        let _ = seed;
        let nodes = &rules.nodes;
        let mut up: Vec<usize> = (0..nodes.len()).filter(|index| !nodes[*index].down).collect();
        let rank = |index: &usize| (Reverse(nodes[*index].priority), nodes[*index].backup);
        up.sort_by_key(rank);
        let tiers = up.chunk_by(|a, b| rank(a) == rank(b)).map(|members| Tier::new(nodes, members, worker));
        Group { tiers: tiers.collect(), up: up.len() }
    }

    /// The next endpoint that was not tried yet; an only endpoint is picked again.
    pub fn pick(&mut self, ask: &Ask<'_>) -> Picked {
        let none = Tried::default();
        let tried = if self.up == 1 { &none } else { ask.tried };
        let weighted = self.tiers.iter_mut().find_map(|tier| tier.pick(tried));
        let picked = weighted.or_else(|| self.tiers.iter_mut().find_map(|tier| tier.pick_weightless(tried)));
        picked.map_or(Picked::None, Picked::Endpoint)
    }

    /// Ends a try that a pick began. `micros`: from its beginning to the response head, or to its failure.
    /// `Some` when the endpoint went out or came back by it: control has to be told then.
    pub fn finish(&mut self, _index: usize, _outcome: Outcome, _micros: u64, _now: u64) -> Option<Change> {
        None
    }

    /// Reads the endpoints' shared health anew: control said that it changed.
    pub fn refresh(&mut self, _now: u64) {}

    /// Publishes this core's loads for the others and takes in theirs. To be called at least every 5 ms while
    /// it returns true (there is more to tell).
    pub fn publish(&mut self, _now: u64) -> bool {
        false
    }

    /// A request begins: the retry budget grows by it, and the concurrency limit may shed it.
    pub fn request_begins(&mut self, _now: u64) -> Admission {
        Admission::Admitted
    }

    /// It ends. `micros`: its latency where it was answered in order, for the concurrency limit.
    pub fn request_ends(&mut self, _micros: Option<u64>, _now: u64) {}

    /// Takes a further try from the retry budget; [`Group::retry_ends`] ends it.
    pub fn retry_begins(&mut self, _now: u64) -> bool {
        true
    }

    /// A further try has ended.
    pub fn retry_ends(&mut self) {}

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
        let mut group = group(nodes, 0);
        let requests: Vec<String> = expected
            .split(' ')
            .map(|tries| {
                let mut tried = Tried::new();
                let picks = tries.chars().map(|_| match group.pick(&ask(&tried)) {
                    Picked::Endpoint(index) => {
                        tried.add(index);
                        char::from(b'a' + index as u8)
                    }
                    _ => '-',
                });
                picks.collect()
            })
            .collect();
        assert_eq!(requests.join(" "), expected, "{nodes}");
    }

    fn group(nodes: &str, worker: usize) -> Group {
        let specs: Vec<NodeSpec> = nodes.split(' ').map(spec).collect();
        let shared: Vec<_> = specs.iter().map(|_| Arc::new(SharedEndpoint::new(2))).collect();
        let source = config::Upstream::of("u".into(), Vec::new(), config::Place::NOWHERE);
        Group::new(&Arc::new(Rules::new(&source, specs, &[7; 32])), &shared, worker, 1, None)
    }

    fn ask(tried: &Tried) -> Ask<'_> {
        Ask { now: 0, key: b"", sticky: None, tried }
    }

    fn spec(text: &str) -> NodeSpec {
        let flags = text.trim_end_matches(['b', 'd']);
        let (weight, priority) = flags.split_once('p').unwrap_or((flags, "0"));
        NodeSpec {
            weight: weight.parse().expect("a weight"),
            priority: priority.parse().expect("a priority"),
            backup: text.contains('b'),
            down: text.contains('d'),
            ..NodeSpec::default()
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
        let unasked = group("1 1 0 1b 1d", 1);
        let mut tried = Tried::new();
        assert_eq!(unasked.untried(&tried), 4);
        tried.add(3);
        tried.add(0);
        assert_eq!(unasked.untried(&tried), 2);
        let mut only = group("1", 0);
        assert_eq!((only.untried(&tried), only.pick(&ask(&tried))), (1, Picked::Endpoint(0)));
        assert_eq!(Group::default().untried(&tried), 0);
    }
}
