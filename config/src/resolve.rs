//! `${env:NAME}`, `${env:NAME:-default}`, `${file:path}` inside strings.
//!
//! Resolved after parsing, in each string by itself: what a variable holds can
//! never become a key, a table or another `${...}`. What does not resolve is an
//! error and never its own text. `$${` is a literal `${`; `${name}` without a colon
//! is left alone, it is a template's variable.

use std::path::Path;

use crate::env::Env;
use crate::load;
use crate::place::Place;
use crate::report::{Problem, Report};
use crate::value::{Kind, Value};

/// Resolves every string of a tree. Relative paths start from `directory`.
pub(crate) fn tree(value: &mut Value, directory: &Path, env: &dyn Env, report: &mut Report) {
    match &mut value.kind {
        Kind::String(text) if text.contains("${") => {
            value.kind = match text_of(text, value.place, directory, env, report) {
                Some(resolved) => Kind::String(resolved),
                // Reported; whoever reads it says nothing more.
                None => Kind::Null,
            };
        }
        Kind::Array(items) => items.iter_mut().for_each(|item| tree(item, directory, env, report)),
        Kind::Table(entries) => {
            entries.iter_mut().for_each(|(_, value)| tree(value, directory, env, report));
        }
        _ => {}
    }
}

/// The resolved text, or `None` if something in it did not resolve.
fn text_of(text: &str, place: Place, directory: &Path, env: &dyn Env, report: &mut Report) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut whole = true;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let inner = after.find('}').map(|end| &after[..end]);
        let Some(inner) = inner.filter(|inner| inner.contains(':')).or_else(|| unterminated(after)) else {
            out.push_str("${");
            rest = after;
            continue;
        };
        match one(inner, inner.len() < after.len(), directory, env) {
            Ok(value) => out.push_str(&value),
            Err((why, help)) => {
                whole = false;
                let end = if inner.len() < after.len() { "}" } else { "" };
                let what = format!("`${{{inner}{end}` does not resolve");
                report.push(Problem::error(place, what).label(why).help(help));
            }
        }
        rest = after.get(inner.len() + 1..).unwrap_or_default();
    }
    out.push_str(rest);
    whole.then_some(out)
}

/// `${env:NAME` to the end of the text: surely meant as ours.
fn unterminated(after: &str) -> Option<&str> {
    let ours = after.starts_with("env:") || after.starts_with("file:");
    (ours && !after.contains('}')).then_some(after)
}

/// The value of one `${...}`, or why there is none and what to do.
fn one(inner: &str, closed: bool, directory: &Path, env: &dyn Env) -> Result<String, (String, String)> {
    if !closed {
        return Err(("the closing `}` is missing".to_owned(), "write `$${` for a literal `${`".to_owned()));
    }
    let (kind, rest) = inner.split_once(':').unwrap_or((inner, ""));
    match kind {
        "env" => {
            let (name, default) = match rest.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (rest, None),
            };
            if name.is_empty() {
                return Err((
                    "the name of the variable is missing".to_owned(),
                    "write ${env:NAME}".to_owned(),
                ));
            }
            let value = env.var(name).filter(|value| !(value.is_empty() && default.is_some()));
            value.or(default.map(str::to_owned)).ok_or_else(|| {
                let help = format!("set it, or give a default: ${{env:{name}:-default}}");
                (format!("the variable {name} is not set"), help)
            })
        }
        "file" => {
            let path = directory.join(rest);
            let text = env.file(&path).map_err(|error| {
                (
                    format!("cannot read {}: {}", path.display(), load::reason(&error)),
                    "write a path that can be read; a relative one begins at the folder of this file"
                        .to_owned(),
                )
            })?;
            // Editors end a file with a line end that is no part of the secret in it.
            let text = text.strip_suffix('\n').unwrap_or(&text);
            Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
        }
        other => Err((
            format!("there is no source `{other}`"),
            "the sources are `env` and `file`; write `$${` for a literal `${`".to_owned(),
        )),
    }
}
