//! The server's side of a handshake: the client hello first, then the certificate that its name asks for.
//!
//! The deadline is on the socket from the first moment. A client that has said nothing yet costs its socket and no
//! buffer; those that are in the middle are bounded per core ([`HANDSHAKES_MAX`]), the others wait their turn.

use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use rustls::server::{Accepted, Acceptor};
use rustls::Connection as Rustls;

use super::{cipher_name, version_name, Client, Entry, Session, TlsStream};
use crate::clock;
use crate::http1::{linger, Connection};
use crate::worker::Worker;

/// Handshakes of one core that may be under way at the same time.
pub const HANDSHAKES_MAX: usize = 1024;
/// How often one that waits for its turn looks.
const TURN_LOOK: Duration = Duration::from_millis(5);
/// The first byte of a TLS connection: the type of a handshake record (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// The fatal alert `unrecognized_name` (RFC 6066 section 3), as a record of its own.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
/// What somebody reads who speaks HTTP to a port that speaks HTTPS.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 59\r\nConnection: close\r\n\r\nThis port speaks HTTPS: use https:// in front of the name.\n";

/// A handshake under way, for the cap.
struct Turn(Rc<Worker>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.handshakes.set(self.0.handshakes.get() - 1);
    }
}

/// Brings an accepted connection to where requests can be read. False when it is to be closed.
pub async fn handshake(connection: &Connection, stream: &TlsStream) -> bool {
    let worker = &connection.worker;
    let began = clock::micros();
    let patience = worker.plan().settings.limits.tls_handshake_timeout;
    // As long as nothing came it can be ended like one that waits for a request.
    connection.watch.idle_in(patience);
    if stream.socket().readable().await.is_err() || connection.watch.expired() {
        return false;
    }
    let spent = Duration::from_micros(clock::micros().saturating_sub(began));
    connection.watch.expire_in(patience.saturating_sub(spent));
    while worker.handshakes.get() >= HANDSHAKES_MAX {
        monoio::time::sleep(TURN_LOOK).await;
        if connection.watch.expired() {
            return false;
        }
    }
    worker.handshakes.set(worker.handshakes.get() + 1);
    let _turn = Turn(worker.clone());
    match shake(connection, stream).await {
        Ok(true) => {
            worker.stats.tls_handshakes.add(1);
            connection.watch.clear();
            true
        }
        // It came and left, as a probe of the port does.
        Ok(false) => false,
        Err(error) => {
            worker.stats.tls_handshake_failures.add(1);
            let late = connection.watch.expired();
            tracing::debug!(%error, late, peer = ?connection.peer, "a TLS handshake failed");
            false
        }
    }
}

async fn shake(connection: &Connection, stream: &TlsStream) -> io::Result<bool> {
    if !stream.receive(false, None).await? {
        return Ok(false);
    }
    let first = stream.incoming().borrow().data()[0];
    if first != HANDSHAKE_RECORD {
        plain(connection, stream, first).await;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no TLS"));
    }
    let accepted = hello(stream).await?;
    let name = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
    let plan = connection.worker.plan();
    let Some(entry) = plan.plan.tls().entry(name.as_deref()).cloned() else {
        stream.socket().write_now(&UNRECOGNIZED_NAME);
        let name = name.unwrap_or_default();
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("no certificate for the name `{name}`")));
    };
    match accepted.into_connection(entry.config.clone()) {
        Ok(rustls) => stream.begin(Rustls::Server(rustls)),
        Err((error, mut alert)) => {
            let mut words = Vec::new();
            let _ = alert.write_all(&mut words);
            stream.socket().write_now(&words);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
    stream.shake().await?;
    let session = stream.with(|rustls| session(rustls, name, entry))?;
    if session.resumed {
        connection.worker.stats.tls_resumed.add(1);
    }
    stream.set_session(session);
    Ok(true)
}

/// Reads the client hello; what follows it stays.
async fn hello(stream: &TlsStream) -> io::Result<Accepted> {
    let mut acceptor = Acceptor::default();
    loop {
        let mut incoming = std::mem::take(&mut *stream.incoming().borrow_mut());
        while !incoming.is_empty() {
            let used = acceptor.read_tls(&mut incoming.data())?;
            incoming.consume(used);
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    if !incoming.is_empty() {
                        *stream.incoming().borrow_mut() = incoming;
                    }
                    return Ok(accepted);
                }
                Ok(None) if used > 0 => {}
                Ok(None) => return Err(io::ErrorKind::InvalidData.into()),
                Err((error, mut alert)) => {
                    let mut words = Vec::new();
                    let _ = alert.write_all(&mut words);
                    stream.socket().write_now(&words);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
        drop(incoming);
        if !stream.receive(false, None).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What is no TLS: a client that speaks HTTP reads why nobody answers it.
async fn plain(connection: &Connection, stream: &TlsStream, first: u8) {
    if first.is_ascii_alphabetic() {
        stream.socket().write_now(PLAIN_HTTP);
        stream.socket().shutdown(Shutdown::Write);
        linger(stream.socket(), &connection.watch).await;
    }
}

fn session(rustls: &mut Rustls, name: Option<String>, entry: std::sync::Arc<Entry>) -> Session {
    Session {
        version: rustls.protocol_version().map_or("", version_name),
        cipher: rustls.negotiated_cipher_suite().map_or("", |suite| cipher_name(suite.suite())),
        name: name.map(String::into_boxed_str),
        resumed: rustls.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        client: rustls.peer_certificates().and_then(<[_]>::first).and_then(|it| Client::of(it)).map(Box::new),
        entry: Some(entry),
    }
}
