//! Where in a function's first bytes a uprobe may go.

use iced_x86::{Decoder, DecoderOptions, OpKind};

/// `endbr64`, the landing mark of indirect branches.
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// The 5-byte NOP, `nop dword ptr [rax+rax]`.
const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];

/// How many bytes from a function's start [`probe_offset`] wants to see.
pub(super) const PROLOGUE: usize = ENDBR64.len() + 15;

/// Why a function must not be probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unprobeable {
    /// It begins with a 5-byte NOP. Kernels from 6.18 replace that one with a call when it is
    /// probed, and the call clobbers the caller's red zone.
    Nop5,
    /// Its first instruction accesses memory. The kernel would execute a copy of it elsewhere, so
    /// a fault of it would be recorded with another address and the trap flag set.
    Memory,
}

/// Offset of the probe from the function's start, given the function's first bytes.
///
/// After an `endbr64` there is nothing pushed yet, so arguments and return address are where they
/// are at the start; but the kernel has to single-step `endbr64`, at some 9 µs a hit, while it
/// emulates most instructions that follow it, at under half a microsecond.
pub(super) fn probe_offset(code: &[u8]) -> Result<u64, Unprobeable> {
    let offset = if code.starts_with(&ENDBR64) {
        ENDBR64.len()
    } else {
        0
    };
    if code[offset..].starts_with(&NOP5) {
        return Err(Unprobeable::Nop5);
    }
    let first = Decoder::new(64, &code[offset..], DecoderOptions::NONE).decode();
    // Implicit stack accesses (`push`) are fine: the stack is not in the arena.
    let string = first.is_string_instruction();
    if string || first.op_kinds().any(|kind| kind == OpKind::Memory) {
        return Err(Unprobeable::Memory);
    }
    Ok(offset as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_prologue_is_probed_at_its_start() {
        assert_eq!(probe_offset(&[0x55, 0x48, 0x89, 0xe5]), Ok(0));
        assert_eq!(probe_offset(&[0xc3]), Ok(0));
        assert_eq!(probe_offset(&[]), Ok(0));
    }

    #[test]
    fn endbr64_is_stepped_over() {
        assert_eq!(probe_offset(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55]), Ok(4));
        assert_eq!(probe_offset(&[0xf3, 0x0f, 0x1e, 0xfb, 0x55]), Ok(0));
    }

    #[test]
    fn five_byte_nop_is_refused_before_and_after_endbr64() {
        let nop = [0x0f, 0x1f, 0x44, 0x00, 0x00];
        assert_eq!(probe_offset(&nop), Err(Unprobeable::Nop5));
        let mut marked = vec![0xf3, 0x0f, 0x1e, 0xfa];
        marked.extend(nop);
        assert_eq!(probe_offset(&marked), Err(Unprobeable::Nop5));
        // Other NOPs are other instructions.
        assert_eq!(probe_offset(&[0x90, 0x55]), Ok(0));
    }

    #[test]
    fn memory_at_the_start_is_refused() {
        assert_eq!(probe_offset(&[0x8b, 0x07, 0xc3]), Err(Unprobeable::Memory)); // mov eax, [rdi]
        assert_eq!(probe_offset(&[0xa4, 0xc3]), Err(Unprobeable::Memory)); // movsb
        assert_eq!(probe_offset(&[0x31, 0xc0, 0xc3]), Ok(0)); // xor eax, eax
    }
}
