//! When each endpoint is probed: plain decisions, without sockets, clocks or chance of their own.
//!
//! Every endpoint is on its own schedule: the interval of its present health, give or take a tenth, so that the
//! probes of many gateways and endpoints do not fall into step. New ones begin at once while they are few, and spread
//! over their first interval beyond that. Two bounds hold: so many probes at once for the process, and as many as an
//! upstream allows (`concurrency`); what is due above that waits its turn, first come, first served.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Probes under way at once, over all upstreams.
pub(super) const PROBES_MAX: usize = 256;
/// Between probes of an endpoint that live traffic fails at.
const HURRY_GAP: Duration = Duration::from_millis(20);
/// Over so long at most: whoever probes once an hour wants to know sooner than that what is there.
const SPREAD_MAX: Duration = Duration::from_secs(5);
/// So many new endpoints are probed at once; more are spread over their first interval.
pub(super) const AT_ONCE: usize = 32;
/// How far an interval is stretched or cut at most, as a share of it.
const JITTER: f64 = 0.1;

/// What a schedule knows an endpoint by.
pub(super) type Key = usize;

/// How often an endpoint is probed. An interval of zero sends no probe in that state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Its upstream's id.
    pub upstream: Arc<str>,
    /// Probes of this upstream at once.
    pub concurrency: usize,
    /// While it is healthy.
    pub healthy: Duration,
    /// While it is not.
    pub unhealthy: Duration,
}

impl Pace {
    fn interval(&self, healthy: bool) -> Duration {
        if healthy {
            self.healthy
        } else {
            self.unhealthy
        }
    }
}

/// Where an endpoint is in its round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Its interval is zero.
    Never,
    /// To be probed then.
    At(Instant),
    /// Due, but its upstream has enough probes under way.
    Waiting,
    /// Under way.
    Running,
}

struct Entry {
    pace: Pace,
    healthy: bool,
    turn: Turn,
    /// When its last probe began.
    last: Option<Instant>,
}

#[derive(Default)]
struct Group {
    concurrency: usize,
    running: usize,
    waiting: VecDeque<Key>,
}

struct Running {
    upstream: Arc<str>,
    since: Instant,
}

/// See the module.
pub(super) struct Schedule {
    entries: HashMap<Key, Entry>,
    groups: HashMap<Arc<str>, Group>,
    running: HashMap<Key, Running>,
    queue: BTreeSet<(Instant, Key)>,
    chance: u64,
}

impl Schedule {
    /// An empty one. `seed` decides the jitter.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            entries: HashMap::new(),
            groups: HashMap::new(),
            running: HashMap::new(),
            queue: BTreeSet::new(),
            chance: seed,
        }
    }

    /// From now on these endpoints and no others, with their health. Those that stay keep their place.
    pub(super) fn set(&mut self, wanted: Vec<(Key, Pace, bool)>, now: Instant) {
        let mut before = std::mem::take(&mut self.entries);
        let mut groups = std::mem::take(&mut self.groups);
        let mut fresh = Vec::new();
        for (key, pace, healthy) in wanted {
            let old = groups.remove(&pace.upstream);
            let group = self.groups.entry(pace.upstream.clone()).or_insert_with(|| old.unwrap_or_default());
            group.concurrency = pace.concurrency.max(1);
            match before.remove(&key) {
                Some(entry) => {
                    let same = entry.pace == pace;
                    self.entries.insert(key, Entry { pace, ..entry });
                    if !same || entry.healthy != healthy {
                        self.reconsider(key, healthy, now);
                    }
                }
                None => {
                    let turn = if self.running.contains_key(&key) { Turn::Running } else { Turn::Never };
                    if turn == Turn::Never && !pace.interval(healthy).is_zero() {
                        fresh.push(key);
                    }
                    self.entries.insert(key, Entry { pace, healthy, turn, last: None });
                }
            }
        }
        let entries = &self.entries;
        self.queue.retain(|(_, key)| entries.contains_key(key));
        for (upstream, group) in &mut self.groups {
            group.waiting.retain(|key| entries.get(key).is_some_and(|entry| entry.turn == Turn::Waiting));
            group.running = self.running.values().filter(|running| running.upstream == *upstream).count();
        }
        self.begin(&fresh, now);
        self.serve_waiting(now);
    }

    /// The health of an endpoint may have changed by something else than a probe.
    pub(super) fn health(&mut self, key: Key, healthy: bool, now: Instant) {
        if self.entries.get(&key).is_some_and(|entry| entry.healthy != healthy) {
            self.reconsider(key, healthy, now);
        }
    }

    /// Live traffic failed at an endpoint that counts as healthy: its next probe comes now, or [`HURRY_GAP`] after
    /// the last began. What the probe finds counts as any other's result.
    pub(super) fn hurry(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.entries.get(&key) else { return };
        let Turn::At(due) = entry.turn else { return };
        let soonest = entry.last.map_or(now, |last| (last + HURRY_GAP).max(now));
        if entry.healthy && soonest < due {
            self.plan(key, Some(soonest));
        }
    }

    /// The next endpoint to probe now, if one may be; it is under way then, until [`ended`](Self::ended).
    pub(super) fn take(&mut self, now: Instant) -> Option<Key> {
        while self.running.len() < PROBES_MAX {
            let (due, key) = *self.queue.first()?;
            if due > now {
                return None;
            }
            self.queue.remove(&(due, key));
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let upstream = entry.pace.upstream.clone();
            let Some(group) = self.groups.get_mut(&upstream) else { continue };
            if group.running >= group.concurrency {
                entry.turn = Turn::Waiting;
                group.waiting.push_back(key);
                continue;
            }
            entry.turn = Turn::Running;
            group.running += 1;
            self.running.insert(key, Running { upstream, since: now });
            return Some(key);
        }
        None
    }

    /// A probe has ended, and its endpoint is now healthy or not.
    pub(super) fn ended(&mut self, key: Key, healthy: bool, now: Instant) {
        let Some(running) = self.running.remove(&key) else { return };
        if let Some(group) = self.groups.get_mut(&running.upstream) {
            group.running = group.running.saturating_sub(1);
            if let Some(next) = group.waiting.pop_front() {
                self.plan(next, Some(now));
            }
        }
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.healthy = healthy;
        entry.last = Some(running.since);
        let interval = entry.pace.interval(healthy);
        let next = (!interval.is_zero()).then(|| (running.since + self.jittered(interval)).max(now));
        self.plan(key, next);
    }

    /// When [`take`](Self::take) has something next; `None` while nothing can be taken before a probe ends.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.running.len() < PROBES_MAX).then(|| self.queue.first().map(|(due, _)| *due))?
    }

    /// The first probes of endpoints that are new.
    fn begin(&mut self, fresh: &[Key], now: Instant) {
        let late = fresh.len().saturating_sub(AT_ONCE);
        for (place, key) in fresh.iter().enumerate() {
            let Some(entry) = self.entries.get(key) else { continue };
            let interval = entry.pace.interval(entry.healthy).min(SPREAD_MAX);
            let share = (place + 1).saturating_sub(AT_ONCE) as f64 / (late + 1) as f64;
            self.plan(*key, Some(now + interval.mul_f64(share)));
        }
    }

    /// Another pace or another health: sooner if that says so, never later than it was to be.
    fn reconsider(&mut self, key: Key, healthy: bool, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.healthy = healthy;
        let (turn, interval) = (entry.turn, entry.pace.interval(healthy));
        match turn {
            // Its end, or its turn, decides anew.
            Turn::Running | Turn::Waiting => {}
            Turn::Never | Turn::At(_) if interval.is_zero() => self.plan(key, None),
            Turn::Never => {
                let next = now + self.jittered(interval);
                self.plan(key, Some(next));
            }
            Turn::At(due) => {
                let next = due.min(now + self.jittered(interval));
                self.plan(key, Some(next));
            }
        }
    }

    /// Those who wait in an upstream that has room now, after a change of its `concurrency`.
    fn serve_waiting(&mut self, now: Instant) {
        let mut next = Vec::new();
        for group in self.groups.values_mut() {
            let room = group.concurrency.saturating_sub(group.running).min(group.waiting.len());
            next.extend(group.waiting.drain(..room));
        }
        for key in next {
            self.plan(key, Some(now));
        }
    }

    fn plan(&mut self, key: Key, at: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if let Turn::At(due) = entry.turn {
            self.queue.remove(&(due, key));
        }
        entry.turn = at.map_or(Turn::Never, Turn::At);
        if let Some(at) = at {
            self.queue.insert((at, key));
        }
    }

    /// SplitMix64: good enough to keep probes apart.
    fn jittered(&mut self, interval: Duration) -> Duration {
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let share = (z >> 11) as f64 / (1u64 << 53) as f64;
        interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(upstream: &str, concurrency: usize, healthy: u64, unhealthy: u64) -> Pace {
        let seconds = Duration::from_secs;
        Pace {
            upstream: upstream.into(),
            concurrency,
            healthy: seconds(healthy),
            unhealthy: seconds(unhealthy),
        }
    }

    fn taken(schedule: &mut Schedule, now: Instant) -> Vec<Key> {
        std::iter::from_fn(|| schedule.take(now)).collect()
    }

    /// The seconds until the next probe of one endpoint that was probed at 0 and found (un)healthy.
    fn check_next(
        healthy: u64,
        unhealthy: u64,
        found_healthy: bool,
        took: f64,
        expected: Option<(f64, f64)>,
    ) {
        for seed in 0..50 {
            let start = Instant::now();
            let mut schedule = Schedule::new(seed);
            schedule.set(vec![(1, pace("u", 1, healthy, unhealthy), true)], start);
            assert_eq!(taken(&mut schedule, start), [1], "at once, seed {seed}");
            schedule.ended(1, found_healthy, start + Duration::from_secs_f64(took));
            let next = schedule.due().map(|due| (due - start).as_secs_f64());
            match (next, expected) {
                (None, None) => {}
                (Some(next), Some((least, most))) if (least..=most).contains(&next) => {}
                _ => panic!("{next:?} instead of {expected:?}, seed {seed}"),
            }
        }
    }

    #[test]
    fn intervals_by_health() {
        check_next(10, 1, true, 0.0, Some((9.0, 11.0)));
        check_next(10, 1, false, 0.0, Some((0.9, 1.1)));
        check_next(10, 0, false, 0.0, None);
        // From the beginning of the last probe, but never before its end.
        check_next(10, 1, true, 5.0, Some((9.0, 11.0)));
        check_next(10, 1, false, 3.0, Some((3.0, 3.0)));
    }

    #[test]
    fn intervals_differ() {
        let mut schedule = Schedule::new(7);
        let second = Duration::from_secs(1);
        let drawn: BTreeSet<Duration> = (0..100).map(|_| schedule.jittered(second)).collect();
        assert!(drawn.len() > 90, "{} of 100 differ", drawn.len());
        let (first, last) = (drawn.first().expect("drawn"), drawn.last().expect("drawn"));
        assert!(*last - *first > second / 10, "they use the room: {first:?} to {last:?}");
    }

    #[test]
    fn few_begin_at_once_and_many_spread() {
        let now = Instant::now();
        let wanted =
            |count: usize| (0..count).map(|key| (key, pace("u", 10_000, 10, 1), true)).collect::<Vec<_>>();
        let mut schedule = Schedule::new(1);
        schedule.set(wanted(AT_ONCE), now);
        assert_eq!(taken(&mut schedule, now).len(), AT_ONCE);
        let mut schedule = Schedule::new(1);
        schedule.set(wanted(1000), now);
        assert_eq!(taken(&mut schedule, now).len(), AT_ONCE, "no more at once");
        let times: Vec<f64> = schedule.queue.iter().map(|(due, _)| (*due - now).as_secs_f64()).collect();
        let spread = SPREAD_MAX.as_secs_f64();
        assert!(times.iter().all(|time| *time > 0.0 && *time < spread), "all soon, however long the interval");
        let early = times.iter().filter(|time| **time < spread / 2.0).count();
        assert!((450..=520).contains(&early), "evenly: {early} of {} in the first half", times.len());
    }

    #[test]
    fn failing_traffic_hurries_probes() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut schedule = Schedule::new(3);
        schedule.set(vec![(1, pace("u", 60_000, 60_000, 10), true)], start);
        assert_eq!(taken(&mut schedule, start), [1]);
        schedule.hurry(1, at(1)); // under way: its result is the answer
        schedule.ended(1, true, at(2));
        assert!(taken(&mut schedule, at(1000)).is_empty());
        schedule.hurry(1, at(5));
        assert!(taken(&mut schedule, at(15)).is_empty(), "not sooner than {HURRY_GAP:?} after the last");
        assert_eq!(taken(&mut schedule, at(20)), [1]);
        schedule.ended(1, false, at(21));
        schedule.hurry(1, at(100)); // known to be ill
        schedule.hurry(2, at(100)); // nobody's
        assert!(taken(&mut schedule, at(1000)).is_empty());
    }

    #[test]
    fn concurrency_of_an_upstream() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1);
        let mut wanted: Vec<_> = (0..5).map(|key| (key, pace("narrow", 2, 10, 1), true)).collect();
        wanted.push((9, pace("other", 1, 10, 1), true));
        schedule.set(wanted.clone(), now);
        assert_eq!(taken(&mut schedule, now), [0, 1, 9], "two of one, and the other upstream goes on");
        schedule.ended(0, true, now);
        assert_eq!(taken(&mut schedule, now), [2], "the next in turn");
        schedule.ended(9, true, now);
        assert!(taken(&mut schedule, now).is_empty(), "that was no room in the narrow one");
        for entry in &mut wanted[..5] {
            entry.1.concurrency = 4;
        }
        schedule.set(wanted, now);
        assert_eq!(taken(&mut schedule, now), [3, 4], "a wider one serves those who wait");
    }

    #[test]
    fn the_bound_of_the_process() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1);
        let later = now + Duration::from_secs(60);
        schedule.set((0..1000).map(|key| (key, pace("u", 10_000, 10, 1), true)).collect(), now);
        assert_eq!(taken(&mut schedule, later).len(), PROBES_MAX);
        assert_eq!(schedule.due(), None, "nothing to wake up for before one ends");
        let ended = *schedule.running.keys().next().expect("under way");
        schedule.ended(ended, true, later);
        assert!(schedule.due().is_some_and(|due| due <= later));
        assert_eq!(taken(&mut schedule, later).len(), 1);
    }

    #[test]
    fn what_stays_keeps_its_schedule() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut schedule = Schedule::new(1);
        schedule.set(vec![(1, pace("u", 9, 100, 1), true), (2, pace("u", 9, 100, 1), true)], start);
        taken(&mut schedule, start);
        schedule.ended(1, true, start);
        let due = schedule.due().expect("planned");
        // 2 goes while it is probed, 3 comes.
        schedule.set(vec![(1, pace("u", 9, 100, 1), true), (3, pace("u", 9, 100, 1), true)], at(10));
        assert_eq!(taken(&mut schedule, at(10)), [3], "the new one at once");
        schedule.ended(2, true, at(10));
        schedule.ended(3, true, at(10));
        assert_eq!(schedule.due(), Some(due), "1 as it was");
        assert_eq!(schedule.groups[&Arc::from("u")].running, 0);
        // A shorter interval counts from now on.
        schedule.set(vec![(1, pace("u", 9, 5, 1), true)], at(20));
        assert!(schedule.due().is_some_and(|due| due < at(26)));
        // 2 comes back while 1 is under way; gone for good, nothing is left.
        taken(&mut schedule, at(40));
        schedule.set(Vec::new(), at(41));
        schedule.ended(1, true, at(41));
        assert_eq!(schedule.due(), None);
        assert!(schedule.entries.is_empty() && schedule.groups.is_empty() && schedule.running.is_empty());
    }

    #[test]
    fn one_that_goes_and_comes_under_way_is_probed_once_at_a_time() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1);
        let wanted = vec![(1, pace("u", 1, 10, 1), true)];
        schedule.set(wanted.clone(), now);
        assert_eq!(taken(&mut schedule, now), [1]);
        schedule.set(Vec::new(), now);
        schedule.set(wanted, now);
        assert!(taken(&mut schedule, now).is_empty());
        schedule.ended(1, false, now);
        assert!(schedule.due().is_some_and(|due| due > now));
    }

    /// `healthy.interval = 0`: only what live traffic took out is probed.
    #[test]
    fn health_found_by_others() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1);
        schedule.set(vec![(1, pace("u", 1, 0, 2), true)], now);
        assert_eq!(schedule.due(), None);
        schedule.health(1, false, now);
        let due = schedule.due().expect("it is probed now");
        assert!(due >= now + Duration::from_millis(1800) && due <= now + Duration::from_millis(2200));
        schedule.health(1, true, now);
        assert_eq!(schedule.due(), None, "and no longer");
    }
}
