//! The fuzz targets of `proto` on the stable toolchain: the kept corpus as it is, then mutated by a
//! seeded generator for `RINGWAY_FUZZ_SECONDS` per target (default 2).
//!
//! It knows nothing of coverage, so it finds less per hour than cargo-fuzz; but it runs with every
//! test run, everywhere. A failure prints the seed and the input: put the input into
//! `fuzz/corpus/` under a name that says what it broke, and the fix keeps its test.
//!
//! `RINGWAY_FUZZ_SEED` repeats a run.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Inputs grow no longer than this, in bytes: what breaks a parser is short.
const INPUT_BYTES_MAX: usize = 4096;

#[test]
fn head() {
    run("head", proto::fuzz::head);
}

#[test]
fn chunked() {
    run("chunked", proto::fuzz::chunked);
}

#[test]
fn target() {
    run("target", proto::fuzz::target);
}

#[test]
fn proxy_protocol() {
    run("proxy_protocol", proto::fuzz::proxy_protocol);
}

#[test]
fn client_hello() {
    run("client_hello", proto::fuzz::client_hello);
}

#[test]
fn detect() {
    run("detect", proto::fuzz::detect);
}

#[test]
fn grpc() {
    run("grpc", proto::fuzz::grpc);
}

fn run(name: &str, target: fn(&[u8])) {
    let corpus = corpus(name);
    for (path, input) in &corpus {
        attempt(target, input, &format!("kept input {}", path.display()));
    }

    let seed = number("RINGWAY_FUZZ_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(1, |elapsed| elapsed.as_nanos() as u64)
    });
    let seconds = number("RINGWAY_FUZZ_SECONDS").unwrap_or(2);
    println!("{name}: RINGWAY_FUZZ_SEED={seed}, {seconds} s");

    let mut random = Random(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut tries = 0u64;
    let mut input = Vec::new();
    while Instant::now() < end {
        for _ in 0..16 {
            mutate(&corpus, &mut random, &mut input);
            attempt(target, &input, &format!("RINGWAY_FUZZ_SEED={seed}, input {tries}"));
            tries += 1;
        }
    }
    println!("{name}: {tries} inputs held");
}

fn attempt(target: fn(&[u8]), input: &[u8], origin: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("{origin} broke it:\nb\"{}\"", input.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&folder).expect("the corpus is kept with the code");
    let mut inputs: Vec<_> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .map(|path| (path.clone(), std::fs::read(path).expect("a readable input")))
        .collect();
    // A seed repeats a run only over the same order.
    inputs.sort();
    assert!(!inputs.is_empty(), "no corpus in {}", folder.display());
    inputs
}

/// SplitMix64: small, seedable, good enough to pick places and bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, or 0 when that is 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// What matters to HTTP and to what comes before it, so that a mutation is often one that could matter.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b"\t",
    b" ",
    b":",
    b": ",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\r\n\r\n",
    b"\r\n ",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b";a=b",
    b"ffffffffffffffff",
    b"7fffffffffffffff",
    b"0x",
    b"-",
    b"+",
    b",",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"GET ",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close, x-fuzz\r\n",
    b"X-Fuzz: 1\r\n",
    b"/../",
    b"/./",
    b"//",
    b"%2e",
    b"%2F",
    b"%00",
    b"%",
    b"?",
    b"#",
    b"*",
    b"http://",
    b"[::1]:80",
    b"@",
    b"=",
    b"&",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP6 ::1 ::ffff:1.2.3.4 1 2\r\n",
    b"PROXY UNKNOWN",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\0\x05",
    b"\0\0\0\x08\0\x06\0\0\x03a.b",
    b"\0\x10\0\x05\0\x03\x02h2",
    b"\0\0\0\0\x05hello",
    b"\x80\0\0\0\x10grpc-status: 0\r\n",
    b"aGVsbG8=",
    b"%20",
    b"99999999H",
];

fn mutate(corpus: &[(PathBuf, Vec<u8>)], random: &mut Random, input: &mut Vec<u8>) {
    input.clear();
    input.extend_from_slice(&corpus[random.below(corpus.len())].1);
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        match random.below(8) {
            0 if at < input.len() => input[at] = random.next() as u8,
            1 if at < input.len() => input[at] ^= 1 << random.below(8),
            2 => input.insert(at, random.next() as u8),
            3 => {
                let end = (at + 1 + random.below(8)).min(input.len());
                input.drain(at..end);
            }
            4 => {
                let from = random.below(input.len());
                let end = (from + random.below(32)).min(input.len());
                let copy = input[from..end].to_vec();
                input.splice(at..at, copy);
            }
            5 => {
                let other = &corpus[random.below(corpus.len())].1;
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len())..]);
            }
            6 => input.truncate(at),
            _ => {
                let piece = PIECES[random.below(PIECES.len())];
                input.splice(at..at, piece.iter().copied());
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
}
