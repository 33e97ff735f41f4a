//! One measurement: origin and subject started afresh, the generator run once, all ended, one row made.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::child::{Child, OWN};
use crate::histogram::Histogram;
use crate::load::Measured;
use crate::network::{Addresses, Network};
use crate::origin::{self, Place};
use crate::procfs;
use crate::row::{Machine, Measure, Quantiles, Row, SCHEMA};
use crate::scenario::{Case, Mode};
use crate::subject::{Kind, Places, Program, Subject};

/// Below this idle share of the generator's core, the generator may be what limits the rate.
const LOAD_BOUND_IDLE_PERCENT: f64 = 5.0;
/// How long the origin may take to listen.
const ORIGIN_PATIENCE: Duration = Duration::from_secs(10);
/// More than one in a thousand requests of a fixed rate unanswered: the subject cannot hold it.
const UNANSWERED_SHARE_MAX: f64 = 0.001;

/// What all measurements of a run share.
pub struct Bench {
    /// The namespace.
    pub network: Network,
    /// The core of the subject.
    pub proxy_core: usize,
    /// The core of generator and origin.
    pub load_core: usize,
    /// A folder in memory for configurations, logs and results.
    pub scratch: Scratch,
    /// Number of the signal that asked for the end; 0 before.
    pub stop: Arc<AtomicUsize>,
    /// The machine.
    pub machine: Machine,
    /// Seed of the run.
    pub seed: u64,
    /// How many descriptors a process may open.
    pub descriptors: u64,
}

/// A folder that goes away with its owner.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Makes one, in memory where /dev/shm is.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn new() -> Result<Scratch, String> {
        Scratch::beside("run")
    }

    /// One more, for another use.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn beside(purpose: &str) -> Result<Scratch, String> {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let place = base.join(format!("ringway-bench-{}-{purpose}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        Ok(Scratch(place))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One thing to do.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// What is measured.
    pub case: &'a Case,
    /// Which measurement of it.
    pub measure: Measure,
    /// The rate for [`Measure::Rate`]: requests per second, and percent of the slowest capacity where it is one.
    pub rate: Option<(f64, Option<u32>)>,
    /// Warm-up and window, in seconds.
    pub times: (f64, f64),
    /// Number of the block and place in it.
    pub block: (usize, usize),
}

impl Task<'_> {
    /// How many connections: the case's number, unless the subject has not descriptors enough. The relay needs two
    /// for each connection, the others keep few towards the origin.
    fn connections(&self, kind: Kind, descriptors: u64) -> usize {
        let each = if kind == Kind::Relay { 2 } else { 1 };
        self.case.connections.min((descriptors.saturating_sub(500) / each) as usize)
    }
}

impl Bench {
    /// Whether the run was asked to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) != 0
    }

    /// Why the run ends early.
    fn interruption(&self) -> String {
        format!("interrupted by signal {}", self.stop.load(Ordering::Relaxed))
    }

    /// An empty row of a subject in a case.
    pub fn row(&self, task: &Task, subject: &Subject, program: Option<&Program>) -> Row {
        Row {
            schema: SCHEMA,
            time_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            scenario: task.case.scenario.to_owned(),
            case: task.case.name.to_owned(),
            title: task.case.title.to_owned(),
            subject: subject.name.clone(),
            measure: task.measure,
            block: task.block.0,
            place: task.block.1,
            seed: self.seed,
            rate: task.rate.map(|(rate, _)| rate),
            rate_percent: task.rate.and_then(|(_, percent)| percent),
            version: program.map_or(String::new(), |program| program.version.clone()),
            program_digest: program.map_or(String::new(), |program| program.digest.clone()),
            machine: self.machine.clone(),
            ..Row::default()
        }
    }

    /// Measures; a subject that fails gives a void row that says how.
    ///
    /// # Errors
    ///
    /// Only when the run was asked to end.
    pub fn measure(&self, task: &Task, subject: &Subject, program: &Program) -> Result<Row, String> {
        let mut row = self.row(task, subject, Some(program));
        match self.attempt(task, subject, program, &mut row) {
            Ok(measured) => {
                fill(&mut row, task, &measured, task.connections(subject.kind, self.descriptors));
            }
            Err(_) if self.stopped() => return Err(self.interruption()),
            Err(error) => row.void = Some(error),
        }
        let average = procfs::line("/proc/loadavg");
        row.load_average = average.split(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0.0);
        Ok(row)
    }

    fn attempt(
        &self,
        task: &Task,
        subject: &Subject,
        program: &Program,
        row: &mut Row,
    ) -> Result<Measured, String> {
        // A folder per measurement: nothing of an earlier one (a log, a state file) is found by the next.
        let directory = self.scratch.0.join("now");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let own = OWN.to_owned();
        let addresses = self.network.addresses()?;
        let mut origin_command = vec![own.clone(), "origin".to_owned()];
        let listeners = addresses.origins.iter().zip(task.case.delays_millis);
        origin_command.extend(listeners.map(|(address, delay_millis)| {
            format!("--listen={}", Place { address: *address, delay_millis: *delay_millis })
        }));
        let mut origin = self.start("origin", &origin_command, self.load_core, &directory)?;
        self.await_origin(&mut origin, &directory)?;
        let places = Places {
            listen: addresses.proxy,
            origins: addresses.origins,
            metrics: addresses.metrics,
            core: self.proxy_core,
            directory: &directory,
            descriptors: self.descriptors,
        };
        let prepared = subject.kind.prepare(&program.path, task.case.profile, &places)?;
        row.config_digest.clone_from(&prepared.digest);
        let mut proxy = self.start("proxy", &prepared.command, self.proxy_core, &directory)?;

        let mut command = vec![own, "load".to_owned()];
        let connections = task.connections(subject.kind, self.descriptors);
        command.push(format!("--connections={connections}"));
        command.extend(self.load_arguments(task, addresses, proxy.id(), origin.id()));
        if prepared.metrics {
            command.push(format!("--metrics={}", addresses.metrics));
        }
        let mut load = self.start("load", &command, self.load_core, &directory)?;
        let patience = Duration::from_secs_f64(90.0 + task.times.0 + task.times.1);
        let proxy_ended = AtomicBool::new(false);
        let status = {
            // A subject that ends is not waited for: the generator would only find the same out later.
            let proxy = std::cell::RefCell::new(&mut proxy);
            load.wait(patience, || {
                let ended = proxy.borrow_mut().ended().is_some();
                proxy_ended.store(ended, Ordering::Relaxed);
                ended || self.stopped()
            })
        };
        let said = |name: &str| last_line(&directory.join(format!("{name}.stderr")));
        match status {
            _ if proxy_ended.load(Ordering::Relaxed) => Err(format!("the subject ended: {}", said("proxy"))),
            Err(error) => Err(error),
            Ok(status) if !status.success() => {
                Err(format!("{}; subject: {}; origin: {}", said("load"), said("proxy"), said("origin")))
            }
            Ok(_) => {
                let text = procfs::line(directory.join("load.stdout"));
                serde_json::from_str(&text).map_err(|error| format!("the generator's answer: {error}"))
            }
        }
    }

    /// Waits until the origin listens. A subject that found one of several origins dead at its start would leave it out
    /// for as long as its rules say (nginx: ten seconds).
    fn await_origin(&self, origin: &mut Child, directory: &Path) -> Result<(), String> {
        let end = Instant::now() + ORIGIN_PATIENCE;
        while procfs::line(directory.join("origin.stdout")) != origin::READY {
            if origin.ended().is_some() || self.stopped() || Instant::now() > end {
                let said = last_line(&directory.join("origin.stderr"));
                return Err(format!("the origin does not listen: {said}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn start(&self, name: &str, command: &[String], core: usize, directory: &Path) -> Result<Child, String> {
        Child::start(
            name,
            command,
            self.network.namespace.as_deref(),
            core,
            &directory.join(format!("{name}.stdout")),
            &directory.join(format!("{name}.stderr")),
        )
    }

    fn load_arguments(&self, task: &Task, addresses: Addresses, proxy: u32, origin: u32) -> Vec<String> {
        let case = task.case;
        let mut arguments = vec![
            format!("--target={}", addresses.proxy),
            format!("--bytes={}", case.bytes),
            format!("--warm-up={}", task.times.0),
            format!("--window={}", task.times.1),
            format!("--watch={proxy}"),
            format!("--origin={origin}"),
            format!("--core={}", self.load_core),
            format!("--seed={}", self.seed.wrapping_add(task.block.0 as u64)),
        ];
        arguments.extend(case.arguments.iter().map(|argument| (*argument).to_owned()));
        arguments.extend(task.rate.map(|(rate, _)| format!("--rate={rate}")));
        if case.several_origins() {
            arguments.push(format!("--counts={}", addresses.origins[0]));
        }
        if let Mode::Idle(seconds) = case.mode {
            arguments.push(format!("--idle={}", seconds.min(task.times.1.max(0.2) * 5.0)));
        }
        arguments
    }
}

/// What the subject said last, for the reason of a void row.
fn last_line(path: &Path) -> String {
    let text = procfs::line(path);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("(it said nothing)");
    line.chars().take(300).collect()
}

fn fill(row: &mut Row, task: &Task, measured: &Measured, connections: usize) {
    row.window_s = measured.window_s;
    row.requests = measured.requests;
    row.errors.clone_from(&measured.errors);
    row.cpu_ns = measured.cpu_ns;
    row.run_delay_ns = measured.run_delay_ns;
    row.generator_cpu_ns = measured.generator_cpu_ns;
    row.generator_idle_percent = measured.generator_idle_percent;
    row.steal_percent = measured.steal_percent;
    if task.case.several_origins() {
        row.origin_delays_ms = task.case.delays_millis.to_vec();
        row.origin_requests.clone_from(&measured.origin_requests);
    }
    row.void = verdict(measured, task.measure, connections);
    if task.measure == Measure::Idle {
        row.connections_held = Some(measured.held);
        let grown = measured.pss_idle.saturating_sub(measured.pss_before) as f64;
        row.bytes_per_connection = (measured.held > 0).then(|| grown / measured.held as f64);
        return;
    }
    let (requests, seconds) = (measured.requests as f64, measured.window_s);
    if requests > 0.0 && seconds > 0.0 {
        row.cpu_us_per_request = Some(measured.cpu_ns as f64 / 1000.0 / requests);
        row.requests_per_s = Some(requests / seconds);
        row.body_mb_per_s = Some(measured.body_bytes as f64 / 1e6 / seconds);
        row.connections_per_s = (measured.connects > 0).then(|| measured.connects as f64 / seconds);
        row.ring_per_request =
            measured.counters.iter().map(|(name, value)| (name.clone(), value / requests)).collect();
    }
    row.load_bound = task.measure == Measure::Saturated
        && measured.generator_idle_percent.is_some_and(|idle| idle < LOAD_BOUND_IDLE_PERCENT);
    let quantiles = |buckets: &[(u64, u64)]| {
        let mut histogram = Histogram::default();
        histogram.add_sparse(buckets);
        Quantiles::of(&histogram)
    };
    row.latency_us = quantiles(&measured.latency);
    row.latency_slow_us = quantiles(&measured.latency_slow);
    if task.measure == Measure::Rate {
        row.latency_buckets_ns.clone_from(&measured.latency);
    }
}

/// Why a measurement does not count.
fn verdict(measured: &Measured, measure: Measure, connections: usize) -> Option<String> {
    if !measured.errors.is_empty() {
        let kinds: Vec<_> = measured.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        return Some(format!("wrong answers: {}", kinds.join(", ")));
    }
    if measured.requests == 0 {
        return Some("no request was completed".to_owned());
    }
    if measure == Measure::Idle {
        let missing = (connections as u64).saturating_sub(measured.held);
        return (missing > 0).then(|| format!("{missing} connections were not held"));
    }
    if measured.cpu_ns == 0 {
        return Some("no CPU time was read".to_owned());
    }
    let share = measured.unanswered as f64 / (measured.requests + measured.unanswered) as f64;
    (share > UNANSWERED_SHARE_MAX)
        .then(|| format!("could not hold the rate: {} unanswered", measured.unanswered))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::CASES;

    #[test]
    fn verdicts() {
        let good = Measured { requests: 1000, cpu_ns: 1, window_s: 1.0, held: 10_000, ..Measured::default() };
        let check = |case: &str, measure: Measure, measured: Measured, expected: Option<&str>| {
            let case = CASES.iter().find(|known| known.name == case).expect("a case");
            assert_eq!(verdict(&measured, measure, case.connections).as_deref(), expected);
        };
        check("S1", Measure::Saturated, good.clone(), None);
        let wrong = Measured { errors: [("status".to_owned(), 2)].into(), ..good.clone() };
        check("S1", Measure::Saturated, wrong, Some("wrong answers: 2 status"));
        check("S1", Measure::Saturated, Measured::default(), Some("no request was completed"));
        check("S1", Measure::Saturated, Measured { cpu_ns: 0, ..good.clone() }, Some("no CPU time was read"));
        let late = Measured { unanswered: 100, ..good.clone() };
        check("S16", Measure::Rate, late, Some("could not hold the rate: 100 unanswered"));
        check("S16", Measure::Rate, Measured { unanswered: 1, ..good.clone() }, None);
        check("S15", Measure::Idle, good.clone(), None);
        check("S15", Measure::Idle, Measured { held: 9_990, ..good }, Some("10 connections were not held"));
    }

    #[test]
    fn rows_hold_what_was_measured() {
        let case = &CASES[0];
        let task = Task { case, measure: Measure::Saturated, rate: None, times: (0.0, 2.0), block: (0, 0) };
        let measured = Measured {
            window_s: 2.0,
            requests: 1000,
            cpu_ns: 20_000_000,
            body_bytes: 4_000_000,
            generator_idle_percent: Some(3.0),
            latency: vec![(1_000_000, 1000)],
            counters: [("ringway_ring_enters_total".to_owned(), 500.0)].into(),
            ..Measured::default()
        };
        let mut row = Row::default();
        fill(&mut row, &task, &measured, 64);
        assert_eq!(row.cpu_us_per_request, Some(20.0));
        assert_eq!((row.requests_per_s, row.body_mb_per_s), (Some(500.0), Some(2.0)));
        assert!(row.load_bound && row.void.is_none() && row.latency_buckets_ns.is_empty());
        assert_eq!(row.ring_per_request["ringway_ring_enters_total"], 0.5);
        let p99 = row.latency_us.expect("latencies").p99;
        assert!((p99 - 1000.0).abs() < 16.0, "{p99}");
        let idle = CASES.iter().find(|case| case.name == "S15").expect("a case");
        let task = Task { case: idle, ..task };
        assert_eq!(task.connections(Kind::Nginx, 20_000), 10_000);
        assert_eq!(task.connections(Kind::Relay, 20_000), 9750);
        let several = CASES.iter().find(|case| case.name == "S20").expect("a case");
        let measured = Measured { origin_requests: vec![7, 5, 6], ..measured };
        let task = Task { case: several, measure: Measure::Rate, ..task };
        let mut row = Row::default();
        fill(&mut row, &task, &measured, 64);
        assert_eq!((row.origin_delays_ms, row.origin_requests), (vec![1, 500, 1], vec![7, 5, 6]));
        assert_eq!(row.latency_buckets_ns, [(1_000_000, 1000)]);
    }
}
