//! Tables for hellos. Each case runs whole and a byte at a time through one peeker, and what is
//! found must come at the same byte and stay.

use super::*;
use crate::seeded::Random;

/// What a peeker finds in short, and after how many bytes.
fn read(input: &[u8]) -> (String, usize) {
    let mut peeker = Peeker::new();
    let whole = show(peeker.peek(input));
    assert_eq!(show(peeker.peek(input)), whole, "asked twice");
    let mut peeker = Peeker::new();
    let mut certain = None;
    for end in 0..=input.len() {
        let got = show(peeker.peek(&input[..end]));
        if certain.is_some() || got != "..." {
            assert_eq!(got, whole, "after {end} bytes: {}", input.escape_ascii());
            certain.get_or_insert(end);
        }
    }
    assert_eq!(certain.is_none(), whole == "...", "a byte at a time");
    (whole, certain.unwrap_or(input.len()))
}

fn show(peek: Result<Peek<'_>, HelloError>) -> String {
    let hello = match peek {
        Err(error) => return format!("{error:?}"),
        Ok(Peek::Incomplete) => return "...".into(),
        Ok(Peek::NotTls) => return "not TLS".into(),
        Ok(Peek::Hello(hello)) => hello,
    };
    let mut text = hello.server_name.unwrap_or("-").to_owned();
    for protocol in hello.alpn.clone() {
        assert!(hello.alpn.contains(protocol));
        text += &format!(" {}", protocol.escape_ascii());
    }
    for (version, name) in [(0x0301, "1.0"), (0x0302, "1.1"), (TLS12, "1.2"), (TLS13, "1.3")] {
        if hello.speaks(version) {
            text += &format!(" {name}");
        }
    }
    text + if hello.encrypted { " encrypted" } else { "" }
}

fn u16_prefixed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &u16_prefixed(value)].concat()
}

fn server_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<_> =
        names.iter().map(|(kind, name)| [&[*kind][..], &u16_prefixed(name)].concat()).collect();
    extension(0, &u16_prefixed(&list.concat()))
}

fn sni(name: &str) -> Vec<u8> {
    server_names(&[(0, name.as_bytes())])
}

/// A message with the fields that every client sends, and the extensions given.
fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    let extensions = u16_prefixed(&extensions.concat());
    message(&[&[3, 3][..], &[7; 32], &[2, 1, 2], &[0, 4, 0x1a, 0x1a, 0x13, 1], &[1, 0], &extensions].concat())
}

fn message(body: &[u8]) -> Vec<u8> {
    [&[1][..], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

/// The message in records of at most `bytes`.
fn records(message: &[u8], bytes: usize) -> Vec<u8> {
    message.chunks(bytes).flat_map(|piece| [&[22, 3, 1][..], &u16_prefixed(piece)].concat()).collect()
}

#[track_caller]
fn check(extensions: &[Vec<u8>], expected: &str) {
    let message = hello(extensions);
    for bytes in [1 << 14, 100, 7, 1] {
        let input = records(&message, bytes);
        assert_eq!(read(&input), (expected.to_owned(), input.len()), "in records of {bytes}");
        let followed = [&input[..], b"whatever follows"].concat();
        assert_eq!(read(&followed).0, expected, "followed");
        assert_eq!(read(&input[..input.len() - 1]).0, "...", "all but a byte");
    }
}

#[test]
fn hellos() {
    let versions = extension(43, &[6, 0x3a, 0x3a, 3, 4, 3, 3]);
    let alpn = extension(16, b"\0\x0c\x02h2\x08http/1.1");
    let grease = extension(0x0a0a, b"");
    check(&[], "- 1.0 1.1 1.2");
    check(&[sni("example.com")], "example.com 1.0 1.1 1.2");
    check(&[sni("EXAMPLE.Com.")], "example.com 1.0 1.1 1.2");
    check(&[sni("192.0.2.1")], "- 1.0 1.1 1.2");
    check(&[sni("a.b"), alpn.clone(), versions.clone()], "a.b h2 http/1.1 1.2 1.3");
    check(&[grease.clone(), versions.clone(), alpn.clone(), sni("a.b")], "a.b h2 http/1.1 1.2 1.3");
    check(&[grease, extension(0x1a1a, b"x"), versions.clone(), extension(21, &[0; 300])], "- 1.2 1.3");
    check(&[extension(16, b"\0\x03\x02\x0a\x0a")], "- \\n\\n 1.0 1.1 1.2");
    check(&[extension(16, b"\0\x0b\x0aacme-tls/1"), sni("a.b")], "a.b acme-tls/1 1.0 1.1 1.2");
    check(&[extension(43, &[2, 3, 4])], "- 1.3");
    check(&[extension(43, &[2, 0x0a, 0x0a])], "-");
    let outer = extension(0xfe0d, b"\0\0\x01\0\x01\x42\0\0\0\x01x");
    check(&[outer, sni("public.example"), versions], "public.example 1.2 1.3 encrypted");
}

/// Hellos as clients on this machine sent them; the files are the fuzz corpus too.
#[test]
fn hellos_of_clients() {
    fn check(input: &[u8], expected: &str) {
        assert_eq!(read(input), (expected.to_owned(), input.len()));
    }
    check(
        include_bytes!("../../../fuzz/corpus/client_hello/openssl"),
        "example.com h2 http/1.1 1.0 1.1 1.2 1.3",
    );
    check(include_bytes!("../../../fuzz/corpus/client_hello/openssl_no_name"), "- 1.0 1.1 1.2 1.3");
    check(include_bytes!("../../../fuzz/corpus/client_hello/openssl_tls12"), "a.example 1.0 1.1 1.2");
    check(
        include_bytes!("../../../fuzz/corpus/client_hello/curl"),
        "www.example.org h2 http/1.1 1.0 1.1 1.2 1.3",
    );
    check(include_bytes!("../../../fuzz/corpus/client_hello/python_ip"), "- 1.2 1.3");
    check(include_bytes!("../../../fuzz/corpus/client_hello/node"), "node.example h2 1.2 1.3");
}

#[test]
fn bad_extensions() {
    check(&[sni("a.b"), sni("a.b")], "ExtensionRepeated");
    check(&[extension(0x2a2a, b""), extension(0x2a2a, b"")], "ExtensionRepeated");
    check(&[server_names(&[(0, b"a.b"), (0, b"c.d")])], "ServerName");
    check(&[server_names(&[(0, b"a.b"), (1, b"c.d")])], "ServerName");
    check(&[server_names(&[(1, b"a.b")])], "ServerName");
    check(&[server_names(&[])], "Malformed");
    check(&[sni("")], "ServerName");
    check(&[sni("a b")], "ServerName");
    check(&[sni("a\0.b")], "ServerName");
    check(&[extension(0, b"")], "Malformed");
    check(&[extension(0, b"\0\x06\0\0\x03a.b\0")], "Malformed");
    check(&[extension(0, b"\0\x06\0\0\x04a.b")], "Malformed");
    check(&[extension(0, b"\0\x07\0\0\x03a.b")], "Malformed");
    check(&[extension(16, b"")], "Malformed");
    check(&[extension(16, b"\0\0")], "Malformed");
    check(&[extension(16, b"\0\x01\0")], "Malformed");
    check(&[extension(16, b"\0\x04\x02h2\0")], "Malformed");
    check(&[extension(16, b"\0\x03\x03h2")], "Malformed");
    check(&[extension(16, b"\0\x03\x02h2x")], "Malformed");
    check(&[extension(43, b"")], "Malformed");
    check(&[extension(43, b"\0")], "Malformed");
    check(&[extension(43, &[3, 3, 4, 3])], "Malformed");
    check(&[extension(43, &[2, 3, 4, 3])], "Malformed");
    let many = |count: u16| (0..count).map(|kind| extension(1000 + kind, b"")).collect::<Vec<_>>();
    check(&many(128), "- 1.0 1.1 1.2");
    check(&many(129), "TooLarge");
}

#[test]
fn bad_fields() {
    fn check(body: &[&[u8]], expected: &str) {
        let input = records(&message(&body.concat()), 1000);
        assert_eq!(read(&input), (expected.to_owned(), input.len()));
    }
    let start = [&[3, 3][..], &[7; 32]].concat();
    // No extensions at all, as before TLS 1.3.
    check(&[&start, b"\0", b"\0\x02\0\x2f", b"\x01\0"], "- 1.0 1.1 1.2");
    check(&[&[3, 1], &[7; 32], b"\0", b"\0\x02\0\x2f", b"\x01\0"], "- 1.0");
    check(&[], "Malformed");
    check(&[&start[..33]], "Malformed");
    check(&[&start], "Malformed");
    check(&[&start, b"\x20", &[1; 32], b"\0\x02\0\x2f", b"\x01\0"], "- 1.0 1.1 1.2");
    check(&[&start, b"\x21", &[1; 33], b"\0\x02\0\x2f", b"\x01\0"], "Malformed");
    check(&[&start, b"\x05\x01"], "Malformed");
    check(&[&start, b"\0", b"\0\0", b"\x01\0"], "Malformed");
    check(&[&start, b"\0", b"\0\x03\0\x2f\0", b"\x01\0"], "Malformed");
    check(&[&start, b"\0", b"\0\x02\0\x2f", b"\0"], "Malformed");
    check(&[&start, b"\0", b"\0\x02\0\x2f", b"\x01\0", b"\0"], "Malformed");
    check(&[&start, b"\0", b"\0\x02\0\x2f", b"\x01\0", b"\0\0"], "- 1.0 1.1 1.2");
    check(&[&start, b"\0", b"\0\x02\0\x2f", b"\x01\0", b"\0\0x"], "Malformed");
    check(&[&start, b"\0", b"\0\x02\0\x2f", b"\x01\0", b"\0\x03\0\0\0"], "Malformed");
    check(&[&start, b"\0", b"\0\x02\0\x2f", b"\x01\0", b"\0\x04\0\x23\0\x01"], "Malformed");
}

#[test]
fn not_hellos() {
    fn check(input: &[u8], expected: &str, certain: usize) {
        assert_eq!(read(input), (expected.to_owned(), certain), "{}", input.escape_ascii());
    }
    check(b"", "...", 0);
    check(b"GET / HTTP/1.1\r\n", "not TLS", 1);
    check(b"PRI * HTTP/2.0\r\n", "not TLS", 1);
    check(b"PROXY TCP4", "not TLS", 1);
    check(b"\x15\x03\x03\0\x02\x01\0", "not TLS", 1);
    check(b"\x80\x2e\x01\x03\x01", "not TLS", 1);
    check(b"\x16", "...", 1);
    check(b"\x16\x02", "Record", 2);
    check(b"\x16HTTP", "Record", 2);
    check(b"\x16\x03\xff\0\x01", "...", 5);
    check(b"\x16\x03\x01\0\0", "Record", 5);
    check(b"\x16\x03\x01\x40\0", "...", 5);
    check(b"\x16\x03\x01\x40\x01", "Record", 5);
    check(b"\x16\x03\x01\0\x01\x02", "Message", 6);
    check(b"\x16\x03\x01\0\x01\x01\x17", "Record", 7);
    check(b"\x16\x03\x01\0\x01\x01\x16\x03\x03\0\0", "Record", 11);
    check(b"\x16\x03\x01\0\x10\x01\0\x3f\xfc", "...", 9);
    check(b"\x16\x03\x01\0\x10\x01\0\x3f\xfd", "TooLarge", 9);
    check(b"\x16\x03\x01\0\x10\x01\x01\0\0", "TooLarge", 9);
    let message = [&hello(&[])[..], &[20, 0, 0, 0]].concat();
    check(&records(&message, 1000), "Trailing", 5 + message.len() - 4);
}

#[test]
fn largest() {
    let padded = |bytes: usize| hello(&[extension(21, &vec![0; bytes]), sni("a.b")]);
    let room = HELLO_BYTES_MAX - padded(0).len();
    let mut peeker = Peeker::new();
    assert_eq!(show(peeker.peek(&records(&padded(room), 1 << 14))), "a.b 1.0 1.1 1.2");
    assert_eq!(show(Peeker::new().peek(&records(&padded(room + 1), 1 << 14))), "TooLarge");
    // The largest in as many records as fit, then in one more.
    let overhead = RECEIVED_BYTES_MAX - HELLO_BYTES_MAX;
    let pieces = overhead / RECORD_HEADER_BYTES;
    let small = records(&padded(room), HELLO_BYTES_MAX.div_ceil(pieces));
    assert_eq!(show(Peeker::new().peek(&small)), "a.b 1.0 1.1 1.2");
    assert_eq!(read(&records(&padded(room), 70)), ("TooLarge".to_owned(), RECEIVED_BYTES_MAX));
    // One byte per record: a hello of usual size passes.
    assert_eq!(read(&records(&padded(2000), 1)).0, "a.b 1.0 1.1 1.2");
}

#[test]
fn alerts() {
    assert_eq!(alert_record(UNRECOGNIZED_NAME), *b"\x15\x03\x03\0\x02\x02\x70");
    assert_eq!(alert_record(HelloError::Malformed.alert())[6], 50);
}

/// Random cuts into records and reads find what one record in one read does.
#[test]
fn cuts_do_not_matter() {
    for seed in 0..500 {
        let mut random = Random::new(seed);
        let name = format!("h{}.example", random.below(1000));
        let mut extensions =
            vec![sni(&name), extension(43, &[4, 3, 4, 3, 3]), extension(16, b"\0\x03\x02h2")];
        extensions.push(extension(21, &random.bytes(600)));
        extensions.rotate_left(random.below(4));
        let message = hello(&extensions);
        let mut input = Vec::new();
        let mut rest = &message[..];
        while !rest.is_empty() {
            let piece = rest.len().min(1 + random.below(200));
            input.extend(records(&rest[..piece], piece));
            rest = &rest[piece..];
        }
        let mut peeker = Peeker::new();
        let mut end = 0;
        while end < input.len() {
            assert_eq!(show(peeker.peek(&input[..end])), "...", "seed {seed}");
            end = (end + 1 + random.below(300)).min(input.len());
        }
        assert_eq!(show(peeker.peek(&input)), format!("{name} h2 1.2 1.3"), "seed {seed}");
    }
}
