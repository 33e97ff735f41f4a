//! The status listener: `/status`, `/status/ready`, `/metrics`.
//!
//! Loopback unless the operator says otherwise; GET and HEAD only; heads and
//! their time are limited, so that it is no way to tie the process up.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::observe::CoreStats;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::metrics::Metrics;

/// Connections served at once; more wait.
const CONNECTIONS_MAX: usize = 64;
/// A request's head has to be complete by then, and its connection may idle as long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A worker that is behind the newest generation for longer is not ready.
const LAG_MAX: Duration = Duration::from_secs(5);

/// What the loop tells and the handlers show.
pub(crate) struct Shared {
    /// Counters.
    pub stats: Vec<Arc<CoreStats>>,
    /// Rendering.
    pub metrics: Metrics,
    /// Driver and kernel.
    pub driver: String,
    /// The cpus of the workers.
    pub cores: Vec<usize>,
    /// When the process began.
    pub began: Instant,
    /// Changes with every plan.
    pub now: Mutex<Now>,
}

/// The part that changes.
#[derive(Clone, Debug)]
pub(crate) struct Now {
    /// Newest generation.
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
}

impl Shared {
    /// A copy of what changes.
    pub(crate) fn now(&self) -> Now {
        self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Changes it.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// Why the gateway is not ready, if it is not.
    fn unready(&self) -> Option<String> {
        let now = self.now();
        if now.draining {
            return Some("draining".to_owned());
        }
        let behind = self.stats.iter().position(|stats| stats.generation.get() < now.generation)?;
        (now.since.elapsed() > LAG_MAX).then(|| format!("worker {behind} is behind generation {}", now.generation))
    }

    /// The status document.
    pub(crate) fn document(&self) -> serde_json::Value {
        let now = self.now();
        let workers: Vec<_> = self.stats.iter().zip(&self.cores).enumerate().map(worker).collect();
        let listeners: Vec<_> = now
            .listeners
            .iter()
            .map(|(name, address)| serde_json::json!({ "name": name, "address": address }))
            .collect();
        serde_json::json!({
            "version": crate::VERSION,
            "pid": std::process::id(),
            "generation": now.generation,
            "ready": self.unready().is_none(),
            "draining": now.draining,
            "uptime_s": self.began.elapsed().as_secs(),
            "driver": self.driver,
            "kernel": kernel(),
            "cores": self.cores,
            "routes": now.routes,
            "listeners": listeners,
            "config": { "last_error": now.last_error },
            "workers": workers,
        })
    }
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
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, shared.clone()));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            let _ = connection.await;
            drop(place);
        });
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Infallible> {
    const JSON: &str = "application/json";
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, JSON, "{\"error_msg\":\"GET only\"}\n".to_owned());
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    let response = match request.uri().path() {
        "/status" => reply(StatusCode::OK, JSON, format!("{}\n", shared.document())),
        "/status/ready" => match shared.unready() {
            None => reply(StatusCode::OK, JSON, "{\"status\":\"ok\"}\n".to_owned()),
            Some(why) => {
                let body = serde_json::json!({ "status": "error", "error": why });
                reply(StatusCode::SERVICE_UNAVAILABLE, JSON, format!("{body}\n"))
            }
        },
        "/metrics" | "/apisix/prometheus/metrics" => {
            let rendered = tokio::task::spawn_blocking(move || shared.metrics.render()).await;
            reply(StatusCode::OK, "text/plain; version=0.0.4", rendered.unwrap_or_default())
        }
        _ => reply(StatusCode::NOT_FOUND, JSON, "{\"error_msg\":\"404 Not Found\"}\n".to_owned()),
    };
    Ok(response)
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
