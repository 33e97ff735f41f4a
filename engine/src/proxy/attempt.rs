//! One try at one endpoint: a connection, the request on it, the answer back.
//!
//! A try that fails on a kept connection before any byte of a response, for a
//! request that can be replayed, is sent once more on a fresh connection to the
//! same endpoint: the upstream closed it while it lay in the pool, which says
//! nothing about the endpoint.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use balancer::retry::Failure;
use balancer::upstream::Tried;
use proto::framing::BodyLength;
use proto::head::{Head, Name};

use super::body::{self, Came};
use super::exchange::Exchange;
use super::fault::{Fault, Term};
use super::source::{Keep, Source};
use super::upload::{Shared, Upload};
use super::{chain, hedge, tunnel};
use crate::buffer::Buf;
use crate::clock;
use crate::http1::body::last_chunk;
use crate::http1::{write, After, Connection};
use crate::plan::{CoreUpstream, Timeouts};
use crate::upstream::connect::{connect, ConnectError};
use crate::upstream::pool::Link;
use crate::upstream::Try;

/// Why a try failed before the response's head.
#[derive(Clone, Copy, Debug)]
pub struct TryError {
    /// For the rules of retrying.
    pub failure: Failure,
    /// Whether any byte of the request may have reached the endpoint.
    pub sent: bool,
    /// What the client is told if this was the last try.
    pub fault: Fault,
}

impl TryError {
    /// Whether it is the client's doing, or an answer that broke the rules of HTTP: no other endpoint is
    /// asked after it.
    pub fn is_final(&self) -> bool {
        use Term::{BadRequest, BadResponse, ClientAbort, ClientTimeout, Limit};
        matches!(self.fault.term, ClientAbort | ClientTimeout | BadRequest | BadResponse | Limit)
    }

    /// The connection does not stand.
    pub fn connect(error: &ConnectError) -> TryError {
        let (failure, fault) = match error {
            ConnectError::TimedOut => {
                (Failure::ConnectTimeout, Fault::answer(504, Term::UpstreamConnectTimeout))
            }
            ConnectError::ClientGone => (Failure::NotSent, Fault::CLIENT_GONE),
            ConnectError::Io(error) => {
                tracing::debug!(%error, "cannot connect to an upstream");
                (Failure::NotSent, Fault::answer(502, Term::UpstreamConnect))
            }
            ConnectError::Tls(error) => {
                tracing::debug!(%error, "no TLS with an upstream");
                (Failure::NotSent, Fault::answer(502, Term::UpstreamTls))
            }
        };
        TryError { failure, sent: false, fault }
    }

    /// The request could not be written whole.
    pub fn send(link: &Link) -> TryError {
        if link.watch.expired() {
            let fault = Fault::refuse(504, Term::UpstreamTimeout);
            return TryError { failure: Failure::Timeout, sent: true, fault };
        }
        // The kernel took less than all of it: the endpoint cannot have seen a whole
        // request, but it may have seen a part.
        TryError { failure: Failure::NoAnswer, sent: true, fault: Fault::answer(502, Term::UpstreamReset) }
    }
}

/// A body that came along with its head is taken off the connection before the
/// first try: it goes out along with the head, as often as it has to.
pub fn take_small_body(x: &mut Exchange, input: &mut Buf) {
    if let BodyLength::Fixed(bytes) = x.body_length {
        if x.source.whole().is_none() && !x.source.is_begun() && input.len() as u64 >= bytes {
            let most = x.settings().limits.replay_body;
            x.source.take_whole(input, bytes as usize, most);
            x.body_bytes_in = bytes;
        }
    }
}

/// One try. A hedged one may have ended it and put the faster in its place.
///
/// # Errors
///
/// Why no answer came of it, or why the one that came did not reach the client.
pub async fn run(
    connection: &Connection,
    x: &mut Exchange,
    input: &mut Buf,
    upstream: &Rc<CoreUpstream>,
    this: &mut Try,
    tried: &mut Tried,
    times: Timeouts,
) -> Result<After, TryError> {
    let worker = &connection.worker;
    let index = this.index;
    let way = &mut Way { upstream, this, tried, times };
    let mut bytes = std::mem::take(&mut x.scratch);
    let whole = write_request(x, upstream, index, &mut bytes);
    x.scratch = bytes;
    if let Some(link) = upstream.pools[index].checkout() {
        worker.stats.upstream_reused.add(1);
        let again = x.request.method().is_idempotent() && whole && x.source.is_replayable();
        let result = on_link(connection, x, input, way, link, whole).await;
        match result {
            Err(error) if again && error.failure == Failure::NoAnswer && !x.response_begun => {
                if error.is_final() || way.this.index != index {
                    return Err(error);
                }
            }
            result => return result,
        }
        let mut bytes = std::mem::take(&mut x.scratch);
        write_request(x, upstream, index, &mut bytes);
        x.scratch = bytes;
    }
    let began = clock::micros();
    worker.stats.upstream_connects.add(1);
    let address = &upstream.plan.endpoints[index].address;
    let tls = upstream.pools[index].tls.as_ref();
    let connected = connect(worker, address, tls, times.connect, Some(&connection.watch)).await;
    *x.connect_us.get_or_insert(0) += clock::micros() - began;
    match connected {
        Ok(link) => on_link(connection, x, input, way, link, whole).await,
        Err(error) => {
            worker.stats.upstream_connect_errors.add(1);
            Err(TryError::connect(&error))
        }
    }
}

/// Where a try goes, and what of its upstream decides over it.
pub struct Way<'a> {
    /// The upstream.
    pub upstream: &'a Rc<CoreUpstream>,
    /// The try.
    pub this: &'a mut Try,
    /// The endpoints tried so far, this one included.
    pub tried: &'a mut Tried,
    /// Its times.
    pub times: Timeouts,
}

/// Writes a try's head, and behind it the body where it is there whole. Says
/// whether the request is complete that way.
pub fn write_request(x: &mut Exchange, upstream: &CoreUpstream, index: usize, out: &mut Vec<u8>) -> bool {
    let endpoint = &upstream.plan.endpoints[index];
    if !x.host_replaced {
        if let Some(host) = upstream.plan.host_for(endpoint) {
            x.request.set(b"Host", host.as_bytes());
        }
    }
    if x.host_made || x.request.get(Name::Host).is_none() {
        // A 1.0 client may leave it out; to an upstream we speak 1.1, to each by its own name.
        x.host_made = true;
        x.request.set(b"Host", endpoint.host.as_bytes());
    }
    if x.source.is_begun() {
        // The client sends already: there is nothing to wait for.
        x.request.remove(Name::Expect);
    }
    out.clear();
    if chain::edits_attempts(x) {
        x.attempt.clone_from(&x.request);
        chain::attempt(x, x.current_try, &endpoint.text);
        write_head(&x.attempt, x, out);
    } else {
        write_head(&x.request, x, out);
    }
    let Some(body) = x.source.whole() else { return false };
    write_body(x.body_length, &x.source, body, out);
    true
}

fn write_head(head: &Head, x: &Exchange, out: &mut Vec<u8>) {
    head.write_request_line(out);
    head.write_fields(out);
    match x.body_length {
        BodyLength::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyLength::Fixed(bytes) if !head.has(Name::ContentLength) => {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(super::answer::decimal(bytes, &mut [0; 20]));
            out.extend_from_slice(b"\r\n");
        }
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// A whole body as its head announced it.
fn write_body(length: BodyLength, source: &Source, body: &[u8], out: &mut Vec<u8>) {
    if length != BodyLength::Chunked {
        out.extend_from_slice(body);
        return;
    }
    if !body.is_empty() {
        let mut header = [0; proto::chunked::CHUNK_HEADER_BYTES_MAX];
        let length = proto::chunked::write_chunk_header(body.len(), &mut header);
        out.extend_from_slice(&header[..length]);
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
    }
    last_chunk(source.trailers(), out);
}

/// The exchange on a connection: send, receive, and keep or close it.
async fn on_link(
    connection: &Connection,
    x: &mut Exchange,
    input: &mut Buf,
    way: &mut Way<'_>,
    link: Link,
    whole: bool,
) -> Result<After, TryError> {
    let head = std::mem::take(&mut x.scratch);
    let (sent, head) = write::all(&link.socket, &link.watch, way.times.send, head).await;
    x.scratch = head;
    if sent.is_err() {
        return Err(TryError::send(&link));
    }
    let (link, came) = if whole {
        let link = match hedge::allowance(x, way) {
            Some(hedge) => {
                let won = Box::pin(hedge::race(connection, x, way, link, hedge)).await;
                // The guard stood on a connection that may be closed by now, and its number another's.
                connection.watch.clear();
                won?
            }
            None => link,
        };
        let came = body::download(connection, x, &link, way, None).await;
        connection.watch.clear();
        (link, came)
    } else {
        let came = Box::pin(duplex(connection, x, input, &link, way)).await;
        (link, came)
    };
    let whole = whole || x.uploaded;
    let pool = &way.upstream.pools[way.this.index];
    match came.map_err(|fault| receive_error(x, fault))? {
        Came::Whole { reusable } => {
            if reusable && whole {
                pool.put_back(link);
            }
            Ok(match (x.source.is_read(), x.close) {
                (false, _) => After::Linger,
                (true, true) => After::Close,
                (true, false) => After::KeepAlive,
            })
        }
        Came::PassedOver { reusable } => {
            if reusable && whole {
                pool.put_back(link);
            }
            let status = x.response.status();
            let fault = Fault::answer(status, Term::UpstreamStatus);
            Err(TryError { failure: Failure::Status(status), sent: true, fault })
        }
        Came::Switched { early } => {
            tunnel::run(connection, x, input, link, early, way.times).await;
            Ok(After::Close)
        }
    }
}

fn receive_error(x: &Exchange, fault: Fault) -> TryError {
    let failure = match fault.term {
        Term::UpstreamTimeout if !x.response_begun => Failure::Timeout,
        _ => Failure::NoAnswer,
    };
    TryError { failure, sent: true, fault }
}

/// Both bodies at once: the response may come while the request still goes out.
async fn duplex(
    connection: &Connection,
    x: &mut Exchange,
    input: &mut Buf,
    link: &Link,
    way: &mut Way<'_>,
) -> Result<Came, Fault> {
    // Sending the head is over. The upload has deadlines of its own, and the response waits for its end.
    link.watch.clear();
    let shared = Shared::new(x.source.is_replayable(), way.times);
    let upload = Upload::new(x, std::mem::take(input), keep(x, way.upstream));
    let times = way.times;
    let (upload, result) = {
        let mut up = pin!(upload.pump(connection, link, times, &shared));
        let mut down = pin!(body::download(connection, x, link, way, Some(&shared)));
        let (mut went, mut came) = (None, None);
        std::future::poll_fn(|context| {
            if came.is_none() {
                if let Poll::Ready(result) = down.as_mut().poll(context) {
                    came = Some(result);
                    if went.is_none() {
                        shared.stop(link);
                    }
                }
            }
            if went.is_none() {
                if let Poll::Ready(upload) = up.as_mut().poll(context) {
                    went = Some(upload);
                }
            }
            match (went.take(), came.take()) {
                (Some(upload), Some(result)) => Poll::Ready((upload, result)),
                (upload, result) => {
                    (went, came) = (upload, result);
                    Poll::Pending
                }
            }
        })
        .await
    };
    connection.watch.clear();
    x.body_bytes_in = upload.reader.received;
    x.uploaded = shared.complete.get();
    *input = upload.input;
    x.source = upload.source;
    x.source.put_reader(upload.reader);
    match (result, shared.fault.get()) {
        // Nor is there another try for a request that broke off or broke a rule.
        (Err(_) | Ok(Came::PassedOver { .. }), Some(fault)) => Err(fault),
        (result, _) => result,
    }
}

/// How much of a body that streams somebody may still want.
fn keep(x: &Exchange, upstream: &CoreUpstream) -> Keep {
    let most = x.settings().limits.replay_body;
    let too_long = matches!(x.body_length, BodyLength::Fixed(bytes) if bytes > most as u64);
    let retried = upstream.plan.retry.retries > 0
        && (x.request.method().is_idempotent() || upstream.plan.source.retry.methods.is_some());
    let wanted = retried || !x.mirrors.is_empty();
    if too_long || !wanted {
        return Keep::No;
    }
    Keep::UpTo(most)
}
