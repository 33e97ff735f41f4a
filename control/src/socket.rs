//! `ringway.sock`: how the `ringway` command speaks to a running gateway.
//!
//! One JSON object a line each way. The file has mode 0600 and the peer must be
//! this process's user or root, which the kernel tells (SO_PEERCRED). Everything
//! is bounded: lines, connections, and how long a silent one is kept.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{oneshot, Semaphore};

use crate::{Event, Events};

/// The longest answer that the command reads, in bytes: the problems of a large file.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// All that one connection may ask, in bytes.
const REQUEST_BYTES_MAX: u64 = 64 * 1024;
/// A client that says nothing is let go.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections served at once; more wait.
const CONNECTIONS_MAX: usize = 16;

/// What the command asks.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// Read the configuration again; with `wait`, answer when every core serves it.
    Reload {
        /// Whether to wait.
        #[serde(default)]
        wait: bool,
    },
    /// What `/status` says.
    Status,
    /// Finish what is in flight, within `drain_timeout`, and end.
    Drain,
    /// End now.
    Stop,
}

/// What the gateway answers.
#[derive(Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether it was done.
    pub ok: bool,
    /// The generation in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Why not, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problems: Option<String>,
    /// Whether the configuration itself is why not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub invalid: bool,
    /// The status document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<serde_json::Value>,
}

impl Answer {
    /// Done; with the generation in force.
    pub(crate) fn done(generation: u64) -> Self {
        Self { ok: true, generation: Some(generation), ..Self::default() }
    }

    /// Not done, and why.
    pub(crate) fn refused(problems: impl Into<String>) -> Self {
        Self { problems: Some(problems.into()), ..Self::default() }
    }
}

/// The socket's path under a workdir.
pub fn path(workdir: &Path) -> PathBuf {
    workdir.join("ringway.sock")
}

/// Binds the socket. A file that nobody answers at is replaced.
///
/// # Errors
///
/// When another gateway is alive there, or the folder cannot be written.
pub(crate) fn bind(workdir: &Path) -> std::io::Result<UnixListener> {
    std::fs::create_dir_all(workdir)?;
    let path = path(workdir);
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::AddrInUse,
            "another gateway is running with this workdir",
        ));
    }
    // Made under a name of its own and moved into place: whoever finds the socket finds it
    // with its mode, and a file left behind is replaced in the same step.
    let new = workdir.join(format!("ringway.sock.{}", std::process::id()));
    remove(&new)?;
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, &path)?;
    Ok(listener)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Serves the socket for the process's life.
pub(crate) async fn serve(listener: UnixListener, events: Events) {
    let own = rustix::process::geteuid().as_raw();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let allowed = stream.peer_cred().is_ok_and(|peer| may_command(peer.uid(), own));
        if !allowed {
            tracing::warn!(target: "ringway", "another user's command on ringway.sock was refused");
            continue;
        }
        let events = events.clone();
        tokio::spawn(async move {
            converse(stream, events).await;
            drop(place);
        });
    }
}

fn may_command(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

async fn converse(stream: UnixStream, events: Events) {
    let (read, mut write) = stream.into_split();
    let mut lines = tokio::io::BufReader::new(read.take(REQUEST_BYTES_MAX)).lines();
    while let Ok(Ok(Some(line))) = tokio::time::timeout(PATIENCE, lines.next_line()).await {
        let answer = match serde_json::from_str::<Request>(&line) {
            Ok(request) => {
                let (reply, wait) = oneshot::channel();
                if events.send(Event::Request(request, reply)).is_err() {
                    return;
                }
                wait.await.unwrap_or_else(|_| Answer::refused("error: the gateway is ending\n"))
            }
            Err(error) => Answer::refused(format!("error: not a command: {error}\n")),
        };
        let Ok(mut text) = serde_json::to_string(&answer) else {
            return;
        };
        text.push('\n');
        let sent = tokio::time::timeout(PATIENCE, write.write_all(text.as_bytes())).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// Asks the gateway that runs with this workdir. Blocking; for the command.
///
/// # Errors
///
/// When nobody is there, or the answer is none.
pub fn ask(workdir: &Path, request: &Request) -> std::io::Result<Answer> {
    let mut stream = std::os::unix::net::UnixStream::connect(path(workdir))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[test]
    fn requests_are_one_line_of_json() {
        let check = |text: &str, expected: Request| {
            assert_eq!(serde_json::from_str::<Request>(text).expect("a request"), expected);
        };
        check(r#"{"command":"reload","wait":true}"#, Request::Reload { wait: true });
        check(r#"{"command":"reload"}"#, Request::Reload { wait: false });
        check(r#"{"command":"status"}"#, Request::Status);
        check(r#"{"command":"drain"}"#, Request::Drain);
        check(r#"{"command":"stop"}"#, Request::Stop);
        assert!(serde_json::from_str::<Request>(r#"{"command":"format"}"#).is_err());
    }

    #[test]
    fn only_our_user_and_root_may_command() {
        assert!(may_command(1000, 1000) && may_command(0, 1000) && may_command(0, 0));
        assert!(!may_command(1001, 1000) && !may_command(1000, 0));
    }

    /// Runs `work` beside a served socket whose every request is answered by `answer`.
    fn served<T: Send + 'static>(
        name: &str,
        answer: impl Fn(Request) -> Answer + 'static,
        work: impl FnOnce(PathBuf) -> T + Send + 'static,
    ) -> T {
        let workdir = std::env::temp_dir().join(format!("ringway-socket-{}-{name}", std::process::id()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let given = workdir.clone();
        let result = runtime.block_on(async move {
            let listener = bind(&given).expect("binds");
            let (events, mut inbox) = unbounded_channel();
            tokio::spawn(serve(listener, events));
            let mut work = tokio::task::spawn_blocking(move || work(given));
            loop {
                tokio::select! {
                    result = &mut work => return result.expect("no panic"),
                    Some(Event::Request(request, reply)) = inbox.recv() => drop(reply.send(answer(request))),
                }
            }
        });
        std::fs::remove_dir_all(workdir).expect("our own folder");
        result
    }

    #[test]
    fn a_command_gets_its_answer() {
        let answer = served(
            "answer",
            |request| match request {
                Request::Reload { wait: true } => Answer::done(7),
                _ => Answer::refused("error: no\n"),
            },
            |workdir| (ask(&workdir, &Request::Reload { wait: true }), ask(&workdir, &Request::Drain)),
        );
        assert_eq!(answer.0.expect("answered"), Answer::done(7));
        assert_eq!(answer.1.expect("answered"), Answer::refused("error: no\n"));
    }

    #[test]
    fn nonsense_is_answered_and_bounded() {
        let (nonsense, endless) = served(
            "nonsense",
            |_| Answer::done(1),
            |workdir| {
                let say = |bytes: &[u8]| {
                    let mut stream = std::os::unix::net::UnixStream::connect(path(&workdir)).expect("served");
                    // The far end may close while we write; that is what is tested.
                    let _ = stream.write_all(bytes);
                    let mut answer = String::new();
                    let _ = BufReader::new(stream).read_line(&mut answer);
                    answer
                };
                (say(b"reload!\n"), say(&[b'x'; 200 * 1024]))
            },
        );
        assert!(nonsense.contains("not a command"), "{nonsense}");
        assert!(endless.is_empty() || endless.contains("not a command"), "{endless}");
    }

    #[test]
    fn a_second_gateway_is_refused_and_a_stale_file_replaced() {
        let (mode, second) = served(
            "second",
            |_| Answer::done(1),
            |workdir| {
                let mode = std::fs::metadata(path(&workdir)).expect("there").permissions().mode();
                (mode & 0o777, bind(&workdir).err().map(|error| error.kind()))
            },
        );
        assert_eq!(mode, 0o600);
        assert_eq!(second, Some(std::io::ErrorKind::AddrInUse));
        let workdir = std::env::temp_dir().join(format!("ringway-socket-{}-stale", std::process::id()));
        std::fs::create_dir_all(&workdir).expect("a writable temporary folder");
        // A socket file whose process has ended.
        drop(std::os::unix::net::UnixListener::bind(path(&workdir)).expect("binds"));
        served("stale", |_| Answer::done(1), |workdir| ask(&workdir, &Request::Status)).expect("replaced");
    }

    #[test]
    fn nobody_there_is_an_error() {
        assert!(ask(Path::new("/nonexistent"), &Request::Status).is_err());
    }
}
