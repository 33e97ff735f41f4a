//! Plugins of later issues, sketched against the trait before it froze.
//!
//! Those that need only what the engine performs today are written here and run;
//! of the others it is said what they need and where that goes. What did not fit
//! changed the trait:
//!
//! - `slot` has no index: instances are shared by routes whose chains differ, so a
//!   plugin cannot know its place in one; the engine knows whom it asks.
//! - `build` takes the owner: counters belong to the resource an entry is written in.
//! - Upstreams are named by the instance (`upstreams`) and chosen by their index
//!   (`Verdict::Upstream`), so that they are resolved with the plan and `build` needs
//!   no resolver; `traffic-split` and `proxy-mirror` do so.
//! - Transforms are installed by side (`set_response_transform`), so that the request's
//!   side can come with its first user and need not be accepted and ignored until then.
//!
//! `openid-connect`: `on_rewrite` reads the session cookie; without one it answers
//! 302 with `Location` and `Set-Cookie` (several fields of a name: `Answer::headers`
//! is a list). On the callback it needs `Verdict::Call(Call::Http(..))` for the token
//! endpoint and `Resume::Reply(Reply)`; between the two it keeps the state in its
//! slot. The JWKS comes as a feed with the plan, a refreshed cookie leaves by
//! `add_response_header`. New variants, nothing changed.
//!
//! `batch-requests`: `NeedBody`, then `Verdict::Call(Call::Internal(requests))`: the
//! engine runs each through its own routing and resumes with all replies; the answer
//! is JSON. It has its own route, so `on_access` is where it answers.
//!
//! AI proxy with failover: `NeedBody`; `Upstream` with an ordered list of providers as
//! its endpoints; `on_attempt` writes this try's path, `Authorization` and translated
//! body into its own copy (`Attempt` gets the kept body beside `head`); whether a 429
//! moves on to the next is the retry policy's `on = [429]`; `on_response` installs the
//! provider's stream translation as a `Transform` by `Attempt::number` in the slot; the
//! tokens it counted reach `on_end` through the slot.

use std::time::Duration;

use super::fake::{verdict_text, FakeExchange};
use super::{Answer, Exchange, Phases, Plugin, Resume, Transform, Verdict};

/// `limit-req` with its delay: asks to wait, then goes on.
struct LeakyBucket;

impl Plugin for LeakyBucket {
    fn name(&self) -> &'static str {
        "limit-req"
    }
    fn phases(&self) -> Phases {
        Phases::ACCESS
    }
    fn on_access(&self, x: &mut dyn Exchange, resume: Resume) -> Verdict {
        match resume {
            Resume::Woke => Verdict::Next,
            _ if x.now_millis() % 1000 > 900 => Verdict::Answer(Answer::status(503)),
            _ => Verdict::Wait(Duration::from_millis(x.now_millis() % 1000)),
        }
    }
}

/// `body-transformer`: reads the request's body, rewrites the response's.
struct BodyTransformer;

struct Wrap;

impl Transform for Wrap {
    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        out.extend(input.iter().map(u8::to_ascii_uppercase));
    }
    fn finish(&mut self, out: &mut Vec<u8>) {
        out.push(b'.');
    }
}

impl Plugin for BodyTransformer {
    fn name(&self) -> &'static str {
        "body-transformer"
    }
    fn phases(&self) -> Phases {
        Phases::REWRITE.and(Phases::RESPONSE)
    }
    fn on_rewrite(&self, x: &mut dyn Exchange, resume: Resume) -> Verdict {
        let Resume::Body = resume else { return Verdict::NeedBody { max: 1 << 20 } };
        let length = x.body().map_or(0, <[u8]>::len);
        *x.slot() = Some(Box::new(length));
        Verdict::Next
    }
    fn on_response(&self, x: &mut dyn Exchange, _resume: Resume) -> Verdict {
        let length = x.slot().take().and_then(|kept| kept.downcast::<usize>().ok());
        let length = length.map_or(0, |length| *length).to_string();
        x.response_mut().set(b"X-Request-Length", length.as_bytes());
        x.set_response_transform(Box::new(Wrap));
        Verdict::Next
    }
}

#[test]
fn a_delay_is_asked_for_and_resumed() {
    let mut x = FakeExchange::new("GET /");
    x.now_millis = 1_250;
    assert_eq!(verdict_text(&LeakyBucket.on_access(&mut x, Resume::Start)), "Wait(250ms)");
    assert_eq!(verdict_text(&LeakyBucket.on_access(&mut x, Resume::Woke)), "Next");
    x.now_millis = 1_950;
    assert_eq!(verdict_text(&LeakyBucket.on_access(&mut x, Resume::Start)), "503");
}

#[test]
fn a_body_is_asked_for_and_a_transform_installed() {
    let mut x = FakeExchange::new("POST /");
    assert_eq!(verdict_text(&BodyTransformer.on_rewrite(&mut x, Resume::Start)), "NeedBody { max: 1048576 }");
    x.body = Some(b"hello".to_vec());
    assert_eq!(verdict_text(&BodyTransformer.on_rewrite(&mut x, Resume::Body)), "Next");
    x.respond("200");
    BodyTransformer.on_response(&mut x, Resume::Start);
    assert_eq!(x.response_text(b"fine"), "200 | X-Request-Length: 5 || FINE.");
}
