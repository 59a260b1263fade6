//! Vectors of buffers against a model: for any vector and any result, the bytes told are the
//! first so many of the buffers in order, and only those of the arena.

use std::cell::RefCell;

use proptest::prelude::*;
use syscalls::Sysno;
use tracer_user::resume::safe::Safe;
use tracer_user::syscall::{self, Call, Plan, Scratch, Touch};

use crate::slots::{ROOM, Slots};

/// A buffer: in the arena or not, where in its slot, and how long.
type Buffer = (bool, u64, u64);

fn buffers() -> impl Strategy<Value = Vec<Buffer>> {
    let buffer = (any::<bool>(), 0..ROOM / 2, 0..ROOM / 2);
    proptest::collection::vec(buffer, 1..40)
}

/// The parts of the buffers that the first `bytes` bytes are in, as `(address, length)`.
fn model(slots: &Slots, buffers: &[Buffer], bytes: u64) -> Vec<(u64, u64)> {
    let mut left = bytes;
    let mut parts = Vec::new();
    for (inside, offset, len) in buffers {
        let part = left.min(*len);
        left -= part;
        if *inside && part > 0 {
            parts.push((slots.addr(1, true, *offset as i64), part));
        }
    }
    parts
}

#[test]
fn results_are_distributed_in_order() {
    let slots = Slots::new();
    let scratch: RefCell<Box<Scratch>> = RefCell::new(Box::new(bytemuck::Zeroable::zeroed()));
    let (safe, arena) = (Safe::promise(), slots.session());
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(500)
    };
    let cases = (buffers(), any::<bool>(), any::<bool>(), 0..40 * ROOM);
    proptest!(config, |((buffers, vector_inside, writes, result) in cases)| {
        let scratch = &mut scratch.borrow_mut();
        let words: Vec<u8> = buffers
            .iter()
            .flat_map(|(inside, offset, len)| [slots.addr(1, *inside, *offset as i64), *len])
            .flat_map(u64::to_le_bytes)
            .collect();
        slots.put(0, vector_inside, 0, 0, &words);
        let vector = slots.addr(0, vector_inside, 0);
        let number = if writes { Sysno::readv } else { Sysno::writev };
        let call = Call {
            number: number as u64,
            args: [3, vector, buffers.len() as u64, 0, 0, 0],
        };
        let mut touches: Vec<Touch> = Vec::new();
        let plan = syscall::prepare(safe, &call, arena, scratch, &mut |t| touches.push(t));
        let total: u64 = buffers.iter().map(|buffer| buffer.2).sum();
        let result = result.min(total);
        let moved = match plan {
            Plan::Moved(moved) => moved,
            Plan::Pass => {
                prop_assert!(!vector_inside && buffers.iter().all(|buffer| !buffer.0));
                return Ok(());
            }
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        let seen = syscall::finish(safe, arena, &moved, result as i64, scratch, &mut |t| {
            touches.push(t);
        });
        prop_assert_eq!(seen, result as i64);
        let mut told = touches.iter().map(|touch| (touch.addr, touch.len));
        if vector_inside {
            prop_assert_eq!(told.next(), Some((vector, words.len() as u64)));
        }
        prop_assert_eq!(told.collect::<Vec<_>>(), model(&slots, &buffers, result));
        prop_assert!(touches.iter().all(|touch| touch.certain));
    });
}

/// Numbers that are awkward as addresses, lengths, commands or flags.
fn awkward(slots: &Slots) -> Vec<u64> {
    let base = slots.session().arena_base;
    let edges = [
        base - 8,
        base,
        base + (1 << 30) - 4,
        base + (1 << 30),
        base + (2 << 30),
    ];
    let rooms = (0..4).flat_map(|slot| [(slot, true), (slot, false)]);
    let rooms = rooms.map(|(slot, inside)| slots.addr(slot, inside, 64 * slot as i64));
    let numbers = [0, 1, 2, 3, 8, 16, 88, 1024, 4096, 1 << 31, 1 << 32, 1 << 63];
    let all = edges.into_iter().chain(rooms).chain(numbers);
    all.chain([u64::MAX, u64::MAX - 7, u64::MAX - 4000])
        .collect()
}

#[test]
fn no_call_is_too_odd() {
    let slots = Slots::new();
    let scratch: RefCell<Box<Scratch>> = RefCell::new(Box::new(bytemuck::Zeroable::zeroed()));
    let (safe, arena) = (Safe::promise(), slots.session());
    let words = awkward(&slots);
    let word = proptest::sample::select(words);
    let contents = proptest::collection::vec(word.clone(), 4 * 40);
    let results = proptest::sample::select(vec![0, 1, 7, 100, 1 << 40, i64::MAX, -4, -9, -14, -22]);
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(2000)
    };
    let calls =
        proptest::collection::vec((0u64..480, proptest::array::uniform6(word), results), 64);
    proptest!(config, |(contents in contents, calls in calls)| {
        let scratch = &mut scratch.borrow_mut();
        for (slot, words) in contents.chunks(40).enumerate() {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            slots.put(slot, true, 0, 1, &bytes);
            slots.put(slot, false, 0, 1, &bytes);
        }
        for (number, args, result) in calls {
            let call = Call { number, args };
            let mut told = |touch: Touch| {
                let last = touch.addr.checked_add(touch.len - 1).unwrap();
                assert!(arena.is_native(touch.addr) && arena.is_native(last), "{call:x?}");
            };
            match syscall::prepare(safe, &call, arena, scratch, &mut told) {
                Plan::Moved(moved) | Plan::Special(_, moved) => {
                    syscall::finish(safe, arena, &moved, result, scratch, &mut told);
                }
                Plan::Pass | Plan::Refuse(_) => {}
            }
        }
    });
}
