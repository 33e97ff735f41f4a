//! `ringway.sock`: how the `ringway` command speaks to a running gateway.
//!
//! One JSON object a line each way. The file has mode 0600 and the peer must be
//! this process's user or root, which the kernel tells (SO_PEERCRED).

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use crate::{Event, Events};

/// The longest line either side reads, in bytes.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// A client that says nothing is let go.
const PATIENCE: Duration = Duration::from_secs(5);

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
    /// Drain and end.
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
    /// The status document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<serde_json::Value>,
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
            "another gateway is running with this workdir; stop it or set [server] workdir",
        ));
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves the socket for the process's life.
pub(crate) async fn serve(listener: UnixListener, events: Events) {
    let own = rustix::process::geteuid().as_raw();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let allowed = stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0);
        if allowed {
            tokio::spawn(converse(stream, events.clone()));
        } else {
            tracing::warn!("another user's command on ringway.sock was refused");
        }
    }
}

async fn converse(stream: UnixStream, events: Events) {
    let (read, mut write) = stream.into_split();
    let mut lines = tokio::io::BufReader::new(read.take(LINE_BYTES_MAX)).lines();
    while let Ok(Ok(Some(line))) = tokio::time::timeout(PATIENCE, lines.next_line()).await {
        let answer = match serde_json::from_str::<Request>(&line) {
            Ok(request) => {
                let (reply, wait) = oneshot::channel();
                if events.send(Event::Request(request, reply)).is_err() {
                    return;
                }
                wait.await.unwrap_or_default()
            }
            Err(error) => Answer { problems: Some(format!("not a command: {error}")), ..Answer::default() },
        };
        let Ok(mut text) = serde_json::to_string(&answer) else { return };
        text.push('\n');
        if write.write_all(text.as_bytes()).await.is_err() {
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
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_one_line_of_json() {
        let check = |text: &str, expected: Request| {
            assert_eq!(serde_json::from_str::<Request>(text).expect("a request"), expected);
        };
        check(r#"{"command":"reload","wait":true}"#, Request::Reload { wait: true });
        check(r#"{"command":"reload"}"#, Request::Reload { wait: false });
        check(r#"{"command":"status"}"#, Request::Status);
        assert!(serde_json::from_str::<Request>(r#"{"command":"format"}"#).is_err());
    }
}
