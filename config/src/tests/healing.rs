//! How an upstream checks, protects and repeats: what each form means, and what is said of a wrong one.

use super::balance::{means, refused, upstream};
use crate::Upstream;

#[test]
fn active_checks() {
    #[track_caller]
    fn check(active: &str, part: fn(crate::balance::ActiveCheck) -> String, expected: &str) {
        let upstream = upstream(&format!("checks = {{ active = {active}, passive = {{}} }}"));
        let active = upstream.checks.and_then(|checks| checks.active).expect("it is written");
        assert_eq!(part(active), expected);
    }
    let default = crate::balance::ActiveCheck::default();
    assert_eq!(upstream("checks = { active = {} }").checks.and_then(|it| it.active), Some(default.clone()));
    assert_eq!(default.unhealthy_statuses, [429, 404, 500, 501, 502, 503, 504, 505]);
    let shown = |it: crate::balance::ActiveCheck| {
        format!(
            "{:?} {:?} {} {} {:?} {:?}",
            it.kind, it.timeout, it.concurrency, it.http_path, it.host, it.port
        )
    };
    check("{}", shown, "Http 1s 10 / None None");
    check(
        r#"{ type = "https", timeout = "250ms", concurrency = 3, http_path = "/a?b=c", host = "x.org:8443", port = 81 }"#,
        shown,
        r#"Https 250ms 3 /a?b=c Some("x.org:8443") Some(81)"#,
    );
    check(r#"{ type = "tcp", timeout = 2 }"#, shown, "Tcp 2s 10 / None None");
    check(r#"{ type = "grpc", grpc_service = "a.B" }"#, |it| it.grpc_service, "a.B");
    check("{ https_verify_certificate = false }", |it| it.verify.to_string(), "false");
    check(
        r#"{ req_headers = ["User-Agent: curl/8", "X-Empty:", "X-Time:\t10:30 "] }"#,
        |it| format!("{:?}", it.req_headers),
        r#"[("User-Agent", "curl/8"), ("X-Empty", ""), ("X-Time", "10:30")]"#,
    );
    let rules = |it: crate::balance::ActiveCheck| {
        format!(
            "{:?} {:?} {:?} {:?} {} {} {} {}",
            it.healthy_interval,
            it.unhealthy_interval,
            it.healthy_statuses,
            it.unhealthy_statuses,
            it.successes,
            it.http_failures,
            it.tcp_failures,
            it.timeouts
        )
    };
    check("{}", rules, "1s 1s [200, 302] [429, 404, 500, 501, 502, 503, 504, 505] 2 5 2 3");
    check(
        r#"{ healthy = { interval = 0, http_statuses = [200, 404, 200], successes = 1 }, unhealthy = { interval = "10ms", http_failures = 0, tcp_failures = 254, timeouts = 1 } }"#,
        rules,
        "0ns 10ms [200, 404] [429, 500, 501, 502, 503, 504, 505] 1 0 254 1",
    );
    check("{ unhealthy = { http_statuses = [302, 500] } }", rules, "1s 1s [200] [302, 500] 2 5 2 3");
}

#[test]
fn passive_checks() {
    #[track_caller]
    fn check(passive: &str, expected: &str) {
        let upstream = upstream(&format!("checks = {{ passive = {passive} }}"));
        let it = upstream.checks.and_then(|checks| checks.passive).expect("it is written");
        let found = format!(
            "{} {:?} {} {} {} {}",
            it.healthy_statuses.len(),
            it.unhealthy_statuses,
            it.successes,
            it.http_failures,
            it.tcp_failures,
            it.timeouts
        );
        assert_eq!(found, expected);
    }
    check("{}", "19 [429, 500, 503] 5 5 2 7");
    check(
        r#"{ type = "tcp", healthy = { successes = 1, http_statuses = [200] } }"#,
        "1 [429, 500, 503] 1 5 2 7",
    );
    check(
        "{ unhealthy = { http_statuses = [500, 502], http_failures = 1, tcp_failures = 0, timeouts = 3 } }",
        "19 [500, 502] 5 1 0 3",
    );
}

#[test]
fn bad_checks() {
    refused(
        "checks = {}",
        &["error 6:10 `checks` is empty | neither `active` nor `passive` | write checks = { passive = {} } for APISIX's defaults"],
    );
    refused(
        "checks = { actve = {} }",
        &["error 6:12 unknown field `actve` | `checks` has no such field | did you mean `active`?"],
    );
    refused(
        r#"[upstreams.checks.active]
type = "htp"
timeout = 0
concurrency = 0
http_path = "health"
host = "a/b"
port = 0
req_headers = ["X", "a b: c", "Host: x", "Content-Length: 5", "A: \u0001"]
healthy = { interval = "5ms", successes = 0, http_statuses = [] }
unhealthy = { http_failures = 255, tcp_failures = -1, http_statuses = [199, 600, "500"] }"#,
        &[
            "error 7:8 unknown type `htp` | must be one of `http`, `https`, `tcp`, `grpc` | did you mean `http`?",
            "error 8:11 `timeout` is out of range: 0 | must be longer than zero | -",
            "error 9:15 `concurrency` is out of range: 0 | must be 1 to 1000 | -",
            "error 10:13 invalid http_path `health` | a path begins with `/` | -",
            "error 11:8 invalid host `a/b` | the host only, without scheme and path | -",
            "error 12:8 `port` is out of range: 0 | must be 1 to 65535 | -",
            r#"error 13:16 invalid header field | the `:` is missing | write "User-Agent: probe""#,
            r#"error 13:21 invalid header field `a b` | the name is no token (RFC 9110 section 5.1) | write "User-Agent: probe""#,
            r#"error 13:31 invalid header field `Host` | `Host` has a field of its own | write host = "app.example.com""#,
            "error 13:42 invalid header field `Content-Length` | the gateway sets it: a probe has no body and is the last of its connection | remove it",
            "error 13:63 invalid header field `A` | a control character in the value | -",
            "error 14:24 `interval` is out of range: 5ms | must be at least 10ms, or 0 for no probes | -",
            "error 14:43 `successes` is out of range: 0 | must be 1 to 254 | -",
            "error 14:62 `http_statuses` is empty |  | leave it out for the default",
            "error 15:31 `http_failures` is out of range: 255 | must be 0 to 254 | -",
            "error 15:51 `tcp_failures` is out of range: -1 | must be 0 to 254 | -",
            "error 15:72 `http_statuses` is out of range: 199 | must be 200 to 599 | -",
            "error 15:77 `http_statuses` is out of range: 600 | must be 200 to 599 | -",
            "error 15:82 expected an integer, found a string | must be an integer | -",
        ],
    );
    refused(
        r#"checks = { passive = { healty = {}, unhealthy = { timeout = 1 } } }"#,
        &[
            "error 6:24 unknown field `healty` | `checks.passive` has no such field | did you mean `healthy`?",
            "error 6:51 unknown field `timeout` | `checks.passive.unhealthy` has no such field | did you mean `timeouts`?",
        ],
    );
    refused(
        "checks = { passive = { healthy = { http_statuses = [200, 500] }, unhealthy = { http_statuses = [500] } } }",
        &["warning 6:78 the status 500 is healthy and unhealthy | counts as healthy | remove it from one of the lists"],
    );
    refused(
        "checks = { active = { healthy = { interval = 0 } } }",
        &["warning 6:21 the active check finds no node unhealthy | `healthy.interval = 0` sends no probe to a healthy node | add `passive`, or give an interval"],
    );
    refused(
        "checks = { active = { unhealthy = { interval = 0 } } }",
        &["warning 6:21 what the active check takes out never comes back | `unhealthy.interval = 0` sends no probe to an unhealthy node | give an interval"],
    );
    refused(
        r#"checks = { active = { type = "tcp", http_path = "/x", grpc_service = "x" } }"#,
        &[
            r#"warning 6:49 `http_path` has no effect |  | write type = "http" for a GET"#,
            r#"warning 6:70 `grpc_service` has no effect |  | write type = "grpc" as well"#,
        ],
    );
}

#[test]
fn sticky() {
    #[track_caller]
    fn check(lines: &str, expected: &str) {
        means(lines, |upstream| upstream.sticky, expected);
    }
    check("sticky = false", "None");
    let default = r#"Some(Sticky { cookie: "rw_s", ttl: None, path: "/", domain: None, http_only: true, secure: false, same_site: Lax })"#;
    check("sticky = true", default);
    check("sticky = {}", default);
    check(
        r#"sticky = { cookie = "__Secure-lb", ttl = "1h", path = "/app", domain = ".Example.com", http_only = false, secure = true, same_site = "None" }"#,
        r#"Some(Sticky { cookie: "__Secure-lb", ttl: Some(3600s), path: "/app", domain: Some("example.com"), http_only: false, secure: true, same_site: None })"#,
    );
    check(
        r#"sticky = { cookie = "__Host-lb", secure = true, same_site = "strict" }"#,
        r#"Some(Sticky { cookie: "__Host-lb", ttl: None, path: "/", domain: None, http_only: true, secure: true, same_site: Strict })"#,
    );
    refused("sticky = 5", &["error 6:10 expected a table, found an integer | must be a table | -"]);
    refused(
        r#"[upstreams.sticky]
cookie = "a b"
ttl = 0
path = "app"
domain = "a b"
same_site = "lux"
max_age = 5"#,
        &[
            r#"error 7:10 invalid cookie name `a b` | must be a token (RFC 6265 section 4.1.1) of 1 to 64 characters | write cookie = "rw_s""#,
            "error 8:7 `ttl` is out of range: 0ns | must be at least 1s | leave it out for a cookie that ends with the client's session",
            r#"error 9:8 invalid path `app` | begins with `/`, without spaces and `;` | write path = "/""#,
            r#"error 10:10 invalid domain `a b` | no host name | write domain = "example.com""#,
            "error 11:13 unknown same site `lux` | must be one of `lax`, `strict`, `none` | did you mean `lax`?",
            "error 12:1 unknown field `max_age` | `sticky` has no such field | -",
        ],
    );
    refused(
        r#"sticky = { same_site = "none" }"#,
        &[
            r#"error 6:24 `same_site = "none"` without `secure` | browsers drop such a cookie | write secure = true as well"#,
        ],
    );
    refused(
        r#"sticky = { cookie = "__Secure-a" }"#,
        &["error 6:21 a `__Secure-` cookie without `secure` | browsers drop such a cookie | write secure = true as well"],
    );
    refused(
        r#"sticky = { cookie = "__Host-a", secure = true, domain = "x.org" }"#,
        &["error 6:21 a `__Host-` cookie needs `secure`, the path `/` and no domain | browsers drop such a cookie | write secure = true and leave `path` and `domain` out"],
    );
}

#[test]
fn retries() {
    #[track_caller]
    fn check(lines: &str, expected: &str) {
        means(lines, |upstream| upstream.retry, expected);
    }
    check(
        "",
        "Retry { on_statuses: [], on_reset: false, methods: None, per_try_timeout: None, budget: None, backoff: None }",
    );
    check(
        r#"retry = { on = [502, 503, 502, "reset"], methods = ["GET", "POST", "GET"], per_try_timeout = "2s", budget = "20%", backoff = { base = "10ms", max = "1s" } }"#,
        r#"Retry { on_statuses: [502, 503], on_reset: true, methods: Some(["GET", "POST"]), per_try_timeout: Some(2s), budget: Some(0.2), backoff: Some(Backoff { base: 10ms, max: 1s }) }"#,
    );
    let backoff = |upstream: Upstream| upstream.retry.backoff;
    means("retry = { backoff = \"5ms\" }", backoff, "Some(Backoff { base: 5ms, max: 250ms })");
    means("retry = { backoff = 1 }", backoff, "Some(Backoff { base: 1s, max: 1s })");
    means("retry = { backoff = {} }", backoff, "Some(Backoff { base: 25ms, max: 250ms })");
    means("retry = { backoff = { base = 2 } }", backoff, "Some(Backoff { base: 2s, max: 2s })");
    means("retry = { methods = [] }", |upstream| upstream.retry.methods, "Some([])");
    means("retries = 0", |upstream| upstream.retries, "Some(0)");
    refused(
        r#"retries = -1
[upstreams.retry]
on = [200, "5xx", "503", "http_502", "timeout", "rest", 1.5]
methods = ["get", "FOO"]
per_try_timeout = 0
budget = 20
backoff = { base = "1s", max = "10ms" }
tries = 5"#,
        &[
            "error 6:11 `retries` is out of range: -1 | must be 0 to 1000 | -",
            "error 8:7 `on` is out of range: 200 | must be 400 to 599 | -",
            "error 8:12 unknown cause `5xx` | each status by itself | write the statuses: [500, 502, 503, 504]",
            "error 8:19 unknown cause `503` | a status is a number | write 503 without quotes",
            "error 8:26 unknown cause `http_502` | a status is a number | write 502 without quotes",
            "error 8:38 unknown cause `timeout` | connect errors and timeouts always count | remove it",
            r#"error 8:49 unknown cause `rest` | must be a status from 400 to 599 or "reset" | did you mean `reset`?"#,
            r#"error 8:57 expected a status or "reset", found a number | must be a status or "reset" | on = [502, 503, "reset"]"#,
            "error 9:12 invalid method `get` | methods are compared with case | did you mean `GET`?",
            "warning 9:19 unusual method `FOO` |  | -",
            "error 10:19 `per_try_timeout` is out of range: 0 | must be longer than zero | -",
            r#"error 11:10 `budget` is out of range: 20 | must be 0 to 1, or "0%" to "100%" | write "20%""#,
            "error 12:32 `max` is less than `base` | must be at least 1s | -",
            "error 13:1 unknown field `tries` | `retry` has no such field | -",
        ],
    );
    refused(
        "retry = { backoff = 0 }",
        &["error 6:21 `backoff` is out of range: 0 | must be longer than zero | leave it out for none"],
    );
    refused("retry = true", &["error 6:9 expected a table, found a boolean | must be a table | -"]);
}

#[test]
fn hedging() {
    let hedge = |upstream: Upstream| upstream.hedge;
    means("", hedge, "None");
    means("hedge = { after = \"50ms\" }", hedge, "Some(Hedge { after: 50ms, max: 1 })");
    means("hedge = { after = 0.5, max = 5 }", hedge, "Some(Hedge { after: 500ms, max: 5 })");
    refused(
        "hedge = {}",
        &[
            r#"error 6:9 `hedge` needs `after` | has no `after` | write hedge = { after = "50ms" }: about the 95th percentile of the answers' times"#,
        ],
    );
    refused(
        "hedge = { after = 0, max = 6 }",
        &[
            "error 6:19 `after` is out of range: 0 | must be longer than zero | -",
            "error 6:28 `max` is out of range: 6 | must be 1 to 5 | -",
        ],
    );
    refused(
        "hedge = { afer = 1 }",
        &["error 6:11 unknown field `afer` | `hedge` has no such field | did you mean `after`?"],
    );
}

#[test]
fn outliers() {
    let outlier = |upstream: Upstream| upstream.outlier;
    let default = "Some(Outlier { error_ratio: 0.5, interval: 10s, min_requests: 20, max_ejected: 0.5, base_time: 30s, max_time: 300s })";
    means("outlier = false", outlier, "None");
    means("outlier = true", outlier, default);
    means("outlier = {}", outlier, default);
    means(
        r#"outlier = { error_ratio = "25%", interval = 5, min_requests = 1, max_ejected = "10%", base_time = "10m" }"#,
        outlier,
        "Some(Outlier { error_ratio: 0.25, interval: 5s, min_requests: 1, max_ejected: 0.1, base_time: 600s, max_time: 600s })",
    );
    refused(
        r#"[upstreams.outlier]
error_ratio = 0
interval = 0
min_requests = 0
max_ejected = "150%"
base_time = "60s"
max_time = "30s""#,
        &[
            "error 7:15 `error_ratio` is out of range: 0 | must be above 0 | leave the table out to switch it off",
            "error 8:12 `interval` is out of range: 0 | must be longer than zero | -",
            "error 9:16 `min_requests` is out of range: 0 | must be 1 to 1000000 | -",
            "error 10:15 `max_ejected` is out of range: 150% | must be 0% to 100% | -",
            "error 12:12 `max_time` is less than `base_time` | must be at least 60s | -",
        ],
    );
    refused(
        "outlier = { max_ejected = 1.5 }",
        &[
            r#"error 6:27 `max_ejected` is out of range: 1.5 | must be 0 to 1, or "0%" to "100%" | write "1.5%""#,
        ],
    );
}

#[test]
fn breakers() {
    let breaker = |upstream: Upstream| upstream.breaker;
    let default = "Some(Breaker { error_ratio: 0.5, window: 10s, min_requests: 20, open: 5s, trials: 3 })";
    means("breaker = true", breaker, default);
    means("breaker = {}", breaker, default);
    means(
        r#"breaker = { error_ratio = 1, window = "1s", min_requests = 5, open = "500ms", trials = 1 }"#,
        breaker,
        "Some(Breaker { error_ratio: 1.0, window: 1s, min_requests: 5, open: 500ms, trials: 1 })",
    );
    refused(
        "breaker = { error_ratio = 2, open = 0, trials = 0 }",
        &[
            r#"error 6:27 `error_ratio` is out of range: 2 | must be 0 to 1, or "0%" to "100%" | write "2%""#,
            "error 6:37 `open` is out of range: 0 | must be longer than zero | -",
            "error 6:49 `trials` is out of range: 0 | must be 1 to 1000 | -",
        ],
    );
}

#[test]
fn concurrency_limits() {
    let limit = |upstream: Upstream| upstream.concurrency_limit;
    let shown = |initial: u32, min: u32, max: u32, tolerance: f64| {
        format!("Some(ConcurrencyLimit {{ initial: {initial}, min: {min}, max: {max}, tolerance: {tolerance:?} }})")
    };
    means("concurrency_limit = true", limit, &shown(20, 4, 1000, 1.5));
    means("concurrency_limit = {}", limit, &shown(20, 4, 1000, 1.5));
    means("concurrency_limit = { max = 10 }", limit, &shown(10, 4, 10, 1.5));
    means("concurrency_limit = { max = 2 }", limit, &shown(2, 2, 2, 1.5));
    means("concurrency_limit = { min = 5000 }", limit, &shown(5000, 5000, 5000, 1.5));
    means("concurrency_limit = { initial = 2000, tolerance = 2 }", limit, &shown(2000, 4, 2000, 2.0));
    means("concurrency_limit = { initial = 1 }", limit, &shown(1, 1, 1000, 1.5));
    refused(
        "concurrency_limit = { initial = 5, min = 10, max = 4, tolerance = 0.5 }",
        &[
            "error 6:33 `initial` is less than `min`: 5 | must be at least 10 | -",
            "error 6:52 `max` is less than `min`: 4 | must be at least 10 | -",
            "error 6:52 `max` is less than `initial`: 4 | must be at least 5 | -",
            "error 6:67 `tolerance` is out of range: 0.5 | must be 1 to 10 | 1.5 lets the latency grow by half before the limit falls",
        ],
    );
}
