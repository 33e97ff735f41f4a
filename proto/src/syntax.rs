//! Character classes of RFC 9110 section 5.6 and the scans over them.
//!
//! A name is scanned through a table, since names are short. Values and targets are scanned eight
//! bytes at a time in plain integer arithmetic: one pass both finds the end and refuses control
//! bytes, where `memchr` for the line end would need a second pass for them.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// `tchar` of RFC 9110 section 5.6.2.
pub(crate) const TCHAR: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

/// Whether `byte` may stand inside a field value or a reason phrase: VCHAR, SP, HTAB, obs-text.
#[inline]
pub(crate) const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether `byte` may stand in a request target on the wire: visible ASCII.
#[inline]
pub(crate) const fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f
}

/// Index of the first byte from `at` on that is no `tchar`, or the length.
#[inline]
pub(crate) fn token_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|&b| !TCHAR[b as usize]).unwrap_or(rest.len())
}

/// Index of the first byte from `at` on that may not stand in a field value, or the length.
#[inline]
pub(crate) fn value_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            let hits = control_bytes(u64::from_le_bytes(*eight));
            if hits != 0 {
                at += first_hit(hits);
                break;
            }
            at += 8;
        }
        match bytes.get(at) {
            Some(&byte) if is_value_byte(byte) => at += 1,
            Some(_) => return at,
            None => return bytes.len(),
        }
    }
}

/// Index of the first byte from `at` on that may not stand in a request target, or the length.
#[inline]
pub(crate) fn target_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*eight);
        let hits = less_than(word, 0x21) | equal(word, 0x7f) | (word & HIGHS);
        if hits != 0 {
            return at + first_hit(hits);
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|&b| !is_target_byte(b)).unwrap_or(rest.len())
}

/// Takes SP and HTAB off both ends.
#[inline]
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The elements of a comma list, trimmed, the empty ones left out (RFC 9110 section 5.6.1).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim).filter(|element| !element.is_empty())
}

/// The value of one hexadecimal digit.
#[inline]
pub(crate) const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// `%XX` for one byte, in upper case as RFC 3986 section 2.1 wants it.
#[inline]
pub(crate) const fn percent(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [b'%', DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]
}

// The marks below are exact for the lowest marked byte, which is the only one asked for: a borrow
// can spoil only bytes above a true hit.

#[inline]
const fn less_than(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(ONES * bound as u64) & !word & HIGHS
}

#[inline]
const fn equal(word: u64, byte: u8) -> u64 {
    let difference = word ^ (ONES * byte as u64);
    difference.wrapping_sub(ONES) & !difference & HIGHS
}

#[inline]
const fn control_bytes(word: u64) -> u64 {
    less_than(word, 0x20) | equal(word, 0x7f)
}

#[inline]
const fn first_hit(hits: u64) -> usize {
    (hits.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte value at every distance from the start and from the end of the slice, against
    /// the byte-wise definition.
    fn check(scan: fn(&[u8], usize) -> usize, allowed: fn(u8) -> bool, filler: u8) {
        for length in 0..40 {
            for place in 0..length {
                for byte in 0..=255u8 {
                    let mut bytes = vec![filler; length];
                    bytes[place] = byte;
                    for start in [0, 1, 7] {
                        let start = start.min(length);
                        let expected = (start..length).find(|&i| !allowed(bytes[i])).unwrap_or(length);
                        assert_eq!(scan(&bytes, start), expected, "{byte:#x} at {place} of {length}");
                    }
                }
            }
        }
    }

    #[test]
    fn scans_agree_with_their_definition() {
        check(value_end, is_value_byte, b'v');
        check(value_end, is_value_byte, b'\t');
        check(value_end, is_value_byte, 0xff);
        check(target_end, is_target_byte, b'~');
        check(token_end, |b| TCHAR[b as usize], b'-');
    }

    #[test]
    fn two_bad_bytes_find_the_first() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let bytes = [b'a', first, second, b'a', b'a', b'a', b'a', b'a', b'a'];
                let value = bytes.iter().position(|&b| !is_value_byte(b)).unwrap_or(9);
                let target = bytes.iter().position(|&b| !is_target_byte(b)).unwrap_or(9);
                assert_eq!(value_end(&bytes, 0), value, "{first:#x} {second:#x}");
                assert_eq!(target_end(&bytes, 0), target, "{first:#x} {second:#x}");
            }
        }
    }

    #[test]
    fn lists() {
        fn check(value: &str, expected: &[&str]) {
            let got: Vec<_> = list(value.as_bytes()).map(|e| String::from_utf8_lossy(e)).collect();
            assert_eq!(got, expected, "{value:?}");
        }
        check("", &[]);
        check(" , ,", &[]);
        check("a", &["a"]);
        check(" a ,\tb\t,, c d ", &["a", "b", "c d"]);
    }
}
