//! The load generator: closed loop, open loop, one connection per request, idle connections.
//!
//! It reads the proxy's CPU time itself, at the very instants at which its window begins and ends: two samples taken
//! by another process would be off by its scheduling. The result is one JSON line on stdout.

pub mod pool;
mod scrape;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::procfs::{self, Cpu, Ticks};
use crate::wire::{self, Shape};
use pool::{Completed, Failure, Outcome, Pool};

/// Past so many errors a run ends early: it is void anyway.
const ERRORS_MAX: u64 = 1000;
/// How long answers to requests of the window are waited for after its end.
const TAIL: Duration = Duration::from_secs(2);
/// Connections that are opened at the same time.
const OPENING_MAX: usize = 256;

/// What the generator does. Durations are in seconds.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Address of the proxy.
    #[arg(long)]
    pub target: SocketAddr,
    /// Number of connections.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Time before the window.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// Length of the measured window.
    #[arg(long, default_value_t = 3.0)]
    pub window: f64,
    /// Requests per second (open loop, Poisson arrivals); without it each connection asks as fast as it is answered.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Hold idle connections for so long and measure the proxy's memory instead of its speed.
    #[arg(long)]
    pub idle: Option<f64>,
    /// Length of the answers, in bytes.
    #[arg(long, default_value_t = 100)]
    pub bytes: u64,
    /// POST a body of so many bytes instead of GET.
    #[arg(long)]
    pub post: Option<u64>,
    /// Further request headers.
    #[arg(long, default_value_t = 0)]
    pub headers: usize,
    /// Spread the requests over so many routes.
    #[arg(long, default_value_t = 0)]
    pub routes: usize,
    /// A connection per request.
    #[arg(long)]
    pub close: bool,
    /// Milliseconds that the slow requests take at the origin.
    #[arg(long)]
    pub slow_millis: Option<u32>,
    /// How many of a hundred requests are slow.
    #[arg(long, default_value_t = 5)]
    pub slow_percent: u32,
    /// Process whose CPU time (with its children) is read at both ends of the window.
    #[arg(long)]
    pub watch: Option<u32>,
    /// Process of the origin, for the share of the generator's core that both take.
    #[arg(long)]
    pub origin: Option<u32>,
    /// The core on which generator and origin run.
    #[arg(long)]
    pub core: Option<usize>,
    /// Address of a Prometheus page whose ring counters are read at both ends of the window.
    #[arg(long)]
    pub metrics: Option<SocketAddr>,
    /// Address of the origin whose counts of requests are read at both ends of the window.
    #[arg(long)]
    pub counts: Option<SocketAddr>,
    /// How long to wait for the proxy's first right answer.
    #[arg(long, default_value_t = 10.0)]
    pub patience: f64,
    /// Seed of the arrivals.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What a run gave.
#[derive(Clone, Default, Serialize, Deserialize, Debug)]
#[serde(default)]
pub struct Measured {
    /// Length of the window, in seconds.
    pub window_s: f64,
    /// Right answers within the window.
    pub requests: u64,
    /// Wrong or missing ones at any time, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Bytes of bodies, both ways, within the window.
    pub body_bytes: u64,
    /// Connections made within the window.
    pub connects: u64,
    /// CPU time of the watched process, in nanoseconds.
    pub cpu_ns: u64,
    /// Time it was ready but waited for a processor.
    pub run_delay_ns: u64,
    /// CPU time of generator and origin.
    pub generator_cpu_ns: u64,
    /// CPU time of the origin alone.
    pub origin_cpu_ns: u64,
    /// Idle share of the generator's core, in percent.
    pub generator_idle_percent: Option<f64>,
    /// Stolen share of all cores, in percent.
    pub steal_percent: f64,
    /// Latencies of the fast requests: value in ns, count.
    pub latency: Vec<(u64, u64)>,
    /// Latencies of the slow requests, where the scenario has any.
    pub latency_slow: Vec<(u64, u64)>,
    /// Open loop: requests meant for the window that were not answered until two seconds after it.
    pub unanswered: u64,
    /// Proportional set size with no connection, in bytes (idle runs).
    pub pss_before: u64,
    /// The same with all connections idle.
    pub pss_idle: u64,
    /// Connections held (idle runs).
    pub held: u64,
    /// What counters of the metrics page grew by.
    pub counters: BTreeMap<String, f64>,
    /// Requests that reached the origin within the window, by its listeners, where it was asked.
    pub origin_requests: Vec<u64>,
}

/// Runs the generator.
///
/// # Errors
///
/// When the proxy gives no right answer in time, or the ring fails. Wrong answers later are counted instead.
pub fn run(options: &Options) -> io::Result<Measured> {
    let shape = Shape {
        answer_bytes: options.bytes,
        post_bytes: options.post,
        headers: options.headers,
        routes: options.routes,
        close: options.close,
        slow: options.slow_millis.map(|millis| (millis, options.slow_percent)),
    };
    if options.bytes > wire::BODY_BYTES_MAX || options.connections == 0 {
        return Err(io::Error::other("between 1 and 64 MiB, and at least one connection"));
    }
    await_proxy(options, &shape)?;
    let pool = Pool::new(options.target, options.connections, shape.requests(), options.close)?;
    let mut drive = Drive::new(options, pool);
    match options.idle {
        Some(seconds) => drive.idle(Duration::from_secs_f64(seconds))?,
        None => drive.load()?,
    }
    Ok(drive.measured)
}

/// Asks until the first right answer; so the start of a proxy is no error of it.
fn await_proxy(options: &Options, shape: &Shape) -> io::Result<()> {
    let end = Instant::now() + Duration::from_secs_f64(options.patience);
    let mut pool = Pool::new(options.target, 1, vec![shape.requests()[0]], options.close)?;
    let mut outcomes = Vec::new();
    let mut last = None;
    pool.connect(0)?;
    while Instant::now() < end {
        pool.turn(Some(end), &mut outcomes)?;
        for outcome in outcomes.drain(..) {
            match outcome {
                Outcome::Connected(_) => pool.fire(0, Instant::now()),
                Outcome::Completed(_) => return Ok(()),
                Outcome::Failed(_, failure) => {
                    last = Some(failure);
                    std::thread::sleep(Duration::from_millis(20));
                    pool.connect(0)?;
                }
            }
        }
    }
    Err(io::Error::other(format!("no right answer from {} in time (last: {last:?})", options.target)))
}

/// CPU times and ticks at one end of the window.
struct Sample {
    at: Instant,
    proxy: Cpu,
    origin: Cpu,
    ours: Cpu,
    core: Ticks,
    all: Ticks,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    WarmUp,
    Window,
    Tail,
}

struct Drive<'a> {
    options: &'a Options,
    pool: Pool,
    family: Vec<u32>,
    phase: Phase,
    window: (Instant, Instant),
    measured: Measured,
    fast: Histogram,
    slow: Histogram,
    idle: Vec<usize>,
    failed: Vec<usize>,
    random: u64,
}

impl<'a> Drive<'a> {
    fn new(options: &'a Options, pool: Pool) -> Drive<'a> {
        let now = Instant::now();
        Drive {
            options,
            pool,
            family: options.watch.map(procfs::family).unwrap_or_default(),
            phase: Phase::WarmUp,
            window: (now, now),
            measured: Measured::default(),
            fast: Histogram::default(),
            slow: Histogram::default(),
            idle: Vec::new(),
            failed: Vec::new(),
            random: options.seed | 1,
        }
    }

    fn sample(&self) -> Sample {
        let origin: Vec<u32> = self.options.origin.into_iter().collect();
        Sample {
            proxy: procfs::cpu_of(&self.family),
            origin: procfs::cpu_of(&origin),
            ours: procfs::cpu_of(&[std::process::id()]),
            core: procfs::ticks(self.options.core),
            all: procfs::ticks(None),
            at: Instant::now(),
        }
    }

    /// What proxy and origin have counted so far; read just outside the window, since nothing is sent meanwhile.
    fn pages(&self) -> (scrape::Counters, Vec<u64>) {
        let origins = self.options.counts.map(scrape::read_origins).unwrap_or_default();
        (self.options.metrics.map(scrape::read).unwrap_or_default(), origins)
    }

    fn errors(&self) -> u64 {
        self.measured.errors.values().sum()
    }

    fn count_error(&mut self, failure: Failure) {
        *self.measured.errors.entry(format!("{failure:?}").to_lowercase()).or_default() += 1;
    }

    /// Makes every connection, at most [`OPENING_MAX`] at a time.
    fn open_all(&mut self) -> io::Result<()> {
        let (mut started, mut done) = (0, 0);
        let mut outcomes = Vec::new();
        while done < self.pool.len() && self.errors() < ERRORS_MAX {
            while started < self.pool.len() && started - done < OPENING_MAX {
                self.pool.connect(started)?;
                started += 1;
            }
            let patience = Instant::now() + Duration::from_secs(5);
            self.pool.turn(Some(patience), &mut outcomes)?;
            if outcomes.is_empty() && Instant::now() >= patience {
                return Err(io::Error::other(format!("{} of {started} connections were made", done)));
            }
            for outcome in outcomes.drain(..) {
                done += 1;
                match outcome {
                    Outcome::Connected(index) => self.idle.push(index),
                    Outcome::Failed(index, failure) => {
                        self.count_error(failure);
                        self.failed.push(index);
                    }
                    Outcome::Completed(_) => {}
                }
            }
        }
        Ok(())
    }

    fn load(&mut self) -> io::Result<()> {
        self.open_all()?;
        let begin = Instant::now() + Duration::from_secs_f64(self.options.warm_up);
        self.window = (begin, begin + Duration::from_secs_f64(self.options.window));
        let mut next = Instant::now();
        let mut before = None;
        let mut pages = (scrape::Counters::default(), Vec::new());
        let mut outcomes = Vec::new();
        loop {
            let now = Instant::now();
            let phase = self.phase;
            match phase {
                Phase::WarmUp if now >= self.window.0 => {
                    pages = self.pages();
                    // Children that were started during the warm-up belong to it, too.
                    self.family = self.options.watch.map(procfs::family).unwrap_or_default();
                    let sample = self.sample();
                    self.window = (sample.at, sample.at + Duration::from_secs_f64(self.options.window));
                    before = Some(sample);
                    self.phase = Phase::Window;
                }
                Phase::Window if now >= self.window.1 => {
                    let after = self.sample();
                    let before = before.as_ref().expect("the window began");
                    let pages_after = self.pages();
                    self.measured.counters = scrape::growth(&pages.0, &pages_after.0);
                    self.measured.origin_requests = scrape::growth_of_origins(&pages.1, &pages_after.1);
                    self.take_samples(before, &after);
                    self.phase = Phase::Tail;
                }
                Phase::Tail if self.finished(now, next) => break,
                _ => {}
            }
            if self.errors() >= ERRORS_MAX {
                break;
            }
            self.fire_due(now, &mut next);
            self.pool.turn(Some(self.wake_at(next)), &mut outcomes)?;
            let now = Instant::now();
            for outcome in outcomes.drain(..) {
                self.on_outcome(outcome, now)?;
            }
        }
        self.measured.latency = self.fast.sparse();
        self.measured.latency_slow = self.slow.sparse();
        Ok(())
    }

    /// Whether everything that the window asked for is answered, or was waited for long enough.
    fn finished(&mut self, now: Instant, next: Instant) -> bool {
        if self.options.rate.is_none() {
            return true;
        }
        let waiting = self.pool.busy() as u64;
        let unsent = next < self.window.1;
        if waiting == 0 && !unsent {
            return true;
        }
        if now < self.window.1 + TAIL {
            return false;
        }
        // Those that never left count, too: at the rate asked for, from the first one waiting to the window's end.
        let missing =
            (self.window.1.saturating_duration_since(next)).as_secs_f64() * self.options.rate.unwrap_or(0.0);
        self.measured.unanswered = waiting + missing as u64;
        true
    }

    fn wake_at(&self, next: Instant) -> Instant {
        let phase_end = match self.phase {
            Phase::WarmUp => self.window.0,
            Phase::Window => self.window.1,
            Phase::Tail => self.window.1 + TAIL,
        };
        if self.options.rate.is_some() && !self.idle.is_empty() && self.may_fire(next) {
            phase_end.min(next)
        } else {
            phase_end
        }
    }

    fn may_fire(&self, intended: Instant) -> bool {
        self.phase != Phase::Tail || intended < self.window.1
    }

    /// Sends what is due: on every idle connection (closed loop), or what the arrivals say (open loop).
    fn fire_due(&mut self, now: Instant, next: &mut Instant) {
        match self.options.rate {
            None if self.phase == Phase::Tail => {}
            None => {
                for index in std::mem::take(&mut self.idle) {
                    self.pool.fire(index, now);
                }
            }
            Some(rate) => {
                while *next <= now && self.may_fire(*next) {
                    let Some(index) = self.idle.pop() else { return };
                    self.pool.fire(index, *next);
                    *next += self.gap(rate);
                }
            }
        }
    }

    /// Time to the next arrival: exponential, so that requests come as from many independent clients.
    fn gap(&mut self, rate: f64) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let uniform = ((self.random >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-uniform.ln() / rate)
    }

    fn on_outcome(&mut self, outcome: Outcome, now: Instant) -> io::Result<()> {
        match outcome {
            Outcome::Connected(index) => {
                self.measured.connects += u64::from(self.phase == Phase::Window);
                self.idle.push(index);
            }
            Outcome::Completed(done) => {
                self.record(&done, now);
                if !self.options.close {
                    self.idle.push(done.connection);
                } else if self.phase != Phase::Tail {
                    self.pool.connect(done.connection)?;
                }
            }
            Outcome::Failed(index, failure) => {
                self.count_error(failure);
                if self.phase != Phase::Tail {
                    self.pool.connect(index)?;
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, done: &Completed, now: Instant) {
        if self.phase == Phase::Window {
            self.measured.requests += 1;
            self.measured.body_bytes += done.body_bytes;
        }
        let (begin, end) = self.window;
        // Open loop: what was meant for the window counts, whenever it was answered. Closed loop: what ended in it.
        let counts = match self.options.rate {
            Some(_) => self.phase != Phase::WarmUp && done.intended >= begin && done.intended < end,
            None => self.phase == Phase::Window,
        };
        if counts {
            let nanos = now.saturating_duration_since(done.intended).as_nanos() as u64;
            let histogram = if done.slow { &mut self.slow } else { &mut self.fast };
            histogram.record(nanos);
        }
    }

    fn take_samples(&mut self, before: &Sample, after: &Sample) {
        let since = |after: Cpu, before: Cpu| after.run_nanos.saturating_sub(before.run_nanos);
        let measured = &mut self.measured;
        measured.window_s = (after.at - before.at).as_secs_f64();
        measured.cpu_ns = since(after.proxy, before.proxy);
        measured.run_delay_ns = after.proxy.delay_nanos.saturating_sub(before.proxy.delay_nanos);
        measured.origin_cpu_ns = since(after.origin, before.origin);
        measured.generator_cpu_ns = since(after.ours, before.ours) + measured.origin_cpu_ns;
        measured.generator_idle_percent = after.core.idle_percent_since(&before.core);
        measured.steal_percent = after.all.steal_percent_since(&before.all);
    }

    /// Opens all connections, asks once on each, holds them, asks once more on each.
    fn idle(&mut self, hold: Duration) -> io::Result<()> {
        self.measured.pss_before = procfs::pss_of(&self.family);
        self.open_all()?;
        self.ask_each_once()?;
        // Nothing is sent meanwhile: the proxy comes to rest, sweeps its buffers, settles.
        std::thread::sleep(hold);
        self.measured.pss_idle = procfs::pss_of(&self.family);
        self.measured.held = self.idle.len() as u64;
        // A proxy that saved memory by closing them is found here.
        self.ask_each_once()
    }

    fn ask_each_once(&mut self) -> io::Result<()> {
        let mut waiting = std::mem::take(&mut self.idle);
        let mut in_flight = 0;
        let mut outcomes = Vec::new();
        while in_flight > 0 || !waiting.is_empty() {
            while in_flight < OPENING_MAX {
                let Some(index) = waiting.pop() else { break };
                self.pool.fire(index, Instant::now());
                in_flight += 1;
            }
            let patience = Instant::now() + Duration::from_secs(5);
            self.pool.turn(Some(patience), &mut outcomes)?;
            if outcomes.is_empty() && Instant::now() >= patience {
                return Err(io::Error::other(format!("{in_flight} answers are missing")));
            }
            for outcome in outcomes.drain(..) {
                in_flight -= 1;
                match outcome {
                    Outcome::Completed(done) => {
                        self.measured.requests += 1;
                        self.idle.push(done.connection);
                    }
                    Outcome::Failed(_, failure) => self.count_error(failure),
                    Outcome::Connected(_) => {}
                }
            }
        }
        Ok(())
    }
}
