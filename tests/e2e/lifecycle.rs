//! Start and end: drains, signals, reopened logs, starts that cannot succeed.

use rustix::process::Signal;
use std::net::TcpStream;
use std::sync::mpsc::{channel, Sender};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tests::gateway::{route_to, Start};
use tests::wait::{wait_until, SOON};
use tests::{Client, Gateway, Origin};

/// An origin that sends half an answer and the rest when told.
fn half_way() -> (Origin, Sender<()>) {
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let origin = Origin::script(move |mut peer| {
        if peer.request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
            let _ = held.lock().expect("one connection at a time").recv_timeout(SOON * 2);
            let _ = peer.try_send(b"half");
            peer.until_closed();
        }
    });
    (origin, release)
}

#[test]
fn term_and_quit_drain() {
    for signal in [Signal::TERM, Signal::QUIT] {
        let (origin, release) = half_way();
        let mut gateway = Gateway::before(&[origin.address()]);
        let address = gateway.address();
        let mut idle = Client::connect(address);
        let mut busy = Client::sending(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = busy.head();
        gateway.signal(signal);
        wait_until("new connections to be refused", || TcpStream::connect(address).is_err());
        idle.assert_closed();
        assert!(gateway.is_running(), "it waits for the request under way");
        release.send(()).expect("the origin waits");
        assert_eq!(busy.read_body(head.length("GET")).expect("the whole answer").0, b"halfhalf");
        busy.assert_closed();
        let status = gateway.wait_end();
        assert!(status.success(), "{status}");
    }
}

/// A request that comes on a kept connection while draining is answered, and the connection closed.
#[test]
fn the_last_answer_says_close() {
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let origin = Origin::script(move |mut peer| {
        while peer.request().is_some() {
            let _ = held.lock().expect("one connection at a time").recv_timeout(SOON * 2);
            peer.send(tests::ok("fine"));
        }
    });
    let mut gateway = Gateway::before(&[origin.address()]);
    let mut client = Client::sending(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the origin to be asked", || origin.count() == 1);
    let address = gateway.address();
    gateway.signal(Signal::TERM);
    wait_until("the drain to begin", || TcpStream::connect(address).is_err());
    release.send(()).expect("the origin waits");
    let response = client.response();
    assert_eq!((response.text().as_str(), response.closes()), ("fine", true));
    client.assert_closed();
    assert!(gateway.wait_end().success());
}

#[test]
fn a_drain_has_an_end() {
    let (origin, _release) = half_way();
    let mut gateway =
        Gateway::start(&format!("[server]\ndrain_timeout = \"500ms\"\n{}", route_to(&[origin.address()])));
    let mut client = Client::sending(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head();
    let start = Instant::now();
    gateway.signal(Signal::TERM);
    gateway.wait_end();
    assert!(start.elapsed() >= Duration::from_millis(400) && start.elapsed() < Duration::from_secs(10));
    assert!(client.read_body(head.length("GET")).is_err(), "half an answer must not look whole");
}

#[test]
fn interrupted_twice_it_ends_at_once() {
    let (origin, _release) = half_way();
    let mut gateway = Gateway::before(&[origin.address()]);
    let mut client = Client::sending(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    let address = gateway.address();
    gateway.signal(Signal::INT);
    wait_until("the drain to begin", || TcpStream::connect(address).is_err());
    assert!(gateway.is_running());
    let start = Instant::now();
    gateway.signal(Signal::INT);
    gateway.wait_end();
    assert!(start.elapsed() < Duration::from_secs(10), "far below the drain's 30 s: {:?}", start.elapsed());
}

#[test]
fn an_idle_gateway_stops_cleanly() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    assert_eq!(tests::get(gateway.address(), "/").text(), "fine");
    let start = Instant::now();
    gateway.stop();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    wait_until("the pool to be closed", || origin.open() == 0);
}

#[test]
fn usr1_reopens_the_access_log() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    let path = gateway.folder().path().join("access.log");
    let rotated = gateway.folder().path().join("access.log.1");
    tests::get(gateway.address(), "/first");
    gateway.wait_access_of("/first");
    std::fs::rename(&path, &rotated).expect("a rename within one folder");
    gateway.signal(Signal::USR1);
    wait_until("the log to be reopened", || path.exists());
    tests::get(gateway.address(), "/second");
    gateway.wait_access_of("/second");
    let old = std::fs::read_to_string(rotated).expect("rotated");
    assert!(old.contains("/first") && !old.contains("/second"), "{old}");
}

/// Two gateways never share a port by accident, although SO_REUSEPORT would let them.
#[test]
fn a_second_gateway_on_the_same_port_is_refused() {
    let origin = Origin::named("fine");
    let first = Gateway::before(&[origin.address()]);
    let config = format!("[server]\nlisten = \"{}\"\n{}", first.address(), route_to(&[origin.address()]));
    match Start::new().try_start(&config) {
        Ok(_) => panic!("two gateways on {}", first.address()),
        Err((status, log)) => {
            assert!(!status.success());
            assert!(log.contains(&first.address().to_string()), "it says where: {log}");
        }
    }
    assert_eq!(tests::get(first.address(), "/").text(), "fine");
}

#[test]
fn a_bad_config_ends_the_start_with_3() {
    let (status, log) =
        Start::new().try_start("[[routes]]\nupstream_id = \"nobody\"\n").err().expect("it is refused");
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("nobody") && log.contains("ringway.toml"), "{log}");
}

#[test]
fn the_first_lines_say_what_runs() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    let log = gateway.log_text();
    for word in
        [env!("CARGO_PKG_VERSION"), "ringway.toml", "driver", "cores", "listening", "routes", "generation"]
    {
        assert!(log.contains(word), "{word} is missing in\n{log}");
    }
    for line in log.lines() {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok(), "no terminal, so JSON: {line}");
    }
}

#[test]
fn includes_and_environment() {
    let origin = Origin::named("fine");
    let address = origin.address().to_string();
    let gateway = Start::new()
        .env("RINGWAY_TEST_ORIGIN", &address)
        .file("conf.d/more.toml", "[[routes]]\nuri = \"/included\"\nupstream = [\"${env:RINGWAY_TEST_ORIGIN}\"]\n")
        .start("include = [\"conf.d/*.toml\"]\n[[routes]]\nuri = \"/default\"\nupstream = [\"${env:RINGWAY_TEST_NONE:-127.0.0.1:1}\"]\n");
    assert_eq!(tests::get(gateway.address(), "/included").text(), "fine");
    assert_eq!(tests::get(gateway.address(), "/default").status, 502);
}
