//! Which questions there are, what is known, and when to ask again: no socket, no clock.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use engine::plan::{Feeds, Plan, ServiceNode};

/// An answer is never asked for again sooner ...
pub(crate) const TTL_MIN: Duration = Duration::from_secs(1);
/// ... nor kept longer.
pub(crate) const TTL_MAX: Duration = Duration::from_secs(3600);
/// After a failure.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// A service that never had SRV records, and whose plain addresses count, is asked for again after this.
const ABSENT_RETRY: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Question {
    /// The A and AAAA records of a name.
    Addresses(String),
    /// The SRV records of a name, and the addresses of their targets.
    Service(String),
}

impl Question {
    /// All that a plan asks, sorted.
    pub(crate) fn of(plan: &Plan) -> Vec<Question> {
        let names = plan.names().into_iter().map(Question::Addresses);
        names.chain(plan.services().into_iter().map(Question::Service)).collect()
    }

    /// The name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Question::Addresses(name) | Question::Service(name) => name,
        }
    }

    /// The records, as people call them.
    pub(crate) fn records(&self) -> &'static str {
        match self {
            Question::Addresses(_) => "A, AAAA",
            Question::Service(_) => "SRV",
        }
    }
}

/// What was found: sorted, without doubles, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Of a name.
    Addresses(Vec<IpAddr>),
    /// Of a service.
    Nodes(Vec<ServiceNode>),
}

impl Found {
    fn len(&self) -> usize {
        match self {
            Found::Addresses(addresses) => addresses.len(),
            Found::Nodes(nodes) => nodes.len(),
        }
    }
}

/// Everything that is known.
pub(crate) type Known = BTreeMap<Question, Found>;

/// What the feeds of a plan know.
pub(crate) fn known_by(feeds: &Feeds) -> Known {
    let addresses = feeds.addresses.iter();
    let addresses =
        addresses.map(|(name, list)| (Question::Addresses(name.clone()), Found::Addresses(list.clone())));
    let services = feeds.services.iter();
    let services = services.map(|(name, list)| (Question::Service(name.clone()), Found::Nodes(list.clone())));
    addresses.chain(services).collect()
}

/// Puts into feeds what was found.
pub(crate) fn put(known: Known, feeds: &mut Feeds) {
    for (question, found) in known {
        match (question, found) {
            (Question::Addresses(name), Found::Addresses(list)) => drop(feeds.addresses.insert(name, list)),
            (Question::Service(name), Found::Nodes(list)) => drop(feeds.services.insert(name, list)),
            // A question and its answer are of one kind.
            (Question::Addresses(_), Found::Nodes(_)) | (Question::Service(_), Found::Addresses(_)) => {}
        }
    }
}

/// Takes out of feeds what a plan asks for no longer.
pub(crate) fn forget(feeds: &mut Feeds, plan: &Plan) {
    let (names, services) = (plan.names(), plan.services());
    feeds.addresses.retain(|name, _| names.binary_search(name).is_ok());
    feeds.services.retain(|name, _| services.binary_search(name).is_ok());
}

/// An answer and for how long it holds.
pub(super) type Answer = Result<(Found, Duration), Fault>;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// In words.
    pub text: String,
    /// Whether a name server said that there is no such record.
    pub absent: bool,
}

/// A question without an answer, for `/status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failing {
    /// What was asked.
    pub question: Question,
    /// Why there is no answer.
    pub error: String,
    /// How many nodes of the last answer stay in use.
    pub kept: usize,
    /// Since when.
    pub since: Instant,
}

/// What an answer means to others.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    Nothing,
    /// Another set than before.
    Found(Found),
    /// The first failure in a row; so many of the last answer stay in use.
    Failing {
        error: String,
        kept: usize,
    },
    /// The same set as before the failure.
    Again,
}

/// See the module.
#[derive(Default)]
pub(super) struct Book {
    questions: HashMap<Question, Entry>,
    known: Known,
}

struct Entry {
    /// When to ask; `None` while a question is under way.
    due: Option<Instant>,
    /// Why the last answer was none, and since when.
    failing: Option<(String, Instant)>,
}

impl Book {
    /// From now on these questions and no others; `known` was found meanwhile.
    pub(super) fn set(&mut self, questions: Vec<Question>, known: Known, now: Instant) {
        for (question, found) in known {
            self.known.entry(question).or_insert(found);
        }
        let mut before = std::mem::take(&mut self.questions);
        self.questions = questions
            .into_iter()
            .map(|question| {
                let entry = before.remove(&question).unwrap_or(Entry { due: Some(now), failing: None });
                (question, entry)
            })
            .collect();
        let questions = &self.questions;
        self.known.retain(|question, _| questions.contains_key(question));
    }

    /// The soonest question.
    pub(super) fn due(&self) -> Option<Instant> {
        self.questions.values().filter_map(|entry| entry.due).min()
    }

    /// At most so many questions to ask now, each with its last answer. Each is due again when its answer has come.
    pub(super) fn take_due(&mut self, now: Instant, most: usize) -> Vec<(Question, Option<Found>)> {
        let due = self.questions.iter_mut().filter(|(_, entry)| entry.due.is_some_and(|due| due <= now));
        due.take(most)
            .map(|(question, entry)| {
                entry.due = None;
                (question.clone(), self.known.get(question).cloned())
            })
            .collect()
    }

    /// Takes an answer in.
    pub(super) fn answer(&mut self, question: &Question, answer: Answer, now: Instant) -> News {
        // One that a reload took away meanwhile.
        let Some(entry) = self.questions.get_mut(question) else {
            return News::Nothing;
        };
        let before = self.known.get(question);
        match answer {
            Ok((found, ttl)) => {
                entry.due = Some(now + ttl.clamp(TTL_MIN, TTL_MAX));
                let failed_before = entry.failing.take().is_some();
                if before != Some(&found) {
                    self.known.insert(question.clone(), found.clone());
                    return News::Found(found);
                }
                if failed_before {
                    News::Again
                } else {
                    News::Nothing
                }
            }
            // No SRV records: the name's plain addresses count, which is asked beside this.
            Err(fault) if fault.absent && before.is_none() && matches!(question, Question::Service(_)) => {
                entry.due = Some(now + ABSENT_RETRY);
                entry.failing = None;
                News::Nothing
            }
            Err(fault) => {
                entry.due = Some(now + RETRY);
                if let Some((error, _)) = &mut entry.failing {
                    *error = fault.text;
                    return News::Nothing;
                }
                entry.failing = Some((fault.text.clone(), now));
                News::Failing { error: fault.text, kept: before.map_or(0, Found::len) }
            }
        }
    }

    /// All questions without an answer now, in order.
    pub(super) fn failing(&self) -> Vec<Failing> {
        let failing = self.questions.iter().filter_map(|(question, entry)| {
            let (error, since) = entry.failing.clone()?;
            let kept = self.known.get(question).map_or(0, Found::len);
            Some(Failing { question: question.clone(), error, kept, since })
        });
        let mut failing: Vec<Failing> = failing.collect();
        failing.sort_unstable_by(|one, other| one.question.cmp(&other.question));
        failing
    }

    /// All that is not under way is due now.
    pub(super) fn hurry(&mut self, now: Instant) {
        for due in self.questions.values_mut().filter_map(|entry| entry.due.as_mut()) {
            *due = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "users.test";

    fn name() -> Question {
        Question::Addresses(NAME.to_owned())
    }

    fn addresses(list: &str) -> Found {
        Found::Addresses(list.split(' ').map(|text| text.parse().expect("an address")).collect())
    }

    fn keys(taken: Vec<(Question, Option<Found>)>) -> Vec<Question> {
        taken.into_iter().map(|(question, _)| question).collect()
    }

    /// When an answer comes (in seconds), the answer (addresses and TTL in seconds, or an error, `absent` for a name
    /// server's word that there is none), what is told, and when the question is due again.
    type Step<'t> = (u64, Result<(&'t str, u64), &'t str>, &'t str, u64);

    fn check_of(question: &Question, steps: &[Step<'_>]) {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut book = Book::default();
        book.set(vec![question.clone()], Known::new(), start);
        for (second, answer, told, due) in steps {
            assert_eq!(
                keys(book.take_due(at(*second), 9)),
                std::slice::from_ref(question),
                "due at {second}"
            );
            assert!(book.take_due(at(*second + 9999), 9).is_empty(), "asked once at a time");
            let answer = match answer {
                Ok((list, ttl)) => Ok((addresses(list), Duration::from_secs(*ttl))),
                Err(error) => Err(Fault { text: (*error).to_owned(), absent: *error == "absent" }),
            };
            let news = match book.answer(question, answer, at(*second)) {
                News::Nothing => "nothing".to_owned(),
                News::Found(found) => format!("{} found", found.len()),
                News::Failing { error, kept } => format!("{error}, {kept} kept"),
                News::Again => "again".to_owned(),
            };
            assert_eq!(news, *told, "at {second}");
            assert_eq!(book.due(), Some(at(*due)), "after {second}");
        }
    }

    fn check(steps: &[Step<'_>]) {
        check_of(&name(), steps);
    }

    #[test]
    fn answers_hold_for_their_ttl() {
        check(&[(0, Ok(("10.0.0.1", 30)), "1 found", 30), (30, Ok(("10.0.0.1", 60)), "nothing", 90)]);
        // At least a second, at most an hour.
        check(&[(0, Ok(("10.0.0.1", 0)), "1 found", 1), (1, Ok(("10.0.0.1", 999_999)), "nothing", 3601)]);
        check(&[(0, Ok(("10.0.0.1", 5)), "1 found", 5), (5, Ok(("10.0.0.1 ::1", 5)), "2 found", 10)]);
    }

    #[test]
    fn a_failure_keeps_the_last_answer_and_is_told_once() {
        check(&[
            (0, Ok(("10.0.0.1 10.0.0.2", 5)), "2 found", 5),
            (5, Err("gone"), "gone, 2 kept", 7),
            (7, Err("gone"), "nothing", 9),
            (9, Ok(("10.0.0.1 10.0.0.2", 5)), "again", 14),
            (14, Err("absent"), "absent, 2 kept", 16),
            (16, Ok(("10.0.0.3", 5)), "1 found", 21),
        ]);
        check(&[(0, Err("none"), "none, 0 kept", 2)]);
        check(&[(0, Err("absent"), "absent, 0 kept", 2)]);
    }

    /// No SRV records is an answer while there never were any, and a failure after.
    #[test]
    fn services_without_records() {
        let service = Question::Service(NAME.to_owned());
        check_of(&service, &[(0, Err("absent"), "nothing", 30), (30, Err("late"), "late, 0 kept", 32)]);
        check_of(
            &service,
            &[(0, Ok(("10.0.0.1", 5)), "1 found", 5), (5, Err("absent"), "absent, 1 kept", 7)],
        );
    }

    #[test]
    fn what_fails_is_listed() {
        let now = Instant::now();
        let later = now + Duration::from_secs(7);
        let mut book = Book::default();
        let gone = Question::Service("gone.test".to_owned());
        book.set(vec![name(), gone.clone()], Known::new(), now);
        assert_eq!(book.failing(), []);
        let fault = |text: &str| Err(Fault { text: text.to_owned(), absent: false });
        book.answer(&name(), Ok((addresses("10.0.0.1"), TTL_MIN)), now);
        book.answer(&gone, fault("first"), now);
        book.answer(&name(), fault("first"), later);
        book.answer(&gone, fault("second"), later);
        let expected = [
            Failing { question: name(), error: "first".to_owned(), kept: 1, since: later },
            Failing { question: gone, error: "second".to_owned(), kept: 0, since: now },
        ];
        assert_eq!(book.failing(), expected);
        book.set(vec![name()], Known::new(), later);
        book.answer(&name(), Ok((addresses("10.0.0.1"), TTL_MIN)), later);
        assert_eq!(book.failing(), []);
    }

    #[test]
    fn questions_come_and_go() {
        let now = Instant::now();
        let of = |name: &str| Question::Addresses(name.to_owned());
        let mut book = Book::default();
        book.set(vec![of("a"), of("b")], Known::new(), now);
        assert_eq!(book.take_due(now, 1).len(), 1, "no more than asked for");
        book.take_due(now, 9);
        book.answer(&of("a"), Ok((addresses("10.0.0.1"), TTL_MAX)), now);
        book.set(vec![of("a"), of("c")], [(of("c"), addresses("10.0.0.9"))].into(), now);
        assert_eq!(
            book.take_due(now, 9),
            [(of("c"), Some(addresses("10.0.0.9")))],
            "a new name is due at once, whatever is known of it"
        );
        let late = book.answer(&of("b"), Ok((addresses("10.0.0.2"), TTL_MAX)), now);
        assert_eq!(late, News::Nothing, "gone meanwhile");
        assert_eq!(book.known.keys().cloned().collect::<Vec<_>>(), [of("a"), of("c")]);
        book.hurry(now);
        assert_eq!(keys(book.take_due(now, 9)), [of("a")], "c is under way");
    }

    #[test]
    fn feeds_there_and_back() {
        let mut feeds = Feeds::default();
        let node = ServiceNode {
            address: "10.0.0.1:80".parse().expect("an address"),
            target: "a.test".to_owned(),
            weight: 1,
            priority: 0,
        };
        let known: Known = [
            (name(), addresses("10.0.0.1")),
            (Question::Service("s.test".to_owned()), Found::Nodes(vec![node.clone()])),
        ]
        .into();
        put(known.clone(), &mut feeds);
        assert_eq!(feeds.services["s.test"], [node]);
        assert_eq!(known_by(&feeds), known);
    }
}
