//! How problems are shown: to people with the source line, to programs as JSON.
//!
//! annotate-snippets draws. It is given the one line that matters and not the
//! file, and of a line without end (a generated file) only what is near: so the
//! cost of showing a problem does not depend on the size of the document.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::load;
use crate::place::{Place, Source};
use crate::report::{Problem, Report, Severity};
use crate::value::{Kind, Value};

/// Of a longer line only so many bytes to each side are shown.
const CONTEXT_BYTES_MAX: usize = 200;

impl Report {
    /// Every problem with file, line, column, source line and remedy, then a line that counts them.
    ///
    /// Empty if there is none. `color` is for terminals.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for problem in self.problems() {
            self.render_one(&renderer, problem, &mut out);
            out.push('\n');
        }
        out.push_str(&self.summary());
        out
    }

    fn render_one(&self, renderer: &Renderer, problem: &Problem, out: &mut String) {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(problem.what.as_str());
        let place = problem.place.and_then(|place| Some((self.sources().get(place)?, place)));
        let group = match place {
            None => Group::with_title(title),
            Some((source, place)) => {
                let excerpt = Excerpt::of(source, place).without(self.hidden_in(place.file()));
                let label = Some(problem.label.as_str()).filter(|label| !label.is_empty());
                let mark = AnnotationKind::Primary.span(excerpt.span.clone()).label(label);
                let snippet = Snippet::source(excerpt.text).line_start(excerpt.line).annotation(mark);
                let name = source.name.as_str();
                if excerpt.whole {
                    title.element(snippet.path(name))
                } else {
                    // The column cannot be told from a part of the line.
                    let origin = Origin::path(name).line(excerpt.line).char_column(excerpt.column);
                    title.element(origin).element(snippet)
                }
            }
        };
        let drawn = renderer.render(&[group]);
        out.push_str(drawn.trim_end());
        out.push('\n');
        if place.is_none() && !problem.label.is_empty() {
            out.push_str(&format!("note: {}\n", problem.label));
        }
        if let Some(help) = &problem.help {
            out.push_str(
                renderer.render(&[Group::with_title(Level::HELP.primary_title(help.as_str()))]).trim_end(),
            );
            out.push('\n');
        }
    }

    /// `2 errors, 1 warning`, or an empty text.
    fn summary(&self) -> String {
        let total = self.problems().len() + self.dropped();
        if total == 0 {
            return String::new();
        }
        let errors = self.error_count();
        let plural = |count: usize, word: &str| match count {
            1 => format!("1 {word}"),
            count => format!("{count} {word}s"),
        };
        let mut parts = Vec::new();
        if errors > 0 {
            parts.push(plural(errors, "error"));
        }
        if total > errors {
            parts.push(plural(total - errors, "warning"));
        }
        let mut text = parts.join(", ");
        if self.dropped() > 0 {
            text.push_str(&format!(" (the first {} are shown)", self.problems().len()));
        }
        text.push('\n');
        text
    }

    /// Every problem as an array of `{severity, what, label, help, file, line, column, span, path}`.
    ///
    /// `path` says which node of its file it is, such as `routes[3].uri`. What is
    /// unknown is null.
    pub fn to_json(&self) -> serde_json::Value {
        let paths = self.paths();
        let problems = self.problems().iter().map(|problem| {
            let place = problem.place.unwrap_or_default();
            let source = self.sources().get(place);
            let at = source.map(|source| source.line_column(place.span().start));
            serde_json::json!({
                "severity": match problem.severity { Severity::Error => "error", Severity::Warning => "warning" },
                "what": problem.what,
                "label": problem.label,
                "help": problem.help,
                "file": source.map(|source| source.name.as_str()),
                "line": at.map(|(line, _)| line),
                "column": at.map(|(_, column)| column),
                "span": source.map(|_| [place.span().start, place.span().end]),
                "path": paths.get(&place.order()),
            })
        });
        problems.collect()
    }

    /// The path of each problem's node inside its file, found by reading the file again:
    /// keeping a path with every value would cost more than the values.
    fn paths(&self) -> HashMap<(u32, u32, u32), String> {
        let mut wanted: HashMap<(u32, u32, u32), String> = HashMap::new();
        let mut files: Vec<u32> = Vec::new();
        for place in self.problems().iter().filter_map(|problem| problem.place) {
            wanted.insert(place.order(), String::new());
            files.push(place.file());
        }
        files.sort_unstable();
        files.dedup();
        for file in files {
            let Some(source) = self.sources().files().get(file as usize) else { continue };
            let tree = load::toml_tree(&source.text, file, &mut Report::new());
            name_nodes(&tree, &mut String::new(), &mut wanted);
        }
        wanted.retain(|_, path| !path.is_empty());
        wanted
    }
}

/// Writes the path of each wanted place; the first node that has the place wins.
fn name_nodes(value: &Value, path: &mut String, wanted: &mut HashMap<(u32, u32, u32), String>) {
    let note = |place: Place, path: &str, wanted: &mut HashMap<_, String>| {
        if let Some(found) = wanted.get_mut(&place.order()).filter(|found| found.is_empty()) {
            *found = path.to_owned();
        }
    };
    note(value.place, path, wanted);
    let length = path.len();
    match &value.kind {
        Kind::Table(entries) => {
            for (key, value) in entries {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(&key.name);
                note(key.place, path, wanted);
                name_nodes(value, path, wanted);
                path.truncate(length);
            }
        }
        Kind::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                name_nodes(item, path, wanted);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// The line of a place, or the part of it that matters.
struct Excerpt<'a> {
    text: Cow<'a, str>,
    /// Where it begins in the file.
    start: usize,
    span: Range<usize>,
    line: usize,
    column: usize,
    /// It begins where the line does.
    whole: bool,
}

impl<'a> Excerpt<'a> {
    fn of(source: &'a Source, place: Place) -> Excerpt<'a> {
        let text = source.text.as_str();
        let start = source.floor(place.span().start);
        let end = source.floor(place.span().end).max(start);
        let (line, column) = source.line_column(start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line_end =
            source.floor(if text[..line_end].ends_with('\r') { line_end - 1 } else { line_end }).max(start);
        let from = line_start.max(source.floor(start.saturating_sub(CONTEXT_BYTES_MAX)));
        let to = line_end.min(source.floor(start + 2 * CONTEXT_BYTES_MAX)).max(start);
        // A place that spans lines (a table) is marked to the end of its first.
        let mut span = start - from..end.min(to) - from;
        if span.is_empty() && span.end < to - from {
            span.end += text[start..].chars().next().map_or(0, char::len_utf8);
        }
        let whole = from == line_start;
        Excerpt { text: Cow::Borrowed(&text[from..to]), start: from, span, line, column, whole }
    }

    /// The same with a `*` for each byte that is hidden, so that every other keeps its place.
    fn without(mut self, hidden: impl Iterator<Item = Range<usize>>) -> Excerpt<'a> {
        for span in hidden {
            let end = span.end.saturating_sub(self.start).min(self.text.len());
            let from = span.start.saturating_sub(self.start).min(end);
            if from < end && self.text.is_char_boundary(from) && self.text.is_char_boundary(end) {
                self.text.to_mut().replace_range(from..end, &"*".repeat(end - from));
            }
        }
        self
    }
}
