//! Upgrades: a WebSocket tunnel where `enable_websocket` is set, plain HTTP where it is not.

use tests::origin::ok;
use tests::wait::wait_until;
use tests::websocket::{self, echo, handshake};
use tests::{pattern, Client, Gateway, Origin};

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "[[routes]]\nuri = \"/ws\"\nenable_websocket = true\nupstream = [\"{origin}\"]\n\
         [[routes]]\nuri = \"/plain\"\nupstream = [\"{origin}\"]\n"
    ))
}

#[test]
fn frames_pass_both_ways() {
    let origin = websocket::echo_origin();
    let gateway = gateway(&origin);
    let mut wire = websocket::open(gateway.address(), "/ws");
    for size in [0, 1, 125, 126, 65_535, 65_536, 2_000_000] {
        echo(&mut wire, &pattern::bytes(size));
    }
    let seen = origin.last();
    assert_eq!(seen.fields.get("upgrade"), Some("websocket"));
    assert!(seen.fields.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
    assert_eq!(seen.fields.get("sec-websocket-key"), Some(websocket::KEY));
    drop(wire);
    wait_until("the tunnel to end on the other side", || origin.open() == 0);
    let record = gateway.wait_access_of("/ws");
    assert_eq!(record["status"], 101, "{record}");
}

#[test]
fn bytes_sent_with_the_handshake_are_not_lost() {
    let origin = websocket::echo_origin();
    let gateway = gateway(&origin);
    let mut bytes = handshake("/ws").into_bytes();
    bytes.extend_from_slice(&websocket::frame(b"early", Some([9, 9, 9, 9])));
    let mut client = Client::sending(gateway.address(), bytes);
    assert_eq!(client.head().status, 101);
    let mut wire = client.into_wire();
    assert_eq!(websocket::read_frame(&mut wire).as_deref(), Some(&b"early"[..]));
}

/// The origin's end ends the client's side.
#[test]
fn an_origin_that_ends_the_tunnel_is_heard() {
    let origin = Origin::script(|mut peer| {
        if peer.head().is_some() {
            peer.send(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nbye",
            );
        }
    });
    let gateway = gateway(&origin);
    let mut client = Client::sending(gateway.address(), handshake("/ws"));
    assert_eq!(client.head().status, 101);
    assert_eq!(client.read_to_close(), b"bye");
}

#[test]
fn without_the_option_it_is_plain_http() {
    let origin = websocket::echo_origin();
    let gateway = gateway(&origin);
    let mut client = Client::sending(gateway.address(), handshake("/plain"));
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (200, "no upgrade"));
    assert!(!origin.last().fields.has("upgrade"));
}

/// An origin that declines answers plainly, and the connection serves on.
#[test]
fn a_declined_upgrade_is_a_plain_answer() {
    let origin = Origin::each(|_| ok("declined"));
    let gateway = gateway(&origin);
    let mut client = Client::sending(gateway.address(), handshake("/ws"));
    assert_eq!(client.response().text(), "declined");
    client.send("GET /plain HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "declined");
}
