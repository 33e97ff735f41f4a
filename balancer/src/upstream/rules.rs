//! What all workers share of an upstream's balance: made once, when a plan is compiled.
//!
//! Rings and tables are large and never change, so they stand here once, not on every core.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use config::upstream::Kind;

use super::NodeSpec;
use crate::health::HealthRules;
use crate::limit::Limiter;
use crate::pick::chash::Ring;
use crate::pick::maglev::Maglev;
use crate::sticky::Tokens;

/// What all cores share of an upstream's balance.
pub struct Rules {
    pub(super) kind: Kind,
    pub(super) endpoints: Vec<EndpointRules>,
    pub(super) parts: Vec<PartRules>,
    /// Endpoints that requests without a session may go to.
    pub(super) up: usize,
    /// Below this share of well endpoints all are used.
    pub(super) panic_threshold: f64,
    /// The largest share of endpoints that outlier detection may take out.
    max_ejected: f64,
    pub(super) budget: Option<f64>,
    pub(super) limiter: Option<Arc<Limiter>>,
    tokens: Tokens,
}

/// What is known of one endpoint before any request.
pub(super) struct EndpointRules {
    pub health: HealthRules,
    pub down: bool,
    /// Micros.
    pub slow_start: u64,
    /// 0 is without limit, as nginx has it.
    pub max_conns: u32,
    /// Its part and number there; `None` when it is `down` or `drain`.
    pub seat: Option<Seat>,
}

/// Where an endpoint stands among those that are picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub part: u32,
    pub number: u32,
}

/// Endpoints that a policy picks among: those of a weight of one tier, or those without.
pub(super) struct PartRules {
    /// Endpoint indexes, by number.
    pub members: Vec<u32>,
    /// By number; 1 for those without weight.
    pub weights: Vec<u32>,
    pub table: Table,
}

/// What a policy has made beforehand.
pub(super) enum Table {
    None,
    Ring(Ring),
    Maglev(Maglev),
}

impl Rules {
    /// The rules of an upstream over these endpoints. `sticky_key` is what cookies are authenticated with.
    pub fn new(source: &config::Upstream, nodes: Vec<NodeSpec>, sticky_key: &[u8; 32]) -> Rules {
        let mut up: Vec<usize> =
            (0..nodes.len()).filter(|index| !nodes[*index].down && !nodes[*index].drain).collect();
        let rank = |index: &usize| (Reverse(nodes[*index].priority), nodes[*index].backup);
        up.sort_by_key(rank);
        // All of a weight, tier by tier; then the last resort, those without.
        let weighted = up.iter().copied().filter(|index| nodes[*index].weight > 0);
        let weightless = up.iter().copied().filter(|index| nodes[*index].weight == 0);
        let (weighted, weightless): (Vec<_>, Vec<_>) = (weighted.collect(), weightless.collect());
        let tiers = |members: &[usize]| -> Vec<PartRules> {
            let tiers = members.chunk_by(|a, b| rank(a) == rank(b));
            tiers.map(|tier| PartRules::new(source.kind, &nodes, tier)).collect()
        };
        let mut parts = tiers(&weighted);
        parts.extend(tiers(&weightless));
        let tokens = match source.sticky {
            Some(_) => Tokens::new(sticky_key, &source.id, nodes.iter().map(|node| node.name.as_str())),
            None => Tokens::default(),
        };
        let mut endpoints: Vec<EndpointRules> =
            nodes.iter().map(|node| EndpointRules::new(source, node)).collect();
        for (part, rules) in parts.iter().enumerate() {
            for (number, index) in rules.members.iter().enumerate() {
                endpoints[*index as usize].seat = Some(Seat { part: part as u32, number: number as u32 });
            }
        }
        Rules {
            kind: source.kind,
            up: up.len(),
            panic_threshold: source.panic_threshold,
            max_ejected: source.outlier.map_or(1.0, |outlier| outlier.max_ejected),
            budget: source.retry.budget,
            limiter: source.concurrency_limit.as_ref().map(|limit| Arc::new(Limiter::new(limit))),
            tokens,
            endpoints,
            parts,
        }
    }

    /// The same, going on with what the rules before found: the limit of requests at once, where it is set as it was.
    /// To begin it anew at every change of an address would shed what the upstream serves with ease.
    pub fn following(mut self, before: Option<&Rules>) -> Rules {
        let known = before.and_then(|before| before.limiter.as_ref());
        let same = |new: &Arc<Limiter>| known.filter(|known| known.settings() == new.settings()).cloned();
        self.limiter = self.limiter.map(|new| same(&new).unwrap_or(new));
        self
    }

    /// Whether a pick wants a key ([`super::Ask::key`]).
    pub fn wants_key(&self) -> bool {
        matches!(self.kind, Kind::Chash | Kind::Maglev | Kind::IpHash)
    }

    /// Whether loads have to be published ([`super::Group::publish`]).
    pub fn wants_loads(&self) -> bool {
        matches!(self.kind, Kind::LeastConn | Kind::Ewma | Kind::P2c)
    }

    /// The endpoint that a sticky cookie names; `None` for a forged or outdated one.
    pub fn sticky_endpoint(&self, cookie: &[u8]) -> Option<usize> {
        self.tokens.endpoint(cookie)
    }

    /// The value of the sticky cookie of an endpoint.
    pub fn sticky_value(&self, index: usize) -> &str {
        self.tokens.value(index)
    }

    /// Whether so many well endpoints are too few to send requests to them alone.
    pub(super) fn too_few(&self, well: usize) -> bool {
        well == 0 || (well as f64) < self.panic_threshold * self.up as f64
    }

    /// How many may be ejected at once: one may always be.
    pub(super) fn ejected_max(&self) -> usize {
        ((self.max_ejected * self.up as f64) as usize).max(1)
    }
}

impl EndpointRules {
    fn new(source: &config::Upstream, node: &NodeSpec) -> EndpointRules {
        EndpointRules {
            health: HealthRules::new(source, node),
            down: node.down,
            slow_start: micros(node.slow_start),
            max_conns: node.max_conns.unwrap_or(0),
            seat: None,
        }
    }
}

impl PartRules {
    fn new(kind: Kind, nodes: &[NodeSpec], members: &[usize]) -> PartRules {
        let weights: Vec<u32> = members.iter().map(|index| nodes[*index].weight.max(1)).collect();
        let named = || -> Vec<(&str, u32)> {
            let names = members.iter().map(|index| nodes[*index].name.as_str());
            names.zip(weights.iter().copied()).collect()
        };
        let table = match kind {
            Kind::Chash | Kind::IpHash => Table::Ring(Ring::new(&named())),
            Kind::Maglev => Table::Maglev(Maglev::new(&named())),
            _ => Table::None,
        };
        PartRules { members: members.iter().map(|index| *index as u32).collect(), table, weights }
    }

    /// The mean of its weights.
    pub fn mean_weight(&self) -> f64 {
        let total: u64 = self.weights.iter().map(|weight| u64::from(*weight)).sum();
        total as f64 / self.weights.len().max(1) as f64
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use config::balance::ConcurrencyLimit;
    use config::{Place, Upstream};

    use super::*;

    /// How many requests are under way by the limit of rules that follow such as let three in.
    fn check(before: Option<ConcurrencyLimit>, after: Option<ConcurrencyLimit>, expected: Option<u32>) {
        let rules = |limit: Option<ConcurrencyLimit>, names: &[&str]| {
            let source =
                Upstream { concurrency_limit: limit, ..Upstream::of("u".into(), vec![], Place::NOWHERE) };
            let spec = |name: &&str| NodeSpec { name: (*name).to_owned(), weight: 1, ..NodeSpec::default() };
            Rules::new(&source, names.iter().map(spec).collect(), &[7; 32])
        };
        let before = rules(before, &["10.0.0.1:80"]);
        let admitted = before.limiter.iter().flat_map(|limiter| (0..3).map(|_| limiter.begin()));
        assert!(admitted.into_iter().all(|admitted| admitted.is_ok()));
        let after = rules(after, &["10.0.0.1:80", "10.0.0.2:80"]).following(Some(&before));
        assert_eq!(after.limiter.map(|limiter| limiter.active()), expected);
    }

    #[test]
    fn a_limit_goes_on_where_it_is_set_as_it_was() {
        let limit = ConcurrencyLimit::default();
        check(Some(limit), Some(limit), Some(3));
        check(Some(limit), Some(ConcurrencyLimit { max: 100, ..limit }), Some(0));
        check(None, Some(limit), Some(0));
        check(Some(limit), None, None);
    }
}
