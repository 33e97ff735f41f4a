//! New connections to endpoints.
//!
//! The socket is made and connected here without waiting, and the ring only
//! waits until it is writable: so the deadline wheel and the guard on the client
//! know the descriptor from the first moment and can end a connect by
//! `shutdown(2)`, which monoio's own connect (with its 640 bytes of timer
//! future) would not allow. On loopback the connect is done when the call returns.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, SockAddr, Type};

use super::pool::Link;
use super::Address;
use crate::deadline::Watch;
use crate::sys::{self, Socket};
use crate::tls::connect::handshake;
use crate::tls::{EndpointTls, TlsStream};
use crate::transport::Transport;
use crate::worker::Worker;

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// Not within the time given.
    TimedOut,
    /// The client left meanwhile.
    ClientGone,
    /// Refused, unreachable, out of descriptors ...
    Io(io::Error),
    /// The TLS handshake failed: the certificate is not to be believed, or the endpoint speaks no TLS.
    Tls(io::Error),
}

/// Connects to an endpoint within `timeout`, while `client`, if one is given, is watched.
///
/// # Errors
///
/// See [`ConnectError`]; nothing was sent in any case.
pub async fn connect(
    worker: &Rc<Worker>,
    address: &Address,
    tls: Option<&EndpointTls>,
    timeout: Duration,
    client: Option<&Watch>,
) -> Result<Link, ConnectError> {
    let (socket, pending) = begin(address, worker.legacy).map_err(ConnectError::Io)?;
    let watch = worker.wheel.watch(socket.raw_fd());
    let link = Link { watch, socket: Transport::Plain(socket), served: 0 };
    if pending || tls.is_some() {
        link.watch.expire_in(timeout);
    }
    if pending {
        if let Some(client) = client {
            client.guard_peer(link.socket.raw_fd());
        }
        let ready = link.socket.socket().writable().await;
        if let Some(client) = client {
            client.clear();
            if client.peer_gone() {
                return Err(ConnectError::ClientGone);
            }
        }
        if link.watch.expired() {
            return Err(ConnectError::TimedOut);
        }
        ready.and_then(|()| link.socket.socket().take_error()).map_err(ConnectError::Io)?;
        if !worker.legacy {
            sys::set_nonblocking_raw(link.socket.raw_fd(), false).map_err(ConnectError::Io)?;
        }
    }
    match tls {
        None => Ok(link),
        Some(tls) => Box::pin(encrypt(link, tls, client)).await,
    }
}

/// The handshake, within what is left of the time to connect.
async fn encrypt(link: Link, tls: &EndpointTls, client: Option<&Watch>) -> Result<Link, ConnectError> {
    let Link { watch, socket: Transport::Plain(socket), served } = link else { return Ok(link) };
    if let Some(client) = client {
        client.guard_peer(socket.raw_fd());
    }
    let stream = Box::new(TlsStream::new(socket));
    let shaken = handshake(&stream, tls).await;
    if let Some(client) = client {
        client.clear();
        if client.peer_gone() {
            return Err(ConnectError::ClientGone);
        }
    }
    match shaken {
        Ok(()) => Ok(Link { watch, socket: Transport::Tls(stream), served }),
        Err(_) if watch.expired() => Err(ConnectError::TimedOut),
        Err(error) => Err(ConnectError::Tls(error)),
    }
}

/// A socket whose connect has begun, and whether it is still under way.
fn begin(address: &Address, legacy: bool) -> io::Result<(Socket, bool)> {
    let (target, domain) = match address {
        Address::Tcp(address) => (SockAddr::from(*address), Domain::for_address(*address)),
        Address::Unix(path) => (SockAddr::unix(path)?, Domain::UNIX),
    };
    let socket = socket2::Socket::new(domain, Type::STREAM.nonblocking().cloexec(), None)?;
    if domain != Domain::UNIX {
        socket.set_tcp_nodelay(true)?;
    }
    let pending = match socket.connect(&target) {
        Ok(()) => false,
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => true,
        Err(error) => return Err(error),
    };
    if !pending && !legacy {
        // io_uring wants blocking sockets: a non-blocking one fails with EAGAIN
        // instead of arming a poll.
        sys::set_nonblocking(&socket, false)?;
    }
    Ok((Socket::from_fd(OwnedFd::from(socket))?, pending))
}
