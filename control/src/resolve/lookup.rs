//! One question to the name servers: the system's, or those of `[discovery.dns]`.
//!
//! /etc/hosts counts in either case. Nothing is cached: the book keeps answers, and a second cache would hide that a
//! failure is over.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use engine::plan::ServiceNode;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::TokioResolver;
use tokio::task::JoinSet;

use super::book::{Answer, Fault, Found, Question, RETRY};

/// One answer, with all tries at all name servers.
const LOOKUP_MAX: Duration = Duration::from_secs(15);
/// SRV records of a service that are used; a DNS message holds hardly more.
const RECORDS_MAX: usize = 1024;
/// Nodes of a service.
const NODES_MAX: usize = config::node::NODES_MAX;
/// Targets of one service that are looked up at once.
const TARGETS_AT_ONCE: usize = 16;
/// So long one family of addresses waits for the other, within the wait of a start for its first answers.
const FAMILY_MAX: Duration = Duration::from_millis(1500);
/// A family of addresses: how it is asked for, and which are of it.
type Family = (RecordType, fn(&IpAddr) -> bool);
/// Both.
const FAMILIES: [Family; 2] = [(RecordType::A, IpAddr::is_ipv4), (RecordType::AAAA, IpAddr::is_ipv6)];

/// A resolver that asks these servers; the system's where there are none.
pub(super) fn resolver(servers: &[SocketAddr]) -> Option<TokioResolver> {
    let builder = if servers.is_empty() {
        TokioResolver::builder_tokio().unwrap_or_else(|_| {
            // As libc does without a resolv.conf: ask this host. /etc/hosts counts all the same.
            let here = NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![here]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        })
    } else {
        let servers = servers.iter().map(|server| {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut config.connections {
                connection.port = server.port();
            }
            config
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let mut builder = builder;
    adjust(builder.options_mut());
    match builder.build() {
        Ok(resolver) => Some(resolver),
        Err(error) => {
            tracing::warn!(target: "ringway", %error, "names of upstreams cannot be resolved on this system");
            None
        }
    }
}

fn adjust(options: &mut ResolverOpts) {
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = 0;
}

/// Asks. `before` is the last answer.
pub(super) async fn ask(
    resolver: TokioResolver,
    question: Question,
    before: Option<Found>,
) -> (Question, Answer) {
    let asked = async {
        match &question {
            Question::Addresses(name) => {
                let before = match before {
                    Some(Found::Addresses(addresses)) => addresses,
                    _ => Vec::new(),
                };
                let (found, ttl) = addresses(&resolver, name, &before).await?;
                Ok((Found::Addresses(found), ttl))
            }
            Question::Service(name) => {
                let before = match before {
                    Some(Found::Nodes(nodes)) => nodes,
                    _ => Vec::new(),
                };
                let (found, ttl) = service(&resolver, name, &before).await?;
                Ok((Found::Nodes(found), ttl))
            }
        }
    };
    let answer = tokio::time::timeout(LOOKUP_MAX, asked).await;
    let late = Fault { text: "no answer in time".to_owned(), absent: false };
    let answer = answer.unwrap_or(Err(late));
    (question, answer)
}

fn fault(error: &NetError) -> Fault {
    Fault { text: error.to_string(), absent: error.is_no_records_found() }
}

/// The addresses of a name, of both families, and for how long they hold.
///
/// A family that cannot be told now keeps the addresses that it had: hickory gives the answer of the other as if it
/// were all there is, and says nothing of the failure.
async fn addresses(
    resolver: &TokioResolver,
    name: &str,
    before: &[IpAddr],
) -> Result<(Vec<IpAddr>, Duration), Fault> {
    let found = tokio::select! {
        biased;
        both = resolver.lookup_ip(name) => Lookup::from(both.map_err(|error| fault(&error))?),
        one = one_family(resolver, name) => one,
    };
    let mut ttl = found.valid_until().saturating_duration_since(Instant::now());
    let mut addresses = addresses_in(&found);
    for (kind, is_kind) in FAMILIES {
        let had: Vec<IpAddr> = before.iter().copied().filter(is_kind).collect();
        if had.is_empty() || addresses.iter().any(is_kind) {
            continue;
        }
        // By the name that answered: the search list may lead another family to another host.
        let asked = resolver.lookup(found.query().name().clone(), kind);
        match tokio::time::timeout(FAMILY_MAX, asked).await {
            Ok(Ok(answer)) => addresses.extend(addresses_in(&answer)),
            Ok(Err(error)) if error.is_no_records_found() => {}
            Ok(Err(_)) | Err(_) => {
                addresses.extend(had);
                ttl = ttl.min(RETRY);
            }
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(Fault { text: "it has no address".to_owned(), absent: true });
    }
    Ok((addresses, ttl))
}

/// The answer for one family, once it is late for both: a name server that drops questions for the other, or one that is
/// gone while /etc/hosts knows the name, is no reason to have nothing. Never ends where neither has one.
async fn one_family(resolver: &TokioResolver, name: &str) -> Lookup {
    tokio::time::sleep(FAMILY_MAX).await;
    let ask = async |kind| match resolver.lookup(name, kind).await {
        Ok(answer) if !addresses_in(&answer).is_empty() => answer,
        _ => std::future::pending().await,
    };
    let [(first, _), (second, _)] = FAMILIES;
    tokio::select! {
        answer = ask(first) => answer,
        answer = ask(second) => answer,
    }
}

fn addresses_in(answer: &Lookup) -> Vec<IpAddr> {
    answer.answers().iter().filter_map(|record| record.data.ip_addr()).collect()
}

/// What a name's SRV records lead to, for the shortest TTL of all that was asked.
async fn service(
    resolver: &TokioResolver,
    name: &str,
    before: &[ServiceNode],
) -> Result<(Vec<ServiceNode>, Duration), Fault> {
    let found = resolver.srv_lookup(name).await.map_err(|error| fault(&error))?;
    let mut ttl = found.valid_until().saturating_duration_since(Instant::now());
    let records: Vec<&SRV> = found
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) if !srv.target.is_root() => Some(srv),
            _ => None,
        })
        .take(RECORDS_MAX)
        .collect();
    if records.is_empty() {
        // RFC 2782: a target of `.` says that the service is decidedly not available.
        return Err(Fault { text: "its SRV records name no target".to_owned(), absent: true });
    }
    let targets = records.iter().map(|record| target(record)).collect();
    let (hosts, shortest) = hosts(resolver, targets, before).await;
    ttl = ttl.min(shortest);
    let mut nodes: Vec<ServiceNode> = records
        .iter()
        .flat_map(|record| {
            let target = target(record);
            let addresses = hosts.get(&target).map_or(&[][..], Vec::as_slice);
            // The weight is the target's: its addresses share it.
            let weight = (u32::from(record.weight) / addresses.len().max(1) as u32).max(1);
            let nodes = addresses.iter().map(|address| ServiceNode {
                address: SocketAddr::new(*address, record.port),
                target: target.clone(),
                weight,
                priority: record.priority,
            });
            nodes.collect::<Vec<_>>()
        })
        .collect();
    nodes.sort_unstable_by(|one, other| {
        // Of two records that lead to one address the more urgent one counts.
        (one.address, one.priority, other.weight).cmp(&(other.address, other.priority, one.weight))
    });
    nodes.dedup_by_key(|node| node.address);
    nodes.truncate(NODES_MAX);
    if nodes.is_empty() {
        return Err(Fault { text: "none of its targets has an address".to_owned(), absent: false });
    }
    nodes.sort_unstable();
    Ok((nodes, ttl))
}

fn target(record: &SRV) -> String {
    record.target.to_lowercase().to_utf8().trim_end_matches('.').to_owned()
}

/// The addresses of targets, and for how long they hold. One that does not resolve now keeps what it had.
async fn hosts(
    resolver: &TokioResolver,
    targets: BTreeSet<String>,
    before: &[ServiceNode],
) -> (BTreeMap<String, Vec<IpAddr>>, Duration) {
    let (mut hosts, mut shortest) = (BTreeMap::new(), Duration::MAX);
    let (mut targets, mut asked) = (targets.into_iter(), JoinSet::new());
    loop {
        while asked.len() < TARGETS_AT_ONCE {
            let Some(target) = targets.next() else { break };
            let had: BTreeSet<IpAddr> =
                before.iter().filter(|node| node.target == target).map(|node| node.address.ip()).collect();
            let had: Vec<IpAddr> = had.into_iter().collect();
            let resolver = resolver.clone();
            asked.spawn(async move {
                // Absolute: a target is never completed by the search list.
                let answer = addresses(&resolver, &format!("{target}."), &had).await;
                (target, had, answer)
            });
        }
        let Some(answer) = asked.join_next().await else { break };
        let Ok((target, had, answer)) = answer else { continue };
        let (addresses, ttl) = answer.unwrap_or_else(|fault| {
            tracing::debug!(target: "ringway", name = target, error = fault.text, "a service's target does not resolve");
            (had, RETRY)
        });
        shortest = shortest.min(ttl);
        hosts.insert(target, addresses);
    }
    (hosts, shortest)
}
