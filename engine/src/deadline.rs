//! The coarse wheel: every deadline of a core, and its list of connections.
//!
//! One tick is [`TICK_MILLIS`]. A [`Watch`] is one entry, made once per
//! connection (and direction of a body), so that a request sets its deadlines
//! by writing one number. A later deadline is only written: the entry is moved
//! when its old place comes up. An earlier one relinks it, which costs a few
//! nanoseconds. Expiry never drops a future that owns a kernel operation: it
//! calls `shutdown(2)`, and the operation ends by itself (see docs/decisions.md).
//!
//! The same walk notices clients that left while their upstream is silent
//! ([`Watch::guard_peer`]): one `poll(2)` for all of them, instead of an
//! operation in the ring for every request.

use std::cell::{Cell, RefCell};
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use monoio::io::{CancelHandle, Canceller};

use crate::sys;

/// Length of one tick, in milliseconds.
pub const TICK_MILLIS: u64 = 50;
const BUCKETS: usize = 2048;
const NEVER: u64 = u64::MAX;
const NONE: u32 = u32::MAX;

/// What the wheel does when an entry's time has come.
enum Action {
    /// Ends both directions; the pending operation returns at once.
    ShutDown,
    /// Ends reading alone, so that an answer (408) can still be written.
    EndRead,
    /// Ends the read of a connection that has gone quiet; nothing is lost.
    CancelRead,
    /// Looks whether the client is still there; if not, ends this other socket.
    GuardPeer(RawFd),
}

struct Entry {
    fd: RawFd,
    due: u64,
    /// The bucket's tick it is linked under; [`NEVER`] when it is in none.
    linked: u64,
    previous: u32,
    next: u32,
    action: Action,
    /// Made at the first quiet read of a busy spell, kept until it is used up.
    canceller: Option<Canceller>,
    expired: bool,
    peer_gone: bool,
    idle: bool,
}

#[derive(Default)]
struct Inner {
    entries: slab::Slab<Entry>,
    heads: Vec<u32>,
}

/// All deadlines of one core.
pub struct Wheel {
    inner: RefCell<Inner>,
    now: Cell<u64>,
    guarded: RefCell<(Vec<RawFd>, Vec<usize>)>,
}

impl Wheel {
    /// An empty wheel at tick 0.
    pub fn new() -> Rc<Self> {
        let inner = Inner { entries: slab::Slab::new(), heads: vec![NONE; BUCKETS] };
        Rc::new(Self { inner: RefCell::new(inner), now: Cell::new(0), guarded: RefCell::default() })
    }

    /// A new entry for a socket, without a deadline.
    pub fn watch(self: &Rc<Self>, fd: RawFd) -> Watch {
        let key = self.inner.borrow_mut().entries.insert(Entry {
            fd,
            due: NEVER,
            linked: NEVER,
            previous: NONE,
            next: NONE,
            action: Action::ShutDown,
            canceller: None,
            expired: false,
            peer_gone: false,
            idle: false,
        });
        Watch { wheel: self.clone(), key }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.inner.borrow().entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ticks since the wheel began.
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// Moves time on to `millis` since the wheel began and acts on what is due.
    pub fn advance(&self, millis: u64) {
        let target = millis / TICK_MILLIS;
        // After a long pause (a stopped process) every bucket is visited once.
        let first = (self.now.get() + 1).max(target.saturating_sub(BUCKETS as u64 - 1));
        for tick in first..=target {
            self.now.set(tick);
            self.turn(tick);
        }
        self.check_peers();
    }

    fn turn(&self, tick: u64) {
        let bucket = (tick % BUCKETS as u64) as usize;
        let mut inner = self.inner.borrow_mut();
        let mut at = std::mem::replace(&mut inner.heads[bucket], NONE);
        while at != NONE {
            let key = at as usize;
            let entry = &mut inner.entries[key];
            at = entry.next;
            entry.linked = NEVER;
            if entry.due == NEVER {
                continue;
            }
            if entry.due > tick {
                inner.link(key, tick);
                continue;
            }
            entry.due = NEVER;
            match std::mem::replace(&mut entry.action, Action::ShutDown) {
                Action::ShutDown => {
                    entry.expired = true;
                    sys::shutdown(entry.fd, Shutdown::Both);
                }
                Action::EndRead => {
                    entry.expired = true;
                    sys::shutdown(entry.fd, Shutdown::Read);
                }
                Action::CancelRead => {
                    if let Some(canceller) = entry.canceller.take() {
                        drop(canceller.cancel());
                    }
                }
                Action::GuardPeer(other) => {
                    entry.action = Action::GuardPeer(other);
                    let mut guarded = self.guarded.borrow_mut();
                    guarded.0.push(entry.fd);
                    guarded.1.push(key);
                }
            }
        }
    }

    fn check_peers(&self) {
        let mut guarded = self.guarded.borrow_mut();
        let (fds, keys) = &mut *guarded;
        if fds.is_empty() {
            return;
        }
        let mut inner = self.inner.borrow_mut();
        let next = self.now.get() + 2;
        for key in keys.iter() {
            inner.entries[*key].due = next;
            inner.link(*key, self.now.get());
        }
        sys::poll_hangups(fds, &mut |index| {
            let entry = &mut inner.entries[keys[index]];
            if let Action::GuardPeer(other) = entry.action {
                entry.peer_gone = true;
                entry.due = NEVER;
                sys::shutdown(other, Shutdown::Both);
            }
        });
        fds.clear();
        keys.clear();
    }

    /// Wakes every connection that waits for a next request: it reads an end.
    pub fn shut_idle(&self) {
        for (_, entry) in &self.inner.borrow().entries {
            if entry.idle {
                sys::shutdown(entry.fd, Shutdown::Read);
            }
        }
    }

    /// Ends every connection of the core at once.
    pub fn shut_all(&self) {
        for (_, entry) in &self.inner.borrow().entries {
            sys::shutdown(entry.fd, Shutdown::Both);
        }
    }
}

impl Inner {
    fn link(&mut self, key: usize, now: u64) {
        let due = self.entries[key].due;
        // Past the horizon the entry is looked at once a turn of the wheel.
        let tick = due.clamp(now + 1, now + BUCKETS as u64 - 1);
        let bucket = (tick % BUCKETS as u64) as usize;
        let head = std::mem::replace(&mut self.heads[bucket], key as u32);
        if head != NONE {
            self.entries[head as usize].previous = key as u32;
        }
        let entry = &mut self.entries[key];
        entry.linked = tick;
        entry.previous = NONE;
        entry.next = head;
    }

    fn unlink(&mut self, key: usize) {
        let entry = &mut self.entries[key];
        if entry.linked == NEVER {
            return;
        }
        let bucket = (entry.linked % BUCKETS as u64) as usize;
        entry.linked = NEVER;
        let (previous, next) = (entry.previous, entry.next);
        match previous {
            NONE => self.heads[bucket] = next,
            previous => self.entries[previous as usize].next = next,
        }
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
    }
}

/// One entry of the wheel. Drop it before its socket.
pub struct Watch {
    wheel: Rc<Wheel>,
    key: usize,
}

impl Watch {
    fn set(&self, inner: &mut Inner, after: Duration, action: Action, idle: bool) {
        let wheel = &*self.wheel;
        // One tick more than asked: never early, at most one tick late.
        let ticks = (after.as_millis() as u64).div_ceil(TICK_MILLIS);
        let due = wheel.now.get().saturating_add(ticks).saturating_add(1);
        let entry = &mut inner.entries[self.key];
        entry.due = due;
        entry.action = action;
        entry.expired = false;
        entry.idle = idle;
        if due < entry.linked {
            inner.unlink(self.key);
            inner.link(self.key, wheel.now.get());
        }
    }

    /// The socket is shut down in `after` from now unless another call comes first.
    pub fn expire_in(&self, after: Duration) {
        self.set(&mut self.wheel.inner.borrow_mut(), after, Action::ShutDown, false);
    }

    /// Reading ends in `after` from now; writing stays possible.
    pub fn end_read_in(&self, after: Duration) {
        self.set(&mut self.wheel.inner.borrow_mut(), after, Action::EndRead, false);
    }

    /// As [`Watch::expire_in`], for a connection without a request in hand:
    /// [`Wheel::shut_idle`] ends it at once.
    pub fn idle_in(&self, after: Duration) {
        let mut inner = self.wheel.inner.borrow_mut();
        self.set(&mut inner, after, Action::ShutDown, true);
        // A connection at rest keeps nothing that the next busy spell can make anew.
        inner.entries[self.key].canceller = None;
    }

    /// For the read of a connection's next request: the read that is given this
    /// handle ends in `after` without losing a byte.
    pub fn quiet_in(&self, after: Duration) -> CancelHandle {
        let mut inner = self.wheel.inner.borrow_mut();
        self.set(&mut inner, after, Action::CancelRead, true);
        inner.entries[self.key].canceller.get_or_insert_with(Canceller::new).handle()
    }

    /// While the socket `other` is waited for: if this one's peer leaves, `other`
    /// is shut down and [`Watch::peer_gone`] says so, within two to four ticks.
    pub fn guard_peer(&self, other: RawFd) {
        let after = Duration::from_millis(TICK_MILLIS);
        self.set(&mut self.wheel.inner.borrow_mut(), after, Action::GuardPeer(other), false);
    }

    /// No deadline.
    pub fn clear(&self) {
        let mut inner = self.wheel.inner.borrow_mut();
        let entry = &mut inner.entries[self.key];
        entry.due = NEVER;
        entry.idle = false;
        entry.action = Action::ShutDown;
    }

    /// Whether the deadline has fired since it was last set.
    pub fn expired(&self) -> bool {
        self.wheel.inner.borrow().entries[self.key].expired
    }

    /// Whether the peer was found gone.
    pub fn peer_gone(&self) -> bool {
        self.wheel.inner.borrow().entries[self.key].peer_gone
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut inner = self.wheel.inner.borrow_mut();
        inner.unlink(self.key);
        inner.entries.remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (near, far) = UnixStream::pair().expect("a socket pair");
        far.set_nonblocking(true).expect("non-blocking");
        (near, far)
    }

    fn open(far: &mut UnixStream) -> bool {
        matches!(far.read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    #[test]
    fn fires_within_one_tick_and_never_early() {
        for millis in [1, 50, 70, 1000, 5000, 200_000] {
            let wheel = Wheel::new();
            let (near, mut far) = pair();
            let watch = wheel.watch(near.as_raw_fd());
            watch.expire_in(Duration::from_millis(millis));
            let mut now = 0;
            while open(&mut far) {
                now += TICK_MILLIS;
                wheel.advance(now);
                assert!(now < millis + 3 * TICK_MILLIS, "{millis} ms not fired at {now}");
            }
            assert!(now >= millis && watch.expired(), "{millis} ms fired at {now}");
        }
    }

    #[test]
    fn later_then_earlier_then_cleared() {
        let wheel = Wheel::new();
        let (near, mut far) = pair();
        let watch = wheel.watch(near.as_raw_fd());
        watch.expire_in(Duration::from_millis(100));
        watch.expire_in(Duration::from_millis(1000));
        wheel.advance(500);
        assert!(open(&mut far), "moved to a later time");
        watch.expire_in(Duration::from_millis(100));
        watch.clear();
        wheel.advance(3000);
        assert!(open(&mut far), "cleared");
        watch.expire_in(Duration::from_millis(100));
        wheel.advance(3300);
        assert!(!open(&mut far), "set again");
    }

    #[test]
    fn a_client_that_left_ends_the_other_socket() {
        let wheel = Wheel::new();
        let (client, client_far) = pair();
        let (upstream, mut upstream_far) = pair();
        let watch = wheel.watch(client.as_raw_fd());
        watch.guard_peer(upstream.as_raw_fd());
        for tick in 1..20 {
            wheel.advance(tick * TICK_MILLIS);
        }
        assert!(open(&mut upstream_far) && !watch.peer_gone());
        drop(client_far);
        for tick in 20..24 {
            wheel.advance(tick * TICK_MILLIS);
        }
        assert!(!open(&mut upstream_far) && watch.peer_gone(), "found within 200 ms");
    }

    #[test]
    fn many_entries_come_and_go() {
        let wheel = Wheel::new();
        let (near, _far) = pair();
        let mut seed = 7_u64;
        let mut watches = Vec::new();
        for tick in 0..5000_u64 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let watch = wheel.watch(near.as_raw_fd());
            watch.expire_in(Duration::from_millis((seed >> 33) % 300_000));
            watch.clear();
            watches.push(watch);
            if seed % 3 == 0 {
                watches.swap_remove((seed >> 20) as usize % watches.len());
            }
            wheel.advance(tick * TICK_MILLIS);
        }
        assert_eq!(wheel.len(), watches.len());
        watches.clear();
        assert!(wheel.is_empty());
    }
}
