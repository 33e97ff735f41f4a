//! Certificates of an authority of the test's own, and a TLS client that trusts it alone.

use crate::message::{Length, Response};
use crate::wait::SOON;
use rcgen::{date_time_ymd, BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: String,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    ///
    /// When the system has no randomness.
    pub fn new() -> Authority {
        let key = KeyPair::generate().expect("randomness");
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "ringway test authority");
        let pem = params.self_signed(&key).expect("signed").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for these names with a key of its own, on P-256.
    ///
    /// # Panics
    ///
    /// When a name is none.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_for(names, &KeyPair::generate().expect("randomness"), None)
    }

    /// One that ended in the year 2020.
    ///
    /// # Panics
    ///
    /// When a name is none.
    pub fn issue_expired(&self, names: &[&str]) -> Issued {
        self.issue_for(names, &KeyPair::generate().expect("randomness"), Some(2020))
    }

    /// One for a given key.
    ///
    /// # Panics
    ///
    /// When a name is none.
    pub fn issue_for(&self, names: &[&str], key: &KeyPair, ends: Option<i32>) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names");
        let common = names.first().cloned().unwrap_or_default();
        params.distinguished_name.push(DnType::CommonName, common);
        if let Some(year) = ends {
            params.not_before = date_time_ymd(year - 1, 1, 1);
            params.not_after = date_time_ymd(year, 1, 1);
        }
        let cert = params.signed_by(key, &self.issuer).expect("signed").pem();
        Issued { cert, key: key.serialize_pem() }
    }

    /// A client's settings that trust this authority alone, with a session cache of their own.
    ///
    /// # Panics
    ///
    /// When the versions are none.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        self.client_with(versions, None)
    }

    /// The same, with a certificate of the client's own.
    ///
    /// # Panics
    ///
    /// When the versions are none or the certificate cannot be read.
    pub fn client_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Issued>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("a certificate");
        roots.add(root).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let builder = builder.expect("versions").with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::from_pem_slice(own.cert.as_bytes()).expect("a certificate");
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(vec![chain], key).expect("a pair")
            }
        };
        config.resumption = Resumption::in_memory_sessions(64);
        Arc::new(config)
    }
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}

/// A TLS connection to the gateway.
pub struct TlsClient {
    /// The stream, to send and read exact bytes.
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

impl TlsClient {
    /// Connects and shakes hands.
    ///
    /// # Errors
    ///
    /// The handshake's.
    ///
    /// # Panics
    ///
    /// When nothing listens there.
    pub fn connect(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<TlsClient> {
        let socket = TcpStream::connect(address).expect("the gateway listens");
        socket.set_read_timeout(Some(SOON)).expect("a socket");
        socket.set_write_timeout(Some(SOON)).expect("a socket");
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(TlsClient { stream, buffer: Vec::new() })
    }

    /// Sends all of it.
    ///
    /// # Errors
    ///
    /// The connection's.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Reads one response with a length, or to the end.
    ///
    /// # Errors
    ///
    /// The connection's.
    pub fn response(&mut self) -> io::Result<Response> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let mut response = Response::parse(self.buffer.drain(..end).collect());
        match response.length("GET") {
            Length::Fixed(length) => {
                let length = length as usize;
                while self.buffer.len() < length {
                    self.fill()?;
                }
                response.body = self.buffer.drain(..length).collect();
            }
            Length::None => {}
            _ => {
                while self.fill().is_ok() {}
                response.body = std::mem::take(&mut self.buffer);
            }
        }
        Ok(response)
    }

    /// One GET on this connection.
    ///
    /// # Errors
    ///
    /// The connection's.
    pub fn get(&mut self, host: &str, target: &str) -> io::Result<Response> {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
        self.response()
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut part = [0; 64 << 10];
        match self.stream.read(&mut part)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&part[..count]);
                Ok(())
            }
        }
    }
}

/// An HTTPS origin that answers each request with its target and what the handshake said, over kept connections.
pub struct TlsOrigin {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: std::sync::atomic::AtomicUsize,
    resumed: std::sync::atomic::AtomicUsize,
}

impl TlsOrigin {
    /// Starts one; with `clients` it demands a certificate of that authority.
    ///
    /// # Panics
    ///
    /// When loopback has no port left.
    pub fn start(issued: &Issued, clients: Option<&Authority>) -> TlsOrigin {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("a certificate");
                roots.add(root).expect("a certificate");
                let verifier =
                    rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let chain = vec![CertificateDer::from_pem_slice(issued.cert.as_bytes()).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
        let config = Arc::new(builder.with_single_cert(chain, key).expect("a pair"));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Seen::default());
        let shared = seen.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (config, seen) = (config.clone(), shared.clone());
                std::thread::spawn(move || serve(socket, config, &seen));
            }
        });
        TlsOrigin { address, seen }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Handshakes that succeeded.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Of them those that resumed a session.
    pub fn resumed(&self) -> usize {
        self.seen.resumed.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// Echoes bodies; `x-sni` says which name was asked for. Ends after `connection: close`.
fn serve(socket: TcpStream, config: Arc<rustls::ServerConfig>, seen: &Seen) -> Option<()> {
    use std::sync::atomic::Ordering;
    socket.set_read_timeout(Some(SOON)).ok()?;
    let mut stream = StreamOwned::new(rustls::ServerConnection::new(config).ok()?, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).ok()?;
    }
    seen.connections.fetch_add(1, Ordering::SeqCst);
    if stream.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
        seen.resumed.fetch_add(1, Ordering::SeqCst);
    }
    let name = stream.conn.server_name().unwrap_or("-").to_owned();
    let mut buffer = Vec::new();
    let mut part = [0; 64 << 10];
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|four: &[u8]| four == b"\r\n\r\n") {
                break at + 4;
            }
            match stream.read(&mut part).ok()? {
                0 => return None,
                count => buffer.extend_from_slice(&part[..count]),
            }
        };
        let request = crate::message::Request::parse(buffer.drain(..end).collect(), 0);
        let length = match request.length() {
            Length::Fixed(length) => length as usize,
            _ => 0,
        };
        while buffer.len() < length {
            match stream.read(&mut part).ok()? {
                0 => return None,
                count => buffer.extend_from_slice(&part[..count]),
            }
        }
        let body: Vec<u8> = buffer.drain(..length).collect();
        let body = if body.is_empty() { request.target.clone().into_bytes() } else { body };
        let close = request.target == "/close";
        let more = if close { "Connection: close\r\n" } else { "" };
        let host = request.fields.get("host").unwrap_or_default();
        let head = format!(
            "HTTP/1.1 200 OK\r\nx-sni: {name}\r\nx-host: {host}\r\n{more}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), &body].concat()).ok()?;
        stream.flush().ok()?;
        if close {
            stream.conn.send_close_notify();
            let _ = stream.flush();
            return None;
        }
    }
}
