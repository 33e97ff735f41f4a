//! Both drivers, and machines on which io_uring is forbidden.

use tests::gateway::{route_to, Start};
use tests::{Client, Gateway, Origin};

fn serves(gateway: &Gateway) {
    let mut client = Client::connect(gateway.address());
    for _ in 0..20 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.response().text(), "fine");
    }
}

fn driver_line(gateway: &Gateway) -> String {
    gateway.wait_log(&["driver"])
}

#[test]
fn epoll_by_config() {
    let origin = Origin::named("fine");
    let gateway = Start::new().driver("epoll").start(&route_to(&[origin.address()]));
    serves(&gateway);
    assert!(driver_line(&gateway).contains("epoll"), "{}", driver_line(&gateway));
}

#[test]
fn epoll_by_environment() {
    let origin = Origin::named("fine");
    let gateway = Start::new()
        .env("MONOIO_FORCE_LEGACY_DRIVER", "1")
        .driver("auto")
        .start(&route_to(&[origin.address()]));
    serves(&gateway);
    assert!(driver_line(&gateway).contains("epoll"), "{}", driver_line(&gateway));
}

/// As in a container whose seccomp profile forbids io_uring: it falls back, and says so.
#[test]
fn epoll_where_io_uring_is_forbidden() {
    let origin = Origin::named("fine");
    let gateway = Start::new()
        .through(env!("CARGO_BIN_EXE_without-io-uring"))
        .driver("auto")
        .start(&route_to(&[origin.address()]));
    serves(&gateway);
    assert!(driver_line(&gateway).contains("epoll"), "{}", driver_line(&gateway));
}

/// Asked for and missing is an error, never a silent fallback.
#[test]
fn io_uring_asked_for_where_it_is_forbidden_is_an_error() {
    let origin = Origin::named("fine");
    let ended = Start::new()
        .through(env!("CARGO_BIN_EXE_without-io-uring"))
        .driver("io_uring")
        .try_start(&route_to(&[origin.address()]));
    let (status, log) = ended.err().expect("it does not start");
    assert!(!status.success() && log.contains("io_uring"), "{status}: {log}");
}

/// Both cores take connections: with SO_REUSEPORT 200 of them all on one core would be a wonder.
#[test]
fn all_cores_serve() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    for _ in 0..200 {
        assert_eq!(tests::get(gateway.address(), "/").text(), "fine");
    }
    assert!(origin.connections() >= 2, "each core has a pool of its own");
}
