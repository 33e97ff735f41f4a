//! Everything fallible of a config change, on a helper thread: read, parse,
//! check, compile, bind. What comes back is either ready to be broadcast or the
//! problems to show; the running plan is not touched in either case.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Diff, Document, ProcessEnv};
use engine::listen::{self, ListenerId, Sockets};
use engine::plan::{Feeds, Plan};

/// What a compile starts from.
pub(crate) struct Input {
    /// The file.
    pub path: PathBuf,
    /// Whether a document that says the same as before is compiled nevertheless.
    pub always: bool,
    /// Use this document instead of reading the file (only feeds have changed).
    pub document: Option<Arc<Document>>,
    /// Resolved names and shared plugin state.
    pub feeds: Feeds,
    /// The plan in force.
    pub previous: Arc<Plan>,
    /// The number of the new one.
    pub generation: u64,
    /// Listeners that are bound already.
    pub bound: HashMap<ListenerId, String>,
    /// How many workers there are.
    pub workers: usize,
}

/// What came of it.
pub(crate) enum Outcome {
    /// Ready to be broadcast.
    Ready {
        /// The new plan.
        plan: Arc<Plan>,
        /// Sockets of its new listeners.
        sockets: Sockets,
        /// What changed, for the log.
        changes: String,
        /// Warnings, rendered; empty for none.
        warnings: String,
    },
    /// The document says what it said before.
    Unchanged,
    /// Nothing changes; the problems as text for people.
    Refused(String),
}

/// Does the work; blocking.
pub(crate) fn compile(input: &Input) -> Outcome {
    let (document, mut report) = match &input.document {
        Some(document) => (Some(document.clone()), config::Report::default()),
        None => {
            let (document, report) = config::parse_file(&input.path, &ProcessEnv);
            (document.map(Arc::new), report)
        }
    };
    let Some(document) = document else { return Outcome::Refused(report.render(false)) };
    let before = input.previous.document();
    if !input.always && input.document.is_none() && document.digest == before.digest {
        return Outcome::Unchanged;
    }
    if let Some(problem) = needs_restart(before, &document) {
        return Outcome::Refused(problem);
    }
    let plan =
        engine::plan::compile(&document, &input.feeds, Some(&input.previous), input.generation, &mut report);
    let Some(plan) = plan else { return Outcome::Refused(report.render(false)) };
    let changes = Diff::between(before, &document).to_string();
    match listen::bind(plan.listeners(), input.workers, &input.bound) {
        Ok(sockets) => Outcome::Ready { plan, sockets, changes, warnings: report.render(false) },
        Err(failed) => Outcome::Refused(bind_errors(&failed)),
    }
}

/// What a listener that cannot be bound looks like to people.
pub(crate) fn bind_errors(failed: &[(String, std::io::Error)]) -> String {
    let lines = failed.iter().map(|(name, error)| {
        let help = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another process (perhaps another ringway) has this port: stop it or change the address"
            }
            std::io::ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE; a unix socket needs a writable folder"
            }
            _ => "change the address",
        };
        format!("error: cannot listen on `{name}`: {error}\nhelp: {help}\n")
    });
    lines.collect()
}

/// Settings that are read once; changing them silently would be a lie.
fn needs_restart(before: &Document, after: &Document) -> Option<String> {
    let changed = [
        ("[cores]", before.cores != after.cores),
        ("[status] listen", before.status != after.status),
        ("[log] access", before.log.access != after.log.access),
        ("[log] diagnostics", before.log.diagnostics != after.log.diagnostics),
        ("[server] workdir", before.server.workdir != after.server.workdir),
    ];
    let (key, _) = changed.into_iter().find(|(_, changed)| *changed)?;
    Some(format!(
        "error: {key} cannot be changed while the gateway runs\nhelp: it needs a restart; undo the change to reload the rest\n"
    ))
}

/// `ringway check`: every problem of a file, those that only compiling finds too.
///
/// Returns the report and whether the file could be run.
pub fn check(path: &Path) -> (config::Report, bool) {
    let (document, mut report) = config::parse_file(path, &ProcessEnv);
    let Some(document) = document else { return (report, false) };
    let feeds = Feeds { addresses: Default::default(), shared: engine::plan::SharedState::default() };
    let plan = engine::plan::compile(&Arc::new(document), &feeds, None, 1, &mut report);
    let good = plan.is_some() && !report.has_errors();
    (report, good)
}

/// The workdir that a file names, as far as that can be told of a broken one.
///
/// `ringway reload` has to find the running gateway just when the file is wrong.
pub fn workdir_of(path: &Path) -> PathBuf {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("workdir"));
    let value = line.and_then(|rest| rest.trim_start().strip_prefix('='));
    match value.map(|value| value.trim().trim_matches(['"', '\''])) {
        Some(value) if !value.is_empty() => PathBuf::from(value),
        _ => config::server::workdir_default(&config::ProcessEnv),
    }
}
