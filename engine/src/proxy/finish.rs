//! The end of an exchange: counters, the plugins' last word, one log line.

use std::rc::Rc;
use std::time::Duration;

use super::chain;
use super::exchange::Exchange;
use crate::clock;
use crate::http1::Connection;
use crate::observe::line;
use crate::worker::Worker;

/// Counts an exchange as in flight while it lives, also when its task panics.
pub struct Active(Rc<Worker>);

impl Active {
    /// One more.
    pub fn new(worker: &Rc<Worker>) -> Self {
        worker.stats.active.add(1);
        Self(worker.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.stats.active.sub(1);
    }
}

/// Writes the record of an exchange.
pub fn record(connection: &Connection, x: &mut Exchange) {
    let worker = &connection.worker;
    let stats = &worker.stats;
    let micros = clock::micros().saturating_sub(x.began);
    stats.requests.add(1);
    stats.duration.record(micros);
    stats.bytes_out.add(x.bytes_out);
    if let Some(route) = &x.route {
        route.stats.count(x.status);
    } else {
        stats.no_route.count(x.status);
    }
    let has_end = |chain: &Rc<crate::plan::CoreChain>| !chain.chain.end.is_empty();
    if x.globals.as_ref().is_some_and(has_end) || x.route.as_ref().is_some_and(|route| has_end(&route.chain))
    {
        let record = plugins::Record {
            status: x.status,
            body_bytes_in: x.body_bytes_in,
            body_bytes_out: x.body_bytes_out,
            duration: Duration::from_micros(micros),
            tries: x.tries,
        };
        chain::end(x, &record);
    }
    if worker.log.is_on() {
        let settings = x.shared_settings();
        worker.log.line(|out| line::write(&settings.log_format, x, micros, out));
    }
}
