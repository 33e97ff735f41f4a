//! `server.limits`: heads, targets, fields, bodies, requests per connection; each refused with its own status.

use tests::origin::ok;
use tests::{pattern, table, Client, Gateway, Origin};

fn limited(origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "[server.limits]\nrequest_head = \"4KiB\"\nrequest_target = 256\nrequest_body = 1000\nkeepalive_requests = 3\n\
         [[routes]]\nupstream = [\"{origin}\"]\n"
    ))
}

fn fields(count: usize) -> String {
    (0..count).map(|at| format!("x{at}: y\r\n")).collect()
}

#[test]
fn heads_and_bodies_are_limited() {
    let origin = Origin::named("fine");
    let gateway = limited(&origin);
    let rows: Vec<(&str, u16, String)> = vec![
        ("head within", 200, format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(3000))),
        ("head over", 431, format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(5000))),
        ("head without end", 431, format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(60_000))),
        ("128 fields", 200, format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(127))),
        ("129 fields", 431, format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(128))),
        ("target within", 200, format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(255))),
        ("target over", 414, format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(256))),
        ("target without end", 414, format!("GET /{}", "a".repeat(60_000))),
        ("body within", 200, format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{}", "b".repeat(1000))),
        ("body over", 413, format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n{}", "b".repeat(1001))),
        ("large body", 413, format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n{}", "b".repeat(200_000))),
        ("chunks within", 200, format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n{}\r\n0\r\n\r\n", "b".repeat(1000))),
        ("chunks over", 413, format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n{}\r\n1\r\nb\r\n0\r\n\r\n", "b".repeat(1000))),
        ("body over, asked first", 413, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n".to_owned()),
    ];
    table::each(
        &rows,
        |(name, ..)| (*name).to_owned(),
        |(_, status, bytes)| {
            let mut client = Client::connect(gateway.address());
            // The gateway may have refused before it took everything.
            let _ = client.try_send(bytes.as_bytes());
            let response = client.response();
            assert_eq!(response.status, *status);
            if *status != 200 {
                assert!(response.closes());
                client.assert_closed();
            }
        },
    );
}

#[test]
fn a_response_head_over_its_limit_is_502() {
    let rows: Vec<(&str, u16, String)> = vec![
        ("within", 200, format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "y".repeat(30_000))),
        ("over", 502, format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "y".repeat(70_000))),
        ("128 fields", 200, format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", fields(127))),
        ("129 fields", 502, format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", fields(128))),
    ];
    table::each(
        &rows,
        |(name, ..)| (*name).to_owned(),
        |(_, status, answer)| {
            let origin = Origin::fixed(answer);
            let gateway = Gateway::before(&[origin.address()]);
            assert_eq!(tests::get(gateway.address(), "/").status, *status);
        },
    );
}

#[test]
fn a_connection_ends_after_its_requests() {
    let origin = Origin::named("fine");
    let gateway = limited(&origin);
    let mut client = Client::connect(gateway.address());
    for last in [false, false, true] {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        assert_eq!((response.status, response.closes()), (200, last));
    }
    client.assert_closed();
}

/// The refusal arrives although the client is still sending: the gateway lingers instead of resetting.
#[test]
fn a_413_reaches_a_client_that_is_still_sending() {
    let origin = Origin::each(|_| ok("fine"));
    let gateway = limited(&origin);
    for _ in 0..5 {
        let mut client = Client::connect(gateway.address());
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 150000\r\n\r\n");
        for part in pattern::bytes(150_000).chunks(10_000) {
            let _ = client.try_send(part);
        }
        assert_eq!(client.response().status, 413);
    }
}
