//! Reports for people.

use super::*;

#[test]
fn a_clean_call() {
    let mut buf = allocation("buf", 11, false);
    buf.read = vec![(0, 11)];
    let expected = "\
crc32  /usr/lib/x86_64-linux-gnu/libz.so.1.3.1
returned 907060870 (unsigned long, 0x3610a686)

buf  11 bytes, read-only
  read           0..11  (all 11 bytes)
  written        nothing
  0000  rrrrrrrrrrr

map: r read

no violations
3 accesses, 4.12 us an access; recorder ebpf, lost 0
";
    assert_eq!(text(&report(vec![buf], vec![]), false), expected);
}

#[test]
fn a_partly_written_buffer_and_a_violation() {
    let mut buf = allocation("buf", 44, true);
    buf.read = vec![(0, 8), (30, 32)];
    buf.written = vec![(4, 16)];
    buf.maybe_written = vec![(16, 20)];
    buf.initialized = vec![(0, 20)];
    let mut violation = out_of_bounds();
    violation.count = 1_234;
    let mut report = report(vec![buf], vec![violation]);
    report.stats.overreads = 2;
    let expected = "\
crc32  /usr/lib/x86_64-linux-gnu/libz.so.1.3.1
returned 907060870 (unsigned long, 0x3610a686)

buf  44 bytes, writable
  read           0..8 30..32  (10 bytes)
  written        4..16  (12 bytes)
  maybe written  16..20  (4 bytes)
  uninitialised  20..44  (24 bytes)
  read uninit    30..32  (2 bytes)
  0000  rrrrbbbbwwwwwwww mmmm??????????uu ????????????
  past end  !!!!

map: ? uninitialised, r read, m maybe written, w written, b read and written,
     u read uninitialised, ! violation

1 violation
  1. out_of_bounds, 1,234 times
     read of 4 bytes, of which 4 lie past the end of buf (44 bytes)
     access   read of 4 bytes at &buf+44
     in       w_oob+0x4  w.c:12
     by       mov eax,[rdi+2Ch]
     stack    w_oob+0x4 (w.c:12)
              w_outer+0x1f (w.c:30)

3 accesses, 4.12 us an access; recorder ebpf, lost 0
2 over-reads by string functions, harmless (--strict reports them)
";
    assert_eq!(text(&report, false), expected);
}

#[test]
fn a_large_buffer_is_scaled_and_long_lists_are_cut() {
    let mut big = allocation("big", 100_000, true);
    big.read = (0..500).map(|i| (i * 40, i * 40 + 8)).collect();
    big.written = vec![(50_000, 100_000)];
    big.initialized = vec![(0, 20_000), (50_000, 100_000)];
    let text = text(&report(vec![big], vec![]), false);
    assert!(text.contains("0..8 40..48 80..88"), "{text}");
    assert!(text.contains("more  (4,000 bytes)"), "{text}");
    assert!(text.contains("map (one character is 256 bytes):"), "{text}");
    assert!(text.contains("RRRRRRRRRRRRRRRR"), "{text}");
    assert!(text.contains("capital: only some of its bytes"), "{text}");
}

#[test]
fn equal_rows_are_folded_and_every_size_fits() {
    let mut a = allocation("a", 700, false);
    a.read = vec![(0, 700)];
    let folded = text(&report(vec![a.clone()], vec![]), false);
    assert!(folded.contains("more rows like this"), "{folded}");
    for size in [0, 1, 63, 64, 65, 768, 769, 4096, 1 << 20, 512 << 20] {
        let a = Allocation {
            read: vec![(0, size / 2)],
            ..allocation("a", size, true)
        };
        text(
            &report(
                vec![Allocation {
                    initialized: vec![],
                    ..a
                }],
                vec![],
            ),
            true,
        );
        assert!(size.div_ceil(map::scale(size)) <= 768, "{size}");
    }
}

#[test]
fn violations_before_a_buffer_and_in_it() {
    let mut before = out_of_bounds();
    (before.offset, before.size) = (Some(-6), Some(4));
    let mut inside = out_of_bounds();
    (inside.offset, inside.size, inside.kind) = (Some(2), Some(2), ViolationKind::WriteToReadOnly);
    let report = report(vec![allocation("buf", 8, false)], vec![before, inside]);
    let text = text(&report, false);
    assert!(text.contains("  -6 to -1  !!!!.."), "{text}");
    assert!(text.contains("  0000  ..!!...."), "{text}");
    assert!(text.contains("&buf-6"), "{text}");
}

#[test]
fn a_crash_and_an_untraced_call() {
    let crash = Violation {
        kind: ViolationKind::NativeCrash,
        access: None,
        addr: None,
        size: None,
        allocation: None,
        offset: None,
        source: None,
        instruction: None,
        message: "native code died of SIGFPE (integer division by zero) and was stopped there; \
                  nothing after that point was seen"
            .into(),
        backtrace: vec![],
        ..out_of_bounds()
    };
    let mut crashed = report(vec![], vec![crash]);
    crashed.ret = None;
    crashed.backend_note = Some("ebpf is not to be had: CAP_BPF is missing".into());
    let shown = text(&crashed, false);
    assert!(
        shown.contains("did not return") && shown.contains("1. native_crash"),
        "{shown}"
    );
    assert!(
        shown.contains("CAP_BPF") && !shown.contains("access   "),
        "{shown}"
    );
    assert_eq!(crashed.exit_status(), 1);

    let mut untraced = report(vec![allocation("buf", 8, true)], vec![]);
    untraced.backend = "none".into();
    let shown = text(&untraced, false);
    assert!(
        shown.contains("not traced") && !shown.contains("no violations"),
        "{shown}"
    );
    assert_eq!(untraced.exit_status(), 0);
}

#[test]
fn an_incomplete_trace_says_so() {
    let mut lossy = report(vec![], vec![]);
    (
        lossy.stats.dropped,
        lossy.stats.complete,
        lossy.stats.emitted,
    ) = (7, false, 10);
    let shown = text(&lossy, false);
    assert!(
        shown.contains("lost 7") && shown.contains("incomplete: of 10 records"),
        "{shown}"
    );
    assert_eq!(lossy.exit_status(), 4);
    lossy.violations.push(out_of_bounds());
    assert_eq!(lossy.exit_status(), 1);
}

#[test]
fn returned_values() {
    let show = |ty: &str, value: RetValue, points_to: Option<&str>| {
        let mut r = report(vec![], vec![]);
        let points_to = points_to.map(str::to_owned);
        r.ret = Some(Ret {
            r#type: ty.into(),
            value,
            points_to,
            constant: None,
        });
        text(&r, false).lines().nth(1).unwrap_or("").to_owned()
    };
    assert_eq!(show("void", RetValue::Void, None), "returned");
    assert_eq!(show("int", RetValue::Int(-1), None), "returned -1 (int)");
    assert_eq!(
        show("char", RetValue::Char(65), None),
        "returned 65 (char, 'A')"
    );
    assert_eq!(
        show("double", RetValue::Double(0.1), None),
        "returned 0.1 (double)"
    );
    let p = RetValue::Pointer(0x7000_0008);
    assert_eq!(
        show("char *", p, Some("&buf+8")),
        "returned 0x70000008 (char *, &buf+8)"
    );
    assert_eq!(
        show("char *", RetValue::Pointer(0), None),
        "returned 0x0 (char *, null)"
    );
    let big = RetValue::Struct(vec![(
        "a".into(),
        RetValue::Array(vec![RetValue::Int(123_456); 30]),
    )]);
    assert_eq!(show("struct big", big, None), "returned (struct big)");
}

#[test]
fn bench_and_doctor_fit_a_terminal() {
    let row = |backend: &str, ns: f64| BenchRow {
        question: "What does one 8-byte read cost?".into(),
        backend: backend.into(),
        unit: Unit::Access,
        accesses: 1_000_000,
        ns_per_access: ns,
        accesses_per_s: 1e9 / ns,
        ns_above_none: Some(ns - 0.31),
        ratio_to_none: Some(ns / 0.31),
        ratio_to_ptrace: Some(ns / 19_000.0),
        ratio_to_bare: None,
        accesses_each: None,
        size: None,
        note: None,
    };
    let run = |backend: &str, ns, size: Option<u64>| BenchRow {
        question: "a library".into(),
        unit: Unit::Run,
        accesses_each: Some(1234),
        size,
        note: size.map(|_| "8 KiB instead of 1 MiB, for want of time".into()),
        ..row(backend, ns)
    };
    let bare = |backend: &str, ns| BenchRow {
        question: "a fault".into(),
        unit: Unit::Fault,
        ns_above_none: None,
        ratio_to_none: None,
        ratio_to_bare: Some(ns / 2600.0),
        ..row(backend, ns)
    };
    let rows = vec![
        row("none", 0.31),
        row("inproc", 2700.0),
        row("ptrace", 19_000.0),
        run("none", 1e8, None),
        run("ebpf", 123_456_789.0, None),
        run("ptrace", 1.9e9, Some(8)),
        bare("ebpf", 3100.0),
        bare("bare", 2600.0),
    ];
    let left_out = |question: &str, backend: &str| LeftOut {
        question: question.into(),
        backend: backend.into(),
        why: "it steps `rep movsb` byte by byte, so that a copy would take some 10 s".into(),
    };
    let bench = BenchReport {
        schema: 1,
        notes: vec!["2 cores, Linux 6.18".into()],
        rows,
        left_out: vec![
            left_out("a library", "inproc"),
            left_out("a question without rows", "ebpf"),
        ],
    };
    let mut out = Vec::new();
    bench::write_text(&mut out, &bench, Theme::PLAIN).unwrap_or_else(|e| panic!("{e}"));
    let doctor = doctor_report();
    doctor::write_text(&mut out, &doctor, Theme::PLAIN).unwrap_or_else(|e| panic!("{e}"));
    let text = String::from_utf8_lossy(&out);
    if std::env::var_os("SHOW").is_some() {
        println!("{text}");
    }
    assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    assert!(
        text.contains(
            "inproc       1,000,000     2.70 us     2.70 us      370k     8,710x      0.14x"
        ),
        "{text}"
    );
    assert!(
        text.contains("ebpf         1,000,000     3.10 us           -      323k      1.19x"),
        "{text}"
    );
    for remark in [
        "1,234 accesses a run (counted); each adds 100 us under ebpf",
        "ptrace: 8 KiB instead of 1 MiB, for want of time",
        "inproc was left out: it steps `rep movsb`",
        "a question without rows\n  ebpf was left out: it steps",
    ] {
        assert!(text.contains(remark), "{remark}: {text}");
    }
    assert!(text.contains("help: run it as"), "{text}");
    assert!(text.contains("(needed by ebpf)"), "{text}");
}

fn doctor_report() -> DoctorReport {
    let reason = "CAP_BPF is missing, and so is CAP_PERFMON, as for any ordinary user";
    let ebpf = DoctorBackend {
        name: "ebpf".into(),
        usable: false,
        check: Some("privileges".into()),
        reason: Some(reason.into()),
        remedy: Some("run it as `sudo ffitrace …`".into()),
    };
    let inproc = DoctorBackend {
        name: "inproc".into(),
        usable: true,
        check: None,
        reason: None,
        remedy: None,
    };
    let check = |name: &str, state, detail: &str| DoctorCheck {
        name: name.into(),
        state,
        detail: detail.into(),
        remedy: None,
        fallback: None,
        affects: vec!["ebpf".into()],
    };
    let missing = DoctorCheck {
        remedy: Some("boot a kernel that has it".into()),
        fallback: Some("inproc, which sees the same accesses and needs no kernel for it".into()),
        ..check(
            "a check with a very long name",
            CheckState::Missing,
            "/sys/kernel/btf/vmlinux is not there",
        )
    };
    let untried = DoctorCheck {
        fallback: Some("is not shown".into()),
        ..check("programs", CheckState::Untried, "not tried")
    };
    let good = check("kernel", CheckState::Ok, "Linux 6.18");
    DoctorReport::new(vec![ebpf, inproc], vec![good, missing, untried])
}

#[test]
fn doctor_begins_with_the_answer_and_ends_with_what_is_well() {
    let mut out = Vec::new();
    let report = doctor_report();
    doctor::write_text(&mut out, &report, Theme::PLAIN).unwrap_or_else(|e| panic!("{e}"));
    let text = String::from_utf8_lossy(&out);
    assert!(
        text.starts_with("--backend auto takes inproc,") && text.contains("since ebpf cannot"),
        "{text}"
    );
    let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("{word}: {text}"));
    let order = [
        "recorders",
        "very long name",
        "without it: inproc",
        "programs",
        "Linux 6.18",
    ];
    let places = order.map(at);
    assert!(places.is_sorted(), "{text}");
    assert!(!text.contains("is not shown"), "{text}");

    let nothing = DoctorReport::new(vec![], vec![]);
    assert_eq!(nothing.auto, None);
    assert!(
        nothing.summary.starts_with("Nothing can be traced"),
        "{}",
        nothing.summary
    );
}

#[test]
fn colours_do_not_change_the_text() {
    let mut buf = allocation("buf", 44, true);
    buf.read = vec![(0, 20)];
    let report = report(vec![buf], vec![out_of_bounds()]);
    let theme = Theme {
        color: true,
        unicode: false,
    };
    let mut out = Vec::new();
    text::write(&mut out, &report, theme, false).unwrap_or_else(|e| panic!("{e}"));
    let colored = String::from_utf8_lossy(&out).into_owned();
    assert!(colored.contains("\x1b["));
    let mut bare = String::new();
    let mut rest = colored.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        bare.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    bare.push_str(rest);
    assert_eq!(bare, text(&report, false));
}
