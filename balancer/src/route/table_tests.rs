//! The table against a naive matcher that is written straight from the rules: all routes, all their
//! hosts and URIs, sorted, the first that is accepted. Random tables and requests from small
//! alphabets, so that nearly everything collides with something.

use std::cmp::Reverse;
use std::sync::Arc;

use config::RouterMode;

use super::params::Params;
use super::table::{RouteError, RouteKey, Table};
use crate::seeded::Random;

const MODES: [RouterMode; 3] = [RouterMode::HostUri, RouterMode::Uri, RouterMode::UriWithParameter];

/// A route with its number in the order of insertion.
#[derive(Clone, Debug)]
struct Written {
    key: RouteKey,
    number: usize,
}

struct Asked<'a> {
    host: &'a str,
    port: u16,
    path: &'a str,
}

/// Whether a host pattern takes the request, and how specific it is: exact, length, port.
fn naive_host(pattern: &str, asked: &Asked<'_>) -> Option<(bool, usize, bool)> {
    let (name, port) = match pattern.split_once(':') {
        Some((name, port)) => (name, Some(port.parse::<u16>().expect("a port"))),
        None => (pattern, None),
    };
    if port.is_some_and(|port| port != asked.port) {
        return None;
    }
    let name = name.to_lowercase();
    match name.strip_prefix('*') {
        Some(suffix) => asked.host.ends_with(suffix).then_some((false, suffix.len(), port.is_some())),
        None => (name == asked.host).then_some((true, name.len(), port.is_some())),
    }
}

/// Whether a URI takes the path: exact, bytes before the first parameter or star.
fn naive_uri(uri: &str, path: &str, params: bool) -> Option<(bool, usize)> {
    let starts = |at: usize| at == 0 || uri.as_bytes()[at - 1] == b'/';
    let special = uri.char_indices().find(|(at, c)| *c == '*' || (params && *c == ':' && starts(*at)));
    let Some((at, _)) = special else { return (uri == path).then_some((true, uri.len())) };
    if !path.starts_with(&uri[..at]) {
        return None;
    }
    let fits = !starts(at) || {
        let pattern: Vec<&str> = uri[at..].split('/').collect();
        let segments: Vec<&str> = path[at..].split('/').collect();
        naive_segments(&pattern, &segments, params)
    };
    fits.then_some((false, at))
}

fn naive_segments(pattern: &[&str], path: &[&str], params: bool) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((first, rest)) if first.starts_with('*') => {
            (1..=path.len()).any(|taken| naive_segments(rest, &path[taken..], params))
        }
        Some((first, rest)) => path.split_first().is_some_and(|(segment, left)| {
            let fits = if params && first.starts_with(':') { !segment.is_empty() } else { first == segment };
            fits && naive_segments(rest, left, params)
        }),
    }
}

/// The numbers of all routes that match, first to last, each where it stands first.
fn naive(mode: RouterMode, routes: &[Written], asked: &Asked<'_>) -> Vec<usize> {
    let mut found = Vec::new();
    for route in routes {
        let key = &route.key;
        let hosts: Vec<_> = match key.hosts.is_empty() {
            true => vec![(false, 0, false)],
            false => key.hosts.iter().filter_map(|host| naive_host(host, asked)).collect(),
        };
        for host in hosts {
            // Under a host goes before without one, however short the wildcard.
            let host = (mode == RouterMode::HostUri).then_some((!key.hosts.is_empty(), host));
            for uri in &key.uris {
                if let Some(fit) = naive_uri(uri, asked.path, mode == RouterMode::UriWithParameter) {
                    let order = (host, fit, key.priority, uri.len(), Reverse(route.number));
                    found.push((Reverse(order), route.number));
                }
            }
        }
    }
    found.sort();
    let mut order: Vec<usize> = Vec::new();
    found.into_iter().for_each(|(_, number)| {
        if !order.contains(&number) {
            order.push(number);
        }
    });
    order
}

/// All routes that the table offers if each is refused.
fn offered(table: &Table<Written>, asked: &Asked<'_>, params: &mut Params) -> Vec<usize> {
    let mut order = Vec::new();
    let none =
        table.find(asked.host.as_bytes(), asked.port, asked.path.as_bytes(), params, &mut |route, _| {
            if !order.contains(&route.number) {
                order.push(route.number);
            }
            false
        });
    assert!(none.is_none() && params.is_empty());
    order
}

fn random_key(random: &mut Random) -> RouteKey {
    const HOSTS: [&str; 12] = [
        "a.com",
        "b.a.com",
        "*.a.com",
        "*.b.a.com",
        "*.com",
        "*a.com",
        "*",
        "A.com:81",
        "*.a.com:81",
        "b.com",
        "*:81",
        "c.b.a.com",
    ];
    const SEGMENTS: [&str; 12] = ["a", "b", "c", "ab", ":x", ":y", "a", "*", "*r", "", "abc", "b"];
    let hosts = (0..random.below(4)).map(|_| random.of(&HOSTS).to_owned()).collect();
    let uris = (0..1 + random.below(3)).map(|_| {
        let mut uri: String = (0..random.below(5)).map(|_| format!("/{}", random.of(&SEGMENTS))).collect();
        match random.below(4) {
            0 => uri.push_str("/*"),
            1 => uri.push_str("/a*"),
            2 => uri.push_str("/a"),
            _ if uri.is_empty() => uri.push('/'),
            _ => {}
        }
        uri
    });
    RouteKey { hosts, uris: uris.collect(), priority: random.below(3) as i64 - 1 }
}

fn random_request(random: &mut Random) -> (&'static str, u16, String) {
    const HOSTS: [&str; 8] =
        ["a.com", "b.a.com", "c.b.a.com", "d.c.b.a.com", "b.com", "xa.com", ".a.com", ""];
    const SEGMENTS: [&str; 7] = ["a", "b", "c", "ab", "abc", "", "d"];
    let mut path: String = (0..random.below(6)).map(|_| format!("/{}", random.of(&SEGMENTS))).collect();
    if path.is_empty() {
        path.push('/');
    }
    (random.of(&HOSTS), [80, 81][random.below(2)], path)
}

fn insert(table: &mut Table<Written>, routes: &mut Vec<Arc<Written>>, route: Written) {
    let route = Arc::new(route);
    match table.insert(&route.key, route.clone()) {
        Ok(()) => routes.push(route),
        Err(error) => assert!(matches!(error, RouteError::StarInside { .. }), "{error}"),
    }
}

fn agree(seed: u64, mode: RouterMode, table: &Table<Written>, routes: &[Arc<Written>], random: &mut Random) {
    let written: Vec<Written> = routes.iter().map(|route| (**route).clone()).collect();
    assert_eq!(table.len(), routes.len(), "seed {seed}");
    let mut params = Params::new();
    for _ in 0..12 {
        let (host, port, path) = random_request(random);
        let asked = Asked { host, port, path: &path };
        let expected = naive(mode, &written, &asked);
        let got = offered(table, &asked, &mut params);
        assert_eq!(got, expected, "seed {seed} {mode:?} {host}:{port}{path} {written:#?}");
        // And the one that is taken is the first that is accepted.
        let accepts = |number: usize| number % 3 != 0;
        let taken = table
            .find(host.as_bytes(), port, path.as_bytes(), &mut params, &mut |route, _| accepts(route.number));
        let first = expected.into_iter().find(|number| accepts(*number));
        assert_eq!(taken.map(|route| route.number), first, "seed {seed}");
    }
}

#[test]
fn like_the_naive_matcher() {
    for seed in 0..4000 {
        let mut random = Random::new(seed);
        let mode = MODES[random.below(3)];
        let mut table = Table::new(mode);
        let mut routes = Vec::new();
        for number in 0..1 + random.below(40) {
            insert(&mut table, &mut routes, Written { key: random_key(&mut random), number });
        }
        agree(seed, mode, &table, &routes, &mut random);
        // Some go, and an older clone keeps them.
        let (older, before) = (table.clone(), routes.clone());
        for number in 100..100 + random.below(20) {
            if random.below(2) == 0 && !routes.is_empty() {
                let gone = routes.remove(random.below(routes.len()));
                table.remove(&gone.key, &gone);
            } else {
                insert(&mut table, &mut routes, Written { key: random_key(&mut random), number });
            }
        }
        agree(seed, mode, &table, &routes, &mut random);
        agree(seed, mode, &older, &before, &mut random);
        for gone in routes.drain(..) {
            table.remove(&gone.key, &gone);
            // A second time changes nothing.
            table.remove(&gone.key, &gone);
        }
        assert!(table.is_empty() && table.holds_nothing(), "seed {seed}: something is left");
    }
}

/// Routes as `"a.com,*.b.com /x,/y 5"` (hosts or `-`, URIs, priority), numbered from 0.
fn table_of(mode: RouterMode, routes: &[&str]) -> Table<usize> {
    let mut table = Table::new(mode);
    for (number, route) in routes.iter().enumerate() {
        let words: Vec<&str> = route.split(' ').collect();
        let list = |text: &str| text.split(',').filter(|word| *word != "-").map(str::to_owned).collect();
        let priority = words.get(2).map_or(0, |word| word.parse().expect("a priority"));
        let key = RouteKey { hosts: list(words[0]), uris: list(words[1]), priority };
        table.insert(&key, Arc::new(number)).expect(route);
    }
    table
}

/// The order in which `"host /path"` is offered to the routes, and the parameters at the first.
fn check(mode: RouterMode, routes: &[&str], request: &str, expected: &str) {
    let table = table_of(mode, routes);
    let (host, path) = request.split_once(' ').expect("host and path");
    let (host, port) = host.split_once(':').unwrap_or((host, "80"));
    let mut order = Vec::new();
    let mut names = Vec::new();
    let mut params = Params::new();
    let port = port.parse().expect("a port");
    table.find(host.as_bytes(), port, path.as_bytes(), &mut params, &mut |route, params| {
        if order.is_empty() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            names = params.iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect();
        }
        order.push(route.to_string());
        false
    });
    order.extend(names);
    assert_eq!(order.join(" "), expected, "{routes:?} {request}");
}

#[test]
fn rules() {
    use RouterMode::{HostUri, Uri, UriWithParameter};
    let hosts = ["- /x", "a.com /*", "*.a.com /x", "*.com /x"];
    check(HostUri, &hosts, "a.com /x", "1 3 0");
    check(HostUri, &hosts, "b.a.com /x", "2 3 0");
    check(Uri, &hosts, "a.com /x", "0 3 1");
    let uris = ["- /a/* 9", "- /a/b", "- /a/b* 1", "- /a/b* 2", "- /* 99"];
    check(HostUri, &uris, "h /a/b", "1 3 2 0 4");
    check(HostUri, &uris, "h /a/b/", "3 2 0 4");
    check(HostUri, &["- /a/b/", "- /a/b"], "h /a/b", "1");
    check(HostUri, &["a.com /*", "a.com:81 /*"], "a.com:81 /", "1 0");
    check(HostUri, &["a.com /*", "a.com:81 /*"], "a.com /", "0");
    check(HostUri, &["- /user/:id"], "h /user/7", "");
    check(HostUri, &["- /user/:id"], "h /user/:id", "0");
    let params = ["- /user/:id", "- /user/*", "- /user/:id/pets", "- /user/me", "- /user/*rest 1"];
    check(UriWithParameter, &params, "h /user/7", "4 0 1 rest=7");
    check(UriWithParameter, &params, "h /user/me", "3 4 0 1");
    check(UriWithParameter, &params, "h /user/7/pets", "4 2 1 rest=7/pets");
    check(UriWithParameter, &["a.com,*.com /:x/b"], "a.com /1/b", "0 x=1");
    check(UriWithParameter, &["a.com /:x/b", "*.com /:y/b", "- /*"], "a.com /1/b", "0 1 2 x=1");
}

#[test]
fn places_hold_the_order() {
    let key = RouteKey { uris: vec!["/*".to_owned()], ..RouteKey::default() };
    let mut table = Table::new(RouterMode::HostUri);
    for place in [30, 10, 20] {
        table.insert_at(&key, place, Arc::new(place)).expect("a plain key");
    }
    let mut order = Vec::new();
    table.find(b"h", 80, b"/", &mut Params::new(), &mut |place, _| {
        order.push(**place);
        false
    });
    assert_eq!(order, [10, 20, 30]);
}

#[test]
fn refused_keys_change_nothing() {
    let mut table = table_of(RouterMode::UriWithParameter, &["- /x"]);
    let key = |host: &str, uri: &str| RouteKey {
        hosts: vec!["ok.com".to_owned(), host.to_owned()],
        uris: vec!["/ok".to_owned(), uri.to_owned()],
        priority: 0,
    };
    for bad in [key("a.*", "/x"), key("a", ""), key("a", "/a*b"), key("a", "/:"), key("", "/x")] {
        assert!(table.insert(&bad, Arc::new(9)).is_err(), "{bad:?}");
    }
    let long = key("a", &"/a".repeat(3000));
    assert_eq!(table.insert(&long, Arc::new(9)), Err(RouteError::UriTooLong { bytes: 6000 }));
    assert_eq!(table.insert(&RouteKey::default(), Arc::new(9)), Err(RouteError::NoUri));
    assert_eq!(table.len(), 1);
    let found = table.find(b"ok.com", 80, b"/ok", &mut Params::new(), &mut |_, _| true);
    assert!(found.is_none());
}

/// More lists than are merged at once: 20 shapes under one prefix, each with a route or two.
#[test]
fn many_shapes_at_once() {
    let mut routes = Vec::new();
    for mask in 0..32_u32 {
        let segments =
            (0..5).map(|at| if mask >> at & 1 == 1 { "/a".to_owned() } else { format!("/:p{at}") });
        routes.push(format!("- /{} {}", segments.collect::<String>().trim_start_matches('/'), mask % 3));
    }
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    let table = table_of(RouterMode::UriWithParameter, &routes);
    let written: Vec<Written> =
        routes.iter().enumerate().map(|(number, route)| written(route, number)).collect();
    let asked = Asked { host: "h", port: 80, path: "/a/a/a/a/a" };
    let mut order = Vec::new();
    table.find(b"h", 80, b"/a/a/a/a/a", &mut Params::new(), &mut |route, _| {
        order.push(**route);
        false
    });
    assert_eq!(order.len(), 32);
    assert_eq!(order, naive(RouterMode::UriWithParameter, &written, &asked));
}

fn written(route: &str, number: usize) -> Written {
    let words: Vec<&str> = route.split(' ').collect();
    let key = RouteKey {
        hosts: Vec::new(),
        uris: vec![words[1].to_owned()],
        priority: words[2].parse().expect("a priority"),
    };
    Written { key, number }
}

/// Paths made to be slow: nothing here may take time that grows faster than the path.
#[test]
fn hostile_paths_do_bounded_work() {
    let mut routes: Vec<String> = (1..60).map(|depth| format!("- {}/end", "/:a".repeat(depth))).collect();
    routes.extend((1..40).map(|depth| format!("- {}/*", "/a".repeat(depth))));
    routes.extend((1..40).map(|depth| format!("- {}/end", "/*/a".repeat(depth))));
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    let table = table_of(RouterMode::UriWithParameter, &routes);
    let mut params = Params::new();
    for path in ["/a".repeat(8000), "/a".repeat(58) + "/en", "/".repeat(16000)] {
        let mut tried = 0;
        for _ in 0..20 {
            table.find(b"h", 80, path.as_bytes(), &mut params, &mut |_, _| {
                tried += 1;
                false
            });
        }
        assert!(tried <= 20 * 140, "{tried} candidates");
    }
}
