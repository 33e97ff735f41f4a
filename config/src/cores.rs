//! `[cores]`: how many cores serve, which ones, and how they talk to the kernel.

use crate::reader::{integer, wrong_type, Reader};
use crate::report::{Problem, Report};
use crate::value::{Kind, Value};

/// The highest core number, and the most cores.
pub const CORES_MAX: usize = 4096;

/// `[cores]`
#[derive(Clone, Debug, PartialEq)]
pub struct Cores {
    /// How many cores serve.
    pub count: Count,
    /// Which cores may serve (`"0-3,6"`), ascending; `None` means all that are allowed.
    pub set: Option<Vec<usize>>,
    /// Cores left to control, logs and interrupts.
    pub reserve: usize,
    /// Whether each worker is bound to its core.
    pub pin: bool,
    /// How workers wait for sockets.
    pub driver: Driver,
    /// `[cores.ring]`
    pub ring: Ring,
    /// `[cores.buffers]`
    pub buffers: Buffers,
}

/// How many cores serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// The smaller of the physical cores allowed and the cgroup's quota.
    Auto,
    /// So many.
    Number(usize),
    /// So many percent (1 to 100) of what `Auto` would give, at least one.
    Percent(u8),
}

/// How workers wait for sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring where it works, else epoll.
    Auto,
    /// io_uring; an error where it is missing.
    IoUring,
    /// epoll.
    Epoll,
}

/// `[cores.ring]`: the sizes of each core's io_uring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Submission entries.
    pub entries: u32,
    /// Completion entries.
    pub cq_entries: u32,
    /// Whether the kernel defers its work until the core asks for it.
    pub defer_taskrun: bool,
}

/// `[cores.buffers]`: each core's buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// Bytes of a buffer for heads and small bodies.
    pub read: usize,
    /// Bytes of a buffer for bodies that flow.
    pub bulk: usize,
    /// How many of them a core keeps.
    pub pool: usize,
}

impl Default for Cores {
    fn default() -> Cores {
        Cores {
            count: Count::Auto,
            set: None,
            reserve: 0,
            pin: true,
            driver: Driver::Auto,
            ring: Ring::default(),
            buffers: Buffers::default(),
        }
    }
}

impl Default for Ring {
    fn default() -> Ring {
        Ring { entries: 4096, cq_entries: 16384, defer_taskrun: true }
    }
}

impl Default for Buffers {
    fn default() -> Buffers {
        Buffers { read: 16 << 10, bulk: 64 << 10, pool: 4096 }
    }
}

impl Cores {
    /// Reads `[cores]`.
    pub(crate) fn read(value: &Value, report: &mut Report) -> Cores {
        let mut reader = Reader::of("Cores", value, report);
        let default = Cores::default();
        let words = [("auto", Driver::Auto), ("io_uring", Driver::IoUring), ("epoll", Driver::Epoll)];
        let cores = Cores {
            count: count(&mut reader).unwrap_or(default.count),
            set: set(&mut reader),
            reserve: reader.range("reserve", 0..=CORES_MAX as i64).unwrap_or(0) as usize,
            pin: reader.opt_bool("pin").unwrap_or(default.pin),
            driver: reader.one_of("driver", &words).unwrap_or(default.driver),
            ring: reader.opt_value("ring").map(|ring| read_ring(ring, reader.report())).unwrap_or_default(),
            buffers: reader
                .opt_value("buffers")
                .map(|it| read_buffers(it, reader.report()))
                .unwrap_or_default(),
        };
        reader.finish();
        cores
    }
}

/// `"auto"`, a number or `"50%"`.
fn count(reader: &mut Reader<'_, '_>) -> Option<Count> {
    let value = reader.opt_value("count")?;
    match &value.kind {
        Kind::Integer(_) => integer(reader.report(), "count", value, 1..=CORES_MAX as i64)
            .map(|number| Count::Number(number as usize)),
        Kind::String(text) if text == "auto" => Some(Count::Auto),
        Kind::String(text) => {
            let percent = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
            let percent = percent.filter(|percent| (1..=100).contains(percent));
            if percent.is_none() {
                let problem = Problem::error(value, format!("invalid count `{text}`"));
                let label = "must be \"auto\", a number, or \"1%\" to \"100%\"";
                reader.report().push(problem.label(label).help("write count = \"auto\""));
            }
            percent.map(Count::Percent)
        }
        _ => {
            wrong_type(reader.report(), value, "a string or an integer", "count = \"auto\"");
            None
        }
    }
}

/// `"0-3,6"`, ascending and without repetition whatever the order written.
fn set(reader: &mut Reader<'_, '_>) -> Option<Vec<usize>> {
    let text = reader.opt_str("set")?;
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse().ok().filter(|core: &usize| *core < CORES_MAX);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => cores.extend(first..=last),
            _ => {
                let place = reader.value_place("set");
                let problem = Problem::error(place, format!("invalid set of cores `{text}`"))
                    .label(format!("`{part}` is no core and no range of cores"));
                reader.report().push(problem.help("write \"0-3,6\""));
                return None;
            }
        }
        if cores.len() > 4 * CORES_MAX {
            break;
        }
    }
    cores.sort_unstable();
    cores.dedup();
    Some(cores)
}

fn read_ring(value: &Value, report: &mut Report) -> Ring {
    let mut reader = Reader::of("Ring", value, report);
    let default = Ring::default();
    // The kernel's own bounds (IORING_MAX_ENTRIES, twice that for completions).
    let entries = reader.range("entries", 1..=32_768).map_or(default.entries, |it| it as u32);
    let cq_entries = reader.range("cq_entries", 1..=65_536).map(|it| it as u32);
    if cq_entries.is_some_and(|cq_entries| cq_entries < entries) {
        let place = reader.value_place("cq_entries");
        let problem = Problem::error(place, "`cq_entries` is less than `entries`");
        reader.report().push(
            problem
                .label(format!("must be at least {entries}"))
                .help(format!("write cq_entries = {}, or leave it out", entries.saturating_mul(2))),
        );
    }
    let ring = Ring {
        entries,
        cq_entries: cq_entries.unwrap_or(default.cq_entries.max(entries)),
        defer_taskrun: reader.opt_bool("defer_taskrun").unwrap_or(default.defer_taskrun),
    };
    reader.finish();
    ring
}

fn read_buffers(value: &Value, report: &mut Report) -> Buffers {
    let mut reader = Reader::of("Buffers", value, report);
    let default = Buffers::default();
    let buffers = Buffers {
        read: reader.size_range("read", 4 << 10..=1 << 20).map_or(default.read, |it| it as usize),
        bulk: reader.size_range("bulk", 4 << 10..=16 << 20).map_or(default.bulk, |it| it as usize),
        pool: reader.range("pool", 0..=1_000_000).map_or(default.pool, |it| it as usize),
    };
    reader.finish();
    buffers
}
