//! Memory that native code may reach, by layout.
//!
//! # Safety
//! `dealloc` is unsafe as in `std::alloc::GlobalAlloc`: the pointer has to come from this
//! allocator and nobody may use it any more. Everything else works on addresses.
#![allow(unsafe_code)]

use std::{
    alloc::Layout,
    ptr::NonNull,
    sync::{Arc, Mutex, Weak},
};

use tracer_ebpf::{DELTA, SEGMENT_SIZE};
use tracer_user::backend::Backend;

use super::{DoorError, memory::DoorMemory, supervisor::Supervisor};
use crate::{
    arena::{Request, View},
    bridge::{Bridge, BridgeError, Core, Holder},
    memory::InterpreterMemory as _,
};

/// The interpreter's allocator. Its memory is zeroed or arbitrary, beside red zones, and not used
/// again for a while after it was freed.
pub struct IsolatedAlloc {
    pub(super) bridge: Bridge<DoorMemory>,
    /// Held by the outermost [`Supervisor::do_ffi`].
    pub(super) one: Mutex<()>,
    /// The thread that holds it.
    pub(super) holder: Holder,
    /// What callbacks find the bridge by.
    core: Weak<Core<DoorMemory>>,
    /// Where the arena is.
    arena: tracer_ebpf::Session,
}

impl IsolatedAlloc {
    /// An allocator with nothing in it, and this recorder, or the best that the host allows. With
    /// [`Backend::None`] nothing is traced, and native code gets addresses of the host view.
    ///
    /// # Errors
    /// What the host lacks, or that another one traces already.
    pub fn new(backend: Option<Backend>) -> Result<IsolatedAlloc, DoorError> {
        let memory = DoorMemory::new().map_err(BridgeError::from)?;
        let arena = memory.arena().session();
        let bridge = Bridge::over(memory, backend)?;
        Ok(IsolatedAlloc {
            core: Arc::downgrade(bridge.core()),
            bridge,
            one: Mutex::new(()),
            holder: Holder::default(),
            arena,
        })
    }

    /// The recorder in use.
    pub fn backend(&self) -> Backend {
        self.bridge.backend()
    }

    /// Memory for `layout`, in the host view: the interpreter reads and writes it there at any
    /// time. Null where there is none; a layout of size 0 gets an address of its own.
    pub fn alloc(&self, layout: Layout) -> *mut u8 {
        self.allocate(layout, false)
    }

    /// As [`alloc`](Self::alloc), filled with zeros.
    pub fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.allocate(layout, true)
    }

    fn allocate(&self, layout: Layout, zeroed: bool) -> *mut u8 {
        let request = Request {
            size: layout.size().max(1) as u64,
            align: layout.align() as u64,
            zeroed,
        };
        match self.bridge.memory().allocate(request) {
            Ok(native) => View::Host.address(native) as *mut u8,
            Err(error) => {
                tracing::warn!("no memory for native code: {error}");
                std::ptr::null_mut()
            }
        }
    }

    /// Gives memory back. Native code that still touches it shows in the events of that call.
    ///
    /// # Safety
    /// `ptr` must be what `alloc` returned for `layout`, and not be used any more.
    ///
    /// # Panics
    /// If it is no allocation of this allocator, or was freed before.
    pub unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        let native = (ptr as u64).wrapping_sub(DELTA);
        let freed = self.bridge.memory().free(native);
        assert!(freed, "{ptr:p} is no live allocation ({layout:?})");
    }

    /// Size in bytes of a page.
    pub fn page_size(&self) -> usize {
        4096
    }

    /// The address ranges that native code's accesses are traced in: first address and length in
    /// bytes, a multiple of the page size. They are inaccessible at all times, so there is nothing
    /// to protect before a call.
    pub fn pages(&self) -> impl Iterator<Item = (NonNull<u8>, usize)> {
        let base = self.arena.arena_base;
        let segments = self.bridge.memory().arena().views().segments();
        (0..segments as u64).filter_map(move |index| {
            let first = base + index * 2 * SEGMENT_SIZE;
            Some((NonNull::new(first as *mut u8)?, SEGMENT_SIZE as usize))
        })
    }

    /// The address by which native code knows the byte that the interpreter has at `ptr`: what
    /// pointers that are handed to native code, or stored where it can find them, have to be, and
    /// what events name. A pointer that is not into this allocator's memory stays as it is.
    pub fn native_addr(&self, ptr: *const u8) -> usize {
        let addr = ptr as u64;
        match self.bridge.view() {
            View::Native if self.is_ours(addr.wrapping_sub(DELTA)) => (addr - DELTA) as usize,
            _ => addr as usize,
        }
    }

    /// Where the interpreter has the byte that native code knows by `addr`; `None` where that is
    /// not memory of this allocator.
    pub fn host_ptr(&self, addr: usize) -> Option<*mut u8> {
        let native = match self.bridge.view() {
            View::Native => addr as u64,
            View::Host => (addr as u64).wrapping_sub(DELTA),
        };
        let ours = self.is_ours(native);
        ours.then(|| View::Host.address(native) as *mut u8)
    }

    fn is_ours(&self, native: u64) -> bool {
        self.arena.is_native(native)
    }

    /// Runs `body` as code of the interpreter that native code has called (a libffi closure): with
    /// all that native code has done so far, so that the interpreter can apply it first. The body
    /// may use the allocator, and make native calls of its own. If it panics, the native call
    /// ends, and the panic goes on behind it.
    ///
    /// # Safety
    /// The caller's frame and those below it, down to native code, may own nothing that has to be
    /// dropped.
    pub unsafe fn callback<T>(&self, body: impl FnOnce(Option<super::MemEvents>) -> T) -> T {
        // SAFETY: by the caller's promise; this frame owns nothing but `body`, which it hands on.
        unsafe {
            crate::callback::gate::from_native(&self.core, |_| {
                let events = Supervisor::take_events(self);
                Ok(body(events))
            })
        }
    }
}
