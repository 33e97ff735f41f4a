//! Peers that go away: clients that abort, origins that are killed or stopped. Nothing leaks, nothing mixes.

use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tests::gateway::scaled;
use tests::origin::{ok, Peer};
use tests::pattern::Verifier;
use tests::wait::{wait_for, wait_until, SOON};
use tests::{pattern, process, Client, Gateway, Origin};

/// A client that leaves while the upstream is silent ends the try within 200 ms, and is logged as 499.
#[test]
fn a_client_that_leaves_ends_the_try() {
    let origin = Origin::silent();
    let gateway = Gateway::before(&[origin.address()]);
    for (path, by_reset) in [("/fin", false), ("/reset", true)] {
        let client = Client::sending(gateway.address(), format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        wait_until("the origin to be asked", || origin.open() == 1);
        let start = Instant::now();
        if by_reset {
            client.into_wire().reset();
        } else {
            drop(client);
        }
        wait_until("the try to end", || origin.open() == 0);
        // 200 ms is the promise; the rest is for a machine that runs many tests at once.
        assert!(start.elapsed() < Duration::from_millis(1200), "{:?}", start.elapsed());
        let record = gateway.wait_access_of(path);
        assert_eq!(record["status"], 499, "{record}");
    }
}

/// A response that no chain of socket buffers can hold whole.
fn endless(peer: &mut Peer) -> std::io::Result<()> {
    peer.try_send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")?;
    let mut offset = 0;
    loop {
        peer.try_send(pattern::piece(offset, 60_000))?;
        offset += 60_000;
    }
}

/// A client that leaves in the middle of a response never leaves the rest of it to the next one.
#[test]
fn an_abandoned_response_is_never_continued() {
    let origin = Origin::script(|mut peer| {
        while let Some(request) = peer.request() {
            let sent = if request.target == "/large" {
                endless(&mut peer)
            } else {
                peer.try_send(&ok(&request.target))
            };
            if sent.is_err() {
                return;
            }
        }
    });
    let gateway = Gateway::before(&[origin.address()]);
    for round in 0..20 {
        let mut client = Client::sending(gateway.address(), "GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().status, 200);
        client.take(1000);
        if round % 2 == 0 {
            client.into_wire().reset();
        } else {
            drop(client);
        }
        for _ in 0..4 {
            let path = format!("/small/{round}");
            assert_eq!(tests::get(gateway.address(), &path).text(), path);
        }
    }
    let seen = origin.seen();
    for (at, large) in seen.iter().enumerate().filter(|(_, seen)| seen.target == "/large") {
        let later = seen[at + 1..].iter().filter(|seen| seen.connection == large.connection).count();
        assert_eq!(later, 0, "connection {} was used after an abandoned response", large.connection);
    }
}

#[test]
fn a_client_that_leaves_in_its_upload_ends_the_try() {
    let origin = Origin::script(|mut peer| {
        if let Some(request) = peer.head() {
            assert!(peer.body(&request, &mut |_| {}).is_none(), "half an upload must not look whole");
        }
    });
    let gateway = Gateway::before(&[origin.address()]);
    for head in ["Content-Length: 100000\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n64\r\nhalf"] {
        let client = Client::sending(gateway.address(), format!("POST /up HTTP/1.1\r\nHost: a\r\n{head}"));
        wait_until("the origin to be asked", || origin.open() == 1);
        drop(client);
        wait_until("the try to end", || origin.open() == 0);
    }
}

/// Connect, say something or nothing, go: descriptors and memory stay.
#[test]
fn connects_and_aborts_leave_nothing() {
    let origin = Origin::script(|mut peer| {
        while let Some(request) = peer.request() {
            if request.target == "/silent" {
                return peer.until_closed();
            }
            if peer.try_send(&ok("fine")).is_err() {
                return;
            }
        }
    });
    let gateway = Gateway::before(&[origin.address()]);
    let openings: [&[u8]; 6] = [
        b"",
        b"GET",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /silent HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
        b"not http\r\n\r\n",
    ];
    let cycle = |count: usize| {
        for at in 0..count {
            let client = Client::sending(gateway.address(), openings[at % openings.len()]);
            if at % 2 == 0 {
                client.into_wire().reset();
            }
        }
    };
    cycle(120);
    wait_until("the first cycles to be over", || origin.open() <= 8);
    let (descriptors, memory) = (gateway.descriptors(), process::resident_bytes(gateway.pid()));
    cycle(scaled(10_000));
    wait_for("descriptors to come back", SOON, || (gateway.descriptors() <= descriptors + 8).then_some(()));
    let grown = process::resident_bytes(gateway.pid()).saturating_sub(memory);
    assert!(grown < 24 << 20, "grew by {grown} bytes");
    assert_eq!(tests::get(gateway.address(), "/").text(), "fine");
}

/// An origin in a process of its own, which can be killed and stopped.
struct OriginProcess {
    child: Child,
    address: SocketAddr,
}

impl OriginProcess {
    fn start() -> OriginProcess {
        let mut child = Command::new(env!("CARGO_BIN_EXE_endless-origin"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("our own helper");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout is a pipe"))
            .read_line(&mut line)
            .expect("its address");
        OriginProcess { child, address: line.trim().parse().expect("an address") }
    }
}

impl Drop for OriginProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// kill -9 in the middle of responses: what came is right, what is missing is seen to be missing.
#[test]
fn a_killed_origin_breaks_off_and_nothing_else() {
    let other = Origin::named("fine");
    for framing in ["/fixed", "/chunked"] {
        let mut origin = OriginProcess::start();
        let gateway = Gateway::start(&format!(
            "[[routes]]\nuri = \"/fine\"\nupstream = [\"{other}\"]\n[[routes]]\nupstream = [\"{}\"]\n",
            origin.address
        ));
        let before = gateway.descriptors();
        let mut clients: Vec<Client> = (0..8)
            .map(|_| Client::sending(gateway.address(), format!("GET {framing} HTTP/1.1\r\nHost: a\r\n\r\n")))
            .collect();
        let heads: Vec<_> = clients.iter_mut().map(Client::head).collect();
        let mut verifiers: Vec<Verifier> = clients.iter().map(|_| Verifier::default()).collect();
        let killer = std::thread::spawn(move || {
            origin.child.kill().expect("it lives");
            origin
        });
        for ((client, head), verifier) in clients.iter_mut().zip(&heads).zip(&mut verifiers) {
            let result = client.read_body_into(head.length("GET"), &mut |piece| verifier.push(piece));
            assert!(result.is_err(), "{framing}: an endless body cannot end well");
        }
        drop(clients);
        drop(killer.join().expect("killed"));
        assert_eq!(tests::get(gateway.address(), "/fine").text(), "fine");
        assert_eq!(tests::get(gateway.address(), "/gone").status, 502);
        wait_until("descriptors to come back", || gateway.descriptors() <= before + 2);
    }
}

/// SIGSTOP: the origin's kernel still accepts, nobody answers; after SIGCONT it serves again.
#[test]
fn a_stopped_origin_is_504_and_then_serves_again() {
    let origin = OriginProcess::start();
    let gateway = Gateway::start(&format!(
        "[[upstreams]]\nname = \"o\"\nservers = [\"{}\"]\ntimeout = {{ read = \"500ms\" }}\n[[routes]]\nupstream_id = \"o\"\n",
        origin.address
    ));
    assert_eq!(tests::get(gateway.address(), "/small").text(), "small");
    process::signal(&origin.child, Signal::STOP);
    // The signal was sent; the process stops a moment later.
    let stat = format!("/proc/{}/stat", origin.child.id());
    wait_until("the origin to stop", || {
        std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
    });
    for _ in 0..4 {
        assert_eq!(tests::get(gateway.address(), "/small").status, 504);
    }
    process::signal(&origin.child, Signal::CONT);
    wait_until("the origin to serve again", || tests::get(gateway.address(), "/small").status == 200);
    for _ in 0..10 {
        assert_eq!(tests::get(gateway.address(), "/small").text(), "small");
    }
}
