//! The raw relay: accept, connect one to one, pump bytes both ways. No HTTP at all.
//!
//! It is the floor: the same runtime, ring flags and operations per request as the gateway (one receive and one send
//! on each side), and nothing between them. What the gateway costs above it is the gateway's own code.

use std::io;
use std::net::SocketAddr;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt, Splitable};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};

use crate::origin::listen;

/// Size of each direction's buffer.
const BUFFER_BYTES: usize = 64 * 1024;

/// Relays every connection on `address` to `origin` until the process ends.
///
/// # Errors
///
/// When the address cannot be bound or io_uring is missing.
pub fn serve(address: SocketAddr, origin: SocketAddr) -> io::Result<()> {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_clamp().setup_submit_all().setup_cqsize(16_384).setup_single_issuer().setup_defer_taskrun();
    let mut runtime =
        RuntimeBuilder::<IoUringDriver>::new().uring_builder(builder).with_entries(4096).build()?;
    runtime.block_on(async move {
        let listener = TcpListener::from_std(listen(address)?.into())?;
        loop {
            let Ok((client, _)) = listener.accept().await else { continue };
            monoio::spawn(async move {
                // An error ends the connection; what it was shows at the client.
                let _ = relay(client, origin).await;
            });
        }
    })
}

async fn relay(client: TcpStream, origin: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect_addr(origin).await?;
    server.set_nodelay(true)?;
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let up = pump(client_read, server_write);
    let down = pump(server_read, client_write);
    let _ = monoio::join!(up, down);
    Ok(())
}

/// Dropping the writer at the end of the reader sends the FIN on.
async fn pump(mut from: impl AsyncReadRent, mut to: impl AsyncWriteRentExt) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let (result, filled) = from.read(buffer).await;
        if result? == 0 {
            return Ok(());
        }
        let (result, sent) = to.write_all(filled).await;
        result?;
        buffer = sent;
        buffer.clear();
    }
}
