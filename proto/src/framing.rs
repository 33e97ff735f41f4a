//! How long is this body: RFC 9112 section 6, without its leniencies.
//!
//! The RFC lets a recipient repair some contradictions (equal Content-Lengths, Transfer-Encoding
//! beside Content-Length). Every such repair is a chance for the next hop to repair it otherwise,
//! so all of them are errors here, in requests and in responses.
//!
//! The other questions about the connection that a head answers stand here too: Host, keep-alive,
//! Expect, Upgrade. What follows within a chunked body is `chunked`.

use crate::head::{Head, Method, Name, Version};
use crate::{syntax, target};

/// How a message body is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// Exactly so many bytes; may be 0.
    Fixed(u64),
    /// Chunks, read by [`crate::chunked::Decoder`].
    Chunked,
    /// All bytes until the peer closes; responses only.
    UntilClose,
}

/// Why a head's framing or Host was refused: 400 for a request, 502 for a response, and in both
/// cases the connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FramingError {
    /// Transfer-Encoding and Content-Length together.
    TransferEncodingAndContentLength,
    /// Transfer-Encoding in a message that is not HTTP/1.1.
    TransferEncodingVersion,
    /// Transfer-Encoding is something else than `chunked`, once.
    TransferEncodingUnknown,
    /// More than one Content-Length, equal or not.
    ContentLengthRepeated,
    /// Content-Length is not digits alone.
    ContentLengthSyntax,
    /// Content-Length is above 2^63-1, where some neighbours' offsets overflow.
    ContentLengthTooLarge,
    /// An HTTP/1.1 request without Host.
    HostMissing,
    /// More than one Host.
    HostRepeated,
    /// Host is no `host[:port]`.
    HostSyntax,
}

impl std::fmt::Display for FramingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use FramingError::*;
        f.write_str(match self {
            TransferEncodingAndContentLength => {
                "Transfer-Encoding together with Content-Length (RFC 9112 section 6.1)"
            }
            TransferEncodingVersion => "Transfer-Encoding outside HTTP/1.1 (RFC 9112 section 6.1)",
            TransferEncodingUnknown => {
                "Transfer-Encoding is not exactly one `chunked` (RFC 9112 section 6.1)"
            }
            ContentLengthRepeated => "more than one Content-Length (RFC 9110 section 8.6)",
            ContentLengthSyntax => "Content-Length is not a number (RFC 9110 section 8.6)",
            ContentLengthTooLarge => "Content-Length is too large (RFC 9110 section 8.6)",
            HostMissing => "no Host (RFC 9112 section 3.2)",
            HostRepeated => "more than one Host (RFC 9112 section 3.2)",
            HostSyntax => "Host is not host[:port] (RFC 9110 section 7.2)",
        })
    }
}

impl std::error::Error for FramingError {}

/// The body of a request (RFC 9112 section 6.3): without framing fields there is none.
///
/// # Errors
///
/// Whatever two parties could read differently; see the variants of [`FramingError`].
pub fn request_body(head: &Head) -> Result<BodyLength, FramingError> {
    Ok(declared(head)?.unwrap_or(BodyLength::None))
}

/// The body of the response to a request with that method (RFC 9112 section 6.3).
///
/// None after HEAD and CONNECT's success, and in 1xx, 204 and 304, whatever the fields announce;
/// [`keep_alive`] is false where they announce what may not be there.
///
/// # Errors
///
/// As [`request_body`], also where there is no body: the fields would reach the client.
pub fn response_body(head: &Head, request_method: Method) -> Result<BodyLength, FramingError> {
    let declared = declared(head)?;
    let tunnel = request_method == Method::Connect && (200..300).contains(&head.status());
    if request_method == Method::Head || is_bodiless(head.status()) || tunnel {
        return Ok(BodyLength::None);
    }
    Ok(declared.unwrap_or(BodyLength::UntilClose))
}

/// Whether the Host field is as it must be: exactly one in HTTP/1.1, at most one otherwise, empty
/// or `host[:port]`.
///
/// # Errors
///
/// The Host variants of [`FramingError`].
pub fn check_host(head: &Head) -> Result<(), FramingError> {
    let mut hosts = head.get_all(Name::Host);
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(FramingError::HostRepeated),
        (None, _) if head.version() == Version::Http11 => Err(FramingError::HostMissing),
        (None, _) => Ok(()),
        (Some(host), None) if host.is_empty() || target::is_authority(host) => Ok(()),
        (Some(_), None) => Err(FramingError::HostSyntax),
    }
}

/// Whether the sender lets the connection go on after this message (RFC 9112 section 9.3), as far
/// as the head says. A body until close ends it all the same.
///
/// False also for a 1xx or 204 that announces a body: if one came, it would be taken for the next
/// response.
pub fn keep_alive(head: &Head) -> bool {
    if !head.is_request() && !head.is_empty() && announces_impossible_body(head) {
        return false;
    }
    let mut keep = head.version() != Version::Http10;
    for value in head.get_all(Name::Connection) {
        if has_token(value, b"close") {
            return false;
        }
        keep = keep || has_token(value, b"keep-alive");
    }
    keep
}

/// Whether a comma list has this element, ASCII case ignored.
pub fn has_token(value: &[u8], token: &[u8]) -> bool {
    // The list of one element is by far the most common.
    value.eq_ignore_ascii_case(token)
        || (value.len() > token.len()
            && syntax::list(value).any(|element| element.eq_ignore_ascii_case(token)))
}

/// Whether the client waits for `100 Continue` before its body. An HTTP/1.0 client never does
/// (RFC 9110 section 10.1.1).
pub fn expects_continue(head: &Head) -> bool {
    head.version() != Version::Http10
        && head.get_all(Name::Expect).any(|value| has_token(value, b"100-continue"))
}

/// The protocols of the Upgrade field when Connection names it; not in HTTP/1.0, where it has to
/// be ignored (RFC 9110 section 7.8).
pub fn upgrade(head: &Head) -> Option<&[u8]> {
    let protocols = head.get(Name::Upgrade)?;
    let named = head.get_all(Name::Connection).any(|value| has_token(value, b"upgrade"));
    (named && head.version() == Version::Http11 && !protocols.is_empty()).then_some(protocols)
}

/// Whether a response with this status never has a body.
pub(crate) fn is_bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

fn announces_impossible_body(head: &Head) -> bool {
    // A 304 announces what a 200 would have had, and is right to (RFC 9110 section 15.4.5).
    is_bodiless(head.status())
        && head.status() != 304
        && (head.has(Name::TransferEncoding)
            || head.get_all(Name::ContentLength).any(|length| length.iter().any(|&b| b != b'0')))
}

/// What the framing fields say; `None` when there are none.
fn declared(head: &Head) -> Result<Option<BodyLength>, FramingError> {
    match (head.has(Name::TransferEncoding), head.has(Name::ContentLength)) {
        (false, false) => Ok(None),
        (true, true) => Err(FramingError::TransferEncodingAndContentLength),
        (true, false) => transfer_encoding(head).map(Some),
        (false, true) => content_length(head).map(|length| Some(BodyLength::Fixed(length))),
    }
}

fn transfer_encoding(head: &Head) -> Result<BodyLength, FramingError> {
    if head.version() != Version::Http11 {
        return Err(FramingError::TransferEncodingVersion);
    }
    let mut lines = head.get_all(Name::TransferEncoding);
    match (lines.next(), lines.next()) {
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(BodyLength::Chunked),
        _ => Err(FramingError::TransferEncodingUnknown),
    }
}

fn content_length(head: &Head) -> Result<u64, FramingError> {
    let mut lines = head.get_all(Name::ContentLength);
    let (Some(digits), None) = (lines.next(), lines.next()) else {
        return Err(FramingError::ContentLengthRepeated);
    };
    if digits.contains(&b',') {
        return Err(FramingError::ContentLengthRepeated);
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(FramingError::ContentLengthSyntax);
    }
    digits
        .iter()
        .try_fold(0i64, |length, &digit| length.checked_mul(10)?.checked_add(i64::from(digit - b'0')))
        .and_then(|length| u64::try_from(length).ok())
        .ok_or(FramingError::ContentLengthTooLarge)
}

#[cfg(test)]
mod tests;
