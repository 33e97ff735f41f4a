//! `[server]`: what holds for the gateway as a whole, with its limits.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

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
            keepalive_requests: 0,
        }
    }
}
