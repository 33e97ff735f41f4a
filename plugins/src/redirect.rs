//! `redirect`: sends the client elsewhere.
//!
//! One of three ways: `http_to_https`, `uri` (with variables), or `regex_uri` on the
//! path. APISIX takes the port for `http_to_https` from its own TLS listeners or a
//! plugin attribute; here it is the field `https_port`, 443 unless it is written.
//!
//! Bytes that no URI may hold are always percent-encoded in `Location`: `$uri` and
//! `$arg_x` arrive decoded, and a client could end the line with them. `encode_uri`
//! encodes `%` and `#` before the query as well.

use std::borrow::Cow;
use std::sync::Arc;

use config::vars::{Template, Var};
use config::{Reader, Report};
use proto::head::{reason_phrase, Method, Name};
use serde_json::json;

use crate::escape::{encode, Part};
use crate::substitute::{replace, Pattern, Replacement};
use crate::{settings, Answer, Exchange, Phases, Plugin, PluginInfo, Resume, Setup, Verdict};

pub(crate) const INFO: PluginInfo = PluginInfo {
    name: "redirect",
    priority: 900,
    phases: Phases::REWRITE,
    schema,
    doc: r#"
[[routes]]
host = "example.com"
upstream = "127.0.0.1:3000"

[routes.plugins.redirect]
uri = "https://www.example.com$request_uri"
ret_code = 308
"#,
    build,
};

struct Redirect {
    way: Way,
    status: u16,
    encode_uri: bool,
    append_query: bool,
}

/// Where to.
enum Way {
    /// The same address under https, on this port, for requests that came by http.
    Https { port: u16 },
    /// `uri`
    Uri(Template),
    /// `regex_uri`: for paths that match.
    Regex(Pattern, Replacement),
    /// `http_to_https = false`
    Nowhere,
}

impl Plugin for Redirect {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn phases(&self) -> Phases {
        INFO.phases
    }

    fn on_rewrite(&self, x: &mut dyn Exchange, _resume: Resume) -> Verdict {
        let Some(target) = self.target(x) else { return Verdict::Next };
        let status = match self.way {
            Way::Https { .. } => https_status(x.request().method()),
            _ => self.status,
        };
        let mut location = Vec::with_capacity(target.len() + 16);
        self.write_location(x, &target, &mut location);
        Verdict::Answer(answer(status, location))
    }
}

impl Redirect {
    /// Where this request is sent, `None` if it is not.
    fn target(&self, x: &dyn Exchange) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match &self.way {
            Way::Https { port } => {
                if !scheme(x).eq_ignore_ascii_case(b"http") {
                    return None;
                }
                out.extend_from_slice(b"https://");
                out.extend_from_slice(&x.var(&Var::Host)?);
                if *port != 443 {
                    out.extend_from_slice(format!(":{port}").as_bytes());
                }
                out.extend_from_slice(&x.var(&Var::RequestUri)?);
            }
            Way::Uri(template) => template.render(x.vars(), None, &mut out),
            Way::Regex(pattern, replacement) => return replace(pattern, replacement, false, x.uri()),
            Way::Nowhere => return None,
        }
        Some(out)
    }

    fn write_location(&self, x: &dyn Exchange, target: &[u8], out: &mut Vec<u8>) {
        let question = target.iter().position(|byte| *byte == b'?');
        let (path, query) = target.split_at(question.unwrap_or(target.len()));
        encode(path, if self.encode_uri { Part::Path } else { Part::Whole }, out);
        encode(query, Part::Whole, out);
        if !self.append_query {
            return;
        }
        if let Some(query) = x.query().filter(|query| !query.is_empty()) {
            out.push(if question.is_some() { b'&' } else { b'?' });
            encode(query, Part::Whole, out);
        }
    }
}

/// What a proxy in front says the client used, else what it used here.
fn scheme(x: &dyn Exchange) -> &[u8] {
    let forwarded = x.request().get(Name::XForwardedProto);
    forwarded.unwrap_or(x.scheme().as_bytes())
}

/// 308 keeps the method (RFC 9110 section 15.4.9); GET and HEAD need no keeping.
fn https_status(method: Method) -> u16 {
    match method {
        Method::Get | Method::Head => 301,
        _ => 308,
    }
}

/// The answer, with the short note that RFC 9110 section 15.4 asks for.
fn answer(status: u16, location: Vec<u8>) -> Answer {
    let location = String::from_utf8(location).expect("a percent-encoded URI is ASCII");
    let mut headers = vec![(Cow::Borrowed("Location"), location)];
    let mut body = Vec::new();
    if status >= 300 {
        let title = format!("{status} {}", reason_phrase(status));
        headers.push((Cow::Borrowed("Content-Type"), "text/html".to_owned()));
        body = format!(
            "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n\
             <center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
        )
        .into_bytes();
    }
    Answer { status, headers, body }
}

fn build(setup: &Setup<'_>, report: &mut Report) -> Option<Arc<dyn Plugin>> {
    settings::read(setup, report, |reader| {
        let append_query = reader.opt_bool("append_query_string").unwrap_or(false);
        let encode_uri = reader.opt_bool("encode_uri").unwrap_or(false);
        let status = reader.range("ret_code", 200..=599).unwrap_or(302) as u16;
        let way = read_way(reader);
        if append_query && matches!(way, Some(Way::Https { .. })) {
            let what = "`http_to_https` keeps the query already";
            settings::problem(reader, "append_query_string", what, "leave it out");
        }
        Some(Redirect { way: way?, status, encode_uri, append_query })
    })
}

fn read_way(reader: &mut Reader<'_, '_>) -> Option<Way> {
    let to_https = reader.opt_bool("http_to_https");
    let port = reader.range("https_port", 1..=65535);
    let uri = reader.opt_str("uri");
    let regex = reader.list("regex_uri");
    let written = ["http_to_https", "uri", "regex_uri"].iter().filter(|way| reader.has(way)).count();
    if written != 1 {
        let what = "`redirect` takes exactly one of `http_to_https`, `uri`, `regex_uri`";
        settings::problem_here(reader, what, "write one of them, such as uri = \"/new\", and no other");
        return None;
    }
    if port.is_some() && to_https.is_none() {
        settings::problem(
            reader,
            "https_port",
            "`https_port` goes with `http_to_https`",
            "write http_to_https = true as well",
        );
    }
    if let Some(uri) = uri {
        if uri.len() < 2 {
            settings::problem(reader, "uri", "a target has at least 2 characters", "write uri = \"/new\"");
        }
        return Some(Way::Uri(Template::parse(uri)));
    }
    if reader.has("regex_uri") {
        let [pattern, replacement] = regex[..] else {
            let what = "`regex_uri` is an expression and its replacement";
            settings::problem(reader, "regex_uri", what, "[\"^/old/(.*)\", \"/new/$1\"]");
            return None;
        };
        let (pattern, replacement) = settings::substitution(reader, pattern, replacement, "jo")?;
        return Some(Way::Regex(pattern, replacement));
    }
    // `http_to_https = false` stands for "never" in APISIX, and so here.
    let port = port.unwrap_or(443) as u16;
    Some(if to_https? { Way::Https { port } } else { Way::Nowhere })
}

fn schema() -> serde_json::Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "ret_code": { "type": "integer", "minimum": 200, "maximum": 599, "default": 302 },
            "uri": { "type": "string", "minLength": 2 },
            "regex_uri": { "type": "array", "items": { "type": "string" }, "minItems": 2, "maxItems": 2 },
            "http_to_https": { "type": "boolean" },
            "https_port": { "type": "integer", "minimum": 1, "maximum": 65535, "default": 443 },
            "encode_uri": { "type": "boolean", "default": false },
            "append_query_string": { "type": "boolean", "default": false }
        },
        "oneOf": [
            { "required": ["uri"] },
            { "required": ["regex_uri"] },
            { "required": ["http_to_https"], "not": { "required": ["append_query_string"] } }
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{build, verdict_text, FakeExchange};

    /// `want`: the status and `Location`, or `Next`.
    #[track_caller]
    fn check(settings: serde_json::Value, request: &str, want: &str) {
        let plugin = build("redirect", settings).expect("settings hold");
        let text = verdict_text(&FakeExchange::new(request).ask(&*plugin));
        let head = text.split(" || ").next().expect("a head");
        assert_eq!(head.replace(" | Location:", "").replace(" | Content-Type: text/html", ""), want);
    }

    #[test]
    fn https() {
        let plain = json!({"http_to_https": true});
        check(plain.clone(), "GET /a%20b?c=d | Host: example.com", "301 https://example.com/a%20b?c=d");
        check(plain.clone(), "HEAD / | Host: example.com", "301 https://example.com/");
        check(plain.clone(), "POST / | Host: example.com", "308 https://example.com/");
        check(plain.clone(), "GET / | Host: example.com | X-Forwarded-Proto: https", "Next");
        check(
            plain.clone(),
            "GET / | Host: example.com | X-Forwarded-Proto: http",
            "301 https://example.com/",
        );
        check(plain, "GET /", "Next"); // HTTP/1.0 without a Host: there is nowhere to go
        check(json!({"http_to_https": true, "https_port": 9443}), "GET / | Host: h", "301 https://h:9443/");
        check(json!({"http_to_https": false}), "GET / | Host: h", "Next");
    }

    #[test]
    fn uri() {
        check(json!({"uri": "/x"}), "GET /", "302 /x");
        check(json!({"uri": "$uri/index.html", "ret_code": 301}), "GET /a%20b", "301 /a%20b/index.html");
        check(json!({"uri": "https://$host${uri}x$"}), "GET /a | Host: h", "302 https://h/ax$");
        check(json!({"uri": "/$arg_to"}), "GET /?to=%0d%0aSet-Cookie:%20a", "302 /%0D%0ASet-Cookie:%20a");
        check(json!({"uri": "$uri"}), "GET /100%25", "302 /100%");
        check(json!({"uri": "$uri?q=%20", "encode_uri": true}), "GET /100%25", "302 /100%25?q=%20");
        check(json!({"uri": "/x", "append_query_string": true}), "GET /?a=b", "302 /x?a=b");
        check(json!({"uri": "/x?c", "append_query_string": true}), "GET /?a=b", "302 /x?c&a=b");
        check(json!({"uri": "/x", "append_query_string": true}), "GET /", "302 /x");
    }

    #[test]
    fn regex_uri() {
        let settings = json!({"regex_uri": ["^/test/(.*)", "http://h/$1?x"], "append_query_string": true});
        check(settings.clone(), "GET /test/a?b", "302 http://h/a?x&b");
        check(settings, "GET /other", "Next");
    }

    #[test]
    fn has_a_short_note() {
        let plugin = build("redirect", json!({"uri": "/x", "ret_code": 303})).expect("settings hold");
        let Verdict::Answer(answer) = FakeExchange::new("GET /").ask(&*plugin) else { panic!("an answer") };
        assert!(String::from_utf8_lossy(&answer.body).contains("<h1>303 See Other</h1>"));
        let plugin = build("redirect", json!({"uri": "/x", "ret_code": 200})).expect("settings hold");
        let Verdict::Answer(answer) = FakeExchange::new("GET /").ask(&*plugin) else { panic!("an answer") };
        assert_eq!((answer.status, answer.body.len()), (200, 0));
    }

    #[test]
    fn refuses() {
        #[track_caller]
        fn check(settings: serde_json::Value, want: &str) {
            let problems = build("redirect", settings).err().unwrap_or_default();
            assert!(problems.starts_with(want), "{problems}");
        }
        let one = "`redirect` takes exactly one of";
        check(json!({}), one);
        check(json!({"uri": "/x", "http_to_https": true}), one);
        check(json!({"uri": "/x", "regex_uri": ["a", "b"]}), one);
        check(json!({"uri": "/"}), "a target has at least 2 characters");
        check(json!({"uri": "/x", "ret_code": 100}), "`ret_code` is out of range: 100");
        check(json!({"uri": "/x", "https_port": 1}), "`https_port` goes with `http_to_https`");
        check(
            json!({"http_to_https": true, "append_query_string": true}),
            "`http_to_https` keeps the query already",
        );
        check(json!({"regex_uri": ["a", "b", "c"]}), "`regex_uri` is an expression and its replacement");
        check(json!({"regex_uri": ["a(", "b"]}), "invalid regex `a(`");
    }
}
