//! What a request's head says: framing, target, host, client, route; and what
//! it has to say before it may go to an upstream.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use proto::framing::{self, BodyLength};
use proto::head::{Head, Method, Name};
use proto::target::{self, Form};

use super::exchange::Exchange;
use super::fault::{Fault, Term};
use crate::http1::Connection;
use crate::plan::CorePlan;

const BAD: Fault = Fault { status: 400, term: Term::BadRequest, close: true };

/// Refuses what two parties could read differently, and fills in what the
/// request is about: body length, path, query, host, client.
pub fn inspect(connection: &Connection, x: &mut Exchange) -> Result<(), Fault> {
    identify(connection, x);
    x.body_length = framing::request_body(&x.request).map_err(|_| BAD)?;
    x.source.begin(x.body_length);
    framing::check_host(&x.request).map_err(|_| BAD)?;
    let served = connection.served.get();
    let requests_max = x.settings().limits.keepalive_requests;
    x.close = !framing::keep_alive(&x.request)
        || connection.worker.draining()
        || (requests_max != 0 && served >= requests_max);
    read_target(x)?;
    check_server_name(connection, x)?;
    check_expectation(x)?;
    if let (BodyLength::Fixed(bytes), Some(limit)) = (x.body_length, x.settings().limits.request_body) {
        if bytes > limit {
            return Err(Fault::refuse(413, Term::Limit));
        }
    }
    x.upgrade = framing::upgrade(&x.request).is_some() && x.client_is_11();
    Ok(())
}

/// Who is asking, for the log as well.
pub fn identify(connection: &Connection, x: &mut Exchange) {
    x.peer = connection.peer;
    x.server_port = connection.listener.port;
    x.tls = connection.socket.session().cloned();
    x.client_fd = connection.socket.raw_fd();
    let peer = connection.peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical());
    let trusted = &x.settings().trusted;
    let peer_trusted = !trusted.is_empty() && is_in(trusted, peer);
    x.client = if peer_trusted { forwarded_client(&x.request, trusted).unwrap_or(peer) } else { peer };
    x.peer_trusted = peer_trusted;
}

fn is_in(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

/// The last address of X-Forwarded-For that is not one of ours.
fn forwarded_client(head: &Head, trusted: &[IpNet]) -> Option<IpAddr> {
    let mut client = None;
    for value in head.get_all(Name::XForwardedFor) {
        for part in value.split(|byte| *byte == b',') {
            let text = std::str::from_utf8(part).ok()?.trim();
            let (host, _) = target::host_of(text.as_bytes());
            let host = std::str::from_utf8(host).ok()?.trim_matches(['[', ']']);
            let address: IpAddr = text.parse().or_else(|_| host.parse()).ok()?;
            let address = address.to_canonical();
            if client.is_none() || !is_in(trusted, address) {
                client = Some(address);
            }
        }
    }
    client
}

fn read_target(x: &mut Exchange) -> Result<(), Fault> {
    let method = x.request.method();
    let parsed = target::parse(&x.target, method).map_err(|_| BAD)?;
    if method == Method::Connect {
        // No route can take a tunnel to anywhere: RFC 9110 section 9.3.6.
        return Err(Fault::refuse(405, Term::BadRequest));
    }
    let span = |span: proto::head::Span| span.start as usize..span.start as usize + span.len as usize;
    let host: &[u8] = match parsed.authority {
        // RFC 9112 section 3.2.2: the absolute form's host counts, Host is ignored.
        Some(authority) => &x.target[span(authority)],
        None => x.request.get(Name::Host).unwrap_or_default(),
    };
    let (name, port) = target::host_of(host);
    x.host.extend_from_slice(name);
    x.host.make_ascii_lowercase();
    x.host_port = port.unwrap_or(x.server_port);
    x.query = parsed.query.map(|query| (span(query).start, span(query).end));
    match parsed.form {
        Form::Asterisk => x.path.extend_from_slice(b"*"),
        _ => {
            let mut path = std::mem::take(&mut x.path);
            let result = target::normalize(&x.target[span(parsed.path)], &mut path);
            x.path = path;
            result.map_err(|_| BAD)?;
        }
    }
    if parsed.form == Form::Absolute {
        to_origin_form(x, &parsed, host_range(&parsed));
    }
    Ok(())
}

fn host_range(parsed: &target::Target) -> std::ops::Range<usize> {
    parsed.authority.map_or(0..0, |span| span.start as usize..span.start as usize + span.len as usize)
}

/// An upstream gets the origin form, with the Host that the absolute form named.
fn to_origin_form(x: &mut Exchange, parsed: &target::Target, host: std::ops::Range<usize>) {
    let path = parsed.path.start as usize;
    let rest = &x.target[path..];
    if parsed.path.len > 0 {
        x.request.set_target(rest);
    } else if x.request.method() == Method::Options && parsed.query.is_none() {
        // RFC 9112 section 3.2.4: OPTIONS of an authority without a path.
        x.request.set_target(b"*");
    } else {
        let query = x.query.map_or(&b""[..], |(start, end)| &x.target[start - 1..end]);
        let target = [b"/", query].concat();
        x.request.set_target(&target);
    }
    x.request.set(b"Host", &x.target[host]);
}

/// A request for a name that has another certificate belongs on a connection of its own (RFC 9110 section 15.5.20):
/// otherwise what that name demands of its clients could be walked around.
fn check_server_name(connection: &Connection, x: &Exchange) -> Result<(), Fault> {
    let Some(shown) = x.tls.as_ref().and_then(|tls| tls.entry.as_ref()) else { return Ok(()) };
    let plan = connection.worker.plan();
    let tls = plan.plan.tls();
    let name = std::str::from_utf8(&x.host).ok();
    match tls.entry(name) {
        Some(wanted) if !shown.covers(wanted) => Err(Fault::answer(421, Term::Misdirected)),
        _ if x.tls.as_ref().is_some_and(|tls| tls.client.is_some()) || shown.lets_in(&x.path) => Ok(()),
        // nginx's answer, and APISIX's, where only some paths go without.
        _ => Err(Fault::answer(400, Term::ClientCertificate)),
    }
}

fn check_expectation(x: &mut Exchange) -> Result<(), Fault> {
    let Some(expect) = x.request.get(Name::Expect) else { return Ok(()) };
    if !expect.eq_ignore_ascii_case(b"100-continue") {
        return Err(Fault::refuse(417, Term::BadRequest));
    }
    if !x.client_is_11() || matches!(x.body_length, BodyLength::None | BodyLength::Fixed(0)) {
        // RFC 9110 section 10.1.1: from a 1.0 client it is ignored.
        x.request.remove(Name::Expect);
    }
    Ok(())
}

/// Finds the route and keeps its parts; the exchange needs no plan from here on.
pub fn route(connection: &Connection, x: &mut Exchange, plan: &CorePlan) -> Result<(), Fault> {
    let worker = &connection.worker;
    let mut params = std::mem::take(&mut x.params);
    let (method, port) = (x.request.method(), x.host_port);
    let mut found = None;
    {
        let this = &*x;
        plan.plan.table().find(&this.host, port, &this.path, &mut params, &mut |candidate, params| {
            let route = plan.route(worker, candidate);
            let seen = Candidate { x: this, params };
            let fits = route.predicate.accepts(method, this.request.method_bytes(), this.client, &seen);
            if fits {
                found = Some(route);
            }
            fits
        });
    }
    x.params = params;
    x.route = found;
    x.globals = Some(plan.globals.clone());
    x.upgrade = x.upgrade && x.route.as_ref().is_some_and(|route| route.plan.websocket());
    Ok(())
}

/// The exchange with the parameters of a route that is still being tried.
struct Candidate<'a> {
    x: &'a Exchange,
    params: &'a balancer::route::Params,
}

impl config::vars::Vars for Candidate<'_> {
    fn var(&self, name: &config::vars::Var) -> Option<std::borrow::Cow<'_, [u8]>> {
        match name {
            config::vars::Var::UriParam(name) => self.params.get(name).map(std::borrow::Cow::Borrowed),
            name => self.x.var(name),
        }
    }
}

/// `OPTIONS *` asks the server as a whole (RFC 9110 section 9.3.7): where no route
/// is meant for it, the gateway answers for itself.
pub fn server_options(x: &Exchange) -> Option<plugins::Answer> {
    let asked = x.route.is_none() && x.path == b"*" && x.request.method() == Method::Options;
    asked.then(|| {
        let allow = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS, TRACE".to_owned();
        plugins::Answer { headers: vec![("Allow".into(), allow)], ..plugins::Answer::status(204) }
    })
}

/// After the global rules had their say: without a route there is nothing to do.
pub fn require_route(x: &Exchange) -> Result<(), Fault> {
    match &x.route {
        Some(_) => Ok(()),
        None => Err(Fault::answer(404, Term::NoRoute)),
    }
}

/// Makes the request one of ours: hop-by-hop fields go, forwarding fields come.
pub fn prepare(x: &mut Exchange) {
    let protocol = x.upgrade.then(|| framing::upgrade(&x.request).map(<[u8]>::to_vec)).flatten();
    proto::hop::strip_request(&mut x.request);
    if let Some(protocol) = protocol {
        x.request.append(b"Connection", b"upgrade");
        x.request.append(b"Upgrade", &protocol);
    }
    drop_consumer_fields(&mut x.request);
    forwarding_fields(x);
    if x.settings().via {
        x.request.append_value(b"Via", b"1.1 ringway");
    }
}

/// `X-Consumer-*` and `X-Credential-Identifier` are ours to set: an upstream
/// trusts them. Underscores count as hyphens for the many servers that fold both.
fn drop_consumer_fields(head: &mut Head) {
    let is_ours = |name: &[u8]| {
        let like = |text: &[u8], word: &[u8]| {
            text.iter().zip(word).all(|(byte, expected)| {
                byte.eq_ignore_ascii_case(expected) || (*byte == b'_' && *expected == b'-')
            })
        };
        (name.len() > 11 && like(&name[..11], b"x-consumer-"))
            || (name.len() == 23 && like(name, b"x-credential-identifier"))
    };
    if head.fields().any(|field| field.id == Name::Other && is_ours(field.name)) {
        head.retain(|field| !is_ours(field.name));
    }
}

fn forwarding_fields(x: &mut Exchange) {
    let peer = x.peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical());
    let texts = &mut x.address_texts;
    x.request.set_known(Name::XRealIp, b"X-Real-IP", texts.client.of(x.client).as_bytes());
    proto::hop::append_forwarded_for(&mut x.request, texts.peer.of(peer));
    let trusted = x.peer_trusted;
    let scheme = x.scheme_seen().as_bytes();
    if !(trusted && x.request.has(Name::XForwardedProto)) {
        x.request.set_known(Name::XForwardedProto, b"X-Forwarded-Proto", scheme);
    }
    if !(trusted && x.request.has(Name::XForwardedHost)) {
        let host = x.request.get(Name::Host).unwrap_or_default();
        x.scratch.clear();
        x.scratch.extend_from_slice(host);
        x.request.set_known(Name::XForwardedHost, b"X-Forwarded-Host", &x.scratch);
    }
    if !(trusted && x.request.has(Name::XForwardedPort)) {
        let mut digits = [0; 20];
        let port = super::answer::decimal(u64::from(x.server_port), &mut digits);
        x.request.set_known(Name::XForwardedPort, b"X-Forwarded-Port", port);
    }
}
