//! Names of upstream nodes: resolved here, never on a core.
//!
//! All addresses of a name are used, each answer for as long as its TTL says
//! (within [`TTL_MIN`] and [`TTL_MAX`]); /etc/hosts counts, and so does a change
//! of it or of /etc/resolv.conf. A name that stops resolving keeps the addresses
//! it had, and the log says so once.
//!
//! [`Book`] decides what is due and what an answer means; it knows no socket and
//! no clock. The task around it asks, every name on its own, so that one that
//! hangs holds up no other.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::TokioResolver;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;

use crate::{Event, Events};

/// An answer is never asked for again sooner ...
pub(crate) const TTL_MIN: Duration = Duration::from_secs(1);
/// ... nor kept longer.
pub(crate) const TTL_MAX: Duration = Duration::from_secs(3600);
/// After a failure.
const RETRY: Duration = Duration::from_secs(2);
/// One answer, with all tries at all name servers.
const LOOKUP_MAX: Duration = Duration::from_secs(15);
/// A name's first answer, for which a start or a reload waits.
const FIRST_MAX: Duration = Duration::from_secs(4);
/// Questions under way at once; more wait.
const LOOKUPS_MAX: usize = 64;
/// How often the system's files are looked at.
const FILES_PERIOD: Duration = Duration::from_secs(5);
/// The system's files that say how names are resolved.
const FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// Sorted, without doubles, never empty; and for how long they hold.
type Answer = Result<(Vec<IpAddr>, Duration), String>;

/// Addresses by name, each set sorted.
pub(crate) type Addresses = BTreeMap<String, Vec<IpAddr>>;

/// Tells the resolver which names matter now.
pub(crate) struct Names(UnboundedSender<(Vec<String>, Addresses)>);

impl Names {
    /// From now on these and no others; `known` are addresses found meanwhile.
    pub(crate) fn set(&self, names: Vec<String>, known: Addresses) {
        let _ = self.0.send((names, known));
    }
}

/// Resolves names once, all at the same time, for at most [`FIRST_MAX`]. Those that do not resolve are left out.
pub(crate) async fn first(names: &[String]) -> Addresses {
    let mut found = BTreeMap::new();
    if names.is_empty() {
        return found;
    }
    let Some(resolver) = resolver() else {
        return found;
    };
    let mut tasks = JoinSet::new();
    for name in names {
        tasks.spawn(lookup(resolver.clone(), name.clone()));
    }
    let all = async {
        while let Some(answer) = tasks.join_next().await {
            if let Ok((name, Ok((addresses, _)))) = answer {
                found.insert(name, addresses);
            }
        }
    };
    let _ = tokio::time::timeout(FIRST_MAX, all).await;
    found
}

/// Starts the task that keeps names fresh. `known` are the addresses so far.
pub(crate) fn start(events: Events, names: Vec<String>, known: Addresses) -> Names {
    let (sender, changes) = unbounded_channel();
    let mut book = Book::default();
    book.set(names, known, Instant::now());
    tokio::spawn(keep(events, changes, book));
    Names(sender)
}

fn resolver() -> Option<TokioResolver> {
    let builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
        // As libc does without a resolv.conf: ask this host. /etc/hosts counts all the same.
        let here = NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![here]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    });
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
    // The book keeps answers; a second cache would hide that a failure is over.
    options.cache_size = 0;
}

async fn lookup(resolver: TokioResolver, name: String) -> (String, Answer) {
    let answer = match tokio::time::timeout(LOOKUP_MAX, resolver.lookup_ip(name.as_str())).await {
        Err(_) => Err("no answer in time".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(found)) => {
            let mut addresses: Vec<IpAddr> = found.iter().collect();
            addresses.sort_unstable();
            addresses.dedup();
            match addresses.is_empty() {
                true => Err("it has no address".to_owned()),
                false => Ok((addresses, found.valid_until().saturating_duration_since(Instant::now()))),
            }
        }
    };
    (name, answer)
}

/// When the system's files were changed last.
fn stamp() -> [Option<SystemTime>; 2] {
    FILES.map(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok())
}

async fn keep(events: Events, mut changes: UnboundedReceiver<(Vec<String>, Addresses)>, mut book: Book) {
    let mut asked = JoinSet::new();
    let mut files = tokio::time::interval(FILES_PERIOD);
    let (mut stamped, mut resolver) = (stamp(), resolver());
    loop {
        if let Some(resolver) = &resolver {
            for name in book.take_due(Instant::now(), LOOKUPS_MAX.saturating_sub(asked.len())) {
                asked.spawn(lookup(resolver.clone(), name));
            }
        }
        let due = book.due().filter(|_| asked.len() < LOOKUPS_MAX && resolver.is_some());
        tokio::select! {
            change = changes.recv() => match change {
                Some((names, known)) => book.set(names, known, Instant::now()),
                None => return,
            },
            Some(answer) = asked.join_next() => {
                let Ok((name, answer)) = answer else { continue };
                let news = book.answer(&name, answer, Instant::now());
                tell(&name, &news);
                let changed = matches!(news, News::Addresses(_));
                if changed && events.send(Event::Resolved(book.known.clone())).is_err() {
                    return;
                }
            }
            () = sleep_until(due) => {}
            _ = files.tick() => {
                let now = stamp();
                if now != stamped {
                    (stamped, resolver) = (now, self::resolver());
                    book.hurry(Instant::now());
                }
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn tell(name: &str, news: &News) {
    match news {
        News::Nothing => {}
        News::Addresses(addresses) => {
            tracing::info!(target: "ringway", name, ?addresses, "an upstream's name has new addresses");
        }
        News::Failing { error, kept } => {
            tracing::warn!(
                target: "ringway",
                name,
                error,
                kept,
                "an upstream's name does not resolve; the addresses it had stay in use"
            );
        }
        News::Again => tracing::info!(target: "ringway", name, "an upstream's name resolves again"),
    }
}

/// What an answer means to others.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Nothing,
    /// Other addresses than before.
    Addresses(Vec<IpAddr>),
    /// The first failure in a row; so many addresses stay in use.
    Failing {
        error: String,
        kept: usize,
    },
    /// The same addresses as before the failure.
    Again,
}

/// Which names there are, what is known of them, and when to ask again.
#[derive(Default)]
struct Book {
    names: HashMap<String, Entry>,
    known: Addresses,
}

struct Entry {
    /// When to ask; `None` while a question is under way.
    due: Option<Instant>,
    failing: bool,
}

impl Book {
    fn set(&mut self, names: Vec<String>, known: Addresses, now: Instant) {
        for (name, addresses) in known {
            self.known.entry(name).or_insert(addresses);
        }
        let mut before = std::mem::take(&mut self.names);
        self.names = names
            .into_iter()
            .map(|name| {
                let entry = before.remove(&name).unwrap_or(Entry { due: Some(now), failing: false });
                (name, entry)
            })
            .collect();
        let names = &self.names;
        self.known.retain(|name, _| names.contains_key(name));
    }

    /// The soonest question.
    fn due(&self) -> Option<Instant> {
        self.names.values().filter_map(|entry| entry.due).min()
    }

    /// At most so many names to ask for now. Each is due again when its answer has come.
    fn take_due(&mut self, now: Instant, most: usize) -> Vec<String> {
        let due = self.names.iter_mut().filter(|(_, entry)| entry.due.is_some_and(|due| due <= now));
        due.take(most)
            .map(|(name, entry)| {
                entry.due = None;
                name.clone()
            })
            .collect()
    }

    /// Takes an answer in.
    fn answer(&mut self, name: &str, answer: Answer, now: Instant) -> News {
        // A name that a reload took away meanwhile.
        let Some(entry) = self.names.get_mut(name) else {
            return News::Nothing;
        };
        let failed_before = std::mem::replace(&mut entry.failing, answer.is_err());
        match answer {
            Ok((addresses, ttl)) => {
                entry.due = Some(now + ttl.clamp(TTL_MIN, TTL_MAX));
                if self.known.get(name) != Some(&addresses) {
                    self.known.insert(name.to_owned(), addresses.clone());
                    return News::Addresses(addresses);
                }
                if failed_before {
                    News::Again
                } else {
                    News::Nothing
                }
            }
            Err(error) => {
                entry.due = Some(now + RETRY);
                let kept = self.known.get(name).map_or(0, Vec::len);
                if failed_before {
                    News::Nothing
                } else {
                    News::Failing { error, kept }
                }
            }
        }
    }

    /// All that is not under way is due now.
    fn hurry(&mut self, now: Instant) {
        for due in self.names.values_mut().filter_map(|entry| entry.due.as_mut()) {
            *due = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "users.test";

    fn addresses(list: &str) -> Vec<IpAddr> {
        list.split(' ').map(|text| text.parse().expect("an address")).collect()
    }

    /// When an answer comes (in seconds), the answer (addresses and TTL in seconds,
    /// or an error), what is told, and when the name is due again.
    type Step<'t> = (u64, Result<(&'t str, u64), &'t str>, &'t str, u64);

    fn check(steps: &[Step<'_>]) {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut book = Book::default();
        book.set(vec![NAME.to_owned()], BTreeMap::new(), start);
        for (second, answer, told, due) in steps {
            assert_eq!(book.take_due(at(*second), 9), [NAME], "due at {second}");
            assert!(book.take_due(at(*second + 9999), 9).is_empty(), "asked once at a time");
            let answer = match answer {
                Ok((list, ttl)) => Ok((addresses(list), Duration::from_secs(*ttl))),
                Err(error) => Err((*error).to_owned()),
            };
            let news = match book.answer(NAME, answer, at(*second)) {
                News::Nothing => "nothing".to_owned(),
                News::Addresses(list) => format!("{} addresses", list.len()),
                News::Failing { error, kept } => format!("{error}, {kept} kept"),
                News::Again => "again".to_owned(),
            };
            assert_eq!(news, *told, "at {second}");
            assert_eq!(book.due(), Some(at(*due)), "after {second}");
        }
    }

    #[test]
    fn answers_hold_for_their_ttl() {
        check(&[(0, Ok(("10.0.0.1", 30)), "1 addresses", 30), (30, Ok(("10.0.0.1", 60)), "nothing", 90)]);
        // At least a second, at most an hour.
        check(&[(0, Ok(("10.0.0.1", 0)), "1 addresses", 1), (1, Ok(("10.0.0.1", 999_999)), "nothing", 3601)]);
        check(&[(0, Ok(("10.0.0.1", 5)), "1 addresses", 5), (5, Ok(("10.0.0.1 ::1", 5)), "2 addresses", 10)]);
    }

    #[test]
    fn a_failure_keeps_the_last_addresses_and_is_told_once() {
        check(&[
            (0, Ok(("10.0.0.1 10.0.0.2", 5)), "2 addresses", 5),
            (5, Err("gone"), "gone, 2 kept", 7),
            (7, Err("gone"), "nothing", 9),
            (9, Ok(("10.0.0.1 10.0.0.2", 5)), "again", 14),
            (14, Err("gone"), "gone, 2 kept", 16),
            (16, Ok(("10.0.0.3", 5)), "1 addresses", 21),
        ]);
        check(&[(0, Err("none"), "none, 0 kept", 2)]);
    }

    #[test]
    fn names_come_and_go() {
        let now = Instant::now();
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut book = Book::default();
        book.set(names(&["a", "b"]), BTreeMap::new(), now);
        assert_eq!(book.take_due(now, 1).len(), 1, "no more than asked for");
        book.take_due(now, 9);
        book.answer("a", Ok((addresses("10.0.0.1"), TTL_MAX)), now);
        book.set(names(&["a", "c"]), [("c".to_owned(), addresses("10.0.0.9"))].into(), now);
        assert_eq!(book.take_due(now, 9), ["c"], "a new name is due at once, whatever is known of it");
        assert_eq!(
            book.answer("b", Ok((addresses("10.0.0.2"), TTL_MAX)), now),
            News::Nothing,
            "gone meanwhile"
        );
        assert_eq!(book.known.keys().collect::<Vec<_>>(), ["a", "c"]);
        book.hurry(now);
        assert_eq!(book.take_due(now, 9), ["a"], "c is under way");
    }

    /// The system's own resolver, without a network: /etc/hosts.
    #[test]
    fn localhost_resolves() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let found = runtime.block_on(first(&["localhost".to_owned()]));
        assert!(found["localhost"].iter().all(IpAddr::is_loopback), "{found:?}");
    }

    /// A name server on loopback: two A records with a TTL of 7 s and one AAAA with 9 s for every name but `none.test`.
    async fn name_server() -> u16 {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let port = socket.local_addr().expect("bound").port();
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut query).await {
                let answer = dns_answer(&query[..length]);
                let _ = socket.send_to(&answer, peer).await;
            }
        });
        port
    }

    /// RFC 1035 section 4: the header, the question as it came, and records that point at its name.
    fn dns_answer(query: &[u8]) -> Vec<u8> {
        let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name ends");
        let question = &query[12..name_end + 5];
        let record = |kind: u8, ttl: u8, data: &[u8]| {
            [&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, ttl, 0, data.len() as u8], data].concat()
        };
        let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let unknown = question.starts_with(b"\x04none");
        let records = match question[question.len() - 3] {
            _ if unknown => Vec::new(),
            1 => vec![record(1, 7, &[10, 0, 0, 2]), record(1, 7, &[10, 0, 0, 1])],
            28 => vec![record(28, 9, &v6)],
            _ => Vec::new(),
        };
        let code = if unknown { 0x83 } else { 0x80 };
        let head = [query[0], query[1], 0x81, code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0];
        [&head[..], question, &records.concat()].concat()
    }

    #[test]
    fn all_addresses_are_used_for_the_shortest_ttl() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut server = NameServerConfig::udp(IpAddr::V4(Ipv4Addr::LOCALHOST));
            server.connections[0].port = name_server().await;
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            adjust(builder.options_mut());
            let resolver = builder.build().expect("a resolver");
            let (_, answer) = lookup(resolver.clone(), "users.test.".to_owned()).await;
            let (found, ttl) = answer.expect("it resolves");
            assert_eq!(found, addresses("10.0.0.1 10.0.0.2 2001:db8::1"));
            assert!(ttl > Duration::from_secs(5) && ttl <= Duration::from_secs(7), "{ttl:?}");
            let (_, answer) = lookup(resolver, "none.test.".to_owned()).await;
            assert!(answer.is_err(), "{answer:?}");
        });
    }
}
