//! Whatever is wrong with an upstream, what is said of it says what to do.

use super::{env, parse_str, remedied, BASE};

/// No error leaves the operator alone with what is wrong.
#[test]
fn every_error_has_a_remedy() {
    const BAD: &[&str] = &[
        r#"type="foo""#,
        "type=\"chash\"\nhash_on=\"foo\"\nkey=\"uri\"",
        "type=\"chash\"\nhash_on=\"vars_combinations\"\nkey=\"$1\"",
        r#"retries=-1"#,
        r#"retries=1.5"#,
        r#"retries="2""#,
        r#"retries=1001"#,
        r#"timeout={connect=0}"#,
        r#"timeout={foo=1}"#,
        r#"timeout="5s""#,
        r#"retry={on=[200]}"#,
        r#"retry={on=["foo"]}"#,
        r#"retry={on=502}"#,
        r#"retry={methods=["NO PE"]}"#,
        r#"retry={budget="120%"}"#,
        r#"retry={budget=-0.1}"#,
        r#"retry={per_try_timeout=0}"#,
        r#"retry={backoff={base="1s",max="10ms"}}"#,
        r#"retry={foo=1}"#,
        r#"hedge={after="1s",max=6}"#,
        r#"hedge=true"#,
        r#"max_conns="x""#,
        "queue={size=10,timeout=0}\nmax_conns=1",
        r#"outlier={max_ejected="101%"}"#,
        r#"outlier={min_requests=0}"#,
        r#"outlier={base_time="10s",max_time="1s"}"#,
        r#"panic_threshold="120%""#,
        r#"panic_threshold=-1"#,
        r#"breaker={error_ratio="150%"}"#,
        r#"breaker={open=0}"#,
        r#"breaker={trials=0}"#,
        r#"concurrency_limit={min=10,max=5}"#,
        r#"concurrency_limit={min=0}"#,
        r#"checks={active={type="foo"}}"#,
        r#"checks={active={timeout=0}}"#,
        r#"checks={active={http_path="nolead"}}"#,
        r#"checks={active={port=70000}}"#,
        r#"checks={active={req_headers="x: y"}}"#,
        r#"checks={active={req_headers=["X: a\u0000"]}}"#,
        r#"checks={active={healthy={interval="1ms"}}}"#,
        r#"checks={active={healthy={successes=255}}}"#,
        r#"checks={active={healthy={http_statuses=[99]}}}"#,
        r#"checks={active={host="a b"}}"#,
        r#"checks={passive={interval=1}}"#,
        r#"sticky={nope=1}"#,
        r#"pass_host="foo""#,
        r#"scheme="foo""#,
        r#"upstream_host="a b""#,
        r#"keepalive_pool={size=-1}"#,
        r#"labels=1"#,
        r#"desc=[]"#,
        r#"servers=["127.0.0.1:1 weight=-1"]"#,
        r#"servers=["127.0.0.1:1 max_conns=x"]"#,
        r#"servers=["127.0.0.1:1 127.0.0.1:2"]"#,
        r#"nodes={"127.0.0.1:1"=-1}"#,
        r#"nodes={"127.0.0.1:1"="x"}"#,
        r#"nodes=[{port=1}]"#,
        r#"nodes=[{host="unix:/s",port=1}]"#,
        r#"nodes=[{host="a",port=0}]"#,
        r#"nodes=[{host="a",priority=1.5}]"#,
    ];
    for line in BAD {
        let servers = if line.starts_with("servers") || line.starts_with("nodes") {
            ""
        } else {
            "servers = [\"a:1\"]\n"
        };
        let text = format!(
            "{BASE}[[upstreams]]\nname = \"u\"\n{servers}{line}\n[[routes]]\nupstream = \"nobody\"\n"
        );
        let (document, report) = parse_str("t.toml", &text, &env());
        assert!(document.is_none());
        // One of the line, one of the unknown upstream.
        assert!(report.error_count() >= 2, "{line}: {}", report.render(false));
        remedied(&report);
    }
}
