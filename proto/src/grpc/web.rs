//! gRPC-Web (`PROTOCOL-WEB.md`): what a browser, which sees no trailers, gets instead.
//!
//! Frames are those of gRPC; the outcome is one more frame at the end of the body. In the text
//! dialect the whole stream is base64, padded wherever the sender flushed: so it is no valid
//! base64 as a whole, and padding may stand at any multiple of four characters.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;

use super::frames::{Kind, Prefix, PREFIX_BYTES};
use crate::chunked::trailer_fields;
use crate::head::{valid_field_name, valid_field_value};
use crate::syntax::is_value_byte;

/// The trailers of one call, in bytes; as for chunked bodies.
pub const WEB_TRAILER_BYTES_MAX: usize = crate::chunked::TRAILER_BYTES_MAX;

/// Appends the frame that carries the trailers: `name: value\r\n` each, names in lower case.
///
/// Bytes that could end a line early are replaced by spaces, as everywhere in heads; a field whose
/// name is none is left out. So are fields that do not fit into [`WEB_TRAILER_BYTES_MAX`] any more:
/// put `grpc-status` first.
pub fn write_trailers<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    for (name, value) in fields {
        let bytes = out.len() - start - PREFIX_BYTES + name.len() + value.len() + 4;
        if !valid_field_name(name) || bytes > WEB_TRAILER_BYTES_MAX {
            continue;
        }
        out.extend(name.iter().map(u8::to_ascii_lowercase));
        out.extend_from_slice(b": ");
        out.extend(value.iter().map(|&byte| if is_value_byte(byte) { byte } else { b' ' }));
        out.extend_from_slice(b"\r\n");
    }
    let bytes = (out.len() - start - PREFIX_BYTES) as u32;
    let prefix = Prefix { kind: Kind::Trailers, compressed: false, bytes };
    out[start..start + PREFIX_BYTES].copy_from_slice(&prefix.to_bytes());
}

/// The fields of a trailers frame without its prefix: name and trimmed value. `None` unless all of
/// it is field lines that end with CRLF.
pub fn read_trailers(frame: &[u8]) -> Option<impl Iterator<Item = (&[u8], &[u8])>> {
    let lines = frame.strip_suffix(b"\n").map_or(&[][..], |lines| lines);
    let is_field = |line: &[u8]| {
        let line = line.strip_suffix(b"\r")?;
        let colon = memchr::memchr(b':', line)?;
        let value = crate::syntax::trim(&line[colon + 1..]);
        (valid_field_name(&line[..colon]) && valid_field_value(value)).then_some(())
    };
    let valid = frame.is_empty() || lines.split(|&b| b == b'\n').all(|line| is_field(line).is_some());
    valid.then(|| trailer_fields(frame))
}

/// A character that is no base64, padding where none can be, or an end within four characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextError;

impl std::fmt::Display for TextError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a gRPC-Web text body that is no base64 (RFC 4648 section 4)")
    }
}

impl std::error::Error for TextError {}

/// Decodes a text body as it arrives.
#[derive(Clone, Debug, Default)]
pub struct TextDecoder {
    carried: [u8; 4],
    carried_bytes: usize,
    refused: bool,
}

impl TextDecoder {
    /// Before the first character.
    pub fn new() -> TextDecoder {
        TextDecoder::default()
    }

    /// Appends to `out` what `input` decodes to; up to three characters are kept for later.
    ///
    /// # Errors
    ///
    /// When four characters are together and are no base64; from then on always. White space is
    /// refused, and so are bits that are lost (RFC 4648 section 3.5).
    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), TextError> {
        if self.refused {
            return Err(TextError);
        }
        while !input.is_empty() {
            let whole = if self.carried_bytes == 0 { whole_bytes(input) } else { 0 };
            if whole > 0 {
                self.decode(&input[..whole], out)?;
                input = &input[whole..];
            } else {
                self.carried[self.carried_bytes] = input[0];
                self.carried_bytes = (self.carried_bytes + 1) % 4;
                input = &input[1..];
                if self.carried_bytes == 0 {
                    self.decode(&self.carried.clone(), out)?;
                }
            }
        }
        Ok(())
    }

    /// Says that the body ended.
    ///
    /// # Errors
    ///
    /// When it ended within four characters.
    pub fn finish(&self) -> Result<(), TextError> {
        if self.refused || self.carried_bytes > 0 {
            Err(TextError)
        } else {
            Ok(())
        }
    }

    fn decode(&mut self, characters: &[u8], out: &mut Vec<u8>) -> Result<(), TextError> {
        let before = out.len();
        STANDARD.decode_vec(characters, out).map_err(|_| {
            out.truncate(before);
            self.refused = true;
            TextError
        })
    }
}

/// How much of `input` can be decoded at once: whole fours, up to the first that is padded.
fn whole_bytes(input: &[u8]) -> usize {
    let fours = input.len() / 4 * 4;
    memchr::memchr(b'=', input).map_or(fours, |padding| fours.min((padding / 4 + 1) * 4))
}

/// Encodes a body as it is sent.
#[derive(Clone, Debug, Default)]
pub struct TextEncoder {
    carried: [u8; 2],
    carried_bytes: usize,
}

impl TextEncoder {
    /// Before the first byte.
    pub fn new() -> TextEncoder {
        TextEncoder::default()
    }

    /// Appends `input` to `out` as base64; up to two bytes are kept for later.
    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while self.carried_bytes > 0 && !input.is_empty() {
            let byte = input[0];
            input = &input[1..];
            if let [first, second] = self.carried[..self.carried_bytes] {
                encode(&[first, second, byte], out);
                self.carried_bytes = 0;
            } else {
                self.carried[1] = byte;
                self.carried_bytes = 2;
            }
        }
        let (whole, rest) = input.split_at(input.len() / 3 * 3);
        encode(whole, out);
        if !rest.is_empty() {
            self.carried[..rest.len()].copy_from_slice(rest);
            self.carried_bytes = rest.len();
        }
    }

    /// Appends what was kept, padded: to be called where the receiver must see all that was
    /// pushed, so after a message and at the end.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        encode(&self.carried[..self.carried_bytes], out);
        self.carried_bytes = 0;
    }
}

fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("the room was made for exactly this");
}
