//! An exchange for tests: heads and values, no sockets.
//!
//! Made from a request line and fields as they would be typed; the tests of the
//! plugins compare [`FakeExchange::request_text`] and [`FakeExchange::response_text`]
//! with what they expect, one line each.

use std::any::Any;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use config::vars::{Var, Vars};
use config::{Meta, Place, PluginEntry, Report};
use proto::head::{reason_phrase, Head, Version};

use crate::{Answer, Exchange, Phases, Plugin, Resume, SharedState, Transform, Verdict};

pub(crate) struct FakeExchange {
    pub request: Head,
    pub response: Head,
    path: Vec<u8>,
    query: Option<Vec<u8>>,
    /// As the client sent it; the request's own is what goes upstream.
    sent_target: Vec<u8>,
    host: Option<String>,
    pub client: IpAddr,
    pub now_millis: u64,
    pub seed: u64,
    added: Vec<(String, String)>,
    new_body: Option<Vec<u8>>,
    transforms: Vec<Box<dyn Transform>>,
    pub body: Option<Vec<u8>>,
    request_id: Option<String>,
    pub mirrors: Vec<crate::Mirror>,
    pub upstream_status: Option<u16>,
    slot: Option<Box<dyn Any>>,
}

impl FakeExchange {
    /// `GET /a?b=c | X-Name: value | Other: value`
    pub(crate) fn new(text: &str) -> FakeExchange {
        let mut parts = text.split(" | ");
        let (method, target) = parts.next().and_then(|line| line.split_once(' ')).expect("GET /target");
        let mut request = Head::new();
        request.set_request(method.as_bytes(), target.as_bytes(), Version::Http11);
        fill(&mut request, parts);
        let (raw_path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.as_bytes().to_vec())),
            None => (target, None),
        };
        let mut path = Vec::new();
        proto::target::normalize(raw_path.as_bytes(), &mut path).expect("a path");
        FakeExchange {
            request,
            response: Head::new(),
            path,
            query,
            sent_target: target.as_bytes().to_vec(),
            host: None,
            client: "192.0.2.7".parse().expect("an address"),
            now_millis: 1_700_000_000_000,
            seed: 7,
            added: Vec::new(),
            new_body: None,
            transforms: Vec::new(),
            body: None,
            request_id: None,
            mirrors: Vec::new(),
            upstream_status: None,
            slot: None,
        }
    }

    /// `200 | X-Name: value`
    pub(crate) fn respond(&mut self, text: &str) {
        let mut parts = text.split(" | ");
        let status = parts.next().and_then(|status| status.parse().ok()).expect("a status");
        self.response.set_response(status, reason_phrase(status).as_bytes(), Version::Http11);
        fill(&mut self.response, parts);
    }

    /// The request as it goes upstream, `host=` where a plugin chose one.
    pub(crate) fn request_text(&self) -> String {
        let method = String::from_utf8_lossy(self.request.method_bytes()).into_owned();
        let host = self.host.as_ref().map(|host| format!(" host={host}")).unwrap_or_default();
        let target = String::from_utf8_lossy(self.request.target());
        format!("{method} {target}{host}{}", fields_text(&self.request))
    }

    /// The response as it goes to the client, `body` being what the upstream sent.
    pub(crate) fn response_text(&mut self, body: &[u8]) -> String {
        let mut body = self.new_body.clone().unwrap_or_else(|| body.to_vec());
        for transform in &mut self.transforms {
            let mut out = Vec::new();
            // In three pieces: where they end is the network's choice.
            body.chunks(body.len().div_ceil(3).max(1)).for_each(|piece| transform.push(piece, &mut out));
            transform.finish(&mut out);
            body = out;
        }
        let mut text = format!("{}{}", self.response.status(), fields_text(&self.response));
        text.push_str(&self.added_text());
        format!("{text} || {}", String::from_utf8_lossy(&body))
    }

    /// Fields kept for the response so far.
    pub(crate) fn added_text(&self) -> String {
        self.added.iter().map(|(name, value)| format!(" | {name}: {value}")).collect()
    }

    /// Asks a plugin for the request side, as far as it gets without a wait.
    pub(crate) fn ask(&mut self, plugin: &dyn Plugin) -> Verdict {
        if plugin.phases().has(Phases::REWRITE) {
            match plugin.on_rewrite(self, Resume::Start) {
                Verdict::Next => {}
                other => return other,
            }
        }
        if plugin.phases().has(Phases::ACCESS) {
            return plugin.on_access(self, Resume::Start);
        }
        Verdict::Next
    }
}

fn fill<'t>(head: &mut Head, fields: impl Iterator<Item = &'t str>) {
    for field in fields {
        let (name, value) = field.split_once(": ").expect("Name: value");
        head.append(name.as_bytes(), value.as_bytes());
    }
}

fn fields_text(head: &Head) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    head.fields().map(|field| format!(" | {}: {}", text(field.name), text(field.value))).collect()
}

/// `302 | Location: /x || body` (without the bars where the body is empty), or the verdict's name.
pub(crate) fn verdict_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Answer(Answer { status, headers, body }) => {
            let fields: String = headers.iter().map(|(name, value)| format!(" | {name}: {value}")).collect();
            let body = if body.is_empty() {
                String::new()
            } else {
                format!(" || {}", String::from_utf8_lossy(body))
            };
            format!("{status}{fields}{body}")
        }
        other => format!("{other:?}"),
    }
}

impl Vars for FakeExchange {
    fn var(&self, name: &Var) -> Option<Cow<'_, [u8]>> {
        let owned = |text: String| Some(Cow::Owned(text.into_bytes()));
        match name {
            Var::Arg(arg) => proto::target::query_arg(self.query.as_deref()?, arg.as_bytes()),
            Var::Http(name) => self.request.get_named(name.as_bytes()).map(Cow::Borrowed),
            Var::Uri => Some(Cow::Borrowed(&self.path)),
            Var::RequestUri => Some(Cow::Borrowed(&self.sent_target)),
            Var::Host => self.request.get(proto::head::Name::Host).map(Cow::Borrowed),
            Var::Scheme => Some(Cow::Borrowed(b"http")),
            Var::RemoteAddr => owned(self.client.to_string()),
            Var::QueryString => Some(Cow::Borrowed(self.query.as_deref().unwrap_or(b""))),
            Var::RequestMethod => Some(Cow::Borrowed(self.request.method_bytes())),
            Var::Status => owned(self.response.status().to_string()),
            Var::RequestId => self.request_id.as_ref().map(|id| Cow::Borrowed(id.as_bytes())),
            Var::Other(name) if name == "is_args" => {
                Some(Cow::Borrowed(if self.query.is_some() { b"?" } else { b"" }))
            }
            _ => None,
        }
    }
}

impl Exchange for FakeExchange {
    fn vars(&self) -> &dyn Vars {
        self
    }
    fn request(&self) -> &Head {
        &self.request
    }
    fn request_mut(&mut self) -> &mut Head {
        &mut self.request
    }
    fn uri(&self) -> &[u8] {
        &self.path
    }
    fn query(&self) -> Option<&[u8]> {
        self.query.as_deref()
    }
    fn set_uri(&mut self, path_and_query: &[u8]) {
        assert!(path_and_query.is_ascii(), "an encoded target is ASCII");
        self.request.set_target(path_and_query);
    }
    fn set_host(&mut self, host: &[u8]) {
        self.host = Some(String::from_utf8(host.to_vec()).expect("a host is ASCII"));
    }
    fn scheme(&self) -> &str {
        "http"
    }
    fn body(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }
    fn response(&self) -> &Head {
        &self.response
    }
    fn response_mut(&mut self) -> &mut Head {
        &mut self.response
    }
    fn set_response_body(&mut self, body: Vec<u8>) {
        self.new_body = Some(body);
    }
    fn set_response_transform(&mut self, transform: Box<dyn Transform>) {
        self.transforms.push(transform);
    }
    fn add_response_header(&mut self, name: &str, value: &[u8]) {
        self.added.push((name.to_owned(), String::from_utf8_lossy(value).into_owned()));
    }
    fn client_addr(&self) -> IpAddr {
        self.client
    }
    fn now_millis(&self) -> u64 {
        self.now_millis
    }
    /// splitmix64: spread well, and the same in every run.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }
    fn set_request_id(&mut self, id: &str) {
        self.request_id = Some(id.to_owned());
    }
    fn upstream_status(&self) -> Option<u16> {
        self.upstream_status
    }

    fn mirror(&mut self, mirror: crate::Mirror) {
        self.mirrors.push(mirror);
    }

    fn slot(&mut self) -> &mut Option<Box<dyn Any>> {
        &mut self.slot
    }
}

/// An entry with these settings.
pub(crate) fn entry(name: &str, settings: serde_json::Value) -> PluginEntry {
    let place = Place::NOWHERE;
    PluginEntry { name: name.to_owned(), value: settings.into(), meta: Meta::default(), place }
}

/// An instance, or every error as `what (help)`, separated by `; `.
pub(crate) fn build(name: &str, settings: serde_json::Value) -> Result<Arc<dyn Plugin>, String> {
    build_in(&SharedState::new(), "route:test", name, settings)
}

pub(crate) fn build_in(
    shared: &SharedState,
    owner: &str,
    name: &str,
    settings: serde_json::Value,
) -> Result<Arc<dyn Plugin>, String> {
    let mut report = Report::new();
    let plugin = crate::build(&entry(name, settings), owner, shared, &mut report);
    plugin.ok_or_else(|| problems(&report))
}

/// `settings` with these fields added or replaced.
pub(crate) fn with(mut settings: serde_json::Value, fields: serde_json::Value) -> serde_json::Value {
    let fields = fields.as_object().expect("a table").clone();
    settings.as_object_mut().expect("a table").extend(fields);
    settings
}

/// Every problem of a report in one line.
pub(crate) fn problems(report: &Report) -> String {
    let text = |problem: &config::Problem| match &problem.help {
        Some(help) => format!("{} ({help})", problem.what),
        None => problem.what.clone(),
    };
    report.problems().iter().map(text).collect::<Vec<_>>().join("; ")
}
