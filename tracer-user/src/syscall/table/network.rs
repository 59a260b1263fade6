//! Calls on sockets.

use syscalls::Sysno;

use super::{Look, socket_options};
use crate::access::AccessKind::{Read, Write};
use crate::syscall::message;
use crate::syscall::shape::Arg::{Data, In, InOut, Message, Messages, Out, Sized, Word};
use crate::syscall::shape::When::{Before, Done, Found, OnceOpen};
use crate::syscall::shape::{Arg, Shape, V, int, sent, shape, unsigned};

/// See [`shape`](super::shape).
pub(super) fn shape_of(call: Sysno, a: &[u64; 6], _look: &Look) -> Option<Shape> {
    use Sysno as S;
    match call {
        S::bind | S::connect => shape(&[V, address(a[2])]),
        // The length word is looked at when there is an address to write.
        S::accept | S::accept4 | S::getsockname | S::getpeername => {
            shape(&[V, name(2, a[1]), Word])
        }
        S::sendto => shape(&[V, sent(a[2]), V, V, address(a[5])]),
        S::recvfrom => shape(&[V, data(a[2], a[3]), V, V, name(5, a[4]), Word]),
        S::sendmsg => shape(&[V, Message(Read)]),
        S::recvmsg => shape(&[V, Message(Write)]),
        S::sendmmsg => shape(&[V, Messages(Read, unsigned(a[2]))]),
        S::recvmmsg => shape(&[
            V,
            Messages(Write, unsigned(a[2])),
            V,
            V,
            InOut(16, Before, Found),
        ]),
        S::socketpair => shape(&[V, V, V, Out(8, Done)]),
        S::setsockopt => socket_options::set(a),
        S::getsockopt => socket_options::get(a),
        _ => None,
    }
}

/// A socket address that is read; longer ones than a `sockaddr_storage` fail unread.
fn address(len: u64) -> Arg {
    let len = int(len);
    In(if len > 128 { 0 } else { len }, OnceOpen)
}

/// A socket address that is written, as far as the length word, argument `word`, allows.
fn name(word: usize, addr: u64) -> Arg {
    if addr == 0 {
        V
    } else {
        Sized { word, read: Done }
    }
}

/// A buffer that is received into.
fn data(max: u64, flags: u64) -> Arg {
    Data {
        kind: Write,
        max,
        unit: 1,
        certain: !message::discards(flags),
    }
}
