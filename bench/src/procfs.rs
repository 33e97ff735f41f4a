//! What /proc says about processes and the machine. Each file has a pure parser, so that the tests need no process.

use std::fs;
use std::path::Path;

/// CPU time of a process with its children, all threads.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// Time on a processor, in nanoseconds.
    pub run_nanos: u64,
    /// Time ready to run but waiting for a processor, in nanoseconds.
    pub delay_nanos: u64,
}

/// Reads `/proc/PID/task/TID/schedstat`: time on the processor, time waiting, both in nanoseconds, number of turns.
pub fn parse_schedstat(text: &str) -> Option<Cpu> {
    let mut fields = text.split_ascii_whitespace().map(str::parse);
    let (run, delay) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(Cpu { run_nanos: run, delay_nanos: delay })
}

/// Sums the schedstat of every task of these processes. Tasks that ended are no longer in it.
pub fn cpu_of(pids: &[u32]) -> Cpu {
    let mut sum = Cpu::default();
    for pid in pids {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            if let Some(cpu) = parse_schedstat(&text) {
                sum.run_nanos += cpu.run_nanos;
                sum.delay_nanos += cpu.delay_nanos;
            }
        }
    }
    sum
}

/// The parent in `/proc/PID/stat`. The name before it may hold blanks and parentheses.
pub fn parse_parent(stat: &str) -> Option<u32> {
    stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(1)?.parse().ok()
}

/// A process and all that descend from it.
pub fn family(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(parent) =
            fs::read_to_string(entry.path().join("stat")).ok().as_deref().and_then(parse_parent)
        {
            parents.push((pid, parent));
        }
    }
    let mut family = vec![root];
    let mut next = 0;
    while next < family.len() {
        let parent = family[next];
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    family
}

/// The `Pss:` line of `smaps_rollup`, in bytes.
pub fn parse_pss(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Proportional set size of these processes, in bytes: their user memory.
pub fn pss_of(pids: &[u32]) -> u64 {
    let read = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    pids.iter().filter_map(read).filter_map(|text| parse_pss(&text)).sum()
}

/// Ticks of one processor since boot.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Ticks {
    /// All of them.
    pub total: u64,
    /// Idle, also while waiting for a disk.
    pub idle: u64,
    /// Taken by the hypervisor for others.
    pub steal: u64,
}

impl Ticks {
    /// Share of idle ticks since `earlier`, in percent; `None` before the first tick.
    pub fn idle_percent_since(&self, earlier: &Ticks) -> Option<f64> {
        let total = self.total - earlier.total;
        (total > 0).then(|| 100.0 * (self.idle - earlier.idle) as f64 / total as f64)
    }

    /// Share of stolen ticks since `earlier`, in percent.
    pub fn steal_percent_since(&self, earlier: &Ticks) -> f64 {
        let total = (self.total - earlier.total).max(1);
        100.0 * (self.steal - earlier.steal) as f64 / total as f64
    }
}

/// Reads the line `name` (`cpu` for all, `cpu1` for one) of /proc/stat.
pub fn parse_ticks(text: &str, name: &str) -> Option<Ticks> {
    let line = text.lines().find(|line| line.split_ascii_whitespace().next() == Some(name))?;
    let values: Vec<u64> =
        line.split_ascii_whitespace().skip(1).map(|value| value.parse().unwrap_or(0)).collect();
    // user nice system idle iowait irq softirq steal; guest times are in user already.
    (values.len() >= 8).then(|| Ticks {
        total: values[..8].iter().sum(),
        idle: values[3] + values[4],
        steal: values[7],
    })
}

/// Ticks of one core, or of all of them.
pub fn ticks(core: Option<usize>) -> Ticks {
    let name = core.map_or("cpu".to_owned(), |core| format!("cpu{core}"));
    fs::read_to_string("/proc/stat").ok().and_then(|text| parse_ticks(&text, &name)).unwrap_or_default()
}

/// A small file of /proc or /sys, without the newline at its end.
pub fn line(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat() {
        let check = |text: &str, expected: Option<(u64, u64)>| {
            assert_eq!(
                parse_schedstat(text).map(|cpu| (cpu.run_nanos, cpu.delay_nanos)),
                expected,
                "{text:?}"
            );
        };
        check("123456789 42 7\n", Some((123_456_789, 42)));
        check("0 0 0\n", Some((0, 0)));
        check("18446744073709551615 1 1", Some((u64::MAX, 1)));
        check("12\n", None);
        check("", None);
        check("a b c", None);
    }

    #[test]
    fn parents() {
        assert_eq!(parse_parent("71 (nginx: master) S 70 71 71 0 -1"), Some(70));
        assert_eq!(parse_parent("71 (a) b) (c) R 9 1 1"), Some(9));
        assert_eq!(parse_parent("71 (a"), None);
    }

    #[test]
    fn memory_and_ticks() {
        assert_eq!(parse_pss("Rss:   900 kB\nPss:    512 kB\nPss_Anon: 1 kB\n"), Some(512 * 1024));
        assert_eq!(parse_pss("Rss: 1 kB"), None);
        let stat = "cpu  1 1 1 1 1 1 1 1 9 9\ncpu0 10 0 20 60 10 0 0 100 5 0\n";
        assert_eq!(parse_ticks(stat, "cpu0"), Some(Ticks { total: 200, idle: 70, steal: 100 }));
        assert_eq!(parse_ticks(stat, "cpu1"), None);
        let (before, after) =
            (Ticks { total: 100, idle: 10, steal: 0 }, Ticks { total: 200, idle: 60, steal: 3 });
        assert_eq!(after.idle_percent_since(&before), Some(50.0));
        assert_eq!(after.steal_percent_since(&before), 3.0);
        assert_eq!(before.idle_percent_since(&before), None);
    }

    #[test]
    fn our_own_process() {
        let ours = std::process::id();
        assert!(cpu_of(&[ours]).run_nanos > 0);
        assert!(pss_of(&[ours]) > 100_000);
        assert!(family(ours).contains(&ours));
    }
}
