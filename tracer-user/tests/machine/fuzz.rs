//! The fuzzer: whatever bytes come, the decoder, the displacing of instructions and the way from
//! records to events neither panic nor overflow.
//!
//! ```text
//!  an instruction of iced's tables, mutated, or any bytes ─► parse, accesses, displace
//!  records with such instructions, mutated, cut, reordered ─► wire, pipeline
//!  messages to an agent and from one, mutated              ─► protocol
//! ```
//! An input is a string of bytes from which everything follows, so a panic is reported as one line
//! of hexadecimal digits, which `--input` replays.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, atomic::AtomicU64};
use std::time::{Duration, Instant};

use bytemuck::Zeroable;
use iced_x86::Code;
use tracer_ebpf::{
    AuxRecord, CallRecord, DELTA, FaultRecord, KernelFaultRecord, KnownFaultRecord, LAYOUT_VERSION,
    RecordHeader, Regs, Session, TouchRecord, kind,
};
use tracer_user::access::{AccessEvent, EventSink, Refused};
use tracer_user::agent::{Evidence, LastAccess, Refusal, Reply, Request};
use tracer_user::decode::{Decoded, Needs, Rep, peek, runs_whole};
use tracer_user::pipeline::{Pipeline, StringRule};
use tracer_user::resume::displace::{CodeCopy, Form, displace};

use crate::forms::Forms;
use crate::operands::{Aim, build};
use crate::random::Random;
use crate::world::World;

/// First byte of an input: what it is for.
const INSTRUCTION: u8 = 0;
const RECORDS: u8 = 1;
const MESSAGE: u8 = 2;
/// Bytes of code in an input.
const CODE: usize = 18;

/// How long to go on: until so many inputs were tried and time is up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) inputs: u64,
    pub(crate) time: Duration,
}

/// Tries random inputs; false if one of them panicked.
pub(crate) fn run(extent: Extent, seed: u64) -> bool {
    let world = World::new();
    let forms = Forms::of_this_machine();
    let begin = Instant::now();
    let mut random = Random::new(seed);
    let (mut tried, mut panics) = (0u64, 0);
    while tried < extent.inputs || begin.elapsed() < extent.time {
        let input = match random.below(5) {
            0 | 1 => instruction(&mut random, &forms.supported, &world),
            2 | 3 => records(&mut random, &forms.supported, &world),
            _ => message(&mut random),
        };
        tried += 1;
        if !input_is_well(&input) {
            panics += 1;
        }
    }
    println!("{tried} inputs, {panics} panics, seed {seed}");
    panics == 0
}

/// Replays an input in hexadecimal digits; false if it panics.
pub(crate) fn replay(digits: &str) -> Result<bool, std::num::ParseIntError> {
    let bytes = (0..digits.len() / 2).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16));
    Ok(input_is_well(&bytes.collect::<Result<Vec<u8>, _>>()?))
}

fn input_is_well(input: &[u8]) -> bool {
    let well = catch_unwind(AssertUnwindSafe(|| match input.split_first() {
        Some((&INSTRUCTION, rest)) => try_instruction(rest),
        Some((&RECORDS, rest)) => try_records(rest),
        Some((_, rest)) => try_message(rest),
        None => {}
    }));
    if well.is_err() {
        let digits: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("panic: --input {digits}");
    }
    well.is_ok()
}

/// Takes what an input begins with; zeroes where it is too short.
fn take<T: bytemuck::Pod>(input: &mut &[u8]) -> T {
    let mut value = T::zeroed();
    let bytes = bytemuck::bytes_of_mut(&mut value);
    let len = bytes.len().min(input.len());
    bytes[..len].copy_from_slice(&input[..len]);
    *input = &input[len..];
    value
}

/// Everything that is done with one instruction.
fn try_instruction(mut input: &[u8]) {
    let code: [u8; CODE] = take(&mut input);
    let regs: Regs = take(&mut input);
    let aux: AuxRecord = take(&mut input);
    let len = usize::from(code[CODE - 1]) % CODE;
    if let Some(instruction) = peek(&code[..len], regs.rip) {
        Needs::of(&instruction);
    }
    let decoded = match Decoded::parse(&code[..len], regs.rip) {
        Ok(decoded) => decoded,
        Err(refusal) => return assert!(!refusal.to_string().is_empty()),
    };
    assert!((1..=15).contains(&decoded.len()) && !decoded.text().is_empty());
    let session = Session {
        arena_base: 1 << 40,
        arena_len: 8 * DELTA,
    };
    for rep in [Rep::Once, Rep::Whole] {
        for aux in [None, Some(&aux)] {
            let mut accesses = Vec::new();
            let known = decoded.accesses(&regs, aux, rep, &mut accesses);
            assert!(known.is_ok() || accesses.is_empty());
            assert!(accesses.iter().all(|access| access.len > 0));
            decoded.checked(&regs, aux);
            decoded.explains(&regs, aux, &accesses, aux.map_or(0, |aux| aux.ip));
        }
    }
    if let Some(op) = decoded.string_op() {
        runs_whole(&op, &regs, &session);
    }
    if let Some(lanes) = decoded.lanes() {
        lanes.all_native(&regs, &aux, &session);
    }
    let follow = |copy: &CodeCopy| {
        for offset in copy.boundaries().collect::<Vec<_>>() {
            let state = copy.original_state(offset, &regs).expect("a boundary");
            state.apply(&mut regs.clone());
        }
        assert!(copy.code.len() <= tracer_user::resume::code::SLOT);
    };
    match displace(&decoded) {
        Form::Operand { code } | Form::Lanes { code, .. } => follow(&code),
        Form::String { source, dest, both } => {
            [source, dest, both].iter().flatten().for_each(follow);
        }
        Form::Step { why } => assert!(!why.to_string().is_empty()),
    }
}

struct Nowhere;

impl EventSink for Nowhere {
    fn event(&mut self, event: &AccessEvent) {
        assert!(event.access.len > 0);
    }

    fn refused(&mut self, refused: &Refused) {
        assert!(!refused.what.is_empty());
    }
}

/// Feeds records, each behind its length, to a pipeline; every fault must be accounted for.
fn try_records(mut input: &[u8]) {
    let rule = if take::<u8>(&mut input) & 1 == 0 {
        StringRule::Displaced
    } else {
        StringRule::Stepped
    };
    let session = Session {
        arena_base: 1 << 40,
        arena_len: 8 * DELTA,
    };
    let sink = Arc::new(Mutex::new(Nowhere));
    let progress = Arc::new(AtomicU64::new(0));
    let mut pipeline = Pipeline::new(session, 0x7000..0x8000, rule, sink, progress);
    let mut fed = 0;
    while let Some((&len, rest)) = input.split_first() {
        let (record, rest) = rest.split_at(usize::from(len).min(rest.len()));
        pipeline.feed(record);
        input = rest;
        fed += 1;
    }
    pipeline.finish();
    let totals = pipeline.totals();
    assert!(totals.delivered + totals.rejected <= fed);
}

/// Bytes of an instruction: mostly a real one, mostly damaged.
fn code(random: &mut Random, forms: &[Code], world: &World) -> Vec<u8> {
    let aim = Aim {
        at: [world.zones()[0].base, world.zones()[1].base],
        zones: world.zones(),
        choices: random.next(),
    };
    let real = build(random.of(forms), &aim, world).map(|case| case.code);
    let mut code = match real {
        Some(code) if !random.once_in(5) => code,
        _ => (0..15).map(|_| random.next() as u8).collect(),
    };
    mutate(random, &mut code);
    code
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        match random.below(4) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.next() as u8,
            2 if at < bytes.len() => drop(bytes.remove(at)),
            _ => bytes.insert(at, random.next() as u8),
        }
    }
}

/// A register as it might be: also at the very edges of what it can hold, and in the arena.
fn register(random: &mut Random) -> u64 {
    let near = random.next() as i8 as i64 as u64;
    match random.below(5) {
        0 => near,
        1 => (1u64 << 63).wrapping_add(near),
        2 => (1u64 << 40)
            .wrapping_add(DELTA * random.below(9))
            .wrapping_add(near),
        3 => 0xffff_ffffu64.wrapping_add(near),
        _ => random.value(),
    }
}

fn regs(random: &mut Random) -> Regs {
    Regs {
        gpr: std::array::from_fn(|_| register(random)),
        rip: register(random),
        rflags: random.next(),
    }
}

fn aux(random: &mut Random, ip: u64) -> AuxRecord {
    let mut aux = AuxRecord::zeroed();
    aux.header = header(kind::AUX);
    aux.ip = ip;
    aux.fs_base = register(random);
    aux.gs_base = register(random);
    aux.masks = std::array::from_fn(|_| random.value());
    for word in aux.vectors.as_flattened_mut().chunks_mut(8) {
        word.copy_from_slice(&register(random).to_le_bytes());
    }
    aux
}

fn header(kind: u16) -> RecordHeader {
    RecordHeader {
        kind,
        version: LAYOUT_VERSION,
        tid: 1,
    }
}

fn instruction(random: &mut Random, forms: &[Code], world: &World) -> Vec<u8> {
    let mut bytes = code(random, forms, world);
    let len = bytes.len().min(CODE - 1);
    bytes.resize(CODE, 0);
    bytes[CODE - 1] = len as u8;
    let regs = regs(random);
    let mut input = vec![INSTRUCTION];
    input.extend(bytes);
    input.extend(bytemuck::bytes_of(&regs));
    input.extend(bytemuck::bytes_of(&aux(random, regs.gpr[0])));
    input
}

fn records(random: &mut Random, forms: &[Code], world: &World) -> Vec<u8> {
    let mut input = vec![RECORDS, random.next() as u8];
    for _ in 0..=random.below(3) {
        let bytes = code(random, forms, world);
        let mut fault = FaultRecord::zeroed();
        fault.header = header(kind::FAULT);
        fault.regs = regs(random);
        fault.addr = register(random);
        fault.error = random.value() as u32;
        let len = bytes.len().min(15);
        fault.insn[..len].copy_from_slice(&bytes[..len]);
        fault.insn_len = if random.once_in(8) {
            random.next() as u8
        } else {
            15
        };
        let mut push = |random: &mut Random, record: &[u8]| {
            let mut record = record.to_vec();
            if random.once_in(4) {
                mutate(random, &mut record);
            }
            if random.once_in(8) {
                record.truncate(random.below(record.len() as u64) as usize);
            }
            input.push(record.len().min(255) as u8);
            input.extend(&record[..record.len().min(255)]);
        };
        push(random, bytemuck::bytes_of(&fault));
        if random.once_in(2) {
            let mut known = KnownFaultRecord::zeroed();
            known.header = header(kind::KNOWN_FAULT);
            known.ip = random.of(&[fault.regs.rip, register_of(&fault)]);
            known.addr = register(random);
            known.registers = random.value() as u32;
            (known.base, known.index) = (register(random), register(random));
            push(random, bytemuck::bytes_of(&known));
        }
        if random.once_in(4) {
            let mut touch = TouchRecord::zeroed();
            touch.header = header(kind::TOUCH);
            (touch.addr, touch.len) = (register(random), register(random));
            touch.flags = random.value() as u32;
            push(random, bytemuck::bytes_of(&touch));
        }
        if random.once_in(2) {
            let aux = aux(random, fault.regs.rip);
            push(random, bytemuck::bytes_of(&aux));
        }
        if random.once_in(8) {
            let mut call = CallRecord::zeroed();
            call.header = header(random.of(&[kind::CALL_ENTER, kind::CALL_RETURN]));
            push(random, bytemuck::bytes_of(&call));
            let mut fault = KernelFaultRecord::zeroed();
            fault.header = header(kind::KERNEL_FAULT);
            fault.syscall = random.value() as u32;
            push(random, bytemuck::bytes_of(&fault));
        }
    }
    input
}

/// Some register of a fault, as another instruction's address.
fn register_of(fault: &FaultRecord) -> u64 {
    fault.regs.gpr[0]
}

/// A message as client and agent send them, mostly damaged.
fn message(random: &mut Random) -> Vec<u8> {
    let text =
        |random: &mut Random| String::from_utf8_lossy(&random.next().to_le_bytes()).into_owned();
    let written = match random.below(10) {
        0 => serde_json::to_vec(&Request::Hello {
            protocol: random.next() as u32,
            layout: random.next() as u16,
        }),
        1 => serde_json::to_vec(&Request::Open {
            arena_base: random.value(),
            arena_len: random.value(),
            marker: random.value(),
            ring_bytes: random.next() as u32,
        }),
        2 => serde_json::to_vec(&Request::Probe {
            file_offset: random.value(),
            name: text(random),
            cookie: random.value(),
            returns: random.once_in(2),
        }),
        3 => serde_json::to_vec(match random.below(3) {
            0 => &Request::Unprobe,
            1 => &Request::Close,
            _ => &Request::Status,
        }),
        4 => serde_json::to_vec(&Reply::Refused {
            why: Refusal::Limit,
            message: text(random),
        }),
        5 => serde_json::to_vec(&Reply::Opened {
            ring_bytes: random.next() as u32,
        }),
        6 | 7 => serde_json::to_vec(&Reply::Ended(Evidence {
            emitted: random.value(),
            dropped: random.value(),
            unread: random.value(),
            last: vec![LastAccess {
                tid: random.next() as u32,
                addr: random.value(),
                ip: random.value(),
                write: random.once_in(2),
                insn: random.next().to_le_bytes().to_vec(),
            }],
        })),
        _ => Ok((0..random.below(200))
            .map(|_| random.next() as u8)
            .collect()),
    };
    // Everything that is written can be.
    let mut bytes = written.unwrap_or_default();
    mutate(random, &mut bytes);
    bytes.insert(0, MESSAGE);
    bytes
}

/// What is understood is written as it was read, by both ends.
fn try_message(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        let again = serde_json::to_vec(&request).map(|bytes| serde_json::from_slice(&bytes).ok());
        assert_eq!(again.ok().flatten(), Some(request));
    }
    if let Ok(reply) = serde_json::from_slice::<Reply>(bytes) {
        let again = serde_json::to_vec(&reply).map(|bytes| serde_json::from_slice(&bytes).ok());
        assert_eq!(again.ok().flatten(), Some(reply));
    }
}
