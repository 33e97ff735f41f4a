//! A proxy on Pingora, as its quick start makes one: one thread, keep-alive on both sides, everything to one origin.
//!
//! With `--gateway-log FILE` it does what the profile "gateway" asks of all: X-Forwarded-For, a request id, an access
//! log written in batches, counters, one limit per client address that nothing reaches.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use pingora::http::ResponseHeader;
use pingora::prelude::*;
use pingora::proxy::http_proxy_service;
use pingora::server::configuration::ServerConf;

/// Size of the log's buffer.
const LOG_BUFFER_BYTES: usize = 64 * 1024;
/// Requests that one address may make within [`WINDOW`].
const LIMIT: u64 = 1_000_000_000;
const WINDOW: Duration = Duration::from_secs(60);

/// What the profile "gateway" adds.
struct Gateway {
    log: Mutex<BufWriter<File>>,
    requests: AtomicU64,
    random: AtomicU64,
    counts: Mutex<HashMap<IpAddr, (Instant, u64)>>,
}

struct Peer {
    origin: SocketAddr,
    gateway: Option<Gateway>,
}

/// One request, for its log line.
struct Exchange {
    start: Instant,
    id: String,
}

impl Gateway {
    fn id(&self) -> String {
        // Weyl's sequence through SplitMix's mixer; as an identifier, not as a secret.
        let mut halves = [0_u64; 2];
        for half in &mut halves {
            let mut value = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *half = value ^ (value >> 31);
        }
        format!("{:016x}{:016x}", halves[0], halves[1])
    }

    fn allows(&self, client: IpAddr) -> bool {
        let now = Instant::now();
        let mut counts = self.counts.lock().expect("no holder panics");
        let entry = counts.entry(client).or_insert((now, 0));
        if now.duration_since(entry.0) > WINDOW {
            *entry = (now, 0);
        }
        entry.1 += 1;
        entry.1 <= LIMIT
    }
}

fn client_of(session: &Session) -> Option<IpAddr> {
    session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip())
}

#[async_trait]
impl ProxyHttp for Peer {
    type CTX = Option<Exchange>;

    fn new_ctx(&self) -> Self::CTX {
        self.gateway.as_ref().map(|gateway| Exchange { start: Instant::now(), id: gateway.id() })
    }

    async fn request_filter(&self, session: &mut Session, _: &mut Self::CTX) -> Result<bool> {
        let Some(gateway) = &self.gateway else { return Ok(false) };
        if client_of(session).is_some_and(|client| !gateway.allows(client)) {
            session.respond_error(429).await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.origin, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Self::CTX,
    ) -> Result<()> {
        let Some(exchange) = exchange else { return Ok(()) };
        if let Some(client) = client_of(session) {
            request.append_header("X-Forwarded-For", client.to_string())?;
        }
        request.insert_header("X-Request-Id", exchange.id.as_str())
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Self::CTX,
    ) -> Result<()> {
        match exchange {
            Some(exchange) => response.insert_header("X-Request-Id", exchange.id.as_str()),
            None => Ok(()),
        }
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, exchange: &mut Self::CTX) {
        let (Some(gateway), Some(exchange)) = (&self.gateway, exchange) else { return };
        gateway.requests.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        let head = session.req_header();
        let host = head.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        let status = session.response_written().map_or(0, |response| response.status.as_u16());
        let client = client_of(session).map(|client| client.to_string()).unwrap_or_default();
        let mut log = gateway.log.lock().expect("no holder panics");
        let _ = writeln!(
            log,
            r#"{{"ts":"{now:.3}","request_id":"{}","client_ip":"{client}","method":"{}","host":"{host}","path":"{}","status":{status},"bytes_out":{},"dur_us":{},"upstream":"{}"}}"#,
            exchange.id,
            head.method,
            head.uri.path(),
            session.body_bytes_sent(),
            exchange.start.elapsed().as_micros(),
            self.origin,
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == "--version") {
        println!("a proxy on pingora {}", env!("PINGORA_VERSION"));
        return;
    }
    let value = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)
    };
    let (Some(listen), Some(Ok(origin))) = (value("--listen"), value("--origin").map(|text| text.parse()))
    else {
        eprintln!("usage: pingora-peer --listen ADDRESS --origin ADDRESS [--gateway-log FILE]");
        std::process::exit(2);
    };
    let gateway = value("--gateway-log").map(|path| Gateway {
        log: Mutex::new(BufWriter::with_capacity(
            LOG_BUFFER_BYTES,
            File::create(path).expect("the log's folder is there"),
        )),
        requests: AtomicU64::new(0),
        random: AtomicU64::new(std::process::id().into()),
        counts: Mutex::new(HashMap::new()),
    });
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: 1024,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Peer { origin, gateway });
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever();
}
