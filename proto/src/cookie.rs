//! Cookies of a request, RFC 6265 section 4.2.
//!
//! Read where they lie, on demand: most requests are never asked for one.

use crate::head::{Head, Name};
use crate::syntax::trim;

/// The value of the first cookie with that name (its case matters), over all Cookie fields. As
/// sent, with quotes if there were any.
pub fn get<'a>(head: &'a Head, name: &[u8]) -> Option<&'a [u8]> {
    head.get_all(Name::Cookie).flat_map(pairs).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The pairs of one Cookie field, in order; what has no `=` is no cookie.
pub fn pairs(field: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    field.split(|&b| b == b';').filter_map(|pair| {
        let equals = memchr::memchr(b'=', pair)?;
        Some((trim(&pair[..equals]), trim(&pair[equals + 1..])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies() {
        fn check(fields: &[&str], name: &str, expected: Option<&str>) {
            let mut head = Head::new();
            for field in fields {
                head.append(b"Cookie", field.as_bytes());
            }
            assert_eq!(get(&head, name.as_bytes()), expected.map(str::as_bytes), "{fields:?} {name}");
        }
        check(&[], "a", None);
        check(&["a=1"], "a", Some("1"));
        check(&["a=1; b=2"], "b", Some("2"));
        check(&["a=1;b=2"], "b", Some("2"));
        check(&["a=1; b=2"], "B", None);
        check(&["a=1; a=2"], "a", Some("1"));
        check(&["a=1", "b=2"], "b", Some("2"));
        check(&["a=x=y"], "a", Some("x=y"));
        check(&["a=; b=2"], "a", Some(""));
        check(&["a; b=2"], "a", None);
        check(&["ab=1; b=2"], "b", Some("2"));
        check(&["a = \"q\" "], "a", Some("\"q\""));
        check(&[";;=;"], "a", None);
    }
}
