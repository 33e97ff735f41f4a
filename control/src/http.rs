//! How control serves HTTP: the frame of the status listener and of the control API.
//!
//! GET and HEAD only; heads, their time and connections are limited, so that it is no way to tie the process up.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderValue, ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections served at once by each listener; more wait.
const CONNECTIONS_MAX: usize = 64;
/// A request's head has to be complete by then, and its connection may idle as long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is closed after this, whatever it does: nobody holds a place by reading slowly.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(300);
/// Bytes of a head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The media type of JSON.
pub(crate) const JSON: &str = "application/json";

/// Serves for the process's life.
pub(crate) async fn serve<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let handler = handler.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answered = handler(request);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_TIME_MAX, connection).await;
            drop(place);
        });
    }
}

/// The answer to what is neither GET nor HEAD.
pub(crate) fn refuse_method(request: &Request<Incoming>) -> Option<Response<Full<Bytes>>> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let mut response =
        reply(StatusCode::METHOD_NOT_ALLOWED, JSON, "{\"error_msg\":\"GET only\"}\n".to_owned());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    Some(response)
}

/// The answer for a path that there is not.
pub(crate) fn not_found() -> Response<Full<Bytes>> {
    reply(StatusCode::NOT_FOUND, JSON, "{\"error_msg\":\"404 Not Found\"}\n".to_owned())
}

/// An answer of this type.
pub(crate) fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
