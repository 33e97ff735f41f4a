//! Sends whole buffers: loops over partial writes, with a deadline that starts
//! anew whenever the other side has taken something.

use std::io;
use std::time::Duration;

use monoio::buf::IoBuf;

use crate::buffer::Buf;
use crate::deadline::Watch;
use crate::sys::{IoVecs, Socket};

/// Sends all of `buffer`; it comes back either way.
pub async fn all<T: IoBuf>(
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
    socket: &Socket,
    watch: &Watch,
    patience: Duration,
    head: Vec<u8>,
    body: Buf,
) -> (io::Result<()>, Vec<u8>, Buf) {
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
