//! Displaced copies, run: the same effect as the instruction in place, at every boundary.
//!
//! ```text
//!  reference:    instruction in place, native view accessible ──► state, memory  ┐ equal
//!  copy's run:   copy elsewhere, native view inaccessible     ──► state, memory  ┤
//!  stopped run:  copy up to a boundary, original_state, the rest in place        ┘
//! ```

use tracer_user::decode::WholeRep;
use tracer_user::resume::displace::{CodeCopy, Form, displace};

use crate::hardware::{self, End, Start, TRAP_FLAG};
use crate::judge::{Reference, Trial, difference};

/// How the resume engine goes on from a fault of the case, and which copy it runs.
#[derive(Debug)]
pub(crate) enum Way {
    /// This copy.
    Copy(Box<CodeCopy>),
    /// Open, step, close: for this reason.
    Step(String),
    /// Nothing of it lies in the native view, so there is no fault.
    Elsewhere,
}

impl Way {
    /// As the handler decides.
    pub(crate) fn of(trial: &Trial<'_>) -> Way {
        let session = trial.world.session();
        let (claim, regs) = (&trial.claim, &trial.case.regs);
        if !claim.ranges().any(|(addr, _)| session.is_native(addr)) {
            return Way::Elsewhere;
        }
        let copy = match displace(&claim.decoded) {
            Form::Operand { code } => {
                let stack = claim.decoded.touches_stack();
                (!(stack && session.is_arena(regs.gpr[4]))).then_some(code)
            }
            Form::Lanes { lanes, code } => {
                lanes.all_native(regs, &claim.aux, &session).then_some(code)
            }
            Form::String { source, dest, both } => match claim.whole(trial.case, trial.world) {
                WholeRep::Source => source,
                WholeRep::Dest => dest,
                WholeRep::Both => both,
                WholeRep::No => None,
            },
            Form::Step { why } => return Way::Step(why.to_string()),
        };
        match copy {
            Some(copy) => Way::Copy(Box::new(copy)),
            None => Way::Step("operands inside and outside of the native view".to_owned()),
        }
    }
}

/// Runs the copy, as a whole and up to each of its boundaries.
pub(crate) fn check(
    trial: &Trial<'_>,
    copy: &CodeCopy,
    reference: &Reference,
) -> Result<(), String> {
    let rip = trial.world.put_copy(&copy.code);
    let start = |stop: [u64; 2]| {
        let mut start = trial.start();
        start.regs.rip = rip;
        start.stop = stop;
        if stop[0] != 0 {
            start.regs.rflags |= TRAP_FLAG;
        }
        start
    };
    // A division that overflows does so in the copy, too.
    if let End::Signal { signal, .. } = reference.outcome.end {
        trial.fill(0);
        trial.open_outside();
        return match hardware::execute(&start([0; 2])).end {
            End::Signal { signal: same, .. } if same == signal => Ok(()),
            other => Err(format!("its copy ends otherwise: {other:x?}")),
        };
    }
    // A repeated comparison comes back to the original for each further iteration, which faults.
    if trial.claim.iterations <= 1 {
        trial.fill(0);
        trial.open_outside();
        let outcome = hardware::execute(&start([0; 2]));
        trial
            .compare(reference, &outcome)
            .map_err(|what| format!("its copy does otherwise: {what}"))?;
    }
    let pushes_flags = trial.claim.decoded.text().starts_with("pushf");
    for offset in copy.boundaries() {
        // It would push the trap flag of this test.
        if pushes_flags && offset > copy.insn_offset {
            continue;
        }
        trial.fill(0);
        trial.open_outside();
        let here = rip + offset as u64;
        let stopped = hardware::execute(&start([here, here + 1]));
        if stopped.end != End::Stopped(here) {
            continue;
        }
        let mut regs = stopped.regs;
        copy.original_state(offset, &stopped.regs)
            .ok_or_else(|| format!("no state at {offset} of its copy"))?
            .apply(&mut regs);
        trial.open();
        let outcome = hardware::execute(&Start {
            regs,
            area: stopped.area,
            ..trial.start()
        });
        trial
            .compare(reference, &outcome)
            .map_err(|what| format!("stopped at {offset} of its copy: {what}"))?;
    }
    Ok(())
}

impl Trial<'_> {
    /// Compares a run with the reference: state, and memory as it is now.
    pub(crate) fn compare(
        &self,
        reference: &Reference,
        outcome: &hardware::Outcome,
    ) -> Result<(), String> {
        if let Some(what) = difference(&reference.outcome, outcome) {
            return Err(what);
        }
        let mut expected = reference.memory.clone();
        let memory = self.memory();
        // Whether a component that is in its initial state counts as in use, and what `xsaveopt`
        // leaves out, depends on how its state was loaded last: a signal may change it.
        if self.claim.decoded.text().starts_with("xsave") {
            self.forget_uncertain(&mut expected, &memory);
        }
        if memory == expected {
            return Ok(());
        }
        let all = expected.concat();
        let at = all.iter().zip(memory.concat()).position(|(a, b)| *a != b);
        Err(format!("memory at {at:x?} of the pages of its account"))
    }
}
