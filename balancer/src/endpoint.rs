//! One endpoint of one upstream as the whole process knows it.
//!
//! Made when a plan is compiled and carried from plan to plan by address, so that what is known of an
//! endpoint survives reloads. Workers and control write it on events alone (a failure, the first success after
//! one, a probe's result, a published load), never on the plain way of a request.

use crate::health::HealthRules;

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

/// What a pick may do with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usable {
    /// Use it.
    Yes,
    /// Its rest is over: one request may try it ([`SharedEndpoint::claim_trial`]).
    Trial,
    /// It is out: only to be used when all are (the panic threshold).
    Resting,
    /// Its circuit is open: never to be used before this time, in microseconds.
    Open {
        /// When a trial may be made.
        until: u64,
    },
}

/// What a worker tells the others of its traffic to an endpoint, and what is known of theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests under way.
    pub active: u32,
    /// The average latency (EWMA), in microseconds; 0 when it is not known.
    pub latency: u32,
}

/// What `/v1/healthcheck` says of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// lua-resty-healthcheck's word.
    pub word: StatusWord,
    /// Consecutive successes, while they are counted.
    pub success: u32,
    /// Consecutive answers of an unhealthy status.
    pub http_failure: u32,
    /// Consecutive failures of the connection.
    pub tcp_failure: u32,
    /// Consecutive timeouts.
    pub timeout_failure: u32,
    /// Why it is out, where it is.
    pub out: Option<Out>,
}

/// Why an endpoint is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Out {
    /// Who found it ill.
    pub by: By,
    /// Until when it rests, in microseconds; `None` when a probe decides.
    pub until: Option<u64>,
}

/// lua-resty-healthcheck's words for the state of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusWord {
    /// Used, and no failure is counted.
    Healthy,
    /// Used, but failures are counted.
    MostlyHealthy,
    /// Out, but successes are counted.
    MostlyUnhealthy,
    /// Out.
    Unhealthy,
}

impl StatusWord {
    /// As lua-resty-healthcheck writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            StatusWord::Healthy => "healthy",
            StatusWord::MostlyHealthy => "mostly_healthy",
            StatusWord::MostlyUnhealthy => "mostly_unhealthy",
            StatusWord::Unhealthy => "unhealthy",
        }
    }
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

    /// What a pick may do with it, by what counts under `rules`.
    pub fn usable(&self, _rules: &HealthRules, _now: u64) -> Usable {
        Usable::Yes
    }

    /// Takes the one trial of a rest that is over.
    pub fn claim_trial(&self, _rules: &HealthRules, _now: u64) -> bool {
        true
    }

    /// Takes in what came of a try.
    pub fn finished(
        &self,
        _rules: &HealthRules,
        _outcome: Outcome,
        _trial: bool,
        _now: u64,
        _may_eject: &dyn Fn() -> bool,
    ) -> Option<Change> {
        None
    }

    /// Whether it is out.
    pub fn is_out(&self, _rules: &HealthRules) -> bool {
        false
    }

    /// When it came (back), in microseconds; 0 when slow start does not apply.
    pub fn up_since(&self) -> u64 {
        0
    }

    /// A new endpoint of a later plan: slow start from now.
    pub fn begins_slowly(&self, _now: u64) {}

    /// Takes one of `max` connections over all workers.
    pub fn take_connection(&self, _max: u32) -> bool {
        true
    }

    /// Gives it back.
    pub fn release_connection(&self) {}

    /// This worker's load, for the others.
    pub fn publish(&self, _worker: usize, _load: Load) {}

    /// The load of all others.
    pub fn others(&self, _worker: usize) -> Load {
        Load::default()
    }

    /// What `/v1/healthcheck` says of it.
    pub fn status(&self, _rules: &HealthRules, _now: u64) -> Status {
        Status {
            word: StatusWord::Healthy,
            success: 0,
            http_failure: 0,
            tcp_failure: 0,
            timeout_failure: 0,
            out: None,
        }
    }
}
