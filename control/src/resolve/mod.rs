//! Names of upstream nodes and services: resolved here, never on a core.
//!
//! All addresses of a name are used, each answer for as long as its TTL says
//! (within [`TTL_MIN`](book::TTL_MIN) and [`TTL_MAX`](book::TTL_MAX)); so are all targets of a service's SRV records.
//! /etc/hosts counts, and so does a change of it or of /etc/resolv.conf. What stops
//! resolving keeps the nodes it had, and the log says so once.
//!
//! [`book`] decides what is due and what an answer means; it knows no socket and
//! no clock. [`lookup`] asks one question. The task here asks every question on its own, so that one that
//! hangs holds up no other, and has a thread of its own: looking through 10,000 names at every answer is nothing for
//! control's loop.

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
/// The loop is not told more often what does not resolve: of 10,000 names it is a megabyte, and changes with each.
const TELL_PERIOD: Duration = Duration::from_millis(200);
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

/// Asks once, [`LOOKUPS_MAX`] questions at a time, for at most [`FIRST_MAX`]. Those without an answer are left out.
pub(crate) async fn first(questions: &[Question], servers: &[SocketAddr]) -> Known {
    let mut found = Known::new();
    if questions.is_empty() {
        return found;
    }
    let Some(resolver) = lookup::resolver(servers) else {
        return found;
    };
    let (mut questions, mut tasks) = (questions.iter(), JoinSet::new());
    let all = async {
        loop {
            let room = LOOKUPS_MAX.saturating_sub(tasks.len());
            for question in questions.by_ref().take(room) {
                tasks.spawn(lookup::ask(resolver.clone(), question.clone(), None));
            }
            match tasks.join_next().await {
                Some(Ok((question, Ok((set, _))))) => drop(found.insert(question, set)),
                Some(_) => {}
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(FIRST_MAX, all).await;
    found
}

/// Starts the thread that keeps answers fresh.
pub(crate) fn start(events: Events, wanted: Wanted) -> Names {
    let (sender, changes) = unbounded_channel();
    let begun = std::thread::Builder::new().name("ringway-names".to_owned()).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(async { Keeper::new(events, wanted).run(changes).await }),
            Err(error) => tracing::error!(target: "ringway", %error, "no runtime for names of upstreams"),
        }
    });
    if let Err(error) = begun {
        tracing::error!(target: "ringway", %error, "no thread for names of upstreams: they are not resolved again");
    }
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
    /// When that was.
    told: Instant,
    /// Whether something else may be failing since.
    untold: bool,
}

impl Keeper {
    fn new(events: Events, wanted: Wanted) -> Keeper {
        let now = Instant::now();
        let resolver = lookup::resolver(&wanted.servers);
        let mut book = Book::default();
        book.set(wanted.questions, wanted.known, now);
        let (servers, failing) = (wanted.servers, Vec::new());
        Keeper { events, book, resolver, servers, failing, told: now, untold: false }
    }

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
            let tell_at = self.untold.then(|| self.told + TELL_PERIOD);
            let due = self.book.due().filter(|_| asked.len() < LOOKUPS_MAX && self.resolver.is_some());
            tokio::select! {
                change = changes.recv() => match change {
                    Some(wanted) => self.change(wanted),
                    None => return,
                },
                Some(answer) = asked.join_next() => {
                    let Ok((question, answer)) = answer else { continue };
                    if !self.take_in(question, answer) {
                        return;
                    }
                }
                () = sleep_until(due) => {}
                () = sleep_until(tell_at) => self.tell_failing(),
                _ = files.tick() => {
                    let now = stamp();
                    if now != stamped {
                        stamped = now;
                        self.ask_anew();
                    }
                }
            }
        }
    }

    /// Takes an answer in; false when nobody listens any more.
    fn take_in(&mut self, question: Question, answer: book::Answer) -> bool {
        metrics::looked_up(answer.is_ok());
        let failed = answer.is_err();
        let news = self.book.answer(&question, answer, Instant::now());
        self.untold |= failed || news != News::Nothing;
        tell(&question, &news);
        match news {
            News::Found(found) => self.events.send(Event::Resolved(Known::from([(question, found)]))).is_ok(),
            _ => true,
        }
    }

    fn change(&mut self, wanted: Wanted) {
        self.untold = true;
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
        (self.told, self.untold) = (Instant::now(), false);
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
