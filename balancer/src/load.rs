//! The traffic of one endpoint over all workers: connections, counted exactly, and loads, published.
//!
//! An exact count is a shared write per request, so it is made only where `max_conns` asks for it. What balancing
//! needs may be a few milliseconds old: each worker stores its own load in a cache line that no other
//! writes, and adds up the others' when it looks.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// What a worker tells the others of its traffic to an endpoint, and what is known of theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests under way.
    pub active: u32,
    /// The average latency (EWMA), in microseconds; 0 when it is not known.
    pub latency: u32,
}

/// Cache lines of its own: machines fetch them in pairs of 64 bytes, or they are of 128.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

/// Connections taken, of those that `max_conns` allows.
#[derive(Debug, Default)]
pub(crate) struct Connections(Line<AtomicU32>);

impl Connections {
    /// Takes one of `max`; false when there is none.
    pub(crate) fn take(&self, max: u32) -> bool {
        let more = |taken: u32| (taken < max).then(|| taken + 1);
        self.0 .0.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Gives one back.
    pub(crate) fn release(&self) {
        let fewer = self.0 .0.fetch_update(Relaxed, Relaxed, |taken| taken.checked_sub(1));
        fewer.expect("only a connection that was taken is given back");
    }
}

/// The loads of the workers: active in the upper half of a word, latency in the lower.
#[derive(Debug)]
pub(crate) struct Loads(Box<[Line<AtomicU64>]>);

impl Loads {
    /// So many workers, nothing under way.
    pub(crate) fn new(workers: usize) -> Loads {
        Loads((0..workers).map(|_| Line::default()).collect())
    }

    pub(crate) fn workers(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn publish(&self, worker: usize, load: Load) {
        let word = u64::from(load.active) << 32 | u64::from(load.latency);
        if let Some(line) = self.0.get(worker).filter(|line| line.0.load(Relaxed) != word) {
            line.0.store(word, Relaxed);
        }
    }

    pub(crate) fn others(&self, worker: usize) -> Load {
        let mut active = 0_u32;
        let (mut weights, mut weighed) = (0_u64, 0_u64);
        for (_, line) in self.0.iter().enumerate().filter(|(index, _)| *index != worker) {
            let word = line.0.load(Relaxed);
            let (theirs, latency) = ((word >> 32) as u32, word as u32);
            active = active.saturating_add(theirs);
            if latency > 0 {
                // One with nothing under way knows the latency as well; it knows it from before.
                weights = weights.saturating_add(u64::from(theirs) + 1);
                weighed = weighed.saturating_add((u64::from(theirs) + 1).saturating_mul(u64::from(latency)));
            }
        }
        let latency = weighed.checked_div(weights).unwrap_or(0);
        Load { active, latency: u32::try_from(latency).unwrap_or(u32::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_exact_over_threads() {
        const MAX: u32 = 3;
        let connections = Connections::default();
        let (taken, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if connections.take(MAX) {
                            most.fetch_max(taken.fetch_add(1, Relaxed) + 1, Relaxed);
                            taken.fetch_sub(1, Relaxed);
                            connections.release();
                        }
                    }
                });
            }
        });
        assert!((1..=MAX).contains(&most.load(Relaxed)));
        assert!((0..MAX).all(|_| connections.take(MAX)) && !connections.take(MAX));
        assert!(!connections.take(1) && connections.take(MAX + 1));
    }

    /// `"2:100 0:50"` (active and latency by worker), as worker 0 sees the others.
    fn check(loads: &str, active: u32, latency: u32) {
        let words: Vec<&str> = loads.split(' ').collect();
        let shared = Loads::new(words.len());
        for (worker, word) in words.iter().enumerate() {
            let (active, latency) = word.split_once(':').expect("active and latency");
            let number = |text: &str| text.parse().expect("a number");
            shared.publish(worker, Load { active: number(active), latency: number(latency) });
        }
        shared.publish(words.len(), Load { active: 9, latency: 9 });
        assert_eq!(shared.others(0), Load { active, latency }, "{loads}");
    }

    #[test]
    fn others() {
        check("7:100", 0, 0);
        check("7:100 2:0", 2, 0);
        check("7:100 2:60 3:0", 5, 60);
        check("0:0 0:60 0:20", 0, 40);
        check("0:0 3:100 0:20", 3, 84);
        check("1:1 4294967295:4294967295 1:1", u32::MAX, 4_294_967_293);
    }
}
