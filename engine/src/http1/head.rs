//! Reads the next request head of a connection.

use std::time::Duration;

use proto::head::{parse_request, HeadError};

use super::Connection;
use crate::buffer::{Buf, Class};
use crate::clock;
use crate::plan::Settings;
use crate::proxy::exchange::Exchange;
use crate::proxy::fault::{Fault, Term};

/// What came.
pub enum Read {
    /// A head, in the exchange; what follows it is left in the input.
    Request,
    /// Nothing for a while, and no byte was lost.
    Quiet,
    /// The client is done, in order or not.
    Closed,
    /// Something that is not to be served.
    Refused(Fault),
}

/// Reads until a head is complete. `quiet` bounds the wait for its first byte,
/// `head_timeout` the time from there to its end.
pub async fn read(
    connection: &Connection,
    settings: &Settings,
    quiet: Duration,
    input: &mut Buf,
    x: &mut Exchange,
) -> Read {
    let mut timed = false;
    x.began = 0;
    loop {
        if !input.is_empty() {
            if x.began == 0 {
                x.began = clock::micros();
            }
            match parse_request(input.data(), &settings.request_head, &mut x.request) {
                Ok(Some(length)) => {
                    x.head_bytes_in = length as u64;
                    input.consume(length);
                    connection.watch.clear();
                    // A head that came in pieces: `began` is no longer now.
                    x.waited = timed;
                    return Read::Request;
                }
                Ok(None) => {}
                Err(error) => return Read::Refused(fault(&error)),
            }
            if !timed {
                timed = true;
                connection.watch.end_read_in(settings.limits.head_timeout);
            }
        }
        make_room(input, settings);
        let buffer = std::mem::take(input);
        let (result, buffer) = if timed {
            connection.socket.read(buffer).await
        } else {
            let handle = connection.watch.quiet_in(quiet);
            let waiting = &connection.worker.waiting;
            waiting.set(waiting.get() + 1);
            let result = connection.socket.cancelable_read(buffer, handle).await;
            waiting.set(waiting.get().saturating_sub(1));
            result
        };
        *input = buffer;
        match result {
            Ok(0) if timed && connection.watch.expired() => {
                return Read::Refused(Fault::refuse(408, Term::ClientTimeout));
            }
            Ok(0) => return Read::Closed,
            Ok(count) => connection.worker.stats.bytes_in.add(count as u64),
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => return Read::Quiet,
            Err(_) => return Read::Closed,
        }
    }
}

fn make_room(input: &mut Buf, settings: &Settings) {
    if input.is_vacant() {
        *input = Buf::take(Class::Read);
    }
    if input.room() > 0 {
        return;
    }
    input.compact();
    if input.room() == 0 {
        // The parser refuses heads past the limit, so this ends there.
        input.grow((input.len() * 2).min(settings.limits.request_head + 1024).max(input.len() + 1024));
    }
}

fn fault(error: &HeadError) -> Fault {
    match error {
        HeadError::TooLarge | HeadError::TooManyFields => Fault::refuse(431, Term::Limit),
        HeadError::TargetTooLong => Fault::refuse(414, Term::Limit),
        HeadError::BadVersion => Fault::refuse(505, Term::BadRequest),
        HeadError::Malformed(_) => Fault::refuse(400, Term::BadRequest),
    }
}
