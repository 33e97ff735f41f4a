//! Tables for content types, answers, message boundaries and gRPC-Web.

use super::*;
use crate::head::{parse_response, HeadLimits};
use crate::seeded::Random;

#[test]
fn content_types() {
    fn check(value: &str, expected: Option<(Dialect, &str)>) {
        let expected = expected.map(|(dialect, format)| ContentType { dialect, format: format.as_bytes() });
        assert_eq!(content_type(value.as_bytes()), expected, "{value}");
    }
    use Dialect::*;
    check("application/grpc", Some((Grpc, "")));
    check("application/grpc+proto", Some((Grpc, "+proto")));
    check("application/grpc+json", Some((Grpc, "+json")));
    check("Application/gRPC+Proto", Some((Grpc, "+Proto")));
    check("application/grpc; charset=utf-8", Some((Grpc, "")));
    check("application/grpc+proto ;a=b", Some((Grpc, "+proto")));
    check(" application/grpc ", Some((Grpc, "")));
    check("application/grpc-web", Some((Web, "")));
    check("application/grpc-web+proto", Some((Web, "+proto")));
    check("application/grpc-web-text", Some((WebText, "")));
    check("application/grpc-web-text+proto; charset=utf-8", Some((WebText, "+proto")));
    check("application/grpcfoo", None);
    check("application/grpc-webs", None);
    check("application/grpc-web-texts", None);
    check("application/grpc foo", None);
    check("application/json", None);
    check("application/gr", None);
    check("", None);
    check(";application/grpc", None);
}

#[test]
fn answers() {
    #[track_caller]
    fn check(text: &str, ends: bool, expected: Answer) {
        let mut head = Head::new();
        let text = format!("HTTP/1.1 {}\r\n\r\n", text.replace('|', "\r\n"));
        parse_response(text.as_bytes(), &HeadLimits::default(), &mut head).expect("valid");
        assert_eq!(answer(&head, ends), expected, "{text}");
    }
    use Answer::*;
    let (ok, unknown) = (Status::Ok, Status::Unknown);
    check("200 OK|Content-Type: application/grpc", false, Streaming);
    check("200 OK|Content-Type: application/grpc+proto", true, NotGrpc(unknown));
    check("200 OK|Content-Type: application/grpc|grpc-status: 0", true, TrailersOnly(ok));
    check("200 OK|Content-Type: application/grpc|Grpc-Status: 14", true, TrailersOnly(Status::Unavailable));
    check("200 OK|Content-Type: application/grpc|grpc-status: 14", false, Streaming);
    check("200 OK|Content-Type: application/grpc|grpc-status: x", true, NotGrpc(unknown));
    check("200 OK|Content-Type: application/grpc|grpc-status: 0|grpc-status: 1", true, NotGrpc(unknown));
    check("200 OK|Content-Type: text/html", false, NotGrpc(unknown));
    check("200 OK|Content-Type: application/grpc-web", false, NotGrpc(unknown));
    check("200 OK", true, NotGrpc(unknown));
    check("503 Busy|Content-Type: text/plain", false, NotGrpc(Status::Unavailable));
    check("503 Busy|Content-Type: application/grpc", false, NotGrpc(Status::Unavailable));
    check("503 Busy|grpc-status: 8", false, TrailersOnly(Status::ResourceExhausted));
    check("404 Not Found", true, NotGrpc(Status::Unimplemented));
}

/// The pieces of a body: `(5` begins a message of five bytes, `)` ends it, `z` marks a compressed
/// one, `[` and `]` stand around trailers. Then the error, or `...` within a frame.
fn pieces(input: &[u8], cuts: usize, mut frames: Frames) -> (String, u64) {
    let mut text = String::new();
    for mut piece in input.chunks(cuts) {
        loop {
            match frames.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(Piece::Begin(prefix))) => {
                    text += if prefix.kind == Kind::Message { "(" } else { "[" };
                    text += if prefix.compressed { "z" } else { "" };
                    text += &prefix.bytes.to_string();
                    text += ":";
                }
                Ok(Some(Piece::Part(part))) => {
                    assert!(!part.is_empty());
                    text += &part.escape_ascii().to_string();
                }
                Ok(Some(Piece::End(Kind::Message))) => text += ")",
                Ok(Some(Piece::End(Kind::Trailers))) => text += "]",
                Err(error) => {
                    assert_eq!(frames.next(&mut &b""[..]), Err(error), "it stays refused");
                    return (text + &format!("{error:?}"), frames.messages());
                }
            }
        }
    }
    if !frames.at_boundary() {
        text += "...";
    }
    (text, frames.messages())
}

#[test]
fn frames() {
    #[track_caller]
    fn check(input: &[u8], plain: &str, web: &str) {
        for (frames, expected) in [(Frames::new(1000), plain), (Frames::new_web(1000), web)] {
            let whole = pieces(input, usize::MAX, frames.clone());
            assert_eq!(whole.0, expected, "{}", input.escape_ascii());
            assert_eq!(whole.1 as usize, expected.matches(')').count());
            for cuts in 1..8 {
                assert_eq!(pieces(input, cuts, frames.clone()), whole, "in pieces of {cuts}");
            }
            let skipped = frames.clone().skip(input).ok();
            assert_eq!(skipped.is_some(), expected.ends_with([')', ']', '.']) || expected.is_empty());
            assert!(skipped.is_none_or(|messages| messages == whole.1));
        }
    }
    check(b"", "", "");
    check(b"\0\0\0\0\0", "(0:)", "(0:)");
    check(b"\0\0\0\0\x05hello", "(5:hello)", "(5:hello)");
    check(b"\x01\0\0\0\x02hi\0\0\0\0\0\0\0\0\0\x01x", "(z2:hi)(0:)(1:x)", "(z2:hi)(0:)(1:x)");
    check(b"\0", "...", "...");
    check(b"\0\0\0\0", "...", "...");
    check(b"\0\0\0\0\x02h", "(2:h...", "(2:h...");
    check(b"\0\0\0\0\x01x\0\0", "(1:x)...", "(1:x)...");
    check(b"\x02\0\0\0\0", "Flags", "Flags");
    check(b"\0\0\0\0\x01x\x40", "(1:x)Flags", "(1:x)Flags");
    check(b"GET / HTTP/1.1", "Flags", "Flags");
    check(b"\0\0\0\x03\xe9", "TooLarge", "TooLarge");
    check(b"\0\xff\xff\xff\xff", "TooLarge", "TooLarge");
    check(b"\x80\0\0\0\x06a: b\r\n", "Flags", "[6:a: b\\r\\n]");
    check(b"\x81\0\0\0\0", "Flags", "[z0:]");
    check(b"\0\0\0\0\x01x\x80\0\0\0\0", "(1:x)Flags", "(1:x)[0:]");
    check(b"\x80\0\0\0\0\0", "Flags", "[0:]AfterTrailers");
    check(b"\x80\0\0\x20\0", "Flags", "[8192:...");
    check(b"\x80\0\0\x20\x01", "Flags", "TooLarge");
}

#[test]
fn boundless_frames() {
    let mut frames = Frames::new(u32::MAX);
    assert_eq!(frames.skip(b"\0\xff\xff\xff\xffx"), Ok(0));
    assert!(!frames.at_boundary());
}

#[test]
fn trailers() {
    fn check(fields: &[(&str, &str)], expected: &str) {
        let mut out = b"before".to_vec();
        write_trailers(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), &mut out);
        let frame = &out[6..];
        let prefix = Prefix { kind: Kind::Trailers, compressed: false, bytes: expected.len() as u32 };
        assert_eq!(frame[..PREFIX_BYTES], prefix.to_bytes());
        assert_eq!(String::from_utf8_lossy(&frame[PREFIX_BYTES..]), expected);
        assert_eq!(Frames::new_web(0).skip(frame), Ok(0));
        assert!(read_trailers(&frame[PREFIX_BYTES..]).is_some());
    }
    check(&[], "");
    check(&[("grpc-status", "0")], "grpc-status: 0\r\n");
    check(&[("Grpc-Status", "13"), ("grpc-message", "a%0Ab")], "grpc-status: 13\r\ngrpc-message: a%0Ab\r\n");
    check(&[("a", "x\r\nb: y")], "a: x  b: y\r\n");
    check(&[("a b", "x"), ("", "y"), ("c", "z")], "c: z\r\n");
    let long = "v".repeat(WEB_TRAILER_BYTES_MAX - 5);
    check(&[("a", &long), ("b", "c")], &format!("a: {long}\r\n"));
    check(&[("a", &format!("{long}v")), ("b", "c")], "b: c\r\n");
}

#[test]
fn reading_trailers() {
    fn check(frame: &str, expected: Option<&[(&str, &str)]>) {
        let got = read_trailers(frame.as_bytes()).map(|fields| fields.collect::<Vec<_>>());
        let expected = expected
            .map(|fields| fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect::<Vec<_>>());
        assert_eq!(got, expected, "{frame:?}");
    }
    check("", Some(&[]));
    check("grpc-status:0\r\n", Some(&[("grpc-status", "0")]));
    check("grpc-status: 0\r\ngrpc-message: \r\n", Some(&[("grpc-status", "0"), ("grpc-message", "")]));
    check("grpc-status: 0", None);
    check("grpc-status: 0\n", None);
    check("grpc-status: 0\r\n\r\n", None);
    check("grpc-status\r\n", None);
    check("grpc status: 0\r\n", None);
    check(": 0\r\n", None);
    check("a: b\rc\r\n", None);
    check("a: b\0\r\n", None);
}

fn decode(text: &[u8], cuts: usize) -> Result<Vec<u8>, TextError> {
    let mut decoder = TextDecoder::new();
    let mut out = Vec::new();
    for piece in text.chunks(cuts) {
        decoder.push(piece, &mut out)?;
    }
    decoder.finish().map(|()| out)
}

#[test]
fn texts() {
    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        for cuts in (1..9).chain([usize::MAX]) {
            let got = decode(text.as_bytes(), cuts).ok();
            assert_eq!(got.as_deref(), expected.map(str::as_bytes), "{text} in pieces of {cuts}");
        }
    }
    check("", Some(""));
    check("aGVsbG8=", Some("hello"));
    check("aGVsbG8h", Some("hello!"));
    // Flushed after each byte and after each message.
    check("aA==ZQ==bA==", Some("hel"));
    check("aGVsbG8=aGVsbG8=", Some("hellohello"));
    check("aGVsbG8haGVsbG8=aGVsbG8haGVsbG8=", Some("hello!hellohello!hello"));
    check("a", None);
    check("aGVsbG8", None);
    check("aGVsbG8=a", None);
    check("====", None);
    check("a===", None);
    check("aA=A", None);
    check("aA==Z", None);
    check("=AAA", None);
    check("aGVs bG8=", None);
    check("aGVs\r\nbG8=", None);
    check("aGV-", None);
    check("aGV_", None);
    // Bits that are lost.
    check("aB==", None);
    check("aGVsbG9=", None);
}

#[test]
fn a_refused_text_stays_refused() {
    let (mut decoder, mut out) = (TextDecoder::new(), Vec::new());
    assert_eq!(decoder.push(b"aGVs****", &mut out), Err(TextError));
    assert_eq!(decoder.push(b"aGVs", &mut out), Err(TextError));
    assert_eq!(decoder.finish(), Err(TextError));
}

#[test]
fn what_is_encoded_is_decoded() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let (mut encoder, mut bytes, mut text) = (TextEncoder::new(), Vec::new(), Vec::new());
        for _ in 0..random.below(8) {
            let piece = random.bytes(10);
            encoder.push(&piece, &mut text);
            bytes.extend(piece);
            if random.below(3) == 0 {
                encoder.flush(&mut text);
                assert_eq!(decode(&text, usize::MAX).as_ref(), Ok(&bytes), "seed {seed}: all is there");
            }
        }
        encoder.flush(&mut text);
        assert_eq!(text.len() % 4, 0, "seed {seed}");
        for cuts in [1, 3, 5, usize::MAX] {
            assert_eq!(decode(&text, cuts).as_ref(), Ok(&bytes), "seed {seed}");
        }
    }
}

#[test]
fn a_stream_without_flushes_is_plain_base64() {
    let (mut encoder, mut text) = (TextEncoder::new(), Vec::new());
    for byte in b"hello, world" {
        encoder.push(&[*byte], &mut text);
    }
    encoder.push(b"!", &mut text);
    encoder.flush(&mut text);
    assert_eq!(text, b"aGVsbG8sIHdvcmxkIQ==");
}
