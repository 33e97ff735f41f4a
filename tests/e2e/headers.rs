//! Header fields on their way through: hop-by-hop ones end here, the rest keeps its order, case and duplicates.

use tests::origin::ok;
use tests::{request, table, Client, Gateway, Origin};

/// The names and values that the origin saw, without what the gateway puts on.
fn forwarded(origin: &Origin) -> Vec<(String, String)> {
    const OURS: [&str; 7] = [
        "x-real-ip",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "connection",
        "via",
    ];
    let fields = origin.last().fields.0;
    fields.into_iter().filter(|(name, _)| !OURS.contains(&name.to_ascii_lowercase().as_str())).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn order_case_and_duplicates_are_kept() {
    let origin = Origin::fixed(
        "HTTP/1.1 200 Fine Indeed\r\nX-B: 1\r\nSet-Cookie: a=1\r\nx-a: 2\r\nSET-COOKIE: b=2\r\nX-Empty:\r\nX-B: 3\r\nContent-Length: 0\r\n\r\n",
    );
    let gateway = Gateway::before(&[origin.address()]);
    let response = request(
        gateway.address(),
        "GET /p HTTP/1.1\r\nzz-Last: 1\r\nHoSt: a.test\r\nX-Dup: 1\r\ncookie: a=b\r\nx-dup: 2\r\nX-Dup: 1\r\nX-Empty:\r\nAccept: */*\r\n\r\n",
    );
    assert_eq!(
        forwarded(&origin),
        pairs(&[
            ("zz-Last", "1"),
            ("HoSt", "a.test"),
            ("X-Dup", "1"),
            ("cookie", "a=b"),
            ("x-dup", "2"),
            ("X-Dup", "1"),
            ("X-Empty", ""),
            ("Accept", "*/*"),
        ])
    );
    let theirs: Vec<(String, String)> = response
        .fields
        .0
        .iter()
        .filter(|(name, _)| !["date", "server", "connection"].contains(&name.to_ascii_lowercase().as_str()))
        .cloned()
        .collect();
    assert_eq!(
        theirs,
        pairs(&[
            ("X-B", "1"),
            ("Set-Cookie", "a=1"),
            ("x-a", "2"),
            ("SET-COOKIE", "b=2"),
            ("X-Empty", ""),
            ("X-B", "3"),
            ("Content-Length", "0"),
        ])
    );
    assert_eq!(response.reason, "Fine Indeed");
}

#[test]
fn hop_by_hop_fields_end_here() {
    let origin = Origin::fixed(
        "HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\nX-End: 2\r\nContent-Length: 0\r\n\r\n",
    );
    let gateway = Gateway::before(&[origin.address()]);
    let response = request(
        gateway.address(),
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Named , x-other\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\nTE: gzip\r\nUpgrade: h2c\r\nX-Named: secret\r\nX-Other: secret\r\nX-End: 1\r\n\r\n",
    );
    assert_eq!(forwarded(&origin), pairs(&[("Host", "a"), ("X-End", "1")]));
    for name in ["x-hop", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(!response.fields.has(name), "{name} came through");
    }
    assert_eq!(response.get("x-end"), Some("2"));
}

/// `Connection` cannot be used to take away what the gateway itself says or what the message needs.
#[test]
fn connection_cannot_strip_what_matters() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    let response = request(
        gateway.address(),
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close, Host, Content-Length, X-Forwarded-For, X-Real-IP\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!(response.text(), "fine");
    let seen = origin.last();
    assert_eq!((seen.fields.get("host"), seen.body.as_slice()), (Some("a"), &b"hello"[..]));
    assert_eq!(seen.fields.get("x-real-ip"), Some("127.0.0.1"));
    assert!(seen.fields.get("x-forwarded-for").is_some_and(|value| value.ends_with("127.0.0.1")));
}

#[test]
fn the_upstream_is_told_who_asked() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    request(
        gateway.address(),
        "GET / HTTP/1.1\r\nHost: shop.test:81\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Port: 6\r\nX-Real-IP: 6.6.6.6\r\nConnection: close\r\n\r\n",
    );
    let seen = origin.last();
    let port = gateway.address().port().to_string();
    let rows = [
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-for", "1.2.3.4, 127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "shop.test:81"),
        ("x-forwarded-port", port.as_str()),
    ];
    table::each(
        &rows,
        |(name, _)| (*name).to_owned(),
        |(name, value)| assert_eq!(seen.fields.all(name), vec![*value]),
    );
}

#[test]
fn a_trusted_peer_is_believed() {
    let origin = Origin::named("fine");
    let gateway = Gateway::start(&format!(
        "[server]\ntrusted_addresses = [\"127.0.0.0/8\"]\n[[routes]]\nupstream = [\"{origin}\"]\n"
    ));
    request(
        gateway.address(),
        "GET /trusted HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: real.test\r\nX-Forwarded-Port: 443\r\nConnection: close\r\n\r\n",
    );
    let seen = origin.last();
    assert_eq!(seen.fields.get("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.fields.get("x-forwarded-host"), Some("real.test"));
    assert_eq!(seen.fields.get("x-forwarded-port"), Some("443"));
    assert_eq!(seen.fields.get("x-forwarded-for"), Some("1.2.3.4, 127.0.0.1"));
    assert_eq!(gateway.wait_access_of("/trusted")["client_ip"], "1.2.3.4");
}

/// What only the gateway may say about a consumer cannot be said by a client.
#[test]
fn a_client_cannot_pose_as_a_consumer() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    request(
        gateway.address(),
        "GET / HTTP/1.1\r\nHost: a\r\nX-Consumer-Username: root\r\nx_consumer_username: root\r\nX-Consumer_Group-Id: g\r\nX-Credential-Identifier: c\r\nX_Credential_Identifier: c\r\nX-Consumed: fine\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(forwarded(&origin), pairs(&[("Host", "a"), ("X-Consumed", "fine")]));
}

#[test]
fn the_host_follows_pass_host() {
    let origin = Origin::named("fine");
    let own = origin.address().to_string();
    let rows = [
        ("pass_host = \"pass\"", "shop.test"),
        ("pass_host = \"node\"", own.as_str()),
        ("pass_host = \"rewrite\"\nupstream_host = \"inner.test\"", "inner.test"),
    ];
    table::each(
        &rows,
        |(option, _)| (*option).to_owned(),
        |(option, host)| {
            let gateway = Gateway::start(&format!(
                "[[upstreams]]\nname = \"o\"\nservers = [\"{own}\"]\n{option}\n[[routes]]\nupstream_id = \"o\"\n"
            ));
            request(gateway.address(), "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n");
            let seen = origin.last();
            assert_eq!(seen.fields.all("host"), vec![*host]);
            assert_eq!(seen.fields.get("x-forwarded-host"), Some("shop.test"));
        },
    );
}

/// A 1.0 client's request goes upstream as 1.1, with a Host.
#[test]
fn requests_go_upstream_as_http_1_1() {
    let origin = Origin::each(|_| ok("fine"));
    let gateway = Gateway::before(&[origin.address()]);
    let mut client = Client::sending(gateway.address(), "GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().version, "HTTP/1.1");
    let seen = origin.last();
    assert_eq!(seen.version, "HTTP/1.1");
    assert!(seen.fields.has("host"), "RFC 9112 section 3.2 asks for one");
    // And a 1.0 answer comes down as 1.1.
    let old = Origin::fixed("HTTP/1.0 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine");
    let gateway = Gateway::before(&[old.address()]);
    assert_eq!(tests::get(gateway.address(), "/").version, "HTTP/1.1");
}
