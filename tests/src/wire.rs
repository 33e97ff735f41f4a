//! One TCP connection with a read buffer: exact bytes out, whole heads and bodies in, everything with a deadline.

use crate::message::{Fields, Length};
use crate::wait::SOON;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A head longer than this is a test gone wrong.
const HEAD_BYTES_MAX: usize = 4 << 20;

/// A connection.
pub struct Wire {
    stream: TcpStream,
    /// Bytes that arrived and were not taken yet.
    pub buffer: Vec<u8>,
    deadline: Duration,
}

impl Wire {
    /// Takes over a connected stream.
    pub fn new(stream: TcpStream) -> Wire {
        // A failure means that the peer has already gone; the first read tells.
        let _ = stream.set_nodelay(true);
        let mut wire = Wire { stream, buffer: Vec::new(), deadline: SOON };
        wire.set_deadline(SOON);
        wire
    }

    /// How long a single read or write may take.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
        let _ = self.stream.set_read_timeout(Some(deadline));
        let _ = self.stream.set_write_timeout(Some(deadline));
    }

    /// The underlying stream.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The local address.
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    /// A second handle on the same connection, for another thread; it shares no buffered bytes.
    pub fn second(&self) -> Wire {
        Wire::new(self.stream.try_clone().expect("descriptors left"))
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    ///
    /// The socket's.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends all of `bytes`.
    ///
    /// # Panics
    ///
    /// When the connection does not take them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).expect("the peer takes our bytes");
    }

    /// Ends our direction (FIN).
    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection with a reset instead of a FIN.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Reads once. 0 is the end.
    ///
    /// # Errors
    ///
    /// The socket's; `TimedOut` past the deadline.
    pub fn fill(&mut self) -> io::Result<usize> {
        let mut part = [0; 64 << 10];
        loop {
            match self.stream.read(&mut part) {
                Ok(count) => {
                    self.buffer.extend_from_slice(&part[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(io::Error::new(
                        ErrorKind::TimedOut,
                        format!("nothing arrived within {:?}", self.deadline),
                    ));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads up to and with the empty line. `None` when the peer closed before a first byte.
    ///
    /// # Errors
    ///
    /// The socket's; `UnexpectedEof` in the middle of a head.
    pub fn read_head(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut looked: usize = 0;
        loop {
            let from = looked.saturating_sub(3);
            if let Some(at) = self.buffer[from..].windows(4).position(|four| four == b"\r\n\r\n") {
                return Ok(Some(self.buffer.drain(..from + at + 4).collect()));
            }
            looked = self.buffer.len();
            if looked > HEAD_BYTES_MAX {
                return Err(io::Error::new(ErrorKind::InvalidData, "a head without an end"));
            }
            if self.fill()? == 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                let text = String::from_utf8_lossy(&self.buffer).into_owned();
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    format!("closed inside a head: {text:?}"),
                ));
            }
        }
    }

    /// Reads a whole body and hands each piece to `sink`; gives the trailers.
    ///
    /// # Errors
    ///
    /// The socket's; `UnexpectedEof` when it ends early, `InvalidData` for bad chunks.
    pub fn read_body_into(&mut self, length: Length, sink: &mut dyn FnMut(&[u8])) -> io::Result<Fields> {
        match length {
            Length::None => {}
            Length::Fixed(bytes) => self.read_fixed(bytes, sink)?,
            Length::UntilClose => loop {
                let now = std::mem::take(&mut self.buffer);
                sink(&now);
                if self.fill()? == 0 {
                    break;
                }
            },
            Length::Chunked => {
                while let Some(bytes) = self.read_chunk_size()? {
                    self.read_fixed(bytes, sink)?;
                    if self.read_line()? != b"" {
                        return Err(io::Error::new(ErrorKind::InvalidData, "no CRLF after a chunk"));
                    }
                }
                return self.read_trailers();
            }
        }
        Ok(Fields::default())
    }

    /// Reads a whole body.
    ///
    /// # Errors
    ///
    /// As [`Wire::read_body_into`].
    pub fn read_body(&mut self, length: Length) -> io::Result<(Vec<u8>, Fields)> {
        let mut body = Vec::new();
        let trailers = self.read_body_into(length, &mut |piece| body.extend_from_slice(piece))?;
        Ok((body, trailers))
    }

    /// Reads one chunk; `None` after the last one, whose trailers are then still to be read.
    ///
    /// # Errors
    ///
    /// As [`Wire::read_body_into`].
    pub fn read_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(bytes) = self.read_chunk_size()? else { return Ok(None) };
        let mut chunk = Vec::new();
        self.read_fixed(bytes, &mut |piece| chunk.extend_from_slice(piece))?;
        self.read_line()?;
        Ok(Some(chunk))
    }

    /// Reads exactly `count` bytes.
    ///
    /// # Panics
    ///
    /// When the connection ends first or the deadline passes.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let mut out = Vec::new();
        self.read_fixed(count as u64, &mut |piece| out.extend_from_slice(piece)).expect("the bytes arrive");
        out
    }

    /// Reads up to and with the next line break; gives the line without it.
    ///
    /// # Errors
    ///
    /// The socket's; `InvalidData` for a bare LF.
    pub fn read_line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=at).collect();
                line.pop();
                return match line.pop() {
                    Some(b'\r') => Ok(line),
                    _ => Err(io::Error::new(ErrorKind::InvalidData, "a bare LF")),
                };
            }
            if self.fill()? == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed inside a line"));
            }
        }
    }

    /// Reads until the peer closes; a reset counts as closed. Gives what still came.
    ///
    /// # Panics
    ///
    /// When it does not close within the deadline.
    pub fn read_to_close(&mut self) -> Vec<u8> {
        let start = Instant::now();
        loop {
            match self.fill() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => panic!("not closed: {error}"),
                Err(_) => break,
            }
            assert!(start.elapsed() < self.deadline, "not closed: bytes keep coming");
        }
        std::mem::take(&mut self.buffer)
    }

    /// Asserts that the peer closed and sent nothing more.
    ///
    /// # Panics
    ///
    /// When it did otherwise.
    pub fn assert_closed(&mut self) {
        let rest = self.read_to_close();
        assert!(rest.is_empty(), "closed, but first came {:?}", String::from_utf8_lossy(&rest));
    }

    /// Whether the peer has closed or reset by now, without waiting.
    pub fn is_closed(&mut self) -> bool {
        let _ = self.stream.set_nonblocking(true);
        let mut byte = [0];
        let closed = match self.stream.peek(&mut byte) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        let _ = self.stream.set_nonblocking(false);
        closed
    }

    fn read_fixed(&mut self, mut left: u64, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        while left > 0 {
            if self.buffer.is_empty() && self.fill()? == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("{left} bytes are missing")));
            }
            let now = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            sink(&self.buffer[..now]);
            self.buffer.drain(..now);
            left -= now as u64;
        }
        Ok(())
    }

    /// The size of the next chunk; `None` for the last one.
    fn read_chunk_size(&mut self) -> io::Result<Option<u64>> {
        let line = String::from_utf8_lossy(&self.read_line()?).into_owned();
        let digits = line.split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(digits, 16);
        let size =
            size.map_err(|_| io::Error::new(ErrorKind::InvalidData, format!("chunk size {line:?}")))?;
        Ok((size > 0).then_some(size))
    }

    /// Reads the trailer section that follows the last chunk.
    ///
    /// # Errors
    ///
    /// The socket's.
    pub fn read_trailers(&mut self) -> io::Result<Fields> {
        let mut section = Vec::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok(Fields::parse(&section));
            }
            section.extend_from_slice(&line);
            section.extend_from_slice(b"\r\n");
        }
    }
}
