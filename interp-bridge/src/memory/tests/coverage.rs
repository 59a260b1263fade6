//! Coverage and verdicts against a plain model of single bytes.

use proptest::prelude::*;

use super::*;

/// One byte of the arena as a plain model sees it.
#[derive(Clone, Copy, Default)]
struct ModelByte {
    owner: Option<(AllocId, bool, bool)>,
    init: bool,
    wild: bool,
    read: bool,
    read_uninit: bool,
    written: bool,
    maybe: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(u64, u8, bool),
    Free(prop::sample::Index),
    Touch {
        at: prop::sample::Index,
        offset: i64,
        len: u64,
        kind: u8,
    },
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![Just(0u64), 1u64..80, 4000u64..5000];
    prop_oneof![
        2 => (size, 0u8..3, any::<bool>()).prop_map(|(s, i, m)| Step::Allocate(s, i, m)),
        1 => any::<prop::sample::Index>().prop_map(Step::Free),
        9 => (any::<prop::sample::Index>(), -100i64..5000, 1u64..300, 0u8..3)
            .prop_map(|(at, offset, len, kind)| Step::Touch { at, offset, len, kind }),
        9 => (any::<prop::sample::Index>(), -40i64..90, 1u64..70, 0u8..3)
            .prop_map(|(at, offset, len, kind)| Step::Touch { at, offset, len, kind }),
        1 => Just(Step::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn agrees_with_a_model_of_single_bytes(steps in prop::collection::vec(step(), 1..80)) {
        let mut memory = memory();
        // Everything below stays near the start of the first segment.
        let origin = memory.arena().session().arena_base + crate::arena::MARGIN - 4096;
        let mut model = vec![ModelByte::default(); 600 << 10];
        let mut known: Vec<(AllocId, u64, u64, bool)> = Vec::new();
        for step in steps {
            match step {
                Step::Allocate(size, init, mutable) => {
                    let init = [Init::Uninit, Init::Zeroed, Init::Zeroed][usize::from(init)];
                    let id = memory.allocate(&request("m", size, init, mutable)).expect("room");
                    let base = memory.address(id).expect("live");
                    known.push((id, base, size, true));
                    let at = (base - origin) as usize;
                    for byte in &mut model[at..at + size as usize] {
                        prop_assert!(byte.owner.is_none(), "reused too early");
                        let init = init != Init::Uninit;
                        *byte = ModelByte { owner: Some((id, true, mutable)), init, ..*byte };
                    }
                }
                Step::Free(index) if !known.is_empty() => {
                    let index = index.index(known.len());
                    let (id, base, size, live) = &mut known[index];
                    prop_assert_eq!(memory.free(*id).is_ok(), *live);
                    *live = false;
                    let at = (*base - origin) as usize;
                    for byte in &mut model[at..at + *size as usize] {
                        if let Some((_, live, _)) = &mut byte.owner { *live = false; }
                    }
                }
                Step::Touch { at, offset, len, kind } if !known.is_empty() => {
                    let (_, base, ..) = known[at.index(known.len())];
                    let addr = base.wrapping_add_signed(offset);
                    let mut event = if kind == 0 { read(addr, len) } else { write(addr, len) };
                    event.access.certain = kind != 2;
                    let found = memory.apply(&event).map(|finding| finding.kind);
                    let range = (addr - origin) as usize..(addr - origin + len) as usize;
                    let bytes = &mut model[range];
                    let owned = |byte: &&ModelByte| byte.owner.is_some_and(|owner| owner.1);
                    if bytes.iter().filter(owned).count() as u64 == len {
                        let writable = bytes.iter().all(|byte| byte.owner.is_some_and(|o| o.2));
                        let expected = (kind != 0 && !writable)
                            .then_some(ViolationKind::WriteToReadOnly);
                        prop_assert_eq!(found, expected);
                    } else {
                        let first = bytes.iter().find_map(|byte| byte.owner);
                        match (bytes[0].owner, first) {
                            (Some((_, false, _)), _) => {
                                prop_assert_eq!(found, Some(ViolationKind::UseAfterFree));
                            }
                            (Some(_), _) => prop_assert_eq!(found, Some(ViolationKind::OutOfBounds)),
                            _ => prop_assert!(matches!(
                                found,
                                Some(ViolationKind::OutOfBounds | ViolationKind::UseAfterFree)
                            )),
                        }
                    }
                    for byte in bytes.iter_mut().filter(|byte| byte.owner.is_some_and(|o| o.1)) {
                        match kind {
                            0 => {
                                byte.read = true;
                                byte.read_uninit |= !byte.init && !byte.wild;
                            }
                            1 => (byte.written, byte.init, byte.wild) = (true, true, true),
                            _ => {
                                byte.maybe = true;
                                byte.wild |= byte.owner.is_some_and(|(_, _, mutable)| mutable);
                            }
                        }
                    }
                }
                Step::Reset => {
                    memory.reset_coverage();
                    for byte in &mut model {
                        *byte = ModelByte { owner: byte.owner, init: byte.init, wild: byte.wild, ..Default::default() };
                    }
                }
                Step::Free(_) | Step::Touch { .. } => {}
            }
        }
        for (id, base, size, live) in known {
            let record = memory.get(id).expect("in quarantine at most");
            prop_assert_eq!(record.is_live(), live);
            for offset in 0..size {
                let byte = model[(base - origin + offset) as usize];
                prop_assert_eq!(record.init().contains(offset), byte.init);
                prop_assert_eq!(record.wildcard().contains(offset), byte.wild);
                prop_assert_eq!(record.readable().contains(offset), byte.init || byte.wild);
                prop_assert_eq!(record.read().contains(offset), byte.read);
                prop_assert_eq!(record.read_uninit().contains(offset), byte.read_uninit);
                prop_assert_eq!(record.written().contains(offset), byte.written);
                prop_assert_eq!(record.maybe_written().contains(offset), byte.maybe);
                // The handler's shadow agrees on what is live and writable.
                let (_, _, mutable) = byte.owner.expect("owned");
                let shadow = memory.shadow();
                prop_assert_eq!(shadow.suspicious(base + offset, 1, false), !live);
                prop_assert_eq!(shadow.suspicious(base + offset, 1, true), !live || !mutable);
            }
            prop_assert!(memory.shadow().suspicious(base + size, 1, false));
            prop_assert!(memory.shadow().suspicious(base - 1, 1, false));
        }
    }
}
