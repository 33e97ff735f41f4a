//! What a reload changed: resources added, changed and removed, by kind.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::document::Document;

/// What changed between two documents. Settings that are single tables count as one each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Changes by kind, in the document's order; kinds without any are left out.
    pub kinds: Vec<(&'static str, Changes)>,
}

/// The kinds that are one table each.
const SINGLE: &[&str] = &["server", "log", "status", "control", "discovery", "cores"];

/// The ids of one kind that were added, changed and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In the new document only.
    pub added: Vec<String>,
    /// In both, and not the same.
    pub changed: Vec<String>,
    /// In the old document only.
    pub removed: Vec<String>,
}

impl Diff {
    /// Compares two documents. What was only moved in its file has not changed.
    pub fn between(old: &Document, new: &Document) -> Diff {
        let mut diff = Diff::default();
        let single = [
            ("server", old.server != new.server),
            ("log", old.log != new.log),
            ("status", old.status != new.status),
            ("control", old.control != new.control),
            ("discovery", old.dns != new.dns),
            ("cores", old.cores != new.cores),
        ];
        for (name, _) in single.into_iter().filter(|(_, changed)| *changed) {
            diff.kinds.push((name, Changes { changed: vec![name.to_owned()], ..Changes::default() }));
        }
        diff.compare("listeners", &old.listeners, &new.listeners, |it| &it.name);
        diff.compare("ssls", &old.ssls, &new.ssls, |it| &it.id);
        diff.compare("upstreams", &old.upstreams, &new.upstreams, |it| &it.id);
        diff.compare("services", &old.services, &new.services, |it| &it.id);
        diff.compare("plugin_configs", &old.plugin_configs, &new.plugin_configs, |it| &it.id);
        diff.compare("routes", &old.routes, &new.routes, |it| &it.id);
        diff.compare("global_rules", &old.global_rules, &new.global_rules, |it| &it.id);
        diff
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The changes of one kind, such as `routes`.
    pub fn kind(&self, kind: &str) -> Option<&Changes> {
        self.kinds.iter().find(|(name, _)| *name == kind).map(|(_, changes)| changes)
    }

    fn compare<T: PartialEq>(
        &mut self,
        kind: &'static str,
        old: &[Arc<T>],
        new: &[Arc<T>],
        id: fn(&T) -> &String,
    ) {
        let mut before: HashMap<&String, &Arc<T>> = old.iter().map(|it| (id(it), it)).collect();
        let mut changes = Changes::default();
        for it in new {
            match before.remove(id(it)) {
                None => changes.added.push(id(it).clone()),
                Some(there) if Arc::ptr_eq(there, it) || there == it => {}
                Some(_) => changes.changed.push(id(it).clone()),
            }
        }
        let gone = |it: &&Arc<T>| before.contains_key(id(it));
        changes.removed.extend(old.iter().filter(gone).map(|it| id(it).clone()));
        if changes != Changes::default() {
            self.kinds.push((kind, changes));
        }
    }
}

impl fmt::Display for Diff {
    /// `server ~1, routes +1 ~2 -0`: for the log line of a reload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing changed");
        }
        for (index, (kind, changes)) in self.kinds.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let (added, changed, removed) =
                (changes.added.len(), changes.changed.len(), changes.removed.len());
            if SINGLE.contains(kind) {
                write!(f, "{comma}{kind}: changed")?;
            } else {
                write!(f, "{comma}{kind}: +{added} ~{changed} -{removed}")?;
            }
        }
        Ok(())
    }
}
