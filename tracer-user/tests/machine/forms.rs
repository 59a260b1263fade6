//! Which instruction forms there are: from iced's tables, not from a list of ours.
//!
//! A form counts if it can be executed in 64-bit user mode and names memory, explicitly or
//! implicitly; it is supported if the processor has every extension that it belongs to.

use std::collections::HashSet;

use iced_x86::{Code, CpuidFeature, EncodingKind, Instruction, InstructionInfoFactory, OpKind};

/// Forms of 64-bit user mode with a memory operand that this processor has.
pub(crate) struct Forms {
    /// The forms.
    pub(crate) supported: Vec<Code>,
    /// How many there are beside these, of extensions that this processor does not have.
    pub(crate) others: usize,
}

impl Forms {
    /// All of them.
    pub(crate) fn of_this_machine() -> Forms {
        let features = Features::of_this_machine();
        let (supported, others): (Vec<Code>, Vec<Code>) = Code::values()
            .filter(|code| {
                let op = code.op_code();
                op.is_instruction()
                    && op.mode64()
                    && op.cpl3()
                    && !op.is_privileged()
                    && op.encoding() != EncodingKind::MVEX
                    && has_memory(*code)
            })
            .partition(|code| code.cpuid_features().iter().all(|it| features.has(*it)));
        Forms {
            supported,
            others: others.len(),
        }
    }
}

/// Whether an operand can lie in memory, or memory is used implicitly.
fn has_memory(code: Code) -> bool {
    let op = code.op_code();
    let kinds = op.op_kinds();
    let names = ["mem", "offs", "seg_r", "es_r"];
    if kinds.iter().any(|kind| {
        let kind = format!("{kind:?}");
        names.iter().any(|name| kind.contains(name)) && !kind.ends_with("reg_mem")
    }) {
        return true;
    }
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    for (operand, kind) in kinds.iter().enumerate() {
        if format!("{kind:?}").contains("reg") {
            instruction.set_op_kind(operand as u32, OpKind::Register);
        }
    }
    let mut factory = InstructionInfoFactory::new();
    !factory.info(&instruction).used_memory().is_empty()
}

/// What the system says the processor can do: the flags of `/proc/cpuinfo`, which leave out what
/// the system has not enabled.
struct Features(HashSet<String>);

impl Features {
    fn of_this_machine() -> Features {
        let text = std::fs::read_to_string("/proc/cpuinfo").expect("/proc/cpuinfo");
        let flags = text.lines().find(|line| line.starts_with("flags"));
        let words = flags.unwrap_or("").split_whitespace();
        Features(words.map(str::to_owned).collect())
    }

    fn has(&self, feature: CpuidFeature) -> bool {
        use CpuidFeature as F;
        let name = match feature {
            F::INTEL8086
            | F::INTEL186
            | F::INTEL286
            | F::INTEL386
            | F::INTEL486
            | F::X64
            | F::FPU387
            | F::FPU287
            | F::MULTIBYTENOP
            | F::PAUSE => return true,
            F::SSE3 => "pni".to_owned(),
            F::CMPXCHG16B => "cx16".to_owned(),
            F::LZCNT => "abm".to_owned(),
            F::SHA => "sha_ni".to_owned(),
            F::CLFSH => "clflush".to_owned(),
            F::PREFETCHW => "3dnowprefetch".to_owned(),
            F::D3NOW => "3dnow".to_owned(),
            F::D3NOWEXT => "3dnowext".to_owned(),
            other => format!("{other:?}").to_ascii_lowercase(),
        };
        // The kernel writes some names with an underscore and some without.
        self.0.contains(&name) || self.0.contains(&name.replacen("avx512_", "avx512", 1))
    }
}
