//! From the cores' plain counters to `/metrics`, through the `metrics` facade.
//!
//! Cores only ever add to numbers of their own; here they are copied into
//! registered handles before each rendering. Histograms are fed by the change of
//! each bucket since the last copy, at the mean of what fell into it, so that
//! counts and sums are exact while a busy core records two plain additions.

use std::sync::{Arc, Mutex};

use engine::observe::stats::{Histogram, DURATION_BOUNDS_US};
use engine::observe::CoreStats;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// No more samples than this are fed per bucket at once; the rest follows.
const SAMPLES_MAX: u64 = 200_000;

/// The recorder's handle and what was copied last.
#[derive(Clone)]
pub(crate) struct Metrics {
    handle: PrometheusHandle,
    stats: Vec<Arc<CoreStats>>,
    copied: Arc<Mutex<Vec<Copied>>>,
}

#[derive(Clone, Default)]
struct Copied {
    duration: Fed,
    upstream: Fed,
}

#[derive(Clone, Default)]
struct Fed {
    counts: [u64; DURATION_BOUNDS_US.len() + 1],
    sums: [u64; DURATION_BOUNDS_US.len() + 1],
}

impl Metrics {
    /// Installs the recorder for the process.
    ///
    /// # Errors
    ///
    /// When there is one already.
    pub(crate) fn install(stats: Vec<Arc<CoreStats>>, driver: &str) -> Result<Self, String> {
        let bounds: Vec<f64> = DURATION_BOUNDS_US.iter().map(|micros| *micros as f64 / 1e6).collect();
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &bounds)
            .map_err(|error| error.to_string())?
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|error| error.to_string())?;
        describe();
        gauge!("ringway_info", "version" => crate::VERSION, "driver" => driver.to_owned()).set(1.0);
        gauge!("ringway_workers").set(stats.len() as f64);
        let copied = Arc::new(Mutex::new(vec![Copied::default(); stats.len()]));
        Ok(Self { handle, stats, copied })
    }

    /// Copies the counters; once a second, so that histograms do not pile up.
    pub(crate) fn flush(&self) {
        let mut copied = self.copied.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (worker, (stats, copied)) in self.stats.iter().zip(copied.iter_mut()).enumerate() {
            let worker = worker.to_string();
            counters(stats, &worker);
            gauges(stats, &worker);
            routes(stats, &worker);
            feed("ringway_request_duration_seconds", &worker, &stats.duration, &mut copied.duration);
            feed("ringway_upstream_response_seconds", &worker, &stats.upstream, &mut copied.upstream);
        }
        self.handle.run_upkeep();
    }

    /// The Prometheus text, with the numbers of this moment. Blocking work.
    pub(crate) fn render(&self) -> String {
        self.flush();
        self.handle.render()
    }
}

fn describe() {
    describe_counter!("ringway_requests_total", "Requests answered, by route and status code");
    describe_counter!("ringway_connections_accepted_total", "Client connections accepted");
    describe_gauge!("ringway_connections", "Client connections open now");
    describe_gauge!("ringway_connections_parked", "Idle client connections that hold no buffer");
    describe_gauge!("ringway_requests_active", "Requests in flight");
    describe_histogram!("ringway_request_duration_seconds", "From the head's first byte to the end of the response");
    describe_histogram!("ringway_upstream_response_seconds", "From the head's first byte to the upstream's response head");
    describe_gauge!("ringway_generation", "The plan each worker serves");
    describe_gauge!("ringway_upstream_connections_idle", "Kept connections to upstreams");
    describe_counter!("ringway_access_log_dropped_total", "Access-log lines lost because the writer was behind");
    describe_counter!("ringway_panics_total", "Tasks that panicked and were dropped");
    describe_counter!("ringway_config_reloads_total", "Config changes by result");
    describe_gauge!("ringway_config_last_success_timestamp_seconds", "When a config change last succeeded");
}

fn counters(stats: &CoreStats, worker: &str) {
    let list = [
        ("ringway_connections_accepted_total", &stats.accepted),
        ("ringway_accept_errors_total", &stats.accept_errors),
        ("ringway_received_bytes_total", &stats.bytes_in),
        ("ringway_sent_bytes_total", &stats.bytes_out),
        ("ringway_upstream_connects_total", &stats.upstream_connects),
        ("ringway_upstream_connect_errors_total", &stats.upstream_connect_errors),
        ("ringway_upstream_reused_total", &stats.upstream_reused),
        ("ringway_retries_total", &stats.retries),
        ("ringway_client_aborts_total", &stats.client_aborts),
        ("ringway_bad_requests_total", &stats.bad_requests),
        ("ringway_bad_responses_total", &stats.bad_responses),
        ("ringway_timeouts_total", &stats.timeouts),
        ("ringway_panics_total", &stats.panics),
        ("ringway_access_log_dropped_total", &stats.log_drops),
        ("ringway_ticks_total", &stats.ticks),
    ];
    for (name, value) in list {
        counter!(name, "worker" => worker.to_owned()).absolute(value.get());
    }
}

fn gauges(stats: &CoreStats, worker: &str) {
    let list = [
        ("ringway_connections", &stats.connections),
        ("ringway_connections_parked", &stats.parked),
        ("ringway_requests_active", &stats.active),
        ("ringway_upstream_connections_idle", &stats.upstream_idle),
        ("ringway_generation", &stats.generation),
    ];
    for (name, value) in list {
        gauge!(name, "worker" => worker.to_owned()).set(value.get() as f64);
    }
    for (class, kept) in ["small", "read", "bulk"].into_iter().zip(&stats.buffers_kept) {
        gauge!("ringway_buffers_kept", "worker" => worker.to_owned(), "class" => class).set(kept.get() as f64);
    }
}

fn routes(stats: &CoreStats, worker: &str) {
    let count = |route: &str, code: u32, count: u64| {
        let code = if code == 999 { "other".to_owned() } else { code.to_string() };
        let labels = [("worker", worker.to_owned()), ("route", route.to_owned()), ("code", code)];
        counter!("ringway_requests_total", &labels).absolute(count);
    };
    for route in stats.routes() {
        for (code, total) in route.codes() {
            count(&route.route, code, total);
        }
    }
    for (code, total) in stats.no_route.codes() {
        count("", code, total);
    }
}

fn feed(name: &'static str, worker: &str, from: &Histogram, fed: &mut Fed) {
    let to = histogram!(name, "worker" => worker.to_owned());
    for index in 0..fed.counts.len() {
        let (count, sum) = (from.buckets[index].get(), from.sums[index].get());
        let new = count - fed.counts[index];
        if new == 0 {
            continue;
        }
        let mean = (sum - fed.sums[index]) as f64 / new as f64 / 1e6;
        let now = new.min(SAMPLES_MAX);
        to.record_many(mean, now as usize);
        fed.counts[index] += now;
        // What is left over keeps its share of the sum.
        fed.sums[index] += if now == new { sum - fed.sums[index] } else { (mean * 1e6) as u64 * now };
    }
}

/// Counts a config change.
pub(crate) fn reloaded(success: bool) {
    let result = if success { "success" } else { "failure" };
    counter!("ringway_config_reloads_total", "result" => result).increment(1);
    if success {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        gauge!("ringway_config_last_success_timestamp_seconds").set(now.map_or(0.0, |age| age.as_secs_f64()));
    }
}
