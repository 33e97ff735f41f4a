//! The access log's way out: cores write lines into their own buffer and hand
//! over whole batches; one writer thread owns the file or stdout.
//!
//! A core never waits for it: when the writer is behind by more than
//! [`BATCHES_MAX`] batches per core, a batch is dropped and its lines counted.
//! Empty batches come back through a second channel, so that a steady log
//! allocates nothing.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError};

use super::stats::CoreStats;

/// Batches that may wait for the writer.
pub const BATCHES_MAX: usize = 256;
/// A batch is handed over when it is larger than this, in bytes, or at a tick.
pub const BATCH_BYTES: usize = 32 * 1024;

enum Message {
    Lines(Vec<u8>),
    Reopen,
    Flush(Sender<()>),
    End,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Appended to this file, made with mode 0640.
    Path(PathBuf),
}

/// A handle that cores hand their batches to. Cloning shares the writer.
#[derive(Clone)]
pub struct AccessLog {
    sender: Option<Sender<Message>>,
    empty: Receiver<Vec<u8>>,
}

/// The writer thread's owner: control reopens and ends it.
pub struct AccessWriter {
    sender: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
}

/// Opens the sink and starts its writer.
///
/// # Errors
///
/// When the file cannot be opened for appending.
pub fn open(sink: Sink) -> io::Result<(AccessLog, AccessWriter)> {
    let (back, empty) = crossbeam_channel::bounded(BATCHES_MAX);
    if sink == Sink::Off {
        return Ok((AccessLog { sender: None, empty }, AccessWriter { sender: None, thread: None }));
    }
    let output = Output::open(&sink)?;
    let (sender, receiver) = crossbeam_channel::bounded(BATCHES_MAX);
    let thread = std::thread::Builder::new()
        .name("ringway-log".to_owned())
        .spawn(move || write_all(&receiver, &back, sink, output))?;
    let writer = AccessWriter { sender: Some(sender.clone()), thread: Some(thread) };
    Ok((AccessLog { sender: Some(sender), empty }, writer))
}

enum Output {
    Stdout(io::Stdout),
    File(File),
}

impl Output {
    /// Runs at start and on the writer's own thread, never on a core.
    #[allow(clippy::disallowed_methods)]
    fn open(sink: &Sink) -> io::Result<Self> {
        match sink {
            Sink::Path(path) => {
                Ok(Output::File(OpenOptions::new().create(true).append(true).mode(0o640).open(path)?))
            }
            Sink::Off | Sink::Stdout => Ok(Output::Stdout(io::stdout())),
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Output::Stdout(stdout) => {
                let mut lock = stdout.lock();
                lock.write_all(lines)?;
                lock.flush()
            }
            Output::File(file) => file.write_all(lines),
        }
    }
}

fn write_all(messages: &Receiver<Message>, back: &Sender<Vec<u8>>, sink: Sink, mut output: Output) {
    let mut failing = false;
    for message in messages {
        match message {
            Message::Lines(mut lines) => {
                match output.write(&lines) {
                    Ok(()) => failing = false,
                    Err(error) if !failing => {
                        failing = true;
                        tracing::error!(%error, "the access log cannot be written; lines are lost");
                    }
                    Err(_) => {}
                }
                lines.clear();
                let _ = back.try_send(lines);
            }
            Message::Reopen => match Output::open(&sink) {
                Ok(new) => output = new,
                Err(error) => {
                    tracing::error!(%error, "the access log cannot be reopened; the old file stays")
                }
            },
            Message::Flush(done) => drop(done.send(())),
            Message::End => return,
        }
    }
}

impl AccessWriter {
    /// Opens the path again (SIGUSR1, after a rotation).
    pub fn reopen(&self) {
        if let Some(sender) = &self.sender {
            let _ = sender.send(Message::Reopen);
        }
    }

    /// Waits until everything handed over so far is written.
    pub fn flush(&self) {
        if let Some(sender) = &self.sender {
            let (done, wait) = crossbeam_channel::bounded(1);
            if sender.send(Message::Flush(done)).is_ok() {
                let _ = wait.recv();
            }
        }
    }
}

impl Drop for AccessWriter {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            let _ = sender.send(Message::End);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One core's end: a buffer of lines.
pub struct CoreLog {
    log: AccessLog,
    batch: RefCell<(Vec<u8>, u64)>,
    stats: Arc<CoreStats>,
}

impl CoreLog {
    /// A core's own end of the log.
    pub fn new(log: AccessLog, stats: Arc<CoreStats>) -> Rc<Self> {
        Rc::new(Self { log, batch: RefCell::new((Vec::new(), 0)), stats })
    }

    /// Whether lines go anywhere.
    pub fn is_on(&self) -> bool {
        self.log.sender.is_some()
    }

    /// Lets `write` append one line and hands the batch over when it is full.
    pub fn line(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let full = {
            let mut batch = self.batch.borrow_mut();
            write(&mut batch.0);
            batch.1 += 1;
            batch.0.len() >= BATCH_BYTES
        };
        if full {
            self.flush();
        }
    }

    /// Hands over what there is; called at every tick.
    pub fn flush(&self) {
        let Some(sender) = &self.log.sender else { return };
        let mut batch = self.batch.borrow_mut();
        if batch.0.is_empty() {
            return;
        }
        let fresh = self.log.empty.try_recv().unwrap_or_default();
        let lines = std::mem::replace(&mut batch.0, fresh);
        let count = std::mem::take(&mut batch.1);
        match sender.try_send(Message::Lines(lines)) {
            Ok(()) => {}
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                self.stats.log_drops.add(count);
                if let Message::Lines(mut lines) = message {
                    lines.clear();
                    batch.0 = lines;
                }
            }
        }
    }
}

impl Drop for CoreLog {
    fn drop(&mut self) {
        self.flush();
    }
}
