//! Contains panics: monoio does not catch them, and one would end the core.
//!
//! Every task of the data plane is spawned through [`spawn`], which polls it
//! inside `catch_unwind`, counts a panic and drops the task. On HTTP/1 that
//! costs one connection; the core goes on serving.

use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::worker::Worker;

struct Guarded<F> {
    future: Pin<Box<F>>,
    worker: Rc<Worker>,
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let future = &mut self.future;
        // What the task had half done is dropped with it: its connection is
        // closed, and shared cells are only changed in single steps.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(_) => {
                self.worker.stats.panics.add(1);
                tracing::error!(worker = self.worker.index, "a task panicked and was dropped");
                Poll::Ready(())
            }
        }
    }
}

/// Starts a task on this core whose panic ends nothing but itself.
pub fn spawn(worker: &Rc<Worker>, future: impl Future<Output = ()> + 'static) {
    let guarded = Guarded { future: Box::pin(future), worker: worker.clone() };
    drop(monoio::spawn(guarded));
}
