//! The http and https probes: one GET over HTTP/1.1, of whose answer the head is read.
//!
//! The connection is closed after each probe: a kept one would not notice a listener that is gone.

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HeaderName, HeaderValue, CONNECTION, HOST, USER_AGENT};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{fault, Aim, Fault};

/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Fields of an answer's head.
const FIELDS_MAX: usize = 128;
/// Who asks.
const AGENT: &str = concat!("ringway/", env!("CARGO_PKG_VERSION"), " (health check)");

/// The status of the answer over a connection that stands.
///
/// # Errors
///
/// When there is no answer, or it is none.
pub(super) async fn status<S>(stream: S, aim: &Aim<'_>) -> Result<u16, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = request(aim)?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(FIELDS_MAX).title_case_headers(true);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(fault)?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    let mut connection = std::pin::pin!(connection);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It ends in the same turn in which the answer came, when the origin closes at once.
        _ = &mut connection => answer.await,
    };
    Ok(answer.map_err(fault)?.status().as_u16())
}

/// The GET that a probe sends.
pub(super) fn request(aim: &Aim<'_>) -> Result<Request<Empty<Bytes>>, Fault> {
    let mut request = Request::get(&aim.check.http_path).body(Empty::new()).map_err(fault)?;
    let fields = request.headers_mut();
    fields.insert(HOST, HeaderValue::from_str(&aim.authority).map_err(fault)?);
    fields.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    fields.insert(CONNECTION, HeaderValue::from_static("close"));
    write_fields(aim, fields)?;
    Ok(request)
}

/// Puts `req_headers` in: the first of a name replaces ours, the next of the same name stand beside it.
pub(super) fn write_fields(aim: &Aim<'_>, fields: &mut hyper::HeaderMap) -> Result<(), Fault> {
    let mut seen = Vec::new();
    for (name, value) in &aim.check.req_headers {
        let name = HeaderName::try_from(name.as_str()).map_err(fault)?;
        let value = HeaderValue::from_str(value).map_err(fault)?;
        if seen.contains(&name) {
            fields.append(name, value);
        } else {
            fields.insert(name.clone(), value);
            seen.push(name);
        }
    }
    Ok(())
}
