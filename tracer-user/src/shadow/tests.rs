//! The table against a naive one, and across a fork.

use super::*;
use proptest::prelude::*;

/// Address space is not needed for the table itself, only its numbers.
const SESSION: Session = Session {
    arena_base: 64 << 30,
    arena_len: 4 * 2 * SEGMENT_SIZE,
};
const BASE: u64 = SESSION.arena_base + (1 << 20);

fn shadow() -> Shadow {
    Shadow::new(SESSION).expect("shadow")
}

#[test]
fn live_ranges_are_byte_exact_at_their_end() {
    let mut shadow = shadow();
    assert!(
        shadow.suspicious(BASE, 1, false),
        "nothing is live at first"
    );
    shadow.set_live(BASE, 44, true);
    assert!(!shadow.suspicious(BASE, 44, true));
    assert!(!shadow.suspicious(BASE + 43, 1, false));
    assert!(shadow.suspicious(BASE + 44, 1, false));
    assert!(shadow.suspicious(BASE + 41, 4, false));
    assert!(shadow.suspicious(BASE - 1, 2, false));
    shadow.set_dead(BASE, 44);
    assert!(shadow.suspicious(BASE + 16, 1, false));
}

#[test]
fn read_only_is_suspicious_for_writes_alone() {
    let mut shadow = shadow();
    shadow.set_live(BASE, 100, false);
    assert!(!shadow.suspicious(BASE, 100, false));
    assert!(shadow.suspicious(BASE + 99, 1, true));
}

#[test]
fn views_and_segments_are_told_apart() {
    let mut shadow = shadow();
    let second = SESSION.arena_base + 2 * SEGMENT_SIZE;
    shadow.set_live(second, 64, true);
    assert!(!shadow.suspicious(second, 64, true));
    assert!(
        shadow.suspicious(second + SEGMENT_SIZE, 1, false),
        "the host view"
    );
    assert!(
        shadow.suspicious(SESSION.arena_base, 1, false),
        "the first segment"
    );
    assert!(
        shadow.suspicious(second - 1, 2, false),
        "from the host view into it"
    );
    assert!(shadow.suspicious(0, 8, false) && shadow.suspicious(u64::MAX - 3, 8, false));
}

#[test]
fn large_ranges_come_and_go() {
    let mut shadow = shadow();
    let len = 512 << 20;
    shadow.set_live(BASE + 16, len, true);
    for offset in (0..len).step_by(1 << 20) {
        assert!(
            !shadow.suspicious(BASE + 16 + offset, 256, true),
            "{offset:#x}"
        );
    }
    assert!(
        shadow.suspicious(BASE + 16, LOOK_LIMIT + 1, true),
        "over the limit"
    );
    assert!(shadow.suspicious(BASE + 15, 1, false));
    shadow.set_live(BASE + 32 + len, 16, true);
    shadow.set_dead(BASE + 16, len);
    for offset in (0..len).step_by(4096) {
        assert!(
            shadow.suspicious(BASE + 16 + offset, 1, false),
            "{offset:#x}"
        );
    }
    assert!(
        !shadow.suspicious(BASE + 32 + len, 16, true),
        "the neighbour lives"
    );
}

#[test]
fn a_forked_child_sees_later_changes() {
    let mut shadow = shadow();
    let mut pipe = [0; 2];
    // SAFETY: the array has room for two descriptors.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    // SAFETY: the child only reads a pipe and the shadow, and exits.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let mut byte = 0u8;
        // SAFETY: one byte into a local; _exit is async-signal-safe.
        unsafe {
            libc::read(pipe[0], (&raw mut byte).cast(), 1);
            libc::_exit(i32::from(shadow.suspicious(BASE, 16, true)));
        }
    }
    shadow.set_live(BASE, 16, true);
    let mut status = 0;
    // SAFETY: wakes the child by one byte and waits for it.
    unsafe {
        libc::write(pipe[1], b"x".as_ptr().cast(), 1);
        libc::waitpid(pid, &mut status, 0);
        libc::close(pipe[0]);
        libc::close(pipe[1]);
    }
    assert_eq!(status, 0);
}

proptest! {
    #[test]
    fn agrees_with_a_naive_model(
        steps in prop::collection::vec((0u64..60, 0u64..400, 0u8..3), 1..12),
        looks in prop::collection::vec((0u64..1400, 1u64..300, any::<bool>()), 40),
    ) {
        let mut shadow = shadow();
        // 0 dead, 1 live, 2 read-only; the model rounds as the table does.
        let mut model = vec![0u8; 2048];
        for (granule, len, state) in steps {
            let start = granule * GRANULE;
            let end = (start + len).next_multiple_of(GRANULE);
            model[start as usize..end as usize].fill(0);
            if state == 0 {
                shadow.set_dead(BASE + start, len);
            } else {
                shadow.set_live(BASE + start, len, state == 1);
                model[start as usize..(start + len) as usize].fill(state);
            }
        }
        for (offset, len, write) in looks {
            let bytes = &model[offset as usize..(offset + len) as usize];
            let wrong = bytes.iter().any(|state| *state == 0 || write && *state == 2);
            prop_assert_eq!(shadow.suspicious(BASE + offset, len, write), wrong);
        }
    }
}
