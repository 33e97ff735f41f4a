//! What a gateway takes off a head before passing it on, and what it puts on (RFC 9110
//! section 7.6).
//!
//! The fields about the connection end here, and so do those that Connection names. A client could
//! name anything there, `Host` or `Authorization` say, and so remove what the neighbours rely on:
//! a field that matters end to end stays, whatever Connection says.

use crate::framing::{has_token, is_bodiless};
use crate::head::{Head, Name};
use crate::syntax;

/// Removes the hop-by-hop fields of a request: Connection and what it names, Keep-Alive,
/// Proxy-Connection, Transfer-Encoding, Upgrade, HTTP2-Settings, and TE but for `trailers`.
///
/// Whoever sends the head on says anew how its body is framed. Proxy-Authorization and Trailer
/// stay, as with nginx.
pub fn strip_request(head: &mut Head) {
    strip_named(head);
    let trailers = head.get_all(Name::Te).any(|value| has_token(value, b"trailers"));
    let te_is_plain = head.count(Name::Te) == 1 && head.get(Name::Te) == Some(b"trailers");
    strip_fixed(head);
    match (trailers, te_is_plain) {
        (true, true) => {}
        (true, false) => head.set(b"TE", b"trailers"),
        (false, _) => head.remove(Name::Te),
    }
}

/// Removes the hop-by-hop fields of a response: Connection and what it names, Keep-Alive,
/// Proxy-Connection, Transfer-Encoding, Upgrade, TE, and Content-Length where the status allows no
/// body (RFC 9110 section 8.6; a 304 keeps it).
pub fn strip_response(head: &mut Head) {
    strip_named(head);
    strip_fixed(head);
    head.remove(Name::Te);
    if is_bodiless(head.status()) && head.status() != 304 {
        head.remove(Name::ContentLength);
    }
}

/// Appends the client's address to X-Forwarded-For, onto the last line if there are several.
pub fn append_forwarded_for(head: &mut Head, client: &str) {
    const NAME: &[u8] = b"X-Forwarded-For";
    match head.has(Name::XForwardedFor) {
        true => head.append_value(NAME, client.as_bytes()),
        false => head.append_known(Name::XForwardedFor, NAME, client.as_bytes()),
    }
}

fn strip_fixed(head: &mut Head) {
    for name in [
        Name::Connection,
        Name::KeepAlive,
        Name::ProxyConnection,
        Name::TransferEncoding,
        Name::Upgrade,
        Name::Http2Settings,
    ] {
        head.remove(name);
    }
}

/// Removes what Connection names. The usual tokens name nothing that is not removed anyway, so
/// that only a message with a token of its own pays for a copy of it.
fn strip_named(head: &mut Head) {
    let names_more = head.get_all(Name::Connection).flat_map(syntax::list).any(is_removable);
    if !names_more {
        return;
    }
    let tokens: Vec<Vec<u8>> = head
        .get_all(Name::Connection)
        .flat_map(syntax::list)
        .filter(|token| is_removable(token))
        .map(<[u8]>::to_vec)
        .collect();
    head.retain(|field| !tokens.iter().any(|token| field.name.eq_ignore_ascii_case(token)));
}

/// Whether Connection may remove the field of that name, and no other rule does.
fn is_removable(token: &[u8]) -> bool {
    let option = token.eq_ignore_ascii_case(b"close");
    !option
        && !matches!(
            Name::from_bytes(token),
            // Removed or reduced by rule:
            Name::Connection
                | Name::KeepAlive
                | Name::ProxyConnection
                | Name::TransferEncoding
                | Name::Upgrade
                | Name::Te
                | Name::Http2Settings
                // Needed end to end:
                | Name::Host
                | Name::ContentLength
                | Name::ContentType
                | Name::ContentEncoding
                | Name::ContentRange
                | Name::Trailer
                | Name::Expect
                | Name::Authorization
                | Name::WwwAuthenticate
                | Name::Cookie
                | Name::SetCookie
                | Name::CacheControl
                | Name::Vary
                | Name::Date
                | Name::Location
                | Name::Origin
                | Name::Range
                | Name::StrictTransportSecurity
                | Name::SecWebSocketKey
                | Name::SecWebSocketAccept
                | Name::SecWebSocketVersion
                | Name::SecWebSocketProtocol
                // What earlier hops said, which a client must not unsay:
                | Name::Via
                | Name::Forwarded
                | Name::XForwardedFor
                | Name::XForwardedProto
                | Name::XForwardedHost
                | Name::XForwardedPort
                | Name::XRealIp
                | Name::XRequestId
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Version;

    fn head_of(fields: &str) -> Head {
        let mut head = Head::new();
        for line in fields.split('|').filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").expect("name: value");
            head.append(name.as_bytes(), value.as_bytes());
        }
        head
    }

    fn text_of(head: &Head) -> String {
        let mut out = Vec::new();
        head.write_fields(&mut out);
        String::from_utf8(out).expect("ASCII").trim_end().replace("\r\n", "|")
    }

    #[test]
    fn requests() {
        fn check(before: &str, after: &str) {
            let mut head = head_of(before);
            head.set_request(b"GET", b"/", Version::Http11);
            strip_request(&mut head);
            assert_eq!(text_of(&head), after, "{before}");
        }
        check("Host: a|Accept: b", "Host: a|Accept: b");
        check("Connection: keep-alive|Keep-Alive: timeout=5|Host: a", "Host: a");
        check("Proxy-Connection: x|Upgrade: h2c|HTTP2-Settings: y|A: b", "A: b");
        check("Transfer-Encoding: chunked|A: b", "A: b");
        check("Content-Length: 5|A: b", "Content-Length: 5|A: b");
        check("Connection: close, X-Own|x-own: 1|X-OWN: 2|X-Other: 3", "X-Other: 3");
        check("Connection: X-A|Connection: ,x-b,|X-A: 1|X-B: 2|X-C: 3", "X-C: 3");
        check("Connection: Accept|Accept: b|A: c", "A: c");
        check("TE: trailers|A: b", "TE: trailers|A: b");
        check("TE: gzip, Trailers;q=1|A: b", "A: b");
        check("TE: gzip, Trailers|A: b", "TE: trailers|A: b");
        check("TE: gzip|TE: trailers|A: b", "TE: trailers|A: b");
        check("TE: gzip|A: b", "A: b");
        check("Connection: TE|TE: trailers", "TE: trailers");
        check("Trailer: x|Proxy-Authorization: y", "Trailer: x|Proxy-Authorization: y");
        for kept in ["Host", "Content-Length", "Authorization", "Cookie", "X-Forwarded-For", "Via"] {
            check(&format!("Connection: {kept}|{kept}: 1"), &format!("{kept}: 1"));
        }
    }

    #[test]
    fn responses() {
        fn check(status: u16, before: &str, after: &str) {
            let mut head = head_of(before);
            head.set_response(status, b"", Version::Http11);
            strip_response(&mut head);
            assert_eq!(text_of(&head), after, "{before}");
        }
        check(200, "Connection: close, X-Own|X-Own: 1|Date: d", "Date: d");
        check(200, "Content-Length: 5|TE: trailers|Keep-Alive: x", "Content-Length: 5");
        check(200, "Connection: Set-Cookie|Set-Cookie: a=b", "Set-Cookie: a=b");
        check(204, "Content-Length: 0|A: b", "A: b");
        check(103, "Content-Length: 0|Link: b", "Link: b");
        check(304, "Content-Length: 5|ETag: b", "Content-Length: 5|ETag: b");
    }

    #[test]
    fn forwarded_for() {
        fn check(before: &str, after: &str) {
            let mut head = head_of(before);
            append_forwarded_for(&mut head, "192.0.2.1");
            assert_eq!(text_of(&head), after);
        }
        check("A: b", "A: b|X-Forwarded-For: 192.0.2.1");
        check("x-forwarded-for: 10.0.0.1|A: b", "x-forwarded-for: 10.0.0.1, 192.0.2.1|A: b");
        check(
            "X-Forwarded-For: 10.0.0.1|X-Forwarded-For: 10.0.0.2",
            "X-Forwarded-For: 10.0.0.1|X-Forwarded-For: 10.0.0.2, 192.0.2.1",
        );
    }
}
