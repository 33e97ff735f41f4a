//! Every problem of a document, at once, each with its place and its remedy.
//!
//! Checks push and go on: an operator should not find the second mistake by
//! mending the first. The engine and the plugins push into the same report, so a
//! plan that cannot be compiled is shown with the source line that is at fault.
//! How it is shown is in `render`.

use std::collections::HashMap;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use crate::names;
use crate::place::{Place, Source, Sources};
use crate::value::Value;

/// So many problems are kept; the rest are counted.
pub const PROBLEMS_MAX: usize = 1000;
/// So many names are compared in search of near ones: a second of work, whatever the document.
const COMPARISONS_MAX: usize = 1_000_000;
/// A compiled regex may take so many bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The document cannot be used.
    Error,
    /// It can, but probably says something that was not meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is, if it stands somewhere.
    pub place: Option<Place>,
    /// What is wrong, with the value: ``unknown upstream `user` ``.
    pub what: String,
    /// What is said under the marked bytes, the reason; may be empty.
    pub label: String,
    /// The remedy.
    pub help: Option<String>,
}

impl Problem {
    /// An error; label and help are added by the methods below.
    pub fn error(at: impl Into<Place>, what: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            place: Some(at.into()).filter(Place::is_somewhere),
            what: what.into(),
            label: String::new(),
            help: None,
        }
    }

    /// A warning.
    pub fn warning(at: impl Into<Place>, what: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(at, what) }
    }

    /// What is said under the marked bytes.
    pub fn label(mut self, label: impl Into<String>) -> Problem {
        self.label = label.into();
        self
    }

    /// The remedy; an empty one is none.
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into()).filter(|help| !help.is_empty());
        self
    }
}

impl From<&Value> for Place {
    fn from(value: &Value) -> Place {
        value.place
    }
}

impl From<&crate::value::Key> for Place {
    fn from(key: &crate::value::Key) -> Place {
        key.place
    }
}

impl From<&Place> for Place {
    fn from(place: &Place) -> Place {
        *place
    }
}

/// The problems of a document, and the files that they are in.
#[derive(Clone, Debug, Default)]
pub struct Report {
    problems: Vec<Problem>,
    sources: Sources,
    /// Errors among all that were pushed, also those that were not kept.
    errors: usize,
    /// Problems that were not kept.
    dropped: usize,
    /// Names compared in search of near ones.
    compared: usize,
    /// Places that are never shown.
    hidden: Vec<Place>,
    /// Some text could not be parsed: what seems to be missing may stand there.
    pub(crate) syntax_is_broken: bool,
    /// Regexes of this document by text and whether case counts: 40,000 routes
    /// may hold the same one, and compiling costs 50 us.
    regexes: HashMap<(String, bool), Arc<Regex>>,
    /// Which keys each kind of table was asked for, for the test against the schema.
    #[cfg(test)]
    pub(crate) asked: std::collections::BTreeMap<&'static str, std::collections::BTreeSet<String>>,
}

impl Report {
    /// An empty report.
    pub fn new() -> Report {
        Report::default()
    }

    /// Takes a problem in. Past [`PROBLEMS_MAX`] they are only counted.
    pub fn push(&mut self, problem: Problem) {
        self.errors += usize::from(problem.severity == Severity::Error);
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.dropped += 1;
        }
    }

    /// An error at a value or place; an empty `help` is none.
    pub fn error(&mut self, at: impl Into<Place>, what: impl Into<String>, help: impl Into<String>) {
        self.push(Problem::error(at, what).help(help));
    }

    /// A warning at a value or place; an empty `help` is none.
    pub fn warning(&mut self, at: impl Into<Place>, what: impl Into<String>, help: impl Into<String>) {
        self.push(Problem::warning(at, what).help(help));
    }

    /// Whether the document cannot be used.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors there are, also those that were not kept.
    pub fn error_count(&self) -> usize {
        self.errors
    }

    /// The problems that were kept.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many problems were not kept.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// The files, to find lines and columns of places.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Takes a file in and gives its number for [`Place::new`].
    pub fn add_source(&mut self, name: impl Into<String>, text: impl Into<String>) -> u32 {
        self.sources.add(Source::new(name, text))
    }

    /// Keeps a value, such as a key, from being shown in the source lines of problems.
    pub(crate) fn hide(&mut self, place: Place) {
        if place.is_somewhere() {
            self.hidden.push(place);
        }
    }

    /// The bytes of a file that are not shown.
    pub(crate) fn hidden_in(&self, file: u32) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        self.hidden.iter().filter(move |place| place.file() == file).map(Place::span)
    }

    /// Errors before warnings never: problems stand in the order of their places.
    pub(crate) fn sort(&mut self) {
        self.problems.sort_by_key(|problem| problem.place.unwrap_or_default().order());
    }

    /// ``did you mean `users` (ringway.toml:78)?``, or an empty text if no name is near.
    ///
    /// `near` are the names there are and where they stand.
    pub fn suggest<'n>(&mut self, name: &str, near: impl Iterator<Item = (&'n str, Place)>) -> String {
        let left = COMPARISONS_MAX.saturating_sub(self.compared);
        let compared = &mut self.compared;
        match names::nearest(name, near.take(left).inspect(|_| *compared += 1)) {
            None => String::new(),
            Some((near, place)) => match self.sources.line_of(place) {
                None => format!("did you mean `{near}`?"),
                Some(line) => format!("did you mean `{near}` ({line})?"),
            },
        }
    }

    /// A compiled regex, each text once per document; a bad one is an error at `at`.
    ///
    /// `ignore_case` is `~*`'s. The syntax is the `regex` crate's: no look-around, no
    /// back references, so that matching is linear in the length of the input.
    pub fn regex(&mut self, at: impl Into<Place>, pattern: &str, ignore_case: bool) -> Option<Regex> {
        self.shared_regex(at.into(), pattern, ignore_case).map(|regex| Regex::clone(&regex))
    }

    /// [`Report::regex`] without the clone, which allocates.
    pub(crate) fn shared_regex(&mut self, at: Place, pattern: &str, ignore_case: bool) -> Option<Arc<Regex>> {
        let key = (pattern.to_owned(), ignore_case);
        if let Some(regex) = self.regexes.get(&key) {
            return Some(regex.clone());
        }
        let mut builder = RegexBuilder::new(pattern);
        builder.case_insensitive(ignore_case).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX);
        match builder.build() {
            Ok(regex) => {
                let regex = Arc::new(regex);
                self.regexes.insert(key, regex.clone());
                Some(regex)
            }
            Err(error) => {
                self.push(
                    Problem::error(at, format!("invalid regex `{pattern}`"))
                        .label(regex_reason(&error))
                        .help("look-around and back references are not taken: matching must stay linear"),
                );
                None
            }
        }
    }
}

/// The last line of a regex error is its reason; those before draw the pattern.
fn regex_reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(bytes) => format!("compiled, it would take more than {bytes} bytes"),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    }
}
