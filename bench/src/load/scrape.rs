//! Reads what others have counted, before and after the window: the ring counters of a gateway's metrics page, and the
//! requests that each listener of the origin got.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::wire;

/// Counters by name; the series of one name (one per core) are summed.
pub type Counters = BTreeMap<String, f64>;

/// The longest page that is read, in bytes.
const PAGE_BYTES_MAX: u64 = 4 << 20;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The counters of the page at `address`; empty where there is none.
pub fn read(address: SocketAddr) -> Counters {
    fetch(address, "/metrics").map(|page| parse(&page)).unwrap_or_default()
}

/// Requests so far by listener of the origin at `address`; empty where it does not say.
pub fn read_origins(address: SocketAddr) -> Vec<u64> {
    fetch(address, wire::COUNTS).map(|page| parse_origins(&page)).unwrap_or_default()
}

/// The numbers of the page's body; nothing where one of them is none.
fn parse_origins(page: &str) -> Vec<u64> {
    let body = page.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    body.lines().map(str::parse).collect::<Result<_, _>>().unwrap_or_default()
}

/// What each origin's count grew by; nothing where a page is missing.
pub fn growth_of_origins(before: &[u64], after: &[u64]) -> Vec<u64> {
    if before.len() != after.len() {
        return Vec::new();
    }
    after.iter().zip(before).map(|(after, before)| after.saturating_sub(*before)).collect()
}

fn fetch(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut page = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Lines of the text format whose name speaks of the ring: `name{labels} value`.
fn parse(page: &str) -> Counters {
    let mut counters = Counters::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        if let (true, Some(value)) = (name.contains("_ring_"), value) {
            *counters.entry(name.to_owned()).or_default() += value;
        }
    }
    counters
}

/// What each counter grew by.
pub fn growth(before: &Counters, after: &Counters) -> Counters {
    let grown = |(name, value): (&String, &f64)| {
        let growth = value - before.get(name).copied().unwrap_or(0.0);
        (growth > 0.0).then(|| (name.clone(), growth))
    };
    after.iter().filter_map(grown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let page = "HTTP/1.1 200 OK\r\n\r\n# TYPE ringway_ring_enters_total counter\n\
                    ringway_ring_enters_total{core=\"0\"} 10\nringway_ring_enters_total{core=\"1\"} 5.5\n\
                    ringway_requests_total 7\nringway_ring_sqes_total 3\n";
        let after = parse(page);
        assert_eq!(after.get("ringway_ring_enters_total"), Some(&15.5));
        assert_eq!(after.len(), 2);
        let before = Counters::from([("ringway_ring_enters_total".to_owned(), 5.5)]);
        let growth = growth(&before, &after);
        assert_eq!((growth["ringway_ring_enters_total"], growth["ringway_ring_sqes_total"]), (10.0, 3.0));
    }

    #[test]
    fn counts_of_origins() {
        let check = |page: &str, expected: &[u64]| assert_eq!(parse_origins(page), expected, "{page:?}");
        check("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n12\n0\n7\n", &[12, 0, 7]);
        check("HTTP/1.1 200 OK\r\n\r\n", &[]);
        check("HTTP/1.1 200 OK\r\n\r\n1\nx\n", &[]);
        check("", &[]);
        assert_eq!(growth_of_origins(&[1, 0, 5], &[4, 0, 6]), [3, 0, 1]);
        assert!(growth_of_origins(&[], &[4, 0, 6]).is_empty());
    }
}
