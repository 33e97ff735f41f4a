//! As much of RFC 6455 as a tunnel test needs: the handshake and small masked frames.
//!
//! The accept key is fixed with its question (section 1.3 gives both), so no hash is needed here.

use crate::origin::{Origin, Peer};
use crate::wire::Wire;
use crate::Client;
use std::net::SocketAddr;

/// The example key of RFC 6455 section 1.3 ...
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// ... and the answer to it.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A handshake request for `path`.
pub fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gateway.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// An origin that accepts every handshake and echoes every frame, unmasked.
pub fn echo_origin() -> Origin {
    Origin::script(|mut peer: Peer| {
        let Some(request) = peer.head() else { return };
        if request.fields.get("upgrade").is_none() {
            let _ = peer.try_send(&crate::ok("no upgrade"));
            return;
        }
        peer.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        ));
        while let Some(payload) = read_frame(&mut peer) {
            if peer.try_send(&frame(&payload, None)).is_err() {
                return;
            }
        }
    })
}

/// Opens a WebSocket through the gateway.
///
/// # Panics
///
/// When the handshake is not answered with 101.
pub fn open(address: SocketAddr, path: &str) -> Wire {
    let mut client = Client::sending(address, handshake(path));
    let head = client.head();
    assert_eq!(head.status, 101, "{}", String::from_utf8_lossy(&head.raw_head));
    assert_eq!(head.get("sec-websocket-accept"), Some(ACCEPT));
    client.into_wire()
}

/// Sends `text` and expects it back.
///
/// # Panics
///
/// When something else comes back.
pub fn echo(wire: &mut Wire, text: &[u8]) {
    wire.send(frame(text, Some([1, 2, 3, 4])));
    assert_eq!(read_frame(wire).as_deref(), Some(text));
}

/// One binary frame.
pub fn frame(payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![0x82];
    match payload.len() {
        0..=125 => bytes.push(mask_bit | payload.len() as u8),
        126..=0xFFFF => {
            bytes.push(mask_bit | 126);
            bytes.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    match mask {
        None => bytes.extend_from_slice(payload),
        Some(key) => {
            bytes.extend_from_slice(&key);
            bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
    }
    bytes
}

/// Reads one frame; `None` at the end of the connection.
pub fn read_frame(wire: &mut Wire) -> Option<Vec<u8>> {
    let start = take(wire, 2)?;
    let length = match start[1] & 0x7F {
        126 => u16::from_be_bytes(take(wire, 2)?.try_into().ok()?) as usize,
        127 => u64::from_be_bytes(take(wire, 8)?.try_into().ok()?) as usize,
        short => short as usize,
    };
    let mask = if start[1] & 0x80 == 0 { vec![0; 4] } else { take(wire, 4)? };
    let payload = take(wire, length)?;
    Some(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect())
}

fn take(wire: &mut Wire, count: usize) -> Option<Vec<u8>> {
    while wire.buffer.len() < count {
        if wire.fill().ok()? == 0 {
            return None;
        }
    }
    Some(wire.buffer.drain(..count).collect())
}
