//! Hosts: exact names, wildcards, ports, from the most specific to the least.
//!
//! Names are kept reversed in a radix tree, so that `*.example.com` is a prefix. `*.x` matches any
//! depth below `x` and `.x` itself, never `x`; `*x`, as APISIX allows it, any name that ends so.
//! A pattern with a port asks for that port and goes before its like without one.
//!
//! IPv6 addresses lose their brackets here, in patterns and in requests: `[::1]:80` is the address
//! `::1` with port 80, and `::1` without brackets is an address, no port.

use super::radix::Radix;
use super::table::RouteError;

/// The longest host pattern, in bytes: a DNS name of 253, a port, some air.
pub(crate) const HOST_BYTES_MAX: usize = 320;

/// A checked host pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPattern {
    /// Lower case, without the star, the brackets and the port, reversed.
    reversed: Box<[u8]>,
    wildcard: bool,
    port: Option<u16>,
}

impl HostPattern {
    pub(crate) fn parse(text: &str) -> Result<HostPattern, RouteError> {
        let bad = |what| RouteError::BadHost { host: text.to_owned(), what };
        if text.len() > HOST_BYTES_MAX {
            return Err(bad("is too long"));
        }
        let (name, port) = match split_port(text) {
            Some((name, port)) => (name, Some(port.parse().map_err(|_| bad("has a bad port"))?)),
            None => (text, None),
        };
        let (wildcard, name) = match name.strip_prefix('*') {
            Some(name) => (true, name),
            None => (false, name),
        };
        if name.is_empty() && !wildcard {
            return Err(bad("is empty"));
        }
        if name.contains('*') {
            return Err(bad("has a `*` elsewhere than at its beginning"));
        }
        let lower = name.to_ascii_lowercase();
        let mut reversed = Vec::new();
        reverse(lower.as_bytes(), &mut reversed);
        Ok(HostPattern { reversed: reversed.into(), wildcard, port })
    }

    /// Whether a request matches; `reversed` as [`reverse`] makes it.
    pub(crate) fn matches(&self, reversed: &[u8], port: u16) -> bool {
        let name = match self.wildcard {
            true => reversed.starts_with(&self.reversed),
            false => *reversed == *self.reversed,
        };
        name && self.port.is_none_or(|own| own == port)
    }

    /// How many bytes of a request's host this pattern shares, from both ends: how near it comes.
    pub(crate) fn shared_bytes(&self, reversed: &[u8]) -> usize {
        let ends = self.reversed.iter().zip(reversed).take_while(|(a, b)| a == b).count();
        let begins =
            self.reversed.iter().rev().zip(reversed.iter().rev()).take_while(|(a, b)| a == b).count();
        ends + begins
    }

    /// Greater is more specific: the order in which [`Hosts::search`] asks.
    pub(crate) fn specificity(&self) -> (bool, usize, bool) {
        (!self.wildcard, self.reversed.len(), self.port.is_some())
    }
}

/// `name:port`, unless the colons are those of a bare IPv6 address.
fn split_port(text: &str) -> Option<(&str, &str)> {
    let (name, port) = text.rsplit_once(':')?;
    let bracketed = name.ends_with(']');
    (bracketed || (!name.contains(':') && !text.ends_with(']'))).then_some((name, port))
}

/// The key of a lower-cased host without its port: reversed, without brackets.
pub(crate) fn reverse(host: &[u8], key: &mut Vec<u8>) {
    let inner = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]"));
    key.clear();
    key.extend(inner.unwrap_or(host).iter().rev());
}

/// Something per host pattern.
pub(crate) struct Hosts<V> {
    tree: Radix<Slot<V>>,
}

impl<V> Clone for Hosts<V> {
    fn clone(&self) -> Self {
        Hosts { tree: self.tree.clone() }
    }
}

impl<V> Default for Hosts<V> {
    fn default() -> Self {
        Hosts { tree: Radix::default() }
    }
}

/// What stands at one name.
#[derive(Clone)]
struct Slot<V> {
    exact: Ports<V>,
    wildcard: Ports<V>,
}

impl<V> Default for Slot<V> {
    fn default() -> Self {
        Slot { exact: Ports::None, wildcard: Ports::None }
    }
}

impl<V> Slot<V> {
    fn ports(&mut self, wildcard: bool) -> &mut Ports<V> {
        match wildcard {
            true => &mut self.wildcard,
            false => &mut self.exact,
        }
    }
}

/// By the port asked for; those with one before the one without. A single one stands in the node.
#[derive(Clone)]
enum Ports<V> {
    None,
    One([(Option<u16>, V); 1]),
    Many(Vec<(Option<u16>, V)>),
}

impl<V> Ports<V> {
    fn list(&self) -> &[(Option<u16>, V)] {
        match self {
            Ports::None => &[],
            Ports::One(one) => one,
            Ports::Many(list) => list,
        }
    }

    fn list_mut(&mut self) -> &mut [(Option<u16>, V)] {
        match self {
            Ports::None => &mut [],
            Ports::One(one) => one,
            Ports::Many(list) => list,
        }
    }

    /// Changes the list as such.
    fn rebuild(&mut self, change: impl FnOnce(&mut Vec<(Option<u16>, V)>)) {
        let mut list = match std::mem::replace(self, Ports::None) {
            Ports::None => Vec::new(),
            Ports::One([one]) => vec![one],
            Ports::Many(list) => list,
        };
        change(&mut list);
        *self = match list.len() {
            0 => Ports::None,
            1 => Ports::One([list.remove(0)]),
            _ => Ports::Many(list),
        };
    }

    fn position(&self, port: Option<u16>) -> Option<usize> {
        self.list().iter().position(|(own, _)| *own == port)
    }
}

impl<V> Hosts<V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// Shows `visit` what stands under the patterns that match, the most specific first, until it gives something.
    pub(crate) fn search<'t, R>(
        &'t self,
        reversed: &[u8],
        port: u16,
        mut visit: impl FnMut(&'t V) -> Option<R>,
    ) -> Option<R> {
        let marked = |slot: &Slot<V>| !matches!(slot.wildcard, Ports::None);
        self.tree.search(reversed, marked, |slot, _, whole| {
            let ports = if whole { &slot.exact } else { &slot.wildcard };
            let fitting = ports.list().iter().filter(|(own, _)| own.is_none_or(|own| own == port));
            fitting.map(|(_, value)| value).find_map(&mut visit)
        })
    }
}

impl<V: Clone + Default> Hosts<V> {
    pub(crate) fn entry(&mut self, pattern: &HostPattern) -> &mut V {
        let ports = self.tree.entry(&pattern.reversed).ports(pattern.wildcard);
        if ports.position(pattern.port).is_none() {
            ports.rebuild(|list| {
                let at = if pattern.port.is_some() { 0 } else { list.len() };
                list.insert(at, (pattern.port, V::default()));
            });
        }
        let at = ports.position(pattern.port).expect("it was there or was inserted");
        &mut ports.list_mut()[at].1
    }

    /// Edits what stands under `pattern`, if anything; drops it when `edit` says that it is empty.
    pub(crate) fn edit(&mut self, pattern: &HostPattern, edit: &mut dyn FnMut(&mut V) -> bool) {
        self.tree.edit(&pattern.reversed, &mut |slot| {
            let ports = slot.ports(pattern.wildcard);
            if let Some(at) = ports.position(pattern.port) {
                if edit(&mut ports.list_mut()[at].1) {
                    ports.rebuild(|list| drop(list.remove(at)));
                }
            }
            matches!((&slot.exact, &slot.wildcard), (Ports::None, Ports::None))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `pattern` takes `request` (a lower-cased host, a space, a port).
    fn check(pattern: &str, request: &str, expected: bool) {
        let (host, port) = request.rsplit_once(' ').expect("host and port");
        let port = port.parse().expect("a port");
        let parsed = HostPattern::parse(pattern).expect(pattern);
        let mut key = Vec::new();
        reverse(host.as_bytes(), &mut key);
        assert_eq!(parsed.matches(&key, port), expected, "{pattern} {request}");
        let mut hosts: Hosts<u32> = Hosts::default();
        *hosts.entry(&parsed) = 1;
        assert_eq!(hosts.search(&key, port, |_| Some(())).is_some(), expected, "{pattern} {request}");
    }

    #[test]
    fn patterns() {
        check("a.com", "a.com 80", true);
        check("A.Com", "a.com 80", true);
        check("a.com", "x.a.com 80", false);
        check("*.a.com", "x.a.com 80", true);
        check("*.a.com", "y.x.a.com 80", true);
        check("*.a.com", ".a.com 80", true);
        check("*.a.com", "a.com 80", false);
        check("*.a.com", "xa.com 80", false);
        check("*a.com", "xa.com 80", true);
        check("*", "anything 80", true);
        check("a.com:8080", "a.com 8080", true);
        check("a.com:8080", "a.com 80", false);
        check("*.a.com:8080", "x.a.com 8080", true);
        check("[::1]:8080", "[::1] 8080", true);
        check("[::1]:8080", "::1 8080", true);
        check("[::1]", "[::1] 80", true);
        check("::1", "[::1] 443", true);
        check("[::1]:8080", "[::1] 80", false);
    }

    #[test]
    fn refused() {
        for bad in ["", ":80", "a.*.com", "a.com:http", "a.com:70000", "**", &"a".repeat(400)] {
            assert!(HostPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn most_specific_first() {
        let mut hosts: Hosts<u32> = Hosts::default();
        let patterns = ["*", "*.com", "*.a.com", "*.a.com:81", "x.a.com", "x.a.com:81", "*.x.a.com"];
        for (number, pattern) in patterns.iter().enumerate() {
            *hosts.entry(&HostPattern::parse(pattern).expect(pattern)) = number as u32;
        }
        let order = |host: &str, port| {
            let mut key = Vec::new();
            reverse(host.as_bytes(), &mut key);
            let mut seen = Vec::new();
            hosts.search(&key, port, |value| {
                seen.push(*value);
                None::<()>
            });
            seen
        };
        assert_eq!(order("x.a.com", 81), [5, 4, 3, 2, 1, 0]);
        assert_eq!(order("x.a.com", 80), [4, 2, 1, 0]);
        assert_eq!(order("y.x.a.com", 80), [6, 2, 1, 0]);
    }
}
