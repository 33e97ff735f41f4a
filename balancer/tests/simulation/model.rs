//! The simplest balance that obeys the rules of health, until `balancer::upstream::Group` does.

use std::sync::Arc;

use balancer::budget::Budget;
use balancer::endpoint::{Change, Load, Outcome, SharedEndpoint, Usable};
use balancer::health::HealthRules;
use balancer::upstream::{Admission, Ask, NodeSpec, Picked, Tried};

pub struct Rules {
    nodes: Vec<NodeSpec>,
    health: Vec<HealthRules>,
    source: config::Upstream,
}

impl Rules {
    pub fn new(source: &config::Upstream, nodes: Vec<NodeSpec>, _: &[u8; 32]) -> Rules {
        let health = nodes.iter().map(|spec| HealthRules::new(source, spec)).collect();
        Rules { nodes, health, source: source.clone() }
    }
}

pub struct Group {
    rules: Arc<Rules>,
    shared: Vec<Arc<SharedEndpoint>>,
    worker: usize,
    turn: usize,
    active: Vec<u32>,
    trials: Vec<u32>,
    budget: Budget,
}

impl Group {
    pub fn new(
        rules: &Arc<Rules>,
        shared: &[Arc<SharedEndpoint>],
        worker: usize,
        _: u64,
        _: Option<&Group>,
    ) -> Group {
        let nodes = shared.len();
        Group {
            rules: rules.clone(),
            shared: shared.to_vec(),
            worker,
            turn: worker,
            active: vec![0; nodes],
            trials: vec![0; nodes],
            budget: Budget::new(rules.source.retry.budget),
        }
    }

    pub fn pick(&mut self, ask: &Ask<'_>) -> Picked {
        let nodes = self.shared.len();
        self.turn += 1;
        let (mut full, mut open) = (false, None);
        for panic in [false, true] {
            for index in (self.turn..self.turn + nodes).map(|index| index % nodes) {
                if nodes > 1 && ask.tried.contains(index) {
                    continue;
                }
                let usable = self.shared[index].usable(&self.rules.health[index], ask.now);
                if let Usable::Open { until } = usable {
                    open = Some(std::time::Duration::from_micros(until - ask.now));
                }
                let may = match usable {
                    Usable::Yes | Usable::Trial => true,
                    Usable::Resting => panic,
                    Usable::Open { .. } => false,
                };
                let max = self.rules.nodes[index].max_conns;
                if !may {
                    continue;
                }
                if max.is_some_and(|max| !self.shared[index].take_connection(max)) {
                    full = true;
                    continue;
                }
                if usable == Usable::Trial {
                    if !self.shared[index].claim_trial(&self.rules.health[index], ask.now) {
                        panic!("nobody else is there");
                    }
                    self.trials[index] += 1;
                }
                self.active[index] += 1;
                return Picked::Endpoint(index);
            }
            if full {
                return Picked::Full;
            }
        }
        open.map_or(Picked::None, Picked::Open)
    }

    pub fn finish(
        &mut self,
        index: usize,
        outcome: Outcome,
        _: u64,
        now: u64,
        trial: bool,
    ) -> Option<Change> {
        self.active[index] -= 1;
        self.trials[index] -= u32::from(trial);
        if self.rules.nodes[index].max_conns.is_some() {
            self.shared[index].release_connection();
        }
        let may_eject = || {
            let out =
                self.shared.iter().zip(&self.rules.health).filter(|(shared, rules)| shared.is_out(rules));
            let cap =
                self.rules.source.outlier.map_or(1.0, |rule| rule.max_ejected * self.shared.len() as f64);
            (out.count() + 1) as f64 <= cap.max(1.0)
        };
        self.shared[index].finished(&self.rules.health[index], outcome, trial, now, &may_eject)
    }

    pub fn refresh(&mut self, _: u64) {}

    pub fn publish(&mut self, _: u64) -> bool {
        for (shared, active) in self.shared.iter().zip(&self.active) {
            shared.publish(self.worker, Load { active: *active, latency: 0 });
        }
        self.active.iter().any(|active| *active > 0)
    }

    pub fn request_begins(&mut self, now: u64) -> Admission {
        self.budget.request_begins(now);
        Admission::Admitted
    }

    pub fn request_ends(&mut self, _: Option<u64>, _: u64) {
        self.budget.request_ends();
    }

    pub fn retry_begins(&mut self, now: u64) -> bool {
        self.budget.retry_begins(now)
    }

    pub fn retry_ends(&mut self) {
        self.budget.retry_ends();
    }

    pub fn untried(&self, tried: &Tried) -> usize {
        if self.shared.len() == 1 {
            return 1;
        }
        (0..self.shared.len()).filter(|index| !tried.contains(*index)).count()
    }
}
