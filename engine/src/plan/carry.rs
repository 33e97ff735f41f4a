//! One worker's hold on a plan, and what it carries from one plan to the next.
//!
//! Everything here is made lazily, when the first request needs it, and checked
//! by pointer: a slot whose route is another `Arc` than the table's is made anew.
//! So a swap costs nothing per route, and pools, balances and counters of what
//! did not change are simply still there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use balancer::route::Predicate;
use balancer::upstream::Group;

use super::{Chain, Plan, RoutePlan, Settings, UpstreamPlan};
use crate::observe::RouteStats;
use crate::upstream::pool::Pool;
use crate::worker::Worker;

/// Settings behind a count of this core's own: cloning the `Arc` for every
/// request would have all cores write to one cache line.
pub type SharedSettings = Rc<Arc<Settings>>;

/// A plan in one worker's hands.
pub struct CorePlan {
    /// The shared plan.
    pub plan: Arc<Plan>,
    /// Its limits and switches, counted on this core alone.
    pub settings: SharedSettings,
    /// The global rules.
    pub globals: Rc<CoreChain>,
    kept: RefCell<Kept>,
}

#[derive(Default)]
struct Kept {
    routes: Vec<Option<Rc<CoreRoute>>>,
    upstreams: HashMap<String, Rc<CoreUpstream>>,
}

/// A chain with this core's own copies of what contends when shared (regexes).
pub struct CoreChain {
    /// The built plugins.
    pub chain: Arc<Chain>,
    /// Each link's filter.
    pub filters: Vec<Option<config::expr::Expr>>,
}

impl CoreChain {
    fn new(chain: &Arc<Chain>) -> Rc<Self> {
        let filters = chain.links.iter().map(|link| link.filter.clone()).collect();
        Rc::new(Self { chain: chain.clone(), filters })
    }
}

/// A route in one worker's hands: all that an exchange keeps of the plan.
pub struct CoreRoute {
    /// The shared part.
    pub plan: Arc<RoutePlan>,
    /// This core's clone: a regex that two cores share contends.
    pub predicate: Predicate,
    /// Its plugins.
    pub chain: Rc<CoreChain>,
    /// Its upstream.
    pub upstream: Option<Rc<CoreUpstream>>,
    /// Its counters on this core.
    pub stats: Arc<RouteStats>,
}

/// An upstream in one worker's hands.
pub struct CoreUpstream {
    /// The shared part.
    pub plan: Arc<UpstreamPlan>,
    /// Whose turn it is.
    pub group: RefCell<Group>,
    /// One pool per endpoint, shared by upstreams that name the same address.
    pub pools: Vec<Rc<Pool>>,
    /// Each endpoint's text.
    pub texts: Vec<Rc<str>>,
}

impl CorePlan {
    /// The first plan of a worker.
    pub fn first(plan: &Arc<Plan>) -> Rc<Self> {
        Rc::new(Self {
            plan: plan.clone(),
            settings: Rc::new(plan.settings.clone()),
            globals: CoreChain::new(&plan.globals),
            kept: RefCell::default(),
        })
    }

    /// The next plan, with what this one has made so far.
    pub fn follow(&self, plan: &Arc<Plan>) -> Rc<Self> {
        let mut kept = std::mem::take(&mut *self.kept.borrow_mut());
        // What the new plan no longer has is let go here; the rest is checked
        // when it is next used.
        kept.routes.truncate(plan.slots.next);
        for slot in &mut kept.routes {
            let gone = slot.as_ref().is_some_and(|route| {
                !plan.routes.get(route.plan.id()).is_some_and(|now| Arc::ptr_eq(now, &route.plan))
            });
            if gone {
                *slot = None;
            }
        }
        kept.upstreams.retain(|id, _| plan.upstreams.contains_key(id));
        let globals = match Arc::ptr_eq(&plan.globals, &self.plan.globals) {
            true => self.globals.clone(),
            false => CoreChain::new(&plan.globals),
        };
        let settings = Rc::new(plan.settings.clone());
        Rc::new(Self { plan: plan.clone(), settings, globals, kept: RefCell::new(kept) })
    }

    /// This core's hold on a route of the table.
    pub fn route(&self, worker: &Rc<Worker>, plan: &Arc<RoutePlan>) -> Rc<CoreRoute> {
        if let Some(Some(known)) = self.kept.borrow().routes.get(plan.slot) {
            if Arc::ptr_eq(&known.plan, plan) {
                return known.clone();
            }
        }
        let route = Rc::new(CoreRoute {
            plan: plan.clone(),
            predicate: plan.predicate.clone(),
            chain: CoreChain::new(&plan.chain),
            upstream: plan.upstream.as_ref().map(|upstream| self.upstream(worker, upstream)),
            stats: worker.stats.route(plan.id()),
        });
        let mut kept = self.kept.borrow_mut();
        if kept.routes.len() <= plan.slot {
            kept.routes.resize(plan.slot + 1, None);
        }
        kept.routes[plan.slot] = Some(route.clone());
        route
    }

    /// The health of endpoints of this upstream changed.
    pub fn refresh_health(&self, id: &str) {
        if let Some(upstream) = self.kept.borrow().upstreams.get(id) {
            upstream.group.borrow_mut().refresh(crate::clock::micros());
        }
    }

    fn upstream(&self, worker: &Rc<Worker>, plan: &Arc<UpstreamPlan>) -> Rc<CoreUpstream> {
        let known = self.kept.borrow().upstreams.get(&plan.id).cloned();
        if let Some(known) = &known {
            if Arc::ptr_eq(&known.plan, plan) {
                return known.clone();
            }
        }
        let shared: Vec<_> = plan.endpoints.iter().map(|endpoint| endpoint.shared.clone()).collect();
        let before = known.as_ref().map(|known| known.group.borrow());
        let group = Group::new(&plan.rules, &shared, worker.index, worker.random(), before.as_deref());
        drop(before);
        let pools =
            plan.endpoints.iter().map(|endpoint| worker.pools.of(&endpoint.address, &plan.source.keepalive));
        let upstream = Rc::new(CoreUpstream {
            pools: pools.collect(),
            texts: plan.endpoints.iter().map(|endpoint| Rc::from(endpoint.text.as_str())).collect(),
            group: RefCell::new(group),
            plan: plan.clone(),
        });
        self.kept.borrow_mut().upstreams.insert(plan.id.clone(), upstream.clone());
        upstream
    }
}
