//! One HTTP/1 client connection: reads heads, hands each exchange to `proxy`,
//! and decides whether there is a next one.
//!
//! The task has two shapes. While requests come it runs [`busy`], a boxed future
//! with a pooled buffer and an exchange in hand. When nothing has come for about
//! a second it lets all of that go and waits for readability alone, so that an
//! idle connection costs a few hundred bytes. `head` reads heads, `body` knows
//! where a body ends, `write` sends.

pub mod body;
pub mod head;
pub mod write;

use std::cell::Cell;
use std::future::Future;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use crate::buffer::{Buf, Class};
use crate::deadline::Watch;
use crate::listen::accept::ListenerInfo;
use crate::proxy;
use crate::proxy::fault::Fault;
use crate::sys::Socket;
use crate::tls;
use crate::transport::Transport;
use crate::worker::Worker;

/// After this long without a byte a connection gives its buffer back.
const QUIET: Duration = Duration::from_secs(1);
/// When so many of a core's connections hold a buffer and wait, the next ones do
/// without: a flood of clients that connect and say nothing takes no more memory.
const WAITING_MAX: usize = 64;
/// How soon a client that leaves during a pause is noticed.
const PAUSE_LOOK: Duration = Duration::from_millis(100);
/// How long what a refused client still sends is read and dropped ...
const LINGER: Duration = Duration::from_secs(2);
/// ... and how much of it, in bytes, so that it reads our answer before a reset.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// A client's connection.
pub struct Connection {
    /// Deadlines; before the socket, so that it is dropped first.
    pub watch: Watch,
    /// What its bytes travel over.
    pub socket: Transport,
    /// The core it lives on.
    pub worker: Rc<Worker>,
    /// The other end; `None` on a unix socket.
    pub peer: Option<SocketAddr>,
    /// Where it came in.
    pub listener: Rc<ListenerInfo>,
    /// Requests read on it.
    pub served: Cell<u64>,
}

impl Connection {
    /// Takes over an accepted socket and counts it.
    pub fn new(
        worker: &Rc<Worker>,
        socket: Transport,
        peer: Option<SocketAddr>,
        listener: Rc<ListenerInfo>,
    ) -> Self {
        worker.connections.set(worker.connections.get() + 1);
        worker.stats.connections.add(1);
        let watch = worker.wheel.watch(socket.raw_fd());
        Self { watch, socket, worker: worker.clone(), peer, listener, served: Cell::new(0) }
    }

    /// Waits, as long as the client stays.
    ///
    /// # Errors
    ///
    /// When it left meanwhile.
    pub async fn pause(&self, time: Duration) -> Result<(), Fault> {
        let mut left = time;
        loop {
            let part = left.min(PAUSE_LOOK);
            monoio::time::sleep(part).await;
            left -= part;
            if self.socket.has_hung_up() {
                return Err(Fault::CLIENT_GONE);
            }
            if left.is_zero() {
                return Ok(());
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.connections.set(self.worker.connections.get() - 1);
        self.worker.stats.connections.sub(1);
    }
}

/// Why a busy spell ended.
enum Spell {
    /// No request for a while; the connection may stay for this long.
    Quiet(Duration),
    /// The connection is done.
    Over,
}

/// What `proxy` says of the connection behind an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// It stands at the end of the request: read the next.
    KeepAlive,
    /// Close it.
    Close,
    /// Close it, but read and drop what the client still sends for a moment.
    Linger,
}

/// Serves a connection to its end.
///
/// Boxed, because an async function keeps its arguments twice: as given and as bound.
pub async fn serve(connection: Box<Connection>) {
    if let Transport::Tls(stream) = &connection.socket {
        // Boxed as below: it is long over while the connection lives.
        if !Box::pin(tls::accept::handshake(&connection, stream)).await {
            return;
        }
    }
    let mut ready = false;
    while let Spell::Quiet(rest) = spell(&connection, ready).await {
        connection.watch.idle_in(rest);
        connection.worker.stats.parked.add(1);
        let readable = connection.socket.readable().await;
        connection.worker.stats.parked.sub(1);
        if readable.is_err() || connection.watch.expired() {
            return;
        }
        ready = true;
    }
    connection.socket.say_goodbye();
}

/// Boxed in a function of its own: written in place, the compiler would reserve
/// room for the whole future (3 KiB) in the idle task as well.
fn spell(connection: &Connection, ready: bool) -> Pin<Box<dyn Future<Output = Spell> + '_>> {
    Box::pin(busy(connection, ready))
}

/// `ready` says that there is something to read.
async fn busy(connection: &Connection, mut ready: bool) -> Spell {
    let worker = &connection.worker;
    let mut exchange = worker.take_exchange();
    let mut input = Buf::take(Class::Read);
    let spell = loop {
        let limits = worker.plan().settings.clone();
        let patience = if connection.served.get() == 0 {
            limits.limits.head_timeout
        } else {
            limits.limits.idle_timeout
        };
        if !ready && input.is_empty() && worker.waiting.get() >= WAITING_MAX {
            break Spell::Quiet(patience);
        }
        ready = false;
        match head::read(connection, &limits, QUIET.min(patience), &mut input, &mut exchange).await {
            head::Read::Request => {}
            head::Read::Quiet if patience > QUIET => break Spell::Quiet(patience - QUIET),
            head::Read::Quiet | head::Read::Closed => break Spell::Over,
            head::Read::Refused(fault) => {
                if proxy::refuse(connection, &mut exchange, fault).await == After::Linger {
                    drop(input);
                    end(connection).await;
                }
                break Spell::Over;
            }
        }
        connection.served.set(connection.served.get() + 1);
        let after = proxy::handle(connection, &mut exchange, &mut input).await;
        exchange.clear();
        match after {
            After::KeepAlive => {}
            After::Close => break Spell::Over,
            After::Linger => {
                drop(input);
                end(connection).await;
                break Spell::Over;
            }
        }
    };
    worker.give_exchange(exchange);
    spell
}

/// Closing a socket with unread data sends a reset, which can overtake the
/// answer: so the sending side ends first, and what comes is dropped for a while.
async fn end(connection: &Connection) {
    connection.socket.shutdown(Shutdown::Write);
    linger(connection.socket.socket(), &connection.watch).await;
}

/// Reads and drops what still comes on a socket whose sending side has ended; under TLS too, what it says is of no
/// interest.
pub async fn linger(socket: &Socket, watch: &Watch) {
    watch.expire_in(LINGER);
    let mut input = Buf::take(Class::Read);
    let mut dropped = 0;
    while dropped < LINGER_BYTES_MAX {
        input.clear();
        let (read, back) = socket.read(input).await;
        input = back;
        match read {
            Ok(count) if count > 0 => dropped += count,
            _ => return,
        }
    }
}
