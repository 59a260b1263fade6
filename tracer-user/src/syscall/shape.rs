//! The words in which the table says what an argument is.
//!
//! ```text
//!  Sysno::connect => shape(&[V, In(int(a[2]), OnceOpen), V])
//!                            │   │                └ read once the descriptor was found good
//!                            │   └ the kernel reads as many bytes as the third argument says
//!                            └ a number
//! ```

use crate::access::AccessKind;

use super::Reason;

/// All arguments of a call.
pub(super) type Shape = [Arg; 6];

/// When the kernel touches memory, as far as the result tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// First of all, and then the call may wait or never return: told before it is made.
    Before,
    /// Before anything but flags is looked at.
    AtOnce,
    /// Once a descriptor, or whatever else the call is about, was found good.
    OnceOpen,
    /// When the call succeeded.
    Done,
    /// When the call succeeded with a result above 0.
    Found,
    /// When the call was interrupted by a signal.
    Interrupted,
    /// When the call succeeded or was interrupted.
    Waited,
    /// Whatever came of the call, unless its arguments were bad.
    Always,
    /// Perhaps, when the call succeeded.
    Perhaps,
}

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arg {
    /// A number, or an address that the kernel does not look at.
    Value,
    /// A string: read up to its NUL, or up to so many bytes.
    Text(u64, When),
    /// So many bytes are read.
    In(u64, When),
    /// So many bytes are written.
    Out(u64, When),
    /// So many bytes are read, and written.
    InOut(u64, When, When),
    /// A buffer of `max` bytes of which the result, times `unit` bytes, was touched.
    Data {
        kind: AccessKind,
        max: u64,
        unit: u64,
        certain: bool,
    },
    /// So many `iovec`s, whose buffers together are touched as the result tells.
    Buffers(AccessKind, u64),
    /// Written as far as the length word tells, which is argument number `word`: on entry how
    /// much room there is, afterwards how much there was to write.
    Sized { word: usize, read: When },
    /// The length word of a [`Sized`](Arg::Sized) argument.
    Word,
    /// One `msghdr`.
    Message(AccessKind),
    /// So many `mmsghdr`s.
    Messages(AccessKind, u64),
    /// Addresses of strings, up to a null one (`argv`).
    Strings,
    /// So many `pollfd`s.
    Polled(u64),
    /// A set of so many descriptors, of `select`.
    Set(u64),
    /// So many bytes for directory entries, in the format of `getdents64` or the old one.
    Entries { max: u64, old: bool },
    /// So many `struct futex_waitv`.
    Waiters(u64),
    /// So many addresses of asynchronous requests (`struct iocb`).
    Requests(u64),
    /// The structure of `clone3`, of so many bytes.
    CloneArgs(u64),
    /// The `siginfo_t` of `waitid`, whose padding is not written.
    ChildInfo,
    /// A structure of at most so many bytes whose first word says how much of it was written.
    Headed(u64),
    /// A set of processors of so many bytes, of which the kernel reads as many as it has.
    Processors(u64),
    /// A message type of 8 bytes, then at most so many bytes of which the result tells.
    Typed(u64),
    /// A signal mask to wait with, of so many bytes.
    Mask(u64),
    /// The address of a signal mask to wait with, and its size, in a structure.
    MaskBlock,
    /// An address that the kernel remembers or compares, and does not touch now.
    Key,
    /// So many bytes whose mapping is changed.
    Aimed(u64),
    /// So many bytes whose pages are asked or told about: the host view's will do.
    Within(u64),
    /// So many bytes with addresses in them that are not followed: the arena's must not be there.
    Opaque(u64),
    /// Memory that must not be the arena's.
    Not(Reason),
}

/// The shape of a call with these arguments, and no memory in the rest.
pub(super) fn shape(args: &[Arg]) -> Option<Shape> {
    let mut all = [Arg::Value; 6];
    all[..args.len()].copy_from_slice(args);
    Some(all)
}

/// A buffer that is read as far as the result tells.
pub(super) fn sent(max: u64) -> Arg {
    Arg::Data {
        kind: AccessKind::Read,
        max,
        unit: 1,
        certain: true,
    }
}

/// A buffer that is written as far as the result tells.
pub(super) fn received(max: u64) -> Arg {
    elements(max, 1)
}

/// An array of `count` elements of `unit` bytes, of which as many are written as the result is.
pub(super) fn elements(count: u64, unit: u64) -> Arg {
    Arg::Data {
        kind: AccessKind::Write,
        max: count.saturating_mul(unit),
        unit,
        certain: true,
    }
}

/// A path: `PATH_MAX` bytes at most.
pub(super) const PATH: Arg = Arg::Text(libc::PATH_MAX as u64, When::AtOnce);

/// A number.
pub(super) const V: Arg = Arg::Value;

/// An `int` argument that is a length. Negative ones are none: the kernel refuses them.
pub(super) fn int(arg: u64) -> u64 {
    u64::try_from(arg as i32).unwrap_or(0)
}

/// An `unsigned int` argument that is a length.
pub(super) fn unsigned(arg: u64) -> u64 {
    u64::from(arg as u32)
}
