//! Durations and sizes as text: `"250ms"`, `"1m30s"`, `"64KiB"`, `"10g"`.
//!
//! A bare number has the unit that its field says (seconds in resources); a text
//! always carries its own, so that `"30"` can never be read two ways.

use std::time::Duration;

/// The longest duration that is taken: about 31 years. Sums of a few of them fit any clock.
pub const DURATION_MAX: Duration = Duration::from_secs(1_000_000_000);

const DURATION_UNITS: &[(&str, f64)] = &[
    ("us", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("min", 60.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
    ("w", 604_800.0),
];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
];

/// Reads `"250ms"`, `"1.5s"`, `"1m30s"`.
///
/// # Errors
///
/// Why it is none, as a label: no unit, an unknown unit, no number, too long.
pub fn duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest)?;
        let (_, factor) =
            DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| match unit {
                "" => "the unit is missing".to_owned(),
                unit => format!("unknown unit `{unit}`"),
            })?;
        seconds += number * factor;
        rest = after;
    }
    from_seconds(seconds)
}

/// A number of seconds as a duration.
///
/// # Errors
///
/// Why it is none: negative, not finite, longer than [`DURATION_MAX`].
pub fn from_seconds(seconds: f64) -> Result<Duration, String> {
    if seconds < 0.0 || seconds.is_nan() {
        return Err("a duration is not negative".to_owned());
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration <= DURATION_MAX => Ok(duration),
        _ => Err("longer than 31 years".to_owned()),
    }
}

/// Reads `"64KiB"`, `"10g"`, `"512"`. `k`, `m`, `g`, `t` are powers of 1024 as in nginx, `KB` and so on of 1000.
///
/// # Errors
///
/// Why it is none, as a label.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit, rest) = number_and_unit(text.trim())?;
    if !rest.is_empty() {
        return Err(format!("`{rest}` is too much"));
    }
    let lower = unit.to_ascii_lowercase();
    let (_, factor) =
        SIZE_UNITS.iter().find(|(name, _)| *name == lower).ok_or_else(|| format!("unknown unit `{unit}`"))?;
    let bytes = number * *factor as f64;
    if bytes > (1u64 << 60) as f64 {
        return Err("larger than an EiB".to_owned());
    }
    Ok(bytes as u64)
}

/// Splits `1.5s30ms` into `1.5`, `s` and `30ms`.
fn number_and_unit(text: &str) -> Result<(f64, &str, &str), String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let number: f64 = number
        .replace('_', "")
        .parse()
        .map_err(|_| if digits == 0 { "it begins with no number" } else { "no number" }.to_owned())?;
    let rest = rest.trim_start();
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    Ok((number, unit, rest.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let found = match duration(text) {
                Ok(duration) => format!("{duration:?}"),
                Err(why) => why,
            };
            assert_eq!(found, expected, "{text}");
        }
        check("250ms", "250ms");
        check("1.5s", "1.5s");
        check("1m30s", "90s");
        check("2min", "120s");
        check("1h 30m", "5400s");
        check("1d", "86400s");
        check("500us", "500µs");
        check("0s", "0ns");
        check("30", "the unit is missing");
        check("30 parsecs", "unknown unit `parsecs`");
        check("s", "it begins with no number");
        check("", "it is empty");
        check("-1s", "it begins with no number");
        check("1..2s", "no number");
        check("1S", "unknown unit `S`");
        check("99999w", "longer than 31 years");
        check("1sé", "it begins with no number");
    }

    #[test]
    fn sizes() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let found = match size(text) {
                Ok(bytes) => bytes.to_string(),
                Err(why) => why,
            };
            assert_eq!(found, expected, "{text}");
        }
        check("512", "512");
        check("64KiB", "65536");
        check("64kb", "64000");
        check("10g", "10737418240");
        check("1.5m", "1572864");
        check("1_000", "1000");
        check("10 MiB", "10485760");
        check("unlimited", "it begins with no number");
        check("5 apples", "unknown unit `apples`");
        check("9999999t", "larger than an EiB");
        check("1k1k", "`1k` is too much");
    }
}
