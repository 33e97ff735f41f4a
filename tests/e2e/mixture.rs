//! Random exchanges over kept connections: any framing, size and cut of the bytes on either side, content verified.
//!
//! `RINGWAY_SEED` repeats a run; a failure prints it.

use std::time::{SystemTime, UNIX_EPOCH};
use tests::gateway::scaled;
use tests::origin::{chunks, ok, Peer};
use tests::{pattern, Client, Gateway, Origin};

/// xorshift64*: enough for sizes and cuts.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    /// Sizes around the buffers' edges, and anything else.
    fn size(&mut self) -> usize {
        const EDGES: [u64; 9] = [0, 1, 100, 4096, 16_384, 16_500, 65_536, 70_000, 200_000];
        let edge = EDGES[self.below(EDGES.len() as u64) as usize];
        (edge + self.below(40)).saturating_sub(self.below(40)) as usize
    }
}

fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |elapsed| elapsed.as_nanos() as u64);
    std::env::var("RINGWAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(now) | 1
}

/// Sends bytes in pieces of random length; some runs byte by byte at the start, where the heads are.
fn send_cut(random: &mut Random, bytes: &[u8], mut send: impl FnMut(&[u8]) -> bool) -> bool {
    let mut rest = bytes;
    let fine = random.below(8) == 0;
    while !rest.is_empty() {
        let most = if fine && bytes.len() - rest.len() < 300 { 3 } else { 40_000 };
        let length = (1 + random.below(most) as usize).min(rest.len());
        let (now, later) = rest.split_at(length);
        if !send(now) {
            return false;
        }
        rest = later;
    }
    true
}

/// `/FRAMING/SIZE/SEED`: answers with so many bytes of the pattern, framed and cut so, and tells the body it got.
fn serve(mut peer: Peer) {
    while let Some(request) = peer.request() {
        assert_eq!(request.body, pattern::bytes(request.body.len()), "{}", request.target);
        let parts: Vec<&str> = request.target.trim_start_matches('/').split('/').collect();
        let size: usize = parts[1].parse().expect("a size");
        let mut random = Random(parts[2].parse::<u64>().expect("a seed") | 1);
        let body = pattern::bytes(size);
        let got = request.body.len();
        let mut bytes = Vec::new();
        match parts[0] {
            "chunked" => {
                bytes.extend_from_slice(
                    format!("HTTP/1.1 200 OK\r\nx-got: {got}\r\ntransfer-encoding: chunked\r\n\r\n")
                        .as_bytes(),
                );
                bytes.extend_from_slice(&chunks(&body, 1 + random.below(30_000) as usize));
            }
            "close" => {
                bytes.extend_from_slice(
                    format!("HTTP/1.1 200 OK\r\nx-got: {got}\r\nconnection: close\r\n\r\n").as_bytes(),
                );
                bytes.extend_from_slice(&body);
            }
            _ => {
                let fixed = ok(&body);
                bytes.extend_from_slice(format!("HTTP/1.1 200 OK\r\nx-got: {got}\r\n").as_bytes());
                bytes.extend_from_slice(&fixed["HTTP/1.1 200 OK\r\n".len()..]);
            }
        }
        if request.method == "HEAD" {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
            bytes.truncate(end);
        }
        if !send_cut(&mut random, &bytes, |piece| peer.try_send(piece).is_ok()) || parts[0] == "close" {
            return;
        }
    }
}

fn exchange(random: &mut Random, client: &mut Client) {
    let framing = ["fixed", "chunked", "close"][random.below(3) as usize];
    let method = ["GET", "POST", "PUT", "HEAD"][random.below(4) as usize];
    let (up, down) = (random.size(), random.size());
    let target = format!("/{framing}/{down}/{}", random.next() >> 1);
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n").into_bytes();
    let sent = match (method, random.below(2)) {
        ("GET" | "HEAD", _) => {
            bytes.extend_from_slice(b"\r\n");
            0
        }
        (_, 0) => {
            bytes.extend_from_slice(format!("Content-Length: {up}\r\n\r\n").as_bytes());
            bytes.extend_from_slice(&pattern::bytes(up));
            up
        }
        _ => {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            bytes.extend_from_slice(&chunks(&pattern::bytes(up), 1 + random.below(30_000) as usize));
            up
        }
    };
    send_cut(random, &bytes, |piece| {
        client.send(piece);
        true
    });
    let response = client.response_to(method);
    assert_eq!(response.status, 200, "{method} {target}");
    assert_eq!(response.get("x-got"), Some(sent.to_string().as_str()), "{method} {target}");
    let wanted = if method == "HEAD" { 0 } else { down };
    assert_eq!(response.body.len(), wanted, "{method} {target}");
    assert!(response.body == pattern::bytes(wanted), "{method} {target}: wrong bytes");
}

#[test]
fn any_mixture_of_exchanges_is_in_step() {
    let seed = seed();
    println!("RINGWAY_SEED={seed}");
    let origin = Origin::script(serve);
    let gateway = Gateway::before(&[origin.address()]);
    let address = gateway.address();
    let count = scaled(8000) / 4;
    let threads: Vec<_> = (1..=4)
        .map(|number| {
            std::thread::spawn(move || {
                let mut random = Random(seed.wrapping_mul(number) | 1);
                let mut client = Client::connect(address);
                for _ in 0..count {
                    exchange(&mut random, &mut client);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("all in step");
    }
}
