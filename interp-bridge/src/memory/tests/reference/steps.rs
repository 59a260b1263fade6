//! What an interpreter and native code do to a memory, step by step, and where external
//! allocations come from.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Allocate(u64, bool, bool),
    Register(u64, bool, bool),
    Free(Index),
    Write(Index, u64, Vec<u8>),
    WritePointer(Index, u64, Index, u8),
    Deinitialize(Index, u64, u64),
    Copy(Index, u64, u64, Index, u64),
    Expose(Index),
    SetMutable(Index, bool),
    Event(Index, i64, u64, u8),
    Untraced(Vec<Index>),
    Traced,
    Reset,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![8 => 0u64..90, 1 => 4090u64..4200];
    let index = any::<Index>;
    let offset = || prop_oneof![6 => 0u64..40, 1 => 4080u64..4100];
    prop_oneof![
        3 => (size, any::<bool>(), any::<bool>()).prop_map(|(s, i, m)| Step::Allocate(s, i, m)),
        1 => (1u64..60, any::<bool>(), any::<bool>()).prop_map(|(s, i, m)| Step::Register(s, i, m)),
        1 => index().prop_map(Step::Free),
        3 => (index(), offset(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(a, o, b)| Step::Write(a, o, b)),
        6 => (index(), offset(), index(), 0u8..6)
            .prop_map(|(a, o, t, k)| Step::WritePointer(a, o, t, k)),
        1 => (index(), offset(), 0u64..20).prop_map(|(a, o, l)| Step::Deinitialize(a, o, l)),
        4 => (index(), offset(), 0u64..40, index(), offset())
            .prop_map(|(a, o, l, b, p)| Step::Copy(a, o, l, b, p)),
        1 => index().prop_map(Step::Expose),
        1 => (index(), any::<bool>()).prop_map(|(a, m)| Step::SetMutable(a, m)),
        8 => (index(), -20i64..90, 1u64..40, 0u8..3)
            .prop_map(|(a, o, l, k)| Step::Event(a, o, l, k)),
        1 => prop::collection::vec(index(), 0..3).prop_map(Step::Untraced),
        1 => Just(Step::Traced),
        1 => Just(Step::Reset),
    ]
}

/// Pages outside of the arena, of which each byte is given out once.
pub(super) struct Room {
    _pages: Mapping,
    pub(super) next: u64,
}

impl Room {
    pub(super) fn new() -> Room {
        let pages = Mapping::stack(2 * 4096).expect("address space");
        let next = pages.addr() + pages.len() as u64 - 2 * 4096;
        Room {
            _pages: pages,
            next,
        }
    }
}
