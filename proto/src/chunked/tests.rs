//! Tables for the chunked coding. Each case runs whole, a byte at a time, and in two pieces cut at
//! every place.

use super::*;

type Outcome = Result<(Vec<u8>, usize, bool, Vec<u8>), ChunkError>;

fn decode(input: &[u8], cuts: &[usize]) -> Outcome {
    let mut decoder = Decoder::new();
    let mut payload = Vec::new();
    let mut total = 0;
    let mut start = 0;
    for end in cuts.iter().copied().chain([input.len()]) {
        let mut buf = input[start..end].to_vec();
        let decoded = decoder.decode_in_place(&mut buf)?;
        assert!(decoded.done || decoded.consumed == buf.len());
        payload.extend_from_slice(&buf[decoded.data]);
        total += decoded.consumed;
        start = end;
        if decoded.done {
            break;
        }
    }
    Ok((payload, total, decoder.is_done(), decoder.trailers().to_vec()))
}

/// Payload, then `.` when it is done and `...` while it is not, then what is left and the trailers.
#[track_caller]
fn check(input: &[u8], expected: &str) {
    let whole = decode(input, &[]);
    for cut in 0..=input.len() {
        assert_eq!(decode(input, &[cut]), whole, "cut at {cut}: {}", input.escape_ascii());
    }
    assert_eq!(decode(input, &(1..input.len()).collect::<Vec<_>>()), whole, "a byte at a time");
    let got = match whole {
        Err(error) => format!("{error:?}"),
        Ok((payload, consumed, done, trailers)) => format!(
            "{}{}{}{}",
            payload.escape_ascii(),
            if done { "." } else { "..." },
            if consumed < input.len() {
                format!(" +{}", input[consumed..].escape_ascii())
            } else {
                String::new()
            },
            if trailers.is_empty() { String::new() } else { format!(" [{}]", trailers.escape_ascii()) },
        ),
    };
    assert_eq!(got, expected, "{}", input.escape_ascii());
}

#[test]
fn bodies() {
    check(b"", "...");
    check(b"0\r\n\r\n", ".");
    check(b"5\r\nhello\r\n0\r\n\r\n", "hello.");
    check(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world.");
    check(b"a\r\n0123456789\r\n0\r\n\r\n", "0123456789.");
    check(b"A\r\n0123456789\r\n0\r\n\r\n", "0123456789.");
    check(b"0005\r\nhello\r\n000\r\n\r\n", "hello.");
    check(b"2\r\n\r\n\r\n0\r\n\r\n", "\\r\\n.");
    check(b"5\r\nhello\r\n0\r\n\r\nGET /", "hello. +GET /");
    check(b"5\r\nhel", "hel...");
    check(b"5\r\nhello\r\n", "hello...");
    check(b"5\r\nhello\r\n0\r\n", "hello...");
    check(b"7fffffffffffffff\r\nx", "x...");
    check(b"0000000000000001\r\nx\r\n", "x...");
}

#[test]
fn sizes() {
    check(b"\r\n", "Size");
    check(b"\n", "Size");
    check(b";a\r\n", "Size");
    check(b" 5\r\n", "Size");
    check(b"\t5\r\n", "Size");
    check(b"5 \r\n", "Size");
    check(b"5\t\r\n", "Size");
    check(b"5 ;a\r\n", "Size");
    check(b"+5\r\n", "Size");
    check(b"-5\r\n", "Size");
    check(b"0x5\r\n", "Size");
    check(b"5h\r\n", "Size");
    check(b"g\r\n", "Size");
    check(b"5,\r\n", "Size");
    check(b"5\0\r\n", "Size");
    check(b"\xff\r\n", "Size");
    check(b"8000000000000000\r\n", "Size");
    check(b"ffffffffffffffff\r\n", "Size");
    check(b"10000000000000000\r\n", "Size");
    check(b"00000000000000001\r\n", "Size");
    check(b"00000000000000000\r\n", "Size");
    check(b"5\r\nhello\r\n\r\n", "Size");
}

#[test]
fn line_ends() {
    check(b"5\nhello\r\n0\r\n\r\n", "LineEnd");
    check(b"5\rhello\r\n0\r\n\r\n", "LineEnd");
    check(b"5\r\rhello", "LineEnd");
    check(b"5\r\nhello\n0\r\n\r\n", "LineEnd");
    check(b"5\r\nhello\r0\r\n\r\n", "LineEnd");
    check(b"5\r\nhello0\r\n\r\n", "LineEnd");
    check(b"5\r\nhello!\r\n0\r\n\r\n", "LineEnd");
    check(b"6\r\nhello\r\n0\r\n\r\n", "LineEnd");
    check(b"0\n\r\n", "LineEnd");
    check(b"0\r\n\n", "LineEnd");
    check(b"0\r\n\rx", "LineEnd");
    check(b"5;a\nhello\r\n", "LineEnd");
    check(b"5;a\rb\r\nhello\r\n", "LineEnd");
}

#[test]
fn extensions() {
    check(b"5;a\r\nhello\r\n0\r\n\r\n", "hello.");
    check(b"5;a=b;c=\"d e\"; f\r\nhello\r\n0;last\r\n\r\n", "hello.");
    check(b"5;\r\nhello\r\n0\r\n\r\n", "hello.");
    check(b"5;\xe9\r\nhello\r\n0\r\n\r\n", "hello.");
    check(b"5;a\0\r\n", "Extension");
    check(b"5;a\tb\r\n", "Extension");
    check(b"5;a\x0b\r\n", "Extension");
    check(b"5;a\x7f\r\n", "Extension");
    let line = |bytes: usize| format!("1;{}\r\nx\r\n", "a".repeat(bytes - 2));
    check(format!("{}0\r\n\r\n", line(LINE_BYTES_MAX)).as_bytes(), "x.");
    check(line(LINE_BYTES_MAX + 1).as_bytes(), "Extension");
}

#[test]
fn framing_in_excess() {
    fn run(chunk: &[u8], count: usize) -> Result<usize, ChunkError> {
        let mut decoder = Decoder::new();
        for done in 0..count {
            if let Err(error) = decoder.decode_in_place(&mut chunk.to_vec()) {
                assert!(done > 10, "not before it is much");
                return Err(error);
            }
        }
        Ok(count)
    }
    // Honest bodies of tiny chunks go on for ever, and so do extensions that their payload pays for.
    assert_eq!(run(b"1\r\nx\r\n", 100_000), Ok(100_000));
    assert_eq!(run(b"000001\r\nx\r\n", 100_000), Ok(100_000));
    let signed = format!("400;chunk-signature={}\r\n{}\r\n", "0".repeat(64), "x".repeat(1024));
    assert_eq!(run(signed.as_bytes(), 10_000), Ok(10_000));
    let padded = format!("1;{}\r\nx\r\n", "a".repeat(200));
    assert_eq!(run(padded.as_bytes(), 1_000), Err(ChunkError::Extension));
}

#[test]
fn trailers() {
    check(b"0\r\nX: 1\r\n\r\n", ". [X: 1\\r\\n]");
    check(b"2\r\nhi\r\n0\r\nX-Sum: 1\r\nY:2\r\n\r\nrest", "hi. +rest [X-Sum: 1\\r\\nY:2\\r\\n]");
    check(b"0\r\nX:\r\nY: \xe9\t \r\n\r\n", ". [X:\\r\\nY: \\xe9\\t \\r\\n]");
    check(b"0\r\nX: 1\r\n", "... [X: 1\\r\\n]");

    check(b"0\r\nX\r\n\r\n", "Trailer");
    check(b"0\r\nX : 1\r\n\r\n", "Trailer");
    check(b"0\r\n: 1\r\n\r\n", "Trailer");
    check(b"0\r\n X: 1\r\n\r\n", "Trailer");
    check(b"0\r\nX: 1\r\n 2\r\n\r\n", "Trailer");
    check(b"0\r\nX: 1\r\n\t2\r\n\r\n", "Trailer");
    check(b"0\r\nX\0: 1\r\n\r\n", "Trailer");
    check(b"0\r\nX: \0\r\n\r\n", "Trailer");
    check(b"0\r\nX: \x7f\r\n\r\n", "Trailer");
    check(b"0\r\nX\xe9: 1\r\n\r\n", "Trailer");
    check(b"0\r\nX: 1\n\r\n", "LineEnd");
    check(b"0\r\nX\n\r\n", "LineEnd");
    check(b"0\r\nX: 1\rY: 2\r\n\r\n", "LineEnd");
    check(b"0\r\nX: 1\r\n\n", "LineEnd");
    for name in [
        "Transfer-Encoding",
        "content-length",
        "HOST",
        "Connection",
        "Trailer",
        "Upgrade",
        "TE",
        "Content-Type",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "X-Forwarded-For",
        "Forwarded",
        "X-Real-IP",
    ] {
        check(format!("0\r\n{name}: 1\r\n\r\n").as_bytes(), "Trailer");
    }
    check(b"0\r\nX: 1\r\nHost: a\r\n\r\n", "Trailer");
}

#[test]
fn trailer_bounds() {
    fn run(lines: &str) -> Result<Decoded, ChunkError> {
        Decoder::new().decode_in_place(&mut format!("0\r\n{lines}\r\n").into_bytes())
    }
    assert!(run(&"X: 1\r\n".repeat(TRAILER_FIELDS_MAX)).is_ok_and(|decoded| decoded.done));
    assert_eq!(run(&"X: 1\r\n".repeat(TRAILER_FIELDS_MAX + 1)), Err(ChunkError::TrailerTooLarge));
    let line = |bytes: usize| format!("X:{}\r\n", "1".repeat(bytes - 4));
    assert!(run(&line(TRAILER_BYTES_MAX)).is_ok_and(|decoded| decoded.done));
    assert_eq!(run(&line(TRAILER_BYTES_MAX + 1)), Err(ChunkError::TrailerTooLarge));
}

#[test]
fn in_place() {
    let mut buf = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\nnext".to_vec();
    let decoded = Decoder::new().decode_in_place(&mut buf).expect("valid");
    assert_eq!(decoded, Decoded { data: 3..10, consumed: 22, done: true });
    assert_eq!(&buf[3..10], b"abcdefg");
    assert_eq!(&buf[22..], b"next", "the next message is not touched");

    let mut decoder = Decoder::new();
    decoder.decode_in_place(&mut b"3\r\na".to_vec()).expect("valid");
    let mut buf = b"bc\r\n2\r\nde".to_vec();
    let decoded = decoder.decode_in_place(&mut buf).expect("valid");
    assert_eq!(decoded, Decoded { data: 0..4, consumed: 9, done: false });
    assert_eq!(&buf[..4], b"bcde");
}

#[test]
fn errors_stay() {
    let mut decoder = Decoder::new();
    assert_eq!(decoder.decode_in_place(&mut b"x".to_vec()), Err(ChunkError::Size));
    assert_eq!(decoder.decode_in_place(&mut b"0\r\n\r\n".to_vec()), Err(ChunkError::Size));
    assert_eq!(decoder.decode_in_place(&mut []), Err(ChunkError::Size));
    assert!(!decoder.is_done());
}

#[test]
fn chunk_headers() {
    fn check(size: usize, expected: &str) {
        let mut out = [0; CHUNK_HEADER_BYTES_MAX];
        let length = write_chunk_header(size, &mut out);
        assert_eq!(std::str::from_utf8(&out[..length]), Ok(expected));
    }
    check(1, "1\r\n");
    check(15, "f\r\n");
    check(16, "10\r\n");
    check(26, "1a\r\n");
    check(4096, "1000\r\n");
    check(0xabcdef, "abcdef\r\n");
    check(usize::MAX, "ffffffffffffffff\r\n");
    for size in 1..70_000 {
        check(size, &format!("{size:x}\r\n"));
    }
}

#[test]
fn fields_of_trailers() {
    let fields: Vec<_> = trailer_fields(b"X: 1\r\nY:2\r\nZ: \r\n").collect();
    assert_eq!(fields, [(&b"X"[..], &b"1"[..]), (b"Y", b"2"), (b"Z", b"")]);
    assert_eq!(trailer_fields(b"").count(), 0);
}
