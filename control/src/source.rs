//! The configuration file as a source: what a document was made of, and noticing that it changed.
//!
//! Folders are watched, not files: editors and deployment tools write a new file
//! and rename it over the old one, which a watch on the file itself would lose.
//! Which files and folders matter is not guessed: [`read`] notes what the parser
//! asked for, so includes, their wildcards and `${file:...}` count as well.
//!
//! A change is only a hint. It is acted on after a quiet moment ([`Debounce`]),
//! and then the document's digest decides whether there is anything to do.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use config::{Document, Env, ProcessEnv, Report};
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::{Event, Events};

/// Changes are acted on when none has come for this long ...
const QUIET: Duration = Duration::from_millis(100);
/// ... or when the first of them is this old: a file that is written for ever does not hide the others.
const LONGEST: Duration = Duration::from_secs(1);

/// What a document was made of. All paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Files that were read, or that should have been there.
    pub files: BTreeSet<PathBuf>,
    /// Folders that were listed for an include with a wildcard.
    pub folders: BTreeSet<PathBuf>,
    /// What the gateway itself writes, which must not wake it.
    pub own: Vec<PathBuf>,
}

/// Reads and checks a configuration file. Blocking.
pub(crate) fn read(path: &Path) -> (Option<Document>, Report, Seen) {
    let env = SeeingEnv::default();
    env.see_file(path);
    let (document, report) = config::parse_file_with(path, &env, &engine::plan::check_plugins);
    let mut seen = env.seen.into_inner();
    if let Some(document) = &document {
        seen.own.push(absolute(&document.server.workdir));
        if let config::Access::Path(log) = &document.log.access {
            seen.own.push(absolute(log));
        }
    }
    (document, report, seen)
}

/// The process's environment, with a note of what was asked for.
#[derive(Default)]
struct SeeingEnv {
    inner: ProcessEnv,
    seen: RefCell<Seen>,
}

impl SeeingEnv {
    fn see_file(&self, path: &Path) {
        let mut seen = self.seen.borrow_mut();
        // Both ends of a symbolic link: either may be changed.
        seen.files.extend(path.canonicalize());
        seen.files.insert(absolute(path));
    }
}

impl Env for SeeingEnv {
    fn var(&self, name: &str) -> Option<String> {
        self.inner.var(name)
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        self.see_file(path);
        self.inner.file(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let named = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        self.seen.borrow_mut().folders.insert(absolute(named));
        self.inner.list(directory)
    }

    fn identity(&self, path: &Path) -> PathBuf {
        self.inner.identity(path)
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Seen {
    /// Whether a change of this path may change the document.
    pub(crate) fn concerns(&self, path: &Path) -> bool {
        if self.files.contains(path) || self.folders.contains(path) {
            return true;
        }
        if self.own.iter().any(|own| path.starts_with(own)) {
            return false;
        }
        let Some(parent) = path.parent() else {
            return false;
        };
        // Kubernetes swaps a link named `..data` beside the files that point through it.
        let swapped = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".."));
        self.folders.contains(parent) || (swapped && self.watched().contains(parent))
    }

    /// The folders to watch: those of the files, and those that were listed.
    /// For one that is not there yet, the one in which it would appear.
    fn watched(&self) -> BTreeSet<PathBuf> {
        let parents = self.files.iter().filter_map(|file| file.parent().map(Path::to_owned));
        let all: BTreeSet<PathBuf> = parents.chain(self.folders.iter().cloned()).collect();
        let there = |folder: &PathBuf| folder.ancestors().find(|path| path.is_dir()).map(Path::to_owned);
        all.iter().filter_map(there).collect()
    }
}

/// The watch on one document's folders.
pub(crate) struct Watch {
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    seen: Arc<Mutex<Seen>>,
}

impl Watch {
    /// Starts watching; where that is not to be had the gateway runs on, and says so.
    pub(crate) fn start(events: Events, seen: Seen) -> Self {
        let seen = Arc::new(Mutex::new(seen));
        let shared = seen.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error means that events were lost: look, to be safe.
            let concerned = match &event {
                Ok(event) => is_change(event) && concerned(&shared, event),
                Err(_) => true,
            };
            if concerned {
                let _ = events.send(Event::FileChanged);
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "configuration files are not watched; use SIGHUP or `ringway reload`");
        }
        let mut watch = Self { watcher: watcher.ok(), folders: BTreeSet::new(), seen };
        watch.refresh();
        watch
    }

    /// From now on these files matter.
    pub(crate) fn follow(&mut self, seen: Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        self.refresh();
    }

    fn refresh(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let wanted = self.seen.lock().unwrap_or_else(PoisonError::into_inner).watched();
        for gone in self.folders.difference(&wanted) {
            let _ = watcher.unwatch(gone);
        }
        // All of them, not only the new ones: a folder that was replaced by
        // another of its name needs a new watch; for the same one it is a no-op.
        for folder in &wanted {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, folder = %folder.display(), "a folder cannot be watched");
            }
        }
        self.folders = wanted;
    }
}

/// Whether something was written; opening and reading is no change.
fn is_change(event: &notify::Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

fn concerned(seen: &Mutex<Seen>, event: &notify::Event) -> bool {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    event.need_rescan() || event.paths.iter().any(|path| seen.concerns(path))
}

/// Waits for a quiet moment, but not for ever.
#[derive(Default)]
pub(crate) struct Debounce {
    /// The first and the last change that was not acted on.
    changes: Option<(Instant, Instant)>,
}

impl Debounce {
    /// A change came.
    pub(crate) fn touch(&mut self, now: Instant) {
        let first = self.changes.map_or(now, |(first, _)| first);
        self.changes = Some((first, now));
    }

    /// When to act; `None` while nothing has changed.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.changes.map(|(first, last)| (last + QUIET).min(first + LONGEST))
    }

    /// Whether it is time to act; if so, what came is forgotten.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let due = self.due().is_some_and(|due| due <= now);
        if due {
            self.changes = None;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes come at `changes`; when are they acted on? All in milliseconds.
    fn check(changes: &[u64], acted: &[u64]) {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        let mut at = Vec::new();
        for millis in 0..5_000 {
            let now = start + Duration::from_millis(millis);
            if changes.contains(&millis) {
                debounce.touch(now);
            }
            if debounce.take(now) {
                at.push(millis);
            }
        }
        assert_eq!(at, acted, "{changes:?}");
    }

    #[test]
    fn changes_are_collected() {
        check(&[], &[]);
        check(&[10], &[110]);
        check(&[10, 50, 90], &[190]);
        check(&[10, 500], &[110, 600]);
        // Written without a pause: once a second all the same.
        let always: Vec<u64> = (0..2_000).step_by(10).filter(|at| *at != 1_000).collect();
        check(&always, &[1_000, 2_010]);
    }

    #[test]
    fn what_concerns_a_document() {
        let seen = Seen {
            files: ["/etc/r/ringway.toml", "/etc/r/conf.d/a.toml", "/run/key"].map(PathBuf::from).into(),
            folders: [PathBuf::from("/etc/r/conf.d")].into(),
            own: vec!["/etc/r/access.log".into(), "/etc/r/conf.d/work".into()],
        };
        let check =
            |path: &str, expected: bool| assert_eq!(seen.concerns(Path::new(path)), expected, "{path}");
        check("/etc/r/ringway.toml", true);
        check("/run/key", true);
        check("/run/other", false);
        check("/etc/r/access.log", false);
        check("/etc/r/ringway.toml.swp", false);
        check("/etc/r/conf.d", true);
        check("/etc/r/conf.d/new.toml", true);
        check("/etc/r/conf.d/work/ringway.sock", false);
    }

    #[test]
    fn a_document_says_what_it_was_made_of() {
        let folder = std::env::temp_dir().join(format!("ringway-source-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("conf.d")).expect("a writable temporary folder");
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("writable");
        write("ringway.toml", "include = [\"conf.d/*.toml\"]\n[server]\nlisten = \"127.0.0.1:0\"\nworkdir = \"/w\"\n[log]\naccess = \"/l/a.log\"\n");
        write("conf.d/a.toml", "[[routes]]\nupstream = [\"${file:node}\"]\n");
        write("conf.d/node", "127.0.0.1:1");
        let (document, report, seen) = read(&folder.join("ringway.toml"));
        assert!(document.is_some(), "{}", report.render(false));
        for name in ["ringway.toml", "conf.d/a.toml", "conf.d/node"] {
            assert!(seen.files.contains(&folder.join(name)), "{name} is not in {seen:?}");
        }
        assert!(seen.folders.contains(&folder.join("conf.d")), "{seen:?}");
        assert_eq!(seen.own, [PathBuf::from("/w"), PathBuf::from("/l/a.log")]);
        std::fs::remove_dir_all(folder).expect("our own folder");
    }
}
