//! TLS of https probes: rustls with ring, and the system's trusted certificates.
//!
//! Certificates are verified unless `https_verify_certificate = false` says otherwise: a probe that takes any
//! certificate can call an endpoint healthy to which no verified connection will ever stand.

use std::sync::Arc;

use engine::tls::Anyone;
use rustls::crypto::ring;
#[cfg(test)]
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

/// Both ways to probe, each made when first needed: reading the system's certificates takes milliseconds.
#[derive(Clone, Default)]
pub(super) struct Tls {
    verified: Arc<OnceCell<Option<Arc<ClientConfig>>>>,
    unverified: Arc<OnceCell<Option<Arc<ClientConfig>>>>,
}

impl Tls {
    /// One that trusts these certificates instead of the system's.
    #[cfg(test)]
    pub(super) fn trusting(certificate: &CertificateDer<'static>) -> Tls {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a certificate");
        let tls = Tls::default();
        tls.verified.set(verified(roots)).expect("new");
        tls
    }

    /// Connects TLS; `None` where rustls cannot be set up at all.
    pub(super) async fn connector(&self, verify: bool) -> Option<TlsConnector> {
        let (cell, make): (_, fn() -> Option<Arc<ClientConfig>>) = match verify {
            true => (&self.verified, || verified(system_roots())),
            false => (&self.unverified, unverified),
        };
        let made = cell.get_or_init(|| async { tokio::task::spawn_blocking(make).await.ok().flatten() });
        made.await.clone().map(TlsConnector::from)
    }
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        tracing::warn!(
            target: "ringway",
            ?errors,
            "this system has no trusted certificates: https probes will fail; install ca-certificates, set SSL_CERT_FILE, or write https_verify_certificate = false"
        );
    }
    roots
}

fn verified(roots: RootCertStore) -> Option<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    Some(speaking_http1(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn unverified() -> Option<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    let anyone = Arc::new(Anyone(provider));
    Some(speaking_http1(builder.dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth()))
}

fn speaking_http1(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}
