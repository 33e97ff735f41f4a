//! Tables for framing and for the other questions about the connection.

use super::*;
use crate::head::{parse_request, parse_response, HeadLimits};

/// `GET / HTTP/1.1|Name: value|...`, request or response by how it starts.
fn head_of(text: &str) -> Head {
    let text = format!("{}\r\n\r\n", text.replace('|', "\r\n"));
    let mut head = Head::new();
    let parse = if text.starts_with("HTTP/") { parse_response } else { parse_request };
    assert_eq!(parse(text.as_bytes(), &HeadLimits::default(), &mut head), Ok(Some(text.len())));
    head
}

/// The framing fields that no message may have, and what is said about them.
const REFUSED: &[(&str, FramingError)] = {
    use FramingError::*;
    &[
        ("Transfer-Encoding: chunked|Content-Length: 5", TransferEncodingAndContentLength),
        ("Content-Length: 5|Transfer-Encoding: chunked", TransferEncodingAndContentLength),
        ("Content-Length: 0|Transfer-Encoding: identity", TransferEncodingAndContentLength),
        ("Content-Length: 5|Content-Length: 6", ContentLengthRepeated),
        ("Content-Length: 5|Content-Length: 5", ContentLengthRepeated),
        ("Content-Length: 5|content-length: 5", ContentLengthRepeated),
        ("Content-Length: 5, 5", ContentLengthRepeated),
        ("Content-Length: 5,", ContentLengthRepeated),
        ("Content-Length: ", ContentLengthSyntax),
        ("Content-Length: +5", ContentLengthSyntax),
        ("Content-Length: -5", ContentLengthSyntax),
        ("Content-Length: 5 5", ContentLengthSyntax),
        ("Content-Length: 5.0", ContentLengthSyntax),
        ("Content-Length: 0x5", ContentLengthSyntax),
        ("Content-Length: 5a", ContentLengthSyntax),
        ("Content-Length: 5;", ContentLengthSyntax),
        ("Content-Length: 1e3", ContentLengthSyntax),
        ("Content-Length: \u{b2}", ContentLengthSyntax),
        ("Content-Length: 9223372036854775808", ContentLengthTooLarge),
        ("Content-Length: 18446744073709551616", ContentLengthTooLarge),
        ("Content-Length: 99999999999999999999999999", ContentLengthTooLarge),
        ("Transfer-Encoding: ", TransferEncodingUnknown),
        ("Transfer-Encoding: identity", TransferEncodingUnknown),
        ("Transfer-Encoding: gzip", TransferEncodingUnknown),
        ("Transfer-Encoding: xchunked", TransferEncodingUnknown),
        ("Transfer-Encoding: chunkedx", TransferEncodingUnknown),
        ("Transfer-Encoding: chunked, chunked", TransferEncodingUnknown),
        ("Transfer-Encoding: gzip, chunked", TransferEncodingUnknown),
        ("Transfer-Encoding: chunked, gzip", TransferEncodingUnknown),
        ("Transfer-Encoding: chunked, identity", TransferEncodingUnknown),
        ("Transfer-Encoding: ,chunked", TransferEncodingUnknown),
        ("Transfer-Encoding: chunked,", TransferEncodingUnknown),
        ("Transfer-Encoding: chunked;a=b", TransferEncodingUnknown),
        ("Transfer-Encoding: \"chunked\"", TransferEncodingUnknown),
        ("Transfer-Encoding: chun ked", TransferEncodingUnknown),
        ("Transfer-Encoding: chunked|Transfer-Encoding: chunked", TransferEncodingUnknown),
        ("Transfer-Encoding: chunked|Transfer-Encoding: identity", TransferEncodingUnknown),
        ("Transfer-Encoding: gzip|transfer-encoding: chunked", TransferEncodingUnknown),
    ]
};

#[test]
fn refused_in_both_directions() {
    for (fields, error) in REFUSED {
        for method in ["GET", "POST"] {
            let head = head_of(&format!("{method} / HTTP/1.1|Host: a|{fields}"));
            assert_eq!(request_body(&head), Err(*error), "{fields}");
        }
        for (status, asked) in
            [(200, Method::Get), (200, Method::Head), (204, Method::Get), (304, Method::Get)]
        {
            let head = head_of(&format!("HTTP/1.1 {status} |{fields}"));
            assert_eq!(response_body(&head, asked), Err(*error), "{status} {fields}");
        }
        assert!(error.to_string().contains("(RFC 9"), "{error}");
    }
    for fields in ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"] {
        let error = Err(FramingError::TransferEncodingVersion);
        assert_eq!(request_body(&head_of(&format!("POST / HTTP/1.0|{fields}"))), error);
        assert_eq!(response_body(&head_of(&format!("HTTP/1.0 200 |{fields}")), Method::Get), error);
    }
}

#[test]
fn request_bodies() {
    #[track_caller]
    fn check(text: &str, expected: BodyLength) {
        assert_eq!(request_body(&head_of(text)), Ok(expected), "{text}");
    }
    check("GET / HTTP/1.1", BodyLength::None);
    check("POST / HTTP/1.1", BodyLength::None);
    check("POST / HTTP/1.0", BodyLength::None);
    check("POST / HTTP/1.1|Content-Length: 0", BodyLength::Fixed(0));
    check("GET / HTTP/1.1|Content-Length: 5", BodyLength::Fixed(5));
    check("POST / HTTP/1.0|content-length:\t 42 ", BodyLength::Fixed(42));
    check("POST / HTTP/1.1|Content-Length: 0042", BodyLength::Fixed(42));
    check("POST / HTTP/1.1|Content-Length: 9223372036854775807", BodyLength::Fixed(i64::MAX as u64));
    check("POST / HTTP/1.1|Transfer-Encoding: chunked", BodyLength::Chunked);
    check("POST / HTTP/1.1|transfer-encoding: Chunked", BodyLength::Chunked);
    check("POST / HTTP/1.2|Transfer-Encoding:chunked", BodyLength::Chunked);
    check("POST / HTTP/1.1|TE: gzip|X-Transfer-Encoding: x", BodyLength::None);
}

#[test]
fn response_bodies() {
    #[track_caller]
    fn check(method: Method, text: &str, expected: BodyLength) {
        assert_eq!(response_body(&head_of(text), method), Ok(expected), "{method:?} {text}");
    }
    check(Method::Get, "HTTP/1.1 200 ", BodyLength::UntilClose);
    check(Method::Get, "HTTP/1.0 200 ", BodyLength::UntilClose);
    check(Method::Get, "HTTP/1.1 200 |Content-Length: 5", BodyLength::Fixed(5));
    check(Method::Get, "HTTP/1.0 404 |Content-Length: 0", BodyLength::Fixed(0));
    check(Method::Get, "HTTP/1.1 200 |Transfer-Encoding: chunked", BodyLength::Chunked);
    check(Method::Other, "HTTP/1.1 500 |Content-Length: 5", BodyLength::Fixed(5));
    check(Method::Get, "HTTP/1.1 205 |Content-Length: 5", BodyLength::Fixed(5));
    for fields in ["", "|Content-Length: 5", "|Transfer-Encoding: chunked"] {
        check(Method::Head, &format!("HTTP/1.1 200 {fields}"), BodyLength::None);
        check(Method::Connect, &format!("HTTP/1.1 200 {fields}"), BodyLength::None);
        for status in [100, 101, 103, 199, 204, 304] {
            check(Method::Get, &format!("HTTP/1.1 {status} {fields}"), BodyLength::None);
        }
    }
    check(Method::Connect, "HTTP/1.1 403 |Content-Length: 5", BodyLength::Fixed(5));
}

#[test]
fn hosts() {
    #[track_caller]
    fn check(text: &str, expected: Result<(), FramingError>) {
        assert_eq!(check_host(&head_of(text)), expected, "{text}");
    }
    check("GET / HTTP/1.1|Host: a", Ok(()));
    check("GET / HTTP/1.1|Host: a.example:8080", Ok(()));
    check("GET / HTTP/1.1|Host: a_b-c.d", Ok(()));
    check("GET / HTTP/1.1|Host: 192.0.2.1:80", Ok(()));
    check("GET / HTTP/1.1|Host: [2001:db8::1]:80", Ok(()));
    check("GET / HTTP/1.1|Host: [::1]", Ok(()));
    check("GET / HTTP/1.1|Host: a:", Ok(()));
    check("GET / HTTP/1.1|Host: ", Ok(()));
    check("GET / HTTP/1.0|Host: a", Ok(()));
    check("GET / HTTP/1.0", Ok(()));
    check("GET / HTTP/1.1", Err(FramingError::HostMissing));
    check("GET / HTTP/1.1|Host: a|Host: a", Err(FramingError::HostRepeated));
    check("GET / HTTP/1.1|Host: a|host: b", Err(FramingError::HostRepeated));
    check("GET / HTTP/1.0|Host: a|Host: a", Err(FramingError::HostRepeated));
    for bad in [
        "a b",
        "a/b",
        "a@b",
        "a?b",
        "a#b",
        "a\\b",
        ":80",
        "a:b",
        "a:80:80",
        "a:65536",
        "a:+80",
        "a:080808",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]:x",
        "[g::1]",
        "[]",
        "[::1%25eth0]",
        "a%2",
        "a%zz",
        "a<b",
        "\"a\"",
        "http://a",
        "caf\u{e9}",
        "a,b c",
        "{a}",
    ] {
        check(&format!("GET / HTTP/1.1|Host: {bad}"), Err(FramingError::HostSyntax));
    }
}

#[test]
fn keep_alives() {
    #[track_caller]
    fn check(text: &str, expected: bool) {
        assert_eq!(keep_alive(&head_of(text)), expected, "{text}");
    }
    check("GET / HTTP/1.1", true);
    check("GET / HTTP/1.1|Connection: close", false);
    check("GET / HTTP/1.1|Connection: Close", false);
    check("GET / HTTP/1.1|Connection: keep-alive, close", false);
    check("GET / HTTP/1.1|Connection: close, keep-alive", false);
    check("GET / HTTP/1.1|Connection: upgrade|Connection: close", false);
    check("GET / HTTP/1.1|Connection: closed", true);
    check("GET / HTTP/1.1|Connection: ", true);
    check("GET / HTTP/1.0", false);
    check("GET / HTTP/1.0|Connection: keep-alive", true);
    check("GET / HTTP/1.0|Connection: x|Connection: Keep-Alive", true);
    check("GET / HTTP/1.0|Connection: keep-alive, close", false);
    check("GET / HTTP/1.0|Proxy-Connection: keep-alive", false);
    check("HTTP/1.1 200 ", true);
    check("HTTP/1.0 200 |Content-Length: 5", false);
    check("HTTP/1.1 204 |Server: a", true);
    check("HTTP/1.1 204 |Content-Length: 0", true);
    check("HTTP/1.1 204 |Content-Length: 5", false);
    check("HTTP/1.1 204 |Transfer-Encoding: chunked", false);
    check("HTTP/1.1 103 |Transfer-Encoding: chunked", false);
    check("HTTP/1.1 304 |Content-Length: 5", true);
}

#[test]
fn tokens() {
    #[track_caller]
    fn check(value: &str, token: &str, expected: bool) {
        assert_eq!(has_token(value.as_bytes(), token.as_bytes()), expected, "{value:?} {token}");
    }
    check("close", "close", true);
    check("CLOSE", "close", true);
    check("a,close", "close", true);
    check("a , close , b", "close", true);
    check("a,\tclose", "close", true);
    check("", "close", false);
    check("closed", "close", false);
    check("x-close", "close", false);
    check("close x", "close", false);
    check("close;q=1", "close", false);
    check("clos,e", "close", false);
}

#[test]
fn expectations() {
    #[track_caller]
    fn check(text: &str, expected: bool) {
        assert_eq!(expects_continue(&head_of(text)), expected, "{text}");
    }
    check("POST / HTTP/1.1|Expect: 100-continue", true);
    check("POST / HTTP/1.1|Expect: 100-Continue", true);
    check("POST / HTTP/1.0|Expect: 100-continue", false);
    check("POST / HTTP/1.1|Expect: 200-ok", false);
    check("POST / HTTP/1.1", false);
}

#[test]
fn upgrades() {
    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(upgrade(&head_of(text)), expected.map(str::as_bytes), "{text}");
    }
    check("GET / HTTP/1.1|Connection: Upgrade|Upgrade: websocket", Some("websocket"));
    check("GET / HTTP/1.1|Connection: a|Connection: b, upgrade|Upgrade: h2c, x", Some("h2c, x"));
    check("GET / HTTP/1.1|Upgrade: websocket", None);
    check("GET / HTTP/1.1|Connection: upgrade", None);
    check("GET / HTTP/1.1|Connection: upgrade|Upgrade: ", None);
    check("GET / HTTP/1.0|Connection: upgrade|Upgrade: websocket", None);
    check("HTTP/1.1 101 |Connection: upgrade|Upgrade: websocket", Some("websocket"));
}
