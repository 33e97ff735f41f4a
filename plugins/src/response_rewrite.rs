//! `response-rewrite`: changes what the client is answered.
//!
//! With `body` or `filters` the body is no longer the upstream's, so
//! `Content-Length`, `Content-Encoding`, `ETag` and `Last-Modified` go, as in APISIX.
//! Filters see the body decoded: gzip and br are undone first. Under any other
//! coding an expression would be applied to compressed bytes, so such a response
//! passes as it is (APISIX drops the field and sends the coded bytes).
//!
//! Filters hold the body until its end, `max_resp_body_size` bytes of it: what lies
//! beyond is cut off, as in APISIX. Passing it unfiltered would be worse where a
//! filter hides something.

use std::io::Read;
use std::sync::Arc;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use config::expr::Expr;
use config::{Reader, Report};
use proto::head::{reason_phrase, Head, Method, Name};
use serde_json::json;

use crate::fields::{self, FieldEdits};
use crate::substitute::{replace, Pattern, Replacement};
use crate::{settings, Exchange, Phases, Plugin, PluginInfo, Resume, Setup, Transform, Verdict};

/// `max_resp_body_size` unless it is written: 64 MiB.
const BODY_BYTES_MAX_DEFAULT: u64 = 64 << 20;
/// Filters of one plugin at most.
const FILTERS_MAX: usize = 64;

pub(crate) const INFO: PluginInfo = PluginInfo {
    name: "response-rewrite",
    priority: 899,
    phases: Phases::RESPONSE,
    schema,
    doc: r#"
[[routes]]
upstream = "127.0.0.1:3000"

[routes.plugins.response-rewrite]
status_code = 200
vars = [["status", "==", "404"]]
filters = [{ regex = "internal-([0-9]+)", scope = "global", replace = "host-$1" }]

[routes.plugins.response-rewrite.headers]
add = ["Set-Cookie: seen=1; Path=/"]
set = { X-Served-For = "$remote_addr" }
remove = ["X-Powered-By"]
"#,
    build,
};

struct ResponseRewrite {
    status: Option<u16>,
    vars: Option<Expr>,
    body: Body,
    fields: FieldEdits,
}

/// What happens to the body.
enum Body {
    /// It stays.
    Same,
    /// This one instead.
    New(Vec<u8>),
    /// What the filters make of it.
    Filtered { filters: Arc<[Filter]>, body_bytes_max: usize },
}

struct Filter {
    pattern: Pattern,
    replacement: Replacement,
    all: bool,
}

/// How a body was coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Brotli,
}

impl Plugin for ResponseRewrite {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn phases(&self) -> Phases {
        INFO.phases
    }

    fn on_response(&self, x: &mut dyn Exchange, _resume: Resume) -> Verdict {
        if self.vars.as_ref().is_some_and(|vars| !vars.eval(x.vars())) {
            return Verdict::Next;
        }
        if let Some(status) = self.status {
            x.response_mut().set_status(status);
            x.response_mut().set_reason(reason_phrase(status).as_bytes());
        }
        match &self.body {
            Body::Same => {}
            Body::New(body) => {
                forget_body(x.response_mut());
                x.set_response_body(body.clone());
            }
            Body::Filtered { filters, body_bytes_max } => filter(x, filters, *body_bytes_max),
        }
        self.fields.apply(x, |x| x.response_mut(), None);
        Verdict::Next
    }
}

/// Installs the filters, unless there is no body or it cannot be read.
fn filter(x: &mut dyn Exchange, filters: &Arc<[Filter]>, body_bytes_max: usize) {
    let Some(coding) = coding(x.response()) else { return };
    forget_body(x.response_mut());
    if x.request().method() == Method::Head {
        return;
    }
    let filters = Arc::clone(filters);
    x.set_response_transform(Box::new(Filtering { filters, coding, held: Vec::new(), body_bytes_max }));
}

/// Removes what describes the body that goes.
fn forget_body(head: &mut Head) {
    for name in [Name::ContentLength, Name::ContentEncoding, Name::ETag, Name::LastModified] {
        head.remove(name);
    }
}

/// `None` for a coding that is not undone here, or several.
fn coding(head: &Head) -> Option<Coding> {
    if head.count(Name::ContentEncoding) > 1 {
        return None;
    }
    let value = head.get(Name::ContentEncoding).unwrap_or(b"").trim_ascii().to_ascii_lowercase();
    match &value[..] {
        b"" | b"identity" => Some(Coding::Identity),
        b"gzip" | b"x-gzip" => Some(Coding::Gzip),
        b"br" => Some(Coding::Brotli),
        _ => None,
    }
}

/// Holds a body to its end, then sends what the filters made of it.
struct Filtering {
    filters: Arc<[Filter]>,
    coding: Coding,
    held: Vec<u8>,
    body_bytes_max: usize,
}

impl Transform for Filtering {
    fn push(&mut self, input: &[u8], _out: &mut Vec<u8>) {
        let room = self.body_bytes_max - self.held.len();
        self.held.extend_from_slice(&input[..input.len().min(room)]);
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        let mut body = decode(std::mem::take(&mut self.held), self.coding, self.body_bytes_max);
        for filter in self.filters.iter() {
            if let Some(changed) = replace(&filter.pattern, &filter.replacement, filter.all, &body) {
                body = changed;
            }
        }
        out.extend_from_slice(&body);
    }
}

/// Undoes a coding, up to `bytes_max`: a small body may decode to terabytes. Where
/// the coded bytes break off or are wrong, what came before them stays.
fn decode(body: Vec<u8>, coding: Coding, bytes_max: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let limit = bytes_max as u64;
    let read = match coding {
        Coding::Identity => return body,
        Coding::Gzip => flate2::read::MultiGzDecoder::new(&body[..]).take(limit).read_to_end(&mut out),
        Coding::Brotli => {
            let decoder = brotli_decompressor::Decompressor::new(&body[..], 4096);
            decoder.take(limit).read_to_end(&mut out)
        }
    };
    // The head is on its way already; an error here can only shorten the body.
    drop(read);
    out
}

fn build(setup: &Setup<'_>, report: &mut Report) -> Option<Arc<dyn Plugin>> {
    settings::read(setup, report, |reader| {
        let status = reader.range("status_code", 200..=598).map(|status| status as u16);
        let vars = settings::condition(reader, "vars");
        let body = read_body(reader);
        let fields = FieldEdits::read(reader);
        if status.is_none() && matches!(body, Body::Same) && fields.is_empty() {
            let help = "name at least one of status_code, body, filters, headers";
            settings::problem_here(reader, "`response-rewrite` has nothing to do", help);
        }
        Some(ResponseRewrite { status, vars, body, fields })
    })
}

fn read_body(reader: &mut Reader<'_, '_>) -> Body {
    let base64 = reader.opt_bool("body_base64").unwrap_or(false);
    let sizes = 1..=usize::MAX as u64 / 2;
    let body_bytes_max =
        reader.size_range("max_resp_body_size", sizes).unwrap_or(BODY_BYTES_MAX_DEFAULT) as usize;
    let filters = settings::tables(reader, "filters", 1..=FILTERS_MAX, |_, filter| read_filter(filter));
    let Some(body) = reader.opt_str("body") else {
        if base64 {
            settings::problem(
                reader,
                "body_base64",
                "`body_base64` goes with `body`",
                "write `body` as well, or leave it out",
            );
        }
        return match filters {
            Some(filters) => Body::Filtered { filters: filters.into(), body_bytes_max },
            None => Body::Same,
        };
    };
    if filters.is_some() {
        let what = "`filters` and `body` exclude each other";
        settings::problem(reader, "filters", what, "leave one of them out");
    }
    if !base64 {
        return Body::New(body.as_bytes().to_vec());
    }
    let decoded = STANDARD.decode(body).unwrap_or_default();
    if decoded.is_empty() {
        settings::problem(reader, "body", "this is no base64", "or leave `body_base64` out");
    }
    Body::New(decoded)
}

fn read_filter(reader: &mut Reader<'_, '_>) -> Option<Filter> {
    let all = reader.one_of("scope", &[("once", false), ("global", true)]).unwrap_or(false);
    let options = reader.opt_str("options").unwrap_or("jo");
    let regex = (reader.req_str("regex"), reader.value_place("regex"));
    let replace = (reader.req_str("replace"), reader.value_place("replace"));
    if regex.0 == Some("") {
        settings::problem(
            reader,
            "regex",
            "an expression is a text that is not empty",
            "write regex = \"old\"",
        );
    }
    let (pattern, replacement) =
        settings::substitution(reader, (regex.0?, regex.1), (replace.0?, replace.1), options)?;
    Some(Filter { pattern, replacement, all })
}

fn schema() -> serde_json::Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "max_resp_body_size": { "type": "integer", "minimum": 1, "default": BODY_BYTES_MAX_DEFAULT },
            "status_code": { "type": "integer", "minimum": 200, "maximum": 598 },
            "body": { "type": "string" },
            "body_base64": { "type": "boolean", "default": false },
            "headers": fields::schema(),
            "vars": { "type": "array" },
            "filters": {
                "type": "array",
                "minItems": 1,
                "maxItems": FILTERS_MAX,
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["regex", "replace"],
                    "properties": {
                        "regex": { "type": "string", "minLength": 1 },
                        "scope": { "type": "string", "enum": ["once", "global"], "default": "once" },
                        "replace": { "type": "string" },
                        "options": { "type": "string", "default": "jo" }
                    }
                }
            }
        },
        "not": { "required": ["body", "filters"] }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::fake::{build, FakeExchange};

    fn run(settings: serde_json::Value, request: &str, response: &str, body: &[u8]) -> String {
        let plugin = build("response-rewrite", settings).expect("settings hold");
        let mut x = FakeExchange::new(request);
        x.respond(response);
        plugin.on_response(&mut x, Resume::Start);
        x.response_text(body)
    }

    /// `response` is `status | fields || body`, as is `want`.
    #[track_caller]
    fn check(settings: serde_json::Value, response: &str, want: &str) {
        let (head, body) = response.split_once(" || ").expect("head || body");
        assert_eq!(run(settings, "GET /", head, body.as_bytes()), want);
    }

    #[test]
    fn status_and_fields() {
        check(json!({"status_code": 404}), "200 | A: b || x", "404 | A: b || x");
        let headers = json!({"add": ["Set-Cookie: a=b; Path=/", "A: $status"], "set": {"B": "$remote_addr"}, "remove": ["c"]});
        check(
            json!({"headers": headers}),
            "200 | Set-Cookie: z=1 | B: old | C: gone | b: too || x",
            "200 | Set-Cookie: z=1 | B: 192.0.2.7 | Set-Cookie: a=b; Path=/ | A: 200 || x",
        );
        check(json!({"headers": {"A": 1, "B": "two"}}), "200 | a: 0 || x", "200 | a: 1 | B: two || x");
    }

    #[test]
    fn vars_decide() {
        let settings = json!({"vars": [["status", "==", 404]], "status_code": 200, "body": "none"});
        check(settings.clone(), "404 | ETag: e || x", "200 || none");
        check(settings, "403 | ETag: e || x", "403 | ETag: e || x");
    }

    #[test]
    fn body() {
        let old = "200 | Content-Length: 3 | ETag: e | Last-Modified: l | Content-Encoding: br | A: b || old";
        check(json!({"body": "new"}), old, "200 | A: b || new");
        check(json!({"body": "bmV3", "body_base64": true}), old, "200 | A: b || new");
        check(json!({"body": ""}), old, "200 | A: b || ");
    }

    #[test]
    fn filters() {
        let once = json!({"filters": [{"regex": "o", "replace": "0"}]});
        check(once.clone(), "200 | Content-Length: 3 | ETag: e || foo", "200 || f0o");
        check(
            once,
            "200 | Content-Encoding: zstd | ETag: e || foo",
            "200 | Content-Encoding: zstd | ETag: e || foo",
        );
        let global = json!({"filters": [
            {"regex": "(F)O", "scope": "global", "replace": "$1", "options": "i"},
            {"regex": "f", "replace": "[$0]"}
        ]});
        check(global, "200 || FoofO", "200 || Fo[f]");
        let cut = json!({"max_resp_body_size": 4, "filters": [{"regex": "^", "replace": "-"}]});
        check(cut, "200 || 1234567", "200 || -1234");
        let head = run(
            json!({"filters": [{"regex": "a", "replace": "b"}]}),
            "HEAD /",
            "200 | Content-Length: 9",
            b"",
        );
        assert_eq!(head, "200 || ");
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).expect("a Vec takes all");
        encoder.finish().expect("a Vec takes all")
    }

    #[test]
    fn filters_see_the_body_decoded() {
        let settings = json!({"filters": [{"regex": "secret", "replace": "***", "scope": "global"}]});
        let run = |coding: &str, body: &[u8]| {
            run(settings.clone(), "GET /", &format!("200 | Content-Encoding: {coding}"), body)
        };
        assert_eq!(run("gzip", &gzip(b"a secret")), "200 || a ***");
        assert_eq!(run("X-GZIP", &gzip(b"a secret")), "200 || a ***");
        // One uncompressed meta-block (RFC 7932 section 9.2).
        let brotli = b"\x8b\x03\x80a secret\x03";
        assert_eq!(run("br", brotli), "200 || a ***");
        assert_eq!(run("gzip", b"no gzip"), "200 || ");
        assert_eq!(run("gzip, br", b"secret"), "200 | Content-Encoding: gzip, br || secret");
    }

    #[test]
    fn a_bomb_decodes_to_the_bound_and_no_further() {
        let bomb = gzip(&vec![b'x'; 10 << 20]);
        assert_eq!(decode(bomb, Coding::Gzip, 1000).len(), 1000);
    }

    #[test]
    fn refuses() {
        #[track_caller]
        fn check(settings: serde_json::Value, want: &str) {
            let problems = build("response-rewrite", settings).err().unwrap_or_default();
            assert!(problems.starts_with(want), "{problems}");
        }
        check(json!({}), "`response-rewrite` has nothing to do");
        check(json!({"status_code": 599}), "`status_code` is out of range: 599");
        check(
            json!({"body": "a", "filters": [{"regex": "a", "replace": "b"}]}),
            "`filters` and `body` exclude",
        );
        check(json!({"body": "%", "body_base64": true}), "this is no base64");
        check(json!({"body": "", "body_base64": true}), "this is no base64");
        check(json!({"status_code": 200, "body_base64": true}), "`body_base64` goes with `body`");
        check(json!({"filters": []}), "`filters` has 1 to 64 tables");
        check(json!({"filters": [{"regex": "a"}]}), "`replace` is missing");
        check(
            json!({"filters": [{"regex": "", "replace": ""}]}),
            "an expression is a text that is not empty",
        );
        check(json!({"filters": [{"regex": "a", "replace": "b", "scope": "all"}]}), "unknown scope `all`");
        check(json!({"filters": [{"regex": "a", "replace": "b", "options": "q"}]}), "invalid regex `a`");
        check(json!({"filters": [{"regex": "(?<=a)b", "replace": "b"}]}), "invalid regex `(?<=a)b`");
        check(json!({"body": "a", "max_resp_body_size": 0}), "`max_resp_body_size` is out of range: 0");
    }
}
