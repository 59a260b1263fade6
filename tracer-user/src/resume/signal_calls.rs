//! System calls of native code about signals, answered here: what native code believes, and what
//! is in force.
//!
//! ```text
//!  believed mask = mask in the frame | hidden        hidden: only signals that are never blocked
//!  believed action = table, else what was there before us, else the kernel's
//!  believed alternate stack = the block's; the kernel's is ours
//! ```
//! Each takes pointers that are readable if native code's were, and returns what native code
//! finds in rax.
//!
//! # Safety
//! Memory of native code is read and written by system calls, which fail where it is not there.
#![allow(unsafe_code)]

use super::{
    actions::{SIGNALS, SignalAction},
    block::{Block, NativeStack},
    frame::{Frame, RSP},
    gate, install,
    safe::{self, Safe},
    signals::on_signal,
    thread,
};

const EFAULT: i64 = -(libc::EFAULT as i64);
const EINVAL: i64 = -(libc::EINVAL as i64);

/// Signals that native code believes to block, but that are never blocked: those that an
/// instruction raises, and our own.
pub(super) const NEVER_BLOCKED: u64 = {
    let mut mask = 0;
    let mut index = 0;
    while index < install::OURS.len() {
        if install::OURS[index] != libc::SIGABRT {
            mask |= bit(install::OURS[index]);
        }
        index += 1;
    }
    mask
};
/// Signals that cannot be blocked.
const UNBLOCKABLE: u64 = bit(libc::SIGKILL) | bit(libc::SIGSTOP);
/// `SA_RESTORER` and the other flags that the kernel knows (UAPI_SA_FLAGS); it drops the rest.
const SA_RESTORER: u64 = 0x0400_0000;
const KNOWN_FLAGS: u64 = 0xdc00_0807;

/// The signal's bit in a mask.
pub(super) const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// `rt_sigaction(signal, new, old, size)`.
pub(super) fn sigaction(safe: Safe, block: &Block, args: &[u64; 6]) -> i64 {
    let [signal, new, old, size, ..] = *args;
    let signal = signal as i32;
    if size != 8 || !(1..=SIGNALS as i32).contains(&signal) {
        return EINVAL;
    }
    let mut action = None;
    if new != 0 {
        let mut bytes = [0; size_of::<SignalAction>()];
        if !read(safe, new, &mut bytes) {
            return EFAULT;
        }
        if bit(signal) & UNBLOCKABLE != 0 {
            return EINVAL;
        }
        let word = |index: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[8 * index..8 * index + 8]);
            u64::from_ne_bytes(word)
        };
        action = Some(SignalAction {
            handler: word(0),
            flags: word(1) & KNOWN_FLAGS,
            restorer: word(2),
            mask: word(3) & !UNBLOCKABLE,
        });
    }
    let before = current(safe, block, signal);
    if let Some(action) = action {
        set(safe, block, signal, action);
    }
    if old != 0 {
        let words = [before.handler, before.flags, before.restorer, before.mask];
        let mut bytes = [0; size_of::<SignalAction>()];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        if !write(safe, old, &bytes) {
            return EFAULT;
        }
    }
    0
}

/// What native code believes to be set for `signal`.
fn current(safe: Safe, block: &Block, signal: i32) -> SignalAction {
    if let Some(kept) = block.actions().get(signal) {
        return kept;
    }
    if let Some(previous) = install::previous(signal) {
        return previous;
    }
    kernel_action(safe, signal, None)
}

fn set(safe: Safe, block: &Block, signal: i32, action: SignalAction) {
    let actions = block.actions();
    let ours = install::OURS.contains(&signal);
    if install::previous(signal).is_some_and(|previous| previous.handler == action.handler) {
        // What was there before us is back, and called as before.
        install::take(safe, signal);
        actions.set(signal, None);
    } else if action.is_handler() {
        actions.set(signal, Some(action));
        kernel_action(safe, signal, Some(&ours_for(action.flags)));
    } else if ours {
        actions.set(signal, Some(action));
    } else {
        kernel_action(safe, signal, Some(&action));
        actions.set(signal, None);
    }
}

/// The default action for `signal` again, as `SA_RESETHAND` wants it.
pub(super) fn reset(safe: Safe, block: &Block, signal: i32) {
    set(safe, block, signal, SignalAction::default());
}

/// Our handler, with what `flags` say of the way that the kernel treats the signal.
pub(super) fn ours_for(flags: u64) -> SignalAction {
    let kept = libc::SA_RESTART | libc::SA_NOCLDSTOP | libc::SA_NOCLDWAIT;
    let ours = (libc::SA_SIGINFO | libc::SA_ONSTACK) as u64 | SA_RESTORER;
    SignalAction {
        handler: on_signal as *const () as u64,
        flags: flags & kept as u64 | ours,
        restorer: gate::restorer(),
        mask: u64::MAX,
    }
}

/// The kernel's action for `signal`, and a new one in its place.
pub(super) fn kernel_action(safe: Safe, signal: i32, new: Option<&SignalAction>) -> SignalAction {
    let mut before = SignalAction::default();
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    let args = [signal as u64, new as u64, &raw mut before as u64, 8, 0, 0];
    // SAFETY: the kernel reads one action and writes one; a handler is ours or native code's own
    // choice.
    unsafe { safe::raw(safe, libc::SYS_rt_sigaction, args) };
    before
}

/// `rt_sigprocmask(how, new, old, size)`.
pub(super) fn sigprocmask(
    safe: Safe,
    block: &Block,
    frame: &mut Frame<'_>,
    args: &[u64; 6],
) -> i64 {
    let [how, new, old, size, ..] = *args;
    if size != 8 {
        return EINVAL;
    }
    let before = believed(block, frame);
    if new != 0 {
        let mut bytes = [0; 8];
        if !read(safe, new, &mut bytes) {
            return EFAULT;
        }
        let set = u64::from_ne_bytes(bytes);
        let mask = match how as i32 {
            libc::SIG_BLOCK => before | set,
            libc::SIG_UNBLOCK => before & !set,
            libc::SIG_SETMASK => set,
            _ => return EINVAL,
        };
        believe(safe, block, frame, mask & !UNBLOCKABLE);
    }
    if old != 0 && !write(safe, old, &before.to_ne_bytes()) {
        return EFAULT;
    }
    0
}

/// The mask that native code believes in.
pub(super) fn believed(block: &Block, frame: &Frame<'_>) -> u64 {
    frame.mask() | block.hidden.get()
}

/// Has native code believe in `mask`, and puts in force what can be.
fn believe(safe: Safe, block: &Block, frame: &mut Frame<'_>, mask: u64) {
    frame.set_mask(mask & !NEVER_BLOCKED);
    block.hidden.set(mask & NEVER_BLOCKED);
    let due = block.held.get() & !mask;
    if due == 0 {
        return;
    }
    block.held.set(block.held.get() & !due);
    for signal in install::OURS {
        if due & bit(signal) != 0 {
            safe::signal_thread(safe, thread::id(safe), signal);
        }
    }
}

/// The mask at `addr`, where there is one.
pub(super) fn read_mask(safe: Safe, addr: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    read(safe, addr, &mut bytes).then(|| u64::from_ne_bytes(bytes))
}

/// `sigaltstack(new, old)` (kernel/signal.c, do_sigaltstack).
pub(super) fn sigaltstack(safe: Safe, block: &Block, frame: &Frame<'_>, args: &[u64; 6]) -> i64 {
    let [new, old, ..] = *args;
    let before = block.native_stack.get();
    let on_it = before.holds(frame.register(RSP));
    if new != 0 {
        let mut bytes = [0; 24];
        if !read(safe, new, &mut bytes) {
            return EFAULT;
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(word)
        };
        let (base, flags, len) = (word(0), word(8) as u32, word(16));
        if on_it {
            return -i64::from(libc::EPERM);
        }
        let mode = flags & !NativeStack::AUTODISARM;
        let stack = match mode as i32 {
            libc::SS_DISABLE => NativeStack::new(0, flags, 0),
            0 | libc::SS_ONSTACK if len < libc::MINSIGSTKSZ as u64 => {
                return -i64::from(libc::ENOMEM);
            }
            0 | libc::SS_ONSTACK => NativeStack::new(base, flags, len),
            _ => return EINVAL,
        };
        block.native_stack.set(stack);
    }
    if old != 0 {
        let state = if on_it {
            libc::SS_ONSTACK as u32
        } else if before.enabled() {
            0
        } else {
            libc::SS_DISABLE as u32
        };
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&before.base.to_ne_bytes());
        let flags = before.flags & NativeStack::AUTODISARM | state;
        bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
        bytes[16..].copy_from_slice(&before.len.to_ne_bytes());
        if !write(safe, old, &bytes) {
            return EFAULT;
        }
    }
    0
}

fn read(safe: Safe, from: u64, to: &mut [u8]) -> bool {
    safe::read_memory(safe, safe::process_id(safe), from, to) == to.len()
}

fn write(safe: Safe, to: u64, from: &[u8]) -> bool {
    // SAFETY: native code asks for this memory to be written.
    unsafe { safe::write_memory(safe, safe::process_id(safe), to, from) == from.len() }
}
