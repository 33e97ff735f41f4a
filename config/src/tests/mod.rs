//! What is said of whole documents. One `check` per feature; a case is a document and
//! what is rendered for it, so that the words of a message are reviewed with its rule.

use std::path::Path;
use std::time::Duration;

mod balance;
mod healing;
mod problems;
mod remedies;
mod resource_problems;

use crate::{parse_file, parse_str, Diff, Document, MapEnv, NodeAddress, UpstreamRef};

/// What a document needs to be one.
const BASE: &str = "[server]\nlisten = \":8080\"\n";

fn env() -> MapEnv {
    let mut env = MapEnv::default();
    env.vars.insert("PORT".to_owned(), "8081".to_owned());
    env.vars.insert("EMPTY".to_owned(), String::new());
    env.vars.insert("NESTED".to_owned(), "${env:PORT}".to_owned());
    env.files.insert("secret".into(), "word\n".to_owned());
    env
}

/// A sound document without warnings.
#[track_caller]
fn sound(text: &str) -> Document {
    let (document, report) = parse_str("t.toml", text, &env());
    assert!(report.problems().is_empty(), "{}", report.render(false));
    document.expect("no problems, so a document")
}

/// The problems as one line each: `error 3:7 what | label | help`.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let (document, report) = parse_str("t.toml", text, &env());
    assert_eq!(lines(&report), expected, "\n{text}");
    remedied(&report);
    assert_eq!(document.is_some(), !expected.iter().any(|line| line.starts_with("error")));
}

/// Every error says what to do.
#[track_caller]
fn remedied(report: &crate::Report) {
    for problem in report.problems() {
        let bare = problem.severity == crate::Severity::Error && problem.help.is_none();
        assert!(!bare, "no help: {}", problem.what);
    }
}

fn lines(report: &crate::Report) -> Vec<String> {
    let json = report.to_json();
    let problems = json.as_array().expect("an array of problems");
    let line = |problem: &serde_json::Value| {
        let text = |field: &str| problem[field].as_str().unwrap_or("-").to_owned();
        let file = text("file").replace("t.toml", "");
        format!(
            "{} {file}{}{}:{} {} | {} | {}",
            text("severity"),
            if file.is_empty() { "" } else { ":" },
            problem["line"],
            problem["column"],
            text("what"),
            text("label"),
            text("help"),
        )
    };
    problems.iter().map(line).collect()
}

/// [`check`] with the base document before it; lines count from its end.
#[track_caller]
fn check_body(body: &str, expected: &[&str]) {
    check(&format!("{BASE}{body}"), expected);
}

#[test]
fn the_form_of_a_problem() {
    let text = "[server]\nlisten = \":8080\"\n\n[[upstreams]]\nname = \"users\"\nservers = [\"127.0.0.1:1\"]\n\n\n\n[[routes]]\nuri = \"/é\"\nupstream = \"user\" # grüße\n";
    let (_, report) = parse_str("ringway.toml", text, &env());
    let expected = "\
error: unknown upstream `user`
  --> ringway.toml:12:12
   |
12 | upstream = \"user\" # grüße
   |            ^^^^^^ no upstream has this name
help: did you mean `users` (ringway.toml:5)?

1 error
";
    assert_eq!(report.render(false), expected);
    assert!(report.render(true).contains("\u{1b}["), "colours for a terminal");
    let json = report.to_json();
    assert_eq!(json[0]["path"], "routes[0].upstream");
    assert_eq!(json[0]["line"], 12);
}

#[test]
fn a_line_without_end_is_shown_in_part() {
    let many = "\"127.0.0.1:1\", ".repeat(10_000);
    let text = format!("{BASE}[[routes]]\nupstream = [{many}\"127.0.0.1:x\", {many}]\n");
    let (_, report) = parse_str("t.toml", &text, &env());
    let shown = report.render(false);
    assert!(shown.len() < 2000, "{} bytes", shown.len());
    assert!(shown.contains("t.toml:4:150014"), "{shown}");
}

#[test]
fn five_lines_are_a_gateway() {
    let document = sound(
        "[server]\nlisten = \":8080\"\n\n[[routes]]\nupstream = [\"127.0.0.1:3000\", \"127.0.0.1:3001\"]\n",
    );
    assert_eq!(document.listeners[0].address.to_string(), ":8080");
    assert_eq!(document.listeners[0].name, ":8080");
    let route = &document.routes[0];
    assert_eq!(route.uris, ["/*"]);
    assert!(route.id.starts_with("route-"));
    let Some(UpstreamRef::Inline(upstream)) = &route.upstream else { panic!("{:?}", route.upstream) };
    assert_eq!(upstream.id, format!("route:{}", route.id));
    assert_eq!(upstream.nodes.len(), 2);
    assert_eq!(document.server.drain_timeout, Duration::from_secs(30));
    assert_eq!(document.server.limits.connections, 200_000);
    assert_eq!(document.digest.len(), 64);
}

/// The upstream of the only route, as text: an id, or its nodes.
#[track_caller]
fn check_upstream(field: &str, expected: &str) {
    let named = "[[upstreams]]\nid = \"1\"\nname = \"backend\"\nservers = [\"127.0.0.1:9\"]\n";
    let document = sound(&format!("{BASE}{named}[[routes]]\n{field}\n"));
    let found = match &document.routes[0].upstream {
        None => "none".to_owned(),
        Some(UpstreamRef::Id(id)) => format!("id {id}"),
        Some(UpstreamRef::Inline(upstream)) => {
            let node = |node: &crate::Node| {
                let mut text = format!("{}*{}", node.address, node.weight);
                for (set, mark) in [(node.backup, " backup"), (node.down, " down")] {
                    text.push_str(if set { mark } else { "" });
                }
                if node.priority != 0 {
                    text.push_str(&format!(" priority={}", node.priority));
                }
                if let (Some(fails), Some(time)) = (node.max_fails, node.fail_timeout) {
                    text.push_str(&format!(" {fails} in {time:?}"));
                }
                text
            };
            upstream.nodes.iter().map(node).collect::<Vec<_>>().join(", ")
        }
    };
    assert_eq!(found, expected, "{field}");
}

#[test]
fn forms_of_an_upstream() {
    check_upstream(r#"upstream_id = "1""#, "id 1");
    check_upstream("upstream_id = 1", "id 1");
    check_upstream(r#"upstream = "backend""#, "id 1");
    check_upstream(r#"upstream = "1""#, "id 1");
    check_upstream(r#"proxy_pass = "http://backend""#, "id 1");
    check_upstream(r#"proxy_pass = "http://backend/""#, "id 1");
    check_upstream(r#"proxy_pass = "http://10.0.0.1:81""#, "10.0.0.1:81*1");
    check_upstream(r#"proxy_pass = "http://app.example.com""#, "app.example.com:80*1");
    check_upstream(r#"proxy_pass = "http://unix:/run/app""#, "unix:/run/app*1");
    check_upstream(r#"upstream = "127.0.0.1:3000""#, "127.0.0.1:3000*1");
    check_upstream(r#"upstream = "localhost:3000 weight=3 backup""#, "localhost:3000*3 backup");
    check_upstream(r#"upstream = "unix:/run/app""#, "unix:/run/app*1");
    check_upstream(r#"upstream = "[::1]:80""#, "[::1]:80*1");
    check_upstream(r#"upstream = ["A.b:1", "10.0.0.1"]"#, "a.b:1*1, 10.0.0.1:80*1");
    check_upstream(
        r#"upstream = { servers = ["a:1 max_fails=3 fail_timeout=30s down", "b:2 fail_timeout=10 max_fails=0"] }"#,
        "a:1*1 down 3 in 30s, b:2*1 0 in 10s",
    );
    check_upstream(r#"upstream = { nodes = { "a:1" = 0, "[::1]:2" = 5 } }"#, "a:1*0, [::1]:2*5");
    check_upstream(
        r#"upstream = { nodes = [{ host = "a", port = 1, weight = 2, priority = -1 }, { host = "::1", port = 2 }] }"#,
        "a:1*2 priority=-1, [::1]:2*1",
    );
    check_upstream("plugins = {}", "none");
}

#[test]
fn a_leading_dot_is_a_wildcard() {
    #[track_caller]
    fn check(hosts: &str, expected: &str) {
        let document = sound(&format!("{BASE}[[routes]]\nhosts = {hosts}\nupstream = \"127.0.0.1:1\"\n"));
        assert_eq!(document.routes[0].hosts.join(" "), expected);
    }
    check("[\".Example.com\", \"a.b\"]", "*.example.com a.b");
    check("[\".example.com:8443\"]", "*.example.com:8443");
    check("[\"*.example.com\"]", "*.example.com");
}

#[test]
fn addresses() {
    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let found = NodeAddress::parse(text).map(|address| address.to_string());
        assert_eq!(found, expected.map(str::to_owned), "{text}");
    }
    check("10.0.0.1", Ok("10.0.0.1:80"));
    check("Example.COM:8080", Ok("example.com:8080"));
    check("[2001:db8::1]:443", Ok("[2001:db8::1]:443"));
    check("unix:/a", Ok("unix:/a"));
    check("10.0.0.1:0", Err("the port is no number from 1 to 65535"));
    check("10.0.0.1:+80", Err("the port is no number from 1 to 65535"));
    check("10.0.0:80", Err("no IPv4 address"));
    check("[x]:80", Err("no IPv6 address in the brackets"));
    check(":80", Err("the host is missing"));
    check("a b:80", Err("no host name"));
}

#[test]
fn resolution_of_strings() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let document = sound(&format!("{BASE}workdir = '{text}'\n[[routes]]\nupstream = \"127.0.0.1:1\"\n"));
        assert_eq!(document.server.workdir, Path::new(expected), "{text}");
    }
    check("/a/${env:PORT}/b", "/a/8081/b");
    check("${env:PORT}${env:PORT}", "80818081");
    check("${env:NOPE:-x}", "x");
    check("${env:NOPE:-}y", "y");
    check("${env:EMPTY:-x}", "x");
    check("a${env:EMPTY}", "a");
    check("${env:NOPE:-a:-b}", "a:-b");
    check("${file:secret}", "word");
    check("$${env:PORT}", "${env:PORT}");
    check("${env:NESTED}", "${env:PORT}");
    check("$1 ${remote_addr} $", "$1 ${remote_addr} $");
    check("é${env:PORT}é", "é8081é");
}

#[test]
fn escapes_hide_no_reference() {
    let document = sound("[server]\nlisten = \":8080\"\nworkdir = \"\\u0024{env:PORT}\"\n[[routes]]\nupstream = \"127.0.0.1:1\"\n");
    assert_eq!(document.server.workdir, Path::new("8081"));
}

/// A document of several files; the first is the main one.
#[track_caller]
fn check_files(files: &[(&str, &str)], expected: Result<&str, &[&str]>) {
    let mut env = env();
    for (path, text) in files {
        env.files.insert(path.into(), (*text).to_owned());
    }
    let (document, report) = parse_file(Path::new(files[0].0), &env);
    match expected {
        Ok(routes) => {
            let document = document.unwrap_or_else(|| panic!("{}", report.render(false)));
            let ids: Vec<&str> = document.routes.iter().map(|route| route.id.as_str()).collect();
            assert_eq!(ids.join(" "), routes);
        }
        Err(problems) => {
            assert_eq!(lines(&report), problems);
            remedied(&report);
        }
    }
}

fn route(id: &str) -> String {
    format!("[[routes]]\nid = \"{id}\"\nuri = \"/{id}\"\nupstream = \"127.0.0.1:1\"\n")
}

#[test]
fn includes() {
    let main = format!("include = [\"conf.d/*.toml\"]\n{BASE}{}", route("main"));
    let (a, b) = (route("a"), route("b"));
    check_files(
        &[("etc/t.toml", &main), ("etc/conf.d/b.toml", &b), ("etc/conf.d/a.toml", &a)],
        Ok("main a b"),
    );
    check_files(
        &[("/etc/t.toml", &main), ("/etc/conf.d/a.toml", &a), ("/etc/conf.d/.x.toml", &b)],
        Ok("main a"),
    );
    check_files(&[("t.toml", &main)], Ok("main"));
    let nested = format!("include = \"more/?.toml\"\n{a}");
    check_files(
        &[
            ("t.toml", &main),
            ("conf.d/a.toml", &nested),
            ("conf.d/more/b.toml", &b),
            ("conf.d/more/bb.toml", "x"),
        ],
        Ok("main a b"),
    );
    let log = "[log]\nlevel = \"info\"\n";
    check_files(
        &[("t.toml", &main), ("conf.d/a.toml", log), ("conf.d/b.toml", log)],
        Err(&["error conf.d/b.toml:1:2 `log` is written in two files | the first is conf.d/a.toml:1 | write a single table in one file; only [[arrays]] of tables add up"]),
    );
    let itself = format!("include = \"*.toml\"\n{a}");
    check_files(
        &[("t.toml", &main), ("conf.d/a.toml", &itself)],
        Err(&[
            "error conf.d/a.toml:1:11 conf.d/a.toml includes itself | by this, or through other files | remove one of the includes",
        ]),
    );
    let twice = format!("include = [\"conf.d/a.toml\", \"conf.d/*\"]\n{BASE}");
    check_files(
        &[("t.toml", &twice), ("conf.d/a.toml", &a)],
        Err(&[
            "error 1:29 conf.d/a.toml is included twice | the first is t.toml:1 | remove one of the includes",
        ]),
    );
    let missing = format!("include = [\"gone.toml\", \"**/x\", 5]\n{BASE}{a}");
    check_files(
        &[("t.toml", &missing)],
        Err(&[
            "error 1:12 cannot read gone.toml | there is no such file | write a file that is there and can be read; a relative one begins at the folder of the file that names it",
            "error 1:25 invalid include `**/x` |  | `*` and `?` stand for parts of one name: \"conf.d/*.toml\"",
            "error 1:33 expected a string, found an integer | must be a string | include = [\"conf.d/*.toml\"]",
        ]),
    );
    let broken = format!("{}x = 1\n", route("main"));
    check_files(
        &[("t.toml", &main), ("conf.d/a.toml", &broken)],
        Err(&[
            "error conf.d/a.toml:2:6 two routes have the id `main` | the first is t.toml:5 | give one of them another name",
            "error conf.d/a.toml:5:1 unknown field `x` | a route has no such field | remove it",
        ]),
    );
    check_files(&[("t.toml", "include = \"x\"\n"), ("x", BASE)], Ok(""));
}

#[test]
fn a_file_that_is_not_there() {
    let (document, report) = parse_file(Path::new("gone.toml"), &env());
    assert!(document.is_none());
    assert_eq!(
        report.render(false),
        "error: cannot read gone.toml: there is no such file\nhelp: name the file with -c\n\n1 error\n"
    );
}

#[test]
fn generated_ids_stay() {
    let route =
        |uri: &str, rest: &str| format!("[[routes]]\nuri = \"{uri}\"\nupstream = \"127.0.0.1:1\"\n{rest}");
    let ids = |text: String| -> Vec<String> {
        let (document, report) = parse_str("t.toml", &format!("{BASE}{text}"), &env());
        let document = document.unwrap_or_else(|| panic!("{}", report.render(false)));
        document.routes.iter().map(|route| route.id.clone()).collect()
    };
    let before = ids(route("/a", "") + &route("/b", ""));
    let after = ids(route("/new", "") + &route("/a", "plugins = { x = {} }\n") + &route("/b", ""));
    assert_eq!(before, after[1..], "inserting renames no other, a changed plugin none at all");
    let twins = ids(route("/a", "") + &route("/a", "") + &route("/a", ""));
    assert_eq!(twins, [before[0].clone(), format!("{}-2", before[0]), format!("{}-3", before[0])]);
    let taken = ids(route("/a", "") + &route("/x", &format!("id = \"{}\"\n", before[0])));
    assert_eq!(taken, [format!("{}-2", before[0]), before[0].clone()]);
}

#[test]
fn differences() {
    #[track_caller]
    fn check(old: &str, new: &str, expected: &str) {
        let base = "[server]\nlisten = \":1\"\n";
        let read = |text: &str| {
            let (document, report) = parse_str("t.toml", &format!("{base}{text}"), &env());
            document.unwrap_or_else(|| panic!("{}", report.render(false)))
        };
        let (old, new) = (read(old), read(new));
        assert_eq!(Diff::between(&old, &new).to_string(), expected);
        assert_eq!(Diff::between(&old, &new).is_empty(), old == new);
    }
    let (a, b, c) = (route("a"), route("b"), route("c"));
    check(&a, &a, "nothing changed");
    check(&a, &format!("\n# moved\n\n{a}"), "nothing changed");
    check(&format!("{a}{b}"), &format!("{a}priority = 1\n{b}{c}"), "routes: +1 ~1 -0");
    check(&format!("{a}{b}"), &b, "routes: +0 ~0 -1");
    check(&a, &format!("via = true\n{a}"), "server: changed");
    check(&a, &format!("[control]\nlisten = \"off\"\n{a}"), "control: changed");
    check(&a, &format!("[discovery.dns]\nservers = [\"::1\"]\n{a}"), "discovery: changed");
    let up = "[[upstreams]]\nname = \"u\"\nservers = [\"127.0.0.1:1\"]\n";
    check(&a, &format!("{up}{a}"), "upstreams: +1 ~0 -0");
    for line in ["sticky = true", "hedge = { after = 1 }", "checks = { passive = {} }", "slow_start = 5"] {
        check(&format!("{up}{a}"), &format!("{up}{line}\n{a}"), "upstreams: +0 ~1 -0");
    }
    check(&a, &format!("{a}vars = [[\"uri\", \"~~\", \"x\"]]\n"), "routes: +0 ~1 -0");
}

#[test]
fn the_digest_is_of_what_is_said() {
    let digest = |text: &str| sound(&format!("{BASE}{text}")).digest;
    let plain = digest(&route("a"));
    assert_eq!(plain, digest(&format!("# a comment\n{}", route("a"))));
    assert_ne!(plain, digest(&route("b")));
    let port = "[status]\nlisten = \"127.0.0.1:${env:PORT}\"\n";
    assert_eq!(
        digest(&format!("{port}{}", route("a"))),
        digest(&format!("{}{}", port.replace("${env:PORT}", "8081"), route("a")))
    );
}

#[test]
fn plugins_are_kept_as_written() {
    let text = format!(
        "{BASE}[[routes]]\n[routes.plugins.limit-count]\ncount = 5\n_meta = {{ disable = true, priority = 7, error_response = \"no\" }}\nkey = \"arg_x\"\n"
    );
    let document = sound(&text);
    let entry = &document.routes[0].plugins[0];
    assert_eq!(entry.name, "limit-count");
    assert_eq!(entry.value.to_json().to_string(), r#"{"count":5,"key":"arg_x"}"#);
    assert!(entry.meta.disable);
    assert_eq!(entry.meta.priority, Some(7));
    assert_eq!(document.sources.locate(entry.place).as_deref(), Some("t.toml:4:17"));
}

#[test]
fn the_working_directory() {
    #[track_caller]
    fn check(vars: &[(&str, &str)], expected: &str) {
        let mut env = MapEnv::default();
        env.vars.extend(vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let (document, _) = parse_str("t.toml", BASE, &env);
        assert_eq!(document.map(|it| it.server.workdir).as_deref(), Some(Path::new(expected)));
    }
    check(&[], "/var/lib/ringway");
    check(&[("HOME", "/home/a")], "/home/a/.local/state/ringway");
    check(&[("HOME", "/home/a"), ("XDG_STATE_HOME", "/s")], "/s/ringway");
    check(&[("STATE_DIRECTORY", "/var/lib/x:/y"), ("XDG_STATE_HOME", "/s")], "/var/lib/x");
}
