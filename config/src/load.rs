//! Files to one tree: TOML with places, includes merged, `${...}` resolved.
//!
//! TOML is parsed with recovery, so that a slip of syntax in one line hides no
//! problem in the others. Included files add to arrays of tables (`[[routes]]`) and
//! may write a single table (`[server]`) only if no other file did: a value set
//! twice would leave the reader of either file wrong.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::Spanned;

use crate::env::Env;
use crate::place::Place;
use crate::report::{Problem, Report};
use crate::resolve;
use crate::value::{Key, Kind, Value};

/// So many files make a document at most.
pub const FILES_MAX: usize = 10_000;
/// Includes may stand inside each other so deep.
pub const INCLUDE_DEPTH_MAX: usize = 16;

/// Reads a file and all that it includes. `None` if the file itself cannot be read.
pub(crate) fn file(path: &Path, env: &dyn Env, report: &mut Report) -> Option<Value> {
    let name = path.display().to_string();
    match env.file(path) {
        Ok(text) => Some(text_of(&name, text, env, report)),
        Err(error) => {
            let what = format!("cannot read {name}: {}", reason(&error));
            report.error(Place::NOWHERE, what, "name the file with -c");
            None
        }
    }
}

/// Reads a text as if it were a file of this name, and all that it includes.
pub(crate) fn text_of(name: &str, text: String, env: &dyn Env, report: &mut Report) -> Value {
    let mut loader = Loader { env, report, seen: HashMap::new(), open: Vec::new(), root: Vec::new() };
    let identity = env.identity(Path::new(name));
    loader.seen.insert(identity.clone(), Place::NOWHERE);
    loader.take(name, text, identity);
    let root = loader.root;
    Value::new(Kind::Table(root), Place::new(0, 0..0))
}

struct Loader<'a> {
    env: &'a dyn Env,
    report: &'a mut Report,
    /// Every file that was read, and where it was included.
    seen: HashMap<PathBuf, Place>,
    /// The files that include the one being read.
    open: Vec<PathBuf>,
    root: Vec<(Key, Value)>,
}

impl Loader<'_> {
    fn take(&mut self, name: &str, text: String, identity: PathBuf) {
        let file = self.report.add_source(name, text);
        let source = self.report.sources().files()[file as usize].clone();
        let mut tree = toml_tree(&source.text, file, self.report);
        let directory = source.directory();
        if source.text.contains("${") || source.text.contains("\\u") {
            resolve::tree(&mut tree, &directory, self.env, self.report);
        }
        let Kind::Table(entries) = tree.kind else { return };
        let mut include = None;
        for (key, value) in entries {
            if key.name == "include" {
                include = Some(value);
            } else {
                self.merge(key, value);
            }
        }
        if let Some(include) = include {
            self.open.push(identity);
            self.include(&include, &directory);
            self.open.pop();
        }
    }

    /// Adds one top-level entry to what the files before said.
    fn merge(&mut self, key: Key, mut value: Value) {
        let Some((first, there)) = self.root.iter_mut().find(|(there, _)| there.name == key.name) else {
            self.root.push((key, value));
            return;
        };
        if let (Kind::Array(items), Kind::Array(more)) = (&mut there.kind, &mut value.kind) {
            items.append(more);
            return;
        }
        let first = self.report.sources().line_of(first.place).unwrap_or_default();
        self.report.push(
            Problem::error(&key, format!("`{}` is written in two files", key.name))
                .label(format!("the first is {first}"))
                .help("write a single table in one file; only [[arrays]] of tables add up"),
        );
    }

    fn include(&mut self, include: &Value, directory: &Path) {
        let patterns = include.as_array().unwrap_or(std::slice::from_ref(include));
        if self.open.len() > INCLUDE_DEPTH_MAX {
            let what = format!("includes are nested more than {INCLUDE_DEPTH_MAX} deep");
            self.report.error(include, what, "include it from a file further up");
            return;
        }
        for pattern in patterns {
            let Some(text) = pattern.as_str() else {
                crate::reader::wrong_type(self.report, pattern, "a string", "include = [\"conf.d/*.toml\"]");
                continue;
            };
            for path in self.matching(pattern, text, directory) {
                self.include_file(&path, pattern.place);
            }
        }
    }

    fn include_file(&mut self, path: &Path, place: Place) {
        let name = path.display().to_string();
        let identity = self.env.identity(path);
        if self.open.contains(&identity) {
            let what = format!("{name} includes itself");
            self.report.push(
                Problem::error(place, what)
                    .label("by this, or through other files")
                    .help("remove one of the includes"),
            );
            return;
        }
        if self.seen.contains_key(&identity) {
            let first = self.seen.get(&identity).and_then(|place| self.report.sources().line_of(*place));
            let label = first.map_or(String::new(), |line| format!("the first is {line}"));
            let what = format!("{name} is included twice");
            self.report.push(Problem::error(place, what).label(label).help("remove one of the includes"));
            return;
        }
        if self.seen.len() >= FILES_MAX {
            self.report.error(place, format!("more than {FILES_MAX} files"), "put several into one");
            return;
        }
        self.seen.insert(identity.clone(), place);
        match self.env.file(path) {
            Ok(text) => self.take(&name, text, identity),
            Err(error) => {
                let what = format!("cannot read {name}");
                self.report.push(Problem::error(place, what).label(reason(&error)).help("write a file that is there and can be read; a relative one begins at the folder of the file that names it"));
            }
        }
    }

    /// The files that a pattern names, sorted; one without wildcards must exist.
    fn matching(&mut self, place: &Value, pattern: &str, directory: &Path) -> Vec<PathBuf> {
        if pattern.is_empty() || pattern.contains("**") || pattern.contains(['[', '{']) {
            let help = "`*` and `?` stand for parts of one name: \"conf.d/*.toml\"";
            self.report.error(place, format!("invalid include `{pattern}`"), help);
            return Vec::new();
        }
        let mut found =
            vec![if pattern.starts_with('/') { PathBuf::from("/") } else { directory.to_path_buf() }];
        for part in pattern.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if !part.contains(['*', '?']) {
                found.iter_mut().for_each(|path| path.push(part));
                continue;
            }
            let mut next = Vec::new();
            for path in &found {
                // A directory that is not there has no matching files, as for nginx.
                let mut names = self.env.list(path).unwrap_or_default();
                names.retain(|name| wildcard(part.as_bytes(), name.as_bytes()));
                names.sort_unstable();
                next.extend(names.into_iter().take(FILES_MAX).map(|name| path.join(name)));
            }
            found = next;
        }
        found.truncate(FILES_MAX + 1);
        found
    }
}

/// Whether a name fits a pattern of `*` and `?`. Hidden files need a pattern that begins with a dot.
fn wildcard(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                // The last star takes one byte more.
                Some((at, taken)) => {
                    *taken += 1;
                    p = *at + 1;
                    n = *taken;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The reason of an IO error without its number.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "no permission".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}

/// The remedy for what is no TOML at all.
const SYNTAX_HELP: &str =
    "the forms of TOML are key = \"text\", key = 1, key = [1, 2], [table] and [[list of tables]]";

/// Parses TOML into a tree. Each syntax error is a problem; what could be read is given.
pub(crate) fn toml_tree(text: &str, file: u32, report: &mut Report) -> Value {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let message = error.message();
        let (what, label) = message.split_once(", ").unwrap_or((message, ""));
        let place = Place::new(file, visible(text, span));
        report.push(
            Problem::error(place, what)
                .label(label.replace('\n', ", "))
                .help(if message.starts_with("duplicate key") { "remove one of them" } else { SYNTAX_HELP }),
        );
        report.syntax_is_broken = true;
    }
    let place = Place::new(file, table.span());
    Value::new(Kind::Table(entries(table.into_inner(), file, report)), place)
}

/// An error span cut to character boundaries inside the text.
fn visible(text: &str, span: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

fn entries(table: DeTable<'_>, file: u32, report: &mut Report) -> Vec<(Key, Value)> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let place = Place::new(file, key.span());
        let key = Key { name: key.into_inner().into_owned(), place };
        entries.push((key, tree(value, file, report)));
    }
    entries
}

fn tree(value: Spanned<DeValue<'_>>, file: u32, report: &mut Report) -> Value {
    let place = Place::new(file, value.span());
    let kind = match value.into_inner() {
        DeValue::String(text) => Kind::String(text.into_owned()),
        DeValue::Boolean(flag) => Kind::Bool(flag),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Kind::Integer(number),
            Err(_) => {
                let what = format!("the number {number} is too large");
                report.push(
                    Problem::error(place, what)
                        .label("numbers have 64 bits, one of them the sign")
                        .help("write at most 9223372036854775807"),
                );
                Kind::Integer(0)
            }
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Kind::Float(number),
            Err(_) => {
                report.push(
                    Problem::error(place, format!("`{number}` is no number"))
                        .help("write digits, such as 3 or 0.5"),
                );
                Kind::Float(0.0)
            }
        },
        DeValue::Datetime(_) => {
            report.push(
                Problem::error(place, "no field is a date or time")
                    .label("put it in quotes to make it text")
                    .help("put it in quotes"),
            );
            Kind::Null
        }
        DeValue::Array(items) => {
            Kind::Array(items.into_iter().map(|item| tree(item, file, report)).collect())
        }
        DeValue::Table(table) => Kind::Table(entries(table, file, report)),
    };
    Value::new(kind, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        #[track_caller]
        fn check(pattern: &str, name: &str, expected: bool) {
            assert_eq!(wildcard(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
        check("*.toml", "a.toml", true);
        check("*.toml", "a.toml.bak", false);
        check("*.toml", ".hidden.toml", false);
        check(".*", ".hidden", true);
        check("a?c", "abc", true);
        check("a?c", "ac", false);
        check("*a*b*", "xxayybzz", true);
        check("*a*b", "ab", true);
        check("*a*b", "aba", false);
        check("*", "", true);
    }
}
