//! What to do with a system call, in the words of the caller.

use super::effect::{Effect, MAX_EFFECTS};
use super::{Reason, Scratch};

/// What to do with a system call.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// It is handed no arena memory: to be made unchanged, and [`finish`](super::finish) has
    /// nothing to say.
    Pass,
    /// To be made with other arguments.
    Moved(Moved),
    /// Cannot be described exactly: not to be made, and to be reported by name.
    Refuse(Refusal),
    /// Changes more than memory. What it does to memory is in the [`Moved`], whose arguments are
    /// those of native code where it is handed no arena memory. The caller makes it or does
    /// something equal, and tells [`finish`](super::finish) the result in either case.
    Special(Special, Moved),
}

/// Arguments for the kernel, and what [`finish`](super::finish) needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// The arguments to make the call with.
    pub args: [u64; 6],
    /// What is in use of the scratch memory without this call.
    pub(super) mark: usize,
    pub(super) mask: MaskPlace,
    effects: [Option<Effect>; MAX_EFFECTS],
}

/// Where the kernel finds the address of the mask that a call waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MaskPlace {
    /// It takes none, or got none.
    Nowhere,
    /// In this argument.
    Argument(usize),
    /// In a structure whose address is in this argument: the mask's address, its size.
    Block(usize),
}

impl Moved {
    /// A call that is left as it is.
    pub(super) fn unchanged(args: [u64; 6], mark: usize) -> Moved {
        Moved {
            args,
            mark,
            mask: MaskPlace::Nowhere,
            effects: [None; MAX_EFFECTS],
        }
    }

    /// Writes down what to tell when the result is known.
    pub(super) fn later(&mut self, effect: Effect) -> Result<(), Reason> {
        let free = self.effects.iter_mut().find(|slot| slot.is_none());
        *free.ok_or(Reason::ScratchFull)? = Some(effect);
        Ok(())
    }

    /// What was written down, in order.
    pub(super) fn effects(&self) -> impl Iterator<Item = Effect> {
        self.effects.iter().map_while(|effect| *effect)
    }

    /// Has the call wait with `mask` instead of the mask that native code gave. Does nothing for
    /// a call without a mask, so it is for a [`Special::Masked`], and for one whose size is 8:
    /// with another the kernel refuses the call.
    ///
    /// # Errors
    /// [`Reason::ScratchFull`], and the call is as it was.
    pub fn replace_mask(&mut self, scratch: &mut Scratch, mask: u64) -> Result<(), Reason> {
        if self.mask == MaskPlace::Nowhere {
            return Ok(());
        }
        let at = scratch.take(3).ok_or(Reason::ScratchFull)?;
        let (addr, block) = (scratch.addr(at), scratch.addr(at + 1));
        scratch.words(at, 3).copy_from_slice(&[mask, addr, 8]);
        match self.mask {
            MaskPlace::Argument(index) => self.args[index] = addr,
            MaskPlace::Block(index) => self.args[index] = block,
            MaskPlace::Nowhere => {}
        }
        Ok(())
    }
}

/// System calls that change threads, processes or signal state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// `clone`: flags, stack, parent tid, child tid, tls. Stack and tls are not moved: the new
    /// thread uses them, and its accesses fault as all do. With `CLONE_CHILD_CLEARTID` the
    /// kernel writes 4 bytes of zero at child tid when the thread ends; that is told by whoever
    /// sees the thread end.
    Clone,
    /// `clone3`: the structure, its size. It is a copy if addresses in it had to be moved; stack,
    /// tls and child tid as for `clone`.
    Clone3,
    /// `fork`.
    Fork,
    /// `vfork`.
    Vfork,
    /// `execve`: path, argv, envp.
    Execve,
    /// `execveat`: directory, path, argv, envp, flags.
    Execveat,
    /// `exit`: of the thread.
    Exit,
    /// `exit_group`: of the process.
    ExitGroup,
    /// `rt_sigaction`: signal, new, old, size of a mask.
    SigAction,
    /// `rt_sigprocmask`: how, new, old, size of a mask.
    SigProcMask,
    /// `rt_sigreturn`.
    SigReturn,
    /// `sigaltstack`: new, old.
    SigAltStack,
    /// `arch_prctl`: code, address.
    ArchPrctl,
    /// `prctl`: option and four values.
    Prctl,
    /// `seccomp`: operation, flags, argument.
    Seccomp,
    /// `set_tid_address`: the word that the kernel clears, and wakes, when the thread ends.
    SetTidAddress,
    /// A call that waits with another signal mask: `rt_sigsuspend`, `ppoll`, `pselect6`,
    /// `epoll_pwait`, `epoll_pwait2`, `io_pgetevents`, if it was given one.
    Masked(WaitMask),
}

/// The signal mask that a call waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitMask {
    /// Where the mask is: readable by this process, if native code's pointer was right.
    pub addr: u64,
    /// Size in bytes that native code gave; the kernel takes 8 only.
    pub size: u64,
}

/// Why a system call cannot be described exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: super::Reason,
    /// The argument that it is about: an address in the arena, or of a structure with one in it.
    pub addr: u64,
    /// The request of `ioctl`, the command of `fcntl`, the operation of `futex`, the option of
    /// `prctl`, level and option of a socket (in the upper and lower 32 bits); else 0.
    pub detail: u64,
}
