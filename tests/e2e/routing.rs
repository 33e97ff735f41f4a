//! Which route takes a request: hosts, URIs, methods, addresses, vars, priority, status, services.
//!
//! Every case is a config in which each route leads to an origin of its own name, and lines of request and wanted name.

use std::collections::BTreeMap;
use tests::{table, Client, Gateway, Origin};

/// A config with `@name` wherever an upstream's address belongs, and the requests with what must answer.
///
/// A request is `METHOD TARGET [host=HOST] [name:value ...]`; what must answer is an origin's name or a status.
fn check(toml: &str, rows: &[(&str, &str)]) {
    let (gateway, _origins) = start(toml);
    table::each(
        rows,
        |(request, _)| (*request).to_owned(),
        |(request, wanted)| {
            assert_eq!(ask(&gateway, request), *wanted);
        },
    );
}

fn start(toml: &str) -> (Gateway, BTreeMap<String, Origin>) {
    let mut origins = BTreeMap::new();
    let mut text = String::new();
    for (at, part) in toml.split('@').enumerate() {
        if at == 0 {
            text.push_str(part);
            continue;
        }
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        let origin = origins.entry(name.to_owned()).or_insert_with(|| Origin::named(name));
        text.push_str(&format!("{origin}{rest}"));
    }
    (Gateway::start(&text), origins)
}

fn ask(gateway: &Gateway, request: &str) -> String {
    let mut words = request.split(' ');
    let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
    let mut host = "any.test";
    let mut fields = String::new();
    for word in words {
        match word.split_once('=').filter(|(name, _)| *name == "host") {
            Some((_, value)) => host = value,
            None => fields.push_str(&format!("{}\r\n", word.replacen(':', ": ", 1))),
        }
    }
    let mut client = Client::sending(
        gateway.address(),
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n"),
    );
    let response = client.response_to(method);
    if response.status == 200 {
        response.text()
    } else {
        response.status.to_string()
    }
}

#[test]
fn nothing_matches_is_404_with_its_body() {
    let (gateway, _origins) = start("[[routes]]\nuri = \"/a\"\nupstream = [\"@a\"]\n");
    let response = tests::get(gateway.address(), "/b");
    assert_eq!(
        (response.status, response.text().as_str()),
        (404, "{\"error_msg\":\"404 Route Not Found\"}\n")
    );
    assert!(response.get("content-type").is_some_and(|value| value.starts_with("application/json")));
    // The connection stays, and its next request is served.
    let mut client = Client::sending(gateway.address(), "GET /b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 404);
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "a");
}

#[test]
fn hosts() {
    check(
        r#"
        [[routes]]
        host = "a.test"
        uri = "/*"
        upstream = ["@exact"]
        [[routes]]
        host = "*.a.test"
        uri = "/*"
        upstream = ["@wild"]
        [[routes]]
        hosts = ["*.deep.a.test", "other.test"]
        uri = "/*"
        upstream = ["@deeper"]
        [[routes]]
        host = "bound.test"
        uri = "/only"
        upstream = ["@bound"]
        [[routes]]
        uri = "/exact"
        upstream = ["@hostless"]
        [[routes]]
        uri = "/only"
        upstream = ["@hostless-only"]
        "#,
        &[
            ("GET / host=a.test", "exact"),
            ("GET / host=A.TEST", "exact"),
            ("GET / host=a.test:8080", "exact"),
            ("GET / host=x.a.test", "wild"),
            ("GET / host=x.y.a.test", "wild"),
            ("GET / host=x.deep.a.test", "deeper"),
            ("GET / host=x.y.deep.a.test", "deeper"),
            ("GET / host=deep.a.test", "wild"),
            ("GET / host=other.test", "deeper"),
            ("GET / host=xa.test", "404"),
            ("GET / host=test", "404"),
            // A host-bound `/*` beats a host-less exact path.
            ("GET /exact host=a.test", "exact"),
            ("GET /exact host=none.test", "hostless"),
            // Under a host without a fitting route, the routes without a host are tried.
            ("GET /exact host=bound.test", "hostless"),
            ("GET /only host=bound.test", "bound"),
            ("GET /only host=none.test", "hostless-only"),
        ],
    );
}

#[test]
fn uris() {
    check(
        r#"
        [[routes]]
        uri = "/a"
        upstream = ["@a"]
        [[routes]]
        uri = "/a/*"
        upstream = ["@a-prefix"]
        priority = 100
        [[routes]]
        uri = "/a/b"
        upstream = ["@ab"]
        [[routes]]
        uri = "/a/b/*"
        upstream = ["@ab-prefix"]
        [[routes]]
        uris = ["/x", "/y/*"]
        upstream = ["@many"]
        [[routes]]
        uri = "/pre*"
        upstream = ["@pre"]
        "#,
        &[
            ("GET /a", "a"),
            ("GET /a/", "a-prefix"),
            ("GET /a/c", "a-prefix"),
            // Exact beats prefix whatever the priority; the longest prefix next.
            ("GET /a/b", "ab"),
            ("GET /a/b/", "ab-prefix"),
            ("GET /a/b/c/d", "ab-prefix"),
            ("GET /a?q=/b", "a"),
            ("GET /A", "404"),
            ("GET /x", "many"),
            ("GET /x/", "404"),
            ("GET /y/1", "many"),
            ("GET /y", "404"),
            ("GET /prefix", "pre"),
            ("GET /pre", "pre"),
            ("GET /", "404"),
        ],
    );
}

#[test]
fn methods_priority_status() {
    check(
        r#"
        [[routes]]
        uri = "/m"
        methods = ["GET", "POST"]
        upstream = ["@get"]
        [[routes]]
        uri = "/m"
        methods = ["PURGE"]
        upstream = ["@purge"]
        [[routes]]
        uri = "/p"
        priority = 1
        upstream = ["@low"]
        [[routes]]
        uri = "/p"
        priority = 10
        vars = [["arg_v", "==", "2"]]
        upstream = ["@high"]
        [[routes]]
        uri = "/off"
        status = 0
        upstream = ["@off"]
        [[routes]]
        uri = "/off*"
        upstream = ["@on"]
        "#,
        &[
            ("GET /m", "get"),
            ("POST /m", "get"),
            ("DELETE /m", "404"),
            ("PURGE /m", "purge"),
            ("GET /p", "low"),
            ("GET /p?v=2", "high"),
            ("GET /off", "on"),
        ],
    );
}

#[test]
fn vars() {
    check(
        r#"
        [[routes]]
        uri = "/"
        vars = [["arg_eq", "==", "1"]]
        upstream = ["@eq"]
        [[routes]]
        uri = "/"
        vars = [["arg_ne", "~=", "1"], ["arg_ne", "~~", "^."]]
        upstream = ["@ne"]
        [[routes]]
        uri = "/"
        vars = [["arg_gt", ">", 10]]
        upstream = ["@gt"]
        [[routes]]
        uri = "/"
        vars = [["arg_le", "<=", 5], ["arg_le", "~~", "^[0-9]+$"]]
        upstream = ["@le"]
        [[routes]]
        uri = "/"
        vars = [["http_x_re", "~~", "^v[0-9]+$"]]
        upstream = ["@re"]
        [[routes]]
        uri = "/"
        vars = [["http_x_rei", "~*", "^abc$"]]
        upstream = ["@rei"]
        [[routes]]
        uri = "/"
        vars = [["cookie_tier", "in", ["gold", "silver"]]]
        upstream = ["@in"]
        [[routes]]
        uri = "/"
        vars = [["http_x_list", "has", "b"]]
        upstream = ["@has"]
        [[routes]]
        uri = "/"
        vars = [["http_x_no", "!", "==", "1"], ["http_x_no", "~~", "."]]
        upstream = ["@no"]
        [[routes]]
        uri = "/"
        vars = ["OR", ["arg_or", "==", "1"], ["http_x_or", "==", "1"]]
        upstream = ["@or"]
        [[routes]]
        uri = "/ip"
        vars = [["remote_addr", "ipmatch", ["127.0.0.0/8"]]]
        upstream = ["@ip"]
        [[routes]]
        uri = "/ip6"
        vars = [["remote_addr", "ipmatch", ["10.0.0.0/8"]]]
        upstream = ["@never"]
        [[routes]]
        uri = "/method"
        vars = [["request_method", "==", "PUT"], ["host", "==", "h.test"], ["scheme", "==", "http"]]
        upstream = ["@method"]
        "#,
        &[
            ("GET /?eq=1", "eq"),
            ("GET /?eq=2", "404"),
            ("GET /?ne=2", "ne"),
            ("GET /?ne=1", "404"),
            ("GET /?gt=11", "gt"),
            ("GET /?gt=9", "404"),
            ("GET /?gt=100", "gt"),
            ("GET /?le=5", "le"),
            ("GET /?le=6", "404"),
            ("GET / x-re:v12", "re"),
            ("GET / X-RE:v12", "re"),
            ("GET / x-re:w12", "404"),
            ("GET / x-rei:ABC", "rei"),
            ("GET / cookie:a=b;tier=gold", "in"),
            ("GET / cookie:tier=lead", "404"),
            ("GET / x-no:2", "no"),
            ("GET / x-no:1", "404"),
            ("GET /?or=1", "or"),
            ("GET / x-or:1", "or"),
            ("GET /ip", "ip"),
            ("GET /ip6", "404"),
            ("PUT /method host=H.test:80", "method"),
            ("GET /method host=h.test", "404"),
        ],
    );
}

#[test]
fn remote_addresses() {
    check(
        r#"
        [[routes]]
        uri = "/a"
        remote_addrs = ["10.0.0.0/8", "192.168.1.1"]
        upstream = ["@far"]
        [[routes]]
        uri = "/a*"
        remote_addr = "127.0.0.1"
        upstream = ["@near"]
        "#,
        &[("GET /a", "near"), ("GET /ab", "near")],
    );
}

#[test]
fn services_lend_hosts_and_upstreams() {
    check(
        r#"
        [[services]]
        name = "shop"
        hosts = ["shop.test"]
        upstream = ["@shop"]
        [[routes]]
        uri = "/a"
        service_id = "shop"
        [[routes]]
        uri = "/b"
        service_id = "shop"
        upstream = ["@own"]
        [[routes]]
        uri = "/c"
        host = "c.test"
        service_id = "shop"
        "#,
        &[
            ("GET /a host=shop.test", "shop"),
            ("GET /a host=other.test", "404"),
            ("GET /b host=shop.test", "own"),
            ("GET /c host=c.test", "shop"),
            ("GET /c host=shop.test", "404"),
        ],
    );
}

#[test]
fn the_other_router_modes() {
    check(
        r#"
        [server]
        router = "radixtree_uri"
        [[routes]]
        host = "a.test"
        uri = "/*"
        upstream = ["@bound"]
        [[routes]]
        uri = "/exact"
        upstream = ["@exact"]
        "#,
        &[
            ("GET /exact host=a.test", "exact"),
            ("GET /other host=a.test", "bound"),
            ("GET /other host=b.test", "404"),
        ],
    );
    check(
        r#"
        [server]
        router = "radixtree_uri_with_parameter"
        [[routes]]
        uri = "/user/:id"
        upstream = ["@user"]
        [[routes]]
        uri = "/user/:id/posts/:post"
        upstream = ["@post"]
        [[routes]]
        uri = "/files/*rest"
        upstream = ["@files"]
        [[routes]]
        uri = "/seven/:id"
        vars = [["uri_param_id", "==", "7"]]
        upstream = ["@seven"]
        "#,
        &[
            ("GET /user/1", "user"),
            ("GET /user/1/2", "404"),
            ("GET /user/", "404"),
            ("GET /user/1/posts/2", "post"),
            ("GET /files/a/b/c", "files"),
            ("GET /seven/7", "seven"),
            ("GET /seven/8", "404"),
        ],
    );
}

/// Two spellings of an upstream: a name, an address in `proxy_pass`.
#[test]
fn short_forms() {
    check(
        r#"
        [[upstreams]]
        name = "named"
        servers = ["@named weight=2"]
        [[upstreams]]
        name = "mapped"
        nodes = { "@mapped" = 1 }
        [[routes]]
        uri = "/id"
        upstream_id = "named"
        [[routes]]
        uri = "/name"
        upstream = "named"
        [[routes]]
        uri = "/pass"
        proxy_pass = "http://named"
        [[routes]]
        uri = "/address"
        proxy_pass = "http://@address"
        [[routes]]
        uri = "/one"
        upstream = "@one"
        [[routes]]
        uri = "/table"
        upstream = { type = "roundrobin", nodes = { "@table" = 1 } }
        [[routes]]
        uri = "/map"
        upstream_id = "mapped"
        [[routes]]
        upstream = ["@rest"]
        "#,
        &[
            ("GET /id", "named"),
            ("GET /name", "named"),
            ("GET /pass", "named"),
            ("GET /address", "address"),
            ("GET /one", "one"),
            ("GET /table", "table"),
            ("GET /map", "mapped"),
            ("GET /anything/else", "rest"),
        ],
    );
}
