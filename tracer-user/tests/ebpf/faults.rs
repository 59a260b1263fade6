//! Page faults: what a record holds, what is recorded, and that nothing is lost unseen.

use std::ptr;

use libtest_mimic::Failed;
use tracer_ebpf::{DELTA, FaultRecord, KnownSite, NO_REGISTER, RING_BYTES};
use tracer_user::backend::ebpf::Ebpf;

use crate::arena::{Arena, drain};
use crate::code::{self, BYTE_INSN};
use crate::{Test, check_eq};

/// Bits of a page fault's error code (Intel SDM volume 3, 4.7).
const WRITE: u32 = 1 << 1;
const USER: u32 = 1 << 2;
const FETCH: u32 = 1 << 4;

pub(crate) const TESTS: &[Test] = &[
    ("fault_holds_every_register", fault_holds_every_register),
    (
        "fault_addresses_and_directions",
        fault_addresses_and_directions,
    ),
    (
        "only_the_native_view_is_recorded",
        only_the_native_view_is_recorded,
    ),
    (
        "instruction_before_an_unmapped_page",
        instruction_before_an_unmapped_page,
    ),
    ("jump_into_the_arena", jump_into_the_arena),
    ("system_call_on_the_arena", system_call_on_the_arena),
    ("threads_keep_their_order", threads_keep_their_order),
    (
        "other_processes_are_not_recorded",
        other_processes_are_not_recorded,
    ),
    (
        "known_sites_are_recorded_in_short",
        known_sites_are_recorded_in_short,
    ),
    (
        "full_ring_counts_what_it_drops",
        full_ring_counts_what_it_drops,
    ),
    ("ring_wraps_around", ring_wraps_around),
    ("view_outlives_the_recorder", view_outlives_the_recorder),
    (
        "object_of_the_environment_is_used",
        object_of_the_environment_is_used,
    ),
    (
        "programs_load_with_their_log_on",
        programs_load_with_their_log_on,
    ),
];

fn gettid() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get() as u32
}

fn fault_holds_every_register() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    let mut sp = 0;
    let base = arena.base + 0x5000;
    // SAFETY: writes 8 bytes to the arena, whose page the handler opens.
    unsafe { code::known_write(base, &mut sp) };
    let records = drain(&mut ebpf)?;
    check_eq!(records.faults.len(), 1);
    let fault = records.faults[0];
    check_eq!(fault.header.tid, gettid());
    check_eq!(fault.addr, base + 3 * 4 + 0x40);
    check_eq!(fault.error, USER | WRITE);
    check_eq!(fault.depth, 0);
    let mut expected = code::KNOWN;
    expected[4] = sp;
    expected[7] = base;
    check_eq!(fault.regs.gpr, expected);
    check_eq!(fault.regs.rip, code::known_write_ip());
    // DF, and the bit that is always set.
    check_eq!(fault.regs.rflags & (1 << 10 | 1 << 1), 1 << 10 | 1 << 1);
    check_eq!(fault.insn_len, 15);
    // SAFETY: code of this binary, followed by more of it.
    let insn: [u8; 15] = unsafe { ptr::read(fault.regs.rip as *const _) };
    check_eq!(fault.insn, insn);
    // SAFETY: the page is open by now.
    let written = unsafe { ptr::read(fault.addr as *const u64) };
    check_eq!(written, code::KNOWN[0]);
    Ok(())
}

/// The instruction of `known_write` is listed with all registers that it could be made of.
fn known_sites_are_recorded_in_short() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    let ip = code::known_write_ip();
    let mut page = arena.base;
    let mut fault = |ebpf: &mut Ebpf, listed: u64| {
        page += 0x5000;
        let mut sp = 0;
        // SAFETY: the table stays mapped, and nothing else refers to it.
        unsafe { (*ebpf.known())[KnownSite::cell(ip)] = listed };
        // SAFETY: writes 8 bytes to the arena, whose page the handler opens.
        unsafe { code::known_write(page, &mut sp) };
        drain(ebpf).map(|records| (page, sp, records))
    };
    for base in 0..=NO_REGISTER {
        let index = NO_REGISTER - base;
        let site = KnownSite::new(ip, [base, index]).ok_or("the address does not fit")?;
        let (page, sp, records) = fault(&mut ebpf, site.word())?;
        check_eq!((records.faults.len(), records.known.len()), (0, 1));
        let value = |number: u8| match number {
            4 => sp,
            7 => page,
            NO_REGISTER => 0,
            number => code::KNOWN[usize::from(number)],
        };
        let known = records.known[0];
        check_eq!(known.header.tid, gettid());
        check_eq!((known.ip, known.addr), (ip, page + 3 * 4 + 0x40));
        check_eq!(known.error, USER | WRITE);
        check_eq!(known.registers, site.registers());
        check_eq!((known.base, known.index), (value(base), value(index)));
    }
    // One of the same cell, and none.
    let other = (ip + 1..).find(|other| KnownSite::cell(*other) == KnownSite::cell(ip));
    let other = other.and_then(|other| KnownSite::new(other, [7, 0]));
    for listed in [other.map_or(0, KnownSite::word), 0] {
        let (_, _, records) = fault(&mut ebpf, listed)?;
        check_eq!((records.faults.len(), records.known.len()), (1, 0));
    }
    let counters = ebpf.counters();
    let faults = u64::from(NO_REGISTER) + 3;
    check_eq!((counters.emitted, counters.dropped), (faults, 0));
    Ok(())
}

fn fault_addresses_and_directions() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    arena.skip(BYTE_INSN);
    let addrs: Vec<u64> = (0..100).map(|i| arena.base + i * 4099).collect();
    for (i, addr) in addrs.iter().enumerate() {
        // SAFETY: arena addresses, and instructions of the length that the handler skips.
        unsafe {
            if i % 2 == 0 {
                code::read_byte(*addr);
            } else {
                code::write_byte(*addr);
            }
        }
    }
    let faults = drain(&mut ebpf)?.faults;
    let seen: Vec<u64> = faults.iter().map(|fault| fault.addr).collect();
    check_eq!(seen, addrs);
    for (i, fault) in faults.iter().enumerate() {
        let (site, direction) = if i % 2 == 0 {
            (code::read_byte as *const () as u64, 0)
        } else {
            (code::write_byte as *const () as u64, WRITE)
        };
        check_eq!(fault.error, USER | direction);
        check_eq!(fault.regs.rip, site);
    }
    let counters = ebpf.counters();
    check_eq!((counters.emitted, counters.dropped), (100, 0));
    check_eq!((counters.other_emitted, counters.calls_entered), (0, 0));
    Ok(())
}

fn only_the_native_view_is_recorded() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    arena.skip(BYTE_INSN);
    // SAFETY: arena addresses, and instructions of the length that the handler skips.
    unsafe {
        code::read_byte(arena.base + DELTA);
        code::read_byte(arena.base + 2 * DELTA - 1);
    }
    // First use of anonymous memory: faults of this process that are none of ours.
    let fresh = vec![1_u8; 8 << 20];
    check_eq!(fresh[4 << 20], 1);
    check_eq!(ebpf.counters().emitted, 0);
    // SAFETY: as above.
    unsafe {
        code::read_byte(arena.base);
        code::read_byte(arena.base + DELTA - 1);
    }
    let seen: Vec<u64> = drain(&mut ebpf)?
        .faults
        .iter()
        .map(|fault| fault.addr)
        .collect();
    check_eq!(seen, [arena.base, arena.base + DELTA - 1]);
    Ok(())
}

fn instruction_before_an_unmapped_page() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    arena.skip(BYTE_INSN);
    // `mov al, [rdi]; ret` as the last bytes of a page with nothing behind it.
    let code = [0x8a, 0x07, 0xc3];
    // SAFETY: a mapping of this test's own, of which the second page is taken away again; the
    // code is written before it is called.
    unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(ptr::null_mut(), 8192, protection, flags, -1, 0);
        if page == libc::MAP_FAILED {
            return Err("no executable page".into());
        }
        libc::munmap(page.byte_add(4096), 4096);
        let start = page.byte_add(4096 - code.len()).cast::<u8>();
        ptr::copy_nonoverlapping(code.as_ptr(), start, code.len());
        let function: unsafe extern "C" fn(u64) -> u8 = std::mem::transmute(start);
        function(arena.base + 7);
        libc::munmap(page, 4096);
    }
    let faults = drain(&mut ebpf)?.faults;
    check_eq!(faults.len(), 1);
    check_eq!(usize::from(faults[0].insn_len), code.len());
    check_eq!(faults[0].insn[..code.len()], code);
    check_eq!(faults[0].insn[code.len()..], [0; 12]);
    Ok(())
}

fn jump_into_the_arena() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    // SAFETY: the handler returns to the caller from a jump into the arena.
    unsafe {
        let function: unsafe extern "C" fn() = std::mem::transmute(arena.base + 0x123);
        function();
    }
    let records = drain(&mut ebpf)?;
    check_eq!(records.faults.len(), 1);
    check_eq!(records.faults[0].addr, arena.base + 0x123);
    check_eq!(records.faults[0].regs.rip, arena.base + 0x123);
    check_eq!(records.faults[0].error & FETCH, FETCH);
    check_eq!(records.faults[0].insn_len, 0);
    // Reading the instruction must not itself have counted as an access.
    check_eq!(records.kernel.len(), 0);
    Ok(())
}

fn system_call_on_the_arena() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    let mut pipe = [0; 2];
    // SAFETY: the kernel refuses the arena's addresses, and otherwise these are plain calls.
    unsafe {
        check_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        check_eq!(libc::write(pipe[1], c"abc".as_ptr().cast(), 3), 3);
        check_eq!(libc::read(pipe[0], (arena.base + 0x2010) as *mut _, 3), -1);
        check_eq!(*libc::__errno_location(), libc::EFAULT);
        check_eq!(
            libc::write(pipe[1], (arena.base + 0x3020) as *const _, 3),
            -1
        );
        check_eq!(*libc::__errno_location(), libc::EFAULT);
        libc::close(pipe[0]);
        libc::close(pipe[1]);
    }
    let records = drain(&mut ebpf)?;
    check_eq!(records.faults.len(), 0);
    // The kernel may try more than once before it gives up.
    let read: Vec<_> = records
        .kernel
        .iter()
        .filter(|r| r.syscall == libc::SYS_read as u32)
        .collect();
    let write: Vec<_> = records
        .kernel
        .iter()
        .filter(|r| r.syscall == libc::SYS_write as u32)
        .collect();
    check_eq!(read.is_empty() || write.is_empty(), false);
    check_eq!(read.len() + write.len(), records.kernel.len());
    for (records, base, direction) in [(read, 0x2010, WRITE), (write, 0x3020, 0)] {
        for record in records {
            check_eq!(
                (arena.base + base..arena.base + base + 3).contains(&record.addr),
                true
            );
            check_eq!(record.error & (WRITE | USER), direction);
            check_eq!(record.header.tid, gettid());
            // SAFETY: code of the C library, which has just run there.
            let before: [u8; 2] = unsafe { ptr::read((record.ip - 2) as *const _) };
            check_eq!(before, [0x0f, 0x05]);
        }
    }
    let counters = ebpf.counters();
    check_eq!(counters.emitted, 0);
    check_eq!(counters.other_emitted, records.kernel.len() as u64);
    check_eq!(counters.other_dropped, 0);
    Ok(())
}

fn threads_keep_their_order() -> Result<(), Failed> {
    const THREADS: u64 = 4;
    const EACH: u64 = 2000;
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    arena.skip(BYTE_INSN);
    let base = arena.base;
    let tids: Vec<u32> = std::thread::scope(|scope| {
        let run = |thread: u64| {
            move || {
                for i in 0..EACH {
                    // SAFETY: an arena address, and an instruction of the length skipped.
                    unsafe { code::read_byte(base + (thread << 20) + i) };
                }
                gettid()
            }
        };
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(run(thread)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or(0))
            .collect()
    });
    let faults = drain(&mut ebpf)?.faults;
    check_eq!(faults.len() as u64, THREADS * EACH);
    for (thread, tid) in tids.iter().enumerate() {
        let own = faults
            .iter()
            .filter(|fault| fault.header.tid == *tid)
            .map(|fault| fault.addr);
        let start = base + ((thread as u64) << 20);
        check_eq!(
            own.collect::<Vec<_>>(),
            (start..start + EACH).collect::<Vec<_>>()
        );
    }
    let counters = ebpf.counters();
    check_eq!((counters.emitted, counters.dropped), (THREADS * EACH, 0));
    Ok(())
}

fn other_processes_are_not_recorded() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    arena.skip(BYTE_INSN);
    // SAFETY: the child has the same addresses and handler; it only faults and ends.
    let status = unsafe {
        let child = libc::fork();
        if child == 0 {
            for i in 0..100 {
                code::read_byte(arena.base + i);
            }
            libc::_exit(0);
        }
        let mut status = -1;
        check_eq!(libc::waitpid(child, &mut status, 0), child);
        status
    };
    check_eq!(status, 0);
    check_eq!(ebpf.counters().emitted, 0);
    check_eq!(drain(&mut ebpf)?.faults.len(), 0);
    // SAFETY: an arena address, and an instruction of the length that the handler skips.
    unsafe { code::read_byte(arena.base) };
    check_eq!(drain(&mut ebpf)?.faults.len(), 1);
    Ok(())
}

/// Bytes that a fault record takes in the ring: 8 of header, and itself.
const FAULT_ROOM: u64 = 8 + size_of::<FaultRecord>() as u64;

/// How many fault records fit into an empty ring. The kernel keeps its last byte free.
const FAULTS_THAT_FIT: u64 = (RING_BYTES as u64 - 1) / FAULT_ROOM;

fn full_ring_counts_what_it_drops() -> Result<(), Failed> {
    const MORE: u64 = 1234;
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    arena.skip(BYTE_INSN);
    for i in 0..FAULTS_THAT_FIT + MORE {
        if i == 1000 {
            check_eq!(ebpf.ring_view().used(), 1000 * FAULT_ROOM);
        }
        // SAFETY: an arena address, and an instruction of the length that the handler skips.
        unsafe { code::read_byte(arena.base + i) };
    }
    check_eq!(ebpf.ring_view().used(), FAULTS_THAT_FIT * FAULT_ROOM);
    check_eq!(ebpf.ring_view().size(), u64::from(RING_BYTES));
    let counters = ebpf.counters();
    check_eq!(
        (counters.emitted, counters.dropped),
        (FAULTS_THAT_FIT + MORE, MORE)
    );
    let seen: Vec<u64> = drain(&mut ebpf)?
        .faults
        .iter()
        .map(|fault| fault.addr)
        .collect();
    check_eq!(seen.len() as u64, FAULTS_THAT_FIT);
    check_eq!(
        seen.iter()
            .zip(arena.base..)
            .all(|(seen, addr)| *seen == addr),
        true
    );
    // There is room again.
    // SAFETY: as above.
    unsafe { code::read_byte(arena.base + 5) };
    check_eq!(drain(&mut ebpf)?.faults.len(), 1);
    check_eq!(ebpf.counters().dropped, MORE);
    Ok(())
}

fn ring_wraps_around() -> Result<(), Failed> {
    let arena = Arena::new();
    let mut ebpf = arena.open()?;
    arena.skip(BYTE_INSN);
    // Odd batches, so that records lie across the end of the ring.
    let batch = FAULTS_THAT_FIT / 2 + 17;
    let mut next = arena.base;
    for _ in 0..5 {
        for i in 0..batch {
            // SAFETY: an arena address, and an instruction of the length that is skipped.
            unsafe { code::read_byte(next + i) };
        }
        let seen: Vec<u64> = drain(&mut ebpf)?
            .faults
            .iter()
            .map(|fault| fault.addr)
            .collect();
        check_eq!(seen == (next..next + batch).collect::<Vec<_>>(), true);
        next += batch;
    }
    let counters = ebpf.counters();
    check_eq!((counters.emitted, counters.dropped), (5 * batch, 0));
    Ok(())
}

fn view_outlives_the_recorder() -> Result<(), Failed> {
    let arena = Arena::new();
    let ebpf = arena.open()?;
    arena.skip(BYTE_INSN);
    let view = ebpf.ring_view();
    // SAFETY: an arena address, and an instruction of the length that the handler skips.
    unsafe { code::read_byte(arena.base) };
    check_eq!(view.used(), FAULT_ROOM);
    drop(ebpf);
    check_eq!(view.used(), 0);
    // A second recorder is independent of the first.
    let mut ebpf = arena.open()?;
    // SAFETY: as above.
    unsafe { code::read_byte(arena.base + 1) };
    check_eq!(drain(&mut ebpf)?.faults.len(), 1);
    Ok(())
}

/// Runs one test in a process of its own, with a variable that is read at every opening.
fn rerun(test: &str, name: &str, value: &str) -> Result<(bool, String), Failed> {
    let output = std::process::Command::new(std::env::current_exe()?)
        .args(["--exact", test])
        .env(name, value)
        .output()?;
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    ))
}

fn object_of_the_environment_is_used() -> Result<(), Failed> {
    let file = "/nowhere/object";
    let (passed, text) = rerun("fault_holds_every_register", "FFITRACE_BPF_OBJECT", file)?;
    if passed || !text.contains(file) {
        return Err(format!("the error does not name the file:\n{text}").into());
    }
    Ok(())
}

/// The verifier sees other programs then: those with the code that is off by default.
fn programs_load_with_their_log_on() -> Result<(), Failed> {
    for test in [
        "full_ring_counts_what_it_drops",
        "recursion_is_one_outermost_call",
    ] {
        let (passed, text) = rerun(test, "FFITRACE_BPF_LOG", "trace")?;
        if !passed || !text.contains("1 passed") {
            return Err(text.into());
        }
    }
    Ok(())
}
