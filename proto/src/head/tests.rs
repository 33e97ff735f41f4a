//! Tables for the head: what is read, what is refused and when, what edits do.

use super::*;

type Parse = fn(&[u8], &HeadLimits, &mut Head) -> Result<Option<usize>, HeadError>;

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\"")
}

/// The answer in words, after checking that a byte at a time gives the same one, at the first byte
/// that allows it. A refusal says at which byte it was seen: `431 TooLarge @20`.
fn answer(input: &[u8], limits: &HeadLimits, parse: Parse) -> String {
    let mut head = Head::new();
    let whole = parse(input, limits, &mut head);
    let mut first = None;
    let mut slow = Head::new();
    for length in 0..=input.len() {
        let part = parse(&input[..length], limits, &mut slow);
        if first.is_none() && part != Ok(None) {
            first = Some(length);
        }
        assert_eq!(part, if first.is_some() { whole } else { Ok(None) }, "{length} of {}", shown(input));
    }
    match whole {
        Ok(None) => "incomplete".to_owned(),
        Ok(Some(taken)) => {
            assert_eq!(first, Some(taken), "known as soon as it is there");
            assert!(slow.fields().eq(head.fields()));
            format!("{}{}", described(&head), if taken < input.len() { " +rest" } else { "" })
        }
        Err(error) => {
            assert!(head.is_empty() && head.target().is_empty(), "nothing is left of a refused head");
            let place = first.expect("refused at some length");
            match error {
                HeadError::Malformed(what) => format!("400 @{place} {what}"),
                HeadError::TargetTooLong => format!("414 @{place}"),
                HeadError::TooLarge => format!("431 bytes @{place}"),
                HeadError::TooManyFields => format!("431 fields @{place}"),
                HeadError::BadVersion => format!("505 @{place}"),
            }
        }
    }
}

fn described(head: &Head) -> String {
    let start = if head.is_request() {
        assert_eq!(head.method(), Method::from_bytes(head.method_bytes()));
        format!("{} {} {:?}", shown(head.method_bytes()), shown(head.target()), head.version())
    } else {
        format!("{} [{}] {:?}", head.status(), shown(head.reason()), head.version())
    };
    let fields = head.fields().map(|f| format!(" {}={}", shown(f.name), shown(f.value)));
    start + &fields.collect::<String>()
}

#[track_caller]
fn check(input: &[u8], expected: &str) {
    let got = answer(input, &HeadLimits::default(), parse_request);
    compare(input, &got, expected);
}

#[track_caller]
fn check_response(input: &[u8], expected: &str) {
    let got = answer(input, &HeadLimits::default(), parse_response);
    compare(input, &got, expected);
}

/// A refusal is compared by its status, its place and the words given.
#[track_caller]
fn compare(input: &[u8], got: &str, expected: &str) {
    let same = if expected.starts_with("400") { got.starts_with(expected) } else { got == expected };
    assert!(same, "{}\n  gave     {got}\n  expected {expected}", shown(input));
}

#[test]
fn request_lines() {
    check(b"GET / HTTP/1.1\r\n\r\n", "GET / Http11");
    check(b"GET / HTTP/1.0\r\n\r\n", "GET / Http10");
    check(b"GET / HTTP/1.2\r\n\r\n", "GET / Http11");
    check(b"GET / HTTP/1.9\r\n\r\n", "GET / Http11");
    check(b"get / HTTP/1.1\r\n\r\n", "get / Http11");
    check(b"M-SEARCH * HTTP/1.1\r\n\r\n", "M-SEARCH * Http11");
    check(b"CONNECT a:443 HTTP/1.1\r\n\r\n", "CONNECT a:443 Http11");
    check(b"GET http://a/b?c HTTP/1.1\r\n\r\n", "GET http://a/b?c Http11");
    check(b"GET /{\"|\\}^`<> HTTP/1.1\r\n\r\n", "GET /{\"|\\\\}^`<> Http11");
    check(b"GET / HTTP/1.1\r\n\r\nGET", "GET / Http11 +rest");

    check(b"", "incomplete");
    check(b"G", "incomplete");
    check(b"GET /", "incomplete");
    check(b"GET / HTTP/1.1\r\n", "incomplete");
    check(b"GET / HTTP/1.1\r\n\r", "incomplete");

    check(b"GET / HTTP/2.0\r\n\r\n", "505 @16");
    check(b"GET / HTTP/0.9\r\n\r\n", "505 @16");
    check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 @16");
    check(b"GET / HTTP/2.0x\r\n\r\n", "400 @15 garbage");
    check(b"GET / HTTP/2\r\n\r\n", "400 @13 no HTTP version");
    check(b"GET / HTTP/11.1\r\n\r\n", "400 @13 no HTTP version");
    check(b"GET / HTTP/1.10\r\n\r\n", "400 @15 garbage");
    check(b"GET / HTTP/1,1\r\n\r\n", "400 @13 no HTTP version");
    check(b"GET / HTTP/x.1\r\n\r\n", "400 @12 no HTTP version");
    check(b"GET / http/1.1\r\n\r\n", "400 @7 no HTTP version");
    check(b"GET / ICY/1.1\r\n\r\n", "400 @7 no HTTP version");
    check(b"GET /  HTTP/1.1\r\n\r\n", "400 @7 no HTTP version");
    check(b"GET / HTTP/1.1 \r\n\r\n", "400 @15 garbage");
    check(b"GET / HTTP/1.1\t\r\n\r\n", "400 @15 garbage");
    check(b"GET / HTTP/1.1\n\r\n", "400 @15 an LF without CR");
    check(b"GET / HTTP/1.1\rX", "400 @16 a CR without LF");
    check(b"GET / HTTP/1.1\r\r\n", "400 @16 a CR without LF");

    check(b"GET  / HTTP/1.1\r\n\r\n", "400 @5 two spaces");
    check(b"GET\t/ HTTP/1.1\r\n\r\n", "400 @4 the request line has no method");
    check(b" GET / HTTP/1.1\r\n\r\n", "400 @1 the request line has no method");
    check(b"\tGET / HTTP/1.1\r\n\r\n", "400 @1 the request line has no method");
    check(b"G(T / HTTP/1.1\r\n\r\n", "400 @2 the request line has no method");
    check(b"GET\r\n\r\n", "400 @4 the request line has no method");
    check(b"G\0T / HTTP/1.1\r\n\r\n", "400 @2 the request line has no method");
    check(b"\x16\x03\x01\x02\x00", "400 @1 the request line has no method");
    check(b"GET /\r\n", "400 @6 the request line has no version");
    check(b"GET \r\n", "400 @5 the request line has no version");
    check(b"GET /\n", "400 @6 the request line has no version");
    check(b"GET /a\tb HTTP/1.1\r\n\r\n", "400 @7 a byte that cannot stand in a target");
    check(b"GET /a\0b HTTP/1.1\r\n\r\n", "400 @7 a byte that cannot stand in a target");
    check(b"GET /a\x7f HTTP/1.1\r\n\r\n", "400 @7 a byte that cannot stand in a target");
    check(b"GET /caf\xe9 HTTP/1.1\r\n\r\n", "400 @9 a byte that cannot stand in a target");
}

#[test]
fn empty_lines_before_a_request() {
    check(b"\r\nGET / HTTP/1.1\r\n\r\n", "GET / Http11");
    check(b"\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n", "GET / Http11 A=b");
    check(b"\r", "incomplete");
    check(b"\r\n\r\n\r\n\r\n", "incomplete");
    check(b"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", "400 @10 too many empty lines");
    check(b"\nGET / HTTP/1.1\r\n\r\n", "400 @1 the request line has no method");
    check(b"\rGET / HTTP/1.1\r\n\r\n", "400 @2 the request line has no method");
    check(b"\r\n\nGET / HTTP/1.1\r\n\r\n", "400 @3 the request line has no method");
}

#[test]
fn status_lines() {
    check_response(b"HTTP/1.1 200 OK\r\n\r\n", "200 [OK] Http11");
    check_response(b"HTTP/1.0 200 OK\r\n\r\n", "200 [OK] Http10");
    check_response(b"HTTP/1.7 200 OK\r\n\r\n", "200 [OK] Http11");
    check_response(b"HTTP/1.1 404 Not Found\r\n\r\n", "404 [Not Found] Http11");
    check_response(b"HTTP/1.1 204 \r\n\r\n", "204 [] Http11");
    check_response(b"HTTP/1.1 204\r\n\r\n", "204 [] Http11");
    check_response(b"HTTP/1.1 500 a\tb\xe9\r\n\r\n", "500 [a\\tb\\xe9] Http11");
    check_response(b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "100 [] Http11 +rest");
    check_response(b"HTTP/1.1 599 \r\nA: b\r\n\r\n", "599 [] Http11 A=b");

    check_response(b"", "incomplete");
    check_response(b"HTTP/1.1 20", "incomplete");
    check_response(b"HTTP/1.1 200 OK", "incomplete");

    check_response(b"HTTP/2.0 200 OK\r\n\r\n", "505 @9");
    check_response(b"\r\nHTTP/1.1 200 OK\r\n\r\n", "400 @1 no HTTP version");
    check_response(b"200 OK\r\n\r\n", "400 @1 no HTTP version");
    check_response(b"HTTP/1.1\r\n\r\n", "400 @9 no space after the version");
    check_response(b"HTTP/1.1\t200\r\n\r\n", "400 @9 no space after the version");
    check_response(b"HTTP/1.1  200 OK\r\n\r\n", "400 @10 the status is not three digits");
    check_response(b"HTTP/1.1 20 OK\r\n\r\n", "400 @12 the status is not three digits");
    check_response(b"HTTP/1.1 +20 OK\r\n\r\n", "400 @10 the status is not three digits");
    check_response(b"HTTP/1.1 2000 OK\r\n\r\n", "400 @13 a control byte in the status line");
    check_response(b"HTTP/1.1 099 OK\r\n\r\n", "400 @10 the status is not 100 to 599");
    check_response(b"HTTP/1.1 600 OK\r\n\r\n", "400 @10 the status is not 100 to 599");
    check_response(b"HTTP/1.1 999 OK\r\n\r\n", "400 @10 the status is not 100 to 599");
    check_response(b"HTTP/1.1 200 O\0K\r\n\r\n", "400 @15 a control byte in the status line");
    check_response(b"HTTP/1.1 200 O\x7fK\r\n\r\n", "400 @15 a control byte in the status line");
    check_response(b"HTTP/1.1 200 OK\n\r\n", "400 @16 an LF without CR");
    check_response(b"HTTP/1.1 200\n\r\n", "400 @13 an LF without CR");
    check_response(b"HTTP/1.1 200 OK\rX: y\r\n\r\n", "400 @17 a CR without LF");
    check_response(b"HTTP/1.1 200 OK\r\n X: y\r\n\r\n", "400 @18 a folded line");
    check_response(b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "400 @19 whitespace before");
}

#[test]
fn field_lines() {
    /// `lines` after `R HTTP/1.1 CRLF`; `expected` without the start line, places from its end.
    #[track_caller]
    fn check(lines: &[u8], expected: &str) {
        const START: &[u8] = b"GET / HTTP/1.1\r\n";
        let input = [START, lines, b"\r\n"].concat();
        let got = answer(&input, &HeadLimits::default(), parse_request);
        let got = match got.strip_prefix("400 @") {
            None => got.strip_prefix("GET / Http11").unwrap_or(&got).trim_start().to_owned(),
            Some(refusal) => {
                let (place, what) = refusal.split_once(' ').expect("place and words");
                let place: usize = place.parse().expect("a number");
                format!("400 @{} {what}", place - START.len())
            }
        };
        compare(&input, &got, expected);
    }
    check(b"", "");
    check(b"A: b\r\n", "A=b");
    check(b"A:b\r\n", "A=b");
    check(b"A:\r\n", "A=");
    check(b"A: \r\n", "A=");
    check(b"A: \t \r\n", "A=");
    check(b"A:  \tb c\t \r\n", "A=b c");
    check(b"A: b\r\na: c\r\nA: b\r\n", "A=b a=c A=b");
    check(b"A: b:c\r\n", "A=b:c");
    check(b"A: b\tc\r\n", "A=b\\tc");
    check(b"A: \x80\xff\r\n", "A=\\x80\\xff");
    check(b"!#$%&'*+-.^_`|~0aZ: b\r\n", "!#$%&'*+-.^_`|~0aZ=b");

    check(b": b\r\n", "400 @1 an empty field name");
    check(b"A : b\r\n", "400 @2 whitespace before a field's colon");
    check(b"A\t: b\r\n", "400 @2 whitespace before a field's colon");
    check(b" A: b\r\n", "400 @1 a folded line");
    check(b"A: b\r\n c\r\n", "400 @7 a folded line");
    check(b"A: b\r\n\tc\r\n", "400 @7 a folded line");
    check(b"A: b\r\n \r\n", "400 @7 a folded line");
    check(b"A\r\n", "400 @2 a field line without a colon");
    check(b"A\n", "400 @2 a field line without a colon");
    check(b"A: b\nB: c\r\n", "400 @5 an LF without CR");
    check(b"A: b\rB: c\r\n", "400 @6 a CR without LF");
    check(b"A: b\r\r\n", "400 @6 a CR without LF");
    check(b"A:\n", "400 @3 an LF without CR");
    check(b"A: b\r\n\n", "400 @7 an LF without CR");
    check(b"A: b\r\n\rx", "400 @8 a CR without LF");
    check(b"\0: b\r\n", "400 @1 a byte that cannot stand in a field name");
    for byte in (0..=255u8).filter(|b| !b.is_ascii_alphanumeric() && !b"!#$%&'*+-.^_`|~ \t\r\n:".contains(b))
    {
        check(&[b'A', byte, b':', b'b', b'\r', b'\n'], "400 @2 a byte that cannot stand in a field name");
    }
    for byte in (0..0x20u8).chain([0x7f]).filter(|b| !b"\t\r\n".contains(b)) {
        check(&[b'A', b':', b' ', byte, b'\r', b'\n'], "400 @4 a control byte in a field value");
        check(&[b"A: 0123456789", &[byte][..], b"\r\n"].concat(), "400 @14 a control byte in a field value");
    }
}

#[test]
fn limits() {
    #[track_caller]
    fn check(bytes_max: usize, target_bytes_max: usize, fields_max: usize, input: &str, expected: &str) {
        let limits = HeadLimits { bytes_max, target_bytes_max, fields_max };
        compare(input.as_bytes(), &answer(input.as_bytes(), &limits, parse_request), expected);
    }
    let plain = "GET /abc HTTP/1.1\r\nA: b\r\nB: c\r\n\r\n";
    let read = "GET /abc Http11 A=b B=c";
    check(plain.len(), 4, 2, plain, read);
    check(plain.len() - 1, 4, 2, plain, "431 bytes @32");
    check(20, 4, 2, plain, "431 bytes @20");
    check(0, 4, 2, plain, "431 bytes @0");
    check(plain.len(), 3, 2, plain, "414 @8");
    check(plain.len(), 0, 2, plain, "414 @5");
    check(plain.len(), 4, 1, plain, "431 fields @26");
    check(plain.len(), 4, 0, plain, "431 fields @20");
    // What comes first in the bytes is what is reported.
    check(100, 3, 9, "GET /abc\0 HTTP/1.1\r\n", "414 @8");
    check(100, 3, 9, "GET /ab\0c HTTP/1.1\r\n", "400 @8");
    check(100, 4, 9, "GET /ab\0c HTTP/1.1\r\n", "400 @8");
    check(7, 3, 9, "GET /abc HTTP/1.1\r\n", "431 bytes @7");
    check(100, 9, 1, "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", "431 fields @23");
    check(20, 9, 9, "GET / HTTP/1.1\r\nA: b\0\r\n\r\n", "431 bytes @20");
    check(21, 9, 9, "GET / HTTP/1.1\r\nA: b\0\r\n\r\n", "400 @21");
    // The rest of what was read is no part of the head.
    check(plain.len(), 4, 2, &plain.repeat(3), "GET /abc Http11 A=b B=c +rest");
    check(usize::MAX, usize::MAX, usize::MAX, plain, read);

    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(128));
    let mut head = Head::new();
    assert_eq!(parse_request(many.as_bytes(), &HeadLimits::default(), &mut head), Ok(Some(many.len())));
    assert_eq!(head.len(), 128);
    let more = many.replacen("A: b\r\n", "A: b\r\nA: b\r\n", 1);
    assert_eq!(
        parse_request(more.as_bytes(), &HeadLimits::default(), &mut head),
        Err(HeadError::TooManyFields)
    );
}

fn head_of(lines: &str) -> Head {
    let text = format!(
        "GET / HTTP/1.1\r\n{}\r\n",
        lines.split_inclusive('|').collect::<String>().replace('|', "\r\n")
    );
    let mut head = Head::new();
    assert_eq!(parse_request(text.as_bytes(), &HeadLimits::default(), &mut head), Ok(Some(text.len())));
    head
}

fn lines_of(head: &Head) -> String {
    let mut out = b"before ".to_vec();
    head.write_fields(&mut out);
    let text = String::from_utf8_lossy(&out).into_owned();
    text.strip_prefix("before ").expect("appended").replace("\r\n", "|")
}

#[test]
fn edits() {
    #[track_caller]
    fn check(before: &str, edit: impl Fn(&mut Head), after: &str) {
        let mut head = head_of(before);
        edit(&mut head);
        assert_eq!(lines_of(&head), after, "{before}");
        assert_eq!(head.len(), after.matches('|').count());
        // The set of present names is what is there.
        for name in Name::known() {
            let there = head.fields().filter(|f| f.id == name).count();
            assert_eq!((head.has(name), head.count(name)), (there > 0, there), "{name:?}");
        }
    }
    let same = |_: &mut Head| {};
    check("", same, "");
    check("A: b|C: d|", same, "A: b|C: d|");
    check("A:b|C: d|E:  f |G: h|", same, "A: b|C: d|E: f|G: h|");

    check("A: b|", |h| h.append(b"C", b"d"), "A: b|C: d|");
    check("A: b|", |h| h.append(b"A", b""), "A: b|A: |");
    check("A: b|", |h| h.append(b"C", b" \td e\t "), "A: b|C: d e|");
    check("A: b|", |h| h.append(b"", b"d"), "A: b|");
    check("A: b|", |h| h.append(b"C d", b"e"), "A: b|");
    check("A: b|", |h| h.append(b"C:", b"e"), "A: b|");
    check("A: b|", |h| h.append(b"C\r\nD", b"e"), "A: b|");
    check("A: b|", |h| h.append(b"C", b"d\r\nE: f"), "A: b|C: d  E: f|");
    check("A: b|", |h| h.append(b"C", b"\r\n\r\nd\0\n"), "A: b|C: d|");

    check("A: b|host: c|D: e|", |h| h.set(b"Host", b"x"), "A: b|host: x|D: e|");
    check("A: b|Host: c|D: e|HOST: f|", |h| h.set(b"hOST", b"x"), "A: b|Host: x|D: e|");
    check("x-A: b|C: d|X-a: e|X-A: f|", |h| h.set(b"X-A", b"x"), "x-A: x|C: d|");
    check("A: b|", |h| h.set(b"Host", b"x"), "A: b|Host: x|");
    check("A: b|", |h| h.set(b"A", b""), "A: |");
    check("A: b|", |h| h.set(b"A", b"c\nD: e"), "A: c D: e|");
    check("A: b|", |h| h.set(b"bad name", b"c"), "A: b|");

    check("Via: a|B: c|", |h| h.append_value(b"via", b"x"), "Via: a, x|B: c|");
    check("Via: a|Via: b|", |h| h.append_value(b"VIA", b"x"), "Via: a|Via: b, x|");
    check("X-A: a|x-a: b|C: d|", |h| h.append_value(b"X-A", b"x"), "X-A: a|x-a: b, x|C: d|");
    check("Via: |", |h| h.append_value(b"Via", b"x"), "Via: x|");
    check("Via: a|", |h| h.append_value(b"Via", b" \r\n "), "Via: a|");
    check("Via: a|", |h| h.append_value(b"Via", b"\r\nx\r\n"), "Via: a, x|");
    check("A: b|", |h| h.append_value(b"Via", b"x"), "A: b|Via: x|");

    check("A: b|Host: c|A: d|", |h| h.remove(Name::Host), "A: b|A: d|");
    check("A: b|Host: c|", |h| h.remove(Name::Via), "A: b|Host: c|");
    check("A: b|Host: c|", |h| h.remove(Name::Other), "A: b|Host: c|");
    check("A: b|Host: c|a: d|", |h| h.remove_named(b"a"), "Host: c|");
    check("A: b|Host: c|", |h| h.remove_named(b"HOST"), "A: b|");
    check("A: b|Host: c|", |h| h.remove_named(b"none"), "A: b|Host: c|");
    check(
        "A: b|Via: c|Via: d|Host: e|",
        |h| h.retain(|f| f.value != b"d" && f.value != b"e"),
        "A: b|Via: c|",
    );

    check(
        "A: b|Host: c|X: y|",
        |h| {
            h.remove(Name::Host);
            h.set(b"A", b"1");
            h.append(b"Host", b"2");
            h.append_value(b"X", b"3");
            h.append_value(b"X", b"4");
        },
        "A: 1|X: y, 3, 4|Host: 2|",
    );
}

#[test]
fn questions() {
    let head = head_of("Host: a|x-b: c|Cookie: d|X-B: e|cookie: f|");
    let texts = |values: Vec<&[u8]>| values.iter().map(|v| shown(v)).collect::<Vec<_>>().join(",");
    assert_eq!(head.get(Name::Host), Some(&b"a"[..]));
    assert_eq!(head.get(Name::Cookie), Some(&b"d"[..]));
    assert_eq!(head.get(Name::Via), None);
    assert_eq!(head.get(Name::Other), None);
    assert_eq!(texts(head.get_all(Name::Cookie).collect()), "d,f");
    assert_eq!(texts(head.get_all(Name::Other).collect()), "");
    assert_eq!(head.get_named(b"X-b"), Some(&b"c"[..]));
    assert_eq!(texts(head.get_all_named(b"X-B").collect()), "c,e");
    assert_eq!(texts(head.get_all_named(b"COOKIE").collect()), "d,f");
    assert_eq!(head.get_named(b"none"), None);
    assert_eq!(head.get_named(b""), None);
    assert_eq!((head.len(), head.count(Name::Cookie), head.count(Name::Other)), (5, 2, 0));
}

#[test]
fn start_lines() {
    #[track_caller]
    fn check(edit: impl Fn(&mut Head), expected: &str) {
        let mut head = head_of("A: b|");
        edit(&mut head);
        let mut out = Vec::new();
        if head.is_request() {
            head.write_request_line(&mut out);
        } else {
            head.write_status_line(&mut out);
        }
        assert_eq!(shown(&out), format!("{expected}\\r\\n"));
        assert_eq!(lines_of(&head), "A: b|");
    }
    check(|_| {}, "GET / HTTP/1.1");
    check(|h| h.set_version(Version::Http10), "GET / HTTP/1.1");
    check(|h| h.set_method(b"PATCH"), "PATCH / HTTP/1.1");
    check(|h| h.set_method(b"A B"), "GET / HTTP/1.1");
    check(|h| h.set_method(b""), "GET / HTTP/1.1");
    check(|h| h.set_target(b"/a?b"), "GET /a?b HTTP/1.1");
    check(|h| h.set_target(b"/a b\r\nX: y\xe9%20"), "GET /a%20b%0D%0AX:%20y%E9%20 HTTP/1.1");
    check(|h| h.set_status(200), "GET / HTTP/1.1");
    check(|h| h.set_reason(b"x"), "GET / HTTP/1.1");
    check(|h| h.set_request(b"PUT", b"/x", Version::Http10), "PUT /x HTTP/1.1");
    check(|h| h.set_response(200, b"Fine", Version::Http11), "HTTP/1.1 200 Fine");
    check(|h| h.set_response(200, b"a\r\nb", Version::Http11), "HTTP/1.1 200 a  b");
    let response = |h: &mut Head| h.set_response(200, b"Fine", Version::Http11);
    check(|h| (response(h), h.set_status(404)).1, "HTTP/1.1 404 Not Found");
    check(|h| (response(h), h.set_status(200)).1, "HTTP/1.1 200 Fine");
    check(|h| (response(h), h.set_status(299)).1, "HTTP/1.1 299 ");
    check(|h| (response(h), h.set_reason(b"")).1, "HTTP/1.1 200 ");
    check(|h| (response(h), h.set_target(b"/x")).1, "HTTP/1.1 200 Fine");
}

#[test]
fn warm_heads_allocate_nothing() {
    let small = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: b\r\nVia: c\r\nX-A: d\r\nX-B: e\r\n\r\n";
    let mut head = Head::new();
    assert_eq!(head.heap_bytes(), 0);
    let work = |head: &mut Head| {
        parse_request(small, &HeadLimits::default(), head).expect("valid");
        head.append_value(b"X-Forwarded-For", b"192.0.2.1");
        head.set(b"Host", b"upstream");
        head.heap_bytes()
    };
    let warm = work(&mut head);
    for _ in 0..100 {
        assert_eq!(work(&mut head), warm);
    }

    let large = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(100_000));
    let limits = HeadLimits { bytes_max: 200_000, ..HeadLimits::default() };
    parse_request(large.as_bytes(), &limits, &mut head).expect("valid");
    assert!(head.heap_bytes() > 100_000);
    head.clear();
    assert!(head.heap_bytes() < 64 * 1024, "a grown arena is given back");
}

#[test]
fn methods() {
    #[track_caller]
    fn check(text: &str, method: Method, safe: bool, idempotent: bool) {
        assert_eq!(Method::from_bytes(text.as_bytes()), method);
        assert_eq!((method.is_safe(), method.is_idempotent()), (safe, idempotent));
        assert_eq!(method.as_str(), if method == Method::Other { "" } else { text });
    }
    check("GET", Method::Get, true, true);
    check("HEAD", Method::Head, true, true);
    check("OPTIONS", Method::Options, true, true);
    check("TRACE", Method::Trace, true, true);
    check("PUT", Method::Put, false, true);
    check("DELETE", Method::Delete, false, true);
    check("POST", Method::Post, false, false);
    check("PATCH", Method::Patch, false, false);
    check("CONNECT", Method::Connect, false, false);
    check("get", Method::Other, false, false);
    check("", Method::Other, false, false);
    check("GETS", Method::Other, false, false);
}

#[test]
fn validity() {
    fn check(text: &[u8], name: bool, value: bool) {
        assert_eq!((valid_field_name(text), valid_field_value(text)), (name, value), "{}", shown(text));
    }
    check(b"", false, true);
    check(b"X-A", true, true);
    check(b"a b", false, true);
    check(b"a:b", false, true);
    check(b"a\tb", false, true);
    check(b" a", false, false);
    check(b"a ", false, false);
    check(b"a\t", false, false);
    check(b"a\r\nb", false, false);
    check(b"a\nb", false, false);
    check(b"a\0b", false, false);
    check(b"a\x7f", false, false);
    check(b"\xe9", false, true);
}

#[test]
fn errors_say_what() {
    for error in
        [HeadError::TooLarge, HeadError::TargetTooLong, HeadError::TooManyFields, HeadError::BadVersion]
    {
        assert!(error.to_string().starts_with("the "), "{error}");
    }
    assert_eq!(HeadError::Malformed("x").to_string(), "x");
}

#[test]
fn known_names_are_written_as_any_other() {
    for value in ["1", "", " a b ", "a\r\nb: c", "\t", "x\u{7f}y"] {
        let (mut known, mut any) = (Head::new(), Head::new());
        for head in [&mut known, &mut any] {
            head.set_request(b"GET", b"/", Version::Http11);
        }
        known.append_known(Name::XForwardedFor, b"X-Forwarded-For", value.as_bytes());
        any.append(b"X-Forwarded-For", value.as_bytes());
        known.set_known(Name::Host, b"Host", b"a");
        any.set(b"Host", b"a");
        // A second time it is there: its place stays, its value changes.
        known.set_known(Name::Host, b"Host", value.as_bytes());
        any.set(b"Host", value.as_bytes());
        assert!(known.fields().eq(any.fields()), "{value:?}");
        assert!(known.has(Name::XForwardedFor) && known.has(Name::Host));
        let (mut one, mut other) = (Vec::new(), Vec::new());
        known.write_fields(&mut one);
        any.write_fields(&mut other);
        assert_eq!(one, other, "{value:?}");
    }
}
