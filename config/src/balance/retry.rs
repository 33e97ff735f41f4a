//! `retry` and `hedge`: when a request goes to another node, or to a second one at once.

use std::time::Duration;

use super::forms::{count, ratio};
use crate::place::Place;
use crate::reader::{duration_of, integer, wrong_type, Reader, TimeUnit};
use crate::report::{Problem, Report};
use crate::route;
use crate::value::{Kind, Value};

/// `retry`: beyond APISIX's `retries` and `retry_timeout`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retry {
    /// `on`: statuses of an answer that count as a failure.
    pub on_statuses: Vec<u16>,
    /// `on` has `"reset"`: a connection that broke after the request was sent whole counts for every
    /// replayable method of `methods`. Connect errors and timeouts always count.
    pub on_reset: bool,
    /// `methods`: which may be repeated once bytes were sent, upper case; `None` is all but POST, LOCK, PATCH.
    pub methods: Option<Vec<String>>,
    /// `per_try_timeout`: from the beginning of a try to its response head.
    pub per_try_timeout: Option<Duration>,
    /// `budget`: further tries as a share of requests, 0 to 1; `None` is without bound.
    pub budget: Option<f64>,
    /// `backoff`: before a further try.
    pub backoff: Option<Backoff>,
}

/// `retry.backoff`: before try n+1 a random time up to `min(base * 2^(n-1), max)` (full jitter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Default 25 ms.
    pub base: Duration,
    /// Default 250 ms, or `base` where that is longer.
    pub max: Duration,
}

/// `hedge`: a second try beside a slow first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// After so long without an answer.
    pub after: Duration,
    /// Further tries beside the first. Default 1, at most 5.
    pub max: u32,
}

/// Further tries of a hedge at most.
const HEDGES_MAX: u32 = 5;

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { base: Duration::from_millis(25), max: Duration::from_millis(250) }
    }
}

impl Retry {
    /// Reads `retry`.
    pub(super) fn read(value: &Value, report: &mut Report) -> Retry {
        let mut reader = Reader::of("Retry", value, report);
        let (on_statuses, on_reset) = on(&mut reader);
        let list = reader.list("methods");
        let methods = reader.has("methods").then(|| route::methods_of(list, reader.report()));
        let retry = Retry {
            on_statuses,
            on_reset,
            methods,
            per_try_timeout: reader.opt_timeout("per_try_timeout"),
            budget: ratio(&mut reader, "budget"),
            backoff: reader.opt_value("backoff").and_then(|value| Backoff::read(value, reader.report())),
        };
        reader.finish();
        retry
    }
}

/// `on = [502, 503, "reset"]`
fn on(reader: &mut Reader<'_, '_>) -> (Vec<u16>, bool) {
    let mut statuses: Vec<u16> = Vec::new();
    let mut reset = false;
    for item in reader.opt_array("on").unwrap_or_default() {
        match &item.kind {
            Kind::Integer(_) => {
                let status = integer(reader.report(), "on", item, 400..=599).map(|status| status as u16);
                statuses.extend(status.filter(|status| !statuses.contains(status)));
            }
            Kind::String(text) if text == "reset" => reset = true,
            Kind::String(text) => unknown_cause(text, item, reader.report()),
            _ => wrong_type(reader.report(), item, "a status or \"reset\"", "on = [502, 503, \"reset\"]"),
        }
    }
    (statuses, reset)
}

/// A word of `on` that is not `reset`: nginx's and Envoy's have another form here.
fn unknown_cause(text: &str, item: &Value, report: &mut Report) {
    let lower = text.to_ascii_lowercase();
    let status = lower.strip_prefix("http_").unwrap_or(&lower);
    let digits = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    let (label, help) = match lower.as_str() {
        "5xx" | "gateway-error" | "http_5xx" => {
            ("each status by itself", "write the statuses: [500, 502, 503, 504]".to_owned())
        }
        "error" | "timeout" | "connect-failure" | "connect" => {
            ("connect errors and timeouts always count", "remove it".to_owned())
        }
        _ if digits => ("a status is a number", format!("write {status} without quotes")),
        _ => {
            let help = report.suggest(text, std::iter::once(("reset", Place::NOWHERE)));
            let help = if help.is_empty() { "write on = [502, 503, \"reset\"]".to_owned() } else { help };
            ("must be a status from 400 to 599 or \"reset\"", help)
        }
    };
    report.push(Problem::error(item, format!("unknown cause `{text}`")).label(label).help(help));
}

impl Backoff {
    /// A table, or the base alone.
    fn read(value: &Value, report: &mut Report) -> Option<Backoff> {
        let default = Backoff::default();
        if !matches!(value.kind, Kind::Table(_)) {
            let base = duration_of(report, "backoff", value, TimeUnit::Seconds)?;
            if base.is_zero() {
                let problem = Problem::error(value, "`backoff` is out of range: 0");
                report.push(problem.label("must be longer than zero").help("leave it out for none"));
                return None;
            }
            return Some(Backoff { base, max: default.max.max(base) });
        }
        let mut reader = Reader::of("Backoff", value, report);
        let base = reader.opt_timeout("base").unwrap_or(default.base);
        let max = reader.opt_timeout("max");
        if max.is_some_and(|max| max < base) {
            let place = reader.value_place("max");
            let problem = Problem::error(place, "`max` is less than `base`");
            reader.report().push(
                problem
                    .label(format!("must be at least {base:?}"))
                    .help(format!("write max = \"{base:?}\" or more, or a lower `base`")),
            );
        }
        reader.finish();
        Some(Backoff { base, max: max.unwrap_or(default.max.max(base)) })
    }
}

impl Hedge {
    /// Reads `hedge`.
    pub(super) fn read(value: &Value, report: &mut Report) -> Option<Hedge> {
        let mut reader = Reader::of("Hedge", value, report);
        let max = count(&mut reader, "max", 1..=HEDGES_MAX).unwrap_or(1);
        let after = reader.opt_timeout("after");
        if value.as_table().is_some() && !reader.has("after") && !reader.has_unknown() {
            let problem = Problem::error(value, "`hedge` needs `after`").label("has no `after`");
            let help = "write hedge = { after = \"50ms\" }: about the 95th percentile of the answers' times";
            reader.report().push(problem.help(help));
        }
        reader.finish();
        Some(Hedge { after: after?, max })
    }
}
