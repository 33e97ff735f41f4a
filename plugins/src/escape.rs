//! Percent-encoding of what plugins put into targets and `Location`.
//!
//! A value such as `$arg_name` arrives decoded; written into a request line as it
//! is, a space would end the target and CR LF the line. So every value is encoded
//! for the place where it stands, while text that the operator wrote keeps its own
//! escapes (APISIX encodes `%` there once more, so that a written `%20` arrives as
//! `%2520`; that is no behaviour anyone wants).

/// Where a value is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Into a path: `?`, `#` and `%` are data there.
    Path,
    /// Into a query, as one name or value: `&`, `=`, `+` are data as well.
    Query,
    /// Into anything, with its escapes and separators: only bytes that no URI may hold change.
    Whole,
}

/// Appends `value` to `out`, encoded for `part` (RFC 3986 sections 2.1, 3.3 and 3.4).
pub(crate) fn encode(value: &[u8], part: Part, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.reserve(value.len());
    for &byte in value {
        if stands(byte, part) {
            out.push(byte);
        } else {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.extend_from_slice(&[b'%', digits[0], digits[1]]);
        }
    }
}

/// Whether the text of a written URI may hold this: no space, no `#`, ASCII; braces name variables.
pub(crate) fn is_uri_text(letter: char) -> bool {
    letter.is_ascii_graphic() && !"#\"<>\\^`|".contains(letter)
}

fn stands(byte: u8, part: Part) -> bool {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => true,
        b'/' | b':' | b'@' | b'!' | b'$' | b'\'' | b'(' | b')' | b'*' | b',' | b';' => true,
        b'&' | b'=' | b'+' => part != Part::Query,
        b'?' | b'#' | b'%' | b'[' | b']' => part == Part::Whole,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(part: Part, value: &[u8], want: &str) {
        let mut out = Vec::new();
        encode(value, part, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), want);
    }

    #[test]
    fn encodes_for_the_place() {
        check(Part::Path, b"/a b?c#d%e&f=g+h", "/a%20b%3Fc%23d%25e&f=g+h");
        check(Part::Query, b"a b?c#d%e&f=g+h/", "a%20b%3Fc%23d%25e%26f%3Dg%2Bh/");
        check(Part::Whole, b"/a b?c=d%20e#f\r\nX: y\xC3\xA4", "/a%20b?c=d%20e#f%0D%0AX:%20y%C3%A4");
        check(Part::Path, b"\0\x7f\"<>\\^`{|}", "%00%7F%22%3C%3E%5C%5E%60%7B%7C%7D");
    }
}
