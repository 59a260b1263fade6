//! Kernels that lack a part of eBPF, as a program sees them: each of its `bpf` calls waits until
//! the test has looked at what it asks for, and answered it.
//!
//! ```text
//!  program: bpf(MAP_CREATE, ring buffer) ─► filter ─► waits
//!  test:    receive ─► type of the map, from /proc/PID/mem ─► EINVAL, or "let the kernel decide"
//! ```
//!
//! A filter alone cannot tell maps apart, since their types are in memory.
//!
//! # Safety
//! Between fork and exec only system calls are made, on memory that was prepared before it. The
//! structures that the kernel fills are plain numbers, zeroed before, of the size that it takes.
//! Descriptors that the kernel hands over are owned at once.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};

use crate::check;
use crate::seccomp::{install, one_call};

/// A part of eBPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Making ring buffers.
    RingBuffer,
    /// Loading programs that trace.
    Tracing,
    /// Loading programs of any type.
    Program,
}

/// Commands of `bpf`, the type of ring buffers, and that of programs that trace by the kernel's
/// types, of `linux/bpf.h`.
const MAP_CREATE: u64 = 0;
const PROG_LOAD: u64 = 5;
const TYPE_RINGBUF: u32 = 27;
const TYPE_TRACING: u32 = 26;

/// Answers the calls of a program, until all its processes have ended.
pub struct Answering {
    thread: JoinHandle<Result<u32>>,
}

impl Answering {
    /// Has whatever the program tries of `part` fail with `errno`. The kernel decides on the rest.
    ///
    /// # Errors
    /// Fails if there are no descriptors left.
    pub fn begin(command: &mut Command, part: Part, errno: i32) -> Result<Answering> {
        let (ours, theirs) = UnixStream::pair()?;
        let filter = one_call(libc::SYS_bpf, libc::SECCOMP_RET_USER_NOTIF);
        let apply = move || {
            let listener = install(&filter, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
            send(&theirs, listener as i32)
        };
        // SAFETY: `apply` makes system calls only.
        unsafe { command.pre_exec(apply) };
        let thread = std::thread::spawn(move || {
            let listener = receive(&ours).context("no listener came from the program")?;
            answer(&listener, part, errno)
        });
        Ok(Answering { thread })
    }

    /// Fails unless the program, which has ended, was refused at least once. `command` holds an
    /// end of what the listener comes through, and has to go first.
    ///
    /// # Errors
    /// Whatever kept a call from being answered.
    pub fn end(self, command: Command) -> Result<()> {
        drop(command);
        let refused = self.thread.join().map_err(|_| anyhow!("panicked"))??;
        check!(
            refused > 0,
            "the program never tried what was to be refused"
        );
        Ok(())
    }
}

/// Room for the control message with one descriptor, aligned as its header is.
type Control = [u64; 3];

/// The message with one byte and room for one descriptor, whose parts must outlive it.
fn message(byte: &mut u8, io: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    io.iov_base = std::ptr::from_mut(byte).cast();
    io.iov_len = 1;
    // SAFETY: all-zero is a valid header of a message.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = io;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>();
    message
}

fn no_io() -> libc::iovec {
    libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }
}

/// Sends a descriptor. Async-signal-safe.
fn send(to: &UnixStream, fd: i32) -> io::Result<()> {
    let (mut byte, mut io, mut control) = (0, no_io(), Control::default());
    let message = message(&mut byte, &mut io, &mut control);
    // SAFETY: the control block has room for a header and a descriptor; the rest is on this frame.
    let sent = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd);
        libc::sendmsg(to.as_raw_fd(), &raw const message, 0)
    };
    if sent == 1 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn receive(from: &UnixStream) -> Result<OwnedFd> {
    let (mut byte, mut io, mut control) = (0, no_io(), Control::default());
    let mut message = message(&mut byte, &mut io, &mut control);
    // SAFETY: everything that the message names is on this frame, and outlives the call.
    let got = unsafe { libc::recvmsg(from.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    check!(got == 1, "{}", io::Error::last_os_error());
    // SAFETY: the kernel has filled the control block; a descriptor that came in it is ours.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        check!(
            !header.is_null() && (*header).cmsg_type == libc::SCM_RIGHTS,
            "a message without a descriptor"
        );
        let fd = libc::CMSG_DATA(header).cast::<i32>().read_unaligned();
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Answers until nobody is left to ask; returns how many calls were refused.
fn answer(listener: &OwnedFd, part: Part, errno: i32) -> Result<u32> {
    let mut refused = 0;
    loop {
        let mut ready = libc::pollfd {
            fd: listener.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one live entry.
        if unsafe { libc::poll(&raw mut ready, 1, -1) } < 0 {
            return Err(io::Error::last_os_error()).context("poll");
        }
        if ready.revents & libc::POLLIN == 0 {
            return Ok(refused);
        }
        // SAFETY: all-zero is a valid notification, and what the kernel asks for.
        let mut asked: libc::seccomp_notif = unsafe { MaybeUninit::zeroed().assume_init() };
        if !control(listener, libc::SECCOMP_IOCTL_NOTIF_RECV as _, &mut asked) {
            // Whoever asked has been killed meanwhile.
            continue;
        }
        let refuse = part.is_asked_for(&asked);
        let mut answer = libc::seccomp_notif_resp {
            id: asked.id,
            val: 0,
            error: if refuse { -errno } else { 0 },
            flags: if refuse {
                0
            } else {
                libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32
            },
        };
        refused += u32::from(refuse);
        control(listener, libc::SECCOMP_IOCTL_NOTIF_SEND as _, &mut answer);
    }
}

fn control<T>(listener: &OwnedFd, request: libc::Ioctl, argument: &mut T) -> bool {
    // SAFETY: each of the two requests is made with the structure that it takes.
    unsafe { libc::ioctl(listener.as_raw_fd(), request, std::ptr::from_mut(argument)) == 0 }
}

impl Part {
    fn is_asked_for(self, asked: &libc::seccomp_notif) -> bool {
        let [command, attributes, ..] = asked.data.args;
        // Maps and programs both have their type in the first four bytes.
        let mut kind = [0; 4];
        let memory = File::open(format!("/proc/{}/mem", asked.pid));
        let read = memory.and_then(|memory| memory.read_exact_at(&mut kind, attributes));
        let of_type = |kind_wanted| read.is_ok() && u32::from_ne_bytes(kind) == kind_wanted;
        match self {
            Part::RingBuffer => command == MAP_CREATE && of_type(TYPE_RINGBUF),
            Part::Tracing => command == PROG_LOAD && of_type(TYPE_TRACING),
            Part::Program => command == PROG_LOAD,
        }
    }
}
