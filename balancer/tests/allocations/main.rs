//! What a request pays in this crate is time, not memory: once warm, neither a lookup nor a pick allocates.

mod counting_allocator;

use std::sync::Arc;
use std::time::Duration;

use balancer::endpoint::{Outcome, SharedEndpoint};
use balancer::route::{Params, RouteKey, Table};
use balancer::upstream::{Ask, Group, NodeSpec, Picked, Rules, Tried};
use config::upstream::Kind;
use config::RouterMode;
use counting_allocator::{allocations, Counting};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test: the counter is the process's, and tests run side by side.
#[test]
fn warm_lookups_and_picks_allocate_nothing() {
    for mode in [RouterMode::HostUri, RouterMode::Uri, RouterMode::UriWithParameter] {
        let table = table(mode);
        let mut params = Params::new();
        let mut ask = || {
            let mut asked = 0;
            for (host, path) in
                [("a.test", "/users/7/pets/rex/and/more"), ("x.b.test", "/x/y/z/end"), ("", "/none")]
            {
                table.find(host.as_bytes(), 80, path.as_bytes(), &mut params, &mut |_, _| {
                    asked += 1;
                    false
                });
            }
            asked
        };
        assert!(ask() >= 20, "too few candidates to say anything");
        let fewest = (0..20).map(|_| count(|| assert!(ask() > 0))).min();
        assert_eq!(fewest, Some(0), "{mode:?}");
    }
    for kind in [
        Kind::RoundRobin,
        Kind::Chash,
        Kind::IpHash,
        Kind::Maglev,
        Kind::LeastConn,
        Kind::Ewma,
        Kind::P2c,
        Kind::Random,
    ] {
        picks(kind);
    }
}

/// Tries of requests, one after another endpoint, with one that is out and one that is full.
fn picks(kind: Kind) {
    let mut source = config::Upstream::of("u".into(), Vec::new(), config::Place::NOWHERE);
    source.kind = kind;
    source.retry.budget = Some(0.2);
    let node = |number: u32| NodeSpec {
        name: format!("10.0.0.{number}:80"),
        weight: 1 + number,
        backup: number == 4,
        max_conns: (number == 3).then_some(1),
        max_fails: Some(1),
        fail_timeout: Some(Duration::from_secs(1 << 20)),
        slow_start: Duration::from_secs(1 << 20),
        ..NodeSpec::default()
    };
    let rules = Arc::new(Rules::new(&source, (0..6).map(node).collect(), &[7; 32]));
    let shared: Vec<_> = (0..6).map(|_| Arc::new(SharedEndpoint::new(2))).collect();
    let mut group = Group::new(&rules, &shared, 0, 1, None);
    let mut now = 0;
    let mut requests = || {
        let mut tried = Tried::new();
        now += 2_000;
        group.request_begins(now);
        loop {
            let ask = Ask { now, key: b"10.1.2.3", sticky: Some(1), tried: &tried };
            let Picked::Endpoint(index) = group.pick(&ask) else { break };
            tried.add(index);
            // 0 goes out for good with its first try; 3 answers only when the others did.
            let outcome = if index == 0 { Outcome::Failed } else { Outcome::Status(200) };
            if index != 3 {
                group.finish(index, outcome, 100, now);
            }
        }
        if tried.contains(3) {
            group.finish(3, Outcome::Cancelled, 100, now);
        }
        group.publish(now);
        group.retry_begins(now);
        group.retry_ends();
        group.request_ends(Some(100), now);
        tried.len()
    };
    assert!(requests() >= 4, "{kind:?}: too few to say anything");
    let fewest = (0..20).map(|_| count(|| assert!(requests() >= 4)));
    assert_eq!(fewest.min(), Some(0), "{kind:?}");
}

/// Allocations while `work` runs a hundred times. The harness's own thread may add some, now and
/// then: whoever asks takes the fewest of several counts, since what the work allocates is in each.
fn count(mut work: impl FnMut()) -> u64 {
    let before = allocations();
    (0..100).for_each(|_| work());
    allocations() - before
}

/// Nested prefixes, shapes (more than are merged at once), inner stars, several hosts.
fn table(mode: RouterMode) -> Table<usize> {
    let mut uris: Vec<String> =
        ["/*", "/users/*", "/users/:id/pets/*rest", "/*a/end", "/x/*/z/*b"].map(str::to_owned).into();
    uris.extend((1..12).map(|depth| format!("/users/7/pets/rex/and/mor{}*", "e".repeat(depth % 2))));
    uris.extend((0..20).map(|mask| {
        let segment = |at: usize| if mask >> at & 1 == 1 { ":p" } else { ["x", "y", "z", "end", ""][at] };
        format!("/{}/{}/{}/{}", segment(0), segment(1), segment(2), segment(3))
    }));
    let mut table = Table::new(mode);
    let hosts: [&[&str]; 3] = [&[], &["a.test", "*.test"], &["*.b.test", "*"]];
    for (number, uri) in uris.into_iter().enumerate() {
        for hosts in hosts {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            let key = RouteKey { hosts, uris: vec![uri.clone()], priority: number as i64 % 3 };
            table.insert(&key, Arc::new(number)).expect("a good key");
        }
    }
    table
}
