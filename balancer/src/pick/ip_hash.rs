//! `ip_hash`: the ring of [`super::chash`], with the client's address as the key.
//!
//! nginx hashes the first three bytes of an IPv4 address, which sends a whole office to one node; here
//! the whole address counts, and a failed node's clients alone move. Whoever asks hands the address in as text.

pub use super::chash::Ring;
