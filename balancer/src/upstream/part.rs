//! The endpoints of one tier under the upstream's policy, as one worker picks among them.

use std::rc::Rc;

use config::upstream::Kind;

use super::local::Local;
use super::rules::{PartRules, Table};
use crate::pick::least_conn::LeastConn;
use crate::pick::random::Sampler;
use crate::pick::roundrobin::SmoothRoundRobin;
use crate::pick::{ewma, p2c, Chance, Verdict};

/// Endpoints that a policy picks among, by number: see [`PartRules`].
pub(super) struct Part {
    balance: Balance,
    /// Whose turn it is for further tries, from the first of them on; only of policies that take turns. A
    /// further try that took the turn of the node that it goes to would leave the next request to the node
    /// that just failed, and so on: a dead node would get twice its share of first tries.
    again: Option<Balance>,
    mean_weight: f64,
}

/// A worker's own state of a policy; rings and tables have none.
#[derive(Clone)]
enum Balance {
    RoundRobin(SmoothRoundRobin),
    LeastConn(LeastConn),
    Random(Sampler),
    P2c(Sampler),
    Ewma(Sampler),
    Table,
}

/// What policies look at beside their own state.
pub(super) struct View<'a> {
    pub rules: &'a PartRules,
    /// By endpoint index.
    pub locals: &'a [Rc<Local>],
    pub chance: &'a Chance,
    pub key: &'a [u8],
    pub now: u64,
}

impl Balance {
    fn enter(&mut self, number: usize) {
        match self {
            Balance::RoundRobin(balance) => balance.enter(number),
            Balance::LeastConn(balance) => balance.enter(number),
            Balance::Random(sampler) | Balance::P2c(sampler) | Balance::Ewma(sampler) => {
                sampler.enter(number);
            }
            Balance::Table => {}
        }
    }

    fn leave(&mut self, number: usize) {
        match self {
            Balance::RoundRobin(balance) => balance.leave(number),
            Balance::LeastConn(balance) => balance.leave(number),
            Balance::Random(sampler) | Balance::P2c(sampler) | Balance::Ewma(sampler) => {
                sampler.leave(number);
            }
            Balance::Table => {}
        }
    }
}

impl Part {
    pub fn new(kind: Kind, rules: &PartRules, worker: usize) -> Part {
        let weights = rules.weights.iter().copied();
        let balance = match kind {
            Kind::RoundRobin => Balance::RoundRobin(SmoothRoundRobin::new(weights, worker)),
            Kind::LeastConn => Balance::LeastConn(LeastConn::new(weights, worker)),
            Kind::Random => Balance::Random(Sampler::new(weights)),
            Kind::P2c => Balance::P2c(Sampler::new(weights)),
            Kind::Ewma => Balance::Ewma(Sampler::new(weights)),
            Kind::Chash | Kind::IpHash | Kind::Maglev => Balance::Table,
        };
        Part { balance, again: None, mean_weight: rules.mean_weight() }
    }

    /// The part that follows this one over the same endpoints: it takes its turn on, and all may be picked.
    pub fn follow(&self, rules: &PartRules) -> Part {
        let mut part = Part { balance: self.balance.clone(), again: None, mean_weight: self.mean_weight };
        (0..rules.members.len()).for_each(|number| part.enter(number));
        part
    }

    /// Whether a member that is out costs later picks nothing once it left.
    pub fn forgets(&self) -> bool {
        !matches!(self.balance, Balance::Table)
    }

    /// A member may be picked (again).
    pub fn enter(&mut self, number: usize) {
        self.balances().for_each(|balance| balance.enter(number));
    }

    /// A member is not put forward until it enters again. Tables know nothing of it: they ask.
    pub fn leave(&mut self, number: usize) {
        self.balances().for_each(|balance| balance.leave(number));
    }

    /// What is under way at a member changed.
    #[inline]
    pub fn load(&mut self, number: usize, local: &Local) {
        if let Balance::LeastConn(balance) = &mut self.balance {
            balance.load(number, local.load());
            if let Some(Balance::LeastConn(again)) = &mut self.again {
                again.load(number, local.load());
            }
        }
    }

    fn balances(&mut self) -> impl Iterator<Item = &mut Balance> {
        std::iter::once(&mut self.balance).chain(&mut self.again)
    }

    /// As [`Part::next`], for a request that was tried: it takes nobody's turn. `verdict` may not have members
    /// leave.
    pub fn next_again(&mut self, view: &View<'_>, verdict: impl FnMut(usize) -> Verdict) -> Option<usize> {
        match &self.balance {
            Balance::RoundRobin(_) | Balance::LeastConn(_) => {}
            _ => return self.next(view, verdict),
        }
        match self.again.get_or_insert_with(|| self.balance.clone()) {
            Balance::RoundRobin(balance) => balance.next(verdict),
            Balance::LeastConn(balance) => balance.next(verdict),
            _ => None,
        }
    }

    /// The next member that is taken, as its number.
    pub fn next(&mut self, view: &View<'_>, verdict: impl FnMut(usize) -> Verdict) -> Option<usize> {
        let PartRules { members, weights, table } = view.rules;
        let local = |number: usize| &view.locals[members[number] as usize];
        match (&mut self.balance, table) {
            (Balance::RoundRobin(balance), _) => balance.next(verdict),
            (Balance::LeastConn(balance), _) => balance.next(verdict),
            (Balance::Random(sampler), _) => sampler.next(|sampler| sampler.draw(view.chance), verdict),
            (Balance::P2c(sampler), _) => {
                let load = |number: usize| (local(number).load(), weights[number]);
                sampler.next(|sampler| p2c::choose(sampler, view.chance, load), verdict)
            }
            (Balance::Ewma(sampler), _) => {
                let mean = self.mean_weight;
                let cost = |number: usize| {
                    let local = local(number);
                    let under_way = f64::from(local.load()) * mean / f64::from(weights[number]);
                    ewma::cost(local.latency.micros(view.now), under_way)
                };
                sampler.next(|sampler| ewma::choose(sampler, view.chance, cost), verdict)
            }
            (Balance::Table, Table::Ring(ring)) => ring.next(view.key, verdict),
            (Balance::Table, Table::Maglev(maglev)) => maglev.next(view.key, verdict),
            (Balance::Table, Table::None) => None,
        }
    }
}
