//! Scripts for the rules of a pick: tiers, health, weights, drain, limits, slow start, panic, sessions, reloads.

use std::sync::Arc;
use std::time::Duration;

use config::balance::{ActiveCheck, Breaker, Checks, ProbeKind};
use config::upstream::Kind;

use super::*;
use crate::endpoint::{Outcome, ProbeOutcome, SharedEndpoint};

mod lives;

const SECOND: u64 = 1_000_000;

/// Upstreams by words: `chash`, `panic=0.5`, `active` (one probe decides), `breaker` (one error opens it for 5 s,
/// one trial closes it), `fails` (`max_fails=1 fail_timeout=10`), `slow=10`.
fn source(words: &str) -> config::Upstream {
    let mut source = config::Upstream::of("u".into(), Vec::new(), config::Place::NOWHERE);
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').unwrap_or((word, "0"));
        match name {
            "roundrobin" => source.kind = Kind::RoundRobin,
            "least_conn" => source.kind = Kind::LeastConn,
            "chash" => source.kind = Kind::Chash,
            "maglev" => source.kind = Kind::Maglev,
            "random" => source.kind = Kind::Random,
            "p2c" => source.kind = Kind::P2c,
            "ewma" => source.kind = Kind::Ewma,
            "ip_hash" => source.kind = Kind::IpHash,
            "panic" => source.panic_threshold = value.parse().expect("a share"),
            "active" => source.checks = Some(Checks { active: Some(active()), passive: None }),
            "breaker" => {
                source.breaker = Some(Breaker {
                    error_ratio: 0.5,
                    window: Duration::from_secs(10),
                    min_requests: 1,
                    open: Duration::from_secs(5),
                    trials: 1,
                });
            }
            "slow" => source.slow_start = Duration::from_secs(value.parse().expect("seconds")),
            "sticky" | "fails" => {}
            word => panic!("{word}"),
        }
    }
    source
}

fn active() -> ActiveCheck {
    let kind = ProbeKind::Tcp;
    ActiveCheck {
        kind,
        successes: 1,
        http_failures: 1,
        tcp_failures: 1,
        timeouts: 1,
        ..ActiveCheck::default()
    }
}

/// `5 1p1 3b 2d 1n 1c2`: the weight, then priority, `b`ackup, `d`own, drai`n`, max_`c`onns.
fn spec(words: &str, source: &config::Upstream, number: usize, text: &str) -> NodeSpec {
    let part = |letter: char| {
        let digits = text.split_once(letter)?.1;
        let end = digits.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(digits.len());
        digits[..end].parse::<i32>().ok()
    };
    let weight = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let fails = words.split(' ').any(|word| word == "fails");
    NodeSpec {
        name: format!("10.0.0.{number}:80"),
        weight: text[..weight].parse().expect("a weight"),
        priority: part('p').unwrap_or(0),
        backup: text.contains('b'),
        down: text.contains('d'),
        drain: text.contains('n'),
        max_fails: fails.then_some(1),
        fail_timeout: Some(Duration::from_secs(10)),
        max_conns: part('c').map(|conns| conns as u32),
        slow_start: source.slow_start,
    }
}

struct Bench {
    source: config::Upstream,
    rules: Arc<Rules>,
    shared: Vec<Arc<SharedEndpoint>>,
    group: Group,
    now: u64,
}

impl Bench {
    fn new(words: &str, nodes: &str) -> Bench {
        Bench::of(words, nodes, 0, 1)
    }

    fn of(words: &str, nodes: &str, worker: usize, workers: usize) -> Bench {
        let count = nodes.split(' ').count();
        let shared: Vec<_> = (0..count).map(|_| Arc::new(SharedEndpoint::new(workers))).collect();
        Bench::over(words, nodes, worker, shared, None)
    }

    fn over(
        words: &str,
        nodes: &str,
        worker: usize,
        shared: Vec<Arc<SharedEndpoint>>,
        before: Option<&Group>,
    ) -> Bench {
        let source = source(words);
        let nodes = nodes.split(' ').enumerate();
        let specs = nodes.map(|(number, text)| spec(words, &source, number, text)).collect();
        let rules = Arc::new(Rules::new(&source, specs, &[7; 32]));
        let group = Group::new(&rules, &shared, worker, 11, before);
        Bench { source, rules, shared, group, now: SECOND }
    }

    fn pick(&mut self, key: &str, sticky: Option<usize>, tried: &Tried) -> Picked {
        self.group.pick(&Ask { now: self.now, key: key.as_bytes(), sticky, tried })
    }

    fn next(&mut self, key: &str) -> usize {
        match self.pick(key, None, &Tried::new()) {
            Picked::Endpoint(index) => index,
            other => panic!("{other:?}"),
        }
    }

    fn finish(&mut self, index: usize, outcome: Outcome) {
        self.group.finish(index, outcome, 1000, self.now);
    }

    /// How often each is picked by so many requests, each over at once; keys `user-0`, `user-1`, ...
    fn counts(&mut self, requests: usize) -> Vec<usize> {
        let mut counts = vec![0; self.shared.len()];
        for request in 0..requests {
            let index = self.next(&format!("user-{request}"));
            counts[index] += 1;
            self.finish(index, Outcome::Status(200));
        }
        counts
    }

    fn probe(&mut self, index: usize, well: bool) {
        let outcome = if well { ProbeOutcome::Ok } else { ProbeOutcome::Failed };
        let checks = self.source.checks.as_ref().and_then(|checks| checks.active.as_ref());
        self.shared[index].probed(checks.expect("`active`"), outcome, self.now);
        self.group.refresh(self.now);
    }
}

/// A script of words. `ab-`: one request's tries, each answered with 200; `-` none, `F` full, `O` open.
/// `a.` stays under way until `!a`; `a:fail`, `a:500` end so. `~b:a` carries b's cookie. `@10` is a time,
/// `+a` and `x` with a letter (`xa`) are probes that find it well and ill.
fn check(words: &str, nodes: &str, script: &str) {
    let mut bench = Bench::new(words, nodes);
    let index = |word: &str| usize::from(word.as_bytes()[0] - b'a');
    for word in script.split(' ') {
        let context = || format!("{words} | {nodes} | {script}: {word}");
        if let Some(second) = word.strip_prefix('@') {
            bench.now = (second.parse::<f64>().expect("a second") * SECOND as f64) as u64 + SECOND;
        } else if let Some(letter) = word.strip_prefix('!') {
            bench.finish(index(letter), Outcome::Status(200));
        } else if let Some(letter) = word.strip_prefix('+') {
            bench.probe(index(letter), true);
        } else if let Some(letter) = word.strip_prefix('x') {
            bench.probe(index(letter), false);
        } else if let Some(pair) = word.strip_prefix('~') {
            let (cookie, expected) = pair.split_once(':').expect("~a:b");
            let picked = bench.pick("", Some(index(cookie)), &Tried::new());
            assert_eq!(picked, Picked::Endpoint(index(expected)), "{}", context());
            if !expected.ends_with('.') {
                bench.finish(index(expected), Outcome::Status(200));
            }
        } else {
            let (tries, outcome) = word.split_once(':').unwrap_or((word, "200"));
            let mut tried = Tried::new();
            let got: String = tries
                .trim_end_matches('.')
                .chars()
                .map(|_| match bench.pick("", None, &tried) {
                    Picked::Endpoint(index) => {
                        tried.add(index);
                        if !tries.ends_with('.') {
                            let outcome = match outcome {
                                "fail" => Outcome::Failed,
                                status => Outcome::Status(status.parse().expect("a status")),
                            };
                            bench.finish(index, outcome);
                        }
                        char::from(b'a' + index as u8)
                    }
                    Picked::None => '-',
                    Picked::Full => 'F',
                    Picked::Open(_) => 'O',
                })
                .collect();
            assert_eq!(got, tries.trim_end_matches('.'), "{}", context());
        }
    }
}

#[test]
fn tiers_and_weights() {
    check("", "1 1", "a b a b");
    check("", "1 1 1", "abc- bac-");
    check("", "1", "aaa");
    check("", "1 1d", "aaa");
    check("", "1d", "-");
    check("", "2 1", "a a b a a b");
    check("", "1 1b", "a a ab- a");
    check("", "1 1p1", "b b ba- b");
    check("", "1p-1 1b 1", "c c cba-");
    check("", "1p1 1p1b 1", "a abc- a");
    check("", "0 1", "b b ba- b");
    check("", "0 0", "a b a ba-");
    check("", "0p5 1", "b ba-");
    check("", "0 1b", "b ba-");
    check("", "0 1d", "aa");
    check("", "0d 1d", "-");
    check("least_conn", "1 1 1", "a b c a b c");
    check("least_conn", "1 1 1", "a. b. c. !b b. !c !a a c");
    check("least_conn", "1 1b", "a. a. a. ab-");
}

#[test]
fn health() {
    check("active", "1 1", "xa b b +a a b");
    check("active", "1 1b", "xa b b +a a");
    check("active", "1 0", "xa b b +a a");
    check("active", "1 1 1", "xa xb c c c- +b bc- +a cab-");
    check("active least_conn", "1 1 1", "xa b. c. b. c. +a a. a.");
    // None is well: all are used, in their tiers.
    check("active", "1 1", "xa xb a b a +a a a");
    check("active", "1 1b", "xa xb a a ab- +b b b");
    check("active", "1 1 1d", "xa xb ab-");
    check("active", "1", "xa a a");
    // The only one that was not tried is out, another is well: no try at it.
    check("active", "1 1", "xa b- b-");
}

#[test]
fn panic_threshold() {
    check("active panic=0.5", "1 1 1 1", "xa xb c d c d xc a b c d +a a d a d");
    check("active panic=0.5", "1 1 1b 1b", "xa xb c d xc a b");
    check("active panic=1", "1 1", "xa a b");
    check("active", "1 1 1 1", "xa xb xc d d d");
}

#[test]
fn trials() {
    check("fails", "1 1", "a:fail b b @9.9 b @10.1 a. b b !a a b");
    check("fails", "1 1", "a:fail @10.1 b a:fail b b @20 b @20.2 a");
    check("fails", "1", "a:fail a a");
    check("fails", "1 1", "ab:fail b a");
    check("fails least_conn", "1 1", "a:fail b. b. @10.1 a. b. b. !a a.");
    // A try that began before the rest and fails after the trial began is not the trial.
    check("fails", "1 1b", "a. a:fail b @10.1 a. b");
}

#[test]
fn circuits_are_never_overruled() {
    check("breaker", "1 1", "a:500 b b b- b:500 O O @4.9 O @5 a. b. O !a a a");
    check("breaker", "1", "a:fail O @4.9 O @5.1 a. O O !a a a");
    check("breaker", "1", "a:fail @5.1 a:fail O @10 O @10.2 a");
    check("breaker", "1 1b", "a:500 b b:500 O");
    check("breaker active", "1 1", "a:500 xb b b");
    let mut bench = Bench::new("breaker", "1 1");
    for _ in 0..2 {
        let index = bench.next("");
        bench.finish(index, Outcome::Failed);
        bench.now += SECOND;
    }
    let picked = bench.pick("", None, &Tried::new());
    assert_eq!(picked, Picked::Open(Duration::from_secs(3)));
}

#[test]
fn max_conns() {
    check("", "1c1 1c2", "a. b. b. F F !b b. F !a a. F");
    check("", "1c1", "a. F !a a. F");
    check("", "1c0", "a. a. a.");
    // The next tier is for when this one failed, not for when it is busy.
    check("", "1c1 1b", "a. F !a ab-");
    check("", "1c1 0", "a. F");
    check("active", "1c1 1", "a. b. b. b. xb F F +b b.");
    check("active", "1c1 1b", "a. F xa b. +a F !a a.");
    check("fails", "1c1 1", "a:fail b. @10.1 a. b. b. !a a. b.");
    for policy in ["roundrobin", "least_conn", "chash", "maglev", "random", "p2c", "ewma", "ip_hash"] {
        let mut bench = Bench::new(policy, "1c3 1c3 1c3");
        (0..9).for_each(|_| assert!(bench.next("k") < 3, "{policy}"));
        assert_eq!(bench.pick("k", None, &Tried::new()), Picked::Full, "{policy}");
        bench.finish(1, Outcome::Failed);
        assert_eq!(bench.next("k"), 1, "{policy}");
        assert_eq!(bench.pick("k", None, &Tried::new()), Picked::Full, "{policy}");
    }
}

#[test]
fn max_conns_over_workers() {
    let mut first = Bench::of("", "1c1 1c1", 0, 2);
    let mut second = Bench::over("", "1c1 1c1", 1, first.shared.clone(), None);
    let (a, b) = (first.next(""), second.next(""));
    assert_ne!(a, b);
    assert_eq!(first.pick("", None, &Tried::new()), Picked::Full);
    assert_eq!(second.pick("", None, &Tried::new()), Picked::Full);
    second.finish(b, Outcome::Cancelled);
    // At once, not at the next look.
    assert_eq!(first.next(""), b);
    assert_eq!(second.pick("", None, &Tried::new()), Picked::Full);
}

#[test]
fn drain_and_sessions() {
    check("sticky", "1 1n", "a a ~b:b ~b:b a aa");
    check("sticky", "1 1 1", "~c:c ~c:c a b c ~c:c");
    check("sticky", "1 1d", "~b:a");
    check("sticky", "1 1b", "~b:b ~b:b a");
    check("sticky", "1 0", "~b:b a");
    check("sticky active", "1 1", "xb ~b:a +b ~b:b");
    check("sticky active", "1 1n", "xb ~b:a a +b ~b:b");
    check("sticky", "1 1c1", "~b:b. ~b:a !b ~b:b");
    check("sticky fails", "1 1", "a b:fail ~b:a @10.1 ~b:b. ~b:a !b ~b:b");
    check("sticky breaker", "1 1", "a b:fail ~b:a @5.1 ~b:b");
    check("sticky active", "1 1", "xa xb ~b:b ~a:a");
    check("sticky", "1n", "- ~a:a");
    let mut bench = Bench::new("sticky", "1 1 1n");
    let mut tried = Tried::new();
    tried.add(2);
    assert!(matches!(bench.pick("", Some(2), &tried), Picked::Endpoint(0 | 1)));
    assert!(matches!(bench.pick("", Some(99), &tried), Picked::Endpoint(0 | 1)));
}

#[test]
fn untried() {
    let unasked = Bench::of("", "1 1 0 1b 1d 1n", 1, 1).group;
    let mut tried = Tried::new();
    assert_eq!(unasked.untried(&tried), 4);
    tried.add(3);
    tried.add(0);
    assert_eq!(unasked.untried(&tried), 2);
    let mut only = Bench::new("", "1");
    assert_eq!((only.group.untried(&tried), only.pick("", None, &tried)), (1, Picked::Endpoint(0)));
}

#[test]
fn slow_start() {
    for policy in ["roundrobin", "least_conn", "chash", "maglev", "random", "p2c", "ip_hash"] {
        let words = format!("{policy} active slow=100");
        let mut bench = Bench::new(&words, "1 1 1 1");
        // Those of the first plan are not slow.
        let first = bench.counts(2000);
        assert!(first.iter().all(|count| (350..650).contains(count)), "{policy} {first:?}");
        bench.probe(0, false);
        bench.probe(0, true);
        bench.now += 20 * SECOND;
        // A fifth of its turns: of a fourth of the requests, a quarter of what others have.
        let early = bench.counts(8000)[0];
        assert!((200..900).contains(&early), "{policy} {early}");
        bench.now += 80 * SECOND;
        let late = bench.counts(2000)[0];
        assert!((350..650).contains(&late), "{policy} {late}");
        // It is the only one: no request waits for its warmth.
        (1..4).for_each(|index| bench.probe(index, false));
        bench.probe(0, false);
        bench.probe(0, true);
        assert_eq!(bench.counts(50)[0], 50, "{policy}");
    }
    let mut bench = Bench::new("active slow=100", "1 1b");
    bench.probe(0, false);
    bench.probe(0, true);
    assert_eq!(bench.counts(50), [50, 0], "the tier below is not for slow starts");
}

#[test]
fn what_comes_with_a_reload_starts_slowly() {
    let mut before = Bench::new("slow=100", "1 1");
    before.counts(10);
    let mut shared = before.shared.clone();
    shared.push(Arc::new(SharedEndpoint::new(1)));
    let mut after = Bench::over("slow=100", "1 1 1", 0, shared, Some(&before.group));
    let early = after.counts(3000);
    assert!(early[2] < 120 && early[0].abs_diff(early[1]) < 60, "{early:?}");
    after.now += 100 * SECOND;
    assert_eq!(after.counts(300), [100, 100, 100]);
    // All are new: nobody is warmer.
    let shared = (0..2).map(|_| Arc::new(SharedEndpoint::new(1))).collect();
    let mut others = Bench::over("slow=100", "1 1", 0, shared, Some(&after.group));
    assert_eq!(others.counts(100), [50, 50]);
}

#[test]
fn turns_and_loads_outlive_reloads() {
    let mut before = Bench::new("", "1 1 1");
    assert_eq!(before.next(""), 0);
    let mut after = Bench::over("", "1 1 1", 0, before.shared.clone(), Some(&before.group));
    assert_eq!((after.next(""), after.next(""), after.next("")), (1, 2, 0));

    let mut before = Bench::new("least_conn", "1 1");
    let picks: Vec<usize> = (0..4).map(|_| before.next("")).collect();
    assert_eq!(picks, [0, 1, 0, 1]);
    // In another order, with one more: it has nothing under way.
    let fresh = Arc::new(SharedEndpoint::new(1));
    let shared = vec![fresh, before.shared[1].clone(), before.shared[0].clone()];
    let mut after = Bench::over("least_conn", "1 1 1", 0, shared, Some(&before.group));
    assert_eq!((after.next(""), after.next("")), (0, 0));
    // Tries that began before the reload end in the group that began them.
    before.finish(0, Outcome::Status(200));
    before.finish(0, Outcome::Status(200));
    assert_eq!((after.next(""), after.next("")), (2, 2));
    // A group whose endpoints are gone tells nobody anything.
    before.finish(1, Outcome::Status(200));
    let gone = Bench::over("least_conn", "1", 0, vec![Arc::new(SharedEndpoint::new(1))], Some(&after.group));
    after.finish(1, Outcome::Status(200));
    let mut gone = gone;
    assert_eq!(gone.next(""), 0);
}

#[test]
fn exact_and_apart_over_workers() {
    for (nodes, requests, due) in [("1 1", 12, vec![6, 6]), ("3 2 1", 12, vec![6, 4, 2])] {
        let mut total = vec![0; due.len()];
        for worker in 0..2 {
            let mut bench = Bench::of("", nodes, worker, 2);
            for (sum, count) in total.iter_mut().zip(bench.counts(requests / 2)) {
                *sum += count;
            }
            let all = bench.counts(600);
            let exact: Vec<usize> = due.iter().map(|part| part * 50).collect();
            assert_eq!(all, exact, "{nodes} on worker {worker}");
        }
        let off = total.iter().zip(&due).map(|(got, due)| got.abs_diff(*due)).max();
        assert!(off <= Some(1), "{nodes}: {total:?}");
    }
    let firsts: Vec<usize> = (0..2).map(|worker| Bench::of("", "1 1", worker, 2).next("")).collect();
    assert_ne!(firsts[0], firsts[1]);
}

#[test]
fn least_conn_over_workers() {
    let mut first = Bench::of("least_conn", "1 1 1", 0, 2);
    let mut second = Bench::over("least_conn", "1 1 1", 1, first.shared.clone(), None);
    let busy = second.next("");
    assert!(second.group.publish(second.now), "it has a request under way");
    first.now += 5_000;
    let picks = [first.next(""), first.next("")];
    assert!(!picks.contains(&busy) && picks[0] != picks[1], "{busy} {picks:?}");
    second.finish(busy, Outcome::Status(200));
    assert!(second.group.publish(second.now), "that it ended was news");
    assert!(!second.group.publish(second.now));
    // Ten milliseconds later at most, however seldom it publishes itself.
    first.now += 5_000;
    assert_eq!(first.next(""), busy);
    assert!(!first.rules.wants_key() && first.rules.wants_loads());
    let mut alone = Bench::of("least_conn", "1 1", 0, 1);
    alone.next("");
    assert!(!alone.group.publish(0), "there is nobody to tell");
}

#[test]
fn shares_by_weight() {
    for policy in ["random", "p2c", "ewma", "maglev", "chash"] {
        let mut bench = Bench::new(policy, "30 20 10");
        let counts = bench.counts(12_000);
        for (count, due) in counts.iter().zip([6000, 4000, 2000]) {
            assert!(count.abs_diff(due) * 5 < due, "{policy} {counts:?}");
        }
    }
}

#[test]
fn a_failure_moves_only_its_own_keys() {
    for policy in ["chash", "maglev", "ip_hash"] {
        let mut bench = Bench::new(&format!("{policy} active"), "2 1 1 3");
        let keys: Vec<String> =
            (0..2000).map(|number| format!("10.1.{}.{}", number / 50, number % 50)).collect();
        let homes: Vec<usize> = keys.iter().map(|key| bench.next(key)).collect();
        bench.probe(3, false);
        let mut moved = [0; 4];
        for (key, home) in keys.iter().zip(&homes) {
            let index = bench.next(key);
            assert!(index == *home || *home == 3, "{policy} {key}");
            moved[index] += usize::from(*home == 3);
        }
        assert!(moved[..3].iter().all(|count| *count > 50) && moved[3] == 0, "{policy} {moved:?}");
        // A further try goes where the key goes when its node is out.
        bench.probe(3, true);
        for (key, home) in keys.iter().zip(&homes) {
            let mut tried = Tried::new();
            tried.add(*home);
            let next = bench.pick(key, None, &tried);
            tried.clear();
            assert_eq!(bench.pick(key, None, &tried), Picked::Endpoint(*home));
            assert_ne!(next, Picked::Endpoint(*home));
        }
    }
}

#[test]
fn another_is_one_that_may_be_used() {
    let check = |words: &str, nodes: &str, out: &[usize], tried: &[usize], expected: bool| {
        let mut bench = Bench::new(words, nodes);
        bench.next("");
        bench.finish(0, Outcome::Cancelled);
        out.iter().for_each(|index| bench.probe(*index, false));
        let mut set = Tried::new();
        tried.iter().for_each(|index| set.add(*index));
        assert_eq!(bench.group.has_another(&set, bench.now), expected, "{nodes} {out:?} {tried:?}");
    };
    check("active", "1 1", &[], &[0], true);
    check("active", "1 1", &[1], &[0], false);
    check("active", "1 1 1", &[1], &[0], true);
    check("active", "1 1b", &[], &[0], true);
    check("active", "1 1d", &[], &[0], true); // an only one is picked again
    check("active", "1 1", &[], &[0, 1], false);
}

/// A node that fails at once gets its share of first tries, as any, and what it leaves is spread evenly.
#[test]
fn further_tries_take_no_turn() {
    let check = |policy: &str, nodes: &str, expected: &[(usize, usize)]| {
        let mut bench = Bench::new(policy, nodes);
        let mut counts = vec![(0, 0); expected.len()];
        for _ in 0..60 {
            let first = bench.next("");
            counts[first].0 += 1;
            bench.finish(first, Outcome::Status(200));
            if first == 0 {
                let mut tried = Tried::new();
                tried.add(first);
                let Picked::Endpoint(second) = bench.pick("", None, &tried) else { panic!("another") };
                counts[second].1 += 1;
                bench.finish(second, Outcome::Status(200));
            }
        }
        assert_eq!(counts, expected, "{policy} {nodes}");
    };
    for policy in ["roundrobin", "least_conn"] {
        check(policy, "1 1", &[(30, 0), (30, 30)]);
        check(policy, "1 1 1", &[(20, 0), (20, 10), (20, 10)]);
    }
    check("roundrobin", "1 2 1", &[(15, 0), (30, 10), (15, 5)]);
}
