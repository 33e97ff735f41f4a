//! Kept connections to endpoints, per core and endpoint, newest first.
//!
//! A connection comes back only after a clean end of message with keep-alive and
//! no byte left over; whoever holds one and drops it closes it. At checkout it is
//! asked whether it is quiet: something to read or an end means that it is not
//! ours any more.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use config::Keepalive;

use super::PoolKey;
use crate::deadline::Watch;
use crate::observe::CoreStats;
use crate::plan::{Endpoint, Plan};
use crate::sys;
use crate::tls::EndpointTls;
use crate::transport::Transport;

/// A connection to an endpoint. Dropping it closes it.
pub struct Link {
    /// Its deadlines; before the socket, so that it is dropped first.
    pub watch: Watch,
    /// What its bytes travel over.
    pub socket: Transport,
    /// Exchanges it has served.
    pub served: u64,
}

/// All pools of one core.
#[derive(Default)]
pub struct Pools {
    map: RefCell<HashMap<PoolKey, Rc<Pool>>>,
    /// Descriptors looked at and indexes found dead, kept between sweeps.
    swept: RefCell<(Vec<RawFd>, Vec<usize>)>,
}

/// The kept connections to one endpoint.
pub struct Pool {
    idle: RefCell<Vec<Link>>,
    size: Cell<usize>,
    idle_timeout: Cell<Duration>,
    requests_max: Cell<u64>,
    /// How new connections of it are encrypted, with this core's own sessions to resume.
    pub tls: Option<EndpointTls>,
    /// Whether recent responses were larger than a small buffer.
    pub large: Cell<bool>,
}

impl Pools {
    /// The pool of an endpoint, made if there is none. The settings written
    /// last count where two upstreams name the same address.
    pub fn of(&self, endpoint: &Endpoint, settings: &Keepalive) -> Rc<Pool> {
        let mut map = self.map.borrow_mut();
        let pool = map.entry(endpoint.pool_key()).or_insert_with(|| {
            Rc::new(Pool {
                idle: RefCell::default(),
                size: Cell::new(0),
                idle_timeout: Cell::default(),
                requests_max: Cell::new(0),
                tls: endpoint.tls.as_ref().map(EndpointTls::own),
                large: Cell::new(false),
            })
        });
        pool.size.set(settings.size);
        pool.idle_timeout.set(settings.idle_timeout);
        pool.requests_max.set(settings.requests);
        pool.clone()
    }

    /// Closes what the plan no longer names.
    pub fn retain(&self, plan: &Plan) {
        self.map.borrow_mut().retain(|key, pool| {
            let used = plan.uses(key);
            if !used {
                pool.size.set(0);
                pool.idle.borrow_mut().clear();
            }
            used
        });
    }

    /// Once a second: closes connections whose other end has closed, with one
    /// `poll(2)` per endpoint, and counts the rest.
    pub fn sweep(&self, stats: &CoreStats) {
        let mut count = 0;
        let mut swept = self.swept.borrow_mut();
        let (fds, dead) = &mut *swept;
        for pool in self.map.borrow().values() {
            let mut idle = pool.idle.borrow_mut();
            fds.clear();
            dead.clear();
            fds.extend(idle.iter().map(|link| link.socket.raw_fd()));
            sys::poll_hangups(fds, &mut |index| dead.push(index));
            for index in dead.iter().rev() {
                drop(idle.remove(*index));
            }
            count += idle.len() as u64;
        }
        stats.upstream_idle.set(count);
    }
}

impl Pool {
    /// The kept connection that was used last, if one is still good.
    pub fn checkout(&self) -> Option<Link> {
        loop {
            let link = self.idle.borrow_mut().pop()?;
            if !link.watch.expired() && link.socket.is_quiet() {
                return Some(link);
            }
        }
    }

    /// Keeps a connection that stands at the clean end of a message.
    pub fn put_back(&self, mut link: Link) {
        link.served += 1;
        let worn = self.requests_max.get() != 0 && link.served >= self.requests_max.get();
        if worn || self.size.get() == 0 || self.idle_timeout.get().is_zero() {
            return;
        }
        link.watch.expire_in(self.idle_timeout.get());
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= self.size.get() {
            // The oldest gives way: it is the likeliest to be closed soon.
            drop(idle.remove(0));
        }
        idle.push(link);
    }
}
