//! Longer lives of a group: latencies over minutes, and random histories against the rules of a pick.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::seeded::Random;

#[test]
fn ewma_avoids_the_slow_and_the_failing() {
    for (words, slow) in [("200", 500_000), ("fail", 50), ("500", 50)] {
        let mut bench = Bench::new("ewma", "1 1 1");
        let outcome = match words {
            "fail" => Outcome::Failed,
            status => Outcome::Status(status.parse().expect("a status")),
        };
        let mut counts = [0_u32; 3];
        // 1,000 requests a second for 100 seconds, one after another but for those at the slow node.
        let mut pending: Vec<(u64, u64)> = Vec::new();
        for request in 0..100_000_u64 {
            bench.now += 1000;
            let now = bench.now;
            pending.retain(|(end, began)| {
                let ends = *end <= now;
                if ends {
                    bench.group.finish(0, outcome, end - began, now);
                }
                !ends
            });
            let index = bench.next("");
            if request >= 5000 {
                counts[index] += 1;
            }
            match index {
                0 => pending.push((now + slow, now)),
                _ => {
                    bench.group.finish(index, Outcome::Status(200), 900 + request % 200, now);
                }
            }
        }
        assert!(counts[0] < 400, "{words}: {counts:?}");
        assert!(counts[1].abs_diff(counts[2]) < 40_000, "{words}: {counts:?}");
    }
}

#[test]
fn ewma_tries_what_it_does_not_know_but_one_at_a_time() {
    let mut bench = Bench::new("ewma", "1 1 1");
    let silent = bench.next("");
    let mut known = BTreeSet::new();
    for _ in 0..60 {
        let index = bench.next("");
        assert_ne!(index, silent, "it has not answered yet");
        bench.finish(index, Outcome::Status(200));
        known.insert(index);
    }
    assert_eq!(known.len(), 2);
    let fresh = Arc::new(SharedEndpoint::new(1));
    let shared = bench.shared.iter().cloned().chain([fresh]).collect();
    let mut after = Bench::over("ewma", "1 1 1 1", 0, shared, Some(&bench.group));
    assert!((0..20).any(|_| after.next("") == 3), "new, and not known: to be tried soon");
}

#[test]
fn ewma_over_workers() {
    let mut first = Bench::of("ewma", "1 1", 0, 2);
    let mut second = Bench::over("ewma", "1 1", 1, first.shared.clone(), None);
    for bench in [&mut first, &mut second] {
        for _ in 0..20 {
            let index = bench.next("");
            bench.finish(index, Outcome::Status(200));
        }
    }
    // The first one alone meets a stall.
    while first.next("") != 0 {
        first.finish(1, Outcome::Status(200));
    }
    first.group.finish(0, Outcome::Status(200), 500_000, first.now);
    first.group.publish(first.now);
    second.now += 5_000;
    assert_eq!(second.counts(100), [0, 100]);
    // And neither holds it against the node for ever, though none tries it and tells the other.
    second.now += 100 * SECOND;
    second.group.publish(second.now);
    assert!(second.counts(100)[0] > 0);
}

/// Whatever happens, a pick keeps the rules: no endpoint that is out while a well one is left, none that was
/// tried or is down, never more than `max_conns`.
#[test]
fn random_lives() {
    let policies = ["roundrobin", "least_conn", "chash", "maglev", "random", "p2c", "ewma", "ip_hash"];
    for seed in 0..240 {
        let mut random = Random::new(seed);
        let words = format!("{} active slow=3", policies[seed as usize % policies.len()]);
        let nodes: Vec<&str> = (0..2 + random.below(6))
            .map(|_| random.of(&["1", "2", "3", "0", "1b", "1p1", "1d", "1n", "1c1", "2c2"]))
            .collect();
        let mut bench = Bench::new(&words, &nodes.join(" "));
        let count = nodes.len();
        let mut ill = vec![false; count];
        let mut active = vec![0_u32; count];
        for step in 0..400 {
            bench.now += random.below(20_000) as u64;
            let context = format!("seed {seed} {words} {nodes:?} step {step}");
            match random.below(10) {
                0 => {
                    let index = random.below(count);
                    ill[index] = !ill[index];
                    bench.probe(index, !ill[index]);
                }
                1..=4 => {
                    let index = random.below(count);
                    if active[index] > 0 {
                        active[index] -= 1;
                        bench.finish(index, Outcome::Status(200));
                    }
                }
                _ => {
                    let mut tried = Tried::new();
                    (0..random.below(3)).for_each(|_| tried.add(random.below(count)));
                    let seated = |index: &usize| !nodes[*index].contains(['d', 'n']);
                    let up = (0..count).filter(seated).count();
                    let picked = bench.pick(&format!("k{step}"), None, &tried);
                    let well: Vec<usize> = (0..count).filter(seated).filter(|index| !ill[*index]).collect();
                    let left = |index: &usize| !tried.contains(*index) || up == 1;
                    let limit = |index: usize| match nodes[index] {
                        "1c1" => 1,
                        "2c2" => 2,
                        _ => u32::MAX,
                    };
                    match picked {
                        Picked::Endpoint(index) => {
                            assert!(seated(&index) && left(&index), "{context}");
                            assert!(!ill[index] || well.is_empty(), "{context}");
                            active[index] += 1;
                            assert!(active[index] <= limit(index), "{context}");
                        }
                        Picked::Full => {
                            let full = |index: usize| active[index] >= limit(index) && left(&index);
                            assert!((0..count).filter(seated).any(full), "{context}");
                        }
                        Picked::None => {
                            let usable =
                                if well.is_empty() { (0..count).filter(seated).collect() } else { well };
                            assert!(!usable.iter().any(left), "{context}");
                        }
                        Picked::Open(_) => panic!("{context}: there is no breaker"),
                    }
                }
            }
        }
    }
}
