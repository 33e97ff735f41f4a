//! An exchange as others may see it: as variables, and as plugins read and change it.

use std::any::Any;
use std::borrow::Cow;
use std::net::IpAddr;

use config::vars::{Var, Vars};
use proto::head::{Head, Name};

use super::Exchange;
use crate::clock;

impl Exchange {
    fn number(value: impl std::fmt::Display) -> Option<Cow<'static, [u8]>> {
        Some(Cow::Owned(value.to_string().into_bytes()))
    }

    /// nginx's variables of a TLS connection.
    fn tls_var(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let tls = self.tls.as_ref()?;
        match name {
            "https" => Some(Cow::Borrowed(b"on")),
            "ssl_protocol" => Some(Cow::Borrowed(tls.version.as_bytes())),
            "ssl_cipher" => Some(Cow::Borrowed(tls.cipher.as_bytes())),
            "ssl_server_name" => tls.name.as_ref().map(|name| Cow::Borrowed(name.as_bytes())),
            "ssl_client_verify" => {
                Some(Cow::Borrowed(if tls.client.is_some() { b"SUCCESS" } else { b"NONE" }))
            }
            "ssl_client_s_dn" => tls.client.as_ref().map(|it| Cow::Borrowed(it.subject.as_bytes())),
            "ssl_client_i_dn" => tls.client.as_ref().map(|it| Cow::Borrowed(it.issuer.as_bytes())),
            "ssl_client_serial" => tls.client.as_ref().map(|it| Cow::Borrowed(it.serial.as_bytes())),
            "ssl_client_fingerprint" => {
                tls.client.as_ref().map(|it| Cow::Borrowed(it.fingerprint.as_bytes()))
            }
            "ssl_session_reused" => Some(Cow::Borrowed(if tls.resumed { b"r" } else { b"." })),
            _ => None,
        }
    }

    fn server_addr(&self) -> Option<Cow<'_, [u8]>> {
        let address = crate::sys::local_addr(self.client_fd)?;
        Self::number(address.ip().to_canonical())
    }
}

impl Vars for Exchange {
    fn var(&self, name: &Var) -> Option<Cow<'_, [u8]>> {
        let borrowed = |bytes: &'_ [u8]| Some(Cow::Owned(bytes.to_vec()));
        match name {
            Var::Arg(name) => {
                let query = match &self.rewritten_query {
                    Some(query) => query,
                    None => self.query_bytes()?,
                };
                proto::target::query_arg(query, name.as_bytes())
            }
            Var::Http(name) => self.request.get_named(name.as_bytes()).map(Cow::Borrowed),
            Var::Cookie(name) => proto::cookie::get(&self.request, name.as_bytes()).map(Cow::Borrowed),
            Var::PostArg(name) => {
                let body = self.source.whole()?;
                let form = self.request.get(Name::ContentType)?;
                form.starts_with(b"application/x-www-form-urlencoded")
                    .then(|| proto::target::query_arg(body, name.as_bytes()))
                    .flatten()
            }
            Var::UriParam(name) => self.params.get(name).map(Cow::Borrowed),
            Var::Uri => Some(Cow::Borrowed(&self.path)),
            Var::RequestUri => Some(Cow::Borrowed(&self.target)),
            Var::Host => Some(Cow::Borrowed(&self.host)),
            Var::Scheme => borrowed(self.scheme_seen().as_bytes()),
            Var::RemoteAddr => Self::number(self.client),
            Var::RemotePort => Self::number(self.peer.map_or(0, |peer| peer.port())),
            Var::ServerAddr => self.server_addr(),
            Var::ServerPort => Self::number(self.server_port),
            Var::RequestMethod => Some(Cow::Borrowed(self.request.method_bytes())),
            Var::QueryString => match &self.rewritten_query {
                Some(query) => Some(Cow::Borrowed(query)),
                None => self.query_bytes().map(Cow::Borrowed),
            },
            Var::RouteId => self.route.as_ref().map(|route| Cow::Owned(route.plan.id().as_bytes().to_vec())),
            Var::RouteName => {
                self.route.as_ref().map(|route| Cow::Owned(route.plan.name().as_bytes().to_vec()))
            }
            Var::ServiceId => {
                let route = self.route.as_ref()?;
                route.plan.service_id().map(|id| Cow::Owned(id.as_bytes().to_vec()))
            }
            Var::RequestId => {
                (!self.request_id.is_empty()).then_some(Cow::Borrowed(self.request_id.as_bytes()))
            }
            Var::UpstreamAddr => {
                self.upstream_addr.as_ref().map(|address| Cow::Owned(address.as_bytes().to_vec()))
            }
            Var::Status => (self.status != 0).then(|| Self::number(self.status)).flatten(),
            Var::Other(name) => self.tls_var(name),
            _ => None,
        }
    }
}

impl plugins::Exchange for Exchange {
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
        self.query_bytes()
    }

    fn set_uri(&mut self, path_and_query: &[u8]) {
        self.request.set_target(path_and_query);
        let question = memchr::memchr(b'?', path_and_query).unwrap_or(path_and_query.len());
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        if proto::target::normalize(&path_and_query[..question], &mut path).is_err() {
            path.clear();
            path.extend_from_slice(&path_and_query[..question]);
        }
        self.path = path;
        self.rewritten_query = path_and_query.get(question + 1..).map(<[u8]>::to_vec);
    }

    fn set_host(&mut self, host: &[u8]) {
        self.request.set(b"Host", host);
        self.host_replaced = true;
    }

    fn scheme(&self) -> &str {
        self.scheme_seen()
    }

    fn body(&self) -> Option<&[u8]> {
        self.source.whole()
    }

    fn response(&self) -> &Head {
        &self.response
    }

    fn response_mut(&mut self) -> &mut Head {
        &mut self.response
    }

    fn set_response_body(&mut self, body: Vec<u8>) {
        self.replaced_body = Some(body);
    }

    fn set_response_transform(&mut self, transform: Box<dyn plugins::Transform>) {
        self.transforms.push(transform);
    }

    fn add_response_header(&mut self, name: &str, value: &[u8]) {
        self.added.append(name.as_bytes(), value);
    }

    fn client_addr(&self) -> IpAddr {
        self.client
    }

    fn now_millis(&self) -> u64 {
        clock::wall_millis()
    }

    fn random(&mut self) -> u64 {
        self.worker.as_ref().map_or(0, |worker| worker.random())
    }

    fn request_id(&self) -> Option<&str> {
        (!self.request_id.is_empty()).then_some(self.request_id.as_str())
    }

    fn set_request_id(&mut self, id: &str) {
        self.request_id.clear();
        self.request_id.push_str(id);
    }

    fn upstream_status(&self) -> Option<u16> {
        let status = if self.tries > 0 { self.outcome() } else { 0 };
        (status != 0).then_some(status)
    }

    fn mirror(&mut self, mirror: plugins::Mirror) {
        self.mirrors.push((self.slot_index, mirror));
    }

    fn slot(&mut self) -> &mut Option<Box<dyn Any>> {
        if self.slots.len() <= self.slot_index {
            self.slots.resize_with(self.slot_index + 1, || None);
        }
        &mut self.slots[self.slot_index]
    }
}
