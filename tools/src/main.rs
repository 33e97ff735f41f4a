//! `tools`: helpers for people who work on this repository. So far: `tidy`.
//!
//! Kept apart from `cli`: nothing here is shipped.
#![forbid(unsafe_code)]

mod imports;
mod scan;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["tidy"] => run_tidy(),
        _ => {
            eprintln!("usage: cargo run -p tools -- tidy");
            ExitCode::from(2)
        }
    }
}

fn run_tidy() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tools/ lies in the workspace");
    let findings = tidy::check(root);
    for warning in &findings.warnings {
        println!("warning: {warning}");
    }
    for error in &findings.errors {
        println!("error: {error}");
    }
    println!(
        "tidy: {} files, {} errors, {} warnings",
        findings.files,
        findings.errors.len(),
        findings.warnings.len()
    );
    if findings.errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
