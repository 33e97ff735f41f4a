//! The report of a run: `report.md` with a table per case, plots, and `README.md` that says how to repeat it.
//!
//! Everything comes from the rows alone, so that a kept run can be reported again when the report learns more.

mod plots;
mod summary;
mod svg;
mod table;
mod tail;

use std::fs;
use std::path::Path;

use crate::row::{self, Row};

/// What a second copy of ours may differ from ours: wider, and the run's ratios mean nothing.
pub const NOISE_SHARE_MAX: f64 = 0.02;
/// What p99 of a subject that avoids a slow origin may be of ours in turn.
pub const TAIL_SHARE_MAX: f64 = 0.1;

/// Writes the report into `directory` and gives its text.
///
/// # Errors
///
/// Rows that cannot be read, or files that cannot be written.
pub fn write(directory: &Path) -> Result<String, String> {
    let rows = row::read(directory)?;
    let summary = summary::Summary::of(&rows);
    let mut text = table::write(&summary);
    let mut plots = plots::draw(&summary);
    plots.retain(|(_, _, drawing)| !drawing.is_empty());
    if !plots.is_empty() {
        text.push_str("\n## Plots\n\n");
        for (name, title, _) in &plots {
            text.push_str(&format!("![{title}]({name})\n\n"));
        }
    }
    for (name, _, drawing) in &plots {
        save(directory, name, drawing)?;
    }
    save(directory, "report.md", &text)?;
    save(directory, "README.md", &readme(&rows, &text))?;
    Ok(text)
}

fn save(directory: &Path, name: &str, text: &str) -> Result<(), String> {
    let path = directory.join(name);
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The machine, the versions, and the command that repeats the run.
fn readme(rows: &[Row], report: &str) -> String {
    let Some(first) = rows.first() else { return "# An empty run\n".to_owned() };
    let mut subjects: Vec<(&str, &str, &str)> = Vec::new();
    let mut scenarios: Vec<&str> = Vec::new();
    for row in rows {
        if !subjects.iter().any(|(name, ..)| *name == row.subject) && !row.version.is_empty() {
            subjects.push((&row.subject, &row.version, &row.config_digest));
        }
        if !row.scenario.is_empty() && !scenarios.contains(&row.scenario.as_str()) {
            scenarios.push(&row.scenario);
        }
    }
    subjects.sort_unstable();
    let names: Vec<_> = subjects.iter().map(|(name, ..)| *name).collect();
    let blocks = rows.iter().map(|row| row.block + 1).max().unwrap_or(1);
    let window = rows.iter().map(|row| row.window_s).fold(0.0, f64::max);
    let machine = &first.machine;
    let mut text = format!(
        "# Run of {}\n\nRepeat it with\n\n```sh\ncargo build --release -p cli -p bench\n\
         cargo run --release -p bench -- peers build\n\
         cargo run --release -p bench -- run {} --blocks {blocks} --subjects {} --window {window:.0} --seed {} --out DIR\n\
         ```\n\nThe seed gives the same order; the numbers are the machine's. `cargo run --release -p bench -- report DIR` \
         makes tables and plots again from `{}`. What the columns mean and why it is measured so stands in \
         [bench/README.md](../../README.md).\n\n",
        date(first.time_s),
        scenarios.join(","),
        names.join(","),
        first.seed,
        row::FILE,
    );
    text.push_str(&format!(
        "| | |\n|---|---|\n| Processor | {}, {} cores |\n| Memory | {} MiB |\n| Kernel | {} |\n| System | {} |\n\
         | Network | {} |\n| Harness | {} |\n",
        machine.cpu,
        machine.cores,
        machine.memory_mib,
        machine.kernel,
        machine.system,
        machine.network,
        machine.harness
    ));
    for (name, version, _) in &subjects {
        text.push_str(&format!("| {name} | {version} |\n"));
    }
    text.push('\n');
    // The report follows, one level below this page's title.
    text.push_str(report.strip_prefix("# Report\n\n").unwrap_or(report));
    text
}

/// `2026-11-24` of a Unix time.
pub fn date(seconds: u64) -> String {
    // Howard Hinnant's civil_from_days.
    let days = seconds as i64 / 86_400 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let check = |seconds: u64, expected: &str| assert_eq!(date(seconds), expected);
        check(0, "1970-01-01");
        check(951_782_400, "2000-02-29");
        check(1_795_478_400, "2026-11-24");
        check(1_798_761_599, "2026-12-31");
    }
}
