//! Stacks of code that was compiled with and without frame pointers.
#![allow(unsafe_code)]

use super::*;
use crate::modules::testing::Library;

const SOURCE: &str = r#"
    #include <stdint.h>
    #include <string.h>
    struct snap { uint64_t gpr[16]; uint64_t rip; uint64_t returns[4]; char stack[32768]; } snap;
    #define NOTE(n) snap.returns[n] = (uint64_t)__builtin_return_address(0)

    __attribute__((noinline)) static long leaf(long a) {
        NOTE(0);
        __asm__ volatile(
            "mov %%rax, 0(%0)\n mov %%rcx, 8(%0)\n mov %%rdx, 16(%0)\n mov %%rbx, 24(%0)\n"
            "mov %%rsp, 32(%0)\n mov %%rbp, 40(%0)\n mov %%rsi, 48(%0)\n mov %%rdi, 56(%0)\n"
            "mov %%r8, 64(%0)\n mov %%r9, 72(%0)\n mov %%r10, 80(%0)\n mov %%r11, 88(%0)\n"
            "mov %%r12, 96(%0)\n mov %%r13, 104(%0)\n mov %%r14, 112(%0)\n"
            "mov %%r15, 120(%0)\n lea 0f(%%rip), %%rax\n 0: mov %%rax, 128(%0)\n"
            :: "r"(&snap) : "rax", "memory");
        memcpy(snap.stack, (void *)snap.gpr[4], sizeof snap.stack);
        return a * 3;
    }
    __attribute__((noinline)) static long inner(long a, volatile char *room) {
        NOTE(1);
        char buffer[200 + (a & 15)];   /* a frame of unknown size needs a frame pointer */
        memset(buffer, (int)a, sizeof buffer);
        *room = buffer[a];
        return leaf(a + 1) + buffer[3];
    }
    __attribute__((noinline)) static long middle(long a, long b, long c) {
        NOTE(2);
        volatile char room[1000];
        return inner(a + b, room) * c + room[0] + inner(a, room);
    }
    __attribute__((noinline)) long outer(long a) {
        NOTE(3);
        return middle(a, a + 1, a + 2) + a;
    }
    long snap_size(void) { return sizeof snap; }
"#;

#[repr(C)]
struct Snap {
    gpr: [u64; 16],
    rip: u64,
    returns: [u64; 4],
    stack: [u8; 32768],
}

/// Runs the C code in this thread and returns its snapshot and true return addresses.
///
/// The thread is a fresh one with a known stack, so that copying 32 KiB upwards is safe.
fn snapshot(flags: &'static [&'static str]) -> (StackSnapshot, [u64; 4], Library) {
    std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(move || {
            // Puts the snapshot well below the top of the stack.
            let room = std::hint::black_box([0u8; 40_000]);
            let result = run(flags);
            std::hint::black_box(room);
            result
        })
        .expect("a thread")
        .join()
        .expect("no panic")
}

#[inline(never)]
fn run(flags: &[&str]) -> (StackSnapshot, [u64; 4], Library) {
    let library = Library::compile("chain", SOURCE, flags);
    let handle = library.load();
    let outer = Library::symbol(handle, c"outer");
    let snap = Library::symbol(handle, c"snap") as *const Snap;
    // SAFETY: `outer` has this signature and only touches its own statics and stack.
    let outer: extern "C" fn(i64) -> i64 = unsafe { std::mem::transmute(outer as usize) };
    outer(5);
    // SAFETY: `snap` is the library's static of this layout, written by the call above.
    let snap = unsafe { &*snap };
    let regs = Regs {
        gpr: snap.gpr,
        rip: snap.rip,
        rflags: 0,
    };
    let snapshot = StackSnapshot {
        regs,
        sp: snap.gpr[4],
        bytes: snap.stack.to_vec(),
    };
    // The unwinder reads the file, so it has to stay.
    (snapshot, snap.returns, library)
}

fn returns_are_found(flags: &'static [&'static str]) {
    let (snapshot, returns, _library) = snapshot(flags);
    let mut unwinder = Unwinder::new();
    let found = unwinder.unwind(&snapshot, &|_| false, 64);
    assert!(
        found.len() > 4,
        "{found:x?}, expected {returns:x?} and the callers in Rust"
    );
    assert_eq!(found[..4], returns);

    // Whose frames are they: stop before the first that is not the library's.
    let own = |addr: u64| addr == returns[3];
    assert_eq!(unwinder.unwind(&snapshot, &own, 64), returns[..3]);
    assert_eq!(unwinder.unwind(&snapshot, &|_| false, 2), returns[..2]);

    // Half a stack gives half a backtrace, not a wrong one.
    let cut = StackSnapshot {
        bytes: snapshot.bytes[..600].to_vec(),
        ..snapshot.clone()
    };
    let some = unwinder.unwind(&cut, &|_| false, 64);
    assert!(some.len() < 4 && returns.starts_with(&some), "{some:x?}");
}

#[test]
fn without_frame_pointers() {
    returns_are_found(&["-O2", "-fomit-frame-pointer"]);
}

#[test]
fn with_frame_pointers() {
    returns_are_found(&["-O2", "-fno-omit-frame-pointer"]);
}

#[test]
fn a_call_through_a_null_pointer() {
    let (mut snapshot, returns, _library) = snapshot(&["-O2"]);
    // As if `leaf` had called address 0: the return address is on top of the stack.
    let top = snapshot.regs.gpr[4] - 8;
    let rip = snapshot.regs.rip;
    snapshot.bytes.splice(0..0, rip.to_le_bytes());
    snapshot.sp = top;
    snapshot.regs.gpr[4] = top;
    snapshot.regs.rip = 0;
    let found = Unwinder::new().unwind(&snapshot, &|_| false, 5);
    assert_eq!(found[0], rip);
    assert_eq!(found[1..5], returns);
    assert!(Unwinder::new().unwind(&snapshot, &|_| true, 5).is_empty());
    assert!(Unwinder::new().unwind(&snapshot, &|_| false, 0).is_empty());
}

#[test]
fn nonsense_ends_at_once() {
    let regs = Regs {
        gpr: [u64::MAX; 16],
        rip: u64::MAX,
        rflags: 0,
    };
    let snapshot = StackSnapshot {
        regs,
        sp: u64::MAX,
        bytes: vec![1, 2, 3],
    };
    assert!(Unwinder::new().unwind(&snapshot, &|_| false, 64).is_empty());
}
