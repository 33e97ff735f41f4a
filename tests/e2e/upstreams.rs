//! Upstreams: shares by weight, backups, tries elsewhere, names, Unix sockets.

use std::io::{Read, Write};
use tests::origin::ok;
use tests::{request, table, Client, Gateway, Origin};

fn upstream(servers: &str, more: &str) -> String {
    format!("[[upstreams]]\nname = \"o\"\nservers = [{servers}]\n{more}\n[[routes]]\nupstream_id = \"o\"\n")
}

/// Asks over one connection, and so on one core.
fn names(gateway: &Gateway, count: usize) -> Vec<String> {
    let mut client = Client::connect(gateway.address());
    (0..count)
        .map(|_| {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            client.response().text()
        })
        .collect()
}

#[test]
fn shares_follow_weights_exactly() {
    let origins = [Origin::named("a"), Origin::named("b"), Origin::named("c")];
    let [a, b, c] = &origins;
    let rows = [
        (format!("\"{a}\", \"{b}\""), [20, 20, 0]),
        (format!("\"{a} weight=3\", \"{b}\""), [30, 10, 0]),
        (format!("\"{a} weight=5\", \"{b} weight=2\", \"{c} weight=1\""), [25, 10, 5]),
        (format!("\"{a} weight=0\", \"{b}\""), [0, 40, 0]),
        (format!("\"{a} down\", \"{b}\""), [0, 40, 0]),
        (format!("\"{a} backup\", \"{b}\""), [0, 40, 0]),
    ];
    table::each(
        &rows,
        |(servers, _)| servers.clone(),
        |(servers, shares)| {
            let got = names(&Gateway::start(&upstream(servers, "")), 40);
            let counts = ["a", "b", "c"].map(|name| got.iter().filter(|one| *one == name).count());
            assert_eq!(counts, *shares);
            if shares[0] == 30 {
                // Smooth: never more than three of the heavy one in a row.
                assert!(got.windows(4).all(|four| four.iter().any(|name| name == "b")), "{got:?}");
            }
        },
    );
}

#[test]
fn a_refused_connect_is_tried_elsewhere() {
    let origin = Origin::named("fine");
    let gone = Origin::refused();
    let gateway = Gateway::start(&upstream(&format!("\"{gone}\", \"{origin}\""), ""));
    assert_eq!(names(&gateway, 20), vec!["fine"; 20]);
    // Nothing was sent yet, so any method may go elsewhere, its body with it.
    for _ in 0..4 {
        let post = "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
        assert_eq!(request(gateway.address(), post).text(), "fine");
        assert_eq!(origin.last().body, b"hello");
    }
    let record = gateway.wait_access("a second try", |record| record["tries"] == 2);
    assert_eq!(
        (record["status"].as_u64(), record["upstream"].as_str().map(|u| u.contains(&origin.to_string()))),
        (Some(200), Some(true)),
        "{record}"
    );
}

#[test]
fn when_nobody_can_be_reached_it_is_502() {
    let (first, second) = (Origin::refused(), Origin::refused());
    let origin = Origin::named("fine");
    let rows = [
        (upstream(&format!("\"{first}\""), ""), 502),
        (upstream(&format!("\"{first}\", \"{second}\""), ""), 502),
        (upstream(&format!("\"{first}\", \"{origin} backup\""), "retries = 0"), 502),
        (upstream(&format!("\"{first}\", \"{second}\", \"{origin} backup\""), "retries = 1"), 502),
        (upstream(&format!("\"{first}\", \"{second}\", \"{origin} backup\""), "retries = 2"), 200),
    ];
    table::each(
        &rows,
        |(toml, _)| toml.clone(),
        |(toml, status)| {
            let gateway = Gateway::start(toml);
            let response = tests::get(gateway.address(), "/");
            assert_eq!(response.status, *status);
            if *status == 502 {
                let tried = response.get("x-ringway-upstream-status").expect("a 5xx of the tries says so");
                assert!(tried.split(", ").all(|one| one == "502"), "{tried}");
            }
        },
    );
}

/// A 5xx of the origin's own is the answer, not a failed try.
#[test]
fn an_answered_error_is_not_retried() {
    let bad = Origin::fixed("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy");
    let good = Origin::named("fine");
    let gateway = Gateway::start(&upstream(&format!("\"{bad} weight=100\", \"{good}\""), ""));
    let response = tests::get(gateway.address(), "/");
    assert_eq!((response.status, response.text().as_str()), (503, "busy"));
    assert_eq!(bad.count(), 1);
}

/// A read timeout before an answer: idempotent requests go elsewhere, a sent POST does not.
#[test]
fn a_timeout_is_retried_only_where_that_is_safe() {
    let silent = Origin::silent();
    let good = Origin::named("fine");
    let gateway = Gateway::start(&upstream(
        &format!("\"{silent}\", \"{good} backup\""),
        "timeout = { read = \"400ms\" }",
    ));
    assert_eq!(tests::get(gateway.address(), "/").text(), "fine");
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    assert_eq!(request(gateway.address(), post).status, 504);
    assert!(good.seen().iter().all(|seen| seen.method == "GET"));
}

#[test]
fn a_name_is_resolved_and_all_its_addresses_are_tried() {
    // `localhost` may be ::1 as well, where nothing listens.
    let origin = Origin::each(|request| ok(request.fields.get("host").unwrap_or_default()));
    let server = format!("localhost:{}", origin.address().port());
    for (option, host) in [("", "a"), ("pass_host = \"node\"", server.as_str())] {
        let gateway = Gateway::start(&upstream(&format!("\"{server}\""), option));
        assert_eq!(names(&gateway, 10), vec![host; 10]);
    }
}

#[test]
fn a_name_that_does_not_resolve_is_not_fatal() {
    let gateway = Gateway::start(
        "[[routes]]\nuri = \"/bad\"\nupstream = [\"no-such-name.invalid:80\"]\n[[routes]]\nuri = \"/none\"\nupstream = [\"127.0.0.1:1\"]\n",
    );
    let status = tests::get(gateway.address(), "/bad").status;
    assert!([502, 503].contains(&status), "{status}");
    assert_eq!(tests::get(gateway.address(), "/none").status, 502);
}

#[test]
fn an_upstream_on_a_unix_socket() {
    let folder = tests::process::Folder::new();
    let path = folder.path().join("origin.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a fresh path");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut part = [0; 4096];
            while stream.read(&mut part).is_ok_and(|count| count > 0) {
                if stream.write_all(&ok("by unix")).is_err() {
                    break;
                }
            }
        }
    });
    let gateway = Gateway::start(&upstream(&format!("\"unix:{}\"", path.display()), ""));
    assert_eq!(names(&gateway, 5), vec!["by unix"; 5]);
}

#[test]
fn a_listener_on_a_unix_socket() {
    let origin = Origin::named("fine");
    let folder = tests::process::Folder::new();
    let path = folder.path().join("in.sock");
    let _gateway = Gateway::start(&format!(
        "[[listeners]]\nname = \"unix\"\naddress = \"unix:{}\"\n[[routes]]\nupstream = [\"{origin}\"]\n",
        path.display()
    ));
    let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("it listens");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("fine"), "{answer}");
}
