//! The supervisor process.
//!
//! # Safety
//! See the parent module: everything here may run in a child of a threaded process. Nothing
//! allocates; the thread list has a fixed size.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use iced_x86::{Instruction, Mnemonic};
use tracer_ebpf::{DELTA, FaultRecord, LAYOUT_VERSION, RecordHeader, kind};

use super::{
    held::Held,
    state,
    tracee::{self, Gone, Stop},
    wait_while,
};
use crate::{
    decode::{self, Needs},
    resume::{
        Engine,
        aux::Stopped,
        frame::TRAP_FLAG,
        safe::{self, Safe},
        signals::LET_GO,
        xstate::XState,
    },
};

/// Threads that can be followed at once.
const THREADS: usize = 4096;
/// Pages that one instruction may need: sixteen lanes of a gather span two each, and so do the
/// sixteen rows of a tile.
const PAGES: usize = 34;
/// `PTRACE_EVENT_*` of ptrace.h.
const EVENT_VFORK: i32 = 2;
const EVENT_CLONE: i32 = 3;
const EVENT_EXEC: i32 = 4;
const EVENT_VFORK_DONE: i32 = 5;
const EVENT_STOP: i32 = 128;
/// `si_code` of a SIGSEGV by protection.
const SEGV_ACCERR: i32 = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Running {
    Yes,
    /// Stopped to let another thread step.
    Paused,
    /// Waits in the kernel for a child that uses its memory, where nothing but a fatal signal
    /// reaches it.
    InVfork,
    /// Stopped with something that is not dealt with yet.
    Pending(Stop),
}

#[derive(Clone, Copy)]
struct Thread {
    tid: i32,
    running: Running,
}

struct Supervisor<'a> {
    safe: Safe,
    engine: &'a Engine,
    process: i32,
    threads: [Option<Thread>; THREADS],
    /// Entries of `threads` from here on were never used.
    used: usize,
    count: usize,
    stub: u64,
    /// Processor that this process keeps to, as in `SharedWords::processor`.
    processor: u32,
}

/// Traces `thread` of `process` until it ends or asks to be let go. Never returns.
pub(super) fn supervise(safe: Safe, engine: &Engine, process: i32, thread: u32) -> ! {
    let word = &engine.words().supervisor;
    // SAFETY: the supervisor must not outlive its parent, and no handler of the parent's may run
    // in it: all signals that can be blocked are.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        let all = u64::MAX;
        let none = std::ptr::null_mut::<u64>();
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            none,
            8,
        );
    }
    wait_while(safe, word, state::STARTING);
    let seized = tracee::seize(safe, thread as i32);
    // SAFETY: the location is this thread's own.
    let errno = unsafe { *libc::__errno_location() } as u32;
    word.store(
        if seized.is_ok() {
            state::ATTACHED
        } else {
            state::FAILED + errno
        },
        Ordering::Release,
    );
    safe::wake(safe, word);
    if seized.is_ok() {
        let mut supervisor = Supervisor {
            safe,
            engine,
            process,
            threads: [None; THREADS],
            used: 0,
            count: 0,
            stub: engine.syscall_stub(),
            processor: 0,
        };
        supervisor.add(thread as i32);
        supervisor.run();
    }
    // SAFETY: ends this process without running anything of the parent's.
    unsafe { libc::_exit(0) }
}

impl Supervisor<'_> {
    fn run(&mut self) {
        while let Some((tid, stop)) = tracee::wait_for(self.safe, -1) {
            if !self.dispatch(tid, stop) {
                return;
            }
            while let Some((tid, stop)) = self.take_pending() {
                if !self.dispatch(tid, stop) {
                    return;
                }
            }
            if self.count == 0 {
                return;
            }
        }
    }

    fn add(&mut self, tid: i32) {
        if self.find(tid).is_some() {
            return;
        }
        let vacant = self.threads[..self.used].iter().position(Option::is_none);
        let index = vacant.unwrap_or(self.used);
        if let Some(free) = self.threads.get_mut(index) {
            *free = Some(Thread {
                tid,
                running: Running::Yes,
            });
            self.count += 1;
            self.used = self.used.max(index + 1);
        } else {
            self.failed();
        }
    }

    fn find(&mut self, tid: i32) -> Option<&mut Thread> {
        self.threads[..self.used]
            .iter_mut()
            .flatten()
            .find(|thread| thread.tid == tid)
    }

    fn set_running(&mut self, tid: i32, running: Running) {
        if let Some(thread) = self.find(tid) {
            thread.running = running;
        }
    }

    fn remove(&mut self, tid: i32) {
        for thread in &mut self.threads[..self.used] {
            if thread.is_some_and(|thread| thread.tid == tid) {
                *thread = None;
                self.count -= 1;
            }
        }
    }

    fn failed(&self) {
        self.engine
            .words()
            .supervisor_failed
            .fetch_add(1, Ordering::Relaxed);
    }

    fn take_pending(&mut self) -> Option<(i32, Stop)> {
        for thread in self.threads[..self.used].iter_mut().flatten() {
            if let Running::Pending(stop) = thread.running {
                thread.running = Running::Yes;
                return Some((thread.tid, stop));
            }
        }
        None
    }

    /// Deals with one stop. False when the session is over.
    fn dispatch(&mut self, tid: i32, stop: Stop) -> bool {
        let safe = self.safe;
        let done = match stop {
            Stop::Ended => {
                self.remove(tid);
                Ok(())
            }
            // Native code may use the signal too.
            Stop::Signal(LET_GO) if self.asked_to_let_go() => {
                self.let_go(tid);
                return false;
            }
            Stop::Signal(libc::SIGSEGV) => self.segv(tid),
            Stop::Signal(signal) => tracee::resume(safe, tid, signal),
            Stop::Event(event @ (EVENT_CLONE | EVENT_VFORK), _) => {
                if let Ok(new) = tracee::event_message(safe, tid) {
                    self.add(new as i32);
                }
                if event == EVENT_VFORK {
                    self.set_running(tid, Running::InVfork);
                }
                tracee::resume(safe, tid, 0)
            }
            Stop::Event(EVENT_VFORK_DONE, _) => {
                self.set_running(tid, Running::Yes);
                tracee::resume(safe, tid, 0)
            }
            // Another program, with a memory of its own.
            Stop::Event(EVENT_EXEC, _) => {
                self.remove(tid);
                tracee::detach(safe, tid)
            }
            Stop::Event(
                EVENT_STOP,
                libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU,
            ) => tracee::listen(safe, tid),
            Stop::Event(..) => {
                self.add(tid);
                tracee::resume(safe, tid, 0)
            }
        };
        if done.is_err() {
            self.remove(tid);
        }
        true
    }

    fn asked_to_let_go(&self) -> bool {
        self.engine.words().supervisor.load(Ordering::Acquire) == state::LET_GO
    }

    /// Detaches from all threads; `tid` is the one that asked.
    fn let_go(&mut self, tid: i32) {
        self.pause_others(tid);
        for index in 0..self.used {
            if let Some(thread) = self.threads[index] {
                let _ = tracee::detach(self.safe, thread.tid);
            }
        }
    }

    fn segv(&mut self, tid: i32) -> Result<(), Gone> {
        let info = tracee::signal_info(self.safe, tid)?;
        // SAFETY: the kernel fills the address of a SIGSEGV with a positive code.
        let addr = unsafe { info.si_addr() } as u64;
        if info.si_code == SEGV_ACCERR && self.engine.session().is_native(addr) {
            let regs = tracee::registers(self.safe, tid)?;
            if regs.rip != addr {
                return self.access(tid, addr, regs);
            }
        }
        tracee::resume(self.safe, tid, libc::SIGSEGV)
    }

    /// One access: record, open, step, close, go on.
    fn access(&mut self, tid: i32, addr: u64, regs: libc::user_regs_struct) -> Result<(), Gone> {
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
                    // SAFETY: as in `segv`.
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

    /// Keeps to the processor of the traced thread: the two take turns, and waking another
    /// processor costs far more than a switch on one.
    fn follow(&mut self) {
        let processor = self.engine.words().processor.load(Ordering::Relaxed);
        if processor == self.processor {
            return;
        }
        self.processor = processor;
        let mut set = [0u64; 16];
        match processor.checked_sub(1).map(|cpu| cpu as usize) {
            Some(cpu) if cpu < 64 * set.len() => set[cpu / 64] = 1 << (cpu % 64),
            _ => set = [u64::MAX; 16],
        }
        // SAFETY: the kernel reads the set, of this process only. A refusal changes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_sched_setaffinity,
                0u64,
                size_of_val(&set),
                set.as_ptr(),
            )
        };
    }

    fn record(
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
                .take(safe, self.process, tid as u32, addr, &record_regs);
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

    /// Stops all other threads, so that none of them runs while a page is open.
    fn pause_others(&mut self, except: i32) {
        for index in 0..self.used {
            let Some(Thread {
                tid,
                running: Running::Yes,
            }) = self.threads[index]
            else {
                continue;
            };
            if tid == except {
                continue;
            }
            let stopped = tracee::interrupt(self.safe, tid)
                .ok()
                .and_then(|()| tracee::wait_for(self.safe, tid));
            let running = match stopped {
                None | Some((_, Stop::Ended)) => {
                    self.remove(tid);
                    continue;
                }
                Some((_, Stop::Event(EVENT_STOP, libc::SIGTRAP))) => Running::Paused,
                Some((_, stop)) => Running::Pending(stop),
            };
            self.threads[index] = Some(Thread { tid, running });
        }
    }

    fn resume_others(&mut self) {
        for thread in self.threads[..self.used].iter_mut().flatten() {
            if thread.running == Running::Paused {
                thread.running = Running::Yes;
                let _ = tracee::resume(self.safe, thread.tid, 0);
            }
        }
    }
}
