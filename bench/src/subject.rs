//! The proxies that are compared: where their program is, how it is configured, how it is started.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::child::OWN;
use crate::scenario::{Case, Profile};
use crate::template;

/// Which program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Ours.
    Ringway,
    /// The raw relay of the harness.
    Relay,
    /// nginx from the distribution.
    Nginx,
    /// The same with larger buffers, which make large bodies cheaper.
    NginxTuned,
    /// HAProxy from the distribution.
    Haproxy,
    /// The same with larger buffers.
    HaproxyTuned,
    /// A proxy on Pingora, `bench/peers/pingora`.
    Pingora,
    /// A proxy on monoio-http, `bench/peers/monoio-http`.
    MonoioHttp,
}

/// All kinds with the names by which they are asked for.
const KINDS: [(&str, Kind); 8] = [
    ("ringway", Kind::Ringway),
    ("relay", Kind::Relay),
    ("nginx", Kind::Nginx),
    ("nginx-tuned", Kind::NginxTuned),
    ("haproxy", Kind::Haproxy),
    ("haproxy-tuned", Kind::HaproxyTuned),
    ("pingora", Kind::Pingora),
    ("monoio-http", Kind::MonoioHttp),
];

/// What the subjects are by default: all of them, and ours a second time.
pub const DEFAULT: &str =
    "ringway,ringway-b,relay,nginx,nginx-tuned,haproxy,haproxy-tuned,pingora,monoio-http";

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
    /// Where the origin is.
    pub origin: SocketAddr,
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

impl Kind {
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
        let (path, arguments, install): (_, &[&str], _) = match self {
            Kind::Ringway => (own("release/ringway"), &["--version"], "cargo build --release -p cli"),
            Kind::Relay => (Some(PathBuf::from(OWN)), &["--version"], "cargo build --release -p bench"),
            Kind::Nginx | Kind::NginxTuned => (installed("nginx"), &["-v"], "apt-get install nginx-light"),
            Kind::Haproxy | Kind::HaproxyTuned => (installed("haproxy"), &["-v"], "apt-get install haproxy"),
            Kind::Pingora => {
                let place = own("peers/release/pingora-peer");
                (
                    place,
                    &["--version"],
                    "apt-get install cmake; cargo run --release -p bench -- peers build pingora",
                )
            }
            Kind::MonoioHttp => {
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

    /// Whether it is left out of a case without a word, since it would be its untuned sibling again.
    pub fn is_idle_copy(self, case: &Case) -> bool {
        matches!(self, Kind::NginxTuned | Kind::HaproxyTuned) && case.bytes < TUNED_BYTES_MIN
    }

    /// Why a profile cannot be asked of it, where it cannot.
    pub fn lacks(self, profile: Profile) -> Option<&'static str> {
        match (self, profile) {
            (Kind::Relay, Profile::Routes(_)) => Some("a relay has no routes"),
            (Kind::Relay, Profile::Gateway) => Some("a relay knows no HTTP"),
            (Kind::MonoioHttp, Profile::Gateway) => Some("the small proxy on monoio-http forwards only"),
            (Kind::MonoioHttp | Kind::Pingora, Profile::Routes(_)) => {
                Some("its library has no router; one written here would measure itself")
            }
            _ => None,
        }
    }

    /// Its configuration files: name, text; the first is the one that it is started with.
    fn templates(self, profile: Profile) -> Vec<(&'static str, &'static str)> {
        let choose = |bare, gateway, routes| match profile {
            Profile::Bare => bare,
            Profile::Gateway => gateway,
            Profile::Routes(_) => routes,
        };
        match self {
            Kind::Ringway => vec![(
                "ringway.toml",
                choose(
                    include_str!("../peers/ringway.bare.toml"),
                    include_str!("../peers/ringway.gateway.toml"),
                    include_str!("../peers/ringway.routes.toml"),
                ),
            )],
            Kind::Nginx | Kind::NginxTuned => vec![(
                "nginx.conf",
                choose(
                    include_str!("../peers/nginx.bare.conf"),
                    include_str!("../peers/nginx.gateway.conf"),
                    include_str!("../peers/nginx.routes.conf"),
                ),
            )],
            Kind::Haproxy | Kind::HaproxyTuned => vec![
                (
                    "haproxy.conf",
                    choose(
                        include_str!("../peers/haproxy.bare.conf"),
                        include_str!("../peers/haproxy.gateway.conf"),
                        include_str!("../peers/haproxy.routes.conf"),
                    ),
                ),
                ("routes.map", include_str!("../peers/haproxy.routes.map")),
            ],
            Kind::Relay | Kind::Pingora | Kind::MonoioHttp => Vec::new(),
        }
    }

    /// Writes its configuration and says how to start it.
    ///
    /// # Errors
    ///
    /// When a template is wrong or a file cannot be written.
    pub fn prepare(self, program: &Path, profile: Profile, places: &Places) -> Result<Prepared, String> {
        let directory = places.directory.to_string_lossy();
        let (listen, origin, metrics, core) = (
            places.listen.to_string(),
            places.origin.to_string(),
            places.metrics.to_string(),
            places.core.to_string(),
        );
        // A client's connection takes a descriptor, its way to the origin perhaps another.
        let descriptors = places.descriptors.to_string();
        let connections = (places.descriptors * 3 / 4).min(30_000).to_string();
        let values = [
            ("listen", listen.as_str()),
            ("origin", origin.as_str()),
            ("metrics", metrics.as_str()),
            ("core", core.as_str()),
            ("descriptors", descriptors.as_str()),
            ("connections", connections.as_str()),
            ("buffers", self.buffers()),
            ("directory", directory.as_ref()),
        ];
        let mut digest = Sha256::new();
        digest.update(format!("{self:?} {} {} {}", profile.name(), profile.routes(), self.buffers()));
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
        let addresses = ["--listen", &listen, "--origin", &origin];
        let log = format!("{directory}/access.log");
        let arguments: Vec<&str> = match self {
            Kind::Ringway => vec!["run", "-c", &config],
            Kind::Relay => [&["relay"], &addresses[..]].concat(),
            Kind::Nginx | Kind::NginxTuned => vec!["-c", &config, "-e", "stderr"],
            Kind::Haproxy | Kind::HaproxyTuned => vec!["-db", "-f", &config],
            Kind::Pingora if profile == Profile::Gateway => {
                [&addresses[..], &["--gateway-log", &log]].concat()
            }
            Kind::Pingora | Kind::MonoioHttp => addresses.to_vec(),
        };
        let command = std::iter::once(program.to_string_lossy().into_owned());
        Ok(Prepared {
            command: command.chain(arguments.into_iter().map(str::to_owned)).collect(),
            digest: hex(&digest.finalize()[..8]),
            metrics: self == Kind::Ringway,
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
        assert_eq!(parse_list(DEFAULT).map(|all| all.len()), Ok(9));
        assert!(parse_list("envoy").is_err_and(|message| message.contains("haproxy")));
        assert!(parse_list(" , ").is_err());
    }

    /// Every template fills with what `prepare` knows, and listens where it is told.
    #[test]
    fn configurations() {
        let directory = std::env::temp_dir().join(format!("bench-subject-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a folder for the test");
        let places = Places {
            listen: "127.0.0.1:1081".parse().expect("an address"),
            origin: "127.0.0.1:1080".parse().expect("an address"),
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
                if kind.lacks(case.profile).is_none() && case.profile.routes() > 0 {
                    let last = format!("/r/{}/", case.profile.routes() - 1);
                    assert!(told.contains(&last), "{name} {}: no {last}", case.name);
                }
            }
        }
        fs::remove_dir_all(&directory).expect("the folder was made above");
    }
}
