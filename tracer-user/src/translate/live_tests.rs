//! What is needed where, of small pieces of code.

use iced_x86::{Decoder, DecoderOptions};

use super::*;

/// Instructions at 0x1000, each as its kind says; what follows them is unknown code.
fn lives(code: &[u8], kind: impl Fn(&Instruction) -> Kind) -> Vec<Live> {
    let mut decoder = Decoder::with_ip(64, code, 0x1000, DecoderOptions::NONE);
    let mut scan = Scan::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        let at = (instruction.ip() - 0x1000) as usize;
        let mut bytes = [0; 15];
        bytes[..instruction.len()].copy_from_slice(&code[at..at + instruction.len()]);
        let kind = kind(&instruction);
        scan.insert(
            instruction.ip(),
            Insn {
                instruction,
                bytes,
                kind,
            },
        );
    }
    let all = live(&scan);
    scan.keys().map(|ip| all[ip]).collect()
}

fn plain(code: &[u8]) -> Vec<Live> {
    lives(code, |_| Kind::Plain)
}

const RAX: u16 = 1 << 0;
const RCX: u16 = 1 << 1;
const RDI: u16 = 1 << 7;

#[test]
fn what_is_overwritten_whole_is_not_needed_before() {
    // mov eax, [rdi]; mov eax, ecx
    let all = plain(&[0x8b, 0x07, 0x89, 0xc8]);
    assert_eq!(all[0].after.registers & RAX, 0);
    assert_ne!(all[0].after.registers & RCX, 0);
    assert_ne!(all[1].after.registers & RAX, 0, "what follows is not known");
    assert_ne!(all[0].touched & (RAX | RDI), 0);
    // mov eax, [rdi]; mov al, cl: the rest of rax stays.
    let all = plain(&[0x8b, 0x07, 0x88, 0xc8]);
    assert_ne!(all[0].after.registers & RAX, 0);
    // mov eax, [rdi]; cmove eax, ecx: it may stay as it is.
    let all = plain(&[0x8b, 0x07, 0x0f, 0x44, 0xc1]);
    assert_ne!(all[0].after.registers & RAX, 0);
}

#[test]
fn flags_are_needed_up_to_what_sets_them_all() {
    // mov eax, [rdi]; cmp eax, ecx
    let all = plain(&[0x8b, 0x07, 0x39, 0xc8]);
    assert_eq!(all[0].before.flags, 0);
    assert_eq!(all[1].after.flags, STATUS);
    // mov eax, [rdi]; inc eax: the carry stays.
    let all = plain(&[0x8b, 0x07, 0xff, 0xc0]);
    assert_eq!(all[0].before.flags, RflagsBits::CF);
    // mov eax, [rdi]; shl eax, cl: perhaps by nothing.
    let all = plain(&[0x8b, 0x07, 0xd3, 0xe0]);
    assert_eq!(all[0].before.flags, STATUS);
    // mov eax, [rdi]; shl eax, 3 leaves nothing but what is undefined.
    let all = plain(&[0x8b, 0x07, 0xc1, 0xe0, 0x03]);
    assert_eq!(all[0].before.flags & (RflagsBits::CF | RflagsBits::ZF), 0);
    // mov eax, [rdi]; adc eax, ecx reads the carry.
    let all = plain(&[0x8b, 0x07, 0x11, 0xc8]);
    assert_eq!(all[0].before.flags, RflagsBits::CF);
}

#[test]
fn a_loop_needs_what_its_beginning_needs() {
    // l: add rax, [rdi]; add rdi, rcx; jne l
    let code = [0x48, 0x03, 0x07, 0x48, 0x01, 0xcf, 0x75, 0xf8];
    let all = lives(&code, |instruction| {
        match instruction.is_jcc_short_or_near() {
            true => Kind::Branch(5, instruction.near_branch64()),
            false => Kind::Plain,
        }
    });
    assert_ne!(all[1].after.registers & (RAX | RCX | RDI), 0);
    assert_eq!(all[0].before.flags, 0, "set before they are read");
    assert_ne!(all[2].before.flags & RflagsBits::ZF, 0);
}

#[test]
fn whatever_leaves_needs_everything() {
    // xor eax, eax; ret
    let all = lives(&[0x31, 0xc0, 0xc3], |instruction| match instruction.len() {
        1 => Kind::Return(0),
        _ => Kind::Plain,
    });
    assert_eq!(all[0].after, ALL);
    let all = lives(&[0x31, 0xc0], |_| Kind::Leave);
    assert_eq!(all[0].before, ALL);
}
