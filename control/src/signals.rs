//! Signals, as events: SIGHUP reloads, SIGUSR1 reopens logs, SIGTERM and SIGQUIT
//! drain, SIGINT drains and the second one ends at once.

use tokio::signal::unix::{signal, SignalKind};

use crate::{Event, Events};

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Signal {
    /// Read the configuration again.
    Reload,
    /// Open log files again.
    Reopen,
    /// Finish what is in flight and end.
    Drain,
    /// From the keyboard: drain, then end.
    Interrupt,
}

/// Listens for the process's life.
///
/// # Errors
///
/// When a handler cannot be installed.
pub(crate) fn listen(events: &Events) -> std::io::Result<()> {
    let kinds = [
        (SignalKind::hangup(), Signal::Reload),
        (SignalKind::user_defined1(), Signal::Reopen),
        (SignalKind::terminate(), Signal::Drain),
        (SignalKind::quit(), Signal::Drain),
        (SignalKind::interrupt(), Signal::Interrupt),
    ];
    for (kind, meaning) in kinds {
        let mut stream = signal(kind)?;
        let events = events.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if events.send(Event::Signal(meaning)).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}
