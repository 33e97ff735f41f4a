//! Counters of one core. Only that core writes them, so adding is a plain load
//! and store, no locked instruction; control reads them for `/metrics`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A number that one core writes and others may read.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only ever called on the owning core.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Takes one away (gauges).
    pub fn sub(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(count), Ordering::Relaxed);
    }

    /// Sets it (gauges).
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the duration histogram, in microseconds; the last is open.
pub const DURATION_BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// A histogram with fixed bounds.
#[derive(Default)]
pub struct Histogram {
    /// Counts by bucket, the last one above every bound.
    pub buckets: [Counter; DURATION_BOUNDS_US.len() + 1],
    /// Sums of the values in each bucket, in microseconds.
    pub sums: [Counter; DURATION_BOUNDS_US.len() + 1],
}

impl Histogram {
    /// Puts one value in, in microseconds.
    pub fn record(&self, micros: u64) {
        let index = DURATION_BOUNDS_US.partition_point(|bound| *bound < micros);
        self.buckets[index].add(1);
        self.sums[index].add(micros);
    }
}

/// How many different status codes of one route are told apart on one core.
pub const CODES_MAX: usize = 16;

/// Requests of one route on one core, by status code.
#[derive(Default)]
pub struct RouteStats {
    /// The route's id.
    pub route: String,
    codes: [AtomicU32; CODES_MAX],
    counts: [Counter; CODES_MAX],
}

impl RouteStats {
    /// All zero.
    pub fn new(route: &str) -> Self {
        Self { route: route.to_owned(), codes: Default::default(), counts: Default::default() }
    }

    /// Counts one request. Past [`CODES_MAX`] codes the last place takes the rest.
    pub fn count(&self, status: u16) {
        let status = u32::from(status);
        for (index, code) in self.codes.iter().enumerate() {
            let here = code.load(Ordering::Relaxed);
            let last = index == CODES_MAX - 1;
            if here == 0 {
                code.store(if last { 999 } else { status }, Ordering::Relaxed);
            }
            if here == status || here == 0 || last {
                self.counts[index].add(1);
                return;
            }
        }
    }

    /// Code and count of each seen; code 999 stands for "others".
    pub fn codes(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.codes
            .iter()
            .zip(&self.counts)
            .map(|(code, count)| (code.load(Ordering::Relaxed), count.get()))
            .filter(|(code, _)| *code != 0)
    }
}

/// Everything one core counts.
#[derive(Default)]
pub struct CoreStats {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections open now (gauge).
    pub connections: Counter,
    /// Connections waiting for a next request without a buffer (gauge).
    pub parked: Counter,
    /// Accepts that failed (EMFILE and the like).
    pub accept_errors: Counter,
    /// TLS handshakes that succeeded.
    pub tls_handshakes: Counter,
    /// Of them those that resumed an earlier session.
    pub tls_resumed: Counter,
    /// TLS handshakes that failed, or were no TLS.
    pub tls_handshake_failures: Counter,
    /// Tries beside a slow first one.
    pub hedges: Counter,
    /// Further tries that the retry budget refused.
    pub retries_refused: Counter,
    /// Requests that waited for room at an endpoint.
    pub queued: Counter,
    /// Copies of requests sent to mirrors.
    pub mirrors: Counter,
    /// Copies that found no endpoint or got no answer.
    pub mirrors_failed: Counter,
    /// Copies not sent: the body was too long to keep, or too many were under way.
    pub mirrors_skipped: Counter,
    /// Requests answered.
    pub requests: Counter,
    /// Exchanges in flight (gauge).
    pub active: Counter,
    /// Bytes received from clients, heads and bodies.
    pub bytes_in: Counter,
    /// Bytes sent to clients.
    pub bytes_out: Counter,
    /// Whole exchange.
    pub duration: Histogram,
    /// Until the upstream's response head.
    pub upstream: Histogram,
    /// New connections to upstreams.
    pub upstream_connects: Counter,
    /// Failed ones.
    pub upstream_connect_errors: Counter,
    /// Exchanges that used a kept connection.
    pub upstream_reused: Counter,
    /// Kept connections now (gauge).
    pub upstream_idle: Counter,
    /// Tries after the first.
    pub retries: Counter,
    /// Clients that left before their answer (499).
    pub client_aborts: Counter,
    /// Requests refused by the codec (400, 408, 414, 431, ...).
    pub bad_requests: Counter,
    /// Responses of upstreams refused by the codec.
    pub bad_responses: Counter,
    /// Deadlines that fired.
    pub timeouts: Counter,
    /// Tasks that panicked.
    pub panics: Counter,
    /// Access-log lines lost because the writer was behind.
    pub log_drops: Counter,
    /// Free pooled buffers by class (gauge).
    pub buffers_kept: [Counter; 3],
    /// The generation this core serves (gauge).
    pub generation: Counter,
    /// Turns of the wheel, a sign of life.
    pub ticks: Counter,
    /// Requests without a route.
    pub no_route: RouteStats,
    routes: Mutex<Vec<Arc<RouteStats>>>,
}

impl CoreStats {
    /// Registers a route's counters; called once per route and core.
    pub fn route(&self, id: &str) -> Arc<RouteStats> {
        let mut routes = self.routes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = routes.iter().find(|known| known.route == id) {
            return known.clone();
        }
        let stats = Arc::new(RouteStats::new(id));
        routes.push(stats.clone());
        stats
    }

    /// The counters of all routes seen so far.
    pub fn routes(&self) -> Vec<Arc<RouteStats>> {
        self.routes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_counted_apart() {
        let stats = RouteStats::new("users");
        for _ in 0..3 {
            stats.count(200);
        }
        stats.count(404);
        assert_eq!(stats.codes().collect::<Vec<_>>(), [(200, 3), (404, 1)]);
        for code in 500..600 {
            stats.count(code);
        }
        let total: u64 = stats.codes().map(|(_, count)| count).sum();
        assert_eq!(total, 104, "none is lost when the places run out");
    }

    #[test]
    fn durations_fall_into_their_bucket() {
        let histogram = Histogram::default();
        for micros in [1, 100, 101, 20_000_000] {
            histogram.record(micros);
        }
        assert_eq!(histogram.buckets[0].get(), 2);
        assert_eq!(histogram.buckets[1].get(), 1);
        assert_eq!(histogram.buckets[16].get(), 1);
        assert_eq!(histogram.sums[0].get(), 101);
        assert_eq!(histogram.sums[16].get(), 20_000_000);
    }
}
