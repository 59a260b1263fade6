//! Machine code with known addresses and registers, to fault and to be called.

use std::arch::naked_asm;

/// What [`known_write`] has in its registers at the faulting instruction, but for rdi and rsp.
pub(crate) const KNOWN: [u64; 16] = [
    0xa0a0_0000_0000_0000, // rax
    0x0000_0000_0000_0003, // rcx: the index
    0xa0a0_0000_0000_0002, // rdx
    0xa0a0_0000_0000_0003, // rbx
    0,                     // rsp
    0xa0a0_0000_0000_0005, // rbp
    0xa0a0_0000_0000_0006, // rsi
    0,                     // rdi: the base
    0xa0a0_0000_0000_0008,
    0xa0a0_0000_0000_0009,
    0xa0a0_0000_0000_000a,
    0xa0a0_0000_0000_000b,
    0xa0a0_0000_0000_000c,
    0xa0a0_0000_0000_000d,
    0xa0a0_0000_0000_000e,
    0xa0a0_0000_0000_000f,
];

unsafe extern "C" {
    /// The instruction of [`known_write`] that faults.
    safe static known_write_site: [u8; 5];
}

/// Address of the instruction of [`known_write`] that faults.
pub(crate) fn known_write_ip() -> u64 {
    (&raw const known_write_site) as u64
}

/// `mov [base + 3*4 + 0x40], rax` with `KNOWN` registers and DF set. Writes rsp to `*sp`.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn known_write(base: u64, sp: *mut u64) {
    naked_asm!(
        "push rbx; push rbp; push r12; push r13; push r14; push r15",
        "mov [rsi], rsp",
        "mov rax, 0xa0a0000000000000",
        "mov ecx, 3",
        "lea rdx, [rax + 2]",
        "lea rbx, [rax + 3]",
        "lea rbp, [rax + 5]",
        "lea rsi, [rax + 6]",
        "lea r8, [rax + 8]",
        "lea r9, [rax + 9]",
        "lea r10, [rax + 10]",
        "lea r11, [rax + 11]",
        "lea r12, [rax + 12]",
        "lea r13, [rax + 13]",
        "lea r14, [rax + 14]",
        "lea r15, [rax + 15]",
        "std",
        ".globl known_write_site",
        "known_write_site: mov [rdi + 4*rcx + 0x40], rax",
        "cld",
        "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
        "ret",
    )
}

/// Length in bytes of the load in [`read_byte`] and of the store in [`write_byte`].
pub(crate) const BYTE_INSN: u64 = 2;

/// Loads the byte at `addr`.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn read_byte(addr: u64) -> u8 {
    naked_asm!("mov al, [rdi]", "ret")
}

/// Stores a byte at `addr`.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn write_byte(addr: u64) {
    naked_asm!("mov [rdi], al", "ret")
}

/// Loads the byte at `addr` from `depth` calls of itself down, and returns `depth`.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn recurse(depth: u64, addr: u64) -> u64 {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "test rdi, rdi",
        "jz 2f",
        "push rdi",
        "push rdi",
        "dec rdi",
        "call {recurse}",
        "pop rax",
        "pop rax",
        "pop rbp",
        "ret",
        "2: mov cl, [rsi]",
        "xor eax, eax",
        "pop rbp",
        "ret",
        recurse = sym recurse,
    )
}

/// Calls [`leaves`], which goes back to here without returning.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn call_left_without_return() {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "call {leaves}",
        "ud2",
        ".globl left_without_return",
        "left_without_return:",
        "mov rsp, rbp",
        "pop rbp",
        "ret",
        leaves = sym leaves,
    )
}

/// Jumps into the frame of [`call_left_without_return`], as a handler that ends a call does.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn leaves() {
    naked_asm!("push rax", "jmp left_without_return")
}

/// Returns its first argument plus its sixth.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn add6(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> u64 {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "lea rax, [rdi + r9]",
        "pop rbp",
        "ret"
    )
}

/// Begins as a function does that is compiled for patching.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn patchable() {
    naked_asm!(".byte 0x0f, 0x1f, 0x44, 0x00, 0x00", "ret")
}

/// The same behind a landing mark.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn patchable_landing() {
    naked_asm!("endbr64", ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00", "ret")
}

/// Returns its argument, behind a landing mark.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn landing(value: u64) -> u64 {
    naked_asm!("endbr64", "push rbp", "mov rax, rdi", "pop rbp", "ret")
}
