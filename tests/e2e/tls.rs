//! TLS toward clients: which certificate, which version, resumption, reload, limits, and the same bytes as in the clear.

use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, SupportedProtocolVersion};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::gateway::{both, route_to, run, Start};
use tests::origin::ok;
use tests::process::{which, Folder};
use tests::tls::{Authority, Issued, TlsClient};
use tests::wait::wait_until;
use tests::{pattern, Gateway, Origin};

const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// An entry of `[[ssls]]`.
fn ssl(snis: &str, issued: &Issued, more: &str) -> String {
    format!("[[ssls]]\nsnis = {snis}\ncert = '''{}'''\nkey = '''{}'''\n{more}\n", issued.cert, issued.key)
}

/// A gateway with a TLS listener before an origin.
fn document(origin: &Origin, ssls: &str) -> String {
    let routes = route_to(&[origin.address()]);
    format!("{routes}\n[[listeners]]\nname = \"secure\"\naddress = \"127.0.0.1:0\"\ntls = true\n{ssls}")
}

fn echo() -> Origin {
    Origin::each(|request| ok(format!("{} {}", request.target, request.body.len())))
}

#[test]
fn the_name_chooses_the_certificate() {
    let authority = Authority::new();
    let (exact, wild, default) =
        (authority.issue(&["a.test"]), authority.issue(&["*.a.test"]), authority.issue(&["other.test"]));
    let origin = echo();
    let gateway = Gateway::start(&document(
        &origin,
        &format!(
            "{}{}{}",
            ssl("[\"a.test\"]", &exact, ""),
            ssl("[\"*.a.test\"]", &wild, ""),
            ssl("\"*\"", &default, "")
        ),
    ));
    let address = gateway.listener("secure");
    // A client checks the name: a handshake that succeeds got the right one.
    let check = |name: &str, good: bool| {
        for version in BOTH {
            let client = TlsClient::connect(address, name, &authority.client(&[version]));
            assert_eq!(client.is_ok(), good, "{name} {version:?}");
            if let Ok(mut client) = client {
                assert_eq!(client.get(name, "/x").expect("an answer").text(), "/x 0");
            }
        }
    };
    check("a.test", true);
    check("b.a.test", true);
    check("other.test", true);
    check("c.b.a.test", false); // a wildcard stands for one label: the default's name is another
                                // A request for a name with another certificate is not for this connection.
    let mut client = TlsClient::connect(address, "a.test", &authority.client(BOTH)).expect("a handshake");
    assert_eq!(client.get("a.test", "/").expect("an answer").status, 200);
    assert_eq!(client.get("B.A.test:443", "/").expect("an answer").status, 421);
    assert_eq!(client.get("a.test", "/again").expect("an answer").text(), "/again 0");
    let line = gateway.wait_access("the misdirected", |record| record["status"] == 421);
    assert_eq!((line["term"].as_str(), line["sni"].as_str()), (Some("misdirected"), Some("a.test")));
    assert_eq!(line["tls_version"], "TLSv1.3");
}

#[test]
fn without_a_certificate_for_a_name_the_handshake_is_refused() {
    let authority = Authority::new();
    let origin = echo();
    let gateway = Gateway::start(&document(&origin, &ssl("[\"a.test\"]", &authority.issue(&["a.test"]), "")));
    let refused = TlsClient::connect(gateway.listener("secure"), "b.test", &authority.client(BOTH));
    let error = refused.err().expect("no handshake").to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
    wait_until("it is counted", || gateway.metric("ringway_tls_handshake_failures_total", &[]) >= 1.0);
}

#[test]
fn versions_are_the_entrys() {
    let authority = Authority::new();
    let origin = echo();
    let one = |name: &str, version: &str| {
        ssl(&format!("\"{name}\""), &authority.issue(&[name]), &format!("ssl_protocols = [\"{version}\"]"))
    };
    let gateway =
        Gateway::start(&document(&origin, &(one("old.test", "TLSv1.2") + &one("new.test", "TLSv1.3"))));
    let check = |name: &str, version: &'static SupportedProtocolVersion, good: bool| {
        let client = TlsClient::connect(gateway.listener("secure"), name, &authority.client(&[version]));
        assert_eq!(client.is_ok(), good, "{name} {version:?}");
    };
    check("old.test", &TLS12, true);
    check("old.test", &TLS13, false);
    check("new.test", &TLS12, false);
    check("new.test", &TLS13, true);
}

#[test]
fn upstreams_and_logs_hear_of_it() {
    let authority = Authority::new();
    let origin = Origin::each(|request| {
        let field = |name| request.fields.get(name).unwrap_or_default().to_owned();
        ok(format!("{} {}", field("x-forwarded-proto"), field("x-forwarded-port")))
    });
    let gateway = Gateway::start(&document(&origin, &ssl("\"a.test\"", &authority.issue(&["a.test"]), "")));
    let address = gateway.listener("secure");
    let mut client =
        TlsClient::connect(address, "a.test", &authority.client(&[&TLS12])).expect("a handshake");
    let told = client.get("a.test", "/told").expect("an answer").text();
    assert_eq!(told, format!("https {}", address.port()));
    let line = gateway.wait_access_of("/told");
    assert_eq!((line["tls_version"].as_str(), line["sni"].as_str()), (Some("TLSv1.2"), Some("a.test")));
    let cipher = line["tls_cipher"].as_str().unwrap_or_default();
    assert!(cipher.starts_with("TLS_ECDHE_ECDSA_WITH_"), "{line}");
}

#[test]
fn sessions_resume_on_any_core_and_after_reloads() {
    let authority = Authority::new();
    let origin = echo();
    let text = document(&origin, &ssl("\"a.test\"", &authority.issue(&["a.test"]), ""));
    let gateway = Gateway::start(&text);
    for version in BOTH {
        let config = authority.client(&[version]);
        let kind = || {
            let mut client =
                TlsClient::connect(gateway.listener("secure"), "a.test", &config).expect("a handshake");
            assert_eq!(client.get("a.test", "/").expect("an answer").status, 200);
            client.stream.conn.handshake_kind()
        };
        assert_ne!(kind(), Some(HandshakeKind::Resumed), "the first one is full");
        // Two cores: among sixteen connections both are met.
        for at in 0..16 {
            if at == 8 {
                gateway.replace(&format!(
                    "{text}\n[[ssls]]\nsnis = \"more{}.test\"\n{}",
                    version_number(version),
                    {
                        let more = authority.issue(&["more.test"]);
                        format!("cert = '''{}'''\nkey = '''{}'''\n", more.cert, more.key)
                    }
                ));
            }
            assert_eq!(kind(), Some(HandshakeKind::Resumed), "{version:?} number {at}");
        }
    }
    assert!(gateway.metric("ringway_tls_resumed_total", &[]) >= 32.0);
}

fn version_number(version: &SupportedProtocolVersion) -> &'static str {
    if *version == TLS12 {
        "12"
    } else {
        "13"
    }
}

#[test]
fn bodies_are_the_same_bytes_both_ways() {
    let authority = Authority::new();
    let origin = Origin::each(|request| ok(&request.body));
    let gateway = Gateway::start(&document(&origin, &ssl("\"a.test\"", &authority.issue(&["a.test"]), "")));
    for version in BOTH {
        let config = authority.client(&[version]);
        let mut client =
            TlsClient::connect(gateway.listener("secure"), "a.test", &config).expect("a handshake");
        for size in [0, 1, 16 * 1024 - 1, 16 * 1024, 64 * 1024 + 1, 3_000_000] {
            let body = pattern::bytes(size);
            let head = format!("POST /{size} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {size}\r\n\r\n");
            client.send(&[head.as_bytes(), &body].concat()).expect("sent");
            let response = client.response().expect("an answer");
            assert_eq!(response.status, 200);
            assert!(response.body == body, "{size} bytes came back changed");
        }
    }
}

#[test]
fn requests_in_tiny_pieces_and_pipelined() {
    let authority = Authority::new();
    let origin = echo();
    let gateway = Gateway::start(&document(&origin, &ssl("\"a.test\"", &authority.issue(&["a.test"]), "")));
    let config = authority.client(BOTH);
    let mut client = TlsClient::connect(gateway.listener("secure"), "a.test", &config).expect("a handshake");
    // Every byte a record of its own.
    for byte in b"POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello" {
        client.send(&[*byte]).expect("sent");
    }
    assert_eq!(client.response().expect("an answer").text(), "/a 5");
    let all: String = (0..200).map(|at| format!("GET /{at} HTTP/1.1\r\nHost: a.test\r\n\r\n")).collect();
    client.send(all.as_bytes()).expect("sent");
    for at in 0..200 {
        assert_eq!(client.response().expect("an answer").text(), format!("/{at} 0"));
    }
}

#[test]
fn an_idle_connection_is_parked_and_serves_on() {
    let authority = Authority::new();
    let origin = echo();
    let gateway = Gateway::start(&document(&origin, &ssl("\"a.test\"", &authority.issue(&["a.test"]), "")));
    let config = authority.client(BOTH);
    let mut client = TlsClient::connect(gateway.listener("secure"), "a.test", &config).expect("a handshake");
    for at in 0..2 {
        assert_eq!(client.get("a.test", &format!("/{at}")).expect("an answer").text(), format!("/{at} 0"));
        wait_until("it is parked", || gateway.metric("ringway_connections_parked", &[]) >= 1.0);
    }
    // Half a record, a pause in which the read is cancelled, and the rest of it.
    let mut records = Vec::new();
    client.stream.conn.writer().write_all(b"GET /late HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("room");
    while client.stream.conn.wants_write() {
        client.stream.conn.write_tls(&mut records).expect("memory");
    }
    let (first, rest) = records.split_at(records.len() / 2);
    client.stream.sock.write_all(first).expect("sent");
    let parked = || gateway.metric("ringway_connections_parked", &[]);
    wait_until("it is read from", || parked() < 1.0);
    wait_until("it is parked again", || parked() >= 1.0);
    client.stream.sock.write_all(rest).expect("sent");
    assert_eq!(client.response().expect("an answer").text(), "/late 0");
}

#[test]
fn a_slow_handshake_ends_at_its_deadline() {
    let authority = Authority::new();
    let origin = echo();
    let limits = "[server.limits]\ntls_handshake_timeout = \"500ms\"\n";
    let text = document(&origin, &ssl("\"a.test\"", &authority.issue(&["a.test"]), ""));
    let gateway = Gateway::start(&format!("{limits}{text}"));
    let silent = TcpStream::connect(gateway.listener("secure")).expect("it listens");
    let mut slow = TcpStream::connect(gateway.listener("secure")).expect("it listens");
    let began = Instant::now();
    // A record that says that it is 512 bytes long, of which few ever come.
    slow.write_all(&[22, 3, 1, 2, 0, 1, 0]).expect("sent");
    for mut socket in [silent, slow] {
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
        let end = socket.read(&mut [0; 64]);
        assert!(
            matches!(end, Ok(0))
                || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        );
        let took = began.elapsed();
        assert!((Duration::from_millis(500)..Duration::from_secs(3)).contains(&took), "{took:?}");
    }
}

#[test]
fn plain_http_and_noise_on_a_tls_port() {
    let authority = Authority::new();
    let origin = echo();
    let gateway = Gateway::start(&document(&origin, &ssl("\"a.test\"", &authority.issue(&["a.test"]), "")));
    let response = tests::get(gateway.listener("secure"), "/");
    assert_eq!(response.status, 400);
    assert!(response.text().contains("HTTPS"), "{}", response.text());
    for noise in [&b"\0\0\0\0"[..], &[22, 3, 1, 0, 5, 1, 0, 0, 1, 7], &[0xff; 400]] {
        let mut socket = TcpStream::connect(gateway.listener("secure")).expect("it listens");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
        socket.write_all(noise).expect("sent");
        let _ = socket.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        assert!(rest.len() < 64, "an alert at most: {rest:?}");
    }
    let mut client =
        TlsClient::connect(gateway.listener("secure"), "a.test", &authority.client(BOTH)).expect("serves");
    assert_eq!(client.get("a.test", "/on").expect("an answer").status, 200);
}

#[test]
fn a_body_until_close_ends_with_a_close_notify_and_a_cut_one_without() {
    let authority = Authority::new();
    let origin = Origin::script(|mut peer| {
        if let Some(request) = peer.request() {
            match request.target.as_str() {
                "/whole" => peer.send("HTTP/1.0 200 OK\r\n\r\nuntil the end"),
                _ => peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
            }
        }
    });
    let gateway = Gateway::start(&document(&origin, &ssl("\"a.test\"", &authority.issue(&["a.test"]), "")));
    let read = |target: &str| {
        let config = authority.client(BOTH);
        let mut client =
            TlsClient::connect(gateway.listener("secure"), "a.test", &config).expect("a handshake");
        client.send(format!("GET {target} HTTP/1.0\r\nHost: a.test\r\n\r\n").as_bytes()).expect("sent");
        let mut all = Vec::new();
        // rustls reports an end without close_notify as an error.
        let end = client.stream.read_to_end(&mut all).map(drop);
        (String::from_utf8_lossy(&all).into_owned(), end.is_ok())
    };
    let (text, in_order) = read("/whole");
    assert!(text.ends_with("until the end") && in_order, "{text}");
    let (text, in_order) = read("/cut");
    assert!(text.ends_with("half") && !in_order, "{text}");
}

#[test]
fn clients_that_leave_are_noticed() {
    let authority = Authority::new();
    let origin = Origin::silent();
    let gateway = Gateway::start(&document(&origin, &ssl("\"a.test\"", &authority.issue(&["a.test"]), "")));
    let config = authority.client(BOTH);
    let mut client = TlsClient::connect(gateway.listener("secure"), "a.test", &config).expect("a handshake");
    client.send(b"GET /left HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("sent");
    wait_until("the origin has it", || origin.open() == 1);
    drop(client);
    assert_eq!(gateway.wait_access_of("/left")["term"], "client_abort");
    wait_until("the origin's connection is closed", || origin.open() == 0);
}

#[test]
fn certificates_are_reloaded_under_load() {
    let authority = Authority::new();
    let origin = echo();
    let text =
        document(&origin, "[[ssls]]\nsnis = \"a.test\"\ncert = \"${file:a.pem}\"\nkey = \"${file:a.key}\"\n");
    let first = authority.issue(&["a.test"]);
    let start = Start::new().file("a.pem", &first.cert).file("a.key", &first.key);
    let gateway = start.start(&text);
    let address = gateway.listener("secure");
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut kept = TlsClient::connect(address, "a.test", &authority.client(BOTH)).expect("a handshake");
    let load: Vec<_> = (0..4)
        .map(|at| {
            let (stop, served) = (stop.clone(), served.clone());
            let config = authority.client(&BOTH[at % 2..][..1]);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut client = TlsClient::connect(address, "a.test", &config).expect("a handshake");
                    for _ in 0..5 {
                        assert_eq!(client.get("a.test", "/load").expect("an answer").status, 200);
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let serial = |client: &TlsClient| client.stream.conn.peer_certificates().expect("shown")[0].to_vec();
    let before = serial(&kept);
    for _ in 0..tests::gateway::scaled(100) {
        let next = authority.issue(&["a.test"]);
        gateway.folder().write("a.key", &next.key);
        gateway.folder().write("a.pem", &next.cert);
        let output = gateway.reload();
        assert!(output.status.success(), "{}", both(&output));
    }
    let seen = served.load(Ordering::Relaxed);
    wait_until("the load goes on", || served.load(Ordering::Relaxed) > seen + 20);
    stop.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().expect("no request failed");
    }
    assert_eq!(kept.get("a.test", "/kept").expect("the old connection stays").status, 200);
    let fresh = TlsClient::connect(address, "a.test", &authority.client(BOTH)).expect("a handshake");
    assert_ne!(serial(&fresh), before, "the new certificate is shown");
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_and_no_key_is_quoted() {
    let authority = Authority::new();
    let (one, other) = (authority.issue(&["a.test"]), authority.issue(&["b.test"]));
    let check = |ssls: &str, words: &[&str], good: bool| {
        let folder = Folder::new();
        let listener =
            "[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\n[[routes]]\nupstream = \"127.0.0.1:1\"\n";
        let path = folder.write("ringway.toml", format!("{listener}{ssls}"));
        let output = run(&["check", "-c", &path.to_string_lossy()]);
        let said = both(&output);
        assert_eq!(output.status.success(), good, "{said}");
        for word in words {
            assert!(said.contains(word), "{said} lacks {word}");
        }
        for key in [&one.key, &other.key] {
            let secret = key.lines().nth(1).expect("a key has lines");
            assert!(!said.contains(secret), "{said}");
        }
    };
    check(&ssl("\"a.test\"", &one, ""), &[], true);
    check("", &["has TLS and there is no certificate", "add [[ssls]]"], false);
    let mixed = Issued { cert: one.cert.clone(), key: other.key.clone() };
    check(&ssl("\"a.test\"", &mixed, ""), &["does not belong to the certificate"], false);
    let swapped = Issued { cert: one.key.clone(), key: one.cert.clone() };
    check(&ssl("\"a.test\"", &swapped, ""), &["no certificate in PEM form", "no key in PEM form"], false);
    let broken = Issued { key: one.key.replace('M', "x"), ..one.clone() };
    check(&ssl("\"a.test\"", &broken, ""), &["error: "], false);
    check(&(ssl("\"*\"", &one, "") + &ssl("\"*\"", &other, "")), &["two default certificates"], false);
    check(
        &(ssl("\"a.test\"", &one, "") + &ssl("\"A.test\"", &other, "")),
        &["two certificates for the name `a.test`"],
        false,
    );
    check(&ssl("\"a.*.test\"", &one, ""), &["invalid server name `a.*.test`"], false);
    check(&ssl("\"a.test\"", &one, "ssl_protocols = [\"TLSv1.1\"]"), &["`TLSv1.1` is not spoken"], false);
    let old = authority.issue_expired(&["a.test"]);
    check(&ssl("\"a.test\"", &old, ""), &["warning", "has expired on Wed, 01 Jan 2020"], true);
    check("[[ssls]]\ncert = \"${file:none.pem}\"\nkey = \"x\"\n", &["cannot read", "none.pem"], false);
}

#[test]
fn real_clients() {
    let authority = Authority::new();
    let origin = echo();
    let rsa = which("openssl").map(|openssl| {
        let made = Command::new(openssl).args(["genrsa", "2048"]).stderr(Stdio::null()).output();
        let key = String::from_utf8(made.expect("openssl runs").stdout).expect("PEM");
        authority.issue_for(&["a.test"], &rcgen::KeyPair::from_pem(&key).expect("a key"), None)
    });
    let issued = authority.issue(&["a.test"]);
    let more = rsa
        .as_ref()
        .map_or(String::new(), |rsa| format!("certs = ['''{}''']\nkeys = ['''{}''']", rsa.cert, rsa.key));
    let start = Start::new().file("ca.pem", &authority.pem);
    let gateway = start.start(&document(&origin, &ssl("\"a.test\"", &issued, &more)));
    let ca = gateway.folder().path().join("ca.pem").to_string_lossy().into_owned();
    let port = gateway.listener("secure").port();
    if let Some(curl) = which("curl") {
        let body = gateway.folder().write("body", pattern::bytes(300_000));
        let upload = format!("@{}", body.display());
        let resolve = format!("a.test:{port}:127.0.0.1");
        let url = format!("https://a.test:{port}/curl");
        for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
            let arguments =
                ["-sS", "--cacert", &ca, "--resolve", &resolve, "--data-binary", &upload, &url, &url];
            let output = Command::new(&curl).args(version).args(arguments).output().expect("curl runs");
            assert_eq!(both(&output), "/curl 300000/curl 300000", "{version:?}");
        }
    }
    if let Some(openssl) = which("openssl") {
        let said = |more: &[&str]| {
            let connect = format!("127.0.0.1:{port}");
            let mut command = Command::new(&openssl);
            command
                .args(["s_client", "-connect", &connect, "-servername", "a.test", "-CAfile", &ca])
                .args(more);
            both(&command.stdin(Stdio::null()).output().expect("openssl runs"))
        };
        for (more, words) in [
            (&["-tls1_3"][..], &["TLSv1.3", "Verify return code: 0", "ALPN"][..]),
            (&["-tls1_2"], &["ECDHE-ECDSA", "Verify return code: 0"]),
            (
                &["-tls1_2", "-sigalgs", "RSA-PSS+SHA256", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
                &["ECDHE-RSA"],
            ),
            (&["-tls1_3", "-alpn", "h2,http/1.1"], &["ALPN protocol: http/1.1"]),
            (&["-tls1_3", "-alpn", "h3"], &["alert"]),
        ] {
            let text = said(more);
            for word in words {
                assert!(text.contains(word), "{more:?} lacks {word}: {text}");
            }
        }
        assert!(said(&["-tls1_1"]).contains("Cipher is (NONE)"), "an old version is not spoken");
    }
}

#[test]
fn clients_show_certificates() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let origin = Origin::each(|request| ok(request.fields.get("x-who").unwrap_or("-")));
    let rewrite =
        "[routes.plugins.proxy-rewrite.headers.set]\nx-who = \"$ssl_client_verify $ssl_client_s_dn\"\n";
    let routes = format!("{}{rewrite}", route_to(&[origin.address()]));
    let text = |client: &str| {
        let issued = ssl("\"a.test\"", &authority.issue(&["a.test"]), client);
        let open = ssl("\"open.test\"", &authority.issue(&["open.test"]), "");
        format!("{routes}\n[[listeners]]\nname = \"secure\"\naddress = \"127.0.0.1:0\"\ntls = true\n{issued}{open}")
    };
    let strict = format!("client = {{ ca = '''{}''' }}", authority.pem);
    let gateway = Gateway::start(&text(&strict));
    let address = gateway.listener("secure");
    let get = |config: &Arc<rustls::ClientConfig>, path: &str| -> std::io::Result<(u16, String)> {
        let mut client = TlsClient::connect(address, "a.test", config)?;
        let response = client.get("a.test", path)?;
        Ok((response.status, response.text()))
    };
    let (me, other) = (authority.issue(&["me"]), stranger.issue(&["me"]));
    for version in BOTH {
        let known = authority.client_with(&[version], Some(&me));
        for _ in 0..2 {
            // The second resumes, and is the same client.
            assert_eq!(get(&known, "/").expect("let in"), (200, "SUCCESS CN=me".to_owned()), "{version:?}");
        }
        get(&authority.client(&[version]), "/").expect_err("none");
        get(&authority.client_with(&[version], Some(&other)), "/").expect_err("a stranger's");
        // Nor by a connection for a name that demands nothing.
        let mut around =
            TlsClient::connect(address, "open.test", &authority.client(&[version])).expect("open");
        assert_eq!(around.get("open.test", "/").expect("an answer").status, 200);
        assert_eq!(around.get("a.test", "/").expect("an answer").status, 421);
    }
    // Some paths go without.
    let skip = format!("client = {{ ca = '''{}''', skip_mtls_uri_regex = [\"^/free\"] }}", authority.pem);
    let known = authority.client_with(BOTH, Some(&me));
    let mut before = TlsClient::connect(address, "a.test", &known).expect("a handshake");
    assert_eq!(before.get("a.test", "/").expect("an answer").status, 200);
    gateway.replace(&text(&skip));
    assert_eq!(before.get("a.test", "/").expect("an answer").status, 421, "another policy now");
    let nobody = authority.client(BOTH);
    assert_eq!(get(&nobody, "/free").expect("an answer").1, "NONE");
    assert_eq!(get(&nobody, "/x/../free").expect("an answer").0, 200);
    assert_eq!(get(&nobody, "/free/../x").expect("an answer").0, 400);
    assert_eq!(get(&known, "/x").expect("an answer").0, 200);
    get(&authority.client_with(BOTH, Some(&other)), "/free").expect_err("a stranger's");
    // A ticket from the laxer policy does not open the tighter one.
    gateway.replace(&text(&strict));
    get(&nobody, "/free").expect_err("tightened");
}
