//! Reports from constructed data, compared as a whole.

mod people;
mod programs;

use tracer_user::access::AccessKind;

use super::bench::{BenchReport, BenchRow, LeftOut, Unit};
use super::doctor::{CheckState, DoctorBackend, DoctorCheck, DoctorReport};
use super::events::{EventLine, EventsError, EventsWriter};
use super::map;
use super::model::*;
use super::*;
use crate::ffi::RetValue;

fn allocation(name: &str, size: u64, mutable: bool) -> Allocation {
    Allocation {
        name: name.into(),
        base: Hex(0x7000_0000_1000),
        size,
        mutable,
        freed: false,
        made_by: None,
        freed_by: None,
        read: vec![],
        written: vec![],
        maybe_written: vec![],
        initialized: vec![(0, size)],
        bytes: vec![],
    }
}

fn report(allocations: Vec<Allocation>, violations: Vec<Violation>) -> CallReport {
    CallReport {
        schema: SCHEMA,
        library: "/usr/lib/x86_64-linux-gnu/libz.so.1.3.1".into(),
        function: "crc32".into(),
        backend: "ebpf".into(),
        backend_note: None,
        ret: Some(Ret {
            r#type: "unsigned long".into(),
            value: RetValue::Int(907_060_870),
            points_to: None,
            constant: None,
        }),
        allocations,
        violations,
        overreads: Vec::new(),
        stepped: Vec::new(),
        translations: Vec::new(),
        native_heap: None,
        stats: Stats {
            calls: 1,
            events: 3,
            reads: 3,
            faults: 3,
            emitted: 3,
            delivered: 3,
            complete: true,
            wall_ns: 12_345,
            sites: 2,
            ..Stats::default()
        },
    }
}

fn out_of_bounds() -> Violation {
    Violation {
        kind: ViolationKind::OutOfBounds,
        access: Some(AccessKind::Read),
        certain: true,
        addr: Some(Hex(0x7000_0000_102c)),
        size: Some(4),
        allocation: Some("buf".into()),
        offset: Some(44),
        ip: Some(Hex(0x5555_0004)),
        symbol: Some("w_oob+0x4".into()),
        source: Some("w.c:12".into()),
        instruction: Some("mov eax,[rdi+2Ch]".into()),
        message: "read of 4 bytes, of which 4 lie past the end of buf (44 bytes)".into(),
        backtrace: vec!["w_oob+0x4 (w.c:12)".into(), "w_outer+0x1f (w.c:30)".into()],
        count: 1,
    }
}

fn text(report: &CallReport, verbose: bool) -> String {
    let mut out = Vec::new();
    text::write(&mut out, report, Theme::PLAIN, verbose).unwrap_or_else(|e| panic!("{e}"));
    let text = String::from_utf8(out).unwrap_or_else(|e| panic!("{e}"));
    for line in text.lines() {
        assert!(
            line.chars().count() <= 80,
            "{} columns: {line}",
            line.chars().count()
        );
        assert_eq!(line, line.trim_end(), "blanks at the end");
    }
    if std::env::var_os("SHOW").is_some() {
        println!("{text}\n{}", "=".repeat(80));
    }
    text
}
