//! `discovery_type`, `service_name`, `discovery_args`: nodes that are found and not written.

use crate::node::NodeAddress;
use crate::reader::Reader;
use crate::report::Problem;

/// `discovery_type = "dns"`: nodes from the records of `service_name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The name, lower case.
    pub service_name: String,
    /// Asks for SRV records first (port, weight and priority come from them).
    pub srv: bool,
    /// The port of A and AAAA records: `service_name = "name:port"`. Default 80.
    pub port: u16,
}

/// What APISIX has beside `dns`.
const PLANNED: &[&str] = &["consul", "consul_kv", "eureka", "kubernetes", "nacos", "tars", "zookeeper"];

/// Reads the three, and that no node is written beside them.
pub(crate) fn read(reader: &mut Reader<'_, '_>) -> Option<Discovery> {
    let kind = reader.one_built("discovery_type", &[("dns", ())], PLANNED);
    let name = reader.opt_str("service_name");
    let record = reader.opt_value("discovery_args").and_then(|value| {
        let mut inner = Reader::of("DiscoveryArgs", value, reader.report());
        let record = inner.one_of("record", &[("srv", true), ("a", false)]);
        inner.finish();
        record
    });
    for written in ["nodes", "servers"] {
        reader.only_one(&["service_name", written]);
    }
    let pair =
        [("service_name", "discovery_type", "\"dns\""), ("discovery_type", "service_name", "\"app.local\"")];
    for (there, lacking, example) in pair {
        if reader.has(there) && !reader.has(lacking) {
            let place = reader.value_place(there);
            let problem = Problem::error(place, format!("`{there}` needs `{lacking}`"));
            reader.report().push(problem.help(format!("write {lacking} = {example} as well")));
        }
    }
    if reader.has("discovery_args") && !reader.has("service_name") {
        super::forms::without_effect(
            reader,
            "discovery_args",
            "write `discovery_type` and `service_name` as well",
        );
    }
    kind?;
    let name = name?;
    let label = match NodeAddress::parse(name) {
        Ok(NodeAddress::Name { host, port }) => {
            let srv = record.unwrap_or(host.starts_with('_'));
            return Some(Discovery { service_name: host, srv, port });
        }
        Ok(_) => "an address has no records",
        Err(fault) => fault,
    };
    let place = reader.value_place("service_name");
    let problem = Problem::error(place, format!("invalid service name `{name}`")).label(label);
    let help = "write a name such as app.local, app.local:8080 or _http._tcp.app.local";
    reader.report().push(problem.help(help));
    None
}
