//! One access: recorded, and made with its page open and all other threads stopped.
//!
//! # Safety
//! The address of a `siginfo_t` is read only for a SIGSEGV, for which the kernel fills it in.
#![allow(unsafe_code)]

use iced_x86::Mnemonic;
use tracer_ebpf::DELTA;

use super::{SEGV_ACCERR, Supervisor};
use crate::{
    backend::ptrace::{
        held::Held,
        tracee::{self, Gone, Stop},
    },
    decode::Needs,
    resume::{frame::TRAP_FLAG, safe},
};

/// Pages that one instruction may need: sixteen lanes of a gather span two each, and so do the
/// sixteen rows of a tile.
const PAGES: usize = 34;

impl Supervisor<'_> {
    /// One access: record, open, step, close, go on.
    pub(super) fn access(
        &mut self,
        tid: i32,
        addr: u64,
        regs: libc::user_regs_struct,
    ) -> Result<(), Gone> {
        self.follow();
        let instruction = self.record(tid, addr, &regs)?;
        let in_parts = instruction.is_some_and(|it| Needs::of(&it).in_parts());
        let alone = self.count == 1;
        if !alone {
            self.pause_others(tid);
        }
        let mut pages = [0u64; PAGES];
        let mut open = 0;
        let mut held = Held::default();
        let mut next = addr & !4095;
        let mut regs = regs;
        loop {
            if open == PAGES {
                self.failed();
                break;
            }
            pages[open] = next;
            open += 1;
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            self.protect(tid, &regs, next, rights, &mut held)?;
            tracee::set_registers(self.safe, tid, &regs)?;
            let mut raised = self.step_once(tid, &mut held)?;
            // The trap of the parts that are done came in place of the fault of the next.
            while in_parts && raised.is_none() && tracee::registers(self.safe, tid)?.rip == regs.rip
            {
                raised = self.step_once(tid, &mut held)?;
            }
            match raised {
                None => break,
                Some(libc::SIGSEGV) => {
                    let info = tracee::signal_info(self.safe, tid)?;
                    // SAFETY: as in `Supervisor::segv`.
                    let addr = unsafe { info.si_addr() } as u64;
                    let ours = info.si_code == SEGV_ACCERR && self.engine.session().is_native(addr);
                    if !ours || pages[..open].contains(&(addr & !4095)) {
                        held.put(libc::SIGSEGV, info);
                        break;
                    }
                    // A second page of the same instruction: registers may have moved within a
                    // repeated one.
                    regs = tracee::registers(self.safe, tid)?;
                    next = addr & !4095;
                }
                Some(signal) => {
                    held.put(signal, tracee::signal_info(self.safe, tid)?);
                    break;
                }
            }
        }
        let after = tracee::registers(self.safe, tid)?;
        if instruction.is_some_and(|it| matches!(it.mnemonic(), Mnemonic::Pushf | Mnemonic::Pushfq))
            && regs.eflags & TRAP_FLAG == 0
        {
            self.unpush_trap_flag(tid, after.rsp)?;
        }
        for page in &pages[..open] {
            self.protect(tid, &after, *page, libc::PROT_NONE, &mut held)?;
        }
        tracee::set_registers(self.safe, tid, &after)?;
        if !alone {
            self.resume_others();
        }
        held.deliver(self.safe, tid)
    }

    /// Takes the trap flag of the step out of the flags that the instruction pushed at `rsp`.
    fn unpush_trap_flag(&self, tid: i32, rsp: u64) -> Result<(), Gone> {
        // The flag is the lowest bit of the second byte.
        let at = rsp.wrapping_add(1);
        if !self.engine.session().is_native(at) {
            return Ok(());
        }
        let (word, shift) = ((at & !7) + DELTA, 8 * (at & 7));
        let mut bytes = [0; 8];
        if safe::read_memory(self.safe, self.process, word, &mut bytes) == bytes.len() {
            let value = u64::from_le_bytes(bytes) & !(1 << shift);
            tracee::poke(self.safe, tid, word, value)?;
        }
        Ok(())
    }

    /// Has the stopped thread change the protection of a page. Its registers are left as the
    /// system call left them.
    fn protect(
        &mut self,
        tid: i32,
        regs: &libc::user_regs_struct,
        page: u64,
        rights: i32,
        held: &mut Held,
    ) -> Result<(), Gone> {
        let mut call = *regs;
        call.rip = self.stub;
        call.rax = libc::SYS_mprotect as u64;
        call.orig_rax = u64::MAX;
        call.rdi = page;
        call.rsi = 4096;
        call.rdx = rights as u64;
        tracee::set_registers(self.safe, tid, &call)?;
        // One step over the `syscall` instruction.
        tracee::step(self.safe, tid)?;
        loop {
            match tracee::wait_for(self.safe, tid) {
                Some((_, Stop::Signal(libc::SIGTRAP))) => return Ok(()),
                Some((_, Stop::Signal(signal))) => {
                    held.put(signal, tracee::signal_info(self.safe, tid)?);
                    tracee::step(self.safe, tid)?;
                }
                Some((_, Stop::Event(..))) => tracee::step(self.safe, tid)?,
                Some((_, Stop::Ended)) | None => return Err(Gone),
            }
        }
    }

    /// Steps one instruction; returns the signal that it raised, if any. Signals that merely
    /// arrive are held back.
    fn step_once(&mut self, tid: i32, held: &mut Held) -> Result<Option<i32>, Gone> {
        tracee::step(self.safe, tid)?;
        loop {
            match tracee::wait_for(self.safe, tid) {
                Some((_, Stop::Signal(libc::SIGTRAP))) => return Ok(None),
                Some((_, Stop::Signal(signal))) => {
                    let info = tracee::signal_info(self.safe, tid)?;
                    let raised = info.si_code > 0
                        && matches!(
                            signal,
                            libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL
                        );
                    if raised {
                        return Ok(Some(signal));
                    }
                    held.put(signal, info);
                    tracee::step(self.safe, tid)?;
                }
                Some((_, Stop::Event(..))) => tracee::step(self.safe, tid)?,
                Some((_, Stop::Ended)) | None => return Err(Gone),
            }
        }
    }
}
