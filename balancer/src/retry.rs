//! May a failed attempt be repeated elsewhere: APISIX's rules, which are nginx's.
//!
//! A connect error or a timeout before an answer goes to the next endpoint, as often as `retries`
//! and as long as `retry_timeout` allow. Once a byte of the request was sent, the endpoint may have
//! acted on it, so POST, LOCK and PATCH are not sent again. Whoever asks ends the tries himself
//! when a byte of the answer came, when the client left, or when the answer was broken.
//!
//! Pure: the elapsed time comes in. Which endpoint is next is [`crate::upstream`]'s.

use std::time::Duration;

use proto::head::Method;

/// How often and how long an upstream's requests are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries after the first.
    pub retries: u32,
    /// No new try after this long since the first began; zero means without limit.
    pub retry_timeout: Duration,
}

impl RetryPolicy {
    /// The policy of an upstream: without `retries`, each of its `nodes` gets one try.
    pub fn new(retries: Option<u32>, retry_timeout: Duration, nodes: usize) -> RetryPolicy {
        let others = u32::try_from(nodes.saturating_sub(1)).unwrap_or(u32::MAX);
        RetryPolicy { retries: retries.unwrap_or(others), retry_timeout }
    }
}

/// How an attempt ended without an answer.
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
    /// An answer came whose status counts as a failure.
    Status(u16),
}

impl Failure {
    /// What the client is told when this was the last try: 504 for a timeout, else 502.
    pub fn status(self) -> u16 {
        match self {
            Failure::ConnectTimeout | Failure::Timeout => 504,
            Failure::NotSent | Failure::SendFailed | Failure::NoAnswer => 502,
            Failure::Status(status) => status,
        }
    }
}

/// A try that failed, and what is known of the request.
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    /// The request's method.
    pub method: Method,
    /// How it failed.
    pub failure: Failure,
    /// A byte of the request went to any endpoint so far.
    pub sent: bool,
    /// All that was sent is still there to be sent again.
    pub replayable: bool,
    /// Tries made, the first included.
    pub tries: u32,
    /// Since the first began.
    pub elapsed: Duration,
    /// Endpoints that a further pick could give.
    pub untried: usize,
}

impl RetryPolicy {
    /// Whether there may be another try.
    pub fn may_retry(&self, failed: &Failed) -> bool {
        may_retry(
            self,
            failed.method,
            failed.failure,
            failed.sent,
            failed.replayable,
            failed.tries,
            failed.elapsed,
            failed.untried,
        )
    }

    /// How long to wait before the next try.
    pub fn backoff(&self, _tries: u32, _random: u64) -> Duration {
        Duration::ZERO
    }

    /// Whether a request of this method may be sent twice at once.
    pub fn hedgeable(&self, method: Method) -> bool {
        method.is_idempotent()
    }
}

/// Whether there may be another try.
///
/// `sent_any`: a byte of this request went to any endpoint so far. `replayable`: all of the request that was
/// sent is still there to be sent again; asked only once something was sent. `tries`: tries made, the
/// first included. `untried_nodes`: [`crate::upstream::Group::untried`], which counts an only node as
/// untried always.
///
/// Methods that [`Method`] does not know count as LOCK does: one of them may be it, and what they do is
/// not known either (RFC 9110 section 9.2.2).
#[allow(clippy::too_many_arguments)] // It is the whole rule; a struct would be built for one call.
pub fn may_retry(
    policy: &RetryPolicy,
    method: Method,
    failure: Failure,
    sent_any: bool,
    replayable: bool,
    tries: u32,
    elapsed: Duration,
    untried_nodes: usize,
) -> bool {
    let in_time = policy.retry_timeout.is_zero() || elapsed < policy.retry_timeout;
    // What these failures mean: some of the request was on its way, whatever the caller counted.
    let sent = sent_any || matches!(failure, Failure::SendFailed | Failure::NoAnswer);
    let repeatable = !matches!(method, Method::Post | Method::Patch | Method::Other);
    tries <= policy.retries && in_time && untried_nodes > 0 && (!sent || (repeatable && replayable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Failure::{ConnectTimeout, NoAnswer, NotSent, SendFailed, Timeout};

    /// `"GET 2/1 0s+3"`: method, retries / tries made, elapsed, untried nodes; `sent` and `kept` as words.
    fn check(case: &str, failure: Failure, expected: bool) {
        let words: Vec<&str> = case.split(' ').collect();
        let number = |text: &str| text.parse().expect("a number");
        let (retries, tries) = words[1].split_once('/').expect("retries and tries");
        let (elapsed, untried) = words[2].split_once("s+").expect("seconds and nodes");
        let policy = RetryPolicy { retries: number(retries), retry_timeout: Duration::from_secs(5) };
        let got = may_retry(
            &policy,
            Method::from_bytes(words[0].as_bytes()),
            failure,
            words.contains(&"sent"),
            words.contains(&"kept"),
            number(tries),
            Duration::from_secs(u64::from(number(elapsed))),
            number(untried) as usize,
        );
        assert_eq!(got, expected, "{case} {failure:?}");
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
    fn no_limit_and_defaults() {
        let policy = RetryPolicy::new(None, Duration::ZERO, 3);
        assert_eq!(policy.retries, 2);
        let long = Duration::from_secs(1 << 20);
        assert!(may_retry(&policy, Method::Get, NotSent, false, true, 2, long, 1));
        assert_eq!(RetryPolicy::new(Some(0), Duration::ZERO, 3).retries, 0);
        assert_eq!(RetryPolicy::new(None, Duration::ZERO, 0).retries, 0);
        assert_eq!((NotSent.status(), Timeout.status(), ConnectTimeout.status()), (502, 504, 504));
    }
}
