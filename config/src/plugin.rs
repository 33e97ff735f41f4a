//! Plugins as written: a name, settings that the `plugins` crate checks, and `_meta`.

use crate::expr::Expr;
use crate::place::Place;
use crate::value::Value;

/// The plugins of a resource, in written order, no name twice.
pub type Plugins = Vec<PluginEntry>;

/// One plugin as written.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginEntry {
    /// Its name.
    pub name: String,
    /// Its settings: always a table, `_meta` taken out.
    pub value: Value,
    /// `_meta`
    pub meta: Meta,
    /// Where the name stands.
    pub place: Place,
}

/// `_meta`: what holds for any plugin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// Not run.
    pub disable: bool,
    /// Its place in the order, instead of the plugin's own.
    pub priority: Option<i32>,
    /// Only for requests for which this holds.
    pub filter: Option<Expr>,
    /// The body of its refusals: a string, or a table sent as JSON.
    pub error_response: Option<Value>,
}

/// `[[plugin_configs]]`: plugins that several routes share.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConfig {
    /// Its id.
    pub id: String,
    /// Its plugins.
    pub plugins: Plugins,
    /// Where it stands.
    pub place: Place,
}

/// `[[global_rules]]`: plugins for every request, also those without a route.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalRule {
    /// Its id.
    pub id: String,
    /// Its plugins; none of them in another global rule.
    pub plugins: Plugins,
    /// Where it stands.
    pub place: Place,
}
