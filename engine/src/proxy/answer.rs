//! Answers of the gateway's own: the only place that maps faults to statuses,
//! and the one that sends a response whose body is in memory.

use std::net::Shutdown;

use plugins::Answer;
use proto::framing::BodyLength;
use proto::head::{reason_phrase, Method, Name, Version};

use super::chain;
use super::exchange::Exchange;
use super::fault::{Fault, Term};
use crate::buffer::Buf;
use crate::clock;
use crate::http1::{write, After, Connection};

/// An unread body up to this size is read away so that the connection can stay.
const DISCARD_BYTES_MAX: u64 = 256 * 1024;

/// Sends what a plugin answered on the request side.
pub async fn plugin(
    connection: &Connection,
    x: &mut Exchange,
    input: &mut Buf,
    answer: Answer,
) -> Result<After, Fault> {
    x.term = Term::Plugin;
    let unread = unread_body(x, input);
    x.close |= unread == Unread::TooMuch;
    let body = compose(x, answer);
    send(connection, x, body).await?;
    settle(connection, x, input, unread).await
}

/// Answers a fault, where there is still somebody to read it.
pub async fn fault(connection: &Connection, x: &mut Exchange, input: &mut Buf, fault: Fault) -> After {
    let stats = &connection.worker.stats;
    x.term = fault.term;
    match fault.term {
        Term::ClientAbort => stats.client_aborts.add(1),
        Term::BadRequest | Term::Limit => stats.bad_requests.add(1),
        Term::BadResponse => stats.bad_responses.add(1),
        Term::ClientTimeout | Term::UpstreamTimeout | Term::UpstreamConnectTimeout => stats.timeouts.add(1),
        _ => {}
    }
    if fault.status == 499 || x.response_begun {
        if x.status == 0 {
            x.status = fault.status;
        }
        // Cut off, so that the client cannot take what it got for a whole.
        connection.socket.shutdown(Shutdown::Both);
        return After::Close;
    }
    // No endpoint has answered: a session that the client has elsewhere is not to be lost by that.
    x.sticky_cookie = None;
    let unread = unread_body(x, input);
    x.close |= fault.close || unread == Unread::TooMuch;
    let body = compose(x, page(fault));
    if let Some(after) = x.retry_after {
        // Whole seconds, and never 0: that would be an invitation.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        x.response.append(b"Retry-After", decimal(seconds.max(1), &mut [0; 20]));
    }
    upstream_statuses(x, fault.status);
    let sent = send(connection, x, body).await;
    if sent.is_err() {
        return After::Close;
    }
    if fault.close {
        return After::Linger;
    }
    settle(connection, x, input, unread).await.unwrap_or(After::Close)
}

fn page(fault: Fault) -> Answer {
    let message = match fault.status {
        404 => "404 Route Not Found".to_owned(),
        status => format!("{status} {}", reason_phrase(status)),
    };
    Answer::error_message(fault.status, &message)
}

/// The statuses of the tries, on a 5xx that came from them.
pub fn upstream_statuses(x: &mut Exchange, status: u16) {
    if status < 500 || x.tries == 0 {
        return;
    }
    let mut text = String::new();
    x.outcomes_text(&mut text);
    let name: &[u8] =
        if x.settings().apisix_headers { b"X-APISIX-Upstream-Status" } else { b"X-Ringway-Upstream-Status" };
    x.response.set(name, text.as_bytes());
}

/// Puts an answer's head into the exchange and gives its body.
pub fn compose(x: &mut Exchange, answer: Answer) -> Vec<u8> {
    x.response.clear();
    x.response.set_response(answer.status, reason_phrase(answer.status).as_bytes(), Version::Http11);
    x.response.append_known(Name::Date, b"Date", &clock::http_date());
    for (name, value) in &answer.headers {
        x.response.append(name.as_bytes(), value.as_bytes());
    }
    let settings = x.shared_settings();
    if settings.apisix_headers {
        x.response.append(b"Server", b"APISIX/3.18.0");
    } else if let Some(name) = &settings.server_header {
        x.response.append(b"Server", name.as_bytes());
    }
    answer.body
}

/// Sends `x.response` with this body, after the plugins' response side.
///
/// # Errors
///
/// When the client does not take it.
pub async fn send(connection: &Connection, x: &mut Exchange, body: Vec<u8>) -> Result<(), Fault> {
    let mut body = body;
    if let Some(other) = chain::response(connection, x).await? {
        body = compose(x, other);
    }
    if let Some(other) = x.replaced_body.take() {
        body = other;
    }
    let mut transforms = std::mem::take(&mut x.transforms);
    for transform in &mut transforms {
        let mut out = Vec::new();
        transform.push(&body, &mut out);
        transform.finish(&mut out);
        body = out;
    }
    send_whole(connection, x, body).await
}

/// The last step of every response whose body is in memory.
pub async fn send_whole(connection: &Connection, x: &mut Exchange, body: Vec<u8>) -> Result<(), Fault> {
    let status = x.response.status();
    x.response.remove(Name::TransferEncoding);
    if matches!(status, 204 | 304) || status < 200 {
        x.response.remove(Name::ContentLength);
    } else {
        let mut digits = [0; 20];
        x.response.set(b"Content-Length", decimal(body.len() as u64, &mut digits));
    }
    finish_head(x);
    let mut out = std::mem::take(&mut x.scratch);
    out.clear();
    write_head(x, &mut out);
    let head_bytes = out.len();
    let bodiless = x.request.method() == Method::Head || matches!(status, 204 | 304);
    if !bodiless {
        out.extend_from_slice(&body);
    }
    let total = out.len();
    x.status = status;
    x.response_begun = true;
    let patience = x.settings().limits.send_timeout;
    let (result, out) = write::all(&connection.socket, &connection.watch, patience, out).await;
    connection.watch.clear();
    x.scratch = out;
    match result {
        Ok(()) => {
            x.body_bytes_out = (total - head_bytes) as u64;
            x.bytes_out += total as u64;
            Ok(())
        }
        Err(_) => Err(client_write_fault(connection)),
    }
}

/// Why a write to the client failed.
pub fn client_write_fault(connection: &Connection) -> Fault {
    if connection.watch.expired() {
        Fault { term: Term::ClientTimeout, ..Fault::CLIENT_GONE }
    } else {
        Fault::CLIENT_GONE
    }
}

/// Connection field and the fields that plugins kept for any response.
pub fn finish_head(x: &mut Exchange) {
    // A drain may have begun since the request came.
    x.close |= x.draining();
    let Exchange { added, response, sticky_cookie, .. } = x;
    if let Some(cookie) = sticky_cookie {
        response.append(b"Set-Cookie", cookie.as_bytes());
    }
    for field in added.fields() {
        response.append(field.name, field.value);
    }
    if x.close {
        x.response.append_known(Name::Connection, b"Connection", b"close");
    } else if !x.client_is_11() {
        x.response.append_known(Name::Connection, b"Connection", b"keep-alive");
    }
}

/// The head as it goes out, with its empty line.
pub fn write_head(x: &Exchange, out: &mut Vec<u8>) {
    x.response.write_status_line(out);
    x.response.write_fields(out);
    out.extend_from_slice(b"\r\n");
}

/// A number's decimal digits, without an allocation.
pub fn decimal(number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    let mut left = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            return &digits[at..];
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Unread {
    /// The request was read to its end.
    Nothing,
    /// So many bytes are still to come, few enough to wait for.
    Bytes(u64),
    /// Unknown or too much.
    TooMuch,
}

/// What of the request's body was not read when an answer is sent.
fn unread_body(x: &Exchange, _input: &Buf) -> Unread {
    if x.source.is_read() {
        return Unread::Nothing;
    }
    match x.body_length {
        BodyLength::None | BodyLength::Fixed(0) => Unread::Nothing,
        BodyLength::Fixed(_) if x.body_bytes_in > 0 || x.request.has(Name::Expect) => Unread::TooMuch,
        BodyLength::Fixed(bytes) if bytes <= DISCARD_BYTES_MAX => Unread::Bytes(bytes),
        _ => Unread::TooMuch,
    }
}

/// Leaves the connection at the end of the request, or says that it has to go.
async fn settle(
    connection: &Connection,
    x: &mut Exchange,
    input: &mut Buf,
    unread: Unread,
) -> Result<After, Fault> {
    let mut left = match unread {
        Unread::Nothing => 0,
        Unread::Bytes(bytes) if !x.close => bytes,
        Unread::Bytes(_) | Unread::TooMuch => return Ok(After::Linger),
    };
    let patience = x.settings().limits.body_timeout;
    while left > 0 {
        if !input.is_empty() {
            let taken = left.min(input.len() as u64);
            input.consume(taken as usize);
            left -= taken;
            x.body_bytes_in += taken;
            continue;
        }
        if input.is_vacant() {
            *input = Buf::take(crate::buffer::Class::Read);
        }
        connection.watch.end_read_in(patience);
        let (read, back) = connection.socket.read(std::mem::take(input)).await;
        *input = back;
        connection.watch.clear();
        match read {
            Ok(count) if count > 0 => {}
            _ => return Ok(After::Close),
        }
    }
    Ok(if x.close { After::Close } else { After::KeepAlive })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits() {
        for number in [0, 7, 10, 65_536, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}
