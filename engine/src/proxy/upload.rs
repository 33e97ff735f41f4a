//! Carries a request's body to the upstream while the response may already be
//! coming back, and reads whole bodies for plugins.
//!
//! The pump owns its own watches for both sockets, because the response side
//! uses the connections' own at the same time. It is never dropped in the middle:
//! to end it early its read is cancelled (a cancelled read loses nothing) and the
//! upstream's socket is shut down, and then it is awaited.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use monoio::io::Canceller;
use proto::framing::BodyLength;
use proto::head::Name;

use super::exchange::Exchange;
use super::fault::{Fault, Term};
use super::source::{Keep, Source};
use crate::buffer::{Buf, Class};
use crate::clock;
use crate::deadline::Watch;
use crate::http1::body::{frame, last_chunk, BodyReader, Framing};
use crate::http1::{write, Connection};
use crate::plan::Timeouts;
use crate::upstream::pool::Link;

/// A request body on its way.
pub struct Upload {
    /// Where the body ends.
    pub reader: BodyReader,
    /// How it is framed toward the upstream.
    pub framing: Framing,
    /// Bytes of the connection: first what followed the head, at last what
    /// follows the body.
    pub input: Buf,
    /// `server.limits.request_body`.
    pub bytes_max: u64,
    /// What was read so far, for another try.
    pub source: Source,
    keep: Keep,
}

/// What both directions of a duplex exchange know of each other.
pub struct Shared {
    stop: Cell<bool>,
    /// Whether all that went out could go once more.
    pub replayable: Cell<bool>,
    canceller: RefCell<Option<Canceller>>,
    /// The whole body has gone out.
    pub complete: Cell<bool>,
    /// Why the upload failed, when that is the client's doing.
    pub fault: Cell<Option<Fault>>,
    /// The response's head is there: only its body is waited for.
    pub headed: Cell<bool>,
    /// The upload has ended, whole or not: the response has its times again.
    pub ended: Cell<bool>,
    times: Cell<Timeouts>,
}

impl Shared {
    /// Nothing has gone out yet.
    pub fn new(replayable: bool, times: Timeouts) -> Self {
        Shared {
            stop: Cell::new(false),
            replayable: Cell::new(replayable),
            canceller: RefCell::default(),
            complete: Cell::new(false),
            fault: Cell::new(None),
            headed: Cell::new(false),
            ended: Cell::new(false),
            times: Cell::new(times),
        }
    }

    /// How long the next bytes of the response are waited for once the upload has ended.
    pub fn patience(&self) -> Duration {
        let times = self.times.get();
        if self.headed.get() {
            times.read
        } else {
            times.head_patience()
        }
    }

    /// The upload has ended: from now on the response is waited for, for as long as a try may take. Before, the
    /// client's pace decided, and its slowness is not the endpoint's.
    fn await_response(&self, link: &Link) {
        self.ended.set(true);
        self.times.set(self.times.get().head_from(clock::micros()));
        link.watch.expire_in(self.patience());
    }

    /// Ends the pump soon: its read is cancelled, the upstream is shut down.
    pub fn stop(&self, link: &Link) {
        self.stop.set(true);
        link.socket.shutdown(std::net::Shutdown::Both);
        if let Some(canceller) = self.canceller.borrow_mut().take() {
            drop(canceller.cancel());
        }
    }

    fn fail(&self, link: &Link, fault: Fault) {
        self.fault.set(Some(fault));
        // The response side waits on this socket: it wakes and finds the fault.
        link.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl Upload {
    /// The body of this request, of which `input` holds the next bytes.
    pub fn new(x: &mut Exchange, input: Buf, keep: Keep) -> Self {
        let mut source = std::mem::take(&mut x.source);
        Self {
            reader: source.take_reader(x.body_length),
            source,
            keep,
            framing: if x.body_length == BodyLength::Chunked { Framing::Chunked } else { Framing::Raw },
            input,
            bytes_max: x.settings().limits.request_body.unwrap_or(u64::MAX),
        }
    }

    /// Carries the body to its end, or to the first failure of either side.
    pub async fn pump(
        mut self,
        connection: &Connection,
        link: &Link,
        times: Timeouts,
        shared: &Shared,
    ) -> Self {
        let wheel = &connection.worker.wheel;
        let client = wheel.watch(connection.socket.raw_fd());
        let upstream = wheel.watch(link.socket.raw_fd());
        let body_timeout = connection.worker.plan().plan.settings().limits.body_timeout;
        let canceller = Canceller::new();
        let handle = canceller.handle();
        *shared.canceller.borrow_mut() = Some(canceller);
        let mut rest = None;
        if !self.again(link, &upstream, times).await {
            if upstream.expired() {
                shared.fail(link, Fault { status: 504, term: Term::UpstreamTimeout, close: true });
            }
            shared.await_response(link);
            shared.canceller.borrow_mut().take();
            return self;
        }
        loop {
            match self.reader.take(&mut self.input) {
                Ok(None) => {}
                Ok(behind) => rest = behind,
                Err(_) => {
                    shared.fail(link, Fault::refuse(400, Term::BadRequest));
                    break;
                }
            }
            if self.reader.received > self.bytes_max {
                shared.fail(link, Fault::refuse(413, Term::Limit));
                break;
            }
            self.source.pass(self.input.data(), self.keep, &connection.worker.kept_bytes);
            if self.reader.is_done() {
                self.source.finish();
            }
            shared.replayable.set(self.source.is_replayable());
            if !self.input.is_empty() {
                frame(&mut self.input, self.framing);
                let data = std::mem::take(&mut self.input);
                let (result, data) = write::all(&link.socket, &upstream, times.send, data).await;
                upstream.clear();
                self.input = data;
                self.input.clear();
                if result.is_err() {
                    if upstream.expired() {
                        shared.fail(link, Fault { status: 504, term: Term::UpstreamTimeout, close: true });
                    }
                    // Otherwise its answer may still be on the way: that decides, in its time.
                    shared.await_response(link);
                    break;
                }
            }
            if self.reader.is_done() {
                self.finish(link, &upstream, times, shared).await;
                break;
            }
            if shared.stop.get() {
                break;
            }
            self.room();
            client.end_read_in(body_timeout);
            let data = std::mem::take(&mut self.input);
            let (result, data) = connection.socket.cancelable_read(data, handle.clone()).await;
            client.clear();
            self.input = data;
            match result {
                Ok(count) if count > 0 => connection.worker.stats.bytes_in.add(count as u64),
                _ if shared.stop.get() => break,
                Ok(_) if client.expired() => {
                    shared.fail(link, Fault::refuse(408, Term::ClientTimeout));
                    break;
                }
                _ => {
                    shared.fail(link, Fault::CLIENT_GONE);
                    break;
                }
            }
        }
        shared.canceller.borrow_mut().take();
        if let Some(rest) = rest {
            self.input = rest;
        }
        self
    }

    /// What an earlier try has read goes first. False when the upstream does not take it.
    async fn again(&mut self, link: &Link, upstream: &Watch, times: Timeouts) -> bool {
        let prefix = self.source.prefix();
        if prefix.is_empty() {
            return true;
        }
        let mut buf = Buf::sized(prefix.len());
        buf.append(prefix);
        frame(&mut buf, self.framing);
        let (result, _) = write::all(&link.socket, upstream, times.send, buf).await;
        upstream.clear();
        result.is_ok()
    }

    async fn finish(&mut self, link: &Link, upstream: &Watch, times: Timeouts, shared: &Shared) {
        if self.framing == Framing::Chunked {
            let mut end = Vec::new();
            last_chunk(self.reader.trailers(), &mut end);
            let (result, _) = write::all(&link.socket, upstream, times.send, end).await;
            upstream.clear();
            if result.is_err() {
                shared.await_response(link);
                return;
            }
        }
        shared.complete.set(true);
        shared.await_response(link);
    }

    /// A body that goes on for long is carried in large pieces.
    fn room(&mut self) {
        let large =
            self.reader.left().is_none_or(|left| left > 16 * 1024) && self.reader.received > 16 * 1024;
        if self.input.is_vacant() || (large && self.input.room() < 32 * 1024) {
            self.input = Buf::take(if large { Class::Bulk } else { Class::Read });
        }
    }
}

/// Reads a whole request body of at most `max` bytes into memory.
pub async fn collect(
    connection: &Connection,
    x: &mut Exchange,
    input: &mut Buf,
    max: usize,
) -> Result<Vec<u8>, Fault> {
    let limit = x.settings().limits.request_body.map_or(max as u64, |limit| limit.min(max as u64));
    if matches!(x.body_length, BodyLength::Fixed(bytes) if bytes > limit) {
        return Err(Fault::refuse(413, Term::Limit));
    }
    let patience = x.settings().limits.body_timeout;
    if x.request.has(Name::Expect) {
        // The gateway takes the body itself, so it is the one to ask for it.
        x.request.remove(Name::Expect);
        if input.is_empty() {
            let go = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
            let (sent, _) = write::all(&connection.socket, &connection.watch, patience, go).await;
            sent.map_err(|_| Fault::CLIENT_GONE)?;
        }
    }
    let mut reader = BodyReader::new(x.body_length);
    let mut body = Vec::new();
    loop {
        let rest = reader.take(input).map_err(|_| Fault::refuse(400, Term::BadRequest))?;
        body.extend_from_slice(input.data());
        input.clear();
        if let Some(rest) = rest {
            *input = rest;
        }
        x.body_bytes_in = body.len() as u64;
        if body.len() as u64 > limit {
            return Err(Fault::refuse(413, Term::Limit));
        }
        if reader.is_done() {
            connection.watch.clear();
            return Ok(body);
        }
        if input.is_vacant() {
            *input = Buf::take(Class::Read);
        }
        connection.watch.end_read_in(patience);
        let (read, back) = connection.socket.read(std::mem::take(input)).await;
        *input = back;
        match read {
            Ok(count) if count > 0 => connection.worker.stats.bytes_in.add(count as u64),
            Ok(_) if connection.watch.expired() => return Err(Fault::refuse(408, Term::ClientTimeout)),
            _ => return Err(Fault::CLIENT_GONE),
        }
    }
}
