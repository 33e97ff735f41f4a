//! `ringway quickstart`: two tiny origins on loopback and a gateway before them.
//!
//! The origins are for first steps alone; they answer every request with what
//! they saw. The gateway is the real one: the same code path as `ringway run`,
//! with a configuration file that is written out and shown.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use crate::run::run_then;
use crate::RunOptions;

/// Ports tried after the one asked for is taken.
const PORTS_TRIED: u16 = 20;
/// Where the status listener is looked for first.
const STATUS_PORT: u16 = 9091;

/// Runs origins and gateway until interrupted. `listen` is the address to try first.
///
/// Exit codes are those of [`run`](crate::run); 1 if there is no free port or no
/// folder for the configuration file.
pub fn quickstart(listen: SocketAddr) -> ExitCode {
    let prepared = match Prepared::new(listen) {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("error: quickstart cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let options = RunOptions { config: prepared.folder.join("ringway.toml") };
    let code = run_then(&options, || print!("{}", prepared.explanation()));
    let _ = std::fs::remove_dir_all(&prepared.folder);
    code
}

/// What there is before the gateway starts.
struct Prepared {
    folder: PathBuf,
    listen: SocketAddr,
    status: SocketAddr,
    origins: [SocketAddr; 2],
    document: String,
}

impl Prepared {
    fn new(listen: SocketAddr) -> std::io::Result<Self> {
        let origins = [origin("one")?, origin("two")?];
        let listen = free(listen)?;
        let status = free(SocketAddr::from((Ipv4Addr::LOCALHOST, STATUS_PORT)))?;
        let folder = folder()?;
        let document = document(listen, status, &folder, &origins);
        std::fs::write(folder.join("ringway.toml"), &document)?;
        Ok(Self { folder, listen, status, origins, document })
    }

    fn explanation(&self) -> String {
        let Self { folder, listen, status, origins: [one, two], document } = self;
        let mut text = format!("\nTwo demo origins answer at {one} and {two}.\n");
        let path = folder.join("ringway.toml");
        let _ = writeln!(text, "A gateway runs in front of them at {listen}, with {}:\n", path.display());
        for line in document.lines() {
            let _ = writeln!(text, "    {line}");
        }
        let _ = write!(
            text,
            "
Try, in another terminal:

  # the origins take turns
  curl 'http://{listen}/hello?[1-4]'
  # a plugin gives every request an X-Request-Id
  curl -i http://{listen}/hello
  # two requests a minute: the third is a 429
  curl -i http://{listen}/limited

Health is at http://{status}/status, metrics are at http://{status}/metrics,
the access log is {}.
Edit the configuration while it runs: saving it is enough. Ctrl-C ends everything.

",
            folder.join("access.log").display()
        );
        text
    }
}

/// A new folder of our own, which nobody else can have put there.
fn folder() -> std::io::Result<PathBuf> {
    let name = format!("ringway-quickstart-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

fn document(listen: SocketAddr, status: SocketAddr, folder: &Path, origins: &[SocketAddr; 2]) -> String {
    let [one, two] = origins;
    format!(
        r#"[server]
listen = "{listen}"
workdir = {folder:?}

[status]
listen = "{status}"

[control]
listen = "off"

[log]
level = "warn"
access = {access:?}

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
"#,
        access = folder.join("access.log"),
    )
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
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                return;
            };
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
        let text = document(at(8080), at(9091), Path::new("/tmp/a \"b\""), &[at(1), at(2)]);
        let (document, report) = config::parse_str("ringway.toml", &text, &config::MapEnv::default());
        assert!(document.is_some() && report.problems().is_empty(), "{}", report.render(false));
    }

    #[test]
    fn it_prints_three_curl_lines() {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let prepared = Prepared {
            folder: PathBuf::from("/tmp/x"),
            listen: at(8080),
            status: at(9091),
            origins: [at(1), at(2)],
            document: String::new(),
        };
        let text = prepared.explanation();
        let curls: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("curl ")).collect();
        assert_eq!(curls.len(), 3, "{text}");
        assert!(curls.iter().all(|line| line.contains("http://127.0.0.1:8080/")), "{curls:?}");
    }

    /// Taken: the next one. Port 0: whatever is free.
    #[test]
    fn a_free_port_is_found() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        let found = free(address).expect("some of the next ports is free");
        assert!(found.port() > address.port() && found.ip() == address.ip());
        assert_ne!(free(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("any port").port(), 0);
    }
}
