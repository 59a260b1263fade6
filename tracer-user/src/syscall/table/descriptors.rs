//! Calls on descriptors: transfers, waiting, directories.

use syscalls::Sysno;

use super::{Look, control};
use crate::access::AccessKind::{Read, Write};
use crate::syscall::Reason;
use crate::syscall::shape::Arg::{
    Buffers, Entries, In, InOut, Mask, MaskBlock, Not, Opaque, Out, Polled, Set, Text,
};
use crate::syscall::shape::When::{Always, AtOnce, Before, Done, Found, OnceOpen};
use crate::syscall::shape::{Arg, Shape, V, elements, int, received, sent, shape, unsigned};

/// A file offset that is moved on by what was transferred.
const OFFSET: Arg = InOut(8, AtOnce, Found);
/// `struct epoll_event`, packed.
const EPOLL_EVENT: u64 = 12;
/// `struct timespec`, read before the call waits.
const TIMEOUT: Arg = In(16, Before);

/// See [`shape`](super::shape).
pub(super) fn shape_of(call: Sysno, a: &[u64; 6], look: &Look) -> Option<Shape> {
    use Sysno as S;
    match call {
        S::read | S::pread64 => shape(&[V, received(a[2])]),
        S::write | S::pwrite64 => shape(&[V, sent(a[2])]),
        S::readv | S::preadv | S::preadv2 => shape(&[V, Buffers(Write, a[2])]),
        S::writev | S::pwritev | S::pwritev2 => shape(&[V, Buffers(Read, a[2])]),
        // Into a pipe go the pages themselves, to be read whenever.
        S::vmsplice => shape(&[V, Opaque(a[2].saturating_mul(16))]),
        S::splice => shape(&[V, InOut(8, OnceOpen, Done), V, InOut(8, OnceOpen, Done)]),
        S::copy_file_range => shape(&[V, OFFSET, V, OFFSET]),
        // Written back even when the call failed.
        S::sendfile => shape(&[V, V, InOut(8, AtOnce, Always)]),
        S::getdents | S::getdents64 => shape(&[
            V,
            Entries {
                max: unsigned(a[2]),
                old: call == S::getdents,
            },
        ]),
        S::pipe | S::pipe2 => shape(&[Out(8, Done)]),
        S::signalfd | S::signalfd4 => shape(&[V, In(if a[2] == 8 { 8 } else { 0 }, AtOnce)]),
        S::timerfd_settime => shape(&[V, V, In(32, AtOnce), Out(32, Done)]),
        S::timerfd_gettime => shape(&[V, Out(32, Done)]),
        S::cachestat => shape(&[V, In(16, OnceOpen), Out(40, Done)]),
        S::memfd_create => shape(&[Text(250, AtOnce)]),
        S::fcntl => control::fcntl(a),
        S::ioctl => control::ioctl(a),

        S::epoll_ctl => {
            let event = a[1] as i32 != libc::EPOLL_CTL_DEL;
            shape(&[V, V, V, if event { In(EPOLL_EVENT, AtOnce) } else { V }])
        }
        S::epoll_wait => shape(&[V, elements(int(a[2]), EPOLL_EVENT)]),
        S::epoll_pwait => shape(&[V, elements(int(a[2]), EPOLL_EVENT), V, V, Mask(a[5])]),
        S::epoll_pwait2 => shape(&[V, elements(int(a[2]), EPOLL_EVENT), V, TIMEOUT, Mask(a[5])]),
        S::poll => shape(&[Polled(unsigned(a[1]))]),
        S::ppoll => shape(&[Polled(unsigned(a[1])), V, remaining(look, a[2]), Mask(a[4])]),
        S::select => {
            let set = Set(int(a[0]));
            shape(&[V, set, set, set, remaining(look, a[4])])
        }
        S::pselect6 => {
            let set = Set(int(a[0]));
            shape(&[V, set, set, set, remaining(look, a[4]), MaskBlock])
        }

        // What a submitted request reads or writes, it does so whenever.
        S::io_setup => shape(&[V, InOut(8, AtOnce, Done)]),
        S::io_submit => shape(&[V, V, Arg::Requests(a[1])]),
        S::io_cancel => shape(&[V, Not(Reason::Inside), Not(Reason::Inside)]),
        S::io_getevents => shape(&[V, V, V, elements(a[2], 32), TIMEOUT]),
        S::io_pgetevents => shape(&[V, V, V, elements(a[2], 32), TIMEOUT, MaskBlock]),
        S::io_uring_setup => shape(&[V, Opaque(120)]),
        S::io_uring_enter => shape(&[V, V, V, V, Opaque(a[5])]),
        S::io_uring_register => shape(&[V, V, Opaque(unsigned(a[3]).saturating_mul(16))]),
        _ => None,
    }
}

/// A timeout that what remained is written to, but not if it was none to begin with
/// (`poll_select_finish`, fs/select.c).
fn remaining(look: &Look, addr: u64) -> Arg {
    let none = look.u64(addr) == 0 && look.u64(addr.wrapping_add(8)) == 0;
    if none {
        TIMEOUT
    } else {
        InOut(16, Before, Always)
    }
}
