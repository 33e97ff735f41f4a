//! Tables of cases: every row runs, and all that failed are told at once.

use std::panic::{catch_unwind, AssertUnwindSafe};

/// Runs `check` on every row; a row fails by panicking.
///
/// # Panics
///
/// After the last row, when any failed, with the label and the reason of each.
pub fn each<Row>(rows: &[Row], label: impl Fn(&Row) -> String, check: impl Fn(&Row)) {
    let mut failures = Vec::new();
    for row in rows {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(row))) {
            failures.push(format!("{}: {}", label(row), reason(panic.as_ref())));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} rows failed:\n{}",
        failures.len(),
        rows.len(),
        failures.join("\n")
    );
}

fn reason(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
