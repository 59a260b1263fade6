//! Clocks, timers and sleeping.

use syscalls::Sysno;

use super::Look;
use crate::syscall::shape::Arg::{In, InOut, Out};
use crate::syscall::shape::When::{AtOnce, Before, Done, Interrupted};
use crate::syscall::shape::{Arg, Shape, V, shape};

/// `struct timespec` or `struct timeval`, written.
const TIME: Arg = Out(16, Done);
/// The same, read.
const GIVEN: Arg = In(16, AtOnce);
/// `struct itimerspec` or `struct itimerval`.
const INTERVAL: u64 = 32;
/// `struct timex`.
const TIMEX: Arg = InOut(208, AtOnce, Done);
/// What remained of a sleep that a signal ended.
const REST: Arg = Out(16, Interrupted);

/// See [`shape`](super::shape).
pub(super) fn shape_of(call: Sysno, a: &[u64; 6], _look: &Look) -> Option<Shape> {
    use Sysno as S;
    match call {
        S::nanosleep => shape(&[In(16, Before), REST]),
        S::clock_nanosleep => {
            let until = a[1] as i32 & libc::TIMER_ABSTIME != 0;
            shape(&[V, V, In(16, Before), if until { V } else { REST }])
        }
        S::clock_gettime | S::clock_getres => shape(&[V, TIME]),
        S::clock_settime => shape(&[V, GIVEN]),
        S::clock_adjtime => shape(&[V, TIMEX]),
        S::adjtimex => shape(&[TIMEX]),
        S::time => shape(&[Out(8, Done)]),
        S::gettimeofday => shape(&[TIME, Out(8, Done)]),
        S::settimeofday => shape(&[GIVEN, In(8, AtOnce)]),
        S::times => shape(&[Out(32, Done)]),
        S::getitimer | S::timer_gettime => shape(&[V, Out(INTERVAL, Done)]),
        S::setitimer => shape(&[V, In(INTERVAL, AtOnce), Out(INTERVAL, Done)]),
        // A `sigevent`; the address in it is only handed to the handler.
        S::timer_create => shape(&[V, In(64, AtOnce), Out(4, Done)]),
        S::timer_settime => shape(&[V, V, In(INTERVAL, AtOnce), Out(INTERVAL, Done)]),
        S::sched_rr_get_interval => shape(&[V, TIME]),
        _ => None,
    }
}
