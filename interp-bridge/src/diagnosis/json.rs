//! A diagnosis as the JSON that scripts rely on, with what the command line's report does not
//! have behind it: the allocation's number and bounds, frames as values, the thread.

use serde::{Serialize, Serializer};
use tracer_user::access::AccessKind;

use super::{Diagnosis, NativeFrame};
use crate::{memory::ViolationKind, report::Hex};

#[derive(Serialize)]
struct Shape<'a> {
    kind: ViolationKind,
    access: Option<AccessKind>,
    certain: bool,
    addr: Option<Hex>,
    size: Option<u64>,
    allocation: Option<&'a str>,
    offset: Option<i64>,
    allocation_id: Option<u64>,
    allocation_base: Option<Hex>,
    allocation_size: Option<u64>,
    ip: Option<Hex>,
    symbol: Option<&'a str>,
    source: Option<String>,
    instruction: Option<&'a str>,
    message: &'a str,
    backtrace: Vec<String>,
    frames: Vec<FrameShape<'a>>,
    tid: u32,
    function: Option<&'a str>,
    interpreter_stack: &'a [String],
    seq: Option<u64>,
    count: u64,
}

#[derive(Serialize)]
struct FrameShape<'a> {
    ip: Hex,
    symbol: &'a str,
    function: Option<&'a str>,
    module: Option<&'a str>,
    source: Option<String>,
}

impl Serialize for NativeFrame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        FrameShape::from(self).serialize(serializer)
    }
}

impl<'a> From<&'a NativeFrame> for FrameShape<'a> {
    fn from(frame: &'a NativeFrame) -> FrameShape<'a> {
        FrameShape {
            ip: Hex(frame.ip),
            symbol: &frame.symbol,
            function: frame.function.as_deref(),
            module: frame.module.as_deref(),
            source: frame.source.as_ref().map(ToString::to_string),
        }
    }
}

impl Serialize for Diagnosis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let allocation = self.allocation.as_ref();
        let site = self.site().map(FrameShape::from);
        Shape {
            kind: self.kind,
            access: self.access,
            certain: self.certain,
            addr: self.addr.map(Hex),
            size: self.size,
            allocation: allocation.and_then(|note| note.name.as_deref()),
            offset: allocation.map(|note| note.offset),
            allocation_id: allocation.map(|note| note.id.number()),
            allocation_base: allocation.map(|note| Hex(note.base)),
            allocation_size: allocation.and_then(|note| note.size),
            ip: site.as_ref().map(|site| site.ip),
            symbol: site.as_ref().map(|site| site.symbol),
            source: site.and_then(|site| site.source),
            instruction: self.instruction.as_deref(),
            message: &self.message,
            backtrace: self.backtrace.iter().map(ToString::to_string).collect(),
            frames: self.backtrace.iter().map(FrameShape::from).collect(),
            tid: self.thread,
            function: self.function.as_deref(),
            interpreter_stack: &self.interpreter_stack,
            seq: self.seq,
            count: self.count,
        }
        .serialize(serializer)
    }
}
