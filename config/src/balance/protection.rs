//! `queue`, `outlier`, `breaker`, `concurrency_limit`: what keeps a sick node, or too many requests, from
//! taking the rest down.

use std::time::Duration;

use super::forms::{count, ratio, ratio_above_zero};
use crate::reader::Reader;
use crate::report::{Problem, Report};
use crate::value::Value;

/// `queue`: where requests wait when all usable nodes are at `max_conns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How many may wait, per core; 0 is none. Default 100.
    pub size: usize,
    /// How long one waits. Default 1 s.
    pub timeout: Duration,
}

/// `outlier`: nodes whose error ratio stands out rest for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlier {
    /// Errors (5xx and failed tries) by tries from which a node goes out, 0 to 1. Default 0.5.
    pub error_ratio: f64,
    /// Over how long they are counted. Default 10 s.
    pub interval: Duration,
    /// Fewer tries than this in an interval say nothing. Default 20.
    pub min_requests: u32,
    /// The largest share of nodes that may be out, 0 to 1; one may always be. Default 0.5.
    pub max_ejected: f64,
    /// How long a node rests, times the ejections in a row. Default 30 s.
    pub base_time: Duration,
    /// And at most. Default 300 s, or `base_time` where that is longer.
    pub max_time: Duration,
}

/// `breaker`: a circuit per node. Unlike an ejection it is never overruled: with all circuits open the answer is 503.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// Errors by tries from which the circuit opens, 0 to 1. Default 0.5.
    pub error_ratio: f64,
    /// Over how long they are counted. Default 10 s.
    pub window: Duration,
    /// Fewer tries than this say nothing. Default 20.
    pub min_requests: u32,
    /// How long it stays open. Default 5 s.
    pub open: Duration,
    /// Then so many trial requests, all of which must succeed to close it. Default 3.
    pub trials: u32,
}

/// `concurrency_limit`: how many requests an upstream gets at once, found by its latency (gradient).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConcurrencyLimit {
    /// Where it begins. Default 20, moved between `min` and `max`.
    pub initial: u32,
    /// Never below. Default 4, or `max` where that is less.
    pub min: u32,
    /// Never above. Default 1000, or `min` or `initial` where one of them is more.
    pub max: u32,
    /// How much slower than at rest is still well, 1 to 10. Default 1.5.
    pub tolerance: f64,
}

/// Requests that may wait on one core at most.
const QUEUE_MAX: i64 = 100_000;
/// Tries that a window may ask for at most.
const REQUESTS_MAX: u32 = 1_000_000;
/// Trial requests at most.
const TRIALS_MAX: u32 = 1000;
/// The highest limit of requests at once.
const CONCURRENCY_MAX: u32 = 1_000_000;

impl Default for Queue {
    fn default() -> Queue {
        Queue { size: 100, timeout: Duration::from_secs(1) }
    }
}

impl Default for Outlier {
    fn default() -> Outlier {
        Outlier {
            error_ratio: 0.5,
            interval: Duration::from_secs(10),
            min_requests: 20,
            max_ejected: 0.5,
            base_time: Duration::from_secs(30),
            max_time: Duration::from_secs(300),
        }
    }
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker {
            error_ratio: 0.5,
            window: Duration::from_secs(10),
            min_requests: 20,
            open: Duration::from_secs(5),
            trials: 3,
        }
    }
}

impl Default for ConcurrencyLimit {
    fn default() -> ConcurrencyLimit {
        ConcurrencyLimit { initial: 20, min: 4, max: 1000, tolerance: 1.5 }
    }
}

impl Queue {
    /// Reads `queue`.
    pub(super) fn read(value: &Value, report: &mut Report) -> Queue {
        let mut reader = Reader::of("Queue", value, report);
        let default = Queue::default();
        let queue = Queue {
            size: reader.range("size", 0..=QUEUE_MAX).map_or(default.size, |size| size as usize),
            timeout: reader.opt_timeout("timeout").unwrap_or(default.timeout),
        };
        reader.finish();
        queue
    }
}

impl Outlier {
    /// Reads `outlier`.
    pub(super) fn read(value: &Value, report: &mut Report) -> Outlier {
        let mut reader = Reader::of("Outlier", value, report);
        let default = Outlier::default();
        let base_time = reader.opt_timeout("base_time").unwrap_or(default.base_time);
        let max_time = reader.opt_timeout("max_time");
        if max_time.is_some_and(|max| max < base_time) {
            let place = reader.value_place("max_time");
            let problem = Problem::error(place, "`max_time` is less than `base_time`");
            let help = format!("write max_time = \"{base_time:?}\" or more, or a lower `base_time`");
            reader.report().push(problem.label(format!("must be at least {base_time:?}")).help(help));
        }
        let outlier = Outlier {
            error_ratio: ratio_above_zero(&mut reader, "error_ratio").unwrap_or(default.error_ratio),
            interval: reader.opt_timeout("interval").unwrap_or(default.interval),
            min_requests: count(&mut reader, "min_requests", 1..=REQUESTS_MAX)
                .unwrap_or(default.min_requests),
            max_ejected: ratio(&mut reader, "max_ejected").unwrap_or(default.max_ejected),
            base_time,
            max_time: max_time.unwrap_or(default.max_time.max(base_time)),
        };
        reader.finish();
        outlier
    }
}

impl Breaker {
    /// Reads `breaker`.
    pub(super) fn read(value: &Value, report: &mut Report) -> Breaker {
        let mut reader = Reader::of("Breaker", value, report);
        let default = Breaker::default();
        let breaker = Breaker {
            error_ratio: ratio_above_zero(&mut reader, "error_ratio").unwrap_or(default.error_ratio),
            window: reader.opt_timeout("window").unwrap_or(default.window),
            min_requests: count(&mut reader, "min_requests", 1..=REQUESTS_MAX)
                .unwrap_or(default.min_requests),
            open: reader.opt_timeout("open").unwrap_or(default.open),
            trials: count(&mut reader, "trials", 1..=TRIALS_MAX).unwrap_or(default.trials),
        };
        reader.finish();
        breaker
    }
}

impl ConcurrencyLimit {
    /// Reads `concurrency_limit`: `min` <= `initial` <= `max`. A default gives way to what is written.
    pub(super) fn read(value: &Value, report: &mut Report) -> ConcurrencyLimit {
        let mut reader = Reader::of("ConcurrencyLimit", value, report);
        let default = ConcurrencyLimit::default();
        let mut written = |name| count(&mut reader, name, 1..=CONCURRENCY_MAX);
        let (initial, min, max) = (written("initial"), written("min"), written("max"));
        for (low, least, high, most) in
            [("min", min, "max", max), ("min", min, "initial", initial), ("initial", initial, "max", max)]
        {
            let Some((least, most)) = least.zip(most).filter(|(least, most)| least > most) else { continue };
            let place = reader.value_place(high);
            let problem = Problem::error(place, format!("`{high}` is less than `{low}`: {most}"));
            reader.report().push(
                problem
                    .label(format!("must be at least {least}"))
                    .help(format!("write {high} = {least} or more, or a lower `{low}`")),
            );
        }
        let top = max.unwrap_or_else(|| default.max.max(min.unwrap_or(0)).max(initial.unwrap_or(0)));
        let bottom = min.unwrap_or_else(|| default.min.min(top).min(initial.unwrap_or(u32::MAX)));
        let limit = ConcurrencyLimit {
            initial: initial.unwrap_or_else(|| default.initial.max(bottom).min(top)),
            min: bottom,
            max: top,
            tolerance: tolerance(&mut reader).unwrap_or(default.tolerance),
        };
        reader.finish();
        limit
    }
}

fn tolerance(reader: &mut Reader<'_, '_>) -> Option<f64> {
    let tolerance = reader.opt_f64("tolerance")?;
    if (1.0..=10.0).contains(&tolerance) {
        return Some(tolerance);
    }
    let place = reader.value_place("tolerance");
    let problem = Problem::error(place, format!("`tolerance` is out of range: {tolerance}"));
    let help = "1.5 lets the latency grow by half before the limit falls";
    reader.report().push(problem.label("must be 1 to 10").help(help));
    None
}
