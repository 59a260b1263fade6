//! What ended a call, in the words of a violation.

use std::time::Duration;

use tracer_user::{
    access::{Access, AccessEvent, AccessKind, Source},
    backend::Backend,
    decode::{Decoded, Rep},
    modules,
    resume::{
        Crash, Reason, Snapshot,
        frame::RSP,
        safe::{self, Safe},
        signals::{ERROR_FETCH, ERROR_WRITE},
    },
    unwind::{StackSnapshot, Unwinder},
};

use crate::callback::Leave;
use crate::memory::{Finding, InterpreterMemory, Violation, ViolationKind};

/// `si_code` of a SIGSEGV by general protection: the kernel knows no address.
const SI_KERNEL: i32 = 0x80;
/// How far below the stack pointer an access still counts as one of the stack.
const STACK_REACH: u64 = 1 << 16;

/// Turns what the handler saw into a violation.
pub(super) fn explain(
    crash: &Crash,
    memory: &dyn InterpreterMemory,
    backend: Backend,
    timeout: Option<Duration>,
) -> Violation {
    match (crash.reason, crash.signal) {
        (Reason::Timeout, _) => plain(ViolationKind::Timeout, crash, timeout_message(timeout)),
        (Reason::Interpreter, _) => plain(
            ViolationKind::NativeCrash,
            crash,
            "the interpreter ended the call".to_owned(),
        ),
        (Reason::Exit, _) => plain(
            ViolationKind::NativeCrash,
            crash,
            "native code ended the process with exit()".to_owned(),
        ),
        (_, libc::SIGSEGV) if crash.code > 0 => segv(crash, memory, backend),
        (_, signal) => plain(
            ViolationKind::NativeCrash,
            crash,
            signal_message(signal, crash.code),
        ),
    }
}

/// Whether the call was stopped before an access, and nothing crashed.
pub(super) fn is_stop(crash: &Crash) -> bool {
    matches!(crash.reason, Reason::Stopped | Reason::OtherThread) && crash.signal == 0
}

/// Frames of ours between native code's call of a callback and the end of the call, at most.
const OWN_FRAMES: usize = 64;

/// What a callback that ended the call has to report, and where native code called it.
pub(super) fn left(
    crash: &Crash,
    kind: ViolationKind,
    left: Option<&Leave>,
    snapshots: &mut [Snapshot],
) -> Violation {
    let message = left.map_or_else(String::new, ToString::to_string);
    let site = snapshots
        .iter_mut()
        .find(|copy| copy.regs.rip == crash.regs.rip && copy.tid == crash.tid)
        .and_then(native_caller);
    Violation {
        ip: site.unwrap_or(0),
        ..plain(kind, crash, message)
    }
}

/// Makes the snapshot one of native code where it called the callback, and tells the address that
/// the callback would have returned to.
fn native_caller(copy: &mut Snapshot) -> Option<u64> {
    let stack = StackSnapshot {
        regs: copy.regs,
        sp: copy.base,
        bytes: copy.stack.clone(),
    };
    let own = modules::mappings().ok()?;
    let own = &modules::find(&own, native_caller as *const () as u64)?.range;
    let regs = Unwinder::new().foreign_caller(&stack, &|ip| own.contains(&ip), OWN_FRAMES)?;
    let gone = usize::try_from(regs.gpr[RSP].checked_sub(copy.base)?).ok()?;
    copy.stack.drain(..gone.min(copy.stack.len()));
    (copy.regs, copy.base) = (regs, regs.gpr[RSP]);
    Some(regs.rip)
}

fn plain(kind: ViolationKind, crash: &Crash, message: String) -> Violation {
    Violation {
        kind,
        access: None,
        certain: true,
        addr: crash.addr,
        size: 0,
        allocation: None,
        allocation_name: None,
        offset: None,
        ip: crash.regs.rip,
        tid: crash.tid,
        seq: None,
        message,
    }
}

fn timeout_message(timeout: Option<Duration>) -> String {
    match timeout {
        Some(limit) => format!(
            "still running after {} s; the call was ended; raise --timeout if it needs longer",
            limit.as_secs_f64()
        ),
        None => "the call was ended from outside".to_owned(),
    }
}

fn signal_message(signal: i32, code: i32) -> String {
    let what = match signal {
        libc::SIGABRT => "SIGABRT: native code called abort()",
        libc::SIGFPE if code == 1 => "SIGFPE: integer division by zero, or its result overflows",
        libc::SIGFPE => "SIGFPE: arithmetic error",
        libc::SIGILL => "SIGILL: not an instruction of this processor",
        libc::SIGBUS => "SIGBUS: access beyond the end of a mapped file, or misaligned",
        libc::SIGTRAP => "SIGTRAP: a breakpoint instruction",
        libc::SIGSYS => "SIGSYS: a system call that is forbidden here",
        libc::SIGSEGV => "SIGSEGV, sent by a program",
        _ => return format!("fatal signal {signal}"),
    };
    what.to_owned()
}

/// Name of a signal.
pub fn signal_name(signal: i32) -> String {
    match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return format!("signal {signal}"),
    }
    .to_owned()
}

fn segv(crash: &Crash, memory: &dyn InterpreterMemory, backend: Backend) -> Violation {
    let accesses = accesses_of(crash);
    if crash.code == SI_KERNEL {
        // The processor checks the form of an address before it looks for a page, and tells no
        // address then (Intel SDM volume 1, 3.3.7.1); the instruction does.
        let odd = accesses.iter().find(|access| !canonical(access.addr));
        return match odd {
            Some(access) => wild(crash, *access),
            None => protection(crash, memory, &accesses),
        };
    }
    if crash.error & ERROR_FETCH != 0 {
        let mut violation = wild(
            crash,
            Access {
                kind: AccessKind::Read,
                certain: true,
                addr: crash.addr,
                len: 1,
            },
        );
        violation.message = if memory.arena().session().is_arena(crash.addr) {
            format!("jumped into interpreter memory at {:#x}", crash.addr)
        } else {
            format!("jumped to {:#x}, where there is no code", crash.addr)
        };
        return violation;
    }
    let stack = crash.regs.gpr[RSP];
    if crash.addr < stack.saturating_add(4096) && crash.addr.saturating_add(STACK_REACH) >= stack {
        return plain(
            ViolationKind::NativeCrash,
            crash,
            "the stack is exhausted: endless recursion, or very large local variables".to_owned(),
        );
    }
    if memory.arena().session().is_arena(crash.addr) && backend != Backend::None {
        return plain(
            ViolationKind::NativeCrash,
            crash,
            format!(
                "an access to interpreter memory at {:#x} could not be resumed",
                crash.addr
            ),
        );
    }
    let kind = if crash.error & ERROR_WRITE != 0 {
        AccessKind::Write
    } else {
        AccessKind::Read
    };
    let exact = accesses
        .iter()
        .find(|access| crash.addr.wrapping_sub(access.addr) < access.len && access.kind == kind);
    wild(
        crash,
        exact.copied().unwrap_or(Access {
            kind,
            certain: true,
            addr: crash.addr,
            len: 1,
        }),
    )
}

fn wild(crash: &Crash, access: Access) -> Violation {
    let event = AccessEvent {
        access,
        seq: 0,
        tid: crash.tid,
        ip: crash.regs.rip,
        source: Source::Fault,
    };
    let mut violation = Finding {
        kind: ViolationKind::WildAccess,
        event,
        place: None,
    }
    .describe(None);
    violation.seq = None;
    violation
}

/// A general protection fault with good addresses: nearly always an operand that is not aligned
/// as its instruction wants.
fn protection(crash: &Crash, memory: &dyn InterpreterMemory, accesses: &[Access]) -> Violation {
    let misaligned = accesses
        .iter()
        .find(|access| access.len >= 16 && access.addr % 16 != 0);
    let message = match misaligned {
        Some(access) => {
            let name = memory
                .title_at(access.addr)
                .map_or(String::new(), |title| format!(" of {title}"));
            format!(
                "SIGSEGV: a {} of {} bytes at {:#x}{name} is not aligned as its instruction needs",
                access.kind, access.len, access.addr
            )
        }
        None => "SIGSEGV: general protection fault (a privileged or malformed access)".to_owned(),
    };
    plain(ViolationKind::NativeCrash, crash, message)
}

/// Accesses of the instruction that crashed, where they can be told.
fn accesses_of(crash: &Crash) -> Vec<Access> {
    let mut bytes = [0; 15];
    let safe = Safe::promise();
    let read = safe::read_memory(safe, safe::process_id(safe), crash.regs.rip, &mut bytes);
    let mut accesses = Vec::new();
    if let Ok(decoded) = Decoded::parse(&bytes[..read], crash.regs.rip) {
        let _ = decoded.accesses(&crash.regs, None, Rep::Once, &mut accesses);
    }
    accesses
}

/// Whether an address has the form that 48-bit address translation asks for.
fn canonical(addr: u64) -> bool {
    let top = addr >> 47;
    top == 0 || top == (1 << 17) - 1
}
