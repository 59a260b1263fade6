//! What the kernel did, against what the table says.
//!
//! 1. *Writes*: the call is made with all memory set to 0x00 and again to 0xff. A byte that
//!    changed must be told as written, and one that is told as certainly written must have
//!    changed in one of the two, unless its content was given.
//! 2. *Edges*: each block is placed so that what is told of it just ends, and just begins, at
//!    an inaccessible page: the call must do the same. One byte further, and it must fail with
//!    `EFAULT`, or do less.
//! 3. *Nothing told*: the block may be inaccessible as a whole.
//! 4. *Read-only*: if nothing is told as written, the block may be read-only; otherwise the call
//!    must fail with `EFAULT`, or do less.
//! 5. *Elsewhere*: with each block alone in the arena, and each block alone outside of it, the
//!    call does the same, and tells the same of those inside. With all outside, nothing is moved.
//! 6. *Rebuilt*: what is copied back to a structure is what the kernel itself writes to it if
//!    nothing is moved.

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use syscalls::Sysno;
use tracer_user::access::AccessKind;
use tracer_user::resume::safe::Safe;
use tracer_user::syscall::{self, Call, Plan, Scratch, Touch};

use crate::case::{Case, Value, issue};
use crate::cases::{Directory, Make, signal};
use crate::slots::{ROOM, Slots};

/// Where blocks lie if nothing else is said: off all alignments but 64.
const MIDDLE: i64 = 8192 + 64;

/// The first call that a kernel may lack (Linux 5.16 and later).
const FIRST_RECENT: u64 = Sysno::futex_waitv as u64;

/// Calls that a container or a kernel without the feature may refuse.
const RESTRICTED: [Sysno; 5] = [
    Sysno::add_key,
    Sysno::get_mempolicy,
    Sysno::landlock_create_ruleset,
    Sysno::process_vm_readv,
    Sysno::process_vm_writev,
];

/// Whether the result says that this host does not have the call.
fn lacking(call: Sysno, result: i64) -> bool {
    match i32::try_from(-result) {
        Ok(libc::ENOSYS) => call as u64 >= FIRST_RECENT || RESTRICTED.contains(&call),
        Ok(libc::EPERM | libc::EOPNOTSUPP) => RESTRICTED.contains(&call),
        _ => false,
    }
}

/// Checks cases and collects what is wrong.
pub(crate) struct Judge {
    slots: Slots,
    scratch: Box<Scratch>,
    pub(crate) wrong: Vec<String>,
    names: BTreeSet<&'static str>,
    /// Calls that this host does not have.
    missing: BTreeSet<&'static str>,
    calls: usize,
    /// The lowest descriptor that no case has.
    first_fd: i32,
    _directory: Directory,
    /// Cases share files, child processes and signals.
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

/// Where a block is.
#[derive(Clone, Copy)]
struct Place {
    inside: bool,
    offset: i64,
    read_only: bool,
}

/// One call that was made.
struct Outcome {
    result: i64,
    touches: Vec<Touch>,
    /// The rooms of the blocks, before and after.
    before: Vec<Vec<u8>>,
    after: Vec<Vec<u8>>,
    /// Whether a byte's content was given.
    given: Vec<Vec<bool>>,
    passed: bool,
}

impl Judge {
    pub(crate) fn new() -> Judge {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let probe = std::fs::File::open("/").expect("a root directory");
        Judge {
            slots: Slots::new(),
            scratch: Box::new(bytemuck::Zeroable::zeroed()),
            wrong: Vec::new(),
            names: BTreeSet::new(),
            missing: BTreeSet::new(),
            calls: 0,
            first_fd: probe.as_raw_fd(),
            _directory: Directory::new(),
            _alone: alone,
        }
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "{} system calls judged, {} calls made, {} wrong; not on this host: {:?}",
            self.names.len(),
            self.calls,
            self.wrong.len(),
            self.missing
        )
    }

    pub(crate) fn check(&mut self, name: &str, make: Make) {
        if let Err(what) = self.verdict(make) {
            self.wrong.push(format!("{name}: {what}"));
        }
    }

    fn verdict(&mut self, make: Make) -> Result<(), String> {
        let case = make();
        let call = case.call;
        let middle = vec![
            Place {
                inside: true,
                offset: MIDDLE,
                read_only: false,
            };
            case.blocks.len()
        ];
        let zeroes = self.run(case, &middle, 0x00)?;
        if lacking(call, zeroes.result) {
            self.missing.insert(call.name());
            return Ok(());
        }
        self.names.insert(call.name());
        let ones = self.run(make(), &middle, 0xff)?;
        let (expected, blocks) = {
            let case = make();
            (case.error, case.blocks.len())
        };
        for outcome in [&zeroes, &ones] {
            if expected == 0 && outcome.result < 0
                || expected != 0 && outcome.result != -i64::from(expected)
            {
                return Err(format!("result {}", outcome.result));
            }
        }
        for slot in 0..blocks {
            let rewritten = make().blocks[slot].rewritten;
            self.writes(slot, &zeroes, &ones, rewritten)?;
        }
        for slot in 0..blocks {
            self.edges(make, slot, &middle, &zeroes)?;
            self.read_only(make, slot, &middle, &zeroes)?;
        }
        self.elsewhere(make, &middle, &zeroes)?;
        self.rebuilt(make, &middle, &ones)
    }

    /// Makes the call of a case with its blocks at `places`.
    fn run(&mut self, case: Case, places: &[Place], fill: u8) -> Result<Outcome, String> {
        let addr = |block: usize| {
            self.slots
                .addr(block, places[block].inside, places[block].offset)
        };
        let mut given = Vec::new();
        for (slot, block) in case.blocks.iter().enumerate() {
            let mut bytes: Vec<u8> = block.bytes.iter().map(|b| b.unwrap_or(fill)).collect();
            let mut said: Vec<bool> = block.bytes.iter().map(Option::is_some).collect();
            for (offset, to) in &block.links {
                bytes[*offset..offset + 8].copy_from_slice(&addr(*to).to_le_bytes());
                said[*offset..offset + 8].fill(true);
            }
            let place = places[slot];
            self.slots
                .put(slot, place.inside, place.offset, fill, &bytes);
            let mut room = vec![false; ROOM as usize];
            for (index, said) in said.iter().enumerate() {
                if let Some(byte) = usize::try_from(place.offset + index as i64)
                    .ok()
                    .and_then(|at| room.get_mut(at))
                {
                    *byte = *said;
                }
            }
            given.push(room);
        }
        let mut args = [0; 6];
        for (arg, value) in args.iter_mut().zip(&case.args) {
            *arg = match value {
                Value::Number(number) => *number,
                Value::Block(block) => addr(*block),
            };
        }
        let rooms = |slots: &Slots| -> Vec<Vec<u8>> {
            (0..case.blocks.len())
                .map(|slot| slots.get(slot, places[slot].inside))
                .collect()
        };
        let before = rooms(&self.slots);
        let call = Call {
            number: case.call as u64,
            args,
        };
        let (safe, arena) = (Safe::promise(), self.slots.session());
        let mut touches = Vec::new();
        let mut touch = |touch| touches.push(touch);
        let plan = syscall::prepare(safe, &call, arena, &mut self.scratch, &mut touch);
        let moved = match plan {
            Plan::Pass => None,
            Plan::Moved(moved) | Plan::Special(_, moved) => Some(moved),
            Plan::Refuse(refusal) => return Err(format!("refused: {}", refusal.reason.text())),
        };
        self.calls += 1;
        for (slot, place) in places
            .iter()
            .enumerate()
            .filter(|(_, place)| place.read_only)
        {
            self.slots.protect(slot, place.inside, true);
        }
        let timer = case.interrupted.then(signal::soon);
        let made = moved.as_ref().map_or(args, |moved| moved.args);
        let mut result = issue(call.number, made);
        drop(timer);
        if let Some(moved) = &moved {
            result = syscall::finish(safe, arena, moved, result, &mut self.scratch, &mut touch);
        }
        for (slot, place) in places
            .iter()
            .enumerate()
            .filter(|(_, place)| place.read_only)
        {
            self.slots.protect(slot, place.inside, false);
        }
        let after = rooms(&self.slots);
        if let Some(touch) = touches
            .iter()
            .find(|touch| touch.len == 0 || !arena.is_native(touch.addr))
        {
            return Err(format!("told {touch:x?}"));
        }
        drop(case);
        // What the call itself opened.
        let all = [self.first_fd as u64, u64::from(u32::MAX), 0, 0, 0, 0];
        issue(Sysno::close_range as u64, all);
        Ok(Outcome {
            result,
            touches,
            before,
            after,
            given,
            passed: made == args,
        })
    }

    /// The bytes of a slot's room that were told, as offsets from its beginning.
    fn told(
        &self,
        slot: usize,
        outcome: &Outcome,
        kind: AccessKind,
        certain: bool,
    ) -> BTreeSet<u64> {
        let room = self.slots.addr(slot, true, 0);
        outcome
            .touches
            .iter()
            .filter(|touch| touch.kind == kind && touch.certain == certain)
            .filter(|touch| (room..room + ROOM).contains(&touch.addr))
            .flat_map(|touch| touch.addr - room..(touch.addr - room + touch.len).min(ROOM + 4096))
            .collect()
    }

    /// See 1 of the module.
    fn writes(
        &self,
        slot: usize,
        zeroes: &Outcome,
        ones: &Outcome,
        rewritten: bool,
    ) -> Result<(), String> {
        let mut changed = BTreeSet::new();
        for outcome in [zeroes, ones] {
            let certain = self.told(slot, outcome, AccessKind::Write, true);
            let perhaps = self.told(slot, outcome, AccessKind::Write, false);
            for at in 0..ROOM {
                if outcome.before[slot][at as usize] != outcome.after[slot][at as usize] {
                    changed.insert(at);
                    if !certain.contains(&at) && !perhaps.contains(&at) {
                        return Err(format!(
                            "block {slot}: byte {} was written and not told",
                            at as i64 - MIDDLE
                        ));
                    }
                }
            }
        }
        let both: BTreeSet<u64> = &self.told(slot, zeroes, AccessKind::Write, true)
            & &self.told(slot, ones, AccessKind::Write, true);
        for at in both.difference(&changed) {
            if !(rewritten && zeroes.given[slot][*at as usize]) {
                return Err(format!(
                    "block {slot}: byte {} was told as written and was not",
                    *at as i64 - MIDDLE
                ));
            }
        }
        Ok(())
    }

    /// See 2 and 3 of the module.
    fn edges(
        &mut self,
        make: Make,
        slot: usize,
        middle: &[Place],
        full: &Outcome,
    ) -> Result<(), String> {
        let mut at = middle.to_vec();
        let Some(told) = self.extent(slot, full) else {
            if full.touches.iter().all(|touch| touch.certain) {
                at[slot].offset = ROOM as i64 + 4096;
                let outcome = self.run(make(), &at, 0)?;
                return same(full, &outcome)
                    .map_err(|what| format!("block {slot}, nothing told, inaccessible: {what}"));
            }
            return Ok(());
        };
        let (block, step) = {
            let case = make();
            (case.blocks[slot].clone(), case.step as i64)
        };
        let told_end = told.end - MIDDLE;
        let end = match block.whole {
            true => told_end.max(block.bytes.len() as i64),
            false => told_end,
        };
        let ends = ROOM as i64 - end;
        let begins = -(told.start - MIDDLE);
        for (edge, fits, cut) in [
            ("end", ends, ends + step),
            ("beginning", begins, begins - step),
        ] {
            at[slot].offset = fits;
            let outcome = self.run(make(), &at, 0)?;
            same(full, &outcome)
                .map_err(|what| format!("block {slot} just fits at its {edge}: {what}"))?;
            if block.soft {
                continue;
            }
            at[slot].offset = cut;
            let outcome = self.run(make(), &at, 0)?;
            let less = outcome.result >= 0 && outcome.result < full.result;
            if outcome.result != -i64::from(libc::EFAULT) && !less {
                return Err(format!(
                    "block {slot} cut at its {edge}: result {}, uncut {}",
                    outcome.result, full.result
                ));
            }
        }
        Ok(())
    }

    /// See 4 of the module.
    fn read_only(
        &mut self,
        make: Make,
        slot: usize,
        middle: &[Place],
        full: &Outcome,
    ) -> Result<(), String> {
        let mut at = middle.to_vec();
        at[slot].read_only = true;
        let writes = |certain| !self.told(slot, full, AccessKind::Write, certain).is_empty();
        let (certain, perhaps) = (writes(true), writes(false));
        let outcome = self.run(make(), &at, 0)?;
        if !certain && !perhaps {
            return same(full, &outcome).map_err(|what| format!("block {slot}, read-only: {what}"));
        }
        let less = outcome.result >= 0 && outcome.result < full.result;
        let failed = outcome.result == -i64::from(libc::EFAULT) || less;
        if certain && !failed && !make().blocks[slot].soft {
            return Err(format!(
                "block {slot}, read-only: result {}, although it is told as written",
                outcome.result
            ));
        }
        Ok(())
    }

    /// What is told for certain of a block, as offsets from the beginning of its room.
    fn extent(&self, slot: usize, outcome: &Outcome) -> Option<Range<i64>> {
        let mut all = self.told(slot, outcome, AccessKind::Read, true);
        all.append(&mut self.told(slot, outcome, AccessKind::Write, true));
        Some(*all.first()? as i64..*all.last()? as i64 + 1)
    }

    /// See 6 of the module.
    fn rebuilt(&mut self, make: Make, middle: &[Place], ones: &Outcome) -> Result<(), String> {
        let outside: Vec<Place> = middle
            .iter()
            .map(|place| Place {
                inside: false,
                ..*place
            })
            .collect();
        let outcome = self.run(make(), &outside, 0xff)?;
        for slot in (0..middle.len()).filter(|slot| make().blocks[*slot].whole) {
            let (here, there) = (changed(ones, slot), changed(&outcome, slot));
            if here != there {
                return Err(format!(
                    "block {slot}: {here:?} were written, and {there:?} where nothing is moved"
                ));
            }
        }
        Ok(())
    }

    /// See 5 of the module.
    fn elsewhere(&mut self, make: Make, middle: &[Place], full: &Outcome) -> Result<(), String> {
        let count = middle.len();
        let mut choices = vec![vec![false; count]];
        for alone in 0..count {
            choices.push((0..count).map(|block| block == alone).collect());
            choices.push((0..count).map(|block| block != alone).collect());
        }
        for inside in choices {
            let places: Vec<Place> = inside
                .iter()
                .map(|inside| Place {
                    inside: *inside,
                    offset: MIDDLE,
                    read_only: false,
                })
                .collect();
            let outcome = self.run(make(), &places, 0)?;
            let told = |what: String| format!("arena has {inside:?}: {what}");
            same(full, &outcome).map_err(told)?;
            let alone = outcome.touches.is_empty() && outcome.passed;
            if !alone && !inside.contains(&true) {
                return Err(told("not left alone".to_owned()));
            }
            for slot in (0..count).filter(|slot| inside[*slot]) {
                if self.extent(slot, full) != self.extent(slot, &outcome) {
                    return Err(told(format!(
                        "block {slot}: {:?} instead of {:?}",
                        self.extent(slot, &outcome),
                        self.extent(slot, full)
                    )));
                }
            }
        }
        Ok(())
    }
}

/// The bytes of a slot's room that changed.
fn changed(outcome: &Outcome, slot: usize) -> Vec<usize> {
    let pairs = outcome.before[slot].iter().zip(&outcome.after[slot]);
    let changed = pairs.enumerate().filter(|(_, (old, new))| old != new);
    changed.map(|(at, _)| at).collect()
}

/// Whether two calls ended alike: both well, or with the same error.
fn same(one: &Outcome, other: &Outcome) -> Result<(), String> {
    let alike = match (one.result < 0, other.result < 0) {
        (false, false) => true,
        _ => one.result == other.result,
    };
    if alike {
        Ok(())
    } else {
        Err(format!("result {}, not {}", other.result, one.result))
    }
}
