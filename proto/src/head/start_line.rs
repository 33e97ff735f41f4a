//! The start line of a head: method, target and version, or version, status and reason.
//!
//! Its texts lie in the head's arena like the fields'. Version and status are numbers, since a
//! gateway decides by them and always writes its own version.

use super::{extend_clean, reason_phrase, trim_unclean, valid_field_name, Head, Span};
use crate::syntax;

/// A request method. Methods are case-sensitive (RFC 9110 section 9.1): `get` is [`Method::Other`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[repr(u8)]
#[allow(missing_docs)] // each is the method that it says
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    /// Any other token; [`Head::method_bytes`] has it.
    #[default]
    Other,
}

impl Method {
    /// The method of these bytes.
    #[inline]
    pub fn from_bytes(bytes: &[u8]) -> Method {
        match bytes {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            _ => Method::Other,
        }
    }

    /// Whether sending it twice means the same as once (RFC 9110 section 9.2.2).
    pub fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Method::Put | Method::Delete)
    }

    /// Whether it asks for no change (RFC 9110 section 9.2.1).
    pub fn is_safe(self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Options | Method::Trace)
    }

    /// The method as sent; empty for [`Method::Other`].
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Other => "",
        }
    }
}

/// The protocol version of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1, and any later minor version of 1 (RFC 9110 section 2.5).
    #[default]
    Http11,
    /// HTTP/2; never read from a start line.
    Http2,
}

#[derive(Clone, Copy, Default)]
pub(super) struct StartLine {
    pub(super) is_request: bool,
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) status: u16,
    /// The method of a request, the reason of a response.
    pub(super) word: Span,
    pub(super) target: Span,
}

impl Head {
    /// Whether this is the head of a request.
    #[inline]
    pub fn is_request(&self) -> bool {
        self.start.is_request
    }

    /// The method; [`Method::Other`] in a response.
    #[inline]
    pub fn method(&self) -> Method {
        self.start.method
    }

    /// The method as sent; empty in a response.
    pub fn method_bytes(&self) -> &[u8] {
        if self.start.is_request {
            self.start.word.of(&self.arena)
        } else {
            &[]
        }
    }

    /// The request target as sent, not decoded; empty in a response.
    #[inline]
    pub fn target(&self) -> &[u8] {
        self.start.target.of(&self.arena)
    }

    /// The version of the message as it came; it is always written as 1.1.
    #[inline]
    pub fn version(&self) -> Version {
        self.start.version
    }

    /// The status, 100 to 599; 0 in a request.
    #[inline]
    pub fn status(&self) -> u16 {
        self.start.status
    }

    /// The reason phrase, often empty; empty in a request.
    pub fn reason(&self) -> &[u8] {
        if self.start.is_request {
            &[]
        } else {
            self.start.word.of(&self.arena)
        }
    }

    /// Makes this a request with that start line; the fields stay.
    ///
    /// The rules of [`Head::set_method`] and [`Head::set_target`] hold.
    pub fn set_request(&mut self, method: &[u8], target: &[u8], version: Version) {
        self.start = StartLine { is_request: true, version, ..StartLine::default() };
        self.set_method(method);
        self.set_target(target);
    }

    /// Makes this a response with that start line; the fields stay.
    pub fn set_response(&mut self, status: u16, reason: &[u8], version: Version) {
        self.start = StartLine { status, version, ..StartLine::default() };
        self.set_reason(reason);
    }

    /// Changes the method of a request. What is no token changes nothing.
    pub fn set_method(&mut self, method: &[u8]) {
        if self.start.is_request && valid_field_name(method) {
            if let Some(word) = self.keep(method) {
                self.start.word = word;
                self.start.method = Method::from_bytes(method);
            }
        }
    }

    /// Changes the target of a request. Bytes that cannot stand in a target on the wire (controls,
    /// space, non-ASCII) are percent-encoded, so that no rewrite can end the line.
    pub fn set_target(&mut self, target: &[u8]) {
        if !self.start.is_request {
            return;
        }
        let Some(start) = self.room(target.len() * 3) else { return };
        let good = syntax::target_end(target, 0);
        self.arena.extend_from_slice(&target[..good]);
        for &byte in &target[good..] {
            if syntax::is_target_byte(byte) {
                self.arena.push(byte);
            } else {
                self.arena.extend_from_slice(&syntax::percent(byte));
            }
        }
        self.start.target = Span::between(start, self.arena.len());
    }

    /// Changes the status of a response, and the reason to the standard phrase of that status.
    pub fn set_status(&mut self, status: u16) {
        if !self.start.is_request && status != self.start.status {
            self.start.status = status;
            self.set_reason(reason_phrase(status).as_bytes());
        }
    }

    /// Changes the reason phrase of a response; bytes that cannot stand in one become spaces.
    pub fn set_reason(&mut self, reason: &[u8]) {
        if !self.start.is_request {
            if let Some(word) = self.keep(trim_unclean(reason)) {
                self.start.word = word;
            }
        }
    }

    /// Changes the version that the message is taken to have.
    pub fn set_version(&mut self, version: Version) {
        self.start.version = version;
    }

    /// Writes `METHOD SP target SP HTTP/1.1 CRLF`.
    pub fn write_request_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.method_bytes());
        out.push(b' ');
        out.extend_from_slice(self.target());
        out.extend_from_slice(b" HTTP/1.1\r\n");
    }

    /// Writes `HTTP/1.1 SP status SP reason CRLF`, with the space also before an empty reason
    /// (RFC 9112 section 4).
    pub fn write_status_line(&self, out: &mut Vec<u8>) {
        let status = self.start.status;
        let digit = |n: u16| b'0' + (n % 10) as u8;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status), b' ']);
        out.extend_from_slice(self.reason());
        out.extend_from_slice(b"\r\n");
    }

    fn keep(&mut self, bytes: &[u8]) -> Option<Span> {
        let start = self.room(bytes.len())?;
        extend_clean(&mut self.arena, bytes);
        Some(Span::between(start, self.arena.len()))
    }
}
