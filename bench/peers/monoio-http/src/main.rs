//! A small proxy on monoio-http's HTTP/1 codec: the same runtime and ring flags as the gateway, somebody else's codec.
//!
//! It forwards and nothing else: keep-alive on both sides, one pool, everything to one origin. It shows by measurement
//! why the gateway has a codec of its own; it has none of the gateway's checks (this codec has none to offer).
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use http::header::{HeaderValue, CONNECTION};
use monoio::io::sink::{Sink, SinkExt};
use monoio::io::stream::Stream;
use monoio::io::{OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};
use monoio_http::common::error::HttpError;
use monoio_http::common::request::Request;
use monoio_http::common::response::Response;
use monoio_http::h1::codec::decoder::{FillPayload, RequestDecoder, ResponseDecoder};
use monoio_http::h1::codec::encoder::GenericEncoder;
use socket2::{Domain, Protocol, Socket, Type};

/// Idle connections to the origin that are kept.
const POOL_MAX: usize = 1024;

/// A connection to the origin.
struct Upstream {
    sender: GenericEncoder<OwnedWriteHalf<TcpStream>>,
    receiver: ResponseDecoder<OwnedReadHalf<TcpStream>>,
}

type Pool = Rc<RefCell<Vec<Upstream>>>;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == "--version") {
        println!("a proxy on monoio-http 0.3.12");
        return;
    }
    let value = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)?.parse().ok()
    };
    let (Some(listen), Some(origin)) = (value("--listen"), value("--origin")) else {
        eprintln!("usage: monoio-http-peer --listen ADDRESS --origin ADDRESS");
        std::process::exit(2);
    };
    if let Err(error) = serve(listen, origin) {
        eprintln!("monoio-http-peer: {error}");
        std::process::exit(1);
    }
}

fn serve(listen: SocketAddr, origin: SocketAddr) -> io::Result<()> {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_clamp().setup_submit_all().setup_cqsize(16_384).setup_single_issuer().setup_defer_taskrun();
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
        .uring_builder(builder)
        .with_entries(4096)
        .enable_timer()
        .build()?;
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&listen.into())?;
    socket.listen(4096)?;
    runtime.block_on(async move {
        let listener = TcpListener::from_std(socket.into())?;
        let pool = Pool::default();
        loop {
            let Ok((client, _)) = listener.accept().await else { continue };
            let pool = Rc::clone(&pool);
            monoio::spawn(async move {
                // What it was shows at the client.
                let _ = connection(client, origin, &pool).await;
            });
        }
    })
}

async fn connection(client: TcpStream, origin: SocketAddr, pool: &Pool) -> Result<(), HttpError> {
    let (reader, writer) = client.into_split();
    let mut receiver = RequestDecoder::new(reader);
    let mut sender = GenericEncoder::new(writer);
    while let Some(request) = receiver.next().await {
        let mut request: Request = request?;
        // The codec delivers a body whole.
        receiver.fill_payload().await?;
        let close = request.headers_mut().remove(CONNECTION).is_some_and(|value| value == "close");
        let mut response = exchange(request, origin, pool).await?;
        response.headers_mut().remove(CONNECTION);
        if close {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        sender.send_and_flush(response).await?;
        if close {
            Sink::<Response>::close(&mut sender).await?;
            return Ok(());
        }
    }
    Ok(())
}

async fn exchange(request: Request, origin: SocketAddr, pool: &Pool) -> Result<Response, HttpError> {
    let kept = pool.borrow_mut().pop();
    let mut upstream = match kept {
        Some(upstream) => upstream,
        None => {
            let stream = TcpStream::connect_addr(origin).await?;
            stream.set_nodelay(true)?;
            let (reader, writer) = stream.into_split();
            Upstream { sender: GenericEncoder::new(writer), receiver: ResponseDecoder::new(reader) }
        }
    };
    upstream.sender.send_and_flush(request).await?;
    let gone = || HttpError::IOError(io::ErrorKind::UnexpectedEof.into());
    let response = upstream.receiver.next().await.ok_or_else(gone)??;
    upstream.receiver.fill_payload().await?;
    if pool.borrow().len() < POOL_MAX {
        pool.borrow_mut().push(upstream);
    }
    Ok(response)
}
