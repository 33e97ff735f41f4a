//! `proxy-mirror`: sends a copy of some requests to somewhere else as well.
//!
//! The copy is made by the engine from what goes upstream, body and `Host` too, and
//! nothing of its answer is kept. APISIX decides in rewrite and builds the copy's
//! address in before_proxy, behind `proxy-rewrite`, whose priority is lower. Here
//! all of it is done in access: every rewrite is behind it then, so the target that
//! it copies is the one that goes upstream. As nginx does, the copy is sent only
//! when the request itself is: one that a later plugin refuses is not mirrored.

use std::sync::Arc;

use config::{Node, NodeAddress, Problem, Reader, Report, Upstream, UpstreamRef};
use serde_json::json;

use crate::escape::{encode, is_uri_text, Part};
use crate::{chance, settings, Exchange, Mirror, Phases, Plugin, PluginInfo, Resume, Setup, Verdict};

/// The smallest `sample_ratio`, as in APISIX's schema.
const RATIO_MIN: f64 = 0.00001;

pub(crate) const INFO: PluginInfo = PluginInfo {
    name: "proxy-mirror",
    priority: 1010,
    phases: Phases::ACCESS,
    schema,
    doc: r#"
[[routes]]
uri = "/api/*"
upstream = "127.0.0.1:3000"

[routes.plugins.proxy-mirror]
host = "http://127.0.0.1:3100"
path = "/shadow"
path_concat_mode = "prefix" # /api/x is copied to /shadow/api/x
sample_ratio = 0.1
"#,
    build,
};

struct ProxyMirror {
    /// Where copies go: one, the only entry of `upstreams`.
    upstreams: [UpstreamRef; 1],
    path: Option<Path>,
    /// The share of requests that are copied.
    sample_ratio: f64,
}

/// A path of the copy's own, percent-encoded.
enum Path {
    /// Instead of the request's.
    Replace(Vec<u8>),
    /// Before it, without a slash at its end.
    Prefix(Vec<u8>),
}

impl Plugin for ProxyMirror {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn phases(&self) -> Phases {
        INFO.phases
    }

    fn upstreams(&self) -> &[UpstreamRef] {
        &self.upstreams
    }

    fn on_access(&self, x: &mut dyn Exchange, _resume: Resume) -> Verdict {
        if chance::hits(x, self.sample_ratio) {
            let target = self.path.as_ref().map(|path| path.target(x.request().target()));
            x.mirror(Mirror { upstream: 0, target, host: None });
        }
        Verdict::Next
    }
}

impl Path {
    /// The copy's target for a request of this target.
    fn target(&self, original: &[u8]) -> Vec<u8> {
        let question = original.iter().position(|byte| *byte == b'?');
        let (path, query) = original.split_at(question.unwrap_or(original.len()));
        match self {
            Path::Replace(own) => [own, query].concat(),
            // `OPTIONS *` has no path to stand behind a prefix.
            Path::Prefix(own) if path == b"*" => [own, &b"/"[..]].concat(),
            Path::Prefix(own) => [own, path, query].concat(),
        }
    }
}

fn build(setup: &Setup<'_>, report: &mut Report) -> Option<Arc<dyn Plugin>> {
    settings::read(setup, report, |reader| {
        let address = read_host(reader);
        let path = read_path(reader);
        let sample_ratio = reader.opt_f64("sample_ratio").unwrap_or(1.0);
        if !(RATIO_MIN..=1.0).contains(&sample_ratio) {
            let what = format!("`sample_ratio` is out of range: {sample_ratio}");
            settings::problem(
                reader,
                "sample_ratio",
                &what,
                "write 0.00001 to 1; 0.1 is every tenth request",
            );
        }
        let id = format!("{}:{}", setup.owner, INFO.name);
        let mut upstream = Upstream::of(id, vec![Node::at(address?)], reader.value_place("host"));
        // A copy that is lost is lost: a name with several addresses gets no second one.
        upstream.retries = Some(0);
        Some(ProxyMirror { upstreams: [UpstreamRef::Inline(Arc::new(upstream))], path, sample_ratio })
    })
}

/// `host`: `http://name` or `http://name:port`.
fn read_host(reader: &mut Reader<'_, '_>) -> Option<NodeAddress> {
    let host = reader.req_str("host")?;
    let place = reader.value_place("host");
    let help = "write host = \"http://127.0.0.1:8080\"";
    let fault = match host.split_once("://") {
        Some(("http", address)) if !address.starts_with("unix:") => match NodeAddress::parse(address) {
            Ok(address) => return Some(address),
            Err(fault) => fault,
        },
        Some((scheme @ ("https" | "grpc" | "grpcs"), _)) => {
            let help = "write `http://`: copies go in the clear so far";
            settings::not_built(reader.report(), place, &format!("`{scheme}://` in `host`"), help);
            return None;
        }
        Some(_) => "only `http://` and a name or an address",
        None => "it begins with `http://`",
    };
    let problem = Problem::error(place, format!("`{host}` is no place for copies"));
    reader.report().push(problem.label(fault).help(help));
    None
}

fn read_path(reader: &mut Reader<'_, '_>) -> Option<Path> {
    let modes = [("replace", false), ("prefix", true)];
    let prefixes = reader.one_of("path_concat_mode", &modes).unwrap_or(false);
    let Some(path) = reader.opt_str("path") else {
        if reader.has("path_concat_mode") && !reader.has("path") {
            let place = reader.value_place("path_concat_mode");
            let what = "`path_concat_mode` has no effect without `path`";
            reader.report().warning(place, what, "write `path` as well");
        }
        return None;
    };
    let odd = path.chars().any(|letter| "?&".contains(letter) || !is_uri_text(letter));
    if !path.starts_with('/') || path.len() < 2 || odd {
        let what = "a path begins with `/` and goes on, percent-encoded, without `?` and `&`";
        settings::problem(reader, "path", what, "write path = \"/shadow\"");
    }
    let mut encoded = Vec::with_capacity(path.len());
    if !prefixes {
        encode(path.as_bytes(), Part::Whole, &mut encoded);
        return Some(Path::Replace(encoded));
    }
    encode(path.trim_end_matches('/').as_bytes(), Part::Whole, &mut encoded);
    Some(Path::Prefix(encoded))
}

fn schema() -> serde_json::Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["host"],
        "properties": {
            "host": { "type": "string", "pattern": "^http://([0-9a-zA-Z_.-]+|\\[[0-9a-fA-F:]+\\])(:[0-9]+)?$" },
            "path": { "type": "string", "pattern": "^/[^?&]+$" },
            "path_concat_mode": { "type": "string", "enum": ["replace", "prefix"], "default": "replace" },
            "sample_ratio": { "type": "number", "minimum": RATIO_MIN, "maximum": 1, "default": 1 }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{build, with, FakeExchange};

    /// The copy's target, `same` where it is the request's.
    #[track_caller]
    fn check(fields: serde_json::Value, request: &str, rewritten: Option<&str>, want: &str) {
        let settings = with(json!({"host": "http://127.0.0.1:1"}), fields);
        let plugin = build("proxy-mirror", settings).expect("settings hold");
        let mut x = FakeExchange::new(request);
        if let Some(target) = rewritten {
            x.set_uri(target.as_bytes());
        }
        assert!(matches!(x.ask(&*plugin), Verdict::Next));
        let [Mirror { upstream: 0, target, host: None }] = &x.mirrors[..] else { panic!("{:?}", x.mirrors) };
        let target = target.as_ref().map_or("same".into(), |target| String::from_utf8_lossy(target));
        assert_eq!(target, want, "{request}");
    }

    #[test]
    fn targets() {
        check(json!({}), "GET /a?b=c", None, "same");
        check(json!({}), "GET /a?b=c", Some("/x?y"), "same");
        let replace = json!({"path": "/own/"});
        check(replace.clone(), "GET /a%20b?c=d", None, "/own/?c=d");
        check(replace.clone(), "GET /a", None, "/own/");
        check(replace.clone(), "GET /a?q", Some("/x?y&q"), "/own/?y&q");
        check(replace, "OPTIONS /", Some("*"), "/own/");
        let prefix = |path| json!({"path": path, "path_concat_mode": "prefix"});
        check(prefix("/own"), "GET /a%2Fb/../c?d=%20", None, "/own/a%2Fb/../c?d=%20");
        check(prefix("/own/"), "GET /a", None, "/own/a");
        check(prefix("/o{w}n%20"), "GET /a", Some("/new/x?y"), "/o%7Bw%7Dn%20/new/x?y");
        check(prefix("/own"), "OPTIONS /", Some("*"), "/own/");
    }

    #[test]
    fn a_share_of_requests_is_copied() {
        #[track_caller]
        fn check(ratio: f64, least: usize, most: usize) {
            let settings = json!({"host": "http://127.0.0.1:1", "sample_ratio": ratio});
            let plugin = build("proxy-mirror", settings).expect("settings hold");
            let mut x = FakeExchange::new("GET /");
            for _ in 0..10_000 {
                x.ask(&*plugin);
            }
            assert!((least..=most).contains(&x.mirrors.len()), "{} for {ratio}", x.mirrors.len());
        }
        check(1.0, 10_000, 10_000);
        check(0.5, 4_800, 5_200);
        check(0.01, 60, 140);
        check(0.00001, 0, 3);
    }

    #[test]
    fn hosts() {
        #[track_caller]
        fn check(host: &str, want: &str) {
            let plugin = build("proxy-mirror", json!({"host": host}));
            let text = match &plugin {
                Err(problems) => problems.clone(),
                Ok(plugin) => match plugin.upstreams() {
                    [UpstreamRef::Inline(upstream)] => {
                        format!("{} {}", upstream.id, upstream.nodes[0].address)
                    }
                    other => panic!("{other:?}"),
                },
            };
            assert_eq!(text, want);
        }
        check("http://127.0.0.1:8080", "route:test:proxy-mirror 127.0.0.1:8080");
        check("http://Shadow.internal", "route:test:proxy-mirror shadow.internal:80");
        check("http://[::1]:81", "route:test:proxy-mirror [::1]:81");
        let not_built =
            "`https://` in `host` is not built yet (write `http://`: copies go in the clear so far)";
        check("https://shadow", not_built);
        check("grpc://shadow", &not_built.replace("https://", "grpc://"));
        for bad in
            ["127.0.0.1:80", "ftp://a", "http://", "http://a/b", "http://a:0", "http://unix:/x", "http://u@a"]
        {
            let want = format!("`{bad}` is no place for copies (write host = \"http://127.0.0.1:8080\")");
            check(bad, &want);
        }
    }

    #[test]
    fn refuses() {
        #[track_caller]
        fn check(fields: serde_json::Value, want: &str) {
            let settings = with(json!({"host": "http://a"}), fields);
            let problems = build("proxy-mirror", settings).err().unwrap_or_default();
            assert!(problems.starts_with(want), "{problems}");
        }
        assert_eq!(
            build("proxy-mirror", json!({})).err().unwrap_or_default(),
            "`host` is missing (add `host`)"
        );
        for bad in ["a", "/", "/a?b", "/a&b", "/a b", "/a#b", ""] {
            check(json!({"path": bad}), "a path begins with `/` and goes on");
        }
        check(json!({"path_concat_mode": "suffix"}), "unknown path concat mode `suffix`");
        check(json!({"sample_ratio": 0}), "`sample_ratio` is out of range: 0");
        check(json!({"sample_ratio": 1.1}), "`sample_ratio` is out of range: 1.1");
        check(json!({"sample_ratio": "all"}), "expected a number");
        check(json!({"host": 80}), "expected a string");
        check(json!({"upstream": {}}), "unknown field `upstream`");
    }
}
