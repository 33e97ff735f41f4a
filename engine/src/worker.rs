//! What one core owns, and how it follows control.
//!
//! A worker takes no lock on the way of a request: its view of the plan, its
//! pools, its wheel, its free lists and its counters are its own. Control's
//! commands arrive by the doorbell and are acted on between requests.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::channel::{Command, Inbox, Report};
use crate::clock;
use crate::deadline::{Wheel, TICK_MILLIS};
use crate::listen::accept::{Accepting, ListenerInfo};
use crate::listen::{guard, ListenerId};
use crate::observe::log::CoreLog;
use crate::observe::{AccessLog, CoreStats};
use crate::plan::{CorePlan, Plan};
use crate::proxy::exchange::Exchange;
use crate::sys::{self, Socket};
use crate::upstream::pool::Pools;
use crate::upstream::CoreUpstream;
use crate::{buffer, Settings};

/// Free exchanges kept per core.
const EXCHANGES_KEPT_MAX: usize = 1024;
/// Of them those that a trim leaves alone.
const EXCHANGES_KEPT_MIN: usize = 16;
/// What other cores know of this one's loads is at most twice as old.
const LOADS_PERIOD: Duration = Duration::from_millis(5);
/// After the drain deadline has cut what was left, tasks get this long to end.
const CUT_GRACE_MILLIS: u64 = 500;

/// One core's state.
pub struct Worker {
    /// 0 to workers - 1.
    pub index: usize,
    /// Whether descriptors must be non-blocking.
    pub legacy: bool,
    /// Counters.
    pub stats: Arc<CoreStats>,
    /// Deadlines.
    pub wheel: Rc<Wheel>,
    /// Access log lines.
    pub log: Rc<CoreLog>,
    /// Kept connections to upstreams.
    pub pools: Pools,
    /// Client connections open now.
    pub connections: Cell<usize>,
    /// TLS handshakes under way.
    pub handshakes: Cell<usize>,
    /// Connections that hold a buffer and wait for a next request.
    pub waiting: Cell<usize>,
    /// Bytes of streaming request bodies that are kept for another try.
    pub kept_bytes: Cell<usize>,
    /// Copies of requests under way.
    pub mirrors: Cell<usize>,
    /// This core's share of `server.limits.connections`.
    pub connections_max: Cell<usize>,
    workers: usize,
    /// Upstreams whose loads have to be published.
    loads: RefCell<Vec<Rc<CoreUpstream>>>,
    plan: RefCell<Rc<CorePlan>>,
    #[allow(clippy::vec_box)] // moved in and out by pointer: an exchange is large
    exchanges: RefCell<Vec<Box<Exchange>>>,
    /// The fewest free exchanges since the last trim.
    exchanges_unused: Cell<usize>,
    random: (RandomState, Cell<u64>),
    draining: Cell<bool>,
    stopping: Cell<bool>,
    drain_until: Cell<u64>,
    listeners: RefCell<HashMap<ListenerId, Accepting>>,
    reports: Sender<Report>,
}

/// Lets the publishing of loads begin anew, should its task panic.
struct LoadsEnd(Rc<Worker>);

impl Drop for LoadsEnd {
    fn drop(&mut self) {
        for upstream in self.0.loads.take() {
            upstream.loads_told.set(false);
        }
    }
}

/// What a worker begins with.
pub struct Setup {
    /// 0 to workers - 1.
    pub index: usize,
    /// How many workers there are.
    pub workers: usize,
    /// The first plan.
    pub plan: Arc<Plan>,
    /// Its listening sockets, with the addresses as bound.
    pub sockets: Vec<(ListenerId, OwnedFd)>,
    /// Counters.
    pub stats: Arc<CoreStats>,
    /// The log's shared end.
    pub log: AccessLog,
    /// Commands.
    pub inbox: Inbox,
    /// The worker's end of the doorbell.
    pub bell: OwnedFd,
    /// Reports to control.
    pub reports: Sender<Report>,
}

impl Worker {
    fn new(setup: &Setup, legacy: bool) -> Rc<Self> {
        let log = CoreLog::new(setup.log.clone(), setup.stats.clone());
        Rc::new(Self {
            index: setup.index,
            legacy,
            stats: setup.stats.clone(),
            wheel: Wheel::new(),
            log,
            pools: Pools::default(),
            connections: Cell::new(0),
            handshakes: Cell::new(0),
            waiting: Cell::new(0),
            kept_bytes: Cell::new(0),
            mirrors: Cell::new(0),
            connections_max: Cell::new(usize::MAX),
            workers: setup.workers,
            loads: RefCell::default(),
            plan: RefCell::new(CorePlan::first(&setup.plan)),
            exchanges: RefCell::default(),
            exchanges_unused: Cell::new(0),
            random: (RandomState::new(), Cell::new(0)),
            draining: Cell::new(false),
            stopping: Cell::new(false),
            drain_until: Cell::new(0),
            listeners: RefCell::default(),
            reports: setup.reports.clone(),
        })
    }

    /// The plan in force; an exchange takes it once.
    pub fn plan(&self) -> Rc<CorePlan> {
        self.plan.borrow().clone()
    }

    /// No further request is taken on a connection when this is true.
    pub fn draining(&self) -> bool {
        self.draining.get()
    }

    /// Draining or stopping.
    pub fn ending(&self) -> bool {
        self.draining.get() || self.stopping.get()
    }

    /// 64 bits that cannot be told from earlier ones: a counter under SipHash
    /// with a key of the system's, about 20 ns and no system call.
    pub fn random(&self) -> u64 {
        let (hasher, counter) = &self.random;
        counter.set(counter.get() + 1);
        hasher.hash_one(counter.get())
    }

    /// A cleared exchange from the free list, or a new one.
    pub fn take_exchange(&self) -> Box<Exchange> {
        let mut free = self.exchanges.borrow_mut();
        let exchange = free.pop().unwrap_or_default();
        self.exchanges_unused.set(self.exchanges_unused.get().min(free.len()));
        exchange
    }

    /// Puts an exchange back. Its memory stays, its contents do not.
    pub fn give_exchange(&self, mut exchange: Box<Exchange>) {
        exchange.clear();
        let mut free = self.exchanges.borrow_mut();
        if free.len() < EXCHANGES_KEPT_MAX {
            free.push(exchange);
        }
    }

    /// Frees what a burst has left in the free lists.
    fn trim(&self) {
        buffer::trim();
        let mut free = self.exchanges.borrow_mut();
        let left = free.len() - self.exchanges_unused.get().saturating_sub(EXCHANGES_KEPT_MIN);
        free.truncate(left);
        self.exchanges_unused.set(left);
    }

    /// Tells control that live traffic changed an endpoint's health.
    pub fn report_health(&self, upstream: &str, endpoint: &str, change: balancer::endpoint::Change) {
        let (upstream, endpoint) = (upstream.to_owned(), endpoint.to_owned());
        let _ = self.reports.send(Report::Health { worker: self.index, upstream, endpoint, change });
    }

    /// Tells control that a try at an endpoint under active checks failed.
    pub fn report_suspect(&self, endpoint: &Arc<balancer::endpoint::SharedEndpoint>) {
        let _ = self.reports.send(Report::Suspect { endpoint: endpoint.clone() });
    }

    /// Publishes this core's loads of an upstream every [`LOADS_PERIOD`] until they are at rest.
    pub fn tell_loads(self: &Rc<Self>, upstream: Rc<CoreUpstream>) {
        self.loads.borrow_mut().push(upstream);
        if self.loads.borrow().len() > 1 {
            return;
        }
        let worker = self.clone();
        guard::spawn(self, async move {
            let _ending = LoadsEnd(worker.clone());
            while !worker.loads.borrow().is_empty() {
                monoio::time::sleep(LOADS_PERIOD).await;
                let now = clock::micros();
                worker.loads.borrow_mut().retain(|upstream| {
                    let more = upstream.group.borrow_mut().publish(now);
                    upstream.loads_told.set(more);
                    more
                });
            }
        });
    }

    fn apply(self: &Rc<Self>, plan: &Arc<Plan>, sockets: Vec<(ListenerId, OwnedFd)>) {
        let next = self.plan.borrow().follow(self, plan);
        *self.plan.borrow_mut() = next;
        self.pools.retain(plan);
        let share = plan.settings().limits.connections.div_ceil(self.workers).max(1);
        self.connections_max.set(share);
        self.stats.generation.set(plan.generation());
        self.listen(plan, sockets);
        let _ = self.reports.send(Report::Applied { worker: self.index, generation: plan.generation() });
    }

    fn listen(self: &Rc<Self>, plan: &Arc<Plan>, sockets: Vec<(ListenerId, OwnedFd)>) {
        let wanted: HashMap<ListenerId, &Arc<config::Listener>> =
            plan.listeners().iter().map(|listener| (crate::listen::id(listener), listener)).collect();
        self.listeners.borrow_mut().retain(|id, accepting| {
            let keep = wanted.contains_key(id);
            match wanted.get(id) {
                Some(listener) => accepting.info.tls.set(listener.tls),
                None => accepting.stop(),
            }
            keep
        });
        for (id, fd) in sockets {
            let Some(listener) = wanted.get(&id) else { continue };
            let unix = matches!(listener.address, config::ListenAddress::Unix(_));
            let port = std::os::fd::AsRawFd::as_raw_fd(&fd);
            let port = sys::local_addr(port).map_or(0, |address| address.port());
            let info = ListenerInfo { name: listener.name.clone(), port, tls: Cell::new(listener.tls) };
            match Accepting::start(self, fd, info, unix) {
                Ok(accepting) => drop(self.listeners.borrow_mut().insert(id, accepting)),
                Err(error) => tracing::error!(%error, listener = listener.name, "cannot accept on this core"),
            }
        }
    }

    fn obey(self: &Rc<Self>, command: Command) {
        match command {
            Command::Plan { plan, sockets } => self.apply(&plan, sockets),
            Command::Health { upstream } => self.plan().refresh_health(&upstream),
            Command::Drain { deadline } => {
                self.draining.set(true);
                self.drain_until.set(clock::micros() / 1000 + deadline.as_millis() as u64);
                for (_, accepting) in self.listeners.borrow_mut().drain() {
                    accepting.stop();
                }
                self.wheel.shut_idle();
            }
            Command::Stop => {
                self.stopping.set(true);
                self.draining.set(true);
                self.drain_until.set(0);
                for (_, accepting) in self.listeners.borrow_mut().drain() {
                    accepting.stop();
                }
            }
        }
    }

    /// Once a tick: deadlines, dates, logs, pools.
    fn tick(&self, began: u64) {
        clock::refresh();
        self.wheel.advance((clock::micros() - began) / 1000);
        self.log.flush();
        self.stats.ticks.add(1);
        if self.stats.ticks.get() % 4 == 0 {
            self.trim();
        }
        if self.stats.ticks.get() % 20 == 0 {
            self.pools.sweep(&self.stats);
            for (gauge, kept) in self.stats.buffers_kept.iter().zip(buffer::kept()) {
                gauge.set(kept as u64);
            }
        }
        if self.draining.get() {
            // Connections that went idle since, and those accepted last.
            self.wheel.shut_idle();
        }
    }
}

/// Runs a worker until control stops it or it has drained. Returns how many
/// connections were cut.
pub async fn run(setup: Setup, legacy: bool, settings: Settings) -> usize {
    buffer::configure(settings.buffers.read, settings.buffers.bulk, settings.buffers.pool);
    let worker = Worker::new(&setup, legacy);
    let Setup { plan, sockets, inbox, bell, reports, index, .. } = setup;
    worker.apply(&plan, sockets);
    drop(plan);
    let _ = reports.send(Report::Started { worker: index });
    let ear = worker.clone();
    guard::spawn(&worker, async move { hear(&ear, bell, inbox).await });
    let began = clock::micros();
    loop {
        monoio::time::sleep(Duration::from_millis(TICK_MILLIS)).await;
        worker.tick(began);
        if let Some(cut) = finished(&worker).await {
            worker.log.flush();
            return cut;
        }
    }
}

/// When draining has come to its end: how many connections were cut.
async fn finished(worker: &Rc<Worker>) -> Option<usize> {
    if !worker.draining.get() {
        return None;
    }
    let left = worker.connections.get();
    if left == 0 {
        return Some(0);
    }
    if clock::micros() / 1000 < worker.drain_until.get() {
        return None;
    }
    worker.wheel.shut_all();
    let until = clock::micros() / 1000 + CUT_GRACE_MILLIS;
    while worker.connections.get() > 0 && clock::micros() / 1000 < until {
        monoio::time::sleep(Duration::from_millis(5)).await;
    }
    Some(left)
}

async fn hear(worker: &Rc<Worker>, bell: OwnedFd, inbox: Inbox) {
    let registered = sys::set_nonblocking(&bell, worker.legacy).and_then(|()| Socket::from_fd(bell));
    let Ok(bell) = registered else {
        worker.stopping.set(true);
        return;
    };
    let mut buffer = Vec::with_capacity(16);
    loop {
        inbox.heard();
        while let Ok(command) = inbox.next() {
            worker.obey(command);
        }
        buffer.clear();
        let (read, back) = bell.read(buffer).await;
        buffer = back;
        if !matches!(read, Ok(count) if count > 0) {
            // Control is gone: end as if told to stop.
            worker.obey(Command::Stop);
            return;
        }
    }
}
