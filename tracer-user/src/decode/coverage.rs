//! Which instructions the decoder takes on at all: those of listed extensions, but for named
//! exceptions. An extension that nobody has looked at is refused.

use iced_x86::{Code, CpuidFeature, EncodingKind, Instruction, Mnemonic};

use super::machine::Maker;

/// Why an instruction is refused out of hand, if it is.
pub(super) fn excluded(instruction: &Instruction) -> Option<&'static str> {
    let code = instruction.code();
    if code.op_code().is_privileged() {
        return Some("it is privileged");
    }
    if code.encoding() == EncodingKind::MVEX || !code.cpuid_features().iter().all(is_known) {
        return Some("its instruction set extension is not covered");
    }
    match instruction.mnemonic() {
        Mnemonic::Sgdt | Mnemonic::Sidt | Mnemonic::Sldt | Mnemonic::Str | Mnemonic::Smsw => {
            return Some("the kernel executes it in the program's place");
        }
        Mnemonic::Int
        | Mnemonic::Int1
        | Mnemonic::Int3
        | Mnemonic::Ud0
        | Mnemonic::Ud1
        | Mnemonic::Ud2 => return Some("it is a system instruction"),
        _ => {}
    }
    // Intel and AMD take the operand-size prefix differently here; only what Intel's do is known.
    let differs = matches!(
        code,
        Code::Call_rel16
            | Code::Call_rm16
            | Code::Jmp_rm16
            | Code::Retnw
            | Code::Retnw_imm16
            | Code::Movsxd_r16_rm16
            | Code::Enterw_imm16_imm8
            | Code::Pushw_FS
            | Code::Pushw_GS
            | Code::Popw_FS
            | Code::Popw_GS
    );
    (differs && Maker::of_this_machine() != Maker::Intel)
        .then_some("processors differ in its 16-bit form")
}

/// Extensions whose instructions have the memory operands that iced reports, but for the
/// exceptions above and those that have a plan of their own. Not here, among others: CET, ENQCMD,
/// key locker, MPX, RAO, CMPccXADD, PadLock, system extensions.
fn is_known(feature: &CpuidFeature) -> bool {
    use CpuidFeature as F;
    matches!(
        feature,
        F::INTEL8086
            | F::INTEL186
            | F::INTEL286
            | F::INTEL386
            | F::INTEL486
            | F::X64
            | F::CMOV
            | F::FPU
            | F::FPU287
            | F::FPU387
            | F::MMX
            | F::D3NOW
            | F::D3NOWEXT
            | F::FXSR
            | F::XSAVE
            | F::XSAVEOPT
            | F::XSAVEC
            | F::SSE
            | F::SSE2
            | F::SSE3
            | F::SSSE3
            | F::SSE4_1
            | F::SSE4_2
            | F::SSE4A
            | F::AVX
            | F::AVX2
            | F::FMA
            | F::F16C
            | F::FMA4
            | F::XOP
            | F::TBM
            | F::AVX_IFMA
            | F::AVX_VNNI
            | F::AVX_VNNI_INT8
            | F::AVX_VNNI_INT16
            | F::AES
            | F::PCLMULQDQ
            | F::VAES
            | F::VPCLMULQDQ
            | F::SHA
            | F::GFNI
            | F::SM3
            | F::SM4
            | F::ADX
            | F::BMI1
            | F::BMI2
            | F::LZCNT
            | F::POPCNT
            | F::MOVBE
            | F::CX8
            | F::CMPXCHG16B
            | F::MOVDIRI
            | F::MOVDIR64B
            | F::MULTIBYTENOP
            | F::PAUSE
            | F::PREFETCHW
            | F::PREFETCHWT1
            | F::PREFETCHITI
            | F::CLFSH
            | F::CLFLUSHOPT
            | F::CLWB
            | F::CLDEMOTE
            | F::CLZERO
            | F::AMX_TILE
            | F::AVX_NE_CONVERT
            | F::AVX512F
            | F::AVX512VL
            | F::AVX512BW
            | F::AVX512DQ
            | F::AVX512CD
            | F::AVX512_VBMI
            | F::AVX512_VBMI2
            | F::AVX512_IFMA
            | F::AVX512_VNNI
            | F::AVX512_BITALG
            | F::AVX512_VPOPCNTDQ
            | F::AVX512_BF16
            | F::AVX512_FP16
            | F::AVX512_VP2INTERSECT
    )
}
