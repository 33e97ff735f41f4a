//! Everything fallible of a config change, on a helper thread: read, parse,
//! check, compile, resolve new names, bind. What comes back is either ready to be
//! broadcast or the problems to show; the running plan is not touched in either case.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Diff, Document, ProcessEnv};
use engine::listen::{self, ListenerId, Sockets};
use engine::plan::{Feeds, Plan};

use crate::resolve::{self, Known, Question};
use crate::source::{self, Seen};
use crate::sticky::Keeper;

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
    /// The key of sticky cookies.
    pub sticky: Arc<Keeper>,
}

/// What came of it, and what was read on the way (`None` if the file was not).
pub(crate) struct Compiled {
    /// The files to watch from now on: a refused document may have new includes too.
    pub seen: Option<Seen>,
    /// Ready, or why not.
    pub outcome: Outcome,
}

/// What came of a compile.
pub(crate) enum Outcome {
    /// Ready to be broadcast.
    Ready {
        /// The new plan.
        plan: Arc<Plan>,
        /// Sockets of its new listeners.
        sockets: Sockets,
        /// What names and services that are new in it were found to be.
        known: Known,
        /// What changed, for the log.
        changes: String,
        /// Warnings, rendered; empty for none.
        warnings: String,
    },
    /// The document says what it said before.
    Unchanged,
    /// Nothing changes.
    Refused(Refusal),
}

/// Why a config change was refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// The problems as text for people.
    pub problems: String,
    /// Whether the document itself is wrong, and not this machine or this moment.
    pub invalid: bool,
}

impl Refusal {
    fn invalid(report: &config::Report) -> Outcome {
        Outcome::Refused(Self { problems: report.render(false), invalid: true })
    }

    /// The document may be good; it cannot be had now.
    pub(crate) fn now(problems: String) -> Outcome {
        Outcome::Refused(Self { problems, invalid: false })
    }
}

/// Does the work; blocking. Call it on a thread that knows the tokio runtime.
pub(crate) fn compile(input: &Input) -> Compiled {
    let (document, mut report, seen) = match &input.document {
        Some(document) => (Some(document.clone()), config::Report::default(), None),
        None => {
            let (document, report, seen) = source::read(&input.path);
            (document.map(Arc::new), report, Some(seen))
        }
    };
    let outcome = match document {
        Some(document) => outcome(input, &document, &mut report),
        None => Refusal::invalid(&report),
    };
    Compiled { seen, outcome }
}

fn outcome(input: &Input, document: &Arc<Document>, report: &mut config::Report) -> Outcome {
    let before = input.previous.document();
    if !input.always && document.digest == before.digest {
        return Outcome::Unchanged;
    }
    if let Some(problem) = needs_restart(before, document) {
        return Refusal::now(problem);
    }
    let compile = |feeds: &Feeds, report: &mut config::Report| {
        engine::plan::compile(document, feeds, Some(&input.previous), input.generation, report)
    };
    let key = input.sticky.key(document);
    let mut feeds = Feeds { sticky_key: key.key, ..input.feeds.clone() };
    let Some(mut plan) = compile(&feeds, report) else {
        return Refusal::invalid(report);
    };
    if let Some(fault) = key.fault_for(&plan) {
        return Refusal::now(fault.to_owned());
    }
    let known = first_answers(&plan, &input.previous, &feeds);
    if !known.is_empty() {
        resolve::put(known.clone(), &mut feeds);
        // The same document compiled a moment ago: it adds no problem.
        let Some(again) = compile(&feeds, &mut report.clone()) else {
            return Refusal::invalid(report);
        };
        plan = again;
    }
    let changes = Diff::between(before, document).to_string();
    match listen::bind(plan.listeners(), input.workers, &input.bound) {
        Ok(sockets) => Outcome::Ready { plan, sockets, known, changes, warnings: report.render(false) },
        Err(failed) => Refusal::now(bind_errors(plan.document(), &failed)),
    }
}

/// Answers to questions that are new in this plan, so that its first request finds endpoints.
fn first_answers(plan: &Plan, previous: &Plan, feeds: &Feeds) -> Known {
    // What was asked before and has no answer will not get one by waiting here.
    let before = Question::of(previous);
    let known = resolve::known_by(feeds);
    let mut questions = Question::of(plan);
    // Both are sorted.
    questions.retain(|question| before.binary_search(question).is_err() && !known.contains_key(question));
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) if !questions.is_empty() => {
            runtime.block_on(resolve::first(&questions, &plan.document().dns.servers))
        }
        _ => Known::new(),
    }
}

/// What listeners that cannot be bound look like to people.
pub(crate) fn bind_errors(document: &Document, failed: &[(String, std::io::Error)]) -> String {
    let lines = failed.iter().map(|(name, error)| {
        let help = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another process (perhaps another ringway) has this address: stop it or take another one"
            }
            std::io::ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE; a unix socket needs a writable folder"
            }
            std::io::ErrorKind::AddrNotAvailable => "no interface of this machine has this address",
            _ => "change the address",
        };
        let listener = document.listeners.iter().find(|listener| listener.name == *name);
        let address = listener.map(|listener| listener.address.to_string()).unwrap_or_default();
        let named = if *name == address { String::new() } else { format!(" (listener `{name}`)") };
        format!("error: cannot listen on {address}{named}: {error}\nhelp: {help}\n")
    });
    lines.collect()
}

/// Settings that are read once; changing them silently would be a lie.
fn needs_restart(before: &Document, after: &Document) -> Option<String> {
    let changed = [
        ("[cores]", before.cores != after.cores),
        ("[status] listen", before.status != after.status),
        ("[control] listen", before.control.listen != after.control.listen),
        ("[log] access", before.log.access != after.log.access),
        ("[log] diagnostics", before.log.diagnostics != after.log.diagnostics),
        ("[server] workdir", before.server.workdir != after.server.workdir),
    ];
    let keys: Vec<&str> = changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect();
    (!keys.is_empty()).then(|| {
        format!(
            "error: {} cannot be changed while the gateway runs\nhelp: it needs a restart; undo the change to reload the rest\n",
            keys.join(", ")
        )
    })
}

/// `ringway check`: every problem of a file, those that only compiling finds too.
///
/// Returns the report and whether the file could be run.
pub fn check(path: &Path) -> (config::Report, bool) {
    let (document, mut report) = config::parse_file(path, &ProcessEnv);
    let Some(document) = document else {
        return (report, false);
    };
    let feeds = Feeds { workers: 1, ..Feeds::default() };
    let plan = engine::plan::compile(&Arc::new(document), &feeds, None, 1, &mut report);
    let good = plan.is_some() && !report.has_errors();
    (report, good)
}

/// The workdir that a file names, as far as that can be told of a broken one.
///
/// `ringway reload` has to find the running gateway just when the file is wrong. So only the one line counts, in
/// an otherwise empty document: quotes, comments, `${env:...}` and the default are then as ever.
pub fn workdir_of(path: &Path) -> PathBuf {
    if let (Some(document), _) = config::parse_file(path, &ProcessEnv) {
        return document.server.workdir;
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let name = path.display().to_string();
    let mut server = false;
    let line = text.lines().map(str::trim).find(|line| {
        if line.starts_with('[') {
            server = line.starts_with("[server]");
        }
        let key = line.split('=').next().unwrap_or_default().trim();
        (server && key == "workdir") || key == "server.workdir"
    });
    let value = line.and_then(|line| line.split_once('=')).map(|(_, value)| value);
    value
        .and_then(|value| workdir_in(&name, Some(value)))
        .or_else(|| workdir_in(&name, None))
        .unwrap_or_default()
}

/// The workdir of a document that says nothing else.
fn workdir_in(name: &str, value: Option<&str>) -> Option<PathBuf> {
    let line = value.map(|value| format!("workdir = {value}\n")).unwrap_or_default();
    let text = format!("[server]\nlisten = \"127.0.0.1:0\"\n{line}[[routes]]\nupstream = \"127.0.0.1:1\"\n");
    config::parse_str(name, &text, &ProcessEnv).0.map(|document| document.server.workdir)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = "[[routes]]\nupstream = [\"127.0.0.1:1\"]\n";

    fn plan(text: &str) -> Arc<Plan> {
        let text = format!("[server]\nlisten = \"127.0.0.1:0\"\n{text}");
        let (document, report) = config::parse_str("ringway.toml", &text, &ProcessEnv);
        let document = document.unwrap_or_else(|| panic!("{}", report.render(false)));
        let feeds = Feeds { workers: 1, ..Feeds::default() };
        engine::plan::compile(&Arc::new(document), &feeds, None, 1, &mut config::Report::new())
            .expect("compiles")
    }

    /// What becomes of a running `before` when its file then says `after`.
    fn check_change(before: &str, after: &str, always: bool, expected: &str) {
        let folder = std::env::temp_dir().join(format!("ringway-compile-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a writable temporary folder");
        let path = folder.join(format!("{:?}.toml", std::thread::current().id()));
        std::fs::write(&path, format!("[server]\nlisten = \"127.0.0.1:0\"\n{after}")).expect("writable");
        let input = Input {
            path: path.clone(),
            always,
            document: None,
            feeds: Feeds { workers: 1, ..Feeds::default() },
            previous: plan(before),
            generation: 2,
            bound: HashMap::new(),
            workers: 2,
            sticky: Arc::default(),
        };
        let compiled = compile(&input);
        std::fs::remove_file(path).expect("our own file");
        assert!(compiled.seen.is_some());
        let got = match compiled.outcome {
            Outcome::Ready { plan, sockets, .. } => {
                assert_eq!(sockets.bound[0].sockets.len(), 2, "one per worker");
                format!("generation {}", plan.generation())
            }
            Outcome::Unchanged => "unchanged".to_owned(),
            Outcome::Refused(Refusal { problems, invalid }) => {
                format!("invalid: {invalid}: {problems}")
            }
        };
        assert!(got.contains(expected), "{got} lacks {expected}");
    }

    #[test]
    fn changes() {
        let other = "[[routes]]\nupstream = [\"127.0.0.1:2\"]\n";
        check_change(ROUTE, ROUTE, false, "unchanged");
        check_change(ROUTE, &format!("# a comment\n{ROUTE}"), false, "unchanged");
        check_change(ROUTE, ROUTE, true, "generation 2");
        check_change(ROUTE, other, false, "generation 2");
        check_change(ROUTE, "[[routes]]\nupstream_id = \"none\"\n", false, "invalid: true: ");
        check_change(ROUTE, &format!("[cores]\ncount = 1\n{ROUTE}"), false, "invalid: false: error: [cores]");
        check_change(ROUTE, &format!("workdir = \"/x\"\n{ROUTE}"), false, "needs a restart");
        check_change(
            ROUTE,
            &format!("[control]\nlisten = \"127.0.0.1:1\"\n{ROUTE}"),
            false,
            "invalid: false: error: [control] listen",
        );
    }

    #[test]
    fn a_listener_that_cannot_be_bound_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        let after = format!("[[listeners]]\nname = \"taken\"\naddress = \"{address}\"\n{ROUTE}");
        check_change(ROUTE, &after, false, &format!("error: cannot listen on {address} (listener `taken`)"));
    }

    #[test]
    fn the_workdir_of_a_broken_file() {
        let check = |text: &str, expected: &str| {
            let path = std::env::temp_dir().join(format!("ringway-workdir-{}.toml", std::process::id()));
            std::fs::write(&path, text).expect("writable");
            assert_eq!(workdir_of(&path), Path::new(expected), "{text}");
            std::fs::remove_file(path).expect("our own file");
        };
        check("[server]\nworkdir = \"/a b\" # here\n[[routes\n", "/a b");
        check("nonsense = 1\n[other]\nworkdir = '/no'\n[server]\n  workdir='/yes'\n", "/yes");
        let default = workdir_in("", None).expect("a complete document");
        check("[[routes\n", &default.to_string_lossy());
        check("[server]\nworkdir = 7\n", &default.to_string_lossy());
    }
}
