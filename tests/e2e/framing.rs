//! The smuggling table, in both directions: whatever two parties could read differently is refused.
//!
//! RFC 9112 sections 2.2, 3, 5, 6 and 7. From a client: 400 and close, and nothing that follows is taken for a
//! request. From an origin: 502 or a response that visibly breaks off, and the connection is never used again.

use std::time::Duration;
use tests::origin::ok;
use tests::{table, Client, Gateway, Origin};

const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Sends each row, then a request that must never be seen, and expects the status and the end of the connection.
fn refuse(rows: &[(&str, u16, &str)]) {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    table::each(
        rows,
        |(name, ..)| (*name).to_owned(),
        |(_, status, bytes)| {
            let mut client = Client::connect(gateway.address());
            client.send(latin1(bytes));
            // The gateway may have answered and closed before it takes these.
            let _ = client.try_send(NEXT.as_bytes());
            let response = client.response();
            assert_eq!(response.status, *status, "{}", response.text());
            assert!(response.closes());
            client.assert_closed();
        },
    );
    let smuggled = origin.seen().into_iter().filter(|request| request.target == "/smuggled").count();
    assert_eq!(smuggled, 0, "a request was smuggled");
    // And the gateway still serves.
    assert_eq!(tests::get(gateway.address(), "/").text(), "fine");
}

/// Rows are written as text in which U+00XX stands for the byte XX.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("a row is Latin-1")).collect()
}

#[test]
fn ambiguous_lengths_are_refused() {
    refuse(&[
        (
            "both",
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "both, other order",
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        ),
        (
            "two lengths",
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        ),
        (
            "a length twice",
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        ),
        ("a list", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello"),
        ("plus", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello"),
        ("minus", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello"),
        ("hex", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello"),
        ("exponent", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1e1\r\n\r\nhello"),
        ("two words", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello"),
        ("empty", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello"),
        ("overflow", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nhello"),
        ("quoted", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \"5\"\r\n\r\nhello"),
        ("on GET too", 400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 0\r\n\r\n"),
    ]);
}

#[test]
fn odd_transfer_codings_are_refused() {
    let with =
        |coding: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:{coding}\r\n\r\n0\r\n\r\n");
    let codings = [
        " gzip",
        " identity",
        " chunked, chunked",
        " chunked, identity",
        " chunked, gzip",
        " xchunked",
        " chunkedx",
        " \"chunked\"",
        " chunked;q=1",
        " chunk ed",
        "",
        " ,",
        " chunked\r\nTransfer-Encoding: chunked",
        " chunked\r\nTransfer-Encoding: identity",
        " identity\r\nTransfer-Encoding: chunked",
        " \u{b}chunked",
    ];
    let texts: Vec<(String, String)> =
        codings.iter().map(|coding| (format!("{coding:?}"), with(coding))).collect();
    let mut rows: Vec<(&str, u16, &str)> =
        texts.iter().map(|(name, text)| (name.as_str(), 400, text.as_str())).collect();
    rows.push(("on 1.0", 400, "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
    refuse(&rows);
}

#[test]
fn malformed_heads_are_refused() {
    refuse(&[
        ("bare LF after the request line", 400, "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        ("bare LF after a field", 400, "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
        ("bare LF all through", 400, "GET / HTTP/1.1\nHost: a\n\n"),
        ("LF CR LF at the end", 400, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
        ("bare CR in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n"),
        ("bare CR before a name", 400, "GET / HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n"),
        ("CR CR LF", 400, "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
        ("bare CR in the request line", 400, "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("space before the colon", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello"),
        ("tab before the colon", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 5\r\n\r\nhello"),
        ("obs-fold", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n"),
        ("obs-fold by tab", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tTransfer-Encoding: chunked\r\n\r\n"),
        ("first line begins with a space", 400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        ("NUL in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: b\u{0}c\r\n\r\n"),
        ("NUL in a name", 400, "GET / HTTP/1.1\r\nHost: a\r\nX\u{0}: b\r\n\r\n"),
        ("control byte in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: b\u{1}c\r\n\r\n"),
        ("DEL in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: b\u{7f}c\r\n\r\n"),
        ("no colon", 400, "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
        ("no name", 400, "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
        ("space in a name", 400, "GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n"),
        ("bracket in a name", 400, "GET / HTTP/1.1\r\nHost: a\r\nX(Y: b\r\n\r\n"),
        ("non-ASCII name", 400, "GET / HTTP/1.1\r\nHost: a\r\nX\u{e9}: b\r\n\r\n"),
        ("two spaces", 400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("two spaces before the version", 400, "GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a space in the target", 400, "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("space after the version", 400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
        ("tabs", 400, "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n"),
        ("leading space", 400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("lower-case protocol", 400, "GET / http/1.1\r\nHost: a\r\n\r\n"),
        ("no version", 400, "GET /\r\nHost: a\r\n\r\n"),
        ("version without a minor", 400, "GET / HTTP/1\r\nHost: a\r\n\r\n"),
        ("version of two digits", 400, "GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
        ("HTTP/2.0", 505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        ("HTTP/3.0", 505, "GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
        ("bad method", 400, "G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("no method", 400, "/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("NUL in the target", 400, "GET /\u{0} HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("non-ASCII target", 400, "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("TLS on a plain port", 400, "\u{16}\u{3}\u{1}\u{0}\u{5}hello\r\n\r\n"),
    ]);
}

#[test]
fn bad_chunks_are_refused() {
    let bodies = [
        ("empty size", "\r\nhello\r\n0\r\n\r\n"),
        ("size of 17 digits", "00000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("overflow", "10000000000000000\r\nhello\r\n0\r\n\r\n"),
        ("no hex", "g\r\nhello\r\n0\r\n\r\n"),
        ("minus", "-5\r\nhello\r\n0\r\n\r\n"),
        ("plus", "+5\r\nhello\r\n0\r\n\r\n"),
        ("0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("leading space", " 5\r\nhello\r\n0\r\n\r\n"),
        ("bare LF after the size", "5\nhello\r\n0\r\n\r\n"),
        ("bare CR after the size", "5\rhello\r\n0\r\n\r\n"),
        ("no CRLF after the data", "5\r\nhello0\r\n\r\n"),
        ("bare LF after the data", "5\r\nhello\n0\r\n\r\n"),
        ("more data than said", "5\r\nhello!\r\n0\r\n\r\n"),
        ("bare LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("bare CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("NUL in an extension", "5;a\u{0}\r\nhello\r\n0\r\n\r\n"),
        ("bare LF after the last chunk", "0\n\r\n"),
        ("bare LF at the end", "0\r\n\n"),
        ("a trailer with a space before its colon", "0\r\nX : y\r\n\r\n"),
        ("a trailer without colon", "0\r\nX\r\n\r\n"),
        ("a folded trailer", "0\r\nX: y\r\n z\r\n\r\n"),
        ("a trailer with NUL", "0\r\nX: \u{0}\r\n\r\n"),
        ("a trailer with a bare LF", "0\r\nX: y\nZ: z\r\n\r\n"),
    ];
    let heads = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut texts: Vec<(&str, String)> =
        bodies.iter().map(|(name, body)| (*name, format!("{heads}{body}"))).collect();
    texts
        .push(("an extension without end", format!("{heads}5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(70_000))));
    texts.push(("trailers without end", format!("{heads}0\r\n{}\r\n", "X: y\r\n".repeat(20_000))));
    let rows: Vec<(&str, u16, &str)> = texts.iter().map(|(name, text)| (*name, 400, text.as_str())).collect();
    refuse(&rows);
}

#[test]
fn what_is_unusual_but_clear_is_taken() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    let rows = [
        ("CRLF before the request", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("no space after the colon", "GET / HTTP/1.1\r\nHost:a\r\nX:b\r\n\r\n"),
        ("much space around a value", "GET / HTTP/1.1\r\nHost:  \t a \t \r\nX: \t \r\n\r\n"),
        ("obs-text in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n"),
        ("spelling of names", "POST / HTTP/1.1\r\nhOST: a\r\ncONTENT-lENGTH: 5\r\n\r\nhello"),
        ("spelling of chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ("chunk size with zeros", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0005\r\nhello\r\n000\r\n\r\n"),
        ("chunk extension", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b;c\"\r\nhello\r\n0;d\r\n\r\n"),
        ("own method", "PURGE / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("long method", "VERSION-CONTROL / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("host with a port", "GET / HTTP/1.1\r\nHost: a:8080\r\n\r\n"),
        ("host of IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"),
        ("empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        ("1.0 without a host", "GET / HTTP/1.0\r\n\r\n"),
        ("a GET with a body", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
    ];
    table::each(
        &rows,
        |(name, _)| (*name).to_owned(),
        |(_, bytes)| {
            let mut client = Client::connect(gateway.address());
            client.send(latin1(bytes));
            let response = client.response();
            assert_eq!((response.status, response.text().as_str()), (200, "fine"));
        },
    );
}

#[test]
fn one_valid_host_is_asked_for() {
    refuse(&[
        ("none", 400, "GET / HTTP/1.1\r\n\r\n"),
        ("two", 400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("the same twice", 400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        ("two on 1.0", 400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("a space", 400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        ("a path", 400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        ("user information", 400, "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
        ("a bad port", 400, "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
        ("two ports", 400, "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n"),
        ("an open bracket", 400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
        ("non-ASCII", 400, "GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n"),
        ("none with absolute-form", 400, "GET http://a/ HTTP/1.1\r\n\r\n"),
    ]);
}

/// The origin's answer to a row's path; `/fine` is answered well.
fn origin_with(rows: &[(&'static str, &'static str)]) -> Origin {
    let answers: Vec<Vec<u8>> = rows.iter().map(|(_, answer)| latin1(answer)).collect();
    Origin::script(move |mut peer| {
        while let Some(request) = peer.request() {
            let row: Option<usize> = request.target.trim_start_matches('/').parse().ok();
            let answer = row.map_or_else(|| ok("fine"), |row| answers[row].clone());
            if peer.try_send(&answer).is_err() {
                return;
            }
        }
    })
}

/// Every row is answered with 502 or breaks off; and its connection serves no second request.
fn refuse_responses(rows: &[(&'static str, &'static str)], only_502: bool) {
    let origin = origin_with(rows);
    let gateway =
        Gateway::start(&format!("[[upstreams]]\nname = \"o\"\nservers = [\"{origin}\"]\nretries = 0\ntimeout = {{ read = \"2s\" }}\n[[routes]]\nupstream_id = \"o\"\n"));
    let numbered: Vec<(usize, &str)> = rows.iter().enumerate().map(|(at, (name, _))| (at, *name)).collect();
    table::each(
        &numbered,
        |(_, name)| (*name).to_owned(),
        |(at, _)| {
            let mut client = Client::connect(gateway.address());
            client.set_deadline(Duration::from_secs(10));
            client.send(format!("GET /{at} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let result = client.try_response_to("GET");
            let bad = origin.seen().into_iter().rfind(|seen| seen.target == format!("/{at}"));
            let bad = bad.expect("the origin was asked").connection;
            match result {
                Ok(Some(response)) => assert_eq!(response.status, 502, "{}", response.text()),
                Ok(None) => panic!("closed without an answer"),
                Err(error) => assert!(!only_502, "502 was wanted, it broke off instead: {error}"),
            }
            // Whichever core takes them, none of these may come over the bad connection.
            for _ in 0..4 {
                assert_eq!(tests::get(gateway.address(), "/fine").text(), "fine");
            }
            let again = origin.seen().into_iter().filter(|seen| seen.connection == bad).count();
            let before = origin.seen().iter().position(|seen| seen.target == format!("/{at}")).unwrap_or(0);
            let after =
                origin.seen().into_iter().skip(before + 1).filter(|seen| seen.connection == bad).count();
            assert_eq!(after, 0, "the connection was used again ({again} requests on it)");
        },
    );
}

#[test]
fn malformed_response_heads_are_502() {
    refuse_responses(
        &[
            ("both", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
            ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
            ("a length twice", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
            ("a list", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello"),
            ("no number", "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello"),
            ("minus", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"),
            ("overflow", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551621\r\n\r\nhello"),
            ("gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n"),
            ("chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
            ("chunked not last", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
            ("two codings", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            ("on 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            ("bare LF", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
            ("bare LF after a field", "HTTP/1.1 200 OK\r\nContent-Length: 5\nX: y\r\n\r\nhello"),
            ("bare CR", "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 5\r\n\r\nhello"),
            ("space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello"),
            ("obs-fold", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 5\r\n\r\nhello"),
            ("NUL", "HTTP/1.1 200 OK\r\nX: a\u{0}b\r\nContent-Length: 5\r\n\r\nhello"),
            ("control byte", "HTTP/1.1 200 OK\r\nX: a\u{1}b\r\nContent-Length: 5\r\n\r\nhello"),
            ("no colon", "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 5\r\n\r\nhello"),
            ("status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello"),
            ("status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello"),
            ("status below 100", "HTTP/1.1 099 OK\r\nContent-Length: 5\r\n\r\nhello"),
            ("no status", "HTTP/1.1 OK\r\nContent-Length: 5\r\n\r\nhello"),
            ("other protocol", "ICY/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
            ("HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
            ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
            ("unasked switch", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello"),
        ],
        true,
    );
}

#[test]
fn broken_response_bodies_never_look_whole() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let rows: &[(&'static str, &'static str)] = &[
        ("empty size", "\r\nhello\r\n0\r\n\r\n"),
        ("size of 17 digits", "00000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("no hex", "g\r\nhello\r\n0\r\n\r\n"),
        ("bare LF after the size", "5\nhello\r\n0\r\n\r\n"),
        ("no CRLF after the data", "5\r\nhello0\r\n\r\n"),
        ("bare LF after the data", "5\r\nhello\n0\r\n\r\n"),
        ("broken after a good chunk", "5\r\nhello\r\nx\r\n0\r\n\r\n"),
        ("bare LF at the end", "5\r\nhello\r\n0\r\n\n"),
        ("a bad trailer", "5\r\nhello\r\n0\r\nX : y\r\n\r\n"),
    ];
    let rows: Vec<(&'static str, &'static str)> =
        rows.iter().map(|(name, body)| (*name, &*format!("{CHUNKED}{body}").leak())).collect();
    refuse_responses(&rows, false);
}

#[test]
fn a_response_that_ends_early_breaks_off() {
    let rows: [(&str, &'static str, u16); 6] = [
        ("nothing at all", "", 502),
        ("half a head", "HTTP/1.1 200 OK\r\nContent-Le", 502),
        ("too few bytes", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", 0),
        ("half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello", 0),
        ("no last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 0),
        ("half a last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", 0),
    ];
    table::each(
        &rows,
        |(name, ..)| (*name).to_owned(),
        |(_, answer, status)| {
            let answer: &'static str = answer;
            let origin = Origin::script(move |mut peer| {
                if peer.request().is_some() {
                    let _ = peer.try_send(answer.as_bytes());
                }
            });
            let gateway = Gateway::before(&[origin.address()]);
            let mut client =
                Client::sending(gateway.address(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
            match client.try_response_to("POST") {
                Ok(Some(response)) => {
                    assert!(response.status == 502, "taken for whole: {response:?}");
                }
                Ok(None) => panic!("closed without an answer"),
                Err(error) => assert_ne!(*status, 502, "502 was wanted, it broke off instead: {error}"),
            }
        },
    );
}

/// A second response that comes unasked after the first is never given to the next request.
#[test]
fn bytes_after_a_response_are_thrown_away() {
    let origin = Origin::script(|mut peer| {
        while let Some(request) = peer.request() {
            let mut answer = ok(&request.target);
            if request.target == "/two" {
                answer.extend_from_slice(&ok("smuggled"));
            }
            if peer.try_send(&answer).is_err() {
                return;
            }
        }
    });
    let gateway = Gateway::before(&[origin.address()]);
    for _ in 0..10 {
        let mut client = Client::connect(gateway.address());
        for path in ["/one", "/two", "/three", "/four"] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(client.response().text(), path);
        }
    }
}
