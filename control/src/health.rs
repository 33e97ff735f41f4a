//! What is known of the health of a plan's endpoints: for the prober, the control API and the metrics.

use std::collections::HashSet;
use std::fmt::Write as _;

use balancer::endpoint::{Status, StatusWord};
use balancer::health::HealthRules;
use engine::plan::{Endpoint, Plan, UpstreamPlan};

/// Endpoints whose health `/metrics` tells: more would make the page larger than Prometheus likes to read.
const SAMPLES_MAX: usize = 10_000;

/// Whether anything judges the endpoints of an upstream.
pub(crate) fn is_judged(upstream: &UpstreamPlan) -> bool {
    let source = &upstream.source;
    source.checks.is_some()
        || source.outlier.is_some()
        || source.breaker.is_some()
        || upstream.endpoints.iter().any(|endpoint| endpoint.spec.max_fails.is_some_and(|max| max > 0))
}

/// What is known of an endpoint now.
pub(crate) fn status(upstream: &UpstreamPlan, endpoint: &Endpoint) -> Status {
    let rules = HealthRules::new(&upstream.source, &endpoint.spec);
    endpoint.shared.status(&rules, engine::clock::micros())
}

/// Whether it is in use.
pub(crate) fn is_healthy(status: &Status) -> bool {
    matches!(status.word, StatusWord::Healthy | StatusWord::MostlyHealthy)
}

/// Adds to a page of metrics one sample per endpoint that is judged.
pub(crate) fn write_samples(text: &mut String, plan: &Plan) {
    let mut upstreams: Vec<_> = plan.upstreams().filter(|upstream| is_judged(upstream)).collect();
    upstreams.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    let name = "ringway_upstream_healthy";
    let _ = writeln!(text, "# HELP {name} Whether an endpoint is in use, as far as health decides");
    let _ = writeln!(text, "# TYPE {name} gauge");
    let endpoints = upstreams
        .iter()
        .flat_map(|upstream| upstream.endpoints.iter().map(move |endpoint| (upstream, endpoint)));
    // The same address may be written twice, or be that of two names; a sample may not.
    let mut written = HashSet::new();
    for (upstream, endpoint) in endpoints.take(SAMPLES_MAX) {
        if !written.insert((&upstream.id, &endpoint.text)) {
            continue;
        }
        let healthy = u8::from(is_healthy(&status(upstream, endpoint)));
        let (upstream, endpoint) = (escaped(&upstream.id), escaped(&endpoint.text));
        let _ = writeln!(text, "{name}{{upstream=\"{upstream}\",endpoint=\"{endpoint}\"}} {healthy}");
    }
    text.push('\n');
}

/// A label's value, as the text format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use balancer::endpoint::ProbeOutcome;

    use super::*;

    #[test]
    fn samples_of_endpoints() {
        let text = "[server]\nlisten = \"127.0.0.1:0\"\n\
            [[upstreams]]\nname = \"judged\"\nservers = [\"127.0.0.1:1\", \"127.0.0.1:2\", \"127.0.0.1:1\"]\n\
            checks.active = { unhealthy = { tcp_failures = 1 } }\n\
            [[upstreams]]\nname = \"plain\"\nservers = [\"127.0.0.1:3\"]\n\
            [[routes]]\nupstream = \"judged\"\n";
        let plan = crate::api::tests::plan(text);
        let judged = plan.upstream("judged").expect("compiled");
        let checks = judged.source.checks.clone().expect("written");
        let rule = checks.active.expect("written");
        let change = judged.endpoints[1].shared.probed(&rule, ProbeOutcome::Failed, 1);
        assert!(change.is_some_and(|change| !change.healthy));
        let mut page = String::new();
        write_samples(&mut page, &plan);
        let samples: Vec<&str> = page.lines().filter(|line| line.starts_with("ringway")).collect();
        let sample = |port, value| {
            format!("ringway_upstream_healthy{{upstream=\"judged\",endpoint=\"127.0.0.1:{port}\"}} {value}")
        };
        assert_eq!(samples, [sample(1, 1), sample(2, 0)]);
        assert_eq!(Arc::strong_count(&plan), 1);
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
