//! `checks`: by what a node is known to be well, or not.
//!
//! Fields and defaults are APISIX's (lua-resty-healthcheck's). There, `passive` needs
//! `active` beside it, since nothing else would bring a node back; here a trial
//! request does, so that either may stand alone.

use std::time::Duration;

use super::forms::{count, statuses, without_effect};
use crate::names;
use crate::place::Place;
use crate::reader::Reader;
use crate::report::{Problem, Report};
use crate::value::Value;

/// `checks`: who is well.
#[derive(Clone, Debug, PartialEq)]
pub struct Checks {
    /// Probes sent by control.
    pub active: Option<ActiveCheck>,
    /// What live traffic shows.
    pub passive: Option<PassiveCheck>,
}

/// `checks.active.type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbeKind {
    /// A GET over HTTP/1.1.
    #[default]
    Http,
    /// The same over TLS.
    Https,
    /// A connection that stands.
    Tcp,
    /// grpc.health.v1.Health/Check over HTTP/2 in the clear.
    Grpc,
}

/// `checks.active`
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveCheck {
    /// `type`
    pub kind: ProbeKind,
    /// How long one probe may take. Default 1 s.
    pub timeout: Duration,
    /// How many probes of this upstream run at once. Default 10.
    pub concurrency: usize,
    /// Path and query of the GET. Default `/`.
    pub http_path: String,
    /// Its Host (and SNI); the node's own where none is given.
    pub host: Option<String>,
    /// Another port than the node's.
    pub port: Option<u16>,
    /// Further fields, names and values.
    pub req_headers: Vec<(String, String)>,
    /// `https_verify_certificate`. Default true.
    pub verify: bool,
    /// The service that a gRPC probe asks for; empty is the whole server.
    pub grpc_service: String,
    /// `healthy.interval`: between probes of a healthy node; zero sends none. Default 1 s.
    pub healthy_interval: Duration,
    /// `unhealthy.interval`: between probes of an unhealthy one; zero sends none. Default 1 s.
    pub unhealthy_interval: Duration,
    /// `healthy.http_statuses`. Default 200, 302. None of them is in `unhealthy_statuses`.
    pub healthy_statuses: Vec<u16>,
    /// `unhealthy.http_statuses`. Default 429, 404, 500 to 505.
    pub unhealthy_statuses: Vec<u16>,
    /// `healthy.successes`. Default 2.
    pub successes: u32,
    /// `unhealthy.http_failures`. Default 5; 0 never counts. Likewise the next two.
    pub http_failures: u32,
    /// `unhealthy.tcp_failures`. Default 2.
    pub tcp_failures: u32,
    /// `unhealthy.timeouts`. Default 3.
    pub timeouts: u32,
}

/// `checks.passive`
#[derive(Clone, Debug, PartialEq)]
pub struct PassiveCheck {
    /// `healthy.http_statuses`. Default 200 to 208, 226, 300 to 308. None of them is in `unhealthy_statuses`.
    pub healthy_statuses: Vec<u16>,
    /// `unhealthy.http_statuses`. Default 429, 500, 503.
    pub unhealthy_statuses: Vec<u16>,
    /// `healthy.successes`. Default 5.
    pub successes: u32,
    /// `unhealthy.http_failures`. Default 5; 0 never counts. Likewise the next two.
    pub http_failures: u32,
    /// `unhealthy.tcp_failures`. Default 2.
    pub tcp_failures: u32,
    /// `unhealthy.timeouts`. Default 7.
    pub timeouts: u32,
}

/// Probes of one upstream at once, at most.
const CONCURRENCY_MAX: i64 = 1000;
/// The shortest time between two probes of a node.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// The most further fields of a probe.
const REQ_HEADERS_MAX: usize = 50;
/// The highest count of successes or failures: lua-resty-healthcheck keeps them in a byte.
const COUNT_MAX: u32 = 254;

const KINDS: &[(&str, ProbeKind)] = &[
    ("http", ProbeKind::Http),
    ("https", ProbeKind::Https),
    ("tcp", ProbeKind::Tcp),
    ("grpc", ProbeKind::Grpc),
];

impl Default for ActiveCheck {
    fn default() -> ActiveCheck {
        ActiveCheck {
            kind: ProbeKind::Http,
            timeout: Duration::from_secs(1),
            concurrency: 10,
            http_path: "/".to_owned(),
            host: None,
            port: None,
            req_headers: Vec::new(),
            verify: true,
            grpc_service: String::new(),
            healthy_interval: Duration::from_secs(1),
            unhealthy_interval: Duration::from_secs(1),
            healthy_statuses: vec![200, 302],
            unhealthy_statuses: vec![429, 404, 500, 501, 502, 503, 504, 505],
            successes: 2,
            http_failures: 5,
            tcp_failures: 2,
            timeouts: 3,
        }
    }
}

impl Default for PassiveCheck {
    fn default() -> PassiveCheck {
        PassiveCheck {
            healthy_statuses: (200..=208).chain([226]).chain(300..=308).collect(),
            unhealthy_statuses: vec![429, 500, 503],
            successes: 5,
            http_failures: 5,
            tcp_failures: 2,
            timeouts: 7,
        }
    }
}

impl Checks {
    /// Reads `checks`.
    pub(super) fn read(value: &Value, report: &mut Report) -> Checks {
        let mut reader = Reader::of("Checks", value, report);
        let active = reader.opt_value("active").map(|value| ActiveCheck::read(value, reader.report()));
        let passive = reader.opt_value("passive").map(|value| PassiveCheck::read(value, reader.report()));
        if active.is_none() && passive.is_none() && value.as_table().is_some() && !reader.has_unknown() {
            let problem = Problem::error(value, "`checks` is empty").label("neither `active` nor `passive`");
            reader.report().push(problem.help("write checks = { passive = {} } for APISIX's defaults"));
        }
        if let Some(active) = &active {
            let never = active.healthy_interval.is_zero() && passive.is_none();
            if never && !reader.has_errors() {
                let place = reader.value_place("active");
                let problem = Problem::warning(place, "the active check finds no node unhealthy");
                let label = "`healthy.interval = 0` sends no probe to a healthy node";
                reader.report().push(problem.label(label).help("add `passive`, or give an interval"));
            }
            let for_ever = active.unhealthy_interval.is_zero() && !active.healthy_interval.is_zero();
            if for_ever && active.can_take_out() && !reader.has_errors() {
                let place = reader.value_place("active");
                let problem = Problem::warning(place, "what the active check takes out never comes back");
                let label = "`unhealthy.interval = 0` sends no probe to an unhealthy node";
                reader.report().push(problem.label(label).help("give an interval"));
            }
        }
        reader.finish();
        Checks { active, passive }
    }
}

impl ActiveCheck {
    /// Whether any number of failures makes a node unhealthy.
    fn can_take_out(&self) -> bool {
        self.tcp_failures > 0 || self.timeouts > 0 || self.http_failures > 0
    }

    fn read(value: &Value, report: &mut Report) -> ActiveCheck {
        let mut reader = Reader::of("ActiveCheck", value, report);
        let default = ActiveCheck::default();
        let kind = reader.one_of("type", KINDS).unwrap_or_default();
        let mut check = ActiveCheck {
            kind,
            timeout: reader.opt_timeout("timeout").unwrap_or(default.timeout),
            concurrency: reader
                .range("concurrency", 1..=CONCURRENCY_MAX)
                .map_or(default.concurrency, |most| most as usize),
            http_path: path(&mut reader).unwrap_or(default.http_path),
            host: host(&mut reader),
            port: reader.range("port", 1..=65_535).map(|port| port as u16),
            req_headers: req_headers(&mut reader),
            verify: reader.opt_bool("https_verify_certificate").unwrap_or(default.verify),
            grpc_service: reader.opt_str("grpc_service").unwrap_or_default().to_owned(),
            ..ActiveCheck::default()
        };
        if matches!(kind, ProbeKind::Tcp | ProbeKind::Grpc) {
            without_effect(&mut reader, "http_path", "write type = \"http\" for a GET");
        }
        if kind != ProbeKind::Grpc {
            without_effect(&mut reader, "grpc_service", "write type = \"grpc\" as well");
        }
        let healthy = reader.opt_value("healthy").map(|value| check.healthy(value, reader.report()));
        let unhealthy = reader.opt_value("unhealthy").map(|value| check.unhealthy(value, reader.report()));
        let place = reader.value_place("unhealthy");
        let written = (healthy.flatten(), unhealthy.flatten());
        let defaults = (default.healthy_statuses, default.unhealthy_statuses);
        (check.healthy_statuses, check.unhealthy_statuses) = apart(written, defaults, place, reader.report());
        reader.finish();
        check
    }

    fn healthy(&mut self, value: &Value, report: &mut Report) -> Option<Vec<u16>> {
        let mut reader = Reader::of("ActiveHealthy", value, report);
        self.healthy_interval = interval(&mut reader).unwrap_or(self.healthy_interval);
        self.successes = count(&mut reader, "successes", 1..=COUNT_MAX).unwrap_or(self.successes);
        let statuses = statuses(&mut reader, "http_statuses", 200..=599);
        reader.finish();
        statuses
    }

    fn unhealthy(&mut self, value: &Value, report: &mut Report) -> Option<Vec<u16>> {
        let mut reader = Reader::of("ActiveUnhealthy", value, report);
        self.unhealthy_interval = interval(&mut reader).unwrap_or(self.unhealthy_interval);
        let counts = [&mut self.http_failures, &mut self.tcp_failures, &mut self.timeouts];
        failures(&mut reader, counts);
        let statuses = statuses(&mut reader, "http_statuses", 200..=599);
        reader.finish();
        statuses
    }
}

impl PassiveCheck {
    fn read(value: &Value, report: &mut Report) -> PassiveCheck {
        let mut reader = Reader::of("PassiveCheck", value, report);
        let mut check = PassiveCheck::default();
        // APISIX's: says what is spoken, and traffic is what it is.
        reader.one_of("type", KINDS);
        let healthy = reader.opt_value("healthy").map(|value| check.healthy(value, reader.report()));
        let unhealthy = reader.opt_value("unhealthy").map(|value| check.unhealthy(value, reader.report()));
        let place = reader.value_place("unhealthy");
        let written = (healthy.flatten(), unhealthy.flatten());
        let default = PassiveCheck::default();
        let defaults = (default.healthy_statuses, default.unhealthy_statuses);
        (check.healthy_statuses, check.unhealthy_statuses) = apart(written, defaults, place, reader.report());
        reader.finish();
        check
    }

    fn healthy(&mut self, value: &Value, report: &mut Report) -> Option<Vec<u16>> {
        let mut reader = Reader::of("PassiveHealthy", value, report);
        self.successes = count(&mut reader, "successes", 0..=COUNT_MAX).unwrap_or(self.successes);
        let statuses = statuses(&mut reader, "http_statuses", 200..=599);
        reader.finish();
        statuses
    }

    fn unhealthy(&mut self, value: &Value, report: &mut Report) -> Option<Vec<u16>> {
        let mut reader = Reader::of("PassiveUnhealthy", value, report);
        let counts = [&mut self.http_failures, &mut self.tcp_failures, &mut self.timeouts];
        failures(&mut reader, counts);
        let statuses = statuses(&mut reader, "http_statuses", 200..=599);
        reader.finish();
        statuses
    }
}

/// `http_failures`, `tcp_failures`, `timeouts`
fn failures(reader: &mut Reader<'_, '_>, counts: [&mut u32; 3]) {
    for (name, kept) in ["http_failures", "tcp_failures", "timeouts"].into_iter().zip(counts) {
        *kept = count(reader, name, 0..=COUNT_MAX).unwrap_or(*kept);
    }
}

/// Healthy and unhealthy statuses of which none is both.
///
/// What is written wins over a default; of two written ones the healthy list wins,
/// as in lua-resty-healthcheck, and is warned of.
fn apart(
    written: (Option<Vec<u16>>, Option<Vec<u16>>),
    defaults: (Vec<u16>, Vec<u16>),
    place: Place,
    report: &mut Report,
) -> (Vec<u16>, Vec<u16>) {
    let without = |list: Vec<u16>, other: &[u16]| -> Vec<u16> {
        list.into_iter().filter(|status| !other.contains(status)).collect()
    };
    match written {
        (None, None) => defaults,
        (None, Some(unhealthy)) => (without(defaults.0, &unhealthy), unhealthy),
        (Some(healthy), None) => {
            let unhealthy = without(defaults.1, &healthy);
            (healthy, unhealthy)
        }
        (Some(healthy), Some(unhealthy)) => {
            if let Some(both) = unhealthy.iter().find(|status| healthy.contains(status)) {
                let problem = Problem::warning(place, format!("the status {both} is healthy and unhealthy"));
                report.push(problem.label("counts as healthy").help("remove it from one of the lists"));
            }
            let unhealthy = without(unhealthy, &healthy);
            (healthy, unhealthy)
        }
    }
}

fn interval(reader: &mut Reader<'_, '_>) -> Option<Duration> {
    let interval = reader.opt_duration("interval")?;
    if interval.is_zero() || interval >= INTERVAL_MIN {
        return Some(interval);
    }
    let place = reader.value_place("interval");
    let problem = Problem::error(place, format!("`interval` is out of range: {interval:?}"));
    reader.report().push(problem.label("must be at least 10ms, or 0 for no probes"));
    None
}

fn path(reader: &mut Reader<'_, '_>) -> Option<String> {
    let path = reader.opt_str("http_path")?;
    let label = match path {
        path if !path.starts_with('/') => "a path begins with `/`",
        path if !path.bytes().all(|byte| byte.is_ascii_graphic()) => "write other characters as %XX",
        path if path.contains('#') => "a request has no fragment",
        path if path.contains(['"', '<', '>', '`']) => "write quotes, `<` and `>` as %XX",
        path if path.len() > names::URI_BYTES_MAX => "longer than 4096 bytes",
        path => return Some(path.to_owned()),
    };
    let place = reader.value_place("http_path");
    let problem = Problem::error(place, format!("invalid http_path `{path}`")).label(label);
    let help = if path.contains("://") { "the node is the host; `host` sets another Host" } else { "" };
    reader.report().push(problem.help(help));
    None
}

fn host(reader: &mut Reader<'_, '_>) -> Option<String> {
    let host = reader.opt_str("host")?;
    let Some(fault) = names::host_and_port_fault(host) else { return Some(host.to_owned()) };
    let place = reader.value_place("host");
    reader.report().push(Problem::error(place, format!("invalid host `{host}`")).label(fault));
    None
}

/// `["Name: value"]`. A value may be a token or a password: nothing that is said of it holds a part of it.
fn req_headers(reader: &mut Reader<'_, '_>) -> Vec<(String, String)> {
    let list = reader.list("req_headers");
    if list.len() > REQ_HEADERS_MAX {
        let place = reader.value_place("req_headers");
        reader.report().error(place, format!("more than {REQ_HEADERS_MAX} of `req_headers`"), "");
    }
    let mut headers = Vec::with_capacity(list.len().min(REQ_HEADERS_MAX));
    for (text, place) in list.into_iter().take(REQ_HEADERS_MAX) {
        reader.report().hide(place);
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        // Without a `:` what stands before a space is probably the name; one word alone may be anything.
        let shown = if text.contains(':') { Some(name) } else { text.split_once(' ').map(|(name, _)| name) };
        let value = value.trim_matches([' ', '\t']);
        let visible = |byte: u8| byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
        let (label, help) = if !text.contains(':') {
            ("the `:` is missing", "write \"User-Agent: probe\"")
        } else if !names::is_token(name) {
            ("the name is no token (RFC 9110 section 5.1)", "write \"User-Agent: probe\"")
        } else if !value.bytes().all(visible) {
            ("a control character in the value", "")
        } else if name.eq_ignore_ascii_case("host") {
            ("`Host` has a field of its own", "write host = \"app.example.com\"")
        } else if FRAMING.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            ("the gateway sets it: a probe has no body and is the last of its connection", "remove it")
        } else {
            headers.push((name.to_owned(), value.to_owned()));
            continue;
        };
        let shown = shown.map(|name| format!(" `{name}`")).unwrap_or_default();
        let problem = Problem::error(place, format!("invalid header field{shown}"));
        reader.report().push(problem.label(label).help(help));
    }
    headers
}

/// Fields of a probe that are not the operator's: they say where it ends.
const FRAMING: &[&str] = &["connection", "content-length", "transfer-encoding", "te", "upgrade", "expect"];
