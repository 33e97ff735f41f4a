//! Counters and signals of other processes, by `/proc` and `kill`.

use rustix::process::{kill_process, Pid, Signal};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// Sends a signal.
///
/// # Panics
///
/// When the process is gone.
pub fn signal(child: &Child, signal: Signal) {
    kill_process(pid(child), signal).expect("the process lives");
}

/// Sends a signal, or does nothing when the process is gone.
pub fn try_signal(child: &Child, signal: Signal) {
    let _ = kill_process(pid(child), signal);
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// How many descriptors the process has open.
///
/// # Panics
///
/// When the process is gone.
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives").count()
}

/// Resident memory in bytes.
///
/// # Panics
///
/// When the process is gone.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has VmRSS");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("VmRSS in kB");
    kib * 1024
}

/// User memory in bytes, shared pages counted by their part (`Pss` of `smaps_rollup`).
///
/// # Panics
///
/// When the process is gone.
pub fn user_bytes(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process lives");
    let line = rollup.lines().find(|line| line.starts_with("Pss:")).expect("a rollup has Pss");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("Pss in kB");
    kib * 1024
}

/// CPU time that all threads of the process used so far.
///
/// # Panics
///
/// When the process is gone.
pub fn cpu_time(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    let nanos: u64 = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()))
        .sum();
    Duration::from_nanos(nanos)
}

/// Waits for the end of a child, with a deadline.
///
/// # Panics
///
/// When it does not end.
pub fn wait_end(child: &mut Child, deadline: Duration) -> ExitStatus {
    crate::wait_for("the process to end", deadline, || child.try_wait().expect("our own child"))
}

/// Where an installed command lies, by `PATH` and the two places for servers.
pub fn which(command: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join(command))
        .find(|candidate| candidate.is_file())
}

/// Where an installed command lies; says that the case is skipped when it is not there.
pub fn installed(command: &str, case: &str) -> Option<PathBuf> {
    let found = which(command);
    if found.is_none() {
        // Past the test runner's capture: a test that passes by skipping must be seen.
        let _ = writeln!(std::io::stderr(), "skipped: {case}: {command} is not installed");
    }
    found
}

/// A folder of a test's own, removed on drop.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes an empty folder below the system's temporary one.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    pub fn new() -> Folder {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ringway-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Folder { path }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file in it, whole and by rename, so that no reader sees half of it. Gives its path.
    ///
    /// # Panics
    ///
    /// When the disk is full.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        let folder = path.parent().expect("below the folder");
        std::fs::create_dir_all(folder).expect("the temporary folder is writable");
        let half = self.path.join(format!(".{}.new", name.replace('/', "-")));
        std::fs::write(&half, text).expect("room on the disk");
        std::fs::rename(&half, &path).expect("a rename within one folder");
        path
    }
}

impl Default for Folder {
    fn default() -> Folder {
        Folder::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("RINGWAY_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
