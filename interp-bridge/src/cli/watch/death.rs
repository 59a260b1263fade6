//! The report of a call whose process is gone: how it ended, and what the kernel had recorded to the last.
//!
//! ```text
//!  agent ── Ended: records that were not read ──► last access ─► buffer and offset, function
//!  child's notice: its buffers, where its library's code was    ┘
//! ```

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::Path,
    sync::atomic::Ordering,
    time::Duration,
};

use tracer_user::{
    access::AccessKind,
    agent::{self, Evidence, LastAccess},
    decode::Decoded,
    modules::Mapping,
    symbols::{Symbol, Symbols},
};

use super::{Notice, read_bytes, read_name};
use crate::report::{self, CallReport, Hex, Stats, Theme, Violation, ViolationKind, model::SCHEMA};

/// How long the agent may take to say what the child left.
const PATIENCE: Duration = Duration::from_secs(3);

/// Longest x86 instruction in bytes.
const MAX_INSTRUCTION: usize = 15;

/// Reports how the child ended, and ends this process.
pub(super) fn report(notice: &Notice, from_child: &OwnedFd, kind: ViolationKind, what: &str) -> ! {
    let agent_socket = agent::take_over(from_child).ok().flatten();
    let evidence = agent_socket.and_then(|socket| agent::last_words(&socket, PATIENCE));
    let mut violation = Violation {
        kind,
        access: None,
        certain: true,
        addr: None,
        size: None,
        allocation: None,
        offset: None,
        ip: None,
        symbol: None,
        source: None,
        instruction: None,
        message: format!("{what}; what was traced before is lost with it"),
        backtrace: Vec::new(),
        count: 1,
    };
    let mut stats = Stats {
        calls: 1,
        ..Stats::default()
    };
    let evidence = evidence.map(|evidence| Evidence {
        emitted: evidence.emitted.saturating_sub(notice.recorded),
        ..evidence
    });
    if let Some(evidence) = evidence.filter(|evidence| !evidence.is_empty()) {
        stats.emitted = evidence.emitted;
        stats.faults = evidence.emitted;
        stats.dropped = evidence.dropped;
        // To the process, or to the agent when it was killed; what came of them was lost with it.
        stats.delivered = evidence.emitted.saturating_sub(evidence.dropped);
        tell(&mut violation, notice, &evidence, what);
    }
    let report = CallReport {
        schema: SCHEMA,
        library: read_name(&notice.library),
        function: read_name(&notice.function),
        backend: read_name(&notice.backend),
        backend_note: None,
        ret: None,
        allocations: Vec::new(),
        overreads: Vec::new(),
        translations: Vec::new(),
        stepped: Vec::new(),
        native_heap: None,
        violations: vec![violation],
        stats,
    };
    let mut stdout = io::stdout().lock();
    let written = if notice.json.load(Ordering::Relaxed) == 1 {
        report::json::write(&mut stdout, &report)
    } else {
        report::text::write(&mut stdout, &report, Theme::of(&io::stdout()), false)
    };
    // A reader that has gone away has seen enough.
    let _ = written.and_then(|()| stdout.flush());
    std::process::exit(i32::from(report.exit_status()))
}

/// Puts the last accesses into the violation.
fn tell(violation: &mut Violation, notice: &Notice, evidence: &Evidence, what: &str) {
    let mut symbols = Symbols::new();
    let mut lines: Vec<String> = evidence
        .last
        .iter()
        .rev()
        .map(|access| line(notice, &mut symbols, access))
        .collect();
    let recorded = match evidence.emitted {
        1 => "1 access".to_owned(),
        count => format!("{} accesses", report::count(count)),
    };
    let Some(last) = evidence.last.last() else {
        violation.message = format!(
            "{what}; the kernel had recorded {recorded}, all of them read by the process and lost \
             with it"
        );
        return;
    };
    let place = place(notice, last.addr);
    let symbol = symbol(notice, &mut symbols, last.ip);
    violation.message = format!(
        "{what}; the kernel had recorded {recorded}, the last of them: {}",
        lines.remove(0)
    );
    if !lines.is_empty() {
        violation.message.push_str("; before it: ");
        lines.truncate(4);
        violation.message.push_str(&lines.join(", "));
    }
    violation.access = Some(match last.write {
        true => AccessKind::Write,
        false => AccessKind::Read,
    });
    violation.addr = Some(Hex(last.addr));
    (violation.allocation, violation.offset) = place.unzip();
    violation.ip = Some(Hex(last.ip));
    violation.instruction = instruction(notice, last);
    violation.source = symbol
        .as_ref()
        .and_then(|symbol| symbol.source.as_ref().map(ToString::to_string));
    violation.symbol = symbol.map(|symbol| symbol.to_string());
}

/// `write at p+4 by crash_kill+0x8`.
fn line(notice: &Notice, symbols: &mut Symbols, access: &LastAccess) -> String {
    let kind = if access.write { "write" } else { "read" };
    let place = match place(notice, access.addr) {
        Some((name, 0)) => name,
        Some((name, offset)) => format!("{name}+{offset}"),
        None => format!("{:#x}", access.addr),
    };
    let by = match symbol(notice, symbols, access.ip) {
        Some(symbol) => symbol.to_string(),
        None => format!("{:#x}", access.ip),
    };
    format!("{kind} at {place} by {by}")
}

/// The buffer that an address is in, or not far behind, and the offset in it.
fn place(notice: &Notice, addr: u64) -> Option<(String, i64)> {
    /// The red zones between buffers are no smaller.
    const NEAR: u64 = 64;
    let used = notice.places.iter().take(notice.places_used as usize);
    let found = used.filter(|place| (place.base..place.base + place.size + NEAR).contains(&addr));
    let place = found.max_by_key(|place| place.base)?;
    let offset = i64::try_from(addr - place.base).ok()?;
    Some((read_name(&place.name), offset))
}

fn mapping(notice: &Notice) -> Mapping {
    let code = &notice.code;
    Mapping {
        range: code.start..code.end,
        offset: code.offset,
        executable: true,
        writable: false,
        path: Path::new(std::ffi::OsStr::from_bytes(read_bytes(&code.path))).to_owned(),
    }
}

fn symbol(notice: &Notice, symbols: &mut Symbols, ip: u64) -> Option<Symbol> {
    let mapping = mapping(notice);
    mapping
        .range
        .contains(&ip)
        .then(|| symbols.lookup_in(&mapping, ip))
}

/// The instruction of an access: as it was recorded, or as the library's file has it.
fn instruction(notice: &Notice, access: &LastAccess) -> Option<String> {
    let mut bytes = access.insn.clone();
    let mapping = mapping(notice);
    if bytes.is_empty() && mapping.range.contains(&access.ip) {
        let offset = access.ip - mapping.range.start + mapping.offset;
        bytes = vec![0; MAX_INSTRUCTION];
        let read = File::open(&mapping.path)
            .and_then(|file| file.read_at(&mut bytes, offset))
            .ok()?;
        bytes.truncate(read);
    }
    Decoded::parse(&bytes, access.ip)
        .ok()
        .map(|decoded| decoded.text())
}
