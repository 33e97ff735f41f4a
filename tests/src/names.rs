//! A name server on loopback: what it answers is set by a case, and can be changed while it runs.
//!
//! RFC 1035 over UDP, one question a message; every name that was not set is NXDOMAIN.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a record says.
#[derive(Clone, Debug)]
pub enum Data {
    /// A or AAAA.
    Ip(IpAddr),
    /// SRV: priority, weight, port, target.
    Srv(u16, u16, u16, String),
}

/// Seconds that every record holds.
const TTL: u8 = 1;
const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;
/// RFC 1035 section 4.1.1: a response, recursion desired and available; the code is added.
const RESPONSE: [u8; 2] = [0x81, 0x80];
const NXDOMAIN: u8 = 3;

type Zone = Arc<Mutex<HashMap<String, Vec<Data>>>>;

/// See the file's header. It ends with its drop.
pub struct NameServer {
    address: SocketAddr,
    zone: Zone,
    end: Arc<AtomicBool>,
}

impl NameServer {
    /// Starts one that knows no name.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    #[allow(clippy::new_without_default)]
    pub fn new() -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("bound");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket of our own");
        let server = NameServer { address, zone: Zone::default(), end: Arc::default() };
        let (zone, end) = (Arc::clone(&server.zone), Arc::clone(&server.end));
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while !end.load(Ordering::Relaxed) {
                let Ok((length, peer)) = socket.recv_from(&mut query) else { continue };
                let reply = answer(&query[..length], &zone.lock().expect("no panic holds it"));
                let _ = socket.send_to(&reply, peer);
            }
        });
        server
    }

    /// Where it is asked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on a name has these records; none make it NXDOMAIN.
    ///
    /// # Panics
    ///
    /// Never, unless its thread did.
    pub fn set(&self, name: &str, records: &[Data]) {
        let mut zone = self.zone.lock().expect("no panic holds it");
        if records.is_empty() {
            zone.remove(name);
        } else {
            zone.insert(name.to_owned(), records.to_vec());
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

/// The header, the question as it came, and records that point at its name.
fn answer(query: &[u8], zone: &HashMap<String, Vec<Data>>) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name ends");
    let question = &query[12..name_end + 5];
    let kind = u16::from_be_bytes([question[question.len() - 4], question[question.len() - 3]]);
    let known = zone.get(&name_of(&question[..question.len() - 5]));
    let records: Vec<Vec<u8>> = known.into_iter().flatten().filter_map(|data| record(kind, data)).collect();
    let code = if known.is_none() { NXDOMAIN } else { 0 };
    let head =
        [query[0], query[1], RESPONSE[0], RESPONSE[1] | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0];
    [&head[..], question, &records.concat()].concat()
}

/// A record of the kind that is asked for.
fn record(kind: u16, data: &Data) -> Option<Vec<u8>> {
    let (of, data) = match data {
        Data::Ip(IpAddr::V4(address)) => (A, address.octets().to_vec()),
        Data::Ip(IpAddr::V6(address)) => (AAAA, address.octets().to_vec()),
        Data::Srv(priority, weight, port, target) => {
            let numbers = [*priority, *weight, *port].map(u16::to_be_bytes).concat();
            (SRV, [numbers, labels(target)].concat())
        }
    };
    let head = [0xc0, 12, 0, of as u8, 0, 1, 0, 0, 0, TTL, 0, data.len() as u8];
    (of == kind).then(|| [&head[..], &data].concat())
}

/// `\x05users\x04test` as `users.test`, lower case.
fn name_of(mut labels: &[u8]) -> String {
    let mut names = Vec::new();
    while let Some((length, after)) = labels.split_first() {
        let (label, next) = after.split_at(usize::from(*length));
        names.push(String::from_utf8_lossy(label).to_lowercase());
        labels = next;
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
