//! Reading what an operator wrote for `limit-count`, and its JSON Schema.
//!
//! Apart from the counting, which is read by whoever looks for what a request
//! costs; this is read by whoever looks for what may be written.

use std::collections::HashMap;
use std::sync::Arc;

use config::vars::{Template, Var};
use config::{units, PluginEntry, Problem, Reader, Report, Value};
use proto::head::valid_field_name;
use serde_json::json;

use super::{HeaderNames, Key, Limit, LimitCount, Number, INFO, NUMBER_MAX};
use crate::limit::{Owner, Window};
use crate::{settings, Answer, Plugin, Setup, SharedState};

/// Rules of one plugin: each is counted for every request.
const RULES_MAX: usize = 64;

/// What the Redis policies take.
const REDIS_FIELDS: &[&str] = &[
    "sync_interval",
    "redis_host",
    "redis_port",
    "redis_username",
    "redis_password",
    "redis_ssl",
    "redis_ssl_verify",
    "redis_database",
    "redis_timeout",
    "redis_keepalive_timeout",
    "redis_keepalive_pool",
    "redis_cluster_nodes",
    "redis_cluster_name",
    "redis_cluster_ssl",
    "redis_cluster_ssl_verify",
    "redis_sentinels",
    "redis_master_name",
    "redis_role",
    "redis_connect_timeout",
    "redis_read_timeout",
    "sentinel_username",
    "sentinel_password",
];

/// Reports members of one group whose settings differ: they could not share counters.
///
/// A rule over the whole document, so no single [`build`] can see it.
pub(crate) fn check_groups<'d>(entries: impl Iterator<Item = &'d PluginEntry>, report: &mut Report) {
    let mut groups: HashMap<&str, &PluginEntry> = HashMap::new();
    for entry in entries.filter(|entry| entry.name == INFO.name) {
        let Some(group) = entry.value.get("group").and_then(Value::as_str) else { continue };
        let first = *groups.entry(group).or_insert(entry);
        if first.value != entry.value {
            let help = match report.sources().line_of(first.place) {
                Some(line) => format!("all of the group are written alike; the first is at {line}"),
                None => "all of the group are written alike".to_owned(),
            };
            report.error(entry.place, format!("the settings of group `{group}` differ"), help);
        }
    }
}

pub(super) fn build(setup: &Setup<'_>, report: &mut Report) -> Option<Arc<dyn Plugin>> {
    settings::read(setup, report, |reader| {
        let group = reader.opt_str("group");
        if group == Some("") {
            settings::problem(
                reader,
                "group",
                "a group's name is not empty",
                "write group = \"name\", or leave it out",
            );
        }
        let name = group.map_or_else(|| setup.owner.to_owned(), |group| format!("group:{group}"));
        read(reader, &setup.entry.value, &name, setup.shared)
    })
}

/// The same settings inside those of another plugin: `name` is whose counters they are.
///
/// A group is refused, as in APISIX: all of one are written alike, and whoever
/// checks that looks at the plugins of the document.
pub(crate) fn nested(
    value: &Value,
    name: &str,
    shared: &SharedState,
    report: &mut Report,
) -> Option<LimitCount> {
    let mut reader = Reader::of(INFO.name, value, report);
    if reader.opt_value("group").is_some() {
        let what = "a `limit-count` in another plugin is in no group";
        settings::problem(&mut reader, "group", what, "leave it out: each has counters of its own");
    }
    let limit = read(&mut reader, value, name, shared);
    let holds = reader.finish();
    limit.filter(|_| holds)
}

/// Everything but `group`. `value` is the table that is read.
fn read(reader: &mut Reader<'_, '_>, value: &Value, name: &str, shared: &SharedState) -> Option<LimitCount> {
    refuse_redis(reader);
    let owner = |part| shared.owner(name, value, part);
    let key = read_key(reader);
    let limits = match reader.has("rules") {
        true => read_rules(reader, owner),
        false => read_limit(reader, key, owner(0)).map(|limit| vec![limit]),
    };
    let windows = [("fixed", Window::Fixed), ("sliding", Window::Sliding)];
    let window = reader.one_of("window_type", &windows).unwrap_or(Window::Fixed);
    let rejected = read_rejected(reader);
    let show_headers = reader.opt_bool("show_limit_quota_header").unwrap_or(true);
    let degrade = reader.opt_bool("allow_degradation").unwrap_or(false);
    Some(LimitCount { shared: shared.clone(), limits: limits?, window, rejected, show_headers, degrade })
}

/// The policies that count elsewhere: one problem for the policy, none for its fields.
fn refuse_redis(reader: &mut Reader<'_, '_>) {
    let policies = [("local", true), ("redis", false), ("redis-cluster", false), ("redis-sentinel", false)];
    if reader.one_of("policy", &policies).unwrap_or(true) {
        return reader.not_built(REDIS_FIELDS);
    }
    let place = reader.value_place("policy");
    let problem = Problem::error(place, "this `policy` is not built yet")
        .label("this version counts in this process alone")
        .help("write `local`, which is exact over all of its cores");
    reader.report().push(problem);
    for field in REDIS_FIELDS {
        reader.opt_value(field);
    }
}

fn read_key(reader: &mut Reader<'_, '_>) -> Key {
    let key_type = reader.one_of("key_type", &[("var", 'v'), ("var_combination", 'm'), ("constant", 'c')]);
    let text = reader.opt_str("key").unwrap_or("remote_addr");
    if text.is_empty() {
        settings::problem(
            reader,
            "key",
            "a key is not empty",
            "write key = \"remote_addr\", or leave it out",
        );
    }
    match key_type.unwrap_or('v') {
        'c' => Key::Constant(text.to_owned()),
        'm' => {
            let template = Template::parse(text);
            if template.vars().next().is_none() {
                let place = reader.value_place("key");
                let what = "no variable in this `key`: every client's address is counted apart";
                reader.report().warning(place, what, "write `$remote_addr $http_x_api_key`");
            }
            Key::Combination { template, is_rule: false }
        }
        _ => match Var::parse(text) {
            Var::RemoteAddr => Key::Address,
            _ if text.contains('$') => {
                let help = "leave the `$` out, or write `key_type = \"var_combination\"`";
                settings::problem(reader, "key", &format!("`{text}` is no variable's name"), help);
                Key::Address
            }
            var => Key::Var(var),
        },
    }
}

/// The single limit of a plugin without `rules`.
fn read_limit(reader: &mut Reader<'_, '_>, key: Key, owner: Owner) -> Option<Limit> {
    let (count, window_millis) = read_numbers(reader);
    let headers = HeaderNames::new(None);
    Some(Limit { owner, count: count?, window_millis: window_millis?, key, headers })
}

fn read_rules(reader: &mut Reader<'_, '_>, owner: impl Fn(usize) -> Owner) -> Option<Vec<Limit>> {
    for field in ["count", "time_window"] {
        if reader.opt_value(field).is_some() {
            let what = format!("`{field}` and `rules` exclude each other");
            settings::problem(reader, field, &what, "move it into a rule");
        }
    }
    let mut keys: Vec<String> = Vec::new();
    settings::tables(reader, "rules", 1..=RULES_MAX, |index, rule| {
        let (count, window_millis) = read_numbers(rule);
        let key = rule.req_str("key");
        let prefix = rule.opt_str("header_prefix");
        let prefix = prefix.map_or_else(|| (index + 1).to_string(), str::to_owned);
        if !valid_field_name(prefix.as_bytes()) {
            settings::problem(
                rule,
                "header_prefix",
                "this cannot stand in a field's name",
                "write letters, digits and `-`, such as \"Minute\"",
            );
        }
        let template = Template::parse(key?);
        if template.vars().next().is_none() {
            settings::problem(rule, "key", "a rule's key names a variable", "write `$http_x_api_key`");
        }
        if keys.iter().any(|other| Some(other.as_str()) == key) {
            settings::problem(
                rule,
                "key",
                "two rules have this key",
                "write another key, or remove one of the rules",
            );
        }
        keys.push(key?.to_owned());
        let key = Key::Combination { template, is_rule: true };
        let headers = HeaderNames::new(Some(&prefix));
        Some(Limit { owner: owner(index), count: count?, window_millis: window_millis?, key, headers })
    })
}

/// `count` and `time_window`.
fn read_numbers(reader: &mut Reader<'_, '_>) -> (Option<Number>, Option<Number>) {
    (read_number(reader, "count", 1), read_number(reader, "time_window", 1000))
}

/// A number above 0, a text that is one, or a text with variables. A `time_window`
/// (`unit` 1000: milliseconds) may also be a duration such as `"250ms"`.
fn read_number(reader: &mut Reader<'_, '_>, field: &'static str, unit: u64) -> Option<Number> {
    reader.require(field)?;
    let value = reader.opt_value(field)?;
    let number = match value.as_str() {
        Some(text) if text.contains('$') => return Some(Number::Rendered(Template::parse(text), unit)),
        Some(text) => text.parse().ok(),
        None => value.as_i64().and_then(|number| u64::try_from(number).ok()),
    };
    let number = number.filter(|number| *number <= NUMBER_MAX).map(|number| number.saturating_mul(unit));
    let duration = value.as_str().filter(|_| unit > 1).and_then(|text| units::duration(text).ok());
    let number = number.or(duration.and_then(|duration| u64::try_from(duration.as_millis()).ok()));
    if let Some(number) = number.filter(|number| *number > 0) {
        return Some(Number::Known(number));
    }
    let what = format!("`{field}` is a whole number above 0, or a text with variables");
    settings::problem(reader, field, &what, &format!("write {field} = 10"));
    None
}

fn read_rejected(reader: &mut Reader<'_, '_>) -> Answer {
    let status = reader.range("rejected_code", 200..=599).unwrap_or(503) as u16;
    match reader.opt_str("rejected_msg") {
        None => Answer::status(status),
        Some(message) => {
            if message.is_empty() {
                settings::problem(reader, "rejected_msg", "a message is not empty", "leave it out");
            }
            Answer::error_message(status, message)
        }
    }
}

pub(super) fn schema() -> serde_json::Value {
    let number = json!({ "oneOf": [{ "type": "integer", "exclusiveMinimum": 0 }, { "type": "string" }] });
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "count": number,
            "time_window": number,
            "window_type": { "type": "string", "enum": ["fixed", "sliding"], "default": "fixed" },
            "rules": {
                "type": "array",
                "minItems": 1,
                "maxItems": RULES_MAX,
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["count", "time_window", "key"],
                    "properties": {
                        "count": number,
                        "time_window": number,
                        "key": { "type": "string" },
                        "header_prefix": { "type": "string" }
                    }
                }
            },
            "key_type": {
                "type": "string",
                "enum": ["var", "var_combination", "constant"],
                "default": "var"
            },
            "key": { "type": "string", "default": "remote_addr" },
            "group": { "type": "string", "minLength": 1 },
            "rejected_code": { "type": "integer", "minimum": 200, "maximum": 599, "default": 503 },
            "rejected_msg": { "type": "string", "minLength": 1 },
            "policy": { "type": "string", "enum": ["local"], "default": "local" },
            "allow_degradation": { "type": "boolean", "default": false },
            "show_limit_quota_header": { "type": "boolean", "default": true }
        },
        "oneOf": [{ "required": ["count", "time_window"] }, { "required": ["rules"] }]
    })
}
