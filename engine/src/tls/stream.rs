//! A TLS connection over one socket: rustls decides, this file moves the bytes.
//!
//! rustls' state is borrowed for the moment between two operations and never across one, so that one task can read
//! and write at the same time, as it does with a plain socket. Of each direction there is one user at a time.
//!
//! **Reading** takes whole buffers of records and decrypts all of them into the caller's buffer. What was received
//! belongs to this value from then on, so a read that is cancelled loses nothing. A buffer for records is held only
//! while there are any: an idle connection has none.
//!
//! **Writing** encrypts everything that is given and sends it as one operation where one buffer holds it. What
//! reading makes necessary to say (a key update) is said with the next write, which RFC 8446 section 4.6.3 allows:
//! a reader that sent would have to wait for a writer that is sending.

use std::cell::{Cell, OnceCell, RefCell};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use monoio::io::CancelHandle;
use monoio::BufResult;
use rustls::Connection;

use super::Session;
use crate::buffer::{Buf, Class};
use crate::deadline::Watch;
use crate::http1::write;
use crate::sys::Socket;

/// Plaintext that is encrypted before a part of it is sent, in bytes: what becomes of it fits into one bulk buffer.
const PIECE_BYTES_MAX: usize = 64 * 1024;
/// What a record adds to its payload of at most 16 KiB, at most, in bytes.
const RECORD_BYTES_MORE: usize = 64;
/// From so much room of a reader on, records are received in large pieces, in bytes.
const LARGE_ROOM: usize = 32 * 1024;

/// See the module.
pub struct TlsStream {
    socket: Socket,
    /// `None` until the handshake has begun.
    connection: RefCell<Option<Connection>>,
    /// Records that were received and not looked at yet.
    incoming: RefCell<Buf>,
    /// The other side has closed.
    ended: Cell<bool>,
    /// A write is under way, or was given up in the middle of a record.
    sending: Cell<bool>,
    session: OnceCell<Rc<Session>>,
}

impl TlsStream {
    /// A connection whose handshake has not begun.
    pub fn new(socket: Socket) -> Self {
        Self {
            socket,
            connection: RefCell::new(None),
            incoming: RefCell::default(),
            ended: Cell::new(false),
            sending: Cell::new(false),
            session: OnceCell::new(),
        }
    }

    /// The socket under it.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// What the handshake has agreed upon; `None` before its end.
    pub fn session(&self) -> Option<&Rc<Session>> {
        self.session.get()
    }

    pub(super) fn begin(&self, mut connection: Connection) {
        // Bounded by `write`, which sends before it encrypts more.
        connection.set_buffer_limit(None);
        *self.connection.borrow_mut() = Some(connection);
    }

    pub(super) fn set_session(&self, session: Session) {
        let _ = self.session.set(Rc::new(session));
    }

    /// What came and was not looked at yet.
    pub(super) fn incoming(&self) -> &RefCell<Buf> {
        &self.incoming
    }

    /// Runs `look` on rustls' side of the connection.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Connection) -> T) -> io::Result<T> {
        let mut connection = self.connection.borrow_mut();
        connection.as_mut().map(look).ok_or_else(|| ErrorKind::NotConnected.into())
    }

    /// Receives once. False at the end of the connection.
    pub(super) async fn receive(&self, large: bool, handle: Option<CancelHandle>) -> io::Result<bool> {
        let buffer = Buf::take(if large { Class::Bulk } else { Class::Read });
        let (result, buffer) = match handle {
            Some(handle) => self.socket.cancelable_read(buffer, handle).await,
            None => self.socket.read(buffer).await,
        };
        let count = result?;
        self.ended.set(count == 0);
        if count > 0 {
            *self.incoming.borrow_mut() = buffer;
        }
        Ok(count > 0)
    }

    /// Carries the handshake to its end, whichever side this is. The deadline is the caller's, on the socket.
    ///
    /// # Errors
    ///
    /// The socket's; `UnexpectedEof` when the other side left; `InvalidData` with rustls' reason, after an alert was sent.
    pub(super) async fn shake(&self) -> io::Result<()> {
        loop {
            let (handshaking, has_words) =
                self.with(|connection| (connection.is_handshaking(), connection.wants_write()))?;
            // At the end of it, tickets wait for the answer to a request that is there already.
            let request_is_there = !handshaking && !self.incoming.borrow().is_empty();
            if has_words && !request_is_there {
                self.flush(Class::Read, None).await?;
            }
            if !handshaking {
                return Ok(());
            }
            let nothing = self.incoming.borrow().is_empty();
            if nothing && !self.receive(false, None).await? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.feed()?;
        }
    }

    /// Gives rustls the next of what came.
    fn feed(&self) -> io::Result<()> {
        let mut incoming = self.incoming.borrow_mut();
        let result = self.with(|connection| {
            let mut data = incoming.data();
            let before = data.len();
            connection.read_tls(&mut data)?;
            let used = before - data.len();
            connection
                .process_new_packets()
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            Ok(used)
        })?;
        match result {
            // Behind a close_notify nothing counts.
            Ok(0) => *incoming = Buf::default(),
            Ok(used) if used == incoming.len() => *incoming = Buf::default(),
            Ok(used) => incoming.consume(used),
            Err(error) => {
                *incoming = Buf::default();
                drop(incoming);
                self.last_words();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Decrypts what came into the room of `into`: how many bytes, 0 at the end, `None` when more has to come first.
    fn decrypt(&self, into: &mut Buf) -> io::Result<Option<usize>> {
        let mut total = 0;
        loop {
            // First out, then in: rustls refuses records while it holds too much plaintext.
            while into.room() > 0 {
                match self.with(|connection| connection.reader().read(into.room_mut()))? {
                    Ok(0) => return Ok(Some(total)),
                    Ok(count) => {
                        into.filled(count);
                        total += count;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            if into.room() == 0 || self.incoming.borrow().is_empty() {
                return Ok(Some(total).filter(|total| *total > 0));
            }
            self.feed()?;
        }
    }

    /// Receives plaintext into the free end of `buffer`; 0 is the end, with or without a close_notify.
    ///
    /// # Errors
    ///
    /// The socket's; `InvalidData` for records that break the rules; `InvalidInput` for a buffer without room.
    pub async fn read(&self, mut buffer: Buf, handle: Option<CancelHandle>) -> BufResult<usize, Buf> {
        if buffer.room() == 0 {
            return (Err(ErrorKind::InvalidInput.into()), buffer);
        }
        loop {
            match self.decrypt(&mut buffer) {
                Ok(Some(count)) => return (Ok(count), buffer),
                Ok(None) if self.ended.get() => return (Ok(0), buffer),
                Ok(None) => {}
                Err(error) => return (Err(error), buffer),
            }
            if let Err(error) = self.receive(buffer.room() >= LARGE_ROOM, handle.clone()).await {
                return (Err(error), buffer);
            }
        }
    }

    /// Whether a read would find plaintext that is here already.
    fn has_plaintext(&self) -> bool {
        let peeked = self.with(|connection| {
            // `fill_buf` takes nothing out.
            io::BufRead::fill_buf(&mut connection.reader()).map(|data| !data.is_empty()).unwrap_or(false)
        });
        peeked.unwrap_or(false)
    }

    /// Waits until something came; whether it is a byte of payload, a read finds out.
    pub async fn readable(&self) -> io::Result<()> {
        if !self.incoming.borrow().is_empty() || self.has_plaintext() {
            return Ok(());
        }
        self.socket.readable().await
    }

    /// Waits for the first byte of payload, which stays to be read; false when the end comes instead.
    pub async fn answered(&self) -> bool {
        loop {
            while !self.has_plaintext() && !self.incoming.borrow().is_empty() {
                if self.feed().is_err() {
                    return false;
                }
            }
            if self.has_plaintext() {
                return true;
            }
            if self.ended.get() || !self.receive(false, None).await.unwrap_or(false) {
                return false;
            }
        }
    }

    /// Whether an idle connection is still good: nothing to read and no end.
    pub fn is_quiet(&self) -> bool {
        !self.ended.get()
            && self.incoming.borrow().is_empty()
            && !self.has_plaintext()
            && self.socket.is_quiet()
    }

    /// Sends all of both, as few operations as the buffers allow. The deadline begins anew whenever the other side
    /// has taken something.
    ///
    /// # Errors
    ///
    /// The socket's; what was sent of it is not known then.
    pub async fn write(&self, watch: &Watch, patience: Duration, parts: [&[u8]; 2]) -> io::Result<()> {
        let deadline = Some((watch, patience));
        let mut held = 0;
        for piece in parts.into_iter().flat_map(|part| part.chunks(PIECE_BYTES_MAX)) {
            if held > 0 && held + piece.len() > PIECE_BYTES_MAX {
                self.flush(class_for(held), deadline).await?;
                held = 0;
            }
            self.with(|connection| connection.writer().write_all(piece))??;
            held += piece.len();
        }
        self.flush(class_for(held), deadline).await
    }

    /// Sends the records that wait.
    async fn flush(&self, class: Class, deadline: Option<(&Watch, Duration)>) -> io::Result<()> {
        self.sending.set(true);
        loop {
            let mut out = Buf::bare(class);
            self.with(|connection| drain(connection, &mut out))??;
            if out.is_empty() {
                break;
            }
            write::records(&self.socket, deadline, out).await?;
        }
        // Not reached by an error or a dropped future: half a record may be out, and nothing can follow it.
        self.sending.set(false);
        Ok(())
    }

    /// Says that nothing more is sent, without waiting: what does not fit into the socket is not worth it.
    pub fn close_notify(&self) {
        if !self.sending.get() && self.with(|connection| connection.send_close_notify()).is_ok() {
            self.last_words();
        }
    }

    /// Sends what waits without waiting, and then nothing more.
    fn last_words(&self) {
        if self.sending.replace(true) {
            return;
        }
        let mut out = Buf::bare(Class::Small);
        if let Ok(Ok(())) = self.with(|connection| drain(connection, &mut out)) {
            self.socket.write_now(out.data());
        }
    }
}

/// The buffer that holds the records of so much plaintext, if one does.
fn class_for(plain: usize) -> Class {
    let records = plain.div_ceil(16 * 1024) + 1;
    match plain + records * RECORD_BYTES_MORE {
        0..=4096 => Class::Small,
        4097..=16384 => Class::Read,
        _ => Class::Bulk,
    }
}

/// Moves records that wait into `out`, as many as fit.
fn drain(connection: &mut Connection, out: &mut Buf) -> io::Result<()> {
    while connection.wants_write() {
        if connection.write_tls(&mut Filler(out))? == 0 {
            break;
        }
    }
    Ok(())
}

struct Filler<'a>(&'a mut Buf);

impl Write for Filler<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0.append_some(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut total = 0;
        for slice in slices {
            let taken = self.0.append_some(slice);
            total += taken;
            if taken < slice.len() {
                break;
            }
        }
        Ok(total)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
