//! What a request pays in this crate is time, not memory: once warm, neither a lookup nor a pick allocates.

mod counting_allocator;

use std::sync::Arc;

use balancer::route::{Params, RouteKey, Table};
use balancer::upstream::{Group, NodeSpec, Tried};
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
    let node = NodeSpec { weight: 3, priority: 0, backup: false, down: false };
    let mut group = Group::new(&[node, NodeSpec { weight: 1, ..node }, NodeSpec { backup: true, ..node }], 0);
    let fewest = (0..20).map(|_| {
        count(|| {
            let mut tried = Tried::new();
            while let Some(index) = group.pick(&tried) {
                tried.add(index);
            }
            assert_eq!(tried.len(), 3);
        })
    });
    assert_eq!(fewest.min(), Some(0));
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
