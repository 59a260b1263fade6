//! Entries: what slots hold. Each adds its return address and goes on to its hook.
//!
//! ```text
//!  call malloc@plt ─► slot ─► malloc: mov rsi, [rsp]; jmp malloc_hook ─► back to native code
//! ```
//!
//! # Safety
//! An entry has no frame, but for the operators that throw and `mmap`, which put back what they
//! pushed. The register that it fills is the one behind the function's own arguments, which the
//! caller does not expect to keep.
#![allow(unsafe_code)]

use std::arch::naked_asm;

use super::c::*;
use super::lines::{getdelim_hook, getline_hook};
use super::maps::{mmap_hook, munmap_hook};
use super::operators::{delete_hook, new_aligned_hook, new_hook};
use super::resize::{realloc_hook, reallocarray_hook};
use super::strings::{strdup_hook, strndup_hook};
use crate::native::Function;
use crate::native::real::REAL;

/// More than any memory: the real `operator new` fails, and tells native code as it does.
const TOO_MUCH: i64 = i64::MAX;

/// The entry that stands in for a function.
pub(in crate::native) fn entry(function: Function) -> u64 {
    use Function as F;
    let entry = match function {
        F::Malloc => malloc as *const (),
        F::Calloc => calloc as *const (),
        F::Realloc => realloc as *const (),
        F::ReallocArray => reallocarray as *const (),
        F::AlignedAlloc => aligned_alloc as *const (),
        F::PosixMemalign => posix_memalign as *const (),
        F::Memalign => memalign as *const (),
        F::Valloc => valloc as *const (),
        F::Pvalloc => pvalloc as *const (),
        F::Strdup | F::StrdupOld => strdup as *const (),
        F::Strndup | F::StrndupOld => strndup as *const (),
        F::UsableSize => usable_size as *const (),
        F::Getline => getline as *const (),
        F::Getdelim | F::GetdelimOld => getdelim as *const (),
        F::Free => free as *const (),
        F::Mmap | F::Mmap64 => mmap as *const (),
        F::Munmap => munmap as *const (),
        F::New => new as *const (),
        F::NewNothrow => new_nothrow as *const (),
        F::NewAligned => new_aligned as *const (),
        F::NewAlignedNothrow => new_aligned_nothrow as *const (),
        F::NewArray => new_array as *const (),
        F::NewArrayNothrow => new_array_nothrow as *const (),
        F::NewArrayAligned => new_array_aligned as *const (),
        F::NewArrayAlignedNothrow => new_array_aligned_nothrow as *const (),
        F::Delete => delete as *const (),
        F::DeleteNothrow => delete_nothrow as *const (),
        F::DeleteSized => delete_sized as *const (),
        F::DeleteAligned => delete_aligned as *const (),
        F::DeleteAlignedNothrow => delete_aligned_nothrow as *const (),
        F::DeleteSizedAligned => delete_sized_aligned as *const (),
        F::DeleteArray => delete_array as *const (),
        F::DeleteArrayNothrow => delete_array_nothrow as *const (),
        F::DeleteArraySized => delete_array_sized as *const (),
        F::DeleteArrayAligned => delete_array_aligned as *const (),
        F::DeleteArrayAlignedNothrow => delete_array_aligned_nothrow as *const (),
        F::DeleteArraySizedAligned => delete_array_sized_aligned as *const (),
    };
    entry as u64
}

/// Entries: `name(hook, register for the return address)`.
macro_rules! entries {
    ($($name:ident => $hook:expr, $register:literal;)*) => {
        $(
            #[unsafe(naked)]
            unsafe extern "C" fn $name() {
                naked_asm!(
                    concat!("mov ", $register, ", [rsp]"),
                    "jmp {hook}",
                    hook = sym $hook,
                )
            }
        )*
    };
}

entries! {
    malloc => malloc_hook, "rsi";
    calloc => calloc_hook, "rdx";
    realloc => realloc_hook, "rdx";
    reallocarray => reallocarray_hook, "rcx";
    aligned_alloc => aligned_hook::<{ Function::AlignedAlloc as usize }>, "rdx";
    memalign => aligned_hook::<{ Function::Memalign as usize }>, "rdx";
    posix_memalign => posix_memalign_hook, "rcx";
    valloc => valloc_hook, "rsi";
    pvalloc => pvalloc_hook, "rsi";
    strdup => strdup_hook, "rsi";
    strndup => strndup_hook, "rdx";
    usable_size => usable_size_hook, "rsi";
    getline => getline_hook, "rcx";
    getdelim => getdelim_hook, "r8";
    free => free_hook, "rsi";
    munmap => munmap_hook, "rdx";
    new_nothrow => new_hook::<{ Function::NewNothrow as usize }>, "rdx";
    new_aligned_nothrow => new_aligned_hook::<{ Function::NewAlignedNothrow as usize }>, "rcx";
    new_array_nothrow => new_hook::<{ Function::NewArrayNothrow as usize }>, "rdx";
    new_array_aligned_nothrow =>
        new_aligned_hook::<{ Function::NewArrayAlignedNothrow as usize }>, "rcx";
    delete => delete_hook::<{ Function::Delete as usize }>, "rcx";
    delete_nothrow => delete_hook::<{ Function::DeleteNothrow as usize }>, "rcx";
    delete_sized => delete_hook::<{ Function::DeleteSized as usize }>, "rcx";
    delete_aligned => delete_hook::<{ Function::DeleteAligned as usize }>, "rcx";
    delete_aligned_nothrow => delete_hook::<{ Function::DeleteAlignedNothrow as usize }>, "rcx";
    delete_sized_aligned => delete_hook::<{ Function::DeleteSizedAligned as usize }>, "rcx";
    delete_array => delete_hook::<{ Function::DeleteArray as usize }>, "rcx";
    delete_array_nothrow => delete_hook::<{ Function::DeleteArrayNothrow as usize }>, "rcx";
    delete_array_sized => delete_hook::<{ Function::DeleteArraySized as usize }>, "rcx";
    delete_array_aligned => delete_hook::<{ Function::DeleteArrayAligned as usize }>, "rcx";
    delete_array_aligned_nothrow =>
        delete_hook::<{ Function::DeleteArrayAlignedNothrow as usize }>, "rcx";
    delete_array_sized_aligned =>
        delete_hook::<{ Function::DeleteArraySizedAligned as usize }>, "rcx";
}

/// Entries of the operators that throw: where the hook has no memory, the real operator is asked
/// for more than there is, with the return address of native code on top of the stack.
macro_rules! throwing {
    ($($name:ident => $function:expr, $hook:expr, $register:literal;)*) => {
        $(
            #[unsafe(naked)]
            unsafe extern "C" fn $name() {
                naked_asm!(
                    ".cfi_startproc",
                    concat!("mov ", $register, ", [rsp]"),
                    // The alignment, and 16-aligned again.
                    "push rsi",
                    ".cfi_adjust_cfa_offset 8",
                    "call {hook}",
                    "pop rsi",
                    ".cfi_adjust_cfa_offset -8",
                    "test rax, rax",
                    "jz 2f",
                    "ret",
                    "2:",
                    "movabs rdi, {much}",
                    "jmp qword ptr [rip + {real} + {offset}]",
                    ".cfi_endproc",
                    hook = sym $hook,
                    much = const TOO_MUCH,
                    real = sym REAL,
                    offset = const ($function as usize * 8),
                )
            }
        )*
    };
}

throwing! {
    new => Function::New, new_hook::<{ Function::New as usize }>, "rdx";
    new_array => Function::NewArray, new_hook::<{ Function::NewArray as usize }>, "rdx";
    new_aligned =>
        Function::NewAligned, new_aligned_hook::<{ Function::NewAligned as usize }>, "rcx";
    new_array_aligned =>
        Function::NewArrayAligned,
        new_aligned_hook::<{ Function::NewArrayAligned as usize }>, "rcx";
}

/// `mmap` has all six argument registers in use: its return address goes on the stack.
#[unsafe(naked)]
unsafe extern "C" fn mmap() {
    naked_asm!(
        ".cfi_startproc",
        // 16-aligned at the call, with the seventh argument on top.
        "push qword ptr [rsp]",
        ".cfi_adjust_cfa_offset 8",
        "call {hook}",
        "add rsp, 8",
        ".cfi_adjust_cfa_offset -8",
        "ret",
        ".cfi_endproc",
        hook = sym mmap_hook,
    )
}
