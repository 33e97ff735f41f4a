//! The JSON Schema of the document, made from the types in `written`.
//!
//! It is committed as `docs/schema/ringway.schema.json`, so that a change of the
//! language shows in a review; a test fails when the file is not what this gives
//! (`RINGWAY_BLESS=1 cargo test -p config` writes it anew).

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::written;

/// The JSON Schema (draft 2020-12) of a document.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    // Referred to by text alone, since the forms know no other types.
    generator.subschema_for::<written::PluginMeta>();
    let mut schema = Value::from(generator.into_root_schema_for::<written::Document>());
    without_null(&mut schema);
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "Ringway".into());
    }
    schema
}

/// Takes the null out of optional fields: TOML has none, absence says it.
fn without_null(schema: &mut Value) {
    let is_null = |schema: &Value| schema.get("type").is_some_and(|kind| kind == "null");
    match schema {
        Value::Object(fields) => {
            // An integer's format (uint32) says no more than its bounds, and validators warn of it.
            if fields.get("format").is_some_and(Value::is_string) {
                fields.shift_remove("format");
            }
            if let Some(Value::Array(kinds)) = fields.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [only] = kinds.as_slice() {
                    let only = only.clone();
                    fields.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
                choices.retain(|choice| !is_null(choice));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    fields.shift_remove("anyOf");
                    fields.extend(only);
                }
            }
            fields.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use super::*;
    use crate::{load, parse, MapEnv, Report};

    /// A document with every field that there is.
    const EVERYTHING: &str = include_str!("../testdata/everything.toml");

    /// The properties of each type, as the schema has them.
    fn properties() -> BTreeMap<String, BTreeSet<String>> {
        let schema = schema();
        let defs = schema["$defs"].as_object().expect("there are types");
        let mut all = BTreeMap::new();
        let root = std::iter::once(("Document", &schema));
        for (name, def) in root.chain(defs.iter().map(|(name, def)| (name.as_str(), def))) {
            if let Some(properties) = def["properties"].as_object() {
                all.insert(name.to_owned(), properties.keys().cloned().collect());
            }
        }
        all
    }

    #[test]
    fn committed_file_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/ringway.schema.json");
        let text = serde_json::to_string_pretty(&schema()).expect("a schema is JSON") + "\n";
        if std::env::var_os("RINGWAY_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("the folder can be made");
            std::fs::write(&path, &text).expect("the schema can be written");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "run RINGWAY_BLESS=1 cargo test -p config");
    }

    #[test]
    fn the_reader_asks_for_what_the_schema_has() {
        let mut report = Report::new();
        let tree = load::text_of("t.toml", EVERYTHING.to_owned(), &MapEnv::default(), &mut report);
        let document = parse::document(&tree, &MapEnv::default(), &|_, _| (), &mut report);
        assert!(document.is_some(), "{}", report.render(false));
        let asked: BTreeMap<String, BTreeSet<String>> =
            report.asked.iter().map(|(kind, keys)| ((*kind).to_owned(), keys.clone())).collect();
        assert_eq!(asked, properties());
    }

    #[test]
    fn everything_is_in_the_example() {
        // What the example holds was accepted (the test above), so nothing that the schema has is refused.
        let table: toml::Table = EVERYTHING.parse().expect("it is TOML");
        let text = serde_json::to_string(&table).expect("it can be JSON");
        for (kind, properties) in properties() {
            // `include` is taken out before reading, and the example stands alone.
            for property in properties.iter().filter(|property| *property != "include") {
                assert!(
                    text.contains(&format!("\"{property}\":")),
                    "{kind}.{property} is not in the example"
                );
            }
        }
    }

    #[test]
    fn references_resolve() {
        let schema = schema();
        let text = schema.to_string();
        for part in text.split("\"#/$defs/").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            assert!(schema["$defs"].get(name).is_some(), "{name}");
        }
        assert!(!text.contains("\"null\""));
    }
}
