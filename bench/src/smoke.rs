//! Every scenario in very short windows, for CI: do the subjects start, is every answer right?
//!
//! The numbers mean nothing here and are thrown away with their folder.

use crate::measure::Scratch;
use crate::row::Measure;
use crate::{run, subject};

/// What to look at.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Scenarios, separated by commas.
    #[arg(long, default_value = "all")]
    pub scenarios: String,
    /// Subjects, separated by commas; those that are not installed are skipped and named.
    #[arg(long, default_value = subject::EACH)]
    pub subjects: String,
    /// Length of a window, in seconds.
    #[arg(long, default_value_t = 0.2)]
    pub window: f64,
    /// Folder with the built programs.
    #[arg(long)]
    pub target: Option<std::path::PathBuf>,
}

/// Runs one block of everything.
///
/// # Errors
///
/// Names every row that is void, except those for which the machine was too slow at a fixed rate.
pub fn run(options: &Options) -> Result<(), String> {
    let scratch = Scratch::beside("smoke")?;
    let run_options = run::Options {
        scenarios: options.scenarios.clone(),
        blocks: 1,
        subjects: options.subjects.clone(),
        window: options.window,
        warm_up: options.window / 2.0,
        latency_blocks: Some(1),
        seed: None,
        out: Some(scratch.0.join("rows")),
        proxy_core: 0,
        load_core: 1,
        target: options.target.clone(),
        short: true,
    };
    let (_, rows) = run::run(&run_options)?;
    let mut failures = Vec::new();
    let (mut right, mut skipped) = (0, Vec::new());
    for row in &rows {
        match (&row.void, row.measure) {
            (None, _) => right += 1,
            (Some(reason), Measure::NotInstalled) => skipped.push(format!("{} ({reason})", row.subject)),
            (Some(_), Measure::NotApplicable) => {}
            // A window this short says nothing of rates; a wrong answer would be named as one.
            (Some(reason), _) if reason.starts_with("could not hold the rate") => right += 1,
            (Some(reason), _) => failures.push(format!("{} {}: {reason}", row.case, row.subject)),
        }
    }
    println!("{right} measurements with right answers only");
    if !skipped.is_empty() {
        println!("skipped, not installed: {}", skipped.join(", "));
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(format!("{} failed:\n  {}", failures.len(), failures.join("\n  ")))
}
