//! What control says to a worker, what workers report, and the doorbell.
//!
//! A crossbeam channel carries the message; a socket pair wakes the reactor,
//! because monoio has no waker that works across threads without its `sync`
//! feature. The sender rings only when nobody has rung since the worker last
//! looked, so a burst costs one byte and nothing is lost.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use crate::listen::ListenerId;
use crate::plan::Plan;

/// From control to one worker.
pub enum Command {
    /// Serve by this plan from the next request on. `sockets` are this worker's
    /// listeners that are new; the ones the plan no longer names are closed.
    Plan {
        /// The compiled configuration.
        plan: Arc<Plan>,
        /// New listening sockets, one per listener.
        sockets: Vec<(ListenerId, OwnedFd)>,
    },
    /// The health of endpoints of this upstream changed: the plan's [`SharedEndpoint`]s say how.
    ///
    /// [`SharedEndpoint`]: balancer::endpoint::SharedEndpoint
    Health {
        /// The upstream's id.
        upstream: Arc<str>,
    },
    /// Stop accepting, finish what is in flight, end what is left at `deadline`
    /// from now.
    Drain {
        /// How long exchanges in flight may still take.
        deadline: Duration,
    },
    /// End every connection and the worker now.
    Stop,
}

/// From a worker to control.
#[derive(Debug)]
pub enum Report {
    /// The worker serves its listeners.
    Started {
        /// Its index.
        worker: usize,
    },
    /// From now on the worker's requests use this generation.
    Applied {
        /// Its index.
        worker: usize,
        /// The plan's number.
        generation: u64,
    },
    /// Live traffic took an endpoint out or brought it back; the others have to be told.
    Health {
        /// Its index.
        worker: usize,
        /// The upstream's id.
        upstream: String,
        /// The endpoint's address as text.
        endpoint: String,
        /// What changed.
        change: balancer::endpoint::Change,
    },
    /// A try at this endpoint failed, and probes decide over it: it may be worth one now.
    Suspect {
        /// What the process knows of the endpoint.
        endpoint: Arc<balancer::endpoint::SharedEndpoint>,
    },
    /// Drained or stopped: no connection is left and the thread ends in order.
    Drained {
        /// Its index.
        worker: usize,
        /// Connections that had to be cut at the deadline.
        cut: usize,
    },
    /// The thread ended without being told to; the process must end.
    Ended {
        /// Its index.
        worker: usize,
        /// Why.
        reason: String,
    },
}

/// The sending end, held by control.
pub struct Mailbox {
    sender: Sender<Command>,
    rung: Arc<AtomicBool>,
    bell: UnixStream,
}

impl Mailbox {
    /// Puts a command into the worker's channel and wakes it.
    ///
    /// Returns false when the worker is gone.
    pub fn send(&self, command: Command) -> bool {
        if self.sender.send(command).is_err() {
            return false;
        }
        if !self.rung.swap(true, Ordering::AcqRel) {
            // The pair's buffer is never full: one byte at most is under way.
            let _ = (&self.bell).write(&[1]);
        }
        true
    }
}

/// The receiving end, held by the worker.
pub struct Inbox {
    receiver: Receiver<Command>,
    rung: Arc<AtomicBool>,
}

impl Inbox {
    /// Call after the doorbell's byte was read, before draining the channel.
    pub fn heard(&self) {
        self.rung.store(false, Ordering::Release);
    }

    /// The next command, if there is one.
    ///
    /// # Errors
    ///
    /// `Empty`, or `Disconnected` when control is gone.
    pub fn next(&self) -> Result<Command, TryRecvError> {
        self.receiver.try_recv()
    }
}

/// A mailbox, its inbox, and the worker's end of the doorbell.
///
/// # Errors
///
/// When no socket pair can be made.
pub fn mailbox() -> std::io::Result<(Mailbox, Inbox, OwnedFd)> {
    let (bell, ear) = UnixStream::pair()?;
    let (sender, receiver) = crossbeam_channel::unbounded();
    let rung = Arc::new(AtomicBool::new(false));
    let mailbox = Mailbox { sender, rung: rung.clone(), bell };
    Ok((mailbox, Inbox { receiver, rung }, ear.into()))
}
