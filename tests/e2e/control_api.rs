//! The control API over the real binary: what probes and traffic found, and where it listens.

use serde_json::Value;
use std::net::TcpListener;
use tests::gateway::Start;
use tests::wait::wait_until;
use tests::{Gateway, Origin};

fn json(gateway: &Gateway, path: &str) -> Value {
    let body = tests::get(gateway.control(), path).text();
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body}"))
}

const QUICK: &str = "healthy = { interval = \"50ms\", successes = 1 }\n\
    unhealthy = { interval = \"50ms\", tcp_failures = 2 }\n";

/// Without a request: probes begin with the plan.
#[test]
fn health_as_probes_find_it() {
    let well = Origin::named("well");
    let (well, ill) = (well.address(), Origin::refused());
    let gateway = Gateway::start(&format!(
        "[[upstreams]]\nid = \"1\"\nservers = [\"{well}\", \"{ill}\"]\n[upstreams.checks.active]\n{QUICK}\n\
         [[routes]]\nid = \"r\"\nupstream_id = \"1\"\n"
    ));
    let health = || json(&gateway, "/v1/healthcheck/upstreams/1");
    wait_until("the dead one is found", || health()["nodes"][1]["status"] == "unhealthy");
    let health = health();
    assert_eq!(health["name"], "/apisix/upstreams/1");
    assert_eq!(health["type"], "http");
    assert_eq!(health["nodes"][0]["ip"], "127.0.0.1");
    assert_eq!(health["nodes"][0]["port"], well.port());
    assert_eq!(health["nodes"][0]["status"], "healthy");
    let list = json(&gateway, "/v1/healthcheck");
    assert_eq!(list[0]["nodes"][1]["status"], "unhealthy");
    let line = gateway.wait_log(&["an endpoint is unhealthy", &ill.to_string()]);
    assert!(line.contains("\"upstream\":\"1\"") && line.contains("refused"), "{line}");
    let ill = format!("endpoint=\"{ill}\"");
    assert_eq!(gateway.metric("ringway_upstream_healthy", &["upstream=\"1\"", &ill]), 0.0);
    assert_eq!(gateway.metric("ringway_upstream_healthy", &["upstream=\"1\""]), 1.0);
    assert_eq!(gateway.metric("ringway_health_changes_total", &["by=\"active\"", "to=\"unhealthy\""]), 1.0);
    assert!(gateway.metric("ringway_probes_total", &["result=\"success\""]) >= 1.0);
    assert!(gateway.metric("ringway_probes_total", &["result=\"tcp_failure\""]) >= 2.0);
    assert_eq!(json(&gateway, "/v1/route/r")["value"]["upstream_id"], "1");
    assert_eq!(tests::get(gateway.control(), "/v1/none").status, 404);
}

/// Upstreams of a reload are probed, those that are gone are not, and what stays keeps its state.
#[test]
fn probes_follow_reloads() {
    let (first, second) = (Origin::named("one"), Origin::named("two"));
    let upstream = |name: &str, server: String| {
        format!(
            "[[upstreams]]\nid = \"{name}\"\nservers = [\"{server}\"]\n[upstreams.checks.active]\n{QUICK}\n"
        )
    };
    let route = "[[routes]]\nupstream = \"127.0.0.1:1\"\n";
    let ill = upstream("ill", Origin::refused().to_string());
    let gateway = Gateway::start(&format!("{ill}{}{route}", upstream("one", first.to_string())));
    wait_until("the first is probed", || first.count() >= 2);
    wait_until("the dead one is found", || {
        json(&gateway, "/v1/healthcheck/upstreams/ill")["nodes"][0]["status"] == "unhealthy"
    });
    gateway.replace(&format!("{ill}{}{route}", upstream("two", second.to_string())));
    assert_eq!(json(&gateway, "/v1/healthcheck/upstreams/ill")["nodes"][0]["status"], "unhealthy");
    assert_eq!(tests::get(gateway.control(), "/v1/healthcheck/upstreams/one").status, 404);
    let before = first.count();
    wait_until("the second is probed", || second.count() >= 10);
    assert!(first.count() <= before + 1, "one may have been under way");
}

#[test]
fn a_written_address_that_is_taken_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let toml = format!("[control]\nlisten = \"{address}\"\n{}", tests::gateway::route_to(&[address]));
    let (status, log) = Start::new().try_start(&toml).err().expect("it does not start");
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("for [control]") && log.contains("set it to \\\"off\\\""), "{log}");
}

#[test]
fn off_is_off() {
    let origin = Origin::named("one");
    let toml = format!("[control]\nlisten = \"off\"\n{}", tests::gateway::route_to(&[origin.address()]));
    let gateway = Gateway::start(&toml);
    assert_eq!(gateway.try_listener("control"), None);
}

/// A key that others can read stops whoever needs it, and nobody else.
#[test]
fn the_key_of_sticky_cookies() {
    let origin = Origin::named("one");
    let upstream = |more: &str| {
        format!(
            "[[upstreams]]\nname = \"o\"\nservers = [\"{origin}\"]\n{more}\n[[routes]]\nupstream_id = \"o\"\n"
        )
    };
    let start = || Start::new().file("work/sticky.key", "too short");
    let (status, log) = start().try_start(&upstream("sticky = true")).err().expect("it does not start");
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("sticky.key") && log.contains("help: "), "{log}");
    let gateway = start().start(&upstream(""));
    gateway.rewrite(&upstream("sticky = true"));
    let output = gateway.reload();
    assert!(!output.status.success(), "a reload that needs it is refused as well");
    assert!(tests::gateway::both(&output).contains("sticky.key"));
    std::fs::remove_file(gateway.folder().path().join("work/sticky.key")).expect("our own file");
    gateway.replace(&upstream("sticky = true"));
    let response = tests::get(gateway.address(), "/");
    assert!(response.fields.get("set-cookie").is_some_and(|cookie| cookie.starts_with("rw_s=")));
}
