//! CRC-32C (Castagnoli), RFC 3720 section B.4 and RFC 4960 appendix B.
//!
//! Ten lines and a table that the compiler makes, instead of a crate: the one user is the checksum
//! of a PROXY header, a few hundred bytes per connection, where the processor's own instruction
//! would gain nothing and need `unsafe`.

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

/// The checksum of the parts as if they were one.
pub(crate) fn crc32c(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    !bytes.fold(!0, |crc, &byte| crc >> 8 ^ TABLE[((crc ^ u32::from(byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        fn check(bytes: &[u8], expected: u32) {
            assert_eq!(crc32c(&[bytes]), expected, "{}", bytes.escape_ascii());
            for cut in 0..=bytes.len() {
                assert_eq!(crc32c(&[&bytes[..cut], &bytes[cut..]]), expected, "cut at {cut}");
            }
        }
        check(b"", 0);
        check(b"123456789", 0xe306_9283);
        // RFC 3720 section B.4, there as bytes in the order of transmission.
        check(&[0; 32], 0x8a91_36aa);
        check(&[0xff; 32], 0x62a8_ab43);
        check(&std::array::from_fn::<u8, 32, _>(|at| at as u8), 0x46dd_794e);
    }
}
