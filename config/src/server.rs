//! `[server]`: what holds for the gateway as a whole, with its limits.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::env::Env;
use crate::reader::{wrong_type, Reader};
use crate::report::{Problem, Report};
use crate::route::network;
use crate::value::{Kind, Value};

/// Header fields of a message at most: heads are tables of this size.
const FIELDS_MAX: i64 = 128;
/// The shortest `sticky_key`: what `openssl rand -hex 16` prints.
const STICKY_KEY_CHARS_MIN: usize = 32;
const STICKY_KEY_HELP: &str = "make one with `openssl rand -hex 32`, the same for all gateways of a group";
/// Client connections at most.
const CONNECTIONS_MAX: i64 = 10_000_000;
/// Bytes of a head at most.
const HEAD_BYTES_MAX: u64 = 16 << 20;

/// `[server]`
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// What `listen` says, as written; the listeners made of it stand in [`crate::Document::listeners`].
    pub listen: Vec<String>,
    /// Where the gateway keeps files of its own.
    pub workdir: PathBuf,
    /// How long requests that are under way may take after the signal to stop.
    pub drain_timeout: Duration,
    /// Peers whose `X-Forwarded-*` are believed.
    pub trusted_addresses: Vec<IpNet>,
    /// `[server.limits]`
    pub limits: Limits,
    /// How URIs and hosts choose a route.
    pub router: RouterMode,
    /// Whether the gateway's own headers have APISIX's names.
    pub apisix_headers: bool,
    /// Whether `Via` is added to what is forwarded.
    pub via: bool,
    /// `Server` on the answers that the gateway makes itself; `None` is `server_header = "off"`.
    pub server_header: Option<String>,
    /// `sticky_key`: what sticky cookies are authenticated with, the same on all gateways of a group;
    /// without one the gateway makes one and keeps it in `workdir`.
    pub sticky_key: Option<Secret>,
}

/// A text that no message, log or dump shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How URIs and hosts choose a route; the names are APISIX's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouterMode {
    /// `radixtree_host_uri`: by host, inside a host by URI.
    #[default]
    HostUri,
    /// `radixtree_uri`: by URI; the host is one condition among others.
    Uri,
    /// `radixtree_uri_with_parameter`: the same, with `/user/:id` and `*rest`.
    UriWithParameter,
}

/// `[server.limits]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's head (431).
    pub request_head: usize,
    /// Bytes of a request's target (414).
    pub request_target: usize,
    /// Header fields of a request (431), at most 128.
    pub request_fields: usize,
    /// Bytes of a response's head (502).
    pub response_head: usize,
    /// Bytes of a request's body (413); `None` is unlimited.
    pub request_body: Option<u64>,
    /// Bytes of a body kept so that it can be sent again.
    pub replay_body: usize,
    /// Client connections, over all cores.
    pub connections: usize,
    /// From the first byte of a request to the end of its head (408).
    pub head_timeout: Duration,
    /// Between two requests on a connection.
    pub idle_timeout: Duration,
    /// Between two reads of a request's body (408).
    pub body_timeout: Duration,
    /// A client that takes nothing of its response.
    pub send_timeout: Duration,
    /// From a TLS connection's beginning to the end of its handshake.
    pub tls_handshake_timeout: Duration,
    /// Requests on one client connection; 0 is unlimited.
    pub keepalive_requests: u64,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            listen: Vec::new(),
            workdir: PathBuf::from("/var/lib/ringway"),
            drain_timeout: Duration::from_secs(30),
            trusted_addresses: Vec::new(),
            limits: Limits::default(),
            router: RouterMode::HostUri,
            apisix_headers: false,
            via: false,
            server_header: Some("ringway".to_owned()),
            sticky_key: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            request_head: 64 << 10,
            request_target: 16 << 10,
            request_fields: 128,
            response_head: 64 << 10,
            request_body: None,
            replay_body: 64 << 10,
            connections: 200_000,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(60),
            tls_handshake_timeout: Duration::from_secs(10),
            keepalive_requests: 0,
        }
    }
}

impl RouterMode {
    /// APISIX's names.
    pub const WORDS: &'static [(&'static str, RouterMode)] = &[
        ("radixtree_host_uri", RouterMode::HostUri),
        ("radixtree_uri", RouterMode::Uri),
        ("radixtree_uri_with_parameter", RouterMode::UriWithParameter),
    ];
}

/// Where the gateway keeps its files if `workdir` does not say: `$STATE_DIRECTORY`
/// (systemd's), else the XDG state directory, else `/var/lib/ringway`.
pub fn workdir_default(env: &dyn Env) -> PathBuf {
    let set = |name: &str| env.var(name).filter(|value| !value.is_empty());
    if let Some(list) = set("STATE_DIRECTORY") {
        return PathBuf::from(list.split(':').next().unwrap_or_default());
    }
    if let Some(state) = set("XDG_STATE_HOME") {
        return PathBuf::from(state).join("ringway");
    }
    match set("HOME") {
        Some(home) => PathBuf::from(home).join(".local/state/ringway"),
        None => Server::default().workdir,
    }
}

/// Reads `[server]`. `listen` is read by `listener`, from the same table.
pub(crate) fn read(value: &Value, env: &dyn Env, report: &mut Report) -> Server {
    let mut reader = Reader::of("Server", value, report);
    let default = Server::default();
    let listen = reader.one_or_list("listen").into_iter().map(|(text, _)| text.to_owned()).collect();
    let workdir = match reader.opt_str("workdir") {
        Some("") => {
            let place = reader.value_place("workdir");
            reader.report().error(place, "`workdir` is empty", "leave it out for the default");
            default.workdir
        }
        Some(path) => PathBuf::from(path),
        None => workdir_default(env),
    };
    let drain_timeout = reader.opt_duration("drain_timeout").unwrap_or(default.drain_timeout);
    let list = reader.list("trusted_addresses");
    let trusted_addresses =
        list.into_iter().filter_map(|(text, place)| network(text, place, reader.report())).collect();
    let limits = reader.opt_value("limits").map(|limits| Limits::read(limits, reader.report()));
    let server = Server {
        listen,
        workdir,
        drain_timeout,
        trusted_addresses,
        limits: limits.unwrap_or_default(),
        router: reader.one_of("router", RouterMode::WORDS).unwrap_or_default(),
        apisix_headers: reader.opt_bool("apisix_headers").unwrap_or(false),
        via: reader.opt_bool("via").unwrap_or(false),
        server_header: server_header(&mut reader, default.server_header),
        sticky_key: sticky_key(&mut reader),
    };
    reader.finish();
    server
}

/// `sticky_key`: nothing that is said of it holds a part of it.
fn sticky_key(reader: &mut Reader<'_, '_>) -> Option<Secret> {
    let value = reader.opt_value("sticky_key")?;
    reader.report().hide(value.place);
    let Some(text) = value.as_str() else {
        wrong_type(reader.report(), value, "a string", STICKY_KEY_HELP);
        return None;
    };
    let length = text.chars().count();
    if length < STICKY_KEY_CHARS_MIN {
        let problem = Problem::error(value, format!("`sticky_key` has {length} characters"));
        let label = format!("must have at least {STICKY_KEY_CHARS_MIN}");
        reader.report().push(problem.label(label).help(STICKY_KEY_HELP));
        return None;
    }
    Some(Secret(text.to_owned()))
}

fn server_header(reader: &mut Reader<'_, '_>, default: Option<String>) -> Option<String> {
    let Some(text) = reader.opt_str("server_header") else { return default };
    let visible = !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if !visible || text.trim() != text {
        let place = reader.value_place("server_header");
        let problem = Problem::error(place, "invalid `server_header`").label("must be visible ASCII text");
        reader.report().push(problem.help("write \"off\" to send none"));
    }
    (text != "off").then(|| text.to_owned())
}

impl Limits {
    fn read(value: &Value, report: &mut Report) -> Limits {
        let mut reader = Reader::of("Limits", value, report);
        let default = Limits::default();
        let mut size = |name, least, most, default: usize| {
            reader.size_range(name, least..=most).map_or(default, |size| size as usize)
        };
        let request_head = size("request_head", 1 << 10, HEAD_BYTES_MAX, default.request_head);
        let request_target = size("request_target", 256, HEAD_BYTES_MAX, default.request_target);
        let response_head = size("response_head", 1 << 10, HEAD_BYTES_MAX, default.response_head);
        let replay_body = size("replay_body", 0, 1 << 30, default.replay_body);
        let mut count =
            |name, range, default: usize| reader.range(name, range).map_or(default, |count| count as usize);
        let request_fields = count("request_fields", 1..=FIELDS_MAX, default.request_fields);
        let connections = count("connections", 1..=CONNECTIONS_MAX, default.connections);
        let limits = Limits {
            request_head,
            request_target,
            request_fields,
            response_head,
            request_body: body_limit(&mut reader),
            replay_body,
            connections,
            head_timeout: reader.opt_timeout("head_timeout").unwrap_or(default.head_timeout),
            idle_timeout: reader.opt_timeout("idle_timeout").unwrap_or(default.idle_timeout),
            body_timeout: reader.opt_timeout("body_timeout").unwrap_or(default.body_timeout),
            send_timeout: reader.opt_timeout("send_timeout").unwrap_or(default.send_timeout),
            tls_handshake_timeout: reader
                .opt_timeout("tls_handshake_timeout")
                .unwrap_or(default.tls_handshake_timeout),
            keepalive_requests: reader.opt_u64("keepalive_requests").unwrap_or(default.keepalive_requests),
        };
        reader.finish();
        limits
    }
}

/// `request_body`: a size, or `"unlimited"`.
fn body_limit(reader: &mut Reader<'_, '_>) -> Option<u64> {
    let value = reader.opt_value("request_body")?;
    match &value.kind {
        Kind::String(text) if text == "unlimited" => None,
        Kind::String(_) | Kind::Integer(_) => reader.opt_size("request_body"),
        _ => {
            let help = "a number of bytes, a string such as \"10MiB\", or \"unlimited\"";
            wrong_type(reader.report(), value, "a size", help);
            None
        }
    }
}
