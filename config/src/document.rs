//! The document: everything the operator wrote, checked, with defaults filled in.
//!
//! Plain data with public fields. It is what was *meant* and not yet what runs:
//! references are ids, plugin settings are trees, names are unresolved. The engine
//! compiles it to a plan; `check` looks at it whole; `diff` compares two.
//!
//! Resources are shared pointers, so that a plan made from the next document can
//! keep what did not change without copying it.

use std::sync::Arc;

pub use crate::client_tls::ClientTls;
pub use crate::cores::{Buffers, Cores, Count, Driver, Ring};
pub use crate::listener::{ListenAddress, Listener};
pub use crate::log::{Access, Control, Diagnostics, Dns, Format, Log, Status};
pub use crate::node::{Node, NodeAddress};
pub use crate::place::Sources;
pub use crate::plugin::{GlobalRule, Meta, PluginConfig, PluginEntry, Plugins};
pub use crate::route::{Route, Timeouts, UpstreamRef};
pub use crate::server::{Limits, RouterMode, Secret, Server};
pub use crate::service::Service;
pub use crate::ssl::{ClientAuth, Pair, Protocols, Ssl};
pub use crate::upstream::{Keepalive, PassHost, Scheme, Upstream};

/// Everything the operator wrote. Equality ignores where it was written.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// `[server]`
    pub server: Server,
    /// `[log]`
    pub log: Log,
    /// `[status]`
    pub status: Status,
    /// `[control]`
    pub control: Control,
    /// `[discovery.dns]`
    pub dns: Dns,
    /// `[cores]`
    pub cores: Cores,
    /// `[[listeners]]` and what `[server] listen` says; never empty.
    pub listeners: Vec<Arc<Listener>>,
    /// `[[ssls]]`
    pub ssls: Vec<Arc<Ssl>>,
    /// `[[upstreams]]` (not those written inside routes and services)
    pub upstreams: Vec<Arc<Upstream>>,
    /// `[[services]]`
    pub services: Vec<Arc<Service>>,
    /// `[[routes]]`, in written order.
    pub routes: Vec<Arc<Route>>,
    /// `[[plugin_configs]]`
    pub plugin_configs: Vec<Arc<PluginConfig>>,
    /// `[[global_rules]]`
    pub global_rules: Vec<Arc<GlobalRule>>,
    /// A digest of what was written, `${...}` resolved, layout and comments left out: 64 hex digits.
    pub digest: String,
    /// The files it came from, to say where a resource stands.
    pub sources: Sources,
}

impl PartialEq for Document {
    fn eq(&self, other: &Document) -> bool {
        self.server == other.server
            && self.log == other.log
            && self.status == other.status
            && self.control == other.control
            && self.dns == other.dns
            && self.cores == other.cores
            && self.listeners == other.listeners
            && self.ssls == other.ssls
            && self.upstreams == other.upstreams
            && self.services == other.services
            && self.routes == other.routes
            && self.plugin_configs == other.plugin_configs
            && self.global_rules == other.global_rules
    }
}

impl Document {
    /// The upstream of this id.
    pub fn upstream(&self, id: &str) -> Option<&Arc<Upstream>> {
        self.upstreams.iter().find(|upstream| upstream.id == id)
    }

    /// The service of this id.
    pub fn service(&self, id: &str) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| service.id == id)
    }

    /// The plugin config of this id.
    pub fn plugin_config(&self, id: &str) -> Option<&Arc<PluginConfig>> {
        self.plugin_configs.iter().find(|config| config.id == id)
    }
}
