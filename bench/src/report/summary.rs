//! What the rows of a run say together: medians per subject, paired ratios, merged latencies.

use crate::histogram::Histogram;
use crate::report::NOISE_SHARE_MAX;
use crate::row::{Measure, Quantiles, Row};
use crate::stats::{median, paired_ratio, Ratio};

/// A whole run.
pub struct Summary {
    /// Case by case, in the order measured.
    pub cases: Vec<CaseSummary>,
    /// Subjects that are not there, with the command that would install them.
    pub missing: Vec<(String, String)>,
}

/// All about one case.
pub struct CaseSummary {
    /// For example `S8-1000`.
    pub name: String,
    /// For people.
    pub title: String,
    /// Saturated, rate (S16) or idle.
    pub measure: Measure,
    /// The subject that all others are compared with: ours, or the relay where ours was not there.
    pub base: String,
    /// By subject.
    pub subjects: Vec<SubjectSummary>,
    /// Latencies at fixed shares of the slowest capacity: percent, rate, by subject.
    pub rates: Vec<RateSummary>,
    /// The latencies of the case itself, where the subjects chose between origins (S20).
    pub tail: Option<RateSummary>,
    /// Whether the second copy of ours says that the run may be trusted; `None` without one.
    pub noise: Option<Ratio>,
}

/// One subject in one case.
#[derive(Default)]
pub struct SubjectSummary {
    /// Its name.
    pub name: String,
    /// Why it is not in this case at all.
    pub absent: Option<String>,
    /// Median CPU time per request in microseconds.
    pub cpu_us: Option<f64>,
    /// Base against it: CPU per request, memory per connection, or p99 (S20). `None` for the base itself.
    pub ratio: Option<Ratio>,
    /// Median requests per second.
    pub requests_per_s: Option<f64>,
    /// Medians of the blocks' quantiles.
    pub latency: Option<Quantiles>,
    /// Median MB of bodies per second.
    pub body_mb_per_s: Option<f64>,
    /// Median connections per second.
    pub connections_per_s: Option<f64>,
    /// Median bytes per idle connection.
    pub bytes_per_connection: Option<f64>,
    /// Blocks in which the generator may have been the limit.
    pub load_bound: usize,
    /// Blocks that count.
    pub blocks: usize,
    /// Reasons of those that do not.
    pub void: Vec<String>,
    /// Median of the tries that reached the slow origin, per request (S20).
    pub slow_share: Option<f64>,
    /// Median of the tries per request (S20).
    pub tries_per_request: Option<f64>,
    /// Median ring counters per request.
    pub ring: Vec<(String, f64)>,
}

/// Latencies at one rate.
pub struct RateSummary {
    /// Percent of the slowest capacity; `None` where the case itself is a fixed rate.
    pub percent: Option<u32>,
    /// Requests per second.
    pub rate: f64,
    /// Subject, quantiles of all blocks together, their histogram.
    pub subjects: Vec<(String, Quantiles, Histogram)>,
    /// Subjects that could not hold it, with the reason.
    pub failed: Vec<(String, String)>,
}

impl CaseSummary {
    /// Whether the noise alone exceeds what is allowed.
    pub fn is_void(&self) -> bool {
        self.noise.is_some_and(|noise| !noise.within(NOISE_SHARE_MAX))
    }
}

impl Summary {
    /// Of all rows of a run.
    pub fn of(rows: &[Row]) -> Summary {
        let mut names: Vec<&str> = Vec::new();
        let mut missing = Vec::new();
        for row in rows {
            if row.measure == Measure::NotInstalled {
                let entry = (row.subject.clone(), row.void.clone().unwrap_or_default());
                if !missing.contains(&entry) {
                    missing.push(entry);
                }
            } else if !names.contains(&row.case.as_str()) {
                names.push(&row.case);
            }
        }
        let of_case = |name: &&str| rows.iter().filter(|row| row.case == *name).collect::<Vec<_>>();
        let mut cases: Vec<_> = names.iter().map(|name| case(&of_case(name))).collect();
        cases.sort_by_key(|case| {
            crate::scenario::CASES.iter().position(|known| known.name == case.name).unwrap_or(usize::MAX)
        });
        Summary { cases, missing }
    }
}

/// The order in tables and plots: ours, the floor, the peers; a second copy after its first.
fn rank(name: &str) -> usize {
    const ORDER: [&str; 14] = [
        "ringway",
        "ringway-ewma",
        "ringway-hedge",
        "ringway-least-conn",
        "ringway-p2c",
        "relay",
        "nginx",
        "nginx-tuned",
        "nginx-least-conn",
        "haproxy",
        "haproxy-tuned",
        "haproxy-leastconn",
        "pingora",
        "monoio-http",
    ];
    let plain = name.strip_suffix("-b").unwrap_or(name);
    ORDER.iter().position(|known| *known == plain).unwrap_or(ORDER.len())
}

/// Whether a row belongs to the case's own measurement and not to the latencies at fixed shares.
fn is_main(row: &Row) -> bool {
    row.rate_percent.is_none()
}

fn case(rows: &[&Row]) -> CaseSummary {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.subject.as_str()) {
            names.push(&row.subject);
        }
    }
    names.sort_by_key(|name| (rank(name), *name));
    let counted = |name: &str| {
        rows.iter().filter(|row| row.subject == name && is_main(row) && row.void.is_none()).count()
    };
    let base = ["ringway", "relay"].into_iter().find(|name| counted(name) > 0);
    let base = base.or(names.first().copied()).unwrap_or_default().to_owned();
    let measure = rows.iter().find(|row| row.measure != Measure::NotApplicable && is_main(row));
    let subjects: Vec<_> = names.iter().map(|name| subject(name, &base, rows)).collect();
    let noise = subjects.iter().find(|one| one.name == format!("{base}-b")).and_then(|one| one.ratio);
    CaseSummary {
        name: rows[0].case.clone(),
        title: rows[0].title.clone(),
        measure: measure.map(|row| row.measure).unwrap_or_default(),
        rates: rates(&names, rows),
        tail: rows.iter().any(|row| row.is_tail()).then(|| merged(None, &names, rows)),
        base,
        subjects,
        noise,
    }
}

/// What is compared: CPU per request, memory per connection, or p99 where the subjects chose between origins.
fn figure(row: &Row) -> Option<f64> {
    if row.is_tail() {
        return row.latency_us.map(|latency| latency.p99);
    }
    row.bytes_per_connection.or(row.cpu_us_per_request)
}

fn subject(name: &str, base: &str, rows: &[&Row]) -> SubjectSummary {
    let of = |name: &str| {
        let name = name.to_owned();
        rows.iter().copied().filter(move |row| row.subject == name && is_main(row))
    };
    let valid: Vec<&Row> =
        of(name).filter(|row| row.void.is_none() && row.measure != Measure::NotApplicable).collect();
    let middle = |value: &dyn Fn(&Row) -> Option<f64>| {
        median(&valid.iter().filter_map(|row| value(row)).collect::<Vec<_>>())
    };
    let latency = |value: &dyn Fn(Quantiles) -> f64| middle(&|row| row.latency_us.map(value));
    let pairs: Vec<(f64, f64)> = valid
        .iter()
        .filter_map(|row| {
            let ours = of(base).find(|ours| ours.block == row.block && ours.void.is_none())?;
            Some((figure(ours)?, figure(row)?))
        })
        .collect();
    let mut ring: Vec<String> = valid.iter().flat_map(|row| row.ring_per_request.keys().cloned()).collect();
    ring.sort();
    ring.dedup();
    SubjectSummary {
        name: name.to_owned(),
        absent: of(name).find(|row| row.measure == Measure::NotApplicable).and_then(|row| row.void.clone()),
        cpu_us: middle(&|row| row.cpu_us_per_request),
        ratio: if name == base { None } else { paired_ratio(&pairs) },
        requests_per_s: middle(&|row| row.requests_per_s),
        latency: latency(&|q| q.p50).map(|p50| Quantiles {
            p50,
            p90: latency(&|q| q.p90).unwrap_or(p50),
            p99: latency(&|q| q.p99).unwrap_or(p50),
            p999: latency(&|q| q.p999).unwrap_or(p50),
            max: latency(&|q| q.max).unwrap_or(p50),
        }),
        body_mb_per_s: middle(&|row| row.body_mb_per_s),
        connections_per_s: middle(&|row| row.connections_per_s),
        bytes_per_connection: middle(&|row| row.bytes_per_connection),
        slow_share: middle(&Row::slow_share),
        tries_per_request: middle(&Row::tries_per_request),
        load_bound: valid.iter().filter(|row| row.load_bound).count(),
        blocks: valid.len(),
        void: of(name)
            .filter(|row| row.measure != Measure::NotApplicable)
            .filter_map(|row| row.void.as_ref().map(|reason| format!("block {}: {reason}", row.block + 1)))
            .collect(),
        ring: ring
            .into_iter()
            .filter_map(|key| {
                let value = middle(&|row| row.ring_per_request.get(&key).copied())?;
                Some((key, value))
            })
            .collect(),
    }
}

fn rates(names: &[&str], rows: &[&Row]) -> Vec<RateSummary> {
    let mut percents: Vec<u32> = rows.iter().filter_map(|row| row.rate_percent).collect();
    percents.sort_unstable();
    percents.dedup();
    percents.into_iter().map(|percent| merged(Some(percent), names, rows)).collect()
}

/// The latencies of all blocks together: those at a share of the capacity, or the case's own.
fn merged(percent: Option<u32>, names: &[&str], rows: &[&Row]) -> RateSummary {
    let at = |name: &str| {
        let name = name.to_owned();
        rows.iter().copied().filter(move |row| {
            row.subject == name && row.rate_percent == percent && row.measure == Measure::Rate
        })
    };
    let merged = names.iter().filter_map(|name| {
        let mut histogram = Histogram::default();
        at(name)
            .filter(|row| row.void.is_none())
            .for_each(|row| histogram.add_sparse(&row.latency_buckets_ns));
        Some(((*name).to_owned(), Quantiles::of(&histogram)?, histogram))
    });
    let failed = names.iter().filter_map(|name| {
        let reason = at(name).find_map(|row| row.void.clone())?;
        Some(((*name).to_owned(), reason))
    });
    let rated = rows.iter().find(|row| row.rate_percent == percent && row.rate.is_some());
    RateSummary {
        percent,
        rate: rated.and_then(|row| row.rate).unwrap_or(0.0),
        subjects: merged.collect(),
        failed: failed.collect(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Rows of three blocks: ours costs what it is told, the peer twice that, a copy the same within 1 %.
    pub fn rows() -> Vec<Row> {
        let mut rows = Vec::new();
        for (block, cost) in [(0, 20.0), (1, 22.0), (2, 21.0)] {
            for (name, factor) in
                [("nginx", 2.0), ("ringway-b", 1.0), ("ringway", 1.0 + block as f64 * 0.002)]
            {
                rows.push(Row {
                    scenario: "S1".into(),
                    case: "S1".into(),
                    title: "a title".into(),
                    subject: name.into(),
                    block,
                    cpu_us_per_request: Some(cost * factor),
                    requests_per_s: Some(1e6 / cost / factor),
                    latency_us: Some(Quantiles {
                        p50: 500.0,
                        p90: 600.0,
                        p99: 700.0,
                        p999: 800.0,
                        max: 900.0,
                    }),
                    requests: 1000,
                    version: "1".into(),
                    ..Row::default()
                });
            }
        }
        for percent in [50, 80] {
            rows.push(Row {
                case: "S1".into(),
                subject: "ringway".into(),
                measure: Measure::Rate,
                rate: Some(1000.0),
                rate_percent: Some(percent),
                latency_buckets_ns: vec![(1000, 90), (1_000_000, 10)],
                ..Row::default()
            });
        }
        rows.push(Row {
            subject: "haproxy".into(),
            measure: Measure::NotInstalled,
            void: Some("apt-get install haproxy".into()),
            ..Row::default()
        });
        rows
    }

    #[test]
    fn summaries() {
        let summary = Summary::of(&rows());
        assert_eq!(summary.missing, [("haproxy".to_owned(), "apt-get install haproxy".to_owned())]);
        let case = &summary.cases[0];
        let names: Vec<_> = case.subjects.iter().map(|one| one.name.as_str()).collect();
        assert_eq!((case.base.as_str(), names), ("ringway", vec!["ringway", "ringway-b", "nginx"]));
        let nginx = &case.subjects[2];
        assert_eq!((nginx.cpu_us, nginx.blocks), (Some(42.0), 3));
        let ratio = nginx.ratio.expect("three pairs");
        assert!((ratio.mean - 0.501).abs() < 1e-3 && ratio.decided());
        assert!(!case.is_void(), "{:?}", case.noise);
        assert_eq!(case.rates.len(), 2);
        assert!(case.rates[0].subjects[0].1.p99 > 900.0);
    }

    #[test]
    fn a_noisy_run_is_void() {
        let mut rows = rows();
        rows.iter_mut()
            .filter(|row| row.subject == "ringway-b")
            .for_each(|row| row.cpu_us_per_request = row.cpu_us_per_request.map(|cost| cost * 1.05));
        assert!(Summary::of(&rows).cases[0].is_void());
        // A wrong answer takes a block out of the ratio.
        rows[0].void = Some("wrong answers: 1 status".into());
        let case = &Summary::of(&rows).cases[0];
        assert_eq!((case.subjects[2].blocks, case.subjects[2].void.len()), (2, 1));
    }

    #[test]
    fn without_ours_the_relay_is_the_base() {
        let mut rows = rows();
        rows.retain(|row| row.subject == "nginx" || row.subject == "ringway-b");
        for row in &mut rows {
            row.subject = row.subject.replace("ringway-b", "relay");
        }
        assert_eq!(Summary::of(&rows).cases[0].base, "relay");
    }
}
