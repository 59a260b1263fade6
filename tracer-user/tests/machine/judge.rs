//! The processor as judge of what the decoder says.
//!
//! ```text
//!   exactly the pages that the account names are open, those that it only reads read-only
//!      ► the instruction must run through                      (it touches nothing else)
//!   one of them is closed, or read-only where the account writes
//!      ► it must fault there, at an address of the account     (it touches each of them)
//!   everything but the bytes that it reads is different
//!      ► it must do the same                                   (it reads nothing else)
//!   and bytes that it does not write stay, those that it certainly writes do not depend on
//!   what was there                                             (it writes exactly that)
//! ```
//! Since operands end and begin at edges of pages, to the byte, each of these is about bytes.

use std::sync::LazyLock;

use tracer_user::access::AccessKind;
use tracer_user::decode::Rep;

use crate::case::Case;
use crate::claim::{Claim, record};
use crate::hardware::{self, Area, End, Outcome, Start};
use crate::random::Random;
use crate::world::{PAGE, World};

/// Why a case is not right.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The processor does not know the instruction.
    Unknown,
    /// It raises a general protection fault: operands that it wants aligned, for one.
    Protection,
    /// Something else in the way of a judgement.
    Other(String),
    /// The decoder refuses it.
    Refused(String),
    /// The account is wrong.
    Wrong(String),
}

/// Bit of the page-fault error code: a write.
const WRITE: u64 = 2;
/// `si_code` of a fault by protection, and of one without an address.
const SEGV_ACCERR: i32 = 2;
const SI_KERNEL: i32 = 0x80;
const READ_ONLY: i32 = libc::PROT_READ;
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// A run in place that ended as it should.
pub(crate) struct Reference {
    pub(crate) outcome: Outcome,
    /// The pages of the account afterwards.
    pub(crate) memory: Vec<Vec<u8>>,
}

/// A case with its account, ready to run.
pub(crate) struct Trial<'a> {
    pub(crate) world: &'a World,
    pub(crate) case: &'a Case,
    pub(crate) claim: Claim,
    area: Box<Area>,
    /// Pages as the account wants them.
    fit: Vec<(u64, i32)>,
    /// What the pages hold, in the two fillings.
    fills: [Vec<Vec<u8>>; 2],
}

impl<'a> Trial<'a> {
    /// Prepares code and memory of a case.
    pub(crate) fn new(world: &'a World, case: &'a Case) -> Result<Trial<'a>, Verdict> {
        let claim = Claim::of(case, world).map_err(|it| Verdict::Refused(it.to_string()))?;
        world.put_instruction(case.regs.rip, &case.code);
        Trial::with(world, case, claim)
    }

    fn with(world: &'a World, case: &'a Case, claim: Claim) -> Result<Trial<'a>, Verdict> {
        for (addr, len) in claim.ranges() {
            if world.zone_of(addr, len).is_none() {
                return Err(Verdict::Other("an operand lies elsewhere".to_owned()));
            }
        }
        let pages = claim.pages();
        let prot = |writable| if writable { READ_WRITE } else { READ_ONLY };
        let fit: Vec<(u64, i32)> = pages
            .iter()
            .map(|(page, claim)| (*page, prot(claim.writable)))
            .collect();
        let mut first = Vec::new();
        for (page, _) in &fit {
            let from = (case.seed.wrapping_add(*page) % PAGE) as usize;
            let mut bytes = PATTERN[from..from + PAGE as usize].to_vec();
            for (addr, patch) in &case.memory {
                overlay(*page, &mut bytes, *addr, patch);
            }
            first.push(bytes);
        }
        let mut second = Vec::new();
        for ((page, _), bytes) in fit.iter().zip(&first) {
            let from = (case.seed.wrapping_add(*page) % PAGE) as usize;
            let mut others = INVERTED[from..from + PAGE as usize].to_vec();
            for (addr, patch) in &case.memory {
                let patch: Vec<u8> = patch.iter().map(|byte| !byte).collect();
                overlay(*page, &mut others, *addr, &patch);
            }
            for read in claim
                .accesses
                .iter()
                .filter(|it| it.kind == AccessKind::Read)
            {
                let (from, to) = within(*page, read.addr, read.len);
                others[from..to].copy_from_slice(&bytes[from..to]);
            }
            second.push(others);
        }
        let area = case.area();
        Ok(Trial {
            world,
            case,
            claim,
            area,
            fit,
            fills: [first, second],
        })
    }

    /// Where a run in place begins.
    pub(crate) fn start(&self) -> Start {
        Start {
            regs: self.case.regs,
            gs: self.case.gs,
            area: self.area.clone(),
            stop: [0; 2],
        }
    }

    /// Fills the memory of the account.
    pub(crate) fn fill(&self, which: usize) {
        for ((page, _), bytes) in self.fit.iter().zip(&self.fills[which]) {
            self.world.write(*page, bytes);
        }
    }

    /// What the memory of the account holds now.
    pub(crate) fn memory(&self) -> Vec<Vec<u8>> {
        let pages = self.fit.iter();
        pages
            .map(|(page, _)| self.world.read(*page, PAGE as usize))
            .collect()
    }

    /// Opens what the account wants.
    pub(crate) fn open(&self) {
        self.world.open(&self.fit);
    }

    /// Opens what of it is not in the native view.
    pub(crate) fn open_outside(&self) {
        let session = self.world.session();
        let outside = self
            .fit
            .iter()
            .filter(|(page, _)| !session.is_native(*page));
        self.world.open(&outside.copied().collect::<Vec<_>>());
    }

    /// Runs in place with the first filling and these pages.
    fn run_with(&self, pages: &[(u64, i32)]) -> Outcome {
        self.fill(0);
        self.world.open(pages);
        hardware::execute(&self.start())
    }

    /// The run that everything else is compared with; the verdict where there is none. The
    /// account of a repeated comparison becomes one of the iterations that there were.
    pub(crate) fn reference(&mut self) -> Result<Reference, Verdict> {
        let reference = self.run_fit()?;
        if self.claim.iterations <= 1 {
            return Ok(reference);
        }
        let mut claim = self.claim.clone();
        claim.as_executed(&self.case.regs, &reference.outcome.regs);
        *self = Trial::with(self.world, self.case, claim)?;
        self.run_fit()
    }

    fn run_fit(&self) -> Result<Reference, Verdict> {
        let outcome = self.run_with(&self.fit);
        let memory = self.memory();
        match outcome.end {
            End::Done => Ok(Reference { outcome, memory }),
            End::Signal {
                signal: libc::SIGILL,
                ..
            } => Err(Verdict::Unknown),
            End::Signal {
                signal: libc::SIGSEGV,
                code: SI_KERNEL,
                ..
            } => Err(Verdict::Protection),
            End::Signal {
                signal: libc::SIGSEGV,
                addr,
                ..
            } => Err(Verdict::Wrong(format!("it also touches {addr:#x}"))),
            End::Signal {
                signal: libc::SIGFPE,
                ..
            } => Ok(Reference { outcome, memory }),
            other => Err(Verdict::Other(format!("{other:x?}"))),
        }
    }

    /// Takes bytes that may be written, and the header of an xsave area, from `memory` into
    /// `expected`.
    pub(crate) fn forget_uncertain(&self, expected: &mut [Vec<u8>], memory: &[Vec<u8>]) {
        for (index, (page, _)) in self.fit.iter().enumerate() {
            for access in self
                .claim
                .accesses
                .iter()
                .filter(|it| !it.certain || it.len <= 16)
            {
                let (from, to) = within(*page, access.addr, access.len);
                expected[index][from..to].copy_from_slice(&memory[index][from..to]);
            }
        }
    }

    /// Judges the account.
    pub(crate) fn judge(&self, reference: &Reference) -> Result<(), String> {
        self.faults()?;
        self.contents(reference)
    }

    /// Page by page: closed, and read-only.
    fn faults(&self) -> Result<(), String> {
        let claims = self.claim.pages();
        for (index, (page, claim)) in claims.iter().enumerate() {
            let mut pages = self.fit.clone();
            pages.remove(index);
            let outcome = self.run_with(&pages);
            self.at_page(&outcome, *page, claim.touched, "closed")?;
            if !claim.writable || self.claim.accesses.is_empty() {
                continue;
            }
            let mut pages = self.fit.clone();
            pages[index].1 = READ_ONLY;
            let outcome = self.run_with(&pages);
            self.at_page(&outcome, *page, claim.written, "read-only")?;
            if let End::Signal { error, .. } = outcome.end
                && error & WRITE == 0
            {
                return Err(format!("read-only {page:#x}: no fault of a write"));
            }
        }
        Ok(())
    }

    /// Whether a run faulted in a page, as it must or may, and where the account explains it.
    fn at_page(&self, outcome: &Outcome, page: u64, must: bool, how: &str) -> Result<(), String> {
        let Claim {
            decoded,
            aux,
            accesses,
            ..
        } = &self.claim;
        // A fault may come in the middle of a repetition.
        match outcome.end {
            End::Signal {
                signal: libc::SIGSEGV,
                code: SEGV_ACCERR,
                addr,
                ..
            } if addr & !(PAGE - 1) == page => {
                self.lanes_to_come(outcome, page)?;
                if decoded.explains(&self.case.regs, Some(aux), accesses, addr) {
                    Ok(())
                } else {
                    Err(format!("{page:#x} {how}: {addr:#x} is not accounted for"))
                }
            }
            End::Done if !must => Ok(()),
            End::Signal {
                signal: libc::SIGFPE,
                ..
            } if !must => Ok(()),
            other => Err(format!("{page:#x} {how}: {other:x?}")),
        }
    }

    /// When a gather or scatter faults, its mask must still show every lane of that page.
    fn lanes_to_come(&self, outcome: &Outcome, page: u64) -> Result<(), String> {
        let (claim, regs) = (&self.claim, &outcome.regs);
        if claim.decoded.lanes().is_none() {
            return Ok(());
        }
        let aux = record(
            &claim.decoded,
            regs,
            &outcome.area,
            self.case.gs,
            self.world,
        );
        let mut left = Vec::new();
        let known = claim
            .decoded
            .accesses(regs, Some(&aux), Rep::Once, &mut left);
        known.map_err(|refusal| refusal.to_string())?;
        let in_page = |at: u64| at & !(PAGE - 1) == page;
        let lost = claim.accesses.iter().find(|lane| {
            (in_page(lane.addr) || in_page(lane.addr + lane.len - 1)) && !left.contains(lane)
        });
        match lost {
            Some(lane) => Err(format!("after a fault, {lane:x?} is not to come any more")),
            None => Ok(()),
        }
    }

    /// What was there before must not matter but where it was read.
    fn contents(&self, reference: &Reference) -> Result<(), String> {
        self.fill(1);
        self.open();
        let second = hardware::execute(&self.start());
        let others = self.memory();
        if let Some(what) = difference(&reference.outcome, &second) {
            return Err(format!(
                "it depends on memory that it does not read: {what}"
            ));
        }
        for (index, (page, _)) in self.fit.iter().enumerate() {
            let writes = || {
                let writes = self
                    .claim
                    .accesses
                    .iter()
                    .filter(|it| it.kind == AccessKind::Write);
                writes.map(|it| (within(*page, it.addr, it.len), it.certain))
            };
            let ends = [&reference.memory[index], &others[index]];
            for (end, fill) in ends.iter().zip(&self.fills) {
                let mut expected = fill[index].clone();
                for ((from, to), _) in writes() {
                    expected[from..to].copy_from_slice(&end[from..to]);
                }
                if let Some(offset) = first_difference(&expected, end) {
                    return Err(format!("it writes {:#x}", page + offset));
                }
            }
            for ((from, to), _) in writes().filter(|(_, certain)| *certain) {
                if let Some(offset) = first_difference(&ends[0][from..to], &ends[1][from..to]) {
                    let at = page + from as u64 + offset;
                    return Err(format!("it leaves {at:#x} as it was"));
                }
            }
        }
        Ok(())
    }
}

fn first_difference(one: &[u8], other: &[u8]) -> Option<u64> {
    if one == other {
        return None;
    }
    let at = one.iter().zip(other).position(|(a, b)| a != b);
    at.map(|at| at as u64)
}

/// Bytes that memory is filled with, from any of the first offsets.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(1);
    (0..2 * PAGE / 8)
        .flat_map(|_| random.value().to_le_bytes())
        .collect()
});

/// The same bytes, every bit the other way.
static INVERTED: LazyLock<Vec<u8>> = LazyLock::new(|| PATTERN.iter().map(|byte| !byte).collect());

/// The part of a range that lies in a page, as offsets.
fn within(page: u64, addr: u64, len: u64) -> (usize, usize) {
    let from = addr.clamp(page, page + PAGE) - page;
    let to = (addr + len).clamp(page, page + PAGE) - page;
    (from as usize, to as usize)
}

/// Puts the bytes of `patch`, which is at `addr`, into a page.
fn overlay(page: u64, bytes: &mut [u8], addr: u64, patch: &[u8]) {
    let (from, to) = within(page, addr, patch.len() as u64);
    let skip = (page + from as u64).saturating_sub(addr) as usize;
    if from < to {
        bytes[from..to].copy_from_slice(&patch[skip..skip + to - from]);
    }
}

/// The first thing in which two ends differ.
pub(crate) fn difference(one: &Outcome, other: &Outcome) -> Option<String> {
    if one.end != other.end {
        return Some(format!("{:x?} and {:x?}", one.end, other.end));
    }
    for (number, (a, b)) in one.regs.gpr.iter().zip(other.regs.gpr).enumerate() {
        if *a != b {
            return Some(format!("register {number}: {a:#x} and {b:#x}"));
        }
    }
    if (one.regs.rflags ^ other.regs.rflags) & !hardware::TRAP_FLAG != 0 {
        let (a, b) = (one.regs.rflags, other.regs.rflags);
        return Some(format!("flags {a:#x} and {b:#x}"));
    }
    let (a, b) = (one.area.architectural(), other.area.architectural());
    if a == b {
        return None;
    }
    let at = a.iter().zip(&b).position(|(a, b)| a != b)?;
    Some(format!("state at {at}: {:#x} and {:#x}", a[at], b[at]))
}
