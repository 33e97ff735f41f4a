//! `[log]`, `[status]`, `[control]`, `[discovery.dns]`: what is between the gateway and its surroundings,
//! beside the requests.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::place::Place;
use crate::reader::Reader;
use crate::report::{Problem, Report};
use crate::value::Value;

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// What diagnostics are written: a level, or targets as in RUST_LOG (`info,ringway=debug`).
    pub level: String,
    /// Where the access log goes.
    pub access: Access,
    /// Whether `access` was left out: then it goes to stdout only where that is no terminal.
    pub access_is_default: bool,
    /// The form of its lines.
    pub format: Format,
    /// The form of diagnostics.
    pub diagnostics: Diagnostics,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
    /// To a file, reopened on SIGUSR1.
    Path(PathBuf),
}

/// The form of the access log's lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// The combined format of Apache httpd and nginx.
    Combined,
    /// Text with `$variables` (see [`Template`](crate::vars::Template)).
    Template(String),
}

/// The form of diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diagnostics {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text.
    Text,
    /// JSON lines.
    Json,
}

/// `[status]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where `/status` and `/metrics` are served; `None` is `listen = "off"`.
    pub listen: Option<SocketAddr>,
}

/// `[control]`: where operators look into the running gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Where `/v1/...` is served; `None` is `listen = "off"`.
    pub listen: Option<SocketAddr>,
    /// Whether `listen` was left out: a busy port is no error then.
    pub listen_is_default: bool,
}

impl Default for Control {
    fn default() -> Control {
        Control { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9090))), listen_is_default: true }
    }
}

/// `[discovery.dns]`: who is asked for names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// `servers`, `127.0.0.1:8600`; none are the system's.
    pub servers: Vec<SocketAddr>,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            level: "info".to_owned(),
            access: Access::Stdout,
            access_is_default: true,
            format: Format::Json,
            diagnostics: Diagnostics::Auto,
        }
    }
}

impl Default for Status {
    fn default() -> Status {
        Status { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9091))) }
    }
}

/// Where a DNS server is asked whose port is not written.
const DNS_PORT: u16 = 53;
/// DNS servers at most: each is asked in turn while a name does not resolve.
const DNS_SERVERS_MAX: usize = 16;

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

impl Log {
    /// Reads `[log]`.
    pub(crate) fn read(value: &Value, report: &mut Report) -> Log {
        let mut reader = Reader::of("Log", value, report);
        let default = Log::default();
        let level = level(&mut reader).unwrap_or(default.level);
        let written = reader.has("access");
        let words = [("auto", Diagnostics::Auto), ("text", Diagnostics::Text), ("json", Diagnostics::Json)];
        let log = Log {
            level,
            access: access(&mut reader).unwrap_or(default.access),
            access_is_default: !written,
            format: format(&mut reader).unwrap_or(default.format),
            diagnostics: reader.one_of("diagnostics", &words).unwrap_or(default.diagnostics),
        };
        reader.finish();
        log
    }
}

/// `info`, or `info,ringway=debug`.
fn level(reader: &mut Reader<'_, '_>) -> Option<String> {
    let text = reader.opt_str("level")?;
    for directive in text.split(',').map(str::trim) {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        if LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
            continue;
        }
        let place = reader.value_place("level");
        let near = LEVELS.iter().map(|name| (*name, Place::NOWHERE));
        let help = reader.report().suggest(level, near);
        let help = if help.is_empty() { "write level = \"info\"".to_owned() } else { help };
        let label = format!("must be one of {}, or target=level", LEVELS.join(", "));
        reader
            .report()
            .push(Problem::error(place, format!("unknown level `{level}`")).label(label).help(help));
    }
    Some(text.to_owned())
}

/// `off`, `stdout` or a path: one with a slash, so that a slip makes no file of its name.
fn access(reader: &mut Reader<'_, '_>) -> Option<Access> {
    match reader.opt_str("access")? {
        "off" => Some(Access::Off),
        "stdout" => Some(Access::Stdout),
        path if path.contains('/') && !path.ends_with('/') => Some(Access::Path(PathBuf::from(path))),
        other => {
            let place = reader.value_place("access");
            let near = [("off", Place::NOWHERE), ("stdout", Place::NOWHERE)];
            let help = reader.report().suggest(other, near.into_iter());
            let help = if help.is_empty() { format!("for a file write ./{other}") } else { help };
            let label = "must be `off`, `stdout` or a path with a `/`";
            let problem = Problem::error(place, format!("invalid access log `{other}`")).label(label);
            reader.report().push(problem.help(help));
            None
        }
    }
}

/// `json`, `combined` or a text with variables.
fn format(reader: &mut Reader<'_, '_>) -> Option<Format> {
    match reader.opt_str("format")? {
        "json" => Some(Format::Json),
        "combined" => Some(Format::Combined),
        text if text.contains('$') => Some(Format::Template(text.to_owned())),
        other => {
            let place = reader.value_place("format");
            let near = [("json", Place::NOWHERE), ("combined", Place::NOWHERE)];
            let help = reader.report().suggest(other, near.into_iter());
            let help = if help.is_empty() { "write format = \"json\"".to_owned() } else { help };
            let label = "must be `json`, `combined` or a text with $variables";
            let problem = Problem::error(place, format!("unknown format `{other}`")).label(label);
            reader.report().push(problem.help(help));
            None
        }
    }
}

impl Status {
    /// Reads `[status]`.
    pub(crate) fn read(value: &Value, report: &mut Report) -> Status {
        let mut reader = Reader::of("Status", value, report);
        let help = "write 127.0.0.1:9091; whoever reaches it sees all metrics";
        let listen = listen(&mut reader, help);
        reader.finish();
        listen.map_or_else(Status::default, |listen| Status { listen })
    }
}

impl Control {
    /// Reads `[control]`.
    pub(crate) fn read(value: &Value, report: &mut Report) -> Control {
        let mut reader = Reader::of("Control", value, report);
        let help = "write 127.0.0.1:9090; whoever reaches it sees routes and upstreams";
        let listen = listen(&mut reader, help);
        if let Some(Some(address)) = listen.filter(|listen| listen.is_some_and(|it| !it.ip().is_loopback())) {
            let place = reader.value_place("listen");
            let problem =
                Problem::warning(place, format!("[control] can be reached from outside on {address}"));
            let label = "it asks for no password";
            reader.report().push(problem.label(label).help("write listen = \"127.0.0.1:9090\""));
        }
        reader.finish();
        listen.map_or_else(Control::default, |listen| Control { listen, listen_is_default: false })
    }
}

/// `listen = "127.0.0.1:9091"`, or `off`, which is `Some(None)`.
fn listen(reader: &mut Reader<'_, '_>, help: &str) -> Option<Option<SocketAddr>> {
    let text = reader.opt_str("listen")?;
    if text == "off" {
        return Some(None);
    }
    if let Ok(address) = text.parse() {
        return Some(Some(address));
    }
    let place = reader.value_place("listen");
    let problem = Problem::error(place, format!("invalid address `{text}`"));
    reader.report().push(problem.label("must be an IP address and a port, or `off`").help(help));
    None
}

impl Dns {
    /// Reads `[discovery]`, of which `dns` is built.
    pub(crate) fn read(value: &Value, report: &mut Report) -> Dns {
        let mut reader = Reader::of("Discovery", value, report);
        let dns = reader.opt_value("dns").map(|value| Dns::servers(value, reader.report()));
        reader.not_built(&["consul", "consul_kv", "eureka", "kubernetes", "nacos", "tars", "zookeeper"]);
        reader.finish();
        dns.unwrap_or_default()
    }

    /// Reads `[discovery.dns]`: addresses, with a port or at DNS's own.
    fn servers(value: &Value, report: &mut Report) -> Dns {
        let mut reader = Reader::of("Dns", value, report);
        let mut servers: Vec<SocketAddr> = Vec::new();
        for (text, place) in reader.list("servers") {
            let bare = || text.parse::<IpAddr>().map(|address| SocketAddr::new(address, DNS_PORT));
            match text.parse().or_else(|_| bare()) {
                Ok(server) if servers.contains(&server) => {
                    reader.report().warning(place, format!("the server {server} is written twice"), "");
                }
                Ok(server) => servers.push(server),
                Err(_) => {
                    let problem = Problem::error(place, format!("invalid address `{text}`"));
                    let label = "must be an IP address with or without a port";
                    reader.report().push(problem.label(label).help("write 127.0.0.1:53"));
                }
            }
        }
        if servers.len() > DNS_SERVERS_MAX {
            let place = reader.value_place("servers");
            reader.report().error(place, format!("more than {DNS_SERVERS_MAX} of `servers`"), "remove some");
        }
        reader.finish();
        Dns { servers }
    }
}
