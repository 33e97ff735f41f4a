//! Control's loop: one event at a time, none of which computes for long.
//!
//! A config change goes its way in three steps: [`State::want`] starts a compile
//! on a helper thread (one at a time; what comes meanwhile is joined into one
//! more), [`State::compiled`] broadcasts what came of it, and
//! [`State::acknowledged`] tells those who wait once every core serves it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use balancer::endpoint::Change;
use engine::listen::{ListenerId, Sockets};
use engine::observe::AccessWriter;
use engine::plan::{Feeds, Plan};
use engine::{Command, Engine, Report};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use crate::compile::{self, Compiled, Outcome, Refusal};
use crate::drain::{Ending, Step};
use crate::logging::Diagnostics;
use crate::probe::Prober;
use crate::resolve::{self, Names, Question};
use crate::signals::Signal;
use crate::socket::{Answer, Request};
use crate::source::{Debounce, Watch};
use crate::status::Shared;
use crate::sticky::Keeper;
use crate::{metrics, Event, Events};

/// Whoever waits for the cores to serve a plan gets an answer by then.
const APPLY_MAX: Duration = Duration::from_secs(30);
/// How often what may be freed is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Who asked for a reload and waits until the cores serve it.
pub(crate) struct Waiter {
    generation: u64,
    until: Instant,
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
    pub(crate) prober: Prober,
    pub(crate) sticky: Arc<Keeper>,
    pub(crate) watch: Watch,
    pub(crate) diagnostics: Arc<Diagnostics>,
    pub(crate) ending: Ending,
    pub(crate) debounce: Debounce,
    /// The reload under way.
    pub(crate) compiling: Option<Wanted>,
    /// The one after it.
    pub(crate) again: Option<Wanted>,
    pub(crate) waiting: Vec<Waiter>,
    /// Plans that some worker may still hold: freed here, never on a core.
    pub(crate) retired: Vec<Arc<Plan>>,
}

impl State {
    /// Runs until the gateway ends; the process's exit code.
    pub(crate) async fn run(mut self, mut inbox: UnboundedReceiver<Event>) -> ExitCode {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        loop {
            let step = tokio::select! {
                event = inbox.recv() => match event {
                    Some(event) => self.event(event),
                    None => Step::Fail,
                },
                () = sleep_until(self.debounce.due()) => {
                    if self.debounce.take(Instant::now()) {
                        self.want(Wanted::default());
                    }
                    Step::Stay
                }
                () = sleep_until(self.ending.until()) => self.ending.overdue(),
                _ = housekeeping.tick() => {
                    self.housekeep();
                    Step::Stay
                }
            };
            if let Some(code) = self.step(step) {
                return self.finish(code).await;
            }
        }
    }

    fn event(&mut self, event: Event) -> Step {
        match event {
            Event::FileChanged => self.debounce.touch(Instant::now()),
            Event::Signal(signal) => return self.signal(signal),
            Event::Request(request, reply) => return self.request(&request, reply),
            Event::Compiled(compiled) => self.compiled(*compiled),
            Event::Failing(failing) => self.shared.update(|now| now.names_failing = failing),
            Event::Resolved(known) => {
                resolve::put(known, &mut self.feeds);
                self.want(Wanted { feeds_only: true, always: true, ..Wanted::default() });
            }
            Event::Probed(probed) => {
                tell_health(&probed.upstream, &probed.endpoint, probed.change, &probed.why);
                self.engine.tell_health(&probed.upstream);
            }
            Event::Report(report) => return self.report(&report),
        }
        Step::Stay
    }

    /// Does what a step says; the exit code when the process is to end.
    fn step(&mut self, step: Step) -> Option<ExitCode> {
        match step {
            Step::Stay => None,
            Step::Drain => {
                let deadline = self.drain_timeout();
                tracing::info!(target: "ringway", timeout_s = deadline.as_secs_f64(), "draining");
                self.tell_workers(|| Command::Drain { deadline });
                None
            }
            Step::Stop => {
                tracing::info!(target: "ringway", "stopping at once");
                self.tell_workers(|| Command::Stop);
                None
            }
            Step::End => {
                tracing::info!(target: "ringway", "ended");
                Some(ExitCode::SUCCESS)
            }
            Step::GiveUp => {
                tracing::error!(target: "ringway", "workers did not end in time; the process ends without them");
                Some(ExitCode::FAILURE)
            }
            Step::Fail => Some(ExitCode::FAILURE),
        }
    }

    fn tell_workers(&mut self, command: impl Fn() -> Command) {
        self.shared.update(|now| now.draining = true);
        for worker in 0..self.engine.workers() {
            self.engine.send(worker, command());
        }
        // Whoever waits for a plan would wait for the end.
        self.waiting.clear();
    }

    fn drain_timeout(&self) -> Duration {
        self.plan.document().server.drain_timeout
    }

    async fn finish(self, code: ExitCode) -> ExitCode {
        for address in self.bound.values() {
            remove_socket_file(address);
        }
        let writer = self.writer;
        // A disk that hangs must not hold the process.
        let flushed = tokio::task::spawn_blocking(move || writer.flush());
        let _ = tokio::time::timeout(Duration::from_secs(2), flushed).await;
        code
    }

    fn signal(&mut self, signal: Signal) -> Step {
        let now = Instant::now();
        match signal {
            Signal::Reload => self.want(Wanted { always: true, ..Wanted::default() }),
            Signal::Reopen => self.writer.reopen(),
            Signal::Drain => return self.ending.drain(self.drain_timeout(), now),
            Signal::Interrupt => return self.ending.interrupt(self.drain_timeout(), now),
        }
        Step::Stay
    }

    fn request(&mut self, request: &Request, reply: oneshot::Sender<Answer>) -> Step {
        let done = Answer::done(self.plan.generation());
        match request {
            Request::Reload { wait } => {
                self.want(Wanted { always: true, replies: vec![(reply, *wait)], ..Wanted::default() });
                Step::Stay
            }
            Request::Status => {
                let _ = reply.send(Answer { status: Some(self.shared.document()), ..done });
                Step::Stay
            }
            Request::Drain => {
                let _ = reply.send(done);
                self.ending.drain(self.drain_timeout(), Instant::now())
            }
            Request::Stop => {
                let _ = reply.send(done);
                self.ending.stop(Instant::now())
            }
        }
    }

    /// Starts a reload, or notes that one more is wanted after the one under way.
    fn want(&mut self, wanted: Wanted) {
        if self.ending.begun() {
            // A plan would have the workers listen again.
            for (reply, _) in wanted.replies {
                let _ = reply.send(Answer::refused("error: the gateway is draining\n"));
            }
            return;
        }
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
            sticky: self.sticky.clone(),
        };
        self.compiling = Some(wanted);
        let events = self.events.clone();
        drop(tokio::task::spawn_blocking(move || {
            let compiled =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| compile::compile(&input)));
            let compiled = compiled.unwrap_or_else(|_| Compiled {
                seen: None,
                outcome: Refusal::now(
                    "error: compiling the configuration panicked; the old one stays\n".into(),
                ),
            });
            let _ = events.send(Event::Compiled(Box::new(compiled)));
        }));
    }

    fn compiled(&mut self, compiled: Compiled) {
        let wanted = self.compiling.take().unwrap_or_default();
        if let Some(seen) = compiled.seen {
            self.watch.follow(seen);
        }
        match compiled.outcome {
            _ if self.ending.begun() => {
                let refusal = Refusal { problems: "error: the gateway is draining\n".into(), invalid: false };
                answer_refused(wanted, &refusal);
            }
            Outcome::Ready { plan, sockets, known, changes, warnings } => {
                resolve::put(known, &mut self.feeds);
                let generation = self.broadcast(plan, sockets, !wanted.feeds_only);
                tracing::info!(target: "ringway", generation, changes, warnings, "reloaded");
                self.promise(wanted, generation);
            }
            Outcome::Unchanged => {
                tracing::debug!(target: "ringway", "the configuration says what it said before");
                self.shared.update(|now| now.last_error = None);
                self.promise(wanted, self.plan.generation());
            }
            Outcome::Refused(refusal) => {
                self.refused(&refusal);
                answer_refused(wanted, &refusal);
            }
        }
        if let Some(again) = self.again.take() {
            self.want(again);
        }
    }

    fn refused(&mut self, refusal: &Refusal) {
        metrics::reloaded(false);
        tracing::error!(
            target: "ringway",
            generation = self.plan.generation(),
            problems = refusal.problems,
            "the new configuration is refused; the old one stays"
        );
        self.shared.update(|now| now.last_error = Some(refusal.problems.clone()));
    }

    /// Hands a plan to the cores; its generation. Nothing here can fail.
    fn broadcast(&mut self, plan: Arc<Plan>, sockets: Sockets, from_file: bool) -> u64 {
        let generation = plan.generation();
        let kept: Vec<ListenerId> =
            plan.listeners().iter().map(|listener| engine::listen::id(listener)).collect();
        let before = self.bound.len();
        self.bound.retain(|id, address| {
            let keep = kept.contains(id);
            if !keep {
                remove_socket_file(address);
            }
            keep
        });
        let listeners_changed = before != self.bound.len() || !sockets.bound.is_empty();
        for bound in &sockets.bound {
            tracing::info!(target: "ringway", name = bound.name, address = bound.address, "listening");
            self.bound.insert(bound.id.clone(), bound.address.clone());
        }
        let listeners = listeners_changed.then(|| listeners(&plan, &self.bound));
        self.shared.update(|now| {
            now.generation = generation;
            now.since = Instant::now();
            now.routes = plan.route_count();
            now.plan = Some(plan.clone());
            now.listeners = listeners.unwrap_or(std::mem::take(&mut now.listeners));
            now.last_error = if from_file { None } else { now.last_error.take() };
        });
        self.engine.broadcast(&plan, sockets);
        if from_file {
            self.diagnostics.set_level(&plan.document().log.level);
            metrics::reloaded(true);
        }
        resolve::forget(&mut self.feeds, &plan);
        self.names.set(wanted_names(&plan, &self.feeds));
        self.prober.follow(&plan);
        self.retired.push(std::mem::replace(&mut self.plan, plan));
        generation
    }

    /// Answers those who asked: now, or when every core serves it.
    fn promise(&mut self, wanted: Wanted, generation: u64) {
        let until = Instant::now() + APPLY_MAX;
        for (reply, wait) in wanted.replies {
            if wait {
                self.waiting.push(Waiter { generation, until, reply });
            } else {
                let _ = reply.send(Answer::done(generation));
            }
        }
        self.acknowledged();
    }

    fn report(&mut self, report: &Report) -> Step {
        match report {
            Report::Started { worker } => {
                tracing::debug!(target: "ringway", worker, "a worker serves")
            }
            Report::Applied { worker, generation } => {
                tracing::debug!(target: "ringway", worker, generation, "a worker serves the plan");
                self.acknowledged();
            }
            Report::Health { worker, upstream, endpoint, change } => {
                tell_health(upstream, endpoint, *change, &format!("traffic of worker {worker}"));
                self.engine.tell_health(upstream);
                self.prober.health(upstream);
            }
            Report::Suspect { endpoint } => self.prober.suspect(endpoint),
            Report::Drained { worker, cut } => {
                if *cut > 0 {
                    tracing::warn!(target: "ringway", worker, cut, "connections were cut");
                }
                if self.ending.begun() {
                    return self.ending.drained();
                }
                tracing::error!(target: "ringway", worker, "a worker has ended without being told to; the process ends");
                return Step::Fail;
            }
            Report::Ended { worker, reason } => {
                tracing::error!(target: "ringway", worker, reason, "a core's thread has ended; the process ends");
                return Step::Fail;
            }
        }
        Step::Stay
    }

    /// Tells those who wait for what every core serves by now.
    fn acknowledged(&mut self) {
        let slowest = self.shared.slowest();
        for waiter in std::mem::take(&mut self.waiting) {
            if waiter.generation <= slowest {
                let _ = waiter.reply.send(Answer::done(waiter.generation));
            } else {
                self.waiting.push(waiter);
            }
        }
    }

    fn housekeep(&mut self) {
        self.acknowledged();
        let now = Instant::now();
        for waiter in std::mem::take(&mut self.waiting) {
            if waiter.until <= now {
                let problems = format!("error: not every core serves generation {} yet\n", waiter.generation);
                let _ = waiter.reply.send(Answer::refused(problems));
            } else {
                self.waiting.push(waiter);
            }
        }
        // Nobody but this list holds them: no worker can take one up again.
        let (free, held) = std::mem::take(&mut self.retired)
            .into_iter()
            .partition::<Vec<_>, _>(|plan| Arc::strong_count(plan) == 1);
        self.retired = held;
        if !free.is_empty() {
            drop(tokio::task::spawn_blocking(move || drop(free)));
        }
    }
}

/// What has to be kept resolved for a plan.
pub(crate) fn wanted_names(plan: &Plan, feeds: &Feeds) -> resolve::Wanted {
    resolve::Wanted {
        questions: Question::of(plan),
        known: resolve::known_by(feeds),
        servers: plan.document().dns.servers.clone(),
    }
}

/// Name and bound address of each of a plan's listeners.
pub(crate) fn listeners(plan: &Plan, bound: &HashMap<ListenerId, String>) -> Vec<(String, String)> {
    let listeners = plan.listeners().iter().filter_map(|listener| {
        let address = bound.get(&engine::listen::id(listener))?;
        Some((listener.name.clone(), address.clone()))
    });
    listeners.collect()
}

/// One line of the log, and one more in the metrics, for an endpoint that went out or came back.
fn tell_health(upstream: &str, endpoint: &str, change: Change, why: &str) {
    metrics::health_changed(change);
    let by = metrics::by(change.by);
    if change.healthy {
        tracing::info!(target: "ringway", upstream, endpoint, by, why, "an endpoint is healthy");
    } else {
        tracing::warn!(target: "ringway", upstream, endpoint, by, why, "an endpoint is unhealthy");
    }
}

fn answer_refused(wanted: Wanted, refusal: &Refusal) {
    for (reply, _) in wanted.replies {
        let answer = Answer { invalid: refusal.invalid, ..Answer::refused(refusal.problems.clone()) };
        let _ = reply.send(answer);
    }
}

/// The file of a Unix socket that nobody listens on any more.
fn remove_socket_file(address: &str) {
    if let Some(path) = address.strip_prefix("unix:") {
        let _ = std::fs::remove_file(path);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
