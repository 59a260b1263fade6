//! Sites that the traced process has listed, so that their faults need smaller records.
//!
//! ```text
//!  1st fault at a site ─► FaultRecord (all registers, the bytes) ─► handler lists the site
//!  later ones          ─► KnownFaultRecord (the registers of its address)
//! ```
//! The process lists only instructions that access memory at one address, made of at most two
//! general registers, in code that cannot be written; and after it has seen the site's first record
//! submitted, so that a reader has had the bytes before it meets a record without them.

use bytemuck::{Pod, Zeroable};

use super::RecordHeader;

/// Cells of the table of known sites (a power of two). A site has one cell; the last of several
/// sites of a cell has it.
pub const KNOWN_SITES: usize = 1 << KNOWN_BITS;

const KNOWN_BITS: u32 = 12;

/// Number that stands for no register, in a [`KnownSite`].
pub const NO_REGISTER: u8 = 16;

const INDEX_SHIFT: u32 = 5;
const IP_SHIFT: u32 = 10;

/// A listed site, in one word, so that it changes at once: which instruction, and which registers
/// its address is made of.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct KnownSite(u64);

impl KnownSite {
    /// The instruction at `ip`, with the numbers of its base and index register in the order of
    /// [`Regs::gpr`](super::Regs), or [`NO_REGISTER`]. None where they do not fit the word: for
    /// addresses from 2^54 on.
    pub const fn new(ip: u64, [base, index]: [u8; 2]) -> Option<KnownSite> {
        if ip >> (u64::BITS - IP_SHIFT) != 0 || base > NO_REGISTER || index > NO_REGISTER {
            return None;
        }
        let registers = base as u64 | (index as u64) << INDEX_SHIFT;
        Some(KnownSite(ip << IP_SHIFT | registers))
    }

    /// The word of a cell; 0 for none.
    pub const fn from_word(word: u64) -> KnownSite {
        KnownSite(word)
    }

    /// The word for a cell.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Address of the instruction.
    #[inline(always)]
    pub const fn ip(self) -> u64 {
        self.0 >> IP_SHIFT
    }

    /// Both registers as one number, for [`KnownFaultRecord::registers`].
    #[inline(always)]
    pub const fn registers(self) -> u32 {
        self.0 as u32 & ((1 << IP_SHIFT) - 1)
    }

    /// Number of the base register.
    #[inline(always)]
    pub const fn base(self) -> u8 {
        (self.0 & ((1 << INDEX_SHIFT) - 1)) as u8
    }

    /// Number of the index register.
    #[inline(always)]
    pub const fn index(self) -> u8 {
        (self.0 >> INDEX_SHIFT & ((1 << INDEX_SHIFT) - 1)) as u8
    }

    /// Which cell of the table is that of the instruction at `ip`.
    #[inline(always)]
    pub const fn cell(ip: u64) -> usize {
        // Multiplication by the golden ratio spreads addresses that are near each other.
        (ip.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - KNOWN_BITS)) as usize
    }
}

/// One access to the native view by a listed site, whose instruction the reader knows.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct KnownFaultRecord {
    /// `kind` is [`kind::KNOWN_FAULT`](super::kind::KNOWN_FAULT).
    pub header: RecordHeader,
    /// Address of the instruction.
    pub ip: u64,
    /// Faulting address (CR2), as in [`FaultRecord`](super::FaultRecord).
    pub addr: u64,
    /// x86 page-fault error code.
    pub error: u32,
    /// Which registers follow: [`KnownSite::registers`].
    pub registers: u32,
    /// Value of the base register; 0 where there is none.
    pub base: u64,
    /// Value of the index register; 0 where there is none.
    pub index: u64,
}

const _: () = {
    assert!(size_of::<KnownSite>() == 8);
    assert!(size_of::<KnownFaultRecord>() == 48);
    let site = match KnownSite::new((1 << 54) - 1, [5, NO_REGISTER]) {
        Some(site) => site,
        None => panic!(),
    };
    assert!(site.ip() == (1 << 54) - 1 && site.base() == 5 && site.index() == NO_REGISTER);
    assert!(KnownSite::new(1 << 54, [0, 0]).is_none());
    assert!(KnownSite::cell(u64::MAX) < KNOWN_SITES);
};
