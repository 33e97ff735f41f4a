//! Why an exchange could not be done as asked: one value that `answer` turns
//! into a status, and that the log shows as `term`.

/// How an exchange ended, as the access log's `term` says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Term {
    /// In order.
    #[default]
    Ok,
    /// Answered by a plugin.
    Plugin,
    /// No route matched.
    NoRoute,
    /// The request broke a rule of HTTP.
    BadRequest,
    /// A limit of `server.limits` was passed.
    Limit,
    /// The client was too slow.
    ClientTimeout,
    /// The client left.
    ClientAbort,
    /// No endpoint could be connected to.
    UpstreamConnect,
    /// The TLS handshake with the endpoint failed.
    UpstreamTls,
    /// Connecting took too long.
    UpstreamConnectTimeout,
    /// The upstream took too long.
    UpstreamTimeout,
    /// The upstream closed or reset.
    UpstreamReset,
    /// The upstream's response broke a rule of HTTP.
    BadResponse,
    /// The response was cut short by the upstream after it had begun.
    Truncated,
    /// The route has no upstream, or no endpoint may be used.
    NoUpstream,
    /// The last endpoint's answer had a status that counts as a failure.
    UpstreamStatus,
    /// Every endpoint's circuit is open.
    CircuitOpen,
    /// The upstream's concurrency limit is reached.
    Shed,
    /// All endpoints are at `max_conns`, and the wait for room was too long or not possible.
    Queue,
    /// The client showed no certificate, and the path needs one.
    ClientCertificate,
    /// The name it asks for has another certificate than its connection.
    Misdirected,
    /// The protocol was changed and the tunnel has ended.
    Tunnel,
}

impl Term {
    /// The word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Term::Ok => "ok",
            Term::Plugin => "plugin",
            Term::NoRoute => "no_route",
            Term::BadRequest => "bad_request",
            Term::Limit => "limit",
            Term::ClientTimeout => "client_timeout",
            Term::ClientAbort => "client_abort",
            Term::UpstreamConnect => "upstream_connect",
            Term::UpstreamTls => "upstream_tls",
            Term::UpstreamConnectTimeout => "upstream_connect_timeout",
            Term::UpstreamTimeout => "upstream_timeout",
            Term::UpstreamReset => "upstream_reset",
            Term::BadResponse => "bad_response",
            Term::Truncated => "truncated",
            Term::NoUpstream => "no_upstream",
            Term::UpstreamStatus => "upstream_status",
            Term::CircuitOpen => "circuit_open",
            Term::Shed => "shed",
            Term::Queue => "queue",
            Term::ClientCertificate => "client_certificate",
            Term::Misdirected => "misdirected",
            Term::Tunnel => "tunnel",
        }
    }
}

/// A failure that ends the exchange.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The status for the client; 499 means that nobody is there to read it.
    pub status: u16,
    /// For the log.
    pub term: Term,
    /// Whether the connection can be trusted to be at a message's end after it.
    pub close: bool,
}

impl Fault {
    /// The request cannot be read without doubt: answer and close.
    pub fn refuse(status: u16, term: Term) -> Self {
        Self { status, term, close: true }
    }

    /// The request was read in order; the connection may stay.
    pub fn answer(status: u16, term: Term) -> Self {
        Self { status, term, close: false }
    }

    /// The client is gone.
    pub const CLIENT_GONE: Fault = Fault { status: 499, term: Term::ClientAbort, close: true };
}
