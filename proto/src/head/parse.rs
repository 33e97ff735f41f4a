//! Reads the bytes of a head, in one pass, strictly.
//!
//! Written by hand rather than on httparse, which accepts a bare LF as a line end, several spaces
//! and other things that a second parser behind us may take differently, and whose checks after
//! the fact would be a second pass.
//!
//! Every rule is decided at the first byte that can break it, and in byte order. So the answer
//! does not depend on how the bytes arrived: a byte at a time, the call that sees the offending
//! byte reports what one call over everything reports. Each call starts over, since a kept
//! position would be a promise that the caller passes the same bytes again, and a broken promise
//! smuggles a request. What that costs is bounded by `bytes_max`: 7 us for a 64 KiB head of which
//! only the last byte is missing, 4 to 5 us per byte on average when it comes a byte at a time
//! (`cargo bench -p proto`).

use super::start_line::{StartLine, Version};
use super::{Field, Head, Method, Name, Span};
use crate::syntax::{target_end, token_end, value_end};

/// Bounds of a head. [`Default`] gives those of `server.limits`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadLimits {
    /// The whole head with its start line and the empty line, in bytes. Above 4 GiB it counts as
    /// 4 GiB.
    pub bytes_max: usize,
    /// The request target, in bytes.
    pub target_bytes_max: usize,
    /// How many fields.
    pub fields_max: usize,
}

impl Default for HeadLimits {
    fn default() -> HeadLimits {
        HeadLimits { bytes_max: 64 * 1024, target_bytes_max: 16 * 1024, fields_max: 128 }
    }
}

/// Why a head was refused, by the status that answers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadError {
    /// More than `bytes_max` without an end: 431.
    TooLarge,
    /// The target is longer than `target_bytes_max`: 414.
    TargetTooLong,
    /// More than `fields_max` fields: 431.
    TooManyFields,
    /// A well-formed version whose major number is not 1: 505.
    BadVersion,
    /// Not HTTP, or not in the one form that everybody reads alike: 400. Says what and where in
    /// RFC 9112 or 9110.
    Malformed(&'static str),
}

impl std::fmt::Display for HeadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            HeadError::TooLarge => "the head is too large",
            HeadError::TargetTooLong => "the request target is too long",
            HeadError::TooManyFields => "the head has too many fields",
            HeadError::BadVersion => "the HTTP version is not supported",
            HeadError::Malformed(what) => what,
        })
    }
}

impl std::error::Error for HeadError {}

/// Empty lines skipped before a request line; RFC 9112 section 2.2 asks for at least one.
const EMPTY_LINES_MAX: usize = 4;

/// Reads a request head from the start of `input`.
///
/// `Ok(None)` while it is incomplete. `Ok(Some(n))`: the head took `n` bytes, a few empty lines
/// before it included, and is in `head`. After anything else `head` is empty.
///
/// # Errors
///
/// The first rule that `input` breaks, as soon as it is seen, also in an incomplete head. No
/// later byte can mend it: close the connection after the answer.
pub fn parse_request(input: &[u8], limits: &HeadLimits, head: &mut Head) -> Result<Option<usize>, HeadError> {
    parse(input, limits, head, request_line)
}

/// Reads a response head from the start of `input`; `target_bytes_max` does not matter.
///
/// Answers as [`parse_request`] does. Nothing is skipped before the status line.
///
/// # Errors
///
/// As [`parse_request`]; for a gateway they all mean 502 and a connection not to be used again.
pub fn parse_response(
    input: &[u8],
    limits: &HeadLimits,
    head: &mut Head,
) -> Result<Option<usize>, HeadError> {
    parse(input, limits, head, status_line)
}

/// Why a scan ended early.
enum Stop {
    Incomplete,
    Refused(HeadError),
}

type Scan<T> = Result<T, Stop>;

#[cold]
fn malformed<T>(what: &'static str) -> Scan<T> {
    Err(Stop::Refused(HeadError::Malformed(what)))
}

#[cold]
fn refused<T>(error: HeadError) -> Scan<T> {
    Err(Stop::Refused(error))
}

#[inline]
fn parse(
    input: &[u8],
    limits: &HeadLimits,
    head: &mut Head,
    start_line: impl Fn(&[u8], &HeadLimits, &mut StartLine) -> Scan<(usize, usize)>,
) -> Result<Option<usize>, HeadError> {
    head.clear();
    let bytes_max = limits.bytes_max.min(u32::MAX as usize);
    // Bytes past the limit are never looked at, so that they cannot change the answer.
    let window = &input[..input.len().min(bytes_max)];
    let scanned = start_line(window, limits, &mut head.start).and_then(|(start, fields)| {
        let end = fields_until_empty_line(window, fields, limits.fields_max, head)?;
        Ok((start, end))
    });
    match scanned {
        Ok((start, end)) => {
            // The spans count from the start of the window; the arena keeps what lies before the
            // start line too (at most four empty lines) rather than moving them all.
            debug_assert!(start <= end);
            head.arena.extend_from_slice(&window[..end]);
            Ok(Some(end))
        }
        Err(stop) => {
            head.clear();
            match stop {
                Stop::Refused(error) => Err(error),
                // The head would need at least one byte more than it may have.
                Stop::Incomplete if input.len() >= bytes_max => Err(HeadError::TooLarge),
                Stop::Incomplete => Ok(None),
            }
        }
    }
}

/// Reads `method SP target SP version CRLF`; gives where it starts and where it ends.
#[inline]
fn request_line(bytes: &[u8], limits: &HeadLimits, line: &mut StartLine) -> Scan<(usize, usize)> {
    let mut start = 0;
    for skipped in 0.. {
        match bytes.get(start..) {
            Some([b'\r', b'\n', ..]) if skipped < EMPTY_LINES_MAX => start += 2,
            Some([b'\r', b'\n', ..]) => return malformed("too many empty lines before a request"),
            Some([b'\r']) | Some([]) | None => return Err(Stop::Incomplete),
            Some(_) => break,
        }
    }

    let method_end = token_end(bytes, start);
    match bytes.get(method_end) {
        None => return Err(Stop::Incomplete),
        Some(b' ') if method_end > start => {}
        Some(_) => return malformed("the request line has no method (RFC 9112 section 3)"),
    }

    let target_start = method_end + 1;
    let longest = target_start.saturating_add(limits.target_bytes_max);
    // One byte more than allowed, so that a target of exactly the limit shows its end.
    let window = &bytes[..bytes.len().min(longest.saturating_add(1))];
    let target_stop = target_end(window, target_start.min(window.len()));
    match window.get(target_stop) {
        Some(b' ') if target_stop > target_start => {}
        Some(b' ') => return malformed("two spaces in the request line (RFC 9112 section 3)"),
        Some(b'\r' | b'\n') => {
            return malformed("the request line has no version (RFC 9112 section 3)");
        }
        Some(_) => return malformed("a byte that cannot stand in a target (RFC 9112 section 3.2)"),
        None if target_stop > longest => return refused(HeadError::TargetTooLong),
        None => return Err(Stop::Incomplete),
    }

    let version_start = target_stop + 1;
    let version = version(bytes, version_start)?;
    let end = line_end(bytes, version_start + VERSION_BYTES, "garbage after the version")?;
    let Some(version) = version else { return refused(HeadError::BadVersion) };
    *line = StartLine {
        is_request: true,
        method: Method::from_bytes(&bytes[start..method_end]),
        version,
        status: 0,
        word: Span::between(start, method_end),
        target: Span::between(target_start, target_stop),
    };
    Ok((start, end))
}

/// Reads `version SP status [SP reason] CRLF`; gives where it starts and where it ends.
#[inline]
fn status_line(bytes: &[u8], _: &HeadLimits, line: &mut StartLine) -> Scan<(usize, usize)> {
    let version = version(bytes, 0)?;
    match bytes.get(VERSION_BYTES) {
        None => return Err(Stop::Incomplete),
        Some(b' ') => {}
        Some(_) => return malformed("no space after the version (RFC 9112 section 4)"),
    }
    let Some(version) = version else { return refused(HeadError::BadVersion) };

    let mut status = 0;
    for place in 0..3 {
        match bytes.get(VERSION_BYTES + 1 + place) {
            None => return Err(Stop::Incomplete),
            Some(&digit @ b'0'..=b'9') => status = status * 10 + u16::from(digit - b'0'),
            Some(_) => return malformed("the status is not three digits (RFC 9112 section 4)"),
        }
        if place == 0 && !(1..=5).contains(&status) {
            return malformed("the status is not 100 to 599 (RFC 9110 section 15)");
        }
    }

    let after = VERSION_BYTES + 4;
    let (reason, stop) = match bytes.get(after) {
        None => return Err(Stop::Incomplete),
        Some(b' ') => {
            let stop = value_end(bytes, after + 1);
            (Span::between(after + 1, stop), stop)
        }
        Some(_) => (Span::default(), after),
    };
    let end = line_end(bytes, stop, "a control byte in the status line")?;
    *line = StartLine { status, version, word: reason, ..StartLine::default() };
    Ok((0, end))
}

const VERSION_BYTES: usize = 8;

/// Reads `HTTP/d.d`; `None` when the major number is not 1.
#[inline]
fn version(bytes: &[u8], at: usize) -> Scan<Option<Version>> {
    let found = bytes.get(at..).unwrap_or_default();
    match found.first_chunk::<VERSION_BYTES>() {
        Some(b"HTTP/1.1") => return Ok(Some(Version::Http11)),
        Some(b"HTTP/1.0") => return Ok(Some(Version::Http10)),
        _ => {}
    }
    for (place, &byte) in found.iter().take(VERSION_BYTES).enumerate() {
        let fits = match b"HTTP/d.d"[place] {
            b'd' => byte.is_ascii_digit(),
            letter => byte == letter,
        };
        if !fits {
            return malformed("no HTTP version in the start line (RFC 9112 section 2.3)");
        }
    }
    match found.first_chunk::<VERSION_BYTES>() {
        None => Err(Stop::Incomplete),
        Some([.., b'1', _, _]) => Ok(Some(Version::Http11)),
        Some(_) => Ok(None),
    }
}

/// Takes CRLF at `at` and gives the offset after it.
#[inline]
fn line_end(bytes: &[u8], at: usize, otherwise: &'static str) -> Scan<usize> {
    match bytes.get(at..).unwrap_or_default() {
        [b'\r', b'\n', ..] => Ok(at + 2),
        [] | [b'\r'] => Err(Stop::Incomplete),
        [b'\r', ..] => malformed("a CR without LF (RFC 9112 section 2.2)"),
        [b'\n', ..] => malformed("an LF without CR (RFC 9112 section 2.2)"),
        _ => malformed(otherwise),
    }
}

/// Reads field lines from `at` to the empty line; gives the offset after that.
#[inline]
fn fields_until_empty_line(bytes: &[u8], mut at: usize, fields_max: usize, head: &mut Head) -> Scan<usize> {
    loop {
        let name_end = token_end(bytes, at);
        let stop = bytes.get(name_end).copied();
        if name_end == at {
            match stop {
                None => return Err(Stop::Incomplete),
                Some(b'\r' | b'\n') => return line_end(bytes, at, ""),
                Some(_) => {}
            }
        }
        if head.fields.len() >= fields_max {
            return refused(HeadError::TooManyFields);
        }
        match stop {
            Some(b':') if name_end > at => {}
            None => return Err(Stop::Incomplete),
            Some(other) => return bad_name(other, name_end == at),
        }

        // `": "` is what nearly every line has; its exact form can be copied whole later.
        let mut value_start = name_end + 1;
        let mut exact = bytes.get(value_start) == Some(&b' ');
        value_start += exact as usize;
        while let Some(b' ' | b'\t') = bytes.get(value_start) {
            value_start += 1;
            exact = false;
        }
        let stop = value_end(bytes, value_start);
        let next = line_end(bytes, stop, "a control byte in a field value (RFC 9110 section 5.5)")?;
        let mut value_stop = stop;
        while value_stop > value_start && matches!(bytes[value_stop - 1], b' ' | b'\t') {
            value_stop -= 1;
            exact = false;
        }

        let id = Name::from_bytes(&bytes[at..name_end]);
        let (name, value) = (Span::between(at, name_end), Span::between(value_start, value_stop));
        head.fields.push(Field { name, value, id, exact });
        head.note(id);
        at = next;
    }
}

#[cold]
fn bad_name<T>(byte: u8, at_line_start: bool) -> Scan<T> {
    malformed(match (byte, at_line_start) {
        (b' ' | b'\t', true) => "a folded line (RFC 9112 section 5.2)",
        (b' ' | b'\t', false) => "whitespace before a field's colon (RFC 9112 section 5.1)",
        (b':', true) => "an empty field name (RFC 9110 section 5.1)",
        (b'\r' | b'\n', _) => "a field line without a colon (RFC 9112 section 5)",
        _ => "a byte that cannot stand in a field name (RFC 9110 section 5.1)",
    })
}
