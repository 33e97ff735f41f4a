//! An origin in a process of its own, to be killed, stopped and started again where it was.
//!
//! `named-origin ADDRESS NAME`: prints its address, answers every request with its name; `/sleep/MILLIS` after that time.
//! It keeps nothing of what it saw, so that it can be under load for long.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use tests::origin::ok;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(name)) = (arguments.next(), arguments.next()) else {
        panic!("usage: named-origin ADDRESS NAME");
    };
    let listener = TcpListener::bind(address).expect("the address is free");
    let mut out = std::io::stdout();
    let bound = listener.local_addr().expect("bound");
    writeln!(out, "{bound}").and_then(|()| out.flush()).expect("someone reads our address");
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let name = name.clone();
        std::thread::spawn(move || serve(stream, &name));
    }
}

fn serve(mut stream: TcpStream, name: &str) {
    let _ = stream.set_nodelay(true);
    let answer = ok(name);
    let mut got = Vec::new();
    let mut part = [0; 8192];
    loop {
        while let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&got[..end]).into_owned();
            let length = length(&head);
            if got.len() < end + 4 + length {
                break;
            }
            got.drain(..end + 4 + length);
            let target = head.split(' ').nth(1).unwrap_or_default();
            if let Some(millis) = target.strip_prefix("/sleep/").and_then(|millis| millis.parse().ok()) {
                tests::wait::pace(Duration::from_millis(millis));
            }
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
        match stream.read(&mut part) {
            Ok(count) if count > 0 => got.extend_from_slice(&part[..count]),
            _ => return,
        }
    }
}

fn length(head: &str) -> usize {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    found.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}
