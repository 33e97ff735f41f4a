//! How an upstream chooses, checks, protects and repeats: what each form means, and what is said of a wrong one.

use std::fmt::Debug;

use super::{check_body, sound, BASE};
use crate::Upstream;

const ROUTE: &str = "[[routes]]\nupstream = \"127.0.0.1:1\"\n";

/// The upstream of these lines; without nodes in them it has two.
#[track_caller]
fn upstream(lines: &str) -> Upstream {
    let own = ["servers", "nodes", "service_name"].iter().any(|field| lines.contains(field));
    let nodes = if own { "" } else { "servers = [\"a:1\", \"b:2\"]\n" };
    let document = sound(&format!("{BASE}[[upstreams]]\nname = \"a\"\n{nodes}{lines}\n{ROUTE}"));
    (*document.upstreams[0]).clone()
}

/// Checks a part of the upstream of these lines, as it is debugged.
#[track_caller]
fn means<T: Debug>(lines: &str, part: fn(Upstream) -> T, expected: &str) {
    assert_eq!(format!("{:?}", part(upstream(lines))), expected, "{lines}");
}

/// Checks what is said of these lines in an upstream of one node; the first of them is line 6.
#[track_caller]
fn refused(lines: &str, expected: &[&str]) {
    check_body(&format!("[[upstreams]]\nname = \"a\"\nservers = [\"a:1\"]\n{lines}\n{ROUTE}"), expected);
}

/// The same for an upstream without nodes; the first line is line 5.
#[track_caller]
fn refused_alone(lines: &str, expected: &[&str]) {
    check_body(&format!("[[upstreams]]\nname = \"a\"\n{lines}\n{ROUTE}"), expected);
}

#[test]
fn policies() {
    let kind = |upstream: Upstream| upstream.kind;
    means("", kind, "RoundRobin");
    means("type = \"roundrobin\"", kind, "RoundRobin");
    means("type = \"chash\"\nkey = \"uri\"", kind, "Chash");
    means("type = \"least_conn\"", kind, "LeastConn");
    means("type = \"ewma\"", kind, "Ewma");
    means("type = \"p2c\"", kind, "P2c");
    means("type = \"maglev\"\nkey = \"uri\"", kind, "Maglev");
    means("type = \"random\"", kind, "Random");
    means("type = \"ip_hash\"", kind, "IpHash");
    refused(
        r#"type = "least-conn""#,
        &["error 6:8 unknown type `least-conn` | must be one of `roundrobin`, `chash`, `least_conn`, `ewma`, `p2c`, `maglev`, `random`, `ip_hash` | did you mean `least_conn`?"],
    );
    // A type that is wrong says nothing of `key`.
    refused(
        "type = \"hash\"\nkey = \"uri\"",
        &["error 6:8 unknown type `hash` | must be one of `roundrobin`, `chash`, `least_conn`, `ewma`, `p2c`, `maglev`, `random`, `ip_hash` | did you mean `chash`?"],
    );
}

#[test]
fn what_is_hashed() {
    #[track_caller]
    fn check(lines: &str, expected: &str) {
        means(lines, |upstream| upstream.hash_on, expected);
    }
    check("", "None");
    check("type = \"ip_hash\"", "Some(Var(RemoteAddr))");
    check("type = \"chash\"\nkey = \"remote_addr\"", "Some(Var(RemoteAddr))");
    check("type = \"maglev\"\nhash_on = \"vars\"\nkey = \"arg_x\"", r#"Some(Var(Arg("x")))"#);
    check("type = \"chash\"\nkey = \"http_x_user\"", r#"Some(Var(Http("x-user")))"#);
    check("type = \"chash\"\nhash_on = \"header\"\nkey = \"X-User\"", r#"Some(Header("x-user"))"#);
    check("type = \"chash\"\nhash_on = \"header\"\nkey = \"http_x_user\"", r#"Some(Header("x-user"))"#);
    check("type = \"chash\"\nhash_on = \"cookie\"\nkey = \"Sid\"", r#"Some(Cookie("Sid"))"#);
    check("type = \"chash\"\nhash_on = \"cookie\"\nkey = \"cookie_Sid\"", r#"Some(Cookie("Sid"))"#);
    check("type = \"chash\"\nhash_on = \"consumer\"", "Some(Consumer)");
    check(
        "type = \"chash\"\nhash_on = \"vars_combinations\"\nkey = \"$request_uri-${arg_a}\"",
        r#"Some(Combination(Template { parts: [Var(RequestUri), Text("-"), Var(Arg("a"))] }))"#,
    );
    refused(
        r#"type = "chash""#,
        &[r#"error 6:8 a consistent hash needs `key` | hashes nothing | write key = "remote_addr""#],
    );
    refused(
        "type = \"maglev\"\nhash_on = \"cookie\"",
        &[r#"error 6:8 a consistent hash needs `key` | hashes nothing | write key = "session""#],
    );
    refused("type = \"chash\"\nkey = \"\"", &[r#"error 7:7 `key` is empty |  | write key = "remote_addr""#]);
    refused(
        "type = \"chash\"\nkey = 5",
        &["error 7:7 expected a string, found an integer | must be a string | -"],
    );
    refused(
        "type = \"chash\"\nhash_on = \"heder\"\nkey = \"X\"",
        &["error 7:11 unknown hash on `heder` | must be one of `vars`, `header`, `cookie`, `consumer`, `vars_combinations` | did you mean `header`?"],
    );
    // A key that the type does not use.
    refused(
        "hash_on = \"vars\"\nkey = \"uri\"",
        &[
            r#"warning 6:11 `hash_on` has no effect |  | write type = "chash" to hash on it"#,
            r#"warning 7:7 `key` has no effect |  | write type = "chash" to hash on it"#,
        ],
    );
    refused(
        "type = \"chash\"\nhash_on = \"consumer\"\nkey = \"x\"",
        &["warning 8:7 `key` has no effect |  | the consumer's name is the key"],
    );
}

#[test]
fn variables_of_a_hash() {
    #[track_caller]
    fn check(hash_on: &str, key: &str, expected: &str) {
        let lines = format!("type = \"chash\"\nhash_on = \"{hash_on}\"\nkey = \"{key}\"");
        refused(&lines, &[&format!("error 8:7 {expected}")]);
    }
    check(
        "vars",
        "remote_adr",
        "unknown variable `remote_adr` | a request has no such variable | did you mean `remote_addr`?",
    );
    check(
        "vars",
        "X-User",
        r#"unknown variable `X-User` | a request has no such variable | for a request header write hash_on = "header""#,
    );
    check(
        "vars",
        "nothing_known",
        "unknown variable `nothing_known` | a request has no such variable | such as remote_addr, uri, arg_x, cookie_x, http_x_y",
    );
    check(
        "vars",
        "$uri",
        r#"unknown variable `$uri` | the name of one variable, without `$` | write key = "uri""#,
    );
    check(
        "vars",
        "$uri$host",
        r#"unknown variable `$uri$host` | the name of one variable, without `$` | write hash_on = "vars_combinations" as well"#,
    );
    check(
        "vars",
        "post_arg_x",
        "`post_arg_x` is not known when a node is chosen | would always be empty | hash on something of the request's head, such as remote_addr, uri, arg_x, http_x_y",
    );
    check(
        "vars_combinations",
        "$uri$status",
        "`status` is not known when a node is chosen | would always be empty | hash on something of the request's head, such as remote_addr, uri, arg_x, http_x_y",
    );
    check(
        "vars_combinations",
        "uri",
        r#"no variable in the key `uri` | is the same for every request | write key = "$uri""#,
    );
    check(
        "vars_combinations",
        "same",
        r#"no variable in the key `same` | is the same for every request | write key = "$request_uri$remote_addr""#,
    );
    check(
        "vars_combinations",
        "$requst_uri",
        "unknown variable `requst_uri` | a request has no such variable | did you mean `request_uri`?",
    );
    check(
        "vars_combinations",
        "$1$uri",
        "invalid key `$1$uri` | there is no match that `$1` could be of | -",
    );
    check(
        "header",
        "X User",
        r#"invalid header name `X User` | no token (RFC 9110 section 5.1) | write key = "X-User""#,
    );
    check(
        "cookie",
        "a;b",
        r#"invalid cookie name `a;b` | no token (RFC 6265 section 4.1.1) | write key = "session""#,
    );
}

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
            r#"error 13:16 invalid header field `X` | the `:` is missing | write "User-Agent: probe""#,
            r#"error 13:21 invalid header field `a b: c` | the name is no token (RFC 9110 section 5.1) | write "User-Agent: probe""#,
            r#"error 13:31 invalid header field `Host: x` | `Host` has a field of its own | write host = "app.example.com""#,
            "error 13:42 invalid header field `Content-Length: 5` | the gateway sets it: a probe has no body and is the last of its connection | remove it",
            "error 13:63 invalid header field `A: \u{1}` | a control character in the value | -",
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
        r#"checks = { active = { type = "tcp", http_path = "/x", grpc_service = "x" } }"#,
        &[
            r#"warning 6:49 `http_path` has no effect |  | write type = "http" for a GET"#,
            r#"warning 6:70 `grpc_service` has no effect |  | write type = "grpc" as well"#,
        ],
    );
}

#[test]
fn shares() {
    #[track_caller]
    fn check(share: &str, expected: f64) {
        let found = upstream(&format!("panic_threshold = {share}")).panic_threshold;
        assert!((found - expected).abs() < 1e-9, "{share} is {found}");
    }
    check("0.3", 0.3);
    check("\"30%\"", 0.3);
    check("\" 12.5 % \"", 0.125);
    check("0", 0.0);
    check("1", 1.0);
    check("\"100%\"", 1.0);
    #[track_caller]
    fn bad(share: &str, expected: &str) {
        refused(&format!("panic_threshold = {share}"), &[&format!("error 6:19 {expected}")]);
    }
    bad("30", r#"`panic_threshold` is out of range: 30 | must be 0 to 1, or "0%" to "100%" | write "30%""#);
    bad("101", r#"`panic_threshold` is out of range: 101 | must be 0 to 1, or "0%" to "100%" | -"#);
    bad("-0.1", r#"`panic_threshold` is out of range: -0.1 | must be 0 to 1, or "0%" to "100%" | -"#);
    bad("nan", r#"`panic_threshold` is out of range: NaN | must be 0 to 1, or "0%" to "100%" | -"#);
    bad("\"150%\"", "`panic_threshold` is out of range: 150% | must be 0% to 100% | -");
    bad(
        "\"30\"",
        r#"`panic_threshold` is no share: "30" | the `%` is missing | write a string such as "20%", or a number from 0 to 1"#,
    );
    bad(
        "\"-1%\"",
        r#"`panic_threshold` is no share: "-1%" | must be a number and `%` | write a string such as "20%", or a number from 0 to 1"#,
    );
    bad(
        "true",
        r#"expected a share, found a boolean | must be a share | a number from 0 to 1, or a string such as "20%""#,
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
fn bounds_and_queues() {
    /// The upstream's bound, then those of its nodes.
    #[track_caller]
    fn check(lines: &str, expected: &str) {
        let bounds = |upstream: Upstream| {
            let nodes: Vec<_> = upstream.nodes.iter().map(|node| node.max_conns).collect();
            (upstream.max_conns, nodes)
        };
        means(lines, bounds, expected);
    }
    check("", "(None, [None, None])");
    check("max_conns = 5", "(Some(5), [None, None])");
    check("max_conns = 0", "(None, [None, None])");
    check("servers = [\"a:1 max_conns=3\", \"b:1 max_conns=0\"]", "(None, [Some(3), None])");
    check("max_conns = 5\nservers = [\"a:1 max_conns=0\", \"b:1\"]", "(Some(5), [Some(4294967295), None])");
    check("nodes = [{ host = \"a\", max_conns = 7 }]", "(None, [Some(7)])");
    let queue = |upstream: Upstream| upstream.queue;
    means("", queue, "None");
    means("max_conns = 5\nqueue = {}", queue, "Some(Queue { size: 100, timeout: 1s })");
    means(
        "servers = [\"a:1 max_conns=3\"]\nqueue = { size = 0, timeout = \"50ms\" }",
        queue,
        "Some(Queue { size: 0, timeout: 50ms })",
    );
    refused(
        "queue = {}",
        &["warning 6:9 `queue` has no effect without `max_conns` |  | write max_conns = 100, or max_conns=100 in a server line"],
    );
    refused(
        "max_conns = -1\nqueue = { size = 100001, timeout = 0 }",
        &[
            "error 6:13 `max_conns` is out of range: -1 | must be 0 to 1000000 | -",
            "error 7:18 `size` is out of range: 100001 | must be 0 to 100000 | -",
            "error 7:36 `timeout` is out of range: 0 | must be longer than zero | -",
        ],
    );
    refused_alone(
        r#"servers = ["a:1 max_conns=x slow_start=5q drain=1"]"#,
        &[
            "error 5:17 invalid parameter `max_conns=x` | must be max_conns=N, N from 0 to 1000000 | -",
            "error 5:29 invalid parameter `slow_start=5q` | unknown unit `q` | write slow_start=30s",
            "error 5:43 unknown parameter `drain=1` | must be one of weight, max_fails, fail_timeout, max_conns, slow_start, backup, down, drain | write `drain` alone",
        ],
    );
}

#[test]
fn slow_start_and_drain() {
    let slow = |upstream: Upstream| {
        let nodes: Vec<_> = upstream.nodes.iter().map(|node| (node.slow_start, node.drain)).collect();
        (upstream.slow_start, nodes)
    };
    means("", slow, "(0ns, [(None, false), (None, false)])");
    means("slow_start = 30", slow, "(30s, [(None, false), (None, false)])");
    means(
        "servers = [\"a:1 slow_start=10 drain\", \"b:1 slow_start=1m\"]",
        slow,
        "(0ns, [(Some(10s), true), (Some(60s), false)])",
    );
    means("nodes = [{ host = \"a\", slow_start = \"5s\", drain = true }]", slow, "(0ns, [(Some(5s), true)])");
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

#[test]
fn discovery() {
    #[track_caller]
    fn check(name: &str, more: &str, expected: &str) {
        let lines = format!("discovery_type = \"dns\"\nservice_name = \"{name}\"\n{more}");
        let found = upstream(&lines).discovery.expect("it is written");
        assert_eq!(format!("{} {} {}", found.service_name, found.port, found.srv), expected, "{lines}");
    }
    check("App.local", "", "app.local 80 false");
    check("app.local:8080", "", "app.local 8080 false");
    check("_http._tcp.app.local", "", "_http._tcp.app.local 80 true");
    check("app.service.consul", "discovery_args = { record = \"srv\" }", "app.service.consul 80 true");
    check("_a.b", "discovery_args = { record = \"a\" }", "_a.b 80 false");
    let dns = "discovery_type = \"dns\"\n";
    refused(
        &format!("{dns}service_name = \"x\""),
        &["error 5:1 `servers` beside `service_name` | only one of them | remove one"],
    );
    refused_alone(
        "service_name = \"x\"",
        &[r#"error 5:16 `service_name` needs `discovery_type` |  | write discovery_type = "dns" as well"#],
    );
    refused_alone(
        dns,
        &[
            r#"error 5:18 `discovery_type` needs `service_name` |  | write service_name = "app.local" as well"#,
        ],
    );
    let help = "write a name such as app.local, app.local:8080 or _http._tcp.app.local";
    refused_alone(
        &format!("{dns}service_name = \"10.0.0.1:80\""),
        &[&format!("error 6:16 invalid service name `10.0.0.1:80` | an address has no records | {help}")],
    );
    refused_alone(
        &format!("{dns}service_name = \"a b\""),
        &[&format!("error 6:16 invalid service name `a b` | no host name | {help}")],
    );
    refused_alone(
        "discovery_type = \"dsn\"\nservice_name = \"x\"\ndiscovery_args = { record = \"aaaa\", order = [] }",
        &[
            "error 5:18 unknown discovery type `dsn` | must be `dns` | did you mean `dns`?",
            "error 7:29 unknown record `aaaa` | must be one of `srv`, `a` | -",
            "error 7:37 unknown field `order` | `discovery_args` has no such field | -",
        ],
    );
}

#[test]
fn total_weight() {
    let no_weight = "the total weight is 0 | no node has a share of the requests | give one of them a weight; to take a node out, write `down`";
    let check = |lines: &str, place: &str| refused_alone(lines, &[&format!("error {place} {no_weight}")]);
    check("servers = [\"a:1 weight=0\"]", "5:11");
    check("nodes = { \"a:1\" = 0, \"b:1\" = 0 }", "5:9");
    check(
        "nodes = [{ host = \"a\", weight = 0, priority = 1 }, { host = \"b\", weight = 0, backup = true }]",
        "5:9",
    );
    check("servers = [\"a:1 weight=0 down\"]", "5:11");
    // In the short forms of a route as well.
    check_body("[[routes]]\nupstream = \"a:1 weight=0\"\n", &[&format!("error 4:12 {no_weight}")]);
    check_body("[[routes]]\nupstream = [\"a:1 weight=0\"]\n", &[&format!("error 4:12 {no_weight}")]);
    check_body("[[routes]]\nupstream = { nodes = { a = 0 } }\n", &[&format!("error 4:22 {no_weight}")]);
    // Beside a node that has a weight 0 is fine, even where that is down.
    upstream("servers = [\"a:1 weight=0\", \"b:1\"]");
    upstream("servers = [\"a:1 weight=0\", \"b:1 down\"]");
    // The node that is wrong may have had the weight.
    refused_alone(
        "servers = [\"a:1 weight=0\", \"b:x\"]",
        &["error 5:29 invalid address `b:x` | the port is no number from 1 to 65535 | write host:port, such as 127.0.0.1:8080, [::1]:8080 or unix:/run/app.sock"],
    );
    refused_alone(
        "servers = [\"a:1 down\", \"b:1 down\"]",
        &["warning 5:11 every node is `down` | every request is answered 503 | -"],
    );
}
