//! Plugins: what the gateway does to a request and its response, without IO.
//!
//! One file per plugin (doc example, settings, behaviour, tests) and one line in
//! [`PLUGINS`]. Names, fields, priorities and phases are Apache APISIX's, so that
//! its configurations mean the same here. A plugin never waits: it is asked, says
//! [`Verdict`], and is asked again when the engine has done what it wished. So it
//! holds no future, no socket and no clock, and a test is a function call.
//!
//! An instance is built and checked once, when a plan is compiled, and is then
//! shared by all cores and immutable. What must be exact over all cores lives in
//! [`SharedState`]. Which plugins a route has and in which order they are asked is
//! the engine's (`proxy::chain`); merging of plugin sets is its `plan::chains`.
#![forbid(unsafe_code)]

mod api_breaker;
mod chance;
mod escape;
mod exchange;
#[cfg(test)]
mod fake;
mod fault_injection;
mod fields;
pub mod limit;
mod limit_count;
mod proxy_mirror;
mod proxy_rewrite;
mod redirect;
mod request_id;
mod response_rewrite;
mod settings;
#[cfg(test)]
mod sketches;
mod substitute;
mod traffic_split;
mod verdict;
mod workflow;

use std::sync::Arc;

use config::{Document, Place, PluginEntry, Report};

pub use exchange::{Attempt, Exchange, Mirror, Record, Transform};
pub use limit::SharedState;
pub use verdict::{Answer, Phases, Resume, Verdict};

/// One configured plugin.
///
/// Each method is asked only in the phases that [`phases`](Plugin::phases) names. Inside a phase the
/// engine asks by descending priority; after any verdict but `Next` and `Answer`
/// it asks the same plugin again.
pub trait Plugin: Send + Sync {
    /// APISIX's name: `limit-count`.
    fn name(&self) -> &'static str;
    /// In which phases this instance wants to be asked (its settings may spare some).
    fn phases(&self) -> Phases;
    /// The upstreams that this instance may choose ([`Verdict::Upstream`]) or copy to ([`Mirror`]). They
    /// are resolved with the plan: an id that does not exist is an error at the plugin's place.
    fn upstreams(&self) -> &[config::UpstreamRef] {
        &[]
    }
    /// The first phase of the request side.
    fn on_rewrite(&self, _x: &mut dyn Exchange, _resume: Resume) -> Verdict {
        Verdict::Next
    }
    /// The second phase of the request side, after every plugin's rewrite.
    fn on_access(&self, _x: &mut dyn Exchange, _resume: Resume) -> Verdict {
        Verdict::Next
    }
    /// Before each try at an endpoint: edits this try's own copy of the head.
    fn on_attempt(&self, _x: &mut dyn Exchange, _attempt: &mut Attempt<'_>) {}
    /// The response head is there and not yet sent.
    fn on_response(&self, _x: &mut dyn Exchange, _resume: Resume) -> Verdict {
        Verdict::Next
    }
    /// The exchange is over.
    fn on_end(&self, _x: &dyn Exchange, _record: &Record) {}
}

/// What is known of a plugin without an instance of it.
pub struct PluginInfo {
    /// APISIX's name.
    pub name: &'static str,
    /// Higher runs first inside a phase; `_meta.priority` overrides it.
    pub priority: i32,
    /// Every phase that some settings of it use.
    pub phases: Phases,
    /// The JSON Schema of its settings.
    pub schema: fn() -> serde_json::Value,
    /// An example as an operator writes it, in TOML: a route with the plugin.
    pub doc: &'static str,
    /// Checks settings and makes an instance.
    build: fn(&Setup<'_>, &mut Report) -> Option<Arc<dyn Plugin>>,
}

/// What an instance is made from.
pub(crate) struct Setup<'a> {
    /// The plugin's name.
    pub kind: &'static str,
    /// The entry as written, `_meta` taken out.
    pub entry: &'a PluginEntry,
    /// The resource that the entry stands in.
    pub owner: &'a str,
    /// State that outlives the plan.
    pub shared: &'a SharedState,
}

/// Every plugin there is, by descending priority.
pub static PLUGINS: &[PluginInfo] = &[
    request_id::INFO,
    fault_injection::INFO,
    proxy_mirror::INFO,
    proxy_rewrite::INFO,
    workflow::INFO,
    api_breaker::INFO,
    limit_count::INFO,
    traffic_split::INFO,
    redirect::INFO,
    response_rewrite::INFO,
];

/// The plugin of this name, if there is one.
pub fn find(name: &str) -> Option<&'static PluginInfo> {
    PLUGINS.iter().find(|info| info.name == name)
}

/// Checks one entry and makes its instance.
///
/// `owner` names the resource that the entry is written in, with its kind:
/// `route:users`, `service:api`, `plugin_config:common`, `global_rule:1`. Counters
/// belong to it: the plugin of a service counts for all of the service's routes
/// together, as in APISIX, so a route that inherits an entry passes the service.
///
/// `None` if there was an error; `report` then holds every problem, each with its place.
pub fn build(
    entry: &PluginEntry,
    owner: &str,
    shared: &SharedState,
    report: &mut Report,
) -> Option<Arc<dyn Plugin>> {
    let Some(info) = find(&entry.name) else {
        let near = PLUGINS.iter().map(|info| (info.name, Place::NOWHERE));
        let mut help = report.suggest(&entry.name, near);
        if help.is_empty() {
            let names: Vec<&str> = PLUGINS.iter().map(|info| info.name).collect();
            help = format!("remove it; the plugins are {}", names.join(", "));
        }
        report.error(entry.place, format!("unknown plugin `{}`", entry.name), help);
        return None;
    };
    (info.build)(&Setup { kind: info.name, entry, owner, shared }, report)
}

/// Checks what no single entry shows: rules that hold between plugins of a document.
///
/// Work in proportion to the document, without building anything.
pub fn check_document(document: &Document, report: &mut Report) {
    let sets = (document.routes.iter().map(|route| &route.plugins))
        .chain(document.services.iter().map(|service| &service.plugins))
        .chain(document.plugin_configs.iter().map(|config| &config.plugins))
        .chain(document.global_rules.iter().map(|rule| &rule.plugins));
    limit_count::check_groups(sets.flatten(), report);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_without_doubles() {
        assert!(PLUGINS.windows(2).all(|pair| pair[0].priority > pair[1].priority));
        for info in PLUGINS {
            assert!(std::ptr::eq(find(info.name).expect("listed"), info), "{}", info.name);
        }
    }

    /// The doc example of each plugin is a route that an operator could paste.
    #[test]
    fn doc_examples_hold() {
        for info in PLUGINS {
            let text = format!("[server]\nlisten = \":8080\"\n{}", info.doc);
            let (document, mut report) = config::parse_str("doc.toml", &text, &config::MapEnv::default());
            let entry = document
                .as_ref()
                .and_then(|document| document.routes[0].plugins.iter().find(|entry| entry.name == info.name));
            let Some(entry) = entry else { panic!("{}: {}", info.name, report.render(false)) };
            let plugin = build(entry, "route:doc", &SharedState::new(), &mut report);
            let plugin = plugin.unwrap_or_else(|| panic!("{}: {}", info.name, report.render(false)));
            assert!(report.problems().is_empty(), "{}", report.render(false));
            assert_eq!(plugin.name(), info.name);
            assert!(info.phases.has(plugin.phases()));
            check_schema(&(info.schema)(), &entry.value.to_json(), info.name);
        }
    }

    /// Every field of a value is one that the schema names, at every depth that
    /// the schema describes by `properties`.
    fn check_schema(schema: &serde_json::Value, value: &serde_json::Value, path: &str) {
        let (Some(properties), Some(fields)) = (schema["properties"].as_object(), value.as_object()) else {
            return;
        };
        for (name, value) in fields {
            let inner = properties.get(name).unwrap_or_else(|| panic!("{path}.{name} is not in the schema"));
            check_schema(inner, value, &format!("{path}.{name}"));
        }
    }

    #[test]
    fn an_unknown_plugin_is_named() {
        let problems = fake::build("limit-cuont", serde_json::json!({})).err().expect("unknown");
        assert_eq!(problems, "unknown plugin `limit-cuont` (did you mean `limit-count`?)");
    }

    #[test]
    fn every_schema_is_an_object_of_known_fields() {
        for info in PLUGINS {
            let schema = (info.schema)();
            assert_eq!(schema["type"], "object", "{}", info.name);
            assert_eq!(schema["additionalProperties"], false, "{}", info.name);
            // What the schema names, the reader asks for: only unknown names are complained of.
            let names = schema["properties"].as_object().expect("properties").keys();
            let all: serde_json::Map<_, _> =
                names.map(|name| (name.clone(), serde_json::Value::Null)).collect();
            let problems = fake::build(info.name, all.into()).err().unwrap_or_default();
            assert!(!problems.contains("unknown field"), "{}: {problems}", info.name);
        }
    }
}
