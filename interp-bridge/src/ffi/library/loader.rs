//! The dynamic loader's side: opening, finding, closing.
//!
//! # Safety
//! Loading a library runs its constructors, and that is what the user asks for by naming it; the
//! same goes for unloading and destructors. Handles are used under the lock of the library's
//! state, which has none any more once it is closed. The structures that the loader fills
//! (`link_map`, `Dl_info`, `dl_phdr_info`) are read while the handle is open, and copied.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, c_int, c_void};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};
use tracer_user::{session::TraceSession, symbols::Mark};

/// The public part of the loader's `struct link_map` (link.h).
#[repr(C)]
struct LinkMap {
    l_addr: usize,
    l_name: *const libc::c_char,
    l_ld: *const c_void,
    l_next: *const LinkMap,
    l_prev: *const LinkMap,
}

/// A library that the loader has loaded.
pub(super) struct Loaded {
    pub(super) handle: usize,
    /// What to add to the file's own addresses.
    pub(super) bias: u64,
    /// Address of its dynamic section, which lies in it whatever its lowest segment is.
    pub(super) dynamic: u64,
    /// The loader's name for the file; empty for the program itself.
    pub(super) name: PathBuf,
}

/// Opens a library by name or path.
pub(super) fn open(name: &OsStr) -> Result<Loaded, String> {
    // SAFETY: constructors run, as the module's docs say.
    let handle = unsafe { Handle::open(Some(name), RTLD_NOW | RTLD_LOCAL) };
    let handle = handle.map_err(|e| words(&e))?.into_raw();
    let mut map = MaybeUninit::<*const LinkMap>::uninit();
    // SAFETY: the handle is open, and RTLD_DI_LINKMAP stores one pointer.
    let status = unsafe { libc::dlinfo(handle, libc::RTLD_DI_LINKMAP, map.as_mut_ptr().cast()) };
    if status != 0 {
        return Err("the loader does not say where it loaded it".to_owned());
    }
    // SAFETY: dlinfo succeeded, so it stored a pointer to the handle's link map, which the
    // loader keeps while the handle is open; l_name is a C string or null.
    let (bias, dynamic, name) = unsafe {
        let map = &*map.assume_init();
        let name = (!map.l_name.is_null()).then(|| CStr::from_ptr(map.l_name).to_bytes().to_vec());
        (map.l_addr as u64, map.l_ld as u64, name.unwrap_or_default())
    };
    Ok(Loaded {
        handle: handle as usize,
        bias,
        dynamic,
        name: PathBuf::from(OsStr::from_bytes(&name)),
    })
}

/// `dlclose`: whether the loader took the handle back.
///
/// The caller has seen to it that nobody uses the library through this handle any more.
pub(super) fn close(handle: usize) -> bool {
    // SAFETY: a handle of `open` that was not closed yet; see the module for what runs.
    let closed = unsafe { libc::dlclose(handle as *mut c_void) == 0 };
    // What comes to lie there is other code.
    TraceSession::code_changed();
    closed
}

/// `dlsym`, or `dlvsym` for a version: the address of a symbol.
pub(super) fn symbol(handle: usize, name: &str, version: Option<&str>) -> Result<u64, String> {
    let text = |text: &str| CString::new(text).map_err(|e| e.to_string());
    let symbol = text(name)?;
    let version = version.map(text).transpose()?;
    let handle = handle as *mut c_void;
    // SAFETY: the handle is open, the names are C strings, and the result is only kept as a
    // number.
    let found = unsafe {
        libc::dlerror();
        match &version {
            None => libc::dlsym(handle, symbol.as_ptr()),
            Some(version) => libc::dlvsym(handle, symbol.as_ptr(), version.as_ptr()),
        }
    };
    match found.is_null() {
        true => Err("it has no address".to_owned()),
        false => Ok(found as u64),
    }
}

/// File and base address of the loaded object that holds `address`.
pub(super) fn object_at(address: u64) -> Option<(PathBuf, u64)> {
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: dladdr takes any address, and fills `info` if it answers other than 0.
    let info = unsafe {
        if libc::dladdr(address as *const c_void, info.as_mut_ptr()) == 0 {
            return None;
        }
        info.assume_init()
    };
    if info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: a non-null dli_fname is a C string of the loader's, alive while the object is.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    let path = PathBuf::from(OsStr::from_bytes(name.to_bytes()));
    Some((path.canonicalize().unwrap_or(path), info.dli_fbase as u64))
}

/// Whether the object loaded with `bias` whose dynamic section is at `dynamic` has these marks:
/// whether it is what the file says that they were read from.
pub(super) fn has_marks(bias: u64, dynamic: u64, marks: &[Mark]) -> bool {
    let segments = segments(dynamic);
    marks.iter().all(|mark| {
        let start = bias.wrapping_add(mark.address);
        let Some(end) = start.checked_add(mark.len) else {
            return false;
        };
        let inside = |s: &Range<u64>| s.start <= start && end <= s.end;
        if !segments.iter().any(inside) {
            return false;
        }
        // SAFETY: the bytes lie in a readable segment of a library that the caller has open, and
        // that nobody writes.
        let bytes = unsafe { std::slice::from_raw_parts(start as *const u8, mark.len as usize) };
        mark.is(bytes)
    })
}

/// The readable segments that no one writes, of the loaded object that holds `dynamic`.
fn segments(dynamic: u64) -> Vec<Range<u64>> {
    struct Search {
        dynamic: u64,
        found: Vec<Range<u64>>,
    }
    unsafe extern "C" fn look(
        info: *mut libc::dl_phdr_info,
        _: usize,
        search: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader gives a record that is good for this call, and the pointer that
        // `dl_iterate_phdr` was given, which is to a `Search` that nobody else uses.
        let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
        // SAFETY: the record names its program headers, which stay mapped during the call.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let range = |h: &libc::Elf64_Phdr| {
            let start = info.dlpi_addr.wrapping_add(h.p_vaddr);
            start..start.saturating_add(h.p_memsz)
        };
        let loads = || headers.iter().filter(|h| h.p_type == libc::PT_LOAD);
        if !loads().any(|h| range(h).contains(&search.dynamic)) {
            return 0;
        }
        let is_fixed =
            |h: &&libc::Elf64_Phdr| h.p_flags & libc::PF_R != 0 && h.p_flags & libc::PF_W == 0;
        search.found = loads().filter(is_fixed).map(range).collect();
        1
    }
    let mut search = Search {
        dynamic,
        found: Vec::new(),
    };
    // SAFETY: `look` takes what it is given here, and `search` lives until it returns.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    search.found
}

/// dlerror's text out of libloading's error.
fn words(error: &libloading::Error) -> String {
    use std::error::Error;
    let text = error
        .source()
        .map_or_else(|| error.to_string(), |s| s.to_string());
    text.trim_matches('"').to_owned()
}
