//! What an operator sees: access log in its formats, `/status`, `/metrics`.

use serde_json::Value;
use tests::gateway::route_to;
use tests::wait::{wait_for, wait_until, SOON};
use tests::{get, request, table, Client, Gateway, Origin};

#[test]
fn json_lines_tell_everything() {
    let origin = Origin::named("hello");
    let gateway = Gateway::start(&format!(
        "[[routes]]\nname = \"main\"\nuri = \"/*\"\nupstream = [\"{origin}\"]\nplugins = {{ request-id = {{}} }}\n"
    ));
    let response = request(
        gateway.address(),
        "POST /path?q=1 HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: \"quoted\\ \u{e9}\r\nContent-Length: 5\r\nConnection: close\r\n\r\n12345",
    );
    let record = gateway.wait_access_of("/path");
    let text = |name: &str| record[name].as_str().unwrap_or_else(|| panic!("{name} in {record}")).to_owned();
    let number = |name: &str| record[name].as_u64().unwrap_or_else(|| panic!("{name} in {record}"));
    assert_eq!(text("method"), "POST");
    assert_eq!(text("host"), "shop.test");
    assert_eq!(text("client_ip"), "127.0.0.1");
    assert_eq!(text("route"), "main");
    assert_eq!(number("status"), 200);
    assert_eq!(text("upstream"), origin.address().to_string());
    assert_eq!(number("upstream_status"), 200);
    assert_eq!(number("tries"), 1);
    assert_eq!(Some(text("request_id").as_str()), response.get("x-request-id"));
    let date = text("ts");
    assert!(date.len() == 24 && date.ends_with('Z') && date.as_bytes()[10] == b'T', "{date}");
    assert!(number("bytes_in") >= 5 && number("bytes_out") >= 5, "{record}");
    assert!(number("dur_us") > 0 && number("dur_us") < 60_000_000, "{record}");
    assert!(number("ttfb_us") <= number("dur_us"), "{record}");
    assert!(record.get("connect_us").is_some_and(|value| value.is_u64() || value.is_null()), "{record}");
    assert!(record.get("term").is_some(), "{record}");
}

/// Every request is logged exactly once, whatever became of it.
#[test]
fn every_request_has_one_line() {
    let origin = Origin::named("fine");
    let gateway = Gateway::start(&format!(
        "[[routes]]\nuri = \"/ok/*\"\nupstream = [\"{origin}\"]\n[[routes]]\nuri = \"/dead\"\nupstream = [\"127.0.0.1:1\"]\n"
    ));
    let mut client = Client::connect(gateway.address());
    for at in 0..200 {
        client.send(format!("GET /ok/{at} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.response().status, 200);
    }
    get(gateway.address(), "/dead");
    get(gateway.address(), "/none");
    Client::sending(gateway.address(), "GET /bad HTTP/1.1\r\n\r\n").response();
    let rows = [("/dead", 502), ("/none", 404)];
    table::each(
        &rows,
        |(path, _)| (*path).to_owned(),
        |(path, status)| assert_eq!(gateway.wait_access_of(path)["status"], *status),
    );
    gateway.wait_access("the 400", |record| record["status"] == 400);
    wait_until("all lines", || gateway.access_lines().len() >= 203);
    assert_eq!(gateway.access_lines().len(), 203);
}

#[test]
fn the_combined_format() {
    let origin = Origin::named("hello");
    let gateway = Gateway::start(&format!("[log]\nformat = \"combined\"\n{}", route_to(&[origin.address()])));
    request(
        gateway.address(),
        "GET /a?b=c HTTP/1.1\r\nHost: a\r\nReferer: http://r/\r\nUser-Agent: agent \"1\"\r\nConnection: close\r\n\r\n",
    );
    let line = wait_for("a line", SOON, || gateway.access_lines().pop());
    let (start, rest) = line.split_once(" [").expect("a date in brackets");
    assert_eq!(start, "127.0.0.1 - -");
    let (date, rest) = rest.split_once("] ").expect("a date in brackets");
    assert!(date.len() == 26 && date.as_bytes()[2] == b'/' && date.as_bytes()[11] == b':', "{date}");
    assert!(rest.starts_with("\"GET /a?b=c HTTP/1.1\" 200 5 \"http://r/\" \"agent "), "{rest}");
    assert!(!rest.contains(" \"1\"\""), "a quote inside a quoted field is escaped: {rest}");
}

#[test]
fn a_template_format() {
    let origin = Origin::named("hello");
    let gateway = Gateway::start(&format!(
        "[log]\nformat = \"$remote_addr|$request_method|$uri|$status|$arg_b|$host\"\n{}",
        route_to(&[origin.address()])
    ));
    request(gateway.address(), "GET /a?b=c HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n");
    let line = wait_for("a line", SOON, || gateway.access_lines().pop());
    assert_eq!(line, "127.0.0.1|GET|/a|200|c|shop.test");
}

/// What a client sends cannot forge a line.
#[test]
fn lines_cannot_be_forged() {
    let origin = Origin::named("hello");
    let gateway = Gateway::before(&[origin.address()]);
    get(gateway.address(), "/%0a%22%7d,%22status%22:999?%0d%0a");
    let record = wait_for("a line", SOON, || gateway.access_lines().pop());
    let record: Value = serde_json::from_str(&record).expect("one line of JSON");
    assert_eq!(record["status"], 200);
}

#[test]
fn off_means_off() {
    let origin = Origin::named("hello");
    let gateway = Gateway::start(&format!("[log]\naccess = \"off\"\n{}", route_to(&[origin.address()])));
    assert_eq!(get(gateway.address(), "/").text(), "hello");
    assert!(gateway.access_lines().is_empty());
}

#[test]
fn status_and_readiness() {
    let origin = Origin::named("hello");
    let gateway = Gateway::before(&[origin.address()]);
    let status = get(gateway.status(), "/status");
    assert_eq!(status.status, 200);
    let body: Value = serde_json::from_slice(&status.body).expect("JSON");
    assert!(body["generation"].as_u64().is_some(), "{body}");
    assert_eq!(get(gateway.status(), "/status/ready").status, 200);
    assert_eq!(get(gateway.status(), "/none").status, 404);
}

/// Not ready while draining, so that a load balancer turns elsewhere.
#[test]
fn a_draining_gateway_is_not_ready() {
    let origin = Origin::silent();
    let gateway = Gateway::before(&[origin.address()]);
    let _busy = Client::sending(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the origin to be asked", || origin.count() == 1);
    gateway.signal(rustix::process::Signal::TERM);
    wait_until("/status/ready to say 503", || get(gateway.status(), "/status/ready").status == 503);
}

#[test]
fn metrics_count_what_happened() {
    let origin = Origin::named("hello");
    let gateway = Gateway::start(&format!(
        "[[routes]]\nname = \"main\"\nuri = \"/*\"\nmethods = [\"GET\"]\nupstream = [\"{origin}\"]\n"
    ));
    let mut client = Client::connect(gateway.address());
    for _ in 0..7 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }
    client.send("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 404);
    let response = get(gateway.status(), "/metrics");
    assert!(response.get("content-type").is_some_and(|value| value.starts_with("text/plain")));
    let requests = |labels: &[&str]| gateway.metric("ringway_requests_total", labels);
    wait_until("seven requests by route and code", || {
        (requests(&["route=\"main\"", "code=\"200\""]) - 7.0).abs() < 0.5
    });
    wait_until("the 404", || (requests(&["code=\"404\""]) - 1.0).abs() < 0.5);
    let text = get(gateway.status(), "/metrics").text();
    // Prometheus text: a type for every family, a number in every sample.
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let number = line.rsplit(' ').next().unwrap_or_default();
        assert!(number.parse::<f64>().is_ok(), "{line}");
    }
    for word in ["ringway_connections", "ringway_generation", "duration", "driver"] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
    assert_eq!(get(gateway.status(), "/apisix/prometheus/metrics").status, 200);
}

/// Counters survive a reload.
#[test]
fn counters_survive_a_reload() {
    let origin = Origin::named("hello");
    let gateway = Gateway::before(&[origin.address()]);
    get(gateway.address(), "/");
    wait_until("one request", || gateway.metric("ringway_requests_total", &[]) >= 1.0);
    gateway.replace(&format!(
        "{}[[routes]]\nname = \"b\"\nuri = \"/b\"\nupstream = [\"{origin}\"]\n",
        route_to(&[origin.address()])
    ));
    get(gateway.address(), "/");
    wait_until("both requests", || gateway.metric("ringway_requests_total", &[]) >= 2.0);
}
