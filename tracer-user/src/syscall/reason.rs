//! Why a call is refused, as a number that fits a register and as words.

/// Kinds of refusals. [`Reason::code`] carries one through a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The call is not in the table, and an argument is an address of the native view.
    Unlisted = 1,
    /// The request, command, operation or option is not in the table, and the argument is an
    /// address of the native view.
    UnlistedRequest = 2,
    /// The memory begins outside the arena or crosses a segment.
    Straddles = 3,
    /// The rebuilt structures do not fit [`Scratch`](super::Scratch).
    ScratchFull = 4,
    /// The call would change the arena's own mapping.
    Aimed = 5,
    /// The structure has addresses of the arena, or lies in it, and is not taken apart.
    Inside = 6,
    /// The kernel would keep the address and use it later, with nobody to see it.
    Kept = 7,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Reason; 7] = [
        Reason::Unlisted,
        Reason::UnlistedRequest,
        Reason::Straddles,
        Reason::ScratchFull,
        Reason::Aimed,
        Reason::Inside,
        Reason::Kept,
    ];

    /// The number of the reason, never 0.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The reason with that number.
    pub fn from_code(code: u8) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The reason in words, to follow the name of the system call.
    pub fn text(self) -> &'static str {
        match self {
            Reason::Unlisted => "it is not known what it does to memory that it is handed",
            Reason::UnlistedRequest => {
                "it is not known what this request does to memory that it is handed"
            }
            Reason::Straddles => "the memory that it is handed is not inside one arena segment",
            Reason::ScratchFull => "it is handed more addresses than can be moved at once",
            Reason::Aimed => "it would change the mapping of the arena",
            Reason::Inside => "it is handed a structure with arena memory that is not taken apart",
            Reason::Kept => "the kernel would keep the address and use it later, unseen",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn codes_are_those_of_the_reasons() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.code() as usize, index + 1);
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
        }
        assert_eq!(Reason::from_code(0), None);
        assert_eq!(Reason::from_code(8), None);
    }
}
