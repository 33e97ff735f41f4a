//! One line of the access log: JSON, combined, or the operator's own template.
//!
//! JSON is written by hand, straight into the core's batch: a serializer would
//! have to be given a struct of borrowed pieces and costs several times as much.

use config::vars::{Template, Vars};
use proto::head::{Name, Version};

use crate::clock;
use crate::proxy::exchange::Exchange;

/// A compiled `[log] format`.
pub enum LineFormat {
    /// JSON lines.
    Json,
    /// Apache's and nginx's combined format.
    Combined,
    /// Text with variables.
    Template(Template),
}

impl LineFormat {
    /// Compiles what the operator wrote.
    pub fn new(format: &config::Format) -> Self {
        match format {
            config::Format::Json => LineFormat::Json,
            config::Format::Combined => LineFormat::Combined,
            config::Format::Template(text) => LineFormat::Template(Template::parse(text)),
        }
    }
}

/// Appends the line of an exchange that took so many microseconds.
pub fn write(format: &LineFormat, x: &Exchange, micros: u64, out: &mut Vec<u8>) {
    match format {
        LineFormat::Json => json(x, micros, out),
        LineFormat::Combined => combined(x, out),
        LineFormat::Template(template) => {
            let start = out.len();
            template.render(&Timed { x, micros }, None, out);
            // One line per request, whatever a header field holds.
            for byte in &mut out[start..] {
                if byte.is_ascii_control() {
                    *byte = b' ';
                }
            }
        }
    }
    out.push(b'\n');
}

fn json(x: &Exchange, micros: u64, out: &mut Vec<u8>) {
    let mut date = [0; 24];
    proto::date::format_rfc3339_millis(clock::wall_millis(), &mut date);
    out.extend_from_slice(b"{\"ts\":\"");
    out.extend_from_slice(&date);
    out.push(b'"');
    if let Some(id) = plugins::Exchange::request_id(x) {
        text(out, "request_id", id.as_bytes());
    }
    out.extend_from_slice(b",\"client_ip\":\"");
    display(out, x.client);
    out.push(b'"');
    text(out, "method", x.method_seen());
    text(out, "host", &x.host);
    text(out, "path", x.path_seen());
    if let Some(query) = plugins::Exchange::query(x) {
        text(out, "query", query);
    }
    if let Some(route) = &x.route {
        text(out, "route", route.plan.id().as_bytes());
    }
    number(out, "status", u64::from(x.status));
    text(out, "term", x.term.as_str().as_bytes());
    number(out, "bytes_in", x.head_bytes_in + x.body_bytes_in);
    number(out, "bytes_out", x.bytes_out);
    number(out, "dur_us", micros);
    if let Some(connect) = x.connect_us {
        number(out, "connect_us", connect);
    }
    if let Some(ttfb) = x.ttfb_us {
        number(out, "ttfb_us", ttfb);
    }
    if let Some(upstream) = &x.upstream_addr {
        text(out, "upstream", upstream.as_bytes());
        out.extend_from_slice(b",\"upstream_status\":");
        statuses(x, out);
        number(out, "tries", u64::from(x.tries));
    }
    if let Some(tls) = &x.tls {
        text(out, "tls_version", tls.version.as_bytes());
        text(out, "tls_cipher", tls.cipher.as_bytes());
        if let Some(name) = &tls.name {
            text(out, "sni", name.as_bytes());
        }
    }
    if let Some(agent) = x.request.get(Name::UserAgent) {
        text(out, "user_agent", agent);
    }
    out.push(b'}');
}

/// One number, or a list where there were several tries.
fn statuses(x: &Exchange, out: &mut Vec<u8>) {
    let outcomes = x.outcomes();
    if let [only] = outcomes {
        display(out, only.status);
        return;
    }
    out.push(b'[');
    for (index, outcome) in outcomes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        display(out, outcome.status);
    }
    out.push(b']');
}

fn combined(x: &Exchange, out: &mut Vec<u8>) {
    display(out, x.client);
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(local_time(clock::wall_millis() / 1000).as_bytes());
    out.extend_from_slice(b"] \"");
    quoted(out, x.method_seen());
    out.push(b' ');
    quoted(out, &x.target);
    let version: &[u8] =
        if x.request.version() == Version::Http10 { b" HTTP/1.0\" " } else { b" HTTP/1.1\" " };
    out.extend_from_slice(version);
    display(out, x.status);
    out.push(b' ');
    display(out, x.body_bytes_out);
    for name in [Name::Referer, Name::UserAgent] {
        out.extend_from_slice(b" \"");
        quoted(out, x.request.get(name).unwrap_or(b"-"));
        out.push(b'"');
    }
}

/// `10/Oct/2026:13:55:36 +0000`: the day first, always UTC.
pub fn local_time(unix_seconds: u64) -> String {
    let mut http = [0; 29];
    proto::date::format_http(unix_seconds, &mut http);
    // "Sun, 06 Nov 1994 08:49:37 GMT"
    let part = |range: std::ops::Range<usize>| String::from_utf8_lossy(&http[range]).into_owned();
    format!("{}/{}/{}:{} +0000", part(5..7), part(8..11), part(12..16), part(17..25))
}

/// Bytes inside quotes, as nginx escapes them: what is no plain ASCII as `\xHH`.
fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'"' | b'\\' | 0..=31 | 127..=255 => hex(out, b"\\x", *byte),
            byte => out.push(*byte),
        }
    }
}

fn hex(out: &mut Vec<u8>, prefix: &[u8], byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(prefix);
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 15)]);
}

fn display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing into a Vec cannot fail.
    let _ = std::io::Write::write_fmt(out, format_args!("{value}"));
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    key(out, name);
    out.extend_from_slice(crate::proxy::answer::decimal(value, &mut [0; 20]));
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    key(out, name);
    out.push(b'"');
    let plain = |byte: &u8| (32..127).contains(byte) && *byte != b'"' && *byte != b'\\';
    if value.iter().all(plain) {
        out.extend_from_slice(value);
    } else {
        escaped(out, value);
    }
    out.push(b'"');
}

#[cold]
fn escaped(out: &mut Vec<u8>, value: &[u8]) {
    for chunk in value.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                0..=31 | 127 => hex(out, b"\\u00", byte),
                byte => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// The exchange's variables, and those that only the end of one has.
struct Timed<'a> {
    x: &'a Exchange,
    micros: u64,
}

impl Vars for Timed<'_> {
    fn var(&self, name: &config::vars::Var) -> Option<std::borrow::Cow<'_, [u8]>> {
        use config::vars::Var;
        let x = self.x;
        let owned = |text: String| Some(std::borrow::Cow::Owned(text.into_bytes()));
        let seconds = |micros: u64| format!("{}.{:03}", micros / 1_000_000, micros / 1000 % 1000);
        let Var::Other(other) = name else { return x.var(name) };
        match other.as_str() {
            "request_time" => owned(seconds(self.micros)),
            "dur_us" => owned(self.micros.to_string()),
            "upstream_response_time" => owned(x.ttfb_us.map_or_else(|| "-".to_owned(), seconds)),
            "upstream_connect_time" => owned(x.connect_us.map_or_else(|| "-".to_owned(), seconds)),
            "upstream_status" => {
                let mut text = String::new();
                x.outcomes_text(&mut text);
                owned(text)
            }
            "time_iso8601" => {
                let mut date = [0; 24];
                proto::date::format_rfc3339_millis(clock::wall_millis(), &mut date);
                Some(std::borrow::Cow::Owned(date.to_vec()))
            }
            "time_local" => owned(local_time(clock::wall_millis() / 1000)),
            "msec" => owned(seconds(clock::wall_millis() * 1000)),
            "body_bytes_sent" => owned(x.body_bytes_out.to_string()),
            "bytes_sent" => owned(x.bytes_out.to_string()),
            "request_length" => owned((x.head_bytes_in + x.body_bytes_in).to_string()),
            "term" => owned(x.term.as_str().to_owned()),
            "tries" => owned(x.tries.to_string()),
            "server_protocol" => {
                owned(if x.client_is_11() { "HTTP/1.1".to_owned() } else { "HTTP/1.0".to_owned() })
            }
            "request" => {
                let method = String::from_utf8_lossy(x.method_seen()).into_owned();
                let version = if x.client_is_11() { "HTTP/1.1" } else { "HTTP/1.0" };
                owned(format!("{method} {} {version}", String::from_utf8_lossy(&x.target)))
            }
            _ => x.var(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &LineFormat, expected: &str) {
        let mut x = Exchange::default();
        x.request.set_request(b"GET", b"/a?x=\"1", Version::Http11);
        x.request.append(b"User-Agent", b"te\"st\xff");
        x.target.extend_from_slice(b"/a?x=\"1");
        x.host.extend_from_slice(b"example.com");
        (x.status, x.tries, x.bytes_out, x.body_bytes_out) = (200, 2, 150, 100);
        (x.outcomes[0].status, x.outcomes[1].status) = (502, 200);
        x.upstream_addr = Some("127.0.0.1:3000".into());
        let mut out = Vec::new();
        write(format, &x, 1234, &mut out);
        let line = String::from_utf8(out).expect("a line is text");
        assert!(line.contains(expected), "{line} lacks {expected}");
        assert_eq!(line.matches('\n').count(), 1);
        if matches!(format, LineFormat::Json) {
            serde_json::from_str::<serde_json::Value>(&line).expect("a line is JSON");
        }
    }

    #[test]
    fn lines() {
        check(&LineFormat::Json, r#""status":200,"term":"ok","#);
        check(&LineFormat::Json, r#""upstream":"127.0.0.1:3000","upstream_status":[502,200],"tries":2"#);
        check(&LineFormat::Json, "\"user_agent\":\"te\\\"st\u{fffd}\"");
        check(&LineFormat::Combined, r#""GET /a?x=\x221 HTTP/1.1" 200 100 "-" "te\x22st\xFF""#);
        let template = Template::parse("$status $request_time ${bytes_sent} $upstream_status");
        check(&LineFormat::Template(template), "200 0.001 150 502, 200");
    }

    #[test]
    fn the_date_of_combined() {
        assert_eq!(local_time(784_111_777), "06/Nov/1994:08:49:37 +0000");
    }
}
