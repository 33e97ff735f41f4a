//! Certificates by server name, compiled from `[[ssls]]`.
//!
//! An exact name wins over `*.x`, which stands for one label as in certificates (RFC 9525 section 6.3), and both over
//! the default. Each entry has one `ServerConfig` that all cores share; one whose source did not change is carried
//! over from plan to plan. What is wrong with a certificate is reported at its place; no key is ever quoted.

use std::collections::HashMap;
use std::sync::Arc;

use config::{Document, Pair, Problem, Report, Ssl};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{version, InconsistentKeys, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{client, PolicyDigest, Tickets};
use crate::clock;

/// A warning comes when a certificate ends within so many days.
const SOON_DAYS: i64 = 7;

/// What is spoken inside TLS.
const ALPN: &[&[u8]] = &[b"http/1.1"];

/// All certificates of a plan.
#[derive(Default)]
pub struct TlsPlan {
    sources: Vec<Arc<Ssl>>,
    exact: HashMap<String, Arc<Entry>>,
    /// By what stands behind `*.`.
    wildcard: HashMap<String, Arc<Entry>>,
    default: Option<Arc<Entry>>,
    entries: Vec<Arc<Entry>>,
}

/// One `[[ssls]]` entry, ready for handshakes.
pub struct Entry {
    source: Arc<Ssl>,
    /// Which client authentication it demands.
    pub policy: PolicyDigest,
    /// How clients are named in `client`; `None` where none has to be.
    auth: Option<config::ClientAuth>,
    /// What rustls needs.
    pub config: Arc<ServerConfig>,
}

impl Entry {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.source.id
    }

    /// Whether a request for this path may come from a client without a certificate.
    pub fn lets_in(&self, path: &[u8]) -> bool {
        self.auth.as_ref().is_none_or(|auth| auth.skip_regexes.iter().any(|regex| regex.is_match(path)))
    }

    /// Whether a connection that was made for `self` may carry requests that `other` is for.
    pub fn covers(&self, other: &Entry) -> bool {
        std::ptr::eq(self, other) || (self.id() == other.id() && self.policy == other.policy)
    }
}

impl TlsPlan {
    /// The entry for a server name in lower case, or for a client that names none.
    pub fn entry(&self, name: Option<&str>) -> Option<&Arc<Entry>> {
        let found = name.and_then(|name| {
            let name = name.strip_suffix('.').unwrap_or(name);
            let parent = || self.wildcard.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(parent)
        });
        found.or(self.default.as_ref())
    }
}

/// Compiles `[[ssls]]`, sharing with `prev` what did not change. `None` when something is wrong; `report` says what.
pub fn compile(
    document: &Document,
    tickets: &Tickets,
    prev: Option<&Arc<TlsPlan>>,
    report: &mut Report,
) -> Option<Arc<TlsPlan>> {
    if let Some(prev) = prev.filter(|prev| prev.sources == document.ssls) {
        return Some(prev.clone());
    }
    let provider = super::provider();
    let mut plan = TlsPlan { sources: document.ssls.clone(), ..TlsPlan::default() };
    let mut good = true;
    for source in document.ssls.iter().filter(|source| source.enabled) {
        let known = prev.and_then(|prev| prev.entries.iter().find(|entry| entry.source == *source));
        let Some(entry) = known.cloned().or_else(|| entry(source, &provider, tickets, report).map(Arc::new))
        else {
            good = false;
            continue;
        };
        for sni in &source.snis {
            match sni.strip_prefix("*.") {
                Some(parent) => plan.wildcard.insert(parent.to_owned(), entry.clone()),
                None => plan.exact.insert(sni.clone(), entry.clone()),
            };
        }
        if source.snis.is_empty() {
            plan.default = Some(entry.clone());
        }
        plan.entries.push(entry);
    }
    good.then(|| Arc::new(plan))
}

fn entry(
    source: &Arc<Ssl>,
    provider: &Arc<CryptoProvider>,
    tickets: &Tickets,
    report: &mut Report,
) -> Option<Entry> {
    let keys: Vec<_> = source.pairs.iter().filter_map(|pair| pair_of(pair, provider, report)).collect();
    if keys.len() != source.pairs.len() {
        return None;
    }
    let (verifier, policy) = match &source.client {
        None => (None, PolicyDigest::default()),
        Some(auth) => (Some(client::verifier(auth, provider, report)?), client::digest(auth)),
    };
    let mut versions = Vec::new();
    if source.protocols.tls13 {
        versions.push(&version::TLS13);
    }
    if source.protocols.tls12 {
        versions.push(&version::TLS12);
    }
    let built = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions);
    let made = built.and_then(|builder| Ok((builder, tickets.of(&policy)?)));
    let (builder, ticketer) = match made {
        Ok(made) => made,
        Err(error) => {
            report.error(source.place, format!("TLS cannot be set up: {error}"), "");
            return None;
        }
    };
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Keys(keys)));
    config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    config.ticketer = ticketer;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Some(Entry { source: source.clone(), policy, auth: source.client.clone(), config: Arc::new(config) })
}

/// The certificates of an entry: the first whose key can sign what the client takes.
#[derive(Debug)]
struct Keys(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Keys {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        self.0.iter().find(|pair| pair.key.choose_scheme(schemes).is_some()).cloned()
    }
}

fn pair_of(pair: &Pair, provider: &CryptoProvider, report: &mut Report) -> Option<Arc<CertifiedKey>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pair.cert.as_bytes()).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let Some(chain) = chain.filter(|chain| X509Certificate::from_der(&chain[0]).is_ok()) else {
        let problem = Problem::error(pair.cert_place, "the certificate cannot be read");
        let problem = problem.label("no X.509 certificate in PEM form");
        report
            .push(problem.help("look at it with `openssl x509 -noout -text`; the server's own comes first"));
        return None;
    };
    let Ok(key) = PrivateKeyDer::from_pem_slice(pair.key.0.as_bytes()) else {
        let problem =
            Problem::error(pair.key_place, "the key cannot be read").label("no unencrypted private key");
        report.push(
            problem.help("a key with a passphrase has to be decrypted first: `openssl pkey -in key.pem`"),
        );
        return None;
    };
    let ends = X509Certificate::from_der(&chain[0]).ok().map(|(_, parsed)| parsed.validity().not_after);
    match CertifiedKey::from_der(chain, key, provider) {
        Ok(made) => {
            let ends = ends.map_or(i64::MAX, |ends| ends.timestamp());
            warn_of_end(pair, ends, report);
            Some(Arc::new(made))
        }
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let problem = Problem::error(pair.key_place, "the key does not belong to the certificate");
            let problem = problem.label("its public half is another one");
            report.push(problem.help("compare `openssl x509 -pubkey -noout` with `openssl pkey -pubout`"));
            None
        }
        Err(error) => {
            let problem = Problem::error(pair.key_place, "the certificate and key cannot be used");
            report.push(
                problem
                    .label(error.to_string())
                    .help("ECDSA P-256, P-384, Ed25519 and RSA keys from 2048 bits are taken"),
            );
            None
        }
    }
}

fn warn_of_end(pair: &Pair, ends: i64, report: &mut Report) {
    let now = (clock::wall_millis() / 1000) as i64;
    let left = ends.saturating_sub(now);
    if left > SOON_DAYS * 86_400 {
        return;
    }
    let mut date = [0; 29];
    proto::date::format_http(u64::try_from(ends).unwrap_or(0), &mut date);
    let date = String::from_utf8_lossy(&date).into_owned();
    let (what, label) = match left < 0 {
        true => (format!("the certificate has expired on {date}"), "clients refuse it"),
        false => (format!("the certificate expires on {date}"), "clients refuse it from then on"),
    };
    report.push(Problem::warning(pair.cert_place, what).label(label).help("renew it; the file is watched"));
}
