//! Every kind of probe against real origins on loopback, and the prober as a whole.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use config::balance::Checks;
use config::{Document, Node, NodeAddress, Place, Upstream};
use engine::plan::Feeds;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::*;

const SOON: Duration = Duration::from_secs(20);

fn rule(kind: ProbeKind) -> ActiveCheck {
    ActiveCheck {
        kind,
        timeout: Duration::from_secs(5),
        healthy_interval: Duration::from_millis(50),
        unhealthy_interval: Duration::from_millis(50),
        successes: 2,
        http_failures: 2,
        tcp_failures: 2,
        timeouts: 2,
        ..ActiveCheck::default()
    }
}

fn upstream(id: &str, nodes: Vec<Node>, check: ActiveCheck) -> Upstream {
    let checks = Some(Checks { active: Some(check), passive: None });
    Upstream { checks, ..Upstream::of(id.to_owned(), nodes, Place::NOWHERE) }
}

fn plan(upstreams: Vec<Upstream>, previous: Option<&Arc<Plan>>) -> Arc<Plan> {
    let document =
        Document { upstreams: upstreams.into_iter().map(Arc::new).collect(), ..Document::default() };
    let feeds = Feeds { workers: 1, ..Feeds::default() };
    let generation = previous.map_or(1, |previous| previous.generation() + 1);
    let mut report = config::Report::new();
    engine::plan::compile(&Arc::new(document), &feeds, previous, generation, &mut report).expect("compiles")
}

fn run<F: std::future::Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(SOON, future).await.expect("in time") })
}

/// One probe of an address.
async fn probe(address: NodeAddress, check: ActiveCheck, tls: &Tls) -> Found {
    let plan = plan(vec![upstream("u", vec![Node::at(address)], check)], None);
    find(&Target { upstream: plan.upstream("u").expect("compiled").clone(), index: 0 }, tls).await
}

/// An origin that sends `answer` once a head has come, and keeps the connection open. Gives the head that came.
async fn raw(answer: &'static [u8]) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (sender, heads) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let _ = sender.send(String::from_utf8_lossy(&head).into_owned());
                let _ = stream.write_all(answer).await;
                let _ = stream.read_u8().await;
            });
        }
    });
    (address, heads)
}

fn check_http(answer: &'static [u8], expected: &str) {
    let found = run(async {
        let (address, _heads) = raw(answer).await;
        let check = ActiveCheck { timeout: Duration::from_millis(300), ..rule(ProbeKind::Http) };
        probe(NodeAddress::Ip(address), check, &Tls::default()).await
    });
    let got = format!("{:?}: {}", found.outcome, found.why);
    assert!(got.starts_with(expected), "{got} instead of {expected}");
}

#[test]
fn http_answers() {
    check_http(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "Status(200): status 200");
    check_http(b"HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nsorry", "Status(503): status 503");
    // The head is all that is read: a body may come later, or never.
    check_http(b"HTTP/1.1 302 Found\r\nContent-Length: 1000000\r\n\r\n", "Status(302)");
    check_http(b"HTTP/1.0 200 OK\r\n\r\n", "Status(200)");
    check_http(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "Status(204)");
    check_http(b"SSH-2.0-OpenSSH_9.9\r\n", "Failed: ");
    check_http(b"", "TimedOut: no answer within 300ms");
    check_http(b"HTTP/1.1 200 OK\r\nContent-", "TimedOut");
}

#[test]
fn an_endless_head_is_cut_off() {
    let found = run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a probe");
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
            while stream.write_all(b"X-Field: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n").await.is_ok() {}
        });
        probe(NodeAddress::Ip(address), rule(ProbeKind::Http), &Tls::default()).await
    });
    assert_eq!(found.outcome, ProbeOutcome::Failed, "{}", found.why);
}

#[test]
fn what_an_http_probe_says() {
    run(async {
        let (address, mut heads) = raw(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let mut check = rule(ProbeKind::Http);
        check.http_path = "/live?full=1".to_owned();
        let plain = probe(NodeAddress::Ip(address), check.clone(), &Tls::default()).await;
        assert_eq!(plain.outcome, ProbeOutcome::Status(200));
        let head = heads.recv().await.expect("a head");
        assert!(head.starts_with("GET /live?full=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nHost: {address}\r\n")), "{head}");
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        assert!(head.contains("\r\nUser-Agent: ringway/"), "{head}");
        check.host = Some("well.example".to_owned());
        let fields = [("User-Agent", "mine"), ("X-Token", "a"), ("X-Token", "b")];
        check.req_headers = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        // Another port than the node's: the node's own is closed.
        check.port = Some(address.port());
        let elsewhere = NodeAddress::Ip(SocketAddr::from(([127, 0, 0, 1], 1)));
        let other = probe(elsewhere, check, &Tls::default()).await;
        assert_eq!(other.outcome, ProbeOutcome::Status(200));
        let head = heads.recv().await.expect("a head");
        assert!(head.contains("\r\nHost: well.example\r\n"), "{head}");
        assert!(head.contains("\r\nUser-Agent: mine\r\n") && !head.contains("ringway/"), "{head}");
        assert!(head.contains("\r\nX-Token: a\r\n") && head.contains("\r\nX-Token: b\r\n"), "{head}");
    });
}

#[test]
fn fields_that_are_none_are_a_failure() {
    let mut check = rule(ProbeKind::Http);
    check.req_headers = vec![("a b".to_owned(), "c".to_owned())];
    let found = run(async {
        let (address, _heads) = raw(b"HTTP/1.1 200 OK\r\n\r\n").await;
        probe(NodeAddress::Ip(address), check, &Tls::default()).await
    });
    assert_eq!(found.outcome, ProbeOutcome::Failed, "{}", found.why);
}

#[test]
fn hosts() {
    let check = |node: &str, kind, port, host: Option<&str>, rewrite: Option<&str>, expected: &str| {
        let rule = ActiveCheck { port, host: host.map(str::to_owned), ..rule(kind) };
        let mut source = Upstream::of("u".to_owned(), Vec::new(), Place::NOWHERE);
        if let Some(rewrite) = rewrite {
            (source.pass_host, source.upstream_host) = (PassHost::Rewrite, Some(rewrite.to_owned()));
        }
        assert_eq!(authority(&rule, &source, node), expected, "{node} {kind:?} {port:?} {host:?}");
    };
    use ProbeKind::*;
    check("a.test:8080", Http, None, None, None, "a.test:8080");
    check("a.test:8080", Http, Some(9000), None, None, "a.test:9000");
    check("a.test:8080", Http, Some(80), None, None, "a.test");
    check("a.test:8080", Https, Some(443), None, None, "a.test");
    check("[::1]:8080", Http, Some(9000), None, None, "[::1]:9000");
    check("a.test:8080", Http, Some(9000), Some("b.test"), Some("c.test"), "b.test");
    check("a.test:8080", Http, Some(9000), None, Some("c.test"), "c.test");
}

#[test]
fn tcp_connects() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let tls = Tls::default();
        let found = probe(NodeAddress::Ip(address), rule(ProbeKind::Tcp), &tls).await;
        assert_eq!(found.outcome, ProbeOutcome::Ok, "{}", found.why);
        drop(listener);
        let found = probe(NodeAddress::Ip(address), rule(ProbeKind::Tcp), &tls).await;
        assert_eq!(found.outcome, ProbeOutcome::Failed);
        assert!(found.why.contains("refused"), "{}", found.why);
        let found = probe(NodeAddress::Ip(address), rule(ProbeKind::Http), &tls).await;
        assert_eq!(found.outcome, ProbeOutcome::Failed);
    });
}

#[test]
fn unix_sockets() {
    let path = std::env::temp_dir().join(format!("ringway-probe-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    run(async {
        let listener = UnixListener::bind(&path).expect("a writable temporary folder");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a probe");
            let mut head = [0; 1024];
            let length = stream.read(&mut head).await.expect("a head");
            assert!(String::from_utf8_lossy(&head[..length]).contains("Host: localhost\r\n"));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        });
        let found = probe(NodeAddress::Unix(path.clone()), rule(ProbeKind::Http), &Tls::default()).await;
        assert_eq!(found.outcome, ProbeOutcome::Status(200), "{}", found.why);
    });
    std::fs::remove_file(path).expect("our own file");
}

/// An https origin for `well.test`, and its certificate.
async fn https() -> (SocketAddr, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["well.test".to_owned()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the versions of TLS")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("they belong together");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                let _ = stream.flush().await;
                let _ = stream.read(&mut head).await;
            });
        }
    });
    (address, certificate)
}

#[test]
fn https_verifies_unless_told_otherwise() {
    run(async {
        let (address, certificate) = https().await;
        let node = NodeAddress::Ip(address);
        let named = |name: &str| ActiveCheck { host: Some(name.to_owned()), ..rule(ProbeKind::Https) };
        let trusting = Tls::trusting(&certificate);
        let found = probe(node.clone(), named("well.test"), &trusting).await;
        assert_eq!(found.outcome, ProbeOutcome::Status(200), "{}", found.why);
        let found = probe(node.clone(), named("other.test"), &trusting).await;
        assert_eq!(found.outcome, ProbeOutcome::Failed, "another name");
        assert!(found.why.contains("certificate"), "{}", found.why);
        // The address is no name of the certificate.
        let found = probe(node.clone(), rule(ProbeKind::Https), &trusting).await;
        assert_eq!(found.outcome, ProbeOutcome::Failed, "{}", found.why);
        let found = probe(node.clone(), named("well.test"), &Tls::default()).await;
        assert_eq!(found.outcome, ProbeOutcome::Failed, "nobody trusts it");
        let unverified = ActiveCheck { verify: false, ..rule(ProbeKind::Https) };
        let found = probe(node, unverified, &Tls::default()).await;
        assert_eq!(found.outcome, ProbeOutcome::Status(200), "{}", found.why);
        // An origin without TLS.
        let (address, _heads) = raw(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let quick = ActiveCheck { timeout: Duration::from_millis(300), ..rule(ProbeKind::Https) };
        let found = probe(NodeAddress::Ip(address), quick, &Tls::default()).await;
        assert!(!matches!(found.outcome, ProbeOutcome::Status(_) | ProbeOutcome::Ok), "{found:?}");
    });
}

/// Answers `Check` as the asked service's name says.
async fn answer_grpc(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = std::convert::Infallible>>, hyper::Error> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    let body = request.into_body().collect().await?.to_bytes();
    let service = String::from_utf8_lossy(body.get(7..).unwrap_or_default()).into_owned();
    let (message, code): (&'static [u8], &str) = match service.as_str() {
        "" | "well" => (&[0, 0, 0, 0, 2, 8, 1], "0"),
        "ill" => (&[0, 0, 0, 0, 2, 8, 2], "0"),
        "slow" => {
            tokio::time::sleep(SOON).await;
            (&[], "0")
        }
        "flood" => (&[0; 4096], "0"),
        _ => (&[], "5"),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse().expect("a value"));
    let body = Full::new(Bytes::from_static(message)).with_trailers(std::future::ready(Some(Ok(trailers))));
    Ok(Response::builder().header("content-type", "application/grpc").body(body).expect("a response"))
}

#[test]
fn grpc_services() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(answer_grpc)));
            }
        });
        let node = NodeAddress::Ip(address);
        for (service, outcome, why) in [
            ("", ProbeOutcome::Ok, "it answers"),
            ("well", ProbeOutcome::Ok, "it answers"),
            ("ill", ProbeOutcome::Failed, "NOT_SERVING"),
            ("none", ProbeOutcome::Failed, "grpc-status 5"),
            ("flood", ProbeOutcome::Failed, "the answer broke off"),
            ("slow", ProbeOutcome::TimedOut, "no answer within"),
        ] {
            let timeout = Duration::from_millis(if service == "slow" { 200 } else { 5000 });
            let check = ActiveCheck { grpc_service: service.to_owned(), timeout, ..rule(ProbeKind::Grpc) };
            let found = probe(node.clone(), check, &Tls::default()).await;
            assert_eq!(found.outcome, outcome, "{service}: {}", found.why);
            assert!(found.why.starts_with(why), "{service}: {}", found.why);
        }
        // An origin that speaks HTTP/1 alone.
        let (address, _heads) = raw(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let found = probe(NodeAddress::Ip(address), rule(ProbeKind::Grpc), &Tls::default()).await;
        assert_eq!(found.outcome, ProbeOutcome::Failed, "{}", found.why);
    });
}

/// What the configuration takes as a path, a probe can ask for: it would else find every endpoint ill.
#[test]
fn every_path_can_be_asked_for() {
    let address: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    for byte in 0..=0x7f_u8 {
        for place in ["/", "/?"] {
            let path = format!("{place}{}x", char::from(byte));
            let text = format!(
                "[server]\nlisten = \":0\"\n[[upstreams]]\nname = \"u\"\nservers = [\"{address}\"]\n\
                 checks.active = {{ http_path = {} }}\n",
                serde_json::Value::from(path.as_str())
            );
            let (document, _) = config::parse_str("t.toml", &text, &config::ProcessEnv);
            let Some(document) = document else { continue };
            let checks = document.upstreams[0].checks.clone().expect("written");
            let check = checks.active.expect("written");
            let aim = Aim { check: &check, address: Address::Tcp(address), authority: "a".to_owned() };
            assert!(http::request(&aim).is_ok(), "{path}");
        }
    }
}

/// A probe that was given up leaves no connection behind, whatever was spoken on it.
#[test]
fn a_silent_origin_is_hung_up_on() {
    for kind in [ProbeKind::Http, ProbeKind::Https, ProbeKind::Tcp, ProbeKind::Grpc] {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let node = NodeAddress::Ip(listener.local_addr().expect("bound"));
            let check = ActiveCheck { timeout: Duration::from_millis(200), verify: false, ..rule(kind) };
            let asked = async { probe(node, check, &Tls::default()).await.outcome };
            let (outcome, accepted) = tokio::join!(asked, listener.accept());
            let expected = if kind == ProbeKind::Tcp { ProbeOutcome::Ok } else { ProbeOutcome::TimedOut };
            assert_eq!(outcome, expected, "{kind:?}");
            let mut stream = accepted.expect("a probe").0;
            let hung_up = tokio::time::timeout(Duration::from_secs(5), async {
                let mut bytes = [0; 1024];
                while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
            });
            assert!(hung_up.await.is_ok(), "{kind:?} is still open");
        });
    }
}

/// An origin whose status can be changed; it counts what it is asked.
struct Origin {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
}

impl Origin {
    async fn start() -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let origin = Origin { address, status: Arc::new(AtomicU16::new(200)), asked: Arc::default() };
        let (status, asked) = (origin.status.clone(), origin.asked.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (status, asked) = (status.clone(), asked.clone());
                tokio::spawn(async move {
                    let mut head = [0; 1024];
                    let _ = stream.read(&mut head).await;
                    asked.fetch_add(1, Ordering::SeqCst);
                    let answer = format!("HTTP/1.1 {} x\r\n\r\n", status.load(Ordering::SeqCst));
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        origin
    }

    /// Waits until so many more probes than by now have come.
    async fn asked_again(&self, times: usize) {
        let enough = self.asked.load(Ordering::SeqCst) + times;
        while self.asked.load(Ordering::SeqCst) < enough {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn node(&self) -> Node {
        Node::at(NodeAddress::Ip(self.address))
    }
}

async fn probed(inbox: &mut UnboundedReceiver<Event>) -> Probed {
    match inbox.recv().await {
        Some(Event::Probed(probed)) => probed,
        _ => panic!("no probe's change"),
    }
}

#[test]
fn the_prober_follows_health_and_plans() {
    run(async {
        let (one, two) = (Origin::start().await, Origin::start().await);
        let first = plan(vec![upstream("u", vec![one.node()], rule(ProbeKind::Http))], None);
        let (events, mut inbox) = unbounded_channel();
        let mut prober = Prober::new(events);
        prober.follow(&first);
        // Without a request, and without a change to tell while all is well.
        one.asked_again(3).await;
        one.status.store(503, Ordering::SeqCst);
        let change = probed(&mut inbox).await;
        assert_eq!((change.upstream.as_str(), change.endpoint), ("u", one.address.to_string()));
        assert_eq!((change.change.healthy, change.why.as_str()), (false, "status 503"));
        // A plan with one node more: what is known stays known, and the new one is probed.
        let nodes = vec![one.node(), two.node()];
        let second = plan(vec![upstream("u", nodes, rule(ProbeKind::Http))], Some(&first));
        prober.follow(&second);
        two.asked_again(3).await;
        let endpoints = &second.upstream("u").expect("compiled").endpoints;
        let health = |endpoint| health::status(second.upstream("u").expect("compiled"), endpoint);
        assert!(!health::is_healthy(&health(&endpoints[0])));
        assert!(health::is_healthy(&health(&endpoints[1])));
        one.status.store(200, Ordering::SeqCst);
        let change = probed(&mut inbox).await;
        assert_eq!((change.endpoint, change.change.healthy), (one.address.to_string(), true));
        // Without the second node it is left alone: its last probe may be under way.
        let third = plan(vec![upstream("u", vec![one.node()], rule(ProbeKind::Http))], Some(&second));
        prober.follow(&third);
        one.asked_again(2).await;
        let asked = two.asked.load(Ordering::SeqCst);
        one.asked_again(5).await;
        assert!(two.asked.load(Ordering::SeqCst) <= asked + 1);
        assert!(inbox.try_recv().is_err(), "nothing else has changed");
    });
}

/// Two upstreams of one endpoint: each by its own rule. A node that is written `down` is not probed.
#[test]
fn rules_of_their_own() {
    run(async {
        let (shared, down) = (Origin::start().await, Origin::start().await);
        shared.status.store(404, Ordering::SeqCst);
        let tolerant = ActiveCheck { healthy_statuses: vec![404], ..rule(ProbeKind::Http) };
        let nodes = vec![shared.node(), Node { down: true, ..down.node() }];
        let plan = plan(
            vec![
                upstream("strict", nodes, rule(ProbeKind::Http)),
                upstream("tolerant", vec![shared.node()], tolerant),
            ],
            None,
        );
        let (events, mut inbox) = unbounded_channel();
        Prober::new(events.clone()).health("strict");
        let mut prober = Prober::new(events);
        prober.follow(&plan);
        let change = probed(&mut inbox).await;
        assert_eq!((change.upstream.as_str(), change.change.healthy), ("strict", false));
        shared.asked_again(8).await;
        assert!(inbox.try_recv().is_err(), "the tolerant one finds it well");
        assert_eq!(down.asked.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn nothing_runs_without_checks() {
    let (events, _inbox) = unbounded_channel();
    let mut prober = Prober::new(events);
    prober.follow(&plan(vec![Upstream::of("u".to_owned(), Vec::new(), Place::NOWHERE)], None));
    assert!(prober.messages.is_none());
}
