//! Tables for both versions. Each case runs whole and a byte at a time: an error must come at the
//! byte that the table names, a header at its last byte, and neither may change afterwards.

use super::*;
use crate::seeded::Random;

/// The header in short; or the error and after how many bytes it is certain; or `...`.
fn read(input: &[u8]) -> String {
    let whole = parse(input);
    let certain = (0..=input.len()).find(|&end| parse(&input[..end]) != Ok(None));
    for end in certain.into_iter().flat_map(|certain| certain..=input.len()) {
        assert_eq!(parse(&input[..end]), whole, "after {end} bytes: {}", input.escape_ascii());
    }
    match (whole, certain) {
        (Ok(Some(header)), Some(certain)) => {
            assert_eq!(header.bytes, certain, "decided with the last byte");
            show(&header, &input[certain..])
        }
        (Err(error), Some(certain)) => format!("{error:?} @{certain}"),
        (Ok(None), None) => "...".into(),
        odd => panic!("{odd:?}"),
    }
}

fn show(header: &Header<'_>, behind: &[u8]) -> String {
    let mut text = match header.endpoints {
        Endpoints::Local => "local".into(),
        Endpoints::Unknown => "unknown".into(),
        Endpoints::Ip { transport, source, destination } => {
            format!("{transport:?} {source} {destination}")
        }
        Endpoints::Unix { transport, source, destination } => {
            format!("{transport:?} {} {}", source.escape_ascii(), destination.escape_ascii())
        }
    };
    for tlv in header.tlvs.clone() {
        text += &format!(" [{:#04x} {}]", tlv.kind, tlv.value.escape_ascii());
    }
    if !behind.is_empty() {
        text += &format!(" +{}", behind.escape_ascii());
    }
    text
}

/// `|` stands for CRLF.
#[track_caller]
fn check(line: &str, expected: &str) {
    assert_eq!(read(line.replace('|', "\r\n").as_bytes()), expected, "{line}");
}

#[test]
fn lines() {
    check("", "...");
    check("PROXY", "...");
    check("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443|", "Stream 192.0.2.1:56324 198.51.100.2:443");
    check("PROXY TCP4 192.0.2.1 198.51.100.2 1 2|GET /", "Stream 192.0.2.1:1 198.51.100.2:2 +GET /");
    check("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535|", "Stream 0.0.0.0:0 255.255.255.255:65535");
    check("PROXY TCP6 2001:db8::1 2001:DB8::2 1 2|", "Stream [2001:db8::1]:1 [2001:db8::2]:2");
    check("PROXY TCP6 :: ::1 1 2|", "Stream [::]:1 [::1]:2");
    check(
        "PROXY TCP6 1:2:3:4:5:6:7:: ::2:3:4:5:6:7:8 1 2|",
        "Stream [1:2:3:4:5:6:7:0]:1 [0:2:3:4:5:6:7:8]:2",
    );
    check("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 1 2|", "Stream 192.0.2.1:1 192.0.2.2:2");
    check("PROXY UNKNOWN|", "unknown");
    check("PROXY UNKNOWN|\r\n", "unknown +\\r\\n");
    check("PROXY UNKNOWN ffff::1 whatever 1  2|x", "unknown +x");
    check("PROXY TCP4 192.0.2.1 198.51.100.2 56324 44", "...");
    check("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r", "...");
}

#[test]
fn longest_lines() {
    let group = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let tail = format!("{group} {group} 65535 65535");
    check(&format!("PROXY TCP6 {tail}|"), &format!("Stream [{group}]:65535 [{group}]:65535"));
    let unknown = format!("PROXY UNKNOWN {tail}|");
    assert_eq!(unknown.len() + 1, V1_BYTES_MAX);
    check(&unknown, "unknown");
    check(&format!("PROXY UNKNOWN {tail} |"), "TooLong @107");
    check(&format!("PROXY UNKNOWN {tail}  "), "TooLong @107");
    check(&format!("PROXY UNKNOWN {}", "x".repeat(300)), "TooLong @107");
}

#[test]
fn bad_lines() {
    check("G", "Absent @1");
    check("PRI * HTTP/2.0|", "Absent @3");
    check("proxy TCP4", "Absent @1");
    check(" PROXY TCP4", "Absent @1");
    check("PROXY\tTCP4", "Absent @6");
    check("PROXY|", "Absent @6");
    check("PROXY  TCP4", "Family @7");
    check("PROXY / HTTP/1.1", "Family @7");
    check("PROXY tcp4 ", "Family @7");
    check("PROXY TCP5 ", "Family @10");
    check("PROXY TCP4|", "Family @11");
    check("PROXY UDP4 ", "Family @8");
    check("PROXY UNKNOWNS|", "Family @14");
    check("PROXY UNKNOWN\n", "Family @14");
    check("PROXY UNKNOWN a\nb|", "LineEnd @16");
    check("PROXY UNKNOWN a\rb|", "LineEnd @17");
    check("PROXY UNKNOWN\r\r\n", "LineEnd @15");
}

#[test]
fn bad_addresses() {
    check("PROXY TCP4  1.2.3.4", "Address @12");
    check("PROXY TCP4 01.2.3.4", "Address @13");
    check("PROXY TCP4 00", "Address @13");
    check("PROXY TCP4 256.2.3.4", "Address @14");
    check("PROXY TCP4 1234", "Address @15");
    check("PROXY TCP4 1..2", "Address @14");
    check("PROXY TCP4 .1", "Address @12");
    check("PROXY TCP4 1.2.3 ", "Address @17");
    check("PROXY TCP4 1.2.3. ", "Address @18");
    check("PROXY TCP4 1.2.3.4.", "Address @19");
    check("PROXY TCP4 1.2.3.x", "Address @18");
    check("PROXY TCP4 +1", "Address @12");
    check("PROXY TCP4 ::1 ::1 1 2|", "Address @12");
    check("PROXY TCP4 1.2.3.4 ::1 1 2|", "Address @20");
    check("PROXY TCP4 1.2.3.4|", "Address @19");
    check("PROXY TCP4 1.2.3.4\t1.2.3.4 1 2|", "Address @19");
    check("PROXY TCP4 1.2.3.4  1.2.3.4 1 2|", "Address @20");
    check("PROXY TCP4 1.2.3.4 1.2.3.4|", "Address @27");
    check("PROXY TCP6 1.2.3.4 1.2.3.4 1 2|", "Address @19");
    check("PROXY TCP6 12345", "Address @16");
    check("PROXY TCP6 ::1::", "Address @16");
    check("PROXY TCP6 :::", "Address @14");
    check("PROXY TCP6 :1", "Address @13");
    check("PROXY TCP6 1: ", "Address @14");
    check("PROXY TCP6 1:2:3:4:5:6:7 ", "Address @25");
    check("PROXY TCP6 1:2:3:4:5:6:7:8:9", "Address @28");
    check("PROXY TCP6 fe80::1%1", "Address @19");
    check("PROXY TCP6 [::1]", "Address @12");
    check("PROXY TCP6 ::g", "Address @14");
    check("PROXY TCP6 ::ffff:256", "...");
    check("PROXY TCP6 ::ffff:256.", "Address @22");
    check("PROXY TCP6 ::1.2.3.4:1", "Address @21");
    check("PROXY TCP6 0000:0000:0000:0000:0000:ffff:255.255.255", "Address @51");
}

#[test]
fn bad_ports() {
    check("PROXY TCP4 1.2.3.4 5.6.7.8  1 2|", "Port @28");
    check("PROXY TCP4 1.2.3.4 5.6.7.8 01 2|", "Port @29");
    check("PROXY TCP4 1.2.3.4 5.6.7.8 65536 2|", "Port @32");
    check("PROXY TCP4 1.2.3.4 5.6.7.8 123456 2|", "Port @33");
    check("PROXY TCP4 1.2.3.4 5.6.7.8 -1 2|", "Port @28");
    check("PROXY TCP4 1.2.3.4 5.6.7.8 1|", "Port @29");
    check("PROXY TCP4 1.2.3.4 5.6.7.8 1 |", "Port @30");
    check("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 |", "Port @31");
    check("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "Port @31");
    check("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r", "LineEnd @32");
    check("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rG", "LineEnd @32");
    check("PROXY TCP4 1.2.3.4 5.6.7.8 1 0x2|", "Port @31");
    check("PROXY TCP4 1.2.3.4 5.6.7.8 1 65599|", "Port @34");
}

/// A binary header: the two bytes after the signature, then the block with its right length.
fn binary(version_and_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = (block.len() as u16).to_be_bytes();
    [V2_SIGNATURE, &[version_and_command, family][..], &length, block].concat()
}

#[track_caller]
fn check2(version_and_command: u8, family: u8, block: &[u8], expected: &str) {
    let got = read(&binary(version_and_command, family, block));
    assert_eq!(got, expected, "{version_and_command:#x} {family:#x} {}", block.escape_ascii());
}

const INET: &[u8] = b"\xc0\0\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb";
const INET_SHOWN: &str = "192.0.2.1:56324 198.51.100.2:443";

#[test]
fn binaries() {
    check2(0x21, 0x11, INET, &format!("Stream {INET_SHOWN}"));
    check2(0x21, 0x12, INET, &format!("Datagram {INET_SHOWN}"));
    let inet6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 10], &[255, 255, 1, 2, 3, 4, 0, 1, 0, 2]];
    check2(0x21, 0x21, &inet6.concat(), "Stream [2001:db8::1]:1 1.2.3.4:2");
    check2(0x21, 0x22, &inet6.concat(), "Datagram [2001:db8::1]:1 1.2.3.4:2");
    let unix = [&b"/run/a"[..], &[0; 102], b"\0abstract\0x", &[0; 97]].concat();
    check2(0x21, 0x31, &unix, "Stream /run/a \\x00abstract\\x00x");
    check2(0x21, 0x32, &[0; 216], "Datagram  ");
    check2(0x20, 0x00, b"", "local");
    check2(0x20, 0x11, INET, "local");
    // LOCAL: the block is skipped whatever it holds, the family is ignored.
    check2(0x20, 0x11, b"x", "local");
    check2(0x20, 0xff, b"rubbish", "local");
    check2(0x21, 0x00, b"rubbish", "unknown");
    check2(0x21, 0x01, b"", "unknown");
    check2(0x21, 0x10, INET, "unknown");
    check2(0x21, 0x30, b"", "unknown");
    let request = [&binary(0x21, 0x11, INET)[..], b"GET /"].concat();
    assert_eq!(read(&request), format!("Stream {INET_SHOWN} +GET /"));
    assert_eq!(read(&request[..27]), "...");
}

#[test]
fn bad_binaries() {
    check2(0x11, 0x11, INET, "Version @13");
    check2(0x31, 0x11, INET, "Version @13");
    check2(0x01, 0x11, INET, "Version @13");
    check2(0x22, 0x11, INET, "Command @13");
    check2(0x2f, 0x11, INET, "Command @13");
    check2(0x21, 0x41, INET, "Family @14");
    check2(0x21, 0x13, INET, "Family @14");
    check2(0x21, 0x11, &INET[..11], "TooShort @16");
    check2(0x21, 0x21, INET, "TooShort @16");
    check2(0x21, 0x31, &[0; 215], "TooShort @16");
    check2(0x21, 0x00, &[0; V2_BYTES_MAX - 16], "unknown");
    check2(0x21, 0x00, &[0; V2_BYTES_MAX - 15], "TooLong @16");
    check2(0x20, 0x00, &[0; V2_BYTES_MAX - 15], "TooLong @16");
    check("|\r\n\0|QUIT\r", "Absent @12");
    check("||", "...");
    check("||G", "Absent @5");
    check("|G", "Absent @3");
    check("\r\r", "Absent @2");
}

#[track_caller]
fn check_tlvs(tlvs: &[u8], expected: &str) {
    let expected = match expected {
        "" => format!("Stream {INET_SHOWN}"),
        shown if shown.starts_with('[') => format!("Stream {INET_SHOWN} {shown}"),
        error => format!("{error} @{}", 16 + INET.len() + tlvs.len()),
    };
    check2(0x21, 0x11, &[INET, tlvs].concat(), &expected);
}

#[test]
fn vectors() {
    check_tlvs(b"", "");
    check_tlvs(b"\x01\0\x02h2", "[0x01 h2]");
    check_tlvs(b"\x01\0\x02h2\x02\0\x01a", "[0x01 h2] [0x02 a]");
    check_tlvs(b"\x02\0\0", "[0x02 ]");
    check_tlvs(b"\x04\0\0", "");
    check_tlvs(b"\x04\0\x02xx\x05\0\x01i\x04\0\0", "[0x05 i]");
    check_tlvs(b"\xe0\0\x01x\xff\0\0", "[0xe0 x] [0xff ]");
    check_tlvs(b"\x01", "Tlv");
    check_tlvs(b"\x01\0", "Tlv");
    check_tlvs(b"\x01\0\x03h2", "Tlv");
    check_tlvs(b"\x01\0\x01h2", "Tlv");
    check_tlvs(b"\x01\xff\xffh2", "Tlv");
    check_tlvs(b"\x20\0\x04\x01\0\0\0", "Tlv");
    check_tlvs(b"\x20\0\x05\x01\0\0\0\0", "[0x20 \\x01\\x00\\x00\\x00\\x00]");
    check_tlvs(b"\x20\0\x06\x01\0\0\0\0\x21", "Tlv");
    check_tlvs(b"\x20\0\x09\x01\0\0\0\0\x21\0\x02x", "Tlv");
    check_tlvs(&[&b"\x05\0\x80"[..], &[b'i'; 128]].concat(), &format!("[0x05 {}]", "i".repeat(128)));
    check_tlvs(&[&b"\x05\0\x81"[..], &[b'i'; 129]].concat(), "Tlv");
    check_tlvs(b"\x03\0\x03xxx", "Tlv");
    check_tlvs(b"\x03\0\x05xxxxx", "Tlv");
    check_tlvs(b"\x03\0\x04xxxx", "Checksum");
    check_tlvs(b"\x03\0\x04\0\0\0\0\x03\0\x04\0\0\0\0", "Checksum");
}

#[test]
fn ssl() {
    fn check(value: &[u8], expected: &str) {
        let length = (value.len() as u16).to_be_bytes();
        let header = binary(0x21, 0x11, &[INET, &[SSL], &length, value].concat());
        let header = parse(&header).expect("valid").expect("complete");
        let ssl = header.tlvs.ssl().expect("there");
        let flags = [
            (ssl.is_tls(), "tls"),
            (ssl.has_certificate(), "certificate"),
            (ssl.session_has_certificate(), "session"),
            (ssl.is_verified(), "verified"),
        ];
        let shown = flags.iter().filter(|flag| flag.0).map(|flag| flag.1.to_owned());
        let tlvs = ssl.tlvs.clone().map(|tlv| format!("{:x}={}", tlv.kind, tlv.value.escape_ascii()));
        assert_eq!(shown.chain(tlvs).collect::<Vec<_>>().join(" "), expected);
    }
    check(b"\0\0\0\0\0", "");
    check(b"\x01\0\0\0\0", "tls");
    check(b"\x03\0\0\0\0", "tls certificate verified");
    check(b"\x03\0\0\0\x01", "tls certificate");
    check(b"\x03\x01\0\0\0", "tls certificate");
    check(b"\x05\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x02cn", "tls session verified 21=TLSv1.3 22=cn");
    assert_eq!(Tlvs::default().ssl(), None);
}

#[test]
fn checksums() {
    let mut header = Vec::new();
    let endpoints = Endpoints::Ip {
        transport: Transport::Stream,
        source: "192.0.2.1:56324".parse().expect("an address"),
        destination: "198.51.100.2:443".parse().expect("an address"),
    };
    let tlvs = [Tlv { kind: AUTHORITY, value: b"example.com" }, Tlv { kind: CRC32C, value: b"xxxx" }];
    write_v2(&endpoints, &tlvs, true, &mut header).expect("fits");
    let shown = format!("Stream {INET_SHOWN} [0x02 example.com] [0x03 W\\xa4\\x92\\xb3]");
    assert_eq!(read(&header), shown);
    // Any single bit that is flipped is noticed, here or by the structure, but in the byte that
    // says that this is a checksum.
    let kind_at = header.len() - 7;
    for bit in (0..header.len() * 8).filter(|bit| bit / 8 != kind_at) {
        header[bit / 8] ^= 1 << (bit % 8);
        if parse(&header) == Ok(None) {
            assert!(matches!(bit / 8, 14 | 15), "only a longer length waits: bit {bit}");
        } else if let Ok(Some(read)) = parse(&header) {
            // An unspecified family or LOCAL has the block skipped, as it must be.
            assert!(matches!(read.endpoints, Endpoints::Local | Endpoints::Unknown), "bit {bit}");
        }
        header[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Headers as haproxy 2.6 sent them, before `hello`; the files are the fuzz corpus too.
#[test]
fn headers_of_haproxy() {
    fn check(input: &[u8], expected: &str) {
        assert_eq!(read(input), format!("{expected} +hello"));
    }
    check(
        include_bytes!("../../../fuzz/corpus/proxy_protocol/haproxy_v1"),
        "Stream 127.0.0.1:60288 127.0.0.1:18442",
    );
    check(
        include_bytes!("../../../fuzz/corpus/proxy_protocol/haproxy_v1_inet6"),
        "Stream [::1]:35684 [::1]:18443",
    );
    check(
        include_bytes!("../../../fuzz/corpus/proxy_protocol/haproxy_v2"),
        "Stream 127.0.0.1:53904 127.0.0.1:18443 [0x03 U0\\xb8\\x98]",
    );
    check(
        include_bytes!("../../../fuzz/corpus/proxy_protocol/haproxy_v2_inet6"),
        "Stream [::1]:37172 [::1]:18444 [0x03 h\\x83\\x9a]]",
    );
    let full = include_bytes!("../../../fuzz/corpus/proxy_protocol/haproxy_v2_ssl");
    let header = parse(full).expect("valid").expect("complete");
    assert_eq!(header.tlvs.get(AUTHORITY), Some(&b"example.com"[..]));
    assert_eq!(header.tlvs.get(ALPN), Some(&b"h2"[..]));
    assert_eq!(header.tlvs.get(UNIQUE_ID).map(<[u8]>::len), Some(46));
    let ssl = header.tlvs.ssl().expect("there");
    assert!(ssl.is_tls() && ssl.is_verified());
    assert_eq!(ssl.tlvs.get(SSL_VERSION), Some(&b"TLSv1.3"[..]));
    assert_eq!(ssl.tlvs.get(SSL_COMMON_NAME), Some(&b"example.com"[..]));
    assert_eq!(ssl.tlvs.get(SSL_CIPHER), Some(&b"TLS_AES_256_GCM_SHA384"[..]));
}

#[test]
fn writing_lines() {
    fn check(source: &str, destination: &str, expected: &str) {
        let [source, destination] = [source, destination].map(|text| text.parse().expect("an address"));
        let mut line = Vec::new();
        write_v1(&Endpoints::Ip { transport: Transport::Stream, source, destination }, &mut line);
        assert_eq!(String::from_utf8_lossy(&line), format!("{expected}\r\n"));
        line.clear();
        write_v1(&Endpoints::Ip { transport: Transport::Datagram, source, destination }, &mut line);
        assert_eq!(line, b"PROXY UNKNOWN\r\n");
    }
    check("192.0.2.1:56324", "198.51.100.2:443", "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443");
    check("[2001:db8::1]:1", "[::1]:2", "PROXY TCP6 2001:db8::1 ::1 1 2");
    check("[::ffff:192.0.2.1]:1", "198.51.100.2:2", "PROXY TCP4 192.0.2.1 198.51.100.2 1 2");
    check("192.0.2.1:1", "[2001:db8::1]:2", "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 1 2");
    check("[2001:db8::1]:1", "192.0.2.1:2", "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 1 2");
    check("[fe80::1%7]:1", "[fe80::2%7]:2", "PROXY TCP6 fe80::1 fe80::2 1 2");
    for endpoints in [Endpoints::Local, Endpoints::Unknown] {
        let mut line = Vec::new();
        write_v1(&endpoints, &mut line);
        assert_eq!(line, b"PROXY UNKNOWN\r\n");
    }
}

#[test]
fn what_cannot_be_written() {
    fn check(endpoints: Endpoints<'_>, kind: u8, value: &[u8], expected: Result<(), ProxyError>) {
        for checksum in [false, true] {
            let mut out = b"before".to_vec();
            assert_eq!(write_v2(&endpoints, &[Tlv { kind, value }], checksum, &mut out), expected);
            assert!(out.starts_with(b"before") && (expected.is_ok() || out.len() == 6));
        }
    }
    let path = [b'p'; 109];
    let unix = |source| Endpoints::Unix { transport: Transport::Stream, source, destination: b"" };
    check(unix(&path[..108]), ALPN, b"h2", Ok(()));
    check(unix(&path), ALPN, b"h2", Err(ProxyError::Address));
    check(Endpoints::Unknown, UNIQUE_ID, &[0; 128], Ok(()));
    check(Endpoints::Unknown, UNIQUE_ID, &[0; 129], Err(ProxyError::Tlv));
    check(Endpoints::Unknown, SSL, b"\x01", Err(ProxyError::Tlv));
    check(Endpoints::Unknown, 0xe0, &[0; V2_BYTES_MAX - 16 - 3 - 7], Ok(()));
    check(Endpoints::Unknown, 0xe0, &[0; V2_BYTES_MAX - 16 - 2], Err(ProxyError::TooLong));
    check(Endpoints::Unknown, 0xe0, &[0; 70_000], Err(ProxyError::TooLong));
}

#[test]
fn what_is_written_is_read() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let port = random.next() as u16;
        let mut address = || -> SocketAddr {
            let bits = random.next();
            let v4: std::net::Ipv4Addr = (bits as u32).into();
            let wide = u128::from(random.next()) << 64 | u128::from(random.next());
            let v6: std::net::Ipv6Addr = match bits >> 62 {
                // Sparse ones, so that `::` stands everywhere.
                0 => (wide & 0xffff_0000_0000_ffff_0000_0000_ffff).into(),
                _ => wide.into(),
            };
            let ip: IpAddr = if bits >> 61 & 1 == 0 { v4.into() } else { v6.to_canonical() };
            SocketAddr::new(ip, bits as u16 ^ port)
        };
        let (source, destination) = (address(), address());
        let transport = if seed % 2 == 0 { Transport::Stream } else { Transport::Datagram };
        let endpoints = Endpoints::Ip { transport, source, destination };
        let mut line = Vec::new();
        write_v1(&endpoints, &mut line);
        assert!(line.len() <= V1_BYTES_MAX);
        let expected = match transport {
            Transport::Stream => format!("Stream {source} {destination}"),
            Transport::Datagram => "unknown".into(),
        };
        assert_eq!(read(&line), expected, "seed {seed}");

        let values = [random.bytes(40), random.bytes(10), random.bytes(128)];
        let tlvs = [
            Tlv { kind: AUTHORITY, value: &values[0] },
            Tlv { kind: ALPN, value: &values[1] },
            Tlv { kind: UNIQUE_ID, value: &values[2] },
        ];
        let mut header = Vec::new();
        let checksum = random.below(2) == 0;
        write_v2(&endpoints, &tlvs, checksum, &mut header).expect("fits");
        let read = parse(&header).expect("valid").expect("complete");
        assert_eq!(read.endpoints, endpoints, "seed {seed}");
        let got: Vec<_> = read.tlvs.clone().collect();
        assert_eq!(got[..3], tlvs, "seed {seed}");
        assert_eq!(got.len(), 3 + usize::from(checksum), "seed {seed}");
        assert_eq!(parse(&header[..header.len() - 1]), Ok(None), "seed {seed}");
    }
}
