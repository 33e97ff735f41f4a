//! One request and its response, as the steps of `proxy` and the plugins see it.
//!
//! An exchange is taken from the core's free list and cleared, never rebuilt, so
//! that a small request on a warm core allocates nothing. It owns both heads and
//! every scratch buffer; sockets and the plan are not in it, only the parts of
//! the plan that its route needs ([`CoreRoute`]), so that a long upload does not
//! keep a whole old plan alive.

mod view;

use std::any::Any;
use std::cell::Cell;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use balancer::route::Params;
use proto::framing::BodyLength;
use proto::head::{Head, Version};

use super::fault::Term;
use super::forward::Further;
use super::source::Source;
use super::text::AddressTexts;
use crate::plan::{CoreChain, CoreRoute, CoreUpstream, Settings, SharedSettings};
use crate::worker::Worker;

/// How many tries' statuses are kept for the log and the header.
pub const TRIES_KEPT: usize = 8;

/// What became of one try at one endpoint.
#[derive(Clone, Copy, Default)]
pub struct Try {
    /// The status it answered, or the one its failure stands for.
    pub status: u16,
}

/// See the module.
pub struct Exchange {
    /// The request, edited on its way to the upstream.
    pub request: Head,
    /// The response, edited on its way to the client.
    pub response: Head,
    /// One try's own copy of the request, where a plugin edits tries.
    pub attempt: Head,
    /// Bytes about to be sent: a head, and a small body behind it.
    pub scratch: Vec<u8>,
    /// The request's body.
    pub source: Source,
    /// What a hash picks by, while one is picked.
    pub key: Vec<u8>,
    /// The client's method, where a plugin may have changed it; else empty.
    pub method: Vec<u8>,
    /// The target as the client wrote it.
    pub target: Vec<u8>,
    /// The path as matched: decoded once, without dot segments.
    pub path: Vec<u8>,
    /// Host without port, lower case.
    pub host: Vec<u8>,
    /// Port of the Host field, or the listener's.
    pub host_port: u16,
    /// Kept over requests: the texts of the addresses seen last.
    pub address_texts: AddressTexts,
    /// Where the query is within `target`, without `?`.
    pub query: Option<(usize, usize)>,
    /// What a `:name` or `*name` of the route's uri matched.
    pub params: Params,
    /// The route, as this core holds it.
    pub route: Option<Rc<CoreRoute>>,
    /// The global rules' plugins.
    pub globals: Option<Rc<CoreChain>>,
    /// Limits and switches of the plan the exchange began with.
    pub settings: Option<SharedSettings>,
    /// The client, after trusted proxies were believed.
    pub client: IpAddr,
    /// The other end of the connection; `None` on a unix socket.
    pub peer: Option<SocketAddr>,
    /// Whether that other end is in `trusted_addresses`.
    pub peer_trusted: bool,
    /// Port of the listener.
    pub server_port: u16,
    /// What the client's TLS handshake agreed upon; `None` in the clear.
    pub tls: Option<Rc<crate::tls::Session>>,
    /// The client's socket, for `$server_addr`.
    pub client_fd: RawFd,
    /// When the head's first bytes were read, in microseconds.
    pub began: u64,
    /// How long connecting took, over all tries, in microseconds.
    pub connect_us: Option<u64>,
    /// From the beginning to the upstream's response head, in microseconds.
    pub ttfb_us: Option<u64>,
    /// The framing of the request's body.
    pub body_length: BodyLength,
    /// Bytes of the request body read.
    pub body_bytes_in: u64,
    /// Bytes of the response body sent.
    pub body_bytes_out: u64,
    /// All bytes sent to the client for this exchange.
    pub bytes_out: u64,
    /// Bytes of the request's head.
    pub head_bytes_in: u64,
    /// The status sent, or the one the log shows for an exchange without one.
    pub status: u16,
    /// How it ended.
    pub term: Term,
    /// Tries at endpoints.
    pub tries: u32,
    /// What became of the first few.
    pub outcomes: [Try; TRIES_KEPT],
    /// Which of the tries the exchange waits for: the last one, but where several
    /// are under way.
    pub current_try: u32,
    /// The further try that was taken from the budget when an answer was passed over.
    pub further: Option<Further>,
    /// Whether the last try's upload went out whole.
    pub uploaded: bool,
    /// Whether a plugin had it wait, or its head came in pieces: `began` is no longer now.
    pub waited: bool,
    /// When its first try could begin, in microseconds.
    pub tried_from: u64,
    /// When the head of the last response came, in microseconds.
    pub head_at: u64,
    /// The upstream that a plugin chose.
    pub chosen: Option<Rc<CoreUpstream>>,
    /// `Retry-After` of an answer that says so.
    pub retry_after: Option<Duration>,
    /// The last endpoint tried.
    pub upstream_addr: Option<Rc<str>>,
    /// Whether the client asked for a protocol change that the route allows.
    pub upgrade: bool,
    /// Whether a plugin replaced the Host of the upstream request.
    pub host_replaced: bool,
    /// Whether the Host of the upstream request is the endpoint's, for want of the client's.
    pub host_made: bool,
    /// Whether the connection is to be closed behind this exchange.
    pub close: bool,
    /// Whether any byte of the response was sent.
    pub response_begun: bool,
    /// Fields for whatever response goes out.
    pub added: Head,
    /// The response body that a plugin put in place of the upstream's.
    pub replaced_body: Option<Vec<u8>>,
    /// Transforms of the response body, in order.
    pub transforms: Vec<Box<dyn plugins::Transform>>,
    /// Copies that plugins wish for, each with the slot of its plugin.
    pub mirrors: Vec<(usize, plugins::Mirror)>,
    /// A cookie for whatever response goes out: it names the endpoint.
    pub sticky_cookie: Option<String>,
    request_id: String,
    rewritten_query: Option<Vec<u8>>,
    slots: Vec<Option<Box<dyn Any>>>,
    /// Which slot belongs to the plugin that is being asked.
    pub slot_index: usize,
    worker: Option<Rc<Worker>>,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            request: Head::new(),
            response: Head::new(),
            attempt: Head::new(),
            scratch: Vec::new(),
            source: Source::default(),
            key: Vec::new(),
            method: Vec::new(),
            target: Vec::new(),
            path: Vec::new(),
            host: Vec::new(),
            host_port: 0,
            address_texts: AddressTexts::default(),
            query: None,
            params: Params::default(),
            route: None,
            globals: None,
            settings: None,
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            peer: None,
            peer_trusted: false,
            server_port: 0,
            tls: None,
            client_fd: -1,
            began: 0,
            connect_us: None,
            ttfb_us: None,
            body_length: BodyLength::None,
            body_bytes_in: 0,
            body_bytes_out: 0,
            bytes_out: 0,
            head_bytes_in: 0,
            status: 0,
            term: Term::Ok,
            tries: 0,
            outcomes: [Try::default(); TRIES_KEPT],
            current_try: 0,
            further: None,
            uploaded: false,
            waited: false,
            tried_from: 0,
            head_at: 0,
            chosen: None,
            retry_after: None,
            upstream_addr: None,
            upgrade: false,
            host_replaced: false,
            host_made: false,
            close: false,
            response_begun: false,
            added: Head::new(),
            replaced_body: None,
            transforms: Vec::new(),
            mirrors: Vec::new(),
            sticky_cookie: None,
            request_id: String::new(),
            rewritten_query: None,
            slots: Vec::new(),
            slot_index: 0,
            worker: None,
        }
    }
}

/// A scratch buffer larger than this is not kept between exchanges.
const SCRATCH_KEPT_MAX: usize = 128 * 1024;

impl Exchange {
    /// Ready for the next request; memory is kept, contents are not.
    pub fn clear(&mut self) {
        self.request.clear();
        self.response.clear();
        self.attempt.clear();
        if !self.added.is_empty() {
            self.added.clear();
        }
        for scratch in [
            &mut self.scratch,
            &mut self.key,
            &mut self.method,
            &mut self.target,
            &mut self.path,
            &mut self.host,
        ] {
            scratch.clear();
            scratch.shrink_to(SCRATCH_KEPT_MAX);
        }
        self.tls = None;
        self.query = None;
        self.params.clear();
        self.route = None;
        self.globals = None;
        self.settings = None;
        self.connect_us = None;
        self.ttfb_us = None;
        self.body_length = BodyLength::None;
        self.chosen = None;
        self.further = None;
        self.uploaded = false;
        self.waited = false;
        self.retry_after = None;
        self.sticky_cookie = None;
        self.body_bytes_in = 0;
        self.body_bytes_out = 0;
        self.bytes_out = 0;
        self.head_bytes_in = 0;
        self.status = 0;
        self.term = Term::Ok;
        self.tries = 0;
        self.upstream_addr = None;
        self.upgrade = false;
        self.host_replaced = false;
        self.host_made = false;
        self.close = false;
        self.response_begun = false;
        self.replaced_body = None;
        self.transforms.clear();
        self.mirrors.clear();
        self.request_id.clear();
        self.rewritten_query = None;
        self.slots.clear();
        let nothing = Cell::new(0);
        let kept = self.worker.as_ref().map_or(&nothing, |worker| &worker.kept_bytes);
        self.source.clear(kept, SCRATCH_KEPT_MAX);
        self.worker = None;
    }

    /// Binds a cleared exchange, whose request head was just read, to its place.
    pub fn begin(&mut self, worker: &Rc<Worker>, settings: &SharedSettings) {
        self.worker = Some(worker.clone());
        self.settings = Some(settings.clone());
        self.target.extend_from_slice(self.request.target());
        self.method.extend_from_slice(self.request.method_bytes());
    }

    /// Limits and switches; set by [`Exchange::begin`].
    pub fn settings(&self) -> &Settings {
        self.settings.as_ref().expect("begin() was called before any step")
    }

    /// The same, to keep while the exchange is changed.
    pub fn shared_settings(&self) -> SharedSettings {
        self.settings.clone().expect("begin() was called before any step")
    }

    /// Begins a try; what became of it is not known yet.
    pub fn begin_try(&mut self) {
        if let Some(slot) = self.outcomes.get_mut(self.tries as usize) {
            slot.status = 0;
        }
        self.current_try = self.tries;
        self.tries += 1;
    }

    /// Notes the outcome of the try that is waited for.
    pub fn note_try(&mut self, status: u16) {
        if let Some(slot) = self.outcomes.get_mut(self.current_try as usize) {
            slot.status = status;
        }
    }

    /// The status of the try that is waited for.
    pub fn outcome(&self) -> u16 {
        let kept = self.outcomes.get(self.current_try as usize);
        kept.map_or_else(|| self.response.status(), |outcome| outcome.status)
    }

    /// The outcomes of the tries, as far as they were kept.
    pub fn outcomes(&self) -> &[Try] {
        &self.outcomes[..(self.tries as usize).min(TRIES_KEPT)]
    }

    /// `200` or `502, 200`: for the log and the header of statuses.
    pub fn outcomes_text(&self, out: &mut String) {
        for (index, outcome) in self.outcomes().iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            let _ = write!(out, "{separator}{}", outcome.status);
        }
    }

    /// Whether the client speaks HTTP/1.1 (it knows chunks and interim answers).
    pub fn client_is_11(&self) -> bool {
        self.request.version() != Version::Http10
    }

    /// Whether this core takes no further requests on its connections.
    pub fn draining(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.draining())
    }

    /// The method as the client wrote it; empty before a head was read.
    pub fn method_seen(&self) -> &[u8] {
        if self.method.is_empty() {
            self.request.method_bytes()
        } else {
            &self.method
        }
    }

    /// The path as the client wrote it, without the query.
    pub fn path_seen(&self) -> &[u8] {
        let end = memchr::memchr(b'?', &self.target).unwrap_or(self.target.len());
        &self.target[..end]
    }

    fn query_bytes(&self) -> Option<&[u8]> {
        self.query.and_then(|(start, end)| self.target.get(start..end))
    }

    /// `https` for a request that came over TLS.
    pub fn scheme_seen(&self) -> &'static str {
        if self.tls.is_some() {
            "https"
        } else {
            "http"
        }
    }
}

impl Drop for Exchange {
    /// One that was not put back in order, as when its task panicked, gives back what it counts for.
    fn drop(&mut self) {
        if let Some(worker) = &self.worker {
            self.source.clear(&worker.kept_bytes, 0);
        }
    }
}
