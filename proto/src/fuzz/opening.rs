//! How a connection begins: PROXY headers, ClientHellos, and telling protocols apart.

use crate::client_hello::{self, HelloError, Peek, Peeker};
use crate::detect::{self as detection, Protocol};
use crate::head::{self, Head, HeadLimits};
use crate::proxy_protocol::{self as proxy, Endpoints, Header, Tlv, Transport, Version};

/// Prefixes at which arrival is tried, spread over the input and all of its last bytes.
fn prefixes(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let step = data.len() / 96 + 1;
    let near_the_end = data.len().saturating_sub(8);
    let ends = (0..data.len()).filter(move |at| at % step == 0 || *at >= near_the_end);
    ends.map(|end| &data[..end])
}

/// PROXY headers: however the bytes arrive the answer is the same and bounded; an accepted line is
/// read alike by splitting it at its spaces; what was read comes back from what is written.
pub fn proxy_protocol(data: &[u8]) {
    let whole = proxy::parse(data);
    let mut answered = false;
    for part in prefixes(data) {
        let got = proxy::parse(part);
        if answered || got != Ok(None) {
            assert_eq!(got, whole, "after {} of {} bytes", part.len(), data.len());
            answered = true;
        }
        if let Ok(Some(header)) = &whole {
            assert_eq!(answered, part.len() >= header.bytes);
        }
    }
    match whole {
        Ok(Some(header)) => {
            header_is_sound(&header, data);
            header_comes_back(&header);
        }
        Ok(None) => assert!(data.len() < proxy::V2_BYTES_MAX, "it ends"),
        Err(_) => {}
    }
    let mut out = Vec::new();
    let tlvs = [Tlv { kind: proxy::AUTHORITY, value: data }];
    if proxy::write_v2(&Endpoints::Unknown, &tlvs, true, &mut out).is_ok() {
        let header = proxy::parse(&out).expect("our own is valid").expect("and complete");
        assert_eq!((header.endpoints, header.bytes), (Endpoints::Unknown, out.len()));
    } else {
        assert!(data.len() > proxy::V2_BYTES_MAX / 2 && out.is_empty());
    }
}

fn header_is_sound(header: &Header<'_>, data: &[u8]) {
    let taken = &data[..header.bytes];
    match header.version {
        Version::V1 => {
            assert!(taken.len() <= proxy::V1_BYTES_MAX && header.tlvs.clone().next().is_none());
            let line = taken.strip_suffix(b"\r\n").expect("a line ends with CRLF");
            assert!(!line.contains(&b'\r') && !line.contains(&b'\n'));
            if let Endpoints::Ip { transport, source, destination } = header.endpoints {
                let line = std::str::from_utf8(line).expect("nothing but ASCII");
                let words: Vec<_> = line.split(' ').collect();
                let [_, family, from, to, from_port, to_port] = words[..] else {
                    panic!("six words with single spaces: {line}");
                };
                let ip = |text: &str| match family {
                    "TCP4" => text.parse::<std::net::Ipv4Addr>().map(Into::into),
                    _ => text.parse::<std::net::Ipv6Addr>().map(std::net::IpAddr::from),
                };
                let [from, to] = [from, to].map(|text| ip(text).expect("an address").to_canonical());
                assert_eq!((source.ip(), destination.ip()), (from, to));
                assert_eq!((source.port().to_string(), destination.port().to_string()), {
                    (from_port.to_owned(), to_port.to_owned())
                });
                assert_eq!(transport, Transport::Stream);
            }
        }
        Version::V2 => {
            assert!(taken.len() <= proxy::V2_BYTES_MAX && taken.starts_with(proxy::V2_SIGNATURE));
            let in_vectors: usize = header.tlvs.clone().map(|tlv| tlv.value.len() + 3).sum();
            assert!(in_vectors + 16 <= taken.len());
            if let Some(ssl) = header.tlvs.ssl() {
                let within: usize = ssl.tlvs.clone().map(|tlv| tlv.value.len() + 3).sum();
                assert!(within < in_vectors);
                assert!(!ssl.is_verified() || ssl.has_certificate() || ssl.session_has_certificate());
            }
        }
    }
}

fn header_comes_back(header: &Header<'_>) {
    let mut line = Vec::new();
    proxy::write_v1(&header.endpoints, &mut line);
    let read = proxy::parse(&line).expect("our own line is valid").expect("and complete");
    assert_eq!(read.bytes, line.len());
    match header.endpoints {
        Endpoints::Ip { transport: Transport::Stream, .. } => {
            assert_eq!(read.endpoints, header.endpoints);
        }
        _ => assert_eq!(read.endpoints, Endpoints::Unknown),
    }
    let is_sum = |tlv: &Tlv<'_>| tlv.kind == proxy::CRC32C;
    let tlvs: Vec<_> = header.tlvs.clone().filter(|tlv| !is_sum(tlv)).collect();
    for checksum in [false, true] {
        let mut binary = Vec::new();
        let written = proxy::write_v2(&header.endpoints, &tlvs, checksum, &mut binary);
        if written.is_err() {
            // The checksum alone may be too much for a header that was full.
            assert!(checksum && header.bytes + 7 > proxy::V2_BYTES_MAX);
            continue;
        }
        let read = proxy::parse(&binary).expect("our own is valid").expect("and complete");
        assert_eq!((read.endpoints, read.bytes), (header.endpoints, binary.len()));
        assert!(read.tlvs.clone().filter(|tlv| !is_sum(tlv)).eq(tlvs.iter().copied()));
        assert_eq!(read.tlvs.get(proxy::CRC32C).is_some(), checksum && has_addresses(&read.endpoints));
    }
}

fn has_addresses(endpoints: &Endpoints<'_>) -> bool {
    matches!(endpoints, Endpoints::Ip { .. } | Endpoints::Unix { .. })
}

/// ClientHellos: however the bytes arrive and however they are cut into records the answer is the
/// same and bounded; what is handed out is what it claims to be.
pub fn client_hello(data: &[u8]) {
    let mut peeker = Peeker::new();
    let whole = peeker.peek(data);
    let mut growing = Peeker::new();
    let mut answered = false;
    for part in prefixes(data).chain([data]) {
        let got = growing.peek(part);
        if answered || got != Ok(Peek::Incomplete) {
            assert_eq!(got, whole, "after {} of {} bytes", part.len(), data.len());
            answered = true;
        }
    }
    let first = data.first();
    assert_eq!(whole == Ok(Peek::NotTls), first.is_some_and(|&first| first != 0x16));
    let Ok(Peek::Hello(hello)) = whole else {
        assert!(answered || data.len() < client_hello::RECEIVED_BYTES_MAX, "it ends");
        return;
    };
    if let Some(name) = hello.server_name {
        assert!((1..=253).contains(&name.len()) && !name.ends_with('.') && !name.starts_with('.'));
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        assert!(name.bytes().all(allowed), "{name}");
        assert!(name.parse::<std::net::IpAddr>().is_err());
    }
    assert!(hello.alpn.clone().all(|protocol| !protocol.is_empty() && hello.alpn.contains(protocol)));
    assert!(hello.supported_versions().all(|version| hello.speaks(version)));

    let message = message_of(data);
    for bytes in [1, 7, 1000] {
        let cut: Vec<u8> = message
            .chunks(bytes)
            .flat_map(|piece| [&[0x16, 3, 3][..], &(piece.len() as u16).to_be_bytes(), piece].concat())
            .collect();
        let mut peeker = Peeker::new();
        let again = peeker.peek(&cut);
        if cut.len() <= client_hello::RECEIVED_BYTES_MAX {
            assert_eq!(again, Ok(Peek::Hello(hello.clone())), "in records of {bytes}");
        } else {
            assert_eq!(again, Err(HelloError::TooLarge));
        }
    }
}

/// The handshake message of an accepted hello, out of its records.
fn message_of(data: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let mut rest = data;
    while let [_, _, _, high, low, payload @ ..] = rest {
        let (piece, behind) = payload.split_at(u16::from_be_bytes([*high, *low]) as usize);
        message.extend_from_slice(piece);
        rest = behind;
        if let [_, high, middle, low, body @ ..] = &message[..] {
            if body.len() == u32::from_be_bytes([0, *high, *middle, *low]) as usize {
                break;
            }
        }
    }
    message
}

/// Telling protocols apart: an answer never changes, comes in time, and whoever reads the bytes as
/// what they are agrees.
pub fn detect(data: &[u8]) {
    let whole = detection::detect(data);
    assert!(whole.is_some() || data.len() < detection::DETECT_BYTES_MAX);
    for part in prefixes(data) {
        let got = detection::detect(part);
        assert!(got.is_none() || got == whole, "after {} bytes", part.len());
    }
    match proxy::parse(data) {
        Ok(Some(Header { version: Version::V1, .. })) => assert_eq!(whole, Some(Protocol::ProxyV1)),
        Ok(Some(Header { version: Version::V2, .. })) => assert_eq!(whole, Some(Protocol::ProxyV2)),
        _ => {}
    }
    let mut peeker = Peeker::new();
    if let Ok(Peek::Hello(_)) = peeker.peek(data) {
        assert_eq!(whole, Some(Protocol::Tls));
    }
    if data.starts_with(detection::HTTP2_PREFACE) {
        assert_eq!(whole, Some(Protocol::Http2));
    }
    let request = head::parse_request(data, &HeadLimits::default(), &mut Head::new());
    if let Ok(Some(_)) = request {
        let method_proxy = data.starts_with(proxy::V1_SIGNATURE);
        let expected = if method_proxy { Protocol::ProxyV1 } else { Protocol::Http1 };
        assert_eq!(whole, Some(expected));
    }
}
