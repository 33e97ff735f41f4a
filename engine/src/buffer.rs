//! Pooled buffers: where bytes of connections live.
//!
//! A [`Buf`] appends what is read at its end and hands out what is written from
//! its start, which is what monoio's owned-buffer contract wants. Every one
//! has a few bytes of **headroom** before the data and of **tailroom** behind,
//! so that a rewritten head or a chunk frame can be put around a body where it
//! lies, and head and body leave in one send without a copy.
//!
//! Free lists are per thread and per size class and bounded; a buffer goes back
//! in `Drop`, so that a cancelled operation leaks nothing. Memory is zeroed once
//! when it is made: reading never sees another program's bytes, and this file
//! needs `unsafe` for monoio's two traits only.

use std::cell::RefCell;
use std::ops::Range;

use monoio::buf::{IoBuf, IoBufMut};

/// Bytes kept free before the data of a buffer taken with headroom.
pub const HEADROOM: usize = 1024;
/// Bytes never filled by a read, for a chunk's end and the last chunk.
pub const TAILROOM: usize = 16;
/// Free buffers of a class that a trim leaves alone ...
const TRIM_KEEP: usize = 16;
/// ... and how many it frees at the most, so that a tick stays short.
const TRIM_MAX: usize = 512;

/// The sizes there are. The numbers are what a read can take, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// 4 KiB.
    Small,
    /// 16 KiB (`[cores.buffers] read`).
    Read,
    /// 64 KiB (`[cores.buffers] bulk`).
    Bulk,
}

struct Pool {
    sizes: [usize; 3],
    free: [Vec<Box<[u8]>>; 3],
    kept_max: usize,
    /// The fewest free ones of each class since the last trim: nobody needed them.
    unused: [usize; 3],
}

thread_local! {
    static POOL: RefCell<Pool> = const {
        RefCell::new(Pool {
            sizes: [4 * 1024, 16 * 1024, 64 * 1024],
            free: [Vec::new(), Vec::new(), Vec::new()],
            kept_max: 1024,
            unused: [0; 3],
        })
    };
}

/// Sets this thread's sizes and how many free buffers of each it keeps.
pub fn configure(read: usize, bulk: usize, kept_max: usize) {
    POOL.with_borrow_mut(|pool| {
        pool.sizes = [(4 * 1024).min(read), read, bulk.max(read)];
        pool.kept_max = kept_max;
        pool.free = [Vec::new(), Vec::new(), Vec::new()];
    });
}

/// How many free buffers of each class this thread keeps now.
pub fn kept() -> [usize; 3] {
    POOL.with_borrow(|pool| [pool.free[0].len(), pool.free[1].len(), pool.free[2].len()])
}

/// Frees what was not needed since the last call, a bounded number at a time:
/// after a burst (ten thousand clients that connect at once) the memory of its
/// peak goes back to the system instead of lying in the free lists.
pub fn trim() {
    POOL.with_borrow_mut(|pool| {
        for index in 0..3 {
            let excess = pool.unused[index].saturating_sub(TRIM_KEEP).min(TRIM_MAX);
            let left = pool.free[index].len() - excess;
            pool.free[index].truncate(left);
            if left <= TRIM_KEEP {
                pool.free[index].shrink_to(TRIM_KEEP);
            }
            pool.unused[index] = left;
        }
    });
}

/// One buffer; `Default` is one without memory.
#[derive(Default)]
pub struct Buf {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
    class: u8,
}

impl Buf {
    /// A buffer from this thread's pool, empty, with headroom.
    pub fn take(class: Class) -> Self {
        let memory = POOL.with_borrow_mut(|pool| {
            let index = class as usize;
            let free = pool.free[index].pop();
            pool.unused[index] = pool.unused[index].min(pool.free[index].len());
            free.unwrap_or_else(|| vec![0; HEADROOM + pool.sizes[index] + TAILROOM].into_boxed_slice())
        });
        Self { memory, start: HEADROOM, end: HEADROOM, class: class as u8 + 1 }
    }

    /// A buffer from this thread's pool that is filled from its very beginning: for records, around which
    /// nothing is ever put.
    pub fn bare(class: Class) -> Self {
        let mut buf = Self::take(class);
        (buf.start, buf.end) = (0, 0);
        buf
    }

    /// A buffer of its own size, for heads past the classes.
    pub fn sized(bytes: usize) -> Self {
        let memory = vec![0; HEADROOM + bytes + TAILROOM].into_boxed_slice();
        Self { memory, start: HEADROOM, end: HEADROOM, class: 0 }
    }

    /// Whether it has no memory (the default one).
    pub fn is_vacant(&self) -> bool {
        self.memory.is_empty()
    }

    /// The data.
    pub fn data(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// The data, to be changed in place.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.end]
    }

    /// Bytes of data.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there is no data.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes a read could append.
    pub fn room(&self) -> usize {
        self.memory.len().saturating_sub(TAILROOM).saturating_sub(self.end)
    }

    /// The room that a read could fill; say with [`Buf::filled`] how much of it was.
    pub fn room_mut(&mut self) -> &mut [u8] {
        let end = self.end + self.room();
        &mut self.memory[self.end..end]
    }

    /// Counts the first `count` bytes of the room to the data.
    pub fn filled(&mut self, count: usize) {
        self.end += count.min(self.room());
    }

    /// Puts as many of these bytes behind the data as fit, into the tailroom too; how many.
    pub fn append_some(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.memory.len() - self.end);
        self.append(&bytes[..count]);
        count
    }

    /// Drops the first `count` bytes of data; an empty buffer starts over.
    pub fn consume(&mut self, count: usize) {
        self.start += count.min(self.len());
        if self.start == self.end && !self.memory.is_empty() {
            self.clear();
        }
    }

    /// Drops all data.
    pub fn clear(&mut self) {
        let start = HEADROOM.min(self.memory.len());
        self.start = start;
        self.end = start;
    }

    /// Keeps only this part of the data (positions within [`Buf::data`]).
    pub fn narrow(&mut self, part: Range<usize>) {
        let base = self.start;
        self.start = base + part.start.min(self.len());
        self.end = (base + part.end).min(self.end).max(self.start);
    }

    /// Puts bytes before the data. False (and nothing done) if they do not fit.
    pub fn prepend(&mut self, bytes: &[u8]) -> bool {
        let Some(start) = self.start.checked_sub(bytes.len()) else { return false };
        self.memory[start..self.start].copy_from_slice(bytes);
        self.start = start;
        true
    }

    /// Puts bytes behind the data, into the tailroom too. False if they do not fit.
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let end = self.end + bytes.len();
        if end > self.memory.len() {
            return false;
        }
        self.memory[self.end..end].copy_from_slice(bytes);
        self.end = end;
        true
    }

    /// Moves the data to the front when the room behind it has run out.
    pub fn compact(&mut self) {
        if self.start > HEADROOM {
            let length = self.len();
            self.memory.copy_within(self.start..self.end, HEADROOM);
            self.start = HEADROOM;
            self.end = HEADROOM + length;
        }
    }

    /// Grows into a buffer of `bytes` of room, keeping the data.
    pub fn grow(&mut self, bytes: usize) {
        let mut larger = Buf::sized(bytes.max(self.len()));
        larger.append(self.data());
        *self = larger;
    }

    /// Cuts the data at `at`: self keeps the first part, the rest comes back.
    pub fn split_off(&mut self, at: usize) -> Buf {
        let tail = &self.data()[at.min(self.len())..];
        let class = if tail.len() <= 4096 { Class::Small } else { Class::Read };
        let mut rest = Buf::take(class);
        if rest.room() < tail.len() {
            rest = Buf::sized(tail.len());
        }
        rest.append(tail);
        self.narrow(0..at);
        rest
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if self.class == 0 {
            return;
        }
        let index = usize::from(self.class - 1);
        let memory = std::mem::take(&mut self.memory);
        // During thread exit the pool may be gone already: the memory is freed then.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.free[index].len() < pool.kept_max
                && memory.len() == HEADROOM + pool.sizes[index] + TAILROOM
            {
                pool.free[index].push(memory);
            }
        });
    }
}

// SAFETY: `read_ptr..+bytes_init` is the data inside the boxed memory, which
// is on the heap, initialised, and does not move while this value lives.
unsafe impl IoBuf for Buf {
    fn read_ptr(&self) -> *const u8 {
        self.data().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }
}

// SAFETY: `write_ptr..+bytes_total` is the room behind the data inside the
// boxed memory; `set_init` moves the end by what the kernel wrote there.
unsafe impl IoBufMut for Buf {
    fn write_ptr(&mut self) -> *mut u8 {
        self.memory[self.end..].as_mut_ptr()
    }

    fn bytes_total(&mut self) -> usize {
        self.room()
    }

    unsafe fn set_init(&mut self, count: usize) {
        debug_assert!(count <= self.room(), "the kernel wrote no more than it was given");
        self.end += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_chunks_fit_around_a_body() {
        let mut buf = Buf::take(Class::Small);
        assert!(buf.append(b"head body"));
        buf.consume(5);
        assert_eq!(buf.data(), b"body");
        assert!(buf.prepend(b"HTTP/1.1 200 OK\r\n\r\n"));
        assert!(buf.append(b"\r\n"));
        assert_eq!(buf.data(), b"HTTP/1.1 200 OK\r\n\r\nbody\r\n");
        assert!(!buf.prepend(&[0; HEADROOM + 64]), "more than the headroom is refused, not cut");
    }

    #[test]
    fn a_dropped_buffer_is_used_again() {
        configure(16 * 1024, 64 * 1024, 2);
        let first = Buf::take(Class::Bulk);
        let address = first.data().as_ptr();
        drop(first);
        assert_eq!(kept(), [0, 0, 1]);
        let second = Buf::take(Class::Bulk);
        assert_eq!(second.data().as_ptr(), address);
        drop((second, Buf::take(Class::Bulk), Buf::take(Class::Bulk)));
        assert_eq!(kept()[2], 2, "the free list is bounded");
    }

    #[test]
    fn what_a_burst_left_is_freed() {
        configure(16 * 1024, 64 * 1024, 4096);
        drop((0..600).map(|_| Buf::take(Class::Read)).collect::<Vec<_>>());
        trim();
        assert_eq!(kept()[1], 600, "they were in use since the last trim");
        for _ in 0..3 {
            drop(Buf::take(Class::Read));
            trim();
        }
        assert!(kept()[1] <= TRIM_KEEP + 1, "{}", kept()[1]);
    }

    #[test]
    fn splitting_keeps_every_byte() {
        let mut buf = Buf::take(Class::Small);
        buf.append(b"first|second");
        let rest = buf.split_off(6);
        assert_eq!((buf.data(), rest.data()), (&b"first|"[..], &b"second"[..]));
        buf.compact();
        buf.grow(100_000);
        assert_eq!(buf.data(), b"first|");
        assert!(buf.room() >= 99_000);
    }
}
