//! What is said of settings that are wrong: a case is a document and one line for each problem.

use super::{check, check_body, env, parse_str, sound, BASE};

#[test]
fn server() {
    check_body(
        r#"lisen = 1
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &["error 3:1 unknown field `lisen` | [server] has no such field | did you mean `listen`?"],
    );
    check_body(
        r#"router = "radixtree_url"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 3:10 unknown router `radixtree_url` | must be one of `radixtree_host_uri`, `radixtree_uri`, `radixtree_uri_with_parameter` | did you mean `radixtree_uri`?",
        ],
    );
    check_body(
        r#"drain_timeout = "30"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            r#"error 3:17 `drain_timeout` is no duration: "30" | the unit is missing | write a number and a unit: "250ms", "10s", "1m30s", "2h""#,
        ],
    );
    check_body(
        r#"drain_timeout = -1
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            r#"error 3:17 `drain_timeout` is no duration: -1 | a duration is not negative | write a number and a unit: "250ms", "10s", "1m30s", "2h""#,
        ],
    );
    check_body(
        r#"trusted_addresses = ["10.0.0.0/33", 5]
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 3:22 invalid network `10.0.0.0/33` | must be an address or a network such as 10.0.0.0/8 | write 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32",
            "error 3:37 expected a string, found an integer | must be a string | put it in quotes",
        ],
    );
    check_body(
        r#"workdir = ""
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &["error 3:11 `workdir` is empty |  | leave it out for the default"],
    );
    check_body(
        r#"server_header = "a\nb"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[r#"error 3:17 invalid `server_header` | must be visible ASCII text | write "off" to send none"#],
    );
    check_body(
        r#"[server.limits]
request_head = "1"
request_body = true
replay_body = "5 apples"
request_fields = 200
head_timeout = 0
connections = 1.5
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 4:16 `request_head` is out of range: 1 | must be 1024 to 16777216 bytes | write request_head = 1024 or more",
            r#"error 5:16 expected a size, found a boolean | must be a size | a number of bytes, a string such as "10MiB", or "unlimited""#,
            r#"error 6:15 `replay_body` is no size: "5 apples" | unknown unit `apples` | write bytes, or a number and a unit: "64KiB", "10m", "2g""#,
            "error 7:18 `request_fields` is out of range: 200 | must be 1 to 128 | write a whole number from 1 to 128",
            r#"error 8:16 `head_timeout` is out of range: 0 | must be longer than zero | write a time such as head_timeout = "1s""#,
            "error 9:15 expected an integer, found a number | must be an integer | write a whole number, such as 3",
        ],
    );
}

#[test]
fn listeners() {
    check(
        "",
        &[
            r#"error 1:1 there is nothing to listen on | no `listen`, no [[listeners]] | write [server] and below it listen = ":8080""#,
            "warning 1:1 there are no routes | every request is answered 404 | add [[routes]]",
        ],
    );
    check(
        r#"[server]
listen = []
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            r#"error 1:1 there is nothing to listen on | no `listen`, no [[listeners]] | write [server] and below it listen = ":8080""#,
        ],
    );
    check(
        r#"[server]
listen = ["localhost:80", "9090", "127.0.0.1", ":99999", "unix:x", 5]
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 2:11 invalid address `localhost:80` | must be an IP address, not a name | write 127.0.0.1:80, [::1]:80, or :80 for every address",
            "error 2:27 invalid address `9090` | the port alone | write :9090",
            "error 2:35 invalid address `127.0.0.1` | the port is missing | write 127.0.0.1:8080",
            "error 2:48 invalid address `:99999` | the port is no number up to 65535 | write :8080 or 127.0.0.1:8080",
            "error 2:58 invalid address `unix:x` | the path of a socket begins with `/` | write unix:/run/ringway.http",
            "error 2:68 expected a string, found an integer | must be a string | put it in quotes",
        ],
    );
    check(
        r#"[server]
listen = [":8080", "0.0.0.0:8080"]
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &["error 2:20 two listeners on 0.0.0.0:8080 | the first is t.toml:2 | remove one"],
    );
    check(
        r#"[server]
listen = [":8080", "127.0.0.1:8080", "[::1]:8080", "127.0.0.1:0", "127.0.0.1:0"]
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[],
    );
    check(
        r#"[server]
listen = ":9091"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            r#"error 2:10 127.0.0.1:9091 is taken by [status] |  | write [status] and below it listen = "127.0.0.1:9092" or "off""#,
        ],
    );
    check(
        r#"[[listeners]]
name = "a"
address = ":1"
[[listeners]]
name = "a"
address = ":2"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &["error 4:1 two listeners have the name `a` | the first is t.toml:1 | remove one"],
    );
    check(
        r#"[[listeners]]
name = "x y"
address = ":1"
protocols = ["h2", "http"]
tls = true
proxy_protocol = "v2"
[[listeners]]
backlog = 0
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            r#"error 2:8 invalid name `x y` | only letters, digits, `-`, `_` and `.` | write a name such as "web", or leave it out"#,
            "error 4:14 `h2` is not built yet | this version cannot do it | remove it: what is written is never silently ignored",
            r#"error 4:20 unknown protocol `http` | must be `h1` | write protocols = ["h1"]"#,
            r#"error 6:18 `proxy_protocol = "v2"` is not built yet | this version cannot do it | remove it: what is written is never silently ignored"#,
            "error 7:1 `address` is missing | has no `address` | add `address`",
            "error 8:11 `backlog` is out of range: 0 | must be 1 to 1000000 | write a whole number from 1 to 1000000",
        ],
    );
    check(
        r#"listeners = [5]
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &["error 1:14 expected a table, found an integer | must be a table | write { field = value }"],
    );
}

#[test]
fn log_status_cores() {
    check_body(
        r#"[log]
level = "inof"
access = "stdot"
format = "jsn"
diagnostics = "xml"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 4:9 unknown level `inof` | must be one of off, error, warn, info, debug, trace, or target=level | did you mean `info`?",
            "error 5:10 invalid access log `stdot` | must be `off`, `stdout` or a path with a `/` | did you mean `stdout`?",
            "error 6:10 unknown format `jsn` | must be `json`, `combined` or a text with $variables | did you mean `json`?",
            r#"error 7:15 unknown diagnostics `xml` | must be one of `auto`, `text`, `json` | write diagnostics = "auto", or another of them"#,
        ],
    );
    check_body(
        r#"[log]
level = "info,ringway=loud"
access = "access.log"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            r#"error 4:9 unknown level `loud` | must be one of off, error, warn, info, debug, trace, or target=level | write level = "info""#,
            "error 5:10 invalid access log `access.log` | must be `off`, `stdout` or a path with a `/` | for a file write ./access.log",
        ],
    );
    check_body(
        r#"[status]
listen = "localhost"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 4:10 invalid address `localhost` | must be an IP address and a port, or `off` | write 127.0.0.1:9091; whoever reaches it sees all metrics",
        ],
    );
    check_body(
        r#"[cores]
count = "150%"
set = "3-1"
driver = "uring"
reserve = -1
pin = "yes"
[cores.ring]
cq_entries = 16
[cores.buffers]
read = 1
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            r#"error 4:9 invalid count `150%` | must be "auto", a number, or "1%" to "100%" | write count = "auto""#,
            r#"error 5:7 invalid set of cores `3-1` | `3-1` is no core and no range of cores | write "0-3,6""#,
            r#"error 6:10 unknown driver `uring` | must be one of `auto`, `io_uring`, `epoll` | write driver = "auto", or another of them"#,
            "error 7:11 `reserve` is out of range: -1 | must be 0 to 4096 | write a whole number from 0 to 4096",
            "error 8:7 expected a boolean, found a string | must be a boolean | write `true` or `false`, without quotes",
            "error 10:14 `cq_entries` is less than `entries` | must be at least 4096 | write cq_entries = 8192, or leave it out",
            "error 12:8 `read` is out of range: 1 | must be 4096 to 1048576 bytes | write read = 4096 or more",
        ],
    );
    check_body(
        r#"[cores]
count = 0
set = "0,x"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 4:9 `count` is out of range: 0 | must be 1 to 4096 | write a whole number from 1 to 4096",
            r#"error 5:7 invalid set of cores `0,x` | `x` is no core and no range of cores | write "0-3,6""#,
        ],
    );
}

#[test]
fn control_and_discovery() {
    check_body(
        r#"[control]
listen = "localhost"
lisen = 1
[discovery]
dsn = {}
[discovery.dns]
servers = ["localhost:53", "127.0.0.1:8600", "127.0.0.1:8600", "::1", 5]
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 4:10 invalid address `localhost` | must be an IP address and a port, or `off` | write 127.0.0.1:9090; whoever reaches it sees routes and upstreams",
            "error 5:1 unknown field `lisen` | [control] has no such field | did you mean `listen`?",
            "error 7:1 unknown field `dsn` | [discovery] has no such field | did you mean `dns`?",
            "error 9:12 invalid address `localhost:53` | must be an IP address with or without a port | write 127.0.0.1:53",
            "warning 9:46 the server 127.0.0.1:8600 is written twice |  | -",
            "error 9:71 expected a string, found an integer | must be a string | put it in quotes",
        ],
    );
    check_body(
        r#"[control]
listen = "0.0.0.0:9090"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            r#"warning 4:10 [control] can be reached from outside on 0.0.0.0:9090 | it asks for no password | write listen = "127.0.0.1:9090""#,
        ],
    );
    check(
        r#"[server]
listen = ":9090"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            r#"warning 2:10 [control] is off: its default 127.0.0.1:9090 is taken |  | write [control] and below it listen = "127.0.0.1:9093", or "off""#,
        ],
    );
    check_body(
        r#"[status]
listen = "127.0.0.1:9090"
[control]
listen = "127.0.0.1:9090"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            r#"error 6:10 [status] and [control] are both on 127.0.0.1:9090 |  | give one of them another port, or write "off""#,
        ],
    );
    check(
        r#"[server]
listen = ":9090"
[control]
listen = "off"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[],
    );
}

/// What a probe sends may be a password, from the environment too.
#[test]
fn fields_of_probes_are_never_shown() {
    let check = |headers: &str, name: &str| {
        let text = format!(
            "[[upstreams]]\nname = \"u\"\nservers = [\"127.0.0.1:1\"]\n\
             checks.active = {{ req_headers = [{headers}], porrt = 1 }}\n"
        );
        let mut env = env();
        env.vars.insert("PASSWORD".to_owned(), "geheim".to_owned());
        let (_, report) = parse_str("t.toml", &text, &env);
        let shown = report.render(false);
        assert!(shown.contains("unknown field `porrt`") && shown.contains(name), "{shown}");
        assert!(!shown.contains("geheim") && !report.to_json().to_string().contains("geheim"), "{shown}");
    };
    check(r#""Authorization: Basic geheim""#, "porrt");
    check(r#""Authorization Basic ${env:PASSWORD}""#, "invalid header field `Authorization`");
    check(r#""X-Key : ${env:PASSWORD}""#, "invalid header field `X-Key `");
    check(r#""Host: ${env:PASSWORD}""#, "invalid header field `Host`");
    check(r#""geheim""#, "invalid header field");
}

#[test]
fn a_key_is_never_shown() {
    let text = "server = { listen = \":8080\", sticky_key = \"geheim é\", vai = 1 }\n";
    let (_, report) = parse_str("t.toml", text, &env());
    let shown = report.render(false);
    assert!(shown.contains("`sticky_key` has 8 characters"), "{shown}");
    assert!(shown.contains("unknown field `vai`"), "{shown}");
    assert!(!shown.contains("geheim") && !report.to_json().to_string().contains("geheim"), "{shown}");
    assert!(shown.contains("sticky_key = *********** , vai".replace(" ,", ",").as_str()), "{shown}");
    check_body(
        "sticky_key = 12345\n[[routes]]\nupstream = \"127.0.0.1:1\"\n",
        &["error 3:14 expected a string, found an integer | must be a string | make one with `openssl rand -hex 32`, the same for all gateways of a group"],
    );
    check_body(
        "sticky_key = \"0123456789\"\n[[routes]]\nupstream = \"127.0.0.1:1\"\n",
        &["error 3:14 `sticky_key` has 10 characters | must have at least 32 | make one with `openssl rand -hex 32`, the same for all gateways of a group"],
    );
    let key = "0123456789abcdef0123456789abcdef";
    let document = sound(&format!("{BASE}sticky_key = \"{key}\"\n[[routes]]\nupstream = \"127.0.0.1:1\"\n"));
    assert!(!format!("{document:?}").contains("sticky_key: Some(\"0"), "a dump has no key");
    assert_eq!(document.server.sticky_key.map(|key| key.0).as_deref(), Some(key));
}

#[test]
fn not_built() {
    check_body(
        r#"[admin]
listen = "127.0.0.1:9180"
[[credentials]]
[[consumers]]
[[caches]]
[discovery.consul]
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 3:2 `admin` is not built yet | this version cannot do it | remove it: what is written is never silently ignored",
            "error 5:3 `credentials` is not built yet | this version cannot do it | remove it: what is written is never silently ignored",
            "error 6:3 `consumers` is not built yet | this version cannot do it | remove it: what is written is never silently ignored",
            "error 7:3 `caches` is not built yet | this version cannot do it | remove it: what is written is never silently ignored",
            "error 8:12 `consul` is not built yet | this version cannot do it | remove it: what is written is never silently ignored",
        ],
    );
    check_body(
        r#"[[upstreams]]
name = "a"
scheme = "grpcs"
http2 = true
nodes = [{ host = "127.0.0.1", metadata = {} }]
[[upstreams]]
name = "b"
service_name = "x"
discovery_type = "nacos"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            r#"error 5:10 `scheme = "grpcs"` is not built yet | this version cannot do it | remove it: what is written is never silently ignored"#,
            "error 6:1 `http2` is not built yet | this version cannot do it | remove it: what is written is never silently ignored",
            r#"error 11:18 `discovery_type = "nacos"` is not built yet | this version cannot do it | remove it: what is written is never silently ignored"#,
        ],
    );
    check_body(
        r#"[[routes]]
proxy_pass = "https://127.0.0.1:1"
"#,
        &[
            "error 4:14 `proxy_pass with https` is not built yet | this version cannot do it | remove it: what is written is never silently ignored",
        ],
    );
    check_body(
        r#"[[routes]]
filter_func = "function() end"
script = "x"
upstream = "127.0.0.1:1"
"#,
        &[
            "error 4:1 `filter_func` is Lua, which Ringway does not run | refused | say it with `vars` or with a plugin",
            "error 5:1 `script` is Lua, which Ringway does not run | refused | say it with `vars` or with a plugin",
        ],
    );
}

#[test]
fn syntax() {
    check(
        r#"[server
listen = ":8080"
[[routes]]
upstream = "127.0.0.1:1
"#,
        &[
            "error 1:1 expected an array of tables, found a table | must be an array of tables | write [[routes]] with two brackets",
            r#"error 1:8 unclosed table | expected `]` | the forms of TOML are key = "text", key = 1, key = [1, 2], [table] and [[list of tables]]"#,
            r#"error 4:24 invalid basic string | expected `"` | the forms of TOML are key = "text", key = 1, key = [1, 2], [table] and [[list of tables]]"#,
        ],
    );
    check(
        r#"[server]
listen = ":8080"
listen = ":8081"
via = tru
[[routes]]
uri = "x"
upstream = "127.0.0.1:1"
"#,
        &[
            "error 3:1 duplicate key |  | remove one of them",
            r#"error 4:7 invalid boolean | expected `true` | the forms of TOML are key = "text", key = 1, key = [1, 2], [table] and [[list of tables]]"#,
            "error 6:7 invalid uri `x` | a path begins with `/` | write /x",
        ],
    );
    check(
        r#"[server]
listen = ":8080"
workdir = 1979-05-27
[[routes]]
priority = 99999999999999999999
upstream = "127.0.0.1:1"
"#,
        &[
            "error 3:11 no field is a date or time | put it in quotes to make it text | put it in quotes",
            "error 5:12 the number 99999999999999999999 is too large | numbers have 64 bits, one of them the sign | write at most 9223372036854775807",
        ],
    );
    check(
        r#"[server]
listen = ":8080"
"#,
        &["warning 1:1 there are no routes | every request is answered 404 | add [[routes]]"],
    );
}

#[test]
fn resolution() {
    check(
        r#"[server]
listen = "${env:NOPE}"
[log]
level = "${vault:x}"
format = "${env:"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 2:10 `${env:NOPE}` does not resolve | the variable NOPE is not set | set it, or give a default: ${env:NOPE:-default}",
            "error 4:9 `${vault:x}` does not resolve | there is no source `vault` | the sources are `env` and `file`; write `$${` for a literal `${`",
            "error 5:10 `${env:` does not resolve | the closing `}` is missing | write `$${` for a literal `${`",
        ],
    );
    check(
        r#"[server]
listen = ":8080"
workdir = "${file:nope}${env:}"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 3:11 `${file:nope}` does not resolve | cannot read nope: there is no such file | write a path that can be read; a relative one begins at the folder of this file",
            "error 3:11 `${env:}` does not resolve | the name of the variable is missing | write ${env:NAME}",
        ],
    );
}
