//! Where requests go: every policy over two workers, keys, sessions, rooms and queues.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tests::wait::{pace, wait_until};
use tests::{request, table, Client, Gateway, Origin};

fn toml(servers: &str, more: &str) -> String {
    format!("[[upstreams]]\nname = \"o\"\nservers = [{servers}]\n{more}\n[[routes]]\nupstream_id = \"o\"\n")
}

fn quoted(origins: &[Origin]) -> String {
    origins.iter().map(|origin| format!("\"{origin}\"")).collect::<Vec<_>>().join(", ")
}

fn named(count: usize) -> Vec<Origin> {
    (0..count).map(|index| Origin::named(&char::from(b'a' + index as u8).to_string())).collect()
}

/// One request on a connection of its own, with these fields.
fn ask(gateway: &Gateway, target: &str, fields: &str) -> String {
    let bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n");
    request(gateway.address(), &bytes).text()
}

fn count(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    names.for_each(|name| *seen.entry(name).or_default() += 1);
    seen
}

/// Each on a connection of its own, so that both workers serve: exact within one per worker.
#[test]
fn round_robin_is_exact_over_the_workers() {
    let origins = named(3);
    let [a, b, c] = &origins[..] else { panic!("three") };
    let rows = [
        (format!("\"{a}\", \"{b}\""), vec![("a", 6), ("b", 6)]),
        (format!("\"{a} weight=3\", \"{b} weight=2\", \"{c} weight=1\""), vec![("a", 6), ("b", 4), ("c", 2)]),
    ];
    table::each(
        &rows,
        |(servers, _)| servers.clone(),
        |(servers, expected)| {
            let gateway = Gateway::start(&toml(servers, ""));
            let seen = count((0..12).map(|_| ask(&gateway, "/", "")));
            for (name, share) in expected {
                let got = seen.get(*name).copied().unwrap_or(0);
                assert!(got.abs_diff(*share) <= 2, "{seen:?}");
            }
            let mut client = Client::connect(gateway.address());
            let over_one = count((0..12).map(|_| {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                client.response().text()
            }));
            let exact: BTreeMap<String, usize> =
                expected.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
            assert_eq!(over_one, exact, "one worker is exact");
        },
    );
}

#[test]
fn every_policy_uses_all_that_are_well() {
    let origins = named(3);
    for kind in ["roundrobin", "least_conn", "ewma", "p2c", "random"] {
        let gateway = Gateway::start(&toml(&quoted(&origins), &format!("type = \"{kind}\"")));
        let seen = count((0..60).map(|_| ask(&gateway, "/", "")));
        assert_eq!(seen.len(), 3, "{kind}: {seen:?}");
    }
}

#[test]
fn a_key_stays_where_it_is() {
    let origins = named(3);
    let rows = [
        ("type = \"chash\"\nkey = \"arg_k\"", "/?k={}", ""),
        ("type = \"chash\"\nhash_on = \"header\"\nkey = \"X-Key\"", "/", "X-Key: {}\r\n"),
        ("type = \"chash\"\nhash_on = \"cookie\"\nkey = \"k\"", "/", "Cookie: x=1; k={}\r\n"),
        ("type = \"chash\"\nhash_on = \"vars_combinations\"\nkey = \"$uri-$arg_k\"", "/p?k={}", ""),
        ("type = \"maglev\"\nkey = \"arg_k\"", "/?k={}", ""),
    ];
    table::each(
        &rows,
        |(more, ..)| (*more).to_owned(),
        |(more, target, fields)| {
            let gateway = Gateway::start(&toml(&quoted(&origins), more));
            let place = |key: usize| {
                let key = key.to_string();
                ask(&gateway, &target.replace("{}", &key), &fields.replace("{}", &key))
            };
            let first: Vec<String> = (0..60).map(place).collect();
            let again: Vec<String> = (0..60).map(place).collect();
            assert_eq!(first, again, "the same on both workers");
            let seen = count(first.into_iter());
            assert!(seen.len() == 3 && seen.values().all(|share| *share >= 8), "{seen:?}");
        },
    );
    // The client's address is one key.
    let gateway = Gateway::start(&toml(&quoted(&origins), "type = \"ip_hash\""));
    assert_eq!(count((0..20).map(|_| ask(&gateway, "/", ""))).len(), 1);
}

/// A failed node's keys move, nobody else's; and they come home with it.
#[test]
fn only_the_keys_of_a_failed_node_move() {
    let origins = named(3);
    let more = "type = \"chash\"\nkey = \"arg_k\"";
    let gateway = Gateway::start(&toml(&quoted(&origins), more));
    let places = |gateway: &Gateway| -> Vec<String> {
        (0..90).map(|key| ask(gateway, &format!("/?k={key}"), "")).collect()
    };
    let before = places(&gateway);
    let servers = format!("\"{} down\", \"{}\", \"{}\"", origins[0], origins[1], origins[2]);
    gateway.replace(&toml(&servers, more));
    let without = places(&gateway);
    for (old, new) in before.iter().zip(&without) {
        assert!(if old == "a" { new != "a" } else { new == old }, "{old} {new}");
    }
    gateway.replace(&toml(&quoted(&origins), more));
    assert_eq!(places(&gateway), before);
}

/// The cookie of an answer, `name=value`.
fn cookie(response: &tests::Response) -> Option<String> {
    response.get("set-cookie").and_then(|text| text.split(';').next()).map(str::to_owned)
}

fn with_cookie(gateway: &Gateway, cookie: &str) -> tests::Response {
    let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b; {cookie}\r\nConnection: close\r\n\r\n");
    request(gateway.address(), &bytes)
}

#[test]
fn a_session_stays_with_its_node() {
    let origins = named(3);
    let sticky = "sticky = { cookie = \"sid\", ttl = \"1h\", same_site = \"strict\" }";
    let gateway = Gateway::start(&toml(&quoted(&origins), sticky));
    let first = tests::get(gateway.address(), "/");
    let set = first.get("set-cookie").expect("a cookie").to_owned();
    assert!(set.starts_with("sid=") && set.contains("Max-Age=3600"), "{set}");
    assert!(set.contains("; HttpOnly") && set.contains("; SameSite=Strict"), "{set}");
    let own = cookie(&first).expect("name=value");
    let address = origins[usize::from(first.text().as_bytes()[0] - b'a')].address().to_string();
    assert!(!own.contains(&address) && !own.contains(&address[10..]), "it is opaque: {own}");
    for _ in 0..10 {
        let response = with_cookie(&gateway, &own);
        assert_eq!((response.text(), response.get("set-cookie")), (first.text(), None));
    }
    // Forged, cut and foreign cookies name nobody: a new pick, a new cookie.
    for forged in ["sid=", "sid=b", &own[..own.len() - 2], &format!("{own}A")] {
        assert!(with_cookie(&gateway, forged).get("set-cookie").is_some(), "{forged}");
    }
    // Over a reload, and over changes of the other servers.
    let home = first.text();
    let others: Vec<&Origin> = origins
        .iter()
        .enumerate()
        .filter(|(index, _)| home.as_bytes()[0] - b'a' != *index as u8)
        .map(|(_, o)| o)
        .collect();
    let own_server = &origins[usize::from(home.as_bytes()[0] - b'a')];
    gateway.replace(&toml(&format!("\"{}\", \"{own_server} weight=1\"", others[0]), sticky));
    assert_eq!(with_cookie(&gateway, &own).text(), home);
    // Draining: the session stays, new ones do not come.
    gateway.replace(&toml(&format!("\"{}\", \"{own_server} drain\"", others[0]), sticky));
    for _ in 0..6 {
        assert_eq!(with_cookie(&gateway, &own).text(), home);
        assert_ne!(tests::get(gateway.address(), "/").text(), home);
    }
    // Down: a new pick and a new cookie.
    gateway.replace(&toml(&format!("\"{}\", \"{own_server} down\"", others[0]), sticky));
    let moved = with_cookie(&gateway, &own);
    assert_ne!(moved.text(), home);
    assert!(cookie(&moved).is_some_and(|new| new != own));
}

/// Two gateways with one key understand each other's cookies; without, they do not. The key itself shows nowhere.
#[test]
fn sessions_are_shared_by_configuration() {
    let origins = named(2);
    let keyed =
        |key: &str| format!("[server]\nsticky_key = \"{key}\"\n{}", toml(&quoted(&origins), "sticky = true"));
    let (one, other) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    let first = Gateway::start(&keyed(one));
    let same = Gateway::start(&keyed(one));
    let different = Gateway::start(&keyed(other));
    let answer = tests::get(first.address(), "/");
    let own = cookie(&answer).expect("a cookie");
    for _ in 0..4 {
        let response = with_cookie(&same, &own);
        assert_eq!((response.text(), response.get("set-cookie")), (answer.text(), None));
        assert!(with_cookie(&different, &own).get("set-cookie").is_some());
    }
    assert!(!first.log_text().contains(one));
}

/// When the node of a session fails, the request goes elsewhere and the cookie with it.
#[test]
fn a_session_moves_when_its_node_fails() {
    let origins = named(2);
    let gone = Origin::refused();
    let more = "sticky = true";
    // A cookie for a node that is no more: its port refuses.
    let gateway = Gateway::start(&toml(&format!("{}, \"{gone}\"", quoted(&origins)), more));
    let mut moved = 0;
    for _ in 0..9 {
        let response = tests::get(gateway.address(), "/");
        assert_eq!(response.status, 200);
        let own = cookie(&response).expect("a cookie");
        // Whatever was tried first, the cookie names the one that answered.
        assert_eq!(with_cookie(&gateway, &own).text(), response.text());
        moved += usize::from(gateway.metric("ringway_retries_total", &[]) > 0.0);
    }
    assert!(moved > 0, "no try met the dead node");
}

#[test]
fn max_conns_is_exact_and_the_rest_wait_or_are_told() {
    let slow = Origin::each(|_| {
        pace(Duration::from_millis(300));
        tests::ok("slow")
    });
    // Without a queue: eight at once, three go through.
    let gateway = Gateway::start(&toml(&format!("\"{slow} max_conns=3\""), ""));
    let statuses = at_once(&gateway, 8);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 3, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 5, "{statuses:?}");
    // With a queue all of them, in three rounds and a bit.
    let before = slow.count();
    let gateway =
        Gateway::start(&toml(&format!("\"{slow} max_conns=3\""), "queue = { size = 10, timeout = \"5s\" }"));
    let began = Instant::now();
    assert_eq!(at_once(&gateway, 8), [200; 8]);
    assert!(began.elapsed() >= Duration::from_millis(850), "{:?}", began.elapsed());
    assert!(slow.open() <= 3 || slow.count() == before + 8);
    // A wait has an end, and says when to come again.
    let gateway = Gateway::start(&toml(
        &format!("\"{slow} max_conns=1\""),
        "queue = { size = 10, timeout = \"100ms\" }",
    ));
    let statuses = at_once(&gateway, 3);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
}

/// So many requests at the same time, each on a connection of its own.
fn at_once(gateway: &Gateway, count: usize) -> Vec<u16> {
    let address = gateway.address();
    let threads: Vec<_> = (0..count)
        .map(|_| {
            std::thread::spawn(move || {
                let response = tests::get(address, "/");
                if response.status == 503 {
                    assert!(response.get("retry-after").is_some_and(|seconds| seconds != "0"));
                }
                response.status
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}

/// Room is made when a client that waits leaves, and nothing of it goes upstream.
#[test]
fn a_client_that_leaves_the_queue_is_not_served() {
    let slow = Origin::each(|_| {
        pace(Duration::from_millis(500));
        tests::ok("slow")
    });
    let gateway =
        Gateway::start(&toml(&format!("\"{slow} max_conns=1\""), "queue = { size = 10, timeout = \"10s\" }"));
    let mut holder = Client::connect(gateway.address());
    holder.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the room is taken", || slow.count() == 1);
    let mut waiting = Client::connect(gateway.address());
    waiting.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("one waits", || gateway.metric("ringway_queued_total", &[]) == 1.0);
    drop(waiting);
    assert_eq!(gateway.wait_access_of("/left")["status"], 499);
    assert_eq!(holder.response().text(), "slow");
    assert_eq!(slow.count(), 1);
}

/// least_conn counts what all workers have under way: the busy node gets nothing while others are free.
#[test]
fn least_conn_counts_all_workers() {
    let slow = Origin::each(|request| {
        if request.target == "/hold" {
            pace(Duration::from_secs(6));
        }
        tests::ok("slow")
    });
    let fast = Origin::named("fast");
    let gateway = Gateway::start(&toml(&format!("\"{slow}\", \"{fast}\""), "type = \"least_conn\""));
    // Until several requests hang at the slow one.
    let mut held = Vec::new();
    while slow.seen().iter().filter(|seen| seen.target == "/hold").count() < 3 {
        let mut client = Client::connect(gateway.address());
        let before = slow.count() + fast.count();
        client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
        wait_until("it is asked", || slow.count() + fast.count() > before);
        held.push(client);
    }
    // What the other worker has under way is known within 10 ms, unless this machine has other things to do.
    let mut seen = BTreeMap::new();
    wait_until("all go to the free one", || {
        seen = count((0..20).map(|_| ask(&gateway, "/", "")));
        seen.get("fast") == Some(&20)
    });
}

/// A few slow answers, and the latency-aware policy stays away.
#[test]
fn ewma_stays_away_from_the_slow() {
    let slow = Origin::each(|_| {
        pace(Duration::from_millis(150));
        tests::ok("slow")
    });
    let fast = named(2);
    let gateway = Gateway::start(&toml(&format!("\"{slow}\", {}", quoted(&fast)), "type = \"ewma\""));
    let seen = count((0..150).map(|_| ask(&gateway, "/", "")));
    assert!(seen.get("slow").copied().unwrap_or(0) <= 10, "{seen:?}");
}

#[test]
fn a_concurrency_limit_sheds_what_is_too_much() {
    let slow = Origin::each(|_| {
        pace(Duration::from_millis(400));
        tests::ok("slow")
    });
    let gateway = Gateway::start(&toml(
        &format!("\"{slow}\""),
        "concurrency_limit = { initial = 4, min = 2, max = 4 }",
    ));
    let statuses = at_once(&gateway, 12);
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert!((2..=4).contains(&served), "{statuses:?}");
    assert_eq!(gateway.wait_access("one is shed", |record| record["term"] == "shed")["status"], 503);
}

/// A circuit opens for an endpoint that fails, and while all are open the answer is 503 at once.
#[test]
fn a_circuit_opens_and_closes() {
    let failing = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let flag = failing.clone();
    let origin = Origin::each(move |_| match flag.load(std::sync::atomic::Ordering::SeqCst) {
        true => b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno".to_vec(),
        false => tests::ok("fine"),
    });
    let gateway = Gateway::start(&toml(
        &format!("\"{origin}\""),
        "breaker = { error_ratio = \"50%\", window = \"10s\", min_requests = 10, open = \"1s\", trials = 2 }",
    ));
    wait_until("the circuit is open", || tests::get(gateway.address(), "/").status == 503);
    let asked = origin.count();
    for _ in 0..5 {
        let response = tests::get(gateway.address(), "/");
        assert_eq!(response.status, 503);
        assert!(response.get("retry-after").is_some());
    }
    assert_eq!(origin.count(), asked, "an open circuit asks nobody");
    failing.store(false, std::sync::atomic::Ordering::SeqCst);
    wait_until("the circuit is closed", || tests::get(gateway.address(), "/").status == 200);
    // The last trial counts when its worker has ended it, which may be after its answer was read.
    wait_until("the circuit is closed for all", || (0..10).all(|_| ask(&gateway, "/", "") == "fine"));
}

/// A node that is new to a running upstream takes its share by and by.
#[test]
fn a_new_node_starts_slowly() {
    let origins = named(2);
    let old = format!("\"{}\"", origins[0]);
    let gateway = Gateway::start(&toml(&old, "slow_start = \"60s\""));
    assert_eq!(ask(&gateway, "/", ""), "a");
    gateway.replace(&toml(&quoted(&origins), "slow_start = \"60s\""));
    let seen = count((0..100).map(|_| ask(&gateway, "/", "")));
    assert!(seen.get("b").copied().unwrap_or(0) <= 20, "{seen:?}");
    assert!(seen.get("a").copied().unwrap_or(0) >= 80, "{seen:?}");
}
