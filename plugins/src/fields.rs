//! Header fields that plugins add, set and remove, and those of their answers.
//!
//! `proxy-rewrite` and `response-rewrite` share the edits, `fault-injection` and
//! `api-breaker` the answers: names are checked when the settings are read, values
//! are templates. A rendered value may hold what no field
//! value may (`$arg_x` is percent-decoded, so a client can put CR LF in it); such
//! bytes become spaces, which ends the injection and keeps the rest readable.

use std::borrow::Cow;

use config::vars::Template;
use config::{Kind, Place, Reader, Report, Value};
use proto::head::{valid_field_name, valid_field_value, Head};
use serde_json::json;

use crate::{settings, Exchange};

/// Fields of one plugin at most: a bound for what one request may cause.
const EDITS_MAX: usize = 256;

/// Additions, replacements and removals, applied in this order, as APISIX does.
#[derive(Default)]
pub(crate) struct FieldEdits {
    add: Vec<(String, Template)>,
    set: Vec<(String, Template)>,
    remove: Vec<String>,
}

/// Fields of an answer, their values rendered for each request.
#[derive(Default)]
pub(crate) struct AnswerFields(Vec<(String, Template)>);

impl AnswerFields {
    /// Reads `field`: a map from a name to a text or a number.
    pub(crate) fn read_map(reader: &mut Reader<'_, '_>, field: &'static str) -> AnswerFields {
        let Some(map) = reader.opt_value(field) else { return AnswerFields::default() };
        if map.as_table().is_some_and(<[_]>::is_empty) {
            let what = format!("`{field}` is empty");
            reader.report().error(map, what, "name a field, or leave it out");
        }
        AnswerFields::checked(read_pairs(reader.report(), map), map.place, reader.report())
    }

    /// Reads `field`: a list of `{ key, value }`.
    pub(crate) fn read_list(reader: &mut Reader<'_, '_>, field: &'static str) -> AnswerFields {
        let pairs = settings::tables(reader, field, 0..=EDITS_MAX, |_, pair| {
            let (name, value) = (pair.req_str("key"), pair.req_str("value"));
            let (name_place, value_place) = (pair.value_place("key"), pair.value_place("value"));
            let (name, value) = (name?, value?);
            let name_holds = check_name(pair.report(), name_place, name);
            let value_holds = check_value(pair.report(), value_place, value);
            (name_holds && value_holds).then(|| (name.to_owned(), Template::parse(value)))
        });
        AnswerFields(pairs.unwrap_or_default())
    }

    fn checked(pairs: Vec<(String, Template)>, place: Place, report: &mut Report) -> AnswerFields {
        if pairs.len() > EDITS_MAX {
            report.error(place, format!("more than {EDITS_MAX} fields"), "remove some");
        }
        AnswerFields(pairs)
    }

    /// The fields as they are sent for this request.
    pub(crate) fn render(&self, x: &dyn Exchange) -> Vec<(Cow<'static, str>, String)> {
        let mut value = Vec::new();
        let field = |(name, template): &(String, Template)| {
            render(template, x, None, &mut value);
            (Cow::Owned(name.clone()), String::from_utf8_lossy(&value).into_owned())
        };
        self.0.iter().map(field).collect()
    }
}

/// Which head of an exchange is edited.
pub(crate) type HeadOf = fn(&mut dyn Exchange) -> &mut Head;

impl FieldEdits {
    /// Reads `headers`: `{ add, set, remove }`, or APISIX's older plain map, which
    /// means `set`. `add` and `set` are maps from a name to a text or a number; `add`
    /// may be a list of `"Name: value"` as well.
    pub(crate) fn read(reader: &mut Reader<'_, '_>) -> FieldEdits {
        let mut edits = FieldEdits::default();
        let Some(headers) = reader.opt_value("headers") else { return edits };
        if headers.as_table().is_some_and(<[_]>::is_empty) {
            reader.report().error(headers, "`headers` is empty", "name a field, or leave it out");
        }
        let is_edits = ["add", "set", "remove"].iter().any(|name| {
            let value = headers.get(name);
            value.is_some_and(|value| value.as_table().is_some() || value.as_array().is_some())
        });
        if is_edits {
            settings::table_of(reader.report(), headers, |reader| {
                edits.read_edits(reader);
                Some(())
            });
        } else {
            edits.set = read_pairs(reader.report(), headers);
        }
        if edits.add.len() + edits.set.len() + edits.remove.len() > EDITS_MAX {
            reader.report().error(headers, format!("more than {EDITS_MAX} fields"), "remove some");
        }
        edits
    }

    fn read_edits(&mut self, reader: &mut Reader<'_, '_>) {
        if let Some(add) = reader.opt_value("add") {
            self.add = match add.as_array() {
                Some(lines) => read_lines(reader.report(), lines),
                None => read_pairs(reader.report(), add),
            };
        }
        if let Some(set) = reader.opt_value("set") {
            self.set = read_pairs(reader.report(), set);
        }
        for (name, place) in reader.list("remove") {
            if check_name(reader.report(), place, name) {
                self.remove.push(name.to_owned());
            }
        }
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.add.is_empty() && self.set.is_empty() && self.remove.is_empty()
    }

    /// Applies them to one head of `x`. `captures` are the groups that `$1` and so
    /// on name, the whole match first.
    pub(crate) fn apply(&self, x: &mut dyn Exchange, head: HeadOf, captures: Option<&[&[u8]]>) {
        let mut value = Vec::new();
        for (name, template) in &self.add {
            render(template, x, captures, &mut value);
            head(x).append(name.as_bytes(), &value);
        }
        for (name, template) in &self.set {
            render(template, x, captures, &mut value);
            head(x).set(name.as_bytes(), &value);
        }
        for name in &self.remove {
            head(x).remove_named(name.as_bytes());
        }
    }
}

fn render(template: &Template, x: &dyn Exchange, captures: Option<&[&[u8]]>, out: &mut Vec<u8>) {
    out.clear();
    template.render(x.vars(), captures, out);
    clean(out);
}

/// Makes a valid field value of `value` (RFC 9110 section 5.5).
fn clean(value: &mut Vec<u8>) {
    if valid_field_value(value) {
        return;
    }
    for byte in value.iter_mut() {
        if byte.is_ascii_control() {
            *byte = b' ';
        }
    }
    let start = value.iter().take_while(|byte| **byte == b' ').count();
    value.drain(..start);
    let end = value.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    value.truncate(end);
}

fn check_name(report: &mut Report, place: Place, name: &str) -> bool {
    let valid = valid_field_name(name.as_bytes());
    if !valid {
        let help = "letters, digits and !#$%&'*+-.^_`|~ (RFC 9110 section 5.6.2)";
        report.error(place, format!("`{name}` is no field name"), help);
    }
    valid
}

fn check_value(report: &mut Report, place: Place, value: &str) -> bool {
    let valid = valid_field_value(value.as_bytes());
    if !valid {
        let help = "no control characters, no space at either end (RFC 9110 section 5.5)";
        report.error(place, "this is no field value", help);
    }
    valid
}

fn read_pairs(report: &mut Report, map: &Value) -> Vec<(String, Template)> {
    let Some(table) = map.as_table() else {
        let what = format!("expected a table of fields, found {}", map.type_name());
        report.error(map, what, "{ \"X-Name\" = \"value\" }");
        return Vec::new();
    };
    let mut pairs = Vec::with_capacity(table.len());
    for (key, value) in table {
        let name_holds = check_name(report, key.place, &key.name);
        let text = match &value.kind {
            Kind::String(text) => text.clone(),
            Kind::Integer(_) | Kind::Float(_) => value.to_string(),
            _ => {
                let what = format!("expected a string or a number, found {}", value.type_name());
                report.error(value, what, "write \"X-Name\" = \"value\"");
                continue;
            }
        };
        if check_value(report, value.place, &text) && name_holds {
            pairs.push((key.name.clone(), Template::parse(&text)));
        }
    }
    pairs
}

fn read_lines(report: &mut Report, lines: &[Value]) -> Vec<(String, Template)> {
    let mut pairs = Vec::with_capacity(lines.len());
    for line in lines {
        let Some((name, value)) = line.as_str().and_then(|text| text.split_once(':')) else {
            report.error(
                line,
                "an added field is written `\"Name: value\"`",
                "write add = [\"X-Name: value\"]",
            );
            continue;
        };
        let (name, value) = (name.trim_end(), value.trim());
        if check_name(report, line.place, name) && check_value(report, line.place, value) {
            pairs.push((name.to_owned(), Template::parse(value)));
        }
    }
    pairs
}

/// The JSON Schema of a map of fields.
pub(crate) fn map_schema() -> serde_json::Value {
    json!({
        "type": "object",
        "minProperties": 1,
        "patternProperties": { "^[^:]+$": { "type": ["string", "number"] } },
        "additionalProperties": false
    })
}

/// The JSON Schema of `headers`.
pub(crate) fn schema() -> serde_json::Value {
    let pairs = map_schema();
    json!({
        "anyOf": [
            {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": false,
                "properties": {
                    "add": { "anyOf": [
                        pairs,
                        { "type": "array", "items": { "type": "string", "pattern": "^[^:]+:.*" } }
                    ] },
                    "set": pairs,
                    "remove": { "type": "array", "minItems": 1, "items": { "type": "string", "pattern": "^[^:]+$" } }
                }
            },
            pairs
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendered_value_cannot_end_the_line() {
        let check = |value: &str, want: &str| {
            let mut value = value.as_bytes().to_vec();
            clean(&mut value);
            assert_eq!(String::from_utf8_lossy(&value), want);
            assert!(valid_field_value(&value));
        };
        check("plain", "plain");
        check("a\r\nX-Evil: 1", "a  X-Evil: 1");
        check("\0\r\n", "");
        check("\n a\tb \n", "a b");
    }
}
