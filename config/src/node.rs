//! Nodes: the endpoints of an upstream, in the three ways they can be written.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One endpoint of an upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it is.
    pub address: NodeAddress,
    /// Its share; 0 gets nothing unless all that are usable have 0.
    pub weight: u32,
    /// Its tier: a lower one is used only when all above have failed or are down.
    pub priority: i32,
    /// One tier below all that are no backup.
    pub backup: bool,
    /// Gets nothing.
    pub down: bool,
    /// Failures in a row after which it rests.
    pub max_fails: Option<u32>,
    /// How long it rests.
    pub fail_timeout: Option<Duration>,
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeAddress {
    /// An IP address and port.
    Ip(SocketAddr),
    /// A name that control resolves, lower case.
    Name {
        /// The host name.
        host: String,
        /// The port.
        port: u16,
    },
    /// `unix:/path`
    Unix(PathBuf),
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeAddress::Ip(address) => write!(f, "{address}"),
            NodeAddress::Name { host, port } => write!(f, "{host}:{port}"),
            NodeAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
