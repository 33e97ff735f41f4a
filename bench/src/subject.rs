//! The proxies that are compared: where their program is, how it is configured, how it is started.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::child::OWN;
use crate::network::ORIGINS;
use crate::scenario::{Case, Profile};
use crate::template;

/// Which program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Ours; where there are several origins, in turn.
    Ringway,
    /// Ours, by latency.
    RingwayEwma,
    /// Ours, in turn, with a second try beside a slow first one.
    RingwayHedge,
    /// Ours, to where the fewest are under way.
    RingwayLeastConn,
    /// Ours, the better of two at random.
    RingwayP2c,
    /// The raw relay of the harness.
    Relay,
    /// nginx from the distribution.
    Nginx,
    /// The same with larger buffers, which make large bodies cheaper.
    NginxTuned,
    /// The same, to where the fewest are under way.
    NginxLeastConn,
    /// HAProxy from the distribution.
    Haproxy,
    /// The same with larger buffers.
    HaproxyTuned,
    /// The same, to where the fewest are under way.
    HaproxyLeastConn,
    /// A proxy on Pingora, `bench/peers/pingora`.
    Pingora,
    /// A proxy on monoio-http, `bench/peers/monoio-http`.
    MonoioHttp,
}

/// All kinds with the names by which they are asked for.
const KINDS: [(&str, Kind); 14] = [
    ("ringway", Kind::Ringway),
    ("ringway-ewma", Kind::RingwayEwma),
    ("ringway-hedge", Kind::RingwayHedge),
    ("ringway-least-conn", Kind::RingwayLeastConn),
    ("ringway-p2c", Kind::RingwayP2c),
    ("relay", Kind::Relay),
    ("nginx", Kind::Nginx),
    ("nginx-tuned", Kind::NginxTuned),
    ("nginx-least-conn", Kind::NginxLeastConn),
    ("haproxy", Kind::Haproxy),
    ("haproxy-tuned", Kind::HaproxyTuned),
    ("haproxy-leastconn", Kind::HaproxyLeastConn),
    ("pingora", Kind::Pingora),
    ("monoio-http", Kind::MonoioHttp),
];

/// What the subjects are by default: all of them, and ours a second time.
pub const DEFAULT: &str =
    "ringway,ringway-b,relay,nginx,nginx-tuned,haproxy,haproxy-tuned,pingora,monoio-http,\
     ringway-ewma,ringway-hedge,ringway-least-conn,ringway-p2c,nginx-least-conn,haproxy-leastconn";
/// Each subject once.
pub const EACH: &str = "ringway,relay,nginx,nginx-tuned,haproxy,haproxy-tuned,pingora,monoio-http,\
     ringway-ewma,ringway-hedge,ringway-least-conn,ringway-p2c,nginx-least-conn,haproxy-leastconn";

/// From this length of a body on the tuned peers differ from the others; below they are left out.
const TUNED_BYTES_MIN: u64 = 16 * 1024;

/// One subject of a run; `NAME-b` is a second copy, to see what the noise alone does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    /// As asked for.
    pub name: String,
    /// Which program.
    pub kind: Kind,
}

/// A subject's program.
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// What it says of its version.
    pub version: String,
    /// Digest of the file.
    pub digest: String,
}

/// The addresses and places that a subject is told.
pub struct Places<'a> {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where the origins are; most profiles know the first alone.
    pub origins: [SocketAddr; ORIGINS],
    /// Where it shows metrics.
    pub metrics: SocketAddr,
    /// Its core.
    pub core: usize,
    /// A folder of its own, in memory.
    pub directory: &'a Path,
    /// How many descriptors it may open.
    pub descriptors: u64,
}

/// What to start.
pub struct Prepared {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Digest of the configuration as it was before the places were filled in, and of the arguments.
    pub digest: String,
    /// Whether its metrics page has ring counters.
    pub metrics: bool,
}

/// Reads a comma-separated list of subjects.
///
/// # Errors
///
/// Names what is not known, and what is.
pub fn parse_list(list: &str) -> Result<Vec<Subject>, String> {
    let mut subjects: Vec<Subject> = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let plain = name.strip_suffix("-b").unwrap_or(name);
        let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == plain) else {
            let known = KINDS.map(|(name, _)| name).join(" ");
            return Err(format!(
                "no subject `{name}`; there are {known}, and each with -b for a second copy"
            ));
        };
        let subject = Subject { name: name.to_owned(), kind: *kind };
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    if subjects.is_empty() {
        return Err("no subject named".to_owned());
    }
    Ok(subjects)
}

/// A name for each of the origins in the templates, in the order of their addresses.
const ORIGIN_NAMES: [&str; ORIGINS] = ["origin", "second_origin", "third_origin"];

impl Kind {
    /// The kind whose program and configurations it has: itself, unless it differs by a line.
    fn plain(self) -> Kind {
        match self {
            Kind::RingwayEwma | Kind::RingwayHedge | Kind::RingwayLeastConn | Kind::RingwayP2c => {
                Kind::Ringway
            }
            Kind::NginxTuned | Kind::NginxLeastConn => Kind::Nginx,
            Kind::HaproxyTuned | Kind::HaproxyLeastConn => Kind::Haproxy,
            other => other,
        }
    }

    /// Its program, where it is installed or built. What is built here is copied to `scratch` first, so that a build meanwhile changes nothing of the run.
    ///
    /// # Errors
    ///
    /// The command that would install it.
    pub fn program(self, target: &Path, scratch: &Path) -> Result<Program, &'static str> {
        let own = |name: &str| {
            let path = target.join(name);
            let copy = scratch.join(path.file_name()?);
            fs::copy(&path, &copy).ok().map(|_| copy)
        };
        let (path, arguments, install): (_, &[&str], _) = match self.plain() {
            Kind::Ringway => (own("release/ringway"), &["--version"], "cargo build --release -p cli"),
            Kind::Relay => (Some(PathBuf::from(OWN)), &["--version"], "cargo build --release -p bench"),
            Kind::Nginx => (installed("nginx"), &["-v"], "apt-get install nginx-light"),
            Kind::Haproxy => (installed("haproxy"), &["-v"], "apt-get install haproxy"),
            Kind::Pingora => {
                let place = own("peers/release/pingora-peer");
                (
                    place,
                    &["--version"],
                    "apt-get install cmake; cargo run --release -p bench -- peers build pingora",
                )
            }
            // All others are plain kinds of their own.
            _ => {
                let place = own("peers/release/monoio-http-peer");
                (place, &["--version"], "cargo run --release -p bench -- peers build monoio-http")
            }
        };
        let path = path.ok_or(install)?;
        let version = version_of(&path, arguments);
        let digest = hex(&Sha256::digest(fs::read(&path).unwrap_or_default())[..8]);
        Ok(Program { path, version, digest })
    }

    /// What the tuned peers have in place of the buffers that their programs ship with: measured, the best of several.
    fn buffers(self) -> &'static str {
        match self {
            Kind::NginxTuned => "proxy_buffer_size 16k; proxy_buffers 8 16k; proxy_busy_buffers_size 32k;",
            Kind::HaproxyTuned => "tune.bufsize 65536",
            _ => "",
        }
    }

    /// How it chooses between several origins, as its configuration says it.
    fn balance(self) -> &'static str {
        match self {
            Kind::Ringway => "type = \"roundrobin\"",
            Kind::RingwayEwma => "type = \"ewma\"",
            Kind::RingwayHedge => "type = \"roundrobin\"\nhedge = { after = \"10ms\" }",
            Kind::RingwayLeastConn => "type = \"least_conn\"",
            Kind::RingwayP2c => "type = \"p2c\"",
            Kind::NginxLeastConn => "least_conn;",
            Kind::Haproxy => "balance roundrobin",
            Kind::HaproxyLeastConn => "balance leastconn",
            // nginx goes in turn unasked; the others know one origin.
            _ => "",
        }
    }

    /// Whether it is left out of a case without a word, since it would be its plain sibling again.
    pub fn is_idle_copy(self, case: &Case) -> bool {
        match self {
            Kind::NginxTuned | Kind::HaproxyTuned => case.bytes < TUNED_BYTES_MIN,
            other => other != other.plain() && case.profile != Profile::Balance,
        }
    }

    /// Why a profile cannot be asked of it, where it cannot.
    pub fn lacks(self, profile: Profile) -> Option<&'static str> {
        match (self, profile) {
            (Kind::Relay, Profile::Routes(_)) => Some("a relay has no routes"),
            (Kind::Relay, Profile::Gateway) => Some("a relay knows no HTTP"),
            (Kind::Relay | Kind::Pingora | Kind::MonoioHttp, Profile::Balance) => Some("it knows one origin"),
            (Kind::MonoioHttp, Profile::Gateway) => Some("the small proxy on monoio-http forwards only"),
            (Kind::MonoioHttp | Kind::Pingora, Profile::Routes(_)) => {
                Some("its library has no router; one written here would measure itself")
            }
            _ => None,
        }
    }

    /// Its configuration files: name, text; the first is the one that it is started with.
    fn templates(self, profile: Profile) -> Vec<(&'static str, &'static str)> {
        let choose = |bare, gateway, routes, balance| match profile {
            Profile::Bare => bare,
            Profile::Gateway => gateway,
            Profile::Routes(_) => routes,
            Profile::Balance => balance,
        };
        match self.plain() {
            Kind::Ringway => vec![(
                "ringway.toml",
                choose(
                    include_str!("../peers/ringway.bare.toml"),
                    include_str!("../peers/ringway.gateway.toml"),
                    include_str!("../peers/ringway.routes.toml"),
                    include_str!("../peers/ringway.balance.toml"),
                ),
            )],
            Kind::Nginx => vec![(
                "nginx.conf",
                choose(
                    include_str!("../peers/nginx.bare.conf"),
                    include_str!("../peers/nginx.gateway.conf"),
                    include_str!("../peers/nginx.routes.conf"),
                    include_str!("../peers/nginx.balance.conf"),
                ),
            )],
            Kind::Haproxy => vec![
                (
                    "haproxy.conf",
                    choose(
                        include_str!("../peers/haproxy.bare.conf"),
                        include_str!("../peers/haproxy.gateway.conf"),
                        include_str!("../peers/haproxy.routes.conf"),
                        include_str!("../peers/haproxy.balance.conf"),
                    ),
                ),
                ("routes.map", include_str!("../peers/haproxy.routes.map")),
            ],
            _ => Vec::new(),
        }
    }

    /// Writes its configuration and says how to start it.
    ///
    /// # Errors
    ///
    /// When a template is wrong or a file cannot be written.
    pub fn prepare(self, program: &Path, profile: Profile, places: &Places) -> Result<Prepared, String> {
        let directory = places.directory.to_string_lossy();
        let (listen, metrics, core) =
            (places.listen.to_string(), places.metrics.to_string(), places.core.to_string());
        let origins = places.origins.map(|origin| origin.to_string());
        // A client's connection takes a descriptor, its way to the origin perhaps another.
        let descriptors = places.descriptors.to_string();
        let connections = (places.descriptors * 3 / 4).min(30_000).to_string();
        let values = [
            ("listen", listen.as_str()),
            ("metrics", metrics.as_str()),
            ("core", core.as_str()),
            ("descriptors", descriptors.as_str()),
            ("connections", connections.as_str()),
            ("buffers", self.buffers()),
            ("balance", self.balance()),
            ("directory", directory.as_ref()),
        ];
        let named = ORIGIN_NAMES.into_iter().zip(origins.iter().map(String::as_str));
        let values: Vec<_> = values.into_iter().chain(named).collect();
        let mut digest = Sha256::new();
        digest.update(format!("{self:?} {} {} {}", profile.name(), profile.routes(), self.buffers()));
        if profile == Profile::Balance {
            digest.update(self.balance());
        }
        let mut first = None;
        for (name, text) in self.templates(profile) {
            digest.update(text);
            let filled = template::fill(text, &values, profile.routes())
                .map_err(|error| format!("{name}: {error}"))?;
            let path = places.directory.join(name);
            fs::write(&path, filled).map_err(|error| format!("{}: {error}", path.display()))?;
            first.get_or_insert(path.to_string_lossy().into_owned());
        }
        let config = first.unwrap_or_default();
        let addresses = ["--listen", &listen, "--origin", &origins[0]];
        let log = format!("{directory}/access.log");
        let arguments: Vec<&str> = match self.plain() {
            Kind::Ringway => vec!["run", "-c", &config],
            Kind::Relay => [&["relay"], &addresses[..]].concat(),
            Kind::Nginx => vec!["-c", &config, "-e", "stderr"],
            Kind::Haproxy => vec!["-db", "-f", &config],
            Kind::Pingora if profile == Profile::Gateway => {
                [&addresses[..], &["--gateway-log", &log]].concat()
            }
            _ => addresses.to_vec(),
        };
        let command = std::iter::once(program.to_string_lossy().into_owned());
        Ok(Prepared {
            command: command.chain(arguments.into_iter().map(str::to_owned)).collect(),
            digest: hex(&digest.finalize()[..8]),
            metrics: self.plain() == Kind::Ringway,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A program of the distribution; the sbin folders are often not on a user's path.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders = path.split(':').chain(["/usr/sbin", "/usr/local/sbin", "/sbin"]);
    folders.find_map(|folder| Some(Path::new(folder).join(name)).filter(|place| place.is_file()))
}

/// The first line that the program says about itself.
fn version_of(path: &Path, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(path).args(arguments).output() else { return "does not start".to_owned() };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::CASES;

    #[test]
    fn lists() {
        let check = |list: &str, expected: &[(&str, Kind)]| {
            let got = parse_list(list).expect(list);
            let got: Vec<_> = got.iter().map(|subject| (subject.name.as_str(), subject.kind)).collect();
            assert_eq!(got, expected, "{list}");
        };
        check("relay, nginx,relay", &[("relay", Kind::Relay), ("nginx", Kind::Nginx)]);
        check("ringway,ringway-b", &[("ringway", Kind::Ringway), ("ringway-b", Kind::Ringway)]);
        assert_eq!(parse_list(DEFAULT).map(|all| all.len()), Ok(15));
        assert_eq!(parse_list(EACH).map(|all| all.len()), Ok(KINDS.len()));
        assert!(parse_list("envoy").is_err_and(|message| message.contains("haproxy")));
        assert!(parse_list(" , ").is_err());
    }

    #[test]
    fn idle_copies() {
        let check = |name: &str, case: &str, expected: bool| {
            let (_, kind) = KINDS.iter().find(|(known, _)| *known == name).expect(name);
            let case = CASES.iter().find(|known| known.name == case).expect(case);
            assert_eq!(kind.is_idle_copy(case), expected, "{name} {}", case.name);
        };
        check("nginx", "S1", false);
        check("nginx-tuned", "S1", true);
        check("nginx-tuned", "S5", false);
        check("nginx-tuned", "S20", true);
        check("nginx-least-conn", "S5", true);
        check("nginx-least-conn", "S20", false);
        check("ringway-ewma", "S1", true);
        check("ringway-ewma", "S20", false);
        check("pingora", "S20", false); // it is named as not applicable
    }

    /// Every template fills with what `prepare` knows, and listens where it is told.
    #[test]
    fn configurations() {
        let directory = std::env::temp_dir().join(format!("bench-subject-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a folder for the test");
        let places = Places {
            listen: "127.0.0.1:1081".parse().expect("an address"),
            origins: [1080, 1083, 1084].map(|port| SocketAddr::from(([127, 0, 0, 1], port))),
            metrics: "127.0.0.1:1082".parse().expect("an address"),
            core: 0,
            directory: &directory,
            descriptors: 20_000,
        };
        for case in CASES {
            for (name, kind) in KINDS {
                let prepared = kind.prepare(Path::new("/program"), case.profile, &places).expect(name);
                assert_eq!((prepared.command[0].as_str(), prepared.digest.len()), ("/program", 16));
                let mut told = prepared.command.join(" ");
                for (file, _) in kind.templates(case.profile) {
                    told.push_str(&fs::read_to_string(directory.join(file)).expect("written"));
                }
                assert!(
                    told.contains("127.0.0.1:1081") && told.contains("127.0.0.1:1080"),
                    "{name} {}",
                    case.name
                );
                if kind.lacks(case.profile).is_none() && case.several_origins() {
                    for expected in ["127.0.0.1:1083", "127.0.0.1:1084", kind.balance()] {
                        assert!(told.contains(expected), "{name} {}: no {expected}", case.name);
                    }
                }
                if kind.lacks(case.profile).is_none() && case.profile.routes() > 0 {
                    let last = format!("/r/{}/", case.profile.routes() - 1);
                    assert!(told.contains(&last), "{name} {}: no {last}", case.name);
                }
            }
        }
        fs::remove_dir_all(&directory).expect("the folder was made above");
    }
}
