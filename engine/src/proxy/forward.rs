//! Chooses the upstream and its endpoints, one try after the other, where
//! `balancer::retry` says that there may be another.
//!
//! One try is `attempt`'s; a second one beside a slow first is `hedge`'s; copies
//! are `mirror`'s. What a try has to say about its endpoint goes to the balance
//! here, when it ends.

use std::rc::Rc;
use std::time::Duration;

use balancer::endpoint::Outcome;
use balancer::retry::{Failed, Failure};
use balancer::upstream::{Ask, Picked, Tried};

use super::attempt::{self, TryError};
use super::exchange::Exchange;
use super::fault::{Fault, Term};
use super::{mirror, sticky};
use crate::buffer::Buf;
use crate::clock;
use crate::http1::{After, Connection};
use crate::plan::{CoreRoute, CoreUpstream, Timeouts};
use crate::upstream::Try;

/// `Retry-After` where nothing says more: soon, but not at once.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs the tries of an exchange.
///
/// # Errors
///
/// The last try's fault, or the client's.
pub async fn run(connection: &Connection, x: &mut Exchange, input: &mut Buf) -> Result<After, Fault> {
    let none = Fault::answer(503, Term::NoUpstream);
    let route = x.route.clone().ok_or(none)?;
    let upstream = x.chosen.take().or_else(|| route.upstream.clone()).ok_or(none)?;
    attempt::take_small_body(x, input);
    let now = if x.source.is_begun() || x.waited { clock::micros() } else { x.began };
    x.tried_from = now;
    let admitted = upstream.admit(now);
    let mut admitted = admitted.map_err(|after| overload(x, after, Term::Shed))?;
    let copies = mirror::prepare(connection, x);
    let times = times(&route, &upstream);
    let result = tries(connection, x, input, &upstream, times, now).await;
    if result.is_ok() && x.status < 500 {
        admitted.micros = Some(x.head_at.saturating_sub(now));
    }
    drop(admitted);
    mirror::send_late(connection, x, copies);
    result
}

/// The route's times win over the upstream's.
fn times(route: &CoreRoute, upstream: &CoreUpstream) -> Timeouts {
    let (own, below) = (&route.plan.source().timeout, upstream.plan.timeouts);
    Timeouts {
        connect: own.connect.unwrap_or(below.connect),
        send: own.send.unwrap_or(below.send),
        read: own.read.unwrap_or(below.read),
        ..below
    }
}

/// 503 with the time after which it may be worth another try.
fn overload(x: &mut Exchange, after: Duration, term: Term) -> Fault {
    x.retry_after = Some(after);
    Fault::answer(503, term)
}

async fn tries(
    connection: &Connection,
    x: &mut Exchange,
    input: &mut Buf,
    upstream: &Rc<CoreUpstream>,
    times: Timeouts,
    began: u64,
) -> Result<After, Fault> {
    let mut tried = Tried::default();
    let mut last = Fault::answer(503, Term::NoUpstream);
    let mut sent = false;
    let mut now = began;
    // Held while its try lasts: what the budget counts.
    let mut _further = None;
    if upstream.plan.rules.wants_key() {
        sticky::hash_key(x, upstream);
    }
    let named = sticky::named_endpoint(x, upstream);
    loop {
        let picked = place(connection, x, upstream, &tried, named, now).await;
        let mut this = match picked {
            Ok(this) => this,
            Err(None) => return Err(last),
            Err(Some(fault)) => return Err(fault),
        };
        tried.add(this.index);
        x.begin_try();
        sticky::remember(x, upstream, this.index, named);
        x.upstream_addr = Some(upstream.texts[this.index].clone());
        // From its pick on: the wait for room is not the try's.
        let times = limited(times, this.began);
        let error = match attempt::run(connection, x, input, upstream, &mut this, &mut tried, times).await {
            Ok(after) => {
                let status = x.outcome();
                this.end(Outcome::Status(status), x.head_at);
                return Ok(after);
            }
            Err(error) => error,
        };
        this.fail(outcome(x, &error), x.response_begun.then_some(x.head_at));
        // Behind a head that went out, its status stays what the endpoint answered.
        if !matches!(error.failure, Failure::Status(_)) && !x.response_begun {
            x.note_try(error.fault.status);
        }
        last = error.fault;
        sent |= error.sent;
        if x.response_begun || error.is_final() || !again(x, upstream, error.failure, sent, &tried) {
            return Err(error.fault);
        }
        // The answer with a status that is passed over has taken its further try already.
        let taken = x.further.take();
        _further = match taken.or_else(|| Further::begin(upstream, clock::micros())) {
            Some(further) => Some(further),
            None => {
                connection.worker.stats.retries_refused.add(1);
                return Err(error.fault);
            }
        };
        connection.worker.stats.retries.add(1);
        pause(connection, x, upstream).await?;
        now = clock::micros();
    }
}

/// A try that is one more than the first, as the retry budget counts it.
pub struct Further(Option<Rc<CoreUpstream>>);

impl Further {
    /// `None` when the budget is used up.
    pub fn begin(upstream: &Rc<CoreUpstream>, now: u64) -> Option<Further> {
        if !upstream.plan.counts_requests {
            return Some(Further(None));
        }
        upstream.group.borrow_mut().retry_begins(now).then(|| Further(Some(upstream.clone())))
    }
}

impl Drop for Further {
    fn drop(&mut self) {
        if let Some(upstream) = &self.0 {
            upstream.group.borrow_mut().retry_ends();
        }
    }
}

/// The times of one try that begins `now`.
fn limited(times: Timeouts, now: u64) -> Timeouts {
    let most = times.head;
    if most == Duration::MAX {
        return times;
    }
    Timeouts { connect: times.connect.min(most), send: times.send.min(most), ..times.head_from(now) }
}

/// Whether there may be another try after this failure.
fn again(x: &Exchange, upstream: &CoreUpstream, failure: Failure, sent: bool, tried: &Tried) -> bool {
    if matches!(failure, Failure::Status(_)) {
        // Decided when the head came: the answer was let go for it.
        return true;
    }
    let failed = Failed {
        method: x.request.method_bytes(),
        failure,
        sent,
        replayable: x.source.is_replayable(),
        tries: x.tries,
        elapsed: elapsed(x),
        untried: upstream.group.borrow().untried(tried),
    };
    upstream.plan.retry.may_retry(&failed)
}

/// Whether an answer with this status may be passed over for another try; if so, that one is taken
/// from the budget.
pub fn passes_over(
    connection: &Connection,
    x: &mut Exchange,
    upstream: &Rc<CoreUpstream>,
    tried: &Tried,
    replayable: bool,
) -> bool {
    let failed = Failed {
        method: x.request.method_bytes(),
        failure: Failure::Status(x.response.status()),
        sent: true,
        replayable,
        tries: x.tries,
        elapsed: elapsed(x),
        untried: upstream.group.borrow().untried(tried),
    };
    let now = clock::micros();
    if !upstream.plan.retry.may_retry(&failed) || !upstream.group.borrow().has_another(tried, now) {
        return false;
    }
    x.further = Further::begin(upstream, now);
    if x.further.is_none() {
        connection.worker.stats.retries_refused.add(1);
    }
    x.further.is_some()
}

fn elapsed(x: &Exchange) -> Duration {
    Duration::from_micros(clock::micros().saturating_sub(x.tried_from))
}

/// What a failed try says of its endpoint.
fn outcome(x: &Exchange, error: &TryError) -> Outcome {
    match (error.failure, error.fault.term) {
        (Failure::Status(status), _) => Outcome::Status(status),
        (_, Term::ClientAbort | Term::ClientTimeout) if x.response_begun => Outcome::Status(x.outcome()),
        (_, Term::ClientAbort | Term::ClientTimeout | Term::Limit | Term::BadRequest) => Outcome::Cancelled,
        (_, Term::UpstreamTimeout | Term::UpstreamConnectTimeout) => Outcome::TimedOut,
        _ => Outcome::Failed,
    }
}

/// An endpoint for the next try, after a wait for room where the upstream has a queue.
///
/// # Errors
///
/// `None` when no endpoint is left to try: the last fault is the answer.
async fn place(
    connection: &Connection,
    x: &mut Exchange,
    upstream: &Rc<CoreUpstream>,
    tried: &Tried,
    named: Option<usize>,
    now: u64,
) -> Result<Try, Option<Fault>> {
    let worker = &connection.worker;
    let pick = |x: &Exchange, now| upstream.pick(worker, &Ask { now, key: &x.key, sticky: named, tried });
    if upstream.queue.is_empty() {
        match pick(x, now) {
            Ok(this) => return Ok(this),
            Err(Picked::Full) => {}
            Err(refusal) => return Err(refused(x, refusal)),
        }
    }
    let Some(queue) = upstream.plan.source.queue else { return Err(full(x)) };
    let Some(ticket) = upstream.queue.enter(queue.size) else { return Err(full(x)) };
    worker.stats.queued.add(1);
    let until = clock::micros().saturating_add(queue.timeout.as_micros() as u64);
    loop {
        ticket.wait(until).await;
        if connection.socket.has_hung_up() {
            return Err(Some(Fault::CLIENT_GONE));
        }
        let now = clock::micros();
        if ticket.is_first() {
            match pick(x, now) {
                Ok(this) => return Ok(this),
                Err(Picked::Full) => {}
                Err(refusal) => return Err(refused(x, refusal)),
            }
        }
        if now >= until {
            return Err(full(x));
        }
    }
}

/// No room in time. Behind a try that failed, its failure is the answer.
fn full(x: &mut Exchange) -> Option<Fault> {
    (x.tries == 0).then(|| overload(x, RETRY_AFTER, Term::Queue))
}

fn refused(x: &mut Exchange, refusal: Picked) -> Option<Fault> {
    match refusal {
        Picked::Open(after) if x.tries == 0 => Some(overload(x, after, Term::CircuitOpen)),
        _ => None,
    }
}

/// The pause before a further try, if the upstream has one.
async fn pause(connection: &Connection, x: &Exchange, upstream: &CoreUpstream) -> Result<(), Fault> {
    let pause = upstream.plan.retry.backoff(x.tries, connection.worker.random());
    if pause.is_zero() {
        return Ok(());
    }
    connection.pause(pause).await
}
