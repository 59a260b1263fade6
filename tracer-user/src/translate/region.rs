//! Translated code, and what each point of it stands for in original code.
//!
//! ```text
//!  original                translated                         a thread here goes on, originally, at
//!  ip:  add [rbx+8], eax   mov gs:[SAVED], rsi                ip
//!                          lea rsi, [rbx+8] …                 ip, with rsi from its slot
//!                          add [rbx+8+DELTA], eax             ip, with rsi from its slot
//!                          publish the entry                  next, with rsi, entry published
//!  next:                   mov rsi, gs:[SAVED]                next, with rsi
//! ```
//! So a thread can be put back into original code wherever a signal finds it: its handlers, its
//! exceptions and whoever looks at its registers never see anything else.

use tracer_ebpf::Regs;

use super::{
    log::{Log, slot},
    transfer::ExitAt,
};

/// Where original code goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// At this address.
    At(u64),
    /// At the address in the slot for targets.
    Target,
}

/// What holds from a point of translated code on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// Where original code goes on.
    pub resume: Resume,
    /// Registers whose values are in slots, a bit each.
    pub saved: u16,
    /// Entries that are written and have happened, but are not published.
    pub unpublished: u8,
    /// Whether the flags are in their slot.
    pub flags: bool,
    /// The register that the log pointer is in, which is published late then.
    pub pointer: Option<u8>,
    /// Whether this is an instruction as it was, in its own state: if it faults in the native view,
    /// it is an access like that of the original.
    pub in_place: bool,
}

impl State {
    /// Nothing is borrowed, and original code goes on at `ip`.
    pub(super) fn at(ip: u64) -> State {
        State {
            resume: Resume::At(ip),
            saved: 0,
            unpublished: 0,
            flags: false,
            pointer: None,
            in_place: false,
        }
    }
}

/// From this offset on, until the next mark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) offset: u32,
    /// Where the translation of the same original instruction begins.
    pub(super) begin: u32,
    pub(super) state: State,
}

/// Where in translated code a thread is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    mark: Mark,
    region: u64,
    held: u16,
}

/// The translation of some original code, from one entry on.
#[derive(Debug)]
pub(crate) struct Region {
    /// First address, and length in bytes.
    pub(super) base: u64,
    pub(super) len: u32,
    pub(super) marks: Box<[Mark]>,
    /// Registers that are saved all the time: no instruction of the region has to do with them.
    pub(super) held: u16,
    /// Where it goes to constant addresses outside of it.
    pub(super) exits: Box<[ExitAt]>,
    /// How often code had changed when its original was read.
    pub(super) made: u32,
}

/// Slot for the value of register `number`.
pub(super) fn saved_slot(number: u8) -> u32 {
    slot::SAVED + 8 * u32::from(number)
}

/// Status flags, as `lahf` puts them into ah (Intel SDM volume 2, LAHF).
const IN_AH: u64 = 0xd5;
/// Overflow flag.
const OVERFLOW: u64 = 1 << 11;

impl Region {
    /// What holds at an address of the region.
    pub(crate) fn point(&self, address: u64) -> Option<Point> {
        let offset = address.wrapping_sub(self.base);
        if offset >= u64::from(self.len) {
            return None;
        }
        let after = self
            .marks
            .partition_point(|mark| u64::from(mark.offset) <= offset);
        Some(Point {
            mark: *self.marks.get(after.checked_sub(1)?)?,
            region: self.base,
            held: self.held,
        })
    }

    /// The exit that asks for help at an address.
    pub(crate) fn exit(&self, address: u64) -> Option<&ExitAt> {
        self.exits.iter().find(|exit| exit.ask == address)
    }
}

impl Point {
    /// Whether a fault here is an access of an instruction as it was.
    pub(crate) fn is_in_place(&self) -> bool {
        self.mark.state.in_place
    }

    /// Where the original code goes on, where that does not depend on the thread.
    pub(crate) fn original(&self) -> Option<u64> {
        match self.mark.state.resume {
            Resume::At(ip) => Some(ip),
            Resume::Target => None,
        }
    }

    /// Has a thread that is here begin with the same instruction again, after `turn` has seen to the
    /// log, which is published as far as it goes. Async-signal-safe, for the log's thread.
    pub(crate) fn again(&self, regs: &mut Regs, log: &Log<'_>, turn: impl FnOnce()) {
        let state = &self.mark.state;
        let pointer = state.pointer.map(usize::from);
        if let Some(number) = pointer {
            log.set_pointer(regs.gpr[number]);
        }
        give_back(regs, log, state.saved & !self.held, state.flags);
        turn();
        if let Some(number) = pointer {
            regs.gpr[number] = log.pointer();
        }
        regs.rip = self.region + u64::from(self.mark.begin);
    }

    /// Gives a thread that is here the registers and flags that it would have in original code,
    /// where it goes on; and publishes what it has done. Async-signal-safe, for the log's thread.
    pub(crate) fn put_back(&self, regs: &mut Regs, log: &Log<'_>) {
        let state = &self.mark.state;
        if let Some(number) = state.pointer {
            log.set_pointer(regs.gpr[usize::from(number)]);
        }
        give_back(regs, log, state.saved, state.flags);
        log.publish(state.unpublished.into());
        regs.rip = match state.resume {
            Resume::At(ip) => ip,
            Resume::Target => log.read_slot(slot::TARGET),
        };
    }
}

/// Registers and flags from their slots.
fn give_back(regs: &mut Regs, log: &Log<'_>, saved: u16, flags: bool) {
    for number in 0..16 {
        if saved & 1 << number != 0 {
            regs.gpr[usize::from(number)] = log.read_slot(saved_slot(number));
        }
    }
    if flags {
        let ax = log.read_slot(slot::FLAGS);
        let overflow = if ax & 1 != 0 { OVERFLOW } else { 0 };
        regs.rflags = regs.rflags & !(IN_AH | OVERFLOW) | ax >> 8 & IN_AH | overflow;
    }
}
