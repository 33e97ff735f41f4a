//! `ringway run`: from a file to serving cores, then the loop.
//!
//! Everything that can fail is done before the first connection is accepted, and
//! each failure says what and how to mend it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use config::{Document, Report};
use engine::listen::{ListenerId, Sockets};
use engine::observe::log::{self, Sink};
use engine::observe::AccessWriter;
use engine::plan::{Feeds, Plan};
use engine::{Engine, Settings};
use tokio::net::TcpListener;
use tokio::sync::mpsc::unbounded_channel;

use crate::drain::Ending;
use crate::logging::{self, Diagnostics};
use crate::metrics::{Facts, Metrics};
use crate::probe::Prober;
use crate::resolve::Question;
use crate::source::{self, Debounce, Seen};
use crate::state::{self, State};
use crate::status::{self, Serving, Shared};
use crate::sticky::Keeper;
use crate::{api, compile, resolve, signals, socket, Event};

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The configuration file.
    pub config: PathBuf,
}

/// Exit code of a gateway that could not start or ended by itself.
const FAILED: u8 = 1;
/// Exit code for a configuration with errors.
const INVALID: u8 = 3;

/// Runs the gateway until it is told to end.
///
/// The exit code is 0 after a drain or stop that was asked for, 3 if the
/// configuration has errors, and 1 if the gateway could not start, did not end in
/// time, or a core's thread ended. It takes over the process: signals,
/// diagnostics, the metrics recorder.
pub fn run(options: &RunOptions) -> ExitCode {
    run_then(options, || {})
}

/// The same, with something to do once the gateway serves.
pub(crate) fn run_then(options: &RunOptions, ready: impl FnOnce()) -> ExitCode {
    let began = Instant::now();
    let (document, report, seen) = source::read(&options.config);
    let log = document.as_ref().map(|document| document.log.clone()).unwrap_or_default();
    let diagnostics = Arc::new(logging::init(&log));
    let told = Told { people: logging::is_text(&log) };
    let Some(document) = document else {
        return told.failure(&Failure::Invalid(Box::new(report)));
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return told.failure(&Failure::Other(format!("no runtime for control: {error}"))),
    };
    let start = Start { path: &options.config, document: Arc::new(document), seen, began };
    let served = runtime.block_on(start.serve(report, diagnostics.clone(), &told, ready));
    let code = served.unwrap_or_else(|failure| told.failure(&failure));
    // Helper threads that still render or compile are not waited for.
    runtime.shutdown_background();
    code
}

/// Why the gateway does not start.
enum Failure {
    /// The document is wrong.
    Invalid(Box<Report>),
    /// Something else, with its remedy.
    Other(String),
}

/// How problems of the start are told: to people with colours and source lines,
/// elsewhere as one line of the log like everything else.
struct Told {
    people: bool,
}

impl Told {
    fn failure(&self, failure: &Failure) -> ExitCode {
        match failure {
            Failure::Invalid(report) => {
                self.report(report);
                ExitCode::from(INVALID)
            }
            Failure::Other(message) => {
                tracing::error!(target: "ringway", "{message}");
                ExitCode::from(FAILED)
            }
        }
    }

    fn report(&self, report: &Report) {
        if report.problems().is_empty() {
            return;
        }
        if self.people {
            eprint!("{}", report.render(std::io::IsTerminal::is_terminal(&std::io::stderr())));
        } else if report.has_errors() {
            tracing::error!(target: "ringway", problems = report.render(false), "the configuration has errors");
        } else {
            tracing::warn!(target: "ringway", problems = report.render(false), "the configuration has warnings");
        }
    }
}

/// What a start begins with.
struct Start<'a> {
    path: &'a Path,
    document: Arc<Document>,
    seen: Seen,
    began: Instant,
}

/// The data plane, running.
struct Running {
    engine: Engine,
    writer: AccessWriter,
    plan: Arc<Plan>,
    feeds: Feeds,
    sticky: Arc<Keeper>,
    cores: Vec<usize>,
    bound: HashMap<ListenerId, String>,
}

impl Start<'_> {
    async fn serve(
        self,
        report: Report,
        diagnostics: Arc<Diagnostics>,
        told: &Told,
        ready: impl FnOnce(),
    ) -> Result<ExitCode, Failure> {
        let files = raise_descriptors();
        let workdir = self.document.server.workdir.clone();
        let command_socket = bind_command(&workdir)?;
        let status_listener = bind_status(&self.document).await.inspect_err(|_| remove_command(&workdir))?;
        let shared = Arc::new(Shared::new(self.began));
        let control_listener =
            bind_control(&self.document).await.inspect_err(|_| remove_command(&workdir))?;
        let mut served = Vec::new();
        if let Some(listener) = status_listener {
            served.extend(listener.local_addr().ok().map(|address| ("status", address)));
            tokio::spawn(status::serve(listener, shared.clone()));
        }
        if let Some(listener) = control_listener {
            served.extend(listener.local_addr().ok().map(|address| ("control", address)));
            tokio::spawn(api::serve(listener, shared.clone()));
        }
        let running = self.start(report, told).await.inspect_err(|_| remove_command(&workdir))?;
        shared.serve(self.serving(&running)?);
        shared.update(|now| {
            now.generation = running.plan.generation();
            now.since = Instant::now();
            now.routes = running.plan.route_count();
            now.plan = Some(running.plan.clone());
            now.listeners = state::listeners(&running.plan, &running.bound);
        });
        let (events, inbox) = unbounded_channel();
        signals::listen(&events)
            .map_err(|error| Failure::Other(format!("signals cannot be handled: {error}")))?;
        bridge(&running.engine, &events)?;
        tokio::spawn(socket::serve(command_socket, events.clone()));
        let watch = source::Watch::start(events.clone(), self.seen.clone());
        let mut prober = Prober::new(events.clone());
        prober.follow(&running.plan);
        let names = resolve::start(events.clone(), state::wanted_names(&running.plan, &running.feeds));
        // Whoever reads the log's first lines may change the file right away.
        self.announce(&running, files, &served);
        ready();
        // And it may have changed between the reading and the watching.
        let _ = events.send(Event::FileChanged);
        let state = State {
            path: self.path.to_owned(),
            bound: running.bound,
            ending: Ending::new(running.engine.workers()),
            engine: running.engine,
            writer: running.writer,
            names,
            sticky: running.sticky,
            prober,
            feeds: running.feeds,
            plan: running.plan,
            shared,
            watch,
            events,
            diagnostics,
            debounce: Debounce::default(),
            compiling: None,
            again: None,
            waiting: Vec::new(),
            retired: Vec::new(),
        };
        let code = state.run(inbox).await;
        remove_command(&workdir);
        Ok(code)
    }

    /// Compiles, resolves, binds, and starts the cores.
    async fn start(&self, mut report: Report, told: &Told) -> Result<Running, Failure> {
        let document = &self.document;
        let cores = engine::cores::resolve(&document.cores).map_err(Failure::Other)?;
        let sticky = Arc::new(Keeper::default());
        let key = sticky.key(document);
        let mut feeds = Feeds { workers: cores.len(), sticky_key: key.key, ..Feeds::default() };
        let Some(mut plan) = engine::plan::compile(document, &feeds, None, 1, &mut report) else {
            return Err(Failure::Invalid(Box::new(report)));
        };
        told.report(&report);
        if let Some(fault) = key.fault_for(&plan) {
            return Err(Failure::Other(fault.to_owned()));
        }
        let known = resolve::first(&Question::of(&plan), &document.dns.servers).await;
        if !known.is_empty() {
            resolve::put(known, &mut feeds);
            plan = engine::plan::compile(document, &feeds, None, 1, &mut Report::new())
                .ok_or_else(|| Failure::Other("the plan does not compile a second time".to_owned()))?;
        }
        let sockets = engine::listen::bind(plan.listeners(), cores.len(), &HashMap::new())
            .map_err(|failed| Failure::Other(compile::bind_errors(document, &failed)))?;
        let bound = addresses(&sockets);
        let sink = sink(document);
        let (access, writer) = log::open(sink.clone())
            .map_err(|error| Failure::Other(format!("cannot open the access log {sink:?}: {error}")))?;
        let settings = Settings {
            cores: cores.clone(),
            pin: document.cores.pin,
            driver: document.cores.driver,
            ring: document.cores.ring.clone(),
            buffers: document.cores.buffers.clone(),
        };
        let engine = Engine::start(settings, plan.clone(), sockets, access)
            .map_err(|error| Failure::Other(error.to_string()))?;
        // Services that were found need no plain addresses any more.
        resolve::forget(&mut feeds, &plan);
        Ok(Running { engine, writer, plan, feeds, sticky, cores, bound })
    }

    fn serving(&self, running: &Running) -> Result<Serving, Failure> {
        let driver = running.engine.driver().to_owned();
        let ring = &self.document.cores.ring;
        let facts = Facts {
            driver: &driver,
            kernel: &status::kernel(),
            ring: driver.starts_with("io_uring").then_some((ring.entries, ring.cq_entries)),
        };
        let metrics = Metrics::install(running.engine.stats().to_vec(), &facts)
            .map_err(|error| Failure::Other(format!("metrics cannot be set up: {error}")))?;
        Ok(Serving { stats: running.engine.stats().to_vec(), metrics, driver, cores: running.cores.clone() })
    }

    /// The first lines of the log say all that a report of a bug has to.
    fn announce(&self, running: &Running, files: u64, served: &[(&str, std::net::SocketAddr)]) {
        tracing::info!(
            target: "ringway",
            version = crate::VERSION,
            config = %self.path.display(),
            generation = running.plan.generation(),
            driver = running.engine.driver(),
            kernel = status::kernel(),
            cores = ?running.cores,
            pinned = self.document.cores.pin,
            descriptors_max = files,
            workdir = %self.document.server.workdir.display(),
            "starting"
        );
        for (name, address) in state::listeners(&running.plan, &running.bound) {
            tracing::info!(target: "ringway", name, address, "listening");
        }
        for (name, address) in served {
            tracing::info!(target: "ringway", name, %address, "listening");
        }
        tracing::info!(target: "ringway", routes = running.plan.route_count(), "serving");
        warn_backlog(&self.document);
    }
}

fn bind_command(workdir: &Path) -> Result<tokio::net::UnixListener, Failure> {
    socket::bind(workdir).map_err(|error| {
        let path = socket::path(workdir);
        Failure::Other(format!(
            "cannot make {}: {error}; set `workdir` under [server] to a folder of this gateway's own",
            path.display()
        ))
    })
}

fn remove_command(workdir: &Path) {
    let _ = std::fs::remove_file(socket::path(workdir));
}

async fn bind_status(document: &Document) -> Result<Option<TcpListener>, Failure> {
    let Some(address) = document.status.listen else {
        return Ok(None);
    };
    TcpListener::bind(address).await.map(Some).map_err(|error| {
        Failure::Other(format!(
            "cannot listen on {address} for [status]: {error}; change `listen` under [status] or set it to \"off\""
        ))
    })
}

/// The port is a common one: who did not choose it need not have it.
async fn bind_control(document: &Document) -> Result<Option<TcpListener>, Failure> {
    let Some(address) = document.control.listen else {
        return Ok(None);
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if document.control.listen_is_default => {
            tracing::warn!(
                target: "ringway",
                %address,
                %error,
                "the control API is not served; choose an address by `listen` under [control] or set it to \"off\""
            );
            Ok(None)
        }
        Err(error) => Err(Failure::Other(format!(
            "cannot listen on {address} for [control]: {error}; change `listen` under [control] or set it to \"off\""
        ))),
    }
}

/// Raises the soft limit of descriptors to the hard one; what it is then.
fn raise_descriptors() -> u64 {
    use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(target: "ringway", %error, "the limit of descriptors cannot be raised");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Unless written, stdout gets the access log only where no person reads it.
fn sink(document: &Document) -> Sink {
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    match &document.log.access {
        config::Access::Stdout if document.log.access_is_default && terminal => Sink::Off,
        config::Access::Stdout => Sink::Stdout,
        config::Access::Off => Sink::Off,
        config::Access::Path(path) => Sink::Path(path.clone()),
    }
}

fn addresses(sockets: &Sockets) -> HashMap<ListenerId, String> {
    sockets.bound.iter().map(|bound| (bound.id.clone(), bound.address.clone())).collect()
}

fn warn_backlog(document: &Document) {
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    let Ok(somaxconn) = somaxconn.trim().parse::<u32>() else {
        return;
    };
    for listener in document.listeners.iter().filter(|listener| listener.backlog > somaxconn) {
        tracing::warn!(
            target: "ringway",
            listener = listener.name,
            backlog = listener.backlog,
            somaxconn,
            "the kernel cuts the backlog: raise net.core.somaxconn"
        );
    }
}

/// Reports of the cores come over crossbeam; a thread hands them to the loop.
fn bridge(engine: &Engine, events: &crate::Events) -> Result<(), Failure> {
    let (reports, events) = (engine.reports().clone(), events.clone());
    let bridged = std::thread::Builder::new().name("ringway-reports".to_owned()).spawn(move || {
        for report in reports {
            if events.send(Event::Report(report)).is_err() {
                return;
            }
        }
    });
    bridged
        .map(drop)
        .map_err(|error| Failure::Other(format!("reports of the cores cannot be heard: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the control API's listener is there, on an address that is taken.
    fn check(listen_is_default: bool, expected: Result<bool, &str>) {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listen = Some(taken.local_addr().expect("bound"));
        let control = config::Control { listen, listen_is_default };
        let document = Document { control, ..Document::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        match (runtime.block_on(bind_control(&document)), expected) {
            (Ok(listener), Ok(served)) => assert_eq!(listener.is_some(), served),
            (Err(Failure::Other(text)), Err(words)) => assert!(text.contains(words), "{text}"),
            _ => panic!("not {expected:?}"),
        }
    }

    #[test]
    fn a_port_that_is_taken() {
        check(true, Ok(false));
        check(false, Err("change `listen` under [control]"));
    }
}
