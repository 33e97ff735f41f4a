//! The control plane: one tokio current-thread loop that holds all that is global
//! or may fail, and tells the cores.
//!
//! `run` starts everything; `state` is the one loop over one closed [`Event`];
//! `source` watches the file, `compile` turns it into a plan on a helper thread,
//! `signals`, `socket` (the `ringway` command's way in), `resolve` (DNS) and
//! `status` (health and metrics over HTTP) feed the loop. Nothing in the loop
//! computes for long: whatever parses, compiles or renders runs elsewhere.
#![forbid(unsafe_code)]

mod compile;
pub mod logging;
mod metrics;
pub mod quickstart;
mod resolve;
mod run;
mod signals;
pub mod socket;
mod source;
mod state;
mod status;

use std::collections::BTreeMap;
use std::net::IpAddr;

use tokio::sync::oneshot;

pub use compile::{check, workdir_of};
pub use run::{run, RunOptions};

/// The version in logs, `/status` and metrics.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Everything that control's loop reacts to.
pub(crate) enum Event {
    /// A worker said something.
    Report(engine::Report),
    /// Something changed in a folder that is watched.
    FileChanged,
    /// A signal.
    Signal(signals::Signal),
    /// The `ringway` command asks.
    Request(socket::Request, oneshot::Sender<socket::Answer>),
    /// A compile has ended.
    Compiled(Box<compile::Outcome>),
    /// Names were resolved anew.
    Resolved(BTreeMap<String, Vec<IpAddr>>),
}

/// The way into the loop.
pub(crate) type Events = tokio::sync::mpsc::UnboundedSender<Event>;
