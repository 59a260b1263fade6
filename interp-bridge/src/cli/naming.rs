//! Names for addresses: symbols, source lines, native stacks.

use tracer_user::{
    decode::Decoded,
    resume::{
        Snapshot,
        safe::{self, Safe},
    },
    symbols::{Symbol, Symbols},
    unwind::{StackSnapshot, Unwinder},
};

use crate::{
    memory::Logged,
    report::{Hex, Stepped, Violation},
};

/// Frames shown of a native stack.
const FRAMES: usize = 32;

/// Puts names to addresses.
pub(super) struct Naming<'a> {
    symbols: Symbols,
    unwinder: Unwinder,
    snapshots: &'a [Snapshot],
    function: u64,
}

impl<'a> Naming<'a> {
    pub(super) fn new(snapshots: &'a [Snapshot], function: u64) -> Naming<'a> {
        Naming {
            symbols: Symbols::new(),
            unwinder: Unwinder::new(),
            snapshots,
            function,
        }
    }

    pub(super) fn violation(&mut self, logged: &Logged) -> Violation {
        let found = &logged.violation;
        let is_access = found.access.is_some();
        let symbol = (found.ip != 0).then(|| self.symbols.lookup(found.ip));
        Violation {
            kind: found.kind,
            access: found.access,
            certain: found.certain,
            addr: (is_access || found.addr != 0).then_some(Hex(found.addr)),
            size: (is_access && found.size != 0).then_some(found.size),
            allocation: found.allocation_name.clone(),
            offset: found.offset,
            ip: (found.ip != 0).then_some(Hex(found.ip)),
            symbol: symbol.as_ref().map(|symbol| symbol.to_string()),
            source: symbol
                .as_ref()
                .and_then(|symbol| symbol.source.as_ref().map(ToString::to_string)),
            instruction: (found.ip != 0).then(|| instruction_at(found.ip)).flatten(),
            message: found.message.clone(),
            backtrace: self.backtrace(found.ip, found.tid),
            count: logged.count,
        }
    }

    pub(super) fn stepped(&mut self, ip: u64, count: u64) -> Stepped {
        Stepped {
            ip: Hex(ip),
            symbol: self.symbols.lookup(ip).to_string(),
            instruction: instruction_at(ip),
            count,
        }
    }

    /// The native stack at an instruction, innermost first, as far as the function that was
    /// called.
    fn backtrace(&mut self, ip: u64, tid: u32) -> Vec<String> {
        if ip == 0 {
            return Vec::new();
        }
        let mut frames = vec![described(&self.symbols.lookup(ip))];
        let snapshot = self
            .snapshots
            .iter()
            .find(|snapshot| snapshot.regs.rip == ip && snapshot.tid == tid);
        if let Some(snapshot) = snapshot {
            let stack = StackSnapshot {
                regs: snapshot.regs,
                sp: snapshot.base,
                bytes: snapshot.stack.clone(),
            };
            let ours = ours();
            let stop = |address: u64| ours.contains(&address);
            let mut seen_function = false;
            for address in self.unwinder.unwind(&stack, &stop, FRAMES) {
                if seen_function {
                    break;
                }
                let symbol = self.symbols.lookup_return(address);
                seen_function = address.wrapping_sub(self.function) == symbol.offset;
                frames.push(described(&symbol));
            }
        }
        frames
    }
}

/// `w_oob+0x4 (w.c:12)`.
fn described(symbol: &Symbol) -> String {
    match &symbol.source {
        Some(source) => format!("{symbol} ({source})"),
        None => symbol.to_string(),
    }
}

/// Addresses of this program's own code: a native stack ends where it begins.
fn ours() -> std::ops::Range<u64> {
    let here = ours as *const () as u64;
    let mappings = tracer_user::modules::mappings().unwrap_or_default();
    tracer_user::modules::find(&mappings, here).map_or(0..0, |mapping| mapping.range.clone())
}

fn instruction_at(ip: u64) -> Option<String> {
    let mut bytes = [0; 15];
    let safe = Safe::promise();
    let read = safe::read_memory(safe, safe::process_id(safe), ip, &mut bytes);
    Decoded::parse(&bytes[..read], ip)
        .ok()
        .map(|decoded| decoded.text())
}
