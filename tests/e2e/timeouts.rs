//! Every wait has an end: slow heads, slow bodies, dead origins, clients that do not read.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tests::wait::{pace, wait_until};
use tests::{pattern, Client, Gateway, Origin};

/// Far over any deadline here, far under the default ones.
const LATE: Duration = Duration::from_secs(8);

fn quick(origin: SocketAddr) -> Gateway {
    Gateway::start(&format!(
        "[server.limits]\nhead_timeout = \"400ms\"\nidle_timeout = \"400ms\"\nbody_timeout = \"400ms\"\nsend_timeout = \"600ms\"\n\
         [[upstreams]]\nname = \"o\"\nservers = [\"{origin}\"]\nretries = 0\n\
         timeout = {{ connect = \"400ms\", send = \"600ms\", read = \"500ms\" }}\n\
         [[routes]]\nupstream_id = \"o\"\n"
    ))
}

/// The descriptors come back to what they were.
fn settles(gateway: &Gateway, before: usize) {
    wait_until("descriptors to be freed", || gateway.descriptors() <= before);
}

#[test]
fn a_slow_head_is_408() {
    let origin = Origin::named("fine");
    let gateway = quick(origin.address());
    let before = gateway.descriptors();
    let start = Instant::now();
    let mut client = Client::sending(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n");
    assert_eq!(client.response().status, 408);
    client.assert_closed();
    assert!(start.elapsed() >= Duration::from_millis(350) && start.elapsed() < LATE, "{:?}", start.elapsed());
    // One byte now and then does not help.
    let mut client = Client::connect(gateway.address());
    let mut writer = client.second();
    let drip = std::thread::spawn(move || {
        for byte in "GET / HTTP/1.1\r\nHost: a\r\nX: ".bytes().chain(std::iter::repeat_n(b'x', 200)) {
            if writer.try_send(&[byte]).is_err() {
                return;
            }
            pace(Duration::from_millis(20));
        }
        panic!("the slow head was never refused");
    });
    assert_eq!(client.response().status, 408);
    drop(client);
    drip.join().expect("refused");
    settles(&gateway, before);
}

#[test]
fn an_idle_connection_is_closed() {
    let origin = Origin::named("fine");
    let gateway = quick(origin.address());
    let before = gateway.descriptors();
    // One that never said anything, and one after a request.
    let mut silent = Client::connect(gateway.address());
    let mut kept = Client::sending(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(kept.response().status, 200);
    kept.assert_closed();
    let rest = silent.read_to_close();
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&rest));
    wait_until("the pool and the clients to be all", || gateway.descriptors() <= before + 2);
}

#[test]
fn a_slow_body_is_408() {
    let origin = Origin::script(|mut peer| {
        if let Some(request) = peer.head() {
            assert!(peer.body(&request, &mut |_| {}).is_none(), "half a body must not look whole");
        }
    });
    // The upstream may wait longer than the client may pause.
    let gateway = Gateway::start(&format!(
        "[server.limits]\nbody_timeout = \"400ms\"\n[[routes]]\nupstream = [\"{origin}\"]\n"
    ));
    let before = gateway.descriptors();
    for head in ["Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n64\r\nhalf"] {
        let mut client = Client::sending(gateway.address(), format!("POST / HTTP/1.1\r\nHost: a\r\n{head}"));
        assert_eq!(client.response().status, 408);
        client.assert_closed();
    }
    settles(&gateway, before);
    wait_until("the origin's connections to be closed", || origin.open() == 0);
}

#[test]
fn an_origin_that_never_answers_is_504() {
    let origin = Origin::silent();
    let gateway = quick(origin.address());
    let before = gateway.descriptors();
    let start = Instant::now();
    assert_eq!(tests::get(gateway.address(), "/silent").status, 504);
    assert!(start.elapsed() >= Duration::from_millis(450) && start.elapsed() < LATE, "{:?}", start.elapsed());
    settles(&gateway, before);
    assert_eq!(gateway.wait_access_of("/silent")["status"], 504);
    wait_until("the origin's connection to be closed", || origin.open() == 0);
}

#[test]
fn an_origin_that_stops_in_its_head_is_504() {
    let origin = Origin::script(|mut peer| {
        if peer.request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Le");
            peer.until_closed();
        }
    });
    let gateway = quick(origin.address());
    assert_eq!(tests::get(gateway.address(), "/").status, 504);
}

#[test]
fn an_origin_that_stops_in_its_body_breaks_off() {
    let origin = Origin::script(|mut peer| {
        if peer.request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            peer.until_closed();
        }
    });
    let gateway = quick(origin.address());
    let before = gateway.descriptors();
    let mut client = Client::sending(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let start = Instant::now();
    assert!(client.try_response_to("GET").is_err(), "half a body must not look whole");
    assert!(start.elapsed() < LATE);
    settles(&gateway, before);
}

/// An origin that trickles is slow, not dead: the deadline is between two reads.
#[test]
fn a_slow_but_living_origin_is_waited_for() {
    let origin = Origin::script(|mut peer| {
        if peer.request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
            for _ in 0..10 {
                pace(Duration::from_millis(150));
                peer.send("x");
            }
            peer.until_closed();
        }
    });
    let gateway = quick(origin.address());
    assert_eq!(tests::get(gateway.address(), "/").text(), "xxxxxxxxxx");
}

/// A listener whose queue is full drops SYNs: a connect that hangs.
#[test]
fn a_hanging_connect_is_504() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("a free port");
    socket.listen(0).expect("listens");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("bound");
    let mut filling = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        filling.push(stream);
        assert!(filling.len() < 100, "the queue never fills");
    }
    let gateway = quick(address);
    let before = gateway.descriptors();
    let start = Instant::now();
    assert_eq!(tests::get(gateway.address(), "/hang").status, 504);
    assert!(start.elapsed() < LATE, "{:?}", start.elapsed());
    settles(&gateway, before);
}

/// A client that does not read its answer is let go, and its upstream connection with it.
#[test]
fn a_stalled_client_is_let_go() {
    let origin = Origin::script(|mut peer| {
        if peer.request().is_none() {
            return;
        }
        let _ = peer.try_send(b"HTTP/1.1 200 OK\r\nContent-Length: 500000000\r\n\r\n");
        let mut offset = 0;
        while peer.try_send(pattern::piece(offset, 60_000)).is_ok() {
            offset += 60_000;
        }
    });
    let gateway = quick(origin.address());
    let before = gateway.descriptors();
    let mut client = Client::sending(gateway.address(), "GET /stalled HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status, 200);
    wait_until("the origin's connection to be closed", || origin.open() == 0);
    settles(&gateway, before);
    drop(client);
}

/// An origin that does not take the request body.
#[test]
fn an_origin_that_does_not_read_is_504() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let origin = Origin::script(move |mut peer| {
        if peer.head().is_some() {
            // Holds the connection without reading until the case is over.
            let _ = held.lock().expect("one connection").recv_timeout(LATE * 2);
        }
    });
    let gateway = quick(origin.address());
    let mut client =
        Client::sending(gateway.address(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000000\r\n\r\n");
    let mut writer = client.second();
    let sender = std::thread::spawn(move || {
        let mut offset = 0;
        while writer.try_send(pattern::piece(offset, 60_000)).is_ok() && offset < 500_000_000 {
            offset += 60_000;
        }
    });
    let start = Instant::now();
    assert_eq!(client.response().status, 504);
    assert!(start.elapsed() < LATE);
    drop(client);
    drop(release);
    sender.join().expect("the upload was given up");
}
