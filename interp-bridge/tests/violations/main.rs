//! What happens to calls that break rules: they are stopped before the access where that is asked
//! for, they end and the interpreter goes on, and what was found has names.
//!
//! Signal handlers belong to the process, so these tests take turns. Without the rights for it,
//! the `ebpf` recorder is left out by name.
//!
//! # Safety
//! Native code here is functions of this file and of a library made for it, which get the
//! addresses that they expect; what they do wrong on purpose stays inside the arena, or ends the
//! call.
#![allow(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

mod endings;
mod names;
mod stop;

use std::ffi::c_void;

use interp_bridge::{
    bridge::{Bridge, CallOptions, CallOutcome, StopAt},
    memory::{AllocId, Init},
};

use common::{IN_PROCESS, Native, buffer, turn, within};

/// A bridge with each recorder that can stop native code and be had here.
fn each(body: impl Fn(Bridge)) {
    common::each(IN_PROCESS, body);
}

fn allocate(bridge: &Bridge, bytes: &[u8], mutable: bool) -> (AllocId, u64) {
    let id = buffer(bridge, bytes.len() as u64, Init::Bytes(bytes), mutable);
    (id, bridge.address(id).expect("an address"))
}

fn bytes(bridge: &Bridge, id: AllocId) -> Vec<u8> {
    let memory = bridge.memory();
    let size = memory.get(id).expect("known").size();
    memory.read_bytes(id, 0..size).expect("live")
}

fn call<T>(bridge: &Bridge, f: Native, data: &mut T, stop: StopAt) -> CallOutcome {
    let options = CallOptions { stop, ..within(20) };
    // SAFETY: each test gives its function the data that it expects; none of them owns anything.
    unsafe { bridge.call(f, std::ptr::from_mut(data).cast(), options) }.expect("a call")
}

/// What the functions work on.
#[repr(C)]
struct Work {
    at: *mut u8,
    from: *const u8,
    len: usize,
    /// How far it came.
    done: u32,
}

impl Work {
    fn on(at: u64, len: usize) -> Work {
        Work {
            at: at as *mut u8,
            from: std::ptr::null(),
            len,
            done: 0,
        }
    }
}

/// Writes bytes one by one.
unsafe extern "C" fn fill(data: *mut c_void) {
    // SAFETY: the tests give it a `Work` whose bytes are in the arena.
    unsafe {
        let work = &mut *data.cast::<Work>();
        for index in 0..work.len {
            work.at.add(index).write_volatile(7);
            work.done += 1;
        }
    }
}
