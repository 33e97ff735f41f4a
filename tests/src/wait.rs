//! Waiting for conditions, with a deadline. The one file of the tests that may sleep.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a test waits for something that should happen at once. Long, since CI runs many tests on two cores.
pub const SOON: Duration = Duration::from_secs(15);

/// Looks every few milliseconds until `look` gives something.
///
/// # Panics
///
/// After `deadline`, with `what` in the message.
pub fn wait_for<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain for {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Like [`wait_for`], for a plain condition, within [`SOON`].
///
/// # Panics
///
/// When the condition does not come true.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, SOON, || holds().then_some(()));
}

/// The pace of a deliberately slow peer: the pause between two pieces it sends. Never a way to wait for something.
pub fn pace(pause: Duration) {
    sleep(pause);
}

/// Asserts that `holds` stays true for the whole of `span`: for what must *not* happen meanwhile.
///
/// # Panics
///
/// When it turns false.
pub fn stays(what: &str, span: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < span {
        assert!(holds(), "did not stay: {what}");
        sleep(Duration::from_millis(5));
    }
}
