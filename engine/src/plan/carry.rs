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

use super::{Chain, Plan, RoutePlan, Settings, UpstreamPlan};
use crate::observe::RouteStats;
use crate::upstream::CoreUpstream;
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
#[derive(Default)]
pub struct CoreChain {
    /// The built plugins.
    pub chain: Arc<Chain>,
    /// Each link's filter.
    pub filters: Vec<Option<config::expr::Expr>>,
    /// Each link's upstreams; empty where no link has any.
    upstreams: Vec<Vec<Rc<CoreUpstream>>>,
}

impl CoreChain {
    fn new(chain: &Arc<Chain>, hold: impl Fn(&Arc<UpstreamPlan>) -> Rc<CoreUpstream>) -> Rc<Self> {
        let filters = chain.links.iter().map(|link| link.filter.clone()).collect();
        let upstreams = match chain.links.iter().any(|link| !link.upstreams.is_empty()) {
            true => chain.links.iter().map(|link| link.upstreams.iter().map(&hold).collect()).collect(),
            false => Vec::new(),
        };
        Rc::new(Self { chain: chain.clone(), filters, upstreams })
    }

    /// The upstream of this number of the link's plugin.
    pub fn upstream(&self, link: usize, number: usize) -> Option<Rc<CoreUpstream>> {
        self.upstreams.get(link)?.get(number).cloned()
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

impl CorePlan {
    /// What a worker begins with: it serves nothing before it [follows](CorePlan::follow) a plan.
    pub fn first(plan: &Arc<Plan>) -> Rc<Self> {
        Rc::new(Self {
            plan: plan.clone(),
            settings: Rc::new(plan.settings.clone()),
            globals: Rc::default(),
            kept: RefCell::default(),
        })
    }

    /// The next plan, with what this one has made so far.
    pub fn follow(&self, worker: &Rc<Worker>, plan: &Arc<Plan>) -> Rc<Self> {
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
        let kept = RefCell::new(kept);
        let globals = match Arc::ptr_eq(&plan.globals, &self.globals.chain) {
            true => self.globals.clone(),
            false => CoreChain::new(&plan.globals, |upstream| hold(&kept, worker, upstream)),
        };
        let settings = Rc::new(plan.settings.clone());
        Rc::new(Self { plan: plan.clone(), settings, globals, kept })
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
            chain: CoreChain::new(&plan.chain, |upstream| hold(&self.kept, worker, upstream)),
            upstream: plan.upstream.as_ref().map(|upstream| hold(&self.kept, worker, upstream)),
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
}

/// A worker's hold on an upstream: the one it has, or a new one that goes on with what is known.
fn hold(kept: &RefCell<Kept>, worker: &Rc<Worker>, plan: &Arc<UpstreamPlan>) -> Rc<CoreUpstream> {
    let known = kept.borrow().upstreams.get(&plan.id).cloned();
    if let Some(known) = known.as_ref().filter(|known| Arc::ptr_eq(&known.plan, plan)) {
        return known.clone();
    }
    let upstream = Rc::new(CoreUpstream::new(worker, plan, known.as_deref()));
    kept.borrow_mut().upstreams.insert(plan.id.clone(), upstream.clone());
    upstream
}
