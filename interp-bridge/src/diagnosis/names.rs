//! From addresses to names: symbols, source lines, native stacks, instructions.

use std::{collections::HashMap, ops::Range};

use tracer_user::{
    decode::Decoded,
    resume::safe::{self, Safe},
    symbols::{Symbol, Symbols},
    unwind::{StackSnapshot, Unwinder},
};

use super::{AllocationNote, Context, Diagnosis, NativeFrame};
use crate::memory::{Allocation, Logged, Violation, ViolationKind};

/// Most frames of a native stack.
const FRAMES: usize = 32;

/// Names addresses, and remembers what it looked up. After a library was unloaded make a new one.
pub struct Diagnoser {
    symbols: Symbols,
    unwinder: Unwinder,
    instructions: HashMap<u64, Option<String>>,
    /// This program's own code: a native stack ends where it begins.
    own: Option<Range<u64>>,
}

impl Default for Diagnoser {
    fn default() -> Diagnoser {
        Diagnoser::new()
    }
}

impl Diagnoser {
    /// Knows nothing yet.
    pub fn new() -> Diagnoser {
        Diagnoser {
            symbols: Symbols::new(),
            unwinder: Unwinder::new(),
            instructions: HashMap::new(),
            own: None,
        }
    }

    /// Puts names to a violation.
    pub fn diagnose(&mut self, logged: &Logged, context: &Context<'_>) -> Diagnosis {
        let found = &logged.violation;
        let is_access = found.access.is_some();
        Diagnosis {
            kind: found.kind,
            access: found.access,
            certain: found.certain,
            addr: (is_access || found.addr != 0).then_some(found.addr),
            size: (is_access && found.size != 0).then_some(found.size),
            allocation: allocation(found, context),
            backtrace: self.backtrace(found.ip, found.tid, context),
            // Where a callback was called from, the address is that behind the call.
            instruction: (found.kind != ViolationKind::FreedCallback)
                .then(|| self.instruction(found.ip))
                .flatten(),
            thread: found.tid,
            function: context.function.map(str::to_owned),
            interpreter_stack: context.interpreter_stack.to_vec(),
            seq: found.seq,
            count: logged.count,
            message: found.message.clone(),
        }
    }

    /// What is at a code address.
    pub fn frame(&mut self, ip: u64) -> NativeFrame {
        NativeFrame::new(&self.symbols.lookup(ip))
    }

    /// The text of the instruction at an address, where there is one.
    pub fn instruction(&mut self, ip: u64) -> Option<String> {
        let text = || {
            let mut bytes = [0; 15];
            let safe = Safe::promise();
            let read = safe::read_memory(safe, safe::process_id(safe), ip, &mut bytes);
            let decoded = Decoded::parse(&bytes[..read], ip).ok()?;
            Some(decoded.text())
        };
        if ip == 0 {
            return None;
        }
        self.instructions.entry(ip).or_insert_with(text).clone()
    }

    /// The instruction and the native stack below it, innermost first.
    fn backtrace(&mut self, ip: u64, tid: u32, context: &Context<'_>) -> Vec<NativeFrame> {
        if ip == 0 {
            return Vec::new();
        }
        let mut frames = vec![self.frame(ip)];
        let mut copies = context.snapshots.iter();
        let copy = copies.find(|copy| copy.regs.rip == ip && copy.tid == tid);
        let Some(copy) = copy else { return frames };
        let stack = StackSnapshot {
            regs: copy.regs,
            sp: copy.base,
            bytes: copy.stack.clone(),
        };
        let own = self.own.get_or_insert_with(own_code).clone();
        let stop = |address: u64| own.contains(&address);
        for address in self.unwinder.unwind(&stack, &stop, FRAMES) {
            let symbol = self.symbols.lookup_return(address);
            frames.push(NativeFrame::new(&symbol));
            if is_in(&symbol, address, context.address) {
                break;
            }
        }
        frames
    }
}

/// Whether a return address is in the function that was called.
fn is_in(symbol: &Symbol, address: u64, function: Option<u64>) -> bool {
    function.is_some_and(|function| address.wrapping_sub(function) == symbol.offset)
}

fn allocation(found: &Violation, context: &Context<'_>) -> Option<AllocationNote> {
    let id = found.allocation?;
    let record = context.memory.and_then(|memory| memory.get(id));
    let from_base = |record: &Allocation| found.addr.wrapping_sub(record.base()) as i64;
    let offset = found.offset.or_else(|| record.map(from_base))?;
    Some(AllocationNote {
        id,
        name: found.allocation_name.clone(),
        base: found.addr.wrapping_sub_signed(offset),
        size: record.map(Allocation::size),
        offset,
    })
}

fn own_code() -> Range<u64> {
    let here = own_code as *const () as u64;
    let mappings = tracer_user::modules::mappings().unwrap_or_default();
    tracer_user::modules::find(&mappings, here).map_or(0..0, |mapping| mapping.range.clone())
}
