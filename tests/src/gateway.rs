//! A running `ringway`: started on a config of the test's, found by its log, ended with the test.
//!
//! The config that a case writes is completed, not replaced: port 0 listeners, two workers, a workdir of its own, an
//! access log in a file. What a case says itself stands.

use crate::process::{self, Folder};
use crate::wait::{wait_for, wait_until, SOON};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The `ringway` binary: `RINGWAY_BIN`, else the one of the same build as this test.
///
/// # Panics
///
/// When there is none, with the command that makes it.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("RINGWAY_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("a running program has a path");
    let found = test.ancestors().skip(1).take(3).map(|folder| folder.join("ringway")).find(|p| p.is_file());
    found.unwrap_or_else(|| panic!("no ringway beside {}; run `cargo build -p cli` first", test.display()))
}

/// The driver that this run of the tests asks for: `auto` or `epoll`.
pub fn driver() -> String {
    std::env::var("RINGWAY_TEST_DRIVER").unwrap_or_else(|_| "auto".to_owned())
}

/// Runs `ringway` with arguments to its end.
///
/// # Panics
///
/// When it cannot be started.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).stdin(Stdio::null()).output().expect("ringway can be run")
}

/// A long case's count: the named one with `RINGWAY_FULL=1`, a twentieth of it otherwise.
pub fn scaled(full: usize) -> usize {
    if std::env::var_os("RINGWAY_FULL").is_some_and(|value| value == "1") {
        full
    } else {
        full.div_ceil(20)
    }
}

/// How to start one; see [`Gateway::start`] for the plain way.
#[derive(Default)]
pub struct Start {
    environment: Vec<(String, String)>,
    wrapper: Option<PathBuf>,
    driver: Option<String>,
    files: Vec<(String, String)>,
}

impl Start {
    /// A plain start.
    pub fn new() -> Start {
        Start::default()
    }

    /// Sets a variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Start {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it through a program that gets the command as its arguments.
    #[must_use]
    pub fn through(mut self, wrapper: impl Into<PathBuf>) -> Start {
        self.wrapper = Some(wrapper.into());
        self
    }

    /// Asks for a driver, whatever this run of the tests asks for.
    #[must_use]
    pub fn driver(mut self, driver: &str) -> Start {
        self.driver = Some(driver.to_owned());
        self
    }

    /// Puts a file beside the config.
    #[must_use]
    pub fn file(mut self, name: &str, text: &str) -> Start {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    ///
    /// When it ends instead, with what it said.
    pub fn start(self, toml: &str) -> Gateway {
        match self.try_start(toml) {
            Ok(gateway) => gateway,
            Err((status, log)) => panic!("ringway ended with {status} instead of listening:\n{log}"),
        }
    }

    /// Starts it and waits until it listens or ends.
    ///
    /// # Errors
    ///
    /// Its exit status and what it said, when it ended instead.
    ///
    /// # Panics
    ///
    /// When it neither listens nor ends.
    pub fn try_start(self, toml: &str) -> Result<Gateway, (ExitStatus, String)> {
        let folder = Folder::new();
        for (name, text) in &self.files {
            folder.write(name, text);
        }
        let driver = self.driver.unwrap_or_else(driver);
        let config = folder.write("ringway.toml", complete(toml, folder.path(), &driver));
        let mut command = match &self.wrapper {
            Some(wrapper) => {
                let mut command = Command::new(wrapper);
                command.arg(binary());
                command
            }
            None => Command::new(binary()),
        };
        command.arg("run").arg("-c").arg(&config).envs(self.environment);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("ringway can be started");
        let log = follow(&mut child);
        let mut gateway = Gateway { child, folder, log, driver, listeners: BTreeMap::new() };
        let ended = wait_for("ringway to listen", SOON * 2, || {
            if gateway.all_listening() {
                return Some(None);
            }
            gateway.child.try_wait().expect("our own child").map(Some)
        });
        match ended {
            None => Ok(gateway),
            Some(status) => {
                wait_until("the end of its log", || Arc::strong_count(&gateway.log) == 1);
                Err((status, gateway.log_text()))
            }
        }
    }
}

/// A running gateway. Dropping it kills it; a failed test prints its log.
pub struct Gateway {
    child: Child,
    folder: Folder,
    log: Arc<Mutex<Vec<String>>>,
    driver: String,
    listeners: BTreeMap<String, SocketAddr>,
}

impl Gateway {
    /// Starts a gateway on `toml`, completed as the file's header says.
    ///
    /// # Panics
    ///
    /// When it does not come to listen.
    pub fn start(toml: &str) -> Gateway {
        Start::new().start(toml)
    }

    /// A gateway whose one route leads to these servers.
    ///
    /// # Panics
    ///
    /// When it does not come to listen.
    pub fn before(servers: &[SocketAddr]) -> Gateway {
        Gateway::start(&route_to(servers))
    }

    /// The address of its first listener that is neither the status one nor the control API's.
    ///
    /// # Panics
    ///
    /// When it has none.
    pub fn address(&self) -> SocketAddr {
        let own = ["status", "control"];
        let first = self.listeners.iter().find(|(name, _)| !own.contains(&name.as_str()));
        *first.expect("a gateway has a listener").1
    }

    /// The address of a listener by its name.
    ///
    /// # Panics
    ///
    /// When it has none of that name.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let found = self.try_listener(name);
        found.unwrap_or_else(|| panic!("no listener {name}:\n{}", self.log_text()))
    }

    /// The address of a listener by its name, as the log tells by now.
    pub fn try_listener(&self, name: &str) -> Option<SocketAddr> {
        self.listening().get(name).copied()
    }

    /// The address of the status listener.
    ///
    /// # Panics
    ///
    /// When it has none.
    pub fn status(&self) -> SocketAddr {
        self.listener("status")
    }

    /// The address of the control API.
    ///
    /// # Panics
    ///
    /// When it is not served.
    pub fn control(&self) -> SocketAddr {
        self.listener("control")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder that holds its config, its workdir and its logs.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The path of its config file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("ringway.toml")
    }

    /// Writes a new config, completed as the first one. The file watch will see it too.
    pub fn rewrite(&self, toml: &str) {
        let text = complete(toml, self.folder.path(), &self.driver);
        self.folder.write("ringway.toml", text);
    }

    /// Sends a signal.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        process::signal(&self.child, signal);
    }

    /// Writes a new config and has it loaded by SIGHUP.
    pub fn rewrite_and_hup(&self, toml: &str) {
        self.rewrite(toml);
        self.signal(Signal::HUP);
    }

    /// `ringway reload --wait`, over its socket.
    ///
    /// # Panics
    ///
    /// When `ringway` cannot be run.
    pub fn reload(&self) -> Output {
        let config = self.config();
        run(&["reload", "--wait", "-c", &config.to_string_lossy()])
    }

    /// Writes a new config and has it loaded, on every core, before it returns.
    ///
    /// # Panics
    ///
    /// When the reload is refused.
    pub fn replace(&self, toml: &str) {
        self.rewrite(toml);
        let output = self.reload();
        assert!(output.status.success(), "reload failed: {}", both(&output));
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        process::descriptors(self.pid())
    }

    /// Everything it said so far.
    ///
    /// # Panics
    ///
    /// Never, unless a reader of the log did.
    pub fn log_text(&self) -> String {
        self.log.lock().expect("no panic holds it").join("\n")
    }

    /// Waits until a line of its log contains all of `words`; gives the line.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub fn wait_log(&self, words: &[&str]) -> String {
        wait_for(&format!("a log line with {words:?}"), SOON, || {
            let log = self.log.lock().expect("no panic holds it");
            log.iter().find(|line| words.iter().all(|word| line.contains(word))).cloned()
        })
    }

    /// The lines of the access log by now.
    pub fn access_lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until the access log has a JSON line for which `wanted` holds; gives it.
    ///
    /// # Panics
    ///
    /// When none comes, or a line is not JSON.
    pub fn wait_access(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("an access log line: {what}"), SOON, || {
            let lines = self.access_lines();
            let records = lines.iter().map(|line| {
                serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error} in {line}"))
            });
            records.into_iter().find(&wanted)
        })
    }

    /// Waits until the access log has a line for `path`; gives it.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub fn wait_access_of(&self, path: &str) -> Value {
        self.wait_access(path, |record| record["path"] == path)
    }

    /// The number of the plan that is live on all cores, by `/status`.
    ///
    /// # Panics
    ///
    /// When `/status` does not say.
    pub fn generation(&self) -> u64 {
        let body = crate::get(self.status(), "/status").text();
        let status: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body}"));
        status["generation"].as_u64().unwrap_or_else(|| panic!("no generation in {body}"))
    }

    /// The sum over all label sets of a metric, by `/metrics`; 0 when it is absent.
    ///
    /// # Panics
    ///
    /// When a sample is no number.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let body = crate::get(self.status(), "/metrics").text();
        let samples = body.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|l| line.contains(l))
        });
        samples
            .map(|line| line.rsplit(' ').next().and_then(|word| word.parse::<f64>().ok()).expect("a sample"))
            .sum()
    }

    /// SIGTERM, then waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not end, or not with 0.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait_end();
        assert!(status.success(), "ringway ended with {status}:\n{}", self.log_text());
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn wait_end(&mut self) -> ExitStatus {
        process::wait_end(&mut self.child, SOON)
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    fn listening(&self) -> BTreeMap<String, SocketAddr> {
        let log = self.log.lock().expect("no panic holds it");
        log.iter().filter_map(|line| listening(line)).collect()
    }

    /// Whether the log has told of every listener of the config, of the status one and of the control API's.
    fn all_listening(&mut self) -> bool {
        let found = self.listening();
        let text = std::fs::read_to_string(self.config()).unwrap_or_default();
        let table: toml::Table = text.parse().unwrap_or_default();
        let is_on = |section: &str| {
            let listen = table.get(section).and_then(|section| section.get("listen"));
            listen.and_then(toml::Value::as_str).is_none_or(|listen| listen != "off")
        };
        let own = ["status", "control"].into_iter().filter(|section| is_on(section)).count();
        let wanted = own + count(&table, "listeners") + server_listens(&table);
        if found.len() < wanted {
            return false;
        }
        self.listeners = found;
        true
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the log of ringway {}:\n{}\n---", self.pid(), self.log_text());
            let lines = self.access_lines();
            eprintln!("--- the last lines of its access log:");
            for line in lines.iter().rev().take(10).rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// A config with one route for everything to these servers.
pub fn route_to(servers: &[SocketAddr]) -> String {
    let list: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    format!("[[routes]]\nname = \"all\"\nupstream = [{}]\n", list.join(", "))
}

/// Both streams of a finished command as text.
pub fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Fills in what a case leaves open.
///
/// # Panics
///
/// When the case is not TOML.
pub fn complete(toml: &str, folder: &Path, driver: &str) -> String {
    let mut table: toml::Table = toml.parse().unwrap_or_else(|error| panic!("{error} in\n{toml}"));
    let has_listeners = table.contains_key("listeners");
    let path = |name: &str| toml::Value::String(folder.join(name).to_string_lossy().into_owned());
    fill(&mut table, "server", "workdir", path("work"));
    if !has_listeners {
        fill(&mut table, "server", "listen", toml::Value::String("127.0.0.1:0".to_owned()));
    }
    fill(&mut table, "cores", "count", toml::Value::Integer(2));
    fill(&mut table, "cores", "pin", toml::Value::Boolean(false));
    fill(&mut table, "cores", "driver", toml::Value::String(driver.to_owned()));
    fill(&mut table, "status", "listen", toml::Value::String("127.0.0.1:0".to_owned()));
    fill(&mut table, "control", "listen", toml::Value::String("127.0.0.1:0".to_owned()));
    fill(&mut table, "log", "access", path("access.log"));
    let _ = std::fs::create_dir_all(folder.join("work"));
    toml::to_string(&table).expect("TOML in, TOML out")
}

fn fill(table: &mut toml::Table, section: &str, key: &str, value: toml::Value) {
    let section = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    if let Some(section) = section.as_table_mut() {
        section.entry(key).or_insert(value);
    }
}

fn count(table: &toml::Table, key: &str) -> usize {
    table.get(key).and_then(toml::Value::as_array).map_or(0, Vec::len)
}

fn server_listens(table: &toml::Table) -> usize {
    match table.get("server").and_then(|server| server.get("listen")) {
        Some(toml::Value::Array(list)) => list.len(),
        Some(_) => 1,
        None => 0,
    }
}

/// Reads its stderr on a thread of its own, so that it never blocks on a full pipe.
fn follow(child: &mut Child) -> Arc<Mutex<Vec<String>>> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let stream = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
    let for_thread = Arc::clone(&log);
    std::thread::spawn(move || {
        for line in stream.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            for_thread.lock().expect("no panic holds it").push(line);
        }
    });
    log
}

/// The listener that a log line tells of: a JSON line with the message `listening`, its name and its bound address.
fn listening(line: &str) -> Option<(String, SocketAddr)> {
    let record: Value = serde_json::from_str(line).ok()?;
    let fields = record.get("fields").unwrap_or(&record);
    if fields.get("message")?.as_str()? != "listening" {
        return None;
    }
    let name = fields.get("name")?.as_str()?.to_owned();
    // What listens on a Unix socket has no port to find.
    let address = fields.get("address")?.as_str()?;
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = address.parse().unwrap_or(any_port);
    Some((name, address))
}

/// How long a case lets a gateway drain at most.
pub const DRAIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_case_says_stands() {
        let text = complete("[server]\nlisten = \":1\"\n[cores]\ncount = 1\n", Path::new("/x"), "epoll");
        let table: toml::Table = text.parse().expect("TOML");
        assert_eq!(table["server"]["listen"].as_str(), Some(":1"));
        assert_eq!(table["cores"]["count"].as_integer(), Some(1));
        assert_eq!(table["cores"]["driver"].as_str(), Some("epoll"));
        assert_eq!(table["status"]["listen"].as_str(), Some("127.0.0.1:0"));
    }

    #[test]
    fn log_lines() {
        let line = r#"{"level":"INFO","fields":{"message":"listening","name":"a","address":"127.0.0.1:5"},"target":"ringway"}"#;
        assert_eq!(listening(line), Some(("a".to_owned(), "127.0.0.1:5".parse().expect("an address"))));
        assert_eq!(listening(r#"{"fields":{"message":"other"}}"#), None);
        assert_eq!(listening("no JSON"), None);
    }
}
