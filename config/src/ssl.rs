//! `[[ssls]]`: certificates by server name, and what is demanded of clients that ask for them.
//!
//! Names and forms are checked here. That a certificate can be read, that its key is the right one, and when it ends
//! is found where it is loaded (`engine::tls`), which reports at the places kept here.

use std::collections::HashMap;

use crate::identity::{self, Identity};
use crate::names;
use crate::place::Place;
use crate::reader::{wrong_type, Reader};
use crate::report::{Problem, Report};
use crate::server::Secret;
use crate::value::Value;

/// The most names of one entry.
const NAMES_MAX: usize = 1000;
/// The most certificates of one entry: one per kind of key is what clients can choose from.
const PAIRS_MAX: usize = 8;
/// The longest chain of a client's certificate, and the one where none is written (nginx's, and APISIX's).
const DEPTH_MAX: i64 = 16;
const DEPTH_DEFAULT: usize = 1;

/// Certificates for a set of names.
#[derive(Clone, Debug, PartialEq)]
pub struct Ssl {
    /// Its id; its name or its first server name where none is given.
    pub id: String,
    /// `snis` or `sni`, lower case: exact names and `*.x`. Empty for the default.
    pub snis: Vec<String>,
    /// The certificates, one per kind of key.
    pub pairs: Vec<Pair>,
    /// `ssl_protocols`: whether TLS 1.2 is spoken, and 1.3.
    pub protocols: Protocols,
    /// `client`: what clients have to show.
    pub client: Option<ClientAuth>,
    /// Whether it is in use (`status`).
    pub enabled: bool,
    /// Where it stands.
    pub place: Place,
}

/// A certificate with its chain, and its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// PEM, the server's own certificate first.
    pub cert: String,
    /// PEM.
    pub key: Secret,
    /// Where the certificate stands.
    pub cert_place: Place,
    /// Where the key stands.
    pub key_place: Place,
}

/// What clients have to show.
#[derive(Clone, Debug)]
pub struct ClientAuth {
    /// PEM certificates of the authorities that are believed.
    pub ca: String,
    /// Where they stand.
    pub ca_place: Place,
    /// Certificates between the client's own and one of `ca`, at most.
    pub depth: usize,
    /// `skip_mtls_uri_regex`, as written: paths that need no certificate.
    pub skip: Vec<String>,
    /// The same, compiled.
    pub skip_regexes: Vec<regex::bytes::Regex>,
}

impl PartialEq for ClientAuth {
    fn eq(&self, other: &ClientAuth) -> bool {
        (&self.ca, self.depth, &self.skip) == (&other.ca, other.depth, &other.skip)
    }
}

/// Which versions are spoken; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    /// TLS 1.2
    pub tls12: bool,
    /// TLS 1.3
    pub tls13: bool,
}

impl Default for Protocols {
    fn default() -> Protocols {
        Protocols { tls12: true, tls13: true }
    }
}

/// Reads the table of an entry.
pub(crate) fn read(value: &Value, report: &mut Report) -> Option<(Ssl, Identity)> {
    let mut reader = Reader::of("Ssl", value, report);
    let identity = identity::read(&mut reader);
    let snis = names_of(&mut reader);
    let pairs = pairs(&mut reader);
    let protocols = protocols(&mut reader);
    let enabled = reader.range("status", 0..=1) != Some(0);
    reader.one_built("type", &[("server", ())], &["client"]);
    reader.not_built(&["ocsp_stapling"]);
    let auth = reader.opt_value("client");
    let client = auth.and_then(|value| client_auth(value, reader.report()));
    let id = identity.id.clone().or_else(|| snis.first().cloned()).unwrap_or_else(|| "default".to_owned());
    let ssl = Ssl { id, snis, pairs, protocols, client, enabled, place: value.place };
    reader.finish().then_some((ssl, identity))
}

/// `sni` and `snis`; `*` alone is the default, as no name is.
fn names_of(reader: &mut Reader<'_, '_>) -> Vec<String> {
    reader.only_one(&["sni", "snis"]);
    let mut list = reader.one_or_list("sni");
    list.extend(reader.one_or_list("snis"));
    let mut snis = Vec::new();
    for (text, place) in list {
        let sni = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        match fault(&sni) {
            None if snis.contains(&sni) => {
                reader.report().error(place, format!("the name `{text}` stands here twice"), "remove one");
            }
            None => snis.push(sni),
            Some(why) => {
                let help =
                    "write a host name such as \"example.com\", \"*.example.com\", or \"*\" for the default";
                let problem = Problem::error(place, format!("invalid server name `{text}`")).label(why);
                reader.report().push(problem.help(help));
            }
        }
    }
    if snis.len() > NAMES_MAX {
        let place = reader.place();
        reader.report().error(
            place,
            format!("more than {NAMES_MAX} names"),
            "split it into several [[ssls]]",
        );
    }
    if snis.iter().any(|sni| sni == "*") {
        if snis.len() > 1 {
            let place = reader.value_place("snis");
            let what = "`*` beside other names";
            reader.report().error(place, what, "give the default an entry of its own in [[ssls]]");
        }
        snis.clear();
    }
    snis
}

fn fault(sni: &str) -> Option<&'static str> {
    if sni == "*" {
        return None;
    }
    let name = sni.strip_prefix("*.").unwrap_or(sni);
    if name.contains('*') {
        return Some("`*` stands only for the whole first label");
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Some("clients send no server name for an IP address; the default answers them");
    }
    names::host_fault(name)
}

fn pairs(reader: &mut Reader<'_, '_>) -> Vec<Pair> {
    let (missing_cert, missing_key) = (reader.require("cert").is_none(), reader.require("key").is_none());
    let mut certs: Vec<&Value> = reader.opt_value("cert").into_iter().collect();
    let mut keys: Vec<&Value> = reader.opt_value("key").into_iter().collect();
    let (more_certs, more_keys) = (reader.opt_array("certs"), reader.opt_array("keys"));
    certs.extend(more_certs.unwrap_or_default());
    keys.extend(more_keys.unwrap_or_default());
    for key in &keys {
        reader.report().hide(key.place);
    }
    if !missing_cert && !missing_key && certs.len() != keys.len() {
        let place = reader.value_place(if reader.has("certs") { "certs" } else { "keys" });
        let what = format!("{} in `certs` and {} in `keys`", certs.len() - 1, keys.len() - 1);
        reader.report().error(place, what, "each further certificate has its key, in the same order");
    }
    if certs.len() > PAIRS_MAX {
        let place = reader.value_place("certs");
        reader.report().error(
            place,
            format!("more than {PAIRS_MAX} certificates"),
            "one per kind of key is enough",
        );
    }
    let mut pairs = Vec::new();
    for (cert, key) in certs.into_iter().zip(keys) {
        let (cert_place, key_place) = (cert.place, key.place);
        let cert = pem(cert, "certificate", "-----BEGIN CERTIFICATE-----", reader.report());
        let key = pem(key, "key", "PRIVATE KEY-----", reader.report());
        if let (Some(cert), Some(key)) = (cert, key) {
            pairs.push(Pair { cert, key: Secret(key), cert_place, key_place });
        }
    }
    pairs
}

/// A PEM text. What it says is never repeated: it may be a key in the wrong place.
fn pem(value: &Value, what: &str, mark: &str, report: &mut Report) -> Option<String> {
    let Some(text) = value.as_str() else {
        wrong_type(report, value, "a string", "write \"${file:/path/to.pem}\"");
        return None;
    };
    if text.contains(mark) {
        return Some(text.to_owned());
    }
    report.hide(value.place);
    let problem =
        Problem::error(value, format!("no {what} in PEM form")).label(format!("there is no `{mark}` in it"));
    report.push(problem.help("write the text of the file, or \"${file:/path/to.pem}\" to have it read"));
    None
}

/// `client = { ca, depth, skip_mtls_uri_regex }`
fn client_auth(value: &Value, report: &mut Report) -> Option<ClientAuth> {
    let mut reader = Reader::of("SslClient", value, report);
    reader.require("ca");
    let ca_place = reader.value_place("ca");
    let ca = reader.opt_value("ca");
    let ca = ca.and_then(|value| pem(value, "certificate", "-----BEGIN CERTIFICATE-----", reader.report()));
    let depth = reader.range("depth", 0..=DEPTH_MAX).map_or(DEPTH_DEFAULT, |depth| depth as usize);
    let list = reader.list("skip_mtls_uri_regex");
    let skip = list.iter().map(|(text, _)| (*text).to_owned()).collect();
    let compiled = list.into_iter().filter_map(|(text, place)| reader.report().regex(place, text, false));
    let skip_regexes = compiled.collect();
    let sound = reader.finish();
    Some(ClientAuth { ca: ca.filter(|_| sound)?, ca_place, depth, skip, skip_regexes })
}

fn protocols(reader: &mut Reader<'_, '_>) -> Protocols {
    let list = reader.list("ssl_protocols");
    if !reader.has("ssl_protocols") {
        return Protocols::default();
    }
    let mut protocols = Protocols { tls12: false, tls13: false };
    for (text, place) in &list {
        match *text {
            "TLSv1.2" => protocols.tls12 = true,
            "TLSv1.3" => protocols.tls13 = true,
            "TLSv1" | "TLSv1.0" | "TLSv1.1" | "SSLv3" | "SSLv2" => {
                let problem = Problem::error(*place, format!("`{text}` is not spoken"));
                let problem = problem.label("broken, and deprecated by RFC 8996");
                reader.report().push(problem.help("write \"TLSv1.2\", \"TLSv1.3\" or both"));
            }
            other => {
                let problem = Problem::error(*place, format!("unknown protocol `{other}`"));
                reader.report().push(problem.label("must be one of `TLSv1.2`, `TLSv1.3`"));
            }
        }
    }
    if list.is_empty() {
        let place = reader.value_place("ssl_protocols");
        reader.report().error(place, "`ssl_protocols` is empty", "leave it out for TLS 1.2 and 1.3");
    }
    protocols
}

/// No name has two entries, and there is one default; a listener with TLS needs one of them.
pub(crate) fn check(document: &crate::Document, report: &mut Report) {
    let used = || document.ssls.iter().filter(|ssl| ssl.enabled);
    let mut seen: HashMap<&str, Place> = HashMap::new();
    let mut default: Option<Place> = None;
    let twice = |place: Place, what: String, first: Place, help: &str, report: &mut Report| {
        let first = report.sources().line_of(first).unwrap_or_default();
        report.push(Problem::error(place, what).label(format!("the first is {first}")).help(help));
    };
    for ssl in used() {
        if ssl.snis.is_empty() {
            match default {
                Some(first) => {
                    let help = "give one of them `snis`, or put both certificates into one entry";
                    twice(ssl.place, "two default certificates".to_owned(), first, help, report);
                }
                None => default = Some(ssl.place),
            }
        }
        for sni in &ssl.snis {
            match seen.get(sni.as_str()) {
                Some(first) => {
                    let what = format!("two certificates for the name `{sni}`");
                    twice(
                        ssl.place,
                        what,
                        *first,
                        "remove one, or put both into one entry with `certs`",
                        report,
                    );
                }
                None => drop(seen.insert(sni, ssl.place)),
            }
        }
    }
    if used().next().is_none() {
        for listener in document.listeners.iter().filter(|listener| listener.tls) {
            let what = format!("the listener `{}` has TLS and there is no certificate", listener.name);
            let problem = Problem::error(listener.place, what).label("no handshake could succeed");
            report.push(problem.help("add [[ssls]] with `snis`, `cert` and `key`, or remove tls = true"));
        }
    }
}
