//! Connections to endpoints: kept ones (`pool`) and new ones (`connect`).

pub mod connect;
pub mod pool;

use std::net::SocketAddr;
use std::path::PathBuf;

/// Where an endpoint is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// Over TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}
