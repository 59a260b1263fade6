//! What is refused, what is left alone, and what calls that cannot be made here are planned as.

use syscalls::Sysno as S;
use tracer_user::access::AccessKind::{Read, Write};
use tracer_user::resume::safe::Safe;
use tracer_user::syscall::{self, Call, Plan, Reason, Scratch, Special, Touch};

use crate::slots::Slots;

/// Plans calls without making them.
struct Planner {
    slots: Slots,
    scratch: Box<Scratch>,
}

impl Planner {
    fn new() -> Planner {
        Planner {
            slots: Slots::new(),
            scratch: Box::new(bytemuck::Zeroable::zeroed()),
        }
    }

    fn native(&self, slot: usize) -> u64 {
        self.slots.addr(slot, true, 0)
    }

    fn put(&self, slot: usize, inside: bool, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.slots.put(slot, inside, 0, 0, &bytes);
        self.slots.addr(slot, inside, 0)
    }

    fn plan(&mut self, call: S, args: &[u64]) -> (Plan, Vec<Touch>) {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let call = Call {
            number: call as u64,
            args: all,
        };
        let mut touches = Vec::new();
        let arena = self.slots.session();
        let plan = syscall::prepare(Safe::promise(), &call, arena, &mut self.scratch, &mut |t| {
            touches.push(t);
        });
        (plan, touches)
    }

    fn refused(&mut self, call: S, args: &[u64]) -> Option<Reason> {
        match self.plan(call, args).0 {
            Plan::Refuse(refusal) => Some(refusal.reason),
            _ => None,
        }
    }

    /// Plans a call and finishes it with `result`: the plan, and all touches as
    /// `(writes, address, length, certain)`.
    fn told(&mut self, call: S, args: &[u64], result: i64) -> (Plan, Vec<(bool, u64, u64, bool)>) {
        let (plan, mut touches) = self.plan(call, args);
        if let Plan::Moved(moved) | Plan::Special(_, moved) = &plan {
            let (safe, arena) = (Safe::promise(), self.slots.session());
            syscall::finish(
                safe,
                arena,
                moved,
                result,
                &mut self.scratch,
                &mut |touch| {
                    touches.push(touch);
                },
            );
        }
        let told = touches.iter().map(|touch| {
            assert!(matches!(touch.kind, Read | Write));
            (touch.kind == Write, touch.addr, touch.len, touch.certain)
        });
        (plan, told.collect())
    }
}

#[test]
fn what_cannot_be_described_is_refused_by_name() {
    let mut planner = Planner::new();
    let native = planner.native(0);
    let base = planner.slots.session().arena_base;
    let holder = planner.put(
        1,
        false,
        &[0, native, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    let list = planner.put(2, false, &[holder]);
    for (call, args, reason) in [
        (S::read, vec![0, base - 8, 16], Reason::Straddles),
        (S::read, vec![0, native, 1 << 31], Reason::Straddles),
        (S::nanosleep, vec![native, base - 8], Reason::Straddles),
        (S::munmap, vec![native, 4096], Reason::Aimed),
        (S::munmap, vec![base - 4096, 8192], Reason::Aimed),
        (S::munmap, vec![base + (1 << 30), 4096], Reason::Aimed),
        (S::mprotect, vec![native, 4096, 3], Reason::Aimed),
        (S::mmap, vec![native, 4096, 3, 0x32], Reason::Aimed),
        (S::mremap, vec![native, 4096, 8192, 1], Reason::Aimed),
        (S::mremap, vec![4096, 4096, 8192, 3, native], Reason::Aimed),
        (S::madvise, vec![native, 4096, 4], Reason::Aimed),
        (S::madvise, vec![native, 4096, 9], Reason::Aimed),
        (
            S::prctl,
            vec![0x5356_4d41, 0, native, 4096, 0],
            Reason::Aimed,
        ),
        (S::prctl, vec![9999, native], Reason::UnlistedRequest),
        (S::prctl, vec![59, 1, 0, 0, native], Reason::Kept),
        (S::ioctl, vec![0, 0x1234, native], Reason::UnlistedRequest),
        (S::fcntl, vec![0, 9999, native], Reason::UnlistedRequest),
        (S::mbind, vec![4096, 4096, 1, native, 8, 0], Reason::Inside),
        (S::ioctl, vec![0, 0xc010_1234, native], Reason::Inside),
        (S::ioctl, vec![0, 0xc010_1234, holder], Reason::Inside),
        (S::setsockopt, vec![0, 1, 26, holder, 16], Reason::Inside),
        (
            S::setsockopt,
            vec![0, 0, 64, native, 16],
            Reason::UnlistedRequest,
        ),
        (
            S::getsockopt,
            vec![0, 0, 64, native, holder],
            Reason::UnlistedRequest,
        ),
        (S::set_robust_list, vec![native, 24], Reason::Kept),
        (S::rseq, vec![native, 32, 0, 0], Reason::Kept),
        (S::io_submit, vec![0, 1, native], Reason::Kept),
        (S::io_submit, vec![0, 1, list], Reason::Kept),
        (S::io_uring_setup, vec![8, native], Reason::Inside),
        (S::io_uring_register, vec![3, 0, holder, 1], Reason::Inside),
        (S::vmsplice, vec![0, holder, 1], Reason::Inside),
        (S::bpf, vec![0, holder, 64], Reason::Inside),
        (S::perf_event_open, vec![native], Reason::Inside),
        (S::keyctl, vec![2, 1, native], Reason::Inside),
        (S::ptrace, vec![1, 1, 0, native], Reason::Inside),
    ] {
        assert_eq!(
            planner.refused(call, &args),
            Some(reason),
            "{call} {args:x?}"
        );
    }
    let unlisted = Call {
        number: 100_000,
        args: [0, native, 0, 0, 0, 0],
    };
    let arena = planner.slots.session();
    let plan = syscall::prepare(
        Safe::promise(),
        &unlisted,
        arena,
        &mut planner.scratch,
        &mut |_| {},
    );
    assert!(matches!(plan, Plan::Refuse(refusal) if refusal.reason == Reason::Unlisted));
}

#[test]
fn what_is_only_in_registers_is_left_alone() {
    let mut planner = Planner::new();
    let native = planner.native(0);
    for (call, args) in [
        (S::getpid, vec![native; 6]),
        (S::close, vec![3, native, native]),
        (S::brk, vec![native]),
        (S::mmap, vec![native, 4096, 3, 0x22, native, 0]),
        (S::fcntl, vec![0, 1, native]),
        (S::ioctl, vec![0, 0x5451, native]),
        (S::keyctl, vec![3, 1, native, native, native]),
        (S::reboot, vec![0, 0, 0, native]),
        (S::ptrace, vec![0, native, native, native]),
        (S::epoll_ctl, vec![0, 2, 0, native]),
        (S::kill, vec![0, 0, native]),
        (S::readv, vec![0, native, 5000]),
        (S::clock_nanosleep, vec![0, 1, 4096, native]),
    ] {
        let (plan, touches) = planner.plan(call, &args);
        let unmoved = match &plan {
            Plan::Pass => true,
            Plan::Moved(moved) => call == S::readv && moved.args[1] == native + (1 << 30),
            _ => false,
        };
        assert!(unmoved && touches.is_empty(), "{call}: {plan:?}");
    }
}

#[test]
fn more_pointers_than_fit_are_refused() {
    let mut planner = Planner::new();
    let native = planner.native(0);
    // Message headers that all share one vector of a thousand buffers.
    let vector: Vec<u64> = (0..1000).flat_map(|_| [native, 0]).collect();
    let vector = planner.put(1, false, &vector);
    let header = [0, 0, vector, 1000, 0, 0, 0, 0];
    let headers = planner.put(2, false, &header.repeat(64));
    let args = [0, headers, 64];
    assert_eq!(
        planner.refused(S::sendmmsg, &args),
        Some(Reason::ScratchFull)
    );
    // What was taken for it is free again.
    assert_eq!(planner.refused(S::sendmmsg, &[0, headers, 8]), None);
}

#[test]
fn clone_tells_where_thread_ids_are_written() {
    let mut planner = Planner::new();
    let native = planner.native(0);
    let (parent, child) = (native, native + 8);
    // CLONE_VM, PARENT_SETTID, CHILD_CLEARTID, CHILD_SETTID.
    let (vm, settid, cleartid, child_settid) = (0x100, 0x10_0000, 0x20_0000, 0x100_0000);
    let wrote = |addr| (true, addr, 4, true);
    let moved = 1 << 30;

    let args = [vm | settid | cleartid, native + 4096, parent, child, native];
    let (plan, told) = planner.told(S::clone, &args, 7);
    let Plan::Special(Special::Clone, call) = plan else {
        panic!("{plan:?}");
    };
    let expected = [args[0], args[1], parent + moved, child + moved, native, 0];
    assert_eq!(call.args, expected);
    assert_eq!(told, [wrote(parent)]);
    assert_eq!(planner.told(S::clone, &args, -11).1, []);
    let both = [vm | child_settid, 0, parent, child];
    assert_eq!(planner.told(S::clone, &both, 7).1, [wrote(child)]);
    let copy = [child_settid, 0, parent, child];
    assert_eq!(planner.told(S::clone, &copy, 7).1, []);

    let flags = vm | settid | cleartid | child_settid;
    let fields = [flags, 0, child, parent, 0, native, 4096, native, 0, 0, 0];
    let args = planner.put(1, false, &fields);
    let (plan, told) = planner.told(S::clone3, &[args, 88], 7);
    assert!(matches!(plan, Plan::Special(Special::Clone3, moved) if moved.args[0] != args));
    assert_eq!(told, [wrote(parent), wrote(child)]);
    let inside = planner.put(1, true, &fields);
    let (_, told) = planner.told(S::clone3, &[inside, 88], 7);
    assert_eq!(
        told,
        [(false, inside, 88, true), wrote(parent), wrote(child)]
    );
}

#[test]
fn many_futexes_can_be_waited_for() {
    let mut planner = Planner::new();
    let native = planner.native(0);
    let waiters: Vec<u64> = (0..128).flat_map(|at| [0, native + 4 * at, 2]).collect();
    let list = planner.put(1, true, &waiters);
    let (plan, told) = planner.told(S::futex_waitv, &[list, 128], 0);
    assert!(matches!(plan, Plan::Moved(_)), "{plan:?}");
    let words = (0..128).map(|at| (false, native + 4 * at, 4, true));
    let whole = (false, list, 128 * 24, true);
    assert_eq!(
        told,
        std::iter::once(whole).chain(words).collect::<Vec<_>>()
    );
}

#[test]
fn masks_to_wait_with_can_be_replaced() {
    let mut planner = Planner::new();
    let mask = planner.put(1, false, &[5]);
    let block = planner.put(2, false, &[mask, 8]);
    let look = |addr: u64| {
        let at = std::ptr::with_exposed_provenance::<u64>(addr as usize);
        crate::case::word(at)
    };
    for (call, args, index) in [
        (S::rt_sigsuspend, vec![mask, 8], 0),
        (S::ppoll, vec![0, 0, 0, mask, 8], 3),
        (S::epoll_pwait, vec![3, 0, 1, 0, mask, 8], 4),
        (S::epoll_pwait2, vec![3, 0, 1, 0, mask, 8], 4),
        (S::pselect6, vec![0, 0, 0, 0, 0, block], 5),
        (S::io_pgetevents, vec![0, 0, 0, 0, 0, block], 5),
    ] {
        let (plan, _) = planner.plan(call, &args);
        let Plan::Special(Special::Masked(given), mut moved) = plan else {
            panic!("{call}: {plan:?}");
        };
        assert_eq!((given.addr, given.size), (mask, 8), "{call}");
        assert_eq!(moved.args[index], args[index], "{call}");
        moved.replace_mask(&mut planner.scratch, 77).unwrap();
        let mut at = moved.args[index];
        if args[index] == block {
            at = look(at);
        }
        assert_eq!(look(at), 77, "{call}");
        assert_eq!(look(mask), 5);
    }
    let without = planner.plan(S::ppoll, &[0, 0, 0, 0, 8]).0;
    assert!(matches!(without, Plan::Pass), "{without:?}");
}

#[test]
fn locks_and_advice_go_to_the_host_view() {
    let mut planner = Planner::new();
    let native = planner.native(0);
    for (call, args) in [
        (S::mlock, vec![native, 64]),
        (S::munlock, vec![native, 64]),
        (S::msync, vec![native, 4096, 4]),
        (S::madvise, vec![native, 4096, 16]),
        (S::futex, vec![native, 1, 1]),
    ] {
        let (plan, told) = planner.told(call, &args, 0);
        assert!(
            matches!(plan, Plan::Moved(moved) if moved.args[0] == native + (1 << 30)),
            "{call}: {plan:?}"
        );
        assert_eq!(told, [], "{call}");
    }
}
