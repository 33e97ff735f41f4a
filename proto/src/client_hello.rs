//! What a TLS client says before anything is encrypted: the name it wants, the protocols it
//! speaks (RFC 8446 section 4.1.2, RFC 6066 section 3, RFC 7301).
//!
//! For passing TLS on by name without ending it. The bytes are looked at and stay where they are:
//! the upstream gets them as they came. A hello may be cut over records and reads at any byte, so
//! [`Peeker`] copies the handshake message out of its records as they arrive (each byte once), and
//! reads it when it is whole.
//!
//! What a server behind us would surely refuse is refused here, and what could be read in two ways
//! (several names, a list twice): the name decides who gets the connection. What does not concern
//! the choice is passed on unread.
//!
//! Reading the whole message is in `message`, what is a name in `name`.

mod message;
mod name;

use crate::head::Span;

/// A ClientHello without its record headers, in bytes. With post-quantum key shares they have
/// about 2 KiB.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;
/// What is looked at in all, record headers included, in bytes: a hello in tiny records may pass
/// while its headers fit.
pub const RECEIVED_BYTES_MAX: usize = HELLO_BYTES_MAX + 1024;
/// How many extensions; browsers send about twenty.
pub const EXTENSIONS_MAX: usize = 128;

/// TLS 1.2 as it stands in a hello.
pub const TLS12: u16 = 0x0303;
/// TLS 1.3 as it stands in a hello.
pub const TLS13: u16 = 0x0304;

/// The `unrecognized_name` alert, for a name that no route has (RFC 6066 section 3).
pub const UNRECOGNIZED_NAME: u8 = 112;

/// ContentType `handshake`, RFC 8446 section 5.1: the first byte of every TLS connection.
const RECORD_HANDSHAKE: u8 = 22;
const RECORD_HEADER_BYTES: usize = 5;
const RECORD_BYTES_MAX: usize = 1 << 14;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const MESSAGE_HEADER_BYTES: usize = 4;

/// What the bytes so far show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peek<'a> {
    /// A TLS record or nothing yet; more is needed.
    Incomplete,
    /// The hello is complete.
    Hello(Hello<'a>),
    /// The first byte is not that of a handshake: plain HTTP, the HTTP/2 preface, or anything
    /// else. What it is says [`crate::detect`].
    NotTls,
}

/// What a client offers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello<'a> {
    /// The server's DNS name in lower case, without a dot at its end. With encrypted hellos it is
    /// the public name. `None` where there is none and where it is an IP address, which RFC 6066
    /// does not allow as a name and which other servers ignore too.
    pub server_name: Option<&'a str>,
    /// The application protocols, in the client's order; empty when it named none.
    pub alpn: Alpn<'a>,
    /// The field `legacy_version`: the highest version of clients before TLS 1.3.
    pub legacy_version: u16,
    /// The versions of `supported_versions`, big-endian pairs; `None` for clients before TLS 1.3.
    versions: Option<&'a [u8]>,
    /// There is an `encrypted_client_hello` (0xfe0d, RFC 9849): what is visible may be its outer
    /// shell, or GREASE; which of them cannot be told from outside.
    pub encrypted: bool,
}

impl<'a> Hello<'a> {
    /// The versions that a TLS 1.3 client lists, reserved ones (GREASE, RFC 8701) left out.
    pub fn supported_versions(&self) -> impl Iterator<Item = u16> + 'a {
        let pairs = self.versions.unwrap_or_default().chunks_exact(2);
        pairs.map(|pair| u16::from_be_bytes([pair[0], pair[1]])).filter(|version| !is_grease(*version))
    }

    /// Whether the client speaks that version. The list decides alone where there is one (RFC 8446
    /// section 4.2.1); otherwise all up to `legacy_version`, but never TLS 1.3.
    pub fn speaks(&self, version: u16) -> bool {
        match self.versions {
            Some(_) => self.supported_versions().any(|offered| offered == version),
            None => version <= self.legacy_version.min(TLS12),
        }
    }
}

/// The protocols of an ALPN extension, as sent (RFC 7301 section 3.1).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Alpn<'a> {
    rest: &'a [u8],
}

impl Alpn<'_> {
    /// Whether the client speaks `protocol`, such as `h2`.
    pub fn contains(&self, protocol: &[u8]) -> bool {
        self.clone().any(|offered| offered == protocol)
    }
}

impl<'a> Iterator for Alpn<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&length, rest) = self.rest.split_first()?;
        let (protocol, rest) = rest.split_at_checked(length as usize)?;
        self.rest = rest;
        Some(protocol)
    }
}

/// Why a hello was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HelloError {
    /// A record that is empty, too long, or no handshake record of TLS.
    Record,
    /// A handshake message other than a ClientHello.
    Message,
    /// More than [`HELLO_BYTES_MAX`], [`RECEIVED_BYTES_MAX`] or [`EXTENSIONS_MAX`].
    TooLarge,
    /// Bytes behind the hello in its record. A server that reads on would take them for the next
    /// message, one that does not for nothing.
    Trailing,
    /// A field that ends outside of what contains it, or a list that does not fill its place.
    Malformed,
    /// An extension that is there twice (RFC 8446 section 4.2).
    ExtensionRepeated,
    /// Several names, a name of another type than `host_name`, or what is no DNS name.
    ServerName,
}

impl HelloError {
    /// The description that a TLS alert would give for it, RFC 8446 section 6.2.
    pub fn alert(self) -> u8 {
        match self {
            HelloError::Message | HelloError::Trailing => 10, // unexpected_message
            HelloError::ExtensionRepeated | HelloError::ServerName => 47, // illegal_parameter
            HelloError::Record | HelloError::TooLarge | HelloError::Malformed => 50, // decode_error
        }
    }
}

impl std::fmt::Display for HelloError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            HelloError::Record => "a bad TLS record (RFC 8446 section 5.1)",
            HelloError::Message => "a TLS handshake that begins with no ClientHello",
            HelloError::TooLarge => "a ClientHello that is too large",
            HelloError::Trailing => "bytes behind the ClientHello (RFC 8446 section 5.1)",
            HelloError::Malformed => "a malformed ClientHello (RFC 8446 section 4.1.2)",
            HelloError::ExtensionRepeated => "a TLS extension twice (RFC 8446 section 4.2)",
            HelloError::ServerName => "a bad server name in TLS (RFC 6066 section 3)",
        })
    }
}

impl std::error::Error for HelloError {}

/// The record of a fatal alert, before any encryption (RFC 8446 section 6). For ending a
/// connection that is not ours to terminate, with a reason that the client can show.
pub fn alert_record(description: u8) -> [u8; 7] {
    const RECORD_ALERT: u8 = 21;
    const FATAL: u8 = 2;
    [RECORD_ALERT, 3, 3, 0, 2, FATAL, description]
}

/// Looks at the start of one connection.
#[derive(Clone, Debug, Default)]
pub struct Peeker {
    /// How many bytes of the connection were looked at.
    at: usize,
    /// How many bytes of the current record are still to come.
    record_left: usize,
    /// The handshake message as far as it arrived.
    message: Vec<u8>,
    parts: Option<Parts>,
    refused: Option<HelloError>,
}

/// Where in the message the answers are.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    legacy_version: u16,
    server_name: Option<Span>,
    alpn: Span,
    versions: Option<Span>,
    encrypted: bool,
}

impl Peeker {
    /// A peeker before the first byte. Allocates when a handshake arrives.
    pub fn new() -> Peeker {
        Peeker::default()
    }

    /// Looks at `received`, which are all bytes since the connection began (or since its PROXY
    /// header ended): each call's bytes begin with those of the call before.
    ///
    /// Ends at [`RECEIVED_BYTES_MAX`] bytes at the latest, with a hello or an error. After a hello
    /// it stays the same whatever follows. A deadline is the caller's.
    ///
    /// # Errors
    ///
    /// At the first byte that breaks a rule of records or of the message's own header; what is
    /// within the message is read when it is whole. From then on always the same.
    pub fn peek(&mut self, received: &[u8]) -> Result<Peek<'_>, HelloError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        if received.first().is_some_and(|&first| first != RECORD_HANDSHAKE) {
            return Ok(Peek::NotTls);
        }
        if self.parts.is_none() {
            if let Err(error) = self.advance(received) {
                self.refused = Some(error);
                self.message = Vec::new();
                return Err(error);
            }
        }
        Ok(self.parts.map_or(Peek::Incomplete, |parts| Peek::Hello(parts.of(&self.message))))
    }

    fn advance(&mut self, received: &[u8]) -> Result<(), HelloError> {
        let looked_at = &received[..received.len().min(RECEIVED_BYTES_MAX)];
        while self.parts.is_none() {
            if self.record_left == 0 {
                let header = looked_at.get(self.at..).unwrap_or_default();
                let header = &header[..header.len().min(RECORD_HEADER_BYTES)];
                let Some(length) = record_length(header)? else { break };
                self.record_left = length;
                self.at += RECORD_HEADER_BYTES;
            }
            let rest = looked_at.get(self.at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let piece = &rest[..rest.len().min(self.record_left)];
            self.message.extend_from_slice(piece);
            self.at += piece.len();
            self.record_left -= piece.len();
            self.read_message()?;
        }
        if self.parts.is_none() && looked_at.len() == RECEIVED_BYTES_MAX {
            return Err(HelloError::TooLarge);
        }
        Ok(())
    }

    /// Looks at what there is of the message, and reads it when that is all.
    fn read_message(&mut self) -> Result<(), HelloError> {
        if self.message.first().is_some_and(|&kind| kind != MESSAGE_CLIENT_HELLO) {
            return Err(HelloError::Message);
        }
        let Some(&[_, high, middle, low]) = self.message.first_chunk::<MESSAGE_HEADER_BYTES>() else {
            return Ok(());
        };
        let length = u32::from_be_bytes([0, high, middle, low]) as usize + MESSAGE_HEADER_BYTES;
        if length > HELLO_BYTES_MAX {
            return Err(HelloError::TooLarge);
        }
        if self.message.len() < length {
            return Ok(());
        }
        if self.message.len() > length || self.record_left > 0 {
            return Err(HelloError::Trailing);
        }
        let parts = message::read(&self.message, MESSAGE_HEADER_BYTES)?;
        if let Some(name) = parts.server_name {
            // Our copy: what is passed on keeps its case.
            let start = name.start as usize;
            self.message[start..start + name.len as usize].make_ascii_lowercase();
        }
        self.parts = Some(parts);
        Ok(())
    }
}

impl Parts {
    fn of(self, message: &[u8]) -> Hello<'_> {
        Hello {
            server_name: self.server_name.and_then(|span| std::str::from_utf8(span.of(message)).ok()),
            alpn: Alpn { rest: self.alpn.of(message) },
            legacy_version: self.legacy_version,
            versions: self.versions.map(|span| span.of(message)),
            encrypted: self.encrypted,
        }
    }
}

/// The length of a record, from as much of its header as there is.
fn record_length(header: &[u8]) -> Result<Option<usize>, HelloError> {
    let kind = header.first().is_none_or(|&kind| kind == RECORD_HANDSHAKE);
    // The minor version is to be ignored (RFC 8446 section 5.1); the major one tells TLS from noise.
    let major = header.get(1).is_none_or(|&major| major == 3);
    if !kind || !major {
        return Err(HelloError::Record);
    }
    let Some(&[_, _, _, high, low]) = header.first_chunk::<RECORD_HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u16::from_be_bytes([high, low]) as usize;
    // Handshake records must not be empty: they would be a way to send for ever.
    if length == 0 || length > RECORD_BYTES_MAX {
        return Err(HelloError::Record);
    }
    Ok(Some(length))
}

/// Values that clients send to keep servers used to unknown ones, RFC 8701.
fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

#[cfg(test)]
mod tests;
