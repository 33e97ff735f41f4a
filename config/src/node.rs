//! Nodes: the endpoints of an upstream, in the three ways they can be written.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::names;
use crate::place::Place;
use crate::reader::{integer, wrong_type, Reader};
use crate::report::{Problem, Report};
use crate::units;
use crate::value::{Kind, Value};

/// One endpoint of an upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it is.
    pub address: NodeAddress,
    /// Its share; 0 gets nothing unless all that are usable have 0.
    pub weight: u32,
    /// Its tier: a lower one is used only when all above have failed or are down.
    pub priority: i32,
    /// One tier below all that are no backup.
    pub backup: bool,
    /// Gets nothing.
    pub down: bool,
    /// Failures in a row after which it rests.
    pub max_fails: Option<u32>,
    /// How long it rests.
    pub fail_timeout: Option<Duration>,
    /// Gets no new sessions; sticky ones stay.
    pub drain: bool,
    /// The most requests at once, over all cores; `None` is the upstream's, `u32::MAX` without bound.
    pub max_conns: Option<u32>,
    /// How long it takes to its full share once it is back; `None` is the upstream's.
    pub slow_start: Option<Duration>,
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeAddress {
    /// An IP address and port.
    Ip(SocketAddr),
    /// A name that control resolves, lower case.
    Name {
        /// The host name.
        host: String,
        /// The port.
        port: u16,
    },
    /// `unix:/path`
    Unix(PathBuf),
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeAddress::Ip(address) => write!(f, "{address}"),
            NodeAddress::Name { host, port } => write!(f, "{host}:{port}"),
            NodeAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The largest weight.
pub const WEIGHT_MAX: i64 = 1_000_000;
/// The largest `max_conns`.
pub(crate) const CONNS_MAX: i64 = 1_000_000;
/// The most nodes of an upstream.
pub const NODES_MAX: usize = 10_000;
/// The port where none is given.
const PORT_DEFAULT: u16 = 80;

impl Node {
    /// A node at an address with the defaults: weight 1, no tier, in use.
    pub fn at(address: NodeAddress) -> Node {
        Node {
            address,
            weight: 1,
            priority: 0,
            backup: false,
            down: false,
            max_fails: None,
            fail_timeout: None,
            drain: false,
            max_conns: None,
            slow_start: None,
        }
    }
}

impl NodeAddress {
    /// Reads `10.0.0.1:80`, `[::1]:80`, `name:80`, `unix:/path`; without a port it is 80.
    ///
    /// # Errors
    ///
    /// Why it is none, as a label.
    pub fn parse(text: &str) -> Result<NodeAddress, &'static str> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(NodeAddress::Unix(PathBuf::from(path)))
            } else {
                Err("the path of a socket begins with `/`")
            };
        }
        if text.contains("://") {
            return Err("an address has no scheme; the upstream's `scheme` says it");
        }
        if text.parse::<std::net::Ipv6Addr>().is_ok() {
            return Err("write an IPv6 address in brackets: [::1]:80");
        }
        let (host, port) = names::split_port(text);
        let port = match port {
            None => PORT_DEFAULT,
            Some(port) => port_of(port).ok_or("the port is no number from 1 to 65535")?,
        };
        NodeAddress::of(host, port)
    }

    /// A host and a port.
    fn of(host: &str, port: u16) -> Result<NodeAddress, &'static str> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Ok(NodeAddress::Ip(SocketAddr::new(address, port)));
        }
        if let Some(fault) = names::host_fault(host) {
            return Err(fault);
        }
        if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err("no IPv4 address");
        }
        Ok(NodeAddress::Name { host: host.to_ascii_lowercase(), port })
    }
}

fn port_of(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// Reads `nodes` and `servers`.
pub(crate) fn read(reader: &mut Reader<'_, '_>) -> Vec<Node> {
    let nodes = reader.opt_value("nodes");
    let servers = reader.opt_array("servers");
    let mut list = nodes.map(|nodes| forms(nodes, reader.report())).unwrap_or_default();
    for server in servers.unwrap_or_default() {
        list.extend(line(server, reader.report()));
    }
    if list.len() > NODES_MAX {
        let place = reader.place();
        reader.report().error(place, format!("more than {NODES_MAX} nodes"), "");
        list.truncate(NODES_MAX);
    }
    list
}

/// `nodes`: the array form or the map form.
fn forms(nodes: &Value, report: &mut Report) -> Vec<Node> {
    match &nodes.kind {
        Kind::Array(items) => items.iter().filter_map(|item| table(item, report)).collect(),
        Kind::Table(entries) => {
            let weighed = entries.iter().filter_map(|(key, weight)| {
                let weight = integer(report, "weight", weight, 0..=WEIGHT_MAX);
                let address = address(&key.name, key.place, report)?;
                Some(Node { weight: weight? as u32, ..Node::at(address) })
            });
            weighed.collect()
        }
        _ => {
            wrong_type(report, nodes, "an array or a table", "nodes = { \"127.0.0.1:8080\" = 1 }");
            Vec::new()
        }
    }
}

/// `{ host, port, weight, priority, ... }`
fn table(value: &Value, report: &mut Report) -> Option<Node> {
    if value.as_str().is_some() {
        return line(value, report);
    }
    let mut reader = Reader::of("Node", value, report);
    let host = reader.req_str("host");
    let host_place = reader.value_place("host");
    let port = reader.range("port", 1..=65_535).map(|port| port as u16);
    let address = host.and_then(|host| match (host.starts_with("unix:"), port) {
        (true, Some(_)) => {
            reader.report().error(host_place, "a socket's path has no port", "");
            None
        }
        (false, Some(port)) => named(NodeAddress::of(host, port), host, host_place, reader.report()),
        (_, None) => address(host, host_place, reader.report()),
    });
    let defaults = Node::at(NodeAddress::Unix(PathBuf::new()));
    let node = Node {
        weight: reader.range("weight", 0..=WEIGHT_MAX).map_or(defaults.weight, |weight| weight as u32),
        priority: reader.range("priority", i32::MIN.into()..=i32::MAX.into()).unwrap_or(0) as i32,
        backup: reader.opt_bool("backup").unwrap_or(false),
        down: reader.opt_bool("down").unwrap_or(false),
        max_fails: reader.range("max_fails", 0..=u32::MAX.into()).map(|fails| fails as u32),
        fail_timeout: reader.opt_duration("fail_timeout"),
        drain: reader.opt_bool("drain").unwrap_or(false),
        max_conns: reader.range("max_conns", 0..=CONNS_MAX).map(|most| most as u32),
        slow_start: reader.opt_duration("slow_start"),
        ..defaults
    };
    // The operator's own marks, as APISIX has them: nothing reads them.
    reader.opt_value("metadata");
    let sound = reader.finish();
    let address = address?;
    sound.then_some(Node { address, ..node })
}

/// An address, or a problem.
pub(crate) fn address(text: &str, place: Place, report: &mut Report) -> Option<NodeAddress> {
    named(NodeAddress::parse(text), text, place, report)
}

fn named(
    address: Result<NodeAddress, &'static str>,
    text: &str,
    place: Place,
    report: &mut Report,
) -> Option<NodeAddress> {
    let fault = match address {
        Ok(address) => return Some(address),
        Err(fault) => fault,
    };
    report.push(
        Problem::error(place, format!("invalid address `{text}`"))
            .label(fault)
            .help("write host:port, such as 127.0.0.1:8080, [::1]:8080 or unix:/run/app.sock"),
    );
    None
}

/// A server line as nginx has it: `ADDRESS [weight=N] [max_fails=N] [fail_timeout=T] [max_conns=N]
/// [slow_start=T] [backup] [down] [drain]`.
pub(crate) fn line(value: &Value, report: &mut Report) -> Option<Node> {
    let Some(text) = value.as_str() else {
        wrong_type(report, value, "a string", "write \"127.0.0.1:8080 weight=2\"");
        return None;
    };
    let errors = report.error_count();
    let mut node = None;
    for word in text.split_ascii_whitespace() {
        let start = word.as_ptr() as usize - text.as_ptr() as usize;
        let place = report.sources().within(value.place, text, start..start + word.len());
        match &mut node {
            None => node = Some(Node::at(address(word, place, report)?)),
            Some(node) => parameter(node, word, place, report),
        }
    }
    if node.is_none() {
        report.error(value, "the address is missing", "write \"127.0.0.1:8080\"");
    }
    node.filter(|_| report.error_count() == errors)
}

/// One parameter of a server line.
fn parameter(node: &mut Node, word: &str, place: Place, report: &mut Report) {
    const WORDS: &[&str] =
        &["weight", "max_fails", "fail_timeout", "max_conns", "slow_start", "backup", "down", "drain"];
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    let number = |most: i64, report: &mut Report| {
        let number = value.unwrap_or_default().parse().ok().filter(|number| (0..=most).contains(number));
        if number.is_none() {
            let label = format!("must be {name}=N, N from 0 to {most}");
            report.push(Problem::error(place, format!("invalid parameter `{word}`")).label(label));
        }
        number
    };
    let bits = |number: i64| number as u32;
    match (name, value) {
        ("weight", _) => node.weight = number(WEIGHT_MAX, report).unwrap_or(1) as u32,
        ("max_fails", _) => node.max_fails = number(u32::MAX.into(), report).map(bits),
        ("max_conns", _) => node.max_conns = number(CONNS_MAX, report).map(bits),
        ("fail_timeout", _) => node.fail_timeout = time(word, place, report),
        ("slow_start", _) => node.slow_start = time(word, place, report),
        ("backup", None) => node.backup = true,
        ("down", None) => node.down = true,
        ("drain", None) => node.drain = true,
        _ => {
            let mut help = report.suggest(name, WORDS.iter().map(|word| (*word, Place::NOWHERE)));
            if matches!(name, "backup" | "down" | "drain") {
                help = format!("write `{name}` alone");
            }
            let what = format!("unknown parameter `{word}`");
            let label = format!("must be one of {}", WORDS.join(", "));
            report.push(Problem::error(place, what).label(label).help(help));
        }
    }
}

/// The time of `fail_timeout=30s`, or `fail_timeout=30` as nginx takes it.
fn time(word: &str, place: Place, report: &mut Report) -> Option<Duration> {
    let (name, text) = word.split_once('=').unwrap_or((word, ""));
    let seconds = text.parse().map_err(|_| String::new()).and_then(units::from_seconds);
    let read = seconds.or_else(|_| units::duration(text));
    if let Err(why) = &read {
        let problem = Problem::error(place, format!("invalid parameter `{word}`")).label(why);
        report.push(problem.help(format!("write {name}=30s")));
    }
    read.ok()
}
