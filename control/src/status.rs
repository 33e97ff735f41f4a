//! The status listener: `/status`, `/status/ready`, `/metrics`.
//!
//! Loopback unless the operator says otherwise; how it is served, and within which limits, stands in `http`.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use engine::observe::CoreStats;
use engine::plan::Plan;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use tokio::net::TcpListener;

use crate::health;
use crate::http::{self, reply, JSON};
use crate::metrics::Metrics;
use crate::resolve::Failing;

/// A worker that is behind the newest generation for longer is not ready.
const LAG_MAX: Duration = Duration::from_secs(5);

/// What the loop tells and the handlers show. Shown from before the cores start.
pub(crate) struct Shared {
    began: Instant,
    serving: OnceLock<Serving>,
    now: Mutex<Now>,
}

/// What is known once the cores run, and does not change after.
pub(crate) struct Serving {
    /// Each worker's counters.
    pub stats: Vec<Arc<CoreStats>>,
    /// Rendering.
    pub metrics: Metrics,
    /// The driver that won the ladder.
    pub driver: String,
    /// The cpus of the workers.
    pub cores: Vec<usize>,
}

/// The part that changes.
#[derive(Clone)]
pub(crate) struct Now {
    /// Newest generation; 0 before the first plan.
    pub generation: u64,
    /// Since when it is the newest.
    pub since: Instant,
    /// Whether the gateway is draining.
    pub draining: bool,
    /// Routes of the plan.
    pub routes: usize,
    /// Listeners by name and address.
    pub listeners: Vec<(String, String)>,
    /// Why the last config change was refused; `None` if it was taken.
    pub last_error: Option<String>,
    /// The newest plan.
    pub plan: Option<Arc<Plan>>,
    /// Names and services that do not resolve.
    pub names_failing: Vec<Failing>,
}

impl Shared {
    /// Before the first plan.
    pub(crate) fn new(began: Instant) -> Self {
        let now = Now {
            generation: 0,
            since: began,
            draining: false,
            routes: 0,
            listeners: Vec::new(),
            last_error: None,
            plan: None,
            names_failing: Vec::new(),
        };
        Self { began, serving: OnceLock::new(), now: Mutex::new(now) }
    }

    /// The cores run.
    pub(crate) fn serve(&self, serving: Serving) {
        let _ = self.serving.set(serving);
    }

    /// Changes what changes.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn now(&self) -> Now {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest plan.
    pub(crate) fn plan(&self) -> Option<Arc<Plan>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).plan.clone()
    }

    fn stats(&self) -> &[Arc<CoreStats>] {
        self.serving.get().map_or(&[], |serving| &serving.stats)
    }

    /// The generation that every worker serves.
    pub(crate) fn slowest(&self) -> u64 {
        self.stats().iter().map(|stats| stats.generation.get()).min().unwrap_or(0)
    }

    fn unready(&self) -> Option<String> {
        let generations: Vec<u64> = self.stats().iter().map(|stats| stats.generation.get()).collect();
        let now = self.now();
        why_unready(&now, now.since.elapsed(), &generations)
    }

    /// The status document.
    pub(crate) fn document(&self) -> serde_json::Value {
        let now = self.now();
        let serving = self.serving.get();
        let cores = serving.map_or(&[][..], |serving| &serving.cores);
        let workers: Vec<_> = self.stats().iter().zip(cores).enumerate().map(worker).collect();
        let connections: u64 = self.stats().iter().map(|stats| stats.connections.get()).sum();
        let listeners: Vec<_> = now
            .listeners
            .iter()
            .map(|(name, address)| serde_json::json!({ "name": name, "address": address }))
            .collect();
        serde_json::json!({
            "version": crate::VERSION,
            "pid": std::process::id(),
            // What every worker serves, so that whoever reads a number can rely on it.
            "generation": self.slowest(),
            "generation_newest": now.generation,
            "ready": self.unready().is_none(),
            "draining": now.draining,
            "uptime_s": self.began.elapsed().as_secs(),
            "driver": serving.map(|serving| &serving.driver),
            "kernel": kernel(),
            "cores": cores,
            "connections": connections,
            "routes": now.routes,
            "listeners": listeners,
            "config": { "last_error": now.last_error },
            "discovery": { "failing": now.names_failing.iter().map(failing).collect::<Vec<_>>() },
            "workers": workers,
        })
    }

    /// The Prometheus text; empty before the cores run. Blocking work.
    fn metrics(&self) -> String {
        let mut text = self.serving.get().map(|serving| serving.metrics.render()).unwrap_or_default();
        if let Some(plan) = self.plan() {
            health::write_samples(&mut text, &plan);
        }
        text
    }
}

fn failing(failing: &Failing) -> serde_json::Value {
    serde_json::json!({
        "name": failing.question.name(),
        "records": failing.question.records(),
        "error": failing.error,
        "kept": failing.kept,
        "since_s": failing.since.elapsed().as_secs(),
    })
}

/// Why the gateway is not ready, if it is not. `age` is the newest generation's, `generations` the workers'.
fn why_unready(now: &Now, age: Duration, generations: &[u64]) -> Option<String> {
    if now.draining {
        return Some("draining".to_owned());
    }
    if now.generation == 0 || generations.is_empty() {
        return Some("starting: there is no plan yet".to_owned());
    }
    let behind = generations.iter().position(|generation| *generation < now.generation)?;
    (age > LAG_MAX).then(|| format!("worker {behind} is behind generation {}", now.generation))
}

fn worker((index, (stats, cpu)): (usize, (&Arc<CoreStats>, &usize))) -> serde_json::Value {
    serde_json::json!({
        "worker": index,
        "cpu": cpu,
        "generation": stats.generation.get(),
        "connections": stats.connections.get(),
        "requests": stats.requests.get(),
        "active": stats.active.get(),
        "panics": stats.panics.get(),
    })
}

/// The running kernel's release.
pub(crate) fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Serves for the process's life.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    http::serve(listener, move |request| answer(request, shared.clone())).await;
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Response<Full<Bytes>> {
    if let Some(refusal) = http::refuse_method(&request) {
        return refusal;
    }
    match request.uri().path() {
        "/status" => reply(StatusCode::OK, JSON, format!("{}\n", shared.document())),
        "/status/ready" => match shared.unready() {
            None => reply(StatusCode::OK, JSON, "{\"status\":\"ok\"}\n".to_owned()),
            Some(why) => {
                let body = serde_json::json!({ "status": "error", "error": why });
                reply(StatusCode::SERVICE_UNAVAILABLE, JSON, format!("{body}\n"))
            }
        },
        "/metrics" | "/apisix/prometheus/metrics" => {
            let rendered = tokio::task::spawn_blocking(move || shared.metrics()).await;
            reply(StatusCode::OK, "text/plain; version=0.0.4", rendered.unwrap_or_default())
        }
        _ => http::not_found(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `newest` generation of so many seconds, the workers' generations; what `/status/ready` says.
    fn check(newest: u64, seconds: u64, draining: bool, workers: &[u64], expected: Option<&str>) {
        let now = Now { generation: newest, draining, ..Shared::new(Instant::now()).now() };
        let why = why_unready(&now, Duration::from_secs(seconds), workers);
        match (&why, expected) {
            (None, None) => {}
            (Some(why), Some(word)) if why.contains(word) => {}
            _ => panic!("{why:?} instead of {expected:?} for {newest} {seconds} {workers:?}"),
        }
    }

    #[test]
    fn readiness() {
        check(0, 0, false, &[], Some("starting"));
        check(1, 0, false, &[1, 1], None);
        check(7, 99, false, &[7, 7], None);
        check(8, 4, false, &[8, 7], None);
        check(8, 6, false, &[8, 7], Some("worker 1 is behind generation 8"));
        check(8, 6, true, &[8, 8], Some("draining"));
    }

    /// One request over a real connection.
    fn ask(request: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("bound");
            tokio::spawn(serve(listener, Arc::new(Shared::new(Instant::now()))));
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("served");
            // The far end may refuse before everything is sent.
            let _ = stream.write_all(request.as_bytes()).await;
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await;
            String::from_utf8_lossy(&answer).into_owned()
        })
    }

    #[test]
    fn answers() {
        let check = |line: &str, status: &str, word: &str| {
            let answer = ask(&format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{line}: {answer}");
            assert!(answer.contains(word), "{line}: {answer}");
        };
        check("GET /status", "200", "\"generation\":0");
        check("GET /status/ready", "503", "starting");
        check("GET /metrics", "200", "text/plain; version=0.0.4");
        check("GET /apisix/prometheus/metrics", "200", "text/plain");
        check("GET /none", "404", "error_msg");
        check("POST /status", "405", "allow: GET, HEAD");
        check("HEAD /status", "200", "application/json");
    }

    #[test]
    fn heads_are_limited() {
        let answer = ask(&format!("GET /status HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024)));
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}
