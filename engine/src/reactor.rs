//! One pinned core: the thread, its ring, its self-test.
//!
//! The ring is built on the core's own thread after pinning, by a ladder whose
//! winner is logged and exported. Each rung is tested with a socket pair before
//! it is trusted: monoio swallows errors of its park call, and a ring that the
//! kernel half refuses would spin for ever in silence.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use config::{Driver, Ring};
use monoio::buf::IoBuf;
use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use crate::sys::{self, Socket};

/// A runtime that passed its self-test.
pub enum Reactor {
    /// On io_uring.
    Uring(Box<Runtime<TimeDriver<IoUringDriver>>>),
    /// On epoll.
    Legacy(Box<Runtime<TimeDriver<LegacyDriver>>>),
}

/// A reactor, what it is called in logs and metrics, and which rungs failed.
pub struct Built {
    /// The runtime.
    pub reactor: Reactor,
    /// For example `io_uring(single_issuer+defer_taskrun)`.
    pub name: &'static str,
    /// Why each better rung was not taken.
    pub fallbacks: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Rung {
    DeferTaskrun,
    CoopTaskrun,
    Plain,
    Legacy,
}

impl Rung {
    fn name(self) -> &'static str {
        match self {
            Rung::DeferTaskrun => "io_uring(single_issuer+defer_taskrun)",
            Rung::CoopTaskrun => "io_uring(coop_taskrun)",
            Rung::Plain => "io_uring",
            Rung::Legacy => "epoll",
        }
    }
}

/// Builds the best reactor that `driver` allows on this thread.
///
/// # Errors
///
/// When no rung that `driver` allows works; with the reason of each.
pub fn build(driver: &Driver, ring: &Ring) -> Result<Built, String> {
    let forced = std::env::var_os("MONOIO_FORCE_LEGACY_DRIVER").is_some_and(|value| value == "1");
    let rungs: &[Rung] = match driver {
        Driver::Epoll => &[Rung::Legacy],
        Driver::Auto if forced => &[Rung::Legacy],
        Driver::Auto => &[Rung::DeferTaskrun, Rung::CoopTaskrun, Rung::Plain, Rung::Legacy],
        Driver::IoUring if forced => {
            return Err(
                "cores.driver = \"io_uring\", but MONOIO_FORCE_LEGACY_DRIVER=1 forbids it: unset one".into()
            )
        }
        Driver::IoUring => &[Rung::DeferTaskrun, Rung::CoopTaskrun, Rung::Plain],
    };
    let mut fallbacks = Vec::new();
    for rung in rungs {
        if *rung == Rung::DeferTaskrun && !ring.defer_taskrun {
            continue;
        }
        match attempt(*rung, ring) {
            Ok(reactor) => return Ok(Built { reactor, name: rung.name(), fallbacks }),
            Err(error) => fallbacks.push(format!("{}: {error}", rung.name())),
        }
    }
    Err(format!("no driver works here: {}", fallbacks.join("; ")))
}

fn attempt(rung: Rung, ring: &Ring) -> io::Result<Reactor> {
    if rung == Rung::Legacy {
        let runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?;
        let mut reactor = Reactor::Legacy(Box::new(runtime));
        reactor.block_on(self_test(true))?;
        return Ok(reactor);
    }
    let mut builder = io_uring::IoUring::builder();
    builder.setup_clamp().setup_submit_all().setup_cqsize(ring.cq_entries);
    match rung {
        Rung::DeferTaskrun => {
            builder.setup_single_issuer().setup_defer_taskrun();
        }
        Rung::CoopTaskrun => {
            builder.setup_coop_taskrun();
        }
        Rung::Plain | Rung::Legacy => {}
    }
    let runtime = RuntimeBuilder::<IoUringDriver>::new()
        .uring_builder(builder)
        .with_entries(ring.entries)
        .enable_timer()
        .build()?;
    let mut reactor = Reactor::Uring(Box::new(runtime));
    reactor.block_on(self_test(false))?;
    Ok(reactor)
}

impl Reactor {
    /// Runs a future to its end on this thread.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Reactor::Uring(runtime) => runtime.block_on(future),
            Reactor::Legacy(runtime) => runtime.block_on(future),
        }
    }

    /// Whether descriptors must be non-blocking (epoll).
    pub fn is_legacy(&self) -> bool {
        matches!(self, Reactor::Legacy(_))
    }
}

/// One byte through a socket pair, within two seconds.
async fn self_test(legacy: bool) -> io::Result<()> {
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    let register = |stream: std::os::unix::net::UnixStream| -> io::Result<Socket> {
        let fd = OwnedFd::from(stream);
        sys::set_nonblocking(&fd, legacy)?;
        Socket::from_fd(fd)
    };
    let (near, far) = (register(near)?, register(far)?);
    let echo = async {
        let (sent, _) = near.write(b"ringway".to_vec().slice(..)).await;
        sent?;
        let (read, buffer) = far.read(Vec::with_capacity(16)).await;
        read.map(|_| buffer == b"ringway")
    };
    match monoio::time::timeout(Duration::from_secs(2), echo).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(io::Error::other("the self-test read other bytes than were written")),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the self-test got no answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_drivers_pass_their_self_test() {
        for driver in [Driver::Auto, Driver::Epoll] {
            let built = build(&driver, &Ring::default()).expect("a driver works");
            if driver == Driver::Epoll {
                assert_eq!(built.name, "epoll");
            }
        }
    }
}
