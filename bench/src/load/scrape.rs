//! Reads the ring counters of a gateway's metrics page, before and after the window.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Counters by name; the series of one name (one per core) are summed.
pub type Counters = BTreeMap<String, f64>;

/// The longest page that is read, in bytes.
const PAGE_BYTES_MAX: u64 = 4 << 20;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The counters of the page at `address`; empty where there is none.
pub fn read(address: SocketAddr) -> Counters {
    fetch(address).map(|page| parse(&page)).unwrap_or_default()
}

fn fetch(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
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
}
