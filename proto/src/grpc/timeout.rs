//! `grpc-timeout`, the time that a client gives a call: `TimeoutValue TimeoutUnit` of
//! `PROTOCOL-HTTP2.md`.

use std::time::Duration;

/// Eight digits and a unit.
pub const TIMEOUT_BYTES_MAX: usize = DIGITS_MAX + 1;

const DIGITS_MAX: usize = 8;
const VALUE_MAX: u128 = 99_999_999;

/// Units from fine to coarse, in nanoseconds.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60 * 1_000_000_000),
    (b'H', 3_600 * 1_000_000_000),
];

/// Reads a `grpc-timeout`: one to eight digits and one of the letters `HMSmun`.
///
/// The text asks for a positive value; zero is read all the same, as a call whose time is over,
/// since clients send it for a deadline that has passed. The largest is 99,999,999 hours. `None`
/// for anything else: a call with a deadline that cannot be read should be refused rather than
/// go on without one.
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let (_, nanos) = UNITS.into_iter().find(|(letter, _)| letter == unit)?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0, |count: u128, digit| count * 10 + u128::from(digit - b'0'));
    // At most 3.6e20, which does not fit into 64 bits of nanoseconds but into a Duration.
    let total = count * nanos;
    let nanos_per_second = 1_000_000_000;
    Some(Duration::new((total / nanos_per_second) as u64, (total % nanos_per_second) as u32))
}

/// Writes a `grpc-timeout` and gives its length: in the finest unit in which it fits into eight
/// digits, rounded up, so that what is left of a deadline never becomes none. Past 99,999,999
/// hours it is that.
pub fn format_timeout(timeout: Duration, out: &mut [u8; TIMEOUT_BYTES_MAX]) -> usize {
    let total = timeout.as_nanos();
    let fitting = UNITS.into_iter().map(|(letter, nanos)| (letter, total.div_ceil(nanos)));
    let (letter, count) = fitting.clone().find(|(_, count)| *count <= VALUE_MAX).unwrap_or((b'H', VALUE_MAX));
    let digits = (count.max(1).ilog10() + 1) as usize;
    let mut left = count;
    for place in out[..digits].iter_mut().rev() {
        *place = b'0' + (left % 10) as u8;
        left /= 10;
    }
    out[digits] = letter;
    digits + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::Random;

    #[test]
    fn reading() {
        fn check(value: &str, expected: Option<Duration>) {
            assert_eq!(parse_timeout(value.as_bytes()), expected, "{value:?}");
        }
        check("1H", Some(Duration::from_secs(3600)));
        check("1M", Some(Duration::from_secs(60)));
        check("1S", Some(Duration::from_secs(1)));
        check("1m", Some(Duration::from_millis(1)));
        check("1u", Some(Duration::from_micros(1)));
        check("1n", Some(Duration::from_nanos(1)));
        check("0n", Some(Duration::ZERO));
        check("00000001S", Some(Duration::from_secs(1)));
        check("1500m", Some(Duration::from_millis(1500)));
        check("99999999n", Some(Duration::from_nanos(99_999_999)));
        check("99999999H", Some(Duration::from_secs(99_999_999 * 3600)));
        check("100000000n", None);
        check("000000001S", None);
        check("", None);
        check("S", None);
        check("1", None);
        check("1s", None);
        check("1h", None);
        check("-1S", None);
        check("+1S", None);
        check("1.5S", None);
        check(" 1S", None);
        check("1S ", None);
        check("1 S", None);
        check("1SS", None);
        check("١S", None);
    }

    #[test]
    fn writing() {
        fn check(timeout: Duration, expected: &str) {
            let mut out = [0; TIMEOUT_BYTES_MAX];
            let length = format_timeout(timeout, &mut out);
            assert_eq!(std::str::from_utf8(&out[..length]), Ok(expected), "{timeout:?}");
        }
        check(Duration::ZERO, "0n");
        check(Duration::from_nanos(1), "1n");
        check(Duration::from_nanos(99_999_999), "99999999n");
        check(Duration::from_nanos(100_000_000), "100000u");
        check(Duration::from_nanos(100_000_001), "100001u");
        check(Duration::from_secs(1), "1000000u");
        check(Duration::from_secs(60), "60000000u");
        check(Duration::from_secs(100), "100000m");
        check(Duration::from_secs(99_999), "99999000m");
        check(Duration::from_secs(100_000), "100000S");
        check(Duration::from_secs(100_000_000), "1666667M");
        check(Duration::from_secs(99_999_999 * 3600), "99999999H");
        check(Duration::from_secs(99_999_999 * 3600 + 1), "99999999H");
        check(Duration::MAX, "99999999H");
    }

    #[test]
    fn what_is_written_is_read() {
        for seed in 0..5_000 {
            let mut random = Random::new(seed);
            let timeout = Duration::from_nanos(random.next() >> random.below(64));
            let mut out = [0; TIMEOUT_BYTES_MAX];
            let length = format_timeout(timeout, &mut out);
            let read = parse_timeout(&out[..length]).expect("our own");
            // Never shorter, and longer by less than one part in 10^5: eight digits, but for what
            // the unit's step loses.
            assert!(read >= timeout && read - timeout <= timeout / 100_000, "seed {seed}: {timeout:?}");
        }
    }
}
