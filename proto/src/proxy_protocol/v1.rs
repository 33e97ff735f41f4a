//! Version 1, a line of text: `PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n` (section 2.1).
//!
//! Addresses are read by the standard library once their end is in sight. Before that each prefix
//! is checked for whether it could still become one, so that a bad line is refused at its bad byte
//! and not when (or if) its end arrives.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{in_one_family, Endpoints, Header, ProxyError, Tlvs, Transport, Version};
use super::{V1_BYTES_MAX, V1_SIGNATURE};

const IPV4_TEXT_BYTES_MAX: usize = 15;
const IPV6_TEXT_BYTES_MAX: usize = 39;
const PORT_TEXT_BYTES_MAX: usize = 5;

/// What may follow the signature, with the byte that ends it where that is certain.
const FAMILIES: [&[u8]; 3] = [b"TCP4 ", b"TCP6 ", b"UNKNOWN"];

/// `received` begins with the signature or with a part of it.
pub(super) fn parse(received: &[u8]) -> Result<Option<Header<'_>>, ProxyError> {
    let line = &received[..received.len().min(V1_BYTES_MAX)];
    let mut words = Words { line, at: V1_SIGNATURE.len().min(line.len()) };
    let Some(family) = words.family()? else { return Ok(None) };
    let endpoints = match family {
        b"TCP4 " => words.addresses(is_ipv4_start, read_ip::<Ipv4Addr>)?,
        b"TCP6 " => words.addresses(is_ipv6_start, read_ip::<Ipv6Addr>)?,
        _ => words.rest_of_unknown()?,
    };
    let Some(endpoints) = endpoints else { return words.incomplete() };
    match line.get(words.at) {
        None => words.incomplete(),
        Some(b'\n') => {
            Ok(Some(Header { version: Version::V1, endpoints, tlvs: Tlvs::default(), bytes: words.at + 1 }))
        }
        Some(_) => Err(ProxyError::LineEnd),
    }
}

/// Appends a header of version 1.
///
/// It knows TCP only: everything else is written as `UNKNOWN`. For a connection of the proxy's own
/// the text recommends its real addresses, as [`Endpoints::Ip`], since some receivers refuse
/// `UNKNOWN` (section 2.1).
pub fn write_v1(endpoints: &Endpoints<'_>, out: &mut Vec<u8>) {
    let Endpoints::Ip { transport: Transport::Stream, source, destination } = *endpoints else {
        out.extend_from_slice(b"PROXY UNKNOWN\r\n");
        return;
    };
    let (from, to) = in_one_family(source, destination);
    let family = if from.is_ipv4() { 4 } else { 6 };
    let line = format!("PROXY TCP{family} {from} {to} {} {}\r\n", source.port(), destination.port());
    out.extend_from_slice(line.as_bytes());
}

struct Words<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Words<'a> {
    fn incomplete<T>(&self) -> Result<Option<T>, ProxyError> {
        if self.line.len() == V1_BYTES_MAX {
            Err(ProxyError::TooLong)
        } else {
            Ok(None)
        }
    }

    fn family(&mut self) -> Result<Option<&'static [u8]>, ProxyError> {
        let rest = &self.line[self.at..];
        if let Some(family) = FAMILIES.into_iter().find(|family| rest.starts_with(family)) {
            self.at += family.len();
            return Ok(Some(family));
        }
        if FAMILIES.iter().any(|family| family.starts_with(rest)) {
            return Ok(None);
        }
        Err(ProxyError::Family)
    }

    /// Source, destination and the two ports, with the CR behind them.
    fn addresses(
        &mut self,
        is_start: fn(&[u8]) -> bool,
        read: fn(&[u8]) -> Option<IpAddr>,
    ) -> Result<Option<Endpoints<'a>>, ProxyError> {
        let Some(from) = self.word(b' ', is_start, read, ProxyError::Address)? else { return Ok(None) };
        let Some(to) = self.word(b' ', is_start, read, ProxyError::Address)? else { return Ok(None) };
        let Some(from_port) = self.word(b' ', is_port_start, read_port, ProxyError::Port)? else {
            return Ok(None);
        };
        let Some(to_port) = self.word(b'\r', is_port_start, read_port, ProxyError::Port)? else {
            return Ok(None);
        };
        Ok(Some(Endpoints::Ip {
            transport: Transport::Stream,
            source: SocketAddr::new(from, from_port),
            destination: SocketAddr::new(to, to_port),
        }))
    }

    /// One word with the byte that ends it.
    fn word<T>(
        &mut self,
        end: u8,
        is_start: fn(&[u8]) -> bool,
        read: fn(&[u8]) -> Option<T>,
        error: ProxyError,
    ) -> Result<Option<T>, ProxyError> {
        let rest = &self.line[self.at..];
        let length = memchr::memchr(end, rest);
        let word = &rest[..length.unwrap_or(rest.len())];
        if !is_start(word) {
            return Err(error);
        }
        let Some(length) = length else { return Ok(None) };
        self.at += length + 1;
        read(word).map(Some).ok_or(error)
    }

    /// Whatever stands before the CRLF is ignored, as the text demands. A single CR or LF in it is
    /// refused: it must not end the line, and a neighbour may think that it does.
    fn rest_of_unknown(&mut self) -> Result<Option<Endpoints<'a>>, ProxyError> {
        let rest = &self.line[self.at..];
        match rest.first() {
            None => return Ok(None),
            Some(b' ' | b'\r') => {}
            Some(_) => return Err(ProxyError::Family),
        }
        match memchr::memchr2(b'\r', b'\n', rest) {
            None => Ok(None),
            Some(end) if rest[end] == b'\n' => Err(ProxyError::LineEnd),
            Some(end) => {
                self.at += end + 1;
                Ok(Some(Endpoints::Unknown))
            }
        }
    }
}

fn read_ip<A: std::str::FromStr + Into<IpAddr>>(text: &[u8]) -> Option<IpAddr> {
    let address: A = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(address.into().to_canonical())
}

/// Whether an IPv4 address could begin so: up to four numbers up to 255 without leading zeros.
fn is_ipv4_start(text: &[u8]) -> bool {
    let mut numbers = text.split(|&b| b == b'.').peekable();
    let mut count = 0;
    while let Some(number) = numbers.next() {
        count += 1;
        let open = number.is_empty() && numbers.peek().is_none();
        if !open && read_decimal(number, 255).is_none() {
            return false;
        }
    }
    count <= 4 && text.len() <= IPV4_TEXT_BYTES_MAX
}

/// Whether an IPv6 address could begin so: groups of at most four digits, one double colon, and an
/// IPv4 address at the end, which `inet_ntop` writes for mapped ones.
fn is_ipv6_start(text: &[u8]) -> bool {
    let is_byte = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
    if text.len() > IPV6_TEXT_BYTES_MAX || !text.iter().all(is_byte) {
        return false;
    }
    let lone_colon = matches!(text, [b':', second, ..] if *second != b':');
    // Overlapping, so that `:::` counts as two.
    let double_colons = text.windows(2).filter(|pair| pair == b"::").count();
    let mut groups = text.split(|&b| b == b':');
    let last = groups.next_back().unwrap_or_default();
    let is_last = if last.contains(&b'.') { is_ipv4_start(last) } else { last.len() <= 4 };
    let is_group = |group: &[u8]| group.len() <= 4 && !group.contains(&b'.');
    let filled = text.split(|&b| b == b':').filter(|group| !group.is_empty()).count();
    !lone_colon && double_colons <= 1 && filled <= 8 && is_last && groups.all(is_group)
}

fn is_port_start(text: &[u8]) -> bool {
    text.is_empty() || read_port(text).is_some()
}

fn read_port(text: &[u8]) -> Option<u16> {
    read_decimal(text, u16::MAX)
}

/// A decimal number up to `max`, of one to five digits, without leading zeros.
fn read_decimal(text: &[u8], max: u16) -> Option<u16> {
    let shape = match text {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.len() < PORT_TEXT_BYTES_MAX && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let value = text.iter().take(PORT_TEXT_BYTES_MAX);
    let value = value.fold(0u32, |value, b| value * 10 + u32::from(b.wrapping_sub(b'0')));
    u16::try_from(value).ok().filter(|value| shape && *value <= max)
}
