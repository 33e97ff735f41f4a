//! Draws an upstream: its policy, its checks, its limits.

use std::time::Duration;

use crate::upstream::NodeSpec;
use config::balance::{ActiveCheck, Breaker, Checks, Outlier, PassiveCheck, ProbeKind};
use config::upstream::Kind;

use crate::seeded::Random;

/// The longest rest of the outlier detection.
const OUTLIER_REST_MAX: Duration = Duration::from_secs(12);

/// An upstream and its nodes.
pub(super) fn draw(random: &mut Random) -> (config::Upstream, Vec<NodeSpec>) {
    let mut source = config::Upstream::of("u".into(), Vec::new(), config::Place::NOWHERE);
    let kinds = [
        &Kind::RoundRobin,
        &Kind::Chash,
        &Kind::LeastConn,
        &Kind::Ewma,
        &Kind::P2c,
        &Kind::Maglev,
        &Kind::Random,
        &Kind::IpHash,
    ];
    source.kind = *random.of(&kinds);
    source.retries = Some(random.below(4) as u32);
    source.retry.on_statuses = if chance(random, 50) { vec![500] } else { Vec::new() };
    source.retry.budget = chance(random, 50).then(|| (1 + random.below(50)) as f64 / 100.0);
    let active = chance(random, 40).then(active);
    let passive = chance(random, 40).then(passive);
    if active.is_some() || passive.is_some() {
        source.checks = Some(Checks { active, passive });
    }
    source.outlier = chance(random, 40).then(outlier);
    source.breaker = chance(random, 30).then(breaker);
    let max_fails = chance(random, 50).then(|| 1 + random.below(3) as u32);
    let fail_timeout = chance(random, 50).then(|| seconds(1 + random.below(5) as u64));
    let max_conns = chance(random, 30).then(|| 1 + random.below(4) as u32);
    let nodes = 1 + random.below(6);
    let nodes = (0..nodes).map(|index| NodeSpec {
        name: format!("10.0.0.{index}:80"),
        weight: 1 + random.below(3) as u32,
        max_fails,
        fail_timeout,
        max_conns,
        ..NodeSpec::default()
    });
    (source, nodes.collect())
}

/// Within which time an endpoint that is well again must be in use again, under these rules, while requests come.
pub(super) fn recovery(source: &config::Upstream, spec: &NodeSpec) -> Duration {
    let mut longest = seconds(1);
    if let Some(rule) = source.checks.as_ref().and_then(|checks| checks.active.as_ref()) {
        longest += rule.unhealthy_interval * (rule.successes + 1);
    }
    // A trial that began before it was well may fail, and all rest once more.
    let rest = spec.fail_timeout.unwrap_or(seconds(10));
    let rest = rest.max(source.outlier.map_or(Duration::ZERO, |rule| rule.max_time));
    longest += rest + seconds(2);
    longest + source.breaker.map_or(Duration::ZERO, |rule| rule.open + seconds(2))
}

/// True in so many of a hundred.
pub(super) fn chance(random: &mut Random, percent: usize) -> bool {
    random.below(100) < percent
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn active() -> ActiveCheck {
    ActiveCheck {
        kind: ProbeKind::Http,
        timeout: seconds(1),
        concurrency: 10,
        http_path: "/".into(),
        host: None,
        port: None,
        req_headers: Vec::new(),
        verify: true,
        grpc_service: String::new(),
        healthy_interval: seconds(1),
        unhealthy_interval: seconds(1),
        healthy_statuses: vec![200, 302],
        unhealthy_statuses: vec![429, 404, 500, 503],
        successes: 2,
        http_failures: 3,
        tcp_failures: 2,
        timeouts: 2,
    }
}

fn passive() -> PassiveCheck {
    PassiveCheck {
        healthy_statuses: (200..=208).chain(300..=308).collect(),
        unhealthy_statuses: vec![429, 500, 503],
        successes: 5,
        http_failures: 3,
        tcp_failures: 2,
        timeouts: 2,
    }
}

fn outlier() -> Outlier {
    Outlier {
        error_ratio: 0.5,
        interval: seconds(5),
        min_requests: 5,
        max_ejected: 0.5,
        base_time: seconds(2),
        max_time: OUTLIER_REST_MAX,
    }
}

fn breaker() -> Breaker {
    Breaker { error_ratio: 0.5, window: seconds(5), min_requests: 5, open: seconds(2), trials: 2 }
}
