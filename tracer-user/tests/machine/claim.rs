//! What the product says of a case: the accesses, and what else may be checked for faults.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use tracer_ebpf::{AuxRecord, LAYOUT_VERSION, RecordHeader, Regs, kind};
use tracer_user::access::{Access, AccessKind};
use tracer_user::decode::{Decoded, Refusal, Rep, RepKind, WholeRep, runs_whole};
use tracer_user::resume::aux::Stopped;
use tracer_user::resume::safe::{self, Safe};
use tracer_user::resume::xstate::{Offsets, XState};

use crate::case::Case;
use crate::hardware::{Area, fs_base};
use crate::world::{PAGE, World};

/// Asked once: in a virtual machine CPUID is slow.
static OFFSETS: LazyLock<Offsets> = LazyLock::new(Offsets::of_this_machine);

/// The record that a handler would make of this state.
pub(crate) fn record(
    decoded: &Decoded,
    regs: &Regs,
    area: &Area,
    gs: u64,
    world: &World,
) -> AuxRecord {
    let safe = Safe::promise();
    let stopped = Stopped {
        process: safe::process_id(safe),
        regs,
        state: XState::new(&area.0, *OFFSETS),
        bases: (fs_base(), gs),
    };
    let header = RecordHeader {
        kind: kind::AUX,
        version: LAYOUT_VERSION,
        tid: 1,
    };
    stopped.record(safe, header, &decoded.needs(), world.session())
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Claim {
    pub(crate) decoded: Decoded,
    pub(crate) aux: AuxRecord,
    pub(crate) accesses: Vec<Access>,
    /// Beyond the accesses.
    pub(crate) checked: Option<(u64, u64)>,
    /// How many iterations of a repeated comparison the accesses are of.
    pub(crate) iterations: usize,
}

/// What a claim says of one page.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PageClaim {
    /// Something is certainly accessed.
    pub(crate) touched: bool,
    /// Something is certainly written.
    pub(crate) written: bool,
    /// Something may be written.
    pub(crate) writable: bool,
}

const RCX: usize = 1;
const RSI: usize = 6;
const RDI: usize = 7;

/// Turns the registers into those of the next iteration of a repeated comparison; false if there
/// is none.
fn next_comparison(decoded: &Decoded, regs: &mut Regs) -> bool {
    let Some(op) = decoded.string_op() else {
        return false;
    };
    let width = if op.narrow { 0xffff_ffff } else { u64::MAX };
    if !matches!(op.rep, RepKind::RepConditional(_)) || regs.gpr[RCX] & width <= 1 {
        return false;
    }
    let mut step = |register: usize, by: u64| {
        let value = regs.gpr[register];
        regs.gpr[register] = value & !width | value.wrapping_add(by) & width;
    };
    let by = match regs.rflags & 1 << 10 {
        0 => op.element,
        _ => op.element.wrapping_neg(),
    };
    step(RCX, u64::MAX);
    step(RSI, by);
    step(RDI, by);
    true
}

impl Claim {
    /// The account of a case. Puts the memory that matters in its place.
    pub(crate) fn of(case: &Case, world: &World) -> Result<Claim, Refusal> {
        for (addr, bytes) in &case.memory {
            world.write(*addr, bytes);
        }
        let decoded = Decoded::parse(&case.code, case.regs.rip)?;
        let area = case.area();
        let safe = Safe::promise();
        let stopped = Stopped {
            process: safe::process_id(safe),
            regs: &case.regs,
            state: XState::new(&area.0, *OFFSETS),
            bases: (fs_base(), case.gs),
        };
        let header = RecordHeader {
            kind: kind::AUX,
            version: LAYOUT_VERSION,
            tid: 1,
        };
        // Memory outside of the arena may be closed at the moment; it is read where it never is.
        let aux = stopped.record(safe, header, &decoded.needs(), world.session());
        let mut accesses = Vec::new();
        let mut regs = case.regs;
        let mut iterations = 0;
        // A comparison takes one fault for each iteration: all that there may be.
        loop {
            decoded.accesses(&regs, Some(&aux), Rep::Whole, &mut accesses)?;
            iterations += 1;
            if !next_comparison(&decoded, &mut regs) {
                break;
            }
        }
        let checked = decoded.checked(&case.regs, Some(&aux));
        Ok(Claim {
            decoded,
            aux,
            accesses,
            checked,
            iterations,
        })
    }

    /// Leaves out iterations that were not executed: `regs` are those afterwards.
    pub(crate) fn as_executed(&mut self, before: &Regs, after: &Regs) {
        if self.iterations > 1 {
            let executed = before.gpr[RCX].wrapping_sub(after.gpr[RCX]) & 0xffff_ffff;
            let each = self.accesses.len() / self.iterations;
            self.accesses.truncate(each * executed as usize);
        }
    }

    /// All ranges: of the accesses, and checked.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        let accesses = self.accesses.iter().map(|access| (access.addr, access.len));
        accesses.chain(self.checked)
    }

    /// Which copy a string instruction runs.
    pub(crate) fn whole(&self, case: &Case, world: &World) -> WholeRep {
        self.decoded.string_op().map_or(WholeRep::No, |op| {
            runs_whole(&op, &case.regs, &world.session())
        })
    }

    /// What it says of each page that it names.
    pub(crate) fn pages(&self) -> BTreeMap<u64, PageClaim> {
        let mut pages: BTreeMap<u64, PageClaim> = BTreeMap::new();
        let mut add = |addr: u64, len: u64, claim: PageClaim| {
            for page in (addr & !(PAGE - 1)..addr + len).step_by(PAGE as usize) {
                let entry = pages.entry(page).or_default();
                entry.touched |= claim.touched;
                entry.written |= claim.written;
                entry.writable |= claim.writable;
            }
        };
        for access in &self.accesses {
            let write = access.kind == AccessKind::Write;
            let claim = PageClaim {
                touched: access.certain,
                written: write && access.certain,
                writable: write,
            };
            add(access.addr, access.len, claim);
        }
        let writes = self.accesses.iter().any(|it| it.kind == AccessKind::Write);
        if let Some((addr, len)) = self.checked {
            let claim = PageClaim {
                writable: writes || self.accesses.is_empty(),
                ..PageClaim::default()
            };
            add(addr, len, claim);
        }
        pages
    }
}
