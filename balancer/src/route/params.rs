//! What a URI pattern captured: `/user/:id` gives `id`.
//!
//! One `Params` serves one connection, request after request: it keeps its capacity, so that a
//! lookup does not allocate once warm. It copies names and values: borrowing them from the table
//! would tie every exchange to the table's lifetime, and counting a shared name up and down would
//! be a write to a cache line that all cores share. A route without parameters copies nothing.

use super::pattern::Segments;

/// Names and values captured by the matched route, and the scratch memory of the lookup.
#[derive(Default, Debug)]
pub struct Params {
    bytes: Vec<u8>,
    /// Each: where in `bytes` the name starts, the value starts, the value ends.
    items: Vec<[u32; 3]>,
    pub(crate) scratch: Scratch,
}

/// Memory that a lookup reuses.
#[derive(Default, Debug)]
pub(crate) struct Scratch {
    /// The host, reversed.
    pub(crate) host: Vec<u8>,
    /// The key of a pattern lookup.
    pub(crate) key: Vec<u8>,
    pub(crate) segments: Segments,
    /// Where the pieces of a pattern with stars are placed.
    pub(crate) places: Vec<u32>,
}

impl Params {
    /// Nothing captured, nothing allocated.
    pub fn new() -> Params {
        Params::default()
    }

    /// The value captured under `name`; of several with one name the last, as in APISIX. The value of
    /// an unnamed `*` stands under `:ext`, APISIX's name for it.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let bytes = name.as_bytes();
        self.iter().rev().find(|(name, _)| *name == bytes).map(|(_, value)| value)
    }

    /// All names and values, in the order of the pattern.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        self.items.iter().map(|&[name, value, end]| {
            (&self.bytes[name as usize..value as usize], &self.bytes[value as usize..end as usize])
        })
    }

    /// Whether nothing was captured.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Forgets what was captured; keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
    }

    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        let place = [start, start + name.len(), self.bytes.len()];
        self.items.push(place.map(|offset| u32::try_from(offset).unwrap_or(u32::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_of_equal_names() {
        let mut params = Params::new();
        assert!(params.is_empty() && params.get("id").is_none());
        params.push(b"id", b"1");
        params.push(b"rest", b"");
        params.push(b"id", b"2");
        assert_eq!(params.get("id"), Some(&b"2"[..]));
        assert_eq!(params.get("rest"), Some(&b""[..]));
        params.clear();
        assert!(params.get("id").is_none());
    }
}
