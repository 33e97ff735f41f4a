//! Times what every request pays in this crate, and the worst that a slow sender can make us pay.
//!
//! A plain loop over the best of several rounds: the figures wanted are tens of nanoseconds, and
//! the best round is the one that nothing else disturbed. `cargo bench -p proto`.

use std::hint::black_box;
use std::time::Instant;

use proto::chunked::Decoder;
use proto::head::{parse_request, parse_response, Head, HeadLimits, Name};
use proto::{framing, hop, target};

const ROUNDS: usize = 9;

const FIVE: &[u8] = b"GET /api/users/42?full=1 HTTP/1.1\r\n\
Host: gateway.example.com\r\n\
User-Agent: curl/8.5.0\r\n\
Accept: */*\r\n\
X-Request-Id: 3f0c6f4e-8d5a-4f3e\r\n\
Connection: keep-alive\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
Server: origin\r\n\
Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
Content-Type: text/plain\r\n\
Content-Length: 1024\r\n\
Connection: keep-alive\r\n\r\n";

fn main() {
    // `cargo test --all-targets` runs this too, without the flag: times of a debug build mean nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let twenty = twenty_fields();
    let limits = HeadLimits::default();
    let mut head = Head::new();
    let mut out = Vec::with_capacity(4096);

    time("parse_request, 5 fields", FIVE.len(), || {
        black_box(parse_request(black_box(FIVE), &limits, &mut head)).ok();
    });
    time("parse_request, 20 fields", twenty.len(), || {
        black_box(parse_request(black_box(&twenty), &limits, &mut head)).ok();
    });
    time("parse_response, 5 fields", RESPONSE.len(), || {
        black_box(parse_response(black_box(RESPONSE), &limits, &mut head)).ok();
    });

    parse_request(&twenty, &limits, &mut head).expect("valid");
    time("write_fields, 20 fields as they came", twenty.len(), || {
        out.clear();
        head.write_fields(black_box(&mut out));
    });
    time("get, one of 20 and one absent", 0, || {
        black_box((head.get(black_box(Name::Cookie)), head.get(black_box(Name::Range))));
    });
    time("the way of a request: parse, framing, target, strip, forwarded, write", FIVE.len(), || {
        parse_request(black_box(FIVE), &limits, &mut head).ok();
        framing::request_body(&head).ok();
        framing::check_host(&head).ok();
        black_box(framing::keep_alive(&head));
        black_box(target::parse(head.target(), head.method())).ok();
        hop::strip_request(&mut head);
        hop::append_forwarded_for(&mut head, "192.0.2.1");
        out.clear();
        head.write_request_line(&mut out);
        head.write_fields(&mut out);
        black_box(&out);
    });

    let mut path = Vec::with_capacity(256);
    time("normalize, nothing to do", 18, || {
        target::normalize(black_box(b"/api/users/42/full"), &mut path).ok();
    });
    time("normalize, escapes and dots", 28, || {
        target::normalize(black_box(b"/api/./users//%34%32/../full"), &mut path).ok();
    });

    let mut body = Vec::new();
    for _ in 0..4 {
        body.extend_from_slice(b"1000\r\n");
        body.resize(body.len() + 4096, b'x');
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let kept = body.clone();
    time("decode_in_place, 4 chunks of 4 KiB (with a copy to undo it)", body.len(), || {
        body.copy_from_slice(&kept);
        Decoder::new().decode_in_place(black_box(&mut body)).ok();
    });

    let long = slow_head(65_000, 1);
    time("a 64 KiB head of one field, still incomplete", long.len(), || {
        black_box(parse_request(black_box(&long), &limits, &mut head)).ok();
    });
    let wide = slow_head(65_000, 127);
    time("a 64 KiB head of 127 fields, still incomplete", wide.len(), || {
        black_box(parse_request(black_box(&wide), &limits, &mut head)).ok();
    });
    let start = Instant::now();
    for length in 0..wide.len() {
        assert_eq!(parse_request(&wide[..length], &limits, &mut head), Ok(None));
    }
    println!(
        "{:>9.0} ns  per byte of that head, a byte at a time",
        start.elapsed().as_nanos() as f64 / wide.len() as f64
    );
}

fn time(what: &str, bytes: usize, mut work: impl FnMut()) {
    let mut turns = 16u32;
    let best = (0..ROUNDS)
        .map(|_| loop {
            let start = Instant::now();
            for _ in 0..turns {
                work();
            }
            let nanos = start.elapsed().as_nanos() as f64;
            if nanos > 2e6 {
                break nanos / f64::from(turns);
            }
            turns *= 2;
        })
        .fold(f64::INFINITY, f64::min);
    println!("{best:>9.1} ns  {what} ({bytes} bytes)");
}

fn twenty_fields() -> Vec<u8> {
    let mut text = b"GET /api/v1/projects/ringway/issues?state=open&page=2 HTTP/1.1\r\n".to_vec();
    for line in [
        "Host: gateway.example.com",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
        "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Referer: https://gateway.example.com/projects/ringway/issues?state=open",
        "Connection: keep-alive",
        "Cookie: session=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef; theme=dark; consent=1",
        "Upgrade-Insecure-Requests: 1",
        "Sec-Fetch-Dest: document",
        "Sec-Fetch-Mode: navigate",
        "Sec-Fetch-Site: same-origin",
        "Sec-Fetch-User: ?1",
        "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
        "If-None-Match: \"5f2a-0123456789abcdef\"",
        "Priority: u=0, i",
        "X-Request-Id: 3f0c6f4e-8d5a-4f3e-9b1a-2c3d4e5f6071",
        "X-Forwarded-For: 203.0.113.7, 198.51.100.23",
        "Authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4ifQ.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "Cache-Control: max-age=0",
    ] {
        text.extend_from_slice(line.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// A head that never ends: `fields` lines of equal length, `bytes` in all.
fn slow_head(bytes: usize, fields: usize) -> Vec<u8> {
    let mut text = b"GET / HTTP/1.1\r\n".to_vec();
    for _ in 0..fields {
        text.extend_from_slice(b"X-Slow: ");
        text.resize(text.len() + bytes / fields - 10, b'v');
        text.extend_from_slice(b"\r\n");
    }
    text
}
