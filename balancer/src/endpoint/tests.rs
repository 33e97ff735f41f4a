//! What must be single over threads is: changes, trials, the last place under a cap.

use super::*;
use crate::script::Rules;
use config::balance::ActiveCheck;
use std::sync::atomic::AtomicU32;

const THREADS: usize = 4;
const SECOND: u64 = 1_000_000;

/// Runs the same on all threads at once; gives how many said yes.
fn at_once(what: impl Fn() -> bool + Sync) -> u32 {
    let yes = AtomicU32::new(0);
    let start = std::sync::Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                yes.fetch_add(u32::from(what()), Relaxed);
            });
        }
    });
    yes.into_inner()
}

/// Over many rounds of going out, trying and coming back: each change is reported by one thread, each trial
/// taken by as many as there are.
fn check(rules: &str, rest: u64, trials: u32) {
    let rules = Rules::new(rules).health();
    let endpoint = SharedEndpoint::new(THREADS);
    let mut now = SECOND;
    for round in 0..200 {
        let ends = |outcome, trial| {
            (0..5).any(|_| endpoint.finished(&rules, outcome, trial, now, &|| true).is_some())
        };
        assert_eq!(at_once(|| ends(Outcome::Failed, false)), 1, "round {round} goes out");
        assert!(endpoint.is_out(&rules));
        now += rest;
        let claims = || (0..5).filter(|_| endpoint.claim_trial(&rules, now)).count();
        let claimed = AtomicU32::new(0);
        at_once(|| claimed.fetch_add(claims() as u32, Relaxed) > 0);
        assert_eq!(claimed.into_inner(), trials, "round {round} claims");
        let changes = (0..trials)
            .filter(|_| endpoint.finished(&rules, Outcome::Status(200), true, now, &|| true).is_some());
        assert_eq!(changes.count(), 1, "round {round} comes back");
        assert!(!endpoint.is_out(&rules));
        // Far enough that no ejection is in a row with the last.
        now += 1000 * SECOND;
    }
}

#[test]
fn changes_and_trials_are_single_over_threads() {
    check("max_fails=3", 10 * SECOND, 1);
    check("passive", 10 * SECOND, 1);
    check("outlier o.min=4", 30 * SECOND, 1);
    check("breaker b.min=4", 5 * SECOND, 3);
    check("max_fails=3 breaker b.min=400", 10 * SECOND, 1);
}

#[test]
fn the_last_place_is_taken_once() {
    let rules = Rules::new("outlier o.min=4").health();
    for round in 0..200 {
        let endpoints: Vec<_> = (0..THREADS).map(|_| SharedEndpoint::new(1)).collect();
        let next = AtomicU32::new(0);
        let none_is_out = || endpoints.iter().all(|endpoint| !endpoint.is_out(&rules));
        at_once(|| {
            let mine = &endpoints[next.fetch_add(1, Relaxed) as usize];
            (0..4).any(|_| mine.finished(&rules, Outcome::Failed, false, 1, &none_is_out).is_some())
        });
        let out = endpoints.iter().filter(|endpoint| endpoint.is_out(&rules)).count();
        assert!(out <= 1, "round {round}: {out} are out");
    }
}

#[test]
fn probes_against_traffic() {
    let rules = Rules::new("active a.successes=1 passive").health();
    let endpoint = SharedEndpoint::new(THREADS);
    let rule = Rules::new("active a.successes=1");
    let rule = rule.active().expect("active checks");
    for round in 0..200 {
        let fails = || {
            let end = || endpoint.finished(&rules, Outcome::Failed, false, round, &|| true);
            (0..5).any(|_| end().is_some())
        };
        assert_eq!(at_once(fails), 1, "round {round} goes out");
        let change = endpoint.probed(rule, ProbeOutcome::Ok, round);
        assert_eq!(change, Some(Change { healthy: true, by: By::Active }), "round {round}");
    }
}

#[test]
fn slow_start_begins_when_it_comes_back() {
    let rules = Rules::new("max_fails=1 breaker b.min=1 b.trials=1").health();
    let endpoint = SharedEndpoint::new(1);
    assert_eq!(endpoint.up_since(), 0);
    endpoint.begins_slowly(0);
    assert_eq!(endpoint.up_since(), 1);
    endpoint.finished(&rules, Outcome::Failed, false, SECOND, &|| true);
    assert!(endpoint.claim_trial(&rules, 20 * SECOND));
    endpoint.finished(&rules, Outcome::Status(200), true, 21 * SECOND, &|| true);
    assert_eq!((endpoint.up_since(), endpoint.usable(&rules, 21 * SECOND)), (21 * SECOND, Usable::Yes));
    let rule = ActiveCheck::default();
    assert_eq!(endpoint.probed(&rule, ProbeOutcome::Ok, 22 * SECOND), None);
    assert_eq!(endpoint.up_since(), 21 * SECOND);
}
