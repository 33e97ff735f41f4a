//! The gRPC probe: `grpc.health.v1.Health/Check` over HTTP/2 in the clear.
//!
//! The two messages are so small that their protobuf is written out here: a request is the service's name (field 1),
//! an answer the serving status (field 1, a varint; 1 is SERVING). Rules:
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md> and PROTOCOL-HTTP2.md beside it.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::header::{HeaderMap, HeaderValue, CONTENT_TYPE, TE, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::http::write_fields;
use super::{fault, Aim, Fault};

/// Bytes of an answer's messages.
const BODY_BYTES_MAX: usize = 1024;
/// Bytes of a list of fields, head or trailers.
const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// A gRPC message's prefix: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// The status of a service that serves.
const SERVING: u64 = 1;

/// Asks over a connection that stands.
///
/// # Errors
///
/// When the service does not serve, or that cannot be told.
pub(super) async fn check<S>(stream: S, aim: &Aim<'_>) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let request = request(aim)?;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_header_list_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(fault)?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(fault)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Fault(format!("the answer broke off: {error}")))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        verdict(head.status, &head.headers, &trailers, &body.to_bytes())
    };
    let mut asked = std::pin::pin!(asked);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        asked = &mut asked => asked,
        _ = &mut connection => asked.await,
    }
}

fn request(aim: &Aim<'_>) -> Result<Request<Full<Bytes>>, Fault> {
    let uri = format!("http://{}/grpc.health.v1.Health/Check", aim.authority);
    let body = Full::new(Bytes::from(message(&aim.check.grpc_service)));
    let mut request = Request::post(uri).body(body).map_err(fault)?;
    let fields = request.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.insert(TE, HeaderValue::from_static("trailers"));
    fields.insert(USER_AGENT, HeaderValue::from_static(concat!("ringway/", env!("CARGO_PKG_VERSION"))));
    write_fields(aim, fields)?;
    Ok(request)
}

/// `HealthCheckRequest { service }` with its prefix. The default, an empty text, is not written in protobuf.
fn message(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed
}

/// What an answer says. `grpc-status` stands in the head where there is no message.
fn verdict(status: StatusCode, head: &HeaderMap, trailers: &HeaderMap, body: &[u8]) -> Result<(), Fault> {
    if status != StatusCode::OK {
        return Err(Fault(format!("status {}", status.as_u16())));
    }
    let code = trailers.get("grpc-status").or_else(|| head.get("grpc-status"));
    match code.map(HeaderValue::as_bytes) {
        Some(b"0") => {}
        Some(code) => {
            let code = String::from_utf8_lossy(&code[..code.len().min(16)]).into_owned();
            return Err(Fault(format!("grpc-status {code}")));
        }
        None => return Err(Fault("an answer without grpc-status".to_owned())),
    }
    let Some(serving) = serving_status(body) else {
        return Err(Fault("the answer is no HealthCheckResponse".to_owned()));
    };
    match serving {
        SERVING => Ok(()),
        0 => Err(Fault("UNKNOWN".to_owned())),
        2 => Err(Fault("NOT_SERVING".to_owned())),
        3 => Err(Fault("SERVICE_UNKNOWN".to_owned())),
        other => Err(Fault(format!("serving status {other}"))),
    }
}

/// Field 1 of the one message of a body; other fields are skipped, the last one of a number counts.
fn serving_status(body: &[u8]) -> Option<u64> {
    let (prefix, message) = body.split_at_checked(PREFIX_BYTES)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || length as usize != message.len() {
        return None;
    }
    let mut rest = message;
    let mut serving = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if tag >> 3 == 1 {
                    serving = value;
                }
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(serving)
}

/// A base 128 number of at most ten bytes.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        assert_eq!(message(""), [0, 0, 0, 0, 0]);
        assert_eq!(message("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = message(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 8 + 300);
    }

    #[test]
    fn answers() {
        let check =
            |body: &[u8], expected: Option<u64>| assert_eq!(serving_status(body), expected, "{body:?}");
        check(&[0, 0, 0, 0, 2, 8, 1], Some(1));
        check(&[0, 0, 0, 0, 2, 8, 2], Some(2));
        check(&[0, 0, 0, 0, 0], Some(0));
        // Fields of a later version are skipped.
        check(&[0, 0, 0, 0, 6, 0x12, 2, b'a', b'b', 8, 1], Some(1));
        check(&[0, 0, 0, 0, 7, 0x15, 0, 0, 0, 0, 8, 1], Some(1));
        // Compressed, too short, too long, broken off.
        check(&[1, 0, 0, 0, 2, 8, 1], None);
        check(&[0, 0, 0, 0, 3, 8, 1], None);
        check(&[0, 0, 0, 0, 2, 8, 1, 9], None);
        check(&[0, 0, 0], None);
        check(&[0, 0, 0, 0, 2, 8, 0x81], None);
        check(&[0, 0, 0, 0, 3, 0x12, 9, 1], None);
        check(&[0, 0, 0, 0, 1, 0x0b], None);
        check(&[[0, 0, 0, 0, 12, 8].as_slice(), &[0xff; 11]].concat(), None);
    }

    #[test]
    fn verdicts() {
        let fields = |code: Option<&'static str>| {
            let fields = code.map(|code| (hyper::header::HeaderName::from_static("grpc-status"), code));
            fields
                .into_iter()
                .map(|(name, code)| (name, HeaderValue::from_static(code)))
                .collect::<HeaderMap>()
        };
        let serving = [0, 0, 0, 0, 2, 8, 1];
        let check = |status, head, trailers, body: &[u8], expected: Result<(), &str>| {
            let got = verdict(status, &fields(head), &fields(trailers), body);
            assert_eq!(got.map_err(|fault| fault.0), expected.map_err(str::to_owned));
        };
        check(StatusCode::OK, None, Some("0"), &serving, Ok(()));
        check(StatusCode::OK, None, Some("0"), &[0, 0, 0, 0, 2, 8, 2], Err("NOT_SERVING"));
        check(StatusCode::OK, None, Some("0"), &[0, 0, 0, 0, 2, 8, 3], Err("SERVICE_UNKNOWN"));
        check(StatusCode::OK, None, Some("0"), &[0, 0, 0, 0, 0], Err("UNKNOWN"));
        check(StatusCode::OK, None, Some("0"), &[], Err("the answer is no HealthCheckResponse"));
        check(StatusCode::OK, Some("12"), None, &[], Err("grpc-status 12"));
        check(StatusCode::OK, None, Some("5"), &serving, Err("grpc-status 5"));
        check(StatusCode::OK, None, None, &serving, Err("an answer without grpc-status"));
        check(StatusCode::NOT_FOUND, None, Some("0"), &serving, Err("status 404"));
    }
}
