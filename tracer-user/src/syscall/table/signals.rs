//! Calls on signals, and System V messages and semaphores, which wait like them.

use syscalls::Sysno;

use super::Look;
use crate::syscall::Reason;
use crate::syscall::shape::Arg::{In, Mask, Not, Opaque, Out};
use crate::syscall::shape::When::{AtOnce, Before, Done, Found, OnceOpen};
use crate::syscall::shape::{Arg, Shape, V, received, shape};

/// `siginfo_t`, as the kernel fills it.
const SIGNAL_INFO: u64 = 128;
/// The part of a `siginfo_t` that the kernel takes (`struct kernel_siginfo`).
const SHORT_INFO: u64 = 48;

/// See [`shape`](super::shape).
pub(super) fn shape_of(call: Sysno, a: &[u64; 6], _look: &Look) -> Option<Shape> {
    use Sysno as S;
    // The size of a signal set must be 8 bytes; otherwise the call fails before all else.
    let set = |size: u64, bytes: u64| if size == 8 { bytes } else { 0 };
    match call {
        S::rt_sigaction => {
            let action = set(a[3], 32);
            shape(&[V, In(action, AtOnce), Out(action, Done)])
        }
        S::rt_sigprocmask => {
            let mask = set(a[3], 8);
            shape(&[V, In(mask, AtOnce), Out(mask, Done)])
        }
        S::rt_sigpending => shape(&[Out(if a[1] > 8 { 0 } else { a[1] }, Done)]),
        S::rt_sigsuspend => shape(&[Mask(a[1])]),
        S::rt_sigtimedwait => shape(&[
            In(set(a[3], 8), Before),
            Out(SIGNAL_INFO, Found),
            In(16, Before),
        ]),
        S::rt_sigqueueinfo => shape(&[V, V, In(SHORT_INFO, AtOnce)]),
        S::rt_tgsigqueueinfo => shape(&[V, V, V, In(SHORT_INFO, AtOnce)]),
        S::pidfd_send_signal => shape(&[V, V, In(SHORT_INFO, OnceOpen)]),
        S::sigaltstack => shape(&[In(24, AtOnce), Out(24, Done)]),

        S::msgsnd => shape(&[V, In(a[2].saturating_add(8), OnceOpen)]),
        // The type, and then as many bytes as the result says.
        S::msgrcv => shape(&[V, Arg::Typed(a[2])]),
        S::msgctl => shape(&[V, V, object(a[1], &MESSAGES)]),
        S::shmctl => shape(&[V, V, object(a[1], &SEGMENTS)]),
        // How many values there are is known to the kernel only.
        S::semctl if matches!(a[2] as i32, GETALL | SETALL) => {
            shape(&[V, V, V, Not(Reason::UnlistedRequest)])
        }
        S::semctl => shape(&[V, V, V, object(a[2], &SEMAPHORES)]),
        S::semop => shape(&[V, In(a[2].min(1 << 15).saturating_mul(6), OnceOpen)]),
        S::semtimedop => shape(&[
            V,
            In(a[2].min(1 << 15).saturating_mul(6), OnceOpen),
            V,
            In(16, Before),
        ]),
        S::mq_timedsend => shape(&[V, In(a[2], OnceOpen), V, V, In(16, Before)]),
        S::mq_timedreceive => shape(&[V, received(a[2]), V, Out(4, Done), In(16, Before)]),
        S::mq_notify => shape(&[V, Opaque(64)]),
        S::mq_getsetattr => shape(&[V, In(64, AtOnce), Out(64, Done)]),
        _ => None,
    }
}

/// The commands of a kind of System V objects that have memory, and the sizes of it.
struct Objects {
    /// The object's description: `IPC_STAT`, `IPC_SET`, and two more that read it.
    description: u64,
    descriptions: [i32; 2],
    /// The limits of all objects: `IPC_INFO`.
    limits: u64,
    /// What is in use of them.
    usage: (i32, u64),
}

const MESSAGES: Objects = Objects {
    description: 120,
    descriptions: [11, 13],
    limits: 32,
    usage: (12, 32),
};

const SEGMENTS: Objects = Objects {
    description: 112,
    descriptions: [13, 15],
    limits: 72,
    usage: (14, 48),
};

const SEMAPHORES: Objects = Objects {
    description: 104,
    descriptions: [18, 20],
    limits: 40,
    usage: (19, 40),
};

const GETALL: i32 = 13;
const SETALL: i32 = 17;

/// The last argument of `msgctl`, `shmctl` or `semctl`.
fn object(command: u64, objects: &Objects) -> Arg {
    match command as i32 {
        libc::IPC_SET => In(objects.description, OnceOpen),
        libc::IPC_STAT => Out(objects.description, Done),
        command if objects.descriptions.contains(&command) => Out(objects.description, Done),
        IPC_INFO => Out(objects.limits, Done),
        command if command == objects.usage.0 => Out(objects.usage.1, Done),
        _ => V,
    }
}

const IPC_INFO: i32 = 3;
