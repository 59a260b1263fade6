//! `futex`, by operation (kernel/futex/syscalls.c).
//!
//! Waking and moving waiters touch no memory: the address is a key. Waiting compares the word,
//! which is a read. The operations on locks with priority inheritance exchange the word if it is
//! as expected, in the kernel or when another thread hands the lock over.

use crate::syscall::shape::Arg::{In, InOut, Key};
use crate::syscall::shape::When::{Before, Done, Perhaps};
use crate::syscall::shape::{Arg, Shape, V, shape};

/// Operations, without `FUTEX_PRIVATE_FLAG` and `FUTEX_CLOCK_REALTIME`.
const WITHOUT_FLAGS: u64 = 0x7f;

/// The word, compared before the thread waits.
const COMPARED: Arg = In(4, Before);
/// The word of a lock: read, and exchanged if it is as expected.
const EXCHANGED: Arg = InOut(4, Before, Perhaps);
/// `struct timespec`, may be null.
const TIMEOUT: Arg = In(16, Before);

/// `futex(uaddr, op, val, timeout or val2, uaddr2, val3)`.
pub(super) fn futex(a: &[u64; 6]) -> Option<Shape> {
    match (a[1] & WITHOUT_FLAGS) as i32 {
        libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET => shape(&[COMPARED, V, V, TIMEOUT]),
        libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET => shape(&[Key]),
        libc::FUTEX_REQUEUE => shape(&[Key, V, V, V, Key]),
        libc::FUTEX_CMP_REQUEUE => shape(&[COMPARED, V, V, V, Key]),
        libc::FUTEX_WAKE_OP => shape(&[Key, V, V, V, InOut(4, Before, Done)]),
        libc::FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => shape(&[EXCHANGED, V, V, TIMEOUT]),
        libc::FUTEX_TRYLOCK_PI | libc::FUTEX_UNLOCK_PI => shape(&[InOut(4, Before, Done)]),
        libc::FUTEX_WAIT_REQUEUE_PI => shape(&[COMPARED, V, V, TIMEOUT, EXCHANGED]),
        libc::FUTEX_CMP_REQUEUE_PI => shape(&[COMPARED, V, V, V, EXCHANGED]),
        // FUTEX_FD and what is not known: ENOSYS, and nothing is touched.
        _ => shape(&[]),
    }
}

const FUTEX_LOCK_PI2: i32 = 13;
