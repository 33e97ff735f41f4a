//! From the cores' plain counters to `/metrics`, through the `metrics` facade.
//!
//! Cores only ever add to numbers of their own; here they are copied into
//! handles that were registered once, so that copying 40,000 routes looks no
//! label up. It happens when somebody asks: between two scrapes nobody could
//! see a copy, and it would only take time from the cores.
//!
//! The histograms of durations are written out here. The cores keep buckets and
//! exact sums, and the facade has no way to set those: it would have to be fed
//! one sample per request, which costs what keeping buckets was to save.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use balancer::endpoint::{By, Change};

use crate::rings::Rings;
use engine::observe::stats::{Histogram, DURATION_BOUNDS_US};
use engine::observe::CoreStats;
use metrics::{counter, describe_counter, describe_gauge, gauge, Counter, Gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// What stands beside the counters: facts of this process.
pub(crate) struct Facts<'a> {
    /// The driver that won the ladder.
    pub driver: &'a str,
    /// The kernel's release.
    pub kernel: &'a str,
    /// The ring's sizes; `None` where there is no ring.
    pub ring: Option<(u32, u32)>,
}

/// The recorder's handle and the handles of everything that is copied.
pub(crate) struct Metrics {
    handle: PrometheusHandle,
    stats: Vec<Arc<CoreStats>>,
    copies: Mutex<Copies>,
    rings: Mutex<Rings>,
}

type Read = fn(&CoreStats) -> u64;

#[derive(Default)]
struct Copies {
    /// Worker, what is read of it, where it goes.
    counters: Vec<(usize, Read, Counter)>,
    gauges: Vec<(usize, Read, Gauge)>,
    /// By route, then by status code.
    requests: HashMap<String, HashMap<u32, Requests>>,
}

struct Requests {
    counter: Counter,
    total: u64,
}

const COUNTERS: &[(&str, &str, Read)] = &[
    ("ringway_connections_accepted_total", "Client connections accepted", |s| s.accepted.get()),
    ("ringway_tls_handshakes_total", "TLS handshakes that succeeded", |s| s.tls_handshakes.get()),
    ("ringway_tls_resumed_total", "TLS handshakes that resumed a session", |s| s.tls_resumed.get()),
    ("ringway_tls_handshake_failures_total", "TLS handshakes that failed", |s| {
        s.tls_handshake_failures.get()
    }),
    ("ringway_accept_errors_total", "Accepts that failed, for lack of descriptors or memory", |s| {
        s.accept_errors.get()
    }),
    ("ringway_received_bytes_total", "Bytes from clients, heads and bodies", |s| s.bytes_in.get()),
    ("ringway_sent_bytes_total", "Bytes to clients, heads and bodies", |s| s.bytes_out.get()),
    ("ringway_upstream_connects_total", "New connections to upstreams", |s| s.upstream_connects.get()),
    ("ringway_upstream_connect_errors_total", "Connections to upstreams that failed", |s| {
        s.upstream_connect_errors.get()
    }),
    ("ringway_upstream_reused_total", "Tries that used a kept connection", |s| s.upstream_reused.get()),
    ("ringway_retries_total", "Tries after the first", |s| s.retries.get()),
    ("ringway_retries_refused_total", "Further tries that a retry budget refused", |s| {
        s.retries_refused.get()
    }),
    ("ringway_hedges_total", "Tries sent beside a slow first one", |s| s.hedges.get()),
    ("ringway_queued_total", "Requests that waited for room at an endpoint", |s| s.queued.get()),
    ("ringway_mirrors_total", "Copies of requests sent to mirrors", |s| s.mirrors.get()),
    ("ringway_mirrors_failed_total", "Copies that got no answer", |s| s.mirrors_failed.get()),
    ("ringway_mirrors_skipped_total", "Copies not sent: too long to keep, or too many", |s| {
        s.mirrors_skipped.get()
    }),
    ("ringway_client_aborts_total", "Clients that left before their answer", |s| s.client_aborts.get()),
    ("ringway_bad_requests_total", "Requests that broke a rule or a limit", |s| s.bad_requests.get()),
    ("ringway_bad_responses_total", "Responses of upstreams that broke a rule or a limit", |s| {
        s.bad_responses.get()
    }),
    ("ringway_timeouts_total", "Deadlines that fired", |s| s.timeouts.get()),
    ("ringway_panics_total", "Tasks that panicked and were dropped", |s| s.panics.get()),
    ("ringway_access_log_dropped_total", "Access-log lines lost because the writer was behind", |s| {
        s.log_drops.get()
    }),
    ("ringway_ticks_total", "Turns of the wheel, a sign of life", |s| s.ticks.get()),
];

const GAUGES: &[(&str, &str, Read)] = &[
    ("ringway_connections", "Client connections open now", |s| s.connections.get()),
    ("ringway_connections_parked", "Of them those that are idle and hold no buffer", |s| s.parked.get()),
    ("ringway_requests_active", "Requests in flight", |s| s.active.get()),
    ("ringway_upstream_connections_idle", "Kept connections to upstreams", |s| s.upstream_idle.get()),
    ("ringway_generation", "The plan each worker serves", |s| s.generation.get()),
];

const BUFFERS: [(&str, Read); 3] = [
    ("small", |s| s.buffers_kept[0].get()),
    ("read", |s| s.buffers_kept[1].get()),
    ("bulk", |s| s.buffers_kept[2].get()),
];

impl Metrics {
    /// Installs the recorder for the process and registers everything.
    ///
    /// # Errors
    ///
    /// When there is a recorder already.
    pub(crate) fn install(stats: Vec<Arc<CoreStats>>, facts: &Facts<'_>) -> Result<Self, String> {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|error| error.to_string())?;
        Ok(Self::with(handle, stats, facts))
    }

    fn with(handle: PrometheusHandle, stats: Vec<Arc<CoreStats>>, facts: &Facts<'_>) -> Self {
        describe(facts, stats.len());
        let copies = Mutex::new(Copies::register(stats.len()));
        Self { handle, stats, copies, rings: Mutex::new(Rings::find()) }
    }

    /// The Prometheus text (version 0.0.4) with the numbers of this moment. Blocking work.
    pub(crate) fn render(&self) -> String {
        {
            let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
            copies.copy(&self.stats);
            copies.copy_requests(&self.stats);
        }
        self.rings.lock().unwrap_or_else(PoisonError::into_inner).count();
        process();
        let mut text = self.handle.render();
        let (name, help) =
            ("ringway_request_duration_seconds", "From a head's first byte to the end of its response");
        histogram(&mut text, name, help, self.stats.iter().map(|stats| &stats.duration));
        let (name, help) =
            ("ringway_upstream_response_seconds", "From a head's first byte to the upstream's response head");
        histogram(&mut text, name, help, self.stats.iter().map(|stats| &stats.upstream));
        text
    }
}

fn describe(facts: &Facts<'_>, workers: usize) {
    for (name, help, _) in COUNTERS {
        describe_counter!(*name, *help);
    }
    for (name, help, _) in GAUGES {
        describe_gauge!(*name, *help);
    }
    describe_counter!("ringway_requests_total", "Requests answered, by route and status code");
    describe_gauge!("ringway_buffers_kept", "Free pooled buffers");
    describe_gauge!("ringway_info", "The version, the driver and the kernel");
    describe_gauge!("ringway_workers", "How many workers there are");
    describe_gauge!("ringway_ring_entries", "Sizes of each worker's io_uring");
    describe_counter!("ringway_config_reloads_total", "Config changes by result");
    describe_gauge!("ringway_config_last_success_timestamp_seconds", "When a config change last succeeded");
    describe_gauge!("ringway_config_last_reload_successful", "Whether the last config change was taken");
    describe_gauge!("process_open_fds", "Open descriptors");
    describe_gauge!("process_resident_memory_bytes", "Resident memory");
    let labels = [
        ("version", crate::VERSION.to_owned()),
        ("driver", facts.driver.to_owned()),
        ("kernel", facts.kernel.to_owned()),
    ];
    gauge!("ringway_info", &labels).set(1.0);
    gauge!("ringway_workers").set(workers as f64);
    if let Some((submission, completion)) = facts.ring {
        gauge!("ringway_ring_entries", "queue" => "submission").set(f64::from(submission));
        gauge!("ringway_ring_entries", "queue" => "completion").set(f64::from(completion));
    }
    for result in ["success", "failure"] {
        counter!("ringway_config_reloads_total", "result" => result).absolute(0);
        counter!("ringway_dns_lookups_total", "result" => result).absolute(0);
    }
    describe_health();
}

fn describe_health() {
    describe_counter!("ringway_probes_total", "Health checks sent, by result");
    describe_counter!(
        "ringway_health_changes_total",
        "Endpoints that went out or came back, by who found out"
    );
    describe_counter!("ringway_dns_lookups_total", "Names of upstreams that were looked up, by result");
    describe_gauge!("ringway_dns_names_failing", "Names of upstreams that do not resolve now");
    for result in PROBE_RESULTS {
        counter!("ringway_probes_total", "result" => result).absolute(0);
    }
    for by in [By::Active, By::Passive, By::Outlier, By::Breaker].map(by) {
        for to in ["healthy", "unhealthy"] {
            counter!("ringway_health_changes_total", "by" => by, "to" => to).absolute(0);
        }
    }
    gauge!("ringway_dns_names_failing").set(0.0);
}

impl Copies {
    fn register(workers: usize) -> Self {
        let mut copies = Self::default();
        for worker in 0..workers {
            let label = worker.to_string();
            for (name, _, read) in COUNTERS {
                copies.counters.push((worker, *read, counter!(*name, "worker" => label.clone())));
            }
            for (name, _, read) in GAUGES {
                copies.gauges.push((worker, *read, gauge!(*name, "worker" => label.clone())));
            }
            for (class, read) in BUFFERS {
                let gauge = gauge!("ringway_buffers_kept", "worker" => label.clone(), "class" => class);
                copies.gauges.push((worker, read, gauge));
            }
        }
        copies
    }

    fn copy(&self, stats: &[Arc<CoreStats>]) {
        for (worker, read, counter) in &self.counters {
            counter.absolute(read(&stats[*worker]));
        }
        for (worker, read, gauge) in &self.gauges {
            gauge.set(read(&stats[*worker]) as f64);
        }
    }

    /// Sums requests over the cores: a label for the worker would multiply the
    /// largest family of all by their number, and nobody asks for it.
    fn copy_requests(&mut self, stats: &[Arc<CoreStats>]) {
        for requests in self.requests.values_mut().flat_map(HashMap::values_mut) {
            requests.total = 0;
        }
        for core in stats {
            for route in core.routes() {
                route.codes().for_each(|(code, count)| self.add(&route.route, code, count));
            }
            core.no_route.codes().for_each(|(code, count)| self.add("", code, count));
        }
        for requests in self.requests.values().flat_map(HashMap::values) {
            requests.counter.absolute(requests.total);
        }
    }

    fn add(&mut self, route: &str, code: u32, count: u64) {
        if !self.requests.contains_key(route) {
            self.requests.insert(route.to_owned(), HashMap::new());
        }
        let Some(codes) = self.requests.get_mut(route) else {
            return;
        };
        let requests = codes.entry(code).or_insert_with(|| {
            // 999 is the counters' place for codes past the sixteenth.
            let code = if code == 999 { "other".to_owned() } else { code.to_string() };
            let labels = [("route", route.to_owned()), ("code", code)];
            Requests { counter: counter!("ringway_requests_total", &labels), total: 0 }
        });
        requests.total += count;
    }
}

/// One histogram, summed over the cores, in seconds.
fn histogram<'h>(text: &mut String, name: &str, help: &str, cores: impl Iterator<Item = &'h Histogram>) {
    let mut counts = [0u64; DURATION_BOUNDS_US.len() + 1];
    let mut sum = 0;
    for core in cores {
        for (total, bucket) in counts.iter_mut().zip(&core.buckets) {
            *total += bucket.get();
        }
        sum += core.sums.iter().map(engine::observe::stats::Counter::get).sum::<u64>();
    }
    let mut below = 0;
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
    for (count, bound) in counts.iter().zip(DURATION_BOUNDS_US) {
        below += count;
        let _ = writeln!(text, "{name}_bucket{{le=\"{}\"}} {below}", bound as f64 / 1e6);
    }
    below += counts[DURATION_BOUNDS_US.len()];
    let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {below}");
    let _ = writeln!(text, "{name}_sum {}\n{name}_count {below}\n", sum as f64 / 1e6);
}

/// The process's own numbers, under the names that every Prometheus client uses.
fn process() {
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        gauge!("process_open_fds").set(open.count() as f64);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    if let Some(kib) = kib {
        gauge!("process_resident_memory_bytes").set(kib * 1024.0);
    }
}

/// Results of probes.
pub(crate) const PROBE_RESULTS: [&str; 5] = ["success", "http_failure", "tcp_failure", "timeout", "ignored"];

/// Counts a probe by its result, one of [`PROBE_RESULTS`].
pub(crate) fn probed(result: &'static str) {
    counter!("ringway_probes_total", "result" => result).increment(1);
}

/// Counts a change of an endpoint's health.
pub(crate) fn health_changed(change: Change) {
    let to = if change.healthy { "healthy" } else { "unhealthy" };
    counter!("ringway_health_changes_total", "by" => by(change.by), "to" => to).increment(1);
}

/// Counts a question about a name.
pub(crate) fn looked_up(success: bool) {
    let result = if success { "success" } else { "failure" };
    counter!("ringway_dns_lookups_total", "result" => result).increment(1);
}

/// So many names do not resolve now.
pub(crate) fn names_failing(count: usize) {
    gauge!("ringway_dns_names_failing").set(count as f64);
}

/// Who found out, as logs and metrics write it.
pub(crate) fn by(by: By) -> &'static str {
    match by {
        By::Active => "active",
        By::Passive => "passive",
        By::Outlier => "outlier",
        By::Breaker => "breaker",
    }
}

/// Counts a config change.
pub(crate) fn reloaded(success: bool) {
    let result = if success { "success" } else { "failure" };
    counter!("ringway_config_reloads_total", "result" => result).increment(1);
    gauge!("ringway_config_last_reload_successful").set(f64::from(u8::from(success)));
    if success {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        gauge!("ringway_config_last_success_timestamp_seconds").set(now.map_or(0.0, |age| age.as_secs_f64()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(cores: usize, work: impl Fn(&[Arc<CoreStats>])) -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let stats: Vec<_> = (0..cores).map(|_| Arc::new(CoreStats::default())).collect();
            let facts = Facts { driver: "epoll", kernel: "6.18", ring: Some((8, 32)) };
            let metrics = Metrics::with(handle.clone(), stats, &facts);
            work(&metrics.stats);
            // Twice: copying again must not count again.
            metrics.render();
            metrics.render()
        })
    }

    #[test]
    fn counters_of_cores_become_samples() {
        let text = rendered(2, |cores| {
            cores[0].accepted.add(3);
            cores[1].connections.set(2);
            cores[0].route("users").count(200);
            cores[1].route("users").count(200);
            cores[1].route("users").count(404);
            cores[1].no_route.count(404);
        });
        for line in [
            "# TYPE ringway_connections_accepted_total counter",
            "ringway_connections_accepted_total{worker=\"0\"} 3",
            "ringway_connections{worker=\"1\"} 2",
            "ringway_requests_total{route=\"users\",code=\"200\"} 2",
            "ringway_requests_total{route=\"users\",code=\"404\"} 1",
            "ringway_requests_total{route=\"\",code=\"404\"} 1",
            "ringway_ring_entries{queue=\"completion\"} 32",
            "ringway_workers 2",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("ringway_info{") && text.contains("driver=\"epoll\""), "{text}");
    }

    #[test]
    fn histograms_are_cumulative_and_exact() {
        let text = rendered(2, |cores| {
            cores[0].duration.record(100);
            cores[1].duration.record(150);
            cores[1].duration.record(20_000_000);
        });
        for line in [
            "ringway_request_duration_seconds_bucket{le=\"0.0001\"} 1",
            "ringway_request_duration_seconds_bucket{le=\"0.00025\"} 2",
            "ringway_request_duration_seconds_bucket{le=\"10\"} 2",
            "ringway_request_duration_seconds_bucket{le=\"+Inf\"} 3",
            "ringway_request_duration_seconds_sum 20.00025",
            "ringway_request_duration_seconds_count 3",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is missing in\n{text}");
        }
    }

    /// Prometheus refuses a whole page for one line that it cannot read.
    #[test]
    fn every_line_is_a_comment_or_ends_in_a_number() {
        let text = rendered(1, |cores| cores[0].route("a \"quoted\"\\ name\n").count(200));
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let number = line.rsplit(' ').next().unwrap_or_default();
            assert!(number.parse::<f64>().is_ok(), "{line}");
        }
    }
}
