//! `hash_on` and `key`: what a consistent hash is taken of.
//!
//! The forms are APISIX's. It looks names up when a request comes, and one that does
//! not exist sends every request to the same node; here they are checked.

use super::forms;
use crate::names;
use crate::place::Place;
use crate::reader::Reader;
use crate::report::Problem;
use crate::upstream::Kind;
use crate::vars::{Template, Var};

/// What the key of `chash` and `maglev` is taken from (`hash_on` with `key`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// `vars`: one variable, such as `remote_addr`, `uri`, `arg_x`.
    Var(Var),
    /// `header`: a request header's value; the name in lower case.
    Header(String),
    /// `cookie`: a cookie's value.
    Cookie(String),
    /// `consumer`: who was authenticated.
    Consumer,
    /// `vars_combinations`: a template such as `$request_uri$remote_addr`.
    Combination(Template),
}

/// The word of `hash_on`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Var,
    Header,
    Cookie,
    Consumer,
    Combination,
}

const SOURCES: &[(&str, Source)] = &[
    ("vars", Source::Var),
    ("header", Source::Header),
    ("cookie", Source::Cookie),
    ("consumer", Source::Consumer),
    ("vars_combinations", Source::Combination),
];

/// Reads both for this type; `None` is a type that is wrong and was reported.
pub(super) fn read(kind: Option<Kind>, reader: &mut Reader<'_, '_>) -> Option<HashOn> {
    let written = reader.one_of("hash_on", SOURCES);
    let key = reader.opt_str("key");
    let kind = kind?;
    if !matches!(kind, Kind::Chash | Kind::Maglev) {
        for name in ["hash_on", "key"] {
            forms::without_effect(reader, name, "write type = \"chash\" to hash on it");
        }
        return (kind == Kind::IpHash).then_some(HashOn::Var(Var::RemoteAddr));
    }
    let source = match written {
        None if reader.has("hash_on") => return None,
        written => written.unwrap_or(Source::Var),
    };
    if source == Source::Consumer {
        forms::without_effect(reader, "key", "the consumer's name is the key");
        return Some(HashOn::Consumer);
    }
    if !reader.has("key") {
        missing(source, reader);
    }
    match (source, key?) {
        (_, "") => {
            let place = reader.value_place("key");
            let help = format!("write key = \"{}\"", example(source));
            reader.report().push(Problem::error(place, "`key` is empty").help(help));
            None
        }
        (Source::Header, key) => header(key, reader),
        (Source::Cookie, key) => cookie(key, reader),
        (Source::Combination, key) => combination(key, reader),
        (Source::Var | Source::Consumer, key) => variable(key, reader),
    }
}

/// A key that does for this source, to show.
fn example(source: Source) -> &'static str {
    match source {
        Source::Header => "X-User",
        Source::Cookie => "session",
        Source::Combination => "$request_uri$remote_addr",
        Source::Var | Source::Consumer => "remote_addr",
    }
}

fn missing(source: Source, reader: &mut Reader<'_, '_>) {
    let place = reader.value_place("type");
    let problem = Problem::error(place, "a consistent hash needs `key`").label("hashes nothing");
    reader.report().push(problem.help(format!("write key = \"{}\"", example(source))));
}

/// `X-Name`, or `http_x_name` as the variable is called.
fn header(key: &str, reader: &mut Reader<'_, '_>) -> Option<HashOn> {
    let lower = key.to_ascii_lowercase();
    let name = lower.strip_prefix("http_").map(|rest| rest.replace('_', "-")).unwrap_or(lower);
    if names::is_token(&name) {
        return Some(HashOn::Header(name));
    }
    let place = reader.value_place("key");
    let problem = Problem::error(place, format!("invalid header name `{key}`"));
    reader.report().push(problem.label("no token (RFC 9110 section 5.1)").help("write key = \"X-User\""));
    None
}

/// `name`, or `cookie_name` as the variable is called.
fn cookie(key: &str, reader: &mut Reader<'_, '_>) -> Option<HashOn> {
    let name = key.strip_prefix("cookie_").filter(|name| !name.is_empty()).unwrap_or(key);
    if names::is_token(name) {
        return Some(HashOn::Cookie(name.to_owned()));
    }
    let place = reader.value_place("key");
    let problem = Problem::error(place, format!("invalid cookie name `{key}`"));
    reader.report().push(problem.label("no token (RFC 6265 section 4.1.1)").help("write key = \"session\""));
    None
}

fn variable(key: &str, reader: &mut Reader<'_, '_>) -> Option<HashOn> {
    if key.contains('$') {
        let place = reader.value_place("key");
        let problem = Problem::error(place, format!("unknown variable `{key}`"));
        let help = match key.strip_prefix('$').filter(|name| !matches!(Var::parse(name), Var::Other(_))) {
            Some(name) => format!("write key = \"{name}\""),
            None => "write hash_on = \"vars_combinations\" as well".to_owned(),
        };
        reader.report().push(problem.label("the name of one variable, without `$`").help(help));
        return None;
    }
    let var = Var::parse(key);
    known(&var, key, reader).then_some(HashOn::Var(var))
}

fn combination(key: &str, reader: &mut Reader<'_, '_>) -> Option<HashOn> {
    let template = Template::parse(key);
    let place = reader.value_place("key");
    if template.capture_max().is_some() {
        let problem = Problem::error(place, format!("invalid key `{key}`"));
        reader.report().push(problem.label("there is no match that `$1` could be of"));
        return None;
    }
    if template.is_plain() {
        let help = match Var::parse(key) {
            Var::Other(_) => "write key = \"$request_uri$remote_addr\"".to_owned(),
            _ => format!("write key = \"${key}\""),
        };
        let problem = Problem::error(place, format!("no variable in the key `{key}`"));
        reader.report().push(problem.label("is the same for every request").help(help));
        return None;
    }
    let unknown = template.vars().filter(|var| !known(var, &var.to_string(), reader)).count();
    (unknown == 0).then_some(HashOn::Combination(template))
}

/// Whether a variable exists, and does before an endpoint is chosen; reported if not.
fn known(var: &Var, name: &str, reader: &mut Reader<'_, '_>) -> bool {
    let place = reader.value_place("key");
    match var {
        Var::Status | Var::UpstreamAddr | Var::PostArg(_) => {
            let problem = Problem::error(place, format!("`{name}` is not known when a node is chosen"));
            let help = "hash on something of the request's head, such as remote_addr, uri, arg_x, http_x_y";
            reader.report().push(problem.label("would always be empty").help(help));
            false
        }
        // Constants of nginx that the schema of APISIX allows: nothing to tell requests apart by.
        Var::Other(name) if matches!(name.as_str(), "server_name" | "hostname") => {
            let what = format!("`{name}` is the same for all requests");
            reader.report().warning(
                place,
                what,
                "the client's address counts instead; write remote_addr or host",
            );
            true
        }
        Var::Other(_) => {
            let near = Var::plain_names().map(|known| (known, Place::NOWHERE));
            let mut help = reader.report().suggest(name, near);
            if help.is_empty() && name.contains('-') {
                help = "for a request header write hash_on = \"header\"".to_owned();
            } else if help.is_empty() {
                help = "such as remote_addr, uri, arg_x, cookie_x, http_x_y".to_owned();
            }
            let problem = Problem::error(place, format!("unknown variable `{name}`"));
            reader.report().push(problem.label("a request has no such variable").help(help));
            false
        }
        _ => true,
    }
}
