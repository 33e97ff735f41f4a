//! A network namespace of the harness's own, so that the host's settings do not matter.
//!
//! Inside: loopback with cubic (a host that paces loopback by bbr would add its timers to every proxy, and more to the
//! fast ones), nearly all ports for outgoing connections, nothing else listening. Without root the runs happen in
//! the open, and every row says so.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;

/// Names of the namespaces begin so; the process id follows.
const PREFIX: &str = "ringway-bench-";
/// Ports of the servers inside the namespace, below the range for outgoing connections.
const PORTS: std::ops::Range<u16> = 1024..2046;
/// Ports for outgoing connections inside the namespace.
const PORT_RANGE: &str = "2048 65535";

/// Where the processes of a run meet.
pub struct Network {
    /// The namespace, where there is one.
    pub namespace: Option<String>,
    /// Why there is none.
    pub open_because: Option<String>,
    /// The next port inside the namespace.
    next: Cell<u16>,
}

/// How many addresses the origin has; most scenarios use the first alone.
pub const ORIGINS: usize = 3;
/// Ports of one measurement: the origin's, the proxy's, its metrics'.
const PORTS_EACH: u16 = ORIGINS as u16 + 2;

/// Where the servers of one measurement listen.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The origin.
    pub origins: [SocketAddr; ORIGINS],
    /// The proxy.
    pub proxy: SocketAddr,
    /// The proxy's metrics.
    pub metrics: SocketAddr,
}

impl Network {
    /// Makes a namespace, or says why not.
    pub fn new() -> Network {
        sweep();
        let name = format!("{PREFIX}{}", std::process::id());
        let (namespace, open_because) = match make(&name) {
            Ok(()) => (Some(name), None),
            Err(reason) => (None, Some(reason)),
        };
        Network { namespace, open_because, next: Cell::new(PORTS.start) }
    }

    /// Other ports for each measurement: the kernel ends the rings of a process after the process, and with a
    /// multishot accept in flight its listener lives on for a while.
    ///
    /// # Errors
    ///
    /// When not even these few free ports can be found.
    pub fn addresses(&self) -> Result<Addresses, String> {
        let ports = match self.namespace {
            Some(_) => {
                let first = self.next.get();
                let after = first + PORTS_EACH;
                self.next.set(if after + PORTS_EACH <= PORTS.end { after } else { PORTS.start });
                std::array::from_fn(|index| first + index as u16)
            }
            None => free_ports().map_err(|error| format!("no free port: {error}"))?,
        };
        let ports: [u16; PORTS_EACH as usize] = ports;
        let [proxy, metrics, origins @ ..] = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Ok(Addresses { origins, proxy, metrics })
    }

    /// What a row says of it.
    pub fn describe(&self) -> String {
        match (&self.namespace, &self.open_because) {
            (Some(_), _) => "own namespace, cubic".to_owned(),
            (None, reason) => format!("in the open ({})", reason.as_deref().unwrap_or("asked for")),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(name) = &self.namespace {
            if let Err(error) = ip(&["netns", "delete", name]) {
                eprintln!("bench: the namespace {name} stays: {error}");
            }
        }
    }
}

/// Ports that were free a moment ago.
fn free_ports<const COUNT: usize>() -> std::io::Result<[u16; COUNT]> {
    let listeners: Vec<TcpListener> =
        (0..COUNT).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let mut ports = [0; COUNT];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn make(name: &str) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root".to_owned());
    }
    ip(&["netns", "add", name])?;
    let set_up = || {
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        // The sysctl for the congestion control is refused inside a namespace on some kernels; a route may name one.
        for route in ["127.0.0.0/8", "127.0.0.1"] {
            let kind = ["-n", name, "route", "replace", "table", "local", "local", route, "dev", "lo"];
            let rest = ["proto", "kernel", "scope", "host", "congctl", "cubic"];
            ip(&[&kind[..], &rest[..]].concat())?;
        }
        let range = format!("net.ipv4.ip_local_port_range={PORT_RANGE}");
        ip(&["netns", "exec", name, "sysctl", "-q", "-w", &range])
    };
    set_up().inspect_err(|_| {
        let _ = ip(&["netns", "delete", name]);
    })
}

/// Deletes namespaces of harnesses that were killed.
fn sweep() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = ip(&["netns", "delete", &name]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
