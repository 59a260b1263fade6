//! What lies at an address that the native heap does not know.
//!
//! libc allocates for its callers by itself (`getline`, `asprintf`, `realpath`), and a library's
//! constructors run before its calls are seen. So an unknown address may well be a heap's, and is
//! taken for one unless it is plain that it cannot be.
//!
//! # Safety
//! The C library is asked for the calling thread's own stack, in structures of this frame.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ops::Range;
use std::path::PathBuf;

use tracer_user::modules::{self, Mapping};

use super::objects::LoadedObject;

/// What an address belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// Memory that an allocator may have taken.
    Heap,
    /// The stack of the calling thread or of the program's first.
    Stack,
    /// A file that is mapped: the static data or the code of a library.
    File(PathBuf),
    /// Nothing.
    Unmapped,
}

/// The process's mappings, read anew where an address is not in a known one.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    known: Vec<Mapping>,
    /// Objects that were loaded at the beginning: their zeroed data has no file of its own. The
    /// loader is not asked later, for it may be at work in another thread.
    objects: Vec<LoadedObject>,
}

impl Mappings {
    pub(super) fn new(objects: Vec<LoadedObject>) -> Mappings {
        Mappings {
            known: Vec::new(),
            objects,
        }
    }

    /// What is at an address. A mapping that was replaced by another kind since it was last read
    /// is told as what it was.
    pub(super) fn look(&mut self, addr: u64) -> Foreign {
        let object = self.objects.iter().find(|o| o.range.contains(&addr));
        if let Some(object) = object {
            return Foreign::File(object.path.clone());
        }
        if modules::find(&self.known, addr).is_none() {
            self.known = modules::mappings().unwrap_or_default();
        }
        let Some(mapping) = modules::find(&self.known, addr) else {
            return Foreign::Unmapped;
        };
        let path = mapping.path.as_os_str().as_encoded_bytes();
        if path == b"[stack]" {
            return Foreign::Stack;
        }
        if !path.is_empty() && path != b"[heap]" && !path.starts_with(b"[anon") {
            return Foreign::File(mapping.path.clone());
        }
        // Only where it may be the stack: asking takes a while.
        let local = 0u8;
        let here = std::ptr::from_ref(&local) as u64;
        if mapping.range.contains(&here) && own_stack().is_some_and(|s| s.contains(&addr)) {
            return Foreign::Stack;
        }
        Foreign::Heap
    }
}

/// The calling thread's stack. A mapping may hold more than that: neighbours are merged.
fn own_stack() -> Option<Range<u64>> {
    // SAFETY: the attributes are filled in before they are read, and given back once.
    unsafe {
        let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return None;
        }
        let (mut base, mut size) = (std::ptr::null_mut(), 0);
        let status = libc::pthread_attr_getstack(attributes.as_ptr(), &mut base, &mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        let base = base as u64;
        (status == 0).then_some(base..base + size as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ZEROED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    static DATA: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);

    #[test]
    fn kinds_of_memory() {
        let mut mappings = Mappings::new(super::super::objects::loaded());
        let local = 1u8;
        let boxed = Box::new([0u8; 100]);
        let at = |pointer: *const u8| pointer as u64;
        // Tests run in threads of their own.
        assert_eq!(mappings.look(at(&raw const local)), Foreign::Stack);
        assert_eq!(mappings.look(at(boxed.as_ptr())), Foreign::Heap);
        assert_eq!(mappings.look(8), Foreign::Unmapped);
        let program = std::env::current_exe().expect("this program");
        for data in [&DATA, &ZEROED] {
            let found = mappings.look(std::ptr::from_ref(data) as u64);
            assert_eq!(found, Foreign::File(program.clone()));
        }
    }
}
