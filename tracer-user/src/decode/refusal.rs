//! What the decoder will not do, by name.

use iced_x86::{Formatter, Instruction, IntelFormatter};

/// Why an instruction's accesses are not known exactly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no instruction, or end before the instruction does.
    #[error("no instruction at {ip:#x}: bytes {}", hex(.bytes))]
    Undecodable {
        /// Address of the bytes.
        ip: u64,
        /// The bytes, at most 15.
        bytes: Vec<u8>,
    },
    /// The instruction is known, but its accesses are not known exactly.
    #[error("`{text}` at {ip:#x} is unsupported: {why}")]
    Unsupported {
        /// Address of the instruction.
        ip: u64,
        /// The instruction in Intel syntax.
        text: String,
        /// What is in the way.
        why: &'static str,
    },
    /// The accesses depend on state that the caller did not pass: see
    /// [`Decoded::needs_aux`](super::Decoded::needs_aux).
    #[error("`{text}` at {ip:#x} needs {what}, which was not recorded")]
    NeedsAux {
        /// Address of the instruction.
        ip: u64,
        /// The instruction in Intel syntax.
        text: String,
        /// The state that is missing.
        what: &'static str,
    },
}

impl Refusal {
    pub(super) fn unsupported(instruction: &Instruction, why: &'static str) -> Refusal {
        Refusal::Unsupported {
            ip: instruction.ip(),
            text: text(instruction),
            why,
        }
    }

    pub(super) fn needs_aux(instruction: &Instruction, what: &'static str) -> Refusal {
        Refusal::NeedsAux {
            ip: instruction.ip(),
            text: text(instruction),
            what,
        }
    }
}

/// The instruction in Intel syntax.
pub(super) fn text(instruction: &Instruction) -> String {
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_space_after_operand_separator(true);
    let mut text = String::new();
    formatter.format(instruction, &mut text);
    text
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}
