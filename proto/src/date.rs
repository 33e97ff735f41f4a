//! Dates as HTTP and RFC 3339 write them, from seconds and back.
//!
//! Into fixed arrays, without a formatter: the Date field is made once a second per core, the
//! log's time once a line. The time itself comes from the caller.

const DAY_SECONDS: u64 = 86_400;
const DAY_NAMES: &[u8] = b"ThuFriSatSunMonTueWed"; // 1970-01-01 was a Thursday
const MONTH_NAMES: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
/// 9999-12-31T23:59:59Z, after which a year would need a fifth digit.
const LAST_SECOND: u64 = 253_402_300_799;

/// Writes `Sun, 06 Nov 1994 08:49:37 GMT` (IMF-fixdate, RFC 9110 section 5.6.7). A time after the
/// year 9999 is written as its last second.
pub fn format_http(unix_seconds: u64, out: &mut [u8; 29]) {
    let seconds = unix_seconds.min(LAST_SECOND);
    let days = seconds / DAY_SECONDS;
    let (year, month, day) = civil_of(days);
    let day_name = (days % 7) as usize * 3;
    let month_name = (month as usize - 1) * 3;
    *out = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    out[..3].copy_from_slice(&DAY_NAMES[day_name..day_name + 3]);
    put_digits(&mut out[5..7], day);
    out[8..11].copy_from_slice(&MONTH_NAMES[month_name..month_name + 3]);
    put_digits(&mut out[12..16], year);
    put_clock(&mut out[17..25], seconds % DAY_SECONDS);
}

/// Writes `1994-11-06T08:49:37.123Z` (RFC 3339), with the same bound.
pub fn format_rfc3339_millis(unix_millis: u64, out: &mut [u8; 24]) {
    let millis = unix_millis.min(LAST_SECOND * 1000 + 999);
    let seconds = millis / 1000;
    let (year, month, day) = civil_of(seconds / DAY_SECONDS);
    *out = *b"1970-01-01T00:00:00.000Z";
    put_digits(&mut out[0..4], year);
    put_digits(&mut out[5..7], month);
    put_digits(&mut out[8..10], day);
    put_clock(&mut out[11..19], seconds % DAY_SECONDS);
    put_digits(&mut out[20..23], millis % 1000);
}

/// Reads a date of HTTP in any of the three forms that RFC 9110 section 5.6.7 obliges to read, as
/// seconds since 1970. `None` for anything else and for times before 1970.
///
/// The day's name is not checked. The two-digit year of RFC 850 dates is taken to lie in 1970 to
/// 2069, since there is no clock here to ask.
pub fn parse_http(text: &[u8]) -> Option<u64> {
    match text.len() {
        29 => parse_fixdate(text),
        24 => parse_asctime(text),
        _ => parse_rfc850(text),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn parse_fixdate(text: &[u8]) -> Option<u64> {
    let shape = text[3..5] == *b", " && text[7] == b' ' && text[11] == b' ' && text[16] == b' ';
    if !shape || text[25..] != *b" GMT" || !is_day_name(&text[..3]) {
        return None;
    }
    seconds_of(digits(&text[12..16])?, month_of(&text[8..11])?, digits(&text[5..7])?, &text[17..25])
}

/// `Sun Nov  6 08:49:37 1994`
fn parse_asctime(text: &[u8]) -> Option<u64> {
    let shape = text[3] == b' ' && text[7] == b' ' && text[10] == b' ' && text[19] == b' ';
    if !shape || !is_day_name(&text[..3]) {
        return None;
    }
    let day = if text[8] == b' ' { digits(&text[9..10])? } else { digits(&text[8..10])? };
    seconds_of(digits(&text[20..24])?, month_of(&text[4..7])?, day, &text[11..19])
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn parse_rfc850(text: &[u8]) -> Option<u64> {
    let comma = memchr::memchr(b',', text)?;
    let day_name = &text[..comma];
    let known = [&b"Monday"[..], b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday", b"Sunday"];
    let rest = &text[comma + 1..];
    if !known.contains(&day_name) || rest.len() != 23 {
        return None;
    }
    let shape = rest[0] == b' ' && rest[3] == b'-' && rest[7] == b'-' && rest[10] == b' ';
    if !shape || rest[19..] != *b" GMT" {
        return None;
    }
    let short_year = digits(&rest[8..10])?;
    let year = if short_year < 70 { 2000 + short_year } else { 1900 + short_year };
    seconds_of(year, month_of(&rest[4..7])?, digits(&rest[1..3])?, &rest[11..19])
}

fn seconds_of(year: u64, month: u64, day: u64, clock: &[u8]) -> Option<u64> {
    if clock[2] != b':' || clock[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (digits(&clock[0..2])?, digits(&clock[3..5])?, digits(&clock[6..8])?);
    // 60 is a leap second; the next one is what it means without them.
    let in_range = year >= 1970 && day >= 1 && hour < 24 && minute < 60 && second <= 60;
    if !in_range {
        return None;
    }
    let days = days_of(year, month, day);
    // A day that its month does not have comes back as one of the next month.
    (civil_of(days) == (year, month, day)).then(|| days * DAY_SECONDS + hour * 3600 + minute * 60 + second)
}

/// Year, month and day of a count of days since 1970, after Howard Hinnant's `civil_from_days`:
/// years are counted from March, so that the leap day comes last.
fn civil_of(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// The inverse; `year` must be 1970 or later.
fn days_of(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn put_digits(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn put_clock(out: &mut [u8], second_of_day: u64) {
    put_digits(&mut out[0..2], second_of_day / 3600);
    put_digits(&mut out[3..5], second_of_day / 60 % 60);
    put_digits(&mut out[6..8], second_of_day % 60);
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter()
        .try_fold(0, |number, &digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

fn month_of(name: &[u8]) -> Option<u64> {
    MONTH_NAMES.chunks(3).position(|month| month == name).map(|index| index as u64 + 1)
}

fn is_day_name(name: &[u8]) -> bool {
    DAY_NAMES.chunks(3).any(|day| day == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates() {
        fn check(seconds: u64, text: &str) {
            let mut out = [0; 29];
            format_http(seconds, &mut out);
            assert_eq!(std::str::from_utf8(&out), Ok(text));
            assert_eq!(parse_http(text.as_bytes()), Some(seconds));
        }
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT");
        check(1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT");
        check(1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT");
        check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT");
        check(LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn after_the_last_second() {
        let (mut last, mut after) = ([0; 29], [0; 29]);
        format_http(LAST_SECOND, &mut last);
        format_http(u64::MAX, &mut after);
        assert_eq!(last, after);
        let mut out = [0; 24];
        format_rfc3339_millis(u64::MAX, &mut out);
        assert_eq!(&out, b"9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn every_day_comes_back() {
        for days in 0..LAST_SECOND / DAY_SECONDS {
            let (year, month, day) = civil_of(days);
            assert_eq!(days_of(year, month, day), days);
        }
    }

    #[test]
    fn other_forms() {
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(parse_http(text.as_bytes()), expected, "{text:?}");
        }
        let known = Some(784_111_777);
        check("Sunday, 06-Nov-94 08:49:37 GMT", known);
        check("Sun Nov  6 08:49:37 1994", known);
        check("Sun Nov 06 08:49:37 1994", known);
        check("Saturday, 01-Jan-00 00:00:00 GMT", Some(946_684_800));
        check("Sat, 31 Dec 2016 23:59:60 GMT", Some(1_483_228_800));
        check("", None);
        check("0", None);
        check("Sun, 06 Nov 1994 08:49:37 UTC", None);
        check("Sun, 6 Nov 1994 08:49:37 GMT", None);
        check("Sun, 31 Feb 1994 08:49:37 GMT", None);
        check("Sun, 29 Feb 1900 08:49:37 GMT", None);
        check("Sun, 29 Feb 2023 08:49:37 GMT", None);
        check("Sun, 00 Nov 1994 08:49:37 GMT", None);
        check("Sun, 06 Nov 1994 24:49:37 GMT", None);
        check("Sun, 06 Nov 1994 08:60:37 GMT", None);
        check("Sun, 06 Nov 1994 08:49:61 GMT", None);
        check("Sun, 06 nov 1994 08:49:37 GMT", None);
        check("Xxx, 06 Nov 1994 08:49:37 GMT", None);
        check("Sun, 06 Nov 1969 08:49:37 GMT", None);
        check("Sun, 06 Nov +994 08:49:37 GMT", None);
        check("Sunday, 06-Nov-1994 08:49:37 GMT", None);
        check("Sun, 06-Nov-94 08:49:37 GMT", None);
    }

    #[test]
    fn rfc3339() {
        fn check(millis: u64, text: &str) {
            let mut out = [0; 24];
            format_rfc3339_millis(millis, &mut out);
            assert_eq!(std::str::from_utf8(&out), Ok(text));
        }
        check(0, "1970-01-01T00:00:00.000Z");
        check(784_111_777_123, "1994-11-06T08:49:37.123Z");
        check(1_709_251_199_999, "2024-02-29T23:59:59.999Z");
    }
}
