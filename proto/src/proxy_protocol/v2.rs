//! Version 2, binary: the signature, four bytes that say what follows, the addresses, then vectors
//! (section 2.2).

use std::net::{IpAddr, SocketAddr};

use super::tlv::{self, Tlv, Tlvs};
use super::{in_one_family, Endpoints, Header, ProxyError, Transport, Version};
use super::{V2_BYTES_MAX, V2_SIGNATURE};

/// The signature and the four bytes behind it.
const FIXED_BYTES: usize = 16;
const UNIX_PATH_BYTES: usize = 108;

const VERSION: u8 = 0x20;
const COMMAND_LOCAL: u8 = 0;
const COMMAND_PROXY: u8 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Unspecified,
    Inet,
    Inet6,
    Unix,
}

impl Family {
    /// Both addresses with their ports.
    fn address_bytes(self) -> usize {
        match self {
            Family::Unspecified => 0,
            Family::Inet => 2 * 4 + 2 * 2,
            Family::Inet6 => 2 * 16 + 2 * 2,
            Family::Unix => 2 * UNIX_PATH_BYTES,
        }
    }
}

/// `received` begins with the signature or with a part of it.
pub(super) fn parse(received: &[u8]) -> Result<Option<Header<'_>>, ProxyError> {
    let Some(&version_and_command) = received.get(V2_SIGNATURE.len()) else { return Ok(None) };
    if version_and_command & 0xf0 != VERSION {
        return Err(ProxyError::Version);
    }
    let local = match version_and_command & 0x0f {
        COMMAND_LOCAL => true,
        COMMAND_PROXY => false,
        _ => return Err(ProxyError::Command),
    };
    let Some(&family_and_transport) = received.get(V2_SIGNATURE.len() + 1) else { return Ok(None) };
    // For LOCAL the family is to be ignored, whatever it says.
    let kind = if local { None } else { read_kind(family_and_transport)? };
    let Some(length) = received.get(FIXED_BYTES - 2..FIXED_BYTES) else { return Ok(None) };
    let bytes = FIXED_BYTES + u16_at(length, 0) as usize;
    if bytes > V2_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let address_bytes = kind.map_or(0, |(family, _)| family.address_bytes());
    if bytes < FIXED_BYTES + address_bytes {
        return Err(ProxyError::TooShort);
    }
    let Some(header) = received.get(..bytes) else { return Ok(None) };
    let Some((family, transport)) = kind else {
        let endpoints = if local { Endpoints::Local } else { Endpoints::Unknown };
        return Ok(Some(Header { version: Version::V2, endpoints, tlvs: Tlvs::default(), bytes }));
    };
    let endpoints = read_addresses(family, transport, &header[FIXED_BYTES..]);
    let tlvs = tlv::check(header, FIXED_BYTES + address_bytes)?;
    Ok(Some(Header { version: Version::V2, endpoints, tlvs, bytes }))
}

/// Appends a header of version 2 with the vectors given, and with a checksum if wanted.
///
/// A [`super::CRC32C`] among `tlvs` is left out: it would be that of another header. Vectors
/// behind `LOCAL` and `UNKNOWN` are written, though receivers need not look at them.
///
/// # Errors
///
/// `TooLong` when it would pass [`V2_BYTES_MAX`], `Address` for a unix path of more than 108
/// bytes, `Tlv` for a value that its type cannot have. Nothing is appended then.
pub fn write_v2(
    endpoints: &Endpoints<'_>,
    tlvs: &[Tlv<'_>],
    checksum: bool,
    out: &mut Vec<u8>,
) -> Result<(), ProxyError> {
    let start = out.len();
    let written = append(endpoints, tlvs, checksum, out, start);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn append(
    endpoints: &Endpoints<'_>,
    tlvs: &[Tlv<'_>],
    checksum: bool,
    out: &mut Vec<u8>,
    start: usize,
) -> Result<(), ProxyError> {
    out.extend_from_slice(V2_SIGNATURE);
    out.extend_from_slice(&[VERSION | COMMAND_PROXY, 0, 0, 0]);
    let family_and_transport = write_addresses(endpoints, out)?;
    if *endpoints == Endpoints::Local {
        out[start + V2_SIGNATURE.len()] = VERSION | COMMAND_LOCAL;
    }
    out[start + V2_SIGNATURE.len() + 1] = family_and_transport;
    for tlv in tlvs.iter().filter(|tlv| tlv.kind != tlv::CRC32C) {
        tlv::append(*tlv, out)?;
        if out.len() - start > V2_BYTES_MAX {
            return Err(ProxyError::TooLong);
        }
    }
    let checksum_at = match checksum {
        true => {
            tlv::append(Tlv { kind: tlv::CRC32C, value: &[0; 4] }, out)?;
            Some(out.len() - 4)
        }
        false => None,
    };
    let bytes = out.len() - start;
    if bytes > V2_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let length = (bytes - FIXED_BYTES) as u16;
    out[start + FIXED_BYTES - 2..start + FIXED_BYTES].copy_from_slice(&length.to_be_bytes());
    if let Some(at) = checksum_at {
        let sum = crate::crc32c::crc32c(&[&out[start..]]);
        out[at..].copy_from_slice(&sum.to_be_bytes());
    }
    Ok(())
}

/// `None` where either is unspecified: the addresses are to be ignored then.
fn read_kind(family_and_transport: u8) -> Result<Option<(Family, Transport)>, ProxyError> {
    let family = match family_and_transport >> 4 {
        0 => Family::Unspecified,
        1 => Family::Inet,
        2 => Family::Inet6,
        3 => Family::Unix,
        _ => return Err(ProxyError::Family),
    };
    let transport = match family_and_transport & 0x0f {
        0 => None,
        1 => Some(Transport::Stream),
        2 => Some(Transport::Datagram),
        _ => return Err(ProxyError::Family),
    };
    Ok(transport.filter(|_| family != Family::Unspecified).map(|transport| (family, transport)))
}

/// `block` holds at least the addresses of the family.
fn read_addresses(family: Family, transport: Transport, block: &[u8]) -> Endpoints<'_> {
    let ip = |source: IpAddr, destination: IpAddr, ports_at: usize| Endpoints::Ip {
        transport,
        source: SocketAddr::new(source.to_canonical(), u16_at(block, ports_at)),
        destination: SocketAddr::new(destination.to_canonical(), u16_at(block, ports_at + 2)),
    };
    match family {
        Family::Unspecified => Endpoints::Unknown,
        Family::Inet => ip(octets::<4>(block, 0).into(), octets::<4>(block, 4).into(), 8),
        Family::Inet6 => ip(octets::<16>(block, 0).into(), octets::<16>(block, 16).into(), 32),
        Family::Unix => Endpoints::Unix {
            transport,
            source: path(&block[..UNIX_PATH_BYTES]),
            destination: path(&block[UNIX_PATH_BYTES..2 * UNIX_PATH_BYTES]),
        },
    }
}

/// Gives the byte for family and transport.
fn write_addresses(endpoints: &Endpoints<'_>, out: &mut Vec<u8>) -> Result<u8, ProxyError> {
    let transport_bits = |transport| match transport {
        Transport::Stream => 1,
        Transport::Datagram => 2,
    };
    match *endpoints {
        Endpoints::Local | Endpoints::Unknown => Ok(0),
        Endpoints::Ip { transport, source, destination } => {
            let (from, to) = in_one_family(source, destination);
            for address in [from, to] {
                match address {
                    IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
                    IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
                }
            }
            out.extend_from_slice(&source.port().to_be_bytes());
            out.extend_from_slice(&destination.port().to_be_bytes());
            let family = if from.is_ipv4() { 0x10 } else { 0x20 };
            Ok(family | transport_bits(transport))
        }
        Endpoints::Unix { transport, source, destination } => {
            for path in [source, destination] {
                let padding = UNIX_PATH_BYTES.checked_sub(path.len()).ok_or(ProxyError::Address)?;
                out.extend_from_slice(path);
                out.extend(std::iter::repeat_n(0, padding));
            }
            Ok(0x30 | transport_bits(transport))
        }
    }
}

/// Up to the zero that ends a path. An abstract name begins with one and may hold more: it loses
/// the zeros behind it alone.
fn path(field: &[u8]) -> &[u8] {
    let end = match field.first() {
        Some(0) => field.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1),
        _ => memchr::memchr(0, field).unwrap_or(field.len()),
    };
    &field[..end]
}

fn octets<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|place| block[at + place])
}

fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(octets::<2>(block, at))
}
