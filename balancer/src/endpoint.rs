//! One endpoint of one upstream as the whole process knows it.
//!
//! Made when a plan is compiled and carried from plan to plan by address, so that what is known of an
//! endpoint survives reloads. Workers and control write it on events alone (a failure, the first success after
//! one, a probe's result, a published load), never on the plain way of a request.

/// What came of one try at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response head with this status came.
    Status(u16),
    /// No connection: refused, unreachable, reset while connecting; or it broke before the answer.
    Failed,
    /// No connection, or no answer, in time.
    TimedOut,
    /// Given up for a reason that says nothing of the endpoint: the client left, another try was faster.
    Cancelled,
}

/// What came of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// An answer with this status.
    Status(u16),
    /// The connection stood (tcp), or the gRPC server serves.
    Ok,
    /// No connection, a broken one, an answer that is none, or a gRPC server that does not serve.
    Failed,
    /// Not within the time.
    TimedOut,
}

/// An endpoint went out of use or came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whether it may be used now.
    pub healthy: bool,
    /// Who says so.
    pub by: By,
}

/// Who found an endpoint well or ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A probe.
    Active,
    /// `checks.passive` or `max_fails`.
    Passive,
    /// The outlier detection.
    Outlier,
    /// Its circuit breaker.
    Breaker,
}

/// See the module. Shared by all cores and control.
#[derive(Debug)]
pub struct SharedEndpoint {
    workers: usize,
}

impl SharedEndpoint {
    /// What is known of an endpoint that is new: nothing bad. `workers` is how many cores publish their loads.
    pub fn new(workers: usize) -> SharedEndpoint {
        SharedEndpoint { workers }
    }

    /// How many cores publish their loads.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Takes in a probe's result; control alone calls it. `Some` when the endpoint's health changed by it:
    /// the workers have to be told then.
    pub fn probed(
        &self,
        _rule: &config::balance::ActiveCheck,
        _outcome: ProbeOutcome,
        _now: u64,
    ) -> Option<Change> {
        None
    }
}
