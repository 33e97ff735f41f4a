//! The table of S20: what a choice between origins does for the tail of the latency when one of them is slow.
//!
//! In turn, every third request waits, and p99 is the slow origin's time. The shares say what is left of it; two of
//! ours promise at most [`TAIL_SHARE_MAX`], and the table says whether they kept it.

use std::fmt::Write as _;

use crate::report::summary::{CaseSummary, RateSummary, SubjectSummary};
use crate::report::table::{blocks, number, ratio};
use crate::report::TAIL_SHARE_MAX;
use crate::row::Quantiles;

/// The subject that the promise is measured by.
const BASE: &str = "ringway";
/// The subjects that promise.
const BOUND: [&str; 2] = ["ringway-ewma", "ringway-hedge"];

/// Writes the table; `all` are the latencies of all blocks together.
pub fn write(case: &CaseSummary, all: &RateSummary, out: &mut String) {
    let _ = writeln!(
        out,
        "Medians over the blocks at {:.0} requests/s (open loop, Poisson arrivals), from the intended send time. \
         The share is p99 against that of {}, block by block; {} promise at most {TAIL_SHARE_MAX} of {BASE}. \
         *To the slow one*: tries that reached the slow origin, per request; *tries*: those that reached any.\n\n\
         | Subject | p50 us | p90 us | p99 us | p99.9 us | p99 / {} [95 %] | Bound | To the slow one | Tries | \
         CPU us/request | Blocks |\n\
         |---|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|",
        all.rate,
        case.base,
        BOUND.join(" and "),
        case.base,
    );
    for one in &case.subjects {
        if let Some(reason) = &one.absent {
            let _ = writeln!(out, "| {} | | | | | | not applicable: {reason} | | | | |", one.name);
            continue;
        }
        let latency = |value: fn(Quantiles) -> f64| number(one.latency.map(value), 0);
        let slow = one.slow_share.map_or(String::new(), |share| format!("{:.1} %", share * 100.0));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {slow} | {} | {} | {} |",
            one.name,
            latency(|q| q.p50),
            latency(|q| q.p90),
            latency(|q| q.p99),
            latency(|q| q.p999),
            one.ratio.map(|one| ratio(&one.inverse())).unwrap_or_default(),
            verdict(&case.base, one),
            number(one.tries_per_request, 3),
            number(one.cpu_us, 1),
            blocks(one)
        );
    }
    out.push('\n');
}

/// Whether a subject kept what it promised: by the upper end of the interval, since its mean alone may be luck.
fn verdict(base: &str, one: &SubjectSummary) -> String {
    let plain = one.name.strip_suffix("-b").unwrap_or(&one.name);
    if !BOUND.contains(&plain) {
        return String::new();
    }
    let word = match one.ratio.map(|ratio| ratio.inverse()) {
        _ if base != BASE => "no ringway to compare with",
        None => "not measured",
        Some(share) => match share.interval {
            None => "one block says nothing",
            Some((_, high)) if high <= TAIL_SHARE_MAX => "kept",
            Some(_) => "**not kept**",
        },
    };
    format!("at most {TAIL_SHARE_MAX}: {word}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::summary::Summary;
    use crate::report::{plots, table};
    use crate::row::{Measure, Row};

    /// Three blocks in which each subject has the p99 it is told, a tenth of a percent apart.
    fn rows(subjects: &[(&str, f64)]) -> Vec<Row> {
        let mut rows = Vec::new();
        for block in 0..3 {
            for (name, p99) in subjects {
                let p99 = p99 * (1.0 + f64::from(block) * 0.001);
                rows.push(Row {
                    scenario: "S20".into(),
                    case: "S20".into(),
                    title: "a title".into(),
                    subject: (*name).into(),
                    measure: Measure::Rate,
                    rate: Some(500.0),
                    block: block as usize,
                    cpu_us_per_request: Some(40.0),
                    latency_us: Some(Quantiles { p50: 1100.0, p90: 1200.0, p99, p999: 5e5, max: 6e5 }),
                    latency_buckets_ns: vec![(1_100_000, 900), (500_000_000, 100)],
                    origin_delays_ms: vec![1, 500, 1],
                    origin_requests: vec![450, 100, 500],
                    ..Row::default()
                });
            }
        }
        rows
    }

    #[test]
    fn tables() {
        let mut rows = rows(&[
            ("nginx", 501_000.0),
            ("ringway-hedge", 60_000.0),
            ("ringway-ewma", 2000.0),
            ("ringway", 500_000.0),
            ("ringway-b", 500_000.0),
        ]);
        rows.push(Row {
            case: "S20".into(),
            subject: "relay".into(),
            measure: Measure::NotApplicable,
            void: Some("it knows one origin".into()),
            ..Row::default()
        });
        let summary = Summary::of(&rows);
        let text = table::write(&summary);
        for expected in [
            "A second copy of ringway differs from it by 1.000 [1.000, 1.000]: within",
            "Medians over the blocks at 500 requests/s",
            "| ringway | 1,100 | 1,200 | 500,500 | 500,000 |  |  | 10.0 % | 1.050 | 40.0 | 3 |",
            "| ringway-ewma | 1,100 | 1,200 | 2,002 | 500,000 | 0.004 [0.004, 0.004] | at most 0.1: kept | 10.0 % |",
            "| 0.120 [0.120, 0.120] | at most 0.1: **not kept** |",
            "| relay | | | | | | not applicable: it knows one origin |",
            "| nginx | 1,100 | 1,200 | 501,501 | 500,000 | 1.002 [1.002, 1.002] |  |",
        ] {
            assert!(text.contains(expected), "no `{expected}` in\n{text}");
        }
        let plots = plots::draw(&summary);
        let drawn: Vec<_> = plots.iter().filter(|(_, _, drawing)| !drawing.is_empty()).collect();
        let names: Vec<_> = drawn.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["cpu.svg", "latency-S20.svg"]);
    }

    #[test]
    fn verdicts() {
        let check = |subjects: &[(&str, f64)], blocks: usize, name: &str, expected: &str| {
            let mut rows = rows(subjects);
            rows.retain(|row| row.block < blocks);
            let summary = Summary::of(&rows);
            let case = &summary.cases[0];
            let one = case.subjects.iter().find(|one| one.name == name).expect(name);
            assert_eq!(verdict(&case.base, one), expected, "{name} of {subjects:?}");
        };
        let both = [("ringway", 500_000.0), ("ringway-hedge", 12_000.0), ("nginx", 1000.0)];
        check(&both, 3, "ringway-hedge", "at most 0.1: kept");
        check(&both, 1, "ringway-hedge", "at most 0.1: one block says nothing");
        check(&both, 3, "nginx", "");
        check(&both, 3, "ringway", "");
        check(&both[1..], 3, "ringway-hedge", "at most 0.1: no ringway to compare with");
        let over = [("ringway", 500_000.0), ("ringway-ewma-b", 50_100.0)];
        check(&over, 3, "ringway-ewma-b", "at most 0.1: **not kept**");
    }
}
