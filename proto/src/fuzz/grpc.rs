//! gRPC: message boundaries, the text dialect, and the small values in fields.

use crate::grpc::{self, Frames, Kind, Piece, TextDecoder, TextEncoder};
use crate::head::valid_field_value;

/// Bodies: however the bytes arrive the boundaries are the same, and the pieces make the body.
/// What is encoded comes back; values in fields are read or refused, and come back.
pub fn grpc(data: &[u8]) {
    for frames in [Frames::new(64), Frames::new(u32::MAX), Frames::new_web(64)] {
        let whole = take_apart(data, usize::MAX, frames.clone());
        for cuts in [1, 2, 7] {
            assert_eq!(take_apart(data, cuts, frames.clone()), whole, "in pieces of {cuts}");
        }
        let (bytes, accepted, messages) = whole;
        assert!(data.starts_with(&bytes), "the pieces make the body");
        assert_eq!(frames.clone().skip(data).ok(), accepted.then_some(messages));
    }
    text(data);
    values(data);
}

/// The bytes of all pieces, whether all was accepted, and the number of messages. A prefix that is
/// not complete is in no piece.
fn take_apart(data: &[u8], cuts: usize, mut frames: Frames) -> (Vec<u8>, bool, u64) {
    let mut bytes = Vec::new();
    let (mut open, mut ended) = (None, 0);
    for mut input in data.chunks(cuts) {
        loop {
            match frames.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Piece::Begin(prefix))) => {
                    assert!(open.replace(prefix.bytes).is_none(), "one frame at a time");
                    bytes.extend_from_slice(&prefix.to_bytes());
                }
                Ok(Some(Piece::Part(part))) => {
                    open = open.and_then(|left| left.checked_sub(part.len() as u32));
                    assert!(open.is_some() && !part.is_empty());
                    bytes.extend_from_slice(part);
                }
                Ok(Some(Piece::End(kind))) => {
                    assert_eq!(open.take(), Some(0));
                    ended += u64::from(kind == Kind::Message);
                    assert_eq!(frames.messages(), ended);
                }
                Err(_) => return (bytes, false, ended),
            }
        }
    }
    if frames.at_boundary() {
        assert!(open.is_none() && bytes.len() == data.len());
    }
    (bytes, true, ended)
}

fn text(data: &[u8]) {
    let whole = decode(data, usize::MAX);
    for cuts in [1, 3, 4, 7] {
        assert_eq!(decode(data, cuts), whole, "in pieces of {cuts}");
    }
    for (cuts, flush) in [(1, false), (2, true), (7, true), (usize::MAX, false)] {
        let (mut encoder, mut text) = (TextEncoder::new(), Vec::new());
        for piece in data.chunks(cuts) {
            encoder.push(piece, &mut text);
            if flush {
                encoder.flush(&mut text);
            }
        }
        encoder.flush(&mut text);
        assert_eq!(decode(&text, 5).as_deref(), Some(data));
    }
}

fn decode(text: &[u8], cuts: usize) -> Option<Vec<u8>> {
    let (mut decoder, mut out) = (TextDecoder::new(), Vec::new());
    for piece in text.chunks(cuts) {
        decoder.push(piece, &mut out).ok()?;
    }
    decoder.finish().ok()?;
    assert!(out.len() <= text.len() / 4 * 3);
    Some(out)
}

fn values(data: &[u8]) {
    if let Some(timeout) = grpc::parse_timeout(data) {
        let mut out = [0; grpc::TIMEOUT_BYTES_MAX];
        let length = grpc::format_timeout(timeout, &mut out);
        assert_eq!(grpc::parse_timeout(&out[..length]), Some(timeout), "no digit is lost");
    }
    let message = grpc::decode_message(data);
    let mut encoded = Vec::new();
    grpc::encode_message(&message, &mut encoded);
    assert!(valid_field_value(&encoded));
    assert_eq!(grpc::decode_message(&encoded), message);
    if let Some(status) = grpc::Status::parse(data) {
        assert!(data.iter().all(u8::is_ascii_digit));
        assert_eq!(grpc::Status::from_code(status.code()), Some(status));
    }
    if let Some(found) = grpc::content_type(data) {
        assert!(found.format.is_empty() || found.format.starts_with(b"+"));
    }
    if let Some(fields) = grpc::read_trailers(data) {
        let mut fields: Vec<_> = fields.collect();
        let mut frame = Vec::new();
        grpc::write_trailers(fields.iter().copied(), &mut frame);
        if data.len() + fields.len() <= grpc::WEB_TRAILER_BYTES_MAX {
            let again = grpc::read_trailers(&frame[grpc::PREFIX_BYTES..]).expect("our own");
            let lower: Vec<_> = fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
            for (field, name) in fields.iter_mut().zip(&lower) {
                field.0 = name;
            }
            assert_eq!(again.collect::<Vec<_>>(), fields);
        }
    }
}
