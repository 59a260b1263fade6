//! An access to the native view: recorded where that is the handler's job, then the thread is
//! sent on.
//!
//! ```text
//!  site known, bytes unchanged? ──no──► prepare
//!     │
//!  fault record (inproc), aux record where the form needs one ─► room in the ring
//!     │
//!  displaced copy ◄── copies exist and fit ── none ──► step
//! ```
//!
//! # Safety
//! The bytes of the instruction are read where the thread has just executed them.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use tracer_ebpf::{FaultRecord, LAYOUT_VERSION, RecordHeader, kind};

use super::{
    aux::Stopped,
    engine::{Engine, Recording},
    frame::{Frame, RSP},
    hot,
    safe::{self, Safe},
    signals::ERROR_WRITE,
    site::{Action, Site},
    step, stop, thread,
    xstate::XState,
};
use crate::{
    decode::{WholeRep, runs_whole},
    translate::Mark,
};

/// An access to the native view: record it where that is the handler's job, then send the
/// thread on.
pub(super) fn access(safe: Safe, engine: &Engine, frame: &mut Frame<'_>, addr: u64) {
    let ip = frame.ip();
    let site = match engine.sites.find(ip) {
        Some(site) if unchanged(site) => {
            engine.known.list(site);
            site
        }
        // One that is new, or whose bytes are: the next record has to be whole.
        known => {
            let site = engine.prepare.ask(safe, ip);
            if known.is_some() {
                let listed = engine.known.strike(ip);
                // What faulted may have been the old instruction.
                if hot::take_back(safe, engine) {
                    return;
                }
                if listed {
                    engine.known.changed.fetch_add(1, Ordering::Relaxed);
                }
            }
            site
        }
    };
    let regs = frame.regs();
    let error = frame.error();
    let looks_wrong = engine.looks_wrong(addr, site.reach, error & ERROR_WRITE != 0);
    if looks_wrong {
        engine
            .stacks
            .take_own(safe, addr, &hot::original(engine, regs));
    }
    // Compared with the kernel's own count at the end of the call.
    if engine.recording() == Recording::Kernel {
        engine.handled.fetch_add(1, Ordering::Relaxed);
    }
    if hot::enter(safe, engine, site, frame, looks_wrong) {
        return;
    }
    let header = |kind| RecordHeader {
        kind,
        version: LAYOUT_VERSION,
        tid: thread::id(safe),
    };
    if engine.recording() == Recording::Handler {
        engine.count_fault();
        engine.push(
            safe,
            &FaultRecord {
                header: header(kind::FAULT),
                addr,
                error,
                depth: 0,
                insn_len: site.read,
                insn: site.bytes,
                regs,
            },
        );
    }
    let aux = site.needs.any().then(|| {
        let stopped = Stopped {
            process: safe::process_id(safe),
            regs: &regs,
            state: XState::new(frame.area(), engine.offsets),
            bases: if site.needs.segments {
                safe::segment_bases(safe)
            } else {
                (0, 0)
            },
        };
        let aux = stopped.record(safe, header(kind::AUX), &site.needs, engine.session());
        engine.push(safe, &aux);
        aux
    });
    hot::mark(safe, engine, Mark::Take);
    engine.make_room(safe);
    if stop::is_open(engine, site, looks_wrong) && stop::judge(safe, engine, frame) {
        return;
    }
    match &site.action {
        Action::Operand { copy }
            if !(site.touches_stack && engine.session().is_arena(regs.gpr[RSP])) =>
        {
            frame.set_ip(*copy);
        }
        Action::Lanes { lanes, copy }
            if aux.is_some_and(|aux| lanes.all_native(&regs, &aux, &engine.session())) =>
        {
            frame.set_ip(*copy);
        }
        Action::String { op, copies } => {
            let copy = match runs_whole(op, &regs, &engine.session()) {
                WholeRep::No => 0,
                WholeRep::Source => copies[0],
                WholeRep::Dest => copies[1],
                WholeRep::Both => copies[2],
            };
            if copy == 0 {
                step::begin(safe, engine, frame, site)
            } else {
                frame.set_ip(copy)
            }
        }
        Action::Uncopied => {
            engine.uncopied.fetch_add(1, Ordering::Relaxed);
            step::begin(safe, engine, frame, site)
        }
        _ => step::begin(safe, engine, frame, site),
    }
}

/// Whether the instruction at the site is still the one that was prepared.
fn unchanged(site: &Site) -> bool {
    (0..usize::from(site.len.max(1))).all(|index| {
        // SAFETY: the thread has just executed the instruction at `ip`, so its bytes are mapped;
        // they are read as volatile because the program may change them.
        let now = unsafe { (site.ip as *const u8).add(index).read_volatile() };
        now == site.bytes[index]
    })
}
