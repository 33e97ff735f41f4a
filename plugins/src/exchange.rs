//! What a plugin sees of one request and its response.
//!
//! A trait, because the engine's exchange holds sockets, buffers and the plan,
//! none of which a plugin may touch; the tests put a plain struct in its place.
//! It is object safe and used as `dyn`: a chain mixes plugins at run time, and
//! one vtable call costs less than a copy of the chain per exchange type.
//!
//! Time and randomness come from here, never from the system: a plugin's test
//! sets both.

use std::any::Any;
use std::net::IpAddr;
use std::time::Duration;

use config::vars::Vars;
use proto::head::Head;

/// One request and its response, as plugins may read and change them.
///
/// The request side is complete when `on_rewrite` is called; the response side
/// ([`response`](Exchange::response) and what edits it) has a meaning from
/// `on_response` on, before that it is an empty head.
pub trait Exchange: Vars {
    /// This exchange as the source of variables, for templates and expressions.
    fn vars(&self) -> &dyn Vars;

    /// The request head as it will go upstream. Its target is in origin form, as
    /// [`set_uri`](Exchange::set_uri) left it; target and host are changed by that and by
    /// [`set_host`](Exchange::set_host) alone.
    fn request(&self) -> &Head;
    /// The same, to edit. The framing fields (`Content-Length`,
    /// `Transfer-Encoding`) are the engine's: what a plugin does to them is overwritten.
    fn request_mut(&mut self) -> &mut Head;
    /// The path as matched: percent-decoded once, dot segments removed, slashes merged.
    /// After [`set_uri`](Exchange::set_uri) it is the rewritten one.
    fn uri(&self) -> &[u8];
    /// The query as it came, without its `?`; `None` where there is no `?`.
    fn query(&self) -> Option<&[u8]>;
    /// Replaces path and query of the upstream request. `path_and_query` is sent
    /// as it is: it begins with `/` and is percent-encoded already.
    fn set_uri(&mut self, path_and_query: &[u8]);
    /// Replaces the `Host` of the upstream request, whatever `pass_host` says.
    fn set_host(&mut self, host: &[u8]);
    /// `http` or `https`: how the client reached the gateway.
    fn scheme(&self) -> &str;
    /// The request body, complete, after [`Verdict::NeedBody`](crate::Verdict::NeedBody) was answered by
    /// [`Resume::Body`](crate::Resume::Body); `None` before.
    fn body(&self) -> Option<&[u8]>;

    /// The response head as it will go to the client.
    fn response(&self) -> &Head;
    /// The same, to edit. Framing fields are the engine's.
    fn response_mut(&mut self) -> &mut Head;
    /// Replaces the response's body by these bytes; what the upstream still sends
    /// is not forwarded. The engine writes the new length, and no body where the
    /// answer may have none (HEAD, 204, 304).
    fn set_response_body(&mut self, body: Vec<u8>);
    /// Sends the response's body through `transform`. The length is unknown from
    /// then on, so the engine frames it anew. A second transform is fed by the first.
    fn set_response_transform(&mut self, transform: Box<dyn Transform>);
    /// Keeps a field, set on the request side, for whatever response goes out, an
    /// answer of the gateway as well. It is appended after `on_response` was asked of all.
    /// `name` and `value` are valid (RFC 9110 sections 5.1 and 5.5).
    fn add_response_header(&mut self, name: &str, value: &[u8]);

    /// The client's address, after trusted proxies were believed.
    fn client_addr(&self) -> IpAddr;
    /// Milliseconds since the Unix epoch, as of this turn of the loop.
    fn now_millis(&self) -> u64;
    /// 64 random bits, from a generator that is seeded by the system and not
    /// predictable from earlier values.
    fn random(&mut self) -> u64;

    /// The id of this request, if one was set.
    fn request_id(&self) -> Option<&str>;
    /// Sets the id that the access log and `$request_id` show.
    fn set_request_id(&mut self, id: &str);

    /// The status that the last try's endpoint answered, or the 502 or 504 that its failure stands for, from
    /// `on_response` on; `None` when no endpoint was asked.
    fn upstream_status(&self) -> Option<u16>;

    /// Sends a copy of the request, as it goes to the upstream and with its body, to one of the plugin's
    /// own upstreams as well. Nothing of its answer is kept, and the original never waits for it.
    fn mirror(&mut self, mirror: Mirror);

    /// What the plugin being asked keeps for itself between two askings of this
    /// exchange. The engine knows whom it asks, so there is no index.
    fn slot(&mut self) -> &mut Option<Box<dyn Any>>;
}

/// Where a copy of a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Which of [`crate::Plugin::upstreams`].
    pub upstream: usize,
    /// Path and query of the copy, percent-encoded; `None` are the original's.
    pub target: Option<Vec<u8>>,
    /// The `Host` of the copy; `None` is the original's.
    pub host: Option<String>,
}

/// Changes a body while it streams.
pub trait Transform {
    /// Takes the next piece of the body and appends what can be said already to
    /// `out` (which is empty or holds earlier output, never to be changed).
    fn push(&mut self, input: &[u8], out: &mut Vec<u8>);
    /// The body has ended: appends the rest to `out`.
    fn finish(&mut self, out: &mut Vec<u8>);
}

/// One try at one endpoint, before it is sent.
pub struct Attempt<'a> {
    /// This try's own copy of the request head.
    pub head: &'a mut Head,
    /// 0 for the first try.
    pub number: u32,
    /// The endpoint's address as the log shows it: `127.0.0.1:8080`, `unix:/path`.
    pub endpoint: &'a str,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The status that was sent to the client, 499 if it left before.
    pub status: u16,
    /// Bytes of the request body that were read.
    pub body_bytes_in: u64,
    /// Bytes of the response body that were sent.
    pub body_bytes_out: u64,
    /// From the first byte of the request's head to the last of the response.
    pub duration: Duration,
    /// Tries at endpoints.
    pub tries: u32,
}
