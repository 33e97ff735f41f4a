//! Variables of a request: names compiled once, read through one trait.
//!
//! Route conditions, log formats and plugin templates all speak of `remote_addr`
//! or `arg_x`. A name becomes a [`Var`] when the document is read, so that a
//! request compares no strings; who holds the request implements [`Vars`].

use std::borrow::Cow;
use std::fmt;

/// The name of a variable, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Var {
    /// `arg_x`: a parameter of the query.
    Arg(String),
    /// `http_x_y`: a request header, held as `x-y`.
    Http(String),
    /// `cookie_x`
    Cookie(String),
    /// `post_arg_x`: a field of a form body.
    PostArg(String),
    /// `uri_param_x`: what `:x` of the route's path matched.
    UriParam(String),
    /// The path as matched: decoded, dot segments removed.
    Uri,
    /// The target as sent.
    RequestUri,
    /// The host, lower case, without port.
    Host,
    /// `http` or `https`
    Scheme,
    /// The client's address.
    RemoteAddr,
    /// The client's port.
    RemotePort,
    /// The address that the client connected to.
    ServerAddr,
    /// The port that the client connected to.
    ServerPort,
    /// The method.
    RequestMethod,
    /// The query without `?` (also `args`).
    QueryString,
    /// Who was authenticated.
    ConsumerName,
    /// The route's id.
    RouteId,
    /// The route's name.
    RouteName,
    /// The service's id.
    ServiceId,
    /// The request's id.
    RequestId,
    /// The endpoint that was tried last.
    UpstreamAddr,
    /// The response's status.
    Status,
    /// Any other name; whoever holds the request may know it.
    Other(String),
}

const PLAIN: &[(&str, Var)] = &[
    ("uri", Var::Uri),
    ("request_uri", Var::RequestUri),
    ("host", Var::Host),
    ("scheme", Var::Scheme),
    ("remote_addr", Var::RemoteAddr),
    ("remote_port", Var::RemotePort),
    ("server_addr", Var::ServerAddr),
    ("server_port", Var::ServerPort),
    ("request_method", Var::RequestMethod),
    ("query_string", Var::QueryString),
    ("args", Var::QueryString),
    ("consumer_name", Var::ConsumerName),
    ("route_id", Var::RouteId),
    ("route_name", Var::RouteName),
    ("service_id", Var::ServiceId),
    ("request_id", Var::RequestId),
    ("upstream_addr", Var::UpstreamAddr),
    ("status", Var::Status),
];

impl Var {
    /// The names of the variables that are one word, to find one that is near.
    pub(crate) fn plain_names() -> impl Iterator<Item = &'static str> {
        PLAIN.iter().map(|(name, _)| *name)
    }

    /// Takes a name apart; an unknown one becomes [`Var::Other`].
    pub fn parse(name: &str) -> Var {
        if let Some((_, var)) = PLAIN.iter().find(|(plain, _)| *plain == name) {
            return var.clone();
        }
        let after = |prefix| name.strip_prefix(prefix).filter(|rest: &&str| !rest.is_empty());
        if let Some(rest) = after("arg_") {
            Var::Arg(rest.to_owned())
        } else if let Some(rest) = after("http_") {
            Var::Http(rest.to_ascii_lowercase().replace('_', "-"))
        } else if let Some(rest) = after("cookie_") {
            Var::Cookie(rest.to_owned())
        } else if let Some(rest) = after("post_arg_") {
            Var::PostArg(rest.to_owned())
        } else if let Some(rest) = after("uri_param_") {
            Var::UriParam(rest.to_owned())
        } else {
            Var::Other(name.to_owned())
        }
    }
}

impl fmt::Display for Var {
    /// The name as an operator writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Var::Arg(name) => write!(f, "arg_{name}"),
            Var::Http(name) => write!(f, "http_{}", name.replace('-', "_")),
            Var::Cookie(name) => write!(f, "cookie_{name}"),
            Var::PostArg(name) => write!(f, "post_arg_{name}"),
            Var::UriParam(name) => write!(f, "uri_param_{name}"),
            Var::Other(name) => f.write_str(name),
            plain => {
                let found = PLAIN.iter().find(|(_, var)| var == plain);
                f.write_str(found.map_or("", |(name, _)| name))
            }
        }
    }
}

/// Whoever holds a request.
pub trait Vars {
    /// The variable's bytes, or `None` if this request has no such thing.
    fn var(&self, name: &Var) -> Option<Cow<'_, [u8]>>;
}

/// A text with `$name`, `${name}` and `$1`, compiled once.
///
/// `$$` is a dollar sign, and so is one that no name or digit follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Var(Var),
    /// `$1` is the first group of a match, `$0` the whole.
    Capture(usize),
}

impl Template {
    /// Compiles a text. Every text is a template.
    pub fn parse(text: &str) -> Template {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            let (part, length) = part_at(&rest[at + 1..]);
            match part {
                Part::Text(text) => plain.push_str(&text),
                part => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(part);
                }
            }
            rest = &rest[at + 1 + length..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Template { parts }
    }

    /// Whether it is the same text for every request.
    pub fn is_plain(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The variables in it, in written order.
    pub fn vars(&self) -> impl Iterator<Item = &Var> {
        self.parts.iter().filter_map(|part| match part {
            Part::Var(var) => Some(var),
            _ => None,
        })
    }

    /// The highest `$n` in it.
    pub fn capture_max(&self) -> Option<usize> {
        let captures = self.parts.iter().filter_map(|part| match part {
            Part::Capture(number) => Some(*number),
            _ => None,
        });
        captures.max()
    }

    /// Appends the text for one request. What is absent is empty.
    ///
    /// `captures[0]` is the whole match and `captures[n]` its group `n`.
    pub fn render(&self, vars: &dyn Vars, captures: Option<&[&[u8]]>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Var(var) => {
                    if let Some(value) = vars.var(var) {
                        out.extend_from_slice(&value);
                    }
                }
                Part::Capture(number) => {
                    if let Some(group) = captures.and_then(|captures| captures.get(*number)) {
                        out.extend_from_slice(group);
                    }
                }
            }
        }
    }
}

/// What follows a dollar sign, and how many bytes of it.
fn part_at(after: &str) -> (Part, usize) {
    let name_length = |text: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        text.bytes().position(|byte| !letter(byte)).unwrap_or(text.len())
    };
    let named = |name: &str| match name.parse::<usize>() {
        Ok(number) if number < 100 => Part::Capture(number),
        _ => Part::Var(Var::parse(name)),
    };
    if after.starts_with('$') {
        return (Part::Text("$".to_owned()), 1);
    }
    if let Some(inner) = after.strip_prefix('{') {
        let length = name_length(inner);
        if length > 0 && inner[length..].starts_with('}') {
            return (named(&inner[..length]), length + 2);
        }
        return (Part::Text("$".to_owned()), 0);
    }
    if after.starts_with(|c: char| c.is_ascii_digit()) {
        return (named(&after[..1]), 1);
    }
    match name_length(after) {
        0 => (Part::Text("$".to_owned()), 0),
        length => (named(&after[..length]), length),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `a=1 b=2` as a request: names before `=`, values after, `+` for a space.
    pub(crate) struct Pairs(pub Vec<(Var, String)>);

    impl Pairs {
        pub(crate) fn parse(text: &str) -> Pairs {
            let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
            Pairs(pairs.map(|(name, value)| (Var::parse(name), value.replace('+', " "))).collect())
        }
    }

    impl Vars for Pairs {
        fn var(&self, name: &Var) -> Option<Cow<'_, [u8]>> {
            let found = self.0.iter().find(|(var, _)| var == name);
            found.map(|(_, value)| Cow::Borrowed(value.as_bytes()))
        }
    }

    #[test]
    fn names() {
        #[track_caller]
        fn check(name: &str, expected: Var) {
            let var = Var::parse(name);
            assert_eq!(var, expected, "{name}");
            if name != "args" {
                assert_eq!(var.to_string(), name.to_ascii_lowercase());
            }
        }
        check("arg_x", Var::Arg("x".into()));
        check("http_X_Api_Version", Var::Http("x-api-version".into()));
        check("cookie_sid", Var::Cookie("sid".into()));
        check("post_arg_name", Var::PostArg("name".into()));
        check("uri_param_id", Var::UriParam("id".into()));
        check("uri", Var::Uri);
        check("args", Var::QueryString);
        check("arg_", Var::Other("arg_".into()));
        check("whatever", Var::Other("whatever".into()));
        for (name, var) in PLAIN {
            check(name, var.clone());
        }
    }

    #[test]
    fn templates() {
        #[track_caller]
        fn check(template: &str, expected: &str) {
            let pairs = Pairs::parse("remote_addr=1.2.3.4 arg_x=7 uri=/a");
            let mut out = Vec::new();
            Template::parse(template).render(&pairs, Some(&[b"whole", b"one", b"two"]), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{template}");
            assert_eq!(
                Template::parse(template).is_plain(),
                !template.contains(['_', '1', 'r']),
                "{template}"
            );
        }
        check("", "");
        check("abc", "abc");
        check("$remote_addr", "1.2.3.4");
        check("$remote_addr-${arg_x}z", "1.2.3.4-7z");
        check("$uri$uri", "/a/a");
        check("/x/$1/$2$12", "/x/one/twoone2");
        check("${1}0", "one0");
        check("$9arg_x", "arg_x");
        check("no $nothing_here.", "no .");
        check("$$x $ ${ ${} $é €", "$x $ ${ ${} $é €");
    }
}
