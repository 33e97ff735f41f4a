//! The origin behind every proxy: cheap, and strict about what reaches it.
//!
//! Answers are made once per path and shared, so that a request costs a lookup and a send. A request body that is not
//! what the generator sent is answered with 400, which the generator counts as an error: a proxy that damages uploads
//! is found as surely as one that damages downloads. Slow answers wait in a heap, not in a thread.
//!
//! It may listen in several places, each with a delay of its own: several origins, of which one is slow. It counts what
//! each gets and says so at [`wire::COUNTS`]; the client cannot tell, since a slow try that lost has no answer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::ring::{Event, LaneId, Ring};
use crate::wire::{self, Asked};

/// Room for what a connection has received and not yet read.
const INPUT_BYTES: usize = 64 * 1024;
/// Said on standard output once every place listens.
pub const READY: &str = "ready";
/// Pages of counts that it makes: each is leaked, and the harness asks for two.
const COUNT_PAGES_MAX: usize = 1024;
/// Answers kept ready; more different paths than the harness ever asks for.
const ANSWERS_MAX: usize = 4096;

const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
const BAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Where a connection is in its request.
#[derive(Clone, Copy)]
enum Stage {
    Head,
    Body { asked: Option<Asked>, left: u64, offset: u64, close: bool },
    Waiting { answer: &'static [u8], close: bool },
    Answering { close: bool },
}

struct Connection {
    stage: Stage,
    /// Tells a connection from a later one in the same lane, for the slow answers.
    number: u64,
    /// Which listener it came by.
    listener: usize,
}

/// Where the origin listens, and how long every answer takes there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Where.
    pub address: SocketAddr,
    /// Delay of every answer, in milliseconds.
    pub delay_millis: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.delay_millis)
    }
}

impl FromStr for Place {
    type Err = String;

    /// Reads `127.0.0.1:80`, or `127.0.0.1:80/500` with a delay in milliseconds.
    fn from_str(text: &str) -> Result<Place, String> {
        let (address, delay) = text.split_once('/').unwrap_or((text, "0"));
        let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
        let delay_millis = delay.parse().map_err(|error| format!("{delay}: {error}"))?;
        if delay_millis > wire::DELAY_MILLIS_MAX {
            return Err(format!("{delay}: at most {} ms", wire::DELAY_MILLIS_MAX));
        }
        Ok(Place { address, delay_millis })
    }
}

struct Listener {
    lane: LaneId,
    delay_millis: u32,
    requests: u64,
}

struct Origin {
    ring: Ring,
    listeners: Vec<Listener>,
    connections: Vec<Option<Connection>>,
    answers: HashMap<(u64, u32, bool), &'static [u8]>,
    delayed: BinaryHeap<Reverse<(Instant, LaneId, u64)>>,
    opened: u64,
    count_pages: usize,
}

/// Serves at all of `places` until the process ends; says [`READY`] once it listens in all of them.
///
/// # Errors
///
/// When an address cannot be bound or io_uring is missing.
pub fn serve(places: &[Place]) -> io::Result<()> {
    let mut ring = Ring::new()?;
    let mut listeners = Vec::new();
    for place in places {
        let lane = ring.open(listen(place.address)?, 0);
        ring.accept(lane);
        listeners.push(Listener { lane, delay_millis: place.delay_millis, requests: 0 });
    }
    println!("{READY}");
    let mut origin = Origin {
        ring,
        listeners,
        connections: Vec::new(),
        answers: HashMap::new(),
        delayed: BinaryHeap::new(),
        opened: 0,
        count_pages: 0,
    };
    let mut events = Vec::with_capacity(1024);
    loop {
        let until = origin.delayed.peek().map(|Reverse((at, ..))| *at);
        origin.ring.wait(until, &mut events)?;
        for event in events.drain(..) {
            origin.on_event(event);
        }
        origin.answer_delayed();
    }
}

/// A listening socket with a deep backlog and `TCP_NODELAY`, which accepted connections inherit.
///
/// # Errors
///
/// As bind(2) and listen(2).
pub fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket)
}

impl Origin {
    fn on_event(&mut self, event: Event) {
        match event {
            Event::Accepted(listener, descriptor) => {
                let listener = self.listeners.iter().position(|known| known.lane == listener);
                let listener = listener.expect("listeners alone accept");
                let lane = self.ring.open(Socket::from(descriptor), INPUT_BYTES);
                if self.connections.len() <= lane {
                    self.connections.resize_with(lane + 1, || None);
                }
                self.opened += 1;
                self.connections[lane] =
                    Some(Connection { stage: Stage::Head, number: self.opened, listener });
                self.ring.recv(lane);
            }
            Event::Received(lane, 0) | Event::Failed(lane) => self.close(lane),
            Event::Received(lane, _) => self.proceed(lane),
            Event::Sent(lane) => self.on_sent(lane),
            Event::Connected(_) => {}
        }
    }

    fn close(&mut self, lane: LaneId) {
        if let Some(connection) = self.connections.get_mut(lane) {
            *connection = None;
        }
        self.ring.close(lane);
    }

    fn on_sent(&mut self, lane: LaneId) {
        let Some(connection) = self.connections[lane].as_mut() else { return };
        let Stage::Answering { close } = connection.stage else { return };
        if close {
            return self.close(lane);
        }
        connection.stage = Stage::Head;
        // A receive is on its way unless the next request was here before this answer had left.
        if !self.ring.receiving(lane) {
            self.proceed(lane);
        }
    }

    /// Reads as much of the input as there is.
    fn proceed(&mut self, lane: LaneId) {
        loop {
            let Some(connection) = self.connections[lane].as_mut() else { return };
            match connection.stage {
                Stage::Waiting { .. } | Stage::Answering { .. } => return,
                Stage::Head => {
                    let input = self.ring.input(lane);
                    match wire::scan_head(input) {
                        Err(_) => return self.answer(lane, BAD, true),
                        Ok(None) => return self.receive(lane),
                        Ok(Some(seen)) if seen.coded => return self.answer(lane, BAD, true),
                        Ok(Some(seen)) => {
                            let target = input.split(|byte| *byte == b' ').nth(1);
                            if target == Some(wire::COUNTS.as_bytes()) {
                                let page = self.counts();
                                return self.answer(lane, page, true);
                            }
                            let asked = target.and_then(wire::parse_target);
                            let left = seen.content_length.unwrap_or(0);
                            connection.stage = Stage::Body { asked, left, offset: 0, close: seen.close };
                            self.ring.consume(lane, seen.head_bytes);
                        }
                    }
                }
                Stage::Body { asked, left: 0, close, .. } => return self.respond(lane, asked, close),
                Stage::Body { asked, left, offset, close } => {
                    let input = self.ring.input(lane);
                    let count = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    if count == 0 {
                        return self.receive(lane);
                    }
                    if !asked.is_some_and(|asked| wire::matches(asked.variant, offset, &input[..count])) {
                        return self.answer(lane, BAD, true);
                    }
                    let count_bytes = count as u64;
                    connection.stage =
                        Stage::Body { asked, left: left - count_bytes, offset: offset + count_bytes, close };
                    self.ring.consume(lane, count);
                }
            }
        }
    }

    /// Asks for more, unless that is on its way: an event of this turn may have read ahead of another one.
    fn receive(&mut self, lane: LaneId) {
        if !self.ring.receiving(lane) {
            self.ring.recv(lane);
        }
    }

    fn respond(&mut self, lane: LaneId, asked: Option<Asked>, close: bool) {
        let Some(asked) = asked else { return self.answer(lane, NOT_FOUND, close) };
        let Some(answer) = self.prepared(asked, close) else { return self.answer(lane, BAD, true) };
        let connection = self.connections[lane].as_mut().expect("it has just asked");
        let listener = &mut self.listeners[connection.listener];
        listener.requests += 1;
        let delay = Duration::from_millis(u64::from(asked.slow_millis) + u64::from(listener.delay_millis));
        if delay.is_zero() {
            return self.answer(lane, answer, close);
        }
        let at = Instant::now() + delay;
        connection.stage = Stage::Waiting { answer, close };
        self.delayed.push(Reverse((at, lane, connection.number)));
        if !self.ring.full(lane) {
            self.receive(lane); // so that a client that leaves is seen
        }
    }

    fn answer(&mut self, lane: LaneId, answer: &'static [u8], close: bool) {
        let connection = self.connections[lane].as_mut().expect("an open connection");
        connection.stage = Stage::Answering { close };
        self.ring.send(lane, answer);
        // The next request's receive goes out in the same submission.
        if !close && self.ring.input(lane).is_empty() {
            self.receive(lane);
        }
    }

    fn answer_delayed(&mut self) {
        if self.delayed.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(Reverse((at, lane, number))) = self.delayed.peek().copied() {
            if at > now {
                return;
            }
            self.delayed.pop();
            let Some(connection) = self.connections[lane].as_ref() else { continue };
            if let (Stage::Waiting { answer, close }, true) = (connection.stage, connection.number == number)
            {
                self.answer(lane, answer, close);
            }
        }
    }

    /// How many requests each listener has got, a line each.
    fn counts(&mut self) -> &'static [u8] {
        if self.count_pages >= COUNT_PAGES_MAX {
            return BAD;
        }
        self.count_pages += 1;
        let body: String = self.listeners.iter().map(|listener| format!("{}\n", listener.requests)).collect();
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        head.into_bytes().leak()
    }

    /// The answer's bytes, made on the first asking. `None` past [`ANSWERS_MAX`].
    fn prepared(&mut self, asked: Asked, close: bool) -> Option<&'static [u8]> {
        let key = (asked.bytes, asked.variant, close);
        if let Some(answer) = self.answers.get(&key) {
            return Some(answer);
        }
        if self.answers.len() >= ANSWERS_MAX {
            return None;
        }
        let close = if close { "Connection: close\r\n" } else { "" };
        // A fixed date: a proxy passes it on or writes its own, and the origin saves the clock.
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Tue, 24 Nov 2026 00:00:00 GMT\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: {}\r\n{close}\r\n",
            asked.bytes
        )
        .into_bytes();
        wire::write_body(asked.variant, asked.bytes, &mut answer);
        let answer: &'static [u8] = answer.leak();
        self.answers.insert(key, answer);
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let check = |text: &str, expected: Option<(&str, u32)>| {
            let expected = expected.map(|(address, delay_millis)| {
                let address = address.parse().expect("an address");
                Place { address, delay_millis }
            });
            let got = text.parse::<Place>().ok();
            assert_eq!(got, expected, "{text}");
            assert!(got.is_none_or(|place| place.to_string().parse() == Ok(place)), "{text}");
        };
        check("127.0.0.1:80", Some(("127.0.0.1:80", 0)));
        check("127.0.0.1:80/500", Some(("127.0.0.1:80", 500)));
        check("[::1]:80/1", Some(("[::1]:80", 1)));
        check("127.0.0.1:80/", None);
        check("127.0.0.1:80/60001", None); // longer than any answer may take
        check("127.0.0.1/5", None);
    }
}
