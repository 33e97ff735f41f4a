//! A small keep-alive request on a warm core allocates nothing.
//!
//! The engine runs in this process with one worker; client and origin are plain
//! threads that use stack buffers alone, so every allocation counted while
//! requests run is the engine's.

mod counting_allocator;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use config::{Driver, Env};
use engine::plan::Feeds;
use engine::{Command, Engine, Settings};

#[global_allocator]
static COUNTING: counting_allocator::Counting = counting_allocator::Counting;

const WARM_UP: usize = 3_000;
const MEASURED: usize = 20_000;
/// What is not per request: batches of log lines, each of more than a hundred ...
const OTHER_MAX: u64 = 20 + MEASURED as u64 / 100;
/// ... and the timer of each of the core's twenty ticks a second, on monoio's side.
const PER_TICK_MAX: u64 = 8;

struct NoEnv;

impl Env for NoEnv {
    fn var(&self, _name: &str) -> Option<String> {
        None
    }

    fn file(&self, path: &std::path::Path) -> std::io::Result<String> {
        Err(std::io::Error::other(format!("no file {}", path.display())))
    }

    fn list(&self, _folder: &std::path::Path) -> std::io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Answers every request head with 100 bytes.
fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            stream.set_nodelay(true).expect("an option");
            std::thread::spawn(move || {
                let mut buffer = [0_u8; 4096];
                let answer = [&b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"[..], &[b'x'; 100]].concat();
                while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
                    if stream.write_all(&answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn start(toml: &str) -> (Engine, u16, engine::observe::AccessWriter) {
    let (document, report) = config::parse_str("test.toml", toml, &NoEnv);
    let document = Arc::new(document.unwrap_or_else(|| panic!("{}", report.render(false))));
    let feeds = Feeds { workers: 1, ..Feeds::default() };
    let mut report = config::Report::default();
    let plan = engine::plan::compile(&document, &feeds, None, 1, &mut report)
        .unwrap_or_else(|| panic!("{}", report.render(false)));
    let sockets = engine::listen::bind(plan.listeners(), 1, &HashMap::new()).expect("a port");
    let port =
        sockets.bound[0].address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let path = std::env::temp_dir().join(format!("ringway-allocations-{}", std::process::id()));
    let (log, writer) =
        engine::observe::log::open(engine::observe::log::Sink::Path(path)).expect("a file to log to");
    let settings = Settings {
        cores: vec![0],
        pin: false,
        driver: Driver::Auto,
        ring: document.cores.ring.clone(),
        buffers: document.cores.buffers.clone(),
    };
    (Engine::start(settings, plan, sockets, log).expect("the engine starts"), port, writer)
}

fn requests(stream: &mut TcpStream, count: usize, request: &[u8]) {
    let mut buffer = [0_u8; 4096];
    for _ in 0..count {
        stream.write_all(request).expect("sent");
        let mut got = 0;
        while !buffer[..got].ends_with(&[b'x'; 100]) {
            let read = stream.read(&mut buffer[got..]).expect("an answer");
            assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&buffer[..got]));
            got += read;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"));
    }
}

fn check(name: &str, plugins: &str, request: &[u8]) {
    let port = origin();
    let toml = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[[routes]]\nname = \"all\"\nupstream = \"127.0.0.1:{port}\"\n{plugins}"
    );
    let (engine, port, writer) = start(&toml);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    stream.set_nodelay(true).expect("an option");
    requests(&mut stream, WARM_UP, request);
    #[allow(clippy::disallowed_methods)] // the test's own thread, not a core
    let began = std::time::Instant::now();
    let before = counting_allocator::allocations();
    requests(&mut stream, MEASURED, request);
    let allocations = counting_allocator::allocations() - before;
    let ticks = began.elapsed().as_millis() as u64 / engine::deadline::TICK_MILLIS + 1;
    assert!(
        allocations <= OTHER_MAX + ticks * PER_TICK_MAX,
        "{name}: {allocations} allocations over {MEASURED} requests"
    );
    engine.send(0, Command::Stop);
    engine.join();
    drop(writer);
}

// One test: two engines at once would count each other's allocations.
#[test]
fn a_small_request_allocates_nothing() {
    let get = b"GET /a/b?c=d HTTP/1.1\r\nHost: example.com\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n";
    let post = b"POST /a HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello";
    check("GET", "", get);
    check("POST", "", post);
    check("gateway", "plugins = { limit-count = { count = 100000000, time_window = 3600 } }", get);
}
