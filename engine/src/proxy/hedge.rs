//! A second try beside a slow first one: whichever answers first is the answer,
//! the others are given up and their connections closed.
//!
//! Only what is the same when it is done twice is hedged (RFC 9110 section 9.2.2),
//! and only when all of it is at hand. The race is for the first byte of an
//! answer; the winner's is then received as any other.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use balancer::endpoint::Outcome;
use balancer::upstream::Ask;
use config::balance::Hedge;

use super::attempt::{write_request, TryError, Way};
use super::exchange::Exchange;
use super::fault::{Fault, Term};
use super::forward::Further;
use super::sticky;
use crate::clock;
use crate::http1::{write, Connection};
use crate::plan::Timeouts;
use crate::upstream::connect::connect;
use crate::upstream::pool::Link;
use crate::upstream::Try;

/// How soon a client that leaves is noticed once the first try, by which it was guarded, has failed.
const LOOK: Duration = Duration::from_millis(100);

/// Status in the log of a try that was given up for a faster one.
const GIVEN_UP: u16 = 499;

/// Whether, and how, this try may be hedged.
pub fn allowance(x: &Exchange, way: &Way<'_>) -> Option<Hedge> {
    let hedge = way.upstream.plan.source.hedge?;
    let fits = x.tries == 1
        && !x.upgrade
        && x.source.is_replayable()
        && way.upstream.plan.retry.hedgeable(x.request.method_bytes())
        // A session stays where it is as long as that has not failed.
        && !sticky::has_session(x, way.upstream, way.this.index);
    fits.then_some(hedge)
}

/// One of the tries under way.
struct Rival {
    /// Its place among the exchange's tries.
    number: u32,
    /// Its try; `None` for the first, whose is the way's.
    this: Option<Try>,
    _further: Option<Further>,
    future: Pin<Box<dyn Future<Output = Ready>>>,
}

/// The end of a rival's wait: a connection with something to read, or why not.
type Ready = Result<Link, (Option<Link>, TryError)>;

enum Event {
    /// Nothing came in time.
    Slow,
    /// Time to look whether the client is still there.
    Look,
    Done(usize, Ready),
}

/// Waits for the first answer of `first`, and of those that are sent beside it. The connection that it
/// comes on is given back; `way` is then the way of that try.
///
/// # Errors
///
/// When no rival is left, or nobody to answer to.
pub async fn race(
    connection: &Connection,
    x: &mut Exchange,
    way: &mut Way<'_>,
    first: Link,
    hedge: Hedge,
) -> Result<Link, TryError> {
    first.watch.expire_in(way.times.head_patience());
    connection.watch.guard_peer(first.socket.raw_fd());
    let future = Box::pin(answered(first));
    let first_number = x.current_try;
    let mut rivals = vec![Rival { number: first_number, this: None, _further: None, future }];
    let mut left = hedge.max;
    let mut slow_at = later(hedge.after);
    let mut guarded = true;
    loop {
        match next(&mut rivals, (left > 0).then_some(slow_at), !guarded).await {
            Event::Look if connection.socket.has_hung_up() => return Err(abandon(x, &rivals)),
            Event::Look => {}
            Event::Slow => {
                slow_at = later(hedge.after);
                left -= 1;
                match start(connection, x, way) {
                    Some(rival) => rivals.push(rival),
                    None => left = 0,
                }
            }
            Event::Done(index, ready) => {
                if guarded && connection.watch.peer_gone() {
                    return Err(abandon(x, &rivals));
                }
                let rival = rivals.swap_remove(index);
                match ready {
                    Ok(link) => {
                        win(x, way, rival, rivals);
                        return Ok(link);
                    }
                    Err((_, error)) if rivals.is_empty() => {
                        win(x, way, rival, rivals);
                        return Err(error);
                    }
                    Err((link, error)) => {
                        if rival.number == first_number {
                            // Its connection is closed here, and its number may soon be another's.
                            connection.watch.clear();
                            guarded = false;
                        }
                        drop(link);
                        lose(x, way, rival, &mut rivals, error);
                    }
                }
            }
        }
    }
}

fn later(after: Duration) -> u64 {
    clock::micros().saturating_add(u64::try_from(after.as_micros()).unwrap_or(u64::MAX))
}

/// The client has left: one of those under way is the try that it gave up, as its outcome will say.
fn abandon(x: &mut Exchange, rivals: &[Rival]) -> TryError {
    x.current_try = rivals.first().map_or(x.current_try, |rival| rival.number);
    TryError { failure: balancer::retry::Failure::NoAnswer, sent: true, fault: Fault::CLIENT_GONE }
}

/// The next thing that happens; all of them are asked in turn.
async fn next(rivals: &mut [Rival], slow_at: Option<u64>, looks: bool) -> Event {
    let until = |at: u64| Duration::from_micros(at.saturating_sub(clock::micros()));
    let mut slow = slow_at.map(|at| Box::pin(monoio::time::sleep(until(at))));
    let mut look = looks.then(|| Box::pin(monoio::time::sleep(LOOK)));
    std::future::poll_fn(|context| {
        for (index, rival) in rivals.iter_mut().enumerate() {
            if let Poll::Ready(ready) = rival.future.as_mut().poll(context) {
                return Poll::Ready(Event::Done(index, ready));
            }
        }
        if slow.as_mut().is_some_and(|slow| slow.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Event::Slow);
        }
        if look.as_mut().is_some_and(|look| look.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Event::Look);
        }
        Poll::Pending
    })
    .await
}

/// Sends a request and waits for the first of its answer.
async fn asked(link: Link, bytes: Vec<u8>, times: Timeouts) -> (Ready, Vec<u8>) {
    let (sent, bytes) = write::all(&link.socket, &link.watch, times.send, bytes).await;
    if sent.is_err() {
        let error = TryError::send(&link);
        return (Err((Some(link), error)), bytes);
    }
    link.watch.expire_in(times.head_patience());
    (answered(link).await, bytes)
}

/// Waits until something can be read, and makes sure that it is not the end.
async fn answered(link: Link) -> Ready {
    if link.socket.answered().await {
        return Ok(link);
    }
    let (failure, fault) = match link.watch.expired() {
        true => (balancer::retry::Failure::Timeout, Fault::answer(504, Term::UpstreamTimeout)),
        false => (balancer::retry::Failure::NoAnswer, Fault::answer(502, Term::UpstreamReset)),
    };
    Err((Some(link), TryError { failure, sent: true, fault }))
}

/// Sends the request to another endpoint, if there is one and the budget allows it.
fn start(connection: &Connection, x: &mut Exchange, way: &mut Way<'_>) -> Option<Rival> {
    let worker = &connection.worker;
    let upstream = way.upstream;
    let now = clock::micros();
    let ask = Ask { now, key: &x.key, sticky: None, tried: way.tried };
    let this = upstream.pick(worker, &ask).ok()?;
    if way.tried.contains(this.index) {
        // An only endpoint is given again: to ask it twice helps nobody.
        return None;
    }
    let further = Further::begin(upstream, now)?;
    way.tried.add(this.index);
    worker.stats.hedges.add(1);
    let waited_for = x.current_try;
    x.begin_try();
    let number = x.current_try;
    x.note_try(GIVEN_UP);
    let mut bytes = Vec::with_capacity(1024);
    write_request(x, upstream, this.index, &mut bytes);
    x.current_try = waited_for;
    let pool = upstream.pools[this.index].clone();
    let link = pool.checkout();
    let address = upstream.plan.endpoints[this.index].address.clone();
    let (worker, times) = (worker.clone(), way.times);
    // Its time begins with it, not with the first's.
    let times = times.head_from(now);
    let future = Box::pin(async move {
        let mut bytes = bytes;
        if let Some(link) = link {
            let (ready, back) = asked(link, bytes, times).await;
            match ready {
                // It lay in the pool and was closed: that says nothing of the endpoint (see `attempt`).
                Err((_, error)) if error.failure == balancer::retry::Failure::NoAnswer => bytes = back,
                ready => return ready,
            }
        }
        let connected = connect(&worker, &address, pool.tls.as_ref(), times.connect, None).await;
        let link = connected.map_err(|error| (None, TryError::connect(&error)))?;
        asked(link, bytes, times).await.0
    });
    Some(Rival { number, this: Some(this), _further: Some(further), future })
}

/// The rival whose answer is received; the others are given up.
fn win(x: &mut Exchange, way: &mut Way<'_>, winner: Rival, others: Vec<Rival>) {
    let waited_for = winner.number;
    for rival in others {
        x.current_try = rival.number;
        x.note_try(GIVEN_UP);
        // Dropping its future closes its connection, its try says nothing of the endpoint.
        drop(rival);
    }
    if let Some(this) = winner.this {
        // What stood there was given up, or has failed and is a mere shell by now.
        *way.this = this;
        x.upstream_addr = Some(way.upstream.texts[way.this.index].clone());
    }
    way.times = way.times.head_from(way.this.began);
    let named = sticky::named_endpoint(x, way.upstream);
    sticky::remember(x, way.upstream, way.this.index, named);
    x.current_try = waited_for;
}

/// A rival that failed while others go on.
fn lose(x: &mut Exchange, way: &mut Way<'_>, loser: Rival, rivals: &mut [Rival], error: TryError) {
    let outcome = match error.fault.term {
        Term::UpstreamTimeout | Term::UpstreamConnectTimeout => Outcome::TimedOut,
        _ => Outcome::Failed,
    };
    x.current_try = loser.number;
    x.note_try(error.fault.status);
    let this = match loser.this {
        Some(this) => Some(this),
        // The first has failed: another takes its place as the way's.
        None => rivals.iter_mut().find_map(|rival| rival.this.take()).map(|other| {
            x.upstream_addr = Some(way.upstream.texts[other.index].clone());
            std::mem::replace(way.this, other)
        }),
    };
    if let Some(this) = this {
        this.fail(outcome, None);
    }
}
