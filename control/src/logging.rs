//! Diagnostics: text on a terminal, JSON lines elsewhere, to standard error.
//!
//! Cores log too, if seldom, and whoever reads our standard error may stop
//! reading. So lines go through a bounded queue to a thread of their own: what
//! finds it full is dropped and counted, and no core ever waits for a terminal.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{bounded, Receiver, Sender, TrySendError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Lines that may wait for the writer.
const LINES_MAX: usize = 4096;
/// How long the end of the process waits for the last lines.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Holds diagnostics for the process's life: lets a reload change the level, and
/// writes what still waits when it is dropped.
pub struct Diagnostics {
    filter: Option<Handle<EnvFilter, Registry>>,
    queue: Queue,
}

impl Diagnostics {
    /// Sets the level, unless `RUST_LOG` rules.
    pub fn set_level(&self, level: &str) {
        if let (Some(handle), None) = (&self.filter, std::env::var_os("RUST_LOG")) {
            let _ = handle.reload(filter(level));
        }
    }
}

impl Drop for Diagnostics {
    fn drop(&mut self) {
        self.queue.flush();
    }
}

/// Sets diagnostics up, once for the process, and has panics told there.
pub fn init(log: &config::Log) -> Diagnostics {
    let chosen = std::env::var("RUST_LOG").unwrap_or_else(|_| log.level.clone());
    let (filter, handle) = reload::Layer::new(filter(&chosen));
    let queue = Queue::start(std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(queue.clone());
    let layer = if is_text(log) { lines.with_target(false).boxed() } else { lines.json().boxed() };
    // A second call in one process (tests) keeps the first subscriber.
    let installed = tracing_subscriber::registry().with(filter).with(layer).try_init().is_ok();
    if installed {
        std::panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current();
            let thread = thread.name().unwrap_or("unnamed");
            tracing::error!(target: "ringway", thread, %panic, "a task panicked; this is a bug");
        }));
    }
    Diagnostics { filter: installed.then_some(handle), queue }
}

/// Whether people read along; then problems are shown with their source lines.
pub fn is_text(log: &config::Log) -> bool {
    match log.diagnostics {
        config::Diagnostics::Auto => std::io::stderr().is_terminal(),
        config::Diagnostics::Text => true,
        config::Diagnostics::Json => false,
    }
}

fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"))
}

enum Message {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

/// The way to the writer's thread.
#[derive(Clone)]
struct Queue {
    sender: Sender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Queue {
    fn start(output: impl Write + Send + 'static) -> Self {
        let (sender, lines) = bounded(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = dropped.clone();
        let spawned = std::thread::Builder::new()
            .name("ringway-diag".to_owned())
            .spawn(move || write_all(&lines, &counted, output));
        // Without a thread the queue fills up and lines are dropped: nothing waits.
        drop(spawned);
        Self { sender, dropped }
    }

    /// Waits until everything handed over so far is written, but not for ever.
    fn flush(&self) {
        let (done, wait) = bounded(1);
        if self.sender.send_timeout(Message::Flush(done), FLUSH_MAX).is_ok() {
            let _ = wait.recv_timeout(FLUSH_MAX);
        }
    }
}

fn write_all(lines: &Receiver<Message>, dropped: &AtomicU64, mut output: impl Write) {
    for message in lines {
        match message {
            Message::Line(line) => drop(output.write_all(&line)),
            Message::Flush(done) => drop(done.send(())),
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            // Valid as text and as a line of JSON.
            let _ = writeln!(
                output,
                "{{\"level\":\"WARN\",\"message\":\"{lost} lines of diagnostics were lost\"}}"
            );
        }
    }
}

/// One line under way; tracing writes it in one piece.
struct Line<'q>(&'q Queue);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0.sender.try_send(Message::Line(bytes.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.0.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'q> MakeWriter<'q> for Queue {
    type Writer = Line<'q>;

    fn make_writer(&'q self) -> Line<'q> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// An output that takes nothing until it is released.
    struct Gate {
        open: Receiver<()>,
        opened: bool,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if !self.opened {
                let _ = self.open.recv();
                self.opened = true;
            }
            self.written.lock().expect("no panic holds it").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_stuck_output() {
        let (release, open) = bounded(1);
        let written = Arc::new(Mutex::new(Vec::new()));
        let queue = Queue::start(Gate { open, opened: false, written: written.clone() });
        let more = LINES_MAX + 100;
        for number in 0..more {
            let line = format!("{number}\n");
            assert_eq!(queue.make_writer().write(line.as_bytes()).expect("never fails"), line.len());
        }
        release.send(()).expect("the writer waits");
        queue.flush();
        let text = String::from_utf8(written.lock().expect("no panic holds it").clone()).expect("text");
        assert!(text.starts_with("0\n") && text.contains("\n1\n2\n3\n"), "in order: {text}");
        assert!(text.contains("lines of diagnostics were lost"), "the loss is told: {text}");
        // One line may be in the writer's hand, beyond those that the queue holds.
        assert!(text.lines().count() <= LINES_MAX + 2, "bounded: {} of {more}", text.lines().count());
    }
}
