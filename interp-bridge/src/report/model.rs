//! The report of one call, field for field as scripts read it.

use serde::ser::{Serialize, Serializer};

use tracer_user::{access::AccessKind, session::CallStats};

use super::heap::NativeHeap;
use crate::ffi::RetValue;
pub use crate::memory::ViolationKind;

/// Version of the report's schema.
pub const SCHEMA: u32 = 1;

/// Most bytes of an allocation's content in a report.
pub const MAX_CONTENT: usize = 4096;

/// A half-open range of byte offsets, `[start, end]` in JSON.
pub type Span = (u64, u64);

/// An address, `"0x…"` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex(pub u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

/// Everything about one call.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct CallReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Canonical path of the library.
    pub library: String,
    /// Name of the function.
    pub function: String,
    /// The recorder that was used: `ebpf`, `inproc`, `ptrace` or `none`.
    pub backend: String,
    /// Why this recorder and not a better one, where there is something to say.
    pub backend_note: Option<String>,
    /// What the call returned; null if it did not return.
    pub ret: Option<Ret>,
    /// The buffers, in the plan's order.
    pub allocations: Vec<Allocation>,
    /// Broken rules, in order of their first occurrence.
    pub violations: Vec<Violation>,
    /// Over-reads of string functions that are no violation, like ones counted together; only
    /// gathered, and only in JSON, with `--verbose`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overreads: Vec<Violation>,
    /// Instructions that were single-stepped, because they have no copy for the host view.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stepped: Vec<Stepped>,
    /// What was translated, and what was left to faults, with `--verbose`: a line each.
    #[serde(skip)]
    pub translations: Vec<String>,
    /// The library's own heap, with `--native-heap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native_heap: Option<NativeHeap>,
    /// Totals.
    pub stats: Stats,
}

/// An instruction that was single-stepped.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Stepped {
    /// Its address.
    pub ip: Hex,
    /// `function+0x…`.
    pub symbol: String,
    /// Its text.
    pub instruction: Option<String>,
    /// How often.
    pub count: u64,
}

/// A returned value.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Ret {
    /// The type as the prototype spells it.
    pub r#type: String,
    /// The value: a string for a scalar, an object for a struct, null for `void`.
    pub value: RetValue,
    /// For a pointer into a buffer: `&buf+8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points_to: Option<String>,
    /// For a value of an enumeration: the constant's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constant: Option<String>,
}

/// A buffer and what native code did to it. Ranges are half-open byte offsets, sorted, merged.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Allocation {
    /// The name it is bound to.
    pub name: String,
    /// Its native address.
    pub base: Hex,
    /// Size in bytes.
    pub size: u64,
    /// Whether native code may write to it.
    pub mutable: bool,
    /// Whether it is freed; it has no content then. In JSON only where it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub freed: bool,
    /// For an allocation of the library: what made it, and where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// For one that the library gave back: what did, and where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freed_by: Option<String>,
    /// Bytes that were read.
    pub read: Vec<Span>,
    /// Bytes that were certainly written.
    pub written: Vec<Span>,
    /// Bytes that an instruction may have written.
    pub maybe_written: Vec<Span>,
    /// Bytes that are initialised after the call.
    pub initialized: Vec<Span>,
    /// Content after the call, at most [`MAX_CONTENT`] bytes; hexadecimal in JSON.
    #[serde(serialize_with = "hexadecimal")]
    pub bytes: Vec<u8>,
}

fn hexadecimal<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len().min(MAX_CONTENT) * 2);
    for byte in bytes.iter().take(MAX_CONTENT) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    serializer.serialize_str(&text)
}

/// One broken rule; the same rule broken again at the same place only counts up.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Violation {
    /// What rule.
    pub kind: ViolationKind,
    /// Direction; null for a crash or a timeout.
    pub access: Option<AccessKind>,
    /// Whether it certainly happened.
    pub certain: bool,
    /// First address of the access.
    pub addr: Option<Hex>,
    /// Size in bytes of the access.
    pub size: Option<u64>,
    /// The buffer that it belongs to.
    pub allocation: Option<String>,
    /// Offset in bytes from the start of that buffer; negative before it.
    pub offset: Option<i64>,
    /// Address of the instruction.
    pub ip: Option<Hex>,
    /// `function+0x…`.
    pub symbol: Option<String>,
    /// `file.c:12`.
    pub source: Option<String>,
    /// The instruction's text.
    pub instruction: Option<String>,
    /// One sentence for people.
    pub message: String,
    /// Native call stack, innermost first.
    pub backtrace: Vec<String>,
    /// How often it happened, at least 1.
    pub count: u64,
}

/// Totals of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Calls of the function.
    pub calls: u64,
    /// Access events.
    pub events: u64,
    /// Events that were reads.
    pub reads: u64,
    /// Events that were writes.
    pub writes: u64,
    /// Page faults that native code took.
    pub faults: u64,
    /// Accesses recorded by translated code.
    pub translated: u64,
    /// Instructions that were single-stepped, each time counted.
    pub steps: u64,
    /// System calls on interpreter memory.
    pub syscalls: u64,
    /// Records that the recorder wanted to write.
    pub emitted: u64,
    /// Records that arrived.
    pub delivered: u64,
    /// Records that arrived and could not be understood.
    pub rejected: u64,
    /// Records that found no room.
    pub dropped: u64,
    /// Whether the trace is complete.
    pub complete: bool,
    /// Time spent in the calls, in nanoseconds.
    pub wall_ns: u64,
    /// Distinct instructions that made accesses.
    pub sites: u64,
    /// String functions' reads past the end, which are no violation unless `--strict`.
    pub overreads: u64,
}

impl Stats {
    /// The counts of calls that took `wall_ns` nanoseconds in all.
    pub fn new(stats: &CallStats, calls: u64, wall_ns: u64) -> Stats {
        Stats {
            calls,
            events: stats.events,
            reads: stats.reads,
            writes: stats.writes,
            faults: stats.faults,
            translated: stats.translated,
            steps: stats.steps,
            syscalls: stats.syscalls,
            emitted: stats.emitted,
            delivered: stats.delivered,
            rejected: stats.rejected,
            dropped: stats.dropped,
            // Untraced, nothing was emitted and so nothing is missing: see `backend`.
            complete: stats.complete(),
            wall_ns,
            sites: stats.sites,
            overreads: 0,
        }
    }
}

impl CallReport {
    /// Whether the call was traced at all.
    pub fn is_traced(&self) -> bool {
        self.backend != "none"
    }

    /// The process's exit status: 0 good, 1 violations (an access that is refused as
    /// `unsupported` is one), 4 an incomplete trace without any.
    pub fn exit_status(&self) -> u8 {
        if !self.violations.is_empty() {
            1
        } else if !self.stats.complete {
            4
        } else {
            0
        }
    }
}
