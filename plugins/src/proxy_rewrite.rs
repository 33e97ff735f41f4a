//! `proxy-rewrite`: changes what the upstream is asked.
//!
//! The request's own query is kept: it follows what the rewritten URI brings,
//! after `&` or `?`, as in APISIX. Values put into the URI are percent-encoded for
//! where they stand (see `escape`); text the operator wrote keeps its escapes.
//! `use_real_request_uri_unsafe` starts from the bytes that the client sent and adds
//! no query: unsafe, since rules on the decoded path say nothing about it.

use std::borrow::Cow;
use std::sync::Arc;

use config::vars::{Template, Var, Vars};
use config::{Reader, Report};
use serde_json::json;

use crate::escape::{encode, is_uri_text, Part};
use crate::fields::{self, FieldEdits};
use crate::substitute::{group_of, Pattern, Piece, Replacement};
use crate::{settings, Exchange, Phases, Plugin, PluginInfo, Resume, Setup, Verdict};

/// As in APISIX's schema.
const URI_BYTES_MAX: usize = 4096;
/// Pairs of `regex_uri`: each may be tried for every request.
const REGEX_PAIRS_MAX: usize = 64;

const METHODS: &[&str] = &[
    "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "MKCOL", "COPY", "MOVE", "PROPFIND", "LOCK", "UNLOCK",
    "PATCH", "TRACE",
];

pub(crate) const INFO: PluginInfo = PluginInfo {
    name: "proxy-rewrite",
    priority: 1008,
    phases: Phases::REWRITE,
    schema,
    doc: r#"
[[routes]]
uri = "/api/*"
upstream = "127.0.0.1:3000"

[routes.plugins.proxy-rewrite]
regex_uri = ["^/api/(v[0-9]+)/(.*)", "/$2"]
host = "backend.internal"
method = "POST"

[routes.plugins.proxy-rewrite.headers]
set = { X-Api-Version = "$1", X-Client = "$remote_addr" }
remove = ["Cookie"]
"#,
    build,
};

struct ProxyRewrite {
    target: Target,
    /// Starts from the bytes that came, and leaves out encoding and query.
    raw: bool,
    host: Option<String>,
    method: Option<&'static str>,
    fields: FieldEdits,
}

/// Where the new URI comes from.
enum Target {
    /// It stays.
    Same,
    /// `uri`, cut at its first `?`.
    Uri { path: Template, query: Option<Template> },
    /// `regex_uri`: the first pair that matches.
    Regex(Vec<(Pattern, Replacement)>),
}

impl Plugin for ProxyRewrite {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn phases(&self) -> Phases {
        INFO.phases
    }

    fn on_rewrite(&self, x: &mut dyn Exchange, _resume: Resume) -> Verdict {
        if let Some(host) = &self.host {
            x.set_host(host.as_bytes());
        }
        match &self.target {
            Target::Regex(pairs) => self.rewrite_by_regex(x, pairs),
            Target::Uri { path, query } => {
                let target = self.render_uri(x, path, query.as_ref());
                x.set_uri(&target);
                self.edit(x, None);
            }
            Target::Same => {
                if self.raw {
                    let target = raw_target(x);
                    x.set_uri(&target);
                }
                self.edit(x, None);
            }
        }
        if let Some(method) = self.method {
            x.request_mut().set_method(method.as_bytes());
        }
        Verdict::Next
    }
}

impl ProxyRewrite {
    fn edit(&self, x: &mut dyn Exchange, captures: Option<&[&[u8]]>) {
        self.fields.apply(x, |x| x.request_mut(), captures);
    }

    fn render_uri(&self, x: &dyn Exchange, path: &Template, query: Option<&Template>) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let part = |part| Encoded { vars: x.vars(), part: if self.raw { Part::Whole } else { part } };
        path.render(&part(Part::Path), None, &mut out);
        if let Some(query) = query {
            out.push(b'?');
            query.render(&part(Part::Query), None, &mut out);
        }
        self.complete(x, out)
    }

    /// Applies the first pair that matches; its groups are there for the fields.
    fn rewrite_by_regex(&self, x: &mut dyn Exchange, pairs: &[(Pattern, Replacement)]) {
        // A copy: what the groups point to must outlast the change of the URI.
        let subject = if self.raw { raw_target(x) } else { x.uri().to_vec() };
        let found = pairs
            .iter()
            .find_map(|(pattern, replacement)| Some((pattern.get().captures(&subject)?, replacement)));
        let Some((captures, replacement)) = found else { return self.edit(x, None) };
        let whole = captures.get(0).expect("group 0 is the match itself");

        let mut writer =
            Writer { out: Vec::with_capacity(subject.len() + 64), part: Part::Path, raw: self.raw };
        writer.value(&subject[..whole.start()]);
        for piece in replacement.pieces() {
            match piece {
                Piece::Text(text) => writer.text(text),
                Piece::Group(group) => writer.value(group_of(&captures, *group)),
            }
        }
        writer.value(&subject[whole.end()..]);
        let target = self.complete(x, writer.out);
        x.set_uri(&target);
        let groups: Vec<&[u8]> = (0..captures.len()).map(|group| group_of(&captures, group)).collect();
        self.edit(x, Some(&groups));
    }

    /// Adds the request's own query, and the slash that every path begins with.
    fn complete(&self, x: &dyn Exchange, mut target: Vec<u8>) -> Vec<u8> {
        if target.first() != Some(&b'/') {
            target.insert(0, b'/');
        }
        if self.raw {
            return target;
        }
        if let Some(query) = x.query().filter(|query| !query.is_empty()) {
            target.push(if target.contains(&b'?') { b'&' } else { b'?' });
            target.extend_from_slice(query);
        }
        target
    }
}

/// The target as the client sent it.
fn raw_target(x: &dyn Exchange) -> Vec<u8> {
    x.var(&Var::RequestUri).map(Cow::into_owned).unwrap_or_else(|| x.request().target().to_vec())
}

/// Writes a URI: text as it is, values encoded for the part that was reached.
struct Writer {
    out: Vec<u8>,
    part: Part,
    raw: bool,
}

impl Writer {
    fn text(&mut self, text: &[u8]) {
        encode(text, Part::Whole, &mut self.out);
        if text.contains(&b'?') {
            self.part = Part::Query;
        }
    }

    fn value(&mut self, value: &[u8]) {
        let part = if self.raw { Part::Whole } else { self.part };
        encode(value, part, &mut self.out);
    }
}

/// Variables, encoded for a part of a URI. Those that hold a piece of the request
/// line are encoded already.
struct Encoded<'a> {
    vars: &'a dyn Vars,
    part: Part,
}

impl Vars for Encoded<'_> {
    fn var(&self, name: &Var) -> Option<Cow<'_, [u8]>> {
        let value = self.vars.var(name)?;
        let part = match name {
            Var::RequestUri | Var::QueryString => Part::Whole,
            Var::Other(name) if name == "is_args" => Part::Whole,
            _ => self.part,
        };
        let mut out = Vec::new();
        encode(&value, part, &mut out);
        Some(Cow::Owned(out))
    }
}

fn build(setup: &Setup<'_>, report: &mut Report) -> Option<Arc<dyn Plugin>> {
    settings::read(setup, report, |reader| {
        let by_uri = read_uri(reader);
        let by_regex = read_regex_uri(reader);
        // `uri` wins, as in APISIX.
        let target = by_uri.or(by_regex).unwrap_or(Target::Same);
        let host = reader.opt_str("host").map(str::to_owned);
        if host.as_deref().is_some_and(|host| !is_host(host)) {
            let help = "letters, digits, `-` and `.`, and a port if need be";
            settings::problem(reader, "host", "this is no host", help);
        }
        let words: Vec<_> = METHODS.iter().map(|method| (*method, *method)).collect();
        let method = reader.one_of("method", &words);
        let raw = reader.opt_bool("use_real_request_uri_unsafe").unwrap_or(false);
        let fields = FieldEdits::read(reader);
        let idle = matches!(target, Target::Same) && host.is_none() && method.is_none();
        if idle && !raw && fields.is_empty() {
            let help = "name at least one of uri, regex_uri, host, method, headers";
            settings::problem_here(reader, "`proxy-rewrite` has nothing to do", help);
        }
        Some(ProxyRewrite { target, raw, host, method, fields })
    })
}

fn read_uri(reader: &mut Reader<'_, '_>) -> Option<Target> {
    let uri = reader.opt_str("uri")?;
    if !uri.starts_with('/') || uri.len() > URI_BYTES_MAX {
        let what = format!("a URI begins with `/` and has at most {URI_BYTES_MAX} bytes");
        settings::problem(reader, "uri", &what, "write uri = \"/path\"");
    }
    if let Some(odd) = uri.chars().find(|letter| !is_uri_text(*letter)) {
        let what = format!("`{}` has to be percent-encoded in a URI", odd.escape_default());
        settings::problem(reader, "uri", &what, "write it as %XX, a space as %20");
    }
    let (path, query) = match uri.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (uri, None),
    };
    Some(Target::Uri { path: Template::parse(path), query: query.map(Template::parse) })
}

fn read_regex_uri(reader: &mut Reader<'_, '_>) -> Option<Target> {
    reader.has("regex_uri").then_some(())?;
    let list = reader.list("regex_uri");
    if list.is_empty() || list.len() % 2 != 0 || list.len() > 2 * REGEX_PAIRS_MAX {
        let what = "`regex_uri` is pairs of an expression and its replacement";
        settings::problem(reader, "regex_uri", what, "[\"^/old/(.*)\", \"/new/$1\", ...]");
        return None;
    }
    let pairs = list.chunks(2).filter_map(|pair| settings::substitution(reader, pair[0], pair[1], "jo"));
    Some(Target::Regex(pairs.collect()))
}

/// APISIX's pattern: `^[0-9a-zA-Z-.]+(:\d{1,5})?$`.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let name_holds = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    !name.is_empty() && name_holds && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn schema() -> serde_json::Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "minProperties": 1,
        "properties": {
            "uri": { "type": "string", "pattern": "^/.*", "minLength": 1, "maxLength": URI_BYTES_MAX },
            "method": { "type": "string", "enum": METHODS },
            "regex_uri": {
                "type": "array",
                "items": { "type": "string" },
                "minItems": 2,
                "maxItems": 2 * REGEX_PAIRS_MAX
            },
            "host": { "type": "string", "pattern": "^[0-9a-zA-Z-.]+(:\\d{1,5})?$" },
            "headers": fields::schema(),
            "use_real_request_uri_unsafe": { "type": "boolean", "default": false }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{build, FakeExchange};

    #[track_caller]
    fn check(settings: serde_json::Value, request: &str, want: &str) {
        let plugin = build("proxy-rewrite", settings).expect("settings hold");
        let mut x = FakeExchange::new(request);
        x.ask(&*plugin);
        assert_eq!(x.request_text(), want);
    }

    #[test]
    fn uri() {
        check(json!({"uri": "/new"}), "GET /old", "GET /new");
        check(json!({"uri": "/new"}), "GET /old?a=1&b", "GET /new?a=1&b");
        check(json!({"uri": "/new?x=1"}), "GET /old?a=1", "GET /new?x=1&a=1");
        check(json!({"uri": "/new?x=1"}), "GET /old", "GET /new?x=1");
        check(json!({"uri": "/new"}), "GET /old?", "GET /new");
        check(json!({"uri": "/v1$uri"}), "GET /a%20b%25", "GET /v1/a%20b%25");
        check(json!({"uri": "/v1$uri"}), "GET /a%3Fb/../c%23", "GET /v1/c%23");
        check(json!({"uri": "/$arg_name/x"}), "GET /?name=a%26%3Fb+c", "GET /a&%3Fb%20c/x?name=a%26%3Fb+c");
        check(
            json!({"uri": "/x?n=$arg_n"}),
            "GET /?n=a%26b%3D+c%0d%0a",
            "GET /x?n=a%26b%3D%20c%0D%0A&n=a%26b%3D+c%0d%0a",
        );
        check(json!({"uri": "/x%20y/$nothing"}), "GET /", "GET /x%20y/");
        check(json!({"uri": "/x${arg_n}y"}), "GET /?n=1", "GET /x1y?n=1");
        check(json!({"uri": "/p$request_uri"}), "GET /a%2Fb?c=%20", "GET /p/a%2Fb?c=%20&c=%20");
    }

    #[test]
    fn regex_uri() {
        let swap = json!({"regex_uri": ["^/iresty/(.*)/(.*)/(.*)", "/$1-$2-$3"]});
        check(swap.clone(), "GET /iresty/a/b/c", "GET /a-b-c");
        check(swap.clone(), "GET /other?x=1", "GET /other?x=1");
        check(swap, "GET /iresty/a%20/b/%3F?x=1", "GET /a%20-b-%3F?x=1");
        let pairs = json!({"regex_uri": ["^/a/(.*)", "/A/$1", "^/b/(.*)", "/B?rest=$1", "(.*)", "/all"]});
        check(pairs.clone(), "GET /a/1", "GET /A/1");
        check(pairs.clone(), "GET /b/1&2?q", "GET /B?rest=1%262&q");
        check(pairs, "GET /c", "GET /all");
        check(json!({"regex_uri": ["/b", "/x"]}), "GET /a/b/c/b", "GET /a/x/c/b"); // the match alone is replaced
        check(json!({"regex_uri": ["^/", ""]}), "GET /a", "GET /a"); // a path begins with a slash
        check(json!({"uri": "/wins", "regex_uri": ["^/", "/x"]}), "GET /a", "GET /wins");
    }

    #[test]
    fn fields_method_and_host() {
        let headers = json!({
            "add": {"X-Add": "1", "X-New": "$remote_addr"},
            "set": {"X-Set": "$arg_a$2", "X-Number": 7},
            "remove": ["x-gone"]
        });
        let settings = json!({"regex_uri": ["^/(a)(b)", "/$1"], "headers": headers, "method": "PUT", "host": "h.local:81"});
        check(
            settings.clone(),
            "GET /ab?a=%0d%0aX:%201 | X-Gone: 1 | X-Add: 0 | x-set: old",
            "PUT /a?a=%0d%0aX:%201 host=h.local:81 | X-Add: 0 | x-set: X: 1b | X-Add: 1 | X-New: 192.0.2.7 | X-Number: 7",
        );
        check(
            settings,
            "GET /z",
            "PUT /z host=h.local:81 | X-Add: 1 | X-New: 192.0.2.7 | X-Set:  | X-Number: 7",
        );
        check(
            json!({"headers": {"X-Old": "map", "set": "a name"}}),
            "GET /",
            "GET / | X-Old: map | set: a name",
        );
        check(json!({"headers": {"add": ["X-A: b: c", "X-D:"]}}), "GET /", "GET / | X-A: b: c | X-D: ");
        check(json!({"method": "GET"}), "BREW /pot", "GET /pot");
    }

    #[test]
    fn unsafe_request_uri() {
        let raw = json!({"use_real_request_uri_unsafe": true});
        check(raw, "GET /a%2Fb/../c?x=%20", "GET /a%2Fb/../c?x=%20");
        let regex = json!({"use_real_request_uri_unsafe": true, "regex_uri": ["^/(.*)", "/p/$1"]});
        check(regex, "GET /a%2Fb?x=1", "GET /p/a%2Fb?x=1");
        let uri = json!({"use_real_request_uri_unsafe": true, "uri": "/fixed"});
        check(uri, "GET /a?x=1", "GET /fixed");
    }

    #[test]
    fn refuses() {
        #[track_caller]
        fn check(settings: serde_json::Value, want: &str) {
            let problems = build("proxy-rewrite", settings).err().unwrap_or_default();
            assert!(problems.starts_with(want), "{problems}");
        }
        check(json!({}), "`proxy-rewrite` has nothing to do");
        check(json!({"uri": "x"}), "a URI begins with `/`");
        check(json!({"uri": "/a b"}), "` ` has to be percent-encoded");
        check(json!({"uri": "/\u{e4}"}), "`\\u{e4}` has to be percent-encoded");
        check(json!({"uri": "/\r\nX: 1"}), "`\\r` has to be percent-encoded");
        check(json!({"method": "get"}), "unknown method `get`");
        check(json!({"host": "a b"}), "this is no host");
        check(json!({"host": "a:99999"}), "this is no host");
        check(json!({"regex_uri": ["^/a"]}), "`regex_uri` is pairs");
        check(json!({"regex_uri": []}), "`regex_uri` is pairs");
        check(json!({"regex_uri": ["(", "/"]}), "invalid regex `(`");
        check(json!({"regex_uri": ["a", "/$x"]}), "invalid replacement `/$x`");
        check(json!({"headers": {}}), "`headers` is empty");
        check(json!({"headers": []}), "expected a table of fields, found an array");
        check(json!({"headers": {"A B": "1"}}), "`A B` is no field name");
        check(json!({"headers": {"set": {"A": "1\n2"}}}), "this is no field value");
        check(json!({"headers": {"set": {"A": []}}}), "expected a string or a number, found an array");
        check(json!({"headers": {"remove": ["a:"]}}), "`a:` is no field name");
        check(json!({"headers": {"add": ["nothing"]}}), "an added field is written");
        check(
            json!({"headers": {"sett": {"A": "b"}, "add": {"A": "b"}}}),
            "unknown field `sett` (did you mean `set`?)",
        );
        check(json!({"scheme": "https", "uri": "/"}), "unknown field `scheme`");
    }
}
