//! gRPC as a gateway meets it: `PROTOCOL-HTTP2.md` and `PROTOCOL-WEB.md` of grpc/grpc.
//!
//! Messages themselves are opaque here. What matters is where they begin and end, how long the
//! call may take, and how it ended: a gRPC client reads the outcome from `grpc-status` and looks at
//! the HTTP status only where that is missing, so every refusal of ours has to be said in its
//! terms.
//!
//! `status` has the codes and how other outcomes map to them, `timeout` the deadline, `message` the
//! text beside a status, `frames` the message boundaries, `web` what browsers get instead of
//! trailers.

mod frames;
mod message;
mod status;
mod timeout;
mod web;

pub use frames::{FrameError, Frames, Kind, Piece, Prefix, PREFIX_BYTES};
pub use message::{decode_message, encode_message};
pub use status::Status;
pub use timeout::{format_timeout, parse_timeout, TIMEOUT_BYTES_MAX};
pub use web::{read_trailers, write_trailers, TextDecoder, TextEncoder, TextError, WEB_TRAILER_BYTES_MAX};

use crate::head::{Head, Name};
use crate::syntax::trim;

/// What a content type says about the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `application/grpc`: trailers are HTTP trailers.
    Grpc,
    /// `application/grpc-web`: trailers are the last frame of the body.
    Web,
    /// `application/grpc-web-text`: that in base64.
    WebText,
}

/// A content type of gRPC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContentType<'a> {
    /// Which framing.
    pub dialect: Dialect,
    /// The encoding of messages with its plus sign, such as `+proto`; empty when it is not told.
    /// It is the same in all dialects: `application/grpc` and this is what an upstream gets.
    pub format: &'a [u8],
}

/// Reads a content type; `None` when it is not one of gRPC.
///
/// Case does not matter, as in all media types. Parameters are ignored. What merely begins with
/// the word (`application/grpcfoo`) is another type.
pub fn content_type(value: &[u8]) -> Option<ContentType<'_>> {
    const DIALECTS: [(&[u8], Dialect); 3] = [
        (b"application/grpc-web-text", Dialect::WebText),
        (b"application/grpc-web", Dialect::Web),
        (b"application/grpc", Dialect::Grpc),
    ];
    let essence = trim(value.split(|&b| b == b';').next().unwrap_or_default());
    DIALECTS.into_iter().find_map(|(name, dialect)| {
        let (start, format) = essence.split_at_checked(name.len())?;
        let matches = start.eq_ignore_ascii_case(name) && matches!(format, [] | [b'+', ..]);
        matches.then_some(ContentType { dialect, format })
    })
}

/// Whether a request or response is one of plain gRPC, by its content type.
pub fn is_grpc(head: &Head) -> bool {
    let value = head.get(Name::ContentType).unwrap_or_default();
    content_type(value).is_some_and(|found| found.dialect == Dialect::Grpc)
}

/// What an upstream's response head says about a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The outcome is in the head and there is no body: trailers-only.
    TrailersOnly(Status),
    /// Messages may follow; the outcome is in the trailers.
    Streaming,
    /// Something on the way answered that does not speak gRPC: this is the status that a client
    /// makes of it.
    NotGrpc(Status),
}

/// Sorts a response head; `ends` says that nothing follows it (in HTTP/2: END_STREAM).
///
/// A `grpc-status` beats the HTTP status wherever it stands alone (`http-grpc-status-mapping.md`:
/// if it was provided, it must be used). In a head that is followed by a body it is not the
/// outcome: the trailers are.
pub fn answer(head: &Head, ends: bool) -> Answer {
    let speaks = head.status() == 200 && is_grpc(head);
    match status_of(head) {
        _ if speaks && !ends => Answer::Streaming,
        Some(status) => Answer::TrailersOnly(status),
        None => Answer::NotGrpc(Status::from_http(head.status())),
    }
}

/// The `grpc-status` among the fields of a head. `None` when it is missing, there more than once,
/// or no number without leading zeros.
pub fn status_of(head: &Head) -> Option<Status> {
    let mut values = head.get_all_named(b"grpc-status");
    let value = values.next()?;
    values.next().is_none().then(|| Status::parse(value))?
}

#[cfg(test)]
mod tests;
