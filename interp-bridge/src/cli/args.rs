//! What can be written on the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::agent::AgentArguments;
use crate::bench::child;

/// Sees exactly what native code does to your memory
///
/// ffitrace calls a function of a shared library and reports which bytes of its buffers it read
/// and wrote, and which rules it broke.
#[derive(Debug, Parser)]
#[command(
    name = "ffitrace",
    bin_name = "ffitrace",
    version,
    max_term_width = 80,
    disable_help_subcommand = true
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Call(Box<CallArguments>),
    Run(Box<RunArguments>),
    Repl(Box<ReplArguments>),
    Bench(BenchArguments),
    #[command(name = child::COMMAND, hide = true)]
    BenchWork(BenchWorkArguments),
    Doctor(DoctorArguments),
    Agent(AgentArguments),
}

/// How native code is traced, and who it is.
#[derive(Debug, Args)]
pub(super) struct TraceArguments {
    /// Who records the accesses
    #[arg(long, value_enum, default_value_t = BackendChoice::Auto)]
    pub(super) backend: BackendChoice,

    /// Have the agent at this socket record, whatever this process may do itself
    #[arg(long, value_name = "PATH")]
    pub(super) agent: Option<PathBuf>,

    /// Translate code after so many faults of one instruction, or never: from then on its accesses
    /// are recorded without a fault each (ebpf and inproc)
    #[arg(long, value_name = "N|off", default_value = "16", value_parser = hot)]
    pub(super) hot: Hot,

    /// Write every access to a file (.jsonl)
    #[arg(long, value_name = "FILE")]
    pub(super) events: Option<PathBuf>,

    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,

    /// End a call after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds,
          allow_negative_numbers = true)]
    pub(super) timeout: Option<Duration>,

    /// Count string functions' reads past the end as violations
    #[arg(long)]
    pub(super) strict: bool,

    /// Become this user (a name, or an id) before a library is loaded; for root only
    #[arg(long, value_name = "NAME", conflicts_with = "as_root")]
    pub(super) user: Option<String>,

    /// Let libraries have all of root's rights
    #[arg(long)]
    pub(super) as_root: bool,
}

const CALL_EXAMPLES: &str = "\
Examples:
  ffitrace call libz.so.1 \\
    'unsigned long crc32(unsigned long crc,
                         const unsigned char *buf, unsigned int len)' \\
    crc=0 buf=@README.md 'len=len(buf)'

  ffitrace call libz.so.1 \\
    'int compress(unsigned char *dest, unsigned long *destLen,
                  const unsigned char *source, unsigned long sourceLen)' \\
    dest=uninit:256 'destLen=u64:len(dest)' 'source=str:hello hello' \\
    'sourceLen=len(source)'

  ffitrace call ./libgeo.so --cdef 'struct point { int x, y; };' \\
    'int norm(struct point p, const struct point *q)' 'p={3,4}' 'q={.x=1}'

Values:
  42 -1 0x10 1.5 true 'a' null       scalars, and names of enumeration constants
  len(NAME) len(NAME)+1 len(NAME)/4  size of a buffer in bytes
  str:hello bytes:hello hex:00ff     buffers with content (str: adds the NUL)
  @FILE                              buffer with the content of a file
  zero:64 uninit:64k                 buffers of a size (k, M, G: binary units)
  u32:1,2,3 f64:1.5                  buffers of numbers: i8 to u64, f32, f64
  ptr:&a,&b+4,null                   buffer of pointers
  {1,2} {.x=1,.y={2,3}}              struct, or buffer with one for a pointer
  &NAME &NAME+8                      pointer into another buffer
A buffer for a pointer to const is read-only for native code; mut: before its
value makes it writable; freed: frees it before the call, to try a dangling
pointer. Names that are no parameters are further buffers.

With --native-heap, memory that the library allocates itself (malloc, new, ...)
is checked like the buffers, and wrong frees are reported. JSON has it under
native_heap: allocations, frees, live, live_bytes, leaks (what is live after
the call), not_covered; violations name the library's allocations heap#1, ...
Where any are live at the end, destructors of the library are not run.

Started by root, ffitrace gives root's rights up before it reads a file or loads
the library. With sudo, doas or pkexec it becomes the user who called that; in a
shell of root's it stays root without capabilities, unless --user names another:
  sudo ffitrace call ./libparse.so 'int parse(const char *text)' text=@input \\
    --user nobody

Exit status:
  0 no rule was broken   1 violations, a crash or a timeout   2 wrong usage
  3 the environment lacks what was asked for   4 the trace is incomplete";

/// Call one native function and report what it did to its buffers
#[derive(Debug, Args)]
#[command(after_help = CALL_EXAMPLES)]
pub(super) struct CallArguments {
    /// The library: a path, or a name for the dynamic loader (libz.so.1)
    pub(super) library: OsString,

    /// The function's C prototype, with named parameters
    pub(super) prototype: String,

    /// A value for each parameter
    #[arg(value_name = "NAME=VALUE")]
    pub(super) bindings: Vec<OsString>,

    /// C declarations that the prototype needs; may be repeated
    #[arg(long, value_name = "DECLARATIONS")]
    pub(super) cdef: Vec<String>,

    #[command(flatten)]
    pub(super) trace: TraceArguments,

    /// Call the function so many times
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) repeat: u64,

    /// Put the library's own heap into the arena, and check it byte by byte
    #[arg(long)]
    pub(super) native_heap: bool,

    /// Stop native code before its first violation (ebpf, inproc)
    #[arg(long)]
    pub(super) stop_at_first: bool,

    /// Report everything in full
    #[arg(long)]
    pub(super) verbose: bool,
}

/// Measure what an access costs under each recorder
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sudo ffitrace bench --format json > bench.json")]
pub(super) struct BenchArguments {
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,

    /// Roughly how long to measure each recorder
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = positive,
          allow_negative_numbers = true)]
    pub(super) seconds: f64,

    /// Ask only the questions with TEXT in them, such as `an empty call`; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub(super) only: Vec<String>,

    /// Print the questions instead of asking them
    #[arg(long)]
    pub(super) list: bool,
}

/// Do a piece of work for `bench`, in a process of its own
#[derive(Debug, Args)]
pub(super) struct BenchWorkArguments {
    /// What to do
    pub(super) work: child::Work,

    /// Seconds, or how often
    #[arg(value_parser = positive_number)]
    pub(super) amount: f64,
}

const RUN_EXAMPLES: &str = "\
Examples:
  ffitrace run examples/zlib.lua
  ffitrace run --keep-going --timeout 5 session.lua ./libparse.so input.txt
  sudo ffitrace run --backend ebpf --events trace.jsonl session.lua

A session is a script in Lua (LuaJIT 2.1). `require \"ffi\"` is LuaJIT's FFI, with
every native access to the memory of ffi.new traced and checked; what stands
behind the session's name is in `arg`. `require \"trace\"` says what native code
did: events, coverage, initialized, violations, call_stats, on, expect.

What native code does wrong stops the script with an error that has the Lua
stack, the native stack and the bytes concerned. So does what the script reads
itself of freed or uninitialised memory, or outside of an object.

JSON has session, backend, error, violations, functions and stats; what the
script prints goes to stderr then. Root's rights are given up as by `call`.

Exit status:
  0 nothing was wrong   1 violations, an error of the script, a crash, a timeout
  2 wrong usage, no Lua   3 the environment lacks what was asked for
  4 the trace is incomplete
A status other than 0 that the script gives to os.exit is passed on.";

/// What becomes of a session when native code does something wrong.
#[derive(Debug, Args)]
pub(super) struct StopArguments {
    /// Collect violations, and let the script go on
    #[arg(long)]
    pub(super) keep_going: bool,

    /// Stop native code before its first violation (ebpf, inproc)
    #[arg(long, conflicts_with = "keep_going")]
    pub(super) stop_at_first: bool,
}

/// Run a Lua session: scripts with LuaJIT's FFI, traced
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(super) struct RunArguments {
    #[command(flatten)]
    pub(super) trace: TraceArguments,

    #[command(flatten)]
    pub(super) stops: StopArguments,

    /// The session: a file with Lua in it, or - for stdin
    #[arg(value_name = "SESSION.lua")]
    pub(super) session: PathBuf,

    /// Arguments for the session
    #[arg(
        value_name = "ARGUMENTS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(super) arguments: Vec<String>,
}

const REPL_EXAMPLES: &str = "\
Example:
  $ ffitrace repl
  > ffi.cdef 'size_t strlen(const char *);'
  > ffi.C.strlen('hello')
  > trace.events()

The history is kept in $XDG_STATE_HOME/ffitrace/history. Everything else is as
for `ffitrace run`; :help lists what there is.";

/// Type Lua that calls native code, and see what that does
#[derive(Debug, Args)]
#[command(after_help = REPL_EXAMPLES)]
pub(super) struct ReplArguments {
    #[command(flatten)]
    pub(super) trace: TraceArguments,

    #[command(flatten)]
    pub(super) stops: StopArguments,
}

const DOCTOR_EXAMPLES: &str = "\
Examples:
  ffitrace doctor
  sudo ffitrace doctor --format json | jq .auto

JSON has summary, auto, backends (name, usable, check, reason, remedy) and
checks (name, state, detail, remedy, fallback, affects); a state is ok, warn
(works without), missing or untried (something before it is missing).

Exit status:
  0 --backend auto gets ebpf   3 it does not";

/// Say what this host offers, and what would make the rest work
#[derive(Debug, Args)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub(super) struct DoctorArguments {
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
}

/// Who records the accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendChoice {
    /// The best that this host offers
    Auto,
    /// The kernel, by eBPF
    Ebpf,
    /// The process's own signal handler
    Inproc,
    /// A supervisor process
    Ptrace,
    /// Nobody: call without tracing
    None,
}

/// Text for people or JSON for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One JSON object on stdout, and nothing else there
    Json,
}

/// `--hot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hot {
    Off,
    After(u32),
}

fn hot(text: &str) -> Result<Hot, String> {
    match text.parse() {
        _ if text == "off" => Ok(Hot::Off),
        Ok(n) if n > 0 => Ok(Hot::After(n)),
        _ => Err("a number of faults from 1 on, or `off`".into()),
    }
}

fn positive_number(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok();
    let number = number.filter(|n| n.is_finite() && *n > 0.0);
    number.ok_or_else(|| "a number above 0".into())
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text
        .parse::<f64>()
        .ok()
        .filter(|n| n.is_finite() && *n > 0.0 && *n <= 1e6);
    number.ok_or_else(|| "a number of seconds above 0, such as 5 or 0.5".into())
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(positive(text)?).map_err(|e| e.to_string())
}
