//! zlib's `compress`: with its own heap where it always is, or in the arena too.
//!
//! # Safety
//! `compress` is called with its own signature, and buffers as long as it is told.
#![allow(unsafe_code)]

use std::ffi::OsStr;

use super::{
    BenchError,
    library::{Piece, Prepared},
    memory::allocate_as,
};
use crate::{
    bridge::{Bridge, BridgeError, CallOptions, CallOutcome},
    ctype::CType,
    ffi::{self, NativeCall, Signature, Value},
    memory::{AllocId, AllocRequest, Init},
    native::{NativeHeapMode, NativeHeapWatch},
};

/// Where zlib's own memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zlib {
    /// Only source and target are in the arena.
    Buffers,
    /// Its hash tables and windows are there, too.
    Heap,
}

/// zlib's name for the loader.
const NAME: &str = "libz.so.1";

struct Compress<'b> {
    bridge: &'b Bridge,
    call: NativeCall,
    values: [Value; 4],
    target: AllocId,
    len: AllocId,
    /// Size of the target in bytes.
    room: u64,
    _watch: Option<NativeHeapWatch>,
}

/// Text that compresses about as text does.
fn source(size: u64) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "the ", "arena ", "of ", "a ", "call ", "is ", "memory ", "that ", "native ", "code ",
        "reads, ", "writes ", "and ", "frees; ", "every ", "byte.\n",
    ];
    let mut text = Vec::with_capacity(size as usize + 16);
    let mut state = 1u64;
    while (text.len() as u64) < size {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        text.extend_from_slice(WORDS[(state >> 60) as usize].as_bytes());
    }
    text.truncate(size as usize);
    text
}

/// What `compress` may need, in bytes.
fn bound(size: u64) -> u64 {
    size + size / 1000 + 64
}

/// The library, and a prepared call of `compress`.
fn compress() -> Result<(ffi::Library, NativeCall), String> {
    let library = ffi::Library::load(OsStr::new(NAME)).map_err(|error| error.to_string())?;
    let function = library
        .function("compress")
        .map_err(|error| error.to_string())?;
    let pointers = [CType::ptr(), CType::ptr(), CType::ptr(), CType::u64()];
    let signature = Signature::new(pointers, CType::i32());
    let call = NativeCall::of(signature, &function).map_err(|error| error.to_string())?;
    Ok((library, call))
}

impl Piece for Zlib {
    fn text(&self) -> &'static str {
        match self {
            Zlib::Buffers => "zlib: compress 1 MiB",
            Zlib::Heap => "zlib: compress 1 MiB, its heap in the arena",
        }
    }

    fn sizes(&self) -> &'static [u64] {
        &[1 << 10, 2 << 10, 8 << 10, 64 << 10, 1 << 20]
    }

    fn words(&self, size: u64) -> String {
        match size >> 20 {
            0 => format!("{} KiB", size >> 10),
            mebi => format!("{mebi} MiB"),
        }
    }

    fn plain(&self, size: u64) -> Result<Vec<u8>, String> {
        let (_library, mut call) = compress()?;
        let source = source(size);
        let mut target = vec![0u8; bound(size) as usize];
        let mut len = target.len() as u64;
        let values = [
            Value::pointer(target.as_mut_ptr() as u64),
            Value::pointer((&raw mut len) as u64),
            Value::pointer(source.as_ptr() as u64),
            Value::from(size),
        ];
        call.set_values(&values)
            .map_err(|error| error.to_string())?;
        // SAFETY: see the module.
        let status = unsafe { call.run() }.map_err(|error| error.to_string())?;
        if status != Value::from(0i32) {
            return Err(format!("compress returned {}", status.describe()));
        }
        target.truncate(len as usize);
        Ok(target)
    }

    fn prepare<'b>(
        &'b self,
        bridge: &'b Bridge,
        size: u64,
    ) -> Result<Box<dyn Prepared + 'b>, BenchError> {
        let (library, call) = compress().map_err(BenchError::Library)?;
        let text = source(size);
        let buffer = |size, init| {
            let request = AllocRequest {
                size,
                align: 64,
                init,
                ..AllocRequest::default()
            };
            allocate_as(bridge, &request)
        };
        let (target, target_at) = buffer(bound(size), Init::Uninit)?;
        let (len, len_at) = buffer(8, Init::Zeroed)?;
        let (from, from_at) = buffer(size, Init::Bytes(&text))?;
        let watch = match self {
            Zlib::Buffers => None,
            Zlib::Heap => Some(
                NativeHeapWatch::begin(bridge, &[library.path()], NativeHeapMode::Arena)
                    .map_err(|error| BenchError::Library(error.to_string()))?,
            ),
        };
        Ok(Box::new(Compress {
            bridge,
            call,
            values: [
                Value::pointer_to(target_at, target),
                Value::pointer_to(len_at, len),
                Value::pointer_to(from_at, from),
                Value::from(size),
            ],
            target,
            len,
            room: bound(size),
            _watch: watch,
        }))
    }
}

impl Prepared for Compress<'_> {
    fn run(&mut self) -> Result<CallOutcome, BenchError> {
        let room = self.room.into();
        let written = self.bridge.memory().write_scalar(self.len, 0, room, 8);
        written.map_err(BridgeError::from)?;
        self.call
            .set_values(&self.values)
            .map_err(BridgeError::from)?;
        // SAFETY: see the module.
        Ok(unsafe { self.bridge.run(&mut self.call, CallOptions::default()) }?)
    }

    fn result(&self) -> Result<Vec<u8>, BenchError> {
        let memory = self.bridge.memory();
        let len = memory
            .read_scalar(self.len, 0, 8)
            .map_err(BridgeError::from)? as u64;
        let read = memory.read_bytes(self.target, 0..len);
        Ok(read.map_err(BridgeError::from)?)
    }
}
