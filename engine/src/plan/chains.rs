//! Merging and building plugins: a route's own win over its service's, and its
//! plugin config fills what both lack; sorted once by priority, split by phase.

use std::sync::Arc;

use config::PluginEntry;
use plugins::{Phases, Plugin};

use super::compile::Compiler;
use super::UpstreamPlan;

/// One built plugin of a chain.
pub struct Link {
    /// The plugin.
    pub plugin: Arc<dyn Plugin>,
    /// `_meta.filter`: the plugin is asked only where this holds.
    pub filter: Option<config::expr::Expr>,
    /// `_meta.error_response`: what replaces its error answers.
    pub error_response: Option<(String, &'static str)>,
    /// The upstreams that it may choose or copy to.
    pub upstreams: Vec<Arc<UpstreamPlan>>,
    priority: i32,
}

/// Plugins in the order of their priority, with their indexes by phase.
#[derive(Default)]
pub struct Chain {
    /// All of them.
    pub links: Vec<Link>,
    /// Asked first.
    pub rewrite: Vec<usize>,
    /// Asked after every rewrite.
    pub access: Vec<usize>,
    /// Asked before each try.
    pub attempt: Vec<usize>,
    /// Asked when the response head is there.
    pub response: Vec<usize>,
    /// Asked at the end.
    pub end: Vec<usize>,
}

impl Chain {
    /// Builds a chain from entries in falling precedence: the first of a name
    /// counts. `None` when a plugin's settings are wrong; `report` says which.
    ///
    /// Each entry comes with its owner, such as `route:users`; the upstreams that a plugin
    /// names become part of the plan.
    pub(super) fn build<'a>(
        entries: impl Iterator<Item = (&'a PluginEntry, String)>,
        compiler: &mut Compiler<'_>,
    ) -> Option<Arc<Chain>> {
        let mut seen: Vec<&str> = Vec::new();
        let mut links = Vec::new();
        let mut good = true;
        for (entry, owner) in entries {
            if seen.contains(&entry.name.as_str()) {
                continue;
            }
            seen.push(&entry.name);
            if entry.meta.disable {
                continue;
            }
            let built = plugins::build(entry, &owner, &compiler.feeds.shared, compiler.report);
            let Some(plugin) = built else {
                good = false;
                continue;
            };
            let Some(upstreams) = compiler.plugin_upstreams(&*plugin, entry.place) else {
                good = false;
                continue;
            };
            let usual = plugins::find(&entry.name).map_or(0, |info| info.priority);
            links.push(Link {
                plugin,
                upstreams,
                filter: entry.meta.filter.clone(),
                error_response: entry.meta.error_response.as_ref().map(error_body),
                priority: entry.meta.priority.unwrap_or(usual),
            });
        }
        links.sort_by_key(|link| std::cmp::Reverse(link.priority));
        good.then(|| Arc::new(Chain::indexed(links)))
    }

    fn indexed(links: Vec<Link>) -> Chain {
        let list = |phase: Phases| -> Vec<usize> {
            (0..links.len()).filter(|index| links[*index].plugin.phases().has(phase)).collect()
        };
        Chain {
            rewrite: list(Phases::REWRITE),
            access: list(Phases::ACCESS),
            attempt: list(Phases::ATTEMPT),
            response: list(Phases::RESPONSE),
            end: list(Phases::END),
            links,
        }
    }
}

fn error_body(value: &config::Value) -> (String, &'static str) {
    match &value.kind {
        config::Kind::String(text) => (text.clone(), "text/plain"),
        _ => (value.to_json().to_string(), "application/json"),
    }
}
