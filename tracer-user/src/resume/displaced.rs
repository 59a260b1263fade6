//! Displaced copies in the code pages, and what becomes of a site.

use tracer_ebpf::Regs;

use super::{
    code::CodePages,
    displace::{CodeCopy, Form, displace},
    site::Action,
};
use crate::decode::Decoded;

/// What a slot of the code pages holds.
pub struct Displaced {
    copy: Option<CodeCopy>,
}

impl Displaced {
    /// Turns the registers of a thread that is `offset` bytes into the copy into those that it
    /// would have in original code. Inside a jump out of the copy, and for code that is no copy,
    /// they stay as they are. Async-signal-safe.
    pub fn to_original(&self, offset: usize, regs: &mut Regs) {
        let state = self
            .copy
            .as_ref()
            .and_then(|copy| copy.original_state(offset, regs));
        if let Some(state) = state {
            state.apply(regs);
        }
    }
}

/// The owner of a slot that holds no copy of an instruction.
pub fn no_copy() -> &'static Displaced {
    &Displaced { copy: None }
}

/// Puts the copies of an instruction into the code pages. Where there is none, or no room, its
/// threads are stepped.
pub fn place(code: &CodePages<Displaced>, decoded: &Decoded) -> Action {
    let add = |copy: CodeCopy| {
        // Leaked, since a thread may run the copy at any time from now on.
        let owner: &'static Displaced = Box::leak(Box::new(Displaced { copy: Some(copy) }));
        owner
            .copy
            .as_ref()
            .and_then(|copy| code.add(&copy.code, owner))
            .unwrap_or(0)
    };
    match (displace(decoded), decoded.string_op()) {
        (Form::Operand { code }, _) => match add(code) {
            0 => Action::Step,
            copy => Action::Operand { copy },
        },
        (Form::String { source, dest, both }, Some(op)) => Action::String {
            op,
            copies: [source, dest, both].map(|copy| copy.map_or(0, add)),
        },
        _ => Action::Step,
    }
}

/// Whether the resume engine runs this instruction by copies for strings, which make more than
/// one iteration a fault.
pub fn has_string_copies(decoded: &Decoded) -> bool {
    matches!(displace(decoded), Form::String { .. })
}
