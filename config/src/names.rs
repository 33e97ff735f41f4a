//! Names: what an id, host, path or method may look like, and which known name is near.
//!
//! Each check gives the reason as a text; where it stands and what to do about it
//! is said by whoever read it.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::place::Place;
use crate::server::RouterMode;
use crate::value::{Kind, Value};

/// The longest id.
pub const ID_BYTES_MAX: usize = 64;
/// The longest name, path, host.
pub const NAME_BYTES_MAX: usize = 256;
/// The longest path of a route.
pub const URI_BYTES_MAX: usize = 4096;

/// Methods that are taken without a word.
pub const METHODS: &[&str] = &[
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "PURGE",
    "QUERY",
    "COPY",
    "LOCK",
    "UNLOCK",
    "MKCOL",
    "MOVE",
    "PROPFIND",
    "PROPPATCH",
    "REPORT",
    "SEARCH",
    "LINK",
    "UNLINK",
];

/// Why a text is no id (`[a-zA-Z0-9-_.]{1,64}`), if it is none.
pub fn id_fault(id: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match id {
        "" => Some("it is empty"),
        id if id.len() > ID_BYTES_MAX => Some("longer than 64 bytes"),
        id if !id.bytes().all(allowed) => Some("only letters, digits, `-`, `_` and `.`"),
        _ => None,
    }
}

/// Why a text is no path of a route under this router, if it is none.
pub fn uri_fault(uri: &str, mode: RouterMode) -> Option<&'static str> {
    if uri == "*" {
        return Some("write `/*` for every path");
    }
    if !uri.starts_with('/') {
        return Some("a path begins with `/`");
    }
    if uri.len() > URI_BYTES_MAX {
        return Some("longer than 4096 bytes");
    }
    if uri.contains(['?', '#']) {
        return Some("the path only; `vars` looks at the query");
    }
    if uri.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Some("a control character");
    }
    if mode == RouterMode::UriWithParameter {
        return parameter_fault(uri);
    }
    match uri.find('*') {
        Some(at) if at + 1 != uri.len() => Some("`*` stands only at the end"),
        _ => None,
    }
}

/// `/user/:id`, `/files/*rest`: parameters fill whole segments, `*rest` the end.
fn parameter_fault(uri: &str) -> Option<&'static str> {
    let mut names = Vec::new();
    let mut segments = uri[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.find('*').is_some_and(|at| segment[at + 1..].contains('*')) {
            return Some("`*` stands only once");
        }
        if segment.contains('*') && segments.peek().is_some() {
            return Some("`*` stands only in the last segment");
        }
        let Some(name) = segment.strip_prefix(':') else { continue };
        if name.is_empty() {
            return Some("`:` without a name");
        }
        if names.contains(&name) {
            return Some("two parameters of one name");
        }
        names.push(name);
    }
    None
}

/// Whether no normalised path can be like this: `//`, dot segments, an escape.
pub fn uri_never_matches(uri: &str) -> bool {
    let escape = |at: usize| {
        let hex = |at: usize| uri.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
        hex(at + 1) && hex(at + 2)
    };
    uri.contains("//")
        || uri.split('/').any(|segment| segment == "." || segment == "..")
        || uri.match_indices('%').any(|(at, _)| escape(at))
}

/// Why a text is no host pattern (`x.org`, `*.x.org`, `.x.org`, each with or without `:port`), if it is none.
pub fn host_pattern_fault(host: &str) -> Option<&'static str> {
    if host == "*" {
        return Some("leave the host out to take any");
    }
    if host.contains("://") {
        return Some("the host only, without scheme and path");
    }
    let (name, port) = split_port(host);
    if port.is_some_and(|port| port.parse::<u16>().is_err() || port.starts_with('+')) {
        return Some("the port is no number up to 65535");
    }
    let name = name.strip_prefix("*.").or_else(|| name.strip_prefix('.')).unwrap_or(name);
    if name.contains('*') {
        return Some("`*` stands only first, before a dot");
    }
    host_fault(name)
}

/// Why a text is no host name or address, if it is none.
pub fn host_fault(host: &str) -> Option<&'static str> {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_err().then_some("no IPv6 address in the brackets");
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    match host {
        "" => Some("the host is missing"),
        host if host.len() > 253 => Some("longer than 253 bytes"),
        host if !host.is_ascii() => Some("write an international name in its `xn--` form"),
        host if host.contains('/') => Some("the host only, without scheme and path"),
        host if !host
            .trim_end_matches('.')
            .split('.')
            .all(|label| !label.is_empty() && label.len() <= 63 && label.bytes().all(allowed)) =>
        {
            Some("no host name")
        }
        _ => None,
    }
}

/// Why a text is no `Host` field's value, if it is none.
pub(crate) fn host_and_port_fault(host: &str) -> Option<&'static str> {
    let (name, port) = split_port(host);
    match port {
        Some(port) if port.parse::<u16>().is_err() => Some("the port is no number up to 65535"),
        _ => host_fault(name),
    }
}

/// Splits `host:port`, `[::1]:port` or a host alone.
pub fn split_port(text: &str) -> (&str, Option<&str>) {
    let after_bracket = text.rfind(']').map_or(0, |at| at + 1);
    match text[after_bracket..].rfind(':') {
        None => (text, None),
        Some(at) => (&text[..after_bracket + at], Some(&text[after_bracket + at + 1..])),
    }
}

/// Whether a text is a token (RFC 9110 section 5.6.2), as methods and header names are.
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The known name that is nearest, if one is near enough to be a slip of the pen.
///
/// Near is at most a third of the length in edits (insert, delete, replace, swap),
/// at least one; `-` and `_` and case are no difference. Of equals the first.
pub fn nearest<'n>(name: &str, known: impl Iterator<Item = (&'n str, Place)>) -> Option<(&'n str, Place)> {
    let wanted = fold(name);
    let limit = (wanted.len() / 3).clamp(1, 4);
    let mut best = None;
    let mut best_distance = limit + 1;
    for (candidate, place) in known {
        if candidate.is_empty() || candidate.len().abs_diff(name.len()) >= best_distance {
            continue;
        }
        let distance = distance(&wanted, &fold(candidate), best_distance);
        // A name of one or two letters is near to every other such name.
        if distance < best_distance && (distance == 0 || distance < wanted.len().max(candidate.len())) {
            best = Some((candidate, place));
            best_distance = distance;
        }
        if best_distance == 0 {
            break;
        }
    }
    best
}

fn fold(name: &str) -> Vec<u8> {
    // Names longer than an id are not compared whole.
    let bytes = name.bytes().take(ID_BYTES_MAX);
    bytes.map(|byte| if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() }).collect()
}

/// Edits between two texts (optimal string alignment), or `limit` if there are as many or more.
fn distance(a: &[u8], b: &[u8], limit: usize) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let mut cost = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        if row.iter().min().is_some_and(|least| *least >= limit) {
            return limit;
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()].min(limit)
}

/// What a route is matched by: with these an unnamed route gets its id.
const MATCHING: &[&str] =
    &["host", "hosts", "uri", "uris", "methods", "remote_addr", "remote_addrs", "vars", "priority"];

/// The id of a route that has neither id nor name: `route-` and ten hex digits of a
/// digest of what it matches.
///
/// Not its number: a route inserted above would rename all below, and with their
/// names lose their counters. Not its settings either: a changed plugin should not
/// make a new route of it.
pub fn generated_id(prefix: &str, value: &Value, fields: &[&str]) -> String {
    let entries = value.as_table().unwrap_or_default();
    let mut digest = Digester::default();
    for (key, value) in entries.iter().filter(|(key, _)| fields.contains(&key.name.as_str())) {
        digest.text(b'k', &key.name);
        digest.value(value);
    }
    let mut hex = digest.finish();
    hex.truncate(10);
    format!("{prefix}-{hex}")
}

/// [`generated_id`] of a route.
pub(crate) fn route_id(value: &Value) -> String {
    generated_id("route", value, MATCHING)
}

/// A digest of a tree: kinds are tagged and lengths said, so that no two trees feed the same bytes.
#[derive(Default)]
pub(crate) struct Digester {
    hasher: Sha256,
    /// Bytes that were not hashed yet: a call per number would cost more than the hash.
    waiting: Vec<u8>,
}

impl Digester {
    /// Feeds a tree.
    pub(crate) fn value(&mut self, value: &Value) {
        match &value.kind {
            Kind::Null => self.waiting.push(b'n'),
            Kind::Bool(flag) => self.waiting.extend([b'b', u8::from(*flag)]),
            Kind::Integer(number) => self.number(b'i', number.to_le_bytes()),
            Kind::Float(number) => self.number(b'f', number.to_bits().to_le_bytes()),
            Kind::String(text) => self.text(b's', text),
            Kind::Array(items) => {
                self.number(b'a', (items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| self.value(item));
            }
            Kind::Table(entries) => {
                self.number(b't', (entries.len() as u64).to_le_bytes());
                for (key, value) in entries {
                    self.text(b'k', &key.name);
                    self.value(value);
                }
            }
        }
        if self.waiting.len() >= 32 << 10 {
            self.hasher.update(&self.waiting);
            self.waiting.clear();
        }
    }

    /// 64 hex digits.
    pub(crate) fn finish(mut self) -> String {
        self.hasher.update(&self.waiting);
        let mut hex = String::with_capacity(64);
        for byte in self.hasher.finalize() {
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }

    fn text(&mut self, tag: u8, text: &str) {
        self.number(tag, (text.len() as u64).to_le_bytes());
        self.waiting.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, tag: u8, bytes: [u8; 8]) {
        self.waiting.push(tag);
        self.waiting.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearness() {
        #[track_caller]
        fn check(name: &str, known: &[&str], expected: &str) {
            let found = nearest(name, known.iter().map(|name| (*name, Place::NOWHERE)));
            assert_eq!(found.map_or("", |(name, _)| name), expected, "{name}");
        }
        check("user", &["api", "users", "usher"], "users");
        check("enable-websocket", &["enable_websocket"], "enable_websocket");
        check("upstraem", &["upstream", "upstream_id"], "upstream");
        check("GTE", &["GET", "PUT"], "GET");
        check("get", &["GET"], "GET");
        check("x", &["id", "y"], "");
        check("completely", &["different"], "");
        check("", &["id"], "");
    }

    #[test]
    fn hosts() {
        #[track_caller]
        fn check(host: &str, expected: &str) {
            assert_eq!(host_pattern_fault(host).unwrap_or("ok"), expected, "{host}");
        }
        check("example.com", "ok");
        check("EXAMPLE.com", "ok");
        check("*.example.com", "ok");
        check(".example.com", "ok");
        check("example.com:8443", "ok");
        check("*.example.com:8443", "ok");
        check("127.0.0.1", "ok");
        check("[::1]:80", "ok");
        check("my_host", "ok");
        check("*", "leave the host out to take any");
        check("a.*.com", "`*` stands only first, before a dot");
        check("*a.com", "`*` stands only first, before a dot");
        check("example.com:http", "the port is no number up to 65535");
        check("http://example.com", "the host only, without scheme and path");
        check("example.com/x", "the host only, without scheme and path");
        check("exämple.com", "write an international name in its `xn--` form");
        check("a..b", "no host name");
        check("", "the host is missing");
    }

    #[test]
    fn uris() {
        #[track_caller]
        fn check(uri: &str, plain: &str, with_parameter: &str) {
            assert_eq!(uri_fault(uri, RouterMode::HostUri).unwrap_or("ok"), plain, "{uri}");
            assert_eq!(
                uri_fault(uri, RouterMode::UriWithParameter).unwrap_or("ok"),
                with_parameter,
                "{uri} with parameters"
            );
        }
        check("/", "ok", "ok");
        check("/*", "ok", "ok");
        check("/a/b*", "ok", "ok");
        check("/a/*/b", "`*` stands only at the end", "`*` stands only in the last segment");
        check("/user/:id/x", "ok", "ok");
        check("/files/*rest", "`*` stands only at the end", "ok");
        check("/:", "ok", "`:` without a name");
        check("/:a/:a", "ok", "two parameters of one name");
        check("a", "a path begins with `/`", "a path begins with `/`");
        check("*", "write `/*` for every path", "write `/*` for every path");
        check("/a?b", "the path only; `vars` looks at the query", "the path only; `vars` looks at the query");
    }
}
