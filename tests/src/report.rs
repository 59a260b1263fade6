//! The JSON that `ffitrace call` promises, as its readers see it.

use serde::Deserialize;
use serde_json::Value;

/// What `--format json` prints.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Version of the format.
    pub schema: u64,
    /// Library as given.
    pub library: String,
    /// Name of the function.
    pub function: String,
    /// Recorder that was used.
    pub backend: String,
    /// Result; absent when the function did not return.
    pub ret: Option<Ret>,
    /// One for each buffer.
    pub allocations: Vec<Allocation>,
    /// In the order in which they were found.
    pub violations: Vec<Violation>,
    /// Benign over-reads, with `--verbose`.
    #[serde(default)]
    pub overreads: Vec<Violation>,
    /// Instructions that were single-stepped.
    #[serde(default)]
    pub stepped: Vec<Stepped>,
    /// The library's own heap, with `--native-heap`.
    pub native_heap: Option<NativeHeap>,
    /// Totals.
    pub stats: Stats,
}

/// The library's own heap.
#[derive(Clone, Debug, Deserialize)]
pub struct NativeHeap {
    /// Allocations that were made.
    pub allocations: u64,
    /// Allocations that were given back.
    pub frees: u64,
    /// Allocations that are live.
    pub live: u64,
    /// Their sizes together.
    pub live_bytes: u64,
    /// The live ones.
    pub leaks: Vec<Leak>,
}

/// An allocation of the library that was not given back.
#[derive(Clone, Debug, Deserialize)]
pub struct Leak {
    /// Its name.
    pub allocation: String,
    /// Size in bytes.
    pub size: u64,
    /// Function and call site.
    pub made_by: String,
}

/// An instruction that was single-stepped.
#[derive(Clone, Debug, Deserialize)]
pub struct Stepped {
    /// `function+0x…`.
    pub symbol: String,
    /// Its text.
    pub instruction: Option<String>,
    /// How often.
    pub count: u64,
}

/// A function's result.
#[derive(Clone, Debug, Deserialize)]
pub struct Ret {
    /// C type.
    #[serde(rename = "type")]
    pub ty: String,
    /// Value; a string where 2^53 does not bound it.
    pub value: Value,
}

impl Ret {
    /// The value as plain text, whether it came as string or number.
    pub fn text(&self) -> String {
        match &self.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// Half-open byte range.
pub type Range = (u64, u64);

/// One buffer and what happened to it.
#[derive(Clone, Debug, Deserialize)]
pub struct Allocation {
    /// Name of the parameter.
    pub name: String,
    /// First address.
    pub base: String,
    /// Size in bytes.
    pub size: u64,
    /// Whether native code may write it.
    pub mutable: bool,
    /// Whether it is freed.
    #[serde(default)]
    pub freed: bool,
    /// What made an allocation of the library, and where.
    pub made_by: Option<String>,
    /// Bytes that were read.
    pub read: Vec<Range>,
    /// Bytes that were certainly written.
    pub written: Vec<Range>,
    /// Bytes that may have been written.
    pub maybe_written: Vec<Range>,
    /// Bytes that hold a value.
    pub initialized: Vec<Range>,
    /// Content as hexadecimal digits, of at most 4096 bytes.
    pub bytes: String,
}

impl Allocation {
    /// First address as a number.
    pub fn base(&self) -> Option<u64> {
        hex(&self.base)
    }
}

/// Broken rule.
#[derive(Clone, Debug, Deserialize)]
pub struct Violation {
    /// Which rule.
    pub kind: String,
    /// `read` or `write`.
    pub access: Option<String>,
    /// Whether the access certainly took place.
    pub certain: Option<bool>,
    /// First address of the access.
    pub addr: Option<String>,
    /// Its length in bytes.
    pub size: Option<u64>,
    /// Buffer concerned.
    pub allocation: Option<String>,
    /// Offset of `addr` from the buffer's base.
    pub offset: Option<Int>,
    /// Instruction.
    pub ip: Option<String>,
    /// Function and offset.
    pub symbol: Option<String>,
    /// File and line.
    pub source: Option<String>,
    /// One sentence.
    pub message: String,
    /// Innermost frame first.
    #[serde(default)]
    pub backtrace: Vec<String>,
}

/// Integer that comes as a number, or as a string where it may be large.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Int {
    /// As a number.
    Number(i64),
    /// As decimal digits.
    Text(String),
}

impl Int {
    /// As a number.
    pub fn value(&self) -> Option<i64> {
        match self {
            Int::Number(number) => Some(*number),
            Int::Text(text) => text.parse().ok(),
        }
    }
}

/// Totals of one call or of all repeated ones.
#[derive(Clone, Debug, Deserialize)]
pub struct Stats {
    /// Calls of the function.
    pub calls: u64,
    /// Access events.
    pub events: u64,
    /// Of these, reads.
    pub reads: u64,
    /// Of these, writes.
    pub writes: u64,
    /// Page faults.
    pub faults: u64,
    /// Accesses by translated code.
    pub translated: u64,
    /// System calls of native code.
    pub syscalls: u64,
    /// Single steps.
    pub steps: u64,
    /// Records that the recorder wanted to write.
    pub emitted: u64,
    /// Records that became events.
    pub delivered: u64,
    /// Records refused by name.
    pub rejected: u64,
    /// Records lost.
    pub dropped: u64,
    /// Whether the trace is whole.
    pub complete: bool,
    /// Wall time of the calls.
    pub wall_ns: Int,
    /// Distinct instructions.
    pub sites: u64,
    /// Over-reads of string functions that are no violation.
    pub overreads: u64,
}

/// One line of `--events FILE.jsonl`.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// Position in the trace.
    pub seq: u64,
    /// Kernel thread id.
    pub tid: u32,
    /// `read` or `write`.
    pub kind: String,
    /// Whether the access certainly took place.
    pub certain: bool,
    /// First address.
    pub addr: String,
    /// Length in bytes.
    pub size: u64,
    /// Buffer concerned.
    pub allocation: Option<String>,
    /// Offset of `addr` from the buffer's base.
    pub offset: Option<Int>,
    /// Instruction.
    pub ip: String,
    /// Function and offset.
    pub symbol: Option<String>,
    /// What recorded it.
    pub source: String,
}

/// `0x` and hexadecimal digits, as a number.
pub fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}
