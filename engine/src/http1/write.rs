//! Sends whole buffers: loops over partial writes, with a deadline that starts
//! anew whenever the other side has taken something.

use std::io;
use std::time::Duration;

use monoio::buf::IoBuf;

use crate::buffer::Buf;
use crate::deadline::Watch;
use crate::sys::{IoVecs, Socket};
use crate::transport::Transport;

/// Something owned that can be sent.
pub trait Bytes: IoBuf {
    /// What is sent of it.
    fn bytes(&self) -> &[u8];
}

impl Bytes for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Bytes for Buf {
    fn bytes(&self) -> &[u8] {
        self.data()
    }
}

/// Sends all of `buffer`; it comes back either way.
pub async fn all<T: Bytes>(
    transport: &Transport,
    watch: &Watch,
    patience: Duration,
    buffer: T,
) -> (io::Result<()>, T) {
    match transport {
        Transport::Plain(socket) => plain(socket, watch, patience, buffer).await,
        Transport::Tls(stream) => (stream.write(watch, patience, [buffer.bytes(), &[]]).await, buffer),
    }
}

/// Sends all records of `out`; without a deadline whoever called has set one on the socket.
///
/// # Errors
///
/// The socket's.
pub async fn records(socket: &Socket, deadline: Option<(&Watch, Duration)>, out: Buf) -> io::Result<()> {
    if let Some((watch, patience)) = deadline {
        return plain(socket, watch, patience, out).await.0;
    }
    let mut out = out;
    while !out.is_empty() {
        let (result, back) = socket.write(out).await;
        out = back;
        match result? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            sent => out.consume(sent),
        }
    }
    Ok(())
}

async fn plain<T: IoBuf>(
    socket: &Socket,
    watch: &Watch,
    patience: Duration,
    buffer: T,
) -> (io::Result<()>, T) {
    let total = buffer.bytes_init();
    watch.expire_in(patience);
    let (result, mut buffer) = socket.write(buffer).await;
    let mut sent = match result {
        Ok(count) if count == total => return (Ok(()), buffer),
        Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buffer),
        Ok(count) => count,
        Err(error) => return (Err(error), buffer),
    };
    while sent < total {
        watch.expire_in(patience);
        let (result, slice) = socket.write(buffer.slice(sent..total)).await;
        buffer = slice.into_inner();
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buffer),
            Ok(count) => sent += count,
            Err(error) => return (Err(error), buffer),
        }
    }
    (Ok(()), buffer)
}

/// Sends `head` and then `body` in as few operations as the socket allows;
/// only for bodies that are not worth a copy behind their head.
pub async fn gathered(
    transport: &Transport,
    watch: &Watch,
    patience: Duration,
    head: Vec<u8>,
    body: Buf,
) -> (io::Result<()>, Vec<u8>, Buf) {
    let socket = match transport {
        Transport::Plain(socket) => socket,
        Transport::Tls(stream) => {
            let result = stream.write(watch, patience, [&head, body.data()]).await;
            return (result, head, body);
        }
    };
    let total = head.len() + body.len();
    let (mut head, mut body, mut sent) = (head, body, 0);
    while sent < total {
        watch.expire_in(patience);
        let (result, vectors) = socket.writev(IoVecs::new(head, body, sent)).await;
        (head, body) = vectors.into_parts();
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), head, body),
            Ok(count) => sent += count,
            Err(error) => return (Err(error), head, body),
        }
    }
    (Ok(()), head, body)
}
