//! What an instruction's accesses depend on beside the registers that a page fault shows.
//!
//! ```text
//!  handler or supervisor ── Needs::of(instruction) ──► AuxRecord with just that
//!                                                          │
//!  decoder ◄───────────────────────────────────────────────┘
//! ```
//! The fault shows general registers only. Mask registers, vectors, segment bases and the header
//! that tells `xrstor` what to load are taken down by whoever stopped the thread, in an
//! `AuxRecord`. Both sides ask this module, so they agree on where a vector lies in it.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::{address::Address, machine::options};

/// Where 64 bytes of an `AuxRecord` come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nothing is needed.
    #[default]
    None,
    /// Vector register of this number, 0 to 31, all 64 bytes of it.
    Vector(u8),
    /// MMX register of this number, 0 to 7, in the first 8 bytes.
    Mmx(u8),
    /// Memory at this address. Bytes that cannot be read are 0xff.
    Memory(Address),
    /// The configuration of the tile registers.
    Tiles,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Mask registers k0–k7.
    pub masks: bool,
    /// Bases of fs and gs.
    pub segments: bool,
    /// What goes into `AuxRecord::vectors`.
    pub vectors: [Source; 2],
}

/// Size of the legacy region of an xsave area, behind which the header lies.
pub(super) const LEGACY: u64 = 512;

impl Needs {
    /// Whether anything is needed at all.
    pub fn any(&self) -> bool {
        *self != Needs::default()
    }

    /// Whether this is an instruction that is done in parts: a gather, a scatter, a tile's load or
    /// store. Where its next part needs a page while it is single-stepped, the processor delivers
    /// the trap of the parts that are done in place of the fault (Intel SDM volume 2, VGATHERDPS),
    /// and the step has to go on.
    pub fn in_parts(&self) -> bool {
        matches!(self.vectors[0], Source::Vector(_) | Source::Tiles)
    }

    /// What the accesses of an instruction depend on. Async-signal-safe: it computes with its
    /// argument only.
    pub fn of(instruction: &Instruction) -> Needs {
        let vector = |operand: u32| {
            let register = instruction.op_register(operand);
            match register {
                _ if register.is_mm() => Source::Mmx(register.number() as u8),
                _ if register.is_vector_register() => Source::Vector(register.number() as u8),
                _ => Source::None,
            }
        };
        let vectors = match instruction.mnemonic() {
            // An EVEX one has no mask vector, but a mask register.
            _ if instruction.is_vsib() => [
                Source::Vector(instruction.memory_index().number() as u8),
                if instruction.op_count() == 3 && instruction.op2_kind() == OpKind::Register {
                    vector(2)
                } else {
                    Source::None
                },
            ],
            Mnemonic::Maskmovq | Mnemonic::Maskmovdqu | Mnemonic::Vmaskmovdqu => {
                [Source::None, vector(2)]
            }
            Mnemonic::Vmaskmovps
            | Mnemonic::Vmaskmovpd
            | Mnemonic::Vpmaskmovd
            | Mnemonic::Vpmaskmovq => [Source::None, vector(1)],
            Mnemonic::Xrstor | Mnemonic::Xrstor64 => {
                let header = Address::of_operand(instruction).map(|at| at.plus(LEGACY));
                [header.map_or(Source::None, Source::Memory), Source::None]
            }
            Mnemonic::Tileloadd | Mnemonic::Tileloaddt1 | Mnemonic::Tilestored => {
                [Source::Tiles, Source::None]
            }
            _ => [Source::None; 2],
        };
        Needs {
            masks: instruction.op_mask() != Register::None,
            segments: instruction.memory_segment() >= Register::FS && has_memory(instruction),
            vectors,
        }
    }
}

/// The instruction in `bytes`, at address `ip`, without a plan for it; `None` if there is none.
/// Async-signal-safe once it has been called: iced makes its tables at the first use, and
/// allocates no more after that.
pub fn peek(bytes: &[u8], ip: u64) -> Option<Instruction> {
    let options = options().unwrap_or(DecoderOptions::NONE);
    let instruction = Decoder::with_ip(64, bytes, ip, options).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Whether an operand lies in memory, explicitly or at rsi or rdi.
fn has_memory(instruction: &Instruction) -> bool {
    use OpKind as K;
    (0..instruction.op_count()).any(|operand| {
        matches!(
            instruction.op_kind(operand),
            K::Memory
                | K::MemorySegSI
                | K::MemorySegESI
                | K::MemorySegRSI
                | K::MemorySegDI
                | K::MemorySegEDI
                | K::MemorySegRDI
        )
    })
}
