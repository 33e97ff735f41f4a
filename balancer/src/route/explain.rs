//! `ringway explain`: which route takes a request, and why each nearer one does not.
//!
//! The order comes from a real [`Table`] that is built for the question and asked as the gateway
//! asks its own: an explanation that followed rules of its own could be wrong in exactly the
//! cases for which people need one. Only what a table never looks at is worked out here: routes that
//! would have come first had their host or URI matched, or had they not been switched off.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use config::{Document, Route, RouterMode, UpstreamRef};
use proto::head::Method;

use super::host::{reverse, HostPattern};
use super::params::{Params, Scratch};
use super::pattern::{Pattern, PatternKind};
use super::predicate::Predicate;
pub use super::request::ExplainRequest;
use super::request::Seen;
use super::table::{RouteKey, Table};

/// How many routes with another host, and how many with another URI, are shown.
const MISSES_MAX: usize = 5;

/// What was found; its `Display` is made for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The request in one line.
    request: String,
    /// The id of the route that takes the request.
    pub route: Option<String>,
    /// What is worth knowing of it, a line each.
    details: Vec<String>,
    /// The routes that would have come first, nearest first.
    pub lost: Vec<Lost>,
    /// Routes with another host or URI that are not shown.
    pub hidden: usize,
}

/// A route that did not take the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Its id.
    pub id: String,
    /// `ringway.toml:7`
    pub place: Option<String>,
    /// The condition that failed, as a sentence without its stop.
    pub why: String,
}

/// How specific a match is, in the order of the router mode; greater is nearer.
type Rank = ((bool, usize, bool), (bool, usize), i64, u32);

/// How near a URI comes: by the bytes of the path that it shares, then by how few others it has.
type Near = (usize, Reverse<usize>);

/// A route with what it matches by.
struct Candidate<'d> {
    route: &'d Route,
    hosts: &'d [String],
}

/// Says which route of `document` takes `request`, and why each nearer one does not.
pub fn explain(document: &Document, request: &ExplainRequest) -> Explanation {
    let candidates: Vec<Candidate<'_>> =
        document.routes.iter().map(|route| candidate(document, route)).collect();
    let asker = Asker { document, request, mode: document.server.router };
    asker.explain(&candidates)
}

fn candidate<'d>(document: &'d Document, route: &'d Route) -> Candidate<'d> {
    let service = route.service_id.as_deref().filter(|_| route.hosts.is_empty());
    let hosts = service.and_then(|id| document.service(id)).map_or(&route.hosts, |service| &service.hosts);
    Candidate { route, hosts }
}

struct Asker<'d> {
    document: &'d Document,
    request: &'d ExplainRequest,
    mode: RouterMode,
}

impl Asker<'_> {
    fn explain(&self, candidates: &[Candidate<'_>]) -> Explanation {
        let mut lost = Vec::new();
        let (table, mut asked) = self.table(candidates, &mut lost);
        let mut params = Params::new();
        let method = Method::from_bytes(self.request.method.as_bytes());
        let mut refused: Vec<(usize, String)> = Vec::new();
        let (host, path) = (self.request.host.as_bytes(), &*self.request.path);
        let chosen = table.find(host, self.request.port, path, &mut params, &mut |index, params| {
            asked[**index] = true;
            let seen = Seen { request: self.request, params };
            let predicate = Predicate::from(candidates[**index].route);
            let why = predicate.why_not(method, self.request.method.as_bytes(), self.request.client, &seen);
            if let Some(why) = &why {
                if refused.iter().all(|(known, _)| known != &**index) {
                    refused.push((**index, why.clone()));
                }
            }
            why.is_none()
        });
        let chosen = chosen.map(|index| **index);
        lost.extend(refused.into_iter().map(|(index, why)| self.lost(candidates[index].route, why)));
        let floor = chosen.and_then(|index| self.best(&candidates[index]).taken);
        let others = candidates.iter().zip(&asked).filter(|(_, asked)| !**asked).map(|(other, _)| other);
        let hidden = self.misses(others, floor, &mut lost);
        Explanation {
            request: self.request_line(),
            route: chosen.map(|index| candidates[index].route.id.clone()),
            details: chosen.map_or_else(Vec::new, |index| self.details(&candidates[index], &params)),
            lost,
            hidden,
        }
    }

    /// The table of the routes in service, and which are not to be looked at again.
    fn table(&self, candidates: &[Candidate<'_>], lost: &mut Vec<Lost>) -> (Table<usize>, Vec<bool>) {
        let mut table = Table::new(self.mode);
        let mut settled = vec![false; candidates.len()];
        for (index, candidate) in candidates.iter().enumerate().filter(|(_, it)| it.route.status != 0) {
            let route = candidate.route;
            let key = RouteKey {
                hosts: candidate.hosts.to_vec(),
                uris: route.uris.clone(),
                priority: route.priority,
            };
            if let Err(error) = table.insert(&key, Arc::new(index)) {
                lost.push(self.lost(route, format!("it cannot be used: {error}")));
                settled[index] = true;
            }
        }
        (table, settled)
    }

    fn lost(&self, route: &Route, why: String) -> Lost {
        Lost { id: route.id.clone(), place: self.document.sources.line_of(route.place), why }
    }

    /// Adds the routes that would have come before `floor` but for their host, their URI or their status;
    /// gives the number of those that are not shown.
    fn misses<'c, 'd: 'c>(
        &self,
        others: impl Iterator<Item = &'c Candidate<'d>>,
        floor: Option<Rank>,
        lost: &mut Vec<Lost>,
    ) -> usize {
        let nearer = |rank: &Rank| floor.is_none_or(|floor| *rank > floor);
        let (mut by_host, mut by_uri) = (Vec::new(), Vec::new());
        for other in others {
            let best = self.best(other);
            match (best.taken, best.other_host, best.other_uri) {
                (Some(rank), _, _) if other.route.status == 0 && nearer(&rank) => {
                    lost.push(self.lost(other.route, "it is switched off (status = 0)".to_owned()));
                }
                (None, Some((near, rank)), _) if nearer(&rank) => by_host.push((Reverse(near), other)),
                // Of other URIs only those that share more of the path than the route that was found.
                (None, None, Some((near, why)))
                    if near.0 > 1 && floor.is_none_or(|floor| near.0 > floor.1 .1 && !floor.1 .0) =>
                {
                    by_uri.push((Reverse(near), other, why));
                }
                _ => {}
            }
        }
        by_host.sort_by_key(|(near, _)| *near);
        by_uri.sort_by_key(|(near, _, _)| *near);
        let hidden = by_host.len().saturating_sub(MISSES_MAX) + by_uri.len().saturating_sub(MISSES_MAX);
        for (_, other) in by_host.into_iter().take(MISSES_MAX) {
            let why = format!("the host is {}; it takes {}", self.host_and_port(), other.hosts.join(", "));
            lost.push(self.lost(other.route, switched(other.route, why)));
        }
        for (_, other, why) in by_uri.into_iter().take(MISSES_MAX) {
            lost.push(self.lost(other.route, switched(other.route, why)));
        }
        hidden
    }

    fn host_and_port(&self) -> String {
        match (self.request.host.as_str(), self.request.port) {
            ("", _) => "missing".to_owned(),
            (host, 80 | 443) => host.to_owned(),
            (host, port) => format!("{host}:{port}"),
        }
    }

    /// The nearest that a route comes to the request, over all its hosts and URIs.
    fn best(&self, candidate: &Candidate<'_>) -> Best {
        let mut key = Vec::new();
        reverse(self.request.host.as_bytes(), &mut key);
        let hosts: Vec<HostPattern> =
            candidate.hosts.iter().filter_map(|host| HostPattern::parse(host).ok()).collect();
        let matching = hosts.iter().filter(|host| host.matches(&key, self.request.port));
        let any = (false, 0, false);
        let value = |host: &HostPattern| match (self.mode, host.specificity()) {
            // Of two exact names neither is nearer, however long.
            (RouterMode::HostUri, (true, _, port)) => (true, 0, port),
            (RouterMode::HostUri, wildcard) => wildcard,
            // The host decides nothing but whether the route is asked.
            _ => any,
        };
        let taken_host = if hosts.is_empty() { Some(any) } else { matching.map(value).max() };
        let wanted_host = hosts.iter().map(|host| (host.shared_bytes(&key), value(host))).max();
        let params = self.mode == RouterMode::UriWithParameter;
        let mut best = Best::default();
        for uri in &candidate.route.uris {
            let Ok(pattern) = Pattern::parse(uri, params) else { continue };
            if !fits(&pattern, &self.request.path) {
                let miss = uri_miss(uri, &pattern, &self.request.path);
                if taken_host.is_some() && best.other_uri.as_ref().is_none_or(|known| miss.0 > known.0) {
                    best.other_uri = Some(miss);
                }
                continue;
            }
            let exact = pattern.kind == PatternKind::Exact;
            let rank = |host| (host, (exact, pattern.prefix.len()), candidate.route.priority, pattern.length);
            if let Some(host) = taken_host {
                best.taken = best.taken.max(Some(rank(host)));
            } else if let Some((near, host)) = wanted_host {
                best.other_host = best.other_host.max(Some((near, rank(host))));
            }
        }
        best
    }

    fn request_line(&self) -> String {
        let request = self.request;
        let path = String::from_utf8_lossy(&request.path);
        let path = path.escape_debug();
        let url = match (request.host.as_str(), request.port, request.scheme) {
            ("", _, _) => format!("{path} without a host"),
            (host, 80, "http") | (host, 443, "https") => format!("{}://{host}{path}", request.scheme),
            (host, port, scheme) => format!("{scheme}://{host}:{port}{path}"),
        };
        format!("{} {url} from {}", request.method, request.client)
    }

    fn details(&self, chosen: &Candidate<'_>, params: &Params) -> Vec<String> {
        let route = chosen.route;
        let mut details = Vec::new();
        if let Some(place) = self.document.sources.line_of(route.place) {
            details.push(format!("written at {place}"));
        }
        let hosts = if chosen.hosts.is_empty() { "any".to_owned() } else { chosen.hosts.join(", ") };
        details.push(format!("host {hosts}; uri {}; priority {}", route.uris.join(", "), route.priority));
        for (name, value) in params.iter() {
            let text = |bytes| String::from_utf8_lossy(bytes).escape_debug().to_string();
            details.push(format!("parameter {} = \"{}\"", text(name), text(value)));
        }
        let service = route.service_id.as_deref().and_then(|id| self.document.service(id));
        if let Some(service) = service {
            details.push(format!("service {}", service.id));
        }
        let upstream =
            route.upstream.as_ref().or_else(|| service.and_then(|service| service.upstream.as_ref()));
        details.push(match upstream {
            Some(UpstreamRef::Id(id)) => format!("upstream {id}"),
            Some(UpstreamRef::Inline(inline)) => match inline.nodes.len() {
                1 => "upstream of its own with 1 node".to_owned(),
                nodes => format!("upstream of its own with {nodes} nodes"),
            },
            None => "no upstream".to_owned(),
        });
        details
    }
}

#[derive(Default)]
struct Best {
    /// Host and URI match, so specifically.
    taken: Option<Rank>,
    /// Only the host does not: how much of it does, and how specific the match would be.
    other_host: Option<(usize, Rank)>,
    /// Only the URI does not: how much of the path does, and why not.
    other_uri: Option<(Near, String)>,
}

fn fits(pattern: &Pattern, path: &[u8]) -> bool {
    path.starts_with(&pattern.prefix) && pattern.capture(path, &mut Params::new(), &mut Scratch::default())
}

/// How many bytes of the path a URI shares, and why it does not match.
fn uri_miss(uri: &str, pattern: &Pattern, path: &[u8]) -> (Near, String) {
    let same = |(a, b): &(&u8, &u8)| a.eq_ignore_ascii_case(b);
    let shared = pattern.prefix.iter().zip(path).take_while(same).count();
    let shown = String::from_utf8_lossy(path);
    let (without_slash, slash) = (path.strip_suffix(b"/"), [path, b"/"].concat());
    let why = if pattern.kind == PatternKind::Exact {
        if without_slash == Some(&*pattern.prefix) {
            format!("the path {shown} ends with a slash, its uri {uri} does not")
        } else if *pattern.prefix == *slash {
            format!("its uri {uri} ends with a slash, the path {shown} does not")
        } else if pattern.prefix.eq_ignore_ascii_case(path) {
            format!("its uri {uri} is spelled with other letter case")
        } else {
            format!("the path is not {uri}")
        }
    } else if *pattern.prefix == *slash {
        format!("the path {shown} lacks the slash that its uri {uri} asks for")
    } else if path.starts_with(&pattern.prefix) {
        format!("the path does not fit {uri} behind its first {shared} bytes")
    } else {
        format!("the path does not begin with {}", String::from_utf8_lossy(&pattern.prefix))
    };
    ((shared, Reverse(pattern.prefix.len())), why)
}

fn switched(route: &Route, why: String) -> String {
    if route.status == 0 {
        format!("{why}; also it is switched off (status = 0)")
    } else {
        why
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.route {
            Some(id) => writeln!(f, "route `{id}` takes {}", self.request)?,
            None => {
                writeln!(f, "no route takes {}", self.request)?;
                writeln!(f, "  the answer is 404 {{\"error_msg\":\"404 Route Not Found\"}}")?;
            }
        }
        for detail in &self.details {
            writeln!(f, "  {detail}")?;
        }
        if !self.lost.is_empty() {
            writeln!(f, "nearer, but not taken:")?;
        }
        for lost in &self.lost {
            match &lost.place {
                Some(place) => writeln!(f, "  `{}` ({place}): {}", lost.id, lost.why)?,
                None => writeln!(f, "  `{}`: {}", lost.id, lost.why)?,
            }
        }
        if self.hidden > 0 {
            writeln!(f, "  and {} more whose host or uri is another", self.hidden)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
server.listen = ":8080"

[[upstreams]]
name = "backend"
servers = ["127.0.0.1:3000"]

[[services]]
name = "shop"
hosts = ["shop.test", "*.shop.test"]
upstream = "backend"

[[routes]]
name = "users-v2"
host = "api.test"
uri = "/users/*"
vars = [["http_x_version", "==", "2"], ["arg_beta", "~=", "no"]]
upstream = ["127.0.0.1:1", "127.0.0.1:2"]

[[routes]]
name = "users-write"
host = "api.test"
uri = "/users/*"
methods = ["POST", "PUT"]
upstream = "backend"

[[routes]]
name = "office"
host = "api.test"
uri = "/users/*"
remote_addrs = ["10.0.0.0/8"]
upstream = "backend"

[[routes]]
name = "old-users"
host = "api.test"
uri = "/users/7"
status = 0
upstream = "backend"

[[routes]]
name = "elsewhere"
host = "api.example"
uri = "/users/*"
upstream = "backend"

[[routes]]
name = "user-list"
host = "api.test"
uri = "/users"
upstream = "backend"

[[routes]]
name = "cart"
uri = "/cart/*"
service_id = "shop"

[[routes]]
name = "rest"
uri = "/*"
upstream = "backend"
"#;

    /// The whole text, without the lines' final newline.
    fn check(file: &str, arguments: &str, expected: &str) {
        let (document, report) = config::parse_str("ringway.toml", file, &config::MapEnv::default());
        let document = document.unwrap_or_else(|| panic!("{}", report.render(false)));
        let mut words = arguments.split(' ');
        let (method, url) = (words.next().expect("a method"), words.next().expect("a URL"));
        let headers: Vec<String> = words.map(|field| field.replace(':', ": ")).collect();
        let client = std::net::IpAddr::from([192, 0, 2, 1]);
        let request = ExplainRequest::new(method, url, &headers, client).expect(arguments);
        assert_eq!(explain(&document, &request).to_string(), expected.trim_start(), "{arguments}");
    }

    #[test]
    fn refused_by_conditions() {
        check(
            FILE,
            "GET http://api.test/users/7",
            r#"
route `rest` takes GET http://api.test/users/7 from 192.0.2.1
  written at ringway.toml:58
  host any; uri /*; priority 0
  upstream backend
nearer, but not taken:
  `users-v2` (ringway.toml:13): its vars do not hold: http_x_version is absent, arg_beta is absent
  `users-write` (ringway.toml:20): the method is GET; it takes POST, PUT
  `office` (ringway.toml:27): the client is 192.0.2.1; it takes 10.0.0.0/8
  `old-users` (ringway.toml:34): it is switched off (status = 0)
  `elsewhere` (ringway.toml:41): the host is api.test; it takes api.example
  `user-list` (ringway.toml:47): the path is not /users
"#,
        );
    }

    #[test]
    fn taken() {
        check(
            FILE,
            "POST http://api.test/users/7?beta=yes X-Version:2",
            r#"
route `users-v2` takes POST http://api.test/users/7 from 192.0.2.1
  written at ringway.toml:13
  host api.test; uri /users/*; priority 0
  upstream of its own with 2 nodes
nearer, but not taken:
  `old-users` (ringway.toml:34): it is switched off (status = 0)
"#,
        );
        check(
            FILE,
            "GET http://eu.shop.test/cart/1",
            r#"
route `cart` takes GET http://eu.shop.test/cart/1 from 192.0.2.1
  written at ringway.toml:53
  host shop.test, *.shop.test; uri /cart/*; priority 0
  service shop
  upstream backend
"#,
        );
    }

    #[test]
    fn nearly() {
        let without_rest = FILE.split("[[routes]]\nname = \"rest\"").next().expect("the first part");
        check(
            without_rest,
            "GET http://api.test/users/",
            r#"
no route takes GET http://api.test/users/ from 192.0.2.1
  the answer is 404 {"error_msg":"404 Route Not Found"}
nearer, but not taken:
  `users-v2` (ringway.toml:13): its vars do not hold: http_x_version is absent, arg_beta is absent
  `users-write` (ringway.toml:20): the method is GET; it takes POST, PUT
  `office` (ringway.toml:27): the client is 192.0.2.1; it takes 10.0.0.0/8
  `elsewhere` (ringway.toml:41): the host is api.test; it takes api.example
  `old-users` (ringway.toml:34): the path is not /users/7; also it is switched off (status = 0)
  `user-list` (ringway.toml:47): the path /users/ ends with a slash, its uri /users does not
"#,
        );
        check(
            without_rest,
            "GET http://api.test:8080/Users",
            r#"
no route takes GET http://api.test:8080/Users from 192.0.2.1
  the answer is 404 {"error_msg":"404 Route Not Found"}
nearer, but not taken:
  `user-list` (ringway.toml:47): its uri /users is spelled with other letter case
  `users-v2` (ringway.toml:13): the path does not begin with /users/
  `users-write` (ringway.toml:20): the path does not begin with /users/
  `office` (ringway.toml:27): the path does not begin with /users/
  `old-users` (ringway.toml:34): the path is not /users/7; also it is switched off (status = 0)
"#,
        );
        check(
            without_rest,
            "GET http://cart.test/cart/1",
            r#"
no route takes GET http://cart.test/cart/1 from 192.0.2.1
  the answer is 404 {"error_msg":"404 Route Not Found"}
nearer, but not taken:
  `cart` (ringway.toml:53): the host is cart.test; it takes shop.test, *.shop.test
"#,
        );
    }

    #[test]
    fn parameters() {
        let file = r#"
server = { listen = ":8080", router = "radixtree_uri_with_parameter" }
[[routes]]
name = "pet"
uri = "/users/:id/pets/*name"
upstream = "127.0.0.1:1"
vars = [["uri_param_id", "~~", "^[0-9]+$"]]
[[routes]]
name = "anything"
uri = "/users/*"
upstream = "127.0.0.1:1"
"#;
        check(
            file,
            "GET /users/7/pets/rex",
            r#"
route `pet` takes GET /users/7/pets/rex without a host from 192.0.2.1
  written at ringway.toml:3
  host any; uri /users/:id/pets/*name; priority 0
  parameter id = "7"
  parameter name = "rex"
  upstream of its own with 1 node
"#,
        );
        check(
            file,
            "GET /users/me/pets/rex",
            r#"
route `anything` takes GET /users/me/pets/rex without a host from 192.0.2.1
  written at ringway.toml:8
  host any; uri /users/*; priority 0
  parameter :ext = "me/pets/rex"
  upstream of its own with 1 node
nearer, but not taken:
  `pet` (ringway.toml:3): its vars do not hold: uri_param_id is "me"
"#,
        );
        check(
            file,
            "GET /users/me",
            r#"
route `anything` takes GET /users/me without a host from 192.0.2.1
  written at ringway.toml:8
  host any; uri /users/*; priority 0
  parameter :ext = "me"
  upstream of its own with 1 node
"#,
        );
    }

    #[test]
    fn only_the_nearest_of_many() {
        let mut file = "server.listen = ':8080'\n".to_owned();
        for number in 0..30 {
            file += &format!("[[routes]]\nhost = 'h{number}.test'\nuri = '/*'\nupstream = '127.0.0.1:1'\n");
        }
        check(
            &file,
            "GET http://h3.tes/",
            r#"
no route takes GET http://h3.tes/ from 192.0.2.1
  the answer is 404 {"error_msg":"404 Route Not Found"}
nearer, but not taken:
  `route-67617cfe9c` (ringway.toml:14): the host is h3.tes; it takes h3.test
  `route-24f1f3ad4b` (ringway.toml:2): the host is h3.tes; it takes h0.test
  `route-987278ae03` (ringway.toml:6): the host is h3.tes; it takes h1.test
  `route-54fe418afe` (ringway.toml:10): the host is h3.tes; it takes h2.test
  `route-c7424ebd1c` (ringway.toml:18): the host is h3.tes; it takes h4.test
  and 25 more whose host or uri is another
"#,
        );
    }
}
