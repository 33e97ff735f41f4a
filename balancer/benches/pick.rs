//! Times a pick in every policy, over 10 and 1,000 endpoints, all well or a few of them out.
//!
//! Each row is the best of several rounds of 100,000 picks, a microsecond apart, so that what is done every few
//! milliseconds (looking at those that are out, taking in the other worker's loads) is in it. Weights are mixed. Eight
//! tries are under way: eight end, then eight begin, and the clock is read around those that begin.
//! `cargo bench -p balancer --bench pick`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use balancer::endpoint::{Outcome, ProbeOutcome, SharedEndpoint};
use balancer::upstream::{Ask, Group, NodeSpec, Picked, Rules, Tried};
use config::balance::{ActiveCheck, Checks, ProbeKind};
use config::upstream::Kind;

const PICKS: usize = 100_000;
const ROUNDS: usize = 9;
/// Tries under way at once.
const UNDER_WAY: usize = 8;

fn main() {
    // `cargo test --all-targets` runs this too, without the flag: times of a debug build mean nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let policies = [
        ("roundrobin", Kind::RoundRobin),
        ("chash", Kind::Chash),
        ("ip_hash", Kind::IpHash),
        ("maglev", Kind::Maglev),
        ("least_conn", Kind::LeastConn),
        ("ewma", Kind::Ewma),
        ("p2c", Kind::P2c),
        ("random", Kind::Random),
    ];
    for (name, kind) in policies {
        for nodes in [10, 1000] {
            for (text, out) in [("all well", 0), ("three out", 3)] {
                let (pick, both) = time(kind, nodes, out, 2);
                println!(
                    "{name:<11} {nodes:>5} nodes, {text:<10} pick {pick:>6.1} ns, with finish {both:>6.1} ns"
                );
            }
        }
    }
    for (name, kind) in policies {
        let start = Instant::now();
        black_box(rules(kind, 1000));
        println!("{name:<11} rules of 1000 nodes {:>10.1} us", start.elapsed().as_nanos() as f64 / 1e3);
    }
}

fn rules(kind: Kind, nodes: usize) -> Rules {
    let mut source = config::Upstream::of("u".into(), Vec::new(), config::Place::NOWHERE);
    source.kind = kind;
    source.checks = Some(Checks { active: Some(active()), passive: None });
    let spec = |number: usize| NodeSpec {
        name: format!("10.0.{}.{}:8080", number / 250, number % 250),
        weight: 1 + (number as u32 * 7) % 3,
        ..NodeSpec::default()
    };
    Rules::new(&source, (0..nodes).map(spec).collect(), &[7; 32])
}

/// Nanoseconds of a pick, and of a pick and a finish.
fn time(kind: Kind, nodes: usize, out: usize, workers: usize) -> (f64, f64) {
    let rules = Arc::new(rules(kind, nodes));
    let shared: Vec<_> = (0..nodes).map(|_| Arc::new(SharedEndpoint::new(workers))).collect();
    let mut group = Group::new(&rules, &shared, 1, 7, None);
    for index in 0..out {
        shared[index * nodes / 5 + 1].probed(&active(), ProbeOutcome::Failed, 1);
    }
    let tried = Tried::new();
    let keys: Vec<String> = (0..1024).map(|number| format!("10.1.{}.{}", number / 32, number % 32)).collect();
    let mut now = 1_000_000;
    let mut under_way = [0; UNDER_WAY];
    for slot in &mut under_way {
        *slot = pick(&mut group, &Ask { now, key: b"k", sticky: None, tried: &tried });
    }
    let (mut best_pick, mut best_both) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        let both = Instant::now();
        let mut picks = std::time::Duration::ZERO;
        // In batches: a clock is as long as a pick.
        for batch in 0..PICKS / UNDER_WAY {
            for index in under_way {
                black_box(group.finish(index, Outcome::Status(200), 900, now));
            }
            let start = Instant::now();
            for (number, slot) in under_way.iter_mut().enumerate() {
                now += 1;
                let key = keys[(batch * UNDER_WAY + number * 131) % 1024].as_bytes();
                *slot = pick(&mut group, black_box(&Ask { now, key, sticky: None, tried: &tried }));
            }
            picks += start.elapsed();
        }
        best_both = best_both.min(both.elapsed().as_nanos() as f64 / PICKS as f64);
        best_pick = best_pick.min(picks.as_nanos() as f64 / PICKS as f64);
    }
    (best_pick, best_both)
}

fn pick(group: &mut Group, ask: &Ask<'_>) -> usize {
    match group.pick(ask) {
        Picked::Endpoint(index) => index,
        other => panic!("{other:?}"),
    }
}

fn active() -> ActiveCheck {
    ActiveCheck {
        kind: ProbeKind::Tcp,
        timeout: std::time::Duration::from_secs(1),
        concurrency: 1,
        http_path: "/".into(),
        host: None,
        port: None,
        req_headers: Vec::new(),
        verify: true,
        grpc_service: String::new(),
        healthy_interval: std::time::Duration::from_secs(1),
        unhealthy_interval: std::time::Duration::from_secs(1),
        healthy_statuses: vec![200],
        unhealthy_statuses: vec![500],
        successes: 1,
        http_failures: 1,
        tcp_failures: 1,
        timeouts: 1,
    }
}
