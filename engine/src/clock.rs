//! The only place of the data plane that asks the time.
//!
//! Two readings: a monotonic one in microseconds since the process began, taken
//! at the edges of a request (a `vdso` call, about 25 ns), and a coarse wall
//! clock in milliseconds that the wheel's tick refreshes, for dates and windows.

use std::cell::{Cell, RefCell};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

static START: OnceLock<Instant> = OnceLock::new();

thread_local! {
    static WALL_MILLIS: Cell<u64> = const { Cell::new(0) };
    static HTTP_DATE: RefCell<(u64, [u8; 29])> = const { RefCell::new((0, [b' '; 29])) };
}

/// Microseconds since the process began.
#[allow(clippy::disallowed_methods)]
pub fn micros() -> u64 {
    let start = START.get_or_init(Instant::now);
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970, as of the last tick of this core.
pub fn wall_millis() -> u64 {
    let now = WALL_MILLIS.get();
    if now == 0 {
        refresh();
        return WALL_MILLIS.get();
    }
    now
}

/// Called by the tick: reads the wall clock and renews the `Date` of answers.
#[allow(clippy::disallowed_methods)]
pub fn refresh() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as u64);
    WALL_MILLIS.set(now);
    HTTP_DATE.with_borrow_mut(|(second, text)| {
        if *second != now / 1000 {
            *second = now / 1000;
            proto::date::format_http(*second, text);
        }
    });
}

/// The current `Date` field value (RFC 9110 section 6.6.1).
pub fn http_date() -> [u8; 29] {
    wall_millis();
    HTTP_DATE.with_borrow(|(_, text)| *text)
}
