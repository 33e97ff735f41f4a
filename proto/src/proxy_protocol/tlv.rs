//! The vectors of type, length and value behind the addresses of version 2, sections 2.2.1 to
//! 2.2.7.
//!
//! All of them are walked once, when the header is complete: so what is handed out fits, and
//! reading one later cannot fail. Values are bytes that some client or proxy chose; whether an
//! authority is a name is asked where it is used.

use super::ProxyError;
use crate::crc32c::crc32c;

/// The protocol above, as in the ALPN extension of TLS.
pub const ALPN: u8 = 0x01;
/// The host name that the client asked for, with TLS its SNI.
pub const AUTHORITY: u8 = 0x02;
/// The checksum of the header, checked when it is read.
pub const CRC32C: u8 = 0x03;
/// Padding.
pub const NOOP: u8 = 0x04;
/// A number for the connection, at most [`UNIQUE_ID_BYTES_MAX`] bytes.
pub const UNIQUE_ID: u8 = 0x05;
/// What is known of the client's TLS; see [`Tlvs::ssl`].
pub const SSL: u8 = 0x20;
/// Within [`SSL`]: the version, such as `TLSv1.3`.
pub const SSL_VERSION: u8 = 0x21;
/// Within [`SSL`]: the common name of the client's certificate.
pub const SSL_COMMON_NAME: u8 = 0x22;
/// Within [`SSL`]: the cipher, such as `ECDHE-RSA-AES128-GCM-SHA256`.
pub const SSL_CIPHER: u8 = 0x23;
/// Within [`SSL`]: what the proxy's certificate was signed with, such as `SHA256`.
pub const SSL_SIGNATURE_ALGORITHM: u8 = 0x24;
/// Within [`SSL`]: the key of the proxy's certificate, such as `RSA2048`.
pub const SSL_KEY_ALGORITHM: u8 = 0x25;
/// The name of the network namespace.
pub const NETNS: u8 = 0x30;

/// The largest [`UNIQUE_ID`], in bytes.
pub const UNIQUE_ID_BYTES_MAX: usize = 128;

/// Type and length.
const PREFIX_BYTES: usize = 3;
const CRC32C_BYTES: usize = 4;
/// The flags and the result of the verification, before the vectors within [`SSL`].
const SSL_FIXED_BYTES: usize = 5;

const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERTIFICATE_CONNECTION: u8 = 0x02;
const CLIENT_CERTIFICATE_SESSION: u8 = 0x04;

/// One vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tlv<'a> {
    /// Its type; the constants beside this name the registered ones.
    pub kind: u8,
    /// Its value, as sent.
    pub value: &'a [u8],
}

/// The vectors of a header in their order, padding left out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tlvs<'a> {
    rest: &'a [u8],
}

impl<'a> Tlvs<'a> {
    /// The value of the first vector of that type.
    pub fn get(&self, kind: u8) -> Option<&'a [u8]> {
        self.clone().find(|tlv| tlv.kind == kind).map(|tlv| tlv.value)
    }

    /// What the proxy says of the client's TLS, section 2.2.6.
    pub fn ssl(&self) -> Option<Ssl<'a>> {
        let (fixed, rest) = self.get(SSL)?.split_first_chunk::<SSL_FIXED_BYTES>()?;
        let [client, verify @ ..] = *fixed;
        Some(Ssl { client, verify: u32::from_be_bytes(verify), tlvs: Tlvs { rest } })
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        loop {
            let (tlv, rest) = split(self.rest)?;
            self.rest = rest;
            if tlv.kind != NOOP {
                return Some(tlv);
            }
        }
    }
}

/// What a proxy that ended TLS says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ssl<'a> {
    client: u8,
    verify: u32,
    /// The vectors within, types [`SSL_VERSION`] and up.
    pub tlvs: Tlvs<'a>,
}

impl Ssl<'_> {
    /// The client connected over TLS.
    pub fn is_tls(&self) -> bool {
        self.client & CLIENT_SSL != 0
    }

    /// The client showed a certificate on this connection.
    pub fn has_certificate(&self) -> bool {
        self.client & CLIENT_CERTIFICATE_CONNECTION != 0
    }

    /// The client showed a certificate at least once in this TLS session.
    pub fn session_has_certificate(&self) -> bool {
        self.client & CLIENT_CERTIFICATE_SESSION != 0
    }

    /// The client showed a certificate, and the proxy found it good. The field alone would not do:
    /// senders leave it zero where there was no certificate to look at.
    pub fn is_verified(&self) -> bool {
        let shown = self.has_certificate() || self.session_has_certificate();
        shown && self.verify == 0
    }
}

/// Walks the vectors of a complete header from `start` to its end.
///
/// # Errors
///
/// `Tlv` when they do not fill the header exactly, or a length is not possible for its type;
/// `Checksum` when there is more than one or it is wrong.
pub(super) fn check(header: &[u8], start: usize) -> Result<Tlvs<'_>, ProxyError> {
    let tlvs = &header[start..];
    let mut rest = tlvs;
    let mut sum_at = None;
    while !rest.is_empty() {
        let (tlv, behind) = split(rest).ok_or(ProxyError::Tlv)?;
        check_value(tlv)?;
        if tlv.kind == CRC32C {
            let at = header.len() - behind.len() - CRC32C_BYTES;
            if sum_at.replace(at).is_some() {
                return Err(ProxyError::Checksum);
            }
        }
        rest = behind;
    }
    if let Some(at) = sum_at {
        let (before, behind) = (&header[..at], &header[at + CRC32C_BYTES..]);
        let sum = crc32c(&[before, &[0; CRC32C_BYTES], behind]);
        if header[at..at + CRC32C_BYTES] != sum.to_be_bytes() {
            return Err(ProxyError::Checksum);
        }
    }
    Ok(Tlvs { rest: tlvs })
}

/// Appends one vector.
///
/// # Errors
///
/// `Tlv` when the value cannot be one of that type, `TooLong` when its length does not fit.
pub(super) fn append(tlv: Tlv<'_>, out: &mut Vec<u8>) -> Result<(), ProxyError> {
    check_value(tlv)?;
    let length = u16::try_from(tlv.value.len()).map_err(|_| ProxyError::TooLong)?;
    out.push(tlv.kind);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(tlv.value);
    Ok(())
}

fn check_value(tlv: Tlv<'_>) -> Result<(), ProxyError> {
    let fits = match tlv.kind {
        CRC32C => tlv.value.len() == CRC32C_BYTES,
        UNIQUE_ID => tlv.value.len() <= UNIQUE_ID_BYTES_MAX,
        SSL => tlv.value.get(SSL_FIXED_BYTES..).is_some_and(fills),
        _ => true,
    };
    if fits {
        Ok(())
    } else {
        Err(ProxyError::Tlv)
    }
}

/// Whether vectors fill the bytes exactly.
fn fills(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Some((_, rest)) = split(bytes) else { return false };
        bytes = rest;
    }
    true
}

fn split(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let ([kind, length @ ..], rest) = bytes.split_first_chunk::<PREFIX_BYTES>()?;
    let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*length) as usize)?;
    Some((Tlv { kind: *kind, value }, rest))
}
