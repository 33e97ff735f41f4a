//! A long deterministic stream of bytes, verified by content and not only by length.
//!
//! The stream repeats a block of prime length: whatever size of buffer a proxy mixes up, repeats or drops, the bytes
//! that follow are wrong.

use std::sync::OnceLock;

const BLOCK: usize = 65_521;

fn block() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        // Twice, so that any BLOCK bytes from any start are one slice.
        let once: Vec<u8> = (0..BLOCK)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        [once.clone(), once].concat()
    })
}

/// At most [`BLOCK`] bytes of the stream from `offset`, as one slice.
pub fn piece(offset: u64, length: usize) -> &'static [u8] {
    let start = (offset % BLOCK as u64) as usize;
    &block()[start..start + length.min(BLOCK)]
}

/// The first `length` bytes of the stream.
pub fn bytes(length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length);
    while out.len() < length {
        out.extend_from_slice(piece(out.len() as u64, length - out.len()));
    }
    out
}

/// Compares what arrives with the stream, piece by piece.
#[derive(Default)]
pub struct Verifier {
    offset: u64,
}

impl Verifier {
    /// Takes the next bytes that arrived.
    ///
    /// # Panics
    ///
    /// At the first byte that differs, with its offset.
    pub fn push(&mut self, mut arrived: &[u8]) {
        while !arrived.is_empty() {
            let wanted = piece(self.offset, arrived.len());
            let (now, later) = arrived.split_at(wanted.len());
            if now != wanted {
                let wrong = now.iter().zip(wanted).position(|(a, b)| a != b).unwrap_or(0);
                panic!("byte {} of the stream is wrong", self.offset + wrong as u64);
            }
            self.offset += now.len() as u64;
            arrived = later;
        }
    }

    /// How many right bytes arrived.
    pub fn length(&self) -> u64 {
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_verifies_itself() {
        let stream = bytes(300_000);
        let mut verifier = Verifier::default();
        for part in stream.chunks(777) {
            verifier.push(part);
        }
        assert_eq!(verifier.length(), 300_000);
    }

    #[test]
    #[should_panic(expected = "byte 4096 of the stream is wrong")]
    fn a_dropped_buffer_is_seen() {
        let mut stream = bytes(300_000);
        stream.drain(4096..8192);
        Verifier::default().push(&stream);
    }
}
