//! New configs under way: by signal, by file watch, by command; bad ones change nothing; nobody is disturbed.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tests::gateway::{both, route_to, scaled};
use tests::origin::ok;
use tests::pattern::{self, Verifier};
use tests::wait::{stays, wait_for, wait_until, SOON};
use tests::{websocket, Client, Gateway, Origin};

fn answers(gateway: &Gateway) -> String {
    tests::get(gateway.address(), "/").text()
}

#[test]
fn by_signal() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let gateway = Gateway::before(&[old.address()]);
    assert_eq!(answers(&gateway), "old");
    gateway.rewrite_and_hup(&route_to(&[new.address()]));
    wait_until("the new routes", || answers(&gateway) == "new");
    stays("the new routes", Duration::from_millis(300), || answers(&gateway) == "new");
}

#[test]
fn by_file_watch() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let gateway = Gateway::before(&[old.address()]);
    // An atomic rename, as editors and config managers do ...
    gateway.rewrite(&route_to(&[new.address()]));
    wait_until("the new routes", || answers(&gateway) == "new");
    // ... and a plain write in place.
    let text = std::fs::read_to_string(gateway.config()).expect("our config");
    let text = text.replace(&new.address().to_string(), &old.address().to_string());
    std::fs::write(gateway.config(), text).expect("room on the disk");
    wait_until("the old routes", || answers(&gateway) == "old");
}

#[test]
fn by_command() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let gateway = Gateway::before(&[old.address()]);
    let generation = gateway.generation();
    gateway.replace(&route_to(&[new.address()]));
    // It waited: every core serves the new plan, whichever takes these.
    for _ in 0..20 {
        assert_eq!(answers(&gateway), "new");
    }
    assert!(gateway.generation() > generation);
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    let generation = gateway.generation();
    let good = std::fs::read_to_string(gateway.config()).expect("our config");
    let bad = [
        ("not TOML", "[[routes\n", "ringway.toml"),
        ("an unknown key", "[[routes]]\nupstrem = [\"127.0.0.1:1\"]\n", "upstream"),
        ("a dangling reference", "[[routes]]\nupstream_id = \"nobody\"\n", "nobody"),
        ("an unknown plugin", "[[routes]]\nupstream = [\"127.0.0.1:1\"]\nplugins = { no-such = {} }\n", "no-such"),
        ("a bad plugin setting", "[[routes]]\nupstream = [\"127.0.0.1:1\"]\nplugins = { limit-count = { count = 0, time_window = 1 } }\n", "count"),
    ];
    for (name, routes, word) in bad {
        if routes.parse::<toml::Table>().is_ok() {
            gateway.rewrite(routes);
        } else {
            gateway.folder().write("ringway.toml", routes);
        }
        let output = gateway.reload();
        assert_eq!(output.status.code(), Some(3), "{name}: {}", both(&output));
        assert!(both(&output).contains(word), "{name}: {}", both(&output));
        assert_eq!(answers(&gateway), "fine", "{name}");
        assert_eq!(gateway.generation(), generation, "{name}");
    }
    gateway.wait_log(&["upstream"]);
    gateway.folder().write("ringway.toml", good);
    assert!(gateway.reload().status.success());
}

#[test]
fn keep_alive_clients_see_the_new_routes() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let gateway = Gateway::before(&[old.address()]);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(gateway.address())).collect();
    let ask = |client: &mut Client| {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.response().text()
    };
    assert!(clients.iter_mut().all(|client| ask(client) == "old"));
    gateway.replace(&route_to(&[new.address()]));
    assert!(clients.iter_mut().all(|client| ask(client) == "new"));
}

/// A request under way keeps the plan it began with.
#[test]
fn a_request_under_way_is_not_disturbed() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let old = Origin::script(move |mut peer| {
        if peer.request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
            let _ = held.lock().expect("one connection").recv_timeout(SOON);
            peer.send("half");
            peer.until_closed();
        }
    });
    let new = Origin::named("new");
    let gateway = Gateway::before(&[old.address()]);
    let mut client = Client::sending(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head();
    gateway.replace(&route_to(&[new.address()]));
    release.send(()).expect("the origin waits");
    assert_eq!(client.read_body(head.length("GET")).expect("the rest").0, b"halfhalf");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "new", "the same connection, the new plan");
}

#[test]
fn listeners_come_and_go() {
    let origin = Origin::named("fine");
    let listeners = |names: &[&str]| {
        let all: String = names
            .iter()
            .map(|name| format!("[[listeners]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\n"))
            .collect();
        format!("{all}[[routes]]\nupstream = [\"{origin}\"]\n")
    };
    let gateway = Gateway::start(&listeners(&["first"]));
    let first = gateway.listener("first");
    let mut kept = Client::connect(first);
    let ask = |client: &mut Client| {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.response().text()
    };
    assert_eq!(ask(&mut kept), "fine");
    gateway.replace(&listeners(&["first", "second"]));
    let second = wait_for("the second listener", SOON, || gateway.try_listener("second"));
    assert_eq!(tests::get(second, "/").text(), "fine");
    assert_eq!(tests::get(first, "/").text(), "fine");
    assert_eq!(ask(&mut kept), "fine", "a listener that stays is not touched");
    gateway.replace(&listeners(&["first"]));
    wait_until("the second listener to be gone", || TcpStream::connect(second).is_err());
    assert_eq!(ask(&mut kept), "fine");
    assert_eq!(tests::get(first, "/").text(), "fine");
}

#[test]
fn a_listener_that_cannot_be_bound_changes_nothing() {
    let origin = Origin::named("fine");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let gateway = Gateway::before(&[origin.address()]);
    let generation = gateway.generation();
    gateway.rewrite(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[[listeners]]\nname = \"taken\"\naddress = \"{address}\"\n[[routes]]\nupstream = [\"{origin}\"]\n"
    ));
    let output = gateway.reload();
    assert!(!output.status.success(), "{}", both(&output));
    assert!(
        both(&output).contains(&address.to_string()) || both(&output).contains("taken"),
        "{}",
        both(&output)
    );
    assert_eq!((answers(&gateway).as_str(), gateway.generation()), ("fine", generation));
}

#[test]
fn cores_ask_for_a_restart() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    gateway.rewrite(&format!("[cores]\ncount = 1\n{}", route_to(&[origin.address()])));
    let output = gateway.reload();
    assert!(!output.status.success() && both(&output).contains("restart"), "{}", both(&output));
    assert_eq!(answers(&gateway), "fine");
}

/// What did not change keeps its pool: no new upstream connection because of a reload.
#[test]
fn pools_survive() {
    let origin = Origin::named("fine");
    let config = |more: &str| {
        format!("[[upstreams]]\nname = \"o\"\nservers = [\"{origin}\"]\n[[routes]]\nname = \"r\"\nupstream_id = \"o\"\n{more}")
    };
    let gateway = Gateway::start(&config(""));
    let mut client = Client::connect(gateway.address());
    for round in 0..5 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "fine");
        gateway.replace(&config(&format!(
            "[[routes]]\nname = \"n{round}\"\nuri = \"/n{round}\"\nupstream_id = \"o\"\n"
        )));
    }
    assert_eq!(origin.connections(), 1);
}

/// The main promise: reloads under load, with 64 kept connections, a large upload and a WebSocket open. No request
/// fails, no connection is closed.
#[test]
fn under_load_nobody_notices() {
    let reloads = scaled(50).max(4);
    let upload_bytes = scaled(100_000_000) as u64;
    let origin = Origin::each(|request| ok(&request.target));
    let sink = Origin::script(|mut peer| {
        while let Some(request) = peer.head() {
            let mut verifier = Verifier::default();
            if peer.body(&request, &mut |piece| verifier.push(piece)).is_none() {
                return;
            }
            peer.send(ok(verifier.length().to_string()));
        }
    });
    let sockets = websocket::echo_origin();
    let config = |round: usize| {
        format!(
            "[[routes]]\nuri = \"/*\"\nupstream = [\"{origin}\"]\n[[routes]]\nuri = \"/up\"\nupstream = [\"{sink}\"]\n\
             [[routes]]\nuri = \"/ws\"\nenable_websocket = true\nupstream = [\"{sockets}\"]\n\
             [[routes]]\nuri = \"/round/{round}\"\nupstream = [\"{origin}\"]\n"
        )
    };
    let gateway = Gateway::start(&config(0));
    let address = gateway.address();
    let over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));

    let load: Vec<_> = (0..8)
        .map(|thread| {
            let (over, served) = (Arc::clone(&over), Arc::clone(&served));
            std::thread::spawn(move || {
                let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(address)).collect();
                let mut at = 0;
                while !over.load(Ordering::SeqCst) {
                    for (number, client) in clients.iter_mut().enumerate() {
                        let path = format!("/{thread}/{number}/{at}");
                        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
                        let response = client.response();
                        assert_eq!((response.status, response.text()), (200, path));
                        assert!(!response.closes(), "a connection was closed");
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                    at += 1;
                }
                clients
            })
        })
        .collect();
    let upload_over = Arc::clone(&over);
    let upload = std::thread::spawn(move || {
        let mut client = Client::connect(address);
        client.send(format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {upload_bytes}\r\n\r\n"));
        let mut sent = 0;
        // All but the last piece at once; the last one when the reloads are over, so that it lasts through them.
        while sent < upload_bytes {
            let last = upload_bytes - sent <= 60_000;
            if last {
                wait_for("the reloads to be over", Duration::from_secs(600), || {
                    upload_over.load(Ordering::SeqCst).then_some(())
                });
            }
            let piece = pattern::piece(sent, 60_000.min((upload_bytes - sent) as usize));
            client.send(piece);
            sent += piece.len() as u64;
        }
        assert_eq!(client.response().text(), upload_bytes.to_string());
    });
    let mut tunnel = websocket::open(address, "/ws");
    for round in 1..=reloads {
        let before = served.load(Ordering::SeqCst);
        gateway.replace(&config(round));
        assert_eq!(tests::get(address, &format!("/round/{round}")).status, 200);
        websocket::echo(&mut tunnel, format!("round {round}").as_bytes());
        wait_until("load between two reloads", || {
            served.load(Ordering::SeqCst) > before + 64
                || load.iter().any(std::thread::JoinHandle::is_finished)
        });
    }
    over.store(true, Ordering::SeqCst);
    for thread in load {
        thread.join().expect("no request failed");
    }
    upload.join().expect("the upload was whole");
    websocket::echo(&mut tunnel, b"still open");
}
