//! A name server on loopback for tests: what it answers is set, and can be changed.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// A record's data.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// A or AAAA.
    Ip(IpAddr),
    /// Priority, weight, port, target.
    Srv(u16, u16, u16, &'static str),
}

/// One record of a name, with its TTL in seconds.
pub(crate) type Record = (u8, Data);

/// The server; every name that it does not know is NXDOMAIN.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

#[derive(Default)]
struct Zone {
    records: HashMap<String, Vec<Record>>,
    /// Kinds of records whose questions are answered SERVFAIL, and not at all.
    failing: HashSet<u16>,
    dropped: HashSet<u16>,
}

/// Kinds of records.
pub(crate) const A: u16 = 1;
pub(crate) const AAAA: u16 = 28;
const SRV: u16 = 33;

impl Server {
    /// Starts one that knows nothing.
    pub(crate) async fn start() -> Server {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("bound");
        let server = Server { address, zone: Arc::default() };
        let zone = server.zone.clone();
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut query).await {
                let answer = answer(&query[..length], &zone.lock().unwrap_or_else(PoisonError::into_inner));
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, peer).await;
                }
            }
        });
        server
    }

    /// From now on a name has these records; none make it NXDOMAIN.
    pub(crate) fn set(&self, name: &str, records: &[Record]) {
        let mut zone = self.zone.lock().unwrap_or_else(PoisonError::into_inner);
        match records {
            [] => drop(zone.records.remove(name)),
            records => drop(zone.records.insert(name.to_owned(), records.to_vec())),
        }
    }

    /// From now on questions for this kind of records are answered SERVFAIL.
    pub(crate) fn fail(&self, kind: u16) {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner).failing.insert(kind);
    }

    /// From now on questions for this kind of records get no answer.
    pub(crate) fn drop_questions(&self, kind: u16) {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner).dropped.insert(kind);
    }
}

/// RFC 1035 section 4: the header, the question as it came, and records that point at its name.
fn answer(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name ends");
    let question = &query[12..name_end + 5];
    let kind = u16::from_be_bytes([question[question.len() - 4], question[question.len() - 3]]);
    if zone.dropped.contains(&kind) {
        return None;
    }
    let known = zone.records.get(&name_of(&question[..question.len() - 5]));
    let records: Vec<Vec<u8>> = known
        .into_iter()
        .flatten()
        .filter_map(|(ttl, data)| {
            let (of, data) = match data {
                Data::Ip(IpAddr::V4(address)) => (A, address.octets().to_vec()),
                Data::Ip(IpAddr::V6(address)) => (AAAA, address.octets().to_vec()),
                Data::Srv(priority, weight, port, target) => {
                    let numbers = [*priority, *weight, *port].map(u16::to_be_bytes).concat();
                    (SRV, [numbers, labels(target)].concat())
                }
            };
            let head = [0xc0, 12, 0, of as u8, 0, 1, 0, 0, 0, *ttl, 0, data.len() as u8];
            (of == kind).then(|| [&head[..], &data].concat())
        })
        .collect();
    let failing = zone.failing.contains(&kind);
    let records = if failing { Vec::new() } else { records };
    let code = match known {
        _ if failing => 0x82,
        None => 0x83,
        Some(_) => 0x80,
    };
    let head = [query[0], query[1], 0x81, code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0];
    Some([&head[..], question, &records.concat()].concat())
}

/// `\x05users\x04test` as `users.test`, lower case.
fn name_of(labels: &[u8]) -> String {
    let mut rest = labels;
    let mut names = Vec::new();
    while let Some((length, after)) = rest.split_first() {
        let (label, next) = after.split_at(usize::from(*length));
        names.push(String::from_utf8_lossy(label).to_lowercase());
        rest = next;
    }
    names.join(".")
}

fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}
