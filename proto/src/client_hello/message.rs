//! Reading a whole ClientHello: its fields, and the three extensions that matter here.

use super::{name, HelloError, Parts, EXTENSIONS_MAX};
use crate::head::Span;

const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
const EXTENSION_SUPPORTED_VERSIONS: u16 = 43;
const EXTENSION_ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

const NAME_TYPE_HOST_NAME: u8 = 0;
const RANDOM_BYTES: usize = 32;
const SESSION_ID_BYTES_MAX: usize = 32;

/// Reads the message from the end of its header at `start` to its end.
pub(super) fn read(message: &[u8], start: usize) -> Result<Parts, HelloError> {
    let mut reader = Reader { message, at: start, end: message.len() };
    let mut parts = Parts { legacy_version: reader.u16()?, ..Parts::default() };
    reader.take(RANDOM_BYTES)?;
    let session_id = reader.within_u8()?;
    let ciphers = reader.within_u16()?;
    let compressions = reader.within_u8()?;
    let shape = session_id.left() <= SESSION_ID_BYTES_MAX
        && ciphers.left() >= 2
        && ciphers.left() % 2 == 0
        && compressions.left() >= 1;
    if !shape {
        return Err(HelloError::Malformed);
    }
    // Before TLS 1.3 there may be no extensions at all.
    if reader.left() > 0 {
        let extensions = reader.within_u16()?;
        reader.expect_end()?;
        read_extensions(extensions, &mut parts)?;
    }
    Ok(parts)
}

fn read_extensions(mut extensions: Reader<'_>, parts: &mut Parts) -> Result<(), HelloError> {
    let mut seen = [0u16; EXTENSIONS_MAX];
    let mut count = 0;
    while extensions.left() > 0 {
        let kind = extensions.u16()?;
        let value = extensions.within_u16()?;
        if seen[..count].contains(&kind) {
            return Err(HelloError::ExtensionRepeated);
        }
        *seen.get_mut(count).ok_or(HelloError::TooLarge)? = kind;
        count += 1;
        match kind {
            EXTENSION_SERVER_NAME => parts.server_name = server_name(value)?,
            EXTENSION_ALPN => parts.alpn = alpn(value)?,
            EXTENSION_SUPPORTED_VERSIONS => parts.versions = Some(versions(value)?),
            EXTENSION_ENCRYPTED_CLIENT_HELLO => parts.encrypted = true,
            _ => {}
        }
    }
    Ok(())
}

/// `ServerNameList`, RFC 6066 section 3: exactly one `host_name`. The RFC forbids a second one,
/// defines no other type, and gives no way to skip one.
fn server_name(mut value: Reader<'_>) -> Result<Option<Span>, HelloError> {
    let mut list = value.within_u16()?;
    value.expect_end()?;
    let name_type = list.u8()?;
    if name_type != NAME_TYPE_HOST_NAME {
        return Err(HelloError::ServerName);
    }
    let name = list.within_u16()?;
    if list.left() > 0 {
        return Err(HelloError::ServerName);
    }
    let span = name.span();
    let length = name::length(span.of(name.message))?;
    Ok(length.map(|length| Span { len: length as u32, ..span }))
}

/// `ProtocolNameList`, RFC 7301 section 3.1: at least one, none of them empty.
fn alpn(mut value: Reader<'_>) -> Result<Span, HelloError> {
    let list = value.within_u16()?;
    value.expect_end()?;
    let span = list.span();
    let mut names = list;
    loop {
        if names.within_u8()?.left() == 0 {
            return Err(HelloError::Malformed);
        }
        if names.left() == 0 {
            return Ok(span);
        }
    }
}

/// `supported_versions`, RFC 8446 section 4.2.1: at least one.
fn versions(mut value: Reader<'_>) -> Result<Span, HelloError> {
    let list = value.within_u8()?;
    value.expect_end()?;
    if list.left() == 0 || list.left() % 2 != 0 {
        return Err(HelloError::Malformed);
    }
    Ok(list.span())
}

/// A stretch of the message that is read from its start.
#[derive(Clone, Copy)]
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    fn left(&self) -> usize {
        self.end - self.at
    }

    fn span(&self) -> Span {
        Span::between(self.at, self.end)
    }

    fn expect_end(&self) -> Result<(), HelloError> {
        if self.left() == 0 {
            Ok(())
        } else {
            Err(HelloError::Malformed)
        }
    }

    /// The next `length` bytes, as a reader of their own.
    fn take(&mut self, length: usize) -> Result<Reader<'a>, HelloError> {
        if length > self.left() {
            return Err(HelloError::Malformed);
        }
        let taken = Reader { end: self.at + length, ..*self };
        self.at += length;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, HelloError> {
        let taken = self.take(1)?;
        Ok(taken.message[taken.at])
    }

    fn u16(&mut self) -> Result<u16, HelloError> {
        Ok(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    /// What follows a length of one byte.
    fn within_u8(&mut self) -> Result<Reader<'a>, HelloError> {
        let length = self.u8()? as usize;
        self.take(length)
    }

    /// What follows a length of two bytes.
    fn within_u16(&mut self) -> Result<Reader<'a>, HelloError> {
        let length = self.u16()? as usize;
        self.take(length)
    }
}
