//! The way back: the upstream's response head, interim answers, and its body,
//! streamed with the client's pace and framed as the client can read it.

use std::time::Duration;

use balancer::endpoint::Outcome;
use proto::framing::{self, BodyLength};
use proto::head::{parse_response, Name};

use super::answer;
use super::attempt::Way;
use super::chain;
use super::exchange::Exchange;
use super::fault::{Fault, Term};
use super::forward;
use super::upload::Shared;
use crate::buffer::{Buf, Class, HEADROOM};
use crate::clock;
use crate::http1::body::{frame, last_chunk, BodyReader, Framing};
use crate::http1::{write, Connection};
use crate::plan::Timeouts;
use crate::upstream::pool::{Link, Pool};

/// Interim answers (1xx) that one response may have before it.
const INTERIM_MAX: usize = 16;
/// A body up to this size is copied behind its head rather than gathered.
const COPY_BYTES_MAX: usize = 16 * 1024;
/// Of a body that a plugin replaced, what is read away to keep the connection.
const REPLACED_BYTES_MAX: u64 = 64 * 1024;

/// What came of a response.
pub enum Came {
    /// All of it went to the client.
    Whole {
        /// Whether the upstream's connection stands at a clean end.
        reusable: bool,
    },
    /// Its status counts as a failure and there is another try: nothing of it went to the client.
    PassedOver {
        /// Whether the upstream's connection stands at a clean end.
        reusable: bool,
    },
    /// 101 went to the client; what the upstream sent behind it is here.
    Switched {
        /// Bytes of the new protocol.
        early: Buf,
    },
}

/// Receives a response and sends it on. `shared` is there while the request's
/// body is still under way.
///
/// # Errors
///
/// Before `x.response_begun` the try has failed; after it the client got a part.
pub async fn download(
    connection: &Connection,
    x: &mut Exchange,
    link: &Link,
    way: &Way<'_>,
    shared: Option<&Shared>,
) -> Result<Came, Fault> {
    let (pool, times) = (&way.upstream.pools[way.this.index], way.times);
    let mut buf = Buf::take(if pool.large.get() { Class::Bulk } else { Class::Read });
    head(connection, x, link, &mut buf, times, shared).await?;
    if let Some(shared) = shared {
        shared.headed.set(true);
    }
    x.head_at = clock::micros();
    let micros = x.head_at.saturating_sub(x.began);
    x.ttfb_us = Some(micros);
    connection.worker.stats.upstream.record(micros);
    x.note_try(x.response.status());
    if x.response.status() == 101 {
        way.this.answered(Outcome::Status(101), x.head_at);
        return switch(connection, x, buf).await;
    }
    let bad = Fault::answer(502, Term::BadResponse);
    let length = framing::response_body(&x.response, x.request.method()).map_err(|_| bad)?;
    let keep = framing::keep_alive(&x.response) && length != BodyLength::UntilClose;
    if way.upstream.plan.retry.is_failure(x.response.status()) {
        let replayable = shared.map_or(x.source.is_replayable(), |shared| shared.replayable.get());
        if forward::passes_over(connection, x, way.upstream, way.tried, replayable) {
            let mut reader = BodyReader::new(length);
            let whole = reader.take(&mut buf).is_ok_and(|rest| rest.is_none()) && reader.is_done();
            return Ok(Came::PassedOver { reusable: keep && whole });
        }
    }
    proto::hop::strip_response(&mut x.response);
    dress(x);
    if let Some(other) = chain::response(connection, x).await? {
        let body = answer::compose(x, other);
        x.replaced_body = Some(body);
    }
    let reader = BodyReader::new(length);
    let status = x.outcome();
    if reader.left().is_none_or(|left| left > buf.len() as u64) {
        // Its end may be far, and the balance is not to wait for it.
        way.this.answered(Outcome::Status(status), x.head_at);
    }
    let relay = Relay { connection, link, times, reader, shared };
    let clean = match x.replaced_body.take() {
        Some(body) => relay.replace(x, buf, body).await?,
        None => relay.stream(x, buf, length, pool).await?,
    };
    Ok(Came::Whole { reusable: clean && keep })
}

/// Reads heads until a final one; interim ones go straight to the client.
async fn head(
    connection: &Connection,
    x: &mut Exchange,
    link: &Link,
    buf: &mut Buf,
    times: Timeouts,
    shared: Option<&Shared>,
) -> Result<(), Fault> {
    let mut interim = 0;
    let limits = x.shared_settings();
    loop {
        if !buf.is_empty() {
            let parsed = parse_response(buf.data(), &limits.response_head, &mut x.response)
                .map_err(|_| Fault::answer(502, Term::BadResponse))?;
            if let Some(length) = parsed {
                buf.consume(length);
                match x.response.status() {
                    101 if x.upgrade => return Ok(()),
                    101 => return Err(Fault::answer(502, Term::BadResponse)),
                    100..=199 => {
                        interim += 1;
                        if interim > INTERIM_MAX {
                            return Err(Fault::answer(502, Term::BadResponse));
                        }
                        pass_interim(connection, x).await?;
                        continue;
                    }
                    _ => return Ok(()),
                }
            }
        }
        if buf.room() == 0 {
            buf.compact();
            if buf.room() == 0 {
                // The parser refuses heads past the limit, so this ends there.
                buf.grow(buf.len() * 2);
            }
        }
        let patience = shared.map_or_else(|| times.head_patience(), Shared::patience);
        read(connection, link, buf, patience, shared).await?;
    }
}

/// One read from the upstream, guarded against a client that leaves meanwhile.
async fn read(
    connection: &Connection,
    link: &Link,
    buf: &mut Buf,
    patience: Duration,
    shared: Option<&Shared>,
) -> Result<(), Fault> {
    let uploading = shared.is_some_and(|shared| !shared.ended.get());
    if !uploading {
        link.watch.expire_in(patience);
    }
    connection.watch.guard_peer(link.socket.raw_fd());
    let (result, back) = link.socket.read(std::mem::take(buf)).await;
    *buf = back;
    match result {
        Ok(count) if count > 0 => Ok(()),
        result => Err(read_fault(connection, link, shared, result.is_ok())),
    }
}

fn read_fault(connection: &Connection, link: &Link, shared: Option<&Shared>, ended: bool) -> Fault {
    if connection.watch.peer_gone() {
        return Fault::CLIENT_GONE;
    }
    if let Some(fault) = shared.and_then(|shared| shared.fault.get()) {
        return fault;
    }
    if link.watch.expired() {
        return Fault::answer(504, Term::UpstreamTimeout);
    }
    let _ = ended;
    Fault::answer(502, Term::UpstreamReset)
}

/// 1xx: forwarded to clients that know them (RFC 9110 section 15.2).
async fn pass_interim(connection: &Connection, x: &mut Exchange) -> Result<(), Fault> {
    let wanted = x.response.status() != 100 || x.request.has(Name::Expect);
    if !x.client_is_11() || !wanted {
        return Ok(());
    }
    proto::hop::strip_response(&mut x.response);
    let mut out = std::mem::take(&mut x.scratch);
    out.clear();
    answer::write_head(x, &mut out);
    let patience = x.settings().limits.send_timeout;
    let (result, out) = write::all(&connection.socket, &connection.watch, patience, out).await;
    connection.watch.clear();
    x.bytes_out += out.len() as u64;
    x.scratch = out;
    result.map_err(|_| answer::client_write_fault(connection))
}

async fn switch(connection: &Connection, x: &mut Exchange, early: Buf) -> Result<Came, Fault> {
    if !proto::websocket::is_switching(&x.response) {
        return Err(Fault::answer(502, Term::BadResponse));
    }
    let protocol = framing::upgrade(&x.response).map(<[u8]>::to_vec).unwrap_or_default();
    proto::hop::strip_response(&mut x.response);
    x.response.append(b"Connection", b"upgrade");
    x.response.append(b"Upgrade", &protocol);
    if let Some(cookie) = &x.sticky_cookie {
        x.response.append(b"Set-Cookie", cookie.as_bytes());
    }
    let mut out = std::mem::take(&mut x.scratch);
    out.clear();
    answer::write_head(x, &mut out);
    x.status = 101;
    x.response_begun = true;
    let patience = x.settings().limits.send_timeout;
    let (result, out) = write::all(&connection.socket, &connection.watch, patience, out).await;
    connection.watch.clear();
    x.bytes_out += out.len() as u64;
    x.scratch = out;
    result.map_err(|_| answer::client_write_fault(connection))?;
    Ok(Came::Switched { early })
}

/// What every forwarded response gets.
fn dress(x: &mut Exchange) {
    if !x.response.has(Name::Date) {
        // RFC 9110 section 6.6.1: a recipient with a clock adds it.
        x.response.append_known(Name::Date, b"Date", &clock::http_date());
    }
    if x.settings().via {
        x.response.append_value(b"Via", b"1.1 ringway");
    }
    answer::upstream_statuses(x, x.response.status());
}

struct Relay<'a> {
    connection: &'a Connection,
    link: &'a Link,
    times: Timeouts,
    reader: BodyReader,
    shared: Option<&'a Shared>,
}

impl Relay<'_> {
    /// Sends a plugin's body in the place of the upstream's, of which a little
    /// is read away so that its connection can be used again.
    async fn replace(mut self, x: &mut Exchange, mut buf: Buf, body: Vec<u8>) -> Result<bool, Fault> {
        answer::send_whole(self.connection, x, body).await?;
        let mut dropped = 0;
        loop {
            match self.reader.take(&mut buf) {
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return Ok(false),
            }
            dropped += buf.len() as u64;
            if self.reader.is_done() {
                return Ok(true);
            }
            if dropped > REPLACED_BYTES_MAX
                || self.reader.left().is_some_and(|left| left > REPLACED_BYTES_MAX)
            {
                return Ok(false);
            }
            buf.clear();
            if read(self.connection, self.link, &mut buf, self.times.read, self.shared).await.is_err() {
                return Ok(false);
            }
        }
    }

    /// Streams the body. Returns whether the upstream's message ended cleanly.
    async fn stream(
        mut self,
        x: &mut Exchange,
        mut buf: Buf,
        length: BodyLength,
        pool: &Pool,
    ) -> Result<bool, Fault> {
        let framing = outgoing(x, length);
        let mut transforms = std::mem::take(&mut x.transforms);
        let early_error =
            self.shared.is_some_and(|shared| !shared.complete.get()) && x.response.status() >= 400;
        x.close |= early_error;
        answer::finish_head(x);
        let mut out = std::mem::take(&mut x.scratch);
        out.clear();
        answer::write_head(x, &mut out);
        x.scratch = out;
        x.status = x.response.status();
        let mut head_waits = true;
        let mut surplus = false;
        loop {
            let rest = self.reader.take(&mut buf);
            let malformed = rest.is_err();
            surplus |= matches!(rest, Ok(Some(_)));
            if malformed {
                if head_waits {
                    return Err(Fault::answer(502, Term::BadResponse));
                }
                return Err(Fault { status: 502, term: Term::BadResponse, close: true });
            }
            if !transforms.is_empty() && framing != Framing::None {
                buf = transformed(&mut transforms, &buf, self.reader.is_done());
            }
            if framing == Framing::None {
                buf.clear();
            }
            x.body_bytes_out += buf.len() as u64;
            frame(&mut buf, framing);
            if self.reader.is_done() && framing == Framing::Chunked {
                end_chunks(&mut buf, self.reader.trailers());
            }
            if head_waits || !buf.is_empty() {
                buf = self.send(x, buf, head_waits).await?;
                head_waits = false;
            }
            if self.reader.is_done() {
                break;
            }
            self.next_buffer(&mut buf);
            self.receive(&mut buf).await?;
        }
        pool.large.set(self.reader.received > 15 * 1024);
        self.connection.watch.clear();
        Ok(!surplus)
    }

    /// Sends a piece, with the head before it if that is still waiting.
    async fn send(&self, x: &mut Exchange, mut buf: Buf, with_head: bool) -> Result<Buf, Fault> {
        let connection = self.connection;
        let patience = x.settings().limits.send_timeout;
        let mut total = buf.len() as u64;
        let result;
        x.response_begun = true;
        if !self.reader.is_done() {
            // Until the next read it is the client that takes its time, not the upstream.
            self.link.watch.clear();
        }
        if with_head && !buf.prepend(&x.scratch) {
            total += x.scratch.len() as u64;
            let head = std::mem::take(&mut x.scratch);
            if buf.len() <= COPY_BYTES_MAX && head.len() + buf.len() <= 2 * COPY_BYTES_MAX {
                let mut joined = head;
                joined.extend_from_slice(buf.data());
                let (sent, back) = write::all(&connection.socket, &connection.watch, patience, joined).await;
                x.scratch = back;
                result = sent;
            } else {
                let (sent, head, body) =
                    write::gathered(&connection.socket, &connection.watch, patience, head, buf).await;
                x.scratch = head;
                buf = body;
                result = sent;
            }
        } else {
            total = total.max(buf.len() as u64);
            let (sent, back) = write::all(&connection.socket, &connection.watch, patience, buf).await;
            buf = back;
            result = sent;
        }
        if result.is_err() {
            return Err(answer::client_write_fault(connection));
        }
        connection.watch.clear();
        x.bytes_out += total;
        buf.clear();
        Ok(buf)
    }

    /// A buffer for the next piece: large ones for what is large.
    fn next_buffer(&self, buf: &mut Buf) {
        buf.clear();
        let large = match self.reader.left() {
            Some(left) => left > 16 * 1024,
            None => self.reader.received > 64 * 1024,
        };
        if buf.is_vacant() || (large && buf.room() < 48 * 1024) {
            *buf = Buf::take(if large { Class::Bulk } else { Class::Read });
        }
    }

    async fn receive(&mut self, buf: &mut Buf) -> Result<(), Fault> {
        match read(self.connection, self.link, buf, self.times.read, self.shared).await {
            Ok(()) => Ok(()),
            Err(fault) if fault.term == Term::UpstreamReset && self.reader.end_of_stream() => Ok(()),
            Err(fault) => {
                let term = if fault.term == Term::UpstreamReset { Term::Truncated } else { fault.term };
                Err(Fault { term, close: true, ..fault })
            }
        }
    }
}

/// How the body goes to this client; writes the field that says so.
fn outgoing(x: &mut Exchange, length: BodyLength) -> Framing {
    let known = matches!(length, BodyLength::Fixed(_)) && x.transforms.is_empty();
    if length == BodyLength::None {
        return Framing::None;
    }
    if known {
        return Framing::Raw;
    }
    x.response.remove(Name::ContentLength);
    if x.client_is_11() {
        x.response.append(b"Transfer-Encoding", b"chunked");
        return Framing::Chunked;
    }
    x.close = true;
    Framing::Raw
}

fn transformed(transforms: &mut [Box<dyn plugins::Transform>], input: &Buf, done: bool) -> Buf {
    let mut data = input.data().to_vec();
    for transform in transforms {
        let mut out = Vec::new();
        transform.push(&data, &mut out);
        if done {
            transform.finish(&mut out);
        }
        data = out;
    }
    let mut buf = Buf::sized(data.len());
    buf.append(&data);
    buf
}

/// The end of a body in chunks, in the tailroom where it fits.
fn end_chunks(buf: &mut Buf, trailers: &[u8]) {
    if trailers.is_empty() && !buf.is_vacant() && buf.append(proto::chunked::LAST_CHUNK) {
        return;
    }
    let mut end = Vec::new();
    last_chunk(trailers, &mut end);
    if !buf.append(&end) {
        buf.grow(buf.len() + end.len() + HEADROOM);
        buf.append(&end);
    }
}
