//! A request as it is typed on a command line, read as the gateway would read it.

use std::borrow::Cow;
use std::net::IpAddr;

use config::vars::{Var, Vars};
use proto::head::{Head, Method};
use proto::{cookie, target};

use super::params::Params;

/// The request that [`super::explain()`] asks about.
#[derive(Clone)]
pub struct ExplainRequest {
    pub(crate) method: String,
    pub(crate) scheme: &'static str,
    /// Lower case, without the port.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As sent: path and query.
    target: String,
    query: Option<String>,
    /// Normalised.
    pub(crate) path: Vec<u8>,
    headers: Head,
    pub(crate) client: IpAddr,
}

impl ExplainRequest {
    /// Reads what was typed: the method, a URL (or a path, the host then from `Host`, or `host/path`), fields
    /// as `Name: value`, and the client's address. A `Host` field goes before the URL's host, as curl has it.
    ///
    /// # Errors
    ///
    /// For people: what no HTTP request can hold, and what the gateway would answer with 400.
    pub fn new(
        method: &str,
        url: &str,
        headers: &[String],
        client: IpAddr,
    ) -> Result<ExplainRequest, String> {
        let method_known = Method::from_bytes(method.as_bytes());
        if !proto::head::valid_field_name(method.as_bytes()) || method_known == Method::Connect {
            return Err(format!("`{method}` is no method that can be routed"));
        }
        let (scheme, port_default, authority, target) = split_url(url);
        let mut head = Head::new();
        for field in headers {
            let (name, value) = field
                .split_once(':')
                .ok_or_else(|| format!("`{field}` is no header field; write `Name: value`"))?;
            let value = value.trim();
            let valid = proto::head::valid_field_name(name.as_bytes())
                && proto::head::valid_field_value(value.as_bytes());
            if !valid {
                return Err(format!("`{field}` is no valid header field"));
            }
            head.append(name.as_bytes(), value.as_bytes());
        }
        if !head.has(proto::head::Name::Host) && !authority.is_empty() {
            head.append(b"Host", authority.as_bytes());
        }
        let host = head.get(proto::head::Name::Host).unwrap_or_default();
        if !host.is_empty() && !target::is_authority(host) {
            return Err(format!("`{}` is no host", String::from_utf8_lossy(host)));
        }
        let (name, port) = target::host_of(host);
        let host = String::from_utf8_lossy(name).to_ascii_lowercase();
        let parsed = target::parse(target.as_bytes(), method_known);
        let parsed = parsed.map_err(|error| format!("`{target}`: {error} (the gateway answers 400)"))?;
        let mut path = Vec::new();
        if parsed.form == target::Form::Asterisk {
            path.push(b'*');
        } else {
            target::normalize(parsed.path.of(target.as_bytes()), &mut path)
                .map_err(|error| format!("`{target}`: {error} (the gateway answers 400)"))?;
        }
        let query =
            parsed.query.map(|query| String::from_utf8_lossy(query.of(target.as_bytes())).into_owned());
        Ok(ExplainRequest {
            method: method.to_owned(),
            scheme,
            host,
            port: port.unwrap_or(port_default),
            query,
            path,
            headers: head,
            client,
            target: target.into_owned(),
        })
    }
}

/// Scheme, its port, authority and target of a URL.
fn split_url(url: &str) -> (&'static str, u16, &str, Cow<'_, str>) {
    let url = url.split('#').next().unwrap_or_default();
    let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    let (scheme, port, rest) = if lower.starts_with("https://") {
        ("https", 443, &url[8..])
    } else if lower.starts_with("http://") {
        ("http", 80, &url[7..])
    } else {
        ("http", 80, url)
    };
    if rest == "*" {
        return (scheme, port, "", Cow::Borrowed(rest));
    }
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    match target.starts_with('/') {
        true => (scheme, port, authority, Cow::Borrowed(target)),
        false => (scheme, port, authority, Cow::Owned(format!("/{target}"))),
    }
}

/// The request with the parameters of a route that is being tried.
pub(crate) struct Seen<'a> {
    pub(crate) request: &'a ExplainRequest,
    pub(crate) params: &'a Params,
}

impl Vars for Seen<'_> {
    fn var(&self, name: &Var) -> Option<Cow<'_, [u8]>> {
        let request = self.request;
        let text = |text: &str| Some(Cow::Owned(text.as_bytes().to_vec()));
        match name {
            Var::Arg(name) => target::query_arg(request.query.as_deref()?.as_bytes(), name.as_bytes()),
            Var::Http(name) => request.headers.get_named(name.as_bytes()).map(Cow::Borrowed),
            Var::Cookie(name) => cookie::get(&request.headers, name.as_bytes()).map(Cow::Borrowed),
            Var::UriParam(name) => self.params.get(name).map(Cow::Borrowed),
            Var::Uri => Some(Cow::Borrowed(&request.path)),
            Var::RequestUri => text(&request.target),
            Var::Host => text(&request.host),
            Var::Scheme => text(request.scheme),
            Var::RemoteAddr => text(&request.client.to_string()),
            Var::ServerPort => text(&request.port.to_string()),
            Var::RequestMethod => text(&request.method),
            Var::QueryString => text(request.query.as_deref()?),
            // Not known before the request is there: bodies, ports, consumers, outcomes.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, headers: &[&str], expected: &str) {
        let headers: Vec<String> = headers.iter().map(|field| (*field).to_owned()).collect();
        let client = IpAddr::from([127, 0, 0, 1]);
        let got = match ExplainRequest::new("GET", url, &headers, client) {
            Ok(it) => {
                let path = String::from_utf8_lossy(&it.path);
                let query = it.query.as_deref().unwrap_or("-");
                format!("{} {} {} {path} {query}", it.scheme, it.host, it.port)
            }
            Err(error) => error,
        };
        assert_eq!(got, expected, "{url}");
    }

    #[test]
    fn urls() {
        check("http://A.com/x?y=1#z", &[], "http a.com 80 /x y=1");
        check("https://a.com", &[], "https a.com 443 / -");
        check("a.com:8080/x", &[], "http a.com 8080 /x -");
        check("a.com?q", &[], "http a.com 80 / q");
        check("/x//y/../z", &["Host: b.com:81"], "http b.com 81 /x/z -");
        check("http://a.com/", &["host: b.com"], "http b.com 80 / -");
        check("/x", &[], "http  80 /x -");
        check("http://[::1]:81/x", &[], "http [::1] 81 /x -");
        check("/x", &["Nothing"], "`Nothing` is no header field; write `Name: value`");
        check("/x", &["A b: c"], "`A b: c` is no valid header field");
    }
}
