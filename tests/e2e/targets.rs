//! Request targets: the four forms of RFC 9112 section 3.2, and paths that are refused or seen normalised.

use tests::{request, table, Client, Gateway, Origin};

#[test]
fn absolute_form_overrides_the_host() {
    let origin = Origin::named("fine");
    let gateway = Gateway::start(&format!(
        "[[routes]]\nhost = \"right.test\"\nuri = \"/a/*\"\nupstream = [\"{origin}\"]\n"
    ));
    let response = request(
        gateway.address(),
        "GET http://right.test/a/b?c=d HTTP/1.1\r\nHost: wrong.test\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(response.status, 200);
    let seen = origin.last();
    // RFC 9112 section 3.2.2: the Host field that came is ignored and replaced.
    assert_eq!((seen.target.as_str(), seen.fields.all("host")), ("/a/b?c=d", vec!["right.test"]));
    // Without a path it means "/" (section 3.2.1).
    let gateway = Gateway::before(&[origin.address()]);
    let bare = "GET http://right.test HTTP/1.1\r\nHost: right.test\r\nConnection: close\r\n\r\n";
    assert_eq!(request(gateway.address(), bare).status, 200);
    assert_eq!(origin.last().target, "/");
}

#[test]
fn forms_that_are_not_for_us() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    let rows: &[(&str, &[u16])] = &[
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nConnection: close\r\n\r\n", &[400, 405, 501]),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[400]),
        ("GET * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[400]),
        ("GET a:443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[400]),
        ("GET foo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[400]),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[400]),
        ("GET http://user@a/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[400]),
    ];
    table::each(
        rows,
        |(bytes, _)| (*bytes).to_owned(),
        |(bytes, statuses)| {
            let mut client = Client::sending(gateway.address(), bytes);
            // Not read as an answer to CONNECT: whatever it says, no tunnel may open.
            let response = client.response();
            assert!(statuses.contains(&response.status), "{}", response.status);
            client.assert_closed();
        },
    );
    assert_eq!(origin.count(), 0, "none of these reaches an origin");
}

#[test]
fn options_asterisk_is_forwarded() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    let response = request(gateway.address(), "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    // RFC 9112 section 3.2.4: the last proxy sends `*`; a gateway may as well answer for itself.
    assert!([200, 204].contains(&response.status), "{}", response.status);
    if origin.count() > 0 {
        assert_eq!((origin.last().method.as_str(), origin.last().target.as_str()), ("OPTIONS", "*"));
    }
}

#[test]
fn paths_that_mean_nothing_are_400() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    let rows: &[(&str, u16)] = &[
        ("/%00", 400),
        ("/a%00b", 400),
        ("/%", 400),
        ("/%4", 400),
        ("/%zz", 400),
        ("/%u0041", 400),
        ("/..", 400),
        ("/../a", 400),
        ("/a/../../b", 400),
        ("/%2e%2e/a", 400),
        ("/a/%2e%2e/%2E%2E/b", 400),
        ("/a/..%2f..%2fb", 400),
        ("/a#b", 400),
        ("/a/../b", 200),
        ("/a/./b", 200),
        ("//a///b", 200),
        ("/%41", 200),
        ("/...", 200),
        ("/a..b", 200),
        ("/a?b=%zz&c=../..", 200),
        ("/?", 200),
    ];
    table::each(
        rows,
        |(target, _)| (*target).to_owned(),
        |(target, status)| {
            assert_eq!(tests::get(gateway.address(), target).status, *status);
            if *status == 200 {
                // The upstream gets the bytes as they came.
                assert_eq!(origin.last().target, *target);
            }
        },
    );
}

#[test]
fn routes_see_the_path_decoded_and_clean() {
    let secret = Origin::named("secret");
    let open = Origin::named("open");
    let gateway = Gateway::start(&format!(
        "[[routes]]\nuri = \"/secret/*\"\nupstream = [\"{secret}\"]\n[[routes]]\nuri = \"/*\"\nupstream = [\"{open}\"]\n"
    ));
    let rows = [
        ("/secret/a", "secret"),
        ("//secret//a", "secret"),
        ("/%73ecret/a", "secret"),
        ("/open/../secret/a", "secret"),
        ("/open/%2e%2e/secret/a", "secret"),
        ("/./secret/a", "secret"),
        ("/secret%2Fa", "secret"),
        ("/secret/../open", "open"),
        ("/secreta", "open"),
        ("/%2573ecret/a", "open"),
        ("/?/secret/a", "open"),
    ];
    table::each(
        &rows,
        |(target, _)| (*target).to_owned(),
        |(target, name)| assert_eq!(tests::get(gateway.address(), target).text(), *name),
    );
}
