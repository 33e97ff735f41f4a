//! Shares of traffic, copies of it, and rehearsed faults: `traffic-split`, `proxy-mirror`, `fault-injection`,
//! `api-breaker`, `workflow`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tests::origin::{chunks, ok};
use tests::wait::{stays, wait_until};
use tests::{request, table, Client, Gateway, Origin};

/// Answers by text, over so many requests on connections of their own.
fn shares(gateway: &Gateway, requests: &[&str]) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for bytes in requests {
        let text = request(gateway.address(), bytes).text();
        *seen.entry(text).or_default() += 1;
    }
    seen
}

const PLAIN: &str = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn map(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn traffic_is_split_by_weight_and_by_condition() {
    let [own, canary, blue] = ["own", "canary", "blue"].map(Origin::named);
    let with = |rules: &str| {
        format!(
            "[[upstreams]]\nname = \"canary\"\nservers = [\"{canary}\"]\n\
             [[routes]]\nupstream = \"{own}\"\n[routes.plugins.traffic-split]\nrules = [{rules}]\n"
        )
    };
    let inline = format!("{{ upstream = {{ nodes = {{ \"{blue}\" = 1 }} }}, weight = 1 }}");
    let header = "GET /x HTTP/1.1\r\nHost: a\r\nX-Canary: yes\r\nConnection: close\r\n\r\n";
    let rows = [
        (
            with("{ weighted_upstreams = [{ upstream_id = \"canary\", weight = 1 }, { weight = 3 }] }"),
            vec![PLAIN; 20],
            map(&[("canary", 5), ("own", 15)]),
        ),
        (
            with(&format!("{{ weighted_upstreams = [{inline}, {{ upstream_id = \"canary\", weight = 1 }}] }}")),
            vec![PLAIN; 10],
            map(&[("blue", 5), ("canary", 5)]),
        ),
        (
            with("{ match = [{ vars = [[\"http_x_canary\", \"==\", \"yes\"]] }], weighted_upstreams = [{ upstream_id = \"canary\" }] }"),
            vec![PLAIN, header, PLAIN, header],
            map(&[("canary", 2), ("own", 2)]),
        ),
        (with("{ weighted_upstreams = [{ weight = 1 }] }"), vec![PLAIN; 3], map(&[("own", 3)])),
    ];
    table::each(
        &rows,
        |(toml, ..)| toml.clone(),
        |(toml, requests, expected)| assert_eq!(shares(&Gateway::start(toml), requests), *expected),
    );
}

/// A chosen upstream is part of the plan: it changes with a reload, its health counts, and it may not be missing.
#[test]
fn a_split_follows_its_upstream() {
    let [own, first, second] = ["own", "first", "second"].map(Origin::named);
    let toml = |canary: &Origin| {
        format!(
            "[[upstreams]]\nname = \"canary\"\nservers = [\"{canary}\"]\n[[routes]]\nupstream = \"{own}\"\n\
             [routes.plugins.traffic-split]\nrules = [{{ weighted_upstreams = [{{ upstream_id = \"canary\" }}] }}]\n"
        )
    };
    let gateway = Gateway::start(&toml(&first));
    assert_eq!(shares(&gateway, &[PLAIN; 4]), map(&[("first", 4)]));
    gateway.replace(&toml(&second));
    assert_eq!(shares(&gateway, &[PLAIN; 4]), map(&[("second", 4)]));
    let missing = toml(&first).replace("upstream_id = \"canary\"", "upstream_id = \"canry\"");
    gateway.rewrite(&missing);
    let output = gateway.reload();
    let said = tests::gateway::both(&output);
    assert!(!output.status.success() && said.contains("canry") && said.contains("canary"), "{said}");
    assert_eq!(shares(&gateway, &[PLAIN; 2]), map(&[("second", 2)]));
}

#[test]
fn copies_go_to_the_mirror_with_their_bodies() {
    let (origin, mirror) = (Origin::named("own"), Origin::named("copy"));
    let gateway = Gateway::start(&format!(
        "[[routes]]\nupstream = \"{origin}\"\n[routes.plugins]\n\
         proxy-mirror = {{ host = \"http://{mirror}\" }}\nproxy-rewrite = {{ uri = \"/new\" }}\n"
    ));
    let body = tests::pattern::bytes(30_000);
    let mut client = Client::connect(gateway.address());
    client.send("GET /old?q=1 HTTP/1.1\r\nHost: shop.test\r\nX-Mark: m\r\n\r\n");
    assert_eq!(client.response().text(), "own");
    client.send(format!("POST /p HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body[..12_000]);
    wait_until("the body to stream", || origin.connections() > 0);
    client.send(&body[12_000..]);
    assert_eq!(client.response().text(), "own");
    client.send("POST /c HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(chunks(&body, 9_000));
    assert_eq!(client.response().text(), "own");
    wait_until("three copies", || mirror.count() == 3);
    let mut copies = mirror.seen();
    copies.sort_by_key(|copy| copy.body.len());
    assert_eq!((copies[0].method.as_str(), copies[0].target.as_str()), ("GET", "/new?q=1"));
    assert_eq!(
        (copies[0].fields.get("host"), copies[0].fields.get("x-mark")),
        (Some("shop.test"), Some("m"))
    );
    assert!(copies[1..].iter().all(|copy| copy.method == "POST" && copy.body == body));
    assert_eq!(gateway.metric("ringway_mirrors_total", &[]), 3.0);
}

/// A mirror that is dead, silent or slow costs the original nothing; what is too long to keep is not copied.
#[test]
fn a_mirror_never_slows_the_original() {
    let origin = Origin::named("own");
    let (silent, gone) = (Origin::silent(), Origin::refused());
    for mirror in [silent.to_string(), gone.to_string()] {
        let gateway = Gateway::start(&format!(
            "[server.limits]\nreplay_body = \"4KiB\"\n[[routes]]\nupstream = \"{origin}\"\n\
             [routes.plugins]\nproxy-mirror = {{ host = \"http://{mirror}\" }}\n"
        ));
        let began = Instant::now();
        let mut client = Client::connect(gateway.address());
        for _ in 0..50 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.response().text(), "own");
        }
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
        client.send(vec![b'x'; 60_000]);
        assert_eq!(client.response().text(), "own");
        wait_until("the long one is counted", || gateway.metric("ringway_mirrors_skipped_total", &[]) == 1.0);
    }
    assert_eq!(silent.count(), 50);
}

#[test]
fn a_sample_is_copied() {
    let (origin, mirror) = (Origin::named("own"), Origin::named("copy"));
    let gateway = Gateway::start(&format!(
        "[[routes]]\nupstream = \"{origin}\"\n[routes.plugins]\n\
         proxy-mirror = {{ host = \"http://{mirror}\", sample_ratio = 0.2, path = \"/shadow\", path_concat_mode = \"prefix\" }}\n"
    ));
    let mut client = Client::connect(gateway.address());
    for _ in 0..400 {
        client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "own");
    }
    // 80 on average, standard deviation 8.
    wait_until("a fair share of copies", || mirror.count() >= 40);
    stays("no more than a sample", Duration::from_millis(100), || mirror.count() <= 120);
    assert!(mirror.seen().iter().all(|copy| copy.target == "/shadow/a"));
}

#[test]
fn faults_are_injected() {
    let origin = Origin::named("own");
    let gateway = Gateway::start(&format!(
        "[[routes]]\nuri = \"/abort\"\nupstream = \"{origin}\"\n\
         plugins.fault-injection.abort = {{ http_status = 418, body = \"no $arg_what\" }}\n\
         [[routes]]\nuri = \"/delay\"\nupstream = \"{origin}\"\nplugins.fault-injection.delay = {{ duration = 0.4 }}\n\
         [[routes]]\nuri = \"/never\"\nupstream = \"{origin}\"\n\
         plugins.fault-injection.abort = {{ http_status = 500, percentage = 0 }}\n"
    ));
    let response = tests::get(gateway.address(), "/abort?what=tea");
    assert_eq!((response.status, response.text().as_str()), (418, "no tea"));
    let began = Instant::now();
    assert_eq!(tests::get(gateway.address(), "/delay").text(), "own");
    assert!(began.elapsed() >= Duration::from_millis(390), "{:?}", began.elapsed());
    assert_eq!(tests::get(gateway.address(), "/never").text(), "own");
}

/// Whoever waits out a delay is watched: when the client leaves, nothing goes upstream.
#[test]
fn a_client_that_leaves_during_a_delay_is_noticed() {
    let origin = Origin::named("own");
    let gateway = Gateway::start(&format!(
        "[[routes]]\nupstream = \"{origin}\"\nplugins.fault-injection.delay = {{ duration = 600 }}\n"
    ));
    let mut client = Client::connect(gateway.address());
    client.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("it waits", || gateway.metric("ringway_requests_active", &[]) >= 1.0);
    drop(client);
    assert_eq!(gateway.wait_access_of("/left")["status"], 499);
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_breaker_rests_a_failing_api() {
    let bad = Origin::each(|request| match request.target.as_str() {
        "/bad" => b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno".to_vec(),
        _ => ok("fine"),
    });
    let gateway = Gateway::start(&format!(
        "[[routes]]\nupstream = \"{bad}\"\n[routes.plugins.api-breaker]\nbreak_response_code = 599\n\
         break_response_body = \"resting\"\nunhealthy = {{ http_statuses = [500], failures = 3 }}\n"
    ));
    for _ in 0..3 {
        assert_eq!(tests::get(gateway.address(), "/bad").status, 500);
    }
    // Exact over both cores: connections land on either.
    for _ in 0..6 {
        let response = tests::get(gateway.address(), "/bad");
        assert_eq!((response.status, response.text().as_str()), (599, "resting"));
    }
    assert_eq!(tests::get(gateway.address(), "/good").text(), "fine");
    assert_eq!(bad.count(), 4);
    // Two seconds later one more is let through.
    wait_until("a request is let through again", || tests::get(gateway.address(), "/bad").status == 500);
}

#[test]
fn a_workflow_acts_by_case() {
    let origin = Origin::named("own");
    let gateway = Gateway::start(&format!(
        "[[routes]]\nupstream = \"{origin}\"\n[routes.plugins.workflow]\nrules = [\n\
         {{ case = [[\"uri\", \"==\", \"/no\"]], actions = [[\"return\", {{ code = 403 }}]] }},\n\
         {{ case = [[\"uri\", \"==\", \"/few\"]], actions = [[\"limit-count\", {{ count = 2, time_window = 60, rejected_code = 429 }}]] }},\n]\n"
    ));
    let statuses = |path: &str, count: usize| -> Vec<u16> {
        (0..count).map(|_| tests::get(gateway.address(), path).status).collect()
    };
    assert_eq!(statuses("/no", 2), [403, 403]);
    assert_eq!(statuses("/few", 4), [200, 200, 429, 429]);
    assert_eq!(statuses("/", 3), [200, 200, 200]);
}
