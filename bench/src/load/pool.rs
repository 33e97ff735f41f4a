//! The generator's connections: send a request, take the answer apart, check every byte of it.
//!
//! It knows nothing of rates, windows and phases (that is `load::drive`): it is told when to connect and what to
//! fire, and says what came of it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use socket2::{Domain, Protocol, Socket, Type};

use crate::ring::{Event, LaneId, Ring};
use crate::wire::{self, Request, Seen};

/// Connections that share one source address before the next 127.0.0.x is taken.
const CONNECTIONS_PER_SOURCE: usize = 20_000;

/// Why an exchange failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Failure {
    /// No connection.
    Connect,
    /// The connection broke, or ended before the answer did.
    Broken,
    /// The answer's head could not be read, or it has no length.
    Head,
    /// Another status than 200.
    Status(u16),
    /// Another length than asked for, or more bytes than announced.
    Length,
    /// Other bytes than asked for.
    Content,
}

/// What happened in one turn.
#[derive(Debug)]
pub enum Outcome {
    /// This connection can be used.
    Connected(usize),
    /// The answer was whole and right.
    Completed(Completed),
    /// It was not; the connection is closed.
    Failed(usize, Failure),
}

/// A right answer.
#[derive(Debug)]
pub struct Completed {
    /// Which connection.
    pub connection: usize,
    /// When the request was meant to leave.
    pub intended: Instant,
    /// Whether it was one of the slow ones.
    pub slow: bool,
    /// Bytes of bodies moved, both ways.
    pub body_bytes: u64,
}

#[derive(Clone, Copy)]
enum Stage {
    Closed,
    Connecting,
    Idle,
    Head,
    Body {
        offset: u64,
    },
    /// The answer is whole; the server has to close.
    End,
}

struct Connection {
    lane: LaneId,
    stage: Stage,
    request: Request,
    intended: Instant,
}

/// All connections of a run.
pub struct Pool {
    ring: Ring,
    target: SocketAddr,
    connections: Vec<Connection>,
    /// Which connection a lane belongs to.
    owners: Vec<usize>,
    requests: Vec<Request>,
    next: usize,
    /// Whether each exchange ends its connection.
    close: bool,
    input_bytes: usize,
    events: Vec<Event>,
}

impl Pool {
    /// A pool of `count` connections, none of them made yet.
    ///
    /// # Errors
    ///
    /// When io_uring is missing.
    pub fn new(target: SocketAddr, count: usize, requests: Vec<Request>, close: bool) -> io::Result<Pool> {
        let first = requests[0];
        let largest = requests.iter().map(|request| request.answer_bytes).max().unwrap_or(0);
        let connections = (0..count)
            .map(|_| Connection { lane: 0, stage: Stage::Closed, request: first, intended: Instant::now() })
            .collect();
        // A small answer with its head in one read; a large one in pieces that stay in the core's cache.
        let input_bytes = if largest <= 8 * 1024 { 16 * 1024 } else { 128 * 1024 };
        Ok(Pool {
            ring: Ring::new()?,
            target,
            connections,
            owners: Vec::new(),
            requests,
            next: 0,
            close,
            input_bytes,
            events: Vec::with_capacity(1024),
        })
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// How many connections wait for an answer.
    pub fn busy(&self) -> usize {
        let busy = |connection: &&Connection| {
            matches!(connection.stage, Stage::Head | Stage::Body { .. } | Stage::End | Stage::Connecting)
        };
        self.connections.iter().filter(busy).count()
    }

    /// Starts to connect.
    ///
    /// # Errors
    ///
    /// When no socket can be made (descriptors ran out).
    pub fn connect(&mut self, index: usize) -> io::Result<()> {
        let socket =
            Socket::new(Domain::for_address(self.target), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if self.connections.len() > CONNECTIONS_PER_SOURCE && self.target.ip().is_loopback() {
            let source = Ipv4Addr::new(127, 0, 0, 2 + (index / CONNECTIONS_PER_SOURCE) as u8);
            socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
        }
        let lane = self.ring.open(socket, self.input_bytes);
        if self.owners.len() <= lane {
            self.owners.resize(lane + 1, 0);
        }
        self.owners[lane] = index;
        self.connections[index].lane = lane;
        self.connections[index].stage = Stage::Connecting;
        self.ring.connect(lane, self.target.into());
        Ok(())
    }

    /// Sends the next request on an idle connection; its latency counts from `intended`.
    pub fn fire(&mut self, index: usize, intended: Instant) {
        let request = self.requests[self.next];
        self.next = (self.next + 1) % self.requests.len();
        let connection = &mut self.connections[index];
        debug_assert!(matches!(connection.stage, Stage::Idle), "fired on a connection in use");
        connection.request = request;
        connection.intended = intended;
        connection.stage = Stage::Head;
        self.ring.send(connection.lane, request.bytes);
        // The answer's receive goes out in the same submission.
        self.ring.recv(connection.lane);
    }

    /// Waits for something to happen, at most until `until`.
    ///
    /// # Errors
    ///
    /// When the ring fails.
    pub fn turn(&mut self, until: Option<Instant>, outcomes: &mut Vec<Outcome>) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        self.ring.wait(until, &mut events)?;
        for event in events.drain(..) {
            if let Some(outcome) = self.on_event(event) {
                if let Outcome::Failed(index, _) = outcome {
                    self.end(index);
                }
                outcomes.push(outcome);
            }
        }
        self.events = events;
        Ok(())
    }

    fn end(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !matches!(connection.stage, Stage::Closed) {
            connection.stage = Stage::Closed;
            self.ring.close(connection.lane);
        }
    }

    fn on_event(&mut self, event: Event) -> Option<Outcome> {
        match event {
            Event::Accepted(..) => None,
            Event::Connected(lane) => {
                let index = self.owners[lane];
                self.connections[index].stage = Stage::Idle;
                Some(Outcome::Connected(index))
            }
            Event::Failed(lane) => {
                let index = self.owners[lane];
                let failure = match self.connections[index].stage {
                    Stage::Closed => return None,
                    Stage::Connecting => Failure::Connect,
                    _ => Failure::Broken,
                };
                Some(Outcome::Failed(index, failure))
            }
            Event::Received(lane, count) => {
                let index = self.owners[lane];
                self.read(index, count).unwrap_or_else(|failure| Some(Outcome::Failed(index, failure)))
            }
            Event::Sent(lane) => {
                // An answer that came before the request had left waits for it in `finish`.
                let index = self.owners[lane];
                matches!(self.connections[index].stage, Stage::Body { offset } if offset == self.connections[index].request.answer_bytes)
                    .then(|| self.finish(index))
                    .and_then(|finished| finished.unwrap_or_else(|failure| Some(Outcome::Failed(index, failure))))
            }
        }
    }

    /// Takes what was received on a connection.
    fn read(&mut self, index: usize, count: usize) -> Result<Option<Outcome>, Failure> {
        let Connection { lane, stage, request, .. } = self.connections[index];
        if matches!(stage, Stage::Closed) {
            return Ok(None);
        }
        if count == 0 {
            return match stage {
                Stage::End => Ok(Some(self.completed(index))),
                _ => Err(Failure::Broken),
            };
        }
        let offset = match stage {
            Stage::Head => {
                let input = self.ring.input(lane);
                let Some(seen) = wire::scan_head(input).map_err(|_| Failure::Head)? else {
                    self.ring.recv(lane);
                    return Ok(None);
                };
                check_head(input, &seen, &request)?;
                self.ring.consume(lane, seen.head_bytes);
                0
            }
            Stage::Body { offset } => offset,
            _ => return Err(Failure::Length),
        };
        let input = self.ring.input(lane);
        let offset_after = offset + input.len() as u64;
        if offset_after > request.answer_bytes {
            return Err(Failure::Length);
        }
        if !wire::matches(request.variant, offset, input) {
            return Err(Failure::Content);
        }
        let length = input.len();
        self.ring.consume(lane, length);
        self.connections[index].stage = Stage::Body { offset: offset_after };
        if offset_after == request.answer_bytes {
            return self.finish(index);
        }
        self.ring.recv(lane);
        Ok(None)
    }

    fn finish(&mut self, index: usize) -> Result<Option<Outcome>, Failure> {
        let lane = self.connections[index].lane;
        if self.ring.sending(lane) {
            return Ok(None); // the completion of the send is in the same batch or the next
        }
        if self.close {
            self.connections[index].stage = Stage::End;
            self.ring.recv(lane);
            return Ok(None);
        }
        Ok(Some(self.completed(index)))
    }

    fn completed(&mut self, index: usize) -> Outcome {
        if self.close {
            self.end(index);
        } else {
            self.connections[index].stage = Stage::Idle;
        }
        let Connection { request, intended, .. } = self.connections[index];
        Outcome::Completed(Completed {
            connection: index,
            intended,
            slow: request.slow,
            body_bytes: request.body_bytes,
        })
    }
}

fn check_head(input: &[u8], seen: &Seen, request: &Request) -> Result<(), Failure> {
    if !input.starts_with(b"HTTP/1.1 ") {
        return Err(Failure::Head);
    }
    if !input.starts_with(b"HTTP/1.1 200") {
        let digits = input[9..].iter().take_while(|byte| byte.is_ascii_digit()).take(3);
        return Err(Failure::Status(digits.fold(0, |status, digit| status * 10 + u16::from(digit - b'0'))));
    }
    match seen.content_length {
        _ if seen.coded => Err(Failure::Head),
        None => Err(Failure::Head),
        Some(length) if length != request.answer_bytes => Err(Failure::Length),
        Some(_) => Ok(()),
    }
}
