//! `[[services]]`: what several routes have in common.

use crate::place::Place;
use crate::plugin::Plugins;
use crate::route::UpstreamRef;

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
