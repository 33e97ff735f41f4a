//! Which protocol begins on a plain connection.
//!
//! Decided with the fewest bytes that exclude the others, mostly one: a listener must not wait for
//! what a client may never send. It only says what the bytes are. Whether that is allowed here is
//! the caller's, above all for the PROXY protocol: a header from an address that is not trusted is
//! a lie (proxy-protocol.txt section 5).

use crate::proxy_protocol::{V1_SIGNATURE, V2_SIGNATURE};
use crate::syntax::TCHAR;

/// The client connection preface of HTTP/2, RFC 9113 section 3.4.
pub const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The most bytes that are needed before [`detect`] answers.
pub const DETECT_BYTES_MAX: usize = HTTP2_DECIDED_BYTES;

/// `PRI * HTTP/2`: no request line of HTTP/1 begins so. `PRI` alone could still become `PRINT`, and
/// `PRI *` a method that RFC 9113 reserves but a client may send.
const HTTP2_DECIDED_BYTES: usize = 12;
/// `\r\n\r\n\0`: empty lines may precede a request line (RFC 9112 section 2.2), a NUL may not.
const PROXY_V2_DECIDED_BYTES: usize = 5;
/// ContentType `handshake`, RFC 8446 section 5.1.
const TLS_HANDSHAKE: u8 = 0x16;

/// What begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// A request line of HTTP/1, as far as its first bytes say: what is wrong with it is found,
    /// and answered, by its parser.
    Http1,
    /// The preface of HTTP/2; the rest of it is checked by who reads HTTP/2.
    Http2,
    /// A TLS handshake; its ClientHello is read by [`crate::client_hello`].
    Tls,
    /// A PROXY header of version 1, read by [`crate::proxy_protocol`].
    ProxyV1,
    /// A PROXY header of version 2.
    ProxyV2,
    /// None of them: the first byte begins no request line either.
    Unknown,
}

/// Says which protocol the bytes of a connection begin, from all bytes received so far. `None`
/// while that is open, which is at most until [`DETECT_BYTES_MAX`]. An answer never changes as
/// more arrives.
pub fn detect(received: &[u8]) -> Option<Protocol> {
    let first = *received.first()?;
    match first {
        TLS_HANDSHAKE => Some(Protocol::Tls),
        b'P' => {
            let could_be = |start: &[u8]| received.iter().zip(start).all(|(got, want)| got == want);
            let is = |start: &[u8]| received.starts_with(start);
            if is(&HTTP2_PREFACE[..HTTP2_DECIDED_BYTES]) {
                Some(Protocol::Http2)
            } else if is(V1_SIGNATURE) {
                Some(Protocol::ProxyV1)
            } else if could_be(&HTTP2_PREFACE[..HTTP2_DECIDED_BYTES]) || could_be(V1_SIGNATURE) {
                None
            } else {
                Some(Protocol::Http1)
            }
        }
        b'\r' => {
            let start = &V2_SIGNATURE[..PROXY_V2_DECIDED_BYTES];
            let alike = received.iter().zip(start).take_while(|(got, want)| got == want).count();
            match alike {
                PROXY_V2_DECIDED_BYTES => Some(Protocol::ProxyV2),
                _ if alike == received.len() => None,
                // A CR alone begins nothing.
                1 => Some(Protocol::Unknown),
                _ => Some(Protocol::Http1),
            }
        }
        _ if TCHAR[first as usize] => Some(Protocol::Http1),
        _ => Some(Protocol::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The protocol, and after how many bytes it is certain.
    #[track_caller]
    fn check(input: &str, expected: Option<(Protocol, usize)>) {
        let input = input.as_bytes();
        let certain = (0..=input.len()).find(|&end| detect(&input[..end]).is_some());
        let got = certain.map(|end| (detect(input).expect("it stays certain"), end));
        assert_eq!(got, expected, "{}", input.escape_ascii());
        for end in certain.into_iter().flat_map(|certain| certain..=input.len()) {
            assert_eq!(detect(&input[..end]), detect(input), "after {end} bytes");
        }
        assert!(certain.is_some() || input.len() < DETECT_BYTES_MAX);
    }

    #[test]
    fn beginnings() {
        use Protocol::*;
        check("", None);
        check("GET / HTTP/1.1\r\n", Some((Http1, 1)));
        check("get", Some((Http1, 1)));
        check("*", Some((Http1, 1)));
        check("POST / HTTP/1.1\r\n", Some((Http1, 2)));
        check("PUT / HTTP/1.1\r\n", Some((Http1, 2)));
        check("PATCH / HTTP/1.1\r\n", Some((Http1, 2)));
        check("PROPFIND / HTTP/1.1\r\n", Some((Http1, 4)));
        check("PRINT / HTTP/1.1\r\n", Some((Http1, 4)));
        check("PRI / HTTP/1.1\r\n", Some((Http1, 5)));
        check("PRI * HTTP/1.1\r\n", Some((Http1, 12)));
        check("PRI * HTTP/", None);
        check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some((Http2, 12)));
        check("P", None);
        check("PR", None);
        check("PROXY", None);
        check("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", Some((ProxyV1, 6)));
        check("PROXY/ HTTP/1.1", Some((Http1, 6)));
        check("PROXYS / HTTP/1.1", Some((Http1, 6)));
        check("\r\n\r\n\0\r\nQUIT\n", Some((ProxyV2, 5)));
        check("\r\n\r\n", None);
        check("\r\n\r\n\r\n", Some((Http1, 5)));
        check("\r\nGET / HTTP/1.1\r\n", Some((Http1, 3)));
        check("\r\n\rGET", Some((Http1, 4)));
        check("\r", None);
        check("\r\r", Some((Unknown, 2)));
        check("\x16\x03\x01", Some((Tls, 1)));
        check("\x15", Some((Unknown, 1)));
        check("\n", Some((Unknown, 1)));
        check("\0", Some((Unknown, 1)));
        check(" GET", Some((Unknown, 1)));
        check("\u{80}", Some((Unknown, 1)));
        check("{\"a\"", Some((Unknown, 1)));
    }
}
