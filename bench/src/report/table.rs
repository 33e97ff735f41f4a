//! The report's tables, in Markdown.

use std::fmt::Write as _;

use crate::report::summary::{CaseSummary, RateSummary, SubjectSummary, Summary};
use crate::report::{tail, NOISE_SHARE_MAX};
use crate::row::Measure;
use crate::stats::Ratio;

/// The whole report.
pub fn write(summary: &Summary) -> String {
    let mut out = String::from("# Report\n\n");
    for (name, install) in &summary.missing {
        let _ = writeln!(out, "- {name}: not installed; `{install}`");
    }
    if !summary.missing.is_empty() {
        out.push('\n');
    }
    for case in &summary.cases {
        let _ = writeln!(out, "## {}: {}\n", case.name, case.title);
        verdict(case, &mut out);
        match (case.measure, &case.tail) {
            (_, Some(all)) => tail::write(case, all, &mut out),
            (Measure::Idle, None) => idle_table(case, &mut out),
            _ => load_table(case, &mut out),
        }
        for rate in &case.rates {
            rate_table(rate, &mut out);
        }
        notes(case, &mut out);
    }
    out
}

fn verdict(case: &CaseSummary, out: &mut String) {
    let Some(noise) = case.noise else { return };
    let share = NOISE_SHARE_MAX * 100.0;
    let text = ratio(&noise);
    let _ = if case.is_void() {
        writeln!(
            out,
            "**Void**: a second copy of {} differs from it by {text}, which leaves 1 ± {share:.0} %: the machine was too \
             noisy, or the blocks were too few.\n",
            case.base
        )
    } else {
        writeln!(out, "A second copy of {} differs from it by {text}: within 1 ± {share:.0} %.\n", case.base)
    };
}

fn load_table(case: &CaseSummary, out: &mut String) {
    let with_connections = case.subjects.iter().any(|one| one.connections_per_s.is_some());
    let (head, line) = if with_connections { (" connections/s |", "---:|") } else { ("", "") };
    let _ = writeln!(
        out,
        "| Subject | CPU us/request | {} / subject [95 %] | | requests/s | p50 us | p99 us | p99.9 us | MB/s |{head} Blocks |\n\
         |---|---:|---:|---|---:|---:|---:|---:|---:|{line}---:|",
        case.base
    );
    for one in &case.subjects {
        if let Some(reason) = &one.absent {
            let _ = writeln!(
                out,
                "| {} | | | not applicable: {reason} | | | | | |{} |",
                one.name,
                if with_connections { " |" } else { "" }
            );
            continue;
        }
        let latency = |value: fn(crate::row::Quantiles) -> f64| number(one.latency.map(value), 0);
        let _ = write!(
            out,
            "| {} | {} | {} | {} | {}{} | {} | {} | {} | {} |",
            one.name,
            number(one.cpu_us, 2),
            one.ratio.as_ref().map(ratio).unwrap_or_default(),
            word(one),
            number(one.requests_per_s, 0),
            if one.load_bound > 0 { " (load-bound)" } else { "" },
            latency(|q| q.p50),
            latency(|q| q.p99),
            latency(|q| q.p999),
            number(one.body_mb_per_s, 1),
        );
        if with_connections {
            let _ = write!(out, " {} |", number(one.connections_per_s, 0));
        }
        let _ = writeln!(out, " {} |", blocks(one));
    }
    out.push('\n');
}

fn idle_table(case: &CaseSummary, out: &mut String) {
    let _ = writeln!(
        out,
        "| Subject | Bytes per idle connection | {} / subject [95 %] | | Blocks |\n|---|---:|---:|---|---:|",
        case.base
    );
    for one in &case.subjects {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            one.name,
            number(one.bytes_per_connection, 0),
            one.ratio.as_ref().map(ratio).unwrap_or_default(),
            one.absent.as_deref().unwrap_or(word(one)),
            blocks(one)
        );
    }
    out.push('\n');
}

fn rate_table(rate: &RateSummary, out: &mut String) {
    let _ = writeln!(
        out,
        "Latency at {:.0} requests/s, {} % of the slowest gateway's capacity, from the intended send time, in us:\n\n\
         | Subject | p50 | p90 | p99 | p99.9 | max |\n|---|---:|---:|---:|---:|---:|",
        rate.rate,
        rate.percent.unwrap_or_default()
    );
    for (name, q, _) in &rate.subjects {
        let values = [q.p50, q.p90, q.p99, q.p999, q.max].map(|value| number(Some(value), 0));
        let _ = writeln!(out, "| {name} | {} |", values.join(" | "));
    }
    out.push('\n');
    for (name, reason) in &rate.failed {
        let _ = writeln!(out, "- {name} at {:.0}/s: {reason}", rate.rate);
    }
    if !rate.failed.is_empty() {
        out.push('\n');
    }
}

fn notes(case: &CaseSummary, out: &mut String) {
    let mut any = false;
    for one in &case.subjects {
        if !one.ring.is_empty() {
            let values: Vec<_> = one.ring.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
            let _ = writeln!(out, "- {} ring, per request: {}", one.name, values.join(", "));
            any = true;
        }
        for reason in &one.void {
            let _ = writeln!(out, "- {} void, {reason}", one.name);
            any = true;
        }
    }
    if any {
        out.push('\n');
    }
}

/// `0.501 [0.499, 0.503]`.
pub fn ratio(ratio: &Ratio) -> String {
    match ratio.interval {
        Some((low, high)) => format!("{:.3} [{low:.3}, {high:.3}]", ratio.mean),
        None => format!("{:.3} [one block]", ratio.mean),
    }
}

/// Whether the base is ahead of this subject, as far as the interval tells.
fn word(one: &SubjectSummary) -> &'static str {
    match one.ratio {
        None => "",
        Some(ratio) if !ratio.decided() => "undecided",
        Some(ratio) if ratio.mean < 1.0 => "ahead",
        Some(_) => "behind",
    }
}

/// How many blocks count, and how many do not.
pub fn blocks(one: &SubjectSummary) -> String {
    match one.void.len() {
        0 => one.blocks.to_string(),
        void => format!("{} ({void} void)", one.blocks),
    }
}

/// With groups of three digits; empty where there is none.
pub fn number(value: Option<f64>, decimals: usize) -> String {
    let Some(value) = value else { return String::new() };
    let text = format!("{value:.decimals$}");
    let (whole, rest) =
        text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut out = String::new();
    for (index, digit) in whole.chars().enumerate() {
        let left = whole.len() - index;
        if index > 0 && left % 3 == 0 && !(index == 1 && whole.starts_with('-')) {
            out.push(',');
        }
        out.push(digit);
    }
    rest.map_or(out.clone(), |rest| format!("{out}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let check =
            |value: f64, decimals: usize, expected: &str| assert_eq!(number(Some(value), decimals), expected);
        check(0.0, 0, "0");
        check(999.4, 0, "999");
        check(1000.0, 0, "1,000");
        check(1_234_567.891, 2, "1,234,567.89");
        check(-1234.0, 0, "-1,234");
        check(-123.0, 0, "-123");
        assert_eq!(number(None, 2), "");
    }

    #[test]
    fn tables() {
        let text = write(&Summary::of(&crate::report::summary::tests::rows()));
        for expected in [
            "- haproxy: not installed; `apt-get install haproxy`",
            "## S1: a title",
            "A second copy of ringway differs",
            "| nginx | 42.00 | 0.501 [0.499, 0.503] | ahead | 23,810 | 500 | 700 | 800 |  | 3 |",
            "| ringway-b | 21.00 | 1.002 [0.997, 1.007] | undecided |",
            "Latency at 1000 requests/s, 50 % of",
        ] {
            assert!(text.contains(expected), "no `{expected}` in\n{text}");
        }
    }
}
