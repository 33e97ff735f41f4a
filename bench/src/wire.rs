//! What generator and origin say to each other through the proxy: paths, requests, and bodies that can be checked.
//!
//! A body is a window into one fixed pattern; the variant (`?v=`) says where the window begins. So an answer meant
//! for another connection, cut short or shifted by a byte is found by one comparison.
//!
//! | Path | Answer of the origin |
//! |---|---|
//! | `/bytes/N?v=V` | N bytes of variant V; a POST's body must be variant V too |
//! | `/slow/MS/N?v=V` | the same, after MS milliseconds |
//! | `/r/I/...` | route number I of the many-routes scenarios, then as above |
//! | `/counts` | how many requests each listener of the origin has got, a number per line |

use std::sync::OnceLock;

/// Length after which the pattern repeats; prime, so that no buffer size divides it.
const PERIOD: usize = 65_521;
/// Longest piece that is compared at once.
const PIECE: usize = 256 * 1024;
/// How far apart the windows of two variants begin.
const STRIDE: usize = 4099;
/// The variants in use.
pub const VARIANTS: u32 = 16;
/// Largest body that the origin makes, in bytes.
pub const BODY_BYTES_MAX: u64 = 64 << 20;
/// Where the origin says how many requests each of its listeners has got; these are not counted.
pub const COUNTS: &str = "/counts";
/// Longest delay of an answer, in milliseconds.
pub const DELAY_MILLIS_MAX: u32 = 60_000;
/// Longest head that the harness reads, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let period: Vec<u8> = (0..PERIOD)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                b' ' + (state % 95) as u8
            })
            .collect();
        (0..PERIOD + PIECE).map(|index| period[index % PERIOD]).collect()
    })
}

/// The bytes of a body from `offset` on, at most `length`, in one piece.
fn window(variant: u32, offset: u64, length: usize) -> &'static [u8] {
    let start = (variant as usize * STRIDE + (offset % PERIOD as u64) as usize) % PERIOD;
    &pattern()[start..start + length.min(PIECE)]
}

/// Whether `data` is what stands at `offset` in a body of this variant.
pub fn matches(variant: u32, offset: u64, data: &[u8]) -> bool {
    let mut done = 0;
    while done < data.len() {
        let expected = window(variant, offset + done as u64, data.len() - done);
        if data[done..done + expected.len()] != *expected {
            return false;
        }
        done += expected.len();
    }
    true
}

/// Appends a body of `length` bytes.
pub fn write_body(variant: u32, length: u64, out: &mut Vec<u8>) {
    let mut done = 0;
    while done < length {
        let piece = window(variant, done, (length - done).min(PIECE as u64) as usize);
        out.extend_from_slice(piece);
        done += piece.len() as u64;
    }
}

/// What a path asks the origin for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Asked {
    /// Length of the answer's body.
    pub bytes: u64,
    /// Its variant.
    pub variant: u32,
    /// Delay before the answer, in milliseconds.
    pub slow_millis: u32,
}

/// Reads a request target; `None` where it is none of ours.
pub fn parse_target(target: &[u8]) -> Option<Asked> {
    let mut rest = target;
    if let Some(route) = rest.strip_prefix(b"/r/") {
        let digits = route.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest = &route[digits..];
    }
    let mut slow_millis = 0;
    let sized = match rest.strip_prefix(b"/slow/") {
        Some(slow) => {
            let (millis, after) = number(slow)?;
            slow_millis = u32::try_from(millis).ok().filter(|millis| *millis <= DELAY_MILLIS_MAX)?;
            after.strip_prefix(b"/")?
        }
        None => rest.strip_prefix(b"/bytes/")?,
    };
    let (bytes, after) = number(sized)?;
    let variant = match after.strip_prefix(b"?v=") {
        Some(digits) => number(digits)?.0,
        None => 0,
    };
    (bytes <= BODY_BYTES_MAX && variant < u64::from(VARIANTS)).then_some(Asked {
        bytes,
        variant: variant as u32,
        slow_millis,
    })
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > 12 {
        return None;
    }
    let value = text[..digits].iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    Some((value, &text[digits..]))
}

/// A request or response head, as far as the harness needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Length of the head with its empty line.
    pub head_bytes: usize,
    /// `Content-Length`, where there is one.
    pub content_length: Option<u64>,
    /// Whether `Connection: close` was said.
    pub close: bool,
    /// Whether a transfer coding was used (the harness refuses it).
    pub coded: bool,
}

/// Looks for a whole head at the beginning of `input`.
///
/// # Errors
///
/// A head longer than [`HEAD_BYTES_MAX`], or a length that is no number.
pub fn scan_head(input: &[u8]) -> Result<Option<Seen>, &'static str> {
    let Some(end) = memchr::memmem::find(input, b"\r\n\r\n") else {
        return if input.len() > HEAD_BYTES_MAX { Err("head too long") } else { Ok(None) };
    };
    let mut seen = Seen { head_bytes: end + 4, content_length: None, close: false, coded: false };
    let head = &input[..end + 2];
    let mut at = memchr::memchr(b'\n', head).map_or(end, |line| line + 1);
    while at < head.len() {
        let line_end = at + memchr::memchr(b'\r', &head[at..]).unwrap_or(head.len() - at);
        let line = &head[at..line_end];
        let is = |name: &[u8]| {
            line.len() > name.len()
                && line[name.len()] == b':'
                && line[..name.len()].eq_ignore_ascii_case(name)
        };
        match line.first().map(u8::to_ascii_lowercase) {
            Some(b'c') if is(b"content-length") => {
                let (value, rest) = number(line[15..].trim_ascii()).ok_or("bad content-length")?;
                if !rest.is_empty() || seen.content_length.is_some() {
                    return Err("bad content-length");
                }
                seen.content_length = Some(value);
            }
            Some(b'c') if is(b"connection") => {
                seen.close = line[11..].trim_ascii().eq_ignore_ascii_case(b"close");
            }
            Some(b't') if is(b"transfer-encoding") => seen.coded = true,
            _ => {}
        }
        at = line_end + 2;
    }
    Ok(Some(seen))
}

/// What the generator sends, and what it expects back.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Head and body.
    pub bytes: &'static [u8],
    /// The variant that must come back.
    pub variant: u32,
    /// The length that must come back.
    pub answer_bytes: u64,
    /// Bytes of both bodies.
    pub body_bytes: u64,
    /// Whether the slow part of the origin is asked.
    pub slow: bool,
}

/// How the requests of a scenario look.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Length of the answer.
    pub answer_bytes: u64,
    /// Length of the request's body; `None` is a GET.
    pub post_bytes: Option<u64>,
    /// Further request headers.
    pub headers: usize,
    /// Number of routes to spread over; 0 is none.
    pub routes: usize,
    /// Whether each request closes its connection.
    pub close: bool,
    /// Delay of the slow requests in milliseconds, and how many of a hundred are slow.
    pub slow: Option<(u32, u32)>,
}

/// How many requests with different routes are made; a shuffled sample of them all.
const ROUTE_SAMPLE: usize = 1024;
/// Host that the requests name; configurations match it.
pub const HOST: &str = "bench.test";

impl Shape {
    /// All requests of this shape, to be sent in turn. They are made once and leaked: one process, one shape.
    pub fn requests(&self) -> Vec<Request> {
        if self.routes > 0 {
            let step = coprime_step(self.routes);
            return (0..ROUTE_SAMPLE.min(self.routes))
                .map(|index| self.request(index as u32 % VARIANTS, Some(index * step % self.routes), false))
                .collect();
        }
        let Some((_, percent)) = self.slow else {
            return (0..VARIANTS).map(|variant| self.request(variant, None, false)).collect();
        };
        // One lap of a hundred with the slow ones spread evenly: 5 in a hundred means each twentieth.
        (0..100_u32)
            .map(|index| {
                let slow = (index * percent) / 100 != ((index + 1) * percent) / 100;
                self.request(index % VARIANTS, None, slow)
            })
            .collect()
    }

    fn request(&self, variant: u32, route: Option<usize>, slow: bool) -> Request {
        let route = route.map_or(String::new(), |route| format!("/r/{route}"));
        let place = match self.slow {
            Some((millis, _)) if slow => format!("slow/{millis}"),
            _ => "bytes".to_owned(),
        };
        let verb = if self.post_bytes.is_some() { "POST" } else { "GET" };
        let mut text = format!(
            "{verb} {route}/{place}/{}?v={variant} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: bench/1\r\nAccept: */*\r\n",
            self.answer_bytes
        );
        for index in 0..self.headers {
            text.push_str(&format!(
                "X-Field-{index:02}: value-{index:02}-{}\r\n",
                "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
            ));
        }
        if self.close {
            text.push_str("Connection: close\r\n");
        }
        if let Some(bytes) = self.post_bytes {
            text.push_str(&format!("Content-Type: application/octet-stream\r\nContent-Length: {bytes}\r\n"));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        write_body(variant, self.post_bytes.unwrap_or(0), &mut bytes);
        let body_bytes = self.answer_bytes + self.post_bytes.unwrap_or(0);
        Request { bytes: bytes.leak(), variant, answer_bytes: self.answer_bytes, body_bytes, slow }
    }
}

/// A step that visits every one of `count` places before it repeats, and jumps far each time.
fn coprime_step(count: usize) -> usize {
    let divisor = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    (count * 618 / 1000 + 1..).find(|step| divisor(*step, count) == 1).expect("a prime is coprime")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let check = |target: &str, expected: Option<(u64, u32, u32)>| {
            let got =
                parse_target(target.as_bytes()).map(|asked| (asked.bytes, asked.variant, asked.slow_millis));
            assert_eq!(got, expected, "{target}");
        };
        check("/bytes/100", Some((100, 0, 0)));
        check("/bytes/100?v=3", Some((100, 3, 0)));
        check("/slow/50/100?v=15", Some((100, 15, 50)));
        check("/r/999/bytes/1?v=1", Some((1, 1, 0)));
        check("/bytes/100?v=16", None); // no such variant
        check("/bytes/999999999999", None); // too large
        check("/bytes/", None);
        check("/other", None);
    }

    #[test]
    fn heads() {
        type Expected = Result<Option<(usize, Option<u64>, bool, bool)>, &'static str>;
        let check = |text: &str, expected: Expected| {
            let got = scan_head(text.as_bytes())
                .map(|seen| seen.map(|s| (s.head_bytes, s.content_length, s.close, s.coded)));
            assert_eq!(got, expected, "{text:?}");
        };
        check("HTTP/1.1 200 OK\r\nContent-Le", Ok(None));
        check("HTTP/1.1 200 OK\r\n\r\n", Ok(Some((19, None, false, false))));
        check("GET / HTTP/1.1\r\ncontent-length:  7\r\n\r\nbody", Ok(Some((38, Some(7), false, false))));
        check(
            "A\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
            Ok(Some((52, None, true, true))),
        );
        check("A\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", Err("bad content-length"));
        check("A\r\nContent-Length: x\r\n\r\n", Err("bad content-length"));
    }

    #[test]
    fn bodies_are_told_apart() {
        for length in [1, 100, 65_521, 1 << 20] {
            let mut body = Vec::new();
            write_body(5, length, &mut body);
            assert_eq!(body.len() as u64, length);
            assert!(matches(5, 0, &body));
            assert!(matches(5, 77 % length, &body[(77 % length) as usize..]));
            if length > 8 {
                assert!(!matches(4, 0, &body), "another variant");
                assert!(!matches(5, 1, &body), "shifted by one");
                let last = body.len() - 1;
                body[last] ^= 1;
                assert!(!matches(5, 0, &body), "one bit");
            }
        }
    }

    #[test]
    fn shapes() {
        let shape = Shape {
            answer_bytes: 100,
            post_bytes: None,
            headers: 0,
            routes: 0,
            close: false,
            slow: Some((50, 5)),
        };
        let requests = shape.requests();
        assert_eq!(requests.iter().filter(|request| request.slow).count(), 5);
        for request in requests {
            let target = request.bytes.split(|byte| *byte == b' ').nth(1).expect("a target");
            let asked = parse_target(target).expect("one of ours");
            assert_eq!(
                (asked.bytes, asked.variant, asked.slow_millis > 0),
                (100, request.variant, request.slow)
            );
        }
        let large = Shape { headers: 17, slow: None, ..shape }.requests()[0].bytes.len();
        assert!((1150..1250).contains(&large), "a head of 1.2 KiB, not {large}");
        let routes = Shape { routes: 1000, slow: None, ..shape }.requests();
        let mut places: Vec<_> = routes.iter().map(|request| request.bytes.to_vec()).collect();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), 1000, "every route once");
    }
}
