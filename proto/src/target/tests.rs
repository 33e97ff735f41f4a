//! Tables for targets, paths, hosts and queries.

use super::*;

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[track_caller]
fn check(method: Method, target: &str, expected: &str) {
    let bytes = target.as_bytes();
    let got = match parse(bytes, method) {
        Err(error) => format!("{error:?}"),
        Ok(parts) => {
            let shown = |span: Option<Span>| span.map_or("-".to_owned(), |s| text(s.of(bytes)));
            format!(
                "{:?} {} {} [{}] {}",
                parts.form,
                shown(parts.scheme),
                shown(parts.authority),
                text(parts.path.of(bytes)),
                shown(parts.query)
            )
        }
    };
    assert_eq!(got, expected, "{method:?} {target}");
}

#[test]
fn forms() {
    check(Method::Get, "/", "Origin - - [/] -");
    check(Method::Get, "/a/b", "Origin - - [/a/b] -");
    check(Method::Get, "/a?b=c", "Origin - - [/a] b=c");
    check(Method::Get, "/a?", "Origin - - [/a] ");
    check(Method::Get, "/a?b?c", "Origin - - [/a] b?c");
    check(Method::Get, "/?/../x", "Origin - - [/] /../x");
    check(Method::Get, "//a/b", "Origin - - [//a/b] -");
    check(Method::Get, "/http://a", "Origin - - [/http://a] -");
    check(Method::Options, "/", "Origin - - [/] -");
    check(Method::Options, "*", "Asterisk - - [*] -");
    check(Method::Get, "http://a/b?c", "Absolute http a [/b] c");
    check(Method::Get, "HTTPS://a:8443/b", "Absolute HTTPS a:8443 [/b] -");
    check(Method::Get, "http://a", "Absolute http a [] -");
    check(Method::Get, "http://a?b", "Absolute http a [] b");
    check(Method::Get, "http://[::1]:80/", "Absolute http [::1]:80 [/] -");
    check(Method::Options, "http://a", "Absolute http a [] -");
    check(Method::Connect, "a:443", "Authority - a:443 [] -");
    check(Method::Connect, "[::1]:443", "Authority - [::1]:443 [] -");

    check(Method::Get, "", "Form");
    check(Method::Get, "*", "Form");
    check(Method::Options, "**", "Form");
    check(Method::Options, "*?a", "Form");
    check(Method::Get, "a", "Form");
    check(Method::Get, "a/b", "Form");
    check(Method::Get, "?a", "Form");
    check(Method::Get, "a:443", "Form");
    check(Method::Get, "://a/", "Form");
    check(Method::Get, "http:/a", "Form");
    check(Method::Get, "http:a", "Form");
    check(Method::Connect, "/", "Form");
    check(Method::Connect, "a", "Form");
    check(Method::Connect, "a:", "Form");
    check(Method::Connect, "a:65536", "Form");
    check(Method::Connect, "http://a/", "Form");
    check(Method::Connect, "*", "Form");
    check(Method::Connect, ":443", "Authority");
    check(Method::Connect, "u@a:443", "Authority");
    check(Method::Get, "ftp://a/", "Scheme");
    check(Method::Get, "httpx://a/", "Scheme");
    check(Method::Get, "javascript://a/", "Scheme");
    check(Method::Get, "http://", "Authority");
    check(Method::Get, "http:///a", "Authority");
    check(Method::Get, "http://u@a/", "Authority");
    check(Method::Get, "http://u:p@a/", "Authority");
    check(Method::Get, "http://a:b/", "Authority");
    check(Method::Get, "http://a:99999/", "Authority");
    check(Method::Get, "http://a\\b/", "Authority");
    check(Method::Get, "http://[::1/", "Authority");
    for bad in
        ["/a#b", "/#", "/a b", "/a\tb", "/a\r\nb", "/a\0", "/a\u{7f}", "/caf\u{e9}", "http://a/#b", "#"]
    {
        check(Method::Get, bad, "Byte");
    }
    check(Method::Connect, "a:443#", "Byte");
}

#[test]
fn paths() {
    #[track_caller]
    fn check(path: &str, expected: &str) {
        let mut out = b"what was there".to_vec();
        let got = match normalize(path.as_bytes(), &mut out) {
            Ok(()) => text(&out),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(got, expected, "{path}");
    }
    check("", "/");
    check("/", "/");
    check("/a/b.c/d", "/a/b.c/d");
    check("/a/", "/a/");
    check("/a?b#c;d", "/a?b#c;d");

    check("//", "/");
    check("///a///b//", "/a/b/");
    check("/%2F/a%2fb", "/a/b");

    check("/.", "/");
    check("/./", "/");
    check("/a/.", "/a/");
    check("/a/./b", "/a/b");
    check("/a/..", "/");
    check("/a/../", "/");
    check("/a/b/..", "/a/");
    check("/a/b/../c", "/a/c");
    check("/a/b/../../c", "/c");
    check("/a//../b", "/b");
    check("/a/./../b", "/b");
    check("/a/%2e%2E/b", "/b");
    check("/a/.%2e/b", "/b");
    check("/a/%2E/b", "/a/b");
    check("/a/..%2Fb", "/b");
    check("/a%2f..%2fb", "/b");
    check("/...", "/...");
    check("/..a", "/..a");
    check("/a..", "/a..");
    check("/a../b", "/a../b");
    check("/.a/b", "/.a/b");
    check("/a/.b/..", "/a/");
    check("/a\\..\\b", "/a\\\\..\\\\b");

    check("/%41%20%c3%A9", "/A \\xc3\\xa9");
    check("/%2541", "/%41");
    check("/%252e%252e/a", "/%2e%2e/a");
    check("/%3F%23", "/?#");
    check("/a+b", "/a+b");

    check("/..", "AboveRoot");
    check("/../a", "AboveRoot");
    check("/a/../..", "AboveRoot");
    check("/a/../../b", "AboveRoot");
    check("/./..", "AboveRoot");
    check("//..", "AboveRoot");
    check("/%2e%2e/a", "AboveRoot");
    check("/..%2f", "AboveRoot");
    check("/%00", "Nul");
    check("/a%00b", "Nul");
    check("/a\0b", "Nul");
    check("/%", "Escape");
    check("/%4", "Escape");
    check("/%4g", "Escape");
    check("/%g4", "Escape");
    check("/%%41", "Escape");
    check("/% 41", "Escape");
    check("/%+1", "Escape");
    check("a", "Form");
    check("*", "Form");
    check("%2Fa", "Form");
}

#[test]
fn encoding() {
    fn check(decoded: &[u8], expected: &str) {
        let mut out = b"http://a".to_vec();
        encode_path(decoded, &mut out);
        assert_eq!(text(&out), format!("http://a{expected}"));
    }
    check(b"/a/b", "/a/b");
    check(b"/a b?c#d%e", "/a%20b%3Fc%23d%25e");
    check(b"/\xc3\xa9\r\n\0", "/%C3%A9%0D%0A%00");
    check(b"/-._~!$&'()*+,;=:@", "/-._~!$&\\'()*+,;=:@");
    check(b"/\"<>\\^`{|}[]", "/%22%3C%3E%5C%5E%60%7B%7C%7D%5B%5D");
}

#[test]
fn hosts() {
    #[track_caller]
    fn check(authority: &str, host: &str, port: Option<u16>) {
        let (got, got_port) = host_of(authority.as_bytes());
        assert_eq!((text(got), got_port), (host.to_owned(), port), "{authority}");
    }
    check("a", "a", None);
    check("a:80", "a", Some(80));
    check("a:", "a", None);
    check("a:0", "a", Some(0));
    check("a:65535", "a", Some(65535));
    check("a.b.:80", "a.b", Some(80));
    check("a.", "a", None);
    check(".", ".", None);
    check("[::1]", "[::1]", None);
    check("[::1]:8080", "[::1]", Some(8080));
    check("[::1]:", "[::1]", None);
    check("", "", None);
    check("a:65536", "a:65536", None);
    check("a:b", "a:b", None);
    check(":80", "", Some(80));
}

#[test]
fn authorities() {
    #[track_caller]
    fn check(authority: &str, expected: bool) {
        assert_eq!(is_authority(authority.as_bytes()), expected, "{authority}");
    }
    check("a", true);
    check("a-b_c.d~e:80", true);
    check("%41:80", true);
    check("192.0.2.1", true);
    check("[2001:db8::192.0.2.1]:1", true);
    check("a:", true);
    check("", false);
    check(":", false);
    check("a:-1", false);
    check("[v1.a]", false);
    check("a]:80", false);
    check("[::1]80", false);
    check("a|b", false);
    check("%4", false);
}

#[test]
fn arguments() {
    #[track_caller]
    fn check(query: &str, name: &str, expected: Option<&str>) {
        let got = query_arg(query.as_bytes(), name.as_bytes());
        assert_eq!(got.as_deref().map(text), expected.map(str::to_owned), "{query} {name}");
    }
    check("a=1&b=2", "a", Some("1"));
    check("a=1&b=2", "b", Some("2"));
    check("a=1&a=2", "a", Some("1"));
    check("a=1", "A", None);
    check("a=1", "b", None);
    check("ab=1&b=2", "b", Some("2"));
    check("a", "a", Some(""));
    check("a=", "a", Some(""));
    check("a=b=c", "a", Some("b=c"));
    check("a=x+y%20z%2B", "a", Some("x y z+"));
    check("a=%zz%4", "a", Some("%zz%4"));
    check("%61=1", "a", Some("1"));
    check("a+b=1", "a b", Some("1"));
    check("a%5B0%5D=1", "a[0]", Some("1"));
    check("&&a=1", "a", Some("1"));
    check("", "a", None);
    check("", "", None);
    check("=1", "", None);
    check("a;b=1", "a", None);
}

#[test]
fn errors_say_what() {
    use TargetError::*;
    for error in [Form, Byte, Scheme, Authority, Escape, Nul, AboveRoot] {
        assert!(!error.to_string().is_empty());
    }
}
