//! `ringway quickstart`: two tiny origins on loopback and a gateway before them.
//!
//! The origins are for first steps alone; they answer every request with what
//! they saw. The gateway is the real one: the same code path as `ringway run`,
//! with a configuration file that is written out and shown.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use crate::{run, RunOptions};

/// Ports tried after the one asked for is taken.
const PORTS_TRIED: u16 = 20;

/// Runs origins and gateway until interrupted. `listen` is the address to try first.
pub fn quickstart(listen: SocketAddr) -> ExitCode {
    match prepare(listen) {
        Ok(config) => run(&RunOptions { config }),
        Err(error) => {
            eprintln!("error: quickstart cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn prepare(listen: SocketAddr) -> std::io::Result<PathBuf> {
    let origins = [origin("one")?, origin("two")?];
    let listen = free(listen)?;
    let folder = std::env::temp_dir().join(format!("ringway-quickstart-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let config = folder.join("ringway.toml");
    let status = free(SocketAddr::from((Ipv4Addr::LOCALHOST, 9091)))?;
    let text = document(listen, status, &folder.to_string_lossy(), &origins);
    std::fs::write(&config, &text)?;
    explain(listen, status, &origins, &config, &text);
    Ok(config)
}

fn document(listen: SocketAddr, status: SocketAddr, workdir: &str, origins: &[SocketAddr; 2]) -> String {
    let [one, two] = origins;
    format!(
        r#"[server]
listen = "{listen}"
workdir = {workdir:?}

[status]
listen = "{status}"

[[upstreams]]
name = "demo"
servers = ["{one}", "{two}"]

[[routes]]
name = "everything"
upstream = "demo"
plugins = {{ request-id = {{}} }}

[[routes]]
name = "limited"
uri = "/limited"
upstream = "demo"
plugins = {{ limit-count = {{ count = 2, time_window = 60, rejected_code = 429 }} }}
"#
    )
}

fn explain(listen: SocketAddr, status: SocketAddr, origins: &[SocketAddr; 2], config: &std::path::Path, text: &str) {
    let [one, two] = origins;
    println!("Two demo origins run at {one} and {two}.");
    println!("A gateway runs before them at {listen}, with {}:\n", config.display());
    for line in text.lines() {
        println!("    {line}");
    }
    println!("\nTry, in another terminal:\n");
    println!("  curl http://{listen}/hello            # again and again: the origins take turns");
    println!("  curl -i http://{listen}/hello         # X-Request-Id is set by a plugin");
    println!("  curl -i http://{listen}/limited       # the third within a minute is a 429");
    println!("\nHealth is at http://{status}/status, metrics at http://{status}/metrics.");
    println!("Edit the file while it runs: it is reloaded. Ctrl-C ends everything.\n");
}

/// The address, or the same with one of the next ports.
fn free(address: SocketAddr) -> std::io::Result<SocketAddr> {
    let mut last = None;
    for offset in 0..PORTS_TRIED {
        let candidate = SocketAddr::new(address.ip(), address.port().saturating_add(offset));
        match TcpListener::bind(candidate) {
            Ok(listener) => return listener.local_addr(),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()))
}

/// Starts an origin on a thread of its own, on a free port.
fn origin(name: &'static str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("origin-{name}")).spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(name, request));
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    })?;
    Ok(address)
}

async fn answer(name: &'static str, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = format!("Hello from origin {name}: {} {}\n", request.method(), request.uri().path());
    Ok(Response::new(Full::new(Bytes::from(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_document_passes_the_checks() {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let text = document(at(8080), at(9091), "/tmp/x", &[at(1), at(2)]);
        let (document, report) = config::parse_str("ringway.toml", &text, &config::MapEnv::default());
        assert!(document.is_some() && report.problems().is_empty(), "{}", report.render(false));
    }
}
