//! An origin in a process of its own, to be killed and stopped: prints its address, serves until its end.
//!
//! `/fixed` and `/chunked` send the pattern without end (a terabyte is announced), everything else is `small`.
#![forbid(unsafe_code)]

use std::io::Write;
use tests::origin::{ok, Peer};
use tests::{pattern, Origin};

fn main() {
    let origin = Origin::script(serve);
    let mut out = std::io::stdout();
    writeln!(out, "{origin}").and_then(|()| out.flush()).expect("someone reads our address");
    loop {
        std::thread::park();
    }
}

fn serve(mut peer: Peer) {
    while let Some(request) = peer.request() {
        let sent = match request.target.as_str() {
            "/fixed" => endless(&mut peer, "content-length: 1000000000000", false),
            "/chunked" => endless(&mut peer, "transfer-encoding: chunked", true),
            _ => peer.try_send(&ok("small")),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn endless(peer: &mut Peer, field: &str, chunked: bool) -> std::io::Result<()> {
    peer.try_send(format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n").as_bytes())?;
    let mut offset = 0;
    loop {
        let piece = pattern::piece(offset, 30_000);
        offset += piece.len() as u64;
        if chunked {
            peer.try_send(format!("{:x}\r\n", piece.len()).as_bytes())?;
        }
        peer.try_send(piece)?;
        if chunked {
            peer.try_send(b"\r\n")?;
        }
    }
}
