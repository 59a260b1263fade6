//! What an access costs in one native call that makes many, and in many calls that make one.
//!
//! Every access is accounted for: what is delivered must be what the work is known to do.

use std::time::{Duration, Instant};

use tracer_user::backend::Backend;

use super::{
    BenchError, lackey,
    memory::{Buffers, Fill, call, live},
    question::{Answer, Figure, Question, Setup, Terms, broken},
    steady::steady,
    work::{self, WorkFn, mix, walk},
};
use crate::bridge::{Bridge, CallOutcome};

/// Size in bytes of each of the two buffers that most loops work on.
const BUFFER: u64 = 64 << 10;
/// Items of the first round.
pub(super) const FEW: u64 = 256;
/// Most accesses of one round: a bound for `none`, which needs nanoseconds.
const MOST: u64 = 80_000_000;

/// Native work with a known number of accesses.
#[derive(Clone, Copy)]
pub(super) struct Loop {
    pub(super) text: &'static str,
    pub(super) work: WorkFn,
    /// Accesses of one item.
    pub(super) accesses: u64,
    /// How many of them are recorded.
    recorded: u64,
    /// Whether an item is a call of its own.
    per_call: bool,
    /// Bytes of live allocations beside the buffers.
    live: u64,
    /// Size of each buffer in bytes.
    buffer: u64,
    fill: Fill,
    /// Why this processor cannot do it, if it cannot.
    lacking: fn() -> Option<&'static str>,
}

impl Loop {
    /// A loop of which each access is recorded, with nothing else live.
    pub(super) const fn of(text: &'static str, work: WorkFn, accesses: u64) -> Loop {
        Loop {
            text,
            work,
            accesses,
            recorded: accesses,
            per_call: false,
            live: 0,
            buffer: BUFFER,
            fill: Fill::Zeroes,
            lacking: || None,
        }
    }

    const fn call(text: &'static str, live: u64) -> Loop {
        Loop {
            per_call: true,
            live,
            ..Loop::of(text, work::one_read, 1)
        }
    }

    const fn beside(text: &'static str, live: u64) -> Loop {
        Loop {
            live,
            ..Loop::of(text, work::scalar_loop, 1)
        }
    }

    /// One access of the arena in `accesses`.
    const fn mixed(text: &'static str, work: WorkFn, accesses: u64) -> Loop {
        Loop {
            recorded: 1,
            ..Loop::of(text, work, accesses)
        }
    }
}

fn no_avx2() -> Option<&'static str> {
    (!std::arch::is_x86_feature_detected!("avx2")).then_some("this processor has no AVX2")
}

/// The loop that other tracers are measured with, too.
pub(super) const READS: Loop = Loop::of("a loop of 4-byte reads", work::scalar_loop, 1);

/// Loops over a buffer, and what else depends on what a loop does.
pub(super) const QUESTIONS: [Loop; 18] = [
    READS,
    Loop::of("a byte copy (a read and a write each)", work::byte_copy, 2),
    Loop {
        lacking: no_avx2,
        ..Loop::of("an AVX2 sum of 32-byte reads", walk::avx2_sum, 1)
    },
    Loop {
        buffer: 64 << 10,
        fill: Fill::List,
        ..Loop::of(
            "a linked list in random order (two reads each)",
            walk::linked_list,
            2,
        )
    },
    Loop {
        buffer: 1 << 20,
        fill: Fill::List,
        ..Loop::of(
            "a linked list in random order, over 1 MiB (two reads each)",
            walk::linked_list,
            2,
        )
    },
    Loop {
        buffer: 4 << 20,
        ..Loop::of("4-byte reads at random places", walk::random, 1)
    },
    Loop::of(
        "an array of structs (four reads and a write each)",
        walk::structs,
        5,
    ),
    Loop::of("atomic adds (a read and a write each)", work::atomic_add, 2),
    Loop {
        recorded: 0,
        ..Loop::of("code that never touches the arena", mix::own_loop, 1)
    },
    Loop::mixed(
        "code that touches the arena every 10 accesses",
        mix::every::<10>,
        10,
    ),
    Loop::mixed(
        "code that touches the arena every 100 accesses",
        mix::every::<100>,
        100,
    ),
    Loop::mixed(
        "code that touches the arena every 1,000 accesses",
        mix::every::<1000>,
        1000,
    ),
    Loop::beside("a loop of 4-byte reads, 1 MiB live beside it", 1 << 20),
    Loop::beside("a loop of 4-byte reads, 256 MiB live beside it", 256 << 20),
    Loop::beside("a loop of 4-byte reads, 1 GiB live beside it", 1 << 30),
    Loop::call("a call with one read, nothing else live", 0),
    Loop::call("a call with one read, 1 MiB live", 1 << 20),
    Loop::call("a call with one read, 256 MiB live", 256 << 20),
];

impl Question for Loop {
    fn text(&self) -> String {
        self.text.to_owned()
    }

    fn ask(&self, setup: &Setup, terms: &Terms) -> Result<Answer, BenchError> {
        if let Some(why) = (self.lacking)() {
            return Ok(Answer::LeftOut(why.to_owned()));
        }
        let (count, ns) = measure(self, &setup.bridge()?, terms.each, |_| Ok(()))?;
        Ok(Figure::new(count, ns).into())
    }

    fn yardstick(&self, terms: &Terms) -> Result<Option<(&'static str, Answer)>, BenchError> {
        if self.text != READS.text {
            return Ok(None);
        }
        Ok(Some((lackey::NAME, lackey::ask(terms))))
    }
}

/// How many accesses were made, and nanoseconds for one. `look` sees the outcome of each call.
pub(super) fn measure(
    question: &Loop,
    bridge: &Bridge,
    long_enough: Duration,
    mut look: impl FnMut(&CallOutcome) -> Result<(), BenchError>,
) -> Result<(u64, f64), BenchError> {
    let mut buffers = Buffers::new(bridge, question.buffer, question.fill)?;
    live(bridge, question.live)?;
    let most = MOST / question.accesses;
    let (items, ns) = steady(long_enough, FEW, most, |items| {
        once(bridge, question, &mut buffers, items, &mut look)
    })?;
    Ok((items * question.accesses, ns / question.accesses as f64))
}

/// Does the work once and checks that every access arrived.
fn once(
    bridge: &Bridge,
    question: &Loop,
    buffers: &mut Buffers,
    items: u64,
    look: &mut dyn FnMut(&CallOutcome) -> Result<(), BenchError>,
) -> Result<Duration, BenchError> {
    let backend = bridge.backend();
    let wrong = |what| broken(question.text, backend, what);
    let calls = if question.per_call { items } else { 1 };
    buffers.work.items = if question.per_call { 1 } else { items };
    let begun = Instant::now();
    let mut delivered = 0;
    for _ in 0..calls {
        let outcome = call(bridge, question.work, &mut buffers.work)?;
        delivered += outcome.stats.events;
        if !sound(&outcome, backend) {
            return Err(wrong(format!("{:?}", outcome.stats)));
        }
        look(&outcome)?;
    }
    let elapsed = begun.elapsed();
    let expected = match backend {
        Backend::None => 0,
        _ => items * question.recorded,
    };
    if delivered != expected {
        return Err(wrong(format!("{delivered} of {expected} accesses")));
    }
    if !bridge.memory().violations().is_empty() {
        return Err(wrong("false alarms".to_owned()));
    }
    Ok(elapsed)
}

/// Whether the call returned, with nothing lost.
pub(super) fn sound(outcome: &CallOutcome, backend: Backend) -> bool {
    outcome.returned && (backend == Backend::None || outcome.stats.complete())
}
