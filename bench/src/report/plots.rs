//! The plots: ratios with their intervals, bars of CPU per request, latency curves at fixed rates.

use crate::report::summary::{CaseSummary, RateSummary, Summary};
use crate::report::svg::{Anchor, Page};
use crate::row::Measure;

const INK: &str = "#222222";
const FAINT: &str = "#d9d9d9";
const GREY: &str = "#777777";

/// Draws all plots: file name, title, SVG (empty where there is nothing to draw).
pub fn draw(summary: &Summary) -> Vec<(String, String, String)> {
    let mut plots = vec![
        ("ratios.svg".to_owned(), "Ratios with their 95 % intervals".to_owned(), ratios(summary)),
        ("cpu.svg".to_owned(), "CPU per request".to_owned(), bars(summary)),
    ];
    for case in &summary.cases {
        for rate in case.rates.iter().chain(&case.tail) {
            let (place, load) = match rate.percent {
                Some(percent) => (format!("-{percent}"), format!("{percent} % load")),
                None => (String::new(), format!("{:.0} requests/s", rate.rate)),
            };
            plots.push((
                format!("latency-{}{place}.svg", case.name),
                format!("{}: latency at {load}", case.name),
                curves(case, rate),
            ));
        }
    }
    plots
}

/// One colour per subject, told apart by people who do not see red and green (Okabe and Ito; Tol).
fn color(name: &str) -> &'static str {
    match name {
        "ringway" => "#0072b2",
        "ringway-b" => "#56b4e9",
        "relay" => "#777777",
        "nginx" => "#009e73",
        "nginx-tuned" => "#66c2a5",
        "haproxy-tuned" => "#f0c75e",
        "haproxy" => "#e69f00",
        "pingora" => "#d55e00",
        "monoio-http" => "#cc79a7",
        "ringway-ewma" => "#332288",
        "ringway-hedge" => "#88ccee",
        "ringway-least-conn" => "#117733",
        "ringway-p2c" => "#aa4499",
        "nginx-least-conn" => "#999933",
        "haproxy-leastconn" => "#882255",
        _ => name.strip_suffix("-b").map_or(INK, color),
    }
}

fn ratios(summary: &Summary) -> String {
    let mut lines = Vec::new();
    // Where tails are compared the ratios are of another kind, and hundreds apart: they have their table and curves.
    for case in summary.cases.iter().filter(|case| case.tail.is_none()) {
        for one in &case.subjects {
            if let Some(ratio) = one.ratio {
                lines.push((case, &one.name, ratio));
            }
        }
    }
    let Some((first, ..)) = lines.first() else { return String::new() };
    let ends = |bound: fn(f64, f64) -> f64, start: f64| {
        lines.iter().fold(start, |end, (_, _, ratio)| {
            let (low, high) = ratio.interval.unwrap_or((ratio.mean, ratio.mean));
            bound(bound(end, low), high)
        })
    };
    // A logarithmic axis: half and double lie as far from 1.
    let low = (ends(f64::min, 0.8) * 0.95).max(0.02);
    let high = (ends(f64::max, 1.25) * 1.05).min(50.0);
    let (left, right, top, step) = (190.0, 150.0, 78.0, 22.0);
    let (width, height) = (900.0, top + step * lines.len() as f64 + 40.0);
    let at =
        |ratio: f64| left + (width - left - right) * (ratio.clamp(low, high) / low).ln() / (high / low).ln();
    let mut page =
        Page::new(width, height, &format!("CPU per request (memory for S15): {} / subject", first.base));
    page.text(
        16.0,
        46.0,
        12.0,
        Anchor::Start,
        GREY,
        "Left of 1: cheaper than the subject. Bars are 95 % intervals over the blocks.",
    );
    for tick in [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0] {
        if tick >= low && tick <= high {
            let (shade, weight) = if tick == 1.0 { (INK, 1.5) } else { (FAINT, 1.0) };
            page.line((at(tick), top - 6.0), (at(tick), height - 30.0), shade, weight);
            page.text(at(tick), top - 12.0, 11.0, Anchor::Middle, INK, &format!("{tick}"));
        }
    }
    for (index, (case, name, ratio)) in lines.iter().enumerate() {
        let y = top + step * (index as f64 + 0.5);
        if index > 0 && lines[index - 1].0.name != case.name {
            page.line((16.0, y - step / 2.0), (width - 16.0, y - step / 2.0), FAINT, 1.0);
        }
        let void = if case.is_void() { " (void)" } else { "" };
        page.text(left - 12.0, y + 4.0, 12.0, Anchor::End, INK, &format!("{}{void}  {name}", case.name));
        let (from, to) = ratio.interval.unwrap_or((ratio.mean, ratio.mean));
        page.line((at(from), y), (at(to), y), color(name), 4.0);
        page.dot(at(ratio.mean), y, 4.5, color(name));
        let interval =
            ratio.interval.map_or("one block".to_owned(), |(low, high)| format!("{low:.3} - {high:.3}"));
        page.text(width - right + 12.0, y + 4.0, 12.0, Anchor::Start, INK, &format!("{:.3}", ratio.mean));
        page.text(width - right + 52.0, y + 4.0, 10.0, Anchor::Start, GREY, &interval);
    }
    page.finish()
}

fn bars(summary: &Summary) -> String {
    let cases: Vec<&CaseSummary> = summary
        .cases
        .iter()
        .filter(|case| case.measure != Measure::Idle && case.subjects.iter().any(|one| one.cpu_us.is_some()))
        .collect();
    if cases.is_empty() {
        return String::new();
    }
    let count: usize =
        cases.iter().map(|case| case.subjects.iter().filter(|one| one.cpu_us.is_some()).count()).sum();
    let (left, width, step, top) = (145.0, 900.0, 18.0, 44.0);
    let height = top + step * count as f64 + 34.0 * cases.len() as f64 + 12.0;
    let mut page = Page::new(width, height, "CPU per request, microseconds (medians)");
    let mut y = top;
    for case in cases {
        page.text(16.0, y + 15.0, 13.0, Anchor::Start, INK, &format!("{}: {}", case.name, case.title));
        y += 22.0;
        // Each case has its own scale: 1 MiB beside 100 B would flatten everything else.
        let longest = case.subjects.iter().filter_map(|one| one.cpu_us).fold(0.0, f64::max);
        for one in &case.subjects {
            let Some(cost) = one.cpu_us else { continue };
            let length = (width - left - 90.0) * cost / longest;
            page.text(left - 8.0, y + 12.0, 12.0, Anchor::End, INK, &one.name);
            page.rectangle(left, y + 2.0, length, step - 5.0, color(&one.name));
            page.text(left + length + 6.0, y + 12.0, 11.0, Anchor::Start, INK, &format!("{cost:.2}"));
            y += step;
        }
        y += 12.0;
    }
    page.finish()
}

fn curves(case: &CaseSummary, rate: &RateSummary) -> String {
    if rate.subjects.is_empty() {
        return String::new();
    }
    let (left, right, top, bottom) = (80.0, 170.0, 70.0, 56.0);
    let (width, height) = (900.0, 460.0);
    // Quantiles by the number of nines: 0 is p0, 1 is p90, 2 is p99, 4 is p99.99.
    let nines_max = 4.0;
    let x = |nines: f64| left + (width - left - right) * nines / nines_max;
    let quantile = |nines: f64| 1.0 - 10_f64.powf(-nines);
    let points = |histogram: &crate::histogram::Histogram| -> Vec<(f64, f64)> {
        let steps = (0..=160).map(|step| f64::from(step) * nines_max / 160.0);
        // Past one request in the total, a quantile is the maximum and says no more.
        let known = (histogram.total().max(1) as f64).log10();
        steps
            .filter(|nines| *nines <= known)
            .map(|nines| (nines, histogram.quantile(quantile(nines)) as f64 / 1000.0))
            .collect()
    };
    let all: Vec<_> = rate.subjects.iter().map(|(name, _, histogram)| (name, points(histogram))).collect();
    let values = || all.iter().flat_map(|(_, points)| points.iter().map(|(_, micros)| micros.max(1.0)));
    let low = values().fold(f64::MAX, f64::min) * 0.8;
    let high = values().fold(1.0, f64::max) * 1.25;
    let y = |micros: f64| {
        height - bottom - (height - top - bottom) * (micros.max(low) / low).ln() / (high / low).ln()
    };
    let share =
        rate.percent.map_or(String::new(), |percent| format!(" ({percent} % of the slowest gateway)"));
    let title = format!("{}: latency at {:.0} requests/s{share}", case.name, rate.rate);
    let mut page = Page::new(width, height, &title);
    page.text(
        16.0,
        46.0,
        12.0,
        Anchor::Start,
        GREY,
        "Microseconds from the intended send time, both axes logarithmic.",
    );
    for (nines, label) in
        [(0.0, "0"), (0.301, "p50"), (1.0, "p90"), (2.0, "p99"), (3.0, "p99.9"), (4.0, "p99.99")]
    {
        page.line((x(nines), top), (x(nines), height - bottom), FAINT, 1.0);
        page.text(x(nines), height - bottom + 18.0, 11.0, Anchor::Middle, INK, label);
    }
    for decade in 0..8 {
        for step in [1.0, 2.0, 5.0] {
            let micros = step * 10_f64.powi(decade);
            if micros >= low && micros <= high {
                page.line((left, y(micros)), (width - right, y(micros)), FAINT, 1.0);
                page.text(left - 8.0, y(micros) + 4.0, 11.0, Anchor::End, INK, &format!("{micros:.0}"));
            }
        }
    }
    for (index, (name, points)) in all.iter().enumerate() {
        let drawn: Vec<_> = points.iter().map(|(nines, micros)| (x(*nines), y(*micros))).collect();
        page.path(&drawn, color(name), name.ends_with("-b"));
        let line = top + 10.0 + 20.0 * index as f64;
        page.rectangle(width - right + 16.0, line - 9.0, 12.0, 12.0, color(name));
        page.text(width - right + 34.0, line + 1.0, 12.0, Anchor::Start, INK, name);
    }
    page.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots() {
        let plots = draw(&Summary::of(&crate::report::summary::tests::rows()));
        let names: Vec<_> = plots.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["ratios.svg", "cpu.svg", "latency-S1-50.svg", "latency-S1-80.svg"]);
        for (name, _, drawing) in &plots {
            assert!(drawing.starts_with("<svg") && drawing.ends_with("</svg>\n"), "{name}");
            assert!(!drawing.contains("NaN") && !drawing.contains("inf"), "{name}");
        }
        assert!(plots[0].2.contains("0.501"), "the ratio itself is written");
        let empty = draw(&Summary::of(&[]));
        assert!(empty.iter().all(|(_, _, drawing)| drawing.is_empty()));
    }
}
