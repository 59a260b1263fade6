//! `getsockopt` and `setsockopt`: options whose size is known.
//!
//! Getting writes as many bytes as it says in the length word. Setting reads an `int` for most
//! options, whatever the length beyond; options that are not listed are refused for arena memory.

use crate::syscall::Reason;
use crate::syscall::shape::Arg::{In, Not, Opaque, Sized, Word};
use crate::syscall::shape::When::OnceOpen;
use crate::syscall::shape::{Shape, V, int, shape};

const TCP: i32 = libc::IPPROTO_TCP;
const UDP: i32 = libc::IPPROTO_UDP;
const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;

/// `getsockopt(fd, level, option, value, length)`.
pub(super) fn get(a: &[u64; 6]) -> Option<Shape> {
    let (level, option) = (a[1] as i32, a[2] as i32);
    // Options that read their value too, or count other things than bytes.
    let plain = match level {
        libc::SOL_SOCKET => option != libc::SO_GET_FILTER,
        TCP => option != TCP_ZEROCOPY_RECEIVE,
        UDP => true,
        IP => option < FIRST_FILTER && !matches!(option, libc::IP_MSFILTER | MCAST_MSFILTER),
        IPV6 if option < FIRST_FILTER => !matches!(option, MCAST_MSFILTER | IPV6_FLOWLABEL_MGR),
        IPV6 => matches!(option, 66 | 67 | 70 | 72..=78),
        _ => false,
    };
    let value = if plain {
        Sized {
            word: 4,
            read: OnceOpen,
        }
    } else {
        Not(Reason::UnlistedRequest)
    };
    let length = if plain {
        Word
    } else {
        Not(Reason::UnlistedRequest)
    };
    shape(&[V, V, V, value, length])
}

const TCP_ZEROCOPY_RECEIVE: i32 = 35;
const MCAST_MSFILTER: i32 = 48;
const IPV6_FLOWLABEL_MGR: i32 = 32;
/// From here on options of `IPPROTO_IP` are the packet filter's, and some of `IPPROTO_IPV6`.
const FIRST_FILTER: i32 = 64;

/// `setsockopt(fd, level, option, value, length)`.
pub(super) fn set(a: &[u64; 6]) -> Option<Shape> {
    let length = int(a[4]);
    let value = match value(a[1] as i32, a[2] as i32) {
        Value::Number => In(if length < 4 { 0 } else { 4 }, OnceOpen),
        Value::NumberOrByte => In(if length < 4 { length.min(1) } else { 4 }, OnceOpen),
        Value::Fixed(size) => In(if length < size { 0 } else { size }, OnceOpen),
        Value::UpTo(size) => In(length.min(size), OnceOpen),
        Value::OneOf(sizes) => {
            let fits = sizes.iter().find(|size| length >= **size);
            In(fits.copied().unwrap_or(0), OnceOpen)
        }
        Value::NumberOrPair => {
            let size = if length == 8 { 8 } else { 4 };
            In(if length < 4 { 0 } else { size }, OnceOpen)
        }
        Value::Addresses => Opaque(length),
        Value::Unknown => Not(Reason::UnlistedRequest),
    };
    shape(&[V, V, V, value])
}

/// What the value of an option is.
enum Value {
    /// An `int`; shorter values fail unread.
    Number,
    /// An `int`, or one byte if there are not four.
    NumberOrByte,
    /// A structure; shorter values fail unread.
    Fixed(u64),
    /// Bytes, at most so many.
    UpTo(u64),
    /// The first of these structures that fits.
    OneOf(&'static [u64]),
    /// An `int`, or exactly eight bytes.
    NumberOrPair,
    /// A structure with addresses.
    Addresses,
    /// Not known.
    Unknown,
}

fn value(level: i32, option: i32) -> Value {
    match (level, option) {
        (libc::SOL_SOCKET, _) => socket(option),
        (TCP, libc::TCP_CONGESTION) => Value::UpTo(15),
        (TCP, 1..=12 | 15..=19 | 21 | 23..=25 | 30 | 36 | 37) => Value::Number,
        (UDP, libc::UDP_CORK | 100..=104) => Value::Number,
        (IP, 1..=3 | 5..=8 | 10..=13 | 15 | 18..=26 | 33 | 34 | 49..=51) => Value::NumberOrByte,
        (IP, libc::IP_ADD_MEMBERSHIP | libc::IP_DROP_MEMBERSHIP) => Value::OneOf(&[12, 8]),
        (IP, libc::IP_MULTICAST_IF) => Value::OneOf(&[12, 8, 4]),
        (
            IPV6,
            1
            | 7
            | 8
            | 10
            | 16..=19
            | 22..=26
            | 29
            | 30
            | 33
            | 49
            | 51
            | 53
            | 56
            | 58
            | 60
            | 62
            | 66
            | 67
            | 70
            | 72..=78,
        ) => Value::Number,
        (IPV6, libc::IPV6_ADD_MEMBERSHIP | libc::IPV6_DROP_MEMBERSHIP) => Value::Fixed(20),
        _ => Value::Unknown,
    }
}

/// Options of `SOL_SOCKET` (`sk_setsockopt`, net/core/sock.c): an `int` is read of all of them
/// first, but for `SO_BINDTODEVICE`.
fn socket(option: i32) -> Value {
    match option {
        libc::SO_BINDTODEVICE => Value::UpTo(15),
        libc::SO_LINGER => Value::Fixed(8),
        libc::SO_RCVTIMEO | libc::SO_SNDTIMEO | 66 | 67 => Value::Fixed(16),
        libc::SO_ATTACH_FILTER | libc::SO_ATTACH_REUSEPORT_CBPF => Value::Addresses,
        SO_TXTIME => Value::Fixed(8),
        SO_TIMESTAMPING | SO_TIMESTAMPING_NEW | SO_MAX_PACING_RATE => Value::NumberOrPair,
        1..=12
        | 14..=19
        | 27
        | 29
        | 34..=36
        | 40..=46
        | 48..=50
        | 52
        | 60
        | 62..=64
        | 68..=70
        | 73 => Value::Number,
        _ => Value::Unknown,
    }
}

const SO_TIMESTAMPING: i32 = 37;
const SO_TIMESTAMPING_NEW: i32 = 65;
const SO_MAX_PACING_RATE: i32 = 47;
const SO_TXTIME: i32 = 61;
