//! Sends the request to an endpoint and brings the response back, trying again
//! where `balancer::retry` says that it may.
//!
//! A try that fails on a kept connection before any byte of a response, for a
//! request that can be replayed, is sent once more on a fresh connection to the
//! same endpoint: the upstream closed it while it lay in the pool, which says
//! nothing about the endpoint.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use balancer::retry::{Failed, Failure};
use balancer::upstream::{Ask, Picked, Tried};
use proto::framing::BodyLength;
use proto::head::{Head, Name};

use super::body::{self, Came};
use super::exchange::Exchange;
use super::fault::{Fault, Term};
use super::upload::{Shared, Upload};
use super::{chain, tunnel};
use crate::buffer::Buf;
use crate::clock;
use crate::http1::{write, After, Connection};
use crate::plan::{CoreUpstream, Timeouts};
use crate::upstream::connect::{connect, ConnectError};
use crate::upstream::pool::Link;

/// Why a try failed before the response's head.
#[derive(Clone, Copy)]
struct TryError {
    failure: Failure,
    /// Whether any byte of the request may have reached the endpoint.
    sent: bool,
    fault: Fault,
}

impl TryError {
    fn final_fault(fault: Fault) -> Self {
        Self { failure: Failure::NoAnswer, sent: true, fault }
    }
}

/// Runs the tries of an exchange.
///
/// # Errors
///
/// The last try's fault, or the client's.
pub async fn run(connection: &Connection, x: &mut Exchange, input: &mut Buf) -> Result<After, Fault> {
    let none = Fault::answer(503, Term::NoUpstream);
    let route = x.route.clone().ok_or(none)?;
    let upstream = route.upstream.clone().ok_or(none)?;
    let times = route.plan.timeouts();
    let mut tried = Tried::default();
    let mut last = none;
    let mut sent = false;
    loop {
        let ask = Ask { now: clock::micros(), key: b"", sticky: None, tried: &tried };
        let Picked::Endpoint(index) = upstream.group.borrow_mut().pick(&ask) else { return Err(last) };
        tried.add(index);
        x.tries += 1;
        if x.tries > 1 {
            connection.worker.stats.retries.add(1);
        }
        x.upstream_addr = Some(upstream.texts[index].clone());
        let error = match attempt(connection, x, input, &upstream, index, times).await {
            Ok(after) => return Ok(after),
            Err(error) => error,
        };
        x.note_try(error.fault.status);
        last = error.fault;
        sent |= error.sent;
        if error.fault.term == Term::ClientAbort || x.response_begun {
            return Err(error.fault);
        }
        let elapsed = Duration::from_micros(clock::micros().saturating_sub(x.began));
        let untried = upstream.group.borrow().untried(&tried);
        let replayable = x.body_read || x.kept_body.is_some() || x.body_bytes_in == 0;
        let failed = Failed {
            method: x.request.method_bytes(),
            failure: error.failure,
            sent,
            replayable,
            tries: x.tries,
            elapsed,
            untried,
        };
        let again = upstream.plan.retry.may_retry(&failed);
        if !again || error.fault.status == 499 {
            return Err(error.fault);
        }
    }
}

/// One try at one endpoint.
async fn attempt(
    connection: &Connection,
    x: &mut Exchange,
    input: &mut Buf,
    upstream: &Rc<CoreUpstream>,
    index: usize,
    times: Timeouts,
) -> Result<After, TryError> {
    let worker = &connection.worker;
    let pool = &upstream.pools[index];
    let whole_body = write_request(x, input, upstream, index);
    if let Some(link) = pool.checkout() {
        worker.stats.upstream_reused.add(1);
        let again = x.request.method().is_idempotent() && whole_body;
        match on_link(connection, x, input, upstream, index, link, times, whole_body).await {
            Err(error) if again && error.failure == Failure::NoAnswer && !x.response_begun => {
                if matches!(error.fault.term, Term::ClientAbort | Term::BadResponse) {
                    return Err(error);
                }
            }
            result => return result,
        }
        write_request(x, input, upstream, index);
    }
    let began = clock::micros();
    worker.stats.upstream_connects.add(1);
    let address = &upstream.plan.endpoints[index].address;
    let connected = connect(worker, address, times.connect, &connection.watch).await;
    *x.connect_us.get_or_insert(0) += clock::micros() - began;
    match connected {
        Ok(link) => on_link(connection, x, input, upstream, index, link, times, whole_body).await,
        Err(error) => {
            worker.stats.upstream_connect_errors.add(1);
            Err(connect_error(&error))
        }
    }
}

fn connect_error(error: &ConnectError) -> TryError {
    let (failure, fault) = match error {
        ConnectError::TimedOut => (Failure::ConnectTimeout, Fault::answer(504, Term::UpstreamConnectTimeout)),
        ConnectError::ClientGone => (Failure::NotSent, Fault::CLIENT_GONE),
        ConnectError::Io(error) => {
            tracing::debug!(%error, "cannot connect to an upstream");
            (Failure::NotSent, Fault::answer(502, Term::UpstreamConnect))
        }
    };
    TryError { failure, sent: false, fault }
}

/// Puts the try's head into the scratch buffer, and behind it the body where it
/// is there whole. Says whether the request is complete that way.
fn write_request(x: &mut Exchange, input: &mut Buf, upstream: &CoreUpstream, index: usize) -> bool {
    let endpoint = &upstream.plan.endpoints[index];
    if !x.host_replaced {
        if let Some(host) = upstream.plan.host_for(endpoint) {
            x.request.set(b"Host", host.as_bytes());
        }
    }
    if x.request.get(Name::Host).is_none() {
        // A 1.0 client may leave it out; to an upstream we speak 1.1.
        x.request.set(b"Host", endpoint.host.as_bytes());
    }
    let mut out = std::mem::take(&mut x.scratch);
    out.clear();
    if chain::edits_attempts(x) {
        x.attempt.clone_from(&x.request);
        chain::attempt(x, x.tries - 1, &endpoint.text);
        write_head(&x.attempt, x, &mut out);
    } else {
        write_head(&x.request, x, &mut out);
    }
    let whole = match (x.body_length, &x.kept_body) {
        (BodyLength::None | BodyLength::Fixed(0), _) => true,
        (_, Some(body)) => {
            out.extend_from_slice(body);
            true
        }
        (BodyLength::Fixed(bytes), None) if x.body_read || input.len() as u64 >= bytes => {
            keep_small_body(x, input, bytes, &mut out);
            true
        }
        _ => false,
    };
    x.scratch = out;
    whole
}

/// A body that came along with its head goes out along with it, and stays for
/// another try.
fn keep_small_body(x: &mut Exchange, input: &mut Buf, bytes: u64, out: &mut Vec<u8>) {
    if !x.body_read {
        let bytes = bytes as usize;
        x.replay.clear();
        x.replay.extend_from_slice(&input.data()[..bytes]);
        input.consume(bytes);
        x.body_read = true;
        x.body_bytes_in = bytes as u64;
    }
    out.extend_from_slice(&x.replay);
}

fn write_head(head: &Head, x: &Exchange, out: &mut Vec<u8>) {
    head.write_request_line(out);
    head.write_fields(out);
    match x.body_length {
        BodyLength::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyLength::Fixed(bytes) if x.kept_body.is_some() && !head.has(Name::ContentLength) => {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(super::answer::decimal(bytes, &mut [0; 20]));
            out.extend_from_slice(b"\r\n");
        }
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// The exchange on a connection: send, receive, and keep or close it.
#[allow(clippy::too_many_arguments)]
async fn on_link(
    connection: &Connection,
    x: &mut Exchange,
    input: &mut Buf,
    upstream: &Rc<CoreUpstream>,
    index: usize,
    link: Link,
    times: Timeouts,
    whole_body: bool,
) -> Result<After, TryError> {
    let head = std::mem::take(&mut x.scratch);
    let (sent, head) = write::all(&link.socket, &link.watch, times.send, head).await;
    x.scratch = head;
    if sent.is_err() {
        return Err(send_error(&link));
    }
    let pool = &upstream.pools[index];
    let came = if whole_body {
        let result = body::download(connection, x, &link, pool, times, None).await;
        connection.watch.clear();
        result
    } else {
        Box::pin(duplex(connection, x, input, &link, pool, times)).await
    };
    match came.map_err(|fault| receive_error(x, fault))? {
        Came::Whole { reusable } => {
            if reusable && (whole_body || x.body_read) {
                pool.put_back(link);
            }
            let unread = !whole_body && !x.body_read;
            Ok(match (unread, x.close) {
                (true, _) => After::Linger,
                (false, true) => After::Close,
                (false, false) => After::KeepAlive,
            })
        }
        Came::Switched { early } => {
            tunnel::run(connection, x, input, link, early, times).await;
            Ok(After::Close)
        }
    }
}

fn send_error(link: &Link) -> TryError {
    if link.watch.expired() {
        let fault = Fault::refuse(504, Term::UpstreamTimeout);
        return TryError { failure: Failure::Timeout, sent: true, fault };
    }
    // The kernel took less than all of it: the endpoint cannot have seen a whole
    // request, but it may have seen a part.
    TryError { failure: Failure::NoAnswer, sent: true, fault: Fault::answer(502, Term::UpstreamReset) }
}

fn receive_error(x: &Exchange, fault: Fault) -> TryError {
    if x.response_begun {
        return TryError::final_fault(fault);
    }
    let failure = match fault.term {
        Term::UpstreamTimeout => Failure::Timeout,
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
    pool: &crate::upstream::pool::Pool,
    times: Timeouts,
) -> Result<Came, Fault> {
    let shared = Shared::default();
    let upload = Upload::new(x, std::mem::take(input));
    let (upload, result) = {
        let mut up = pin!(upload.pump(connection, link, times, &shared));
        let mut down = pin!(body::download(connection, x, link, pool, times, Some(&shared)));
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
    x.body_read = upload.reader.is_done() && shared.complete.get();
    *input = upload.input;
    match (result, shared.fault.get()) {
        (Err(_), Some(fault)) => Err(fault),
        (result, _) => result,
    }
}
