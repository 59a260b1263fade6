//! What the command line asks of the part that traces: plain data in, plain data out.

use std::ops::Range;
use std::time::Duration;

use super::args::{BackendChoice, Format};
use crate::binding::Plan;
use crate::ffi::{Function, NativeCall, RetValue};
use crate::prototype::Prototype;
use crate::report::events::EventsWriter;
use crate::report::heap::NativeHeap;
use crate::report::model::{MAX_CONTENT, SCHEMA};
use crate::report::{
    Allocation, CallReport, Hex, Ret, Span, Stats, Stepped, Violation, ViolationKind,
};

/// Traces native calls.
pub trait Engine {
    /// Chooses the recorder and sets it up, before any code of a library runs.
    ///
    /// # Errors
    /// The recorder that was asked for cannot be had.
    fn open(&mut self, options: &EngineOptions) -> Result<(), EngineError>;

    /// A counter of accesses so far, to be read from another thread while the call runs.
    fn progress(&self) -> Box<dyn Fn() -> u64 + Send>;

    /// Makes the call. Whatever native code does, a broken rule, a crash or a timeout included,
    /// is an outcome and not an error.
    ///
    /// # Errors
    /// The call could not be made.
    fn run(&mut self, request: CallRequest) -> Result<CallOutcome, EngineError>;
}

/// What is known before a library is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// The recorder that was asked for.
    pub backend: BackendChoice,
    /// Whether string functions' reads past the end are violations.
    pub strict: bool,
    /// End the call before the first violation.
    pub stop_at_first: bool,
    /// When to end a call that does not return.
    pub timeout: Option<Duration>,
    /// Whether to gather what only a full report shows.
    pub verbose: bool,
    /// How the report will be written.
    pub format: Format,
    /// Whether the library's own heap lies in the arena.
    pub native_heap: bool,
    /// After how many faults a site is translated, if at all.
    pub hot: Option<u32>,
    /// Whether native code may have root's rights.
    pub as_root: bool,
}

/// One call to make.
pub struct CallRequest {
    /// The function.
    pub function: Function,
    /// Its prototype.
    pub prototype: Prototype,
    /// Its buffers and arguments.
    pub plan: Plan,
    /// The call, prepared; it lacks its arguments until the buffers have addresses.
    pub call: NativeCall,
    /// How often to make it, at least once.
    pub repeat: u64,
    /// Takes every access; give it back in the outcome.
    pub events: Option<EventsWriter>,
}

/// What came of a call.
#[derive(Debug)]
pub struct CallOutcome {
    /// The recorder that was used: `ebpf`, `inproc`, `ptrace` or `none`.
    pub backend: String,
    /// Why not a better one, in one line.
    pub backend_note: Option<String>,
    /// What the last call returned; `None` if it did not.
    pub ret: Option<RetValue>,
    /// The buffers, in the plan's order; then allocations of the library that are in violations.
    pub allocations: Vec<AllocationOutcome>,
    /// Broken rules, equal ones counted together.
    pub violations: Vec<Violation>,
    /// Benign over-reads, likewise; empty unless the report is to be verbose.
    pub overreads: Vec<Violation>,
    /// Instructions that were single-stepped.
    pub stepped: Vec<Stepped>,
    /// What was translated, and what was left to faults: a line each.
    pub translations: Vec<String>,
    /// The library's own heap, if it was asked for.
    pub native_heap: Option<NativeHeap>,
    /// Totals.
    pub stats: Stats,
    /// The request's writer, with every access written to it.
    pub events: Option<EventsWriter>,
}

/// What happened to a buffer. Ranges are byte offsets, sorted and merged.
#[derive(Clone, Debug, PartialEq)]
pub struct AllocationOutcome {
    /// The name it is bound to.
    pub name: String,
    /// Its native address.
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
    /// Whether native code may write to it.
    pub mutable: bool,
    /// Whether it is freed.
    pub freed: bool,
    /// For an allocation of the library: what made it.
    pub made_by: Option<String>,
    /// For one that the library gave back: what did.
    pub freed_by: Option<String>,
    /// Bytes that were read.
    pub read: Vec<Range<u64>>,
    /// Bytes that were certainly written.
    pub written: Vec<Range<u64>>,
    /// Bytes that may have been written.
    pub maybe_written: Vec<Range<u64>>,
    /// Bytes that are initialised now.
    pub initialized: Vec<Range<u64>>,
    /// Content now; more than [`MAX_CONTENT`] bytes are not needed.
    pub bytes: Vec<u8>,
}

/// What an engine lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Other arguments (exit 2).
    Usage,
    /// Something of the host: privileges, a kernel feature (exit 3).
    Environment,
    /// A complete trace (exit 4).
    Trace,
}

/// Why an engine could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct EngineError {
    /// What it lacks.
    pub need: Need,
    /// What was wrong.
    pub what: String,
    /// What mends it.
    pub help: String,
}

impl CallOutcome {
    /// Whether native code was stopped midway, so that the process's C library may hold locks
    /// that nobody will release.
    pub fn left_midway(&self) -> bool {
        let midway =
            |v: &Violation| matches!(v.kind, ViolationKind::NativeCrash | ViolationKind::Timeout);
        self.ret.is_none() || self.violations.iter().any(midway)
    }

    /// The outcome as a report.
    pub fn into_report(self, function: &Function, prototype: &Prototype) -> CallReport {
        let allocations: Vec<Allocation> = self
            .allocations
            .into_iter()
            .map(AllocationOutcome::into_report)
            .collect();
        let ret = self.ret.map(|value| Ret {
            r#type: prototype.ret.spelling.clone(),
            points_to: match &value {
                RetValue::Pointer(address) => points_to(*address, &allocations),
                _ => None,
            },
            constant: match &value {
                RetValue::Enum(_, name) => name.clone(),
                _ => None,
            },
            value,
        });
        CallReport {
            schema: SCHEMA,
            library: function.library.display().to_string(),
            function: function.name.clone(),
            backend: self.backend,
            backend_note: self.backend_note,
            ret,
            allocations,
            violations: self.violations,
            overreads: self.overreads,
            stepped: self.stepped,
            translations: self.translations,
            native_heap: self.native_heap,
            stats: self.stats,
        }
    }
}

impl AllocationOutcome {
    fn into_report(mut self) -> Allocation {
        let spans = |ranges: Vec<Range<u64>>| -> Vec<Span> {
            ranges.into_iter().map(|r| (r.start, r.end)).collect()
        };
        self.bytes.truncate(MAX_CONTENT);
        Allocation {
            name: self.name,
            base: Hex(self.base),
            size: self.size,
            mutable: self.mutable,
            freed: self.freed,
            made_by: self.made_by,
            freed_by: self.freed_by,
            read: spans(self.read),
            written: spans(self.written),
            maybe_written: spans(self.maybe_written),
            initialized: spans(self.initialized),
            bytes: self.bytes,
        }
    }
}

/// `&buf+8` for an address in a buffer, its end included.
fn points_to(address: u64, allocations: &[Allocation]) -> Option<String> {
    let offset = |a: &Allocation| address.checked_sub(a.base.0);
    // Red zones keep buffers apart, so an end is never another buffer's start.
    let found = allocations
        .iter()
        .find(|a| offset(a).is_some_and(|o| o <= a.size))?;
    Some(match offset(found)? {
        0 => format!("&{}", found.name),
        n => format!("&{}+{n}", found.name),
    })
}
