//! TLS toward endpoints: compiled from an upstream's `tls`, used by `upstream::connect`.
//!
//! What tells two connections to one address apart is the **identity**: whom we believe, as whom we come, and which
//! name we ask for. Pools are keyed by it, so that a request never travels on a connection that was verified for
//! another name. Each pool, and so each core, keeps its own sessions to resume.

use std::io::{self, ErrorKind};
use std::sync::{Arc, OnceLock};

use config::{ClientTls, Problem, Report};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore};
use sha2::{Digest, Sha256};

use super::{cipher_name, version_name, Anyone, Session, TlsStream};

/// Sessions that one pool keeps to resume.
const SESSIONS_MAX: usize = 64;

/// What two connections to one address must have in common to stand for each other.
pub type Identity = [u8; 32];

/// How an upstream's endpoints are spoken to.
pub struct UpstreamTls {
    config: Arc<ClientConfig>,
    digest: Identity,
    name: Option<String>,
}

/// How one endpoint is spoken to.
#[derive(Clone)]
pub struct EndpointTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// What tells its connections from others to the same address.
    pub identity: Identity,
}

impl std::fmt::Debug for EndpointTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointTls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl EndpointTls {
    /// The same with sessions of its own to resume.
    pub fn own(&self) -> EndpointTls {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        EndpointTls { config: Arc::new(config), ..self.clone() }
    }
}

/// Compiles an upstream's `tls`. `None` when something is wrong; `report` says what.
pub fn compile(source: &ClientTls, upstream_host: Option<&str>, report: &mut Report) -> Option<UpstreamTls> {
    let provider = super::provider();
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = match builder {
        Ok(builder) => builder,
        Err(error) => {
            report.error(source.place, format!("TLS cannot be set up: {error}"), "");
            return None;
        }
    };
    let builder = if source.verify {
        builder.with_root_certificates(roots(source, report)?)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    };
    let mut config = match &source.client {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pair.cert.as_bytes()).collect();
            let (Some(chain), Ok(key)) = (chain.ok(), PrivateKeyDer::from_pem_slice(pair.key.0.as_bytes()))
            else {
                report.error(pair.cert_place, "the client certificate or its key cannot be read", "");
                return None;
            };
            match builder.with_client_auth_cert(chain, key) {
                Ok(config) => config,
                Err(error) => {
                    let problem = Problem::error(pair.cert_place, "the client certificate cannot be used");
                    report.push(problem.label(error.to_string()).help("is it the certificate of this key?"));
                    return None;
                }
            }
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = source.server_name.as_deref().or(upstream_host).map(bare).map(str::to_owned);
    Some(UpstreamTls { config: Arc::new(config), digest: digest(source), name })
}

fn digest(source: &ClientTls) -> Identity {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    part(if source.verify { "verify" } else { "" });
    part(source.ca.as_ref().map_or("", |(ca, _)| ca));
    part(source.client.as_ref().map_or("", |pair| &pair.cert));
    part(source.client.as_ref().map_or("", |pair| &pair.key.0));
    hash.finalize().into()
}

/// A host without its port and without brackets.
fn bare(host: &str) -> &str {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    bracketed.map_or_else(|| host.rsplit_once(':').map_or(host, |(name, _)| name), |(inner, _)| inner)
}

impl UpstreamTls {
    /// For the endpoint whose node has this host, as `Host` would say it.
    pub fn endpoint(&self, host: &str) -> Option<EndpointTls> {
        let name = self.name.as_deref().unwrap_or_else(|| bare(host));
        let server_name = ServerName::try_from(name.to_owned()).ok()?;
        let mut hash = Sha256::new();
        hash.update(self.digest);
        hash.update(name);
        Some(EndpointTls { config: self.config.clone(), name: server_name, identity: hash.finalize().into() })
    }
}

fn roots(source: &ClientTls, report: &mut Report) -> Option<Arc<RootCertStore>> {
    let Some((ca, place)) = &source.ca else {
        let roots = system_roots();
        if roots.is_empty() {
            let problem = Problem::warning(source.place, "this system has no trusted certificates");
            let problem = problem.label("no endpoint can be verified");
            report.push(problem.help("install ca-certificates, set SSL_CERT_FILE, or write `ca`"));
        }
        return Some(roots);
    };
    let mut roots = RootCertStore::empty();
    let read = CertificateDer::pem_slice_iter(ca.as_bytes())
        .map(|found| found.ok().and_then(|found| roots.add(found).ok()))
        .collect::<Option<Vec<()>>>();
    if read.is_none_or(|read| read.is_empty()) {
        let help = "look at it with `openssl x509 -noout -text`";
        report.push(Problem::error(*place, "`ca` cannot be read").label("no X.509 certificates").help(help));
        return None;
    }
    Some(Arc::new(roots))
}

/// Read once for the process's life; on control's threads, as all of compiling.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    };
    ROOTS.get_or_init(read).clone()
}

/// Shakes hands with an endpoint. The deadline is the caller's, on the socket.
///
/// # Errors
///
/// The socket's, or what was wrong with the endpoint's certificate.
pub async fn handshake(stream: &TlsStream, tls: &EndpointTls) -> io::Result<()> {
    let connection = ClientConnection::new(tls.config.clone(), tls.name.clone())
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    stream.begin(Connection::Client(connection));
    stream.shake().await?;
    let session = stream.with(|rustls| Session {
        version: rustls.protocol_version().map_or("", version_name),
        cipher: rustls.negotiated_cipher_suite().map_or("", |suite| cipher_name(suite.suite())),
        name: None,
        resumed: rustls.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        client: None,
        entry: None,
    })?;
    stream.set_session(session);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts() {
        let check = |host: &str, expected: &str| assert_eq!(bare(host), expected);
        check("a.test:8443", "a.test");
        check("a.test", "a.test");
        check("127.0.0.1:1", "127.0.0.1");
        check("[::1]:443", "::1");
    }
}
