//! The control plane: one tokio current-thread loop that holds all that is global
//! or may fail, and tells the cores.
//!
//! `run` starts everything; `state` is the one loop over one closed [`Event`];
//! `source` reads and watches the file, `compile` turns it into a plan on a helper
//! thread, `drain` knows how the gateway ends; `signals`, `socket` (the `ringway`
//! command's way in), `resolve` (DNS) and `probe` (health checks) feed the loop;
//! `status`, `api` and `metrics` show what there is; `sticky` keeps a key. Nothing in the loop computes for long: whatever parses,
//! compiles or renders runs elsewhere.
#![forbid(unsafe_code)]

mod api;
mod compile;
mod drain;
mod health;
mod http;
pub mod logging;
mod metrics;
mod probe;
pub mod quickstart;
mod resolve;
mod rings;
mod run;
mod signals;
pub mod socket;
mod source;
mod state;
mod status;
mod sticky;

use tokio::sync::oneshot;

pub use compile::{check, workdir_of};
pub use run::{run, RunOptions};

/// The version in logs, `/status` and metrics.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Everything that control's loop reacts to.
pub(crate) enum Event {
    /// A worker said something.
    Report(engine::Report),
    /// Something changed in a file that matters.
    FileChanged,
    /// A signal.
    Signal(signals::Signal),
    /// The `ringway` command asks.
    Request(socket::Request, oneshot::Sender<socket::Answer>),
    /// A compile has ended.
    Compiled(Box<compile::Compiled>),
    /// Names were resolved anew: those that have other nodes than before.
    Resolved(resolve::Known),
    /// Other names than before do not resolve: all of them.
    Failing(Vec<resolve::Failing>),
    /// A health check changed an endpoint's health.
    Probed(probe::Probed),
}

/// The way into the loop. Unbounded, but what goes in is: signals and file changes coalesce in
/// the kernel, the command's connections and questions for names are counted, and each worker
/// reports once per plan, and the health of an endpoint changes at most once per probe or rest.
pub(crate) type Events = tokio::sync::mpsc::UnboundedSender<Event>;
