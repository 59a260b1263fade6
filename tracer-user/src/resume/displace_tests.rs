//! Displaced copies decoded back. `tests/machine` runs them.

use tracer_ebpf::Regs;

use super::super::copy::ZERO_FLAG;
use super::*;

fn bytes(text: &str) -> Vec<u8> {
    let byte = |i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hexadecimal");
    (0..text.len() / 2).map(byte).collect()
}

/// The copy's instruction is the original one but for the displacement.
#[test]
fn only_the_displacement_differs() {
    let table = include_str!("../../tests/data/decode.txt");
    let mut compared = 0;
    for line in table.lines() {
        let code = bytes(line.split(['|', '#']).next().unwrap_or("").trim());
        let Ok(decoded) = Decoded::parse(&code, 0x401000) else {
            continue;
        };
        let Form::Operand { code: copy } = displace(&decoded) else {
            continue;
        };
        if matches!(
            decoded.instruction().mnemonic(),
            Mnemonic::Call | Mnemonic::Xlatb | Mnemonic::Maskmovq | Mnemonic::Maskmovdqu
        ) || decoded.instruction().memory_base() == Register::None
            && decoded.instruction().is_stack_instruction()
        {
            continue;
        }
        let mut back =
            Decoder::with_ip(64, &copy.code[copy.insn_offset..], 0, DecoderOptions::NONE).decode();
        let original = decoded.instruction();
        let distance = back
            .memory_displacement64()
            .wrapping_sub(original.memory_displacement64());
        assert_eq!(distance, DELTA, "{}", decoded.text());
        back.set_memory_displacement64(original.memory_displacement64());
        back.set_memory_displ_size(original.memory_displ_size());
        assert_eq!(back, *original, "{}", decoded.text());
        compared += 1;
    }
    assert!(
        compared > 150,
        "only {compared} rows with a displaced operand"
    );
}

#[test]
fn what_has_no_copy_says_why() {
    let reason = |code: &str| match displace(&Decoded::parse(&bytes(code), 0x401000).expect(code)) {
        Form::Step { why } => Some(why),
        _ => None,
    };
    assert_eq!(reason("8b0510000000"), Some(StepReason::RipRelative)); // mov eax, [rip+16]
    assert_eq!(reason("678b03"), Some(StepReason::AddressSize)); // mov eax, [ebx]
    assert_eq!(reason("678b0510000000"), Some(StepReason::RipRelative)); // mov eax, [eip+16]
    assert_eq!(reason("8b80ffffff3f"), None); // mov eax, [rax+0x3fffffff]
    assert_eq!(reason("8b8000000040"), Some(StepReason::Displacement)); // ... 0x40000000
    assert_eq!(reason("8b8000000080"), None); // mov eax, [rax-0x80000000]
    assert_eq!(reason("50"), None); // push rax
    assert_eq!(reason("54"), Some(StepReason::NoOperand)); // push rsp
    assert_eq!(reason("ffd0"), Some(StepReason::NoOperand)); // call rax
    assert_eq!(reason("c9"), Some(StepReason::NoOperand)); // leave
    assert_eq!(reason("8d4008"), Some(StepReason::NoOperand)); // lea eax, [rax+8]
    assert_eq!(reason("660f38f83e"), Some(StepReason::TwoOperands)); // movdir64b rdi, [rsi]
    assert_eq!(reason("67a4"), Some(StepReason::AddressSize)); // movsb [edi], [esi]
    assert_eq!(reason("64a4"), Some(StepReason::Segment)); // movsb [rdi], fs:[rsi]
    assert_eq!(reason("67d7"), Some(StepReason::AddressSize)); // xlat [ebx]
    assert_eq!(
        StepReason::RipRelative.to_string(),
        "an operand relative to the instruction"
    );
}

#[test]
fn a_call_relative_to_rsp_allows_for_its_push() {
    let decoded = Decoded::parse(&bytes("ff542408"), 0x401000).expect("call [rsp+8]");
    let Form::Operand { code } = displace(&decoded) else {
        panic!("no copy")
    };
    let jump =
        Decoder::with_ip(64, &code.code[code.insn_offset..], 0, DecoderOptions::NONE).decode();
    assert_eq!(jump.code(), Code::Jmp_rm64);
    assert_eq!(jump.memory_displacement64(), 8 + 8 + DELTA);
    assert_eq!(code.code[code.code.len() - 8..], 0x401004u64.to_le_bytes());
}

#[test]
fn offsets_between_instructions_are_no_state() {
    let decoded = Decoded::parse(&bytes("8b03"), 0x401000).expect("mov eax, [rbx]");
    let Form::Operand { code } = displace(&decoded) else {
        panic!("no copy")
    };
    let regs = Regs {
        gpr: [0; 16],
        rip: 0,
        rflags: 0,
    };
    let rips: Vec<Option<u64>> = [0, 1, 6]
        .map(|offset| code.original_state(offset, &regs).map(|state| state.rip))
        .to_vec();
    assert_eq!(rips, [Some(0x401000), None, Some(0x401002)]);
}

#[test]
fn after_an_iteration_count_and_flag_decide() {
    let decoded = Decoded::parse(&bytes("f3a6"), 0x401000).expect("repe cmpsb");
    let Form::String {
        source: Some(copy), ..
    } = displace(&decoded)
    else {
        panic!("no copy")
    };
    let after = copy.insn_offset + 1;
    let state = |rcx, rflags| {
        let mut regs = Regs {
            gpr: [0; 16],
            rip: 0,
            rflags,
        };
        regs.gpr[usize::from(RCX)] = rcx;
        copy.original_state(after, &regs)
            .map(|state| (state.rip, state.add[usize::from(RCX)]))
    };
    assert_eq!(state(2, ZERO_FLAG), Some((0x401000, -1)));
    assert_eq!(state(1, ZERO_FLAG), Some((0x401002, -1)));
    assert_eq!(state(2, 0), Some((0x401002, -1)));
}
