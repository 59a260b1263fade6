//! The eBPF programs of ffitrace. Thin: they copy what only the kernel sees into the ring, count,
//! and leave all judgement to `tracer-user`.
//!
//! ```text
//!  tp_btf/page_fault_user   ─► probes::fault   ─► FaultRecord, KnownFaultRecord
//!                                                                    (native code → arena)
//!  tp_btf/page_fault_kernel ─► probes::fault   ─► KernelFaultRecord  (system call → arena)
//!  uprobe, uretprobe        ─► probes::call    ─► CallRecord         (outermost call only)
//!                                   │
//!                              probes::maps: KNOWN, COUNTERS, CALLS, RECORDS
//! ```
//!
//! Built by `cargo xtask build-ebpf` for `bpfel-unknown-none`; the result is committed.
#![no_std]
#![no_main]
// `core` has no atomic add for BPF, so probes::maps writes the instruction.
#![feature(asm_experimental_arch)]

mod probes;

/// Needed to link; the verifier refuses a program that could reach it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
