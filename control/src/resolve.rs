//! Names of upstream nodes: resolved here, never on a core.
//!
//! All addresses of a name are used, each answer for as long as its TTL says
//! (within [`TTL_MIN`] and [`TTL_MAX`]); /etc/hosts counts. A name that stops
//! resolving keeps the addresses it had, and the log says so once.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};

use crate::{Event, Events};

/// An answer is never asked for again sooner ...
pub(crate) const TTL_MIN: Duration = Duration::from_secs(1);
/// ... nor kept longer.
pub(crate) const TTL_MAX: Duration = Duration::from_secs(3600);
/// After a failure.
const RETRY: Duration = Duration::from_secs(2);
/// One name's answer at start.
const FIRST_WAIT: Duration = Duration::from_secs(4);

/// Tells the resolver which names matter now.
pub(crate) struct Names(UnboundedSender<Vec<String>>);

impl Names {
    /// From now on these, and no others.
    pub(crate) fn set(&self, names: Vec<String>) {
        let _ = self.0.send(names);
    }
}

/// Resolves names once, all at the same time, each within some seconds.
pub(crate) async fn first(names: &[String]) -> BTreeMap<String, Vec<IpAddr>> {
    let mut tasks = Vec::new();
    if names.is_empty() {
        return BTreeMap::new();
    }
    let Some(resolver) = resolver() else { return BTreeMap::new() };
    for name in names {
        let (resolver, name) = (resolver.clone(), name.clone());
        tasks.push(tokio::spawn(async move {
            let answer = tokio::time::timeout(FIRST_WAIT, lookup(&resolver, &name)).await;
            (name, answer.unwrap_or_else(|_| Err("no answer in time".to_owned())))
        }));
    }
    let mut found = BTreeMap::new();
    for task in tasks {
        match task.await {
            Ok((name, Ok((addresses, _)))) => drop(found.insert(name, addresses)),
            Ok((name, Err(error))) => tracing::warn!(name, error, "an upstream's name does not resolve yet"),
            Err(_) => {}
        }
    }
    found
}

/// Starts the task that keeps names fresh. `known` are the addresses so far.
pub(crate) fn start(events: Events, names: Vec<String>, known: BTreeMap<String, Vec<IpAddr>>) -> Names {
    let (sender, changes) = unbounded_channel();
    tokio::spawn(keep(events, changes, names, known));
    Names(sender)
}

fn resolver() -> Option<TokioResolver> {
    match TokioResolver::builder_tokio().and_then(|builder| builder.build()) {
        Ok(resolver) => Some(resolver),
        Err(error) => {
            tracing::warn!(%error, "the system's resolver configuration cannot be used; names stay unresolved");
            None
        }
    }
}

async fn lookup(resolver: &TokioResolver, name: &str) -> Result<(Vec<IpAddr>, Duration), String> {
    let answer = resolver.lookup_ip(name).await.map_err(|error| error.to_string())?;
    let mut addresses: Vec<IpAddr> = answer.iter().collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err("it has no address".to_owned());
    }
    let left = answer.valid_until().saturating_duration_since(Instant::now());
    Ok((addresses, left.clamp(TTL_MIN, TTL_MAX)))
}

struct Name {
    due: Instant,
    failing: bool,
}

async fn keep(
    events: Events,
    mut changes: UnboundedReceiver<Vec<String>>,
    names: Vec<String>,
    mut known: BTreeMap<String, Vec<IpAddr>>,
) {
    let mut names: HashMap<String, Name> = names.into_iter().map(|name| (name, fresh())).collect();
    let mut resolver = None;
    loop {
        let due = names.values().map(|name| name.due).min();
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            change = changes.recv() => {
                let Some(list) = change else { return };
                names.retain(|name, _| list.contains(name));
                known.retain(|name, _| list.contains(name));
                for name in list {
                    names.entry(name).or_insert_with(fresh);
                }
            }
            () = wait => {
                if resolver.is_none() {
                    resolver = self::resolver();
                }
                let Some(resolver) = &resolver else { return };
                if refresh(resolver, &mut names, &mut known).await
                    && events.send(Event::Resolved(known.clone())).is_err()
                {
                    return;
                }
            }
        }
    }
}

fn fresh() -> Name {
    Name { due: Instant::now(), failing: false }
}

/// Asks for what is due; true when an address set has changed.
async fn refresh(
    resolver: &TokioResolver,
    names: &mut HashMap<String, Name>,
    known: &mut BTreeMap<String, Vec<IpAddr>>,
) -> bool {
    let mut changed = false;
    let now = Instant::now();
    for (name, state) in names.iter_mut().filter(|(_, state)| state.due <= now) {
        match lookup(resolver, name).await {
            Ok((addresses, ttl)) => {
                state.due = Instant::now() + ttl;
                state.failing = false;
                if known.get(name) != Some(&addresses) {
                    tracing::info!(name, ?addresses, "an upstream's name has new addresses");
                    known.insert(name.clone(), addresses);
                    changed = true;
                }
            }
            Err(error) => {
                state.due = Instant::now() + RETRY;
                if !state.failing {
                    state.failing = true;
                    let kept = known.get(name).map_or(0, Vec::len);
                    tracing::warn!(name, error, kept, "an upstream's name does not resolve; the last addresses stay");
                }
            }
        }
    }
    changed
}
