//! Whether a request asks for a WebSocket and a response grants it, RFC 6455 section 4.
//!
//! A tunnel must only begin when both sides said so. A gateway that takes the request's word alone
//! can be led to pass a second, hidden request through what it believes to be frames: so the
//! answer counts, 101 with the same words in it.

use crate::framing::{has_token, upgrade};
use crate::head::{Head, Method};

/// Whether a request asks to become a WebSocket: GET in HTTP/1.1, `Connection: upgrade`,
/// `Upgrade: websocket`. The Sec-WebSocket fields are the origin's to judge.
pub fn is_upgrade(head: &Head) -> bool {
    head.is_request() && head.method() == Method::Get && names_websocket(head)
}

/// Whether a response begins a WebSocket: 101, `Connection: upgrade`, `Upgrade: websocket`.
pub fn is_switching(head: &Head) -> bool {
    !head.is_request() && head.status() == 101 && names_websocket(head)
}

fn names_websocket(head: &Head) -> bool {
    upgrade(head).is_some_and(|protocols| has_token(protocols, b"websocket"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{parse_request, parse_response, HeadLimits};

    #[test]
    fn requests() {
        fn check(text: &str, expected: bool) {
            let mut head = Head::new();
            let text = format!("{}\r\n\r\n", text.replace('|', "\r\n"));
            parse_request(text.as_bytes(), &HeadLimits::default(), &mut head).expect("valid");
            assert_eq!(is_upgrade(&head), expected, "{text}");
        }
        check("GET / HTTP/1.1|Connection: Upgrade|Upgrade: websocket", true);
        check("GET / HTTP/1.1|Connection: keep-alive, upgrade|Upgrade: WebSocket", true);
        check("GET / HTTP/1.1|Connection: Upgrade|Upgrade: h2c, websocket", true);
        check("GET / HTTP/1.1|Connection: Upgrade|Upgrade: websockets", false);
        check("GET / HTTP/1.1|Connection: keep-alive|Upgrade: websocket", false);
        check("GET / HTTP/1.1|Connection: Upgrade", false);
        check("POST / HTTP/1.1|Connection: Upgrade|Upgrade: websocket", false);
        check("GET / HTTP/1.0|Connection: Upgrade|Upgrade: websocket", false);
    }

    #[test]
    fn responses() {
        fn check(text: &str, expected: bool) {
            let mut head = Head::new();
            let text = format!("{}\r\n\r\n", text.replace('|', "\r\n"));
            parse_response(text.as_bytes(), &HeadLimits::default(), &mut head).expect("valid");
            assert_eq!(is_switching(&head), expected, "{text}");
        }
        check("HTTP/1.1 101 Switching|Connection: Upgrade|Upgrade: websocket", true);
        check("HTTP/1.1 200 OK|Connection: Upgrade|Upgrade: websocket", false);
        check("HTTP/1.1 101 Switching|Upgrade: websocket", false);
        check("HTTP/1.1 101 Switching|Connection: Upgrade|Upgrade: h2c", false);
    }
}
