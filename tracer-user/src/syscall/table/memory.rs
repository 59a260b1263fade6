//! Calls on mappings.
//!
//! Those that would change the arena's mapping, in either view, are refused. Those that only
//! advise, lock or ask work on the host view: the pages are the same.

use syscalls::Sysno;

use crate::syscall::Reason;
use crate::syscall::shape::Arg::{Aimed, Not, Opaque, Out, Within};
use crate::syscall::shape::When::Done;
use crate::syscall::shape::{Arg, Shape, V, shape};

/// A set of memory nodes.
const NODES: Arg = Not(Reason::Inside);

/// See [`shape`](super::shape).
pub(super) fn shape_of(call: Sysno, a: &[u64; 6]) -> Option<Shape> {
    use Sysno as S;
    match call {
        // Without MAP_FIXED the address is a hint, and the place is taken.
        S::mmap if a[3] as i32 & libc::MAP_FIXED == 0 => shape(&[]),
        S::mmap
        | S::munmap
        | S::mprotect
        | S::pkey_mprotect
        | S::remap_file_pages
        | S::mseal
        | S::map_shadow_stack
        | S::set_mempolicy_home_node => shape(&[Aimed(a[1])]),
        S::mbind => shape(&[Aimed(a[1]), V, V, NODES]),
        S::mremap => {
            let fixed = a[3] as i32 & libc::MREMAP_FIXED != 0;
            let new = if fixed { Aimed(a[2]) } else { V };
            shape(&[Aimed(a[1]), V, V, V, new])
        }
        S::shmat => {
            let replaces = a[2] as i32 & libc::SHM_REMAP != 0;
            shape(&[V, if replaces { Aimed(1) } else { V }])
        }
        S::brk | S::mlockall | S::munlockall => shape(&[]),
        S::mlock | S::mlock2 | S::munlock | S::msync => shape(&[Within(a[1])]),
        S::mincore => shape(&[Within(a[1]), V, Out(a[1].div_ceil(4096), Done)]),
        S::madvise => match a[2] as i32 {
            libc::MADV_NORMAL
            | libc::MADV_RANDOM
            | libc::MADV_SEQUENTIAL
            | libc::MADV_WILLNEED
            | libc::MADV_DONTDUMP
            | libc::MADV_DODUMP
            | libc::MADV_HUGEPAGE
            | libc::MADV_NOHUGEPAGE => shape(&[Within(a[1])]),
            _ => shape(&[Aimed(a[1])]),
        },
        S::process_madvise => shape(&[V, Opaque(a[2].min(1024) * 16)]),
        S::get_mempolicy => shape(&[Out(4, Done), NODES]),
        S::set_mempolicy => shape(&[V, NODES]),
        S::migrate_pages => shape(&[V, V, NODES, NODES]),
        S::move_pages => shape(&[V, V, NODES, NODES, NODES]),
        _ => None,
    }
}
