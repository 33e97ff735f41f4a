//! Corners of further and hedged tries: whose deadline it is, whose cookie, and who is still waited for.

use std::time::{Duration, Instant};
use tests::origin::ok;
use tests::wait::{pace, wait_until};
use tests::websocket::handshake;
use tests::{request, Client, Gateway, Origin};

fn toml(servers: &str, more: &str) -> String {
    format!("[[upstreams]]\nname = \"o\"\nservers = [{servers}]\n{more}\n[[routes]]\nupstream_id = \"o\"\n")
}

/// Answers `/warm` at once and nothing else ever.
fn stuck() -> Origin {
    Origin::script(|mut peer| {
        while let Some(request) = peer.request() {
            if request.target != "/warm" || peer.try_send(&ok("warm")).is_err() {
                return peer.until_closed();
            }
        }
    })
}

fn slow(name: &'static str, millis: u64) -> Origin {
    Origin::each(move |_| {
        pace(Duration::from_millis(millis));
        ok(name)
    })
}

/// A race that nobody wins in time is a timeout, and what was sent on a kept connection is not sent again.
#[test]
fn a_hedged_try_that_times_out_is_a_504() {
    let (first, second) = (stuck(), stuck());
    let more = "retries = 0\nhedge = { after = \"100ms\" }\ntimeout = { read = \"500ms\" }";
    for (servers, statuses) in
        [(format!("\"{first}\""), "504"), (format!("\"{first}\", \"{second} backup\""), "504, 504")]
    {
        let gateway = Gateway::start(&toml(&servers, more));
        let mut client = Client::connect(gateway.address());
        client.send("GET /warm HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status, 200);
        let before = first.count();
        client.send("GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        assert_eq!(response.status, 504);
        assert_eq!(response.get("x-ringway-upstream-status"), Some(statuses));
        assert_eq!(first.count(), before + 1, "asked once");
        assert_eq!(gateway.wait_access_of("/stuck")["term"], "upstream_timeout");
    }
}

/// The first of two rivals has failed; the client then leaves, and the other is let go at once.
#[test]
fn a_client_that_leaves_the_last_rival_is_noticed() {
    let dying = Origin::script(|mut peer| {
        peer.head();
        pace(Duration::from_millis(300));
    });
    let silent = Origin::silent();
    let gateway = Gateway::start(&toml(
        &format!("\"{dying}\", \"{silent} backup\""),
        "retries = 0\nhedge = { after = \"100ms\" }",
    ));
    let mut client = Client::connect(gateway.address());
    client.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("both were asked and one has failed", || silent.count() == 1 && dying.open() == 0);
    pace(Duration::from_millis(200));
    drop(client);
    let began = Instant::now();
    wait_until("the other is let go", || silent.open() == 0);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(gateway.wait_access_of("/left")["status"], 499);
}

/// A kept connection that its endpoint has closed says nothing of the endpoint, for a rival as for any try.
#[test]
fn a_rival_on_a_stale_connection_is_sent_on_a_fresh_one() {
    let first = slow("slow", 3000);
    let second = Origin::script(|mut peer| {
        if peer.request().is_some() && peer.try_send(&ok("fast")).is_ok() {
            // The second request on a connection meets its end.
            peer.head();
        }
    });
    let gateway = Gateway::start(&toml(
        &format!("\"{first}\", \"{second} backup max_fails=1\""),
        "retries = 0\nhedge = { after = \"100ms\" }",
    ));
    let mut client = Client::connect(gateway.address());
    for round in 0..4 {
        let began = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "fast", "round {round}");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

fn cookie(response: &tests::Response) -> Option<String> {
    response.get("set-cookie").and_then(|text| text.split(';').next()).map(str::to_owned)
}

/// The cookie names the endpoint that answered, and who has one waits for its own endpoint.
#[test]
fn a_session_is_the_hedge_s_that_answered() {
    let (first, second) = (slow("slow", 1500), Origin::named("fast"));
    let gateway = Gateway::start(&toml(
        &format!("\"{first}\", \"{second} backup\""),
        "sticky = true\nhedge = { after = \"100ms\" }",
    ));
    let response = tests::get(gateway.address(), "/");
    assert_eq!(response.text(), "fast");
    let own = cookie(&response).expect("a cookie");
    let asked = first.count();
    let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {own}\r\nConnection: close\r\n\r\n");
    let again = request(gateway.address(), &bytes);
    assert_eq!((again.text().as_str(), again.get("set-cookie")), ("fast", None));
    assert_eq!(first.count(), asked, "the session is the second's");
    // A session at the slow one stays there: slow is not failed.
    gateway.replace(&toml(&format!("\"{first}\""), "sticky = true"));
    let slow = cookie(&tests::get(gateway.address(), "/")).expect("a cookie");
    gateway.replace(&toml(
        &format!("\"{first}\", \"{second} backup\""),
        "sticky = true\nhedge = { after = \"100ms\" }",
    ));
    let stays = request(gateway.address(), &bytes.replace(&own, &slow));
    assert_eq!((stays.text().as_str(), stays.get("set-cookie")), ("slow", None));
}

/// An answer of the gateway's own begins no session: no endpoint has answered.
#[test]
fn no_session_begins_with_an_error_page() {
    let (gone, lost) = (Origin::refused(), Origin::refused());
    let gateway = Gateway::start(&toml(&format!("\"{gone}\", \"{lost}\""), "sticky = true"));
    let response = tests::get(gateway.address(), "/");
    assert_eq!((response.status, response.get("set-cookie")), (502, None));
}

/// A try's own time begins when it begins: not while its request waits for room.
#[test]
fn the_queue_is_not_the_try_s_time() {
    let origin = slow("fine", 700);
    let gateway = Gateway::start(&toml(
        &format!("\"{origin} max_conns=1\""),
        "retries = 0\nqueue = { size = 10, timeout = \"8s\" }\nretry = { per_try_timeout = \"1500ms\" }",
    ));
    let address = gateway.address();
    let threads: Vec<_> =
        (0..4).map(|_| std::thread::spawn(move || tests::get(address, "/").status)).collect();
    let statuses: Vec<u16> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    assert_eq!(statuses, [200; 4]);
}

/// Nor while a client writes its head.
#[test]
fn a_slow_head_is_not_the_try_s_time() {
    let origin = slow("fine", 250);
    let gateway = Gateway::start(&toml(
        &format!("\"{origin}\""),
        "retries = 0\nretry = { per_try_timeout = \"600ms\" }",
    ));
    let mut client = Client::connect(gateway.address());
    client.send("GET / HTTP/1.1\r\n");
    pace(Duration::from_millis(900));
    client.send("Host: a\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

/// Nor while a client sends its body; and an endpoint is not out for a client's slowness.
#[test]
fn a_slow_upload_is_not_the_try_s_time() {
    let origin = slow("fine", 250);
    let gateway = Gateway::start(&toml(
        &format!("\"{origin} max_fails=1\""),
        "retries = 0\nretry = { per_try_timeout = \"600ms\" }",
    ));
    let mut client = Client::connect(gateway.address());
    for _ in 0..2 {
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
        pace(Duration::from_millis(900));
        client.send("world");
        assert_eq!(client.response().text(), "fine");
    }
    // What an endpoint takes too long for is still its own.
    let stuck = stuck();
    let gateway = Gateway::start(&toml(
        &format!("\"{stuck}\""),
        "retries = 0\nretry = { per_try_timeout = \"600ms\" }",
    ));
    let mut client = Client::connect(gateway.address());
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    pace(Duration::from_millis(100));
    client.send("world");
    assert_eq!(client.response().status, 504);
}

/// The time of a try ends with the response's head: an answer that overtakes its request is not cut by it.
#[test]
fn an_answer_under_way_is_not_cut_when_the_upload_ends() {
    let origin = Origin::script(|mut peer| {
        let Some(request) = peer.head() else { return };
        if peer.try_send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").is_err() {
            return;
        }
        let _ = peer.body(&request, &mut |_| {});
        pace(Duration::from_millis(700));
        let _ = peer.try_send(b"world");
        peer.until_closed();
    });
    let gateway = Gateway::start(&toml(
        &format!("\"{origin}\""),
        "retries = 0\nretry = { per_try_timeout = \"400ms\" }",
    ));
    let mut client = Client::connect(gateway.address());
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    let head = client.head();
    assert_eq!(head.status, 200);
    pace(Duration::from_millis(600));
    client.send("world");
    let mut body = Vec::new();
    client.stream_body(&head, &mut |piece| body.extend_from_slice(piece));
    assert_eq!(body, b"helloworld");
}

/// The answer that counts is the one that the client got, whichever try was the last.
#[test]
fn a_breaker_hears_the_rival_that_answered() {
    let failing = Origin::each(|_| {
        pace(Duration::from_millis(400));
        b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno".to_vec()
    });
    let silent = Origin::silent();
    let gateway = Gateway::start(&format!(
        "{}[routes.plugins.api-breaker]\nbreak_response_code = 555\nunhealthy = {{ failures = 1 }}\n",
        toml(&format!("\"{failing}\", \"{silent} backup\""), "retries = 0\nhedge = { after = \"100ms\" }")
    ));
    assert_eq!(tests::get(gateway.address(), "/").status, 500);
    wait_until("it rests", || tests::get(gateway.address(), "/").status == 555);
    // One failure is enough; it counts when its exchange has ended, which may be after the next has come.
    assert!(failing.count() <= 2, "{}", failing.count());
}

/// `timeout.send` bounds each piece, not the upload as a whole.
#[test]
fn an_upload_may_last_longer_than_its_pieces() {
    let origin = slow("fine", 1);
    let gateway = Gateway::start(&toml(&format!("\"{origin}\""), "timeout = { send = \"500ms\" }"));
    let mut client = Client::connect(gateway.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 25\r\n\r\n");
    for _ in 0..5 {
        client.send("hello");
        pace(Duration::from_millis(300));
    }
    assert_eq!(client.response().text(), "fine");
}

/// `timeout.read` bounds the waits for the upstream, not those for a client that takes its time.
#[test]
fn a_slow_reader_is_not_the_upstream_s_time() {
    let length = 24 << 20;
    let origin = Origin::each(move |_| ok(tests::pattern::bytes(length)));
    let gateway = Gateway::start(&toml(&format!("\"{origin}\""), "timeout = { read = \"500ms\" }"));
    let mut client = Client::connect(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head();
    pace(Duration::from_millis(1500));
    let mut got = 0;
    client.stream_body(&head, &mut |piece| got += piece.len());
    assert_eq!(got, length);
}

const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

/// Switches protocols whenever asked, and holds the tunnel.
fn tunnels(mut peer: tests::origin::Peer) {
    if peer.head().is_some() && peer.try_send(SWITCHED.as_bytes()).is_ok() {
        peer.until_closed();
    }
}

fn tunnel(gateway: &Gateway) -> Client {
    let mut client = Client::sending(gateway.address(), handshake("/"));
    assert_eq!(client.head().status, 101);
    client
}

/// What takes hours says with its head that the endpoint is back, not with its end.
#[test]
fn a_trial_ends_with_the_head() {
    let address = Origin::refused();
    let backup = Origin::script(tunnels);
    let gateway = Gateway::start(&format!(
        "[[upstreams]]\nname = \"o\"\nservers = [\"{address} max_fails=1 fail_timeout=1s\", \"{backup} backup\"]\n\
         [[routes]]\nupstream_id = \"o\"\nenable_websocket = true\n"
    ));
    let mut held = vec![tunnel(&gateway)];
    assert_eq!(backup.count(), 1, "the first is dead");
    let origin = Origin::script_at(address, tunnels);
    wait_until("a trial", || {
        held.push(tunnel(&gateway));
        origin.count() == 1
    });
    let before = backup.count();
    for _ in 0..8 {
        held.push(tunnel(&gateway));
    }
    assert_eq!((origin.count(), backup.count()), (9, before), "the trial succeeded");
}

/// A tunnel is a session too.
#[test]
fn a_switched_protocol_sets_the_cookie() {
    let origin = Origin::script(tunnels);
    let gateway = Gateway::start(&format!(
        "[[routes]]\nenable_websocket = true\nupstream = {{ servers = [\"{origin}\"], sticky = true }}\n"
    ));
    let mut client = Client::sending(gateway.address(), handshake("/"));
    let head = client.head();
    assert_eq!(head.status, 101);
    assert!(cookie(&head).is_some_and(|cookie| cookie.starts_with("rw_s=")));
}

/// A client that leaves a long answer says nothing of the endpoint's latency, which is the head's.
#[test]
fn a_client_that_leaves_a_stream_makes_no_endpoint_slow() {
    let origin = |name: &'static str| {
        Origin::script(move |mut peer| {
            while let Some(request) = peer.request() {
                if request.target == "/stream" {
                    let _ = peer.try_send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
                    return peer.until_closed();
                }
                pace(Duration::from_millis(20));
                if peer.try_send(&ok(name)).is_err() {
                    return;
                }
            }
        })
    };
    let (first, second) = (origin("first"), origin("second"));
    let gateway = Gateway::start(&toml(&format!("\"{first}\", \"{second}\""), "type = \"ewma\""));
    let texts = |count: usize| -> std::collections::BTreeSet<String> {
        (0..count).map(|_| tests::get(gateway.address(), "/").text()).collect()
    };
    wait_until("both are known", || texts(4).len() == 2);
    let mut client = Client::connect(gateway.address());
    client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status, 200);
    pace(Duration::from_millis(2500));
    drop(client);
    gateway.wait_access_of("/stream");
    assert_eq!(texts(60).len(), 2, "both are used still");
}
