//! Watches the folders of the configuration's files.
//!
//! The folders, not the files: editors and deployment tools write a new file and
//! rename it over the old one, which a watch on the file itself would lose. What
//! changed is not looked at; the loop waits until it has been quiet for a moment
//! and then compares digests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::Document;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::{Event, Events};

/// Changes are acted on when none has come for this long.
pub(crate) const DEBOUNCE: Duration = Duration::from_millis(150);
/// ... or when the first of them is this old: a folder that is never quiet.
pub(crate) const DEBOUNCE_MAX: Duration = Duration::from_secs(2);

/// Watched folders of one document.
pub(crate) struct Watch {
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    /// Starts watching; without inotify the gateway runs on, and says so.
    pub(crate) fn start(events: Events) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(|path| concerns(path))) {
                let _ = events.send(Event::FileChanged);
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "configuration files are not watched; use SIGHUP or `ringway reload`");
        }
        Self { watcher: watcher.ok(), folders: BTreeSet::new() }
    }

    /// Watches exactly the folders of this document's files.
    pub(crate) fn follow(&mut self, path: &Path, document: &Document) {
        let Some(watcher) = &mut self.watcher else { return };
        let names = document.sources.files().iter().map(|source| PathBuf::from(&source.name));
        let wanted: BTreeSet<PathBuf> = names.chain([path.to_owned()]).map(|file| folder(&file)).collect();
        for gone in self.folders.difference(&wanted) {
            let _ = watcher.unwatch(gone);
        }
        for new in wanted.difference(&self.folders) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, folder = %new.display(), "cannot be watched");
            }
        }
        self.folders = wanted;
    }
}

/// Whether a changed path can be one of ours. An access log that grows in the
/// same folder must not look like an edit; a name without an extension may be the
/// link by which a mounted configuration is switched.
fn concerns(path: &Path) -> bool {
    path.extension().is_none_or(|extension| extension == "toml")
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_files() {
        let check = |file: &str, expected: &str| assert_eq!(folder(Path::new(file)), Path::new(expected));
        check("ringway.toml", ".");
        check("/etc/ringway/ringway.toml", "/etc/ringway");
        check("conf.d/a.toml", "conf.d");
    }

    #[test]
    fn what_concerns_us() {
        let check = |path: &str, expected| assert_eq!(concerns(Path::new(path)), expected, "{path}");
        check("/etc/ringway/ringway.toml", true);
        check("/etc/ringway/..data", true);
        check("/etc/ringway/access.log", false);
        check("/etc/ringway/.ringway.toml.swp", false);
    }
}
