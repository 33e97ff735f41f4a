//! Origins as processes of their own, to be killed, stopped and started again, and a steady load on a gateway.

use crate::wait::{pace, SOON};
use crate::{process, Client};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A `named-origin`. Dropping it ends the process.
pub struct OriginProcess {
    child: Child,
    address: SocketAddr,
    name: String,
}

impl OriginProcess {
    /// Starts one on a free port that answers with `name`.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn start(name: &str) -> OriginProcess {
        OriginProcess::start_at("127.0.0.1:0".parse().expect("an address"), name)
    }

    fn start_at(address: SocketAddr, name: &str) -> OriginProcess {
        let program = crate::gateway::binary().with_file_name("named-origin");
        let program = if program.is_file() { program } else { beside_the_test("named-origin") };
        let mut child = Command::new(program)
            .args([address.to_string(), name.to_owned()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("named-origin can be started: cargo build -p tests --bins");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("it prints its address");
        let address = line.trim().parse().expect("an address");
        OriginProcess { child, address, name: name.to_owned() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `kill -9`, and waits for its end.
    pub fn kill(&mut self) {
        process::signal(&self.child, Signal::KILL);
        process::wait_end(&mut self.child, SOON);
    }

    /// SIGSTOP: it keeps its connections and says nothing more.
    pub fn stop(&self) {
        process::signal(&self.child, Signal::STOP);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        process::signal(&self.child, Signal::CONT);
    }

    /// Starts it anew where it was.
    pub fn restart(&mut self) {
        self.kill_quietly();
        *self = OriginProcess::start_at(self.address, &self.name.clone());
    }

    fn kill_quietly(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for OriginProcess {
    fn drop(&mut self) {
        self.kill_quietly();
    }
}

fn beside_the_test(name: &str) -> std::path::PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let found = test.ancestors().skip(1).take(3).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no {name} beside {}: cargo build -p tests --bins", test.display()))
}

/// What a load has seen so far: answers by text (or `status N`, or `broken`).
pub type Seen = BTreeMap<String, usize>;

/// Clients that ask all the time, each over a connection of its own. Dropping it ends them.
pub struct Load {
    seen: Arc<Mutex<Seen>>,
    ending: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// `clients` connections that together ask about `rate` times a second.
    pub fn start(gateway: SocketAddr, clients: usize, rate: usize) -> Load {
        let seen = Arc::new(Mutex::new(Seen::new()));
        let ending = Arc::new(AtomicBool::new(false));
        let period = Duration::from_secs_f64(clients as f64 / rate as f64);
        let clients = (0..clients).map(|number| {
            let (seen, ending) = (seen.clone(), ending.clone());
            std::thread::spawn(move || {
                let mut client = Client::connect(gateway);
                let mut due = Instant::now() + period.mul_f64(number as f64 / clients as f64);
                while !ending.load(Ordering::Relaxed) {
                    pace(due.saturating_duration_since(Instant::now()));
                    // What was late is not made up for: a load, not a burst.
                    due = (due + period).max(Instant::now());
                    let text = match client.try_send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") {
                        Ok(()) => answer(&mut client),
                        Err(_) => Err(()),
                    };
                    let text = text.unwrap_or_else(|()| {
                        client = Client::connect(gateway);
                        "broken".to_owned()
                    });
                    *seen.lock().expect("no panic holds it").entry(text).or_default() += 1;
                }
            })
        });
        Load { clients: clients.collect(), seen, ending }
    }

    /// What was seen since the last call.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().expect("no panic holds it"))
    }

    /// What was seen so far, which stays.
    pub fn peek(&self) -> Seen {
        self.seen.lock().expect("no panic holds it").clone()
    }

    /// Ends it and gives what was seen since the last [`Load::take`].
    pub fn end(mut self) -> Seen {
        self.ending.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().expect("a client's thread does not panic");
        }
        self.take()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
    }
}

fn answer(client: &mut Client) -> Result<String, ()> {
    match client.try_response_to("GET") {
        Ok(Some(response)) if response.status == 200 => Ok(response.text()),
        Ok(Some(response)) => {
            let status = format!("status {}", response.status);
            if response.closes() {
                return Err(());
            }
            Ok(status)
        }
        _ => Err(()),
    }
}

/// How many of what was seen are no answers of an origin's.
pub fn failures(seen: &Seen) -> usize {
    seen.iter()
        .filter(|(text, _)| text.starts_with("status ") || *text == "broken")
        .map(|(_, count)| count)
        .sum()
}
