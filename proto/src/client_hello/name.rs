//! What is a DNS name in a hello, RFC 6066 section 3 with RFC 1123 section 2.1.
//!
//! The rules are those of rustls, which judges the connections that we end ourselves: one client
//! must not get another answer because of how its name is routed.

use std::net::IpAddr;

use super::HelloError;

/// A name, with its dot at the end if it has one, in bytes (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// The length of the name without the dot at its end; `None` for an IP address.
///
/// # Errors
///
/// `ServerName` for anything else.
pub(super) fn length(text: &[u8]) -> Result<Option<usize>, HelloError> {
    let name = text.strip_suffix(b".").unwrap_or(text);
    if text.len() <= NAME_BYTES_MAX && is_dns_name(name) {
        return Ok(Some(name.len()));
    }
    let address = std::str::from_utf8(text).ok().and_then(|text| text.parse::<IpAddr>().ok());
    address.map(|_| None).ok_or(HelloError::ServerName)
}

/// Letters, digits, hyphens within labels, and underscores, which are no host name but in use. The
/// last label is no number, whatever its base: that would be an address to some readers.
fn is_dns_name(name: &[u8]) -> bool {
    let is_label = |label: &[u8]| {
        let is_byte = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let hyphen = label.starts_with(b"-") || label.ends_with(b"-");
        !label.is_empty() && label.len() <= LABEL_BYTES_MAX && label.iter().all(is_byte) && !hyphen
    };
    let last = name.rsplit(|&b| b == b'.').next().unwrap_or_default();
    let is_number = match last {
        [b'0', b'x' | b'X', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
        digits => digits.iter().all(u8::is_ascii_digit),
    };
    !is_number && name.split(|&b| b == b'.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        fn check(text: &str, expected: Result<Option<usize>, HelloError>) {
            assert_eq!(length(text.as_bytes()), expected, "{text}");
        }
        let refused = Err(HelloError::ServerName);
        check("a", Ok(Some(1)));
        check("localhost", Ok(Some(9)));
        check("example.com", Ok(Some(11)));
        check("Example.COM", Ok(Some(11)));
        check("example.com.", Ok(Some(11)));
        check("xn--bcher-kva.example", Ok(Some(21)));
        check("_sip.a-b.example", Ok(Some(16)));
        check("1.2.3.example", Ok(Some(13)));
        check("3com", Ok(Some(4)));
        check("a.0xg", Ok(Some(5)));
        check(&"a".repeat(63), Ok(Some(63)));
        check(&"a".repeat(64), refused);
        check(&format!("{}a", "a.".repeat(126)), Ok(Some(253)));
        check(&format!("{}a.", "a.".repeat(126)), refused);
        check(&format!("{}aa", "a.".repeat(126)), refused);
        check("192.0.2.1", Ok(None));
        check("2001:db8::1", Ok(None));
        check("192.0.2", refused);
        check("192.0.2.1.", refused);
        check("192.0.2.256", refused);
        check("a.0x1f", refused);
        check("a.1", refused);
        check("[::1]", refused);
        check("", refused);
        check(".", refused);
        check("a..b", refused);
        check(".a", refused);
        check("a..", refused);
        check("-a", refused);
        check("a-.b", refused);
        check("*.example.com", refused);
        check("a b", refused);
        check("a\0b", refused);
        check("a/b", refused);
        check("a:443", refused);
        check("bücher.example", refused);
    }
}
