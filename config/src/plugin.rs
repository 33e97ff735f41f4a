//! Plugins as written: a name, settings that the `plugins` crate checks, and `_meta`.

use crate::expr::Expr;
use crate::identity::{self, Identity};
use crate::names;
use crate::place::Place;
use crate::reader::{wrong_type, Reader};
use crate::report::{Problem, Report};
use crate::value::{Key, Kind, Value};

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

/// Reads `plugins`. Their settings are checked when they are built.
pub(crate) fn read(reader: &mut Reader<'_, '_>) -> Plugins {
    let Some(value) = reader.opt_value("plugins") else { return Plugins::new() };
    let Some(entries) = value.as_table() else {
        let help = "write [routes.plugins] and below it request-id = {}";
        wrong_type(reader.report(), value, "a table of plugins", help);
        return Plugins::new();
    };
    entries.iter().filter_map(|(key, settings)| entry(key, settings, reader.report())).collect()
}

fn entry(key: &Key, settings: &Value, report: &mut Report) -> Option<PluginEntry> {
    let Some(fields) = settings.as_table() else {
        wrong_type(report, settings, "a table", &format!("write {} = {{}}", key.name));
        return None;
    };
    let mut meta = Meta::default();
    let mut kept = Vec::with_capacity(fields.len());
    for (field, value) in fields {
        if field.name == "_meta" {
            meta = read_meta(value, report);
        } else {
            kept.push((field.clone(), value.clone()));
        }
    }
    let value = Value::new(Kind::Table(kept), settings.place);
    Some(PluginEntry { name: key.name.clone(), value, meta, place: key.place })
}

fn read_meta(value: &Value, report: &mut Report) -> Meta {
    let mut reader = Reader::of("PluginMeta", value, report);
    let disable = reader.opt_bool("disable").unwrap_or(false);
    let priority = reader.range("priority", i32::MIN.into()..=i32::MAX.into()).map(|number| number as i32);
    let filter = reader.opt_value("filter").and_then(|filter| Expr::parse(filter, reader.report()));
    let error_response = reader.opt_value("error_response");
    if let Some(body) = error_response.filter(|body| body.as_str().is_none() && body.as_table().is_none()) {
        wrong_type(
            reader.report(),
            body,
            "a string or a table",
            "write error_response = \"text\" or { field = \"text\" }",
        );
    }
    reader.finish();
    Meta { disable, priority, filter, error_response: error_response.cloned() }
}

/// Reads the table of a plugin config. Its id is empty where none is given.
pub(crate) fn read_config(value: &Value, report: &mut Report) -> Option<(PluginConfig, Identity)> {
    let mut reader = Reader::of("PluginConfig", value, report);
    let identity = identity::read(&mut reader);
    reader.require("plugins");
    let plugins = read(&mut reader);
    let id = identity.id.clone().unwrap_or_default();
    reader.finish().then_some((PluginConfig { id, plugins, place: value.place }, identity))
}

/// Reads the table of a global rule; without an id it gets one made from its plugins' names.
pub(crate) fn read_global(value: &Value, report: &mut Report) -> Option<(GlobalRule, Identity)> {
    let mut reader = Reader::of("GlobalRule", value, report);
    let identity = identity::read(&mut reader);
    if reader.require("plugins").is_some() && value.get("plugins").and_then(Value::as_table) == Some(&[]) {
        let place = reader.value_place("plugins");
        reader.report().push(
            Problem::error(place, "a global rule without plugins")
                .label("does nothing")
                .help("add a plugin, such as request-id = {}, or remove the rule"),
        );
    }
    let plugins = read(&mut reader);
    let id = identity.id.clone().unwrap_or_else(|| {
        let names = plugins.iter().map(|entry| Value::new(Kind::String(entry.name.clone()), entry.place));
        let key = Key { name: "plugins".to_owned(), place: value.place };
        let names = Value::new(Kind::Array(names.collect()), value.place);
        names::generated_id("rule", &Value::new(Kind::Table(vec![(key, names)]), value.place), &["plugins"])
    });
    reader.finish().then_some((GlobalRule { id, plugins, place: value.place }, identity))
}
