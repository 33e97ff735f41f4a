//! An upstream as one core has it (`core`), with the requests that wait for room
//! there (`queue`), and connections to endpoints: kept ones (`pool`) and new ones
//! (`connect`).

pub mod connect;
mod core;
pub mod pool;
pub mod queue;

pub use self::core::{CoreUpstream, Try};

use std::net::SocketAddr;
use std::path::PathBuf;

/// What two connections have in common that may stand for each other: where they lead, and the TLS identity.
pub type PoolKey = (Address, Option<crate::tls::connect::Identity>);

/// Where an endpoint is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// Over TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}
