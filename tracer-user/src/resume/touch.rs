//! Telling the recorder what a system call of native code did to the arena.
//!
//! ```text
//!  kernel records:             a system call at the gate that is handed the touched address, and
//!                              faults; its registers say the rest           probes/fault.rs
//!  handler or supervisor does: the same record, into our own ring
//! ```
//! So a touch stands in the same ring as the faults of its thread, and in their order.

use std::{cell::Cell, sync::atomic::Ordering};

use tracer_ebpf::{LAYOUT_VERSION, RecordHeader, Session, TouchRecord, kind, touch};

use super::{
    engine::{Engine, Recording},
    gate, hot,
    safe::Safe,
    thread,
};
use crate::{access::AccessKind, syscall::Touch, translate::Mark};

/// Reports touches of one system call.
pub(super) struct Reporter<'a> {
    safe: Safe,
    engine: &'a Engine,
    /// Number of the system call.
    number: u64,
    /// Native code's `syscall` instruction.
    site: u64,
    first: Cell<bool>,
    /// Whether anybody is to be told. A process that native code forked has the recorder's memory,
    /// but no part in the trace.
    told_of: bool,
}

impl<'a> Reporter<'a> {
    /// `arena` is empty for a process whose calls are not told.
    pub(super) fn new(
        safe: Safe,
        engine: &'a Engine,
        arena: Session,
        number: u64,
        site: u64,
    ) -> Reporter<'a> {
        Reporter {
            safe,
            engine,
            number,
            site,
            first: Cell::new(true),
            told_of: arena.arena_len != 0,
        }
    }

    /// Another one for the same call, some touches of which are told already.
    pub(super) fn went_on(self, told: bool) -> Reporter<'a> {
        self.first.set(!told);
        self
    }

    /// Whether anything was told.
    pub(super) fn told(&self) -> bool {
        !self.first.get()
    }

    /// Tells what the kernel read or wrote.
    pub(super) fn touch(&self, told: Touch) {
        let mut flags = 0;
        if told.kind == AccessKind::Write {
            flags |= touch::WRITE;
        }
        if told.certain {
            flags |= touch::CERTAIN;
        }
        self.send(told.addr, told.len, flags);
    }

    /// Tells that the call was not made, and why: `reason` is a number of
    /// [`refusal::text`](super::refusal::text).
    pub(super) fn refuse(&self, addr: u64, reason: u8, detail: u64) {
        let flags = touch::REFUSED | u32::from(reason) << touch::REASON_SHIFT;
        self.send(addr, detail, flags);
    }

    fn send(&self, addr: u64, len: u64, mut flags: u32) {
        let (safe, engine) = (self.safe, self.engine);
        if !self.told_of {
            return;
        }
        if self.first.replace(false) {
            flags |= touch::FIRST;
        }
        let seq = engine.next_touch();
        match engine.recording() {
            Recording::Off => return,
            Recording::Kernel => {
                engine.handled.fetch_add(1, Ordering::Relaxed);
                // The address of a refusal need not be one of the arena, by which the kernel
                // knows the session; any address there will do.
                let addr = if engine.session().is_native(addr) {
                    addr
                } else {
                    engine.session().arena_base
                };
                let what = u64::from(flags) << 32 | self.number & u64::from(u32::MAX);
                // It succeeds, unseen, while another thread has the arena open for a step.
                while gate::mark(safe, addr, len, self.site, what, seq) != -i64::from(libc::EFAULT)
                {
                    std::hint::spin_loop();
                }
            }
            Recording::Handler | Recording::Supervisor => {
                engine.count_fault();
                engine.push(
                    safe,
                    &TouchRecord {
                        header: RecordHeader {
                            kind: kind::TOUCH,
                            version: LAYOUT_VERSION,
                            tid: thread::id(safe),
                        },
                        addr,
                        len,
                        ip: self.site,
                        syscall: self.number as u32,
                        flags,
                        seq,
                    },
                );
            }
        }
        hot::mark(safe, engine, Mark::Take);
        engine.make_room(safe);
    }
}
