//! The command line as a whole, with an engine that calls without tracing, in this process.

#![allow(unsafe_code)]

use std::ffi::OsString;
use std::sync::{Arc, Mutex};

use super::*;
use crate::binding::BufferInit;
use crate::ffi::NativeCall;
use crate::report::Stats;
use crate::report::doctor::DoctorBackend;

/// Makes the call on ordinary memory and reports nothing but the result.
#[derive(Default)]
struct Untraced {
    opened: Arc<Mutex<Vec<EngineOptions>>>,
    refuse: Option<EngineError>,
    complete: bool,
}

impl Engine for Untraced {
    fn open(&mut self, options: &EngineOptions) -> Result<(), EngineError> {
        self.opened
            .lock()
            .unwrap_or_else(|e| panic!("{e}"))
            .push(options.clone());
        self.refuse.clone().map_or(Ok(()), Err)
    }

    fn progress(&self) -> Box<dyn Fn() -> u64 + Send> {
        Box::new(|| 0)
    }

    fn run(&mut self, mut request: CallRequest) -> Result<CallOutcome, EngineError> {
        let content = |init: &BufferInit| match init {
            BufferInit::Bytes(bytes) => bytes.clone(),
            other => vec![0; other.len() as usize],
        };
        let mut memory: Vec<Vec<u8>> = request
            .plan
            .buffers
            .iter()
            .map(|b| content(&b.init))
            .collect();
        let bases: Vec<u64> = memory.iter_mut().map(|m| m.as_mut_ptr() as u64).collect();
        for _ in 0..request.repeat {
            request
                .call
                .set_args(&request.plan.args, &bases)
                .unwrap_or_else(|e| panic!("{e}"));
            // SAFETY: the pointer is fresh; the tests call zlib with arguments that suit.
            unsafe { NativeCall::trampoline()(request.call.as_ptr()) };
        }
        let allocations =
            request
                .plan
                .buffers
                .iter()
                .zip(&bases)
                .map(|(b, base)| AllocationOutcome {
                    name: b.name.clone(),
                    base: *base,
                    size: b.init.len(),
                    mutable: b.mutable,
                    freed: false,
                    made_by: None,
                    freed_by: None,
                    read: vec![],
                    written: vec![],
                    maybe_written: vec![],
                    initialized: vec![],
                    bytes: vec![],
                });
        Ok(CallOutcome {
            backend: "inproc".into(),
            backend_note: None,
            ret: Some(request.call.result()),
            allocations: allocations.collect(),
            violations: vec![],
            overreads: vec![],
            stepped: vec![],
            translations: vec![],
            native_heap: None,
            stats: Stats {
                calls: request.repeat,
                complete: self.complete,
                ..Stats::default()
            },
            events: request.events,
        })
    }
}

fn status(engine: &mut Untraced, arguments: &[&str]) -> u8 {
    let engine_has_ebpf = engine.refuse.is_none();
    let arguments = ["ffitrace"].iter().chain(arguments).map(OsString::from);
    let hooks = Hooks {
        engine,
        bench: &mut |options| {
            assert_eq!(options.seconds, 0.5);
            let help = "become root".into();
            Err(EngineError {
                need: Need::Environment,
                what: "no privileges".into(),
                help,
            })
        },
        doctor: &mut || {
            let backend = |name: &str, usable| DoctorBackend {
                name: name.into(),
                usable,
                check: None,
                reason: None,
                remedy: None,
            };
            let backends = vec![backend("ebpf", engine_has_ebpf), backend("inproc", true)];
            DoctorReport::new(backends, vec![])
        },
    };
    run(arguments, hooks).status
}

const CRC32: [&str; 3] = [
    "call",
    "libz.so.1",
    "unsigned long crc32(unsigned long crc, const unsigned char *buf, unsigned int len)",
];
const VALUES: [&str; 3] = ["crc=0", "buf=str:hello", "len=len(buf)"];

fn crc32(engine: &mut Untraced, more: &[&str]) -> u8 {
    status(engine, &[&CRC32[..], &VALUES, more].concat())
}

#[test]
fn exit_statuses() {
    let complete = || Untraced {
        complete: true,
        ..Untraced::default()
    };
    assert_eq!(crc32(&mut complete(), &[]), 0);
    assert_eq!(
        crc32(
            &mut complete(),
            &["--repeat", "3", "--timeout", "0.5", "--verbose"]
        ),
        0
    );
    assert_eq!(
        crc32(
            &mut complete(),
            &["--hot", "off", "--strict", "--backend", "ptrace"]
        ),
        0
    );
    assert_eq!(crc32(&mut Untraced::default(), &[]), 4);

    // Wrong usage, found before the engine is opened.
    let usage: &[&[&str]] = &[
        &[],
        &["frobnicate"],
        &["call"],
        &["call", "libz.so.1"],
        &["call", "libz.so.1", "not a prototype"],
        &CRC32,
        &[&CRC32[..], &VALUES, &["--backend", "magic"]].concat(),
        &[&CRC32[..], &VALUES, &["--repeat", "0"]].concat(),
        &[&CRC32[..], &VALUES, &["--timeout", "-1"]].concat(),
        &[&CRC32[..], &VALUES, &["--timeout", "NaN"]].concat(),
        &[&CRC32[..], &VALUES, &["--hot", "0"]].concat(),
        &[&CRC32[..], &VALUES, &["--hot", "4294967296"]].concat(),
        &[&CRC32[..], &VALUES, &["--events", "/tmp/x.parquet"]].concat(),
        &[&CRC32[..], &VALUES, &["--no-such-option"]].concat(),
        &["bench", "--seconds", "0"],
        &["bench", "--only", "no such question"],
        &["bench-work", "sleep", "1"],
        &["bench-work", "loop", "-1"],
    ];
    for arguments in usage {
        let mut engine = complete();
        assert_eq!(status(&mut engine, arguments), 2, "{arguments:?}");
        assert!(
            engine
                .opened
                .lock()
                .unwrap_or_else(|e| panic!("{e}"))
                .is_empty(),
            "{arguments:?}"
        );
    }
    // Wrong usage that only the library shows.
    let missing = ["call", "libz.so.1", "int crc33(int x)", "x=1"];
    assert_eq!(status(&mut complete(), &missing), 2);
    // The environment.
    assert_eq!(
        status(
            &mut complete(),
            &["call", "libnone.so.9", "int f(int x)", "x=1"]
        ),
        3
    );
    let what = "no CAP_BPF".to_owned();
    let refuse = Some(EngineError {
        need: Need::Environment,
        what,
        help: "use sudo".into(),
    });
    let mut refusing = Untraced {
        refuse,
        ..complete()
    };
    assert_eq!(crc32(&mut refusing, &["--backend", "ebpf"]), 3);
    assert_eq!(status(&mut refusing, &["doctor"]), 3);
    assert_eq!(status(&mut complete(), &["bench", "--seconds", "0.5"]), 3);
    // Prints the questions, and measures nothing.
    assert_eq!(status(&mut complete(), &["bench", "--list"]), 0);
    assert_eq!(status(&mut complete(), &["bench-work", "loop", "8"]), 0);
    assert_eq!(status(&mut complete(), &["doctor"]), 0);
    // Events that the disk does not take.
    assert_eq!(
        crc32(&mut complete(), &["--events", "/dev/full"]),
        0,
        "nothing was written"
    );
}

#[test]
fn options_reach_the_engine() {
    let mut engine = Untraced {
        complete: true,
        ..Untraced::default()
    };
    let opened = engine.opened.clone();
    crc32(
        &mut engine,
        &[
            "--backend",
            "none",
            "--strict",
            "--stop-at-first",
            "--timeout",
            "1.5",
        ],
    );
    let expected = EngineOptions {
        backend: BackendChoice::None,
        strict: true,
        stop_at_first: true,
        timeout: Some(std::time::Duration::from_millis(1500)),
        verbose: false,
        format: Format::Text,
        native_heap: false,
        hot: Some(16),
        as_root: false,
    };
    assert_eq!(*opened.lock().unwrap_or_else(|e| panic!("{e}")), [expected]);
}

#[test]
fn the_command_line_is_well_formed() {
    use clap::CommandFactory;
    args::Arguments::command().debug_assert();
    let mut all = args::Arguments::command();
    let commands = all.get_subcommands_mut();
    for command in commands.filter(|command| !command.is_hide_set()) {
        let help = command.render_long_help().to_string();
        assert!(help.contains("Example"), "{help}");
    }
}

#[test]
fn errors_have_one_form() {
    let failure = Failure::usage("what", "mend");
    assert_eq!(failure.text(false), "ffitrace: what\n  help: mend\n");
    assert!(
        failure
            .text(true)
            .contains("\x1b[1;31mffitrace:\x1b[0m what")
    );
}

#[test]
fn pointers_are_named_by_their_buffer() {
    let outcome = |name: &str, base: u64| AllocationOutcome {
        name: name.into(),
        base,
        size: 16,
        mutable: true,
        freed: false,
        made_by: None,
        freed_by: None,
        read: std::iter::once(0..4).collect(),
        written: vec![],
        maybe_written: vec![],
        initialized: vec![],
        bytes: vec![7; 5000],
    };
    let prototype = crate::prototype::Prototype::parse("char *f(void)", &[]);
    let prototype = prototype.unwrap_or_else(|e| panic!("{e}"));
    let function = crate::ffi::Function {
        name: "f".into(),
        address: 0,
        library: "/lib/f.so".into(),
        file_offset: 0,
        owner: Default::default(),
    };
    for (address, expected) in [
        (0x1000, Some("&a")),
        (0x2008, Some("&b+8")),
        (0x2010, Some("&b+16")),
        (0x2011, None),
        (0, None),
    ] {
        let outcome = CallOutcome {
            backend: "ebpf".into(),
            backend_note: None,
            ret: Some(crate::ffi::RetValue::Pointer(address)),
            allocations: vec![outcome("a", 0x1000), outcome("b", 0x2000)],
            violations: vec![],
            overreads: vec![],
            stepped: vec![],
            translations: vec![],
            native_heap: None,
            stats: Stats::default(),
            events: None,
        };
        assert!(!outcome.left_midway());
        let report = outcome.into_report(&function, &prototype);
        assert_eq!(report.ret.and_then(|r| r.points_to).as_deref(), expected);
        assert_eq!(report.allocations[0].read, [(0, 4)]);
        assert_eq!(report.allocations[0].bytes.len(), 4096);
    }
}
