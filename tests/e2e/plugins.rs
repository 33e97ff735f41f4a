//! The first plugins, as their APISIX documentation describes them, and how they merge.

use std::collections::BTreeSet;
use tests::origin::ok;
use tests::{request, table, Client, Gateway, Origin, Response};

/// A gateway whose one route has these plugins.
fn with(origin: &Origin, plugins: &str) -> Gateway {
    Gateway::start(&format!(
        "[[routes]]\nname = \"r\"\nupstream = [\"{origin}\"]\n[routes.plugins]\n{plugins}\n"
    ))
}

fn ask(gateway: &Gateway, target: &str, fields: &str) -> Response {
    request(
        gateway.address(),
        &format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\n{fields}Connection: close\r\n\r\n"),
    )
}

#[test]
fn proxy_rewrite() {
    let rows = [
        (r#"proxy-rewrite = { uri = "/new" }"#, "/old?a=b", "GET /new?a=b"),
        (r#"proxy-rewrite = { uri = "/new$uri" }"#, "/old?a=b", "GET /new/old?a=b"),
        (r#"proxy-rewrite = { uri = "/new?x=y" }"#, "/old?a=b", "GET /new?x=y&a=b"),
        (
            r#"proxy-rewrite = { regex_uri = ["^/iresty/(.*)/(.*)/(.*)", "/$1-$2-$3"] }"#,
            "/iresty/a/b/c?q=1",
            "GET /a-b-c?q=1",
        ),
        (r#"proxy-rewrite = { regex_uri = ["^/none/(.*)", "/$1"] }"#, "/other", "GET /other"),
        (r#"proxy-rewrite = { method = "POST" }"#, "/m", "POST /m"),
        (r#"proxy-rewrite = {  headers = { set = { X-A = "1" } } }"#, "/%41?x=%20", "GET /%41?x=%20"),
    ];
    table::each(
        &rows,
        |(plugin, ..)| (*plugin).to_owned(),
        |(plugin, target, wanted)| {
            let origin = Origin::each(|request| ok(format!("{} {}", request.method, request.target)));
            assert_eq!(ask(&with(&origin, plugin), target, "").text(), *wanted);
        },
    );
}

#[test]
fn proxy_rewrite_of_headers_and_host() {
    let origin = Origin::named("fine");
    let gateway = with(
        &origin,
        r#"proxy-rewrite = { host = "inner.test", headers = { add = { X-Added = "new" }, set = { X-Set = "$remote_addr", X-Kept = "changed" }, remove = ["X-Gone"] } }"#,
    );
    ask(&gateway, "/", "X-Added: old\r\nX-Set: mine\r\nX-Gone: 1\r\nx-gone: 2\r\nX-Kept: as it was\r\n");
    let seen = origin.last();
    assert_eq!(seen.fields.all("host"), vec!["inner.test"]);
    assert_eq!(seen.fields.all("x-set"), vec!["127.0.0.1"]);
    assert_eq!(seen.fields.all("x-kept"), vec!["changed"]);
    assert!(!seen.fields.has("x-gone"));
    assert!(
        seen.fields.all("x-added").join(",").contains("new")
            && seen.fields.all("x-added").join(",").contains("old")
    );
}

#[test]
fn response_rewrite() {
    let origin = Origin::fixed("HTTP/1.1 200 OK\r\nX-Gone: 1\r\nX-Set: theirs\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello");
    let gateway = with(
        &origin,
        r#"response-rewrite = { status_code = 202, body = "{\"code\":\"ok\"}", headers = { set = { X-Set = "ours", X-Status = "$status" }, add = ["X-Add: a", "X-Add: b"], remove = ["X-Gone"] } }"#,
    );
    let mut client = Client::connect(gateway.address());
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (202, "{\"code\":\"ok\"}"));
        assert_eq!(response.fields.all("x-set"), vec!["ours"]);
        assert_eq!(response.fields.all("x-add"), vec!["a", "b"]);
        assert!(!response.fields.has("x-gone"));
    }
    // A replaced body of a HEAD answer stays unsent.
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status, 202);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 202);
}

#[test]
fn response_rewrite_in_base64_and_by_filter() {
    let origin = Origin::named("hello hello");
    let gateway = with(&origin, r#"response-rewrite = { body = "aGk=", body_base64 = true }"#);
    assert_eq!(tests::get(gateway.address(), "/").text(), "hi");
    let rows = [
        (r#"response-rewrite = { filters = [{ regex = "hello", replace = "bye" }] }"#, "bye hello"),
        (
            r#"response-rewrite = { filters = [{ regex = "hello", replace = "bye", scope = "global" }] }"#,
            "bye bye",
        ),
    ];
    table::each(
        &rows,
        |(plugin, _)| (*plugin).to_owned(),
        |(plugin, wanted)| {
            let response = tests::get(with(&origin, plugin).address(), "/");
            assert_eq!(response.text(), *wanted);
        },
    );
}

#[test]
fn redirect() {
    let origin = Origin::named("never");
    let rows = [
        (r#"redirect = { uri = "/test/default.html", ret_code = 301 }"#, "/a?b=c", 301, "/test/default.html"),
        (r#"redirect = { uri = "$uri/index.html" }"#, "/a", 302, "/a/index.html"),
        (r#"redirect = { uri = "/b", append_query_string = true, ret_code = 308 }"#, "/a?b=c", 308, "/b?b=c"),
        (
            r#"redirect = { regex_uri = ["^/test/(.*)/(.*)", "/$2/$1"], ret_code = 307 }"#,
            "/test/a/b",
            307,
            "/b/a",
        ),
        (r#"redirect = { http_to_https = true }"#, "/a?b=c", 301, "https://shop.test/a?b=c"),
    ];
    table::each(
        &rows,
        |(plugin, ..)| (*plugin).to_owned(),
        |(plugin, target, status, location)| {
            let response = ask(&with(&origin, plugin), target, "");
            assert_eq!((response.status, response.get("location")), (*status, Some(*location)));
        },
    );
    assert_eq!(origin.count(), 0);
    // What is not a GET or HEAD must come again with its method: 308.
    let gateway = with(&origin, "redirect = { http_to_https = true }");
    let post = "POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(request(gateway.address(), post).status, 308);
}

#[test]
fn request_id() {
    let origin = Origin::named("fine");
    let gateway = with(&origin, "request-id = {}");
    let mut ids = BTreeSet::new();
    for _ in 0..20 {
        let response = tests::get(gateway.address(), "/");
        let id = response.get("x-request-id").expect("it is in the response").to_owned();
        assert_eq!(origin.last().fields.get("x-request-id"), Some(id.as_str()), "and in the request");
        assert_eq!(id.len(), 36, "a UUID: {id}");
        ids.insert(id);
    }
    assert_eq!(ids.len(), 20, "no two alike");
    let response = ask(&gateway, "/", "X-Request-Id: mine\r\n");
    assert_eq!(response.get("x-request-id"), Some("mine"), "an id that came is kept");
    let gateway = with(&origin, r#"request-id = { header_name = "X-Trace", include_in_response = false }"#);
    let response = tests::get(gateway.address(), "/");
    assert!(!response.fields.has("x-trace") && origin.last().fields.has("x-trace"));
}

/// The count is one for all cores: of 120 requests over 16 connections exactly 50 pass.
#[test]
fn limit_count_is_exact_over_all_cores() {
    let origin = Origin::named("fine");
    let gateway = with(
        &origin,
        r#"limit-count = { count = 50, time_window = 600, rejected_code = 429, rejected_msg = "slow down", key = "remote_addr" }"#,
    );
    let address = gateway.address();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut passed = 0;
                let mut pair = [Client::connect(address), Client::connect(address)];
                for at in 0..15 {
                    let client = &mut pair[at % 2];
                    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    let response = client.response();
                    match response.status {
                        200 => passed += 1,
                        429 => assert!(response.text().contains("slow down"), "{}", response.text()),
                        other => panic!("status {other}"),
                    }
                }
                passed
            })
        })
        .collect();
    let passed: usize = threads.into_iter().map(|thread| thread.join().expect("no failure")).sum();
    assert_eq!((passed, origin.count()), (50, 50));
}

#[test]
fn limit_count_tells_what_is_left() {
    let origin = Origin::named("fine");
    let gateway = with(&origin, r#"limit-count = { count = 2, time_window = 600, key = "http_x_user" }"#);
    for (remaining, status) in [("1", 200), ("0", 200), ("0", 503)] {
        let response = ask(&gateway, "/", "X-User: one\r\n");
        assert_eq!(response.status, status);
        assert_eq!(response.get("x-ratelimit-limit"), Some("2"));
        assert_eq!(response.get("x-ratelimit-remaining"), Some(remaining));
        assert!(response.get("x-ratelimit-reset").is_some_and(|value| value.parse::<u32>().is_ok()));
    }
    assert_eq!(ask(&gateway, "/", "X-User: two\r\n").status, 200, "another key, another count");
}

/// A count survives a reload that leaves its settings, and starts anew when they change.
#[test]
fn limit_count_survives_a_reload() {
    let origin = Origin::named("fine");
    let config = |count: usize, more: &str| {
        format!(
            "[[routes]]\nname = \"r\"\nuri = \"/r\"\nupstream = [\"{origin}\"]\n[routes.plugins]\n\
             limit-count = {{ count = {count}, time_window = 600, rejected_code = 429 }}\n{more}"
        )
    };
    let gateway = Gateway::start(&config(3, ""));
    for status in [200, 200] {
        assert_eq!(tests::get(gateway.address(), "/r").status, status);
    }
    gateway.replace(&config(
        3,
        &format!("[[routes]]\nname = \"new\"\nuri = \"/new\"\nupstream = [\"{origin}\"]\n"),
    ));
    assert_eq!(tests::get(gateway.address(), "/new").status, 200);
    for status in [200, 429] {
        assert_eq!(tests::get(gateway.address(), "/r").status, status);
    }
    gateway.replace(&config(4, ""));
    assert_eq!(tests::get(gateway.address(), "/r").status, 200);
}

/// Route over service, plugin configs for what the route lacks, global rules before all and for 404s as well.
#[test]
fn plugins_merge() {
    let origin = Origin::named("fine");
    let gateway = Gateway::start(&format!(
        r#"
        [[global_rules]]
        id = "all"
        plugins = {{ request-id = {{ header_name = "X-Global" }} }}
        [[plugin_configs]]
        id = "shared"
        plugins = {{ proxy-rewrite = {{ headers = {{ set = {{ X-From = "config" }} }} }}, response-rewrite = {{ headers = {{ set = {{ X-Config = "yes" }} }} }} }}
        [[services]]
        id = "s"
        upstream = ["{origin}"]
        plugins = {{ proxy-rewrite = {{ headers = {{ set = {{ X-From = "service" }} }} }} }}
        [[routes]]
        uri = "/service"
        service_id = "s"
        [[routes]]
        uri = "/route"
        service_id = "s"
        plugins = {{ proxy-rewrite = {{ headers = {{ set = {{ X-From = "route" }} }} }} }}
        [[routes]]
        uri = "/config"
        upstream = ["{origin}"]
        plugin_config_id = "shared"
        [[routes]]
        uri = "/config-and-own"
        upstream = ["{origin}"]
        plugin_config_id = "shared"
        plugins = {{ proxy-rewrite = {{ headers = {{ set = {{ X-From = "own" }} }} }} }}
        [[routes]]
        uri = "/disabled"
        service_id = "s"
        plugins = {{ proxy-rewrite = {{ _meta = {{ disable = true }}, headers = {{ set = {{ X-From = "route" }} }} }} }}
        [[routes]]
        uri = "/filtered"
        upstream = ["{origin}"]
        plugins = {{ proxy-rewrite = {{ _meta = {{ filter = [["arg_on", "==", "1"]] }}, headers = {{ set = {{ X-From = "filtered" }} }} }} }}
        "#
    ));
    let rows = [
        ("/service", Some("service"), None),
        ("/route", Some("route"), None),
        ("/config", Some("config"), Some("yes")),
        ("/config-and-own", Some("own"), Some("yes")),
        ("/disabled", None, None),
        ("/filtered", None, None),
        ("/filtered?on=1", Some("filtered"), None),
    ];
    table::each(
        &rows,
        |(target, ..)| (*target).to_owned(),
        |(target, from, config)| {
            let response = tests::get(gateway.address(), target);
            assert_eq!((response.status, origin.last().fields.get("x-from")), (200, *from));
            assert_eq!(response.get("x-config"), *config);
            assert!(response.fields.has("x-global"), "the global rule ran");
        },
    );
    let missing = tests::get(gateway.address(), "/none");
    assert_eq!((missing.status, missing.fields.has("x-global")), (404, true), "and without a route as well");
}
