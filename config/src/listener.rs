//! `[[listeners]]` and `[server] listen`: where the gateway can be reached.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::place::Place;

/// One address that is listened on.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Its name; the address as written where none is given.
    pub name: String,
    /// Where it listens.
    pub address: ListenAddress,
    /// The kernel's queue of connections that wait to be accepted.
    pub backlog: u32,
    /// What is spoken on it; `h1` for now.
    pub protocols: Vec<String>,
    /// `off`: a PROXY header is not read.
    pub proxy_protocol: String,
    /// Where it stands.
    pub place: Place,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// One IP address and port (port 0: the kernel picks one).
    Tcp(SocketAddr),
    /// `:8080`: this port on both address families.
    AllFamilies(u16),
    /// `unix:/path`
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(f, "{address}"),
            ListenAddress::AllFamilies(port) => write!(f, ":{port}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
