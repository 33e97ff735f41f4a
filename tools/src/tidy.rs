//! The checks that hold the house in order: imports, `unsafe`, file headers, forbidden words.
//!
//! What rustc and clippy can say is left to them (`[workspace.lints]`, clippy.toml); here stands what needs the
//! whole tree: where a word may stand, not only whether.

use crate::{imports, scan};
use std::path::{Path, PathBuf};

/// Lines past which a file is probably two files.
const FILE_LINES_MAX: usize = 600;

/// The only files in which `unsafe` may stand.
const UNSAFE_FILES: &[&str] = &["engine/src/sys.rs", "engine/src/buffer.rs", "bench/src/ring.rs"];

/// ... and the counting allocator of the allocation tests, by its file name, in whichever crate counts.
const UNSAFE_FILE_NAME: &str = "counting_allocator.rs";

/// Crates that hold one of those files and so cannot `forbid` it at their root.
const UNSAFE_CRATES: &[&str] = &["engine", "bench"];

/// The one place where tests may sleep: between two looks at a condition.
const SLEEP_FILE: &str = "tests/src/wait.rs";

/// What `check` found.
pub struct Findings {
    /// How many Rust files were read.
    pub files: usize,
    /// What must be mended.
    pub errors: Vec<String>,
    /// What should be looked at.
    pub warnings: Vec<String>,
}

/// Checks the workspace at `root`.
pub fn check(root: &Path) -> Findings {
    let mut findings = Findings { files: 0, errors: imports::check(root), warnings: Vec::new() };
    let mut files = Vec::new();
    collect(root, &mut files);
    files.sort();
    for path in files {
        let name = path.strip_prefix(root).expect("found below root").to_string_lossy().into_owned();
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                findings.files += 1;
                check_file(&name, &text, &mut findings);
            }
            Err(error) => findings.errors.push(format!("{name}: {error}")),
        }
    }
    findings
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden && name != "target" && name != "node_modules" {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && path.is_file() {
            files.push(path);
        }
    }
}

fn check_file(name: &str, text: &str, findings: &mut Findings) {
    let code = scan::blank(text);
    let errors = &mut findings.errors;
    if !text.starts_with("//!") {
        errors.push(format!("{name}:1: a file opens with a `//!` header that says what it is and why"));
    }
    check_unsafe(name, &code, errors);
    check_words(name, &code, errors);
    check_sleeps(name, &code, errors);
    check_clocks(name, &code, errors);
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        findings
            .warnings
            .push(format!("{name}: {lines} lines; past {FILE_LINES_MAX} a file wants splitting"));
    }
}

fn check_unsafe(name: &str, code: &str, errors: &mut Vec<String>) {
    let allowed = UNSAFE_FILES.contains(&name) || name.rsplit('/').next() == Some(UNSAFE_FILE_NAME);
    if !allowed {
        for line in scan::lines_with_word(code, "unsafe") {
            errors.push(format!("{name}:{line}: `unsafe` stands in {} alone", UNSAFE_FILES.join(", ")));
        }
    }
    if is_root(name) && !UNSAFE_CRATES.contains(&crate_of(name)) && !code.contains("#![forbid(unsafe_code)]")
    {
        errors.push(format!("{name}: a crate root without unsafe code says #![forbid(unsafe_code)]"));
    }
}

fn check_words(name: &str, code: &str, errors: &mut Vec<String>) {
    const WORDS: &[(&str, &str)] = &[
        ("todo!", "built or absent, never open"),
        ("unimplemented!", "built or absent, never open"),
        ("dbg!", "left over from debugging"),
        ("#[ignore", "a test that does not run is no test"),
        ("#[path", "modules stand where their name says"),
    ];
    for (word, reason) in WORDS {
        for line in scan::lines_with_word(code, word) {
            errors.push(format!("{name}:{line}: `{word}`: {reason}"));
        }
    }
}

/// No test waits a fixed time: neither an end-to-end test nor the unit tests at a file's end.
fn check_sleeps(name: &str, code: &str, errors: &mut Vec<String>) {
    if name == SLEEP_FILE {
        return;
    }
    let whole = name.starts_with("tests/") || name.contains("/tests/");
    let tests_from = if whole { 0 } else { scan::line_of(code, scan::tests_start(code)) };
    for line in scan::lines_with_word(code, "sleep(") {
        if line >= tests_from {
            errors.push(format!(
                "{name}:{line}: tests wait for a condition ({SLEEP_FILE}), never a fixed time"
            ));
        }
    }
}

/// The pure crates decide without a clock: time arrives as an argument.
fn check_clocks(name: &str, code: &str, errors: &mut Vec<String>) {
    let pure = imports::TABLE.iter().any(|row| row.pure && row.name == crate_of(name));
    if !pure || !name.contains("/src/") {
        return;
    }
    let code = &code[..scan::tests_start(code)];
    for word in ["Instant::now", "SystemTime::now", "sleep("] {
        for line in scan::lines_with_word(code, word) {
            errors.push(format!("{name}:{line}: `{word}` in a pure crate; time arrives as an argument"));
        }
    }
}

fn crate_of(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

/// Whether the file is the root of a library, of a program or of the end-to-end tests. The roots of small test and
/// bench programs are left out: the word itself is looked for everywhere.
fn is_root(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    matches!(
        parts.as_slice(),
        [_, "src", "lib.rs" | "main.rs"] | [_, "src", "bin", _] | ["tests", "e2e" | "fuzz", "main.rs"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(name: &str, text: &str, wanted: usize) {
        let mut findings = Findings { files: 0, errors: Vec::new(), warnings: Vec::new() };
        check_file(name, text, &mut findings);
        assert_eq!(findings.errors.len(), wanted, "{name}: {text:?}: {:?}", findings.errors);
    }

    #[test]
    fn files() {
        check_text("proto/src/head.rs", "//! Heads.\nfn f() {}", 0);
        check_text("proto/src/head.rs", "fn f() {}", 1);
        check_text("proto/src/head.rs", "//! Heads.\nfn f() { unsafe { g() } }", 1);
        check_text("engine/src/sys.rs", "//! Calls.\nfn f() { unsafe { g() } }", 0);
        check_text("proto/src/lib.rs", "//! Protocol.\nmod head;", 1);
        check_text("proto/src/lib.rs", "//! Protocol.\n#![forbid(unsafe_code)]", 0);
        check_text("engine/src/lib.rs", "//! Engine.", 0);
        check_text("tests/e2e/main.rs", "//! Cases.\n", 1);
        check_text("proto/src/a.rs", "//! A.\nfn f() { todo!() }", 1);
        check_text("proto/src/a.rs", "//! A.\n#[test]\n#[ignore]\nfn f() {}", 1);
        check_text("tests/e2e/a.rs", "//! A.\nfn f() { thread::sleep(X) }", 1);
        check_text("control/src/a.rs", "//! A.\nfn f() { sleep(X) }\n#[cfg(test)]\nmod tests {}", 0);
        check_text("control/src/a.rs", "//! A.\n#[cfg(test)]\nmod tests { fn f() { sleep(X) } }", 1);
        check_text("balancer/src/a.rs", "//! A.\nfn f() { Instant::now() }", 1);
        check_text("balancer/src/a.rs", "//! A.\n#[cfg(test)]\nmod tests { fn f() { Instant::now() } }", 0);
    }

    /// The workspace itself is in order. This is `tools tidy` as a test.
    #[test]
    fn the_workspace_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tools/ lies in the workspace");
        let findings = check(root);
        assert!(findings.files > 10, "found the tree");
        assert!(findings.errors.is_empty(), "{}", findings.errors.join("\n"));
    }
}
