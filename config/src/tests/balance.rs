//! How an upstream chooses and what it chooses from: what each form means, and what is said of a wrong one.
//!
//! Checks, retries and protection stand in `healing`.

use std::fmt::Debug;

use super::{check_body, sound, BASE};
use crate::Upstream;

const ROUTE: &str = "[[routes]]\nupstream = \"127.0.0.1:1\"\n";

/// The upstream of these lines; without nodes in them it has two.
#[track_caller]
pub(super) fn upstream(lines: &str) -> Upstream {
    let own = ["servers", "nodes", "service_name"].iter().any(|field| lines.contains(field));
    let nodes = if own { "" } else { "servers = [\"a:1\", \"b:2\"]\n" };
    let document = sound(&format!("{BASE}[[upstreams]]\nname = \"a\"\n{nodes}{lines}\n{ROUTE}"));
    (*document.upstreams[0]).clone()
}

/// Checks a part of the upstream of these lines, as it is debugged.
#[track_caller]
pub(super) fn means<T: Debug>(lines: &str, part: fn(Upstream) -> T, expected: &str) {
    assert_eq!(format!("{:?}", part(upstream(lines))), expected, "{lines}");
}

/// Checks what is said of these lines in an upstream of one node; the first of them is line 6.
#[track_caller]
pub(super) fn refused(lines: &str, expected: &[&str]) {
    check_body(&format!("[[upstreams]]\nname = \"a\"\nservers = [\"a:1\"]\n{lines}\n{ROUTE}"), expected);
}

/// The same for an upstream without nodes; the first line is line 5.
#[track_caller]
pub(super) fn refused_alone(lines: &str, expected: &[&str]) {
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

/// APISIX's schema takes two of nginx's constants.
#[test]
fn constants_of_a_hash() {
    for key in ["server_name", "hostname"] {
        let text = format!(
            "[server]\nlisten = \":8080\"\n[[routes]]\n[routes.upstream]\nservers = [\"127.0.0.1:1\"]\ntype = \"chash\"\nkey = \"{key}\"\n"
        );
        let (document, report) = crate::parse_str("t.toml", &text, &crate::MapEnv::default());
        assert!(document.is_some(), "{}", report.render(false));
        let what = &report.problems()[0].what;
        assert_eq!(*what, format!("`{key}` is the same for all requests"));
    }
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
