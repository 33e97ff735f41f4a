//! TLS: `certs` chooses certificates by server name, `accept` shakes hands with clients, `connect` with endpoints, `stream` moves records.
//!
//! rustls does the protocol and the cryptography comes from aws-lc-rs, which builds here with a C compiler alone, or
//! from ring, where the feature `aws-lc` is off. Everything that a handshake needs is compiled into the plan and
//! shared by all cores; session tickets are made with keys that outlive plans ([`Tickets`]), so that a session begun
//! on one core resumes on any, before and after a reload.

pub mod accept;
mod anyone;
pub mod certs;
mod client;
pub mod connect;
mod stream;

pub use anyone::Anyone;
pub use certs::{Entry, TlsPlan};
pub use client::Client;
pub use connect::{EndpointTls, UpstreamTls};
pub use stream::TlsStream;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::server::ProducesTickets;
use rustls::{CipherSuite, ProtocolVersion};

/// Kinds of client authentication for which ticket keys are kept; past that all are made anew.
const TICKETERS_MAX: usize = 1024;

/// What a digest of a client authentication policy is.
pub type PolicyDigest = [u8; 32];

/// The cryptography that this build has.
pub fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc")]
    return Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(not(feature = "aws-lc"))]
    return Arc::new(rustls::crypto::ring::default_provider());
}

fn new_ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    #[cfg(feature = "aws-lc")]
    return rustls::crypto::aws_lc_rs::Ticketer::new();
    #[cfg(not(feature = "aws-lc"))]
    return rustls::crypto::ring::Ticketer::new();
}

/// The keys of session tickets, for the process's life; they rotate by themselves.
///
/// One set per policy of client authentication: a resumed session brings the client's certificate along in its
/// ticket, unchecked, so a ticket that was made under another policy must not be readable.
#[derive(Clone, Default)]
pub struct Tickets {
    made: Arc<Mutex<Made>>,
}

#[derive(Default)]
struct Made {
    by_policy: HashMap<PolicyDigest, Arc<dyn ProducesTickets>>,
}

impl Tickets {
    /// The keys for a policy.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub fn of(&self, policy: &PolicyDigest) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.by_policy.get(policy) {
            return Ok(known.clone());
        }
        if made.by_policy.len() >= TICKETERS_MAX {
            made.by_policy.clear();
        }
        let ticketer = new_ticketer()?;
        made.by_policy.insert(*policy, ticketer.clone());
        Ok(ticketer)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets(..)")
    }
}

/// What a handshake has agreed upon.
pub struct Session {
    /// `TLSv1.3`
    pub version: &'static str,
    /// `TLS_AES_128_GCM_SHA256`
    pub cipher: &'static str,
    /// The name that the client asked for, lower case.
    pub name: Option<Box<str>>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// Who the client is, by the certificate that it showed.
    pub client: Option<Box<Client>>,
    /// Whose certificate was shown; `None` toward an upstream.
    pub entry: Option<Arc<Entry>>,
}

fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        _ => "",
    }
}

/// IANA's name; rustls puts a 13 into those of TLS 1.3.
fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or(""),
    }
}
