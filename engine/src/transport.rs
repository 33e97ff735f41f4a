//! What a connection's bytes travel over: a plain socket, or TLS on one.
//!
//! One enum and no trait object: a plain connection pays one branch that is always predicted the same, and its
//! futures are monoio's own. Whoever writes uses `http1::write`, which knows both.

use std::io;
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::rc::Rc;

use monoio::io::CancelHandle;
use monoio::BufResult;

use crate::buffer::Buf;
use crate::sys::Socket;
use crate::tls::{Session, TlsStream};

/// See the module.
pub enum Transport {
    /// In the clear.
    Plain(Socket),
    /// Encrypted. Boxed: most connections of most gateways have none, and would keep room for it.
    Tls(Box<TlsStream>),
}

impl Transport {
    /// The socket itself.
    pub fn socket(&self) -> &Socket {
        match self {
            Transport::Plain(socket) => socket,
            Transport::Tls(stream) => stream.socket(),
        }
    }

    /// The descriptor's number, for the deadline wheel.
    pub fn raw_fd(&self) -> RawFd {
        self.socket().raw_fd()
    }

    /// What the handshake has agreed upon.
    pub fn session(&self) -> Option<&Rc<Session>> {
        match self {
            Transport::Plain(_) => None,
            Transport::Tls(stream) => stream.session(),
        }
    }

    /// Receives into the free end of `buffer`; 0 is the end.
    pub async fn read(&self, buffer: Buf) -> BufResult<usize, Buf> {
        match self {
            Transport::Plain(socket) => socket.read(buffer).await,
            Transport::Tls(stream) => stream.read(buffer, None).await,
        }
    }

    /// Like [`Transport::read`], but the holder of `handle`'s other end can end it without losing a byte.
    pub async fn cancelable_read(&self, buffer: Buf, handle: CancelHandle) -> BufResult<usize, Buf> {
        match self {
            Transport::Plain(socket) => socket.cancelable_read(buffer, handle).await,
            Transport::Tls(stream) => stream.read(buffer, Some(handle)).await,
        }
    }

    /// Waits until there is something to read; dropping it loses nothing.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.readable().await,
            Transport::Tls(stream) => stream.readable().await,
        }
    }

    /// Waits for the first byte of an answer; false when the end comes instead.
    pub async fn answered(&self) -> bool {
        match self {
            Transport::Plain(socket) => socket.readable().await.is_ok() && socket.has_data(),
            Transport::Tls(stream) => stream.answered().await,
        }
    }

    /// Ends one or both directions. An end of writing is an end in order; to end both cuts the connection off.
    pub fn shutdown(&self, how: Shutdown) {
        if let (Transport::Tls(stream), Shutdown::Write) = (self, how) {
            stream.close_notify();
        }
        self.socket().shutdown(how);
    }

    /// Says that nothing more is sent, where the protocol has a word for it, before the connection is closed in order.
    pub fn say_goodbye(&self) {
        if let Transport::Tls(stream) = self {
            stream.close_notify();
        }
    }

    /// Whether an idle connection is still good: nothing to read and no end.
    pub fn is_quiet(&self) -> bool {
        match self {
            Transport::Plain(socket) => socket.is_quiet(),
            Transport::Tls(stream) => stream.is_quiet(),
        }
    }

    /// Whether the peer has closed or reset.
    pub fn has_hung_up(&self) -> bool {
        self.socket().has_hung_up()
    }
}
