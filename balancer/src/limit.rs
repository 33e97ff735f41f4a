//! How many requests an upstream gets at once, found by its latency: a gradient, as Netflix's `gradient2` and
//! Envoy's adaptive concurrency.
//!
//! A request that waits at the upstream is answered later than one that does not. So the latency at rest
//! (`long`) by that of now (`short`, the mean of a window), with `tolerance` for what is still well, is the
//! share of the limit that the upstream serves without a queue: the new limit is that share of the old, and the
//! square root of the old on top, which probes for more. It does not grow while less than half of it is used, as
//! nothing is learnt then.
//!
//! The latency at rest goes down with `short` at once, and up with it only while requests do not queue because
//! of us. That is so with less than half of the limit in use. It may be so as well when the limit is used up, as
//! an upstream can become slower for good; so after ten seconds of being too slow the limit is halved for a
//! moment: where requests then take as long as before, no queue made them slow, and that is the latency at
//! rest. Envoy goes down to three requests for this, every minute; half does less harm to those that are
//! shed meanwhile. An average over all times, as `gradient2` has it, would take an overload that lasts for
//! the new normal.
//!
//! One for the upstream, shared by all workers: the limit is exact. It costs each request two shared writes at
//! its end and one at its beginning, which only upstreams with `concurrency_limit` pay.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::Mutex;
use std::time::Duration;

use config::balance::ConcurrencyLimit;

/// How long latencies are gathered for one step.
const WINDOW: Duration = Duration::from_millis(100);
/// Fewer in a window say nothing: it goes on.
const SAMPLES_MIN: u32 = 10;
/// A window ends with so many at the latest.
const SAMPLES_MAX: u32 = 4096;
/// A latency above this counts as this, so that a window's sum fits with room: 4 minutes.
const LATENCY_MAX: u64 = 1 << 28;
/// After so many windows in a row that were too slow, the limit is halved to measure the latency at rest.
const SLOW_WINDOWS: u32 = 100;
/// A latency at half of the limit of at least this share of the one before is the same.
const SAME: f64 = 0.8;
/// The most windows that are waited for requests which began before the limit was halved.
const SETTLING_MAX: f64 = 50.0;
/// The limit at most halves in a step.
const GRADIENT_MIN: f64 = 0.5;
/// How much of a step is taken: one window is not to decide alone.
const SMOOTHING: f64 = 0.2;
/// How fast the latency at rest follows: down, and up.
const LONG_FALL: f64 = 0.5;
const LONG_RISE: f64 = 0.05;
/// When a client that was shed may come back: the least that `Retry-After` can say but zero.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The limit of one upstream, shared by all workers.
#[derive(Debug)]
pub struct Limiter {
    settings: ConcurrencyLimit,
    bounds: (f64, f64),
    tolerance: f64,
    /// How many may be under way.
    limit: AtomicU32,
    active: AtomicU32,
    /// The most that were under way in this window.
    peak: AtomicU32,
    /// This window's latencies: how many in the upper 22 bits, their sum in microseconds in the lower 42.
    samples: AtomicU64,
    /// Who ends a window holds it; nobody waits for it.
    gradient: Mutex<Gradient>,
    /// When this window ends, in microseconds; 0 before the first sample.
    window_end: AtomicU64,
}

/// What is carried from window to window.
#[derive(Debug)]
struct Gradient {
    limit: f64,
    /// The latency at rest in microseconds; 0 when it is not known.
    long: f64,
    /// Windows in a row that were too slow.
    slow: u32,
    measure: Option<Measure>,
}

/// The limit is halved.
#[derive(Debug)]
struct Measure {
    /// The latency before.
    before: f64,
    /// Windows in which those that began before still end.
    settling: u32,
}

impl Limiter {
    /// A limit by these settings.
    pub fn new(settings: &ConcurrencyLimit) -> Limiter {
        let min = settings.min.max(1);
        let bounds = (f64::from(min), f64::from(settings.max.max(min)));
        let limit = f64::from(settings.initial).clamp(bounds.0, bounds.1);
        Limiter {
            settings: *settings,
            bounds,
            tolerance: settings.tolerance.max(1.0),
            limit: AtomicU32::new(limit as u32),
            active: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            samples: AtomicU64::new(0),
            gradient: Mutex::new(Gradient { limit, long: 0.0, slow: 0, measure: None }),
            window_end: AtomicU64::new(0),
        }
    }

    /// What it was made by.
    pub fn settings(&self) -> &ConcurrencyLimit {
        &self.settings
    }

    /// A request begins; [`Limiter::end`] ends it.
    ///
    /// # Errors
    ///
    /// It is shed, and may be tried again after so long.
    pub fn begin(&self) -> Result<(), Duration> {
        let limit = self.limit();
        let more = |active: u32| (active < limit).then(|| active + 1);
        let before = self.active.fetch_update(Relaxed, Relaxed, more).map_err(|_| RETRY_AFTER)?;
        if before >= self.peak.load(Relaxed) {
            self.peak.fetch_max(before + 1, Relaxed);
        }
        Ok(())
    }

    /// A request that began ends: its latency in microseconds where it was answered in order.
    pub fn end(&self, latency_micros: Option<u64>, now: u64) {
        let fewer = self.active.fetch_update(Relaxed, Relaxed, |active| active.checked_sub(1));
        fewer.expect("only a request that began ends");
        let Some(latency) = latency_micros else { return };
        let sample = 1 << 42 | latency.clamp(1, LATENCY_MAX);
        let samples = self.samples.fetch_add(sample, Relaxed).wrapping_add(sample);
        let count = (samples >> 42) as u32;
        let over = now >= self.window_end.load(Relaxed) && count >= SAMPLES_MIN;
        if over || count >= SAMPLES_MAX {
            self.end_window(now);
        }
    }

    /// How many may be under way.
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// How many are.
    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    fn end_window(&self, now: u64) {
        let Ok(mut gradient) = self.gradient.try_lock() else { return };
        let samples = self.samples.swap(0, Relaxed);
        let count = samples >> 42;
        if count < u64::from(SAMPLES_MIN) {
            // Another worker ended it just before.
            self.samples.fetch_add(samples, Relaxed);
            return;
        }
        self.window_end.store(now.saturating_add(WINDOW.as_micros() as u64), Relaxed);
        let peak = self.peak.swap(self.active(), Relaxed);
        let short = (samples & ((1 << 42) - 1)) as f64 / count as f64;
        gradient.step(short, peak, self.bounds, self.tolerance);
        self.limit.store(gradient.now(self.bounds.0), Relaxed);
    }
}

impl Gradient {
    /// Takes in a window: its mean latency, and the most that were under way in it.
    fn step(&mut self, short: f64, peak: u32, (min, max): (f64, f64), tolerance: f64) {
        if let Some(measure) = &mut self.measure {
            if measure.settling > 0 {
                measure.settling -= 1;
                return;
            }
            if short >= measure.before * SAME {
                self.long = short;
            }
            self.measure = None;
            return;
        }
        let idle = f64::from(peak) < self.limit / 2.0;
        if self.long == 0.0 {
            self.long = short;
        } else if short < self.long {
            self.long += (short - self.long) * LONG_FALL;
        } else if idle {
            self.long += (short - self.long) * LONG_RISE;
        }
        let gradient = (tolerance * self.long / short).clamp(GRADIENT_MIN, 1.0);
        self.slow = if gradient < 1.0 && !idle { self.slow + 1 } else { 0 };
        if self.slow == SLOW_WINDOWS {
            self.slow = 0;
            let settling = (2.0 * short / WINDOW.as_micros() as f64).ceil().min(SETTLING_MAX);
            self.measure = Some(Measure { before: short, settling: settling as u32 });
        }
        let next = self.limit * gradient + self.limit.sqrt();
        if !idle || next < self.limit {
            self.limit = (self.limit + (next - self.limit) * SMOOTHING).clamp(min, max);
        }
    }

    /// How many may be under way, never fewer than `min`.
    fn now(&self, min: f64) -> u32 {
        let limit = if self.measure.is_some() { self.limit / 2.0 } else { self.limit };
        limit.max(min) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(initial: u32, min: u32, max: u32) -> ConcurrencyLimit {
        ConcurrencyLimit { initial, min, max, tolerance: 1.5 }
    }

    /// Drives an upstream that serves `width` requests at once, each in `serve` microseconds, the others waiting
    /// in turn, with `offered` requests that come at once whenever one of them ends; for so many seconds.
    fn drive(limiter: &Limiter, width: u32, serve: u64, offered: u32, start: u64, seconds: u64) -> u32 {
        let mut now = start;
        let mut under_way = 0_u32;
        let mut shed = 0;
        while now < start + seconds * 1_000_000 {
            shed = 0;
            while under_way < offered {
                match limiter.begin() {
                    Ok(()) => under_way += 1,
                    Err(_) => {
                        shed = offered - under_way;
                        break;
                    }
                }
            }
            // One round: `width` of them end; each waited for those before it.
            now += serve;
            let latency = serve * u64::from(under_way).div_ceil(u64::from(width)).max(1);
            for _ in 0..width.min(under_way) {
                limiter.end(Some(latency), now);
                under_way -= 1;
            }
        }
        (0..under_way).for_each(|_| limiter.end(None, now));
        assert_eq!(limiter.active(), 0);
        shed
    }

    #[test]
    fn grows_to_what_is_served_in_time() {
        let limiter = Limiter::new(&settings(20, 4, 1000));
        let shed = drive(&limiter, 100, 1000, 90, 0, 10);
        assert!(limiter.limit() >= 90 && shed == 0, "{limiter:?}");
        assert!(limiter.limit() < 400, "grows while unused: {limiter:?}");
    }

    #[test]
    fn falls_under_overload_and_sheds() {
        let limiter = Limiter::new(&settings(20, 4, 1000));
        drive(&limiter, 50, 1000, 40, 0, 5);
        let shed = drive(&limiter, 50, 1000, 900, 5_000_000, 30);
        assert!((50..250).contains(&limiter.limit()) && shed > 600, "{limiter:?}");
        // Less is served at once from now on: an overload of its own.
        drive(&limiter, 5, 1000, 900, 35_000_000, 30);
        assert!((4..40).contains(&limiter.limit()), "{limiter:?}");
    }

    #[test]
    fn learns_a_new_latency_at_rest() {
        let limiter = Limiter::new(&settings(20, 4, 1000));
        drive(&limiter, 50, 1000, 40, 0, 5);
        for slower in [2, 20] {
            let shed = drive(&limiter, 50, 1000 * slower, 40, slower * 100_000_000, 40);
            assert!(limiter.limit() >= 40 && shed == 0, "{limiter:?}");
        }
    }

    #[test]
    fn keeps_its_bounds() {
        let limiter = Limiter::new(&settings(20, 10, 30));
        drive(&limiter, 1000, 1000, 900, 0, 10);
        assert_eq!(limiter.limit(), 30);
        drive(&limiter, 1, 10_000, 900, 10_000_000, 10);
        assert_eq!(limiter.limit(), 10);
        assert_eq!(Limiter::new(&settings(0, 0, 0)).limit(), 1);
        assert_eq!(Limiter::new(&settings(9, 4, 5)).limit(), 5);
    }

    #[test]
    fn sheds_exactly_and_ignores_what_was_not_answered() {
        let limiter = Limiter::new(&settings(5, 5, 5));
        assert!((0..5).all(|_| limiter.begin().is_ok()));
        assert_eq!(limiter.begin(), Err(RETRY_AFTER));
        limiter.end(None, 1);
        assert!(limiter.begin().is_ok() && limiter.begin().is_err());
        (0..5).for_each(|_| limiter.end(Some(u64::MAX), u64::MAX));
        assert_eq!((limiter.active(), limiter.limit()), (0, 5));
    }

    #[test]
    fn over_threads() {
        let limiter = Limiter::new(&settings(3, 1, 8));
        let (under_way, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (limiter, under_way, most) = (&limiter, &under_way, &most);
                scope.spawn(move || {
                    for round in 0..20_000_u64 {
                        if limiter.begin().is_ok() {
                            most.fetch_max(under_way.fetch_add(1, Relaxed) + 1, Relaxed);
                            under_way.fetch_sub(1, Relaxed);
                            limiter.end(Some(100 + thread), round * 1000);
                        }
                    }
                });
            }
        });
        assert_eq!(limiter.active(), 0);
        assert!((1..=8).contains(&most.load(Relaxed)) && (1..=8).contains(&limiter.limit()));
    }
}
