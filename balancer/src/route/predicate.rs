//! What a route asks of a request beyond host and URI: method, client address, variables.
//!
//! One per worker: a regex that two cores share contends for its scratch memory, so a worker clones
//! the predicates of the routes it uses.

use std::net::IpAddr;

use config::expr::Expr;
use config::vars::Vars;
use ipnet::IpNet;
use proto::head::Method;

/// The conditions of one route. The default asks nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predicate {
    /// Bits of the known methods; with `others` empty and no bit set, every method passes.
    methods: u16,
    others: Vec<String>,
    remote_addrs: Vec<IpNet>,
    vars: Option<Expr>,
}

impl From<&config::Route> for Predicate {
    fn from(route: &config::Route) -> Predicate {
        let mut predicate = Predicate {
            remote_addrs: route.remote_addrs.clone(),
            vars: route.vars.clone(),
            ..Predicate::default()
        };
        for method in &route.methods {
            match Method::from_bytes(method.as_bytes()) {
                Method::Other => predicate.others.push(method.clone()),
                known => predicate.methods |= bit(known),
            }
        }
        predicate
    }
}

fn bit(method: Method) -> u16 {
    1 << method as u16
}

impl Predicate {
    /// Whether the route takes a request. `method_bytes` is read only for methods that
    /// [`Method`] does not know; methods are case-sensitive (RFC 9110 section 9.1).
    pub fn accepts(&self, method: Method, method_bytes: &[u8], client: IpAddr, vars: &dyn Vars) -> bool {
        self.accepts_method(method, method_bytes)
            && self.accepts_address(client)
            && self.vars.as_ref().is_none_or(|expr| expr.eval(vars))
    }

    fn accepts_method(&self, method: Method, bytes: &[u8]) -> bool {
        match method {
            _ if self.methods == 0 && self.others.is_empty() => true,
            Method::Other => self.others.iter().any(|other| other.as_bytes() == bytes),
            known => self.methods & bit(known) != 0,
        }
    }

    /// An IPv4 client on a socket of both families is looked up as IPv4.
    fn accepts_address(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.remote_addrs.is_empty() || self.remote_addrs.iter().any(|net| net.contains(&client))
    }

    /// Why the route does not take a request, for people; `None` if it does. The first condition that
    /// fails, in the order in which they are asked.
    pub fn why_not(
        &self,
        method: Method,
        method_bytes: &[u8],
        client: IpAddr,
        vars: &dyn Vars,
    ) -> Option<String> {
        if !self.accepts_method(method, method_bytes) {
            let method = String::from_utf8_lossy(method_bytes);
            return Some(format!("the method is {method}; it takes {}", self.method_list()));
        }
        if !self.accepts_address(client) {
            let nets: Vec<_> = self.remote_addrs.iter().map(address).collect();
            return Some(format!("the client is {client}; it takes {}", nets.join(", ")));
        }
        let expr = self.vars.as_ref().filter(|expr| !expr.eval(vars))?;
        let mut names: Vec<_> = expr.vars().collect();
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(*name));
        let values = names.into_iter().map(|name| match vars.var(name) {
            Some(value) => format!("{name} is \"{}\"", String::from_utf8_lossy(&value).escape_debug()),
            None => format!("{name} is absent"),
        });
        let values: Vec<_> = values.collect();
        Some(format!("its vars do not hold: {}", values.join(", ")))
    }

    fn method_list(&self) -> String {
        use Method::{Connect, Delete, Get, Head, Options, Patch, Post, Put, Trace};
        let known = [Get, Head, Post, Put, Delete, Connect, Options, Trace, Patch];
        let set = known.into_iter().filter(|method| self.methods & bit(*method) != 0);
        let mut names: Vec<&str> = set.map(|method| method.as_str()).collect();
        names.extend(self.others.iter().map(String::as_str));
        names.join(", ")
    }
}

/// A network of one address as that address.
fn address(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::vars::Var;
    use std::borrow::Cow;

    struct NoVars;

    impl Vars for NoVars {
        fn var(&self, name: &Var) -> Option<Cow<'_, [u8]>> {
            (*name == Var::Arg("v".to_owned())).then_some(Cow::Borrowed(b"2"))
        }
    }

    /// `route` in TOML; `"METHOD ADDRESS"`; why not, or nothing.
    fn check(route: &str, request: &str, expected: &str) {
        let text = format!("server.listen = ':8080'\n[[routes]]\nupstream = \"127.0.0.1:1\"\n{route}");
        let (document, report) = config::parse_str("r.toml", &text, &config::MapEnv::default());
        let document = document.unwrap_or_else(|| panic!("{}", report.render(false)));
        let predicate = Predicate::from(&*document.routes[0]);
        let (name, client) = request.split_once(' ').expect("method and client");
        let method = Method::from_bytes(name.as_bytes());
        let client = client.parse().expect("an address");
        let why = predicate.why_not(method, name.as_bytes(), client, &NoVars);
        assert_eq!(why.as_deref().unwrap_or(""), expected, "{route} {request}");
        assert_eq!(predicate.accepts(method, name.as_bytes(), client, &NoVars), why.is_none());
    }

    #[test]
    fn conditions() {
        check("", "BREW 10.0.0.1", "");
        check("methods = ['GET', 'PURGE']", "GET 10.0.0.1", "");
        check("methods = ['GET', 'PURGE']", "PURGE 10.0.0.1", "");
        check("methods = ['GET', 'PURGE']", "BREW 10.0.0.1", "the method is BREW; it takes GET, PURGE");
        check("methods = ['PURGE']", "GET 10.0.0.1", "the method is GET; it takes PURGE");
        check("methods = ['GET']", "PURGE 10.0.0.1", "the method is PURGE; it takes GET");
        let networks = "remote_addrs = ['10.0.0.0/8', '192.0.2.7', '2001:db8::/32']";
        check(networks, "GET 10.1.2.3", "");
        check(networks, "GET ::ffff:10.1.2.3", "");
        check(networks, "GET 2001:db8::5", "");
        check(
            networks,
            "GET 192.0.2.8",
            "the client is 192.0.2.8; it takes 10.0.0.0/8, 192.0.2.7, 2001:db8::/32",
        );
        check("vars = [['arg_v', '==', '2']]", "GET 10.0.0.1", "");
        let why = "its vars do not hold: arg_v is \"2\", http_x_a is absent";
        check("vars = [['arg_v', '>', 2], ['http_x_a', '==', '1'], ['arg_v', '==', 3]]", "GET 10.0.0.1", why);
    }
}
