//! Addresses as text, kept from request to request: on a connection they stay
//! the same, and formatting one costs as much as parsing a small head.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

/// The two texts that every forwarded request needs.
#[derive(Default)]
pub struct AddressTexts {
    /// The client's, after trusted proxies were believed.
    pub client: AddressText,
    /// The other end's of the connection.
    pub peer: AddressText,
}

/// The text of the address that was asked for last.
pub struct AddressText {
    address: IpAddr,
    text: String,
}

impl Default for AddressText {
    fn default() -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), text: String::new() }
    }
}

impl AddressText {
    /// The text of `address`.
    pub fn of(&mut self, address: IpAddr) -> &str {
        if self.text.is_empty() || self.address != address {
            self.address = address;
            self.text.clear();
            // Writing into a String cannot fail.
            let _ = write!(self.text, "{address}");
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_follows_the_address() {
        let mut text = AddressText::default();
        for address in ["0.0.0.0", "127.0.0.1", "127.0.0.1", "2001:db8::1", "10.0.0.1"] {
            assert_eq!(text.of(address.parse().expect("an address")), address);
        }
    }
}
