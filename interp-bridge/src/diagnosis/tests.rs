use tracer_user::{access::AccessKind, resume::Snapshot, symbols::SourceLine};

use super::*;
use crate::memory::{Logged, Memory, Violation};

fn logged(memory: &mut Memory) -> Logged {
    let id = memory
        .allocate(&crate::memory::AllocRequest {
            name: Some("buf"),
            size: 44,
            align: 16,
            ..Default::default()
        })
        .expect("room");
    let base = memory.address(id).expect("live");
    Logged {
        violation: Violation {
            kind: ViolationKind::OutOfBounds,
            access: Some(AccessKind::Write),
            certain: true,
            addr: base + 44,
            size: 4,
            allocation: Some(id),
            allocation_name: Some("buf".to_owned()),
            offset: Some(44),
            ip: logged as *const () as u64,
            tid: 4711,
            seq: Some(12),
            message: "write of 4 bytes at offset 44 of `buf`: 0 bytes past its end".to_owned(),
        },
        count: 5,
        last_offset: Some(44),
        last_seq: Some(16),
    }
}

fn diagnosis() -> Diagnosis {
    let mut memory = Memory::new().expect("an arena");
    let logged = logged(&mut memory);
    let stack = ["main.rs:7 in f".to_owned(), "main.rs:2 in main".to_owned()];
    let context = Context {
        function: Some("w_oob"),
        memory: Some(&memory),
        interpreter_stack: &stack,
        ..Context::default()
    };
    Diagnoser::new().diagnose(&logged, &context)
}

#[test]
fn names_the_site_and_the_allocation() {
    let found = diagnosis();
    let site = found.site().expect("a site");
    assert!(site.symbol.contains("logged"), "{site:?}");
    let source = site.source.as_ref().expect("tests have line tables");
    assert!(source.path.ends_with("diagnosis/tests.rs"), "{source:?}");
    assert!(found.instruction.is_some());
    let note = found.allocation.as_ref().expect("known");
    assert_eq!((note.size, note.offset), (Some(44), 44));
    assert_eq!(found.addr, Some(note.base + 44));
    // No snapshot: the site alone.
    assert_eq!(found.backtrace.len(), 1);
}

#[test]
fn a_snapshot_of_another_thread_or_instruction_is_not_taken() {
    let mut memory = Memory::new().expect("an arena");
    let logged = logged(&mut memory);
    let snapshot = |ip, tid| Snapshot {
        tid,
        addr: logged.violation.addr,
        regs: tracer_ebpf::Regs {
            gpr: [0; 16],
            rip: ip,
            rflags: 0,
        },
        base: 0,
        stack: Vec::new(),
    };
    let ip = logged.violation.ip;
    let snapshots = [snapshot(ip, 1), snapshot(ip + 1, 4711)];
    let context = Context {
        snapshots: &snapshots,
        ..Context::default()
    };
    let found = Diagnoser::new().diagnose(&logged, &context);
    assert_eq!(found.backtrace.len(), 1);
}

#[test]
fn json_has_the_names_of_the_contract() {
    let found = diagnosis();
    let json = serde_json::to_value(&found).expect("serialisable");
    for name in [
        "kind",
        "access",
        "certain",
        "addr",
        "size",
        "allocation",
        "offset",
        "ip",
        "symbol",
        "source",
        "message",
        "backtrace",
    ] {
        assert!(json.get(name).is_some(), "{name} in {json}");
    }
    assert_eq!(json["kind"], "out_of_bounds");
    assert_eq!(json["access"], "write");
    assert_eq!(json["allocation"], "buf");
    assert_eq!(json["allocation_size"], 44);
    assert_eq!(json["tid"], 4711);
    assert_eq!(json["count"], 5);
    assert_eq!(
        json["backtrace"][0],
        json["frames"][0]["symbol"]
            .as_str()
            .map(|symbol| { format!("{symbol} ({})", json["source"].as_str().expect("a line")) })
            .expect("a symbol")
    );
    assert_eq!(json["interpreter_stack"][1], "main.rs:2 in main");
    assert!(
        json["addr"]
            .as_str()
            .is_some_and(|addr| addr.starts_with("0x"))
    );
}

#[test]
fn text_fits_eighty_columns() {
    let mut found = diagnosis();
    found.message = "a word and another, ".repeat(20);
    found.backtrace[0].symbol = "function+0x4".to_owned();
    found.backtrace[0].source = Some(SourceLine {
        path: "/src/w.c".to_owned(),
        line: 12,
    });
    let mut caller = found.backtrace[0].clone();
    caller.symbol = "outer+0x10".to_owned();
    found.backtrace.push(caller);
    let text = found.to_string();
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
    for part in [
        "out_of_bounds: a word",
        "  at           function+0x4 (w.c:12)",
        "  called from  outer+0x10 (w.c:12)",
        "  allocation   `buf` (number 0): 44 bytes at 0x",
        "  thread       4711, event 12, seen 5 times",
        "  call         w_oob",
        "  interpreter  main.rs:7 in f\n               main.rs:2 in main",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
}
