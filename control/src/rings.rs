//! Ring figures: what was submitted to and completed by each core's io_uring.
//!
//! monoio keeps its ring to itself, but the kernel shows the tails of both queues
//! in `/proc/self/fdinfo`, and they count everything that ever passed. On the
//! legacy driver there is no ring and there are no figures.

use std::path::PathBuf;

use metrics::{counter, describe_counter};

/// All rings of the process and their tails as last read.
pub(crate) struct Rings(Vec<Ring>);

struct Ring {
    fdinfo: PathBuf,
    submitted: u32,
    completed: u32,
}

impl Rings {
    /// Looks for the rings; the cores have made theirs by now.
    pub(crate) fn find() -> Self {
        describe_counter!("ringway_ring_submissions_total", "Operations put into each io_uring");
        describe_counter!("ringway_ring_completions_total", "Completions of each io_uring");
        let list = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let is_ring = |entry: &std::fs::DirEntry| {
            std::fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == "anon_inode:[io_uring]")
        };
        let mut paths: Vec<PathBuf> = list
            .filter(is_ring)
            .map(|entry| PathBuf::from("/proc/self/fdinfo").join(entry.file_name()))
            .collect();
        paths.sort();
        Self(paths.into_iter().map(|fdinfo| Ring { fdinfo, submitted: 0, completed: 0 }).collect())
    }

    /// Adds what has passed since the last call. Reads files: not for the loop.
    pub(crate) fn count(&mut self) {
        for (index, ring) in self.0.iter_mut().enumerate() {
            let text = std::fs::read_to_string(&ring.fdinfo).unwrap_or_default();
            let (Some(submitted), Some(completed)) = (tail(&text, "SqTail:"), tail(&text, "CqTail:")) else {
                continue;
            };
            let name = index.to_string();
            // The tails are 32 bits wide and wrap.
            let new = submitted.wrapping_sub(std::mem::replace(&mut ring.submitted, submitted));
            counter!("ringway_ring_submissions_total", "ring" => name.clone()).increment(u64::from(new));
            let new = completed.wrapping_sub(std::mem::replace(&mut ring.completed, completed));
            counter!("ringway_ring_completions_total", "ring" => name).increment(u64::from(new));
        }
    }
}

fn tail(fdinfo: &str, name: &str) -> Option<u32> {
    fdinfo.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_of_a_ring() {
        let text = "pos:\t0\nSqMask:\t0xfff\nSqHead:\t17\nSqTail:\t19\nCqTail:\t4294967295\n";
        assert_eq!((tail(text, "SqTail:"), tail(text, "CqTail:")), (Some(19), Some(u32::MAX)));
        assert_eq!(tail("", "SqTail:"), None);
    }
}
