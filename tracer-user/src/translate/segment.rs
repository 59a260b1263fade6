//! The base of `gs`, which translated code finds its log by.
//!
//! # Safety
//! Changing the base of `gs` changes nothing for code that does not use it; whether anybody does is
//! looked at first.
#![allow(unsafe_code)]

use std::{arch::asm, ops::Range};

use crate::resume::safe::{self, Safe};

/// `arch_prctl` code (arch/x86/include/uapi/asm/prctl.h).
const ARCH_SET_GS: u64 = 0x1001;
/// The kernel allows `rdgsbase` and `wrgsbase` (arch/x86/include/uapi/asm/hwcap2.h).
const HWCAP2_FSGSBASE: u64 = 1 << 1;

/// How the base is read and changed here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gs {
    by_instruction: bool,
}

/// Native code uses `gs` itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GsInUse;

impl Gs {
    /// Finds out.
    pub(super) fn of_this_machine() -> Gs {
        // SAFETY: getauxval takes a number and reads what the kernel left the process.
        let bits = unsafe { libc::getauxval(libc::AT_HWCAP2) };
        Gs {
            by_instruction: bits & HWCAP2_FSGSBASE != 0,
        }
    }

    fn read(self, safe: Safe) -> u64 {
        if !self.by_instruction {
            return safe::segment_bases(safe).1;
        }
        let base;
        // SAFETY: the kernel allows the instruction, which reads a register.
        unsafe { asm!("rdgsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
        base
    }

    /// Makes `area` the base of `gs` of this thread; `areas` is where all of them are, for a new
    /// thread begins with the base of the one that made it. Async-signal-safe.
    ///
    /// # Errors
    /// [`GsInUse`] where it has one that is neither 0 nor ours.
    pub(crate) fn set(self, safe: Safe, area: u64, areas: &Range<u64>) -> Result<(), GsInUse> {
        match self.read(safe) {
            base if base == area => return Ok(()),
            base if base == 0 || areas.contains(&base) => {}
            _ => return Err(GsInUse),
        }
        if self.by_instruction {
            // SAFETY: the kernel allows the instruction; nobody uses `gs` here, see above.
            unsafe { asm!("wrgsbase {}", in(reg) area, options(nostack, preserves_flags)) };
        } else {
            // SAFETY: as above, by the kernel.
            unsafe { safe::raw(safe, libc::SYS_arch_prctl, [ARCH_SET_GS, area, 0, 0, 0, 0]) };
        }
        Ok(())
    }
}
