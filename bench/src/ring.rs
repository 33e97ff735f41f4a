//! The harness's own io_uring: lanes (one socket each) with buffers that outlive the kernel's use of them.
//!
//! Apart from the gateway's runtime on purpose: a bug of monoio or of ours must not flatter us, and the wait for
//! the next completion can end at an exact instant, which an open-loop generator needs (monoio's timers tick in
//! milliseconds). What is sent is always `'static`: requests and responses are made once and shared by all lanes.
//! This is the only file of the harness with `unsafe` in it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use io_uring::{cqueue, opcode, squeue, types, IoUring};
use socket2::{SockAddr, Socket};

/// Which socket of a ring.
pub type LaneId = usize;

/// Size of the submission queue; the completion queue has four times as many places.
const ENTRIES: u32 = 4096;
/// How long dropping a ring waits for the kernel to let go of its buffers.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

const RECV: u64 = 0;
const SEND: u64 = 1;
const CONNECT: u64 = 2;
const ACCEPT: u64 = 3;

/// Something that has ended.
#[derive(Debug)]
pub enum Event {
    /// The connection stands.
    Connected(LaneId),
    /// Everything given to `send` left.
    Sent(LaneId),
    /// So many more bytes lie in the lane's input; 0 is the end of the stream.
    Received(LaneId, usize),
    /// An operation of this lane failed.
    Failed(LaneId),
    /// This listener got a connection.
    Accepted(LaneId, OwnedFd),
}

struct Lane {
    socket: Option<Socket>,
    address: Option<Box<SockAddr>>,
    input: Box<[u8]>,
    filled: usize,
    output: &'static [u8],
    receiving: bool,
    sending: bool,
    connecting: bool,
    accepting: bool,
    closing: bool,
}

impl Lane {
    fn busy(&self) -> bool {
        self.receiving || self.sending || self.connecting || self.accepting
    }
}

/// A ring and its lanes, used on one thread.
pub struct Ring {
    uring: IoUring,
    lanes: Vec<Lane>,
    free: Vec<LaneId>,
    /// Let go of in this turn: their places are used again from the next one on, since events of theirs may still be
    /// in the caller's hands.
    released: Vec<LaneId>,
    in_flight: usize,
}

impl Ring {
    /// The best ring that the kernel gives: single issuer with deferred task work, else a plain one.
    ///
    /// # Errors
    ///
    /// When io_uring is missing or forbidden.
    pub fn new() -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_submit_all().setup_cqsize(ENTRIES * 4);
        let mut best = builder.clone();
        best.setup_single_issuer().setup_defer_taskrun();
        let uring = best.build(ENTRIES).or_else(|_| builder.build(ENTRIES))?;
        Ok(Ring { uring, lanes: Vec::new(), free: Vec::new(), released: Vec::new(), in_flight: 0 })
    }

    /// Takes a socket in, with room for `input_bytes` received bytes.
    pub fn open(&mut self, socket: Socket, input_bytes: usize) -> LaneId {
        let lane = self.free.pop().unwrap_or_else(|| {
            self.lanes.push(Lane {
                socket: None,
                address: None,
                input: Box::default(),
                filled: 0,
                output: &[],
                receiving: false,
                sending: false,
                connecting: false,
                accepting: false,
                closing: false,
            });
            self.lanes.len() - 1
        });
        let place = &mut self.lanes[lane];
        if place.input.len() != input_bytes {
            place.input = vec![0; input_bytes].into_boxed_slice();
        }
        place.socket = Some(socket);
        place.filled = 0;
        place.closing = false;
        lane
    }

    /// Starts to connect; ends in `Connected` or `Failed`.
    pub fn connect(&mut self, lane: LaneId, address: SockAddr) {
        let place = &mut self.lanes[lane];
        assert!(!place.busy() && !place.closing, "a lane connects once, before anything else");
        place.connecting = true;
        let address = place.address.insert(Box::new(address));
        let entry = opcode::Connect::new(
            fd(place.socket.as_ref().expect("open lane")),
            address.as_ptr().cast(),
            address.len(),
        )
        .build();
        self.push(lane, CONNECT, entry);
    }

    /// Accepts for as long as the lane is open; every connection is an `Accepted`.
    pub fn accept(&mut self, lane: LaneId) {
        let place = &mut self.lanes[lane];
        place.accepting = true;
        let socket = fd(place.socket.as_ref().expect("open lane"));
        self.push(lane, ACCEPT, opcode::AcceptMulti::new(socket).flags(libc::SOCK_CLOEXEC).build());
    }

    /// Sends all of `bytes`; ends in `Sent` or `Failed`.
    pub fn send(&mut self, lane: LaneId, bytes: &'static [u8]) {
        let place = &mut self.lanes[lane];
        assert!(!place.sending && !place.closing, "one send at a time, on an open lane");
        place.sending = true;
        place.output = bytes;
        self.push_send(lane);
    }

    fn push_send(&mut self, lane: LaneId) {
        let place = &self.lanes[lane];
        let socket = fd(place.socket.as_ref().expect("open lane"));
        let bytes = place.output;
        let entry = opcode::Send::new(socket, bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.push(lane, SEND, entry);
    }

    /// Receives what comes next, behind what lies in the input already; ends in `Received` or `Failed`.
    pub fn recv(&mut self, lane: LaneId) {
        let place = &mut self.lanes[lane];
        assert!(!place.receiving && !place.closing, "one receive at a time, on an open lane");
        assert!(place.filled < place.input.len(), "a receive needs room, or it looks like the end");
        place.receiving = true;
        let room = &mut place.input[place.filled..];
        let (start, length) = (room.as_mut_ptr(), room.len() as u32);
        let socket = fd(place.socket.as_ref().expect("open lane"));
        self.push(lane, RECV, opcode::Recv::new(socket, start, length).build());
    }

    /// Whether a send is on its way.
    pub fn sending(&self, lane: LaneId) -> bool {
        self.lanes[lane].sending
    }

    /// Whether a receive is on its way.
    pub fn receiving(&self, lane: LaneId) -> bool {
        self.lanes[lane].receiving
    }

    /// The bytes received and not consumed yet.
    pub fn input(&self, lane: LaneId) -> &[u8] {
        let place = &self.lanes[lane];
        &place.input[..place.filled]
    }

    /// Whether the input has no room left.
    pub fn full(&self, lane: LaneId) -> bool {
        self.lanes[lane].filled == self.lanes[lane].input.len()
    }

    /// Forgets the first `count` bytes of the input.
    pub fn consume(&mut self, lane: LaneId, count: usize) {
        let place = &mut self.lanes[lane];
        assert!(!place.receiving, "the kernel writes behind these bytes");
        place.input.copy_within(count..place.filled, 0);
        place.filled -= count;
    }

    /// Ends a lane; no event of it comes any more, and its place is used again once the kernel let go of it.
    pub fn close(&mut self, lane: LaneId) {
        let place = &mut self.lanes[lane];
        if place.closing || place.socket.is_none() {
            return;
        }
        place.closing = true;
        if place.busy() {
            let _ = place.socket.as_ref().expect("open lane").shutdown(std::net::Shutdown::Both);
        } else {
            self.release(lane);
        }
    }

    fn release(&mut self, lane: LaneId) {
        let place = &mut self.lanes[lane];
        place.socket = None;
        place.filled = 0;
        self.released.push(lane);
    }

    /// Submits what was asked for and waits for at least one completion, at most until `until`.
    ///
    /// # Errors
    ///
    /// What `io_uring_enter` refuses; a time that ran out is none.
    pub fn wait(&mut self, until: Option<Instant>, events: &mut Vec<Event>) -> io::Result<()> {
        self.free.append(&mut self.released);
        let result = match until {
            None => self.uring.submit_and_wait(1),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                let time = types::Timespec::new().sec(left.as_secs()).nsec(left.subsec_nanos());
                self.uring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&time))
            }
        };
        match result {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => {}
            Err(error) => return Err(error),
        }
        loop {
            // Copied out first: taking an event may push (a short send), which needs the ring again.
            let Some(entry) = self.uring.completion().next() else { return Ok(()) };
            self.take(entry, events);
        }
    }

    fn take(&mut self, entry: cqueue::Entry, events: &mut Vec<Event>) {
        let (lane, kind) = ((entry.user_data() >> 8) as usize, entry.user_data() & 0xff);
        let more = cqueue::more(entry.flags());
        if !more {
            self.in_flight -= 1;
        }
        let result = match entry.result() {
            failed if failed < 0 => Err(io::Error::from_raw_os_error(-failed)),
            count => Ok(count as usize),
        };
        let place = &mut self.lanes[lane];
        match kind {
            RECV => place.receiving = false,
            SEND => place.sending = false,
            CONNECT => place.connecting = false,
            _ => place.accepting = more,
        }
        if place.closing {
            if let (ACCEPT, Ok(accepted)) = (kind, &result) {
                drop(own(*accepted));
            }
            if !place.busy() {
                self.release(lane);
            }
            return;
        }
        match (kind, result) {
            (RECV, Ok(count)) => {
                place.filled += count;
                events.push(Event::Received(lane, count));
            }
            (SEND, Ok(count)) if count < place.output.len() => {
                place.output = &place.output[count..];
                place.sending = true;
                self.push_send(lane);
            }
            (SEND, Ok(_)) => events.push(Event::Sent(lane)),
            (CONNECT, Ok(_)) => events.push(Event::Connected(lane)),
            (_, Ok(accepted)) => {
                events.push(Event::Accepted(lane, own(accepted)));
                if !more {
                    self.accept(lane);
                }
            }
            (_, Err(_)) => events.push(Event::Failed(lane)),
        }
    }

    fn push(&mut self, lane: LaneId, kind: u64, entry: squeue::Entry) {
        let entry = entry.user_data((lane as u64) << 8 | kind);
        self.in_flight += 1;
        loop {
            // SAFETY: every pointer in an entry leads to the lane's boxed input or address, which are neither moved
            // nor freed while the matching flag (receiving, connecting) is set, or to a `'static` slice. The flags are
            // cleared by the completion alone, and `Drop` waits for the completions or leaks the lanes.
            if unsafe { self.uring.submission().push(&entry) }.is_ok() {
                return;
            }
            // The queue is full: hand it over. With submit_all nothing of it is left behind.
            let _ = self.uring.submit();
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        for lane in 0..self.lanes.len() {
            // A multishot accept does not end by shutdown of a connection; the listener's shutdown ends it.
            self.close(lane);
        }
        let patience = Instant::now() + DROP_PATIENCE;
        let mut events = Vec::new();
        while self.in_flight > 0 && Instant::now() < patience {
            if self.wait(Some(patience), &mut events).is_err() {
                break;
            }
        }
        if self.in_flight > 0 {
            // The kernel may still write into these buffers: leak them.
            std::mem::forget(std::mem::take(&mut self.lanes));
        }
    }
}

fn fd(socket: &Socket) -> types::Fd {
    types::Fd(socket.as_raw_fd())
}

fn own(descriptor: usize) -> OwnedFd {
    // SAFETY: a completed accept made this descriptor for us, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(descriptor as i32) }
}
