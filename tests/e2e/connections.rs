//! Connections on both sides: kept, pipelined, pooled, closed when said, never reused when in doubt.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use tests::origin::ok;
use tests::wait::wait_until;
use tests::{Client, Gateway, Origin};

#[test]
fn clients_are_kept_and_upstreams_pooled() {
    let origin = Origin::each(|request| ok(&request.target));
    let gateway = Gateway::before(&[origin.address()]);
    let mut client = Client::connect(gateway.address());
    for at in 0..50 {
        client.send(format!("GET /{at} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.text(), response.closes()), (format!("/{at}"), false));
    }
    assert_eq!(origin.connections(), 1, "one client, one core, one upstream connection");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::each(|request| ok(format!("{} {}", request.target, request.body.len())));
    let gateway = Gateway::before(&[origin.address()]);
    let mut all = Vec::new();
    let mut wanted = Vec::new();
    for at in 0..100 {
        if at % 3 == 0 {
            all.extend_from_slice(
                format!("POST /{at} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").as_bytes(),
            );
        } else if at % 3 == 1 {
            all.extend_from_slice(
                format!("POST /{at} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
                    .as_bytes(),
            );
        } else {
            all.extend_from_slice(format!("GET /{at} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        }
        wanted.push(format!("/{at} {}", if at % 3 == 2 { 0 } else { 5 }));
    }
    let mut client = Client::sending(gateway.address(), &all);
    let got: Vec<String> = wanted.iter().map(|_| client.response().text()).collect();
    assert_eq!(got, wanted);
    // Cut anywhere, the same bytes mean the same.
    for size in [1, 7, 61] {
        let mut client = Client::connect(gateway.address());
        let mut writer = client.second();
        let bytes = all.clone();
        let sender = std::thread::spawn(move || bytes.chunks(size).for_each(|part| writer.send(part)));
        let got: Vec<String> = wanted.iter().map(|_| client.response().text()).collect();
        assert_eq!(got, wanted, "in pieces of {size}");
        sender.join().expect("sent");
    }
}

#[test]
fn close_is_obeyed_on_both_sides() {
    let origin = Origin::each(|request| match request.target.as_str() {
        "/close" => b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine".to_vec(),
        "/old" => b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine".to_vec(),
        _ => ok("fine"),
    });
    let gateway = Gateway::before(&[origin.address()]);
    // The origin's close is between it and the gateway: the client's connection stays.
    let mut client = Client::connect(gateway.address());
    for path in ["/close", "/old", "/", "/close", "/"] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.text().as_str(), response.closes()), ("fine", false), "{path}");
    }
    // The client's close is between it and the gateway: the upstream's connection stays.
    let before = origin.connections();
    for _ in 0..10 {
        let mut client =
            Client::sending(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let response = client.response();
        assert!(response.closes());
        client.assert_closed();
    }
    assert!(origin.connections() - before <= 2, "at most one new connection per core");
    assert!(origin.seen().iter().all(|seen| seen.fields.get("connection") != Some("close")));
}

/// Origins close kept connections whenever they like; no client may notice.
#[test]
fn an_origin_that_closes_silently_costs_nothing() {
    let origin = Origin::script(|mut peer| {
        if peer.request().is_some() {
            peer.send(ok("fine"));
        }
    });
    let gateway = Gateway::before(&[origin.address()]);
    let mut client = Client::connect(gateway.address());
    for _ in 0..100 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "fine");
    }
}

/// A reused connection that dies before a first response byte: replayed where that is safe, never where it is not.
#[test]
fn a_dying_reused_connection_is_replayed_only_when_safe() {
    let deaths = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&deaths);
    let origin = Origin::script(move |mut peer| {
        while let Some(request) = peer.request() {
            let first = request.target == "/first";
            // Dies on the second request of a connection, after it has read it whole.
            if !first && peer.connection == 0 {
                counter.fetch_add(1, Ordering::SeqCst);
                return;
            }
            peer.send(ok("fine"));
        }
    });
    let gateway = Gateway::before(&[origin.address()]);
    let mut client = Client::sending(gateway.address(), "GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 200);
    client.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "fine");
    assert_eq!(deaths.load(Ordering::SeqCst), 1);

    let origin = Origin::script(|mut peer| {
        while let Some(request) = peer.request() {
            if request.method == "POST" {
                return;
            }
            peer.send(ok("fine"));
        }
    });
    let gateway = Gateway::before(&[origin.address()]);
    let mut client = Client::sending(gateway.address(), "GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 200);
    client.send("POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nmoney");
    assert_eq!(client.response().status, 502);
    assert_eq!(origin.seen().iter().filter(|seen| seen.method == "POST").count(), 1, "paid once");
}

#[test]
fn pools_respect_their_limits() {
    let origin = Origin::each(|request| ok(&request.target));
    let gateway = Gateway::start(&format!(
        "[[upstreams]]\nname = \"o\"\nservers = [\"{origin}\"]\nkeepalive_pool = {{ size = 2, idle_timeout = \"300ms\", requests = 5 }}\n\
         [[routes]]\nupstream_id = \"o\"\n"
    ));
    let mut client = Client::connect(gateway.address());
    for _ in 0..20 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }
    let mut per_connection = std::collections::BTreeMap::new();
    for seen in origin.seen() {
        *per_connection.entry(seen.connection).or_insert(0) += 1;
    }
    assert!(per_connection.values().all(|count| *count <= 5), "{per_connection:?}");
    wait_until("idle upstream connections to be closed", || origin.open() == 0);
}

#[test]
fn many_connections_at_once_get_their_own_answers() {
    let origin = Origin::each(|request| ok(&request.target));
    let gateway = Gateway::before(&[origin.address()]);
    let address = gateway.address();
    let clients: Vec<_> = (0..32)
        .map(|number| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                for at in 0..50 {
                    client.send(format!("GET /{number}/{at} HTTP/1.1\r\nHost: a\r\n\r\n"));
                    assert_eq!(client.response().text(), format!("/{number}/{at}"));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("every client got its own answers");
    }
    assert!(origin.connections() <= 64);
}
