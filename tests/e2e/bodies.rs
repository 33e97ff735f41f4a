//! Bodies: streamed both ways in every framing, trailers, early answers, 100-continue, interim answers, no body.

use std::sync::mpsc;
use std::time::Duration;
use tests::message::Length;
use tests::origin::{chunks, ok};
use tests::pattern::{self, Verifier};
use tests::{process, request, table, Client, Gateway, Origin};

const MIB: usize = 1 << 20;

/// A download in each framing arrives byte for byte, in the framing that the client understands.
#[test]
fn downloads_stream() {
    const BYTES: usize = 8 * MIB;
    let origin = Origin::script(|mut peer| {
        while let Some(request) = peer.request() {
            let body = pattern::bytes(BYTES);
            let sent = match request.target.as_str() {
                "/fixed" => peer
                    .try_send(format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n").as_bytes())
                    .and_then(|()| peer.try_send(&body)),
                "/chunked" => peer
                    .try_send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                    .and_then(|()| peer.try_send(&chunks(&body, 10_007))),
                "/small-chunks" => peer
                    .try_send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                    .and_then(|()| peer.try_send(&chunks(&body[..MIB], 3))),
                _ => {
                    let _ = peer.try_send(b"HTTP/1.1 200 OK\r\n\r\n").and_then(|()| peer.try_send(&body));
                    return;
                }
            };
            if sent.is_err() {
                return;
            }
        }
    });
    let gateway = Gateway::before(&[origin.address()]);
    let rows = [
        ("/fixed", "1.1", BYTES, Some(Length::Fixed(BYTES as u64))),
        ("/chunked", "1.1", BYTES, Some(Length::Chunked)),
        ("/small-chunks", "1.1", MIB, Some(Length::Chunked)),
        ("/until-close", "1.1", BYTES, None),
        ("/fixed", "1.0", BYTES, Some(Length::Fixed(BYTES as u64))),
        ("/chunked", "1.0", BYTES, Some(Length::UntilClose)),
        ("/until-close", "1.0", BYTES, Some(Length::UntilClose)),
    ];
    table::each(
        &rows,
        |(target, version, ..)| format!("{target} to {version}"),
        |(target, version, bytes, framing)| {
            let mut client =
                Client::sending(gateway.address(), format!("GET {target} HTTP/{version}\r\nHost: a\r\n\r\n"));
            let head = client.head();
            if let Some(framing) = framing {
                assert_eq!(head.length("GET"), *framing);
            }
            let mut verifier = Verifier::default();
            client.stream_body(&head, &mut |piece| verifier.push(piece));
            assert_eq!(verifier.length(), *bytes as u64);
        },
    );
}

/// An upload in each framing arrives byte for byte.
#[test]
fn uploads_stream() {
    const BYTES: usize = 8 * MIB;
    let origin = Origin::script(|mut peer| {
        while let Some(request) = peer.head() {
            let mut verifier = Verifier::default();
            if peer.body(&request, &mut |piece| verifier.push(piece)).is_none() {
                return;
            }
            peer.send(ok(verifier.length().to_string()));
        }
    });
    let gateway = Gateway::before(&[origin.address()]);
    let mut client = Client::connect(gateway.address());
    for size in [0, 1, 100, 16_384, 70_000, BYTES] {
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
        client.send(pattern::bytes(size));
        assert_eq!(client.response().text(), size.to_string());
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(chunks(&pattern::bytes(size), 9_973));
        assert_eq!(client.response().text(), size.to_string(), "chunked");
    }
    assert_eq!(origin.last().length(), Length::Chunked, "a chunked body stays one");
}

/// Both directions at once, each far larger than what the gateway may hold.
#[test]
fn both_ways_at_once_in_constant_memory() {
    const BYTES: usize = 48 * MIB;
    let origin = Origin::script(|mut peer| {
        let Some(request) = peer.head() else { return };
        peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n"));
        // Echoes while it reads: an early answer to a body that still comes.
        let mut back = peer.second();
        let mut verifier = Verifier::default();
        let done = peer.body(&request, &mut |piece| {
            verifier.push(piece);
            back.send(piece);
        });
        assert!(done.is_some());
        peer.until_closed();
    });
    let gateway = Gateway::before(&[origin.address()]);
    let mut client = Client::sending(
        gateway.address(),
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BYTES}\r\n\r\n"),
    );
    let before = process::resident_bytes(gateway.pid());
    let mut up = client.second();
    let sender = std::thread::spawn(move || {
        let mut sent = 0;
        while sent < BYTES {
            let piece = pattern::piece(sent as u64, (BYTES - sent).min(60_000));
            up.send(piece);
            sent += piece.len();
        }
    });
    let head = client.head();
    assert_eq!(head.status, 200);
    let mut verifier = Verifier::default();
    client.stream_body(&head, &mut |piece| verifier.push(piece));
    assert_eq!(verifier.length(), BYTES as u64);
    sender.join().expect("the upload went through");
    let grown = process::resident_bytes(gateway.pid()).saturating_sub(before);
    assert!(grown < 16 * MIB as u64, "grew by {grown} bytes over two bodies of {BYTES}");
}

/// A client that does not read holds the origin back: nothing piles up in the gateway.
#[test]
fn back_pressure_reaches_the_origin() {
    const BYTES: usize = 256 * MIB;
    let (tell, sent) = mpsc::channel();
    let origin = Origin::script(move |mut peer| {
        if peer.request().is_none() {
            return;
        }
        peer.set_deadline(Duration::from_secs(2));
        peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n"));
        let mut offset = 0;
        while offset < BYTES && peer.try_send(pattern::piece(offset as u64, 60_000)).is_ok() {
            offset += 60_000;
        }
        let _ = tell.send(offset);
    });
    let gateway = Gateway::before(&[origin.address()]);
    let mut client = Client::sending(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status, 200);
    let taken = sent.recv_timeout(Duration::from_secs(60)).expect("the origin gave up");
    assert!(taken < BYTES / 4, "{taken} bytes went in although nobody read them");
    assert!(process::resident_bytes(gateway.pid()) < 128 * MIB as u64);
}

#[test]
fn trailers_pass_both_ways() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                  5\r\nhello\r\n0\r\nX-Sum: 42\r\nX-Other: a b\r\n\r\n";
    let origin = Origin::fixed(answer);
    let gateway = Gateway::before(&[origin.address()]);
    let mut client = Client::connect(gateway.address());
    for _ in 0..2 {
        client.send(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Up\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Up: 7\r\n\r\n",
        );
        let response = client.response();
        assert_eq!(response.text(), "hello");
        assert_eq!(response.trailers.get("x-sum"), Some("42"), "{:?}", response.trailers);
        assert_eq!(response.trailers.get("x-other"), Some("a b"));
        let seen = origin.last();
        assert_eq!((seen.body.as_slice(), seen.trailers.get("x-up")), (&b"abc"[..], Some("7")));
    }
}

/// RFC 9112 section 9.3: an answer before the end of the request body. The client gets it at once.
#[test]
fn an_early_answer_comes_while_the_body_is_still_sent() {
    let origin = Origin::script(|mut peer| {
        if peer.head().is_some() {
            peer.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
            peer.until_closed();
        }
    });
    let gateway = Gateway::before(&[origin.address()]);
    let mut client = Client::sending(
        gateway.address(),
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nsome",
    );
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
}

/// An early answer over which the body goes on to its end leaves both connections in step.
#[test]
fn after_an_early_answer_the_next_request_is_in_step() {
    let origin = Origin::script(|mut peer| {
        while let Some(request) = peer.head() {
            peer.send(ok("early"));
            if peer.body(&request, &mut |_| {}).is_none() {
                return;
            }
        }
    });
    let gateway = Gateway::before(&[origin.address()]);
    for _ in 0..5 {
        let mut client = Client::sending(
            gateway.address(),
            "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
        );
        assert_eq!(client.response().text(), "early");
        // The gateway may close now (and has then said so), or take the rest and serve on.
        let rest = client.try_send(&pattern::bytes(100_000));
        let next = rest.and_then(|()| client.try_send(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"));
        if next.is_ok() {
            if let Ok(Some(response)) = client.try_response_to("GET") {
                assert_eq!(response.text(), "early");
            }
        }
    }
    assert!(origin.seen().iter().all(|request| ["/1", "/2"].contains(&request.target.as_str())));
}

#[test]
fn expect_100_continue() {
    // An origin that follows RFC 9110 section 10.1.1.
    let origin = Origin::script(|mut peer| {
        while let Some(request) = peer.head() {
            if request.target == "/refused" {
                peer.send(
                    "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
                return;
            }
            if request.fields.has("expect") {
                peer.send("HTTP/1.1 100 Continue\r\n\r\n");
            }
            let mut body = Vec::new();
            if peer.body(&request, &mut |piece| body.extend_from_slice(piece)).is_none() {
                return;
            }
            peer.send(ok(body));
        }
    });
    let gateway = Gateway::before(&[origin.address()]);
    let mut client = Client::connect(gateway.address());
    for framing in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}Expect: 100-continue\r\n\r\n"));
        // The client waits for the interim answer before it sends its body.
        assert_eq!(client.head().status, 100);
        client.send(if framing.starts_with('C') { "hello" } else { "5\r\nhello\r\n0\r\n\r\n" });
        let head = client.head();
        assert_eq!(head.status, 200, "one interim answer, then the final one");
        assert_eq!(client.read_body(head.length("POST")).expect("a body").0, b"hello");
    }
    // A client need not wait.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");
    assert_eq!(client.response().text(), "hello");
    // An old client's expectation is ignored: no interim answer to 1.0.
    let mut old = Client::sending(
        gateway.address(),
        "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    );
    assert_eq!(old.head().status, 200);
    // A refusal comes without the body having been sent.
    let mut refused = Client::sending(
        gateway.address(),
        "POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(refused.response().status, 417);
}

#[test]
fn an_unknown_expectation_is_not_obeyed() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    let bytes = "GET / HTTP/1.1\r\nHost: a\r\nExpect: the-unexpected\r\nConnection: close\r\n\r\n";
    // RFC 9110 section 10.1.1 allows 417 and allows to ignore it.
    assert!([200, 417].contains(&request(gateway.address(), bytes).status));
}

#[test]
fn interim_answers_are_forwarded() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
                  HTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
    let origin = Origin::fixed(answer);
    let gateway = Gateway::before(&[origin.address()]);
    let mut client = Client::connect(gateway.address());
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let hints = [client.head(), client.head()];
        assert_eq!(hints.each_ref().map(|hint| hint.status), [103, 103]);
        assert_eq!(hints[0].get("link"), Some("</a.css>; rel=preload"));
        assert_eq!(hints[1].get("link"), Some("</b.css>; rel=preload"));
        assert_eq!(client.response().text(), "fine");
    }
    // A 1.0 client does not know them.
    let mut old = Client::sending(gateway.address(), "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(old.head().status, 200);
}

/// Answers without a body, whatever their fields say, and the next answer is in step.
#[test]
fn bodiless_answers() {
    let origin = Origin::each(|request| match request.target.as_str() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n".to_vec(),
        "/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n".to_vec(),
        "/head-chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        "/empty" => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ok("next"),
    });
    let gateway = Gateway::before(&[origin.address()]);
    let rows = [
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, None),
        ("HEAD", "/head", 200, Some("500000")),
        ("HEAD", "/head-chunked", 200, None),
        ("GET", "/empty", 200, Some("0")),
        ("HEAD", "/304", 304, None),
    ];
    table::each(
        &rows,
        |(method, target, ..)| format!("{method} {target}"),
        |(method, target, status, length)| {
            let mut client = Client::connect(gateway.address());
            client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let response = client.response_to(method);
            assert_eq!(response.status, *status);
            if let Some(length) = length {
                assert_eq!(response.get("content-length"), Some(*length));
            }
            if *status == 204 {
                assert!(!response.fields.has("content-length") && !response.fields.has("transfer-encoding"));
            }
            client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.response().text(), "next");
        },
    );
}

#[test]
fn clients_of_http_1_0() {
    let origin = Origin::each(|request| match request.target.as_str() {
        "/chunked" => {
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(), chunks(b"fine", 2)].concat()
        }
        _ => ok("fine"),
    });
    let gateway = Gateway::before(&[origin.address()]);
    // Closes by default.
    let mut client = Client::sending(gateway.address(), "GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().text(), "fine");
    client.assert_closed();
    // Keeps alive when asked, with a length.
    let mut client = Client::connect(gateway.address());
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = client.response();
        assert_eq!((response.text().as_str(), response.get("content-length")), ("fine", Some("4")));
        let connection = response.get("connection").unwrap_or_default().to_ascii_lowercase();
        assert_eq!(connection, "keep-alive", "an old client must be told");
    }
    // Never gets chunks.
    let mut client =
        Client::sending(gateway.address(), "GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    assert!(!response.fields.has("transfer-encoding"), "{:?}", response.fields);
    assert_eq!(response.text(), "fine");
}
