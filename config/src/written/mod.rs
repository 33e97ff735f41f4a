//! The document as it is written: types that exist for their JSON Schema.
//!
//! What is checked and built stands in `document`; these say which keys there are,
//! in which forms, with which defaults, for editors, dashboards and the manual. They
//! hold no values: reading is the [`Reader`](crate::Reader)'s, because it collects
//! problems and they could not. A test holds the two together: each key here is one
//! that the reader asks for, and the other way round.

mod balance;
mod resources;

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{json_schema, JsonSchema, Schema, SchemaGenerator};

pub use balance::*;
pub use resources::*;

/// A type that is only a schema.
macro_rules! form {
    ($(#[doc = $doc:literal] $name:ident = $schema:tt;)+) => {$(
        #[doc = $doc]
        pub struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = json_schema!($schema);
                schema.insert("description".to_owned(), $doc.trim().into());
                schema
            }
        }
    )+};
}

form! {
    /// A duration: a number of seconds, or a text with its unit, such as "250ms" or "1m30s".
    Duration = { "anyOf": [
        { "type": "number", "minimum": 0, "maximum": 1_000_000_000 },
        { "type": "string", "pattern": "^\\s*([0-9._]+\\s*(us|ms|s|min|m|h|d|w)\\s*)+$" },
    ] };
    /// A size: a number of bytes, or a text with its unit, such as "64KiB" or "10g".
    Size = { "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": "^\\s*[0-9._]+\\s*([kKmMgGtT]?[bB]?|[kKmMgGtT][iI][bB])\\s*$" },
    ] };
    /// A size, or "unlimited".
    SizeOrUnlimited = { "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string" },
    ] };
    /// One text or a list of texts.
    OneOrList = { "anyOf": [
        { "type": "string" },
        { "type": "array", "items": { "type": "string" } },
    ] };
    /// An id: 1 to 64 letters, digits, `-`, `_`, `.`; or a number.
    Id = { "anyOf": [
        { "type": "string", "pattern": "^[a-zA-Z0-9._-]{1,64}$" },
        { "type": "integer", "minimum": 0 },
    ] };
    /// Conditions: [name, operator, value], lists of them, and groups that begin with AND, OR, !AND or !OR.
    Vars = { "type": "array" };
    /// "auto", a number, or a share such as "50%".
    CoreCount = { "anyOf": [
        { "type": "integer", "minimum": 1, "maximum": 4096 },
        { "type": "string", "pattern": "^(auto|[0-9]{1,3}\\s*%)$" },
    ] };
    /// A share: a number from 0 to 1, or a text such as "20%".
    Ratio = { "anyOf": [
        { "type": "number", "minimum": 0, "maximum": 1 },
        { "type": "string", "pattern": "^\\s*[0-9.]+\\s*%\\s*$" },
    ] };
    /// Statuses of an answer.
    Statuses = { "type": "array", "minItems": 1, "items": { "type": "integer", "minimum": 200, "maximum": 599 } };
    /// What a further try follows upon: statuses, and "reset" for a connection that broke.
    RetryOn = { "type": "array", "items": { "anyOf": [
        { "type": "integer", "minimum": 400, "maximum": 599 },
        { "const": "reset" },
    ] } };
    /// A server line as nginx has it: the address, then weight=N, max_fails=N, fail_timeout=T, max_conns=N, slow_start=T, backup, down, drain.
    ServerLine = { "type": "string" };
    /// Plugins by name; `_meta` is the same for all, the other settings are each plugin's own.
    Plugins = { "type": "object", "additionalProperties": {
        "type": "object",
        "properties": { "_meta": { "$ref": "#/$defs/PluginMeta" } },
    } };
    /// A text, or a table that is sent as JSON.
    ErrorResponse = { "type": ["string", "object"] };
}

/// The whole document.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Document {
    /// Further files, relative to this one; `*` and `?` stand for parts of a name.
    pub include: Option<OneOrList>,
    /// What holds for the gateway as a whole.
    pub server: Option<Server>,
    /// Diagnostics and the access log.
    pub log: Option<Log>,
    /// Where `/status` and `/metrics` are served.
    pub status: Option<Status>,
    /// Where operators look into the running gateway.
    pub control: Option<Control>,
    /// Who is asked for the nodes of services.
    pub discovery: Option<Discovery>,
    /// How many cores serve, and how.
    pub cores: Option<Cores>,
    /// Where the gateway can be reached.
    pub listeners: Option<Vec<Listener>>,
    /// Certificates by server name.
    pub ssls: Option<Vec<Ssl>>,
    /// Groups of endpoints.
    pub upstreams: Option<Vec<Upstream>>,
    /// What several routes have in common.
    pub services: Option<Vec<Service>>,
    /// Which requests, and what is done with them.
    pub routes: Option<Vec<Route>>,
    /// Plugins that several routes share.
    pub plugin_configs: Option<Vec<PluginConfig>>,
    /// Plugins for every request.
    pub global_rules: Option<Vec<GlobalRule>>,
}

/// `[server]`
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Server {
    /// Addresses: ":8080" for both address families, "127.0.0.1:8080", "unix:/path".
    pub listen: Option<OneOrList>,
    /// Where the gateway keeps its files; $STATE_DIRECTORY, else the XDG state directory.
    pub workdir: Option<String>,
    /// How long requests under way may take after the signal to stop.
    #[schemars(extend("default" = "30s"))]
    pub drain_timeout: Option<Duration>,
    /// Peers whose X-Forwarded-* are believed: addresses and networks.
    pub trusted_addresses: Option<Vec<String>>,
    /// Bounds of what a client may send.
    pub limits: Option<Limits>,
    /// How URIs and hosts choose a route.
    #[schemars(extend("default" = "radixtree_host_uri"))]
    pub router: Option<Router>,
    /// Whether the gateway's own headers have APISIX's names.
    #[schemars(extend("default" = false))]
    pub apisix_headers: Option<bool>,
    /// Whether Via is added to what is forwarded.
    #[schemars(extend("default" = false))]
    pub via: Option<bool>,
    /// The Server field of the gateway's own answers; "off" for none.
    #[schemars(extend("default" = "ringway"))]
    pub server_header: Option<String>,
    /// What sticky cookies are authenticated with, the same on all gateways of a group; made and kept in workdir by default.
    #[schemars(length(min = 32))]
    pub sticky_key: Option<String>,
}

/// How URIs and hosts choose a route.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Router {
    /// By host, inside a host by URI.
    RadixtreeHostUri,
    /// By URI; the host is one condition among others.
    RadixtreeUri,
    /// The same, with `/user/:id` and `*rest`.
    RadixtreeUriWithParameter,
}

/// `[server.limits]`
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request's head (431).
    #[schemars(extend("default" = "64KiB"))]
    pub request_head: Option<Size>,
    /// Bytes of a request's target (414).
    #[schemars(extend("default" = "16KiB"))]
    pub request_target: Option<Size>,
    /// Header fields of a request (431).
    #[schemars(range(min = 1, max = 128), extend("default" = 128))]
    pub request_fields: Option<u32>,
    /// Bytes of a response's head (502).
    #[schemars(extend("default" = "64KiB"))]
    pub response_head: Option<Size>,
    /// Bytes of a request's body (413).
    #[schemars(extend("default" = "unlimited"))]
    pub request_body: Option<SizeOrUnlimited>,
    /// Bytes of a body kept so that it can be sent again.
    #[schemars(extend("default" = "64KiB"))]
    pub replay_body: Option<Size>,
    /// Client connections, over all cores.
    #[schemars(range(min = 1, max = 10_000_000), extend("default" = 200_000))]
    pub connections: Option<u32>,
    /// From the first byte of a request to the end of its head (408).
    #[schemars(extend("default" = "10s"))]
    pub head_timeout: Option<Duration>,
    /// Between two requests on a connection.
    #[schemars(extend("default" = "60s"))]
    pub idle_timeout: Option<Duration>,
    /// Between two reads of a request's body (408).
    #[schemars(extend("default" = "60s"))]
    pub body_timeout: Option<Duration>,
    /// For a client that takes nothing of its response.
    #[schemars(extend("default" = "60s"))]
    pub send_timeout: Option<Duration>,
    /// From a TLS connection's beginning to the end of its handshake.
    #[schemars(extend("default" = "10s"))]
    pub tls_handshake_timeout: Option<Duration>,
    /// Requests on one client connection; 0 is unlimited.
    #[schemars(extend("default" = 0))]
    pub keepalive_requests: Option<u64>,
}

/// `[log]`
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Log {
    /// off, error, warn, info, debug, trace; or targets as in RUST_LOG: "info,ringway=debug".
    #[schemars(extend("default" = "info"))]
    pub level: Option<String>,
    /// "off", "stdout" or a path with a slash; by default stdout where that is no terminal.
    pub access: Option<String>,
    /// "json", "combined" or a text with $variables.
    #[schemars(extend("default" = "json"))]
    pub format: Option<String>,
    /// The form of diagnostics; auto is text on a terminal and JSON elsewhere.
    #[schemars(extend("default" = "auto"))]
    pub diagnostics: Option<Diagnostics>,
}

/// The form of diagnostics.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Diagnostics {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text.
    Text,
    /// JSON lines.
    Json,
}

/// `[status]`
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Status {
    /// An IP address and port, or "off".
    #[schemars(extend("default" = "127.0.0.1:9091"))]
    pub listen: Option<String>,
}

/// `[control]`
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Control {
    /// An IP address and port, or "off".
    #[schemars(extend("default" = "127.0.0.1:9090"))]
    pub listen: Option<String>,
}

/// `[discovery]`
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Discovery {
    /// For names, and upstreams with discovery_type = "dns".
    pub dns: Option<Dns>,
}

/// `[discovery.dns]`
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Dns {
    /// IP addresses with or without a port; the system's by default.
    #[schemars(length(max = 16))]
    pub servers: Option<Vec<String>>,
}

/// `[cores]`
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Cores {
    /// How many cores serve; auto is the smaller of the physical cores allowed and the cgroup's quota.
    #[schemars(extend("default" = "auto"))]
    pub count: Option<CoreCount>,
    /// Which cores may serve: "0-3,6".
    #[schemars(regex(pattern = r"^\s*[0-9]+\s*(-\s*[0-9]+\s*)?(,\s*[0-9]+\s*(-\s*[0-9]+\s*)?)*$"))]
    pub set: Option<String>,
    /// Cores left to control, logs and interrupts.
    #[schemars(range(max = 4096), extend("default" = 0))]
    pub reserve: Option<u32>,
    /// Whether each worker is bound to its core.
    #[schemars(extend("default" = true))]
    pub pin: Option<bool>,
    /// How workers wait for sockets.
    #[schemars(extend("default" = "auto"))]
    pub driver: Option<Driver>,
    /// The sizes of each core's io_uring.
    pub ring: Option<Ring>,
    /// Each core's buffers.
    pub buffers: Option<Buffers>,
}

/// How workers wait for sockets.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Driver {
    /// io_uring where it works, else epoll.
    Auto,
    /// io_uring; an error where it is missing.
    IoUring,
    /// epoll.
    Epoll,
}

/// `[cores.ring]`
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ring {
    /// Submission entries.
    #[schemars(range(min = 1, max = 32_768), extend("default" = 4096))]
    pub entries: Option<u32>,
    /// Completion entries; at least as many.
    #[schemars(range(min = 1, max = 65_536), extend("default" = 16_384))]
    pub cq_entries: Option<u32>,
    /// Whether the kernel defers its work until the core asks for it.
    #[schemars(extend("default" = true))]
    pub defer_taskrun: Option<bool>,
}

/// `[cores.buffers]`
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Buffers {
    /// Bytes of a buffer for heads and small bodies.
    #[schemars(extend("default" = "16KiB"))]
    pub read: Option<Size>,
    /// Bytes of a buffer for bodies that flow.
    #[schemars(extend("default" = "64KiB"))]
    pub bulk: Option<Size>,
    /// How many of them a core keeps.
    #[schemars(range(max = 1_000_000), extend("default" = 4096))]
    pub pool: Option<u32>,
}

/// One of `[[listeners]]`
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Listener {
    /// Its name; the address where none is given.
    #[schemars(regex(pattern = r"^[a-zA-Z0-9._-]{1,64}$"))]
    pub name: Option<String>,
    /// ":8080" for both address families, "127.0.0.1:8080", "unix:/path".
    pub address: String,
    /// The kernel's queue of connections that wait to be accepted.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 4096))]
    pub backlog: Option<u32>,
    /// What is spoken on it.
    #[schemars(extend("default" = ["h1"]))]
    pub protocols: Option<Vec<Protocol>>,
    /// Whether it is TLS; [[ssls]] has the certificates.
    #[schemars(extend("default" = false))]
    pub tls: Option<bool>,
    /// Whether a PROXY header is read; not built yet, so "off".
    #[schemars(extend("default" = "off"))]
    pub proxy_protocol: Option<Off>,
}

/// Certificates for a set of names.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ssl {
    /// Its id; the name, else the first server name where none is given.
    pub id: Option<Id>,
    /// Its name for people.
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,
    /// What it is for.
    #[schemars(length(max = 256))]
    pub desc: Option<String>,
    /// The operator's own marks.
    pub labels: Option<BTreeMap<String, String>>,
    /// A server name, as `snis`.
    pub sni: Option<OneOrList>,
    /// Server names: "example.com", "*.example.com"; "*" or none for the default.
    pub snis: Option<OneOrList>,
    /// The certificate and its chain as PEM, such as "${file:/etc/ringway/fullchain.pem}".
    pub cert: String,
    /// Its key as PEM.
    pub key: String,
    /// Further certificates for the same names, with other kinds of keys.
    pub certs: Option<Vec<String>>,
    /// Their keys, in the same order.
    pub keys: Option<Vec<String>>,
    /// What clients have to show.
    pub client: Option<SslClient>,
    /// Which versions are spoken.
    #[schemars(extend("default" = ["TLSv1.2", "TLSv1.3"]))]
    pub ssl_protocols: Option<Vec<SslProtocol>>,
    /// 0 takes it out of use.
    #[schemars(range(max = 1), extend("default" = 1))]
    pub status: Option<u8>,
    /// Whom it is for.
    #[schemars(extend("default" = "server"))]
    pub r#type: Option<SslType>,
}

/// What clients have to show.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SslClient {
    /// Authorities whose certificates are believed, as PEM.
    pub ca: String,
    /// Certificates between the client's own and one of `ca`, at most.
    #[schemars(range(max = 16), extend("default" = 1))]
    pub depth: Option<u8>,
    /// Paths that need no certificate.
    pub skip_mtls_uri_regex: Option<Vec<String>>,
}

/// A version of TLS.
#[derive(JsonSchema)]
pub enum SslProtocol {
    /// TLS 1.2
    #[schemars(rename = "TLSv1.2")]
    Tls12,
    /// TLS 1.3
    #[schemars(rename = "TLSv1.3")]
    Tls13,
}

/// Whom a certificate is for.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum SslType {
    /// The gateway's clients.
    Server,
}

/// What is spoken on a listener.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1
    H1,
}

/// Only "off".
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Off {
    /// Not used.
    Off,
}
