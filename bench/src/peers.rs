//! Builds the peers that are packages of their own: `bench/peers/pingora`, `bench/peers/monoio-http`.
//!
//! They stand outside the workspace with lock files of their own, so that what they pull never enters the gateway's
//! dependencies. Their output is kept under the workspace's `target/peers`.

use std::path::{Path, PathBuf};
use std::process;

/// All of them.
const NAMES: [&str; 2] = ["pingora", "monoio-http"];

/// What to do with the peers.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Build them as release.
    Build {
        /// Which; all where none is named.
        names: Vec<String>,
    },
}

/// Does it.
///
/// # Errors
///
/// A name that is not known, or a build that fails.
pub fn run(command: &Command) -> Result<(), String> {
    let Command::Build { names } = command;
    if let Some(unknown) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
        return Err(format!("no peer `{unknown}`; there are {}", NAMES.join(" ")));
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let chosen = NAMES.iter().filter(|name| names.is_empty() || names.iter().any(|asked| asked == *name));
    for name in chosen {
        build(&root, name)?;
    }
    Ok(())
}

fn build(root: &Path, name: &str) -> Result<(), String> {
    let manifest = root.join("peers").join(name).join("Cargo.toml");
    let target = root.join("../target/peers");
    let status = process::Command::new("cargo")
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("the peer {name} was not built ({status})"))
}
