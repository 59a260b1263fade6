//! What the supervisor writes into the ring for an access: the fault, and what completes it.

use iced_x86::Instruction;
use tracer_ebpf::{FaultRecord, LAYOUT_VERSION, RecordHeader, kind};

use super::Supervisor;
use crate::{
    backend::ptrace::tracee::{self, Gone},
    decode::{self, Needs},
    resume::{aux::Stopped, safe, xstate::XState},
};

impl Supervisor<'_> {
    /// Records the access of a stopped thread; returns the instruction, if it can be decoded.
    pub(super) fn record(
        &mut self,
        tid: i32,
        addr: u64,
        regs: &libc::user_regs_struct,
    ) -> Result<Option<Instruction>, Gone> {
        let safe = self.safe;
        let mut insn = [0; 15];
        let insn_len = safe::read_memory(safe, self.process, regs.rip, &mut insn) as u8;
        let header = |kind| RecordHeader {
            kind,
            version: LAYOUT_VERSION,
            tid: tid as u32,
        };
        let record_regs = tracee::record_regs(regs);
        // A ptrace stop does not show the page-fault error code; the decoder tells reads from
        // writes, and the shadow is asked as for a write only where memory is not live at all.
        if self.engine.looks_wrong(addr, 1, false) {
            self.engine
                .stacks
                .take(safe, self.process, tid as u32, addr, &record_regs, u64::MAX);
        }
        self.engine.count_fault();
        self.engine.push(
            safe,
            &FaultRecord {
                header: header(kind::FAULT),
                addr,
                error: 0,
                depth: 0,
                insn_len,
                insn,
                regs: record_regs,
            },
        );
        let instruction = decode::peek(&insn[..usize::from(insn_len)], regs.rip);
        let needs = instruction.map_or(Needs::default(), |it| Needs::of(&it));
        if needs.any() {
            let mut area = [0; tracee::XSTATE_BYTES];
            let len = tracee::xstate(safe, tid, &mut area)?;
            let stopped = Stopped {
                process: self.process,
                regs: &record_regs,
                state: XState::new(&area[..len], self.engine.offsets),
                bases: (regs.fs_base, regs.gs_base),
            };
            let session = self.engine.session();
            let aux = stopped.record(safe, header(kind::AUX), &needs, session);
            self.engine.push(safe, &aux);
        }
        self.engine.make_room(safe);
        Ok(instruction)
    }
}
