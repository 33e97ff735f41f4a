//! Control's loop: one event at a time, none of which computes for long.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::listen::ListenerId;
use engine::observe::AccessWriter;
use engine::plan::{Feeds, Plan};
use engine::{Command, Engine, Report};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use crate::compile::{self, Outcome};
use crate::resolve::Names;
use crate::signals::Signal;
use crate::socket::{Answer, Request};
use crate::source::{Watch, DEBOUNCE, DEBOUNCE_MAX};
use crate::status::Shared;
use crate::{logging, metrics, Event, Events};

/// After the drain deadline the workers get this long to say so.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// Who asked for a reload and waits.
pub(crate) struct Waiter {
    generation: u64,
    reply: oneshot::Sender<Answer>,
}

/// A reload that was asked for.
#[derive(Default)]
pub(crate) struct Wanted {
    /// Even when the document says what it said.
    always: bool,
    /// Only feeds changed: the document stays.
    feeds_only: bool,
    /// Whom to tell, and whether when all cores serve it.
    replies: Vec<(oneshot::Sender<Answer>, bool)>,
}

/// Everything that control holds.
pub(crate) struct State {
    pub(crate) path: PathBuf,
    pub(crate) engine: Engine,
    pub(crate) writer: AccessWriter,
    pub(crate) feeds: Feeds,
    pub(crate) plan: Arc<Plan>,
    pub(crate) bound: HashMap<ListenerId, String>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: Events,
    pub(crate) names: Names,
    pub(crate) watch: Watch,
    pub(crate) level: logging::Level,
    /// The reload under way.
    pub(crate) compiling: Option<Wanted>,
    /// The one after it.
    pub(crate) again: Option<Wanted>,
    pub(crate) waiting: Vec<Waiter>,
    /// Plans that some worker may still hold: freed here, never on a core.
    pub(crate) retired: Vec<Arc<Plan>>,
    pub(crate) drained: usize,
    pub(crate) interrupted: bool,
}

impl State {
    /// Runs until the gateway ends; the process's exit code.
    pub(crate) async fn run(mut self, mut inbox: UnboundedReceiver<Event>) -> ExitCode {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        // When the first and the last change that was not acted on came.
        let mut changed: Option<(Instant, Instant)> = None;
        let mut end: Option<Instant> = None;
        loop {
            let quiet = changed.map(|(first, last)| (last + DEBOUNCE).min(first + DEBOUNCE_MAX));
            tokio::select! {
                event = inbox.recv() => {
                    let Some(event) = event else { return ExitCode::FAILURE };
                    match event {
                        Event::FileChanged => {
                            let now = Instant::now();
                            changed = Some((changed.map_or(now, |(first, _)| first), now));
                        }
                        Event::Signal(signal) => {
                            if self.signal(signal, &mut end) {
                                return self.finish(ExitCode::SUCCESS);
                            }
                        }
                        Event::Request(Request::Stop, reply) => {
                            self.drain(&mut end);
                            let _ = reply.send(Answer { ok: true, ..Answer::default() });
                        }
                        Event::Request(request, reply) => self.request(&request, reply),
                        Event::Compiled(outcome) => self.compiled(*outcome),
                        Event::Resolved(addresses) => {
                            self.feeds.addresses = addresses;
                            self.want(Wanted { feeds_only: true, always: true, ..Wanted::default() });
                        }
                        Event::Report(report) => {
                            if let Some(code) = self.report(&report) {
                                return self.finish(code);
                            }
                        }
                    }
                }
                () = sleep_until(quiet) => {
                    changed = None;
                    self.want(Wanted::default());
                }
                () = sleep_until(end) => {
                    tracing::warn!(target: "ringway", "workers did not end in time; ending without them");
                    return self.finish(ExitCode::FAILURE);
                }
                _ = second.tick() => {
                    let metrics = self.shared.metrics.clone();
                    drop(tokio::task::spawn_blocking(move || metrics.flush()));
                }
            }
        }
    }

    fn finish(self, code: ExitCode) -> ExitCode {
        self.writer.flush();
        code
    }

    /// True when the process is to end at once.
    fn signal(&mut self, signal: Signal, end: &mut Option<Instant>) -> bool {
        match signal {
            Signal::Reload => self.want(Wanted { always: true, ..Wanted::default() }),
            Signal::Reopen => self.writer.reopen(),
            Signal::Drain => self.drain(end),
            Signal::Interrupt if self.interrupted => return true,
            Signal::Interrupt => {
                self.interrupted = true;
                self.drain(end);
            }
        }
        false
    }

    fn drain(&mut self, end: &mut Option<Instant>) {
        if end.is_some() {
            return;
        }
        let deadline = self.plan.document().server.drain_timeout;
        tracing::info!(target: "ringway", timeout_s = deadline.as_secs_f64(), "draining");
        self.shared.update(|now| now.draining = true);
        for worker in 0..self.engine.workers() {
            self.engine.send(worker, Command::Drain { deadline });
        }
        *end = Some(Instant::now() + deadline + DRAIN_GRACE);
    }

    fn request(&mut self, request: &Request, reply: oneshot::Sender<Answer>) {
        match request {
            Request::Reload { wait } => {
                self.want(Wanted { always: true, replies: vec![(reply, *wait)], ..Wanted::default() });
            }
            Request::Status => {
                let status = Some(self.shared.document());
                let generation = Some(self.plan.generation());
                let _ = reply.send(Answer { ok: true, generation, status, problems: None });
            }
            Request::Stop => {}
        }
    }

    /// Starts a reload, or notes that one more is wanted after the one under way.
    fn want(&mut self, wanted: Wanted) {
        if self.compiling.is_some() {
            let again = self.again.get_or_insert_with(|| Wanted { feeds_only: true, ..Wanted::default() });
            again.always |= wanted.always;
            again.feeds_only &= wanted.feeds_only;
            again.replies.extend(wanted.replies);
            return;
        }
        let input = compile::Input {
            path: self.path.clone(),
            always: wanted.always,
            document: wanted.feeds_only.then(|| self.plan.document().clone()),
            feeds: self.feeds.clone(),
            previous: self.plan.clone(),
            generation: self.plan.generation() + 1,
            bound: self.bound.clone(),
            workers: self.engine.workers(),
        };
        self.compiling = Some(wanted);
        let events = self.events.clone();
        drop(tokio::task::spawn_blocking(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| compile::compile(&input)));
            let outcome = outcome.unwrap_or_else(|_| {
                Outcome::Refused("error: compiling the configuration panicked; the old one stays\n".to_owned())
            });
            let _ = events.send(Event::Compiled(Box::new(outcome)));
        }));
    }

    fn compiled(&mut self, outcome: Outcome) {
        let wanted = self.compiling.take().unwrap_or_default();
        match outcome {
            Outcome::Ready { plan, sockets, changes, warnings } => {
                self.broadcast(plan, sockets, &changes, &warnings, wanted);
            }
            Outcome::Unchanged => tracing::debug!(target: "ringway", "the configuration says what it said before"),
            Outcome::Refused(problems) => {
                metrics::reloaded(false);
                tracing::error!(
                    target: "ringway",
                    generation = self.plan.generation(),
                    problems,
                    "the new configuration is refused; the old one stays"
                );
                self.shared.update(|now| now.last_error = Some(problems.clone()));
                for (reply, _) in wanted.replies {
                    let generation = Some(self.plan.generation());
                    let problems = Some(problems.clone());
                    let _ = reply.send(Answer { ok: false, generation, problems, status: None });
                }
            }
        }
        if let Some(again) = self.again.take() {
            self.want(again);
        }
    }

    fn broadcast(
        &mut self,
        plan: Arc<Plan>,
        sockets: engine::listen::Sockets,
        changes: &str,
        warnings: &str,
        wanted: Wanted,
    ) {
        let generation = plan.generation();
        let kept: Vec<ListenerId> = plan.listeners().iter().map(|listener| engine::listen::id(listener)).collect();
        self.bound.retain(|id, _| kept.contains(id));
        for bound in &sockets.bound {
            tracing::info!(target: "ringway", name = bound.name, address = bound.address, "listening");
            self.bound.insert(bound.id.clone(), bound.address.clone());
        }
        let listeners = plan.listeners().iter().filter_map(|listener| {
            let address = self.bound.get(&engine::listen::id(listener))?;
            Some((listener.name.clone(), address.clone()))
        });
        let listeners: Vec<_> = listeners.collect();
        self.shared.update(|now| {
            now.generation = generation;
            now.since = Instant::now();
            now.routes = plan.route_count();
            now.listeners = listeners;
            now.last_error = None;
        });
        self.engine.broadcast(&plan, sockets);
        if !wanted.feeds_only {
            self.watch.follow(&self.path, plan.document());
            self.level.set(&plan.document().log.level);
        }
        self.names.set(plan.names());
        self.retired.push(std::mem::replace(&mut self.plan, plan));
        metrics::reloaded(true);
        tracing::info!(target: "ringway", generation, changes, warnings, "reloaded");
        for (reply, wait) in wanted.replies {
            if wait {
                self.waiting.push(Waiter { generation, reply });
            } else {
                let _ = reply.send(Answer { ok: true, generation: Some(generation), ..Answer::default() });
            }
        }
    }

    /// The exit code when the process is to end.
    fn report(&mut self, report: &Report) -> Option<ExitCode> {
        match report {
            Report::Started { .. } => {}
            Report::Applied { .. } => self.acknowledged(),
            Report::Drained { worker, cut } => {
                if *cut > 0 {
                    tracing::warn!(target: "ringway", worker, cut, "connections were cut at the drain deadline");
                }
                self.drained += 1;
                if self.drained == self.engine.workers() {
                    tracing::info!(target: "ringway", "drained");
                    return Some(ExitCode::SUCCESS);
                }
            }
            Report::Ended { worker, reason } => {
                tracing::error!(target: "ringway", worker, reason, "a core's thread has ended; the process ends");
                eprintln!("error: worker {worker} has ended: {reason}");
                return Some(ExitCode::FAILURE);
            }
        }
        None
    }

    fn acknowledged(&mut self) {
        let slowest = self.shared.stats.iter().map(|stats| stats.generation.get()).min().unwrap_or(0);
        let (done, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|waiter| waiter.generation <= slowest);
        self.waiting = still;
        for waiter in done {
            let generation = Some(waiter.generation);
            let _ = waiter.reply.send(Answer { ok: true, generation, ..Answer::default() });
        }
        let retired: Vec<_> = {
            let (freed, kept) = std::mem::take(&mut self.retired)
                .into_iter()
                .partition(|plan| plan.generation() < slowest);
            self.retired = kept;
            freed
        };
        if !retired.is_empty() {
            drop(tokio::task::spawn_blocking(move || drop(retired)));
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
