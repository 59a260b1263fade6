//! Calls on processes, threads and the system.

use syscalls::Sysno;

use super::{Look, control, futex};
use crate::access::AccessKind::{self, Read, Write};
use crate::resume::safe;
use crate::syscall::Reason;
use crate::syscall::shape::Arg::{
    Buffers, CloneArgs, In, InOut, Key, Not, Opaque, Out, Strings, Text, Waiters,
};
use crate::syscall::shape::When::{Always, AtOnce, Before, Done, Found, OnceOpen, Perhaps};
use crate::syscall::shape::{Arg, Shape, V, elements, int, received, shape, unsigned};

/// `struct rusage`.
const USAGE: u64 = 144;
/// `struct rlimit`.
const LIMIT: u64 = 16;
/// A path of a call that does not return if it succeeds.
const PROGRAM: Arg = Text(libc::PATH_MAX as u64, Before);
/// Memory that is not known to be read or written.
const UNKNOWN: Arg = Not(Reason::Inside);
/// Type of a key.
const KEY_TYPE: Arg = Text(32, AtOnce);
/// Description of a key.
const KEY_TEXT: Arg = Text(4096, AtOnce);

/// See [`shape`](super::shape).
pub(super) fn shape_of(call: Sysno, a: &[u64; 6], look: &Look) -> Option<Shape> {
    use Sysno as S;
    match call {
        S::clone => clone(a),
        S::clone3 => shape(&[CloneArgs(a[1])]),
        S::execve => shape(&[PROGRAM, Strings, Strings]),
        S::execveat => shape(&[V, PROGRAM, Strings, Strings]),
        S::set_tid_address => shape(&[Key]),
        S::prctl => control::prctl(a),
        S::arch_prctl => control::arch_prctl(a),
        S::seccomp => shape(&[V, V, Opaque(16)]),
        // At any time, or when the thread ends, the kernel reads and writes what hangs on them.
        S::rseq | S::set_robust_list => shape(&[Not(Reason::Kept)]),
        S::get_robust_list => shape(&[V, Out(8, Done), Out(8, Done)]),
        S::futex => futex::futex(a),
        S::futex_wait => shape(&[In(4, Before), V, V, V, In(16, Before)]),
        S::futex_wake => shape(&[Key]),
        S::futex_waitv => shape(&[Waiters(unsigned(a[1])), V, V, In(16, Before)]),
        S::futex_requeue => shape(&[Waiters(2)]),

        S::wait4 => shape(&[V, Out(4, Found), V, Out(USAGE, Found)]),
        S::waitid => {
            // The result does not tell whether there was a child.
            let found = a[3] as i32 & libc::WNOHANG == 0;
            let usage = Out(USAGE, if found { Done } else { Perhaps });
            shape(&[V, V, Arg::ChildInfo, V, usage])
        }
        S::getrusage => shape(&[V, Out(USAGE, Done)]),
        S::getrlimit => shape(&[V, Out(LIMIT, Done)]),
        S::setrlimit => shape(&[V, In(LIMIT, AtOnce)]),
        S::prlimit64 => shape(&[V, V, In(LIMIT, AtOnce), Out(LIMIT, Done)]),
        S::getgroups => shape(&[V, elements(int(a[0]), 4)]),
        S::setgroups => shape(&[V, In(int(a[0]).min(1 << 16) * 4, OnceOpen)]),
        S::getresuid | S::getresgid => shape(&[Out(4, Done), Out(4, Done), Out(4, Done)]),
        S::capget | S::capset => {
            let sets = match look.u32(a[0]) {
                0x1998_0330 => 12,
                0x2007_1026 | 0x2008_0522 => 24,
                // Answered with the version that the kernel prefers.
                _ => return shape(&[InOut(4, AtOnce, Always)]),
            };
            let sets = if call == S::capget {
                Out(sets, Done)
            } else {
                In(sets, OnceOpen)
            };
            shape(&[In(8, AtOnce), sets])
        }
        S::sched_setparam => shape(&[V, In(4, OnceOpen)]),
        S::sched_getparam => shape(&[V, Out(4, Done)]),
        S::sched_setscheduler => shape(&[V, V, In(4, OnceOpen)]),
        S::sched_setattr => shape(&[V, In(attributes(look, a[1]), OnceOpen)]),
        // The structure's first word says how much of it was written.
        S::sched_getattr => shape(&[V, Arg::Headed(unsigned(a[2]))]),
        S::sched_setaffinity => shape(&[V, V, Arg::Processors(unsigned(a[1]))]),
        S::sched_getaffinity => shape(&[V, V, received(unsigned(a[1]))]),
        S::getcpu => shape(&[Out(4, Done), Out(4, Done)]),
        S::uname => shape(&[Out(390, Done)]),
        S::sysinfo => shape(&[Out(112, Done)]),
        S::sethostname | S::setdomainname => shape(&[In(int(a[1]).min(64), AtOnce)]),
        S::syslog => {
            let reads = matches!(a[0] as i32, 2..=4);
            shape(&[V, if reads { received(int(a[2])) } else { V }])
        }
        S::getrandom => shape(&[received(a[1])]),
        S::reboot if a[2] as u32 == libc::LINUX_REBOOT_CMD_RESTART2 as u32 => {
            shape(&[V, V, V, UNKNOWN])
        }
        S::reboot => shape(&[]),
        S::process_vm_readv => peer(a, look, Write, Read),
        S::process_vm_writev => peer(a, look, Read, Write),

        S::add_key => shape(&[KEY_TYPE, KEY_TEXT, In(a[3], OnceOpen)]),
        S::request_key => shape(&[KEY_TYPE, KEY_TEXT, KEY_TEXT]),
        S::landlock_create_ruleset => shape(&[In(a[1], AtOnce)]),
        S::landlock_add_rule => {
            let rule = [0, 12, 16].get(a[1] as usize).copied().unwrap_or(0);
            shape(&[V, V, In(rule, OnceOpen)])
        }
        S::delete_module => shape(&[Text(56, AtOnce)]),
        S::finit_module => shape(&[V, UNKNOWN]),
        S::init_module => shape(&[UNKNOWN, V, UNKNOWN]),
        S::kexec_load => shape(&[V, V, UNKNOWN]),
        S::kexec_file_load => shape(&[V, V, V, UNKNOWN]),
        // PTRACE_TRACEME, CONT, KILL, SINGLESTEP, ATTACH, DETACH, SYSCALL.
        S::ptrace if matches!(a[0], 0 | 7..=9 | 16 | 17 | 24) => shape(&[]),
        S::ptrace => shape(&[V, V, UNKNOWN, UNKNOWN]),
        S::bpf => shape(&[V, Opaque(unsigned(a[2]))]),
        S::perf_event_open => shape(&[Opaque(136)]),
        // KEYCTL_GET_KEYRING_ID, REVOKE to SETPERM, CLEAR to UNLINK, NEGATE to ASSUME_AUTHORITY,
        // SESSION_TO_PARENT, REJECT, INVALIDATE, GET_PERSISTENT, MOVE: numbers.
        S::keyctl if matches!(a[0] as i32, 0 | 3..=5 | 7..=9 | 13..=16 | 18 | 19 | 21 | 22 | 30) => {
            shape(&[])
        }
        S::keyctl => shape(&[V, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN]),
        S::sysfs => shape(&[V, UNKNOWN, UNKNOWN]),
        S::modify_ldt => shape(&[V, UNKNOWN]),
        S::set_thread_area | S::get_thread_area => shape(&[UNKNOWN]),
        S::lsm_get_self_attr | S::lsm_set_self_attr => shape(&[V, UNKNOWN, UNKNOWN]),
        S::lsm_list_modules => shape(&[UNKNOWN, UNKNOWN]),
        _ => None,
    }
}

/// `clone(flags, stack, parent_tid, child_tid, tls)`.
fn clone(a: &[u64; 6]) -> Option<Shape> {
    let has = |flags: i32| a[0] as i32 & flags != 0;
    let parent = has(libc::CLONE_PARENT_SETTID | libc::CLONE_PIDFD);
    // In a copy of the memory, the child's write is in memory that nobody here sees.
    let child = match (has(libc::CLONE_CHILD_SETTID), has(libc::CLONE_VM)) {
        (true, true) => Out(4, Done),
        _ if has(libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID) => Key,
        _ => V,
    };
    shape(&[V, V, if parent { Out(4, Done) } else { V }, child])
}

/// Copying between processes. If the other process is this one, its side is arena memory as
/// well; otherwise only the vector is this process's memory.
fn peer(a: &[u64; 6], look: &Look, here: AccessKind, there: AccessKind) -> Option<Shape> {
    let process = a[0] as i32;
    let own =
        process == safe::process_id(look.safe) || process == safe::thread_id(look.safe) as i32;
    let remote = if own {
        Buffers(there, a[4])
    } else {
        In(a[4].min(1024) * 16, OnceOpen)
    };
    shape(&[V, Buffers(here, a[2]), V, remote])
}

/// Bytes of the `sched_attr` at `addr`, as its first word says; 0 means the first version.
fn attributes(look: &Look, addr: u64) -> u64 {
    match look.u32(addr) {
        0 => 48,
        size @ 48..=4096 => u64::from(size),
        _ => 4,
    }
}
