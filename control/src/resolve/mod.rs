//! Names of upstream nodes and services: resolved here, never on a core.
//!
//! All addresses of a name are used, each answer for as long as its TTL says
//! (within [`TTL_MIN`](book::TTL_MIN) and [`TTL_MAX`](book::TTL_MAX)); so are all targets of a service's SRV records.
//! /etc/hosts counts, and so does a change of it or of /etc/resolv.conf. What stops
//! resolving keeps the nodes it had, and the log says so once.
//!
//! [`book`] decides what is due and what an answer means; it knows no socket and
//! no clock. [`lookup`] asks one question. The task here asks every question on its own, so that one that
//! hangs holds up no other.

mod book;
mod lookup;
#[cfg(test)]
mod server;

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;

pub(crate) use book::{forget, known_by, put, Failing, Known, Question};
use book::{Book, Found, News};

use crate::{metrics, Event, Events};

/// A question's first answer, for which a start or a reload waits.
const FIRST_MAX: Duration = Duration::from_secs(4);
/// Questions under way at once; more wait.
const LOOKUPS_MAX: usize = 64;
/// How often the system's files are looked at.
const FILES_PERIOD: Duration = Duration::from_secs(5);
/// The system's files that say how names are resolved.
const FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// What is to be kept fresh.
pub(crate) struct Wanted {
    /// These questions and no others.
    pub questions: Vec<Question>,
    /// What was found by others.
    pub known: Known,
    /// Who is asked; none are the system's.
    pub servers: Vec<SocketAddr>,
}

/// Tells the resolver which names matter now.
pub(crate) struct Names(UnboundedSender<Wanted>);

impl Names {
    /// From now on this.
    pub(crate) fn set(&self, wanted: Wanted) {
        let _ = self.0.send(wanted);
    }
}

/// Asks once, all questions at the same time, for at most [`FIRST_MAX`]. Those without an answer are left out.
pub(crate) async fn first(questions: &[Question], servers: &[SocketAddr]) -> Known {
    let mut found = Known::new();
    if questions.is_empty() {
        return found;
    }
    let Some(resolver) = lookup::resolver(servers) else {
        return found;
    };
    let mut tasks = JoinSet::new();
    for question in questions {
        tasks.spawn(lookup::ask(resolver.clone(), question.clone(), None));
    }
    let all = async {
        while let Some(answer) = tasks.join_next().await {
            if let Ok((question, Ok((set, _)))) = answer {
                found.insert(question, set);
            }
        }
    };
    let _ = tokio::time::timeout(FIRST_MAX, all).await;
    found
}

/// Starts the task that keeps answers fresh.
pub(crate) fn start(events: Events, wanted: Wanted) -> Names {
    let (sender, changes) = unbounded_channel();
    let resolver = lookup::resolver(&wanted.servers);
    let mut book = Book::default();
    book.set(wanted.questions, wanted.known, Instant::now());
    let keeper = Keeper { events, book, resolver, servers: wanted.servers, failing: Vec::new() };
    tokio::spawn(keeper.run(changes));
    Names(sender)
}

/// When the system's files were changed last.
fn stamp() -> [Option<SystemTime>; 2] {
    FILES.map(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok())
}

struct Keeper {
    events: Events,
    book: Book,
    resolver: Option<TokioResolver>,
    servers: Vec<SocketAddr>,
    /// What the loop was told last.
    failing: Vec<Failing>,
}

impl Keeper {
    async fn run(mut self, mut changes: UnboundedReceiver<Wanted>) {
        let mut asked = JoinSet::new();
        let mut files = tokio::time::interval(FILES_PERIOD);
        let mut stamped = stamp();
        loop {
            if let Some(resolver) = &self.resolver {
                let room = LOOKUPS_MAX.saturating_sub(asked.len());
                for (question, before) in self.book.take_due(Instant::now(), room) {
                    asked.spawn(lookup::ask(resolver.clone(), question, before));
                }
            }
            let due = self.book.due().filter(|_| asked.len() < LOOKUPS_MAX && self.resolver.is_some());
            tokio::select! {
                change = changes.recv() => match change {
                    Some(wanted) => self.change(wanted),
                    None => return,
                },
                Some(answer) = asked.join_next() => {
                    let Ok((question, answer)) = answer else { continue };
                    metrics::looked_up(answer.is_ok());
                    let news = self.book.answer(&question, answer, Instant::now());
                    tell(&question, &news);
                    let changed = matches!(news, News::Found(_));
                    if changed && self.events.send(Event::Resolved(self.book.known().clone())).is_err() {
                        return;
                    }
                }
                () = sleep_until(due) => {}
                _ = files.tick() => {
                    let now = stamp();
                    if now != stamped {
                        stamped = now;
                        self.ask_anew();
                    }
                }
            }
            self.tell_failing();
        }
    }

    fn change(&mut self, wanted: Wanted) {
        self.book.set(wanted.questions, wanted.known, Instant::now());
        if self.servers != wanted.servers {
            self.servers = wanted.servers;
            self.ask_anew();
        }
    }

    /// Other servers, or other files of the system: all answers may be others.
    fn ask_anew(&mut self) {
        self.resolver = lookup::resolver(&self.servers);
        self.book.hurry(Instant::now());
    }

    fn tell_failing(&mut self) {
        let failing = self.book.failing();
        if failing != self.failing {
            self.failing.clone_from(&failing);
            metrics::names_failing(failing.len());
            let _ = self.events.send(Event::Failing(failing));
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn tell(question: &Question, news: &News) {
    let (name, records) = (question.name(), question.records());
    match news {
        News::Nothing => {}
        News::Found(Found::Addresses(addresses)) => {
            tracing::info!(target: "ringway", name, ?addresses, "an upstream's name has new addresses");
        }
        News::Found(Found::Nodes(nodes)) => {
            let nodes: Vec<String> = nodes
                .iter()
                .map(|node| format!("{} weight={} priority={}", node.address, node.weight, node.priority))
                .collect();
            tracing::info!(target: "ringway", name, ?nodes, "an upstream's service has new nodes");
        }
        News::Failing { error, kept } => {
            tracing::warn!(
                target: "ringway",
                name,
                records,
                error,
                kept,
                "an upstream's name does not resolve; the addresses it had stay in use"
            );
        }
        News::Again => tracing::info!(target: "ringway", name, records, "an upstream's name resolves again"),
    }
}

#[cfg(test)]
mod tests;
