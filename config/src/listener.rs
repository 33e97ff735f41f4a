//! `[[listeners]]` and `[server] listen`: where the gateway can be reached.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::names;
use crate::place::Place;
use crate::reader::Reader;
use crate::report::{Problem, Report};
use crate::value::Value;

/// The kernel's queue where none is written.
const BACKLOG_DEFAULT: u32 = 4096;
/// The most listeners.
pub const LISTENERS_MAX: usize = 1000;

/// One address that is listened on.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Its name; the address as written where none is given.
    pub name: String,
    /// Where it listens.
    pub address: ListenAddress,
    /// The kernel's queue of connections that wait to be accepted.
    pub backlog: u32,
    /// What is spoken on it; `h1` for now.
    pub protocols: Vec<String>,
    /// Whether it is TLS.
    pub tls: bool,
    /// `off`: a PROXY header is not read.
    pub proxy_protocol: String,
    /// Where it stands.
    pub place: Place,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// One IP address and port (port 0: the kernel picks one).
    Tcp(SocketAddr),
    /// `:8080`: this port on both address families.
    AllFamilies(u16),
    /// `unix:/path`
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(f, "{address}"),
            ListenAddress::AllFamilies(port) => write!(f, ":{port}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ListenAddress {
    /// Reads `:8080`, `*:8080`, `127.0.0.1:8080`, `[::1]:8080`, `unix:/path`.
    ///
    /// # Errors
    ///
    /// Why it is none, and what to write instead.
    pub fn parse(text: &str) -> Result<ListenAddress, (&'static str, String)> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') && !path.ends_with('/') {
                true => Ok(ListenAddress::Unix(PathBuf::from(path))),
                false => Err(("the path of a socket begins with `/`", "write unix:/run/ringway.http".into())),
            };
        }
        if let Some(port) = text.strip_prefix(':').or_else(|| text.strip_prefix("*:")) {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|_| digits);
            return port.map(ListenAddress::AllFamilies).ok_or_else(no_port);
        }
        if let Ok(address) = text.parse() {
            return Ok(ListenAddress::Tcp(address));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            return Err(("the port alone", format!("write :{text}")));
        }
        match names::split_port(text) {
            (host, None) => Err(("the port is missing", format!("write {host}:8080"))),
            (_, Some(port)) if port.parse::<u16>().is_err() => Err(no_port()),
            (_, Some(port)) => Err((
                "must be an IP address, not a name",
                format!("write 127.0.0.1:{port}, [::1]:{port}, or :{port} for every address"),
            )),
        }
    }

    /// Whether two listeners of these addresses would be in each other's way.
    pub(crate) fn collides(&self, other: &ListenAddress) -> bool {
        // Port 0 is another port each time.
        match (self.ports(), other.ports()) {
            (Some((a, a_any)), Some((b, b_any))) => a == b && a != 0 && (self == other || (a_any && b_any)),
            _ => self == other,
        }
    }

    /// Whether a socket that shares no port (the status listener's) finds `address` taken.
    pub(crate) fn takes(&self, address: &SocketAddr) -> bool {
        let any = address.ip().is_unspecified();
        self.ports().is_some_and(|(port, all)| {
            let same = *self == ListenAddress::Tcp(*address);
            port == address.port() && port != 0 && (same || all || any)
        })
    }

    /// The port, and whether it is taken on more than one address.
    fn ports(&self) -> Option<(u16, bool)> {
        match self {
            ListenAddress::Tcp(address) => Some((address.port(), address.ip().is_unspecified())),
            ListenAddress::AllFamilies(port) => Some((*port, true)),
            ListenAddress::Unix(_) => None,
        }
    }
}

fn no_port() -> (&'static str, String) {
    ("the port is no number up to 65535", "write :8080 or 127.0.0.1:8080".to_owned())
}

/// The listeners of `[server] listen`.
pub(crate) fn of_server(server: &Value, report: &mut Report) -> Vec<Listener> {
    // Types were checked where `[server]` was read.
    let Some(value) = server.get("listen") else { return Vec::new() };
    let items = value.as_array().unwrap_or(std::slice::from_ref(value));
    let texts = items.iter().filter_map(|item| Some((item.as_str()?, item.place)));
    texts.filter_map(|(text, place)| Some(Listener::at(address(text, place, report)?, place))).collect()
}

fn address(text: &str, place: Place, report: &mut Report) -> Option<ListenAddress> {
    match ListenAddress::parse(text) {
        Ok(address) => Some(address),
        Err((why, help)) => {
            report.push(Problem::error(place, format!("invalid address `{text}`")).label(why).help(help));
            None
        }
    }
}

impl Listener {
    /// A listener with the defaults, named by its address.
    fn at(address: ListenAddress, place: Place) -> Listener {
        Listener {
            name: address.to_string(),
            address,
            backlog: BACKLOG_DEFAULT,
            protocols: vec!["h1".to_owned()],
            tls: false,
            proxy_protocol: "off".to_owned(),
            place,
        }
    }

    /// Reads a table of `[[listeners]]`.
    pub(crate) fn read(value: &Value, report: &mut Report) -> Option<Listener> {
        let mut reader = Reader::of("Listener", value, report);
        let name = reader.opt_str("name");
        if let Some((name, fault)) = name.and_then(|name| Some((name, names::id_fault(name)?))) {
            let place = reader.value_place("name");
            reader.report().push(
                Problem::error(place, format!("invalid name `{name}`"))
                    .label(fault)
                    .help("write a name such as \"web\", or leave it out"),
            );
        }
        let address_place = reader.value_place("address");
        let address =
            reader.req_str("address").and_then(|text| address(text, address_place, reader.report()));
        let backlog = reader.range("backlog", 1..=1_000_000).map(|backlog| backlog as u32);
        read_protocols(&mut reader);
        let tls = reader.opt_bool("tls").unwrap_or(false);
        reader.one_built("proxy_protocol", &[("off", ())], &["on", "v1", "v2", "optional", "required"]);
        let sound = reader.finish();
        let mut listener = Listener::at(address.filter(|_| sound)?, value.place);
        listener.name = name.map_or(listener.name, str::to_owned);
        listener.tls = tls;
        listener.backlog = backlog.unwrap_or(listener.backlog);
        Some(listener)
    }
}

/// `protocols`: `h1`, the one that is there.
fn read_protocols(reader: &mut Reader<'_, '_>) {
    let list = reader.list("protocols");
    if list.is_empty() && reader.has("protocols") {
        let place = reader.value_place("protocols");
        reader.report().error(place, "`protocols` is empty", "write protocols = [\"h1\"]");
    }
    for (protocol, place) in list {
        match protocol {
            "h1" => {}
            "h2" | "h2c" | "h3" => crate::reader::not_built(reader.report(), place, protocol),
            other => {
                let near = ["h1", "h2", "h3"].into_iter().map(|name| (name, Place::NOWHERE));
                let help = reader.report().suggest(other, near);
                let help = if help.is_empty() { "write protocols = [\"h1\"]".to_owned() } else { help };
                let problem =
                    Problem::error(place, format!("unknown protocol `{other}`")).label("must be `h1`");
                reader.report().push(problem.help(help));
            }
        }
    }
}
