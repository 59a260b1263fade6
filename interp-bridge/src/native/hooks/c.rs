//! `malloc`, `calloc`, `free` and those that are much like them; what the other hooks share.
//!
//! # Safety
//! As in [`super`].
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use crate::native::active::{Active, active, is_arena};
use crate::native::heap::MALLOC_ALIGN;
use crate::native::record::Caller;
use crate::native::request::{Allocated, Release, Released, Wanted};
use crate::native::{Function, NativeHeapMode, real};

const PAGE: usize = 4096;

pub(super) const fn function(index: usize) -> Function {
    Function::ALL[index]
}

pub(super) fn errno() -> *mut c_int {
    // SAFETY: takes nothing.
    unsafe { libc::__errno_location() }
}

pub(super) fn set_errno(value: c_int) {
    // SAFETY: the address of this thread's errno is always valid.
    unsafe { *errno() = value };
}

/// Who calls. Only inside of `Active::with`, where asking for the thread is not native code's.
pub(super) fn caller(function: Function, site: u64) -> Caller {
    // SAFETY: takes nothing.
    let tid = unsafe { libc::gettid() } as u32;
    Caller {
        function,
        site,
        tid,
    }
}

/// Memory for native code; null, and no word of errno, where there is none.
pub(super) fn allocate(
    function: Function,
    size: usize,
    align: usize,
    zeroed: bool,
    site: u64,
) -> *mut c_void {
    let wanted = |caller| Wanted {
        size: size as u64,
        align: align as u64,
        zeroed,
        caller,
    };
    let Some(active) = active() else {
        return real::allocate(size, align, zeroed);
    };
    if active.mode == NativeHeapMode::Arena {
        let made =
            active.with(|heap, memory| heap.allocate(memory, &wanted(caller(function, site))));
        match made {
            Some(Allocated::At(address)) => return address as *mut c_void,
            Some(Allocated::Failed) => return std::ptr::null_mut(),
            Some(Allocated::Real) | None => {}
        }
    }
    let block = real::allocate(size, align, zeroed);
    adopt(active, function, block, size, align, site);
    block
}

/// Registers a block that a real function made, if it made one.
pub(super) fn adopt(
    active: &Active,
    function: Function,
    block: *mut c_void,
    size: usize,
    align: usize,
    site: u64,
) {
    if !block.is_null() {
        active.with(|heap, memory| {
            let wanted = Wanted {
                size: size as u64,
                align: align as u64,
                zeroed: function == Function::Calloc,
                caller: caller(function, site),
            };
            heap.adopt(memory, block as u64, &wanted);
        });
    }
}

/// [`allocate`], with errno as C has it: set where there is no memory, else as it was.
pub(super) fn allocate_c(
    function: Function,
    size: usize,
    align: usize,
    zeroed: bool,
    site: u64,
) -> *mut c_void {
    // SAFETY: as in `set_errno`.
    let before = unsafe { *errno() };
    let block = allocate(function, size, align, zeroed, site);
    set_errno(if block.is_null() {
        libc::ENOMEM
    } else {
        before
    });
    block
}

pub(super) fn no_memory() -> *mut c_void {
    set_errno(libc::ENOMEM);
    std::ptr::null_mut()
}

pub(super) unsafe extern "C" fn malloc_hook(size: usize, site: u64) -> *mut c_void {
    allocate_c(Function::Malloc, size, MALLOC_ALIGN as usize, false, site)
}

pub(super) unsafe extern "C" fn calloc_hook(count: usize, size: usize, site: u64) -> *mut c_void {
    match count.checked_mul(size) {
        Some(size) => allocate_c(Function::Calloc, size, MALLOC_ALIGN as usize, true, site),
        None => no_memory(),
    }
}

pub(super) unsafe extern "C" fn aligned_hook<const F: usize>(
    align: usize,
    size: usize,
    site: u64,
) -> *mut c_void {
    if align.is_power_of_two() {
        return allocate_c(function(F), size, align, false, site);
    }
    let block = real::odd_alignment(function(F), align, size);
    if let Some(active) = active() {
        adopt(
            active,
            function(F),
            block,
            size,
            MALLOC_ALIGN as usize,
            site,
        );
    }
    block
}

pub(super) unsafe extern "C" fn posix_memalign_hook(
    to: *mut *mut c_void,
    align: usize,
    size: usize,
    site: u64,
) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<usize>()) {
        return libc::EINVAL;
    }
    // SAFETY: as in `set_errno`.
    let before = unsafe { *errno() };
    let block = allocate(Function::PosixMemalign, size, align, false, site);
    set_errno(before);
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: native code's pointer, which may be one into the arena: an access like any other.
    unsafe { to.write_volatile(block) };
    0
}

pub(super) unsafe extern "C" fn valloc_hook(size: usize, site: u64) -> *mut c_void {
    allocate_c(Function::Valloc, size, PAGE, false, site)
}

pub(super) unsafe extern "C" fn pvalloc_hook(size: usize, site: u64) -> *mut c_void {
    match size.checked_next_multiple_of(PAGE) {
        Some(size) => allocate_c(Function::Pvalloc, size, PAGE, false, site),
        None => no_memory(),
    }
}

pub(super) unsafe extern "C" fn usable_size_hook(block: *mut c_void, _site: u64) -> usize {
    if block.is_null() {
        return 0;
    }
    let known = active().and_then(|active| active.with(|heap, _| heap.size_of(block as u64)));
    match known.flatten() {
        Some(size) => size as usize,
        None if is_arena(block as u64) => 0,
        // SAFETY: a block that libc made, as far as anyone can tell.
        None => unsafe { libc::malloc_usable_size(block) },
    }
}

pub(super) unsafe extern "C" fn free_hook(block: *mut c_void, site: u64) {
    // SAFETY: native code's promise, handed on.
    unsafe { give_back(Function::Free, block, [0; 2], None, None, site) };
}

/// # Safety
/// As the function; a block that may not be given back is told and kept.
pub(super) unsafe fn give_back(
    function: Function,
    block: *mut c_void,
    args: [usize; 2],
    size: Option<u64>,
    align: Option<u64>,
    site: u64,
) {
    if block.is_null() {
        return;
    }
    let addr = block as u64;
    let released = active().and_then(|active| {
        active.with(|heap, memory| {
            let release = Release {
                addr,
                by: caller(function, site),
                size,
                align,
            };
            heap.release(memory, &release)
        })
    });
    match released {
        Some(Released::Done | Released::Refused) => {}
        Some(Released::Expired(blocks)) => {
            for block in blocks {
                // SAFETY: native code gave it back, and it waited here since.
                unsafe { real::free(block) };
            }
        }
        // Whoever forked this process, or watches no more, has the memory.
        None if is_arena(addr) => {}
        Some(Released::Foreign) | None => {
            let function = match function {
                Function::Realloc | Function::ReallocArray => Function::Free,
                other => other,
            };
            // SAFETY: native code's promise.
            unsafe { real::release(function, addr, args) };
        }
    }
}
