//! Running a case under each recorder, and comparing the recorders with each other.

use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow};

use super::plain::{plain, same};
use super::{Case, Ranges};
use crate::call::{Backend, Outcome};
use crate::check;
use crate::fixture::Lib;
use crate::host::{self, Need};
use crate::report::Allocation;
use crate::suite::{Suite, explain};

/// One run that several tests look at.
type Shared = Arc<Mutex<Option<Result<Arc<Outcome>, String>>>>;

/// Adds to `suite`, for every case and library, one test a recorder and one that compares them.
pub fn add_cases(suite: &mut Suite, group: &str, cases: Vec<Case>) {
    for case in cases {
        let case = Arc::new(case);
        for &lib in &case.libs {
            let build = match lib {
                Lib::O2 | Lib::Simd | Lib::UsesDep => String::new(),
                other => format!("@{other:?}").to_lowercase(),
            };
            let stem = format!("{group}::{}{build}", case.name);
            add_case(suite, &case, lib, &stem);
        }
    }
}

fn add_case(suite: &mut Suite, case: &Arc<Case>, lib: Lib, stem: &str) {
    let runs: Vec<(Backend, Shared)> = case
        .backends
        .iter()
        .copied()
        .map(|backend| (backend, Shared::default()))
        .collect();
    for (backend, shared) in &runs {
        let (backend, shared) = (*backend, Arc::clone(shared));
        let case = Arc::clone(case);
        let name = format!("{stem}::{}", backend.name());
        let needs: Vec<Need> = case.needs.iter().copied().chain(backend.needs()).collect();
        suite.add(name, needs, move || {
            let outcome = obtain(&case, lib, backend, &shared)?;
            case.check(&outcome).context(describe(&case, lib, backend))
        });
    }
    let case = Arc::clone(case);
    suite.add(format!("{stem}::agree"), case.needs.clone(), move || {
        agree(&case, lib, &runs)
    });
}

fn describe(case: &Case, lib: Lib, backend: Backend) -> String {
    let command = case.call(lib, backend).command();
    command
        .map(|command| format!("{command:?}"))
        .unwrap_or_default()
}

/// Runs the case once, whoever asks first.
fn obtain(case: &Case, lib: Lib, backend: Backend, shared: &Shared) -> Result<Arc<Outcome>> {
    let mut slot = shared.lock().map_err(|_| anyhow!("the run panicked"))?;
    let run = || {
        case.call(lib, backend)
            .run()
            .map(Arc::new)
            .map_err(|error| explain(&error))
    };
    slot.get_or_insert_with(run)
        .clone()
        .map_err(anyhow::Error::msg)
}

/// The recorders that this host has must tell the same story.
fn agree(case: &Case, lib: Lib, runs: &[(Backend, Shared)]) -> Result<()> {
    let mut told: Vec<(Backend, Arc<Outcome>)> = Vec::new();
    for (backend, shared) in runs {
        if backend.needs().and_then(host::missing).is_none() {
            told.push((*backend, obtain(case, lib, *backend, shared)?));
        }
    }
    let Some(((first, reference), others)) = told.split_first() else {
        return Ok(());
    };
    for (backend, outcome) in others {
        let pair = format!("{} against {}", backend.name(), first.name());
        compare(case, reference, outcome).context(pair)?;
    }
    Ok(())
}

fn compare(case: &Case, left: &Outcome, right: &Outcome) -> Result<()> {
    let ret = |outcome: &Outcome| {
        outcome
            .report
            .ret
            .as_ref()
            .map(|ret| (ret.ty.clone(), ret.text()))
    };
    if case.ret.is_some() || case.ret_numbers.is_some() {
        check!(
            ret(left) == ret(right),
            "results {:?} and {:?}",
            ret(left),
            ret(right)
        );
    }
    // Coverage that depends on the address may differ with it; each run was checked by itself.
    let fixed = |allocation: &Allocation| {
        !case.buffers.get(&allocation.name).is_some_and(|buffer| {
            [&buffer.read, &buffer.written, &buffer.maybe_written]
                .iter()
                .any(|ranges| matches!(ranges, Ranges::AtBase(_)))
        })
    };
    for allocation in left
        .report
        .allocations
        .iter()
        .filter(|allocation| fixed(allocation))
    {
        let other = right.allocation(&allocation.name)?;
        let of = |a: &Allocation| {
            (
                a.size,
                a.mutable,
                a.read.clone(),
                a.written.clone(),
                a.maybe_written.clone(),
                a.initialized.clone(),
            )
        };
        check!(
            of(allocation) == of(other),
            "{}: {:?} and {:?}",
            allocation.name,
            of(allocation),
            of(other)
        );
    }
    if case.same_order && left.report.allocations.iter().all(fixed) {
        same("events", &plain(&left.events)?, &plain(&right.events)?)?;
    }
    Ok(())
}
