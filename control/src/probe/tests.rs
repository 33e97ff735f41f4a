//! Every kind of probe against real origins on loopback, and the prober as a whole.

use std::net::SocketAddr;
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
        concurrency: 10,
        http_path: "/".to_owned(),
        host: None,
        port: None,
        req_headers: Vec::new(),
        verify: true,
        grpc_service: String::new(),
        healthy_interval: Duration::from_millis(50),
        unhealthy_interval: Duration::from_millis(50),
        healthy_statuses: vec![200, 302],
        unhealthy_statuses: vec![429, 404, 500, 501, 502, 503, 504, 505],
        successes: 2,
        http_failures: 2,
        tcp_failures: 2,
        timeouts: 2,
    }
}

fn upstream(id: &str, nodes: Vec<Node>, check: ActiveCheck) -> Upstream {
    let checks = Some(Checks { active: Some(check), passive: None });
    Upstream { checks, ..Upstream::of(id.to_owned(), nodes, Place::NOWHERE) }
}

fn plan(upstreams: Vec<Upstream>, previous: Option<&Arc<Plan>>) -> Arc<Plan> {
    let document = Document { upstreams: upstreams.into_iter().map(Arc::new).collect(), ..Document::default() };
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
