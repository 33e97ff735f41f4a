//! Real software on both sides: curl, Python's http.client and wrk as clients, nginx and Python as origins.

use tests::neighbour::{output, Neighbour};
use tests::pattern::Verifier;
use tests::{process, Client, Gateway, Origin};

#[test]
fn nginx_as_origin() {
    let Some(nginx) = Neighbour::nginx("nginx as origin") else { return };
    let gateway = Gateway::before(&[nginx.address()]);
    let mut client = Client::connect(gateway.address());
    for _ in 0..50 {
        client.send("GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "hello from nginx\n");
    }
    client.send("GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head();
    let mut verifier = Verifier::default();
    client.stream_body(&head, &mut |piece| verifier.push(piece));
    assert_eq!(verifier.length(), 5_000_000);
    // Compressed on the way, and so in chunks.
    client.send("GET /chunked.txt HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    let response = client.response();
    assert_eq!((response.get("content-encoding"), &response.body[..2]), (Some("gzip"), &[0x1f, 0x8b][..]));
    client.send("HEAD /large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to("HEAD").get("content-length"), Some("5000000"));
    client.send("GET /hello.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=0-4\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (206, "hello"));
    client.send("GET /none HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 404);
    // An upload that nginx reads to its end.
    client.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    client.send(tests::pattern::bytes(1_000_000));
    assert_eq!(client.response().status, 204);
}

#[test]
fn python_as_origin() {
    let Some(python) = Neighbour::python("Python as origin") else { return };
    let gateway = Gateway::before(&[python.address()]);
    let mut client = Client::connect(gateway.address());
    for _ in 0..10 {
        client.send("GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "hello from python\n");
    }
    client.send("GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head();
    let mut verifier = Verifier::default();
    client.stream_body(&head, &mut |piece| verifier.push(piece));
    assert_eq!(verifier.length(), 3_000_000);
}

#[test]
fn curl_as_client() {
    let Some(curl) = process::installed("curl", "curl as client") else { return };
    let origin = Origin::each(|request| {
        tests::ok(format!("{} {} {}", request.method, request.target, request.body.len()))
    });
    let gateway = Gateway::before(&[origin.address()]);
    let url = |path: &str| format!("http://{}{path}", gateway.address());
    let ask = |arguments: &[&str]| output(&curl, &[&["-sS", "--max-time", "20"], arguments].concat());
    assert_eq!(ask(&[&url("/a?b=c")]), "GET /a?b=c 0");
    assert_eq!(ask(&["-d", "hello", &url("/form")]), "POST /form 5");
    assert_eq!(ask(&["-X", "DELETE", &url("/gone")]), "DELETE /gone 0");
    assert_eq!(ask(&["--http1.0", &url("/old")]), "GET /old 0");
    assert!(ask(&["-I", &url("/head")]).starts_with("HTTP/1.1 200 OK\r\n"));
    // Above 1 MB curl asks with Expect: 100-continue.
    let file = gateway.folder().write("upload.bin", tests::pattern::bytes(3_000_000));
    let upload = format!("@{}", file.display());
    assert_eq!(ask(&["--data-binary", &upload, &url("/large")]), "POST /large 3000000");
    let chunked = ["-H", "Transfer-Encoding: chunked", "-T", file.to_str().expect("UTF-8")];
    assert_eq!(ask(&[&chunked[..], &[&url("/chunked")]].concat()), "PUT /chunked 3000000");
    // Several over one connection.
    let connects =
        ask(&["-w", "%{num_connects} ", "-o", "/dev/null", &url("/1"), "-o", "/dev/null", &url("/2")]);
    assert_eq!(connects, "1 0 ");
}

#[test]
fn python_as_client() {
    let Some(python) = process::installed("python3", "Python's http.client") else { return };
    let origin = Origin::each(|request| tests::ok(format!("{} {}", request.method, request.body.len())));
    let gateway = Gateway::before(&[origin.address()]);
    let script = r#"
import http.client, sys
c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=20)
out = []
for _ in range(5):
    c.request("GET", "/"); out.append(c.getresponse().read().decode())
c.request("POST", "/", body=b"x" * 100000); out.append(c.getresponse().read().decode())
c.request("PUT", "/", body=iter([b"a" * 1000, b"b" * 2000]), encode_chunked=True); out.append(c.getresponse().read().decode())
c.request("HEAD", "/"); r = c.getresponse(); out.append(str(r.status) + " " + str(len(r.read())))
print("|".join(out))
"#;
    let text = output(&python, &["-c", script, &gateway.address().port().to_string()]);
    assert_eq!(text.trim(), "GET 0|GET 0|GET 0|GET 0|GET 0|POST 100000|PUT 3000|200 0");
}

#[test]
fn wrk_as_client() {
    let Some(wrk) = process::installed("wrk", "wrk as client") else { return };
    let Some(nginx) = Neighbour::nginx("wrk against nginx") else { return };
    let gateway = Gateway::before(&[nginx.address()]);
    let url = format!("http://{}/hello.txt", gateway.address());
    let text = output(&wrk, &["-t2", "-c64", "-d2s", &url]);
    let requests = text.lines().find(|line| line.contains("requests in")).expect("wrk's report");
    let count: u64 = requests.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a count");
    assert!(count > 100, "{text}");
    for bad in ["Socket errors", "Non-2xx"] {
        assert!(!text.contains(bad), "{text}");
    }
}
