//! Clients that show certificates: verified by webpki, named for variables.

use std::fmt::Write as _;
use std::sync::Arc;

use config::{ClientAuth, Problem, Report};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use super::PolicyDigest;

/// Who a client is.
pub struct Client {
    /// Its distinguished name as RFC 4514 writes it: `CN=me,O=us`.
    pub subject: String,
    /// That of who signed it.
    pub issuer: String,
    /// The serial number in upper case hexadecimal.
    pub serial: String,
    /// The SHA-256 of the certificate in lower case hexadecimal.
    pub fingerprint: String,
}

impl Client {
    /// What a certificate says; `None` for one that cannot be read, which none is that was verified.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Client> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
        };
        Some(Client {
            subject: name(parsed.subject()),
            issuer: name(parsed.issuer()),
            serial: hex(parsed.raw_serial()).to_ascii_uppercase(),
            fingerprint: hex(&Sha256::digest(certificate)),
        })
    }
}

/// A distinguished name as RFC 4514 section 2 writes it: the last part first.
fn name(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for part in parts.into_iter().rev() {
        for (index, attribute) in part.iter().enumerate() {
            if !text.is_empty() {
                text.push(if index == 0 { ',' } else { '+' });
            }
            let oid = attribute.attr_type().to_id_string();
            let short = SHORT.iter().find(|(long, _)| *long == oid).map_or(oid.as_str(), |(_, short)| *short);
            text.push_str(short);
            text.push('=');
            escape(attribute.as_str().unwrap_or_default(), &mut text);
        }
    }
    text
}

/// The short names of RFC 4514 section 3.
const SHORT: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// What a value may not hold as it is: RFC 4514 section 2.4. Control characters too: it may end up in a header field.
fn escape(value: &str, text: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (index, letter) in value.chars().enumerate() {
        let edge = (index == 0 && matches!(letter, ' ' | '#')) || (index == last && letter == ' ');
        match letter {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', letter]),
            _ if edge => text.extend(['\\', letter]),
            _ if letter.is_ascii_control() => {
                let _ = write!(text, "\\{:02x}", u32::from(letter));
            }
            _ => text.push(letter),
        }
    }
}

/// What tells one policy from another; never that of none at all.
pub fn digest(auth: &ClientAuth) -> PolicyDigest {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    part(&auth.ca);
    part(&auth.depth.to_string());
    auth.skip.iter().for_each(|text| part(text));
    hash.finalize().into()
}

/// Compiles `client`. `None` when something is wrong; `report` says what.
pub fn verifier(
    auth: &ClientAuth,
    provider: &Arc<CryptoProvider>,
    report: &mut Report,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    let read: Option<Vec<()>> = CertificateDer::pem_slice_iter(auth.ca.as_bytes())
        .map(|found| found.ok().and_then(|found| roots.add(found).ok()))
        .collect();
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = match auth.skip.is_empty() {
        true => builder,
        false => builder.allow_unauthenticated(),
    };
    match builder.build() {
        Ok(inner) if read.is_some() => Some(Arc::new(Bounded { inner, depth: auth.depth })),
        _ => {
            let help = "look at it with `openssl x509 -noout -text`";
            let problem = Problem::error(auth.ca_place, "`ca` cannot be read");
            report.push(problem.label("no X.509 certificates").help(help));
            None
        }
    }
}

/// webpki's verifier, and a bound on the chain, which webpki has not.
#[derive(Debug)]
struct Bounded {
    inner: Arc<dyn ClientCertVerifier>,
    depth: usize,
}

impl ClientCertVerifier for Bounded {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // Some clients send the authority itself along: it is no link of the chain.
        let is_link = |certificate: &&CertificateDer<'_>| {
            X509Certificate::from_der(certificate).is_ok_and(|(_, it)| it.subject() != it.issuer())
        };
        if intermediates.iter().filter(is_link).count() > self.depth {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        self.inner.verify_client_cert(own, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_names() {
        let check = |value: &str, expected: &str| {
            let mut text = String::new();
            escape(value, &mut text);
            assert_eq!(text, expected);
        };
        check("plain", "plain");
        check("a,b=c", "a\\,b=c");
        check(" x ", "\\ x\\ ");
        check("#1", "\\#1");
        check("a\r\nX: y", "a\\0d\\0aX: y");
    }
}
