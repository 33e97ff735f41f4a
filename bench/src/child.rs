//! Child processes: started inside the namespace on their core, and ended whatever happens to the harness.
//!
//! Each goes through `bench launch`, which enters the namespace, pins itself, raises the limit of descriptors, asks
//! the kernel for SIGTERM when the harness dies, and becomes the program. So even a killed harness leaves no process.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use rustix::thread::{CpuSet, LinkNameSpaceType};

use crate::procfs;

/// The harness's own program, even after the file it was started from has been built anew.
pub const OWN: &str = "/proc/self/exe";
/// How long a process may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(2);
/// Descriptors that a subject may open.
const DESCRIPTORS: u64 = 200_000;

/// What to do before becoming the program.
#[derive(clap::Args)]
pub struct Launch {
    /// The network namespace to enter.
    #[arg(long)]
    netns: Option<String>,
    /// The core to stay on.
    #[arg(long)]
    core: Option<usize>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    program: Vec<std::ffi::OsString>,
}

impl Launch {
    /// Becomes the program; returns only when that fails, with the reason.
    pub fn run(&self) -> String {
        match self.prepare() {
            Ok(()) => {
                let error = Command::new(&self.program[0]).args(&self.program[1..]).exec();
                format!("{}: {error}", self.program[0].to_string_lossy())
            }
            Err(error) => error,
        }
    }

    fn prepare(&self) -> Result<(), String> {
        if let Some(name) = &self.netns {
            let place = format!("/run/netns/{name}");
            let file = File::open(&place).map_err(|error| format!("{place}: {error}"))?;
            rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&file),
                Some(LinkNameSpaceType::Network),
            )
            .map_err(|error| format!("{place}: {error}"))?;
        }
        if let Some(core) = self.core {
            let mut set = CpuSet::new();
            set.set(core);
            rustix::thread::sched_setaffinity(None, &set).map_err(|error| format!("core {core}: {error}"))?;
        }
        raise_descriptors();
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
            .map_err(|error| format!("prctl: {error}"))
    }
}

/// As many descriptors as allowed, at most [`DESCRIPTORS`]; root may raise its own limit where it kept the right to.
/// Gives what the limit is then.
pub fn raise_descriptors() -> u64 {
    let now = rustix::process::getrlimit(Resource::Nofile);
    let wanted =
        Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS.max(now.maximum.unwrap_or(0))) };
    if rustix::process::setrlimit(Resource::Nofile, wanted).is_err() {
        let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: now.maximum, ..now });
    }
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(DESCRIPTORS)
}

/// A running process; ended with its family when dropped.
pub struct Child {
    process: std::process::Child,
    name: String,
}

impl Child {
    /// Starts a program inside `netns` on `core`, its output in the two files.
    ///
    /// # Errors
    ///
    /// When the files cannot be made or the process cannot start.
    pub fn start(
        name: &str,
        program: &[String],
        netns: Option<&str>,
        core: usize,
        stdout: &Path,
        stderr: &Path,
    ) -> Result<Child, String> {
        let create = |path: &Path| File::create(path).map_err(|error| format!("{}: {error}", path.display()));
        let mut command = Command::new(OWN);
        command.arg("launch").args(netns.map(|netns| format!("--netns={netns}")));
        command.arg(format!("--core={core}")).arg("--").args(program);
        command.stdin(Stdio::null()).stdout(create(stdout)?).stderr(create(stderr)?);
        let process = command.spawn().map_err(|error| format!("{name}: {error}"))?;
        Ok(Child { process, name: name.to_owned() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Waits for its end, looking at `stop` meanwhile.
    ///
    /// # Errors
    ///
    /// When it takes longer than `patience` or `stop` says so.
    pub fn wait(&mut self, patience: Duration, stop: impl Fn() -> bool) -> Result<ExitStatus, String> {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if stop() {
                return Err("interrupted".to_owned());
            }
            if Instant::now() > end {
                return Err(format!("{} did not end within {} s", self.name, patience.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        let family = procfs::family(self.id());
        signal(self.id(), Signal::TERM);
        let end = Instant::now() + PATIENCE;
        while self.ended().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        if self.ended().is_none() {
            // Still ours: a process that was not waited for keeps its number.
            family.iter().for_each(|pid| signal(*pid, Signal::KILL));
            // Bounded: a process that the kernel cannot end (a ring that will not close) must not hold the run up.
            let end = Instant::now() + PATIENCE;
            while self.ended().is_none() {
                if Instant::now() > end {
                    eprintln!("bench: {} (process {}) does not end, not even killed", self.name, self.id());
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}
