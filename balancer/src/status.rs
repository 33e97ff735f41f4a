//! What `/v1/healthcheck` says of an endpoint, in lua-resty-healthcheck's words.

use crate::endpoint::By;

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
