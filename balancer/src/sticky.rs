//! The cookie that names an endpoint, so that a client stays with it.
//!
//! Its value is a part of HMAC-SHA256 over the upstream's id and the endpoint's address: it tells a client
//! nothing about addresses, no client can make one for another endpoint, and it needs no state: every
//! gateway with the same key knows it, today's and the one after a restart. One value per endpoint, made when a plan
//! is compiled: a request looks it up.
//!
//! What a cookie names is the endpoint, not its number in a list: it outlives changes of all others.

use std::collections::HashMap;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Of the 32 bytes of an HMAC: 128 bits are not guessed.
const TOKEN_BYTES: usize = 16;
/// Tells this use of the key from others.
const PURPOSE: &[u8] = b"ringway sticky v1";

/// The cookie values of an upstream's endpoints.
#[derive(Debug, Default)]
pub struct Tokens {
    values: Vec<String>,
    indexes: HashMap<String, usize>,
}

impl Tokens {
    /// Those of the endpoints of these names. Of two of the same name the cookie means the first.
    pub fn new<'n>(key: &[u8; 32], upstream: &str, names: impl Iterator<Item = &'n str>) -> Tokens {
        let values: Vec<String> = names.map(|name| token(key, upstream, name)).collect();
        let mut indexes = HashMap::new();
        for (index, value) in values.iter().enumerate() {
            indexes.entry(value.clone()).or_insert(index);
        }
        Tokens { values, indexes }
    }

    /// The endpoint that a cookie names; `None` for one that is forged or outdated.
    pub fn endpoint(&self, cookie: &[u8]) -> Option<usize> {
        let cookie = std::str::from_utf8(cookie).ok()?;
        let index = *self.indexes.get(cookie)?;
        // The map compares as it likes, after a keyed hash; what lets a cookie in takes the same time for any.
        bool::from(self.values[index].as_bytes().ct_eq(cookie.as_bytes())).then_some(index)
    }

    /// The cookie value of an endpoint; empty for an upstream without sticky sessions.
    pub fn value(&self, index: usize) -> &str {
        self.values.get(index).map_or("", String::as_str)
    }
}

fn token(key: &[u8; 32], upstream: &str, name: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    // No text holds a byte 0xFF: the parts cannot be read as others.
    for part in [PURPOSE, upstream.as_bytes(), name.as_bytes()] {
        mac.update(part);
        mac.update(&[0xFF]);
    }
    URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..TOKEN_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies() {
        let names = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:80"];
        let tokens = Tokens::new(&[7; 32], "u", names.into_iter());
        assert_eq!(tokens.value(0).len(), 22);
        assert!(tokens.value(0).bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert_eq!(tokens.endpoint(tokens.value(1).as_bytes()), Some(1));
        assert_eq!(tokens.endpoint(tokens.value(2).as_bytes()), Some(0));
        let reordered = Tokens::new(&[7; 32], "u", ["10.0.0.3:80", "10.0.0.2:80"].into_iter());
        assert_eq!(reordered.endpoint(tokens.value(1).as_bytes()), Some(1));
        assert_eq!(reordered.endpoint(tokens.value(0).as_bytes()), None);
        for other in
            [Tokens::new(&[8; 32], "u", names.into_iter()), Tokens::new(&[7; 32], "v", names.into_iter())]
        {
            assert_eq!(other.endpoint(tokens.value(0).as_bytes()), None);
        }
        for forged in [&b""[..], b"10.0.0.1:80", b"\xFF\xFE", &tokens.value(0).as_bytes()[1..]] {
            assert_eq!(tokens.endpoint(forged), None);
        }
        assert_eq!(tokens.value(3), "");
        // Fixed: another value would end every session at an update.
        assert_eq!(tokens.value(1), "Lc1I8MAu1EIfhJoQBFQ04g");
    }
}
