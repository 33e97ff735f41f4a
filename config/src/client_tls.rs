//! `tls` of an upstream: whom the gateway believes, and as whom it comes, toward endpoints with `scheme = "https"`.
//!
//! Verification is on unless it is switched off in so many words: APISIX's default, off, lets anyone on the way
//! answer for the endpoint.

use crate::names;
use crate::place::Place;
use crate::reader::{wrong_type, Reader};
use crate::report::{Problem, Report};
use crate::server::Secret;
use crate::value::Value;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientTls {
    /// Whether certificates of endpoints are checked.
    pub verify: bool,
    /// PEM certificates of the authorities that are believed; `None` is the system's.
    pub ca: Option<(String, Place)>,
    /// `client_cert` and `client_key`, PEM.
    pub client: Option<crate::ssl::Pair>,
    /// The name asked for and checked; `None` is the node's, or `upstream_host`.
    pub server_name: Option<String>,
    /// Where it stands.
    pub place: Place,
}

impl Default for ClientTls {
    fn default() -> ClientTls {
        ClientTls { verify: true, ca: None, client: None, server_name: None, place: Place::NOWHERE }
    }
}

/// Reads the table.
pub(crate) fn read(value: &Value, report: &mut Report) -> ClientTls {
    let mut reader = Reader::of("UpstreamTls", value, report);
    let verify = reader.opt_bool("verify").unwrap_or(true);
    let ca_place = reader.value_place("ca");
    let ca =
        reader.opt_value("ca").and_then(|value| pem(value, "-----BEGIN CERTIFICATE-----", reader.report()));
    let (cert_place, key_place) = (reader.value_place("client_cert"), reader.value_place("client_key"));
    if reader.has("client_key") {
        reader.report().hide(key_place);
    }
    let cert = reader.opt_value("client_cert");
    let key = reader.opt_value("client_key");
    if cert.is_some() != key.is_some() {
        let place = reader.place();
        let what = "`client_cert` and `client_key` go together";
        reader.report().error(place, what, "write both or neither");
    }
    let cert = cert.and_then(|value| pem(value, "-----BEGIN CERTIFICATE-----", reader.report()));
    let key = key.and_then(|value| pem(value, "PRIVATE KEY-----", reader.report()));
    let client =
        cert.zip(key).map(|(cert, key)| crate::ssl::Pair { cert, key: Secret(key), cert_place, key_place });
    let name_place = reader.value_place("server_name");
    let server_name = reader.opt_str("server_name").map(str::to_ascii_lowercase);
    if let Some(name) = &server_name {
        let is_address = name.parse::<std::net::IpAddr>().is_ok();
        if let Some(fault) = names::host_fault(name).filter(|_| !is_address) {
            let problem = Problem::error(name_place, format!("invalid server name `{name}`")).label(fault);
            reader.report().push(problem);
        }
    }
    if !verify && ca.is_some() {
        reader.report().warning(ca_place, "`ca` has no effect", "remove verify = false");
    }
    reader.not_built(&["client_cert_id"]);
    reader.finish();
    ClientTls { verify, ca: ca.map(|ca| (ca, ca_place)), client, server_name, place: value.place }
}

/// A PEM text; what it says is never repeated.
fn pem(value: &Value, mark: &str, report: &mut Report) -> Option<String> {
    let Some(text) = value.as_str() else {
        wrong_type(report, value, "a string", "write \"${file:/path/to.pem}\"");
        return None;
    };
    if text.contains(mark) {
        return Some(text.to_owned());
    }
    report.hide(value.place);
    let problem = Problem::error(value, "no PEM text").label(format!("there is no `{mark}` in it"));
    report.push(problem.help("write the text of the file, or \"${file:/path/to.pem}\" to have it read"));
    None
}
