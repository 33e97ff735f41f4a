//! The tree of what was written, each node with its place.
//!
//! TOML becomes this, JSON (the Admin API) becomes this, and every check reads
//! this: so a plugin's settings are checked by the same code whatever the syntax,
//! and a problem can always point at the bytes that caused it.
//!
//! Tables are vectors of pairs, in written order: they are small, and a hash map
//! each would cost more than it saves.

use std::fmt;

use crate::place::Place;

/// A node of a document. Equality ignores places.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub place: Place,
}

/// What a node is.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Kind {
    /// JSON's null; TOML has none.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// Text, `${env:}` and `${file:}` resolved.
    String(String),
    /// `[a, b]`
    Array(Vec<Value>),
    /// `{ key = value }`, in written order, no key twice.
    Table(Vec<(Key, Value)>),
}

/// The key of a table's entry. Equality ignores its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// The key, unquoted.
    pub name: String,
    /// Where it stands.
    pub place: Place,
}

impl Value {
    /// A node at a place.
    pub fn new(kind: Kind, place: Place) -> Value {
        Value { kind, place }
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(text) => Some(text),
            _ => None,
        }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self.kind {
            Kind::Bool(flag) => Some(flag),
            _ => None,
        }
    }

    /// The whole number, if it is one (`3.0` is not).
    pub fn as_i64(&self) -> Option<i64> {
        match self.kind {
            Kind::Integer(number) => Some(number),
            _ => None,
        }
    }

    /// The number, whole or not.
    pub fn as_f64(&self) -> Option<f64> {
        match self.kind {
            Kind::Integer(number) => Some(number as f64),
            Kind::Float(number) => Some(number),
            _ => None,
        }
    }

    /// The elements, if it is an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        match &self.kind {
            Kind::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The entries in written order, if it is a table.
    pub fn as_table(&self) -> Option<&[(Key, Value)]> {
        match &self.kind {
            Kind::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under a key, if this is a table that has it.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.as_table()?.iter().find(|(key, _)| key.name == name).map(|(_, value)| value)
    }

    /// `a string`, `an integer`, ...: how problems name the type.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "a boolean",
            Kind::Integer(_) => "an integer",
            Kind::Float(_) => "a number",
            Kind::String(_) => "a string",
            Kind::Array(_) => "an array",
            Kind::Table(_) => "a table",
        }
    }

    /// The same as JSON, keys in written order. Infinite and not-a-number floats become null.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.kind {
            Kind::Null => Json::Null,
            Kind::Bool(flag) => Json::Bool(*flag),
            Kind::Integer(number) => Json::from(*number),
            Kind::Float(number) => serde_json::Number::from_f64(*number).map_or(Json::Null, Json::Number),
            Kind::String(text) => Json::String(text.clone()),
            Kind::Array(items) => Json::Array(items.iter().map(Value::to_json).collect()),
            Kind::Table(entries) => {
                Json::Object(entries.iter().map(|(key, value)| (key.name.clone(), value.to_json())).collect())
            }
        }
    }
}

impl From<serde_json::Value> for Value {
    /// JSON has no places: every node stands [nowhere](Place::NOWHERE).
    /// A whole number beyond 64 signed bits becomes a float.
    fn from(json: serde_json::Value) -> Value {
        use serde_json::Value as Json;
        let kind = match json {
            Json::Null => Kind::Null,
            Json::Bool(flag) => Kind::Bool(flag),
            Json::Number(number) => match number.as_i64() {
                Some(whole) => Kind::Integer(whole),
                None => Kind::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Kind::String(text),
            Json::Array(items) => Kind::Array(items.into_iter().map(Value::from).collect()),
            Json::Object(entries) => Kind::Table(
                entries
                    .into_iter()
                    .map(|(name, value)| (Key { name, place: Place::NOWHERE }, Value::from(value)))
                    .collect(),
            ),
        };
        Value { kind, place: Place::NOWHERE }
    }
}

impl fmt::Display for Value {
    /// As JSON, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_json())
    }
}
