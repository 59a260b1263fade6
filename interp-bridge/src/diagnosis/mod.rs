//! Violations as values: all that is known of what native code did wrong, with names.
//!
//! ```text
//!  native code ──► Finding, Violation     small, made while events are applied
//!                      │  memory's log: equal ones counted
//!                      ▼
//!  Diagnoser::diagnose ──► Diagnosis      symbols, source lines, native stack, instruction;
//!        ▲                    │           looked up only now, and remembered
//!  Context: the call, its snapshots,      ├─► Display: for people, 80 columns
//!  the memory, the interpreter's stack    └─► serde: the names of the command line's JSON
//! ```
//! Making a violation is cheap, for there may be a hundred thousand a second. Naming one reads
//! the symbol tables and debug information of the files it is about, once for each file: keep the
//! [`Diagnoser`] as long as native libraries stay loaded.
//!
//! ```no_run
//! # use interp_bridge::{bridge::{Bridge, CallOutcome}, diagnosis::{Context, Diagnoser}};
//! # fn report(bridge: &Bridge, outcome: &CallOutcome) {
//! let mut diagnoser = Diagnoser::new();
//! let memory = bridge.memory();
//! let context = Context {
//!     memory: Some(&memory),
//!     function: Some("parse"),
//!     ..Context::of(outcome)
//! };
//! for logged in memory.violations().entries() {
//!     eprintln!("{}", diagnoser.diagnose(logged, &context));
//! }
//! # }
//! ```

mod json;
mod names;
mod text;

#[cfg(test)]
mod tests;

use std::fmt;

use tracer_user::{
    access::AccessKind,
    resume::Snapshot,
    symbols::{SourceLine, Symbol},
};

use crate::{
    bridge::CallOutcome,
    memory::{AllocId, Memory, ViolationKind},
};
pub use names::Diagnoser;

/// What is known of the call beside its violations.
#[derive(Clone, Copy, Default)]
pub struct Context<'a> {
    /// Name of the function that was called.
    pub function: Option<&'a str>,
    /// Its address: the native stack ends with it. Without, it ends where the interpreter's own
    /// code begins.
    pub address: Option<u64>,
    /// Stacks that were copied while the call ran.
    pub snapshots: &'a [Snapshot],
    /// The interpreter's call stack, innermost frame first.
    pub interpreter_stack: &'a [String],
    /// The memory, for the bounds of allocations that it still knows.
    pub memory: Option<&'a Memory>,
}

impl<'a> Context<'a> {
    /// What the outcome of a call has of it.
    pub fn of(outcome: &'a CallOutcome) -> Context<'a> {
        Context {
            snapshots: &outcome.snapshots,
            interpreter_stack: &outcome.interpreter_stack,
            ..Context::default()
        }
    }
}

/// A violation with names. Serialised, addresses are strings like `"0x7f00"`, and the fields are
/// named as in the command line's JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// Which rule.
    pub kind: ViolationKind,
    /// Direction; `None` where it is not about an access, such as a crash.
    pub access: Option<AccessKind>,
    /// False where the instruction may not have written.
    pub certain: bool,
    /// First address of the access.
    pub addr: Option<u64>,
    /// Its length in bytes.
    pub size: Option<u64>,
    /// The allocation that it is about, or the nearest.
    pub allocation: Option<AllocationNote>,
    /// The instruction, with the native stack below it: innermost frame first, as far as the
    /// function that was called. Empty where no instruction is known.
    pub backtrace: Vec<NativeFrame>,
    /// The instruction's text.
    pub instruction: Option<String>,
    /// Kernel thread id.
    pub thread: u32,
    /// The function that the interpreter called.
    pub function: Option<String>,
    /// The interpreter's call stack, innermost frame first.
    pub interpreter_stack: Vec<String>,
    /// Position in the trace of the first of equal ones.
    pub seq: Option<u64>,
    /// How many equal ones there were: same rule, instruction and allocation.
    pub count: u64,
    /// One sentence for people.
    pub message: String,
}

/// The allocation that a violation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationNote {
    /// Which one; numbers are not reused.
    pub id: AllocId,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its first address, as native code knows it.
    pub base: u64,
    /// Its size in bytes, where it is still known.
    pub size: Option<u64>,
    /// Where in it the access begins, in bytes; negative before it.
    pub offset: i64,
}

/// One frame of a native stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeFrame {
    /// The instruction that did it, or, in the frames that called, the one behind the call.
    pub ip: u64,
    /// `function+0x…`; `module+0x…` where no function is known, else the address.
    pub symbol: String,
    /// The function.
    pub function: Option<String>,
    /// Short name of the library or program.
    pub module: Option<String>,
    /// Source line.
    pub source: Option<SourceLine>,
}

impl NativeFrame {
    fn new(symbol: &Symbol) -> NativeFrame {
        NativeFrame {
            ip: symbol.ip,
            symbol: symbol.to_string(),
            function: symbol.name.clone(),
            module: symbol.module_name.clone(),
            source: symbol.source.clone(),
        }
    }
}

impl fmt::Display for NativeFrame {
    /// `w_oob+0x4 (w.c:12)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.symbol)?;
        match &self.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl Diagnosis {
    /// The instruction that did it, if it is known.
    pub fn site(&self) -> Option<&NativeFrame> {
        self.backtrace.first()
    }
}

impl std::error::Error for Diagnosis {}
