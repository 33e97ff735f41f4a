//! The invariants of this crate as plain functions: each takes any bytes and panics when one of
//! them breaks.
//!
//! Two drivers call them with the corpus in `fuzz/corpus/`: a loop with a seeded mutator on the
//! stable toolchain (`proto/tests/fuzz_loop.rs`), and cargo-fuzz where there is a nightly
//! (`fuzz/fuzz_targets/`). They stand in the library so that both call the same.
//!
//! The oracles are others: httparse for heads and chunk sizes, and a slow normaliser written from
//! the rule for paths. What we accept, they must accept and read the same; they may accept more.
//!
//! Heads, chunks and targets stand here; `opening` has what comes before HTTP, `grpc` what is built
//! on it.

mod grpc;
mod opening;

pub use grpc::grpc;
pub use opening::{client_hello, detect, proxy_protocol};

use crate::chunked::{self, write_chunk_header, ChunkError, Decoder};
use crate::head::{self, Head, HeadError, HeadLimits, Method, Name};
use crate::{framing, hop, target as targets};

/// Limits small enough for a fuzzer to reach.
const TIGHT: HeadLimits = HeadLimits { bytes_max: 256, target_bytes_max: 24, fields_max: 4 };
const ORACLE_FIELDS_MAX: usize = 256;

type Parse = fn(&[u8], &HeadLimits, &mut Head) -> Result<Option<usize>, HeadError>;

/// Heads: however the bytes arrive the answer is the same; an accepted head is read alike by
/// httparse, comes back the same from its own serialisation, and stays a head under edits.
pub fn head(data: &[u8]) {
    for limits in [HeadLimits::default(), TIGHT] {
        for parse in [head::parse_request as Parse, head::parse_response as Parse] {
            let mut head = Head::new();
            let whole = parse(data, &limits, &mut head);
            arrival_does_not_matter(data, &limits, parse, &whole);
            let Ok(Some(taken)) = whole else {
                assert!(head.is_empty(), "a refused head leaves nothing behind");
                continue;
            };
            assert!(taken <= data.len().min(limits.bytes_max));
            assert!(head.len() <= limits.fields_max);
            httparse_agrees(&head, data, taken);
            serialisation_reads_the_same(&head, parse);
            questions_agree(&head);
            edits_keep_it_a_head(head, data, parse);
        }
    }
}

/// Chunked bodies: however the bytes arrive the payload is the same; httparse finds the same
/// chunks; what is encoded comes back.
pub fn chunked(data: &[u8]) {
    let whole = decode_in_pieces(data, |_| usize::MAX);
    let mut state = data.len() as u64;
    for pieces in [1, 2, 7] {
        assert_eq!(decode_in_pieces(data, |_| pieces), whole, "in pieces of {pieces}");
    }
    let random = |at: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(data[at] as u64 | 1);
        (state >> 59) as usize + 1
    };
    assert_eq!(decode_in_pieces(data, random), whole, "in random pieces");
    if let Ok(body) = &whole {
        if body.done {
            assert_eq!(body.payload, chunks_by_httparse(data), "httparse reads other chunks");
            assert!(body.trailers.len() <= chunked::TRAILER_BYTES_MAX);
            for (name, value) in chunked::trailer_fields(&body.trailers) {
                assert!(head::valid_field_name(name) && head::valid_field_value(value));
            }
        }
    }
    for chunk_bytes in [1, 16, 1000] {
        let mut encoded = Vec::new();
        for chunk in data.chunks(chunk_bytes) {
            let mut line = [0; chunked::CHUNK_HEADER_BYTES_MAX];
            let line_bytes = write_chunk_header(chunk.len(), &mut line);
            encoded.extend_from_slice(&line[..line_bytes]);
            encoded.extend_from_slice(chunk);
            encoded.extend_from_slice(b"\r\n");
        }
        encoded.extend_from_slice(chunked::LAST_CHUNK);
        let body = decode_in_pieces(&encoded, |_| usize::MAX).expect("our own chunks are valid");
        assert!(body.done && body.payload == data && body.consumed == encoded.len());
    }
}

/// Targets: parts lie where they were; a normal path stays below the root, agrees with the rule
/// applied slowly, and means the same after it was encoded again.
pub fn target(data: &[u8]) {
    for method in [Method::Get, Method::Options, Method::Connect] {
        let Ok(parts) = targets::parse(data, method) else { continue };
        let path = parts.path.of(data);
        let mut rebuilt = Vec::new();
        if let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) {
            rebuilt.extend_from_slice(scheme.of(data));
            rebuilt.extend_from_slice(b"://");
            rebuilt.extend_from_slice(authority.of(data));
        } else if let Some(authority) = parts.authority {
            rebuilt.extend_from_slice(authority.of(data));
        }
        rebuilt.extend_from_slice(path);
        if let Some(query) = parts.query {
            rebuilt.push(b'?');
            rebuilt.extend_from_slice(query.of(data));
        }
        assert_eq!(rebuilt, data, "the parts make the target");
        if let Some(authority) = parts.authority {
            let (host, _) = targets::host_of(authority.of(data));
            assert!(!host.is_empty() && authority.of(data).starts_with(host));
        }
    }
    path_is_normal(data);
    targets::host_of(data);
    targets::query_arg(data, data.split(|&b| b == b'=').next().unwrap_or_default());
    let escaped: Vec<u8> = data.iter().flat_map(|&byte| crate::syntax::percent(byte)).collect();
    let query = [b"&x=&", &escaped[..], b"=", &escaped[..]].concat();
    let expected = Some(data).filter(|data| !data.is_empty() && data != b"x");
    assert_eq!(targets::query_arg(&query, data).as_deref().filter(|value| !value.is_empty()), expected);
}

/// What arrives in pieces is answered at one certain byte, and alike ever after.
fn arrival_does_not_matter(
    data: &[u8],
    limits: &HeadLimits,
    parse: Parse,
    whole: &Result<Option<usize>, HeadError>,
) {
    let step = data.len() / 96 + 1;
    let mut head = Head::new();
    let mut answered = false;
    let near_the_end = data.len().saturating_sub(8);
    for length in (0..data.len()).filter(|at| at % step == 0 || *at >= near_the_end) {
        let part = parse(&data[..length], limits, &mut head);
        if answered || part != Ok(None) {
            assert_eq!(&part, whole, "after {length} of {} bytes", data.len());
            answered = true;
        }
        if let Ok(Some(taken)) = whole {
            assert_eq!(answered, length >= *taken, "after {length} of {taken} bytes");
        }
    }
}

fn httparse_agrees(head: &Head, data: &[u8], taken: usize) {
    let mut headers = [httparse::EMPTY_HEADER; ORACLE_FIELDS_MAX];
    let status = if head.is_request() {
        let mut request = httparse::Request::new(&mut headers);
        let status = request.parse(data);
        if status.is_ok() {
            assert_eq!(request.method.map(str::as_bytes), Some(head.method_bytes()));
            assert_eq!(request.path.map(str::as_bytes), Some(head.target()));
        }
        status
    } else {
        let mut response = httparse::Response::new(&mut headers);
        let status = response.parse(data);
        if status.is_ok() {
            assert_eq!(response.code, Some(head.status()));
            // It gives up on a reason that is not ASCII.
            if head.reason().is_ascii() {
                assert_eq!(response.reason.map(str::as_bytes), Some(head.reason()));
            }
        }
        status
    };
    match status {
        Ok(status) => assert_eq!(status, httparse::Status::Complete(taken)),
        // It knows 1.0 and 1.1 only; we read any 1.x as 1.1.
        Err(httparse::Error::Version) if !knows_version(data) => return,
        Err(error) => panic!("httparse refuses what we accept: {error}"),
    }
    let known = headers.iter().take_while(|header| !header.name.is_empty());
    let theirs: Vec<_> = known.map(|header| (header.name.as_bytes(), header.value)).collect();
    let ours: Vec<_> = head.fields().map(|field| (field.name, field.value)).collect();
    assert_eq!(ours, theirs);
}

fn knows_version(data: &[u8]) -> bool {
    let line = data.split(|&b| b == b'\n').find(|line| *line != b"\r").unwrap_or_default();
    [&b"HTTP/1.0"[..], b"HTTP/1.1"].iter().any(|known| {
        line.starts_with(known) || line.strip_suffix(b"\r").is_some_and(|line| line.ends_with(known))
    })
}

fn serialised(head: &Head) -> Vec<u8> {
    let mut out = Vec::new();
    if head.is_request() {
        head.write_request_line(&mut out);
    } else {
        head.write_status_line(&mut out);
    }
    head.write_fields(&mut out);
    out.extend_from_slice(b"\r\n");
    out
}

fn without_limits() -> HeadLimits {
    HeadLimits { bytes_max: usize::MAX, target_bytes_max: usize::MAX, fields_max: usize::MAX }
}

fn serialisation_reads_the_same(head: &Head, parse: Parse) {
    let text = serialised(head);
    let mut again = Head::new();
    assert_eq!(parse(&text, &without_limits(), &mut again), Ok(Some(text.len())));
    assert_eq!(again.method_bytes(), head.method_bytes());
    assert_eq!(again.target(), head.target());
    assert_eq!(again.status(), head.status());
    assert_eq!(crate::syntax::trim(again.reason()), crate::syntax::trim(head.reason()));
    assert!(again.fields().eq(head.fields()), "the fields come back");
    assert_eq!(serialised(&again), text, "a second serialisation is the first");
}

/// The bit set, the numbers and the names answer alike.
fn questions_agree(head: &Head) {
    for field in head.fields() {
        assert_eq!(field.id, Name::from_bytes(field.name));
        assert_eq!(head.has(field.id), field.id != Name::Other);
        assert!(head.get_all_named(field.name).any(|value| value == field.value));
        if field.id != Name::Other {
            assert_eq!(head.get(field.id), head.get_named(field.name));
        }
    }
    for name in Name::known() {
        assert_eq!(head.count(name), head.fields().filter(|field| field.id == name).count());
    }
    let _ = framing::request_body(head);
    let _ = framing::response_body(head, Method::Get);
    let _ = framing::check_host(head);
    framing::keep_alive(head);
    framing::expects_continue(head);
    framing::upgrade(head);
    crate::cookie::get(head, b"a");
    for field in head.fields() {
        crate::date::parse_http(field.value);
    }
}

/// Whatever is put into a head, it serialises to one.
fn edits_keep_it_a_head(mut head: Head, data: &[u8], parse: Parse) {
    let value = &data[data.len() / 2..];
    let name = &data[..data.len().min(8)];
    for round in 0..8 {
        match round {
            0 => head.append(name, value),
            1 => head.append(b"X-Fuzz", value),
            2 => head.set(b"host", value),
            3 => head.append_value(b"X-Forwarded-For", value),
            4 => head.append_value(b"x-fuzz", value),
            5 if head.is_request() => hop::strip_request(&mut head),
            5 => hop::strip_response(&mut head),
            6 if !value.is_empty() => head.set_target(value),
            6 => head.set_method(name),
            _ => {
                head.set_reason(value);
                head.remove_named(b"X-FUZZ");
                assert_eq!(head.get_named(b"x-fuzz"), None);
            }
        }
        serialisation_reads_the_same(&head, parse);
        questions_agree(&head);
    }
}

#[derive(PartialEq, Eq, Debug)]
struct Body {
    payload: Vec<u8>,
    trailers: Vec<u8>,
    consumed: usize,
    done: bool,
}

fn decode_in_pieces(data: &[u8], mut piece: impl FnMut(usize) -> usize) -> Result<Body, ChunkError> {
    let mut decoder = Decoder::new();
    let mut payload = Vec::new();
    let mut at = 0;
    while at < data.len() && !decoder.is_done() {
        let end = at.saturating_add(piece(at)).min(data.len());
        let mut buf = data[at..end].to_vec();
        let decoded = decoder.decode_in_place(&mut buf).inspect_err(|error| {
            assert_eq!(decoder.clone().decode_in_place(&mut [b'0']).err(), Some(*error), "errors stay");
        })?;
        assert!(decoded.consumed == buf.len() || decoded.done, "only the end leaves bytes");
        assert_eq!(decoded.done, decoder.is_done());
        payload.extend_from_slice(&buf[decoded.data]);
        at += decoded.consumed;
    }
    if decoder.is_done() {
        let after = decoder.decode_in_place(&mut [b'5']).expect("nothing is read after the end");
        assert!(after.data.is_empty() && after.consumed == 0 && after.done);
    }
    let trailers = decoder.trailers().to_vec();
    Ok(Body { payload, trailers, consumed: at, done: decoder.is_done() })
}

/// The payload of a complete body, by httparse's reading of the size lines.
fn chunks_by_httparse(mut data: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    loop {
        match httparse::parse_chunk_size(data) {
            Ok(httparse::Status::Complete((_, 0))) => return payload,
            Ok(httparse::Status::Complete((line, size))) => {
                let end = line + size as usize;
                payload.extend_from_slice(&data[line..end]);
                assert_eq!(&data[end..end + 2], b"\r\n");
                data = &data[end + 2..];
            }
            other => panic!("httparse refuses a chunk line that we accept: {other:?}"),
        }
    }
}

fn path_is_normal(path: &[u8]) {
    let mut normal = Vec::new();
    let answer = targets::normalize(path, &mut normal);
    assert_eq!(answer.map(|()| normal.clone()), normalized_slowly(path));
    if answer.is_err() {
        return;
    }
    assert_eq!(normal.first(), Some(&b'/'));
    assert!(!normal.contains(&0));
    let segments: Vec<_> = normal[1..].split(|&b| b == b'/').collect();
    for (index, segment) in segments.iter().enumerate() {
        assert!(*segment != b"." && *segment != b"..", "a dot segment is left");
        assert!(!segment.is_empty() || index + 1 == segments.len(), "two slashes are left");
    }
    let (mut encoded, mut again) = (Vec::new(), Vec::new());
    targets::encode_path(&normal, &mut encoded);
    assert!(targets::parse(&encoded, Method::Get).is_ok_and(|parts| parts.query.is_none()));
    assert_eq!(targets::normalize(&encoded, &mut again), Ok(()));
    assert_eq!(again, normal, "encoding and normalising again changes nothing");
}

/// The rule of [`targets::normalize`], step by step over whole copies.
fn normalized_slowly(path: &[u8]) -> Result<Vec<u8>, targets::TargetError> {
    use targets::TargetError::{AboveRoot, Escape, Form, Nul};
    if path.is_empty() {
        return Ok(b"/".to_vec());
    }
    if path[0] != b'/' {
        return Err(Form);
    }
    // An error in the middle is reported before one further on, of whatever kind: so the path is
    // decoded segment by segment.
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut segment = Vec::new();
    let mut at = 1;
    loop {
        let byte = match path.get(at) {
            None => None,
            Some(b'%') => {
                let digits = path.get(at + 1..at + 3).ok_or(Escape)?;
                let both_hex = digits.iter().all(u8::is_ascii_hexdigit);
                let text = std::str::from_utf8(digits).ok().filter(|_| both_hex).ok_or(Escape)?;
                at += 3;
                Some(u8::from_str_radix(text, 16).map_err(|_| Escape)?)
            }
            Some(&byte) => {
                at += 1;
                Some(byte)
            }
        };
        match byte {
            Some(0) => return Err(Nul),
            Some(b'/') | None => {
                let last = byte.is_none();
                let done = std::mem::take(&mut segment);
                match done.as_slice() {
                    b"" | b"." => {}
                    b".." => {
                        kept.pop().ok_or(AboveRoot)?;
                    }
                    _ => kept.push(done.clone()),
                }
                if last {
                    let open = matches!(done.as_slice(), b"" | b"." | b"..");
                    let mut out: Vec<u8> = kept.iter().flat_map(|s| [b"/", &s[..]].concat()).collect();
                    if open {
                        out.push(b'/');
                    }
                    return Ok(out);
                }
            }
            Some(byte) => segment.push(byte),
        }
    }
}
