//! The few system calls that need `unsafe`, each behind a safe function.
//!
//! Kept in one file so that one reading covers them all: everything else in
//! this crate, the buffer type aside, is safe code. [`Socket`] stands here as
//! well: it lets one task read and write a socket at the same time, which
//! monoio's `&mut self` methods do not allow without its split halves (and
//! those hide the descriptor that the deadline wheel needs).

use std::cell::UnsafeCell;
use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use monoio::buf::{IoBuf, IoBufMut, IoVecBuf};
use monoio::io::{AsyncReadRent, AsyncWriteRent, CancelHandle, CancelableAsyncReadRent};
use monoio::net::TcpStream;
use monoio::BufResult;

/// A connected stream socket (TCP, or a unix socket in the same clothes: the
/// operations used are `recv`, `send` and `writev`, which both know).
pub struct Socket {
    stream: UnsafeCell<TcpStream>,
    fd: RawFd,
}

impl Socket {
    /// Takes over a stream.
    pub fn new(stream: TcpStream) -> Self {
        let fd = stream.as_raw_fd();
        Self { stream: UnsafeCell::new(stream), fd }
    }

    /// Registers a connected descriptor with this thread's driver.
    ///
    /// # Errors
    ///
    /// What the driver says; the descriptor is closed then.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        TcpStream::from_std(std::net::TcpStream::from(fd)).map(Self::new)
    }

    /// The descriptor's number, for the deadline wheel.
    pub fn raw_fd(&self) -> RawFd {
        self.fd
    }

    #[allow(clippy::mut_from_ref)]
    fn stream(&self) -> &mut TcpStream {
        // SAFETY: the type is !Sync, so only this thread is here. The methods
        // called on the reference only clone the inner descriptor handle and
        // put an operation into the ring; none keeps the reference past its
        // own call or touches state that another of them changes. This is the
        // argument behind monoio's own `Split for TcpStream`.
        unsafe { &mut *self.stream.get() }
    }

    /// Receives into the free end of `buffer`.
    pub fn read<T: IoBufMut>(&self, buffer: T) -> impl Future<Output = BufResult<usize, T>> + '_ {
        self.stream().read(buffer)
    }

    /// Like [`Socket::read`], but the sweeper can end it without losing a byte.
    pub fn cancelable_read<T: IoBufMut>(
        &self,
        buffer: T,
        handle: CancelHandle,
    ) -> impl Future<Output = BufResult<usize, T>> + '_ {
        self.stream().cancelable_read(buffer, handle)
    }

    /// Sends from `buffer`; may send less than all.
    pub fn write<T: IoBuf>(&self, buffer: T) -> impl Future<Output = BufResult<usize, T>> + '_ {
        self.stream().write(buffer)
    }

    /// Gathers from several buffers; may send less than all.
    pub fn writev<T: IoVecBuf>(&self, buffers: T) -> impl Future<Output = BufResult<usize, T>> + '_ {
        self.stream().writev(buffers)
    }

    /// Waits until a read would return at once; dropping it loses nothing.
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> + '_ {
        self.stream().readable(false)
    }

    /// Waits until a write would return at once; dropping it loses nothing.
    pub fn writable(&self) -> impl Future<Output = io::Result<()>> + '_ {
        self.stream().writable(false)
    }

    /// `shutdown(2)`; errors are of no interest (the peer may be gone).
    pub fn shutdown(&self, how: Shutdown) {
        shutdown(self.fd, how);
    }

    /// Whether an idle connection is still good: nothing to read and no end.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0_u8; 1];
        // SAFETY: a valid one-byte buffer; the descriptor lives as long as self.
        let n =
            unsafe { libc::recv(self.fd, byte.as_mut_ptr().cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
        n < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
    }

    /// Whether there is something to read that is not the end.
    pub fn has_data(&self) -> bool {
        let mut byte = [0_u8; 1];
        // SAFETY: as in `is_quiet`.
        let n =
            unsafe { libc::recv(self.fd, byte.as_mut_ptr().cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
        n > 0
    }

    /// Whether the peer has closed or reset.
    pub fn has_hung_up(&self) -> bool {
        let mut gone = false;
        poll_hangups(&[self.fd], &mut |_| gone = true);
        gone
    }

    /// The error that a finished `connect` left behind, if any.
    ///
    /// # Errors
    ///
    /// The pending `SO_ERROR`.
    pub fn take_error(&self) -> io::Result<()> {
        rustix::net::sockopt::socket_error(borrow(self.fd)).map_err(io::Error::from)?.map_err(io::Error::from)
    }

    /// Sends what fits without waiting, as a last word before closing.
    pub fn write_now(&self, bytes: &[u8]) -> usize {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the pointer and length describe `bytes`.
        let n = unsafe { libc::send(self.fd, bytes.as_ptr().cast(), bytes.len(), flags) };
        usize::try_from(n).unwrap_or(0)
    }

    /// Receives what is there without waiting, as a last look before closing.
    pub fn read_now(&self, into: &mut [u8]) -> usize {
        // SAFETY: the pointer and length describe `into`.
        let n = unsafe { libc::recv(self.fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
        usize::try_from(n).unwrap_or(0)
    }
}

fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: callers hold the socket (or its wheel entry, which is removed
    // before the socket closes), so the number names an open descriptor.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// `shutdown(2)` on a descriptor that a wheel entry names.
pub fn shutdown(fd: RawFd, how: Shutdown) {
    let how = match how {
        Shutdown::Read => rustix::net::Shutdown::Read,
        Shutdown::Write => rustix::net::Shutdown::Write,
        Shutdown::Both => rustix::net::Shutdown::Both,
    };
    let _ = rustix::net::shutdown(borrow(fd), how);
}

/// Of many sockets, those whose peer has closed or reset: one `poll(2)` for all.
///
/// `report` is called with the index of each. Nothing is read.
pub fn poll_hangups(fds: &[RawFd], report: &mut dyn FnMut(usize)) {
    const EVENTS: libc::c_short = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;
    for (chunk_index, chunk) in fds.chunks(256).enumerate() {
        let mut list = [libc::pollfd { fd: -1, events: 0, revents: 0 }; 256];
        for (slot, fd) in list.iter_mut().zip(chunk) {
            *slot = libc::pollfd { fd: *fd, events: libc::POLLRDHUP, revents: 0 };
        }
        // SAFETY: `list` holds at least `chunk.len()` entries; timeout 0 never waits.
        let n = unsafe { libc::poll(list.as_mut_ptr(), chunk.len() as libc::nfds_t, 0) };
        if n <= 0 {
            continue;
        }
        for (index, slot) in list[..chunk.len()].iter().enumerate() {
            if slot.revents & (EVENTS | libc::POLLNVAL) != 0 {
                report(chunk_index * 256 + index);
            }
        }
    }
}

/// Takes one waiting connection from a listener without waiting.
///
/// # Errors
///
/// `WouldBlock` when the queue is empty; otherwise what `accept4` says.
pub fn accept_now(listener: RawFd) -> io::Result<OwnedFd> {
    let poll = &mut [rustix::event::PollFd::from_borrowed_fd(borrow(listener), rustix::event::PollFlags::IN)];
    let ready = rustix::event::poll(poll, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if ready == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(rustix::net::accept_with(borrow(listener), rustix::net::SocketFlags::CLOEXEC)?)
}

/// Sets close-on-exec on a descriptor that monoio accepted without it.
pub fn set_cloexec(fd: RawFd) {
    let _ = rustix::io::fcntl_setfd(borrow(fd), rustix::io::FdFlags::CLOEXEC);
}

/// Switches `O_NONBLOCK`: on for the legacy driver, off for io_uring.
pub fn set_nonblocking(fd: impl AsFd, on: bool) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, on)?)
}

/// The same for a socket already in use.
pub fn set_nonblocking_raw(fd: RawFd, on: bool) -> io::Result<()> {
    set_nonblocking(borrow(fd), on)
}

/// The local address of a connected or listening socket, as bytes of its family.
pub fn local_addr(fd: RawFd) -> Option<std::net::SocketAddr> {
    let any = rustix::net::getsockname(borrow(fd)).ok()?;
    std::net::SocketAddr::try_from(any).ok()
}

/// Turns a raw descriptor that nobody else owns into an owned one.
///
/// For descriptors that come out of `into_raw_fd` of a library type.
pub fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller just got the number from an `into_raw_fd` call and
    // has no other owner of it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The parts of several buffers that are to be gathered into one write.
///
/// Heap iovecs, rebuilt on each call of [`IoVecs::new`]; the buffers live
/// inside, so that the kernel's pointers stay good while it owns them.
pub struct IoVecs<A, B> {
    first: A,
    second: B,
    list: Box<[libc::iovec; 2]>,
    used: usize,
}

impl<A: IoBuf, B: IoBuf> IoVecs<A, B> {
    /// Two buffers, of which the first `skip` bytes are left out.
    pub fn new(first: A, second: B, skip: usize) -> Self {
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut list = Box::new([empty; 2]);
        let mut used = 0;
        let mut skip = skip;
        for (pointer, length) in
            [(first.read_ptr(), first.bytes_init()), (second.read_ptr(), second.bytes_init())]
        {
            let left_out = skip.min(length);
            skip -= left_out;
            if left_out < length {
                list[used] = libc::iovec {
                    iov_base: pointer.wrapping_add(left_out).cast_mut().cast(),
                    iov_len: length - left_out,
                };
                used += 1;
            }
        }
        Self { first, second, list, used }
    }

    /// The buffers again.
    pub fn into_parts(self) -> (A, B) {
        (self.first, self.second)
    }
}

// SAFETY: the iovecs and the buffers they point into are on the heap (IoBuf
// promises a stable pointer) and owned by this value until it is dropped.
unsafe impl<A: IoBuf, B: IoBuf> IoVecBuf for IoVecs<A, B> {
    fn read_iovec_ptr(&self) -> *const libc::iovec {
        self.list.as_ptr()
    }

    fn read_iovec_len(&self) -> usize {
        self.used
    }
}
