//! What native code has set for signals, where the kernel was told something else.
//!
//! ```text
//!  native code: sigaction(SIGUSR1, h)     table: h, flags, mask      kernel: our handler
//!  native code: sigaction(SIGSEGV, h)     table: h, flags, mask      kernel: our handler, as before
//!  native code: sigaction(SIGUSR1, DFL)   table: -                   kernel: DFL
//! ```
//! Every handler of native code is called by ours, see `deliver.rs`. What native code asks for is
//! answered from the table.
//!
//! A cell is read without waiting for anybody but a writer, which is a handler with all signals
//! blocked that makes five stores.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Signals of Linux, from 1.
pub(super) const SIGNALS: usize = 64;

/// The kernel's `struct sigaction` (include/uapi/asm-generic/signal.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SignalAction {
    /// Address, `SIG_DFL` or `SIG_IGN`.
    pub(super) handler: u64,
    /// `SA_*`.
    pub(super) flags: u64,
    /// Where the handler returns to.
    pub(super) restorer: u64,
    /// Signals blocked while it runs.
    pub(super) mask: u64,
}

impl SignalAction {
    /// `SIG_DFL`.
    pub(super) const DEFAULT: SignalAction = SignalAction {
        handler: libc::SIG_DFL as u64,
        flags: 0,
        restorer: 0,
        mask: 0,
    };

    /// Whether it is neither the default action nor to ignore the signal.
    pub(super) fn is_handler(&self) -> bool {
        self.handler != libc::SIG_DFL as u64 && self.handler != libc::SIG_IGN as u64
    }

    pub(super) fn ignores(&self) -> bool {
        self.handler == libc::SIG_IGN as u64
    }

    pub(super) fn has(&self, flag: i32) -> bool {
        self.flags & u64::from(flag as u32) != 0
    }

    fn words(&self) -> [u64; 4] {
        [self.handler, self.flags, self.restorer, self.mask]
    }
}

struct Cell {
    /// Odd while the cell is written.
    turn: AtomicU32,
    kept: AtomicU32,
    words: [AtomicU64; 4],
}

/// The table of a process.
pub(super) struct Actions {
    cells: [Cell; SIGNALS],
}

/// What native code of this process set for signals.
static OF_PROCESS: Actions = Actions::new();

impl Actions {
    pub(super) fn of_process() -> &'static Actions {
        &OF_PROCESS
    }

    pub(super) const fn new() -> Actions {
        Actions {
            cells: [const {
                Cell {
                    turn: AtomicU32::new(0),
                    kept: AtomicU32::new(0),
                    words: [const { AtomicU64::new(0) }; 4],
                }
            }; SIGNALS],
        }
    }

    fn cell(&self, signal: i32) -> Option<&Cell> {
        self.cells
            .get(usize::try_from(signal).ok()?.checked_sub(1)?)
    }

    /// What is kept for `signal`, if anything. Async-signal-safe.
    pub(super) fn get(&self, signal: i32) -> Option<SignalAction> {
        let cell = self.cell(signal)?;
        loop {
            let turn = cell.turn.load(Ordering::Acquire);
            let kept = cell.kept.load(Ordering::Relaxed);
            let words = [0, 1, 2, 3].map(|index: usize| cell.words[index].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if turn % 2 == 0 && cell.turn.load(Ordering::Relaxed) == turn {
                let [handler, flags, restorer, mask] = words;
                return (kept != 0).then_some(SignalAction {
                    handler,
                    flags,
                    restorer,
                    mask,
                });
            }
            std::hint::spin_loop();
        }
    }

    /// Keeps `action`, or nothing, for `signal`. With all signals blocked. Async-signal-safe.
    pub(super) fn set(&self, signal: i32, action: Option<SignalAction>) {
        let Some(cell) = self.cell(signal) else {
            return;
        };
        let turn = loop {
            let turn = cell.turn.load(Ordering::Relaxed);
            let claimed = cell.turn.compare_exchange_weak(
                turn & !1,
                (turn & !1) + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            if claimed.is_ok() {
                break turn & !1;
            }
            std::hint::spin_loop();
        };
        fence(Ordering::Release);
        cell.kept
            .store(u32::from(action.is_some()), Ordering::Relaxed);
        let words = action.unwrap_or_default().words();
        for (to, word) in cell.words.iter().zip(words) {
            to.store(word, Ordering::Relaxed);
        }
        cell.turn.store(turn.wrapping_add(2), Ordering::Release);
    }

    /// Takes over all of `other`. Async-signal-safe.
    pub(super) fn copy_from(&self, other: &Actions) {
        for signal in 1..=SIGNALS as i32 {
            self.set(signal, other.get(signal));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(value: u64) -> SignalAction {
        SignalAction {
            handler: value,
            flags: value,
            restorer: value,
            mask: value,
        }
    }

    #[test]
    fn keeps_and_forgets() {
        let actions = Actions::new();
        assert_eq!(actions.get(1), None);
        for signal in [1, 64] {
            actions.set(signal, Some(action(5)));
            assert_eq!(actions.get(signal), Some(action(5)));
        }
        let copy = Actions::new();
        copy.copy_from(&actions);
        assert_eq!(copy.get(64), Some(action(5)));
        actions.set(1, None);
        assert_eq!(actions.get(1), None);
        for signal in [-1, 0, 65] {
            actions.set(signal, Some(action(5)));
            assert_eq!(actions.get(signal), None);
        }
    }

    #[test]
    fn readers_never_see_half_an_action() {
        let actions = Actions::new();
        actions.set(7, Some(action(1)));
        std::thread::scope(|scope| {
            for first in [10, 20] {
                let actions = &actions;
                scope.spawn(move || {
                    for value in 0..20_000 {
                        actions.set(7, Some(action(first + value)));
                    }
                });
            }
            for _ in 0..20_000 {
                let seen = actions.get(7).unwrap();
                assert_eq!(seen, action(seen.handler));
            }
        });
    }
}
