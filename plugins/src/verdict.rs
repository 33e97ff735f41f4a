//! What a plugin answers when it is asked, and why it is asked again.
//!
//! Closed enums: the engine matches them without a wildcard, so that a new kind
//! of wish is a compile error wherever it has to be performed. There is a variant
//! for what the engine performs and none for what it does not; `sketches` shows
//! where `Call` goes when its first plugin arrives.

use std::borrow::Cow;
use std::time::Duration;

/// What shall happen next.
#[derive(Debug)]
pub enum Verdict {
    /// Ask the next plugin.
    Next,
    /// Answer the client with this; no later plugin of the request side is asked,
    /// no upstream is tried. The response side of the chain still runs. On the
    /// response side it replaces the upstream's answer.
    Answer(Answer),
    /// Read the request body whole, then ask again with [`Resume::Body`]. A body of
    /// more than `max` bytes is answered with 413 by the engine.
    NeedBody {
        /// Bytes; the engine's own bound (`server.limits.request_body`) holds as well.
        max: usize,
    },
    /// Ask again with [`Resume::Woke`] after this time.
    Wait(Duration),
    /// Send the request to this one of [`crate::Plugin::upstreams`] instead of the route's own; then as
    /// `Next`. The last plugin that says so counts.
    Upstream(usize),
}

/// Why a plugin is asked.
#[derive(Debug)]
pub enum Resume {
    /// For the first time in this phase.
    Start,
    /// The body it needed is there: [`crate::Exchange::body`].
    Body,
    /// The time it wanted to wait has passed.
    Woke,
}

/// A response made by the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// 200 to 599.
    pub status: u16,
    /// Fields, valid names and values; the engine adds `Content-Length`, `Date`, `Server`.
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// Empty: the engine may put its own page for an error status.
    pub body: Vec<u8>,
}

impl Answer {
    /// A status with neither fields nor body.
    pub fn status(status: u16) -> Answer {
        Answer { status, ..Answer::default() }
    }

    /// APISIX's error body, `{"error_msg":"..."}` and a newline, as JSON.
    pub fn error_message(status: u16, message: &str) -> Answer {
        let mut body = serde_json::json!({ "error_msg": message }).to_string().into_bytes();
        body.push(b'\n');
        let headers = vec![(Cow::Borrowed("Content-Type"), "application/json".to_owned())];
        Answer { status, headers, body }
    }
}

/// In which phases a plugin wants to be asked, so that the engine skips the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases(u8);

impl Phases {
    /// None at all.
    pub const NONE: Phases = Phases(0);
    /// [`crate::Plugin::on_rewrite`].
    pub const REWRITE: Phases = Phases(1);
    /// [`crate::Plugin::on_access`].
    pub const ACCESS: Phases = Phases(2);
    /// [`crate::Plugin::on_attempt`].
    pub const ATTEMPT: Phases = Phases(4);
    /// [`crate::Plugin::on_response`].
    pub const RESPONSE: Phases = Phases(8);
    /// [`crate::Plugin::on_end`].
    pub const END: Phases = Phases(16);

    /// These and those.
    pub const fn and(self, other: Phases) -> Phases {
        Phases(self.0 | other.0)
    }

    /// Whether any of `other` is among these.
    pub const fn has(self, other: Phases) -> bool {
        self.0 & other.0 != 0
    }
}
