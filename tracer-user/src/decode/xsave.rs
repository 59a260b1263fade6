//! The areas of `xsave` and its kin: which parts are written or read.
//!
//! ```text
//!   0    24      32      160     416   512        536   576
//!   │ x87 │ MXCSR │ x87   │ SSE   │     │ header       │ AVX, masks, ... at the offsets of
//!                                                        CPUID leaf 0xD, or packed
//! ```
//! What is asked for is edx:eax, of which the system has enabled some (XCR0). Sources: Intel SDM
//! volume 1, 13.4 to 13.10, and for `fxsave` table 10-2.

use tracer_ebpf::{AuxRecord, Regs};

use super::{
    machine::{Component, StateLayout},
    needs::LEGACY,
};
use crate::access::{Access, AccessKind};

const RAX: usize = 0;
const RDX: usize = 2;
/// Bits of XCR0, and numbers of components.
const X87: u64 = 1 << 0;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
/// Offset of the first component beyond the legacy ones in the compacted format.
const EXTENDED: u64 = 576;
/// Bit of `XCOMP_BV`: the area is in the compacted format.
const COMPACTED: u64 = 1 << 63;

/// Which of the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Save,
    SaveOptimized,
    SaveCompacted,
    Restore,
}

impl Form {
    /// Bytes from the area's start that the processor may check for faults, whatever it reads or
    /// writes of them: as far as the components reach that are asked for.
    pub(super) fn checked(self, regs: &Regs) -> u64 {
        let layout = StateLayout::of_this_machine();
        let wanted = wanted(regs, layout);
        let all = Header {
            parts: wanted,
            laid_out: wanted,
            compacted: self == Form::SaveCompacted,
            mxcsr: false,
            mxcsr_len: 0,
        };
        let ends = all.parts(layout).into_iter().map(|(from, len)| from + len);
        // Of the eight bytes for the protection keys the upper four are checked, but unused.
        ends.map(|end| end.next_multiple_of(8))
            .fold(EXTENDED, u64::max)
    }

    /// Appends the accesses of the area at `area`; the error says what is in the way.
    pub(super) fn accesses(
        self,
        area: u64,
        regs: &Regs,
        aux: Option<&AuxRecord>,
        out: &mut Vec<Access>,
    ) -> Result<(), &'static str> {
        let layout = StateLayout::of_this_machine();
        let wanted = wanted(regs, layout);
        let mut push = |kind, certain, from: u64, len| {
            out.push(Access {
                kind,
                certain,
                addr: area.wrapping_add(from),
                len,
            });
        };
        if self == Form::Restore {
            let header = aux.ok_or("the header of its area was not recorded")?;
            let (read, all) = Header::read(&header.vectors[0], wanted)?;
            push(AccessKind::Read, true, LEGACY, all);
            for (from, len) in read.parts(layout) {
                push(AccessKind::Read, true, from, len);
            }
            return Ok(());
        }
        let compacted = self == Form::SaveCompacted;
        let saved = Header {
            parts: wanted,
            laid_out: wanted,
            compacted,
            mxcsr: wanted & (SSE | AVX) != 0,
            mxcsr_len: 8,
        };
        if !compacted {
            push(AccessKind::Read, true, LEGACY, 8);
        }
        for (from, len) in saved.parts(layout) {
            push(AccessKind::Write, self == Form::Save, from, len);
        }
        push(
            AccessKind::Write,
            true,
            LEGACY,
            if compacted { 16 } else { 8 },
        );
        Ok(())
    }
}

/// The components that edx:eax asks for and the system has enabled.
fn wanted(regs: &Regs, layout: &StateLayout) -> u64 {
    let low = regs.gpr[RAX] & 0xffff_ffff;
    (regs.gpr[RDX] << 32 | low) & layout.enabled
}

/// What of an area is touched.
struct Header {
    /// Components that are.
    parts: u64,
    /// Components that have a place in the compacted format.
    laid_out: u64,
    compacted: bool,
    mxcsr: bool,
    mxcsr_len: u64,
}

impl Header {
    /// What `xrstor` reads, as the header says, and how much of the header itself.
    fn read(header: &[u8; 64], wanted: u64) -> Result<(Header, u64), &'static str> {
        const INVALID: &str = "the header of its area is not valid";
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&header[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let (present, format) = (word(0), word(8));
        let compacted = format & COMPACTED != 0;
        let reserved = if compacted { 16..64 } else { 8..24 };
        let all = if compacted { 64 } else { 24 };
        if header[reserved].iter().any(|byte| *byte != 0) || compacted && present & !format != 0 {
            return Err(INVALID);
        }
        let parts = wanted & present;
        Ok((
            Header {
                parts,
                laid_out: format & !COMPACTED,
                compacted,
                mxcsr: if compacted {
                    parts & SSE != 0
                } else {
                    wanted & (SSE | AVX) != 0
                },
                mxcsr_len: 4,
            },
            all,
        ))
    }

    /// Offset and length of each part, in the order of the area.
    fn parts(&self, layout: &StateLayout) -> Vec<(u64, u64)> {
        let mut parts = Vec::new();
        if self.parts & X87 != 0 {
            parts.push((0, 24));
        }
        if self.mxcsr {
            parts.push((24, self.mxcsr_len));
        }
        if self.parts & X87 != 0 {
            parts.push((32, 128));
        }
        if self.parts & SSE != 0 {
            parts.push((160, 256));
        }
        let mut packed = EXTENDED;
        for (number, component) in layout.components.iter().enumerate().skip(2) {
            let Component {
                offset,
                size,
                aligned,
            } = *component;
            let bit = 1 << number;
            let mut from = offset;
            if self.compacted {
                if self.laid_out & bit == 0 {
                    continue;
                }
                from = if aligned {
                    packed.next_multiple_of(64)
                } else {
                    packed
                };
                packed = (from + size).next_multiple_of(8);
            }
            if self.parts & bit != 0 && size > 0 {
                parts.push((from, size));
            }
        }
        parts
    }
}
