//! Requests that wait until an endpoint has room below its `max_conns`, in the
//! order in which they came.
//!
//! A queue is one core's. Room that this core makes wakes the first that waits; of
//! room that another core makes nobody tells, so the first looks again every
//! [`LOOK`]. Only while all endpoints are full does any of this run.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// How often the first that waits looks for room that another core made.
pub const LOOK: Duration = Duration::from_millis(2);
/// How often the others look whether their client is still there.
pub const REST: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Default)]
pub struct Queue {
    waiting: RefCell<VecDeque<Rc<Place>>>,
}

#[derive(Default)]
struct Place {
    waker: RefCell<Option<Waker>>,
    called: std::cell::Cell<bool>,
}

/// A place in a queue; dropping it gives it up.
pub struct Ticket<'a> {
    queue: &'a Queue,
    place: Rc<Place>,
}

impl Queue {
    /// A place at the end, unless `most` wait already.
    pub fn enter(&self, most: usize) -> Option<Ticket<'_>> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= most {
            return None;
        }
        let place = Rc::new(Place::default());
        waiting.push_back(place.clone());
        Some(Ticket { queue: self, place })
    }

    /// Whether somebody waits: whoever comes now has to wait behind.
    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Tells the first that there may be room.
    pub fn wake_first(&self) {
        // Looked at on every request's end: an empty queue costs one load.
        if let Some(first) = self.waiting.borrow().front() {
            first.called.set(true);
            if let Some(waker) = first.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

impl Ticket<'_> {
    /// Whether nobody waits before it.
    pub fn is_first(&self) -> bool {
        self.queue.waiting.borrow().front().is_some_and(|first| Rc::ptr_eq(first, &self.place))
    }

    /// Waits until it is called, it is time to look again, or it is `until` (in microseconds).
    pub async fn wait(&self, until: u64) {
        let rest = Duration::from_micros(until.saturating_sub(crate::clock::micros()));
        let period = if self.is_first() { LOOK } else { REST };
        let mut pause = pin!(monoio::time::sleep(period.min(rest)));
        std::future::poll_fn(|context| {
            if self.place.called.replace(false) {
                return Poll::Ready(());
            }
            *self.place.waker.borrow_mut() = Some(context.waker().clone());
            pause.as_mut().poll(context)
        })
        .await;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.queue.waiting.borrow_mut().retain(|place| !Rc::ptr_eq(place, &self.place));
        // Whoever is first now may find the room that this one did not take.
        self.queue.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served_and_bounded() {
        let queue = Queue::default();
        let first = queue.enter(2).expect("room");
        let second = queue.enter(2).expect("room");
        assert!(queue.enter(2).is_none());
        assert!(first.is_first() && !second.is_first());
        queue.wake_first();
        assert!(first.place.called.get() && !second.place.called.get());
        drop(first);
        assert!(second.is_first() && second.place.called.get());
        drop(second);
        assert!(queue.is_empty());
    }
}
