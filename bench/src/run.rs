//! A run: every subject once per block in random order, for each case; then latencies at fixed rates.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::measure::{Bench, Scratch, Task};
use crate::network::Network;
use crate::report;
use crate::row::{self, Machine, Measure, Row};
use crate::scenario::{self, Case, Mode};
use crate::stats::{self, Random};
use crate::subject::{self, Kind, Program, Subject};

/// Memory does not depend on what the neighbours do: more blocks than these tell nothing.
const IDLE_BLOCKS_MAX: usize = 3;
/// The fixed rates, in percent of the slowest capacity.
const RATES_PERCENT: [u32; 2] = [50, 80];

/// What to run.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Scenarios or cases, separated by commas, or `all`: S1 to S11, S15, S16, S20.
    #[arg(default_value = "S1")]
    pub scenarios: String,
    /// Blocks: in each, every subject is measured once.
    #[arg(long, default_value_t = 12)]
    pub blocks: usize,
    /// Subjects, separated by commas; NAME-b is a second copy.
    #[arg(long, default_value = subject::DEFAULT)]
    pub subjects: String,
    /// Length of a measured window, in seconds; S20 takes at least 10.
    #[arg(long, default_value_t = 3.0)]
    pub window: f64,
    /// Warm-up before it, in seconds; S20 takes at least 2, so that ewma has learnt.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// Blocks at each fixed rate (S1, S5, S9); a quarter of the blocks where it is not given, 0 for none.
    #[arg(long)]
    pub latency_blocks: Option<usize>,
    /// Seed of the order; the time where it is not given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Folder for the rows and the report; bench/runs/<date>-<machine> where it is not given.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Core of the subject.
    #[arg(long, default_value_t = 0)]
    pub proxy_core: usize,
    /// Core of generator and origin.
    #[arg(long, default_value_t = 1)]
    pub load_core: usize,
    /// Folder with the built programs.
    #[arg(long)]
    pub target: Option<PathBuf>,
    /// Times as given, even where a case asks for longer ones: for runs that only look whether answers are right.
    #[arg(skip)]
    pub short: bool,
}

impl Options {
    /// Warm-up and window of a case, in seconds.
    fn times(&self, case: &Case) -> (f64, f64) {
        let (warm_up, window) = if self.short { (0.0, 0.0) } else { case.times_min };
        (self.warm_up.max(warm_up), self.window.max(window))
    }
}

/// A subject with its program.
type Ready = (Subject, Program);

/// Runs, writes rows, makes the report. Gives the rows of this run.
///
/// # Errors
///
/// A wrong list, a machine that lacks what is needed, or an interruption.
pub fn run(options: &Options) -> Result<(PathBuf, Vec<Row>), String> {
    let cases = scenario::select(&options.scenarios)?;
    let mut subjects = subject::parse_list(&options.subjects)?;
    subjects.retain(|subject| cases.iter().any(|case| !subject.kind.is_idle_copy(case)));
    if subjects.is_empty() {
        return Err(format!(
            "none of {} differs from its sibling in {}",
            options.subjects, options.scenarios
        ));
    }
    let bench = set_up(options)?;
    let out = options.out.clone().unwrap_or_else(default_folder);
    fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    eprintln!("bench: {}; seed {}; into {}", bench.machine.network, bench.seed, out.display());
    let mut run =
        Run { bench: &bench, options, out: &out, rows: Vec::new(), random: Random::new(bench.seed) };
    let ready = run.find(subjects)?;
    // What was measured before an interruption is kept and reported.
    let result = run.all(&cases, &ready);
    let rows = run.rows;
    report::write(&out)?;
    result.map(|()| (out, rows))
}

fn set_up(options: &Options) -> Result<Bench, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if options.proxy_core == options.load_core {
        return Err("the subject and the generator need a core each".to_owned());
    }
    if cores < 2 {
        return Err(
            "at least two cores are needed: one for the subject, one for generator and origin".to_owned()
        );
    }
    let stop = Arc::new(AtomicUsize::new(0));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register_usize(signal, Arc::clone(&stop), signal as usize)
            .map_err(|error| format!("signals: {error}"))?;
    }
    let network = Network::new();
    if let Some(reason) = &network.open_because {
        eprintln!(
            "bench: no namespace of its own ({reason}): the host's network settings colour the results"
        );
    }
    let machine = Machine::read(network.describe());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
    Ok(Bench {
        network,
        proxy_core: options.proxy_core,
        load_core: options.load_core,
        scratch: Scratch::new()?,
        stop,
        machine,
        descriptors: crate::child::raise_descriptors(),
        seed: options.seed.unwrap_or(now % 1_000_000_007),
    })
}

/// `bench/runs/<date>-<machine>`, in the source tree where there is one.
fn default_folder() -> PathBuf {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let host = crate::procfs::line("/proc/sys/kernel/hostname");
    PathBuf::from("bench/runs").join(format!("{}-{host}", report::date(seconds)))
}

struct Run<'a> {
    bench: &'a Bench,
    options: &'a Options,
    out: &'a Path,
    rows: Vec<Row>,
    random: Random,
}

impl Run<'_> {
    /// Keeps the subjects that are there; the others become a row each.
    fn find(&mut self, subjects: Vec<Subject>) -> Result<Vec<Ready>, String> {
        let target = self.options.target.clone().unwrap_or_else(target_folder);
        let mut ready = Vec::new();
        for subject in subjects {
            match subject.kind.program(&target, &self.bench.scratch.0) {
                Ok(program) => ready.push((subject, program)),
                Err(install) => {
                    eprintln!("bench: {} is not installed; {install}", subject.name);
                    let task = self.task(&scenario::CASES[0], Measure::NotInstalled, None, (0, 0));
                    let mut row = self.bench.row(&task, &subject, None);
                    row.void = Some(install.to_owned());
                    row.case.clear();
                    row.scenario.clear();
                    self.keep(row)?;
                }
            }
        }
        if ready.is_empty() {
            return Err("none of the subjects is there".to_owned());
        }
        Ok(ready)
    }

    fn keep(&mut self, row: Row) -> Result<(), String> {
        row::append(self.out, &row)?;
        self.rows.push(row);
        Ok(())
    }

    fn task<'c>(
        &self,
        case: &'c Case,
        measure: Measure,
        rate: Option<(f64, Option<u32>)>,
        block: (usize, usize),
    ) -> Task<'c> {
        Task { case, measure, rate, times: self.options.times(case), block }
    }

    fn all(&mut self, cases: &[Case], ready: &[Ready]) -> Result<(), String> {
        for case in cases {
            let fit = self.fit(case, ready)?;
            let (measure, rate, blocks) = match case.mode {
                Mode::Saturated => (Measure::Saturated, None, self.options.blocks),
                Mode::Rate(rate) => (Measure::Rate, Some((rate, None)), self.options.blocks),
                Mode::Idle(_) => (Measure::Idle, None, self.options.blocks.min(IDLE_BLOCKS_MAX)),
            };
            self.blocks(case, &fit, measure, rate, blocks)?;
            if case.latency {
                self.latencies(case, &fit)?;
            }
        }
        Ok(())
    }

    /// The subjects that can be asked for this case; the others become a row each.
    fn fit<'r>(&mut self, case: &Case, ready: &'r [Ready]) -> Result<Vec<&'r Ready>, String> {
        let mut fit = Vec::new();
        for one in ready.iter().filter(|one| !one.0.kind.is_idle_copy(case)) {
            let Some(reason) = one.0.kind.lacks(case.profile) else {
                fit.push(one);
                continue;
            };
            let task = self.task(case, Measure::NotApplicable, None, (0, 0));
            let mut row = self.bench.row(&task, &one.0, Some(&one.1));
            row.void = Some(reason.to_owned());
            self.keep(row)?;
        }
        Ok(fit)
    }

    fn blocks(
        &mut self,
        case: &Case,
        subjects: &[&Ready],
        measure: Measure,
        rate: Option<(f64, Option<u32>)>,
        blocks: usize,
    ) -> Result<(), String> {
        for block in 0..blocks {
            let mut order = subjects.to_vec();
            self.random.shuffle(&mut order);
            for (place, (subject, program)) in order.into_iter().enumerate() {
                let task = self.task(case, measure, rate, (block, place));
                let row = self.bench.measure(&task, subject, program)?;
                eprintln!("bench: {}", progress(&row, blocks));
                self.keep(row)?;
            }
        }
        Ok(())
    }

    /// Latencies at half and four fifths of what the slowest gateway could do.
    fn latencies(&mut self, case: &Case, subjects: &[&Ready]) -> Result<(), String> {
        let blocks = self.options.latency_blocks.unwrap_or_else(|| self.options.blocks.div_ceil(4));
        let capacity = subjects
            .iter()
            .filter(|(subject, _)| subject.kind != Kind::Relay || subjects.len() == 1)
            .filter_map(|(subject, _)| self.capacity(case, subject))
            .min_by(f64::total_cmp);
        let Some(capacity) = capacity else { return Ok(()) };
        for percent in RATES_PERCENT {
            let rate = (capacity * f64::from(percent) / 100.0).round();
            self.blocks(case, subjects, Measure::Rate, Some((rate, Some(percent))), blocks)?;
        }
        Ok(())
    }

    fn capacity(&self, case: &Case, subject: &Subject) -> Option<f64> {
        let counts = |row: &&Row| {
            row.case == case.name
                && row.subject == subject.name
                && row.measure == Measure::Saturated
                && row.void.is_none()
        };
        let rates: Vec<f64> = self.rows.iter().filter(counts).filter_map(|row| row.requests_per_s).collect();
        stats::median(&rates)
    }
}

/// `target` beside the harness's own program, or in the current folder.
fn target_folder() -> PathBuf {
    let own = std::env::current_exe().ok();
    let target = own.as_deref().and_then(Path::parent).and_then(Path::parent);
    target.map_or_else(|| PathBuf::from("target"), Path::to_owned)
}

/// One line for the terminal.
fn progress(row: &Row, blocks: usize) -> String {
    let rate = row.rate.map_or(String::new(), |rate| format!(" at {rate:.0}/s"));
    let head = format!("{}{rate} block {}/{blocks} {:<18}", row.case, row.block + 1, row.subject);
    if let Some(reason) = &row.void {
        return format!("{head} VOID: {reason}");
    }
    if let Some(bytes) = row.bytes_per_connection {
        return format!("{head} {bytes:9.0} B per idle connection");
    }
    let p99 = row.latency_us.map_or(0.0, |latency| latency.p99);
    format!(
        "{head} {:8.2} us/req {:9.0} req/s  p99 {p99:8.0} us{}{}",
        row.cpu_us_per_request.unwrap_or(0.0),
        row.requests_per_s.unwrap_or(0.0),
        if row.load_bound { "  load-bound" } else { "" },
        if row.steal_percent > 2.0 { format!("  steal {:.0} %", row.steal_percent) } else { String::new() },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn times() {
        let check = |line: &str, short: bool, case: &str, expected: (f64, f64)| {
            let parsed = Line::try_parse_from(line.split(' ')).expect(line);
            let case = scenario::CASES.iter().find(|known| known.name == case).expect(case);
            assert_eq!(Options { short, ..parsed.options }.times(case), expected, "{line} {}", case.name);
        };
        check("bench", false, "S1", (1.0, 3.0));
        check("bench", false, "S20", (2.0, 10.0));
        check("bench S20 --warm-up 1 --window 4", false, "S20", (2.0, 10.0));
        check("bench S20 --warm-up 5 --window 30", false, "S20", (5.0, 30.0));
        check("bench S20 --warm-up 0.1 --window 0.2", true, "S20", (0.1, 0.2)); // smoke
    }
}
