//! Displaced copies in the code pages, and what becomes of a site.

use iced_x86::Mnemonic;
use tracer_ebpf::Regs;

use super::{
    code::CodePages,
    displace::{CodeCopy, Form, displace},
    site::Action,
};
use crate::decode::Decoded;

/// What a slot of the code pages holds.
pub struct Displaced {
    copy: CodeCopy,
    /// Whether it may be a repetition, which takes many steps.
    string: bool,
}

impl Displaced {
    /// Whether a thread at this offset is still to make the access, which a few steps will do.
    /// Async-signal-safe.
    pub fn is_pending(&self, offset: usize) -> bool {
        !self.string && self.copy.is_pending(offset)
    }

    /// Turns the registers of a thread that is `offset` bytes into the copy into those that it
    /// would have in original code. Inside a jump out of the copy
    /// they stay as they are. Async-signal-safe.
    pub fn to_original(&self, offset: usize, regs: &mut Regs) {
        if let Some(state) = self.copy.original_state(offset, regs) {
            state.apply(regs);
        }
    }
}

/// Whether a step shows in what the instruction writes: the trap flag.
fn pushes_flags(decoded: &Decoded) -> bool {
    matches!(
        decoded.instruction().mnemonic(),
        Mnemonic::Pushf | Mnemonic::Pushfq
    )
}

/// Puts the copies of an instruction into the code pages. Where there is none, or no room, its
/// threads are stepped.
pub fn place(code: &CodePages<Displaced>, decoded: &Decoded) -> Action {
    let add = |copy: CodeCopy| {
        // Leaked, since a thread may run the copy at any time from now on.
        let string = decoded.string_op().is_some();
        let owner: &'static Displaced = Box::leak(Box::new(Displaced { copy, string }));
        code.add(&owner.copy.code, owner).unwrap_or(0)
    };
    match (displace(decoded), decoded.string_op()) {
        (Form::Operand { code }, _) => match add(code) {
            0 if pushes_flags(decoded) => Action::Uncopied,
            0 => Action::Step,
            copy => Action::Operand { copy },
        },
        (Form::String { source, dest, both }, Some(op)) => {
            let copies = [source, dest, both].map(|copy| copy.map(add));
            if copies.contains(&Some(0)) {
                Action::Uncopied
            } else {
                Action::String {
                    op,
                    copies: copies.map(|copy| copy.unwrap_or(0)),
                }
            }
        }
        (Form::Lanes { lanes, code }, _) => match add(code) {
            0 => Action::Step,
            copy => Action::Lanes { lanes, copy },
        },
        _ => Action::Step,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_room_what_a_step_does_not_do_alike_is_told_apart() {
        let code = CodePages::new().unwrap();
        let parsed = |bytes: &[u8]| Decoded::parse(bytes, 0x1000).unwrap();
        let [load, rep_movs, pushf] = [
            parsed(&[0x8b, 0x07]),
            parsed(&[0xf3, 0xa4]),
            parsed(&[0x9c]),
        ];
        assert!(matches!(place(&code, &load), Action::Operand { .. }));
        assert!(matches!(place(&code, &rep_movs), Action::String { .. }));
        assert!(matches!(place(&code, &pushf), Action::Operand { .. }));
        while !matches!(place(&code, &load), Action::Step) {}
        assert!(matches!(place(&code, &rep_movs), Action::Uncopied));
        assert!(matches!(place(&code, &pushf), Action::Uncopied));
    }
}
