//! What is said of resources that are wrong: a case is a document and one line for each problem.

use super::check_body;

#[test]
fn upstreams() {
    check_body(
        r#"[[upstreams]]
servers = []
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[r#"error 4:11 the upstream has no nodes | no node in it | write servers = ["127.0.0.1:8080"]"#],
    );
    check_body(
        r#"[[upstreams]]
name = "a"
[[upstreams]]
name = "a"
servers = ["127.0.0.1:1"]
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            r#"error 3:1 the upstream has no nodes | neither `servers` nor `nodes` | write servers = ["127.0.0.1:8080"]"#,
            "error 6:8 two upstreams have the id `a` | the first is t.toml:4 | give one of them another name",
        ],
    );
    check_body(
        r#"[[upstreams]]
id = "a b"
servers = ["127.0.0.1:1"]
[[upstreams]]
name = "x y"
servers = ["127.0.0.1:1"]
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 4:6 invalid id `a b` | only letters, digits, `-`, `_` and `.` | an id has 1 to 64 letters, digits, `-`, `_`, `.`",
            r#"error 7:8 the name `x y` cannot be the id | only letters, digits, `-`, `_` and `.` | a name is the id where no id is given: add one, such as id = "1""#,
        ],
    );
    check_body(
        r#"[[upstreams]]
id = 1
name = "n"
servers = ["127.0.0.1:1"]
[[upstreams]]
id = 2
name = "n"
servers = ["127.0.0.1:1"]
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &["warning 8:6 two upstreams have the name `n` | the first is t.toml:4 | -"],
    );
    check_body(
        r#"[[upstreams]]
name = "a"
nodes = { "127.0.0.1:80" = -1, "x:y" = 1, "[::1]:80" = 1 }
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 5:28 `weight` is out of range: -1 | must be 0 to 1000000 | write a whole number from 0 to 1000000",
            "error 5:32 invalid address `x:y` | the port is no number from 1 to 65535 | write host:port, such as 127.0.0.1:8080, [::1]:8080 or unix:/run/app.sock",
        ],
    );
    check_body(
        r#"[[upstreams]]
name = "a"
nodes = [{ host = "127.0.0.1", port = 80 }, { hst = "x" }, { host = "a", port = 70000 }, { host = "a", weight = 1.5 }]
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 5:45 `host` is missing | has no `host` | add `host`",
            "error 5:47 unknown field `hst` | a node has no such field | did you mean `host`?",
            "error 5:81 `port` is out of range: 70000 | must be 1 to 65535 | write a whole number from 1 to 65535",
            "error 5:113 expected an integer, found a number | must be an integer | write a whole number, such as 3",
        ],
    );
    check_body(
        r#"[[upstreams]]
name = "a"
servers = ["127.0.0.1:80 weight=x max_fail=3 backup=1 fail_timeout=10q", "::1", "", "http://a", "127.0.0.256:1", "unix:x"]
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 5:26 invalid parameter `weight=x` | must be weight=N, N from 0 to 1000000 | write weight=1",
            "error 5:35 unknown parameter `max_fail=3` | must be one of weight, max_fails, fail_timeout, max_conns, slow_start, backup, down, drain | did you mean `max_fails`?",
            "error 5:46 unknown parameter `backup=1` | must be one of weight, max_fails, fail_timeout, max_conns, slow_start, backup, down, drain | write `backup` alone",
            "error 5:55 invalid parameter `fail_timeout=10q` | unknown unit `q` | write fail_timeout=30s",
            "error 5:75 invalid address `::1` | write an IPv6 address in brackets: [::1]:80 | write host:port, such as 127.0.0.1:8080, [::1]:8080 or unix:/run/app.sock",
            r#"error 5:81 the address is missing |  | write "127.0.0.1:8080""#,
            "error 5:86 invalid address `http://a` | an address has no scheme; the upstream's `scheme` says it | write host:port, such as 127.0.0.1:8080, [::1]:8080 or unix:/run/app.sock",
            "error 5:98 invalid address `127.0.0.256:1` | no IPv4 address | write host:port, such as 127.0.0.1:8080, [::1]:8080 or unix:/run/app.sock",
            "error 5:115 invalid address `unix:x` | the path of a socket begins with `/` | write host:port, such as 127.0.0.1:8080, [::1]:8080 or unix:/run/app.sock",
        ],
    );
    check_body(
        r#"[[upstreams]]
name = "a"
servers = ["127.0.0.1:80 \u0077eight=x"]
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &["error 5:12 invalid parameter `weight=x` | must be weight=N, N from 0 to 1000000 | write weight=1"],
    );
    check_body(
        r#"[[upstreams]]
name = "a"
servers = ["127.0.0.1:80", "127.0.0.1:80"]
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "warning 5:11 the node 127.0.0.1:80 is written twice |  | to give it a larger share, write `weight`",
        ],
    );
    check_body(
        r#"[[upstreams]]
name = "a"
servers = ["a:1"]
pass_host = "rewrite"
[[upstreams]]
name = "b"
servers = ["a:1"]
upstream_host = "x/y"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            r#"error 6:13 `pass_host = "rewrite"` needs `upstream_host` |  | write upstream_host = "the.name""#,
            r#"error 10:17 invalid host `x/y` | the host only, without scheme and path | write upstream_host = "app.example.com""#,
            r#"warning 10:17 `upstream_host` has no effect |  | write pass_host = "rewrite" as well"#,
        ],
    );
    check_body(
        r#"[[upstreams]]
name = "a"
servers = ["a:1"]
timeout = { connect = 0, red = 5 }
retries = -1
keepalive_pool = { size = "x" }
tpye = "roundrobin"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            r#"error 6:23 `connect` is out of range: 0 | must be longer than zero | write a time such as connect = "1s""#,
            "error 6:26 unknown field `red` | `timeout` has no such field | did you mean `read`?",
            "error 7:11 `retries` is out of range: -1 | must be 0 to 1000 | write a whole number from 0 to 1000",
            "error 8:27 expected an integer, found a string | must be an integer | write a whole number, such as 3",
            "error 9:1 unknown field `tpye` | an upstream has no such field | did you mean `type`?",
        ],
    );
}

#[test]
fn references() {
    check_body(
        r#"[[upstreams]]
name = "users"
servers = ["127.0.0.1:1"]
[[routes]]
upstream = "user"
[[routes]]
upstream_id = "User"
[[routes]]
proxy_pass = "http://usres"
"#,
        &[
            "error 7:12 unknown upstream `user` | no upstream has this name | did you mean `users` (t.toml:4)?",
            "error 9:15 unknown upstream `User` | no upstream has this name | did you mean `users` (t.toml:4)?",
            "error 11:14 unknown upstream `usres` | no upstream has this name | did you mean `users` (t.toml:4)?",
        ],
    );
    check_body(
        r#"[[upstreams]]
id = 1
name = "users"
servers = ["127.0.0.1:1"]
[[routes]]
upstream_id = "users"
"#,
        &[
            r#"error 8:15 unknown upstream `users` | this is the name of an upstream, not its id | write upstream_id = "1""#,
        ],
    );
    check_body(
        r#"[[routes]]
service_id = "x"
plugin_config_id = "y"
"#,
        &[
            r#"error 4:14 unknown service `x` | no service has this name | there is none yet: add [[services]] with name = "x""#,
            r#"error 5:20 unknown plugin config `y` | no plugin config has this name | there is none yet: add [[plugin_configs]] with name = "y""#,
        ],
    );
    check_body(
        r#"[[services]]
name = "s"
upstream_id = "gone"
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            r#"error 5:15 unknown upstream `gone` | no upstream has this name | there is none yet: add [[upstreams]] with name = "gone""#,
        ],
    );
    check_body(
        r#"[[upstreams]]
name = "broken"
servers = ["127.0.0.1:x"]
[[routes]]
upstream_id = "broken"
"#,
        &[
            "error 5:13 invalid address `127.0.0.1:x` | the port is no number from 1 to 65535 | write host:port, such as 127.0.0.1:8080, [::1]:8080 or unix:/run/app.sock",
        ],
    );
}

#[test]
fn routes() {
    check_body(
        r#"[[routes]]
uri = "a"
host = "*"
upstream = "127.0.0.1:1"
"#,
        &[
            "error 4:7 invalid uri `a` | a path begins with `/` | write /a",
            "error 5:8 invalid host `*` | leave the host out to take any | write example.com, *.example.com or example.com:8443",
        ],
    );
    check_body(
        r#"[[routes]]
uris = ["/a/*/b", "*", "http://x/", "/a?b"]
hosts = ["http://x", "a.*.b", "ä.de", "x:99999"]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 4:9 invalid uri `/a/*/b` | `*` stands only at the end | write a path alone, such as /api/*",
            "error 4:19 invalid uri `*` | write `/*` for every path | write a path alone, such as /api/*",
            "error 4:24 invalid uri `http://x/` | a path begins with `/` | write a path alone, such as /api/*",
            "error 4:37 invalid uri `/a?b` | the path only; `vars` looks at the query | write a path alone, such as /api/*",
            "error 5:10 invalid host `http://x` | the host only, without scheme and path | write example.com, *.example.com or example.com:8443",
            "error 5:22 invalid host `a.*.b` | `*` stands only first, before a dot | write example.com, *.example.com or example.com:8443",
            "error 5:31 invalid host `ä.de` | write an international name in its `xn--` form | write example.com, *.example.com or example.com:8443",
            "error 5:39 invalid host `x:99999` | the port is no number up to 65535 | write example.com, *.example.com or example.com:8443",
        ],
    );
    check_body(
        r#"[[routes]]
uri = "/a"
uris = ["/b"]
hosts = []
upstream = "127.0.0.1:1"
upstream_id = "b"
"#,
        &[
            "error 5:1 `uris` beside `uri` | only one of them | remove one",
            "error 6:9 `hosts` is empty | would match nothing | leave it out to match any",
            "error 8:1 `upstream_id` beside `upstream` | only one of them | remove one",
            r#"error 8:15 unknown upstream `b` | no upstream has this name | there is none yet: add [[upstreams]] with name = "b""#,
        ],
    );
    check_body(
        r#"[[routes]]
uris = ["/a//b", "/a/../b", "/%41", "/x", "/x"]
upstream = "127.0.0.1:1"
"#,
        &[
            "warning 4:9 no path can match `/a//b` | paths are compared decoded, without `//`, `.` and `..` | -",
            "warning 4:18 no path can match `/a/../b` | paths are compared decoded, without `//`, `.` and `..` | -",
            "warning 4:29 no path can match `/%41` | paths are compared decoded, without `//`, `.` and `..` | -",
            "warning 4:43 the uri `/x` is written twice |  | -",
        ],
    );
    check_body(
        r#"[[routes]]
methods = ["get", "G T", "GETT", "PROPFIND"]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 4:12 invalid method `get` | methods are compared with case | did you mean `GET`?",
            "error 4:19 invalid method `G T` | no token (RFC 9110 section 9.1) | did you mean `GET`?",
            "warning 4:26 unusual method `GETT` |  | did you mean `GET`?",
        ],
    );
    check_body(
        r#"[[routes]]
remote_addr = "x"
priority = "1"
status = 2
labels = { a = 1 }
enable_websocket = 1
timeout = 5
upstream = "127.0.0.1:1"
"#,
        &[
            "error 4:15 invalid network `x` | must be an address or a network such as 10.0.0.0/8 | write 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32",
            "error 5:12 expected an integer, found a string | must be an integer | write the number without quotes",
            "error 6:10 `status` is out of range: 2 | must be 0 to 1 | write a whole number from 0 to 1",
            "error 7:16 expected a string, found an integer | must be a string | put it in quotes",
            "error 8:20 expected a boolean, found an integer | must be a boolean | write `true` or `false`, without quotes",
            "error 9:11 expected a table, found an integer | must be a table | write { field = value }",
        ],
    );
    check_body(
        r#"[[routes]]
vars = [["arg_x", "=", 1], ["uri", "~~", "a("]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 4:19 unknown operator `=` | must be one of == ~= > >= < <= ~~ ~* in has ipmatch | did you mean `==`?",
            "error 4:42 invalid regex `a(` | unclosed group | look-around and back references are not taken: matching must stay linear",
        ],
    );
    check_body(
        r#"[[routes]]
uri = "/x"
"#,
        &[
            r#"error 3:1 the route leads nowhere | no upstream, no service, no plugins | write upstream = "127.0.0.1:8080""#,
        ],
    );
    check_body(
        r#"[[routes]]
upstream = []
[[routes]]
uri = "/x"
upstream = 5
[[routes]]
uri = "/y"
upstream = { id = "x", servers = ["127.0.0.1:1"] }
"#,
        &[
            r#"error 4:12 the upstream is empty | no address in it | write upstream = ["127.0.0.1:8080"]"#,
            "error 7:12 expected an upstream, found an integer | must be an upstream | the name of an upstream, an address, a list of addresses, or a table",
            "error 10:19 an upstream that is written here has no id |  | write it under [[upstreams]] to refer to it from elsewhere",
        ],
    );
    check_body(
        r#"[[routes]]
proxy_pass = "http://127.0.0.1:1/x"
[[routes]]
uri = "/x"
proxy_pass = "ftp://127.0.0.1"
"#,
        &[
            "error 4:14 invalid proxy_pass `http://127.0.0.1:1/x` | no path stands here | the plugin proxy-rewrite changes the path that the upstream gets",
            r#"error 7:14 invalid proxy_pass `ftp://127.0.0.1` | the scheme is http | proxy_pass = "http://backend""#,
        ],
    );
    check_body(
        r#"[routes]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 3:1 expected an array of tables, found a table | must be an array of tables | write [[routes]] with two brackets",
        ],
    );
    check_body(
        r#"[[routes]]
name = "a"
upstream = "127.0.0.1:1"
[[routes]]
name = "a"
uri = "/x"
upstream = "127.0.0.1:1"
"#,
        &["error 7:8 two routes have the id `a` | the first is t.toml:4 | give one of them another name"],
    );
    check_body(
        r#"[[routes]]
upsteam = "127.0.0.1:1"
hots = "a.b"
"#,
        &[
            "error 4:1 unknown field `upsteam` | a route has no such field | did you mean `upstream`?",
            "error 5:1 unknown field `hots` | a route has no such field | did you mean `host`?",
        ],
    );
}

#[test]
fn plugins() {
    check_body(
        r#"[[routes]]
plugins = { a = 1, b = { _meta = { disabl = true, priority = 1.5, filter = "x", error_response = 5 } } }
"#,
        &[
            "error 4:17 expected a table, found an integer | must be a table | write a = {}",
            "error 4:36 unknown field `disabl` | `_meta` has no such field | did you mean `disable`?",
            "error 4:62 expected an integer, found a number | must be an integer | write a whole number, such as 3",
            r#"error 4:76 expected an array of conditions, found a string | must be an array of conditions | write [["arg_x", "==", "1"]]"#,
            r#"error 4:98 expected a string or a table, found an integer | must be a string or a table | write error_response = "text" or { field = "text" }"#,
        ],
    );
    check_body(
        r#"[[routes]]
plugins = ["a"]
"#,
        &[
            "error 4:11 expected a table of plugins, found an array | must be a table of plugins | write [routes.plugins] and below it request-id = {}",
        ],
    );
    check_body(
        "[[global_rules]]\nplugins = { a = {}, b = {} }\n[[global_rules]]\nplugins = { b = {} }\n[[global_rules]]\n[[global_rules]]\nplugins = {}\n",
        &[
            "error 6:13 the plugin `b` is in two global rules | the first is t.toml:4 | remove one",
            "error 7:1 `plugins` is missing | has no `plugins` | add `plugins`",
            "error 9:11 a global rule without plugins | does nothing | add a plugin, such as request-id = {}, or remove the rule",
        ],
    );
    check_body(
        r#"[[plugin_configs]]
name = "x"
[[plugin_configs]]
plugins = {}
[[routes]]
upstream = "127.0.0.1:1"
"#,
        &[
            "error 3:1 `plugins` is missing | has no `plugins` | add `plugins`",
            r#"error 5:1 the plugin config has no name | nothing can refer to it | write name = "...""#,
        ],
    );
}

#[test]
fn shadowed_routes() {
    check_body(
        r#"[[routes]]
id = "a"
upstream = "127.0.0.1:1"
[[routes]]
id = "b"
upstream = "127.0.0.1:2"
"#,
        &[
            "warning 6:1 the route `b` can never be reached | the route of t.toml:3 takes all of its requests | give it a higher `priority` or more exact conditions, or remove it",
        ],
    );
    check_body(
        r#"[[routes]]
id = "a"
upstream = "127.0.0.1:1"
[[routes]]
id = "b"
priority = 1
upstream = "127.0.0.1:2"
"#,
        &[
            "warning 3:1 the route `a` can never be reached | the route of t.toml:6 takes all of its requests | give it a higher `priority` or more exact conditions, or remove it",
        ],
    );
    check_body(
        r#"[[routes]]
id = "a"
methods = ["GET", "POST"]
upstream = "127.0.0.1:1"
[[routes]]
id = "b"
methods = ["GET"]
upstream = "127.0.0.1:2"
[[routes]]
id = "c"
methods = ["GET", "PUT"]
upstream = "127.0.0.1:2"
[[routes]]
id = "d"
upstream = "127.0.0.1:2"
"#,
        &[
            "warning 7:1 the route `b` can never be reached | the route of t.toml:3 takes all of its requests | give it a higher `priority` or more exact conditions, or remove it",
        ],
    );
    check_body(
        r#"[[routes]]
id = "a"
vars = [["arg_x", "==", "1"]]
upstream = "127.0.0.1:1"
[[routes]]
id = "b"
vars = [["arg_x", "==", "2"]]
upstream = "127.0.0.1:2"
[[routes]]
id = "c"
vars = [["arg_x", "==", "1"]]
upstream = "127.0.0.1:2"
"#,
        &[
            "warning 11:1 the route `c` can never be reached | the route of t.toml:3 takes all of its requests | give it a higher `priority` or more exact conditions, or remove it",
        ],
    );
    check_body(
        r#"[[routes]]
id = "a"
host = "x.org"
uri = "/a"
upstream = "127.0.0.1:1"
[[routes]]
id = "b"
uri = "/a"
upstream = "127.0.0.1:2"
[[routes]]
id = "c"
hosts = ["X.org", "y.org"]
uri = "/a"
upstream = "127.0.0.1:2"
[[routes]]
id = "d"
hosts = ["y.org"]
uri = "/a"
upstream = "127.0.0.1:2"
"#,
        &[
            "warning 17:1 the route `d` can never be reached | the route of t.toml:12 takes all of its requests | give it a higher `priority` or more exact conditions, or remove it",
        ],
    );
    check_body(
        r#"[[routes]]
id = "a"
status = 0
upstream = "127.0.0.1:1"
[[routes]]
id = "b"
upstream = "127.0.0.1:2"
"#,
        &[],
    );
    check_body(
        r#"router = "radixtree_uri"
[[routes]]
id = "a"
uri = "/a"
upstream = "127.0.0.1:1"
[[routes]]
id = "b"
host = "x.org"
uri = "/a"
upstream = "127.0.0.1:2"
"#,
        &[
            "warning 8:1 the route `b` can never be reached | the route of t.toml:4 takes all of its requests | give it a higher `priority` or more exact conditions, or remove it",
        ],
    );
    check_body(
        r#"router = "radixtree_uri"
[[routes]]
id = "a"
uri = "/a"
host = "x.org"
upstream = "127.0.0.1:1"
[[routes]]
id = "b"
uri = "/a"
upstream = "127.0.0.1:2"
"#,
        &[],
    );
    check_body(
        r#"[[services]]
id = "s"
host = "x.org"
upstream = "127.0.0.1:1"
[[routes]]
id = "a"
service_id = "s"
[[routes]]
id = "b"
host = "x.org"
upstream = "127.0.0.1:1"
"#,
        &[
            "warning 10:1 the route `b` can never be reached | the route of t.toml:7 takes all of its requests | give it a higher `priority` or more exact conditions, or remove it",
        ],
    );
}
