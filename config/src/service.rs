//! `[[services]]`: what several routes have in common.

use crate::identity::{self, Identity};
use crate::place::Place;
use crate::plugin::{self, Plugins};
use crate::reader::Reader;
use crate::report::Report;
use crate::route::{self, Known, UpstreamRef};
use crate::value::Value;

/// What several routes have in common; a route's own fields win.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its id.
    pub id: String,
    /// Its name for people; empty where none is given.
    pub name: String,
    /// Hosts of the routes that have none, lower case.
    pub hosts: Vec<String>,
    /// Where requests go, unless the route says so itself.
    pub upstream: Option<UpstreamRef>,
    /// Plugins that the route does not have itself.
    pub plugins: Plugins,
    /// Whether an Upgrade passes, unless the route says so itself.
    pub enable_websocket: Option<bool>,
    /// Where it stands.
    pub place: Place,
}

/// Reads the table of a service. Its id is empty where none is given.
pub(crate) fn read(value: &Value, known: &Known, report: &mut Report) -> Option<(Service, Identity)> {
    let mut reader = Reader::of("Service", value, report);
    let identity = identity::read(&mut reader);
    let id = identity.id.clone().unwrap_or_default();
    let upstream = route::read_upstream(&mut reader, &format!("service:{id}"), known);
    let service = Service {
        name: identity.name.clone(),
        hosts: route::read_hosts(&mut reader),
        upstream,
        plugins: plugin::read(&mut reader),
        enable_websocket: reader.opt_bool("enable_websocket"),
        place: value.place,
        id,
    };
    route::refuse_lua(&mut reader);
    reader.finish().then_some((service, identity))
}
