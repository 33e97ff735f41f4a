//! Listening sockets: bound by control before a plan is broadcast, one per
//! worker with SO_REUSEPORT, so that everything that can fail has failed while
//! the old plan still serves.
//!
//! Accepting is `accept`, containing panics and counting connections `guard`.

pub mod accept;
pub mod guard;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use config::{ListenAddress, Listener};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// How often, and how far apart, a port that is taken is asked for again: half a second in all.
const BUSY_TRIES: u32 = 10;
const BUSY_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// What tells one listener from another: its address as written, and for a port
/// that the kernel chooses its name too. Two documents that write the same mean
/// the same socket, whatever else they say of it.
pub type ListenerId = String;

/// Sockets bound for a plan: for each new listener one per worker.
#[derive(Default)]
pub struct Sockets {
    /// By listener: the address really bound (port 0 resolved) and the sockets.
    pub bound: Vec<Bound>,
}

/// One listener's sockets.
pub struct Bound {
    /// Which listener.
    pub id: ListenerId,
    /// Its name, for people.
    pub name: String,
    /// The address as bound: `127.0.0.1:8080`, `[::]:80` or `unix:/path`.
    pub address: String,
    /// One per worker.
    pub sockets: Vec<OwnedFd>,
}

/// A listener's id.
pub fn id(listener: &Listener) -> ListenerId {
    let address = address_text(&listener.address);
    match &listener.address {
        ListenAddress::Tcp(tcp) if tcp.port() == 0 => format!("{address}#{}", listener.name),
        ListenAddress::AllFamilies(0) => format!("{address}#{}", listener.name),
        _ => address,
    }
}

/// An address as people write it.
pub fn address_text(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::AllFamilies(port) => format!(":{port}"),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// Binds the listeners that `existing` does not have yet.
///
/// Every TCP address is first bound once without SO_REUSEPORT, so that another
/// process on the same port is found and not silently shared.
///
/// # Errors
///
/// The name of each listener that failed and why; nothing stays bound then.
pub fn bind(
    listeners: &[Arc<Listener>],
    workers: usize,
    existing: &HashMap<ListenerId, String>,
) -> Result<Sockets, Vec<(String, io::Error)>> {
    let mut sockets = Sockets::default();
    let mut failed = Vec::new();
    for listener in listeners {
        let id = id(listener);
        if existing.contains_key(&id) {
            continue;
        }
        let bound = match &listener.address {
            ListenAddress::Tcp(address) => bind_tcp(*address, listener.backlog, workers, false),
            ListenAddress::AllFamilies(port) => bind_all_families(*port, listener.backlog, workers),
            ListenAddress::Unix(path) => bind_unix(path, listener.backlog, workers),
        };
        match bound {
            Ok((address, list)) => {
                sockets.bound.push(Bound { id, name: listener.name.clone(), address, sockets: list });
            }
            Err(error) => failed.push((listener.name.clone(), error)),
        }
    }
    if failed.is_empty() {
        Ok(sockets)
    } else {
        Err(failed)
    }
}

fn bind_all_families(port: u16, backlog: u32, workers: usize) -> io::Result<(String, Vec<OwnedFd>)> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    bind_tcp(any, backlog, workers, true).or_else(|error| {
        // A host without IPv6 still has ":8080".
        if error.raw_os_error() == Some(libc::EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
        {
            return bind_tcp(SocketAddr::from(([0, 0, 0, 0], port)), backlog, workers, false);
        }
        Err(error)
    })
}

fn bind_tcp(
    address: SocketAddr,
    backlog: u32,
    workers: usize,
    both_families: bool,
) -> io::Result<(String, Vec<OwnedFd>)> {
    let make = |address: SocketAddr, share: bool| -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(share)?;
        if address.is_ipv6() {
            socket.set_only_v6(!both_families)?;
        }
        // Inherited by accepted sockets (tested), so that no accept pays for it.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SockAddr::from(address))?;
        Ok(socket)
    };
    if address.port() != 0 {
        alone(|| make(address, false))?;
    }
    let first = make(address, true)?;
    let real = first.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    let mut list = vec![first];
    for _ in 1..workers {
        list.push(make(real, true)?);
    }
    for socket in &list {
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    }
    Ok((real.to_string(), list.into_iter().map(OwnedFd::from).collect()))
}

/// Makes sure that nobody else listens there. Asked for a moment again before it is believed that somebody does:
/// the sockets of a gateway that was killed live on until the kernel has taken its rings apart.
#[allow(clippy::disallowed_methods)] // never on a core: control's start, or its helper thread
fn alone(bind: impl Fn() -> io::Result<Socket>) -> io::Result<()> {
    for _ in 0..BUSY_TRIES {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => std::thread::sleep(BUSY_PAUSE),
            other => return other.map(drop),
        }
    }
    bind().map(drop)
}

/// Unix sockets know no SO_REUSEPORT: one socket, of which each worker gets a
/// descriptor; the kernel wakes one of them per connection.
fn bind_unix(path: &Path, backlog: u32, workers: usize) -> io::Result<(String, Vec<OwnedFd>)> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Err(error) = socket.bind(&address) {
        let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        if error.kind() != io::ErrorKind::AddrInUse || probe.connect(&address).is_ok() {
            return Err(error);
        }
        // Nobody answers there: a file that an ended process left behind.
        remove_socket_file(path)?;
        socket.bind(&address)?;
    }
    set_mode(path)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let mut list = Vec::new();
    for _ in 1..workers {
        list.push(OwnedFd::from(socket.try_clone()?));
    }
    list.push(socket.into());
    Ok((format!("unix:{}", path.display()), list))
}

/// Runs on control's thread before a broadcast, never on a core.
#[allow(clippy::disallowed_methods)]
fn remove_socket_file(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)
}

#[allow(clippy::disallowed_methods)]
fn set_mode(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
}
