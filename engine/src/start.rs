//! Starting and holding the cores: what control sees of the data plane.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use crate::channel::{mailbox, Command, Mailbox, Report};
use crate::listen::{ListenerId, Sockets};
use crate::observe::{AccessLog, CoreStats};
use crate::plan::Plan;
use crate::{reactor, worker};

/// How the cores are to be started; fixed until the process ends.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cpu ids, one worker each.
    pub cores: Vec<usize>,
    /// Whether each thread is pinned to its cpu.
    pub pin: bool,
    /// Which driver.
    pub driver: config::Driver,
    /// The ring's sizes.
    pub ring: config::Ring,
    /// Buffer sizes.
    pub buffers: config::Buffers,
}

/// Why the cores could not be started.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// The running cores.
pub struct Engine {
    mailboxes: Vec<Mailbox>,
    threads: Vec<JoinHandle<()>>,
    reports: Receiver<Report>,
    stats: Vec<Arc<CoreStats>>,
    driver: &'static str,
}

impl Engine {
    /// Starts one thread per core and waits until each has its ring.
    ///
    /// `sockets` holds one descriptor per worker and listener.
    ///
    /// # Errors
    ///
    /// When a core cannot be pinned or no allowed driver works; the cores that
    /// had started are ended.
    pub fn start(
        settings: Settings,
        plan: Arc<Plan>,
        sockets: Sockets,
        log: AccessLog,
    ) -> Result<Engine, StartError> {
        let workers = settings.cores.len();
        let (reports_in, reports) = crossbeam_channel::unbounded();
        let (ready_in, ready) = crossbeam_channel::unbounded();
        let mut engine =
            Engine { mailboxes: Vec::new(), threads: Vec::new(), reports, stats: Vec::new(), driver: "" };
        for (index, list) in per_worker(sockets, workers).into_iter().enumerate() {
            let (mailbox, inbox, bell) =
                mailbox().map_err(|error| StartError(format!("no doorbell for worker {index}: {error}")))?;
            let stats = Arc::new(CoreStats::default());
            let setup = worker::Setup {
                index,
                workers,
                plan: plan.clone(),
                sockets: list,
                stats: stats.clone(),
                log: log.clone(),
                inbox,
                bell,
                reports: reports_in.clone(),
            };
            engine.mailboxes.push(mailbox);
            engine.stats.push(stats);
            engine.threads.push(spawn(setup, settings.clone(), ready_in.clone())?);
        }
        drop((ready_in, reports_in));
        for _ in 0..workers {
            let name = ready
                .recv()
                .unwrap_or_else(|_| Err("a core's thread ended while it started".to_owned()))
                .map_err(StartError)?;
            engine.driver = name;
        }
        Ok(engine)
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.mailboxes.len()
    }

    /// The driver that won the ladder, the same on every core.
    pub fn driver(&self) -> &str {
        self.driver
    }

    /// Sends one worker a command; false when it is gone.
    pub fn send(&self, worker: usize, command: Command) -> bool {
        self.mailboxes.get(worker).is_some_and(|mailbox| mailbox.send(command))
    }

    /// Sends every worker the plan, with its own new sockets.
    pub fn broadcast(&self, plan: &Arc<Plan>, sockets: Sockets) {
        for (worker, sockets) in per_worker(sockets, self.workers()).into_iter().enumerate() {
            self.send(worker, Command::Plan { plan: plan.clone(), sockets });
        }
    }

    /// Tells every worker that the health of endpoints of this upstream changed.
    pub fn tell_health(&self, upstream: &str) {
        let upstream: Arc<str> = upstream.into();
        for worker in 0..self.workers() {
            self.send(worker, Command::Health { upstream: upstream.clone() });
        }
    }

    /// What workers report.
    pub fn reports(&self) -> &Receiver<Report> {
        &self.reports
    }

    /// Each worker's counters.
    pub fn stats(&self) -> &[Arc<CoreStats>] {
        &self.stats
    }

    /// Waits for every thread to end; send `Drain` or `Stop` first.
    pub fn join(self) {
        drop(self.mailboxes);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn per_worker(sockets: Sockets, workers: usize) -> Vec<Vec<(ListenerId, OwnedFd)>> {
    let mut lists: Vec<Vec<(ListenerId, OwnedFd)>> = (0..workers).map(|_| Vec::new()).collect();
    for bound in sockets.bound {
        for (list, socket) in lists.iter_mut().zip(bound.sockets) {
            list.push((bound.id.clone(), socket));
        }
    }
    lists
}

type Ready = Sender<Result<&'static str, String>>;

fn spawn(setup: worker::Setup, settings: Settings, ready: Ready) -> Result<JoinHandle<()>, StartError> {
    let index = setup.index;
    let reports = setup.reports.clone();
    std::thread::Builder::new()
        .name(format!("ringway-{index}"))
        .spawn(move || {
            let ended =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| core(setup, &settings, &ready)));
            let reason = match ended {
                Ok(Ok(cut)) => {
                    let _ = reports.send(Report::Drained { worker: index, cut });
                    return;
                }
                Ok(Err(reason)) => reason,
                Err(panic) => panic
                    .downcast_ref::<&str>()
                    .map(ToString::to_string)
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_else(|| "panicked".to_owned()),
            };
            let _ = ready.send(Err(format!("worker {index}: {reason}")));
            let _ = reports.send(Report::Ended { worker: index, reason });
        })
        .map_err(|error| StartError(format!("no thread for worker {index}: {error}")))
}

fn core(setup: worker::Setup, settings: &Settings, ready: &Ready) -> Result<usize, String> {
    let cpu = settings.cores[setup.index];
    if settings.pin && !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        return Err(format!(
            "cannot be pinned to cpu {cpu}; set `pin = false` under [cores] or change `set`"
        ));
    }
    let built = reactor::build(&settings.driver, &settings.ring)?;
    if setup.index == 0 {
        for fallback in &built.fallbacks {
            tracing::warn!(reason = fallback, driver = built.name, "a better driver is not to be had here");
        }
    }
    let _ = ready.send(Ok(built.name));
    let mut reactor = built.reactor;
    let legacy = reactor.is_legacy();
    let settings = settings.clone();
    Ok(reactor.block_on(worker::run(setup, legacy, settings)))
}
