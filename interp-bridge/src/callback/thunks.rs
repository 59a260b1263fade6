//! Code memory for the thunks of typed callbacks.
//!
//! ```text
//!  chunk (64 KiB), mapped twice: to be written · · · · · · · to be executed
//!  slot: in use ─ freed ─► a jump to `freed`, for QUARANTINE further slots ─► in use again
//! ```
//! A freed slot is overwritten by code that ends the native call, so that calling a freed callback
//! is found instead of running what happens to be there.
//!
//! # Safety
//! Chunks are mapped for good. A slot is written by its owner only, the thunk's maker while it is
//! in use and this module while it is not; native code that runs in a slot while it is freed is in
//! the callback that is being freed, which its owner has promised not to do.
#![allow(unsafe_code)]

use std::{
    arch::naked_asm,
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError, Weak},
};

use closure_ffi::jit_alloc::{JitAlloc, JitAllocError, ProtectJitAccess};
use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create},
    mm::{MapFlags, ProtFlags, mmap},
};

use super::{Leave, gate};
use crate::memory::Memory;

/// How many freed callbacks of a kind are kept, so that calling one of them is found.
pub const QUARANTINE: usize = 4096;

const CHUNK: usize = 64 << 10;
/// Slots are multiples of this, in bytes.
const UNIT: usize = 64;
/// A thunk begins at most so many bytes behind its slot, for alignment.
const SLED: usize = 16;

/// The slots of the process.
pub(super) struct Thunks {
    state: Mutex<State>,
}

struct State {
    /// By address where it is executed: address where it is written, and length.
    slots: Option<HashMap<usize, (usize, usize)>>,
    /// Slots to be used again, by length.
    vacant: Vec<(usize, Vec<usize>)>,
    quarantine: VecDeque<usize>,
    /// What is left of the newest chunk: executed, written, length.
    rest: (usize, usize, usize),
}

pub(super) static THUNKS: Thunks = Thunks {
    state: Mutex::new(State {
        slots: None,
        vacant: Vec::new(),
        quarantine: VecDeque::new(),
        rest: (0, 0, 0),
    }),
};

impl State {
    fn take(&mut self, len: usize) -> Result<(usize, usize), JitAllocError> {
        let list = self.vacant.iter_mut().find(|(size, _)| *size == len);
        if let Some(slot) = list.and_then(|(_, slots)| slots.pop()) {
            let written = self.slots.get_or_insert_default()[&slot].0;
            return Ok((slot, written));
        }
        if self.rest.2 < len {
            self.rest = map_chunk(len.next_multiple_of(CHUNK)).map_err(|_| JitAllocError)?;
        }
        let (executed, written, left) = self.rest;
        self.rest = (executed + len, written + len, left - len);
        self.slots
            .get_or_insert_default()
            .insert(executed, (written, len));
        Ok((executed, written))
    }

    fn retire(&mut self, slot: usize) {
        self.quarantine.push_back(slot);
        if self.quarantine.len() <= QUARANTINE {
            return;
        }
        let Some(oldest) = self.quarantine.pop_front() else {
            return;
        };
        let len = self.slots.get_or_insert_default()[&oldest].1;
        match self.vacant.iter_mut().find(|(size, _)| *size == len) {
            Some((_, slots)) => slots.push(oldest),
            None => self.vacant.push((len, vec![oldest])),
        }
    }
}

impl JitAlloc for Thunks {
    fn alloc(&self, size: usize) -> Result<(*const u8, *mut u8), JitAllocError> {
        let len = size.max(UNIT).next_multiple_of(UNIT);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (executed, written) = state.take(len)?;
        Ok((executed as *const u8, written as *mut u8))
    }

    unsafe fn release(&self, rx_ptr: *const u8) -> Result<(), JitAllocError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = state.slots.get_or_insert_default();
        let Some((written, _)) = slots.get(&(rx_ptr as usize)).copied() else {
            return Err(JitAllocError);
        };
        let code = tombstone();
        // SAFETY: the slot is as long as the code at least, and the caller's no more.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), written as *mut u8, code.len()) };
        state.retire(rx_ptr as usize);
        Ok(())
    }

    unsafe fn protect_jit_memory(&self, _: *const u8, _: usize, _: ProtectJitAccess) {}

    unsafe fn flush_instruction_cache(&self, _: *const u8, _: usize) {}
}

/// A new chunk, mapped twice: where it is executed, where it is written, its length.
fn map_chunk(len: usize) -> rustix::io::Result<(usize, usize, usize)> {
    let file = memfd_create("ffitrace-thunks", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, len as u64)?;
    let map = |rights| {
        // SAFETY: new mappings of a file that nobody else knows, at addresses of the kernel's
        // choice.
        unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                rights,
                MapFlags::SHARED,
                &file,
                0,
            )
        }
    };
    let executed = map(ProtFlags::READ | ProtFlags::EXEC)?;
    let written = map(ProtFlags::READ | ProtFlags::WRITE)?;
    Ok((executed as usize, written as usize, len))
}

/// A sled, for the thunk began somewhere in it, and `jmp [rip]` to [`freed`].
fn tombstone() -> [u8; SLED + 14] {
    let mut code = [0x90; SLED + 14];
    code[SLED..SLED + 6].copy_from_slice(&[0xff, 0x25, 0, 0, 0, 0]);
    code[SLED + 6..].copy_from_slice(&(freed as *const () as u64).to_le_bytes());
    code
}

/// Where a call of a freed callback arrives.
#[unsafe(naked)]
unsafe extern "C" fn freed() {
    naked_asm!(
        ".cfi_startproc",
        "sub rsp, 8",
        ".cfi_adjust_cfa_offset 8",
        "call {report}",
        "ud2",
        ".cfi_endproc",
        report = sym report_freed,
    )
}

extern "C" fn report_freed() -> ! {
    // SAFETY: neither this frame nor the one above it owns anything.
    unsafe { gate::from_native::<(), Memory>(&Weak::new(), |_| Err(Leave::Freed)) };
    std::process::abort()
}
