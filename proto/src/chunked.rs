//! The chunked transfer coding, RFC 9112 section 7.1.
//!
//! Decoding works in the buffer that the bytes were read into: pieces of payload are moved
//! together, the first stays where it is, so one chunk per read costs no copy at all. The decoder
//! keeps its state between calls and reads each byte once.
//!
//! Two bounds keep a sender from making us work for nothing: a line may have
//! [`LINE_BYTES_MAX`] bytes, and what framing there is beyond a generous share of the payload may
//! not pass [`EXCESS_BYTES_MAX`] in all (one byte per chunk with long extensions is no body but a
//! way to burn a gateway).

use std::ops::Range;

use crate::head::Name;
use crate::syntax::{self, hex, is_value_byte, TCHAR};

/// Room for what [`write_chunk_header`] writes, in bytes.
pub const CHUNK_HEADER_BYTES_MAX: usize = 18;
/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A chunk line with its extensions, in bytes.
pub const LINE_BYTES_MAX: usize = 512;
/// Digits of a chunk size, leading zeros included.
pub const SIZE_DIGITS_MAX: u8 = 16;
/// All trailers together, in bytes.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// How many trailer fields.
pub const TRAILER_FIELDS_MAX: usize = 64;
/// Chunk lines in excess of 16 bytes and of twice the payload, over the whole body, in bytes.
pub const EXCESS_BYTES_MAX: u64 = 16 * 1024;

/// Why a chunked body was refused; all of them end the connection (400, or 502 from an upstream).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkError {
    /// No digits, too many of them, more than 2^63-1, or something that is no digit.
    Size,
    /// An extension with a control byte, or a line too long, or far more framing than payload.
    Extension,
    /// A CR without LF, an LF without CR, or payload that does not end where its chunk does.
    LineEnd,
    /// A trailer that is no field line, or a field that may not stand there.
    Trailer,
    /// More trailers than allowed.
    TrailerTooLarge,
}

impl std::fmt::Display for ChunkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ChunkError::Size => "a bad chunk size (RFC 9112 section 7.1)",
            ChunkError::Extension => "a bad chunk extension (RFC 9112 section 7.1.1)",
            ChunkError::LineEnd => "a chunk without CRLF (RFC 9112 section 7.1)",
            ChunkError::Trailer => "a bad trailer (RFC 9112 section 7.1.2)",
            ChunkError::TrailerTooLarge => "too many trailers (RFC 9110 section 6.5)",
        })
    }
}

impl std::error::Error for ChunkError {}

/// What one call decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded {
    /// Where in the buffer the payload lies now; may be empty.
    pub data: Range<usize>,
    /// How many bytes of the buffer belong to this body; less than all only when `done`.
    pub consumed: usize,
    /// The body and its trailers are complete.
    pub done: bool,
}

/// Reads one chunked body.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    state: State,
    excess: u64,
    trailers: Vec<u8>,
    trailer_fields: usize,
    /// Where in `trailers` the line being read starts.
    trailer_line: usize,
}

/// Named for the byte that is awaited.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    FirstDigit,
    Digit {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        line_bytes: usize,
    },
    SizeLf {
        size: u64,
        line_bytes: usize,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
    Refused(ChunkError),
}

impl Decoder {
    /// A decoder before the first chunk. Allocates nothing unless trailers come.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Decodes all of `buf`, or up to the end of the body.
    ///
    /// The pieces of payload are moved together within `buf`; the first one is not moved. Bytes of
    /// `buf` that are neither payload nor behind `consumed` are left in no particular state.
    ///
    /// # Errors
    ///
    /// At the first offending byte, and from then on always the same.
    pub fn decode_in_place(&mut self, buf: &mut [u8]) -> Result<Decoded, ChunkError> {
        let mut data = 0..0;
        let mut at = 0;
        while at < buf.len() {
            match self.state {
                State::Data { left } => {
                    let piece = left.min((buf.len() - at) as u64) as usize;
                    if data.is_empty() {
                        data = at..at;
                    } else if data.end != at {
                        buf.copy_within(at..at + piece, data.end);
                    }
                    data.end += piece;
                    at += piece;
                    self.state = match left - piece as u64 {
                        0 => State::DataCr,
                        left => State::Data { left },
                    };
                }
                State::Done => break,
                State::Refused(error) => return Err(error),
                _ => {
                    // Payload is the only state that takes more than a byte.
                    self.state = match self.step(buf[at]) {
                        Ok(next) => next,
                        Err(error) => {
                            self.state = State::Refused(error);
                            return Err(error);
                        }
                    };
                    at += 1;
                }
            }
        }
        match self.state {
            State::Refused(error) => Err(error),
            _ => Ok(Decoded { data, consumed: at, done: self.is_done() }),
        }
    }

    /// The trailer lines as they came, `Name: value\r\n` each; complete once [`Decoder::is_done`].
    ///
    /// They are valid field lines, at most 64 in at most 8 KiB, and none is a field that frames,
    /// routes, authenticates or describes the connection (RFC 9110 section 6.5.1): those are
    /// errors, since a neighbour that merges trailers into the head would act on them.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Whether the body with its trailers is complete.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    #[inline]
    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        match self.state {
            State::FirstDigit => {
                let digit = hex(byte).ok_or(ChunkError::Size)?;
                Ok(State::Digit { size: u64::from(digit), digits: 1 })
            }
            State::Digit { size, digits } => size_byte(byte, size, digits),
            State::Extension { size, line_bytes } => match byte {
                b'\r' => Ok(State::SizeLf { size, line_bytes }),
                b'\n' => Err(ChunkError::LineEnd),
                _ if line_bytes >= LINE_BYTES_MAX => Err(ChunkError::Extension),
                _ if byte < b' ' || byte == 0x7f => Err(ChunkError::Extension),
                _ => Ok(State::Extension { size, line_bytes: line_bytes + 1 }),
            },
            State::SizeLf { size, line_bytes } => {
                expect(byte, b'\n')?;
                self.account(size, line_bytes)?;
                Ok(if size == 0 { State::TrailerStart } else { State::Data { left: size } })
            }
            State::DataCr => expect(byte, b'\r').map(|()| State::DataLf),
            State::DataLf => expect(byte, b'\n').map(|()| State::FirstDigit),
            State::EndLf => expect(byte, b'\n').map(|()| State::Done),
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf => {
                self.trailer_byte(byte)
            }
            State::Data { .. } | State::Done | State::Refused(_) => Ok(self.state),
        }
    }

    /// Counts a chunk line against its chunk. The measure is that of Go's net/http after
    /// CVE-2023-39326: 16 bytes are free, and payload pays for twice its length.
    fn account(&mut self, size: u64, line_bytes: usize) -> Result<(), ChunkError> {
        let paid = size.saturating_mul(2).saturating_add(16);
        self.excess = self.excess.saturating_add(line_bytes as u64 + 2).saturating_sub(paid);
        if self.excess > EXCESS_BYTES_MAX {
            return Err(ChunkError::Extension);
        }
        Ok(())
    }

    #[cold]
    fn trailer_byte(&mut self, byte: u8) -> Result<State, ChunkError> {
        let next = match (self.state, byte) {
            (State::TrailerStart, b'\r') => return Ok(State::EndLf),
            (State::TrailerStart, _) if TCHAR[byte as usize] => {
                if self.trailer_fields == TRAILER_FIELDS_MAX {
                    return Err(ChunkError::TrailerTooLarge);
                }
                self.trailer_fields += 1;
                self.trailer_line = self.trailers.len();
                State::TrailerName
            }
            (State::TrailerName, b':') => {
                self.check_trailer_name()?;
                State::TrailerValue
            }
            (State::TrailerName, _) if TCHAR[byte as usize] => State::TrailerName,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if is_value_byte(byte) => State::TrailerValue,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::TrailerLf, _) | (_, b'\n') => return Err(ChunkError::LineEnd),
            _ => return Err(ChunkError::Trailer),
        };
        if self.trailers.len() >= TRAILER_BYTES_MAX {
            return Err(ChunkError::TrailerTooLarge);
        }
        self.trailers.push(byte);
        Ok(next)
    }

    fn check_trailer_name(&self) -> Result<(), ChunkError> {
        let forbidden = matches!(
            Name::from_bytes(&self.trailers[self.trailer_line..]),
            Name::TransferEncoding
                | Name::ContentLength
                | Name::Host
                | Name::Connection
                | Name::KeepAlive
                | Name::ProxyConnection
                | Name::Te
                | Name::Trailer
                | Name::Upgrade
                | Name::Expect
                | Name::MaxForwards
                | Name::ContentType
                | Name::ContentEncoding
                | Name::ContentRange
                | Name::Authorization
                | Name::ProxyAuthorization
                | Name::Cookie
                | Name::SetCookie
                | Name::Forwarded
                | Name::XForwardedFor
                | Name::XForwardedProto
                | Name::XForwardedHost
                | Name::XForwardedPort
                | Name::XRealIp
        );
        if forbidden {
            Err(ChunkError::Trailer)
        } else {
            Ok(())
        }
    }
}

/// Writes the line before a chunk of `size` bytes, `1a\r\n`, and gives its length.
///
/// `size` must not be 0, which would end the body; use [`LAST_CHUNK`] for that.
pub fn write_chunk_header(size: usize, out: &mut [u8; CHUNK_HEADER_BYTES_MAX]) -> usize {
    debug_assert!(size > 0, "a chunk of size 0 ends the body");
    let digits = (usize::BITS - (size | 1).leading_zeros()).div_ceil(4) as usize;
    for (place, digit) in out[..digits].iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[size >> (4 * place) & 15];
    }
    out[digits] = b'\r';
    out[digits + 1] = b'\n';
    digits + 2
}

#[inline]
fn size_byte(byte: u8, size: u64, digits: u8) -> Result<State, ChunkError> {
    let line_bytes = digits as usize;
    match byte {
        b'\r' => Ok(State::SizeLf { size, line_bytes }),
        b';' => Ok(State::Extension { size, line_bytes: line_bytes + 1 }),
        b'\n' => Err(ChunkError::LineEnd),
        _ => {
            let digit = hex(byte).ok_or(ChunkError::Size)?;
            let fits = digits < SIZE_DIGITS_MAX && size <= (i64::MAX as u64) >> 4;
            if !fits {
                return Err(ChunkError::Size);
            }
            Ok(State::Digit { size: size << 4 | u64::from(digit), digits: digits + 1 })
        }
    }
}

#[inline]
fn expect(byte: u8, wanted: u8) -> Result<(), ChunkError> {
    if byte == wanted {
        Ok(())
    } else {
        Err(ChunkError::LineEnd)
    }
}

/// The fields of trailer lines as [`Decoder::trailers`] gives them: name and trimmed value.
pub fn trailer_fields(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines.split(|&b| b == b'\n').filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], syntax::trim(&line[colon + 1..])))
    })
}

#[cfg(test)]
mod tests;
