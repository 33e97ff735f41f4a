//! Further tries: by status, with a time of their own, with a pause, within a budget; hedged tries; and what becomes
//! of request bodies on the way.

use std::time::{Duration, Instant};
use tests::origin::{chunks, ok};
use tests::{request, table, Client, Gateway, Origin};

fn upstream(servers: &str, more: &str) -> String {
    format!("[[upstreams]]\nname = \"o\"\nservers = [{servers}]\n{more}\n[[routes]]\nupstream_id = \"o\"\n")
}

fn status(code: u16) -> Origin {
    Origin::fixed(format!("HTTP/1.1 {code} No\r\nContent-Length: 2\r\n\r\nno"))
}

#[test]
fn a_status_that_counts_as_a_failure_goes_elsewhere() {
    let busy = status(503);
    let good = Origin::named("fine");
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let rows = [
        ("retry = { on = [502, 503, 504] }", get, 200),
        ("retry = { on = [502, 504] }", get, 503),
        ("", get, 503),
        ("retries = 0\nretry = { on = [503] }", get, 503),
        ("retry = { on = [503] }", post, 503),
        ("retry = { on = [503], methods = [\"POST\"] }", post, 200),
        ("retry = { on = [503], methods = [\"POST\"] }", get, 503),
    ];
    table::each(
        &rows,
        |(more, request, _)| format!("{more} {}", &request[..4]),
        |(more, bytes, expected)| {
            let gateway = Gateway::start(&upstream(&format!("\"{busy}\", \"{good} backup\""), more));
            let response = request(gateway.address(), bytes);
            assert_eq!(response.status, *expected);
            if *expected == 200 {
                let record = gateway.wait_access("two tries", |record| record["tries"] == 2);
                assert_eq!(record["upstream_status"], serde_json::json!([503, 200]), "{record}");
                assert_eq!(good.last().method, bytes.split(' ').next().expect("a method"));
            }
        },
    );
    assert!(good.seen().iter().all(|seen| seen.method != "POST" || seen.body == b"hello"));
}

/// When all answer with it, the last answer is the client's, as it came.
#[test]
fn the_last_answer_is_passed_on_whatever_its_status() {
    let (first, second) = (status(503), status(503));
    let gateway = Gateway::start(&upstream(&format!("\"{first}\", \"{second}\""), "retry = { on = [503] }"));
    let mut client = Client::connect(gateway.address());
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (503, "no"));
        assert_eq!(response.get("x-ringway-upstream-status"), Some("503, 503"));
    }
    assert_eq!((first.count(), second.count()), (3, 3));
    // An answer that is passed over was read to its end: its connection is used again.
    assert!(first.connections() <= 2 && second.connections() <= 2);
}

/// With nobody well left to ask, the answer is not given up for a try that cannot be.
#[test]
fn an_answer_is_kept_when_there_is_nobody_else() {
    let busy = status(503);
    let gone = Origin::refused();
    let gateway = Gateway::start(&upstream(
        &format!("\"{gone} max_fails=1 fail_timeout=60s\", \"{busy}\""),
        "retry = { on = [503] }",
    ));
    let mut client = Client::connect(gateway.address());
    let mut ask = || {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        (response.status, response.text())
    };
    // The first to be tried elsewhere finds the other gone, which takes it out.
    ask();
    let before = busy.count();
    for _ in 0..6 {
        assert_eq!(ask(), (503, "no".to_owned()));
    }
    assert_eq!(busy.count(), before + 6);
}

#[test]
fn each_try_has_its_own_time() {
    let silent = Origin::silent();
    let good = Origin::named("fine");
    let gateway = Gateway::start(&upstream(
        &format!("\"{silent}\", \"{good} backup\""),
        "retry = { per_try_timeout = \"300ms\" }",
    ));
    let began = Instant::now();
    assert_eq!(tests::get(gateway.address(), "/").text(), "fine");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(250) && took < Duration::from_secs(3), "{took:?}");
    let alone = Gateway::start(&upstream(
        &format!("\"{silent}\""),
        "retries = 0\nretry = { per_try_timeout = \"300ms\" }",
    ));
    assert_eq!(tests::get(alone.address(), "/").status, 504);
}

#[test]
fn a_pause_lies_between_tries() {
    let gone = Origin::refused();
    let gateway = Gateway::start(&upstream(
        &format!("\"{gone}\""),
        "retries = 8\nretry = { backoff = { base = \"200ms\", max = \"200ms\" } }",
    ));
    let began = Instant::now();
    let response = tests::get(gateway.address(), "/");
    // Eight pauses of 0 to 200 ms each: 800 ms on average.
    assert_eq!(response.status, 502);
    assert!(began.elapsed() > Duration::from_millis(150), "{:?}", began.elapsed());
    assert_eq!(response.get("x-ringway-upstream-status").map(|tried| tried.split(", ").count()), Some(8));
    let record = gateway.wait_access("nine tries", |record| record["tries"] == 9);
    assert_eq!(record["status"], 502);
}

/// `retries` as large as they are, the budget holds when everything fails.
#[test]
fn a_budget_bounds_further_tries() {
    let busy = status(503);
    let count = 300;
    let gateway = Gateway::start(&upstream(
        &format!("\"{busy}\""),
        "retries = 10\nretry = { on = [503], budget = \"20%\" }",
    ));
    let mut client = Client::connect(gateway.address());
    for _ in 0..count {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status, 503);
    }
    let tries = busy.count();
    // A fifth more, and a small reserve so that a few requests may be repeated at all.
    assert!(tries > count && tries <= count * 12 / 10 + 30, "{tries} tries of {count} requests");
    assert!(gateway.metric("ringway_retries_refused_total", &[]) > 0.0);
}

/// A body that comes piece by piece is kept as it streams, and goes to the next endpoint whole.
#[test]
fn a_streamed_body_is_replayed() {
    // Breaks the connection in the middle of the first body it gets.
    let broken = Origin::script(|mut peer| {
        peer.head();
        peer.reset();
    });
    let whole = Origin::each(|request| ok(request.body.len().to_string()));
    let body = tests::pattern::bytes(40_000);
    let length = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    let chunked = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for (head, bytes) in [(length, body.clone()), (chunked, chunks(&body, 7_000))] {
        let gateway = Gateway::start(&upstream(&format!("\"{broken}\", \"{whole} backup\""), ""));
        let mut client = Client::connect(gateway.address());
        client.send(&head);
        // The first part alone, so that the try breaks while the body is still coming.
        client.send(&bytes[..10_000]);
        tests::wait::wait_until("a second try", || whole.connections() > 0);
        client.send(&bytes[10_000..]);
        let response = client.response();
        assert_eq!((response.status, response.text()), (200, body.len().to_string()));
        assert_eq!(whole.last().body, body);
        // And the connection stands at the end of the request.
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status, 200);
        whole_is_new(&whole);
    }
}

fn whole_is_new(origin: &Origin) {
    assert!(origin.seen().iter().all(|seen| seen.method == "PUT" || seen.method == "GET"));
}

/// Past `replay_body` a body goes once: when the endpoint fails then, the client is told.
#[test]
fn a_body_too_long_to_keep_is_not_repeated() {
    let broken = Origin::script(|mut peer| {
        if peer.head().is_none() {
            return;
        }
        // Reads most of it first: the gateway must have let its beginning go.
        let mut got = peer.buffer.len();
        while got < 60_000 {
            match peer.fill() {
                Ok(count) if count > 0 => {
                    got += count;
                    peer.buffer.clear();
                }
                _ => return,
            }
        }
        peer.reset();
    });
    let good = Origin::named("fine");
    let toml = format!(
        "[server.limits]\nreplay_body = \"16KiB\"\n{}",
        upstream(&format!("\"{broken}\", \"{good} backup\""), "")
    );
    let gateway = Gateway::start(&toml);
    let mut client = Client::connect(gateway.address());
    let body = vec![b'x'; 100_000];
    client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    let _ = client.try_send(&body);
    let response = client.response();
    assert_eq!(response.status, 502);
    assert_eq!(good.count(), 0);
}

#[test]
fn a_slow_first_try_is_hedged() {
    let slow = Origin::each(|_| {
        tests::wait::pace(Duration::from_secs(4));
        ok("slow")
    });
    let fast = Origin::named("fast");
    let gateway =
        Gateway::start(&upstream(&format!("\"{slow}\", \"{fast} backup\""), "hedge = { after = \"100ms\" }"));
    for round in 0..3 {
        let began = Instant::now();
        let response = tests::get(gateway.address(), &format!("/{round}"));
        assert_eq!(response.text(), "fast");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let record = gateway.wait_access_of(&format!("/{round}"));
        assert_eq!((record["tries"].as_u64(), record["status"].as_u64()), (Some(2), Some(200)), "{record}");
        assert_eq!(record["upstream"], fast.to_string());
    }
    // The loser is let go, not waited for.
    tests::wait::wait_until("the slow tries are closed", || slow.open() == 0 || slow.connections() >= 3);
    // What may not be done twice is not hedged.
    let before = fast.count();
    let mut client = Client::connect(gateway.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.response().text(), "slow");
    assert_eq!(fast.count(), before);
}

/// The first try fails while its hedge is under way, or the hedge fails: the other's answer counts.
#[test]
fn a_hedge_outlives_the_failure_of_its_rival() {
    let dying = Origin::script(|mut peer| {
        peer.head();
        tests::wait::pace(Duration::from_millis(400));
    });
    let late = Origin::each(|_| {
        tests::wait::pace(Duration::from_millis(800));
        ok("late")
    });
    let gone = Origin::refused();
    for servers in [format!("\"{dying}\", \"{late} backup\""), format!("\"{late}\", \"{gone} backup\"")] {
        let gateway = Gateway::start(&upstream(&servers, "retries = 0\nhedge = { after = \"100ms\" }"));
        let response = tests::get(gateway.address(), "/");
        assert_eq!((response.status, response.text().as_str()), (200, "late"), "{servers}");
    }
}

/// A client that leaves during a race is noticed, and its tries end.
#[test]
fn a_client_that_leaves_ends_its_hedged_tries() {
    let (first, second) = (Origin::silent(), Origin::silent());
    let gateway = Gateway::start(&upstream(
        &format!("\"{first}\", \"{second} backup\""),
        "hedge = { after = \"100ms\" }",
    ));
    let mut client = Client::connect(gateway.address());
    client.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
    tests::wait::wait_until("both are asked", || first.count() == 1 && second.count() == 1);
    drop(client);
    tests::wait::wait_until("both are let go", || first.open() == 0 && second.open() == 0);
    assert_eq!(gateway.wait_access_of("/left")["status"], 499);
}

/// An HTTP/1.0 client may send no Host; each endpoint is then called by its own name, the second as well.
#[test]
fn each_try_of_a_request_without_a_host_names_its_own() {
    let (gone, origin) = (Origin::refused(), Origin::named("fine"));
    let gateway = Gateway::start(&upstream(&format!("\"{gone}\", \"{origin} backup\""), ""));
    let mut client = Client::connect(gateway.address());
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().text(), "fine");
    assert_eq!(origin.last().fields.get("host"), Some(origin.to_string().as_str()));
}

/// `replay_body` holds for a body that came along with its head as well.
#[test]
fn a_small_body_past_replay_body_is_not_repeated() {
    let dying = Origin::script(|mut peer| {
        peer.request();
    });
    let good = Origin::named("fine");
    for (replay_body, method, expected) in
        [("10B", "PUT", 200), ("9B", "PUT", 502), ("0B", "PUT", 502), ("0B", "GET", 200)]
    {
        let toml = format!(
            "[server.limits]\nreplay_body = \"{replay_body}\"\n{}",
            upstream(&format!("\"{dying}\", \"{good} backup\""), "")
        );
        let gateway = Gateway::start(&toml);
        let body = if method == "PUT" { "Content-Length: 10\r\n\r\n0123456789" } else { "\r\n" };
        let bytes = format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{body}");
        assert_eq!(request(gateway.address(), &bytes).status, expected, "{replay_body} {method}");
    }
    // Where nothing was sent, nothing is sent twice.
    let gone = Origin::refused();
    let toml = format!(
        "[server.limits]\nreplay_body = \"0B\"\n{}",
        upstream(&format!("\"{gone}\", \"{good} backup\""), "")
    );
    let gateway = Gateway::start(&toml);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    assert_eq!(request(gateway.address(), post).text(), "fine");
    assert_eq!(good.last().body, b"hello");
}
