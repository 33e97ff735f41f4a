//! Real software beside the gateway: nginx and Python as origins, started for one test.

use crate::process::{self, Folder};
use crate::wait::wait_until;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

/// A server process of another project.
pub struct Neighbour {
    child: Child,
    address: SocketAddr,
    /// What it serves and writes.
    pub folder: Folder,
}

impl Neighbour {
    /// nginx with two files to serve (`/hello.txt`, `/large.bin` of 5 MB of the pattern), an upload sink at `/upload`
    /// and `/chunked.txt`, which it compresses and so sends in chunks. `None`, and a line that says so, when nginx is
    /// not installed.
    ///
    /// # Panics
    ///
    /// When nginx is installed and does not start.
    pub fn nginx(case: &str) -> Option<Neighbour> {
        let program = process::installed("nginx", case)?;
        let folder = Folder::new();
        folder.write("html/hello.txt", "hello from nginx\n");
        folder.write("html/large.bin", crate::pattern::bytes(5_000_000));
        folder.write("html/chunked.txt", "many words ".repeat(1000));
        let address = crate::Origin::refused();
        let path = folder.path().display();
        let config = folder.write(
            "nginx.conf",
            format!(
                "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;\n\
                 events {{ worker_connections 512; }}\n\
                 http {{ access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;\n\
                 fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
                 client_max_body_size 0; keepalive_requests 100000;\n\
                 server {{ listen {address}; root {path}/html;\n\
                 location /upload {{ client_body_buffer_size 64k; client_body_in_file_only clean; return 204; }}\n\
                 location /chunked.txt {{ gzip on; gzip_types text/plain; gzip_http_version 1.0; gzip_proxied any; }}\n\
                 }} }}\n"
            ),
        );
        let child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .arg("-e")
            .arg(folder.path().join("error.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx can be started");
        Some(Neighbour::when_listening(child, address, folder))
    }

    /// Python's `http.server` (HTTP/1.0, closes after each answer) over a folder with `/hello.txt`.
    ///
    /// # Panics
    ///
    /// When Python is installed and does not start.
    pub fn python(case: &str) -> Option<Neighbour> {
        let program = process::installed("python3", case)?;
        let folder = Folder::new();
        folder.write("hello.txt", "hello from python\n");
        folder.write("large.bin", crate::pattern::bytes(3_000_000));
        let address = crate::Origin::refused();
        let child = Command::new(program)
            .args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"])
            .arg(folder.path())
            .arg(address.port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 can be started");
        Some(Neighbour::when_listening(child, address, folder))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process.
    pub fn child(&self) -> &Child {
        &self.child
    }

    fn when_listening(child: Child, address: SocketAddr, folder: Folder) -> Neighbour {
        let mut neighbour = Neighbour { child, address, folder };
        wait_until("the neighbour to listen", || {
            let ended = neighbour.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "the neighbour ended: {ended:?}");
            TcpStream::connect(address).is_ok()
        });
        neighbour
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command with arguments and a deadline of the command's own; gives its output as text.
///
/// # Panics
///
/// When it fails.
pub fn output(program: &std::path::Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().expect("it can be run");
    let text = crate::gateway::both(&output);
    assert!(output.status.success(), "{} {arguments:?} failed: {text}", program.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}
