//! Typed reading of a table that collects problems instead of stopping at one.
//!
//! Each method asks for a key once and gives `None` both where the key is absent
//! and where it was wrong: the problem is then in the report, and the caller goes
//! on with its default. [`Reader::finish`] reports the keys that no one asked for,
//! so a field exists exactly if some code reads it. Plugins read their settings by
//! the same methods.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::place::Place;
use crate::report::{Problem, Report};
use crate::units;
use crate::value::{Key, Kind, Value};

/// What a bare number means where a duration is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// As in resources.
    Seconds,
    /// As in many plugin fields.
    Milliseconds,
}

/// A table being read. `'v` is the document's lifetime, `'r` the report's.
#[derive(Debug)]
pub struct Reader<'v, 'r> {
    entries: &'v [(Key, Value)],
    place: Place,
    kind: &'static str,
    seen: Vec<bool>,
    asked: Vec<&'static str>,
    report: &'r mut Report,
    /// The value was no table, or the caller gave up: unknown keys are not reported.
    quiet: bool,
    errors_before: usize,
}

impl<'v, 'r> Reader<'v, 'r> {
    /// Begins to read a table; anything else is an error, and then every key is absent.
    pub fn new(value: &'v Value, report: &'r mut Report) -> Reader<'v, 'r> {
        Reader::of("", value, report)
    }

    /// [`Reader::new`] for a table of a kind that the JSON schema knows by this name.
    pub fn of(kind: &'static str, value: &'v Value, report: &'r mut Report) -> Reader<'v, 'r> {
        let errors_before = report.error_count();
        let entries = value.as_table();
        if entries.is_none() {
            wrong_type(report, value, "a table", "");
        }
        Reader {
            entries: entries.unwrap_or_default(),
            place: value.place,
            kind,
            seen: vec![false; entries.map_or(0, <[_]>::len)],
            asked: Vec::with_capacity(24),
            report,
            quiet: entries.is_none(),
            errors_before,
        }
    }

    /// The report, to push what the typed methods cannot say and to read nested tables.
    pub fn report(&mut self) -> &mut Report {
        self.report
    }

    /// Where the table stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The key and value, whatever its type.
    pub fn entry(&mut self, name: &'static str) -> Option<(&'v Key, &'v Value)> {
        self.asked.push(name);
        let at = self.entries.iter().position(|(key, _)| key.name == name)?;
        self.seen[at] = true;
        let (key, value) = &self.entries[at];
        Some((key, value))
    }

    /// The value, whatever its type.
    pub fn opt_value(&mut self, name: &'static str) -> Option<&'v Value> {
        self.entry(name).map(|(_, value)| value)
    }

    /// A text.
    pub fn opt_str(&mut self, name: &'static str) -> Option<&'v str> {
        let value = self.opt_value(name)?;
        self.str_of(value)
    }

    /// A text that must be there; absence is an error.
    pub fn req_str(&mut self, name: &'static str) -> Option<&'v str> {
        self.require(name)?;
        self.opt_str(name)
    }

    /// Whether a key is there; its absence is reported.
    pub fn require(&mut self, name: &'static str) -> Option<()> {
        if self.has(name) {
            return Some(());
        }
        self.asked.push(name);
        if !self.quiet {
            let what = format!("`{name}` is missing");
            self.report.push(Problem::error(self.place, what).label(format!("has no `{name}`")));
        }
        None
    }

    /// Whether a key is there; does not count as asking for it.
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| key.name == name)
    }

    /// A boolean.
    pub fn opt_bool(&mut self, name: &'static str) -> Option<bool> {
        let value = self.opt_value(name)?;
        if value.as_bool().is_none() {
            wrong_type(self.report, value, "a boolean", "write `true` or `false`, without quotes");
        }
        value.as_bool()
    }

    /// A whole number within bounds.
    pub fn range(&mut self, name: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.opt_value(name)?;
        integer(self.report, name, value, range)
    }

    /// A whole number that is not negative.
    pub fn opt_u64(&mut self, name: &'static str) -> Option<u64> {
        self.range(name, 0..=i64::MAX).map(i64::unsigned_abs)
    }

    /// A whole number.
    pub fn opt_i64(&mut self, name: &'static str) -> Option<i64> {
        self.range(name, i64::MIN..=i64::MAX)
    }

    /// A number, whole or not; never infinite or not-a-number.
    pub fn opt_f64(&mut self, name: &'static str) -> Option<f64> {
        let value = self.opt_value(name)?;
        let number = value.as_f64().filter(|number| number.is_finite());
        if number.is_none() {
            wrong_type(self.report, value, "a number", "");
        }
        number
    }

    /// A duration: a number of seconds, or a text with its unit.
    pub fn opt_duration(&mut self, name: &'static str) -> Option<Duration> {
        self.opt_duration_in(name, TimeUnit::Seconds)
    }

    /// A duration: a number in this unit, or a text with its own.
    pub fn opt_duration_in(&mut self, name: &'static str, unit: TimeUnit) -> Option<Duration> {
        let value = self.opt_value(name)?;
        duration_of(self.report, name, value, unit)
    }

    /// A number of bytes, or a text such as `"64KiB"`.
    pub fn opt_size(&mut self, name: &'static str) -> Option<u64> {
        let value = self.opt_value(name)?;
        size_of(self.report, name, value)
    }

    /// A size within bounds.
    pub fn size_range(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let size = self.opt_size(name)?;
        if range.contains(&size) {
            return Some(size);
        }
        let place = self.value_place(name);
        let label = format!("must be {} to {} bytes", range.start(), range.end());
        self.report.push(Problem::error(place, format!("`{name}` is out of range: {size}")).label(label));
        None
    }

    /// The elements of an array; anything else is an error.
    pub fn opt_array(&mut self, name: &'static str) -> Option<&'v [Value]> {
        let value = self.opt_value(name)?;
        if value.as_array().is_none() {
            wrong_type(self.report, value, "an array", "");
        }
        value.as_array()
    }

    /// The texts of an array, each with its place; elements of another type are errors. Empty if absent.
    pub fn list(&mut self, name: &'static str) -> Vec<(&'v str, Place)> {
        let items = self.opt_array(name).unwrap_or_default();
        items.iter().filter_map(|item| Some((self.str_of(item)?, item.place))).collect()
    }

    /// The texts of an array; elements of another type are errors. `None` if absent.
    pub fn list_str(&mut self, name: &'static str) -> Option<Vec<String>> {
        let present = self.has(name);
        let list = self.list(name);
        present.then(|| list.into_iter().map(|(text, _)| text.to_owned()).collect())
    }

    /// One text or an array of texts, each with its place. Empty if absent.
    pub fn one_or_list(&mut self, name: &'static str) -> Vec<(&'v str, Place)> {
        let Some(value) = self.opt_value(name) else { return Vec::new() };
        match &value.kind {
            Kind::String(text) => vec![(text, value.place)],
            Kind::Array(items) => {
                items.iter().filter_map(|item| Some((self.str_of(item)?, item.place))).collect()
            }
            _ => {
                wrong_type(self.report, value, "a string or an array of strings", "");
                Vec::new()
            }
        }
    }

    /// One of these words; another is an error with a suggestion.
    pub fn one_of<T: Copy>(&mut self, name: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let value = self.opt_value(name)?;
        let text = self.str_of(value)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let help = self.report.suggest(text, words.iter().map(|(word, _)| (*word, Place::NOWHERE)));
        let all = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        self.report.push(
            Problem::error(value, format!("unknown {} `{text}`", name.replace('_', " ")))
                .label(if words.len() == 1 {
                    format!("must be {all}")
                } else {
                    format!("must be one of {all}")
                })
                .help(help),
        );
        None
    }

    /// [`Reader::one_of`] where some words are planned and not there yet.
    pub fn one_built<T: Copy>(
        &mut self,
        name: &'static str,
        built: &[(&'static str, T)],
        planned: &[&'static str],
    ) -> Option<T> {
        match self.peek(name).and_then(|value| Some((value, value.as_str()?))) {
            Some((value, text)) if planned.contains(&text) => {
                self.entry(name);
                not_built(self.report, value.place, &format!("{name} = \"{text}\""));
                None
            }
            _ => self.one_of(name, built),
        }
    }

    /// A duration that is longer than zero.
    pub fn opt_timeout(&mut self, name: &'static str) -> Option<Duration> {
        let duration = self.opt_duration(name)?;
        if duration.is_zero() {
            let place = self.value_place(name);
            let what = format!("`{name}` is out of range: 0");
            self.report.push(Problem::error(place, what).label("must be longer than zero"));
            return None;
        }
        Some(duration)
    }

    /// At most one of these keys may be there; a second is an error.
    pub fn only_one(&mut self, names: &[&'static str]) {
        let mut present = names.iter().filter_map(|name| {
            let found = self.entries.iter().find(|(key, _)| key.name == *name);
            found.map(|(key, _)| (*name, key.place))
        });
        let first = present.next();
        if let (Some((first, _)), Some((second, place))) = (first, present.next()) {
            let what = format!("`{second}` beside `{first}`");
            self.report.push(Problem::error(place, what).label("only one of them").help("remove one"));
        }
    }

    /// Where the value of a key stands, else where the table does.
    pub fn value_place(&self, name: &str) -> Place {
        self.peek(name).map_or(self.place, |value| value.place)
    }

    /// Refuses fields that are planned and not there yet: never silently accepted.
    pub fn not_built(&mut self, names: &[&'static str]) {
        for name in names {
            let Some(at) = self.entries.iter().position(|(key, _)| key.name == *name) else { continue };
            self.seen[at] = true;
            not_built(self.report, self.entries[at].0.place, name);
        }
    }

    /// The value under a key; does not count as asking for it.
    pub(crate) fn peek(&self, name: &str) -> Option<&'v Value> {
        self.entries.iter().find(|(key, _)| key.name == name).map(|(_, value)| value)
    }

    /// Whether something was wrong with the table so far.
    pub(crate) fn has_errors(&self) -> bool {
        self.report.error_count() > self.errors_before
    }

    /// Whether there are keys that no one asked for so far.
    pub(crate) fn has_unknown(&self) -> bool {
        self.seen.contains(&false)
    }

    /// Gives up on this table: its unknown keys are not reported.
    pub fn ignore_rest(&mut self) {
        self.quiet = true;
    }

    /// Reports the keys that no one asked for. True if the table had no error.
    pub fn finish(self) -> bool {
        #[cfg(test)]
        if !self.kind.is_empty() && !self.quiet {
            let known = self.report.asked.entry(self.kind).or_default();
            known.extend(self.asked.iter().map(|name| (*name).to_owned()));
        }
        if !self.quiet {
            for ((key, _), _) in self.entries.iter().zip(&self.seen).filter(|(_, seen)| !**seen) {
                let near = self.asked.iter().map(|name| (*name, Place::NOWHERE));
                let help = self.report.suggest(&key.name, near);
                let label = match self.kind {
                    "" => "there is no such field here".to_owned(),
                    kind => format!("{} has no such field", described(kind)),
                };
                let problem = Problem::error(key, format!("unknown field `{}`", key.name)).label(label);
                self.report.push(problem.help(help));
            }
        }
        !self.has_errors()
    }

    fn str_of(&mut self, value: &'v Value) -> Option<&'v str> {
        if value.as_str().is_none() {
            wrong_type(self.report, value, "a string", "");
        }
        value.as_str()
    }
}

/// `PluginConfig` as `a plugin config`, `Limits` as `[server.limits]`.
fn described(kind: &str) -> String {
    let single = match kind {
        "Document" => "the document",
        "Server" => "[server]",
        "Limits" => "[server.limits]",
        "Log" => "[log]",
        "Status" => "[status]",
        "Cores" => "[cores]",
        "Ring" => "[cores.ring]",
        "Buffers" => "[cores.buffers]",
        "PluginMeta" => "`_meta`",
        "Ssl" => "a certificate",
        "SslClient" => "`client`",
        "UpstreamTls" => "`tls`",
        "Timeout" => "`timeout`",
        "KeepalivePool" => "`keepalive_pool`",
        "Control" => "[control]",
        "Discovery" => "[discovery]",
        "Dns" => "[discovery.dns]",
        "DiscoveryArgs" => "`discovery_args`",
        "Checks" => "`checks`",
        "ActiveCheck" => "`checks.active`",
        "ActiveHealthy" => "`checks.active.healthy`",
        "ActiveUnhealthy" => "`checks.active.unhealthy`",
        "PassiveCheck" => "`checks.passive`",
        "PassiveHealthy" => "`checks.passive.healthy`",
        "PassiveUnhealthy" => "`checks.passive.unhealthy`",
        "Sticky" => "`sticky`",
        "Retry" => "`retry`",
        "Backoff" => "`backoff`",
        "Hedge" => "`hedge`",
        "Queue" => "`queue`",
        "Outlier" => "`outlier`",
        "Breaker" => "`breaker`",
        "ConcurrencyLimit" => "`concurrency_limit`",
        _ => "",
    };
    if !single.is_empty() {
        return single.to_owned();
    }
    let mut words = String::new();
    for letter in kind.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    let article = if words.starts_with(['a', 'e', 'i', 'o']) || words == "upstream" { "an" } else { "a" };
    format!("{article} {words}")
}

/// Reports that a value has the wrong type.
///
/// TOML has no null: one that stands in a file is what could not be read or resolved,
/// and that was reported where it happened.
pub(crate) fn wrong_type(report: &mut Report, value: &Value, expected: &str, help: &str) {
    if value.kind == Kind::Null && value.place.is_somewhere() {
        return;
    }
    let what = format!("expected {expected}, found {}", value.type_name());
    report.push(Problem::error(value, what).label(format!("must be {expected}")).help(help));
}

/// Reports that something is planned and not there yet.
pub(crate) fn not_built(report: &mut Report, place: Place, name: &str) {
    report.push(
        Problem::error(place, format!("`{name}` is not built yet"))
            .label("this version cannot do it")
            .help("remove it: what is written is never silently ignored"),
    );
}

/// A whole number within bounds, of a value.
pub(crate) fn integer(
    report: &mut Report,
    name: &str,
    value: &Value,
    range: RangeInclusive<i64>,
) -> Option<i64> {
    let Some(number) = value.as_i64() else {
        wrong_type(report, value, "an integer", "");
        return None;
    };
    if range.contains(&number) {
        return Some(number);
    }
    let label = match (*range.start(), *range.end()) {
        (i64::MIN, most) => format!("must be at most {most}"),
        (least, i64::MAX) => format!("must be at least {least}"),
        (least, most) => format!("must be {least} to {most}"),
    };
    report.push(Problem::error(value, format!("`{name}` is out of range: {number}")).label(label));
    None
}

/// A duration, of a value.
pub(crate) fn duration_of(
    report: &mut Report,
    name: &str,
    value: &Value,
    unit: TimeUnit,
) -> Option<Duration> {
    let scale = if unit == TimeUnit::Seconds { 1.0 } else { 1e-3 };
    let read = match &value.kind {
        Kind::Integer(number) => units::from_seconds(*number as f64 * scale),
        Kind::Float(number) => units::from_seconds(number * scale),
        Kind::String(text) => units::duration(text),
        _ => {
            wrong_type(report, value, "a duration", "a number of seconds, or a string such as \"250ms\"");
            return None;
        }
    };
    read.map_err(|why| {
        report.push(
            Problem::error(value, format!("`{name}` is no duration: {value}"))
                .label(why)
                .help("write a number and a unit: \"250ms\", \"10s\", \"1m30s\", \"2h\""),
        );
    })
    .ok()
}

/// A number of bytes, of a value.
pub(crate) fn size_of(report: &mut Report, name: &str, value: &Value) -> Option<u64> {
    let read = match &value.kind {
        Kind::Integer(number) => u64::try_from(*number).map_err(|_| "a size is not negative".to_owned()),
        Kind::String(text) => units::size(text),
        _ => {
            wrong_type(report, value, "a size", "a number of bytes, or a string such as \"64KiB\"");
            return None;
        }
    };
    read.map_err(|why| {
        report.push(
            Problem::error(value, format!("`{name}` is no size: {value}"))
                .label(why)
                .help("write bytes, or a number and a unit: \"64KiB\", \"10m\", \"2g\""),
        );
    })
    .ok()
}
