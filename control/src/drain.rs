//! How the gateway ends: what each signal and command means, and when it is over.
//!
//! Plain decisions, without sockets or clocks: `state` tells what happened and
//! does what is said here.

use std::time::{Duration, Instant};

/// After the drain deadline the workers get this long to say that they are done.
const GRACE: Duration = Duration::from_secs(3);
/// After being told to stop at once.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What the loop has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Stay,
    /// Tell every worker to drain.
    Drain,
    /// Tell every worker to stop now.
    Stop,
    /// End the process: everything went in order.
    End,
    /// End the process: workers did not end in time.
    GiveUp,
    /// End the process: something broke, and the log has said what.
    Fail,
}

/// Where the gateway is on its way out.
#[derive(Debug)]
pub(crate) struct Ending {
    workers: usize,
    drained: usize,
    /// When to end without the workers; `None` while serving.
    until: Option<Instant>,
    stopping: bool,
}

impl Ending {
    /// Serving.
    pub(crate) fn new(workers: usize) -> Self {
        Self { workers, drained: 0, until: None, stopping: false }
    }

    /// Whether it has begun.
    pub(crate) fn begun(&self) -> bool {
        self.until.is_some()
    }

    /// When to call [`Ending::overdue`].
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// SIGTERM, SIGQUIT, `drain`.
    pub(crate) fn drain(&mut self, timeout: Duration, now: Instant) -> Step {
        if self.begun() {
            return Step::Stay;
        }
        self.until = Some(now + timeout + GRACE);
        Step::Drain
    }

    /// SIGINT: the first drains; whoever asks again does not want to wait.
    pub(crate) fn interrupt(&mut self, timeout: Duration, now: Instant) -> Step {
        if self.begun() {
            self.stop(now)
        } else {
            self.drain(timeout, now)
        }
    }

    /// `stop`: at once.
    pub(crate) fn stop(&mut self, now: Instant) -> Step {
        if self.stopping {
            return Step::End;
        }
        self.stopping = true;
        self.until = Some(now + STOP_GRACE);
        Step::Stop
    }

    /// One worker has ended in order.
    pub(crate) fn drained(&mut self) -> Step {
        self.drained += 1;
        if self.drained < self.workers {
            Step::Stay
        } else {
            Step::End
        }
    }

    /// The time is over. After `stop` that is what was asked for.
    pub(crate) fn overdue(&self) -> Step {
        if self.stopping {
            Step::End
        } else {
            Step::GiveUp
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens, one word each, and what is done about it.
    fn check(steps: &[(&str, Step)]) {
        let now = Instant::now();
        let timeout = Duration::from_secs(30);
        let mut ending = Ending::new(2);
        for (happens, expected) in steps {
            let step = match *happens {
                "term" => ending.drain(timeout, now),
                "int" => ending.interrupt(timeout, now),
                "stop" => ending.stop(now),
                "drained" => ending.drained(),
                "overdue" => ending.overdue(),
                other => panic!("{other}"),
            };
            assert_eq!(step, *expected, "{happens} in {steps:?}");
        }
    }

    #[test]
    fn ways_out() {
        use Step::*;
        check(&[("term", Drain), ("term", Stay), ("drained", Stay), ("drained", End)]);
        check(&[("int", Drain), ("int", Stop), ("drained", Stay), ("drained", End)]);
        check(&[("int", Drain), ("int", Stop), ("int", End)]);
        check(&[("term", Drain), ("int", Stop), ("overdue", End)]);
        check(&[("term", Drain), ("drained", Stay), ("overdue", GiveUp)]);
        check(&[("stop", Stop), ("drained", Stay), ("drained", End)]);
    }

    #[test]
    fn deadlines() {
        let now = Instant::now();
        let mut ending = Ending::new(1);
        assert_eq!(ending.until(), None);
        ending.drain(Duration::from_secs(30), now);
        assert_eq!(ending.until(), Some(now + Duration::from_secs(30) + GRACE));
        ending.stop(now);
        assert_eq!(ending.until(), Some(now + STOP_GRACE), "stop does not wait for the drain");
    }
}
