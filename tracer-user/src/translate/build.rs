//! A region put together: scanned, emitted in the order of its addresses, entered into the tables.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use super::{
    Translator,
    asm::{Gpr, Label, RAX, RCX, RSP},
    checked::{self, Apart},
    declined::Declined,
    emit::{CannotEncode, Emitter},
    functions::Function,
    live::{self, Live},
    places::Place,
    region::{Region, State},
    runs::{self, Run},
    scan::{self, Insn, Kind, Scan},
    transfer::{self, Exits},
};

/// Bytes of translated code that an instruction takes, roughly, to begin with.
const BYTES_PER_INSTRUCTION: u64 = 64;

/// Why a region did not come about; counted.
type Declining = usize;

struct Builder<'a> {
    translator: &'a Translator,
    scan: &'a Scan,
    emitter: Emitter,
    labels: HashMap<u64, Label>,
    exits: Exits,
    apart: Vec<Apart>,
    /// Conditional jumps out of the region: where they go first, and where to.
    outward: Vec<(Label, u64)>,
    /// Where the region is come to from elsewhere, if registers have to be saved there first.
    entries: Vec<u64>,
    /// What does that.
    stubs: Vec<(u64, Label)>,
    /// Instructions that are looked at together, by their first.
    runs: &'a HashMap<u64, Run>,
    /// The same with each access checked, to be emitted apart.
    slow: Vec<Slow<'a>>,
}

/// A run whose looks did not find private memory alone.
struct Slow<'a> {
    begin: Label,
    insns: Vec<&'a Insn>,
    /// What holds where it begins.
    state: State,
    next: Label,
}

/// What came of it.
pub(super) struct Built {
    /// Instructions of the region.
    pub(super) instructions: u64,
    /// Original and translated addresses of instructions where the region can be come to.
    pub(super) addresses: Vec<(u64, u64)>,
    /// Original addresses that calls of the region return to.
    pub(super) returns: Vec<u64>,
}

/// Translates what the entries reach. `known` says what was translated before, `touched` which
/// instructions touched the arena already.
pub(super) fn build(
    translator: &Translator,
    function: &Function,
    entries: &[u64],
    known: &HashMap<u64, u64>,
    touched: &dyn Fn(u64) -> bool,
) -> Result<Built, Declining> {
    // Before anything of the original code is read.
    let made = translator.changes.load(Ordering::Acquire);
    let declined = &translator.declined;
    let scan = scan::scan(entries, &function.range, function.is_known, known, declined);
    let first = *scan.keys().next().ok_or(Declined::STAYS)?;
    let live = live::live(&scan);
    let calls = scan.values().filter(|insn| insn.is_call());
    let returns: Vec<u64> = calls
        .map(Insn::next)
        .filter(|ip| scan.contains_key(ip))
        .collect();
    let (held, pointer) = to_hold(&scan, &live);
    let come_in: Vec<u64> = entries.iter().chain(&returns).copied().collect();
    let branches = scan.values().filter_map(Insn::branch);
    let targets: HashSet<u64> = come_in.iter().copied().chain(branches).collect();
    let runs = runs::find(&scan, &live, &targets, touched);
    let mut wanted = scan.len() as u64 * BYTES_PER_INSTRUCTION;
    let (base, mut emitter, places, exits) = loop {
        let (base, room) = translator
            .cache
            .room(first, wanted)
            .or_else(|| translator.cache.room(first, 1))
            .ok_or(Declined::CACHE_FULL)?;
        let mut builder = Builder {
            translator,
            scan: &scan,
            emitter: Emitter::new(base),
            labels: HashMap::new(),
            exits: Exits::default(),
            apart: Vec::new(),
            outward: Vec::new(),
            entries: if held == 0 {
                Vec::new()
            } else {
                come_in.clone()
            },
            stubs: Vec::new(),
            runs: &runs,
            slow: Vec::new(),
        };
        builder.emitter.hold(held, pointer);
        for ip in scan.keys() {
            let label = builder.emitter.label();
            builder.labels.insert(*ip, label);
        }
        builder.all(&live, touched)?;
        let Builder {
            mut emitter,
            labels,
            exits,
            stubs,
            ..
        } = builder;
        let places = if held == 0 {
            labels.into_iter().collect()
        } else {
            stubs
        };
        emitter.asm.finish().map_err(|_| Declined::NOT_MOVED)?;
        let len = emitter.asm.code.len() as u64;
        if len <= room {
            break (base, emitter, places, exits);
        }
        // More than was thought; once more where there is as much room, if there is.
        if len <= wanted {
            return Err(Declined::CACHE_FULL);
        }
        wanted = len + len / 8;
    };
    let addresses = places
        .iter()
        .filter_map(|(ip, label)| {
            let offset = emitter.asm.offset_of(*label)?;
            Some((*ip, base + u64::from(offset)))
        })
        .collect();
    let exits = exits.placed(&emitter, base).ok_or(Declined::NOT_MOVED)?;
    let mut code = std::mem::take(&mut emitter.asm.code);
    for exit in &exits {
        // Through its cell, as those that are found later: it may have to be taken back.
        if let Some(address) = known.get(&exit.target) {
            let cell = (exit.cell - base) as usize;
            code[cell..cell + 8].copy_from_slice(&address.to_le_bytes());
        }
    }
    let region = Region {
        base,
        len: code.len() as u32,
        marks: emitter.into_marks(),
        held,
        exits,
        made,
    };
    translator
        .cache
        .add(&code, region)
        .ok_or(Declined::CACHE_FULL)?;
    let instructions = scan.len() as u64;
    Ok(Built {
        addresses,
        returns,
        instructions,
    })
}

/// Registers to save in all of a region, since no instruction of it has to do with them, and the one
/// of them to keep the log pointer in. An instruction that is run as it was may fault, and whoever
/// looks at its registers wants to see them all.
fn to_hold(scan: &Scan, live: &HashMap<u64, Live>) -> (u16, Option<Gpr>) {
    /// What an access borrows, and the log pointer.
    const MOST: usize = 4;
    let checks = scan
        .values()
        .any(|insn| matches!(insn.kind, Kind::Checked(_)));
    if !checks || scan.values().any(|insn| insn.kind == Kind::InPlace) {
        return (0, None);
    }
    let touched = live.values().fold(1 << RSP, |all, live| all | live.touched);
    // rcx first: it is the one that can be tested without flags.
    let order = [RCX]
        .into_iter()
        .chain((0..16).rev().filter(|number| *number != RCX));
    let free: Vec<Gpr> = order
        .filter(|number| touched & 1u16 << number == 0)
        .take(MOST)
        .collect();
    let held = free.iter().fold(0, |all, number| all | 1 << number);
    // Look-ups use rax and rcx before the log is published.
    let pointer = free
        .iter()
        .rev()
        .find(|number| ![RAX, RCX].contains(number));
    (held, pointer.filter(|_| free.len() == MOST).copied())
}

impl<'a> Builder<'a> {
    fn all(
        &mut self,
        live: &HashMap<u64, Live>,
        touched: &dyn Fn(u64) -> bool,
    ) -> Result<(), Declining> {
        let insns: Vec<&Insn> = self.scan.values().collect();
        let mut at = 0;
        while at < insns.len() {
            let ip = insns[at].ip();
            self.emitter.begin(ip);
            self.emitter.asm.bind(self.labels[&ip]);
            if let Some(run) = self.runs.get(&ip) {
                self.run(run, &insns[at..at + run.len], live, touched)?;
                at += run.len;
            } else {
                self.one(insns[at], &live[&ip], touched(ip))?;
                at += 1;
            }
            let last = insns[at - 1];
            let next = insns.get(at).map(|insn| insn.ip());
            if last.goes_on() && next != Some(last.next()) {
                self.emitter.begin(last.next());
                self.go(last.next());
            }
        }
        for slow in std::mem::take(&mut self.slow) {
            self.slow(&slow, live, touched)?;
        }
        for (label, to) in std::mem::take(&mut self.outward) {
            self.emitter.begin(to);
            self.emitter.asm.bind(label);
            self.go(to);
        }
        for apart in std::mem::take(&mut self.apart) {
            apart
                .emit(&mut self.emitter, &self.translator.tables)
                .map_err(|CannotEncode| Declined::NOT_MOVED)?;
        }
        for ip in &self.entries {
            let label = self.emitter.label();
            self.emitter.begin_outside(*ip);
            self.emitter.asm.bind(label);
            self.emitter.come_in();
            self.emitter.asm.jump(self.labels[ip]);
            self.stubs.push((*ip, label));
        }
        self.exits.emit(&mut self.emitter, &self.translator.tables);
        Ok(())
    }

    /// A run: its looks, and what follows where they find private memory.
    fn run(
        &mut self,
        run: &Run,
        insns: &[&'a Insn],
        live: &HashMap<u64, Live>,
        touched: &dyn Fn(u64) -> bool,
    ) -> Result<(), Declining> {
        let (begin, next) = (self.emitter.label(), self.emitter.label());
        run.looks(
            &mut self.emitter,
            &self.translator.tables,
            &live[&insns[0].ip()],
            begin,
        )
        .map_err(|CannotEncode| Declined::NOT_MOVED)?;
        let state = self.emitter.state();
        self.emitter.restore_own();
        for insn in insns {
            self.emitter.begin(insn.ip());
            if run.members.contains(&insn.ip()) {
                self.plain(insn);
            } else {
                self.one(insn, &live[&insn.ip()], touched(insn.ip()))?;
            }
        }
        self.emitter.asm.bind(next);
        self.slow.push(Slow {
            begin,
            insns: insns.to_vec(),
            state,
            next,
        });
        Ok(())
    }

    /// The same with each access checked.
    fn slow(
        &mut self,
        slow: &Slow<'a>,
        live: &HashMap<u64, Live>,
        touched: &dyn Fn(u64) -> bool,
    ) -> Result<(), Declining> {
        for (index, insn) in slow.insns.iter().enumerate() {
            self.emitter.begin(insn.ip());
            if index == 0 {
                self.emitter.set(slow.state);
                self.emitter.asm.bind(slow.begin);
                self.emitter.restore_own();
                self.emitter.begin(insn.ip());
            } else {
                self.emitter.asm.bind(self.labels[&insn.ip()]);
            }
            self.one(insn, &live[&insn.ip()], touched(insn.ip()))?;
        }
        let after = slow.insns.last().map_or(0, |insn| insn.next());
        self.emitter.begin(after);
        self.emitter.asm.jump(slow.next);
        Ok(())
    }

    /// Goes to an original address: in this region, in another, or where it is asked for.
    fn go(&mut self, to: u64) {
        if let Some(label) = self.labels.get(&to) {
            return self.emitter.asm.jump(*label);
        }
        self.emitter.restore_all();
        self.exits.go(&mut self.emitter, to);
    }

    /// A label that leads to an original address.
    fn label_to(&mut self, to: u64) -> Label {
        if let Some(label) = self.labels.get(&to) {
            return *label;
        }
        let label = self.emitter.label();
        self.outward.push((label, to));
        label
    }

    /// One instruction. `touched`: it is known to touch the arena.
    fn one(&mut self, insn: &Insn, live: &Live, touched: bool) -> Result<(), Declining> {
        let tables = &self.translator.tables;
        match &insn.kind {
            Kind::Leave => self.emitter.leave(),
            Kind::Plain | Kind::InPlace => self.plain(insn),
            Kind::Checked(checked) => {
                let place = Place::new(insn.ip(), checked.effects.clone());
                let place = self
                    .translator
                    .places
                    .add(place)
                    .ok_or(Declined::TABLES_FULL)?;
                let apart = checked::access(
                    &mut self.emitter,
                    tables,
                    insn,
                    checked,
                    live,
                    place,
                    !touched,
                )
                .map_err(|CannotEncode| Declined::NOT_MOVED)?;
                self.apart.push(apart);
            }
            Kind::Jump(to) => {
                // Nothing has happened yet, so this is as good as being there.
                self.go(*to);
            }
            Kind::Branch(condition, to) => {
                let label = self.label_to(*to);
                self.emitter.asm.jump_if_code(*condition, label);
            }
            Kind::ShortBranch(to) => {
                let label = self.label_to(*to);
                // The same instruction over a jump: taken, it goes to the second of two.
                let code = insn.code();
                self.emitter.asm.raw(&code[..code.len() - 1]);
                self.emitter.asm.raw(&[2]);
                let next = self.emitter.label();
                self.emitter.set(self.emitter.at(insn.next()));
                self.emitter.asm.jump_short(next);
                self.emitter.set(self.emitter.at(*to));
                self.emitter.asm.jump(label);
                self.emitter.set(self.emitter.at(insn.next()));
                self.emitter.asm.bind(next);
            }
            Kind::Call(to) => {
                self.emitter.asm.push_literal(insn.next());
                self.emitter.begin(*to);
                self.go(*to);
            }
            Kind::CallIndirect | Kind::JumpIndirect => {
                let call = insn.kind == Kind::CallIndirect;
                transfer::indirect(&mut self.emitter, tables, insn, call)
                    .map_err(|CannotEncode| Declined::NOT_MOVED)?;
            }
            Kind::Return(beside) => transfer::ret(&mut self.emitter, tables, *beside),
        }
        Ok(())
    }

    /// An instruction as it was.
    fn plain(&mut self, insn: &Insn) {
        let emitter = &mut self.emitter;
        let in_place = State {
            in_place: insn.kind == Kind::InPlace,
            ..emitter.at(insn.ip())
        };
        if !insn.instruction.is_ip_rel_memory_operand() {
            emitter.set(in_place);
            return emitter.asm.raw(insn.code());
        }
        // In the library, and never in the arena: a fault is a crash.
        if emitter.moved(&insn.instruction).is_err() {
            self.translator.declined.add(Declined::NOT_MOVED);
            emitter.leave();
        }
    }
}
