//! How many requests an upstream gets at once, found by its latency.

use std::time::Duration;

/// The limit of one upstream, shared by all workers.
#[derive(Debug)]
pub struct Limiter {}

impl Limiter {
    /// A limit by these settings.
    pub fn new(_settings: &config::balance::ConcurrencyLimit) -> Limiter {
        Limiter {}
    }

    /// A request begins; `Err` when it is shed, with when to try again.
    pub fn begin(&self) -> Result<(), Duration> {
        Ok(())
    }

    /// A request that began ends: its latency in microseconds where it was answered in order.
    pub fn end(&self, _latency_micros: Option<u64>, _now: u64) {}
}
