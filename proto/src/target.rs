//! Request targets, RFC 9112 section 3.2, and the path that routing and plugins see.
//!
//! Parsing only finds the parts; nothing is decoded, since the upstream gets the bytes that came.
//! [`normalize`] makes the one reading of a path by which everything here decides: decoded once,
//! slashes merged, dot segments removed, in nginx's order, so that `/a/%2e%2e//b` cannot be routed
//! as one thing and served as another by the neighbour that we replace.

use std::borrow::Cow;

use crate::head::{Method, Span};
use crate::syntax::{self, hex, is_target_byte};

/// The four forms of a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// `/path?query`.
    Origin,
    /// `http://authority/path?query`.
    Absolute,
    /// `*`, with OPTIONS.
    Asterisk,
    /// `host:port`, with CONNECT.
    Authority,
}

/// The parts of a target, as spans into its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// Which form it has.
    pub form: Form,
    /// `http` or `https` in any case; absolute form only.
    pub scheme: Option<Span>,
    /// `host[:port]`; absolute and authority form only.
    pub authority: Option<Span>,
    /// The path, not decoded. Empty in authority form and where an absolute form has none, which
    /// means `/`; `*` in asterisk form.
    pub path: Span,
    /// What follows the first `?`, without it.
    pub query: Option<Span>,
}

/// Why a target or path was refused: 400.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetError {
    /// Empty, or of no form that goes with the method.
    Form,
    /// A control byte, a space, a non-ASCII byte, or a `#`.
    Byte,
    /// An absolute form whose scheme is neither `http` nor `https`.
    Scheme,
    /// The authority is no `host[:port]`; user information is refused (RFC 9110 section 4.2.4).
    Authority,
    /// `%` without two hexadecimal digits.
    Escape,
    /// `%00`, or a NUL as it is.
    Nul,
    /// The dot segments lead above the root.
    AboveRoot,
}

impl std::fmt::Display for TargetError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TargetError::Form => "the target does not fit the method (RFC 9112 section 3.2)",
            TargetError::Byte => "a byte that cannot stand in a target (RFC 3986 section 2)",
            TargetError::Scheme => "the target's scheme is not http or https",
            TargetError::Authority => "the target's authority is not host[:port]",
            TargetError::Escape => "a bad percent escape in the path (RFC 3986 section 2.1)",
            TargetError::Nul => "an escaped NUL in the path",
            TargetError::AboveRoot => "the path leads above the root",
        })
    }
}

impl std::error::Error for TargetError {}

/// Finds the parts of a request target.
///
/// `*` goes with OPTIONS only, authority form with CONNECT and nothing else with CONNECT.
///
/// # Errors
///
/// All but the last three variants of [`TargetError`]: escapes are [`normalize`]'s.
pub fn parse(target: &[u8], method: Method) -> Result<Target, TargetError> {
    if !target.iter().all(|&b| is_target_byte(b) && b != b'#') {
        return Err(TargetError::Byte);
    }
    if method == Method::Connect {
        return authority_form(target);
    }
    match target {
        [b'/', ..] => {
            let (path, query) = path_and_query(target, 0);
            Ok(Target { form: Form::Origin, scheme: None, authority: None, path, query })
        }
        b"*" if method == Method::Options => Ok(Target {
            form: Form::Asterisk,
            scheme: None,
            authority: None,
            path: Span { start: 0, len: 1 },
            query: None,
        }),
        _ => absolute_form(target),
    }
}

/// Makes the path by which routing decides. `out` is emptied first.
///
/// `%XX` is decoded once (`%2F` becomes a slash like any other), runs of slashes become one, and
/// then `.` and `..` segments are removed. An empty path is `/`.
///
/// # Errors
///
/// `Form` for a path that does not start with a slash; `Escape`, `Nul`, `AboveRoot`. What `out`
/// then holds means nothing.
pub fn normalize(path: &[u8], out: &mut Vec<u8>) -> Result<(), TargetError> {
    out.clear();
    match path {
        [] => out.push(b'/'),
        [b'/', ..] if is_normal(path) => out.extend_from_slice(path),
        [b'/', ..] => normalize_slowly(path, out)?,
        _ => return Err(TargetError::Form),
    }
    Ok(())
}

/// Splits `host[:port]` into the host and the port.
///
/// An IPv6 address keeps its brackets. One final dot of the host is left out, as nginx does, so
/// that `example.com.` cannot pass by a route for `example.com`. What has no valid port after the
/// last colon is taken whole.
pub fn host_of(authority_or_host: &[u8]) -> (&[u8], Option<u16>) {
    let (host, port) = match split_port(authority_or_host) {
        (host, Some([])) => (host, None),
        (host, Some(digits)) => match port_number(digits) {
            Some(port) => (host, Some(port)),
            None => (authority_or_host, None),
        },
        (host, None) => (host, None),
    };
    match host {
        [name @ .., b'.'] if !name.is_empty() => (name, port),
        _ => (host, port),
    }
}

/// The value of the first argument with that name in a query: `+` is a space, escapes are decoded
/// (a bad one stands for itself), in names too. An argument without `=` has the empty value; the
/// empty name finds nothing.
pub fn query_arg<'a>(query: &'a [u8], name: &[u8]) -> Option<Cow<'a, [u8]>> {
    query.split(|&b| b == b'&').find_map(|pair| {
        let (key, value) = match memchr::memchr(b'=', pair) {
            Some(equals) => (&pair[..equals], &pair[equals + 1..]),
            None => (pair, &pair[pair.len()..]),
        };
        let same = !name.is_empty() && decode_form(key).as_ref() == name;
        same.then(|| decode_form(value))
    })
}

/// Appends a decoded path to `out`, percent-encoded: what may stand in a path (RFC 3986
/// section 3.3) stays, everything else, `%`, `?` and `#` included, is escaped.
pub fn encode_path(decoded: &[u8], out: &mut Vec<u8>) {
    for &byte in decoded {
        if PATH_BYTE[byte as usize] {
            out.push(byte);
        } else {
            out.extend_from_slice(&syntax::percent(byte));
        }
    }
}

/// Whether this is `host[:port]` with a host that is not empty: a name of RFC 3986's `reg-name`,
/// an IPv4 address, or an IPv6 address in brackets; a port up to 65535, which may be empty.
pub fn is_authority(bytes: &[u8]) -> bool {
    let (host, port) = split_port(bytes);
    let host_fits = match host {
        [] => false,
        [b'[', address @ .., b']'] => {
            std::str::from_utf8(address).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
        }
        name => is_reg_name(name),
    };
    host_fits && port.is_none_or(|digits| digits.is_empty() || port_number(digits).is_some())
}

fn authority_form(target: &[u8]) -> Result<Target, TargetError> {
    let (_, port) = split_port(target);
    if port.and_then(port_number).is_none() {
        return Err(TargetError::Form);
    }
    if !is_authority(target) {
        return Err(TargetError::Authority);
    }
    let end = Span::between(target.len(), target.len());
    Ok(Target {
        form: Form::Authority,
        scheme: None,
        authority: Some(Span::between(0, target.len())),
        path: end,
        query: None,
    })
}

fn absolute_form(target: &[u8]) -> Result<Target, TargetError> {
    let scheme_len = memchr::memmem::find(target, b"://").ok_or(TargetError::Form)?;
    let scheme = &target[..scheme_len];
    if !scheme.first().is_some_and(u8::is_ascii_alphabetic) {
        return Err(TargetError::Form);
    }
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(TargetError::Scheme);
    }
    let start = scheme_len + 3;
    let end = memchr::memchr2(b'/', b'?', &target[start..]).map_or(target.len(), |at| start + at);
    if !is_authority(&target[start..end]) {
        return Err(TargetError::Authority);
    }
    let (path, query) = path_and_query(target, end);
    Ok(Target {
        form: Form::Absolute,
        scheme: Some(Span::between(0, scheme_len)),
        authority: Some(Span::between(start, end)),
        path,
        query,
    })
}

fn path_and_query(target: &[u8], start: usize) -> (Span, Option<Span>) {
    match memchr::memchr(b'?', &target[start..]) {
        Some(at) => (Span::between(start, start + at), Some(Span::between(start + at + 1, target.len()))),
        None => (Span::between(start, target.len()), None),
    }
}

/// Whether normalising would change nothing. A dot at the start of a segment is left to the slow
/// way: hidden files are rare in paths.
#[inline]
fn is_normal(path: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in path {
        if byte == b'%' || byte == 0 || previous == b'/' && (byte == b'/' || byte == b'.') {
            return false;
        }
        previous = byte;
    }
    true
}

/// `out` always starts with a slash; a segment is judged when the slash after it comes, or the end.
fn normalize_slowly(path: &[u8], out: &mut Vec<u8>) -> Result<(), TargetError> {
    let mut rest = path;
    while let Some((&first, after)) = rest.split_first() {
        let byte = match (first, after) {
            (b'%', [high, low, tail @ ..]) => {
                rest = tail;
                let (Some(high), Some(low)) = (hex(*high), hex(*low)) else {
                    return Err(TargetError::Escape);
                };
                high << 4 | low
            }
            (b'%', _) => return Err(TargetError::Escape),
            _ => {
                rest = after;
                first
            }
        };
        match byte {
            0 => return Err(TargetError::Nul),
            b'/' => {
                end_segment(out)?;
                if out.last() != Some(&b'/') {
                    out.push(b'/');
                }
            }
            _ => out.push(byte),
        }
    }
    end_segment(out)
}

/// Removes the last segment if it is `.`, and it and the one before if it is `..`; the slash
/// before them stays.
fn end_segment(out: &mut Vec<u8>) -> Result<(), TargetError> {
    if out.ends_with(b"/.") {
        out.pop();
    } else if out.ends_with(b"/..") {
        out.truncate(out.len() - 3);
        let parent = out.iter().rposition(|&b| b == b'/').ok_or(TargetError::AboveRoot)?;
        out.truncate(parent + 1);
    }
    Ok(())
}

/// Splits at the colon before the port, if there is one outside brackets.
fn split_port(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memrchr(b':', bytes) {
        Some(colon) if !bytes[colon..].contains(&b']') => (&bytes[..colon], Some(&bytes[colon + 1..])),
        _ => (bytes, None),
    }
}

fn port_number(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 {
        return None;
    }
    digits.iter().try_fold(0u16, |port, &digit| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        port.checked_mul(10)?.checked_add(digit)
    })
}

fn is_reg_name(name: &[u8]) -> bool {
    let mut rest = name;
    loop {
        match rest {
            [] => return true,
            [b'%', high, low, tail @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                rest = tail;
            }
            [byte, tail @ ..] if is_unreserved_or_sub_delim(*byte) => rest = tail,
            _ => return false,
        }
    }
}

fn decode_form(bytes: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, tail @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = tail;
                }
                _ => out.push(b'%'),
            },
            _ => out.push(first),
        }
    }
    Cow::Owned(out)
}

const fn is_unreserved_or_sub_delim(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~')
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

/// `pchar` of RFC 3986 section 3.3 without escapes, and the slash.
const PATH_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = is_unreserved_or_sub_delim(b) || matches!(b, b':' | b'@' | b'/');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
