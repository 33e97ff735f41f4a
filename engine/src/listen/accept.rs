//! Takes connections from this core's own listening sockets.
//!
//! Four accepts are in flight per listener. None of them is ever dropped: to
//! stop a listener they are cancelled and awaited, then the queue is emptied
//! without waiting, and only then is the socket closed, so that a reload loses
//! no connection that the kernel had already completed.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use monoio::io::{CancelHandle, Canceller};
use monoio::net::{TcpListener, UnixListener};

use super::guard;
use crate::http1;
use crate::sys::{self, Socket};
use crate::tls::TlsStream;
use crate::transport::Transport;
use crate::worker::Worker;

/// Accepts kept in flight per listener and core.
const IN_FLIGHT: usize = 4;
/// Rest after an error that lasts (out of descriptors or memory).
const REST: Duration = Duration::from_millis(50);

/// What connections need to know of the listener they came by.
pub struct ListenerInfo {
    /// Its name.
    pub name: String,
    /// The port clients connected to; 0 for a unix socket.
    pub port: u16,
    /// Whether connections are TLS; a reload may change it for those that come after.
    pub tls: Cell<bool>,
}

enum Socks {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socks {
    fn new(fd: OwnedFd, unix: bool) -> io::Result<Self> {
        if unix {
            UnixListener::from_std(std::os::unix::net::UnixListener::from(fd)).map(Socks::Unix)
        } else {
            TcpListener::from_std(std::net::TcpListener::from(fd)).map(Socks::Tcp)
        }
    }

    fn raw_fd(&self) -> RawFd {
        match self {
            Socks::Tcp(listener) => listener.as_raw_fd(),
            Socks::Unix(listener) => listener.as_raw_fd(),
        }
    }

    async fn accept(&self, cancel: CancelHandle) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Socks::Tcp(listener) => {
                let (stream, peer) = listener.cancelable_accept(cancel).await?;
                Ok((Socket::new(stream), Some(peer)))
            }
            Socks::Unix(listener) => {
                let (stream, _) = listener.cancelable_accept(cancel).await?;
                Ok((Socket::from_fd(sys::own(stream.into_raw_fd()))?, None))
            }
        }
    }
}

/// A listener that is being accepted from; `stop` ends it.
pub struct Accepting {
    canceller: RefCell<Option<Canceller>>,
    /// What its connections know of it.
    pub info: Rc<ListenerInfo>,
}

impl Accepting {
    /// Starts accepting on this core.
    ///
    /// # Errors
    ///
    /// When the driver cannot take the descriptor.
    pub fn start(worker: &Rc<Worker>, fd: OwnedFd, info: ListenerInfo, unix: bool) -> io::Result<Self> {
        if worker.legacy {
            sys::set_nonblocking(&fd, true)?;
        }
        let socks = Rc::new(Socks::new(fd, unix)?);
        let info = Rc::new(info);
        let canceller = Canceller::new();
        for _ in 0..IN_FLIGHT {
            let (socks, info, handle) = (socks.clone(), info.clone(), canceller.handle());
            let this = worker.clone();
            guard::spawn(worker, async move { accept_loop(this, socks, info, handle).await });
        }
        Ok(Self { canceller: RefCell::new(Some(canceller)), info })
    }

    /// Stops accepting; what the kernel has already completed is still served.
    pub fn stop(&self) {
        if let Some(canceller) = self.canceller.borrow_mut().take() {
            drop(canceller.cancel());
        }
    }
}

async fn accept_loop(worker: Rc<Worker>, socks: Rc<Socks>, info: Rc<ListenerInfo>, handle: CancelHandle) {
    loop {
        match socks.accept(handle.clone()).await {
            Ok((socket, peer)) => {
                admit(&worker, socket, peer, &info).await;
            }
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => break,
            Err(error) if lasts(&error) => {
                worker.stats.accept_errors.add(1);
                tracing::warn!(%error, listener = info.name, "cannot accept; resting for 50 ms");
                monoio::time::sleep(REST).await;
            }
            // The peer gave up between its SYN and our accept.
            Err(_) => worker.stats.accept_errors.add(1),
        }
    }
    // The last of the loops empties the queue before the socket closes.
    if Rc::strong_count(&socks) == 1 {
        while let Ok(fd) = sys::accept_now(socks.raw_fd()) {
            if worker.legacy && sys::set_nonblocking(&fd, true).is_err() {
                continue;
            }
            let peer = std::net::TcpStream::from(fd);
            let address = peer.peer_addr().ok();
            if let Ok(socket) = Socket::from_fd(peer.into()) {
                serve(&worker, socket, address, &info);
            }
        }
    }
}

fn lasts(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// At the connection limit the accepted one waits here, and with it the
/// accepts in flight, so that further clients queue in the kernel's backlog.
async fn admit(worker: &Rc<Worker>, socket: Socket, peer: Option<SocketAddr>, info: &Rc<ListenerInfo>) {
    while worker.connections.get() >= worker.connections_max.get() && !worker.ending() {
        monoio::time::sleep(REST).await;
    }
    sys::set_cloexec(socket.raw_fd());
    serve(worker, socket, peer, info);
}

fn serve(worker: &Rc<Worker>, socket: Socket, peer: Option<SocketAddr>, info: &Rc<ListenerInfo>) {
    worker.stats.accepted.add(1);
    let transport = match info.tls.get() {
        false => Transport::Plain(socket),
        true => Transport::Tls(Box::new(TlsStream::new(socket))),
    };
    let connection = Box::new(http1::Connection::new(worker, transport, peer, info.clone()));
    guard::spawn(worker, http1::serve(connection));
}
