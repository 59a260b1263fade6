//! Measuring what an access costs under each recorder.
//!
//! Each question is the same native work under every recorder that this host allows, in one run,
//! so the ratios mean something on a noisy machine. How often the work is repeated is found by
//! trying: enough to fill the time that was asked for, never fewer than a few hundred accesses.

mod callbacks;
mod calls;
pub mod work;

use std::{ffi::c_void, time::Duration};

use tracer_user::backend::Backend;

use crate::{
    bridge::{Bridge, BridgeError, CallOptions},
    memory::{AllocId, AllocRequest, Init},
    report::bench::{BenchReport, BenchRow, Unit},
};
use work::{Work, WorkFn};

/// Size in bytes of each of the two buffers that the loops work on.
const BUFFER: u64 = 64 << 10;
/// Accesses of the first try.
const FIRST_TRY: u64 = 256;
/// Most accesses of one run: a bound for `none`, which needs nanoseconds.
const MOST: u64 = 400_000_000;
/// Size in bytes of each of the live allocations in the questions about calls.
const LIVE: u64 = 64 << 10;

/// Why a bench could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No bridge, or no memory for the work.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// Accesses were lost or broke a rule: no figure is worth anything then.
    #[error("{question} under {backend}: {what}; please report this host")]
    Broken {
        /// The question.
        question: &'static str,
        /// The recorder.
        backend: Backend,
        /// What was wrong.
        what: String,
    },
}

/// A question that rows answer.
struct Question {
    text: &'static str,
    work: WorkFn,
    /// Accesses of one item.
    accesses: u64,
    /// Whether an item is a call of its own.
    per_call: bool,
    /// Bytes of live allocations beside the buffers.
    live: u64,
}

const QUESTIONS: [Question; 6] = [
    Question {
        text: "a loop of 4-byte reads",
        work: work::scalar_loop,
        accesses: 1,
        per_call: false,
        live: 0,
    },
    Question {
        text: "a byte copy (a read and a write each)",
        work: work::byte_copy,
        accesses: 2,
        per_call: false,
        live: 0,
    },
    Question {
        text: "atomic adds (a read and a write each)",
        work: work::atomic_add,
        accesses: 2,
        per_call: false,
        live: 0,
    },
    Question {
        text: "a call with one read, nothing else live",
        work: work::one_read,
        accesses: 1,
        per_call: true,
        live: 0,
    },
    Question {
        text: "a call with one read, 1 MiB live",
        work: work::one_read,
        accesses: 1,
        per_call: true,
        live: 1 << 20,
    },
    Question {
        text: "a call with one read, 256 MiB live",
        work: work::one_read,
        accesses: 1,
        per_call: true,
        live: 256 << 20,
    },
];

/// Measures every question under every recorder; about `seconds` for each of them.
/// `only` leaves out the questions that do not contain it; `tell` is told what is being measured.
///
/// # Errors
/// [`BenchError`]. A recorder that this host does not allow is left out, with a note.
pub fn run(
    seconds: f64,
    only: Option<&str>,
    tell: &mut dyn FnMut(&str),
) -> Result<BenchReport, BenchError> {
    let mut notes = Vec::new();
    let mut rows: Vec<BenchRow> = Vec::new();
    let questions = QUESTIONS.len() + calls::QUESTIONS.len() + 1;
    let each = Duration::from_secs_f64(seconds / questions as f64);
    for backend in [
        Backend::None,
        Backend::Inproc,
        Backend::Ebpf,
        Backend::Ptrace,
    ] {
        match Bridge::new(Some(backend)) {
            Err(BridgeError::Session(error)) => {
                notes.push(format!("{backend} was left out: {error}"));
                continue;
            }
            Err(other) => return Err(other.into()),
            Ok(bridge) => drop(bridge),
        }
        let wanted = |text: &str| only.is_none_or(|only| text.contains(only));
        for question in QUESTIONS.iter().filter(|question| wanted(question.text)) {
            tell(&format!("{} under {backend}", question.text));
            // A fresh bridge for each: nothing is left of the work before.
            let bridge = Bridge::new(Some(backend))?;
            let (accesses, elapsed) = measure(&bridge, question, each)?;
            let ns = elapsed.as_nanos() as f64 / accesses as f64;
            rows.push(BenchRow {
                question: question.text.to_owned(),
                backend: backend.name().to_owned(),
                unit: Unit::Access,
                accesses,
                ns_per_access: ns,
                accesses_per_s: 1e9 / ns,
                ratio_to_none: None,
                ratio_to_ptrace: None,
            });
        }
        let row_of_calls = |text: &str, calls, time: Duration| {
            let ns = time.as_nanos() as f64;
            BenchRow {
                question: text.to_owned(),
                backend: backend.name().to_owned(),
                unit: Unit::Call,
                accesses: calls,
                ns_per_access: ns,
                accesses_per_s: 1e9 / ns,
                ratio_to_none: None,
                ratio_to_ptrace: None,
            }
        };
        let calls = calls::QUESTIONS.iter();
        for question in calls.filter(|question| wanted(question.text)) {
            tell(&format!("{} under {backend}", question.text));
            let bridge = Bridge::new(Some(backend))?;
            if let Some((calls, time)) = calls::measure(&bridge, question, each)? {
                rows.push(row_of_calls(question.text, calls, time));
            }
        }
        if wanted(callbacks::TEXT) {
            tell(&format!("{} under {backend}", callbacks::TEXT));
            let (made, time) = callbacks::measure(&Bridge::new(Some(backend))?, each)?;
            rows.push(row_of_calls(callbacks::TEXT, made, time));
        }
    }
    let ns_of = |rows: &[BenchRow], question: &str, backend: Backend| {
        rows.iter()
            .find(|row| row.question == question && row.backend == backend.name())
            .map(|row| row.ns_per_access)
    };
    let bases: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                ns_of(&rows, &row.question, Backend::None),
                ns_of(&rows, &row.question, Backend::Ptrace),
            )
        })
        .collect();
    for (row, (none, ptrace)) in rows.iter_mut().zip(bases) {
        row.ratio_to_none = none.map(|none| row.ns_per_access / none);
        row.ratio_to_ptrace = ptrace.map(|ptrace| row.ns_per_access / ptrace);
    }
    rows.sort_by_key(|row| {
        let calls = calls::QUESTIONS.iter().map(|question| question.text);
        QUESTIONS
            .iter()
            .map(|question| question.text)
            .chain(calls)
            .chain([callbacks::TEXT])
            .position(|text| text == row.question)
    });
    notes.push(
        "All rows were measured in one run; the time is that of the calls, from entering native \
         code to all of its accesses applied. Ratios are of times, below 1 is faster."
            .to_owned(),
    );
    Ok(BenchReport {
        schema: 1,
        notes,
        rows,
    })
}

/// Repeats the work until a run is long enough, and returns its accesses and time.
fn measure(
    bridge: &Bridge,
    question: &Question,
    long_enough: Duration,
) -> Result<(u64, Duration), BenchError> {
    let from = allocate(bridge, BUFFER)?;
    let to = allocate(bridge, BUFFER)?;
    for _ in 0..question.live / LIVE {
        allocate(bridge, LIVE)?;
    }
    let mut work = Work {
        from: bridge.address(from).map_err(BridgeError::from)? as *const u8,
        to: bridge.address(to).map_err(BridgeError::from)? as *mut u8,
        len: BUFFER as usize,
        items: 0,
        result: 0,
    };
    let mut accesses = FIRST_TRY;
    loop {
        let items = accesses / question.accesses;
        let elapsed = once(bridge, question, &mut work, items)?;
        let done = items * question.accesses;
        if elapsed >= long_enough.mul_f64(0.5) || done >= MOST {
            return Ok((done, elapsed));
        }
        let factor = long_enough.as_secs_f64() / elapsed.as_secs_f64().max(1e-9);
        let next = (accesses as f64 * factor.clamp(2.0, 64.0)) as u64;
        accesses = next.min(MOST).next_multiple_of(question.accesses);
    }
}

fn allocate(bridge: &Bridge, size: u64) -> Result<AllocId, BridgeError> {
    Ok(bridge.memory().allocate(&AllocRequest {
        name: None,
        size,
        align: 64,
        init: Init::Zeroed,
        mutable: true,
        ..AllocRequest::default()
    })?)
}

/// Does the work once and checks that every access arrived.
fn once(
    bridge: &Bridge,
    question: &Question,
    work: &mut Work,
    items: u64,
) -> Result<Duration, BenchError> {
    let calls = if question.per_call { items } else { 1 };
    work.items = if question.per_call { 1 } else { items };
    let begun = std::time::Instant::now();
    let mut delivered = 0;
    for _ in 0..calls {
        let outcome = call(bridge, question.work, work)?;
        delivered += outcome.stats.events;
        if !outcome.returned || (bridge.backend() != Backend::None && !outcome.stats.complete()) {
            return Err(broken(question, bridge, format!("{:?}", outcome.stats)));
        }
    }
    let elapsed = begun.elapsed();
    let expected = items * question.accesses;
    if bridge.backend() != Backend::None && delivered != expected {
        return Err(broken(
            question,
            bridge,
            format!("{delivered} of {expected} accesses"),
        ));
    }
    if !bridge.memory().violations().is_empty() {
        return Err(broken(question, bridge, "false alarms".to_owned()));
    }
    Ok(elapsed)
}

fn broken(question: &Question, bridge: &Bridge, what: String) -> BenchError {
    BenchError::Broken {
        question: question.text,
        backend: bridge.backend(),
        what,
    }
}

#[allow(
    unsafe_code,
    reason = "runs the work, whose pointers `measure` filled in"
)]
fn call(
    bridge: &Bridge,
    function: WorkFn,
    work: &mut Work,
) -> Result<crate::bridge::CallOutcome, BridgeError> {
    let data = std::ptr::from_mut(work).cast::<c_void>();
    // SAFETY: the work's buffers are live and `BUFFER` bytes long; the functions own nothing.
    unsafe { bridge.call(function, data, CallOptions::default()) }
}
