//! Between original code and its translation, in the handlers.
//!
//! ```text
//!  access at a hot site ─► enter: translated? its threshold reached? ─► goes on there
//!  signal in translated code ─┬ log full            next buffer, same instruction again
//!                             │                     (its code was changed: in original code)
//!                             ├ asks for help       code translated ─► goes on there, or in original
//!                             ├ an access of an instruction as it was  like any other access
//!                             └ anything else       back in original code; there it is dealt with
//! ```
//! A record of the kernel's that stands for nothing, since translated code tells the same or the
//! access is made again in original code, is marked so in the thread's log.

use std::{ops::Range, sync::atomic::Ordering};

use tracer_ebpf::Regs;

use super::{
    engine::{Engine, Recording},
    frame::Frame,
    safe::{self, Safe},
    signals::{ERROR_FETCH, Raised},
    site::{NEVER, Site},
    thread,
    verdict::SEGV_ACCERR,
};
use crate::syscall::Call;
use crate::translate::{Declined, Help, Log, Mark, Translator, Wanted};

/// Gives the calling thread a log, if a session wants hot code translated: before it runs native
/// code for the first time. Async-signal-safe.
pub(super) fn attach(safe: Safe, engine: &'static Engine) {
    let Some(translator) = engine
        .translator()
        .filter(|translator| translator.hot() != 0)
    else {
        return;
    };
    if thread::block(safe).is_none() || thread::state(safe, |state| state.log.get()).is_some() {
        return;
    }
    let log = translator.logs.take(safe, thread::id(safe));
    if log.is_none() {
        translator.declined.add(Declined::NO_LOG);
    }
    thread::state(safe, |state| state.log.set(log));
}

/// The calling thread has ended, or has no block any more. Async-signal-safe.
pub(super) fn detach(safe: Safe) {
    if let Some(log) = thread::state(safe, |state| state.log.take()) {
        log.end();
    }
}

/// The calling thread leaves native code, for a callback or at the end of its call.
/// Async-signal-safe.
pub(super) fn left(safe: Safe) {
    if let Some(log) = thread::state(safe, |state| state.log.get()) {
        log.sampled().left();
    }
}

/// Registers as original code would have them, where they are of translated code that is as it was.
/// Async-signal-safe.
pub(super) fn original(engine: &Engine, mut regs: Regs) -> Regs {
    if let Some(translator) = engine.translator()
        && let Some(ip) = translator.original(regs.rip)
    {
        regs.rip = ip;
    }
    regs
}

/// Marks what becomes of the record that this thread has just caused. Async-signal-safe.
pub(super) fn mark(safe: Safe, engine: &Engine, mark: Mark) {
    if !engine.recording().is_by_thread() {
        return;
    }
    let Some(log) = thread::state(safe, |state| state.log.get()) else {
        return;
    };
    while !log.mark(mark) {
        turn(safe, engine, &log);
    }
}

/// Goes on with the next buffer, once it is there. Async-signal-safe.
fn turn(safe: Safe, engine: &Engine, log: &Log<'_>) {
    loop {
        let drained = engine.words().drained.load(Ordering::Acquire);
        let turned = log.turn();
        engine.ask_for_drain(safe);
        if turned {
            return;
        }
        safe::wait(safe, &engine.words().drained, drained);
    }
}

/// A SIGSEGV in the native view that is no access, but was recorded as one by the kernel: its
/// record is told as it is. Async-signal-safe.
pub(super) fn recorded_for_nothing(
    safe: Safe,
    engine: &Engine,
    frame: &Frame<'_>,
    raised: &Raised,
) {
    let fault = raised.signal == libc::SIGSEGV && raised.code == SEGV_ACCERR;
    let stepping = thread::state(safe, |state| state.stepping.get());
    if fault
        && engine.recording() == Recording::Kernel
        && !stepping
        && frame.error() & ERROR_FETCH == 0
        && engine.session().is_native(raised.addr)
    {
        mark(safe, engine, Mark::Take);
    }
}

/// Has the access of this thread's fault not count: its instruction will be executed again. False
/// where the kernel recorded it and that cannot be taken back. Async-signal-safe.
pub(super) fn take_back(safe: Safe, engine: &Engine) -> bool {
    match engine.recording() {
        Recording::Handler => true,
        Recording::Kernel if thread::state(safe, |state| state.log.get()).is_some() => {
            engine.handled.fetch_add(1, Ordering::Relaxed);
            mark(safe, engine, Mark::Skip);
            engine.make_room(safe);
            true
        }
        _ => false,
    }
}

/// Sends a thread that faulted at `site` into the translation, if there is one or it is time for
/// one. The access is made, and told, there. Async-signal-safe.
pub(super) fn enter(
    safe: Safe,
    engine: &Engine,
    site: &Site,
    frame: &mut Frame<'_>,
    looks_wrong: bool,
) -> bool {
    let Some(translator) = engine.translator() else {
        return false;
    };
    let hot = translator.hot();
    let Some(log) = thread::state(safe, |state| state.log.get()) else {
        return false;
    };
    if hot == 0 || looks_wrong || translator.cache.point(site.ip).is_some() {
        return false;
    }
    if thread::state(safe, |state| state.put_back.replace(0)) == site.ip {
        return false;
    }
    let to = match site.translated.load(Ordering::Acquire) {
        0 => {
            if site.faults.fetch_add(1, Ordering::Relaxed) + 1 < hot {
                return false;
            }
            let to = engine.prepare.translate(safe, site.ip, Wanted::Site);
            let to = if to == 0 { NEVER } else { to };
            site.translated.store(to, Ordering::Release);
            to
        }
        to => to,
    };
    // Nothing was told since the last time: it does not get anywhere there.
    let stuck = thread::state(safe, |state| state.entered.get()) == (site.ip, log.pointer());
    if to == NEVER || stuck || !thread::state(safe, |state| state.pace.may_enter(log.sampled())) {
        return false;
    }
    if translator.is_to_be_woken() {
        engine.ask_for_drain(safe);
    }
    if !translator.use_log(safe, &log) {
        translator.declined.add(Declined::GS);
        return false;
    }
    if engine.recording() == Recording::Kernel {
        mark(safe, engine, Mark::Skip);
    }
    engine.make_room(safe);
    thread::state(safe, |state| state.entered.set((site.ip, log.pointer())));
    frame.set_ip(to);
    true
}

/// Native code is about to make a system call: if that changes what is mapped where code was
/// translated or sites are listed, those are forgotten. Async-signal-safe.
pub(super) fn before_call(engine: &Engine, call: &Call) {
    let [addr, len, _, flags, to, _] = call.args;
    let ranges = match call.number as i64 {
        libc::SYS_munmap | libc::SYS_mprotect => [(addr, len), (0, 0)],
        libc::SYS_mmap if flags & libc::MAP_FIXED as u64 != 0 => [(addr, len), (0, 0)],
        libc::SYS_mremap => [(addr, len), (to, call.args[2])],
        _ => return,
    };
    for (start, len) in ranges {
        if len != 0 {
            forget(engine, &(start..start.saturating_add(len)));
        }
    }
}

fn forget(engine: &Engine, range: &Range<u64>) {
    engine.known.forget(range, &engine.sites);
    if engine
        .translator()
        .is_some_and(|translator| translator.code_changes(range))
    {
        // Those of other libraries are only translated anew.
        for site in engine.sites.all() {
            site.translated.store(0, Ordering::Release);
        }
    }
}

impl Engine {
    /// Sends threads for which translated code does not pay back into original code. False where
    /// nobody is to be looked at any more.
    pub(crate) fn look_at_threads(&self) -> bool {
        let safe = Safe::promise();
        let Some(translator) = self.translator() else {
            return false;
        };
        translator.look(|tid| {
            // One that is in a handler, a system call perhaps, is not in translated code.
            if !self.roster.is_inside(tid) {
                super::signals::send_end_call(safe, tid);
            }
        });
        translator.is_looking()
    }

    /// Code was unloaded, or changed: nothing that was translated counts any more.
    pub(crate) fn code_changed(&self) {
        forget(self, &(0..u64::MAX));
    }

    /// Has a function translated that is called again and again and faults each time: it may well
    /// touch the arena in another function only, which it jumps to.
    pub(crate) fn translate_for_calls(&self, function: u64) {
        let on = |translator: &&Translator| translator.hot() != 0;
        if self.translator().is_some_and(|translator| on(&translator)) {
            self.prepare
                .translate(Safe::promise(), function, Wanted::Site);
        }
    }

    /// Where a function is translated, if it is, for a call by this thread.
    pub(crate) fn entry_for_call(&self, function: u64) -> Option<u64> {
        let safe = Safe::promise();
        let translator = self
            .translator()
            .filter(|translator| translator.hot() != 0)?;
        let log = thread::state(safe, |state| state.log.get())?;
        let entry = translator.tables.find(function);
        (entry != 0 && translator.use_log(safe, &log)).then_some(entry)
    }
}

/// What a signal means for a thread that it finds in translated code. True where nothing is left to
/// do; else the thread is in original code, as far as the frame says, or at an instruction that is
/// as it was. Async-signal-safe.
pub(super) fn in_translation(
    safe: Safe,
    engine: &Engine,
    frame: &mut Frame<'_>,
    signal: i32,
    code: i32,
    addr: u64,
) -> bool {
    let Some(translator) = engine.translator() else {
        return false;
    };
    let Some(point) = translator.cache.point(frame.ip()) else {
        return false;
    };
    // A step ends, or goes on, where it began.
    let (stepping, log) = thread::state(safe, |state| (state.stepping.get(), state.log.get()));
    let Some(log) = log.filter(|_| !stepping) else {
        return false;
    };
    let by_instruction = code > 0 && super::signals::SYNCHRONOUS.contains(&signal);
    let mut regs = frame.regs();
    if signal == libc::SIGSEGV && code > 0 {
        if log.is_guard(addr) && !translator.is_forgotten(frame.ip()) {
            point.again(&mut regs, &log, || turn(safe, engine, &log));
            frame.set_regs(&regs);
            return true;
        }
        if translator.tables.is_trap(addr) {
            help(safe, engine, translator, frame, &log);
            return true;
        }
        let native = engine.session().is_native(addr);
        if native && point.is_in_place() && code == SEGV_ACCERR {
            return false;
        }
    }
    point.put_back(&mut regs, &log);
    frame.set_regs(&regs);
    // Behind what was told so far, which is published by now.
    let fault = signal == libc::SIGSEGV && code > 0 && engine.session().is_native(addr);
    if fault && engine.recording() == Recording::Kernel {
        engine.handled.fetch_add(1, Ordering::Relaxed);
        mark(safe, engine, Mark::Skip);
        engine.make_room(safe);
    }
    // What the instruction raised it raises again, where it is.
    if by_instruction {
        thread::state(safe, |state| state.put_back.set(regs.rip));
    }
    by_instruction
}

/// Has what a thread asks for translated, and sends it there, or back to original code.
/// Async-signal-safe.
fn help(
    safe: Safe,
    engine: &Engine,
    translator: &Translator,
    frame: &mut Frame<'_>,
    log: &Log<'_>,
) {
    let Some(Help {
        target,
        wanted,
        exit,
    }) = translator.asked(frame.ip(), log)
    else {
        return;
    };
    if wanted == Wanted::Return && !thread::state(safe, |state| state.pace.returns_often()) {
        return frame.set_ip(target);
    }
    let translated = match translator.tables.find(target) {
        0 => engine.prepare.translate(safe, target, wanted),
        known => known,
    };
    if let Some(exit) = exit {
        translator.cache.resolve(exit, translated);
    }
    frame.set_ip(if translated == 0 { target } else { translated });
}
