//! `request-id`: gives every request an id that upstream, client and log share.
//!
//! A request that brings an id keeps it, as in APISIX; but what a client sends ends
//! up in logs and answers, so an id that is empty, longer than [`ID_BYTES_MAX`] or
//! holds anything but visible ASCII is replaced by a new one.
//!
//! Ids are written into an array on the stack: this runs for every request.

use std::sync::Arc;

use config::{Reader, Report};
use proto::head::{valid_field_name, Head, Name};
use serde_json::json;

use crate::{settings, Exchange, Phases, Plugin, PluginInfo, Resume, Setup, Verdict};

/// The longest id that is accepted or made.
pub const ID_BYTES_MAX: usize = 128;

pub(crate) const INFO: PluginInfo = PluginInfo {
    name: "request-id",
    priority: 12015,
    phases: Phases::REWRITE.and(Phases::RESPONSE),
    schema,
    doc: r#"
[[routes]]
upstream = "127.0.0.1:3000"

[routes.plugins.request-id]
header_name = "X-Request-Id"
include_in_response = true
algorithm = "uuid"          # "uuid" | "nanoid" | "range_id" | "ksuid"
"#,
    build,
};

/// APISIX's default set, its second `G` in the place of a `J` included.
const CHAR_SET: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIGKLMNOPQRSTUVWXYZ0123456789";

/// `range_id.char_set` at most; more characters than a byte tells apart say nothing.
const CHAR_SET_BYTES_MAX: usize = 256;

struct RequestId {
    name: String,
    known: Name,
    in_response: bool,
    algorithm: Algorithm,
}

/// How a new id is made.
#[derive(Debug, PartialEq, Eq)]
enum Algorithm {
    /// RFC 9562 version 4, lower case.
    Uuid,
    /// 21 characters of a URL-safe alphabet, 126 random bits.
    Nanoid,
    /// `length` characters of `char_set`.
    RangeId { char_set: Vec<u8>, length: usize },
    /// 27 characters: seconds, then 128 random bits; sorts by time.
    Ksuid,
}

impl Plugin for RequestId {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn phases(&self) -> Phases {
        if self.in_response {
            INFO.phases
        } else {
            Phases::REWRITE
        }
    }

    fn on_rewrite(&self, x: &mut dyn Exchange, _resume: Resume) -> Verdict {
        let mut id = Id::new();
        if !id.copy(self.field(x.request())) {
            self.algorithm.make(x, &mut id);
            x.request_mut().set(self.name.as_bytes(), id.as_bytes());
        }
        x.set_request_id(id.as_str());
        Verdict::Next
    }

    fn on_response(&self, x: &mut dyn Exchange, _resume: Resume) -> Verdict {
        if self.field(x.response()).is_none_or(<[u8]>::is_empty) {
            // From the request's field, not from the exchange's id: two instances
            // with names of their own each send back what they passed on.
            let mut id = Id::new();
            if id.copy(self.field(x.request())) || id.copy(x.request_id().map(str::as_bytes)) {
                x.response_mut().set(self.name.as_bytes(), id.as_bytes());
            }
        }
        Verdict::Next
    }
}

impl RequestId {
    fn field<'h>(&self, head: &'h Head) -> Option<&'h [u8]> {
        match self.known {
            Name::Other => head.get_named(self.name.as_bytes()),
            known => head.get(known),
        }
    }
}

/// An id on the stack, filled in place: it is larger than what is worth moving.
struct Id {
    bytes: [u8; ID_BYTES_MAX],
    length: usize,
}

impl Id {
    fn new() -> Id {
        Id { bytes: [0; ID_BYTES_MAX], length: 0 }
    }

    /// Takes `value` if it is an id that may be passed on.
    fn copy(&mut self, value: Option<&[u8]>) -> bool {
        let value = value.unwrap_or_default();
        if value.is_empty() || value.len() > ID_BYTES_MAX {
            return false;
        }
        // Without an early end, so that it compiles to a few vector steps.
        let visible = value.iter().fold(true, |visible, byte| visible & byte.is_ascii_graphic());
        if visible {
            self.room(value.len()).copy_from_slice(value);
        }
        visible
    }

    /// The first `length` bytes, to be filled.
    fn room(&mut self, length: usize) -> &mut [u8] {
        self.length = length;
        &mut self.bytes[..length]
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("an id is ASCII, checked where it is made")
    }
}

impl Algorithm {
    fn make(&self, x: &mut dyn Exchange, id: &mut Id) {
        match self {
            Algorithm::Uuid => uuid(x.random(), x.random(), id),
            Algorithm::Nanoid => nanoid(x.random(), x.random(), id),
            Algorithm::RangeId { char_set, length } => range_id(char_set, || x.random(), id.room(*length)),
            Algorithm::Ksuid => ksuid(x.now_millis() / 1000, x.random(), x.random(), id),
        }
    }
}

fn uuid(high: u64, low: u64, id: &mut Id) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    // Version 4 and variant 10 in their places (RFC 9562 sections 4.1, 4.2 and 5.4).
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0b11 << 62) | 0b10 << 62;
    let bits = u128::from(high) << 64 | u128::from(low);
    let out = id.room(36);
    let mut at = 0;
    for (index, byte) in bits.to_be_bytes().into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out[at] = b'-';
            at += 1;
        }
        out[at] = HEX[usize::from(byte >> 4)];
        out[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
}

fn nanoid(high: u64, low: u64, id: &mut Id) {
    const ALPHABET: &[u8; 64] = b"useandom-26T198340PX75pxJACKVERYMINDBUSHWOLF_GQZbfghjklqvwyzrict";
    let mut bits = u128::from(high) << 64 | u128::from(low);
    for byte in id.room(21) {
        *byte = ALPHABET[bits as usize & 63];
        bits >>= 6;
    }
}

fn range_id(char_set: &[u8], mut random: impl FnMut() -> u64, out: &mut [u8]) {
    for pair in out.chunks_mut(2) {
        let mut bits = random();
        for byte in pair {
            // 32 bits scaled to the set's size; the bias is below 2^-24.
            *byte = char_set[((u64::from(bits as u32) * char_set.len() as u64) >> 32) as usize];
            bits >>= 32;
        }
    }
}

/// segmentio's format: seconds since 2014-05-13 and 128 bits, in base 62.
fn ksuid(unix_seconds: u64, high: u64, low: u64, id: &mut Id) {
    const EPOCH_SECONDS: u64 = 1_400_000_000;
    const DIGITS_5: u64 = 62_u64.pow(5);
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let seconds = unix_seconds.saturating_sub(EPOCH_SECONDS) as u32;
    let mut words = [seconds, (high >> 32) as u32, high as u32, (low >> 32) as u32, low as u32];
    // Five digits at a time: a division of the whole costs five divisions of words.
    for digits in id.room(27).rchunks_mut(5) {
        let mut rest = 0_u64;
        for word in &mut words {
            let value = rest << 32 | u64::from(*word);
            *word = (value / DIGITS_5) as u32;
            rest = value % DIGITS_5;
        }
        for byte in digits.iter_mut().rev() {
            *byte = ALPHABET[(rest % 62) as usize];
            rest /= 62;
        }
    }
}

fn build(setup: &Setup<'_>, report: &mut Report) -> Option<Arc<dyn Plugin>> {
    settings::read(setup, report, |reader| {
        let name = reader.opt_str("header_name").unwrap_or("X-Request-Id").to_owned();
        if !valid_field_name(name.as_bytes()) {
            settings::problem(
                reader,
                "header_name",
                &format!("`{name}` is no field name"),
                "write header_name = \"X-Request-Id\"",
            );
        }
        let in_response = reader.opt_bool("include_in_response").unwrap_or(true);
        let range = settings::table(reader, "range_id", read_range).unwrap_or_else(default_range);
        let words = [("uuid", "uuid"), ("nanoid", "nanoid"), ("range_id", "range_id"), ("ksuid", "ksuid")];
        let algorithm = match reader.one_of("algorithm", &words) {
            Some("nanoid") => Algorithm::Nanoid,
            Some("ksuid") => Algorithm::Ksuid,
            Some("range_id") => range,
            _ => Algorithm::Uuid,
        };
        let known = Name::from_bytes(name.as_bytes());
        Some(RequestId { name, known, in_response, algorithm })
    })
}

fn read_range(reader: &mut Reader<'_, '_>) -> Option<Algorithm> {
    let length = reader.range("length", 6..=ID_BYTES_MAX as i64).unwrap_or(16) as usize;
    let char_set = reader.opt_str("char_set").unwrap_or(CHAR_SET).as_bytes().to_vec();
    let sized = (6..=CHAR_SET_BYTES_MAX).contains(&char_set.len());
    if !sized || !char_set.iter().all(u8::is_ascii_graphic) {
        let what = format!("a character set is 6 to {CHAR_SET_BYTES_MAX} visible ASCII characters");
        settings::problem(
            reader,
            "char_set",
            &what,
            "write char_set = \"abcdef0123456789\", or leave it out",
        );
    }
    Some(Algorithm::RangeId { char_set, length })
}

fn default_range() -> Algorithm {
    Algorithm::RangeId { char_set: CHAR_SET.as_bytes().to_vec(), length: 16 }
}

fn schema() -> serde_json::Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "header_name": { "type": "string", "default": "X-Request-Id", "minLength": 1 },
            "include_in_response": { "type": "boolean", "default": true },
            "algorithm": {
                "type": "string",
                "enum": ["uuid", "nanoid", "range_id", "ksuid"],
                "default": "uuid"
            },
            "range_id": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "length": { "type": "integer", "minimum": 6, "maximum": ID_BYTES_MAX, "default": 16 },
                    "char_set": { "type": "string", "minLength": 6, "maxLength": CHAR_SET_BYTES_MAX, "default": CHAR_SET }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{build, FakeExchange};

    /// `pattern` is the id: `x` a lower-case hexadecimal digit, `w` a letter or digit,
    /// anything else itself.
    fn check(settings: serde_json::Value, request: &str, pattern: &str) {
        let plugin = build("request-id", settings).expect("settings hold");
        let mut x = FakeExchange::new(request);
        x.ask(&*plugin);
        let id = x.request_id().expect("an id").to_owned();
        let fits = |(byte, want): (u8, u8)| match want {
            b'x' => byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase(),
            b'w' => byte.is_ascii_alphanumeric() || b"-_".contains(&byte),
            _ => byte == want,
        };
        assert_eq!(id.len(), pattern.len(), "{id}");
        assert!(id.bytes().zip(pattern.bytes()).all(fits), "{id} is no {pattern}");
        assert!(x.request_text().ends_with(&format!(": {id}")), "{}", x.request_text());

        x.respond("200");
        if plugin.phases().has(Phases::RESPONSE) {
            plugin.on_response(&mut x, Resume::Start);
            assert_eq!(last_field(&x.response), last_field(&x.request));
        }
    }

    /// The last field of a head: its name in lower case, and its value.
    fn last_field(head: &Head) -> (String, String) {
        let field = head.fields().last().expect("the id's field");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (text(field.name).to_ascii_lowercase(), text(field.value))
    }

    #[test]
    fn makes_ids() {
        check(json!({}), "GET /", "xxxxxxxx-xxxx-4xxx-xxxx-xxxxxxxxxxxx");
        check(json!({"algorithm": "nanoid"}), "GET /", "wwwwwwwwwwwwwwwwwwwww");
        check(json!({"algorithm": "range_id"}), "GET /", "wwwwwwwwwwwwwwww");
        check(
            json!({"algorithm": "range_id", "range_id": {"length": 7, "char_set": "aaaaaa"}}),
            "GET /",
            "aaaaaaa",
        );
        check(json!({"algorithm": "ksuid"}), "GET /", "2wwwwwwwwwwwwwwwwwwwwwwwwww");
        check(
            json!({"header_name": "X-Trace"}),
            "GET / | X-Request-Id: mine",
            "xxxxxxxx-xxxx-4xxx-xxxx-xxxxxxxxxxxx",
        );
        check(json!({"include_in_response": false}), "GET /", "xxxxxxxx-xxxx-4xxx-xxxx-xxxxxxxxxxxx");
    }

    #[test]
    fn keeps_an_id_that_may_be_passed_on() {
        check(json!({}), "GET / | x-request-id: mine", "mine");
        check(json!({"header_name": "X-Trace"}), "GET / | X-TRACE: a/b+c=", "a/b+c=");
        let fresh = "xxxxxxxx-xxxx-4xxx-xxxx-xxxxxxxxxxxx";
        check(json!({}), "GET / | X-Request-Id: ", fresh);
        check(json!({}), "GET / | X-Request-Id: two words", fresh);
        check(json!({}), "GET / | X-Request-Id: \u{e4}", fresh);
        let longest = "1".repeat(ID_BYTES_MAX);
        check(json!({}), &format!("GET / | X-Request-Id: {longest}"), &longest);
        check(json!({}), &format!("GET / | X-Request-Id: {longest}1"), fresh);
    }

    #[test]
    fn the_upstreams_own_field_stays() {
        let plugin = build("request-id", json!({})).expect("settings hold");
        let mut x = FakeExchange::new("GET / | X-Request-Id: mine");
        x.ask(&*plugin);
        x.respond("200 | X-Request-Id: theirs");
        plugin.on_response(&mut x, Resume::Start);
        assert_eq!(x.response_text(b""), "200 | X-Request-Id: theirs || ");
    }

    #[test]
    fn ids_are_those_of_their_specifications() {
        let text = |fill: &dyn Fn(&mut Id)| {
            let mut id = Id::new();
            fill(&mut id);
            id.as_str().to_owned()
        };
        let check = |bits, want: &str| assert_eq!(text(&|id| uuid(bits, bits, id)), want);
        check(u64::MAX, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        check(0, "00000000-0000-4000-8000-000000000000");
        check(0x0123_4567_89ab_cdef, "01234567-89ab-4def-8123-456789abcdef");
        let check =
            |seconds, high, low, want: &str| assert_eq!(text(&|id| ksuid(seconds, high, low, id)), want);
        // segmentio/ksuid's README: timestamp 107608047 and this payload.
        let (high, low) = (0xB5A1_CD34_B5F9_9D11, 0x54FB_6853_345C_9735);
        check(1_400_000_000 + 107_608_047, high, low, "0ujtsYcgvSTl8PAuAdqWYSMnLOv");
        check(0, 0, 0, "000000000000000000000000000");
        let all = "aWgEPTl1tmebfsQzFP4bxwgy80V"; // the largest KSUID
        check(1_400_000_000 + u64::from(u32::MAX), u64::MAX, u64::MAX, all);
    }

    #[test]
    fn random_characters_reach_the_whole_set() {
        let mut x = FakeExchange::new("GET /");
        let mut seen = std::collections::BTreeSet::new();
        let mut out = [0; 101];
        for _ in 0..100 {
            range_id(b"abcdefghij", || x.random(), &mut out);
            seen.extend(out);
        }
        assert_eq!(seen, b"abcdefghij".iter().copied().collect());
    }

    #[test]
    fn refuses() {
        let check =
            |settings, want: &str| assert_eq!(build("request-id", settings).err().as_deref(), Some(want));
        check(
            json!({"header_name": "X Id"}),
            "`X Id` is no field name (write header_name = \"X-Request-Id\")",
        );
        check(json!({"algorithm": "uid"}), "unknown algorithm `uid` (did you mean `uuid`?)");
        check(
            json!({"range_id": {"length": 5}}),
            "`length` is out of range: 5 (write a whole number from 6 to 128)",
        );
        check(
            json!({"range_id": {"length": 129}}),
            "`length` is out of range: 129 (write a whole number from 6 to 128)",
        );
        let set = "a character set is 6 to 256 visible ASCII characters (write char_set = \"abcdef0123456789\", or leave it out)";
        check(json!({"range_id": {"char_set": "abc"}}), set);
        check(json!({"range_id": {"char_set": "abcdef g"}}), set);
        check(
            json!({"header_nam": 1, "include_in_response": "yes"}),
            "expected a boolean, found a string (write `true` or `false`, without quotes); \
             unknown field `header_nam` (did you mean `header_name`?)",
        );
    }
}
