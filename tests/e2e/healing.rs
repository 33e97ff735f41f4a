//! Origins that die, hang, come back and are restarted under load: who notices, how soon, and what the clients see.

use std::time::{Duration, Instant};
use tests::fleet::{failures, Load, OriginProcess};
use tests::wait::{wait_for, wait_until};
use tests::{Gateway, Origin};

/// Clients of a load; so many requests are in flight at most.
const CLIENTS: usize = 12;
/// Requests per second.
const RATE: usize = 2_000;

fn fleet() -> [OriginProcess; 3] {
    ["a", "b", "c"].map(OriginProcess::start)
}

fn before(origins: &[OriginProcess], server: &str, more: &str) -> Gateway {
    let servers: Vec<String> =
        origins.iter().map(|origin| format!("\"{}{server}\"", origin.address())).collect();
    Gateway::start(&format!(
        "[[upstreams]]\nname = \"o\"\nservers = [{}]\n{more}\n[[routes]]\nupstream_id = \"o\"\n",
        servers.join(", ")
    ))
}

/// Waits until the load sees each of these, and none else, in a fresh look of 100 ms or more.
fn wait_served_by(load: &Load, names: &[&str]) -> Duration {
    let began = Instant::now();
    wait_for(&format!("answers of {names:?} alone"), Duration::from_secs(20), || {
        load.take();
        wait_until("some answers", || load.peek().values().sum::<usize>() >= 60);
        let seen: Vec<String> = load.take().into_keys().collect();
        (seen == names).then_some(())
    });
    began.elapsed()
}

const PROBES: &str = "[upstreams.checks.active]\nhttp_path = \"/\"\ntimeout = \"200ms\"\n\
    healthy = { interval = \"200ms\", successes = 1 }\n\
    unhealthy = { interval = \"200ms\", http_failures = 1, tcp_failures = 1, timeouts = 1 }\n";

#[test]
fn a_killed_origin_costs_at_most_what_is_in_flight() {
    let mut origins = fleet();
    let gateway = before(&origins, " max_fails=1 fail_timeout=60s", "retries = 0");
    let load = Load::start(gateway.address(), CLIENTS, RATE);
    wait_served_by(&load, &["a", "b", "c"]);
    origins[0].kill();
    wait_served_by(&load, &["b", "c"]);
    load.end();
    // One request in flight per client at most, and each core may meet it once more before it is told.
    let failed = gateway.metric("ringway_requests_total", &["code=\"502\""]);
    assert!(failed <= (CLIENTS + 2) as f64, "{failed} failed");
}

/// With probes alone, a second apart: what fails has the endpoint probed at once.
#[test]
fn probes_do_not_wait_for_their_interval_when_traffic_fails() {
    let mut origins = fleet();
    let probes = "[upstreams.checks.active]\nhealthy = { interval = 5, successes = 1 }\n\
        unhealthy = { interval = 5, http_failures = 1, tcp_failures = 1, timeouts = 1 }\n";
    let gateway = before(&origins, "", &format!("retries = 0\n{probes}"));
    let load = Load::start(gateway.address(), CLIENTS, RATE);
    wait_served_by(&load, &["a", "b", "c"]);
    origins[0].kill();
    let began = Instant::now();
    wait_served_by(&load, &["b", "c"]);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    load.end();
    // Those in flight, and what is asked until the probe was refused and the cores were told.
    let failed = gateway.metric("ringway_requests_total", &["code=\"502\""]);
    assert!(failed <= (3 * CLIENTS) as f64, "{failed} failed");
}

#[test]
fn a_killed_origin_costs_nothing_with_retries() {
    let mut origins = fleet();
    let gateway = before(&origins, " max_fails=1 fail_timeout=60s", "");
    let load = Load::start(gateway.address(), CLIENTS, RATE);
    wait_served_by(&load, &["a", "b", "c"]);
    load.take();
    origins[0].kill();
    wait_until("the others serve a thousand more", || load.peek().values().sum::<usize>() >= 1_000);
    let seen = load.end();
    assert_eq!(failures(&seen), 0, "{seen:?}");
}

/// SIGSTOP: the kernel still accepts for it, nothing ever answers.
#[test]
fn a_stopped_origin_is_found_by_probes_and_comes_back() {
    let origins = fleet();
    let more = format!("timeout = {{ read = \"1s\" }}\n{PROBES}");
    let gateway = before(&origins, "", &more);
    let load = Load::start(gateway.address(), CLIENTS, RATE);
    wait_served_by(&load, &["a", "b", "c"]);
    load.take();
    origins[0].stop();
    wait_until("it is out", || gateway.log_text().contains(&origins[0].address().to_string()));
    wait_served_by(&load, &["b", "c"]);
    load.take();
    let began = Instant::now();
    origins[0].go_on();
    wait_until("it serves again", || load.peek().contains_key("a"));
    // Within one interval (200 ms and a tenth of jitter) and one probe; the rest is a busy machine's.
    assert!(began.elapsed() < Duration::from_millis(800), "{:?}", began.elapsed());
    wait_served_by(&load, &["a", "b", "c"]);
    let seen = load.end();
    assert_eq!(failures(&seen), 0, "{seen:?}");
    for code in ["code=\"502\"", "code=\"504\""] {
        assert_eq!(gateway.metric("ringway_requests_total", &[code]), 0.0, "{code}");
    }
}

#[test]
fn a_stopped_origin_costs_at_most_what_is_in_flight_without_retries() {
    let origins = fleet();
    let more = format!("retries = 0\ntimeout = {{ read = \"1s\" }}\n{PROBES}");
    let gateway = before(&origins, "", &more);
    let load = Load::start(gateway.address(), CLIENTS, RATE);
    wait_served_by(&load, &["a", "b", "c"]);
    origins[1].stop();
    wait_served_by(&load, &["a", "c"]);
    // Its end waits for what each client has in flight.
    load.end();
    let failed = gateway.metric("ringway_requests_total", &["code=\"504\""]);
    assert!(failed <= CLIENTS as f64, "{failed} failed");
}

#[test]
fn a_rolling_restart_loses_nothing() {
    let mut origins = fleet();
    let gateway = before(&origins, "", PROBES);
    let load = Load::start(gateway.address(), CLIENTS, RATE);
    let mut seen = tests::fleet::Seen::new();
    for origin in &mut origins {
        wait_served_by_keeping(&load, &mut seen, &["a", "b", "c"]);
        origin.restart();
    }
    wait_served_by_keeping(&load, &mut seen, &["a", "b", "c"]);
    for (text, count) in load.end() {
        *seen.entry(text).or_default() += count;
    }
    assert_eq!(failures(&seen), 0, "{seen:?}");
}

/// As [`wait_served_by`], adding all that was seen to `total`.
fn wait_served_by_keeping(load: &Load, total: &mut tests::fleet::Seen, names: &[&str]) {
    wait_for(&format!("answers of {names:?} alone"), Duration::from_secs(20), || {
        tests::wait::pace(Duration::from_millis(100));
        let seen = load.take();
        let here: Vec<String> = seen.keys().cloned().collect();
        for (text, count) in seen {
            *total.entry(text).or_default() += count;
        }
        (here == names).then_some(())
    });
}

/// After its rest one trial request brings it back: at most one client per rest meets a dead one.
#[test]
fn one_trial_request_after_a_rest() {
    let mut origins = fleet();
    let gateway = before(&origins, " max_fails=1 fail_timeout=1s", "retries = 0");
    let load = Load::start(gateway.address(), CLIENTS, 1_000);
    wait_served_by(&load, &["a", "b", "c"]);
    origins[2].kill();
    wait_served_by(&load, &["a", "b"]);
    let before = gateway.metric("ringway_requests_total", &["code=\"502\""]);
    let began = Instant::now();
    let failed = || gateway.metric("ringway_requests_total", &["code=\"502\""]) - before;
    wait_until("two rests have ended in a trial", || failed() >= 2.0);
    let (failed, rests) = (failed(), began.elapsed().as_secs_f64());
    assert!(failed <= rests.ceil() + 1.0, "{failed} failed in {rests} s");
    origins[2].restart();
    wait_served_by(&load, &["a", "b", "c"]);
}

/// Health is found before the first request, and it outlives a reload.
#[test]
fn probes_begin_with_the_plan_and_their_findings_survive_a_reload() {
    let (ill, well) =
        (Origin::fixed("HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"), Origin::named("well"));
    let toml = format!(
        "[[upstreams]]\nname = \"o\"\nservers = [\"{ill}\", \"{well}\"]\n{PROBES}\n[[routes]]\nupstream_id = \"o\"\n"
    );
    let gateway = Gateway::start(&toml);
    gateway.wait_log(&[&ill.to_string()]);
    let asked = |origin: &Origin| origin.seen().iter().filter(|seen| seen.target == "/x").count();
    let ask = |count: usize| {
        for _ in 0..count {
            assert_eq!(tests::get(gateway.address(), "/x").text(), "well");
        }
    };
    ask(10);
    gateway.replace(&format!("{toml}\n[[routes]]\nuri = \"/other\"\nupstream_id = \"o\"\n"));
    ask(10);
    assert_eq!((asked(&ill), asked(&well)), (0, 20));
}

/// All are ill: all are used.
#[test]
fn when_all_are_ill_all_are_used() {
    let (first, second) = (
        Origin::each(|request| probe_fails(request, "first")),
        Origin::each(|request| probe_fails(request, "second")),
    );
    let gateway = Gateway::start(&format!(
        "[[upstreams]]\nname = \"o\"\nservers = [\"{first}\", \"{second}\"]\n{PROBES}\n[[routes]]\nupstream_id = \"o\"\n"
    ));
    gateway.wait_log(&[&first.to_string()]);
    gateway.wait_log(&[&second.to_string()]);
    let mut texts: Vec<String> = (0..8).map(|_| tests::get(gateway.address(), "/x").text()).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts, ["first", "second"]);
}

fn probe_fails(request: &tests::Request, name: &str) -> Vec<u8> {
    match request.target.as_str() {
        "/" => b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno".to_vec(),
        _ => tests::ok(name),
    }
}
