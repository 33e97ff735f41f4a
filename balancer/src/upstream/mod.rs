//! One upstream as one worker sees it: which of its endpoints is next.
//!
//! Endpoints stand in tiers: the higher `priority` first, and inside a priority those that are
//! no `backup` first. A lower tier serves only when all of the tiers above were tried or are down.
//! Weight 0 gets nothing while anything of a weight can be used, in whichever tier; only
//! then is it the last resort, each with an equal share.
//!
//! An endpoint that is only full (`max_conns`) keeps its tier: the request waits, it does not go lower.
//!
//! `Rules` are what all workers share, made with the plan: tiers, rings, tables, cookies. A `Group` is one
//! worker's own, so a pick takes no lock; it picks by its policy (`part`) among those that may be picked just now
//! (`watch`), and counts what is under way (`local`). Workers begin at different endpoints, so that together they
//! are smooth as well.

use std::time::Duration;

mod group;
mod local;
mod part;
mod rules;
#[cfg(test)]
mod tests;
mod tried;
mod watch;

pub use group::Group;
pub use rules::Rules;
pub use tried::Tried;

/// What a pick knows of an endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeSpec {
    /// Its address as text: what rings and sticky cookies know it by.
    pub name: String,
    /// Its share inside its tier.
    pub weight: u32,
    /// Higher goes first.
    pub priority: i32,
    /// A tier below those of its priority.
    pub backup: bool,
    /// Taken out by the operator.
    pub down: bool,
    /// No new sessions; sticky ones stay.
    pub drain: bool,
    /// nginx's: failures within `fail_timeout` after which it rests for `fail_timeout`; 0 never.
    pub max_fails: Option<u32>,
    /// See `max_fails`; default 10 s.
    pub fail_timeout: Option<Duration>,
    /// Requests at once over all cores.
    pub max_conns: Option<u32>,
    /// To its full share after it came back; zero is at once.
    pub slow_start: Duration,
}

/// What a pick is asked with. Times are microseconds since the process began.
pub struct Ask<'a> {
    /// Now.
    pub now: u64,
    /// What `hash_on` found, or the client's address where that is empty.
    pub key: &'a [u8],
    /// What the request's sticky cookie names.
    pub sticky: Option<usize>,
    /// The endpoints that this request has tried.
    pub tried: &'a Tried,
}

/// What a pick gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picked {
    /// This endpoint. The try counts from now on: [`Group::finish`] ends it.
    Endpoint(usize),
    /// Those that could be used are at `max_conns`.
    Full,
    /// All that could be used have an open circuit (503), for so long. Only a first try hears it.
    Open(Duration),
    /// There is none, or all were tried.
    None,
}

/// Whether a request is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is; [`Group::request_ends`] ends it.
    Admitted,
    /// It is shed: the concurrency limit is reached. Try again after so long.
    Shed(Duration),
}
