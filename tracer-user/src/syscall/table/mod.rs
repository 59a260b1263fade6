//! The table: what the arguments of each system call are.
//!
//! One file for each kind of calls. Sources: the kernel's `SYSCALL_DEFINE`s (Linux 6.18, and
//! where older ones differ, both), and the manual's section 2 for sizes. `tests/syscalls` lets
//! the kernel judge it.
//!
//! A call is listed as soon as its addresses are known. Of those without any, none is ever
//! refused for what is left in a register. Calls that are not listed are refused if any
//! argument is an address of the native view.

mod control;
mod descriptors;
mod files;
mod futex;
mod memory;
mod network;
mod numbers;
mod process;
mod signals;
mod socket_options;
mod time;

use syscalls::Sysno;
use tracer_ebpf::Session;

use super::plan::Special;
use super::shape::Shape;
use super::{arena, memory as native};
use crate::resume::safe::Safe;

/// Looks at native code's memory, where a size is told by it.
pub(super) struct Look {
    pub(super) safe: Safe,
    pub(super) arena: Session,
}

impl Look {
    /// The 4 bytes at native code's address `addr`; 0 where none can be read, for the kernel will
    /// not read more either.
    fn u32(&self, addr: u64) -> u32 {
        native::load_u32(self.safe, arena::address(self.arena, addr)).unwrap_or(0)
    }

    /// The 8 bytes at native code's address `addr`, likewise.
    fn u64(&self, addr: u64) -> u64 {
        native::load_u64(self.safe, arena::address(self.arena, addr)).unwrap_or(0)
    }
}

/// What the arguments `a` of `call` are. `None` if that is not known.
pub(super) fn shape(call: Sysno, a: &[u64; 6], look: &Look) -> Option<Shape> {
    descriptors::shape_of(call, a, look)
        .or_else(|| files::shape_of(call, a, look))
        .or_else(|| network::shape_of(call, a, look))
        .or_else(|| process::shape_of(call, a, look))
        .or_else(|| signals::shape_of(call, a, look))
        .or_else(|| time::shape_of(call, a, look))
        .or_else(|| memory::shape_of(call, a))
        .or_else(|| numbers::shape_of(call))
}

/// Calls that change more than memory.
pub(super) fn special(call: Sysno) -> Option<Special> {
    Some(match call {
        Sysno::clone => Special::Clone,
        Sysno::clone3 => Special::Clone3,
        Sysno::fork => Special::Fork,
        Sysno::vfork => Special::Vfork,
        Sysno::execve => Special::Execve,
        Sysno::execveat => Special::Execveat,
        Sysno::exit => Special::Exit,
        Sysno::exit_group => Special::ExitGroup,
        Sysno::rt_sigaction => Special::SigAction,
        Sysno::rt_sigprocmask => Special::SigProcMask,
        Sysno::rt_sigreturn => Special::SigReturn,
        Sysno::sigaltstack => Special::SigAltStack,
        Sysno::arch_prctl => Special::ArchPrctl,
        Sysno::prctl => Special::Prctl,
        Sysno::seccomp => Special::Seccomp,
        Sysno::set_tid_address => Special::SetTidAddress,
        _ => return None,
    })
}

/// What a refusal of `call` is about, see [`Refusal`](super::Refusal).
pub(super) fn detail(call: Sysno, a: &[u64; 6]) -> u64 {
    match call {
        Sysno::ioctl | Sysno::fcntl | Sysno::futex => a[1] & u64::from(u32::MAX),
        Sysno::prctl => a[0] & u64::from(u32::MAX),
        Sysno::setsockopt | Sysno::getsockopt => a[1] << 32 | a[2] & u64::from(u32::MAX),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that left-over registers could hold: the arena's first byte.
    const BASE: u64 = 1 << 46;
    const ARENA: Session = Session {
        arena_base: BASE,
        arena_len: 2 << 30,
    };

    fn is_listed(number: u64) -> bool {
        let look = Look {
            safe: Safe::promise(),
            arena: ARENA,
        };
        usize::try_from(number)
            .ok()
            .and_then(Sysno::new)
            .is_some_and(|call| shape(call, &[0; 6], &look).is_some())
    }

    #[test]
    fn every_call_is_listed_or_known_not_to_be() {
        let calls: Vec<Sysno> = (0..512).filter_map(Sysno::new).collect();
        let unlisted: Vec<&str> = calls
            .iter()
            .filter(|call| !is_listed(**call as u64))
            .map(Sysno::name)
            .collect();
        let special = calls.iter().filter(|call| special(**call).is_some());
        println!(
            "{} calls: {} listed, {} of them special; not listed: {unlisted:?}",
            calls.len(),
            calls.len() - unlisted.len(),
            special.count(),
        );
        assert_eq!(unlisted, [""; 0]);
        assert!(calls.len() >= 370);
        assert!(!is_listed(511) && !is_listed(u64::MAX));
    }

    #[test]
    fn numbers_are_never_refused() {
        let mut count = 0;
        for call in (0..512).filter_map(Sysno::new) {
            if numbers::shape_of(call).is_none() {
                continue;
            }
            count += 1;
            let look = Look {
                safe: Safe::promise(),
                arena: ARENA,
            };
            let shape = shape(call, &[BASE; 6], &look).unwrap();
            assert_eq!(shape, [crate::syscall::shape::Arg::Value; 6], "{call}");
        }
        assert!(count > 80, "{count}");
    }
}
