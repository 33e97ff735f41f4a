//! The shapes of answers, over a real connection and by path.

use balancer::endpoint::ProbeOutcome;
use config::MapEnv;
use engine::plan::Feeds;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A compiled document.
pub(crate) fn plan(text: &str) -> Arc<Plan> {
    let (document, report) = config::parse_str("ringway.toml", text, &MapEnv::default());
    let document = Arc::new(document.unwrap_or_else(|| panic!("{}", report.render(false))));
    let mut feeds = Feeds { workers: 1, ..Feeds::default() };
    feeds.addresses.insert("app.test".to_owned(), vec!["10.0.0.7".parse().expect("an address")]);
    engine::plan::compile(&document, &feeds, None, 1, &mut config::Report::new()).expect("compiles")
}

const DOCUMENT: &str = r#"
[server]
listen = "127.0.0.1:0"

[[upstreams]]
id = "1"
type = "roundrobin"
nodes = { "127.0.0.1:8001" = 1, "app.test:8002" = 2 }
[upstreams.checks.active]
type = "https"
req_headers = ["Authorization: hunter2"]
unhealthy = { http_failures = 1 }

[[upstreams]]
id = "plain"
servers = ["127.0.0.1:8003"]
pass_host = "rewrite"
upstream_host = "a.test"
retry_timeout = 1.5

[[upstreams]]
id = "counted"
servers = ["127.0.0.1:8004 max_fails=2", "unix:/run/app.sock"]

[[services]]
id = "s"
[services.upstream]
servers = ["127.0.0.1:8005"]
checks = { active = { type = "tcp" } }

[[routes]]
id = "r"
uri = "/r"
name = "a name"
vars = [["http_x_token", "==", "hunter2"]]
plugins = { request-id = {}, response-rewrite = { headers = { set = { X-Secret = "hunter2" } } } }
[routes.upstream]
servers = ["127.0.0.1:8006"]
breaker = true

[[routes]]
id = "by-service"
uri = "/s"
service_id = "s"

[[routes]]
id = "by-id"
uri = "/i"
upstream_id = "1"
"#;

fn check(path: &str, status: u16, expected: &Value) {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let (got, document) = look_up(&segments, &plan(DOCUMENT)).unwrap_or_else(|| panic!("no {path}"));
    assert_eq!(got.as_u16(), status, "{path}: {document}");
    assert_eq!(document, *expected, "{path}");
}

fn fresh(ip: &str, port: u16) -> Value {
    let counter = json!({ "success": 0, "http_failure": 0, "tcp_failure": 0, "timeout_failure": 0 });
    json!({ "ip": ip, "port": port, "status": "healthy", "counter": counter })
}

#[test]
fn health_of_one() {
    let mut named = fresh("10.0.0.7", 8002);
    named["hostname"] = "app.test".into();
    let nodes = json!([fresh("127.0.0.1", 8001), named]);
    let upstream = json!({ "name": "/apisix/upstreams/1", "type": "https", "nodes": nodes });
    check("/v1/healthcheck/upstreams/1", 200, &upstream);
    let service = json!({ "name": "/apisix/services/s", "type": "tcp", "nodes": [fresh("127.0.0.1", 8005)] });
    check("/v1/healthcheck/services/s", 200, &service);
    let route = json!({ "name": "/apisix/routes/r", "type": "http", "nodes": [fresh("127.0.0.1", 8006)] });
    check("/v1/healthcheck/routes/r", 200, &route);
    let nodes = json!([fresh("127.0.0.1", 8004), fresh("unix:/run/app.sock", 0)]);
    let counted = json!({ "name": "/apisix/upstreams/counted", "type": "http", "nodes": nodes });
    check("/v1/healthcheck/upstreams/counted", 200, &counted);
    let refused = |what: &str| json!({ "error_msg": what });
    check("/v1/healthcheck/upstreams/plain", 404, &refused("no checker for upstreams[plain]"));
    check("/v1/healthcheck/routes/by-id", 404, &refused("no checker for routes[by-id]"));
    check("/v1/healthcheck/routes/none", 404, &refused("routes[none] not found"));
    check("/v1/healthcheck/upstreams/route:r", 404, &refused("upstreams[route:r] not found"));
    check("/v1/healthcheck/plugins/1", 400, &refused("invalid src type plugins"));
    check("/v1/healthcheck/routes", 404, &refused("missing src id for src type routes"));
}

#[test]
fn health_of_all() {
    let (_, all) = look_up(&["v1", "healthcheck"], &plan(DOCUMENT)).expect("there");
    let names: Vec<&str> =
        all.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    let expected =
        ["/apisix/routes/r", "/apisix/services/s", "/apisix/upstreams/1", "/apisix/upstreams/counted"];
    assert_eq!(names, expected);
}

#[test]
fn what_probes_find_is_shown() {
    let plan = plan(DOCUMENT);
    let upstream = plan.upstream("1").expect("compiled");
    let checks = upstream.source.checks.clone().expect("written");
    let rule = checks.active.expect("written");
    upstream.endpoints[0].shared.probed(&rule, ProbeOutcome::Status(500), 1);
    upstream.endpoints[1].shared.probed(&rule, ProbeOutcome::TimedOut, 1);
    let (_, one) = look_up(&["v1", "healthcheck", "upstreams", "1"], &plan).expect("there");
    assert_eq!(one["nodes"][0]["status"], "unhealthy", "{one}");
    assert_eq!(one["nodes"][1]["status"], "mostly_healthy", "{one}");
    assert_eq!(one["nodes"][1]["counter"]["timeout_failure"], 1, "{one}");
    let page = page(&one);
    assert!(
        page.contains("<td>/apisix/upstreams/1</td><td>https</td><td>127.0.0.1:8001</td><td>unhealthy</td>"),
        "{page}"
    );
    let list = self::page(&json!([{ "name": "<b>", "type": "http", "nodes": [one["nodes"][0]] }]));
    assert!(list.contains("<td>&lt;b&gt;</td>"), "{list}");
}

#[test]
fn resources() {
    let plain = json!({
        "key": "/apisix/upstreams/plain",
        "value": {
            "id": "plain",
            "type": "roundrobin",
            "nodes": [{ "host": "127.0.0.1", "port": 8003, "weight": 1, "priority": 0 }],
            "scheme": "http",
            "pass_host": "rewrite",
            "upstream_host": "a.test",
            "retry_timeout": 1.5,
            "keepalive_pool": { "size": 320, "idle_timeout": 60, "requests": 1000 },
        },
    });
    check("/v1/upstream/plain", 200, &plain);
    let service = json!({
        "key": "/apisix/routes/by-service",
        "value": { "id": "by-service", "uris": ["/s"], "priority": 0, "status": 1, "service_id": "s" },
    });
    check("/v1/route/by-service", 200, &service);
    check("/v1/route/none", 404, &json!({ "error_msg": "route[none] not found" }));
    check("/v1/service/none", 404, &json!({ "error_msg": "service[none] not found" }));
    check("/v1/upstream/none", 404, &json!({ "error_msg": "upstream[none] not found" }));
    let plan = plan(DOCUMENT);
    let count = |kind: &str| look_up(&["v1", kind], &plan).expect("there").1.as_array().map(Vec::len);
    assert_eq!((count("routes"), count("services"), count("upstreams")), (Some(3), Some(1), Some(3)));
    let (_, route) = look_up(&["v1", "route", "r"], &plan).expect("there");
    assert_eq!(route["value"]["plugins"], json!({ "request-id": {}, "response-rewrite": {} }));
    assert_eq!(route["value"]["upstream"]["nodes"][0]["port"], 8006);
}

#[test]
fn no_secret_is_shown() {
    let plan = plan(DOCUMENT);
    for kind in ["routes", "services", "upstreams", "healthcheck"] {
        let (_, document) = look_up(&["v1", kind], &plan).expect("there");
        assert!(!document.to_string().contains("hunter2"), "{kind}: {document}");
    }
}

/// One request over a real connection.
async fn ask(address: std::net::SocketAddr, line: &str, field: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("served");
    let request = format!("{line} HTTP/1.1\r\nHost: a\r\n{field}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("taken");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("answered");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn over_the_wire() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::new(std::time::Instant::now()));
        tokio::spawn(serve(listener, shared.clone()));
        let early = ask(address, "GET /v1/routes", "").await;
        assert!(early.starts_with("HTTP/1.1 503") && early.contains("error_msg"), "{early}");
        shared.update(|now| now.plan = Some(plan(DOCUMENT)));
        for (line, field, status, words) in [
            ("GET /v1/healthcheck", "", "200", ["application/json", "[{\"name\":"]),
            ("GET /v1/healthcheck?x=1", "", "200", ["application/json", "/apisix/upstreams/1"]),
            ("GET /v1/healthcheck", "Accept: text/html,*/*\r\n", "200", ["text/html", "<table"]),
            ("GET /v1/healthcheck/upstreams/1", "Accept: text/html\r\n", "200", ["text/html", "<table"]),
            (
                "GET /v1/healthcheck/upstreams/9",
                "Accept: text/html\r\n",
                "404",
                ["application/json", "error_msg"],
            ),
            ("GET /v1/schema", "", "200", ["application/json", "\"title\":\"Ringway\""]),
            ("GET /v1/none", "", "404", ["application/json", "error_msg"]),
            ("GET /", "", "404", ["application/json", "error_msg"]),
            ("PUT /v1/plugins/reload", "", "405", ["allow: GET, HEAD", "error_msg"]),
            ("HEAD /v1/routes", "", "200", ["application/json", "content-length"]),
        ] {
            let answer = ask(address, line, field).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{line}: {answer}");
            assert!(words.iter().all(|word| answer.contains(word)), "{line}: {answer}");
        }
    });
}
