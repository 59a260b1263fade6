//! The decoder against `tests/data/decode.txt`, and against random bytes.

use bytemuck::Zeroable;
use proptest::prelude::*;
use tracer_ebpf::{AuxRecord, DELTA, Regs, SEGMENT_SIZE, Session};

use super::{Decoded, Refusal, Rep, WholeRep, runs_whole};
use crate::access::{Access, AccessKind};

const IP: u64 = 0x401000;
const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap_or_else(|_| panic!("{text} is not hexadecimal"))
}

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|i| hex(&text[2 * i..2 * i + 2]) as u8)
        .collect()
}

fn registers(text: &str) -> (Regs, Rep) {
    let mut regs = Regs {
        gpr: [0; 16],
        rip: IP,
        rflags: 0x202,
    };
    let mut rep = Rep::Once;
    for word in text.split_whitespace().filter(|word| *word != "-") {
        match word.split_once('=') {
            None if word == "df" => regs.rflags |= 1 << 10,
            None if word == "whole" => rep = Rep::Whole,
            Some((name, value)) => {
                let number = NAMES.iter().position(|known| *known == name);
                regs.gpr[number.unwrap_or_else(|| panic!("register {name}"))] = hex(value);
            }
            None => panic!("register setup {word}"),
        }
    }
    (regs, rep)
}

fn aux(text: &str) -> Option<AuxRecord> {
    let mut aux = AuxRecord {
        ip: IP,
        ..AuxRecord::zeroed()
    };
    for word in text.split_whitespace() {
        match word.split_once('=')? {
            ("fs", value) => aux.fs_base = hex(value),
            ("gs", value) => aux.gs_base = hex(value),
            // The first bytes of a vector.
            ("v0", value) => aux.vectors[0][..value.len() / 2].copy_from_slice(&bytes(value)),
            ("v1", value) => aux.vectors[1][..value.len() / 2].copy_from_slice(&bytes(value)),
            (name, value) => aux.masks[hex(&name[1..]) as usize] = hex(value),
        }
    }
    Some(aux)
}

fn describe(accesses: &[Access]) -> String {
    if accesses.is_empty() {
        return "none".to_owned();
    }
    let one = |access: &Access| {
        let kind = match (access.kind, access.certain) {
            (AccessKind::Read, _) => "r",
            (AccessKind::Write, true) => "w",
            (AccessKind::Write, false) => "w?",
        };
        format!("{kind} {:x}+{}", access.addr, access.len)
    };
    accesses.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn outcome(decoded: &Result<Decoded, Refusal>, regs: &str, aux_text: &str) -> String {
    let (regs, rep) = registers(regs);
    let mut out = Vec::new();
    let result = decoded
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|decoded| decoded.accesses(&regs, aux(aux_text).as_ref(), rep, &mut out));
    match result {
        Ok(()) => describe(&out),
        Err(Refusal::Undecodable { .. }) => "undecodable".to_owned(),
        Err(Refusal::Unsupported { .. }) => "unsupported".to_owned(),
        Err(Refusal::NeedsAux { .. }) => "needs-aux".to_owned(),
    }
}

#[test]
fn table() {
    let mut rows = 0;
    let mut wrong = Vec::new();
    for (number, line) in include_str!("../../tests/data/decode.txt")
        .lines()
        .enumerate()
    {
        let (row, comment) = line.split_once('#').unwrap_or((line, ""));
        if row.trim().is_empty() {
            continue;
        }
        let fields: Vec<&str> = row.split('|').map(str::trim).collect();
        let [code, regs, aux_text, expected] = fields[..] else {
            panic!("line {}: four fields wanted", number + 1);
        };
        rows += 1;
        let decoded = Decoded::parse(&bytes(code), IP);
        let got = outcome(&decoded, regs, aux_text);
        if got != expected {
            let text = decoded.map_or_else(|refusal| refusal.to_string(), |it| it.text());
            let number = number + 1;
            wrong.push(format!(
                "line {number}:{comment}: {expected} wanted, {got} got: {text}"
            ));
        } else if let Ok(decoded) = &decoded {
            assert_eq!(decoded.len(), bytes(code).len(), "line {}", number + 1);
            // `needs_aux` must not promise too little.
            if !decoded.needs_aux() {
                assert_eq!(outcome(&Ok(decoded.clone()), regs, "-"), expected);
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {rows} rows:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(rows >= 200, "the table lost rows: {rows} left");
}

#[test]
fn refusals_name_the_instruction() {
    let refusal = Decoded::parse(&bytes("0f0100"), IP).expect_err("sgdt is refused");
    let text = refusal.to_string();
    assert!(text.contains("`sgdt [rax]` at 0x401000"), "{text}");
    let refusal = Decoded::parse(&bytes("06"), IP).expect_err("no instruction");
    assert_eq!(refusal.to_string(), "no instruction at 0x401000: bytes 06");
}

#[test]
fn an_error_leaves_the_list_alone() {
    // The read of the stack is known before the base of gs is missed.
    let decoded = Decoded::parse(&bytes("658f00"), IP).expect("pop gs:[rax]");
    let (regs, rep) = registers("rsp=7000");
    let mut out = Vec::new();
    assert!(decoded.accesses(&regs, None, rep, &mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn stack() {
    let parse = |code| Decoded::parse(&bytes(code), IP).expect("decodes");
    assert!(parse("8f00").touches_stack());
    assert!(!parse("8b00").touches_stack());
}

#[test]
fn whole_repetitions() {
    let base = 0x10_0000_0000;
    let session = Session {
        arena_base: base,
        arena_len: 4 * SEGMENT_SIZE,
    };
    let verdict = |code: &str, setup: String| {
        let decoded = Decoded::parse(&bytes(code), IP).expect("decodes");
        let op = decoded.string_op().expect("a string instruction");
        runs_whole(&op, &registers(&setup).0, &session)
    };
    let movs = |rsi: u64, rdi: u64, rcx: u64, more: &str| {
        verdict(
            "f3a4",
            format!("rsi={rsi:x} rdi={rdi:x} rcx={rcx:x} {more}"),
        )
    };
    let far = 0x1000;
    assert_eq!(movs(base, far, 16, ""), WholeRep::Source);
    assert_eq!(movs(far, base, 16, ""), WholeRep::Dest);
    assert_eq!(movs(base, base + 16, 16, ""), WholeRep::Both);
    assert_eq!(movs(base + 16, base, 100, ""), WholeRep::Both);
    // Neither in the arena; nothing to do.
    assert_eq!(movs(far, far + 100, 16, ""), WholeRep::No);
    assert_eq!(movs(base, far, 0, ""), WholeRep::No);
    // The host view is neither native nor outside.
    assert_eq!(movs(base + DELTA, far, 1, ""), WholeRep::No);
    assert_eq!(movs(base, base + DELTA, 1, ""), WholeRep::No);
    // Up to the last byte of the segment, but no further, in both directions.
    let last = base + SEGMENT_SIZE - 1;
    assert_eq!(movs(last - 15, far, 16, ""), WholeRep::Source);
    assert_eq!(movs(last - 15, far, 17, ""), WholeRep::No);
    assert_eq!(movs(base + 15, far, 16, "df"), WholeRep::Source);
    assert_eq!(movs(base + 15, far, 17, "df"), WholeRep::No);
    // A range that covers whole segments from native half to native half.
    assert_eq!(movs(base, far, 2 * SEGMENT_SIZE + 1, ""), WholeRep::No);
    assert_eq!(movs(base + 2 * SEGMENT_SIZE, far, 1, ""), WholeRep::Source);
    // The other operand reaches into the arena, or wraps.
    assert_eq!(movs(base, base - 8, 9, ""), WholeRep::No);
    assert_eq!(movs(base, base - 8, 8, ""), WholeRep::Source);
    assert_eq!(movs(base, u64::MAX - 3, 5, ""), WholeRep::No);
    assert_eq!(movs(base, far, u64::MAX, ""), WholeRep::No);
    // Feeds itself.
    assert_eq!(movs(base, base + 1, 16, ""), WholeRep::No);
    // One operand only, and conditional repetitions, which count one element.
    let rdi = |code, at: u64, rcx: u64| verdict(code, format!("rdi={at:x} rsi=1000 rcx={rcx:x}"));
    assert_eq!(rdi("f3aa", base, 0x100), WholeRep::Dest);
    assert_eq!(rdi("f3aa", base, SEGMENT_SIZE + 1), WholeRep::No);
    assert_eq!(rdi("f2ae", base, u64::MAX), WholeRep::Dest);
    assert_eq!(rdi("f3a6", base, u64::MAX), WholeRep::Dest);
    assert_eq!(rdi("aa", base, 0), WholeRep::Dest);
    assert_eq!(rdi("48ab", last - 6, 0), WholeRep::No);
    assert_eq!(rdi("67f3aa", base, 1), WholeRep::No);
    let lods = |code| verdict(code, format!("rsi={base:x} rcx=3"));
    assert_eq!(lods("f348ad"), WholeRep::Source);
    assert_eq!(lods("64ac"), WholeRep::No);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn never_panics(
        code in proptest::collection::vec(any::<u8>(), 0..20),
        prefix in 0usize..6,
        gpr in any::<[u64; 16]>(),
        others in any::<[u64; 16]>(),
        rflags in any::<u64>(),
        masks in any::<[u64; 8]>(),
        small_count in any::<bool>(),
        with_aux in any::<bool>(),
        whole in any::<bool>(),
    ) {
        // Random bytes seldom begin an EVEX, VEX or repeated instruction: help them.
        let prefixes: [&[u8]; 6] =
            [&[], &[0x62], &[0xc4], &[0xf3], &[0x0f], &[0x66, 0x0f]];
        let code: Vec<u8> = prefixes[prefix].iter().copied().chain(code).collect();
        let mut regs = Regs { gpr, rip: IP, rflags };
        if small_count {
            regs.gpr[1] &= 0xff;
        }
        let aux = AuxRecord { ip: IP, masks, fs_base: gpr[3], gs_base: gpr[5], ..AuxRecord::zeroed() };
        let aux = with_aux.then_some(&aux);
        let rep = if whole { Rep::Whole } else { Rep::Once };
        match Decoded::parse(&code, IP) {
            Ok(decoded) => {
                let mut out = Vec::new();
                let result = decoded.accesses(&regs, aux, rep, &mut out);
                prop_assert!(out.iter().all(|access| access.len > 0));
                prop_assert!(result.is_ok() || out.is_empty());
                if let Err(Refusal::NeedsAux { .. }) = result {
                    prop_assert!(decoded.needs_aux() && aux.is_none());
                }
                prop_assert!(!decoded.text().is_empty());
                prop_assert!((1..=15).contains(&decoded.len()));
                let session = Session { arena_base: 1 << 40, arena_len: 4 * SEGMENT_SIZE };
                if let Some(op) = decoded.string_op() {
                    runs_whole(&op, &regs, &session);
                }
                decoded.checked(&regs, aux);
                if let Some(numbers) = decoded.address_registers() {
                    let mut alone = Regs { gpr: others, rip: IP, rflags: !rflags };
                    for number in numbers.into_iter().filter(|number| *number < 16) {
                        alone.gpr[usize::from(number)] = regs.gpr[usize::from(number)];
                    }
                    let mut same = Vec::new();
                    prop_assert!(decoded.accesses(&alone, None, Rep::Once, &mut same).is_ok());
                    prop_assert_eq!(&out, &same);
                    prop_assert_eq!(decoded.checked(&alone, None), None);
                    prop_assert!(!same.is_empty() && same.iter().all(|one| one.addr == same[0].addr));
                }
            }
            Err(refusal) => prop_assert!(!refusal.to_string().is_empty()),
        }
    }
}
