//! The language of the health tests: rules as words, then what happens and what must hold, by the second.
//!
//! Rules: `max_fails=2 fail_timeout=10 on=502 passive p.tcp=3 active a.successes=2 a.interval=0 outlier
//! o.min=4 breaker b.trials=2 ...`. A script is steps apart by `, `: a second, then words. What happens: `200`, `fail`,
//! `late`, `gone` end a try; `try:200` ends a trial; `probe:200`, `probe:ok` come from a prober; `claim` and
//! `lost` take a trial or fail to; `full` and `room` set what the ejection cap says; `rules:NAME=...` sets a rule
//! anew as a reload does (`rules:-NAME` drops it). `*n` repeats. A change it must report is its
//! last sign: `!` out, `+` back. What must hold: `yes`, `trial`, `rest`, `open`, `out`, `in`, and a status word.

use std::time::Duration;

use config::balance::{ActiveCheck, Breaker, Checks, Outlier, PassiveCheck};

use crate::endpoint::{Change, Outcome, ProbeOutcome, SharedEndpoint, Usable};
use crate::health::HealthRules;
use crate::upstream::NodeSpec;

pub(crate) struct Rules {
    source: config::Upstream,
    spec: NodeSpec,
}

impl Rules {
    pub(crate) fn new(words: &str) -> Rules {
        let source = config::Upstream::of("u".into(), Vec::new(), config::Place::NOWHERE);
        let mut rules = Rules { source, spec: NodeSpec::default() };
        words.split(' ').filter(|word| !word.is_empty()).for_each(|word| rules.set(word));
        rules
    }

    pub(crate) fn health(&self) -> HealthRules {
        HealthRules::new(&self.source, &self.spec)
    }

    pub(crate) fn active(&self) -> Option<&ActiveCheck> {
        self.source.checks.as_ref()?.active.as_ref()
    }

    fn set(&mut self, word: &str) {
        let (name, value) = word.split_once('=').unwrap_or((word, "0"));
        let count = || value.parse::<u32>().expect("a count");
        let seconds = || Duration::from_secs_f64(value.parse().expect("seconds"));
        let ratio = || value.parse::<f64>().expect("a ratio");
        let checks = self.source.checks.get_or_insert(Checks { active: None, passive: None });
        match name {
            "max_fails" => self.spec.max_fails = Some(count()),
            "-max_fails" => self.spec.max_fails = None,
            "fail_timeout" => self.spec.fail_timeout = Some(seconds()),
            "on" => self.source.retry.on_statuses.push(count() as u16),
            "per_try" => self.source.retry.per_try_timeout = Some(seconds()),
            "passive" => checks.passive = Some(PassiveCheck::default()),
            "-passive" => checks.passive = None,
            "active" => checks.active = Some(ActiveCheck::default()),
            "-active" => checks.active = None,
            "outlier" => self.source.outlier = Some(Outlier::default()),
            "-outlier" => self.source.outlier = None,
            "breaker" => self.source.breaker = Some(Breaker::default()),
            "-breaker" => self.source.breaker = None,
            _ => {}
        }
        if let Some(rule) = &mut checks.passive {
            match name {
                "p.successes" => rule.successes = count(),
                "p.http" => rule.http_failures = count(),
                "p.tcp" => rule.tcp_failures = count(),
                "p.timeouts" => rule.timeouts = count(),
                _ => {}
            }
        }
        if let Some(rule) = &mut checks.active {
            match name {
                "a.successes" => rule.successes = count(),
                "a.http" => rule.http_failures = count(),
                "a.tcp" => rule.tcp_failures = count(),
                "a.timeouts" => rule.timeouts = count(),
                "a.interval" => rule.unhealthy_interval = seconds(),
                _ => {}
            }
        }
        if let Some(rule) = &mut self.source.outlier {
            match name {
                "o.ratio" => rule.error_ratio = ratio(),
                "o.interval" => rule.interval = seconds(),
                "o.min" => rule.min_requests = count(),
                "o.base" => rule.base_time = seconds(),
                "o.max" => rule.max_time = seconds(),
                _ => {}
            }
        }
        if let Some(rule) = &mut self.source.breaker {
            match name {
                "b.ratio" => rule.error_ratio = ratio(),
                "b.min" => rule.min_requests = count(),
                "b.trials" => rule.trials = count(),
                _ => {}
            }
        }
    }
}

/// Runs a script over an endpoint of these rules.
pub(crate) fn check(rules: &str, script: &str) {
    let mut run = Run { rules: Rules::new(rules), endpoint: SharedEndpoint::new(2), room: true, now: 0 };
    for step in script.split(", ") {
        let mut words = step.split(' ');
        let seconds: f64 = words.next().and_then(|word| word.parse().ok()).expect("a second");
        run.now = (seconds * 1e6) as u64;
        for word in words {
            let (word, times) = word.split_once('*').unwrap_or((word, "1"));
            for time in 1..=times.parse::<u32>().expect("how often") {
                run.word(word, &format!("{word} (time {time}) of `{step}`, rules `{rules}`"));
            }
        }
    }
}

struct Run {
    rules: Rules,
    endpoint: SharedEndpoint,
    room: bool,
    now: u64,
}

impl Run {
    fn word(&mut self, word: &str, place: &str) {
        let bare = word.trim_end_matches(['!', '+']);
        let expected = match word.as_bytes().last() {
            Some(b'!') => Some(false),
            Some(b'+') => Some(true),
            _ => None,
        };
        let rules = self.rules.health();
        let change = match bare.split_once(':') {
            Some(("rules", rule)) => {
                self.rules.set(rule);
                None
            }
            Some(("try", end)) => self.finished(&rules, outcome(end).expect("an outcome"), true),
            Some(("probe", end)) => self.probed(end),
            _ => match outcome(bare) {
                Some(end) => self.finished(&rules, end, false),
                None => {
                    self.holds(&rules, bare, place);
                    None
                }
            },
        };
        assert_eq!(change.map(|change| change.healthy), expected, "{place}");
    }

    fn finished(&self, rules: &HealthRules, end: Outcome, trial: bool) -> Option<Change> {
        self.endpoint.finished(rules, end, trial, self.now, &|| self.room)
    }

    fn probed(&self, end: &str) -> Option<Change> {
        let outcome = match end {
            "ok" => ProbeOutcome::Ok,
            "fail" => ProbeOutcome::Failed,
            "late" => ProbeOutcome::TimedOut,
            status => ProbeOutcome::Status(status.parse().expect("a status")),
        };
        self.endpoint.probed(self.rules.active().expect("active checks"), outcome, self.now)
    }

    fn holds(&mut self, rules: &HealthRules, word: &str, place: &str) {
        let usable = self.endpoint.usable(rules, self.now);
        let holds = match word {
            "full" | "room" => {
                self.room = word == "room";
                true
            }
            "yes" => usable == Usable::Yes,
            "trial" => usable == Usable::Trial,
            "rest" => usable == Usable::Resting,
            "open" => matches!(usable, Usable::Open { until } if until > self.now),
            "claim" => self.endpoint.claim_trial(rules, self.now),
            "lost" => !self.endpoint.claim_trial(rules, self.now),
            "out" => self.endpoint.is_out(rules),
            "in" => !self.endpoint.is_out(rules),
            status => self.endpoint.status(rules, self.now).word.as_str() == status,
        };
        assert!(holds, "{place}: it is {usable:?}, {:?}", self.endpoint.status(rules, self.now));
    }
}

fn outcome(word: &str) -> Option<Outcome> {
    Some(match word {
        "fail" => Outcome::Failed,
        "late" => Outcome::TimedOut,
        "gone" => Outcome::Cancelled,
        status => Outcome::Status(status.parse().ok()?),
    })
}
