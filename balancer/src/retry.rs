//! May a failed attempt be repeated elsewhere: APISIX's rules, which are nginx's, and what `retry` adds.
//!
//! A connect error or a timeout before an answer goes to the next endpoint, as often as `retries`
//! and as long as `retry_timeout` allow. Once a byte of the request was sent, the endpoint may have
//! acted on it, so POST, LOCK and PATCH are not sent again; `retry.methods` says otherwise, by being the whole
//! list. An answer whose status `retry.on` lists counts as a failure after sending. `"reset"` in it says what
//! holds without it too, as nginx's `error` does: a broken connection is one.
//! Whoever asks ends the tries himself when a byte of the answer went to the client, when the client left, or
//! when the answer was broken.
//!
//! Pure: the elapsed time and chance come in. Which endpoint is next is [`crate::upstream`]'s, how many
//! retries an outage may cause [`crate::budget`]'s.

use std::time::Duration;

use config::balance::Backoff;
use proto::head::Method;

/// How often, how long and for what an upstream's requests are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries after the first.
    pub retries: u32,
    /// No new try after this long since the first began; zero means without limit.
    pub retry_timeout: Duration,
    /// From the beginning of a try to its response head; `None` leaves it to the other timeouts.
    pub per_try_timeout: Option<Duration>,
    /// Statuses of an answer that count as a failure.
    on_statuses: Vec<u16>,
    /// What may be repeated once bytes were sent, by name; `None` is nginx's rule.
    methods: Option<Vec<String>>,
    backoff: Option<Backoff>,
}

/// Methods beyond RFC 9110's that IANA's registry calls idempotent: WebDAV's and its kin.
const IDEMPOTENT: &[&str] = &[
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PROPFIND",
    "PROPPATCH",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// How an attempt ended without an answer that the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, unreachable, reset while connecting.
    NotSent,
    /// No connection in time.
    ConnectTimeout,
    /// The connection broke while the request was being sent.
    SendFailed,
    /// The connection ended before the first byte of the answer.
    NoAnswer,
    /// Nothing came, or nothing could be sent, in time.
    Timeout,
    /// An answer came with this status; whether it is a failure, [`RetryPolicy::may_retry`] says.
    Status(u16),
}

impl Failure {
    /// What the client is told when this was the last try: 504 for a timeout, an answer's own status, else 502.
    pub fn status(self) -> u16 {
        match self {
            Failure::ConnectTimeout | Failure::Timeout => 504,
            Failure::NotSent | Failure::SendFailed | Failure::NoAnswer => 502,
            Failure::Status(status) => status,
        }
    }
}

/// An attempt that failed, and what is left.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    /// The request's method, as sent.
    pub method: &'a [u8],
    /// How it ended.
    pub failure: Failure,
    /// A byte of this request went to any endpoint so far.
    pub sent: bool,
    /// All of the request that was sent is still there to be sent again; asked only once something was sent.
    pub replayable: bool,
    /// Tries made, the first included.
    pub tries: u32,
    /// Since the first try began.
    pub elapsed: Duration,
    /// [`crate::upstream::Group::untried`], which counts an only node as untried always.
    pub untried: usize,
}

impl RetryPolicy {
    /// The policy of an upstream: without `retries`, each of its `nodes` gets one try.
    pub fn of(source: &config::Upstream, nodes: usize) -> RetryPolicy {
        let others = u32::try_from(nodes.saturating_sub(1)).unwrap_or(u32::MAX);
        RetryPolicy {
            retries: source.retries.unwrap_or(others),
            retry_timeout: source.retry_timeout,
            per_try_timeout: source.retry.per_try_timeout,
            on_statuses: source.retry.on_statuses.clone(),
            methods: source.retry.methods.clone(),
            backoff: source.retry.backoff,
        }
    }

    /// Whether there may be another try, the budget apart.
    pub fn may_retry(&self, failed: &Failed<'_>) -> bool {
        let in_time = self.retry_timeout.is_zero() || failed.elapsed < self.retry_timeout;
        // What these failures mean: some of the request was on its way, whatever the caller counted.
        let sent = match failed.failure {
            Failure::NotSent | Failure::ConnectTimeout | Failure::Timeout => failed.sent,
            Failure::SendFailed | Failure::NoAnswer | Failure::Status(_) => true,
        };
        let counts = match failed.failure {
            Failure::Status(status) => self.is_failure(status),
            _ => true,
        };
        counts
            && failed.tries <= self.retries
            && in_time
            && failed.untried > 0
            && (!sent || (failed.replayable && self.is_repeatable(failed.method)))
    }

    /// Whether an answer of this status counts as a failure: false leaves it to the client unasked.
    #[inline]
    pub fn is_failure(&self, status: u16) -> bool {
        self.on_statuses.contains(&status)
    }

    /// Whether a second try may run beside the first: only what does the same when done twice (RFC 9110
    /// section 9.2.2), or what `methods` lists.
    pub fn hedgeable(&self, method: &[u8]) -> bool {
        match &self.methods {
            Some(methods) => lists(methods, method),
            None => Method::from_bytes(method).is_idempotent(),
        }
    }

    /// How long to wait before the next try, after so many were made: a random time up to
    /// `min(base * 2^(tries - 1), max)`. Full jitter, as those that failed together are not to come back together.
    /// `random` is any number, evenly drawn from all.
    pub fn backoff(&self, tries: u32, random: u64) -> Duration {
        let Some(backoff) = self.backoff else { return Duration::ZERO };
        let doubled = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
        let most = backoff.base.saturating_mul(doubled).min(backoff.max).as_nanos().min(u64::MAX.into());
        // A product of two 64-bit numbers fits, and its upper half is below `most + 1`.
        let nanos = ((most + 1) * u128::from(random)) >> 64;
        Duration::from_nanos(nanos as u64)
    }

    /// Whether it may be repeated although an endpoint may have acted on it.
    ///
    /// Methods that neither [`Method`] nor [`IDEMPOTENT`] knows count as LOCK does: what they do is not known
    /// (RFC 9110 section 9.2.2). Listing them says so.
    fn is_repeatable(&self, method: &[u8]) -> bool {
        match &self.methods {
            Some(methods) => lists(methods, method),
            None => match Method::from_bytes(method) {
                Method::Post | Method::Patch => false,
                Method::Other => IDEMPOTENT.iter().any(|known| known.as_bytes() == method),
                _ => true,
            },
        }
    }
}

fn lists(methods: &[String], method: &[u8]) -> bool {
    methods.iter().any(|listed| listed.as_bytes() == method)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Failure::{ConnectTimeout, NoAnswer, NotSent, SendFailed, Status, Timeout};

    fn source(retries: Option<u32>) -> config::Upstream {
        let mut source = config::Upstream::of("u".into(), Vec::new(), config::Place::NOWHERE);
        source.retries = retries;
        source
    }

    /// `"GET 2/1 0s+3"`: method, retries / tries made, elapsed, untried nodes; `sent` and `kept` as words, then
    /// what `retry` adds: `on=502`, `may=POST`.
    fn check(case: &str, failure: Failure, expected: bool) {
        let words: Vec<&str> = case.split(' ').collect();
        let number = |text: &str| text.parse::<u32>().expect("a number");
        let (retries, tries) = words[1].split_once('/').expect("retries and tries");
        let (elapsed, untried) = words[2].split_once("s+").expect("seconds and nodes");
        let mut source = source(Some(number(retries)));
        source.retry_timeout = Duration::from_secs(5);
        for word in &words[3..] {
            match word.split_once('=') {
                Some(("on", status)) => source.retry.on_statuses.push(number(status) as u16),
                Some(("may", method)) => source.retry.methods.get_or_insert_default().push(method.into()),
                _ => assert!(["sent", "kept"].contains(word), "{case}"),
            }
        }
        let failed = Failed {
            method: words[0].as_bytes(),
            failure,
            sent: words.contains(&"sent"),
            replayable: words.contains(&"kept"),
            tries: number(tries),
            elapsed: Duration::from_secs(number(elapsed).into()),
            untried: number(untried) as usize,
        };
        assert_eq!(RetryPolicy::of(&source, 2).may_retry(&failed), expected, "{case} {failure:?}");
    }

    #[test]
    fn rules() {
        check("GET 1/1 0s+1", NotSent, true);
        check("GET 1/2 0s+1", NotSent, false);
        check("GET 0/1 0s+1", NotSent, false);
        check("GET 1/1 0s+0", NotSent, false);
        check("GET 1/1 5s+1", NotSent, false);
        check("GET 1/1 4s+1", ConnectTimeout, true);
        check("POST 1/1 0s+1", NotSent, true);
        check("POST 1/1 0s+1", ConnectTimeout, true);
        check("POST 1/1 0s+1 sent kept", Timeout, false);
        check("PATCH 1/1 0s+1 sent kept", NoAnswer, false);
        check("LOCK 1/1 0s+1 sent kept", NoAnswer, false);
        check("LOCK 1/1 0s+1", NotSent, true);
        check("POST 1/1 0s+1 kept", Timeout, true);
        check("POST 1/1 0s+1 kept", NoAnswer, false);
        check("PUT 1/1 0s+1 sent kept", NoAnswer, true);
        check("PUT 1/1 0s+1 sent", NoAnswer, false);
        check("PUT 1/1 0s+1 kept", SendFailed, true);
        check("POST 2/2 0s+1 sent kept", NotSent, false);
        check("GET 1/1 0s+1 sent kept", Timeout, true);
    }

    #[test]
    fn by_status() {
        check("GET 1/1 0s+1 sent kept", Status(502), false);
        check("GET 1/1 0s+1 sent kept on=502", Status(502), true);
        check("GET 1/1 0s+1 kept on=502 on=503", Status(503), true);
        check("GET 1/1 0s+1 sent kept on=502", Status(503), false);
        check("GET 1/1 0s+1 sent on=502", Status(502), false);
        check("GET 1/2 0s+1 sent kept on=502", Status(502), false);
        check("GET 1/1 0s+0 sent kept on=502", Status(502), false);
        check("GET 1/1 5s+1 sent kept on=502", Status(502), false);
        check("POST 1/1 0s+1 kept on=502", Status(502), false);
        check("POST 1/1 0s+1 kept on=502 may=POST", Status(502), true);
        check("GET 1/1 0s+1 sent kept on=502", NoAnswer, true);
    }

    #[test]
    fn methods() {
        check("POST 1/1 0s+1 sent kept may=POST", NoAnswer, true);
        check("POST 1/1 0s+1 sent may=POST", NoAnswer, false);
        check("GET 1/1 0s+1 sent kept may=POST", NoAnswer, false);
        check("GET 1/1 0s+1 kept may=POST", NotSent, true);
        check("LOCK 1/1 0s+1 sent kept may=GET may=LOCK", Timeout, true);
        check("PROPFIND 1/1 0s+1 sent kept", Timeout, true);
        check("LOCK 1/1 0s+1 sent kept", Timeout, false);
        check("FROB 1/1 0s+1 sent kept", Timeout, false);
        check("FROB 1/1 0s+1 sent kept may=FROB", Timeout, true);
        check("post 1/1 0s+1 sent kept may=POST", Timeout, false);
    }

    #[test]
    fn hedging() {
        let default = RetryPolicy::of(&source(None), 3);
        for (method, expected) in [("GET", true), ("PUT", true), ("POST", false), ("PROPFIND", false)] {
            assert_eq!(default.hedgeable(method.as_bytes()), expected, "{method}");
        }
        let mut source = source(None);
        source.retry.methods = Some(vec!["POST".into(), "REPORT".into()]);
        let listed = RetryPolicy::of(&source, 3);
        for (method, expected) in [("GET", false), ("POST", true), ("REPORT", true)] {
            assert_eq!(listed.hedgeable(method.as_bytes()), expected, "{method}");
        }
    }

    /// The longest wait after so many tries, of base 25 ms and at most 250 ms.
    #[test]
    fn backoff() {
        let mut source = source(None);
        assert_eq!(RetryPolicy::of(&source, 3).backoff(1, u64::MAX), Duration::ZERO);
        let millis = Duration::from_millis;
        source.retry.backoff = Some(Backoff { base: millis(25), max: millis(250) });
        let policy = RetryPolicy::of(&source, 3);
        for (tries, most) in [(0, 25), (1, 25), (2, 50), (4, 200), (5, 250), (33, 250), (u32::MAX, 250)] {
            assert_eq!(policy.backoff(tries, u64::MAX), millis(most), "{tries}");
            assert_eq!(policy.backoff(tries, 1 << 63), millis(most) / 2, "{tries}");
            assert_eq!(policy.backoff(tries, 0), Duration::ZERO, "{tries}");
        }
        source.retry.backoff = Some(Backoff { base: Duration::MAX, max: Duration::MAX });
        assert!(RetryPolicy::of(&source, 3).backoff(9, u64::MAX) > millis(1_000_000));
    }

    #[test]
    fn no_limit_and_defaults() {
        let policy = RetryPolicy::of(&source(None), 3);
        assert_eq!(policy.retries, 2);
        let failed = Failed {
            method: b"GET",
            failure: NotSent,
            sent: false,
            replayable: true,
            tries: 2,
            elapsed: Duration::from_secs(1 << 20),
            untried: 1,
        };
        assert!(policy.may_retry(&failed));
        assert_eq!(RetryPolicy::of(&source(Some(0)), 3).retries, 0);
        assert_eq!(RetryPolicy::of(&source(None), 0).retries, 0);
        let statuses = [NotSent, Timeout, ConnectTimeout, Status(503)].map(Failure::status);
        assert_eq!(statuses, [502, 504, 504, 503]);
    }
}
