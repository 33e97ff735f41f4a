//! One line of `rows.jsonl`: everything about one subject in one block, so that a row can be judged on its own.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::procfs;

/// Raised whenever a field changes its meaning.
pub const SCHEMA: u32 = 1;
/// The rows' file in a run's folder.
pub const FILE: &str = "rows.jsonl";

/// Which measurement a row is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// As many requests as go through.
    #[default]
    Saturated,
    /// A fixed rate; latencies count from the intended send time.
    Rate,
    /// Idle connections.
    Idle,
    /// The subject is not there; `void` holds the command that would install it.
    NotInstalled,
    /// The subject has not what the scenario needs; `void` says what.
    NotApplicable,
}

/// The machine and what it was doing.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Name of the processor.
    pub cpu: String,
    /// How many processors.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Release and version of the kernel.
    pub kernel: String,
    /// The distribution.
    pub system: String,
    /// The namespace, or why there is none.
    pub network: String,
    /// The harness's own version and the commit it was built from, where git knows.
    pub harness: String,
}

impl Machine {
    /// Reads /proc.
    pub fn read(network: String) -> Machine {
        let cpuinfo = procfs::line("/proc/cpuinfo");
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split([':', '=']).nth(1))
                .unwrap_or("?")
                .trim()
                .trim_matches('"')
                .to_owned()
        };
        let memory = field(&procfs::line("/proc/meminfo"), "MemTotal");
        let commit = std::process::Command::new("git")
            .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12"])
            .output();
        let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        Machine {
            cpu: field(&cpuinfo, "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024,
            kernel: format!(
                "{} {}",
                procfs::line("/proc/sys/kernel/osrelease"),
                procfs::line("/proc/sys/kernel/version")
            ),
            system: field(&procfs::line("/etc/os-release"), "PRETTY_NAME"),
            network,
            harness: format!("{} {}", env!("CARGO_PKG_VERSION"), commit.unwrap_or_default()),
        }
    }
}

/// A row. Times and bytes carry their unit in their name; a value that was not measured is null or absent.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Unix time at the end of the measurement, in seconds.
    pub time_s: u64,
    /// For example `S8`.
    pub scenario: String,
    /// For example `S8-1000`.
    pub case: String,
    /// For people.
    pub title: String,
    /// The subject's name.
    pub subject: String,
    /// Which measurement.
    pub measure: Measure,
    /// Number of the block, from 0.
    pub block: usize,
    /// Place in the block's order, from 0.
    pub place: usize,
    /// Seed of the run.
    pub seed: u64,
    /// Why the row does not count; null where it does.
    pub void: Option<String>,
    /// CPU time of the subject per completed request, in microseconds.
    pub cpu_us_per_request: Option<f64>,
    /// Completed requests per second.
    pub requests_per_s: Option<f64>,
    /// Bodies moved, both ways, in MB (10^6) per second.
    pub body_mb_per_s: Option<f64>,
    /// Connections made per second.
    pub connections_per_s: Option<f64>,
    /// The generator's core had less than 5 % idle.
    pub load_bound: bool,
    /// The rate asked for, in requests per second.
    pub rate: Option<f64>,
    /// Which share of the slowest subject's capacity that is, in percent.
    pub rate_percent: Option<u32>,
    /// Latency of the fast requests in microseconds: p50 p90 p99 p99.9 max.
    pub latency_us: Option<Quantiles>,
    /// The same of the slow ones.
    pub latency_slow_us: Option<Quantiles>,
    /// Buckets of the fast latencies: largest value in ns, count. Kept for fixed rates alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latency_buckets_ns: Vec<(u64, u64)>,
    /// User memory per idle connection, in bytes.
    pub bytes_per_connection: Option<f64>,
    /// Idle connections held.
    pub connections_held: Option<u64>,
    /// Delays of the origins in milliseconds, where the subject chose between several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origin_delays_ms: Vec<u32>,
    /// Requests that reached each of them in the window: the tries, hedged and repeated ones among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origin_requests: Vec<u64>,
    /// Growth of the subject's ring counters per request.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ring_per_request: BTreeMap<String, f64>,
    /// Length of the window, in seconds.
    pub window_s: f64,
    /// Completed requests in the window.
    pub requests: u64,
    /// Errors by kind; any voids the row.
    pub errors: BTreeMap<String, u64>,
    /// CPU time of the subject in the window, in nanoseconds.
    pub cpu_ns: u64,
    /// Time the subject was ready but waited for a processor, in nanoseconds.
    pub run_delay_ns: u64,
    /// CPU time of generator and origin, in nanoseconds.
    pub generator_cpu_ns: u64,
    /// Idle share of the generator's core, in percent.
    pub generator_idle_percent: Option<f64>,
    /// Share of the processors' time that the hypervisor took, in percent.
    pub steal_percent: f64,
    /// Load average over one minute after the window.
    pub load_average: f64,
    /// What the subject says of its version.
    pub version: String,
    /// Digest of its program.
    pub program_digest: String,
    /// Digest of its configuration.
    pub config_digest: String,
    /// The machine.
    pub machine: Machine,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Default, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The middle.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Row {
    /// Whether the subject chose between several origins: the tail of its latency is what is compared then.
    pub fn is_tail(&self) -> bool {
        !self.origin_delays_ms.is_empty()
    }

    /// Requests meant for the window (fixed rates alone).
    fn asked(&self) -> Option<f64> {
        let asked: u64 = self.latency_buckets_ns.iter().map(|(_, count)| count).sum();
        (asked > 0).then_some(asked as f64)
    }

    /// Tries that reached the slowest origin, per request of the client.
    pub fn slow_share(&self) -> Option<f64> {
        let origins = self.origin_delays_ms.iter().zip(&self.origin_requests);
        let (_, count) = origins.max_by_key(|(delay, _)| **delay)?;
        Some(*count as f64 / self.asked()?)
    }

    /// Tries that reached any origin, per request of the client: what hedging and retries add.
    pub fn tries_per_request(&self) -> Option<f64> {
        let tries: u64 = self.origin_requests.iter().sum();
        let asked = self.asked()?;
        (tries > 0).then(|| tries as f64 / asked)
    }
}

impl Quantiles {
    /// Of a histogram; `None` of an empty one.
    pub fn of(histogram: &crate::histogram::Histogram) -> Option<Quantiles> {
        let micros = |share: f64| histogram.quantile(share) as f64 / 1000.0;
        (histogram.total() > 0).then(|| Quantiles {
            p50: micros(0.5),
            p90: micros(0.9),
            p99: micros(0.99),
            p999: micros(0.999),
            max: histogram.max() as f64 / 1000.0,
        })
    }
}

/// Adds a row to the file in `directory`.
///
/// # Errors
///
/// As writing a file.
pub fn append(directory: &Path, row: &Row) -> Result<(), String> {
    let path = directory.join(FILE);
    let fault = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut line = serde_json::to_string(row).map_err(|error| error.to_string())?;
    line.push('\n');
    let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(fault)?;
    file.write_all(line.as_bytes()).map_err(fault)
}

/// Reads all rows of a run.
///
/// # Errors
///
/// A file that cannot be read, a line that is no row, or rows of another schema.
pub fn read(directory: &Path) -> Result<Vec<Row>, String> {
    let path = directory.join(FILE);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let parse = |(number, line): (usize, &str)| {
        let row: Row = serde_json::from_str(line)
            .map_err(|error| format!("{}:{}: {error}", path.display(), number + 1))?;
        if row.schema != SCHEMA {
            return Err(format!("{}:{}: schema {}, not {SCHEMA}", path.display(), number + 1, row.schema));
        }
        Ok(row)
    };
    text.lines().enumerate().filter(|(_, line)| !line.is_empty()).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        let check = |delays: &[u32], requests: &[u64], asked: u64, expected: (Option<f64>, Option<f64>)| {
            let row = Row {
                origin_delays_ms: delays.to_vec(),
                origin_requests: requests.to_vec(),
                latency_buckets_ns: vec![(1000, asked)],
                ..Row::default()
            };
            assert_eq!((row.slow_share(), row.tries_per_request()), expected, "{delays:?} {requests:?}");
        };
        check(&[1, 500, 1], &[50, 10, 40], 100, (Some(0.1), Some(1.0)));
        check(&[1, 500, 1], &[50, 50, 50], 100, (Some(0.5), Some(1.5))); // hedged
        check(&[1, 500, 1], &[50, 0, 50], 100, (Some(0.0), Some(1.0)));
        check(&[1, 500, 1], &[], 100, (None, None)); // the origin did not say
        check(&[1, 500, 1], &[1, 1, 1], 0, (None, None));
        check(&[], &[], 100, (None, None));
    }

    #[test]
    fn rows_come_back() {
        let directory = std::env::temp_dir().join(format!("bench-row-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a folder for the test");
        let row = Row {
            schema: SCHEMA,
            case: "S1".into(),
            measure: Measure::Rate,
            cpu_us_per_request: Some(10.5),
            latency_buckets_ns: vec![(1, 2)],
            ..Row::default()
        };
        append(&directory, &row).expect("written");
        append(&directory, &Row { schema: SCHEMA, ..Row::default() }).expect("written");
        let rows = read(&directory).expect("read");
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].measure, rows[0].cpu_us_per_request), (Measure::Rate, Some(10.5)));
        append(&directory, &Row { schema: SCHEMA + 1, ..Row::default() }).expect("written");
        assert!(read(&directory).is_err_and(|message| message.contains(":3: schema 2")));
        fs::remove_dir_all(&directory).expect("the folder was made above");
    }
}
