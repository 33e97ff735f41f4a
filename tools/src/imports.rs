//! The import table of docs/architecture.md: which crate may depend on which.
//!
//! Cargo.toml is the place where an import begins, so it is the place that is checked.

use std::collections::BTreeSet;
use std::path::Path;

/// One row of the table: the crate, which of ours it may import, which foreign crates it must not.
pub struct Row {
    /// The crate's folder and package name.
    pub name: &'static str,
    ours: &'static [&'static str],
    never: &'static [&'static str],
    /// Whether its code (outside tests) may read clocks or sleep.
    pub pure: bool,
}

const REACTORS: &[&str] = &["monoio", "tokio", "io-uring"];

/// The table. A crate that is not named here is an error: a new crate needs an argument.
pub const TABLE: &[Row] = &[
    Row { name: "config", ours: &[], never: REACTORS, pure: true },
    Row { name: "proto", ours: &[], never: REACTORS, pure: true },
    Row { name: "balancer", ours: &["config", "proto"], never: REACTORS, pure: true },
    Row { name: "ai", ours: &["proto"], never: REACTORS, pure: true },
    Row { name: "plugins", ours: &["config", "proto", "ai"], never: REACTORS, pure: true },
    Row {
        name: "engine",
        ours: &["config", "proto", "balancer", "ai", "plugins"],
        never: &["tokio", "hyper", "axum"],
        pure: false,
    },
    Row {
        name: "control",
        ours: &["engine", "config", "proto", "balancer", "ai"],
        never: &["monoio", "io-uring"],
        pure: false,
    },
    Row {
        name: "cli",
        ours: &["control", "engine", "config", "balancer", "proto"],
        never: &["monoio", "io-uring", "tokio"],
        pure: false,
    },
    Row { name: "tests", ours: &["proto", "config"], never: REACTORS, pure: false },
    Row { name: "bench", ours: &["proto", "config", "balancer"], never: &["tokio"], pure: false },
    Row { name: "tools", ours: &[], never: REACTORS, pure: false },
];

/// Checks every member of the workspace against the table; returns one sentence per breach.
pub fn check(root: &Path) -> Vec<String> {
    let mut errors = Vec::new();
    let workspace = match read(&root.join("Cargo.toml")) {
        Ok(table) => table,
        Err(error) => return vec![error],
    };
    let members: Vec<String> = workspace
        .get("workspace")
        .and_then(|table| table.get("members"))
        .and_then(toml::Value::as_array)
        .map(|list| list.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect())
        .unwrap_or_default();
    if members.is_empty() {
        errors.push("Cargo.toml: no workspace members found".to_owned());
    }
    for member in members {
        match read(&root.join(&member).join("Cargo.toml")) {
            Ok(manifest) => errors.extend(check_manifest(&member, &manifest)),
            Err(error) => errors.push(error),
        }
    }
    errors
}

fn check_manifest(member: &str, manifest: &toml::Table) -> Vec<String> {
    let Some(row) = TABLE.iter().find(|row| row.name == member) else {
        return vec![format!("{member}: not in the import table (tools/src/imports.rs)")];
    };
    let ours: BTreeSet<&str> = TABLE.iter().map(|row| row.name).collect();
    let mut errors = Vec::new();
    for (section, dependency) in dependencies(manifest) {
        if ours.contains(dependency.as_str()) && !row.ours.contains(&dependency.as_str()) {
            errors.push(format!("{member}/Cargo.toml: [{section}] {member} must not import {dependency}"));
        }
        if section == "dependencies" && row.never.contains(&dependency.as_str()) {
            errors.push(format!("{member}/Cargo.toml: {dependency} has no place in {member}"));
        }
    }
    if manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool)
        != Some(true)
    {
        errors.push(format!("{member}/Cargo.toml: [lints] workspace = true is missing"));
    }
    errors
}

/// The names in every dependency section, with the section's name.
fn dependencies(manifest: &toml::Table) -> Vec<(&'static str, String)> {
    const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let mut found = Vec::new();
    for section in SECTIONS {
        if let Some(table) = manifest.get(section).and_then(toml::Value::as_table) {
            found.extend(table.keys().map(|name| (section, name.clone())));
        }
    }
    found
}

fn read(path: &Path) -> Result<toml::Table, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.parse().map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(member: &str, manifest: &str, wanted: usize) {
        let full = format!("{manifest}\n[lints]\nworkspace = true\n");
        let errors = check_manifest(member, &full.parse().expect("the case is TOML"));
        assert_eq!(errors.len(), wanted, "{member}: {manifest}: {errors:?}");
    }

    #[test]
    fn the_table_holds() {
        check_one("proto", "[dependencies]\nhttparse = \"1\"", 0);
        check_one("proto", "[dependencies]\nconfig.workspace = true", 1);
        check_one("balancer", "[dependencies]\nplugins.workspace = true\ntokio = \"1\"", 2);
        check_one("engine", "[dependencies]\ntokio.workspace = true", 1);
        check_one("engine", "[dependencies]\nmonoio.workspace = true\nproto.workspace = true", 0);
        check_one("plugins", "[dev-dependencies]\nengine.workspace = true", 1);
        check_one("unheard-of", "", 1);
    }

    #[test]
    fn lints_are_asked_for() {
        assert_eq!(check_manifest("proto", &"[dependencies]".parse().expect("TOML")).len(), 1);
    }
}
