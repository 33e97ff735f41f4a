//! Times which route a request takes, among 40,000. Which endpoint it goes to is timed by `pick`.
//!
//! A plain loop over the best of several rounds: the figures wanted are tens of nanoseconds, and the
//! best round is the one that nothing else disturbed. Lookups go over all routes in a shuffled
//! order, so that the caches hold what they would hold in service, not the last answer.
//! `cargo bench -p balancer --bench route`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use balancer::route::{Params, RouteKey, Table};
use config::RouterMode;

const ROUTES: usize = 40_000;
const ROUNDS: usize = 9;

fn main() {
    // `cargo test --all-targets` runs this too, without the flag: times of a debug build mean nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    for (name, mode) in [
        ("radixtree_host_uri", RouterMode::HostUri),
        ("radixtree_uri", RouterMode::Uri),
        ("radixtree_uri_with_parameter", RouterMode::UriWithParameter),
    ] {
        table(name, mode);
    }
    hostile();
}

/// All requests in one piece of memory, in the order in which they are asked: a request that was just
/// received is in the cache, so that what is timed is the table's memory alone.
struct Requests {
    bytes: Vec<u8>,
    /// Number, length of the host, length of the path.
    lengths: Vec<(usize, usize, usize)>,
}

impl Requests {
    fn new(routes: &[(usize, (RouteKey, String, String))]) -> Requests {
        let bytes =
            routes.iter().flat_map(|(_, (_, host, path))| [host.as_bytes(), path.as_bytes()].concat());
        let lengths = routes.iter().map(|(number, (_, host, path))| (*number, host.len(), path.len()));
        Requests { bytes: bytes.collect(), lengths: lengths.collect() }
    }

    fn each(&self, mut ask: impl FnMut(usize, &[u8], &[u8])) {
        let mut rest = &self.bytes[..];
        for &(number, host_bytes, path_bytes) in &self.lengths {
            let (request, after) = rest.split_at(host_bytes + path_bytes);
            let (host, path) = request.split_at(host_bytes);
            ask(number, host, path);
            rest = after;
        }
    }
}

/// Hosts, wildcards, prefixes, exact paths and (where they count) parameters, in equal parts.
fn route(number: usize, params: bool) -> (RouteKey, String, String) {
    let (host, host_asked) = match number % 4 {
        0 => (None, "other.example.net".to_owned()),
        1 => (Some(format!("*.s{}.example.com", number / 80)), format!("x.s{}.example.com", number / 80)),
        _ => (Some(format!("s{}.example.com", number / 80)), format!("s{}.example.com", number / 80)),
    };
    let (uri, path) = match number % 5 {
        0 => (format!("/api/v1/resource{number}/*"), format!("/api/v1/resource{number}/items/17")),
        1 => (format!("/static/{number}/index.html"), format!("/static/{number}/index.html")),
        2 if params => (format!("/users/:id/orders{number}/:order"), format!("/users/4711/orders{number}/9")),
        2 => (format!("/users/{number}/orders/*"), format!("/users/{number}/orders/9")),
        3 => (format!("/v2/{}/items/{number}", number % 97), format!("/v2/{}/items/{number}", number % 97)),
        _ => (format!("/{number}/*"), format!("/{number}/a/b/c")),
    };
    let hosts = host.into_iter().collect();
    (RouteKey { hosts, uris: vec![uri], priority: 0 }, host_asked, path)
}

fn table(name: &str, mode: RouterMode) {
    let params = mode == RouterMode::UriWithParameter;
    let mut routes: Vec<_> = (0..ROUTES).map(|number| (number, route(number, params))).collect();
    let load = || {
        let mut table = Table::new(mode);
        for (number, (key, ..)) in &routes {
            table.insert(key, Arc::new(*number)).expect("a good key");
        }
        table
    };
    row(&format!("{name}: load {ROUTES} routes"), best(|| drop(black_box(load()))) * 1e-3, "us");
    let mut table = load();
    shuffle(&mut routes);

    let mut found = Params::new();
    let requests = Requests::new(&routes);
    let all = best(|| {
        requests.each(|number, host, path| {
            let route = table.find(host, 80, path, &mut found, &mut |_, _| true);
            assert_eq!(route.map(|route| **route), Some(number));
        });
    });
    row(&format!("{name}: find, every route once, shuffled"), all / ROUTES as f64, "ns");
    let few = Requests::new(&routes[..1000]);
    let in_use = best(|| {
        for _ in 0..10 {
            few.each(|number, host, path| {
                let route = table.find(host, 80, path, &mut found, &mut |_, _| true);
                assert_eq!(route.map(|route| **route), Some(number));
            });
        }
    });
    row(&format!("{name}: find, 1,000 of them in use"), in_use / 1e4, "ns");
    let (_, (_, host, path)) = &routes[0];
    let one = best(|| {
        for _ in 0..10_000 {
            black_box(table.find(
                host.as_bytes(),
                80,
                black_box(path.as_bytes()),
                &mut found,
                &mut |_, _| true,
            ));
        }
    });
    row(&format!("{name}: find, the same route again"), one / 1e4, "ns");
    let none = best(|| {
        for _ in 0..10_000 {
            black_box(table.find(b"x.s7.example.com", 80, b"/nothing/here", &mut found, &mut |_, _| true));
        }
    });
    row(&format!("{name}: find, no match"), none / 1e4, "ns");

    let (key, ..) = route(ROUTES + 1, params);
    let extra = Arc::new(ROUTES + 1);
    let edit = best(|| {
        for _ in 0..100 {
            let mut next = table.clone();
            next.insert(&key, extra.clone()).expect("a good key");
            table = black_box(next);
            table.remove(&key, &extra);
        }
    });
    row(&format!("{name}: clone, insert one, swap, remove it"), edit / 1e2, "ns");
}

/// Long paths made to be slow, over tables that nest.
fn hostile() {
    let mut table = Table::new(RouterMode::UriWithParameter);
    let deep = (1..64).map(|depth| format!("{}/end", "/:a".repeat(depth)));
    let nested = (1..64).map(|depth| format!("{}/*", "/a".repeat(depth)));
    let stars = (1..64).map(|depth| format!("{}/end", "/*/a".repeat(depth)));
    for (number, uri) in deep.chain(nested).chain(stars).enumerate() {
        let key = RouteKey { uris: vec![uri], ..RouteKey::default() };
        table.insert(&key, Arc::new(number)).expect("a good key");
    }
    let mut found = Params::new();
    for bytes in [1024, 16 * 1024] {
        let path = "/a".repeat(bytes / 2);
        let time = best(|| {
            black_box(table.find(b"h", 80, path.as_bytes(), &mut found, &mut |_, _| false));
        });
        row(&format!("hostile: {bytes} bytes, 189 nested patterns, all refused"), time * 1e-3, "us");
    }
}

/// The best of some rounds, in nanoseconds.
fn best(mut work: impl FnMut()) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_nanos() as f64
    });
    rounds.fold(f64::MAX, f64::min)
}

fn row(name: &str, value: f64, unit: &str) {
    println!("{name:<64} {value:>10.1} {unit}");
}

fn shuffle<T>(items: &mut [T]) {
    let mut state = 1_u64;
    for end in (1..items.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(end, (state >> 33) as usize % (end + 1));
    }
}
