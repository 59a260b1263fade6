//! Diagnoses as the report has them.

use tracer_user::session::TraceSession;

use crate::{
    diagnosis::{Diagnoser, Diagnosis},
    report::{Hex, Stepped, Violation},
};

impl From<Diagnosis> for Violation {
    fn from(found: Diagnosis) -> Violation {
        let site = found.backtrace.first();
        Violation {
            kind: found.kind,
            access: found.access,
            certain: found.certain,
            addr: found.addr.map(Hex),
            size: found.size,
            ip: site.map(|site| Hex(site.ip)),
            symbol: site.map(|site| site.symbol.clone()),
            source: site.and_then(|site| site.source.as_ref().map(ToString::to_string)),
            backtrace: found.backtrace.iter().map(ToString::to_string).collect(),
            instruction: found.instruction,
            message: found.message,
            offset: found.allocation.as_ref().map(|note| note.offset),
            allocation: found.allocation.and_then(|note| note.name),
            count: found.count,
        }
    }
}

/// An instruction that was single-stepped.
pub(super) fn stepped(diagnoser: &mut Diagnoser, ip: u64, count: u64) -> Stepped {
    Stepped {
        ip: Hex(ip),
        symbol: diagnoser.frame(ip).symbol,
        instruction: diagnoser.instruction(ip),
        count,
    }
}

/// What was translated, and what was left to faults, a line each.
pub(super) fn translations(session: &TraceSession) -> Vec<String> {
    if let Some(why) = session.no_translation() {
        return vec![format!("hot code is not translated here: {why}")];
    }
    let all = session.translations();
    if all.regions == 0 {
        return Vec::new();
    }
    let first = format!(
        "translated: {} with {}, {} of code",
        crate::report::units::count(all.regions, "region"),
        crate::report::units::count(all.instructions, "instruction"),
        crate::report::units::count(all.bytes, "byte")
    );
    let declined = all.declined.iter();
    let left = declined.map(|(what, count)| format!("not translated: {what} ({count})"));
    std::iter::once(first).chain(left).collect()
}
