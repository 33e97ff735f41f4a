//! After an upgrade: bytes both ways, each direction ended on its own.
//!
//! One deadline for both: a tunnel in which nothing moves either way for the
//! route's read timeout is closed, as nginx and APISIX do.

use std::future::Future;
use std::net::Shutdown;
use std::pin::pin;
use std::task::Poll;

use super::exchange::Exchange;
use super::fault::Term;
use crate::buffer::{Buf, Class};
use crate::deadline::Watch;
use crate::http1::{write, Connection};
use crate::plan::Timeouts;
use crate::transport::Transport;
use crate::upstream::pool::Link;

/// Runs until both directions have ended. `input` and `early` hold what either
/// side sent right behind its head.
pub async fn run(
    connection: &Connection,
    x: &mut Exchange,
    input: &mut Buf,
    link: Link,
    early: Buf,
    times: Timeouts,
) {
    let idle = &connection.watch;
    let wheel = &connection.worker.wheel;
    let (to_upstream, to_client) =
        (wheel.watch(link.socket.raw_fd()), wheel.watch(connection.socket.raw_fd()));
    link.watch.clear();
    let up = pump(&connection.socket, &link.socket, &to_upstream, idle, times, std::mem::take(input));
    let down = pump(&link.socket, &connection.socket, &to_client, idle, times, early);
    let (mut up, mut down) = (pin!(up), pin!(down));
    let (mut went, mut came) = (None, None);
    std::future::poll_fn(|context| {
        for (side, done, other) in [
            (up.as_mut() as std::pin::Pin<&mut dyn Future<Output = Ended>>, &mut went, &link.socket),
            (down.as_mut(), &mut came, &connection.socket),
        ] {
            if done.is_none() {
                if let Poll::Ready(ended) = side.poll(context) {
                    if ended.broken {
                        connection.socket.shutdown(Shutdown::Both);
                        link.socket.shutdown(Shutdown::Both);
                    } else {
                        other.shutdown(Shutdown::Write);
                    }
                    *done = Some(ended.bytes);
                }
            }
        }
        if went.is_some() && came.is_some() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    x.term = Term::Tunnel;
    x.body_bytes_in = went.unwrap_or(0);
    x.body_bytes_out = came.unwrap_or(0);
    x.bytes_out += x.body_bytes_out;
}

struct Ended {
    bytes: u64,
    /// A reset or a deadline, as opposed to an end in order.
    broken: bool,
}

async fn pump(
    from: &Transport,
    to: &Transport,
    watch: &Watch,
    idle: &Watch,
    times: Timeouts,
    first: Buf,
) -> Ended {
    let mut buf = first;
    let mut bytes = 0;
    loop {
        if !buf.is_empty() {
            bytes += buf.len() as u64;
            let (result, back) = write::all(to, watch, times.send, buf).await;
            watch.clear();
            buf = back;
            if result.is_err() {
                return Ended { bytes, broken: true };
            }
        }
        buf.clear();
        if buf.is_vacant() {
            buf = Buf::take(Class::Read);
        }
        idle.expire_in(times.read);
        let (result, back) = from.read(buf).await;
        buf = back;
        match result {
            Ok(0) => return Ended { bytes, broken: idle.expired() },
            Ok(_) => {}
            Err(_) => return Ended { bytes, broken: true },
        }
    }
}
