//! The real functions behind the hooks.
//!
//! # Safety
//! The table holds the addresses of functions of the C library, or of the C++ one's operators, as
//! the loader resolved them for the library whose slots were written. Those stay loaded. Each is
//! called with the signature that C and C++ give it.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Function;

pub(super) const COUNT: usize = Function::ALL.len();

/// By [`Function::index`]; 0 where it is not known.
pub(super) static REAL: [AtomicUsize; COUNT] = [const { AtomicUsize::new(0) }; COUNT];

/// Looks up the functions of the C library, once or again.
pub(super) fn find() {
    for function in Function::ALL.iter().filter(|f| !f.is_operator()) {
        let slot = &REAL[function.index()];
        if slot.load(Ordering::Relaxed) == 0
            && let Some(address) = look_up(libc::RTLD_DEFAULT, *function)
        {
            slot.store(address as usize, Ordering::Release);
        }
    }
}

/// The address of a function, 0 if it is not known.
pub(super) fn address(function: Function) -> u64 {
    REAL[function.index()].load(Ordering::Acquire) as u64
}

/// Takes an operator's address from the first slot that holds it; false where another one is
/// known.
pub(super) fn learn(function: Function, address: u64) -> bool {
    let slot = &REAL[function.index()];
    let known = slot.compare_exchange(0, address as usize, Ordering::AcqRel, Ordering::Acquire);
    known.is_ok() || known == Err(address as usize)
}

/// What the loader finds under the function's name for an object that is loaded.
pub(super) fn resolve(path: &Path, function: Function) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    if let Some(address) = look_up(libc::RTLD_DEFAULT, function) {
        return Some(address);
    }
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: with RTLD_NOLOAD nothing is loaded and no code runs; the handle is given back.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY);
        if handle.is_null() {
            return None;
        }
        let found = look_up(handle, function);
        libc::dlclose(handle);
        found
    }
}

fn look_up(handle: *mut c_void, function: Function) -> Option<u64> {
    let name = CString::new(function.symbol()).ok()?;
    // SAFETY: a C string, and a handle that is open or one of the special ones.
    let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
    (!address.is_null()).then_some(address as u64)
}

macro_rules! real {
    ($function:expr, $signature:ty) => {{
        let address = REAL[$function.index()].load(Ordering::Acquire);
        debug_assert_ne!(address, 0, "{}", $function.symbol());
        // SAFETY: see the module; hooks of a function are only reached through slots that held
        // the address that is in the table.
        unsafe { std::mem::transmute::<usize, $signature>(address) }
    }};
}

/// `malloc`, `calloc` or `memalign`, as `align` and `zeroed` need.
pub(super) fn allocate(size: usize, align: usize, zeroed: bool) -> *mut c_void {
    // SAFETY: these take any numbers; `align` is a power of two.
    unsafe {
        if align > super::heap::MALLOC_ALIGN as usize {
            libc::memalign(align, size)
        } else if zeroed {
            libc::calloc(1, size)
        } else {
            libc::malloc(size)
        }
    }
}

/// `free`.
///
/// # Safety
/// The block must be one of the real heap's, live, and nobody's any more.
pub(super) unsafe fn free(block: u64) {
    // SAFETY: as the caller promises.
    unsafe { libc::free(block as *mut c_void) };
}

/// A function that gives memory back, with the arguments that it has.
///
/// # Safety
/// As native code promises by its call.
pub(super) unsafe fn release(function: Function, block: u64, args: [usize; 2]) {
    let real = real!(function, unsafe extern "C" fn(*mut c_void, usize, usize));
    // SAFETY: as the caller promises; arguments beyond those of the signature are in registers
    // that the function does not look at.
    unsafe { real(block as *mut c_void, args[0], args[1]) };
}

/// `realloc`.
///
/// # Safety
/// As native code promises by its call.
pub(super) unsafe fn realloc(block: u64, size: usize) -> *mut c_void {
    // SAFETY: as the caller promises.
    unsafe { libc::realloc(block as *mut c_void, size) }
}

/// `aligned_alloc`, `memalign`: what this C library makes of an alignment that is none.
pub(super) fn odd_alignment(function: Function, align: usize, size: usize) -> *mut c_void {
    let real = real!(function, unsafe extern "C" fn(usize, usize) -> *mut c_void);
    // SAFETY: takes any numbers.
    unsafe { real(align, size) }
}

/// `getdelim`.
///
/// # Safety
/// As native code promises by its call; the line is null or a block of the real heap.
pub(super) unsafe fn getdelim(
    line: *mut *mut c_char,
    size: *mut usize,
    delimiter: c_int,
    stream: *mut libc::FILE,
) -> isize {
    type GetDelim =
        unsafe extern "C" fn(*mut *mut c_char, *mut usize, c_int, *mut libc::FILE) -> isize;
    let real = real!(Function::Getdelim, GetDelim);
    // SAFETY: as the caller promises.
    unsafe { real(line, size, delimiter, stream) }
}
