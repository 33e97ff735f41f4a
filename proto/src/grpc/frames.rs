//! Where messages begin and end: the `Length-Prefixed-Message` of `PROTOCOL-HTTP2.md`, and the
//! trailers frame of `PROTOCOL-WEB.md`.
//!
//! Boundaries have nothing to do with those of DATA frames or reads, so they are counted byte by
//! byte through the prefixes and by length through the rest. Nothing is kept but five bytes.

use super::web::WEB_TRAILER_BYTES_MAX;

/// The flags and the length before each message, in bytes.
pub const PREFIX_BYTES: usize = 5;

const FLAG_COMPRESSED: u8 = 0x01;
const FLAG_TRAILERS: u8 = 0x80;

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One message.
    Message,
    /// The trailers of gRPC-Web, the last frame of a body.
    Trailers,
}

/// What stands before a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// What follows.
    pub kind: Kind,
    /// It is compressed as `grpc-encoding` says. Without that field it must not be.
    pub compressed: bool,
    /// The length of what follows, in bytes; may be 0.
    pub bytes: u32,
}

impl Prefix {
    /// The prefix as it stands on the wire.
    pub fn to_bytes(self) -> [u8; PREFIX_BYTES] {
        let kind = match self.kind {
            Kind::Message => 0,
            Kind::Trailers => FLAG_TRAILERS,
        };
        let flags = kind | if self.compressed { FLAG_COMPRESSED } else { 0 };
        let [a, b, c, d] = self.bytes.to_be_bytes();
        [flags, a, b, c, d]
    }
}

/// What comes next in a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// A frame begins.
    Begin(Prefix),
    /// Some of its bytes, never none.
    Part(&'a [u8]),
    /// It is complete.
    End(Kind),
}

/// Why a body is none of gRPC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// Flags that are not defined, or a trailers frame outside gRPC-Web.
    Flags,
    /// A message longer than the bound: `RESOURCE_EXHAUSTED`.
    TooLarge,
    /// Bytes behind the trailers frame, which is the last one.
    AfterTrailers,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            FrameError::Flags => "a gRPC message with unknown flags",
            FrameError::TooLarge => "a gRPC message that is too large",
            FrameError::AfterTrailers => "bytes behind the trailers of gRPC-Web",
        })
    }
}

impl std::error::Error for FrameError {}

/// Finds the messages of one body.
#[derive(Clone, Debug)]
pub struct Frames {
    state: State,
    message_bytes_max: u32,
    web: bool,
    messages: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Prefix { have: usize, bytes: [u8; PREFIX_BYTES] },
    Payload { kind: Kind, left: u32 },
    Done,
    Refused(FrameError),
}

const AT_BOUNDARY: State = State::Prefix { have: 0, bytes: [0; PREFIX_BYTES] };

impl Frames {
    /// Before the first byte of a body of gRPC. A message may have `message_bytes_max` bytes as
    /// they are on the wire; `u32::MAX` for all that the format allows, since nothing is kept.
    pub fn new(message_bytes_max: u32) -> Frames {
        Frames { state: AT_BOUNDARY, message_bytes_max, web: false, messages: 0 }
    }

    /// The same for a body of gRPC-Web (decoded, if it is the text dialect), where a trailers
    /// frame of at most [`WEB_TRAILER_BYTES_MAX`] bytes may come last.
    pub fn new_web(message_bytes_max: u32) -> Frames {
        Frames { web: true, ..Frames::new(message_bytes_max) }
    }

    /// Takes the next piece off the front of `input`; `None` when `input` is used up.
    ///
    /// # Errors
    ///
    /// At the byte that breaks a rule, and from then on always the same.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, FrameError> {
        loop {
            match &mut self.state {
                State::Refused(error) => return Err(*error),
                State::Payload { kind, left: 0 } => {
                    let kind = *kind;
                    self.finish(kind);
                    return Ok(Some(Piece::End(kind)));
                }
                _ if input.is_empty() => return Ok(None),
                State::Done => return Err(self.refuse(FrameError::AfterTrailers)),
                State::Payload { left, .. } => {
                    let length = input.len().min(*left as usize);
                    let (part, rest) = input.split_at(length);
                    *input = rest;
                    *left -= length as u32;
                    return Ok(Some(Piece::Part(part)));
                }
                State::Prefix { have, bytes } => {
                    bytes[*have] = input[0];
                    *input = &input[1..];
                    *have += 1;
                    let (have, bytes) = (*have, *bytes);
                    let prefix = self.read_prefix(bytes);
                    if have == 1 && !self.knows(bytes[0]) {
                        return Err(self.refuse(FrameError::Flags));
                    }
                    if have == PREFIX_BYTES {
                        return self.begin(prefix).map(|prefix| Some(Piece::Begin(prefix)));
                    }
                }
            }
        }
    }

    /// Goes through all of `input` and gives how many messages ended in it.
    ///
    /// # Errors
    ///
    /// As [`Frames::next`].
    pub fn skip(&mut self, mut input: &[u8]) -> Result<u64, FrameError> {
        let before = self.messages;
        while self.next(&mut input)?.is_some() {}
        Ok(self.messages - before)
    }

    /// How many messages are complete.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether the body may end here. Elsewhere it was cut off: a truncated message is
    /// `INTERNAL`, whatever the trailers say.
    pub fn at_boundary(&self) -> bool {
        matches!(self.state, State::Prefix { have: 0, .. } | State::Done)
    }

    fn knows(&self, flags: u8) -> bool {
        let known = if self.web { FLAG_TRAILERS | FLAG_COMPRESSED } else { FLAG_COMPRESSED };
        flags & !known == 0
    }

    fn read_prefix(&self, [flags, a, b, c, d]: [u8; PREFIX_BYTES]) -> Prefix {
        let kind = if flags & FLAG_TRAILERS == 0 { Kind::Message } else { Kind::Trailers };
        let compressed = flags & FLAG_COMPRESSED != 0;
        Prefix { kind, compressed, bytes: u32::from_be_bytes([a, b, c, d]) }
    }

    fn begin(&mut self, prefix: Prefix) -> Result<Prefix, FrameError> {
        let max = match prefix.kind {
            Kind::Message => self.message_bytes_max,
            Kind::Trailers => WEB_TRAILER_BYTES_MAX as u32,
        };
        if prefix.bytes > max {
            return Err(self.refuse(FrameError::TooLarge));
        }
        self.state = State::Payload { kind: prefix.kind, left: prefix.bytes };
        Ok(prefix)
    }

    fn finish(&mut self, kind: Kind) {
        self.state = match kind {
            Kind::Message => {
                self.messages += 1;
                AT_BOUNDARY
            }
            Kind::Trailers => State::Done,
        };
    }

    fn refuse(&mut self, error: FrameError) -> FrameError {
        self.state = State::Refused(error);
        error
    }
}
