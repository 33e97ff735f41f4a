//! Known field names as small numbers.
//!
//! A head asks for the same thirty names on every request. Numbered, each question is a bit test
//! or an integer comparison instead of a string comparison without case. The lookup is a perfect
//! hash over the length and three letters, found by the compiler: adding a name is one line.

macro_rules! names {
    ($($variant:ident = $text:literal,)*) => {
        /// A known field name; `Other` is every name without a number.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        #[allow(missing_docs)] // each is the name that it says
        pub enum Name { Other, $($variant,)* }

        const ALL: &[Name] = &[Name::Other, $(Name::$variant,)*];
        const TEXTS: &[&str] = &["", $($text,)*];
    };
}

names! {
    Host = "host",
    Connection = "connection",
    KeepAlive = "keep-alive",
    ProxyConnection = "proxy-connection",
    TransferEncoding = "transfer-encoding",
    ContentLength = "content-length",
    Te = "te",
    Trailer = "trailer",
    Upgrade = "upgrade",
    Expect = "expect",
    Via = "via",
    Forwarded = "forwarded",
    XForwardedFor = "x-forwarded-for",
    XForwardedProto = "x-forwarded-proto",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XRealIp = "x-real-ip",
    XRequestId = "x-request-id",
    UserAgent = "user-agent",
    Referer = "referer",
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    AcceptLanguage = "accept-language",
    AcceptRanges = "accept-ranges",
    Allow = "allow",
    Authorization = "authorization",
    Cookie = "cookie",
    ContentType = "content-type",
    ContentEncoding = "content-encoding",
    ContentLanguage = "content-language",
    ContentLocation = "content-location",
    Date = "date",
    Server = "server",
    Location = "location",
    SetCookie = "set-cookie",
    Vary = "vary",
    ETag = "etag",
    LastModified = "last-modified",
    CacheControl = "cache-control",
    Expires = "expires",
    Age = "age",
    Pragma = "pragma",
    Range = "range",
    IfNoneMatch = "if-none-match",
    IfModifiedSince = "if-modified-since",
    IfMatch = "if-match",
    IfRange = "if-range",
    IfUnmodifiedSince = "if-unmodified-since",
    ContentRange = "content-range",
    RetryAfter = "retry-after",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    WwwAuthenticate = "www-authenticate",
    Origin = "origin",
    MaxForwards = "max-forwards",
    Link = "link",
    Http2Settings = "http2-settings",
    SecWebSocketKey = "sec-websocket-key",
    SecWebSocketAccept = "sec-websocket-accept",
    SecWebSocketVersion = "sec-websocket-version",
    SecWebSocketProtocol = "sec-websocket-protocol",
    StrictTransportSecurity = "strict-transport-security",
}

/// The set of known names that are present in a head.
#[derive(Clone, Copy, Default)]
pub(super) struct NameSet(u128);

const _: () = assert!(ALL.len() <= 128, "NameSet has one bit per name");

impl NameSet {
    #[inline]
    pub(super) fn insert(&mut self, name: Name) {
        self.0 |= 1 << name as u8;
    }

    #[inline]
    pub(super) fn remove(&mut self, name: Name) {
        self.0 &= !(1 << name as u8);
    }

    #[inline]
    pub(super) fn contains(self, name: Name) -> bool {
        self.0 & (1 << name as u8) != 0
    }
}

impl Name {
    /// The number of a field name in any case; [`Name::Other`] for a name that has none.
    #[inline]
    pub fn from_bytes(bytes: &[u8]) -> Name {
        if bytes.is_empty() {
            return Name::Other;
        }
        let name = ALL[SLOTS[slot(key(bytes), SEED)] as usize];
        if name != Name::Other && bytes.eq_ignore_ascii_case(name.as_str().as_bytes()) {
            name
        } else {
            Name::Other
        }
    }

    /// The name in lower case; empty for [`Name::Other`].
    #[inline]
    pub const fn as_str(self) -> &'static str {
        TEXTS[self as usize]
    }

    /// Every known name, without [`Name::Other`].
    pub fn known() -> impl Iterator<Item = Name> {
        ALL.iter().copied().skip(1)
    }
}

const SLOT_BITS: u32 = 9;

/// What tells the known names apart: the length, the first, the fourth last and the last letter.
#[inline]
const fn key(bytes: &[u8]) -> u32 {
    let length = bytes.len();
    let late = length.saturating_sub(4);
    let letters = [length as u8, bytes[0] | 0x20, bytes[late] | 0x20, bytes[length - 1] | 0x20];
    u32::from_le_bytes(letters)
}

#[inline]
const fn slot(key: u32, seed: u32) -> usize {
    (key.wrapping_mul(seed) >> (32 - SLOT_BITS)) as usize
}

/// The first seed under which no two known names share a slot.
const SEED: u32 = {
    let mut seed = 0x9e37_79b1_u32;
    let mut tries = 0;
    while !is_perfect(seed) {
        seed = seed.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f) | 1;
        tries += 1;
        assert!(tries < 2_000, "two known names have one key: let `key` look at another letter");
    }
    seed
};

const SLOTS: [u8; 1 << SLOT_BITS] = {
    let mut slots = [0; 1 << SLOT_BITS];
    let mut id = 1;
    while id < ALL.len() {
        slots[slot(key(TEXTS[id].as_bytes()), SEED)] = id as u8;
        id += 1;
    }
    slots
};

const fn is_perfect(seed: u32) -> bool {
    let mut taken = [false; 1 << SLOT_BITS];
    let mut id = 1;
    while id < ALL.len() {
        let slot = slot(key(TEXTS[id].as_bytes()), seed);
        if taken[slot] {
            return false;
        }
        taken[slot] = true;
        id += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for name in Name::known() {
            let text = name.as_str();
            assert_eq!(text, text.to_ascii_lowercase());
            assert_eq!(Name::from_bytes(text.as_bytes()), name);
            assert_eq!(Name::from_bytes(text.to_ascii_uppercase().as_bytes()), name);
        }
    }

    #[test]
    fn near_misses_are_other() {
        fn check(text: &str) {
            assert_eq!(Name::from_bytes(text.as_bytes()), Name::Other, "{text:?}");
        }
        check("");
        check("x");
        check("x-consumer-name");
        for name in Name::known() {
            let text = name.as_str();
            check(&text[..text.len() - 1]);
            check(&format!("{text}s"));
            check(&format!("x{text}"));
            check(&text.replacen(|c: char| c.is_ascii_lowercase(), "_", 1));
        }
    }
}
