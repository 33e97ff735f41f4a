//! Endpoints found by DNS: SRV with weights and tiers, changes while it runs, names that stop resolving.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use tests::names::{Data, NameServer};
use tests::wait::wait_until;
use tests::{Gateway, Origin};

fn loopback() -> Data {
    Data::Ip([127, 0, 0, 1].into())
}

fn srv(priority: u16, weight: u16, of: SocketAddr) -> Data {
    Data::Srv(priority, weight, of.port(), "node.test".to_owned())
}

fn config(names: &NameServer, service: &str, more: &str) -> String {
    format!(
        "[discovery.dns]\nservers = [\"{}\"]\n[[upstreams]]\nname = \"o\"\ndiscovery_type = \"dns\"\n\
         service_name = \"{service}\"\n{more}\n[[routes]]\nupstream_id = \"o\"\n",
        names.address()
    )
}

/// Who answers so many requests, each on a connection of its own.
fn shares(gateway: &Gateway, requests: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        *shares.entry(tests::get(gateway.address(), "/").text()).or_default() += 1;
    }
    shares
}

fn wait_served_by(gateway: &Gateway, names: &[&str]) {
    wait_until(&format!("answers of {names:?} alone"), || {
        shares(gateway, 12).into_keys().collect::<Vec<_>>() == names
    });
}

#[test]
fn services_by_weight_and_tier_and_their_changes() {
    let (one, two, three) = (Origin::named("one"), Origin::named("two"), Origin::named("three"));
    let (first, second, third) = (one.address(), two.address(), three.address());
    let names = NameServer::new();
    names.set("node.test", &[loopback()]);
    names.set("_http._tcp.app.test", &[srv(1, 2, first), srv(1, 1, second), srv(2, 1, third)]);
    let gateway = Gateway::start(&config(&names, "_http._tcp.app.test", ""));
    // The first request finds them: weights 2 to 1, and nothing for the second tier.
    let found = shares(&gateway, 120);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["one", "two"], "{found:?}");
    assert!((70..=90).contains(&found["one"]), "{found:?}");
    names.set("_http._tcp.app.test", &[srv(1, 1, second), srv(2, 1, third)]);
    wait_served_by(&gateway, &["two"]);
    names.set("_http._tcp.app.test", &[srv(1, 1, third), srv(1, 0, first)]);
    wait_served_by(&gateway, &["one", "three"]);
}

/// Without SRV records the name's own addresses serve, on the port that is written.
#[test]
fn plain_addresses() {
    let one = Origin::named("one");
    let names = NameServer::new();
    names.set("app.test", &[loopback()]);
    let port = one.address().port();
    for more in ["", "discovery_args = { record = \"srv\" }"] {
        let gateway = Gateway::start(&config(&names, &format!("app.test:{port}"), more));
        assert_eq!(shares(&gateway, 3), [("one".to_owned(), 3)].into(), "{more}");
    }
}

#[test]
fn a_name_that_stops_resolving_keeps_what_it_had_and_says_so() {
    let (one, two) = (Origin::named("one"), Origin::named("two"));
    let names = NameServer::new();
    names.set("node.test", &[loopback()]);
    names.set("_http._tcp.app.test", &[srv(1, 1, one.address())]);
    let gateway = Gateway::start(&config(&names, "_http._tcp.app.test", ""));
    assert_eq!(shares(&gateway, 3), [("one".to_owned(), 3)].into());
    names.set("_http._tcp.app.test", &[]);
    gateway.wait_log(&["does not resolve", "_http._tcp.app.test", "SRV"]);
    let failing = || tests::get(gateway.status(), "/status").text();
    wait_until("the status tells", || {
        let status: serde_json::Value = serde_json::from_str(&failing()).expect("JSON");
        let failing = &status["discovery"]["failing"];
        failing[0]["name"] == "_http._tcp.app.test" && failing[0]["kept"] == 1
    });
    assert_eq!(gateway.metric("ringway_dns_names_failing", &[]), 1.0);
    assert!(gateway.metric("ringway_dns_lookups_total", &["result=\"failure\""]) >= 1.0);
    assert_eq!(shares(&gateway, 3), [("one".to_owned(), 3)].into(), "the last good set serves");
    // A reload changes nothing of that.
    let more = "retries = 0";
    gateway.replace(&config(&names, "_http._tcp.app.test", more));
    assert_eq!(shares(&gateway, 3), [("one".to_owned(), 3)].into());
    names.set("_http._tcp.app.test", &[srv(1, 1, two.address())]);
    wait_served_by(&gateway, &["two"]);
    wait_until("nothing fails any more", || gateway.metric("ringway_dns_names_failing", &[]) == 0.0);
    let told = gateway.log_text().lines().filter(|line| line.contains("does not resolve")).count();
    assert_eq!(told, 1, "told once");
}

/// What is known of an endpoint stays known when others come and go.
#[test]
fn a_change_leaves_the_others_alone() {
    let (one, two) = (Origin::named("one"), Origin::named("two"));
    let gone = Origin::refused();
    let names = NameServer::new();
    names.set("node.test", &[loopback()]);
    names.set("_http._tcp.app.test", &[srv(1, 1, one.address()), srv(1, 1, gone)]);
    let checks = "checks.active = { healthy = { interval = \"50ms\" }, unhealthy = { interval = \"50ms\" } }";
    let gateway = Gateway::start(&config(&names, "_http._tcp.app.test", checks));
    gateway.wait_log(&["an endpoint is unhealthy", &gone.to_string()]);
    let changes = || gateway.metric("ringway_health_changes_total", &["to=\"unhealthy\""]);
    assert_eq!(changes(), 1.0);
    names.set("_http._tcp.app.test", &[srv(1, 1, one.address()), srv(1, 1, gone), srv(1, 1, two.address())]);
    gateway.wait_log(&["an upstream's service has new nodes"]);
    wait_until("the new one is probed", || two.count() >= 5);
    wait_served_by(&gateway, &["one", "two"]);
    assert_eq!(changes(), 1.0, "it was not found anew");
}
