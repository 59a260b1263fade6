//! Probed functions: counts, the records of outermost calls, and nesting.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use tracer_ebpf::{CallRecord, kind};
use tracer_user::backend::ebpf::{Ebpf, EbpfError, Returns};

use crate::arena::{Arena, drain};
use crate::code::{self, BYTE_INSN};
use crate::{Test, check_eq};

pub(crate) const TESTS: &[Test] = &[
    ("calls_of_zlib_are_counted", calls_of_zlib_are_counted),
    (
        "call_records_hold_arguments_and_result",
        call_records_hold_arguments_and_result,
    ),
    (
        "recursion_is_one_outermost_call",
        recursion_is_one_outermost_call,
    ),
    ("deep_recursion_recovers", deep_recursion_recovers),
    ("call_left_without_return", call_left_without_return),
    ("landing_mark_is_stepped_over", landing_mark_is_stepped_over),
    ("nesting_is_per_thread", nesting_is_per_thread),
    (
        "unprobed_calls_are_not_counted",
        unprobed_calls_are_not_counted,
    ),
    ("five_byte_nop_is_refused", five_byte_nop_is_refused),
    ("missing_library_is_named", missing_library_is_named),
];

/// File and offset in it of the code at `addr`.
fn place(addr: u64) -> Result<(PathBuf, u64), Failed> {
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some(_), Some(offset)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let Some((start, end)) = range.split_once('-') else {
            continue;
        };
        let number = |text| u64::from_str_radix(text, 16);
        let (start, end) = (number(start)?, number(end)?);
        if let Some(path) = fields.nth(2).filter(|_| (start..end).contains(&addr)) {
            return Ok((PathBuf::from(path), addr - start + number(offset)?));
        }
    }
    Err(format!("no file is mapped at {addr:#x}").into())
}

fn probe(ebpf: &mut Ebpf, function: *const (), name: &str, cookie: u64) -> Result<(), Failed> {
    let (file, offset) = place(function as u64)?;
    ebpf.probe_function(&file, offset, name, cookie, Returns::Seen)
        .map_err(|error| error.to_string().into())
}

/// The records as (kind, cookie, depth).
fn summary(calls: &[CallRecord]) -> Vec<(u16, u64, u32)> {
    calls
        .iter()
        .map(|call| (call.header.kind, call.cookie, call.depth))
        .collect()
}

fn calls_of_zlib_are_counted() -> Result<(), Failed> {
    type Crc32 = unsafe extern "C" fn(u64, *const u8, u32) -> u64;
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    // SAFETY: the prototype is that of zlib.
    let crc32: Crc32 = unsafe {
        let library = libc::dlopen(c"libz.so.1".as_ptr(), libc::RTLD_NOW);
        if library.is_null() {
            let why = CStr::from_ptr(libc::dlerror())
                .to_string_lossy()
                .into_owned();
            return Err(format!("zlib cannot be loaded: {why}").into());
        }
        let symbol = libc::dlsym(library, c"crc32".as_ptr());
        check_eq!(symbol.is_null(), false);
        std::mem::transmute(symbol)
    };
    probe(&mut ebpf, crc32 as *const (), "crc32", 77)?;
    let data = b"123456789";
    for _ in 0..50 {
        // SAFETY: reads the bytes of `data`.
        check_eq!(unsafe { crc32(0, data.as_ptr(), 9) }, 0xcbf4_3926);
    }
    let counters = ebpf.counters();
    check_eq!((counters.calls_entered, counters.calls_returned), (50, 50));
    check_eq!((counters.other_emitted, counters.other_dropped), (100, 0));
    let calls = drain(&mut ebpf)?.calls;
    check_eq!(
        summary(&calls),
        [(kind::CALL_ENTER, 77, 1), (kind::CALL_RETURN, 77, 1)].repeat(50)
    );
    check_eq!(calls[0].values[..3], [0, data.as_ptr() as u64, 9]);
    check_eq!(calls[1].values[0], 0xcbf4_3926);
    Ok(())
}

fn call_records_hold_arguments_and_result() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    probe(&mut ebpf, code::add6 as *const (), "add6", u64::MAX)?;
    // SAFETY: touches nothing.
    check_eq!(unsafe { code::add6(11, 12, 13, 14, 15, 16) }, 27);
    let calls = drain(&mut ebpf)?.calls;
    check_eq!(
        summary(&calls),
        [
            (kind::CALL_ENTER, u64::MAX, 1),
            (kind::CALL_RETURN, u64::MAX, 1)
        ]
    );
    check_eq!(calls[0].values, [11, 12, 13, 14, 15, 16]);
    check_eq!(calls[1].values[0], 27);
    check_eq!(calls[1].values[2..], [0; 4]);
    check_eq!(calls[1].sp, calls[0].sp + 8);
    Ok(())
}

fn recursion_is_one_outermost_call() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    arena.skip(BYTE_INSN);
    probe(&mut ebpf, code::recurse as *const (), "recurse", 5)?;
    for _ in 0..3 {
        // SAFETY: reads a byte of the arena by an instruction of the length that is skipped.
        check_eq!(unsafe { code::recurse(10, arena.base) }, 10);
    }
    let counters = ebpf.counters();
    check_eq!((counters.calls_entered, counters.calls_returned), (33, 33));
    let records = drain(&mut ebpf)?;
    check_eq!(
        summary(&records.calls),
        [(kind::CALL_ENTER, 5, 1), (kind::CALL_RETURN, 5, 1)].repeat(3)
    );
    check_eq!(
        records
            .faults
            .iter()
            .map(|fault| fault.depth)
            .collect::<Vec<_>>(),
        [11; 3]
    );
    // SAFETY: as above.
    unsafe { code::read_byte(arena.base) };
    check_eq!(drain(&mut ebpf)?.faults[0].depth, 0);
    Ok(())
}

/// The kernel sees only 64 nested returns; the state must be right again after.
fn deep_recursion_recovers() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    arena.skip(BYTE_INSN);
    probe(&mut ebpf, code::recurse as *const (), "recurse", 6)?;
    for depth in [200, 1, 200, 0] {
        // SAFETY: reads a byte of the arena by an instruction of the length that is skipped.
        check_eq!(unsafe { code::recurse(depth, arena.base) }, depth);
    }
    check_eq!(ebpf.counters().calls_entered, 201 + 2 + 201 + 1);
    let records = drain(&mut ebpf)?;
    check_eq!(
        summary(&records.calls),
        [(kind::CALL_ENTER, 6, 1), (kind::CALL_RETURN, 6, 1)].repeat(4)
    );
    check_eq!(
        records
            .faults
            .iter()
            .map(|fault| fault.depth)
            .collect::<Vec<_>>(),
        [201, 2, 201, 1]
    );
    Ok(())
}

fn call_left_without_return() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    arena.skip(BYTE_INSN);
    probe(&mut ebpf, code::leaves as *const (), "leaves", 8)?;
    for _ in 0..3 {
        // SAFETY: the first only moves its own stack pointer, the second reads the arena by an
        // instruction of the length that is skipped.
        unsafe {
            code::call_left_without_return();
            code::read_byte(arena.base);
        }
    }
    let counters = ebpf.counters();
    check_eq!((counters.calls_entered, counters.calls_returned), (3, 0));
    let records = drain(&mut ebpf)?;
    // At the same stack pointer the later ones cannot be told from a loop to the function's head.
    check_eq!(summary(&records.calls), [(kind::CALL_ENTER, 8, 1)]);
    check_eq!(
        records
            .faults
            .iter()
            .map(|fault| fault.depth)
            .collect::<Vec<_>>(),
        [0; 3]
    );
    Ok(())
}

fn landing_mark_is_stepped_over() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    probe(&mut ebpf, code::landing as *const (), "landing", 9)?;
    // SAFETY: touches nothing.
    check_eq!(unsafe { code::landing(41) }, 41);
    let calls = drain(&mut ebpf)?.calls;
    check_eq!(
        summary(&calls),
        [(kind::CALL_ENTER, 9, 1), (kind::CALL_RETURN, 9, 1)]
    );
    check_eq!((calls[0].values[0], calls[1].values[0]), (41, 41));
    check_eq!(calls[1].sp, calls[0].sp + 8);
    Ok(())
}

fn nesting_is_per_thread() -> Result<(), Failed> {
    const EACH: usize = 200;
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    arena.skip(BYTE_INSN);
    probe(&mut ebpf, code::recurse as *const (), "recurse", 4)?;
    let base = arena.base;
    std::thread::scope(|scope| {
        for depth in 0..4 {
            scope.spawn(move || {
                for _ in 0..EACH {
                    // SAFETY: reads the arena by an instruction of the length that is skipped.
                    unsafe { code::recurse(depth, base + depth) };
                }
            });
        }
    });
    let records = drain(&mut ebpf)?;
    check_eq!(records.faults.len(), 4 * EACH);
    for fault in &records.faults {
        check_eq!(u64::from(fault.depth), fault.addr - base + 1);
    }
    check_eq!(records.calls.len(), 2 * 4 * EACH);
    let counters = ebpf.counters();
    check_eq!(counters.calls_entered, (1 + 2 + 3 + 4) * EACH as u64);
    check_eq!(counters.calls_returned, counters.calls_entered);
    Ok(())
}

fn unprobed_calls_are_not_counted() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    // SAFETY: touches nothing.
    let call = || unsafe { code::add6(1, 0, 0, 0, 0, 2) };
    check_eq!(call(), 3);
    probe(&mut ebpf, code::add6 as *const (), "add6", 1)?;
    check_eq!(call(), 3);
    ebpf.unprobe();
    check_eq!(call(), 3);
    check_eq!(ebpf.counters().calls_entered, 1);
    // And can be probed again.
    probe(&mut ebpf, code::add6 as *const (), "add6", 2)?;
    check_eq!(call(), 3);
    let counters = ebpf.counters();
    check_eq!((counters.calls_entered, counters.calls_returned), (2, 2));
    let cookies: Vec<u64> = drain(&mut ebpf)?
        .calls
        .iter()
        .map(|call| call.cookie)
        .collect();
    check_eq!(cookies, [1, 1, 2, 2]);
    Ok(())
}

fn five_byte_nop_is_refused() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    for function in [
        code::patchable as *const (),
        code::patchable_landing as *const (),
    ] {
        let (file, offset) = place(function as u64)?;
        match ebpf.probe_function(&file, offset, "patchable", 1, Returns::Seen) {
            Err(EbpfError::ProbeOnNop { function }) if function == "patchable" => {}
            other => return Err(format!("not refused: {other:?}").into()),
        }
    }
    Ok(())
}

fn missing_library_is_named() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    match ebpf.probe_function(Path::new("/nowhere/lib.so"), 0, "f", 1, Returns::Seen) {
        Err(error @ EbpfError::ProbeLibrary { .. }) => {
            check_eq!(error.to_string().contains("/nowhere/lib.so"), true);
        }
        other => return Err(format!("not refused: {other:?}").into()),
    }
    // An offset beyond the end of the file.
    match ebpf.probe_function(
        &std::env::current_exe()?,
        u64::MAX >> 1,
        "f",
        1,
        Returns::Seen,
    ) {
        Err(EbpfError::ProbeFile { .. }) => Ok(()),
        other => Err(format!("not refused: {other:?}").into()),
    }
}
