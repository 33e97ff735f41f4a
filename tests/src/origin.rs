//! A scripted origin: every connection is a thread that runs the case's closure, and what it saw is kept.

use crate::message::{Fields, Request};
use crate::wire::Wire;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running origin. Dropping it closes its listener and every connection.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Request>>,
    streams: Mutex<Vec<Option<TcpStream>>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    stopping: AtomicBool,
}

/// One connection, as the script sees it.
pub struct Peer {
    wire: Wire,
    /// The number of the connection, from 0.
    pub connection: usize,
    shared: Arc<Shared>,
}

impl Deref for Peer {
    type Target = Wire;
    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Peer {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

impl Peer {
    /// Reads the next request with its body and keeps it; `None` when the gateway closed.
    pub fn request(&mut self) -> Option<Request> {
        let mut request = self.read_head()?;
        match self.wire.read_body(request.length()) {
            Ok((body, trailers)) => (request.body, request.trailers) = (body, trailers),
            Err(_) => {
                self.keep(&request);
                return None;
            }
        }
        self.keep(&request);
        Some(request)
    }

    /// Reads the next head alone and keeps it; `None` when the gateway closed.
    pub fn head(&mut self) -> Option<Request> {
        let request = self.read_head()?;
        self.keep(&request);
        Some(request)
    }

    /// Reads the body that belongs to a head, piece by piece. `None` when it broke off.
    pub fn body(&mut self, of: &Request, sink: &mut dyn FnMut(&[u8])) -> Option<Fields> {
        let length = of.length();
        self.wire.read_body_into(length, sink).ok()
    }

    /// Waits until the gateway closes the connection.
    pub fn until_closed(&mut self) {
        while matches!(self.wire.fill(), Ok(count) if count > 0) {
            self.wire.buffer.clear();
        }
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        self.wire.reset();
    }

    fn read_head(&mut self) -> Option<Request> {
        let head = self.wire.read_head().ok()??;
        Some(Request::parse(head, self.connection))
    }

    fn keep(&self, request: &Request) {
        self.shared.seen.lock().expect("no panic holds it").push(request.clone());
    }
}

impl Origin {
    /// Starts an origin whose every connection runs `script`; the connection ends when it returns.
    ///
    /// # Panics
    ///
    /// When loopback has no port left.
    pub fn script(script: impl Fn(Peer) + Send + Sync + 'static) -> Origin {
        Origin::script_at("127.0.0.1:0".parse().expect("an address"), script)
    }

    /// As [`Origin::script`], at a given address: an origin that comes back where it was.
    ///
    /// # Panics
    ///
    /// When the address is taken.
    pub fn script_at(address: SocketAddr, script: impl Fn(Peer) + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind(address).expect("a free port on loopback");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        let script: Arc<dyn Fn(Peer) + Send + Sync> = Arc::new(script);
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || accept_all(&listener, &for_thread, &script));
        Origin { address, shared }
    }

    /// An origin that answers each whole request with the bytes that `answer` gives, over kept connections.
    /// After an answer whose head says `connection: close`, it closes.
    pub fn each(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Origin {
        Origin::script(move |mut peer| {
            while let Some(request) = peer.request() {
                let bytes = answer(&request);
                if peer.try_send(&bytes).is_err() || says_close(&bytes) {
                    return;
                }
            }
        })
    }

    /// An origin that answers each request with the same bytes.
    pub fn fixed(bytes: impl AsRef<[u8]>) -> Origin {
        let bytes = bytes.as_ref().to_vec();
        Origin::each(move |_| bytes.clone())
    }

    /// An origin that answers `200` with `body`.
    pub fn named(body: &str) -> Origin {
        Origin::fixed(ok(body))
    }

    /// An origin that reads each head, then never answers, until the gateway closes.
    pub fn silent() -> Origin {
        Origin::script(|mut peer| {
            peer.head();
            peer.until_closed();
        })
    }

    /// An address on loopback at which nothing listens.
    ///
    /// # Panics
    ///
    /// When loopback has no port left.
    pub fn refused() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        listener.local_addr().expect("bound")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far, in the order in which they were read.
    pub fn seen(&self) -> Vec<Request> {
        self.shared.seen.lock().expect("no panic holds it").clone()
    }

    /// How many requests so far.
    pub fn count(&self) -> usize {
        self.shared.seen.lock().expect("no panic holds it").len()
    }

    /// The last request so far.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn last(&self) -> Request {
        self.seen().pop().expect("the origin saw a request")
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(out)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then sees the flag.
        let _ = TcpStream::connect(self.address);
        for stream in self.shared.streams.lock().expect("no panic holds it").iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>, script: &Arc<dyn Fn(Peer) + Send + Sync>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
        shared.open.fetch_add(1, Ordering::SeqCst);
        {
            let mut streams = shared.streams.lock().expect("no panic holds it");
            streams.resize_with(connection + 1, || None);
            streams[connection] = stream.try_clone().ok();
        }
        let peer = Peer { wire: Wire::new(stream), connection, shared: Arc::clone(shared) };
        let (shared, script) = (Arc::clone(shared), Arc::clone(script));
        thread::spawn(move || {
            let ended = End { shared, connection };
            script(peer);
            drop(ended);
        });
    }
}

/// Forgets the second handle when a script ends, so that the connection really closes, even after a panic.
struct End {
    shared: Arc<Shared>,
    connection: usize,
}

impl Drop for End {
    fn drop(&mut self) {
        let stream = self.shared.streams.lock().ok().and_then(|mut streams| streams[self.connection].take());
        drop(stream);
        self.shared.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// `200` with a fixed-length body.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Chunks of `body`, `size` bytes each, with the last chunk and no trailers.
pub fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn says_close(answer: &[u8]) -> bool {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(answer.len());
    String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase().contains("\r\nconnection: close")
}
