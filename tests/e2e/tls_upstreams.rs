//! TLS toward upstreams: verified by default, pooled by identity, resumed, and 502 `upstream_tls` where it fails.

use tests::gateway::Start;
use tests::tls::{Authority, TlsOrigin};
use tests::{pattern, Client, Gateway, Origin};

/// A gateway before one endpoint, with these lines in its upstream.
fn gateway(address: std::net::SocketAddr, lines: &str, authority: &Authority) -> Gateway {
    let start = Start::new().file("ca.pem", &authority.pem);
    start.start(&format!(
        "[[upstreams]]\nname = \"secure\"\nservers = [\"{address}\"]\nscheme = \"https\"\n{lines}\n[[routes]]\nupstream = \"secure\"\n"
    ))
}

#[test]
fn endpoints_are_verified() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let check = |issuer: &Authority, names: &[&str], tls: &str, status: u16| {
        let origin = TlsOrigin::start(&issuer.issue(names), None);
        let gateway = gateway(origin.address(), tls, &authority);
        let response = tests::get(gateway.address(), "/x");
        assert_eq!(response.status, status, "{names:?} {tls}");
        let term = if status == 200 { "ok" } else { "upstream_tls" };
        assert_eq!(gateway.wait_access_of("/x")["term"], term, "{names:?} {tls}");
    };
    let ours = "ca = \"${file:ca.pem}\"";
    check(&authority, &["a.test"], &format!("tls = {{ {ours}, server_name = \"a.test\" }}"), 200);
    check(&authority, &["a.test"], &format!("tls = {{ {ours}, server_name = \"b.test\" }}"), 502);
    check(&authority, &["127.0.0.1"], &format!("tls = {{ {ours} }}"), 200);
    check(&authority, &["a.test"], &format!("tls = {{ {ours} }}"), 502);
    check(&stranger, &["127.0.0.1"], &format!("tls = {{ {ours} }}"), 502);
    check(&authority, &["127.0.0.1"], "", 502); // the system does not know this authority
    check(&stranger, &["a.test"], "tls = { verify = false }", 200);
}

#[test]
fn the_name_is_the_upstream_hosts_where_it_is_rewritten() {
    let authority = Authority::new();
    let origin = TlsOrigin::start(&authority.issue(&["inner.test"]), None);
    let lines = "pass_host = \"rewrite\"\nupstream_host = \"inner.test\"\ntls = { ca = \"${file:ca.pem}\" }";
    let gateway = gateway(origin.address(), lines, &authority);
    let response = tests::get(gateway.address(), "/");
    assert_eq!((response.get("x-sni"), response.get("x-host")), (Some("inner.test"), Some("inner.test")));
}

#[test]
fn connections_are_kept_and_bodies_are_the_same_bytes() {
    let authority = Authority::new();
    let origin = TlsOrigin::start(&authority.issue(&["127.0.0.1"]), None);
    let gateway = gateway(origin.address(), "tls = { ca = \"${file:ca.pem}\" }", &authority);
    let mut client = Client::connect(gateway.address());
    for size in [1, 100, 16_384, 65_537, 2_000_000] {
        let body = pattern::bytes(size);
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
        client.send(&body);
        let response = client.response();
        assert_eq!(response.status, 200);
        assert!(response.body == body, "{size} bytes came back changed");
    }
    assert_eq!(origin.connections(), 1, "one client, one core, one upstream connection");
}

#[test]
fn sessions_resume() {
    let authority = Authority::new();
    let origin = TlsOrigin::start(&authority.issue(&["127.0.0.1"]), None);
    let gateway = gateway(origin.address(), "tls = { ca = \"${file:ca.pem}\" }", &authority);
    let mut client = Client::connect(gateway.address());
    for _ in 0..5 {
        client.send("GET /close HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "/close");
    }
    assert_eq!((origin.connections(), origin.resumed()), (5, 4));
}

#[test]
fn a_client_certificate_is_shown() {
    let authority = Authority::new();
    let origin = TlsOrigin::start(&authority.issue(&["127.0.0.1"]), Some(&authority));
    let own = authority.issue(&["gateway.test"]);
    let with = format!(
        "tls = {{ ca = \"${{file:ca.pem}}\", client_cert = '''{}''', client_key = '''{}''' }}",
        own.cert, own.key
    );
    let gateway_with = gateway(origin.address(), &with, &authority);
    assert_eq!(tests::get(gateway_with.address(), "/").status, 200);
    let gateway_without = gateway(origin.address(), "tls = { ca = \"${file:ca.pem}\" }", &authority);
    assert_eq!(tests::get(gateway_without.address(), "/").status, 502);
}

#[test]
fn pools_are_apart_by_identity() {
    let authority = Authority::new();
    let origin = TlsOrigin::start(&authority.issue(&["a.test", "b.test"]), None);
    let upstream = |name: &str| {
        format!(
            "[[upstreams]]\nname = \"{name}\"\nservers = [\"{}\"]\nscheme = \"https\"\ntls = {{ ca = \"${{file:ca.pem}}\", server_name = \"{name}.test\" }}\n[[routes]]\nuri = \"/{name}\"\nupstream = \"{name}\"\n",
            origin.address()
        )
    };
    let start = Start::new().file("ca.pem", &authority.pem);
    let gateway = start.start(&(upstream("a") + &upstream("b")));
    let mut client = Client::connect(gateway.address());
    for name in ["a", "b", "a", "b"] {
        client.send(format!("GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(client.response().get("x-sni"), Some(format!("{name}.test").as_str()));
    }
    assert_eq!(origin.connections(), 2);
}

#[test]
fn an_endpoint_without_tls_is_no_endpoint() {
    let authority = Authority::new();
    let origin = Origin::named("plain");
    let gateway =
        gateway(origin.address(), "tls = { verify = false }\ntimeout = { connect = \"1s\" }", &authority);
    assert!([502, 504].contains(&tests::get(gateway.address(), "/").status));
}
