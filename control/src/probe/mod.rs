//! Active health checks: one prober for the process.
//!
//! It starts with the first plan, not with the first request, and follows every plan after. [`schedule`] says when
//! which endpoint is probed; `http`, `grpc` and `tls` know how; the task here carries results to the endpoints and
//! tells the loop of what changed by them. Every upstream with `checks.active` is probed, whether a route leads to it
//! or not, so that the first request after a change of routes finds its endpoints known. Nodes that are written
//! `down` are not: whoever took them out may have switched them off.
//!
//! An endpoint of two upstreams is probed by each: their rules differ, and so may their verdicts.

mod grpc;
mod http;
mod schedule;
mod tls;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Instant;

use balancer::endpoint::{Change, ProbeOutcome, SharedEndpoint};
use config::balance::{ActiveCheck, ProbeKind};
use config::PassHost;
use engine::plan::{Endpoint, Plan, UpstreamPlan};
use engine::upstream::Address;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::task::{Id, JoinSet};

use schedule::{Key, Pace, Schedule};
use tls::Tls;

use crate::{health, metrics, Event, Events};

/// A probe that changed an endpoint's health.
#[derive(Clone, Debug)]
pub(crate) struct Probed {
    /// The upstream's id.
    pub upstream: String,
    /// The endpoint's address as text.
    pub endpoint: String,
    /// What changed.
    pub change: Change,
    /// What the probe found, for people.
    pub why: String,
}

/// Tells the prober what it has to know. Nothing runs before the first plan that has something to probe.
pub(crate) struct Prober {
    events: Events,
    messages: Option<UnboundedSender<Message>>,
    tls: Tls,
}

enum Message {
    /// From now on the endpoints of this plan.
    Plan(Arc<Plan>),
    /// Live traffic changed the health of an endpoint of this upstream.
    Health(String),
    /// A try at this endpoint failed.
    Suspect(Arc<SharedEndpoint>),
}

impl Prober {
    /// A prober that has nothing to do yet; what its probes change goes to `events`.
    pub(crate) fn new(events: Events) -> Prober {
        Prober { events, messages: None, tls: Tls::default() }
    }

    /// From now on the endpoints of this plan and no others; what stays keeps its schedule.
    pub(crate) fn follow(&mut self, plan: &Arc<Plan>) {
        if self.messages.is_none() && plan.upstreams().any(|upstream| active(upstream).is_some()) {
            self.messages = begin(self.events.clone(), self.tls.clone());
        }
        if let Some(messages) = &self.messages {
            let _ = messages.send(Message::Plan(plan.clone()));
        }
    }

    /// The health of an endpoint of this upstream was changed by live traffic: its interval may be another now.
    pub(crate) fn health(&self, upstream: &str) {
        if let Some(messages) = &self.messages {
            let _ = messages.send(Message::Health(upstream.to_owned()));
        }
    }

    /// A try of live traffic at this endpoint failed: it is probed at once, or as soon as
    /// [`schedule`] allows.
    pub(crate) fn suspect(&self, endpoint: &Arc<SharedEndpoint>) {
        if let Some(messages) = &self.messages {
            let _ = messages.send(Message::Suspect(endpoint.clone()));
        }
    }
}

/// Starts the prober's thread: many handshakes at once, or a plan of 10,000 endpoints, hold up no reload and no signal.
fn begin(events: Events, tls: Tls) -> Option<UnboundedSender<Message>> {
    let (sender, messages) = unbounded_channel();
    // Gateways that start together need not probe together.
    let seed = std::hash::RandomState::new().build_hasher().finish();
    let begun = std::thread::Builder::new().name("ringway-probes".to_owned()).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(Work::new(events, tls, seed).run(messages)),
            Err(error) => tracing::error!(target: "ringway", %error, "no runtime for health checks"),
        }
    });
    match begun {
        Ok(_) => Some(sender),
        Err(error) => {
            tracing::error!(target: "ringway", %error, "no thread for health checks: nothing is probed");
            None
        }
    }
}

/// The active check of an upstream.
fn active(upstream: &UpstreamPlan) -> Option<&ActiveCheck> {
    upstream.source.checks.as_ref()?.active.as_ref()
}

/// One endpoint under probes.
#[derive(Clone)]
struct Target {
    upstream: Arc<UpstreamPlan>,
    index: usize,
}

impl Target {
    fn endpoint(&self) -> &Endpoint {
        &self.upstream.endpoints[self.index]
    }

    fn check(&self) -> Option<&ActiveCheck> {
        active(&self.upstream)
    }

    fn healthy(&self) -> bool {
        health::is_healthy(&health::status(&self.upstream, self.endpoint()))
    }

    /// One shared endpoint belongs to one upstream, goes with it from plan to plan, and is held here.
    fn key(&self) -> Key {
        Arc::as_ptr(&self.endpoint().shared) as Key
    }

    fn pace(&self, check: &ActiveCheck, upstream: &Arc<str>) -> Pace {
        Pace {
            upstream: upstream.clone(),
            concurrency: check.concurrency,
            healthy: check.healthy_interval,
            unhealthy: check.unhealthy_interval,
        }
    }
}

struct Work {
    schedule: Schedule,
    targets: HashMap<Key, Target>,
    tls: Tls,
    probes: JoinSet<Found>,
    keys: HashMap<Id, Key>,
    events: Events,
}

impl Work {
    fn new(events: Events, tls: Tls, seed: u64) -> Work {
        Work {
            schedule: Schedule::new(seed),
            targets: HashMap::new(),
            tls,
            probes: JoinSet::new(),
            keys: HashMap::new(),
            events,
        }
    }

    async fn run(mut self, mut messages: UnboundedReceiver<Message>) {
        loop {
            while let Some(key) = self.schedule.take(Instant::now()) {
                self.begin(key);
            }
            let due = self.schedule.due();
            tokio::select! {
                message = messages.recv() => match message {
                    Some(Message::Plan(plan)) => self.follow(&plan),
                    Some(Message::Health(upstream)) => self.health(&upstream),
                    Some(Message::Suspect(endpoint)) => {
                        self.schedule.hurry(Arc::as_ptr(&endpoint) as Key, Instant::now());
                    }
                    None => return,
                },
                Some(ended) = self.probes.join_next_with_id() => self.ended(ended),
                () = sleep_until(due) => {}
            }
        }
    }

    fn follow(&mut self, plan: &Plan) {
        let mut wanted = Vec::new();
        self.targets.clear();
        for upstream in plan.upstreams() {
            let Some(check) = active(upstream) else { continue };
            let id: Arc<str> = upstream.id.as_str().into();
            for index in 0..upstream.endpoints.len() {
                let target = Target { upstream: upstream.clone(), index };
                if target.endpoint().spec.down {
                    continue;
                }
                let (key, pace, healthy) = (target.key(), target.pace(check, &id), target.healthy());
                // The same address written twice is one endpoint once it was carried over.
                if self.targets.insert(key, target).is_none() {
                    wanted.push((key, pace, healthy));
                }
            }
        }
        self.schedule.set(wanted, Instant::now());
    }

    fn health(&mut self, upstream: &str) {
        let now = Instant::now();
        for (key, target) in self.targets.iter().filter(|(_, target)| target.upstream.id == upstream) {
            self.schedule.health(*key, target.healthy(), now);
        }
    }

    fn begin(&mut self, key: Key) {
        let Some(target) = self.targets.get(&key).cloned() else {
            return self.schedule.ended(key, true, Instant::now());
        };
        let tls = self.tls.clone();
        let task = self.probes.spawn(async move { find(&target, &tls).await });
        self.keys.insert(task.id(), key);
    }

    fn ended(&mut self, ended: Result<(Id, Found), tokio::task::JoinError>) {
        let now = Instant::now();
        let (id, found) = match ended {
            Ok((id, found)) => (id, Some(found)),
            Err(error) => {
                tracing::error!(target: "ringway", %error, "a health check panicked");
                (error.id(), None)
            }
        };
        let Some(key) = self.keys.remove(&id) else { return };
        // The plan may have taken the endpoint away meanwhile, or given it other rules.
        let target = self.targets.get(&key).cloned();
        if let (Some(target), Some(found)) = (&target, found) {
            self.take_in(target, found);
        }
        let healthy = target.is_none_or(|target| target.healthy());
        self.schedule.ended(key, healthy, now);
    }

    fn take_in(&self, target: &Target, found: Found) {
        let Some(check) = target.check() else { return };
        metrics::probed(result(check, found.outcome));
        let endpoint = target.endpoint();
        let change = endpoint.shared.probed(check, found.outcome, engine::clock::micros());
        if let Some(change) = change {
            let probed = Probed {
                upstream: target.upstream.id.clone(),
                endpoint: endpoint.text.clone(),
                change,
                why: found.why,
            };
            let _ = self.events.send(Event::Probed(probed));
        }
    }
}

/// The name of an outcome in metrics.
fn result(check: &ActiveCheck, outcome: ProbeOutcome) -> &'static str {
    match outcome {
        ProbeOutcome::Ok => "success",
        ProbeOutcome::Status(status) if check.healthy_statuses.contains(&status) => "success",
        ProbeOutcome::Status(status) if check.unhealthy_statuses.contains(&status) => "http_failure",
        ProbeOutcome::Status(_) => "ignored",
        ProbeOutcome::Failed => "tcp_failure",
        ProbeOutcome::TimedOut => "timeout",
    }
}

/// What a probe found, and in words.
#[derive(Debug)]
struct Found {
    outcome: ProbeOutcome,
    why: String,
}

/// Why there is no answer, in words.
#[derive(Debug)]
struct Fault(String);

/// An error with what caused it: hyper's own text says little.
fn fault(error: impl std::error::Error) -> Fault {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    Fault(text)
}

/// Where a probe goes and what it says.
struct Aim<'a> {
    check: &'a ActiveCheck,
    address: Address,
    /// `Host`, and with its name the certificate.
    authority: String,
}

impl<'a> Aim<'a> {
    fn of(check: &'a ActiveCheck, source: &config::Upstream, endpoint: &Endpoint) -> Aim<'a> {
        let mut address = endpoint.address.clone();
        if let (Address::Tcp(address), Some(port)) = (&mut address, check.port) {
            address.set_port(port);
        }
        Aim { check, address, authority: authority(check, source, &endpoint.host) }
    }
}

/// `checks.active.host`, else the `upstream_host` that requests get, else the node's own, with the port that is probed.
fn authority(check: &ActiveCheck, source: &config::Upstream, node: &str) -> String {
    if let Some(host) = &check.host {
        return host.clone();
    }
    if let (PassHost::Rewrite, Some(host)) = (source.pass_host, &source.upstream_host) {
        return host.clone();
    }
    let Some(port) = check.port else {
        return node.to_owned();
    };
    let standard = if check.kind == ProbeKind::Https { 443 } else { 80 };
    let (name, _) = config::names::split_port(node);
    if port == standard {
        name.to_owned()
    } else {
        format!("{name}:{port}")
    }
}

/// Probes once, within the time that the check allows.
async fn find(target: &Target, tls: &Tls) -> Found {
    let Some(check) = target.check() else {
        return Found { outcome: ProbeOutcome::Failed, why: "no check".to_owned() };
    };
    let aim = Aim::of(check, &target.upstream.source, target.endpoint());
    // Reading the system's certificates is none of the endpoint's time.
    if check.kind == ProbeKind::Https {
        let _ = tls.connector(check.verify).await;
    }
    match tokio::time::timeout(check.timeout, ask(&aim, tls)).await {
        Err(_) => {
            Found { outcome: ProbeOutcome::TimedOut, why: format!("no answer within {:?}", check.timeout) }
        }
        Ok(Err(Fault(why))) => Found { outcome: ProbeOutcome::Failed, why },
        Ok(Ok(outcome)) => {
            let why = match outcome {
                ProbeOutcome::Status(status) => format!("status {status}"),
                _ => "it answers".to_owned(),
            };
            Found { outcome, why }
        }
    }
}

async fn ask(aim: &Aim<'_>, tls: &Tls) -> Result<ProbeOutcome, Fault> {
    match &aim.address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(fault)?;
            let _ = stream.set_nodelay(true);
            ask_over(stream, aim, tls).await
        }
        Address::Unix(path) => ask_over(UnixStream::connect(path).await.map_err(fault)?, aim, tls).await,
    }
}

async fn ask_over<S>(stream: S, aim: &Aim<'_>, tls: &Tls) -> Result<ProbeOutcome, Fault>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    match aim.check.kind {
        ProbeKind::Tcp => Ok(ProbeOutcome::Ok),
        ProbeKind::Http => http::status(stream, aim).await.map(ProbeOutcome::Status),
        ProbeKind::Grpc => grpc::check(stream, aim).await.map(|()| ProbeOutcome::Ok),
        ProbeKind::Https => {
            let connector = tls.connector(aim.check.verify).await;
            let connector = connector.ok_or_else(|| Fault("TLS cannot be set up".to_owned()))?;
            let (name, _) = config::names::split_port(&aim.authority);
            let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(name).map_err(fault)?;
            let stream = connector.connect(name, stream).await.map_err(fault)?;
            http::status(stream, aim).await.map(ProbeOutcome::Status)
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
