//! `[cores]`: how many cores serve, which ones, and how they talk to the kernel.

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
