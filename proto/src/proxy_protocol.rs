//! The PROXY protocol, versions 1 and 2: what a proxy says about the client before the client's
//! own bytes, after haproxy's `doc/proxy-protocol.txt`.
//!
//! The header decides whom the rest of the connection is believed to be, so nothing in it is
//! repaired: what does not match the text exactly ends the connection (section 2.1), at the first
//! byte that shows it. Reading is a function of all bytes received so far, as for message heads;
//! both forms are short and bounded, so reading again costs less than keeping a state.
//!
//! Whether a header is expected at all, and from which addresses, is configuration and the
//! caller's. Section 5 warns against guessing: who may write one, may be anybody.
//!
//! The text form is in `v1`, the binary form in `v2`, its vectors in `tlv`.

mod tlv;
mod v1;
mod v2;

pub use tlv::{
    Ssl, Tlv, Tlvs, ALPN, AUTHORITY, CRC32C, NETNS, NOOP, SSL, SSL_CIPHER, SSL_COMMON_NAME,
    SSL_KEY_ALGORITHM, SSL_SIGNATURE_ALGORITHM, SSL_VERSION, UNIQUE_ID, UNIQUE_ID_BYTES_MAX,
};
pub use v1::write_v1;
pub use v2::write_v2;

use std::net::{IpAddr, SocketAddr};

/// A header of version 1 with its CRLF, in bytes; the text's own bound.
pub const V1_BYTES_MAX: usize = 107;
/// A header of version 2 with its vectors, in bytes. The format allows 64 KiB; nginx takes 4 KiB.
/// This leaves room for a client certificate, which is the largest thing anyone sends here.
pub const V2_BYTES_MAX: usize = 8 * 1024;

/// What a header of version 1 begins with. An HTTP request with a method `PROXY` does so too,
/// which is why the header is looked for only where it is expected.
pub const V1_SIGNATURE: &[u8; 6] = b"PROXY ";
/// What a header of version 2 begins with, section 2.2.
pub const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Which form a header has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The kind of socket that the client connected to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP, or a stream socket of the unix family.
    Stream,
    /// UDP, or a datagram socket of the unix family. Version 2 only.
    Datagram,
}

/// Between whom the connection is that a header speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoints<'a> {
    /// The proxy speaks for itself (a health check): the socket's own addresses hold.
    Local,
    /// The proxy speaks for a client whose address it cannot or may not tell (`UNKNOWN`,
    /// `UNSPEC`): the socket's own addresses hold.
    Unknown,
    /// An IP connection. When read, an IPv4 address mapped into IPv6 is given as IPv4, so that a
    /// rule about the one spelling cannot be evaded by the other.
    Ip {
        /// TCP or UDP.
        transport: Transport,
        /// The client.
        source: SocketAddr,
        /// The address that the client connected to.
        destination: SocketAddr,
    },
    /// A connection over a unix socket.
    Unix {
        /// Stream or datagram.
        transport: Transport,
        /// The client's path without trailing zeros, mostly empty; at most 108 bytes.
        source: &'a [u8],
        /// The path that the client connected to, likewise.
        destination: &'a [u8],
    },
}

/// A header that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    /// Which form it had.
    pub version: Version,
    /// Whom it is about.
    pub endpoints: Endpoints<'a>,
    /// The vectors behind the addresses; version 2 only, and none where the block has to be or may
    /// be ignored (`LOCAL`, `UNSPEC`).
    pub tlvs: Tlvs<'a>,
    /// How many bytes the header took: the client's own begin behind them.
    pub bytes: usize,
}

/// Why bytes were refused. All but `Absent` end the connection without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyError {
    /// No PROXY header begins here. Where a header is optional the client's own bytes do.
    Absent,
    /// Version 1 names none of `TCP4`, `TCP6`, `UNKNOWN`; version 2 has a family or transport that
    /// is not assigned.
    Family,
    /// No address of the family that was named, or another separator than one space.
    Address,
    /// A port that is no number up to 65535 without leading zeros.
    Port,
    /// A CR without LF or an LF without CR.
    LineEnd,
    /// Longer than [`V1_BYTES_MAX`] or [`V2_BYTES_MAX`].
    TooLong,
    /// The signature of version 2 with another version behind it.
    Version,
    /// A command other than `LOCAL` and `PROXY`.
    Command,
    /// A length too short for the addresses of the family.
    TooShort,
    /// A vector that ends outside the header, or that has a length which its type cannot have.
    Tlv,
    /// The checksum is there twice, or is not that of the header.
    Checksum,
}

impl std::fmt::Display for ProxyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ProxyError::Absent => "no PROXY header",
            ProxyError::Family => "an unknown protocol or family in the PROXY header",
            ProxyError::Address => "a bad address in the PROXY header",
            ProxyError::Port => "a bad port in the PROXY header",
            ProxyError::LineEnd => "a PROXY line that does not end with CRLF",
            ProxyError::TooLong => "a PROXY header that is too long",
            ProxyError::Version => "an unknown version of the PROXY protocol",
            ProxyError::Command => "an unknown command in the PROXY header",
            ProxyError::TooShort => "a PROXY header too short for its addresses",
            ProxyError::Tlv => "a bad vector in the PROXY header",
            ProxyError::Checksum => "a PROXY header that does not match its checksum",
        })
    }
}

impl std::error::Error for ProxyError {}

/// Reads a header of either version from the start of `received`, which are all bytes received so
/// far and may go on behind the header.
///
/// `Ok(None)` while what is there could become a header; that ends, with an answer or an error, at
/// [`V2_BYTES_MAX`] bytes at the latest. A deadline is the caller's.
///
/// # Errors
///
/// At the first byte that breaks a rule; the vectors of version 2 and its checksum are looked at
/// when the header is complete. [`ProxyError::Absent`] as long as no signature is complete.
pub fn parse(received: &[u8]) -> Result<Option<Header<'_>>, ProxyError> {
    let begins = |signature: &[u8]| received.iter().zip(signature).all(|(got, want)| got == want);
    if begins(V1_SIGNATURE) {
        v1::parse(received)
    } else if begins(V2_SIGNATURE) {
        v2::parse(received)
    } else {
        Err(ProxyError::Absent)
    }
}

/// Both addresses in one family, as the formats want it: IPv4 where both can be, otherwise an
/// IPv4 address is mapped into IPv6.
fn in_one_family(source: SocketAddr, destination: SocketAddr) -> (IpAddr, IpAddr) {
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V6(destination)) => (source.to_ipv6_mapped().into(), destination.into()),
        (IpAddr::V6(source), IpAddr::V4(destination)) => (source.into(), destination.to_ipv6_mapped().into()),
        same => same,
    }
}

#[cfg(test)]
mod tests;
