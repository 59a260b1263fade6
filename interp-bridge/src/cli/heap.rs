//! `--native-heap`: the library's own heap in the arena, and what the report says of it.

use std::collections::BTreeSet;

use tracer_user::symbols::Symbols;

use super::engine::{EngineError, Need};
use crate::bridge::Bridge;
use crate::ffi::Function;
use crate::memory::{AllocId, Memory};
use crate::native::{Caller, InterposeError, NativeAllocation, NativeHeapMode, NativeHeapWatch};
use crate::report::Hex;
use crate::report::heap::{Leak, MAX_LEAKS, NativeHeap};

/// Most allocations of the library that are shown for being in violations.
const MAX_SHOWN: usize = 20;

impl From<InterposeError> for EngineError {
    fn from(error: InterposeError) -> EngineError {
        EngineError {
            need: Need::Environment,
            what: format!("--native-heap: {error}"),
            help: "leave out --native-heap, or name another library".to_owned(),
        }
    }
}

/// Puts the heap of a function's library into the arena, from now on.
pub(super) fn begin(bridge: &Bridge, function: &Function) -> Result<NativeHeapWatch, EngineError> {
    let libraries = [function.library.as_path()];
    Ok(NativeHeapWatch::begin(
        bridge,
        &libraries,
        NativeHeapMode::Arena,
    )?)
}

/// What the report says of the heap, in words and names.
pub(super) struct HeapWords<'w> {
    watch: &'w NativeHeapWatch,
    symbols: Symbols,
}

impl<'w> HeapWords<'w> {
    pub(super) fn new(watch: &'w NativeHeapWatch) -> HeapWords<'w> {
        HeapWords {
            watch,
            symbols: Symbols::new(),
        }
    }

    /// Totals and leaks.
    pub(super) fn summary(&mut self) -> NativeHeap {
        let totals = self.watch.totals();
        let live = self.watch.live();
        let leaks = live.iter().take(MAX_LEAKS).map(|block| Leak {
            allocation: block.name(),
            base: Hex(block.base),
            size: block.size,
            made_by: self.caller(&block.made),
        });
        NativeHeap {
            allocations: totals.allocations,
            frees: totals.frees,
            live: totals.live,
            live_bytes: totals.live_bytes,
            leaks: leaks.collect(),
            not_covered: self.not_covered(),
        }
    }

    /// Allocations of the library that are in violations, and are not among `buffers`.
    pub(super) fn in_violations(
        &self,
        memory: &Memory,
        buffers: &[AllocId],
    ) -> Vec<NativeAllocation> {
        let entries = memory.violations().entries().iter();
        let ids: BTreeSet<AllocId> = entries
            .filter_map(|logged| logged.violation.allocation)
            .filter(|id| !buffers.contains(id))
            .collect();
        let found = ids.into_iter().filter_map(|id| self.watch.find(id));
        found.take(MAX_SHOWN).collect()
    }

    /// `malloc in make+0x1a (heap.c:7)`.
    pub(super) fn caller(&mut self, caller: &Caller) -> String {
        let symbol = self.symbols.lookup_return(caller.site);
        match &symbol.source {
            Some(source) => format!("{} in {symbol} ({source})", caller.function),
            None => format!("{} in {symbol}", caller.function),
        }
    }

    fn not_covered(&self) -> Vec<String> {
        let coverage = self.watch.coverage();
        let name = |path: &std::path::Path| {
            let name = path.file_name().unwrap_or(path.as_os_str());
            name.to_string_lossy().into_owned()
        };
        let alone = coverage
            .left_alone
            .iter()
            .map(|(path, function, why)| format!("{function} in {}: {why}", name(path)));
        let loaders = coverage
            .loaders
            .iter()
            .map(|path| format!("what {} loads by dlopen while it runs", name(path)));
        alone.chain(loaders).collect()
    }
}
