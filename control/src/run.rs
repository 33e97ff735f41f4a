//! `ringway run`: from a file to serving cores, then the loop.
//!
//! Everything that can fail is done before the first connection is accepted, and
//! each failure says what and how to mend it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use config::{Document, ProcessEnv, Report};
use engine::listen::Sockets;
use engine::observe::log::{self, Sink};
use engine::observe::AccessWriter;
use engine::plan::{Feeds, Plan};
use engine::{Engine, Settings};
use tokio::sync::mpsc::unbounded_channel;

use crate::metrics::Metrics;
use crate::state::State;
use crate::status::{Now, Shared};
use crate::{compile, logging, resolve, signals, socket, source, status, Event};

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
pub fn run(options: &RunOptions) -> ExitCode {
    let (document, report) = config::parse_file(&options.config, &ProcessEnv);
    let Some(document) = document else {
        eprint!("{}", report.render(color()));
        return ExitCode::from(INVALID);
    };
    let level = logging::init(&document.log);
    if !report.problems().is_empty() {
        eprint!("{}", report.render(color()));
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no runtime for control: {error}")),
    };
    let code = runtime.block_on(serve(options, Arc::new(document), report, level));
    // Helper threads that still render or compile are not waited for.
    runtime.shutdown_background();
    code
}

fn color() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}

fn fail(message: &str) -> ExitCode {
    tracing::error!(target: "ringway", "{message}");
    eprintln!("error: {message}");
    ExitCode::from(FAILED)
}

/// What has been started.
struct Started {
    engine: Engine,
    writer: AccessWriter,
    plan: Arc<Plan>,
    feeds: Feeds,
    cores: Vec<usize>,
    listeners: Vec<(String, String, String)>,
}

async fn serve(options: &RunOptions, document: Arc<Document>, report: Report, level: logging::Level) -> ExitCode {
    let files = raise_descriptors();
    let command_socket = match socket::bind(&document.server.workdir) {
        Ok(listener) => listener,
        Err(error) => {
            let path = socket::path(&document.server.workdir);
            return fail(&format!(
                "cannot make {}: {error}; set [server] workdir to a folder of this gateway's own",
                path.display()
            ));
        }
    };
    let status_listener = match bind_status(&document).await {
        Ok(listener) => listener,
        Err(message) => return fail(&message),
    };
    let started = match start(&document, &report).await {
        Ok(started) => started,
        Err(Failure::Invalid(problems)) => {
            eprint!("{problems}");
            return ExitCode::from(INVALID);
        }
        Err(Failure::Other(message)) => return fail(&message),
    };
    let metrics = match Metrics::install(started.engine.stats().to_vec(), started.engine.driver()) {
        Ok(metrics) => metrics,
        Err(error) => return fail(&format!("metrics cannot be set up: {error}")),
    };
    let shared = Arc::new(Shared {
        stats: started.engine.stats().to_vec(),
        metrics,
        driver: started.engine.driver().to_owned(),
        cores: started.cores.clone(),
        began: Instant::now(),
        now: Mutex::new(Now {
            generation: started.plan.generation(),
            since: Instant::now(),
            draining: false,
            routes: started.plan.route_count(),
            listeners: started.listeners.iter().map(|(_, name, at)| (name.clone(), at.clone())).collect(),
            last_error: None,
        }),
    });
    let (events, inbox) = unbounded_channel();
    if let Err(error) = signals::listen(&events) {
        return fail(&format!("signals cannot be handled: {error}"));
    }
    bridge(&started.engine, &events);
    tokio::spawn(socket::serve(command_socket, events.clone()));
    let status_address = status_listener.as_ref().and_then(|listener| listener.local_addr().ok());
    if let Some(listener) = status_listener {
        tokio::spawn(status::serve(listener, shared.clone()));
    }
    let names = resolve::start(events.clone(), started.plan.names(), started.feeds.addresses.clone());
    let mut watch = source::Watch::start(events.clone());
    watch.follow(&options.config, &document);
    // Whoever reads the log's first lines may change the file right away.
    announce(options, &started, files, status_address);
    // And it may have changed between the reading and the watching.
    let _ = events.send(Event::FileChanged);
    let state = State {
        path: options.config.clone(),
        bound: started.listeners.into_iter().map(|(id, _, address)| (id, address)).collect(),
        engine: started.engine,
        writer: started.writer,
        feeds: started.feeds,
        plan: started.plan,
        shared,
        events,
        names,
        watch,
        level,
        compiling: None,
        again: None,
        waiting: Vec::new(),
        retired: Vec::new(),
        drained: 0,
        interrupted: false,
    };
    let code = state.run(inbox).await;
    let _ = std::fs::remove_file(socket::path(&document.server.workdir));
    code
}

/// Raises the soft limit of descriptors to the hard one; what it is then.
fn raise_descriptors() -> u64 {
    use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Some(maximum) = limit.maximum {
        let raised = Rlimit { current: Some(maximum), maximum: Some(maximum) };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return maximum;
        }
    }
    limit.current.unwrap_or(u64::MAX)
}

async fn bind_status(document: &Document) -> Result<Option<tokio::net::TcpListener>, String> {
    let Some(address) = document.status.listen else { return Ok(None) };
    tokio::net::TcpListener::bind(address).await.map(Some).map_err(|error| {
        format!("cannot listen on {address} for [status]: {error}; change `listen` under [status] or set it to \"off\"")
    })
}

enum Failure {
    Invalid(String),
    Other(String),
}

async fn start(document: &Arc<Document>, report: &Report) -> Result<Started, Failure> {
    let mut feeds = Feeds { addresses: Default::default(), shared: engine::plan::SharedState::default() };
    let compiled = |feeds: &Feeds| {
        let mut report = report.clone();
        engine::plan::compile(document, feeds, None, 1, &mut report)
            .ok_or_else(|| Failure::Invalid(report.render(color())))
    };
    let mut plan = compiled(&feeds)?;
    let names = plan.names();
    if !names.is_empty() {
        feeds.addresses = resolve::first(&names).await;
        plan = compiled(&feeds)?;
    }
    let cores = engine::cores::resolve(&document.cores).map_err(Failure::Other)?;
    let sockets = engine::listen::bind(plan.listeners(), cores.len(), &HashMap::new())
        .map_err(|failed| Failure::Other(compile::bind_errors(&failed).trim_start_matches("error: ").to_owned()))?;
    let listeners = names_of(&sockets);
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let sink = match &document.log.access {
        config::Access::Off => Sink::Off,
        // Nobody asked for it, and somebody is looking at the diagnostics.
        config::Access::Stdout if document.log.access_is_default && terminal => Sink::Off,
        config::Access::Stdout => Sink::Stdout,
        config::Access::Path(path) => Sink::Path(path.clone()),
    };
    let (access, writer) =
        log::open(sink.clone()).map_err(|error| Failure::Other(format!("cannot open the access log {sink:?}: {error}")))?;
    let settings = Settings {
        cores: cores.clone(),
        pin: document.cores.pin,
        driver: document.cores.driver,
        ring: document.cores.ring.clone(),
        buffers: document.cores.buffers.clone(),
    };
    let engine = Engine::start(settings, plan.clone(), sockets, access)
        .map_err(|error| Failure::Other(error.to_string()))?;
    Ok(Started { engine, writer, plan, feeds, cores, listeners })
}

/// Id, name and address of each.
fn names_of(sockets: &Sockets) -> Vec<(String, String, String)> {
    sockets.bound.iter().map(|bound| (bound.id.clone(), bound.name.clone(), bound.address.clone())).collect()
}

/// The first lines of the log say all that a bug report has to.
fn announce(options: &RunOptions, started: &Started, files: u64, status: Option<std::net::SocketAddr>) {
    let document = started.plan.document();
    tracing::info!(
        target: "ringway",
        version = crate::VERSION,
        config = %options.config.display(),
        generation = started.plan.generation(),
        driver = started.engine.driver(),
        kernel = status::kernel(),
        cores = ?started.cores,
        pinned = document.cores.pin,
        descriptors = files,
        "starting"
    );
    for (_, name, address) in &started.listeners {
        tracing::info!(target: "ringway", name, address, "listening");
    }
    if let Some(address) = status {
        tracing::info!(target: "ringway", name = "status", address = %address, "listening");
    }
    tracing::info!(target: "ringway", routes = started.plan.route_count(), "serving");
    warn_backlog(document);
}

fn warn_backlog(document: &Document) {
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    let Ok(somaxconn) = somaxconn.trim().parse::<u32>() else { return };
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
fn bridge(engine: &Engine, events: &crate::Events) {
    let (reports, events) = (engine.reports().clone(), events.clone());
    let bridged = std::thread::Builder::new().name("ringway-reports".to_owned()).spawn(move || {
        for report in reports {
            if events.send(Event::Report(report)).is_err() {
                return;
            }
        }
    });
    if let Err(error) = bridged {
        tracing::error!(%error, "reports of the cores cannot be heard");
    }
}
