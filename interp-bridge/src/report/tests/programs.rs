//! Reports and events for programs.

use tracer_user::access::Source;

use super::*;

fn event() -> EventLine<'static> {
    EventLine {
        seq: 0,
        tid: 123,
        kind: AccessKind::Read,
        certain: true,
        addr: Hex(0x1000),
        size: 4,
        allocation: Some("buf"),
        offset: Some(0),
        ip: Hex(0x2000),
        symbol: Some("crc32_z+0x1b"),
        source: Source::Fault,
    }
}

/// The contract's example, with everything that this version adds taken away.
#[test]
fn json_has_the_contracts_fields() {
    let mut buf = allocation("buf", 11, false);
    (buf.read, buf.bytes) = (vec![(0, 11)], b"hello world".to_vec());
    let report = report(vec![buf], vec![out_of_bounds()]);
    let mut out = Vec::new();
    json::write(&mut out, &report).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
    let mut value: serde_json::Value =
        serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{e}"));
    let mut drop = |pointer: &str, field: &str| {
        let object = value.pointer_mut(pointer).and_then(|v| v.as_object_mut());
        assert!(
            object.is_some_and(|o| o.remove(field).is_some()),
            "{pointer} {field}"
        );
    };
    drop("", "backend_note");
    drop("/violations/0", "instruction");
    drop("/violations/0", "count");
    drop("/stats", "overreads");
    drop("/stats", "steps");
    let expected = serde_json::json!({
        "schema": 1, "library": "/usr/lib/x86_64-linux-gnu/libz.so.1.3.1", "function": "crc32",
        "backend": "ebpf", "ret": {"type": "unsigned long", "value": "907060870"},
        "allocations": [{"name": "buf", "base": "0x700000001000", "size": 11, "mutable": false,
            "read": [[0, 11]], "written": [], "maybe_written": [], "initialized": [[0, 11]],
            "bytes": "68656c6c6f20776f726c64"}],
        "violations": [{"kind": "out_of_bounds", "access": "read", "certain": true,
            "addr": "0x70000000102c", "size": 4, "allocation": "buf", "offset": 44,
            "ip": "0x55550004", "symbol": "w_oob+0x4", "source": "w.c:12",
            "message": "read of 4 bytes, of which 4 lie past the end of buf (44 bytes)",
            "backtrace": ["w_oob+0x4 (w.c:12)", "w_outer+0x1f (w.c:30)"]}],
        "stats": {"calls": 1, "events": 3, "reads": 3, "writes": 0, "faults": 3, "translated": 0,
            "syscalls": 0, "emitted": 3, "delivered": 3, "rejected": 0, "dropped": 0,
            "complete": true, "wall_ns": 12345, "sites": 2}
    });
    assert_eq!(value, expected);
}

#[test]
fn json_of_values_and_kinds() {
    let json = |value: RetValue| serde_json::to_string(&value).unwrap_or_default();
    assert_eq!(json(RetValue::Void), "null");
    assert_eq!(
        json(RetValue::Int(u64::MAX.into())),
        "\"18446744073709551615\""
    );
    assert_eq!(json(RetValue::Double(f64::NAN)), "\"NaN\"");
    let point = RetValue::Struct(vec![
        ("y".into(), RetValue::Int(1)),
        ("x".into(), RetValue::Array(vec![RetValue::Bool(true)])),
    ]);
    assert_eq!(json(point), r#"{"y":"1","x":["true"]}"#);
    use ViolationKind::*;
    for kind in [
        OutOfBounds,
        UseAfterFree,
        WriteToReadOnly,
        WildAccess,
        Overread,
        Unsupported,
        NativeCrash,
        Timeout,
    ] {
        assert_eq!(serde_json::to_value(kind).unwrap_or_default(), kind.name());
    }
}

#[test]
fn events_are_the_contracts_lines() {
    let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let path = dir.path().join("e.jsonl");
    let mut writer = EventsWriter::create(&path).unwrap_or_else(|e| panic!("{e}"));
    for _ in 0..3 {
        writer.write(&event());
    }
    assert_eq!(writer.finish().ok(), Some(3));
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text.lines().count(), 3);
    assert_eq!(
        text.lines().next(),
        Some(
            r#"{"seq":0,"tid":123,"kind":"read","certain":true,"addr":"0x1000","size":4,"allocation":"buf","offset":0,"ip":"0x2000","symbol":"crc32_z+0x1b","source":"fault"}"#
        )
    );
}

#[test]
fn events_that_cannot_be_written_are_told() {
    let full = std::path::Path::new("/dev/full");
    let mut writer = EventsWriter::create(full).unwrap_or_else(|e| panic!("{e}"));
    for _ in 0..10 {
        writer.write(&event());
    }
    match writer.finish() {
        Err(error @ EventsError::Write { total: 10, .. }) => assert!(!error.is_usage()),
        other => panic!("{other:?}"),
    }
    // Past the buffer the error comes at once, and the count says where.
    let mut writer = EventsWriter::create(full).unwrap_or_else(|e| panic!("{e}"));
    for _ in 0..10_000 {
        writer.write(&event());
    }
    let error = writer.finish();
    assert!(matches!(
        error,
        Err(EventsError::Write {
            written: 1..10_000,
            total: 10_000,
            ..
        })
    ));
    for (name, word) in [("/tmp/x.parquet", "parquet"), ("/tmp/x", "no extension")] {
        let error = EventsWriter::create(name.as_ref())
            .map(|_| ())
            .map_err(|e| e.to_string());
        assert!(error.is_err_and(|e| e.contains(word)), "{name}");
    }
    let error = EventsWriter::create("/no/such/dir/x.jsonl".as_ref()).map(|_| ());
    assert!(matches!(error, Err(EventsError::Create { .. })));
}
