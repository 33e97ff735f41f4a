//! `grpc-message`, the text beside a status: UTF-8, then percent-encoded (`Status-Message` of
//! `PROTOCOL-HTTP2.md`).

use std::borrow::Cow;

use crate::syntax::{hex, percent};

/// Appends `text` as a value of `grpc-message`.
///
/// Visible ASCII and spaces stand for themselves but for `%`; so the result is a valid field
/// value. A space at either end is encoded too, which the text does not ask for: RFC 9113 section
/// 8.2.1 makes a field value with one malformed.
pub fn encode_message(text: &str, out: &mut Vec<u8>) {
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        let edge = byte == b' ' && (at == 0 || at == last);
        if matches!(byte, b' '..=b'~') && byte != b'%' && !edge {
            out.push(byte);
        } else {
            out.extend_from_slice(&percent(byte));
        }
    }
}

/// The text of a `grpc-message`. An escape that is none stands for itself, and what is no UTF-8 is
/// replaced: the text says that no message may be thrown away.
pub fn decode_message(value: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(b'%', value).is_none() {
        return String::from_utf8_lossy(value);
    }
    let mut text = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let digits = match (byte, behind) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match digits {
            Some((high, low)) => {
                text.push(high << 4 | low);
                rest = &behind[2..];
            }
            None => text.push(byte),
        }
    }
    match String::from_utf8(text) {
        Ok(text) => Cow::Owned(text),
        Err(error) => Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::valid_field_value;
    use crate::seeded::Random;

    #[test]
    fn messages() {
        fn check(text: &str, encoded: &str) {
            let mut out = Vec::new();
            encode_message(text, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), encoded);
            assert_eq!(decode_message(&out), text);
        }
        check("", "");
        check("no route", "no route");
        check("100%", "100%25");
        check("a\r\nb", "a%0D%0Ab");
        check("~\u{7f}\0", "~%7F%00");
        check("Zürich", "Z%C3%BCrich");
        check(" a ", "%20a%20");
        check(" ", "%20");
        check("\ta", "%09a");
    }

    #[test]
    fn what_others_write() {
        fn check(value: &str, expected: &str) {
            assert_eq!(decode_message(value.as_bytes()), expected, "{value}");
        }
        check("%c3%bc", "ü");
        check("%", "%");
        check("%2", "%2");
        check("%2g%25", "%2g%");
        check("%%41", "%A");
        check("a%ffb", "a\u{fffd}b");
        assert_eq!(decode_message(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn any_text_comes_back_as_a_field_value() {
        for seed in 0..2_000 {
            let text = String::from_utf8_lossy(&Random::new(seed).bytes(60)).into_owned();
            let mut out = Vec::new();
            encode_message(&text, &mut out);
            assert!(valid_field_value(&out), "seed {seed}");
            assert_eq!(decode_message(&out), text, "seed {seed}");
        }
    }
}
