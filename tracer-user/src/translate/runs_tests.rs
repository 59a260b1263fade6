//! Which instructions of small pieces of code are looked at together.

use super::*;
use crate::translate::{
    declined::Declined,
    live,
    scan::{self},
};

/// `sub eax, eax`, before which no flag is needed, and `ret`.
const END: &[u8] = &[0x29, 0xc0, 0xc3];

/// The runs of some instructions: where each begins, its length and which of its instructions are
/// members, all counted in instructions.
fn runs(code: &[&[u8]], targets: &[usize], touched: &[usize]) -> Vec<(usize, usize, Vec<usize>)> {
    let mut code = [&code.concat(), END].concat();
    code.resize(code.len() + 64, 0xcc);
    // Read as code is: by address, from this process.
    let start = code.as_ptr() as u64;
    let limit = start..start + code.len() as u64;
    let scan = scan::scan(
        &[start],
        &limit,
        true,
        &HashMap::new(),
        &Declined::default(),
    );
    let ips: Vec<u64> = scan.keys().copied().collect();
    let number = |ip: &u64| ips.iter().position(|other| other == ip).unwrap();
    let targets = targets.iter().map(|index| ips[*index]).collect();
    let known = |ip| touched.iter().any(|index| ips[*index] == ip);
    let mut all: Vec<_> = find(&scan, &live::live(&scan), &targets, &known)
        .iter()
        .map(|(ip, run)| {
            let mut members: Vec<usize> = run.members.iter().map(number).collect();
            members.sort_unstable();
            (number(ip), run.len, members)
        })
        .collect();
    all.sort_unstable();
    all
}

/// Three reads by rsi, with one by rdi between.
const THREE: &[&[u8]] = &[
    &[0x8b, 0x06],       // mov eax, [rsi]
    &[0x03, 0x46, 0x04], // add eax, [rsi+4]
    &[0x03, 0x47, 0x04], // add eax, [rdi+4]
    &[0x03, 0x46, 0x08], // add eax, [rsi+8]
];

#[test]
fn accesses_by_one_register_are_a_run() {
    assert_eq!(runs(THREE, &[], &[]), [(0, 4, vec![0, 1, 3])]);
}

#[test]
fn what_touched_the_arena_is_no_member() {
    assert_eq!(runs(THREE, &[], &[1]), [(0, 4, vec![0, 3])]);
    assert_eq!(runs(THREE, &[], &[1, 3]), []);
}

#[test]
fn a_branch_target_ends_a_run() {
    assert_eq!(runs(THREE, &[3], &[]), [(0, 2, vec![0, 1])]);
    assert_eq!(runs(THREE, &[1], &[]), [(1, 3, vec![1, 3])]);
    assert_eq!(runs(THREE, &[1, 3], &[]), []);
}

#[test]
fn a_changed_register_ends_a_run() {
    let code: &[&[u8]] = &[
        &[0x8b, 0x06],             // mov eax, [rsi]
        &[0x48, 0x8b, 0x76, 0x08], // mov rsi, [rsi+8]
        &[0x8b, 0x4e, 0x10],       // mov ecx, [rsi+16]
    ];
    assert_eq!(runs(code, &[], &[]), [(0, 2, vec![0, 1])]);
}

#[test]
fn an_index_counts_as_the_base_does() {
    let code: &[&[u8]] = &[
        &[0x8b, 0x04, 0x8e],             // mov eax, [rsi+rcx*4]
        &[0x8b, 0x54, 0x8e, 0x04],       // mov edx, [rsi+rcx*4+4]
        &[0x4c, 0x8b, 0x44, 0xce, 0x04], // mov r8, [rsi+rcx*8+4]
        &[0x48, 0xff, 0xc1],             // inc rcx
        &[0x8b, 0x54, 0x8e, 0x04],       // mov edx, [rsi+rcx*4+4]
    ];
    assert_eq!(runs(code, &[], &[]), [(0, 2, vec![0, 1])]);
}

#[test]
fn two_registers_make_two_looks() {
    let code: &[&[u8]] = &[
        &[0x48, 0x8b, 0x06],       // mov rax, [rsi]
        &[0x48, 0x8b, 0x17],       // mov rdx, [rdi]
        &[0x48, 0x8b, 0x47, 0x08], // mov rax, [rdi+8]
        &[0x48, 0x8b, 0x56, 0x08], // mov rdx, [rsi+8]
    ];
    assert_eq!(runs(code, &[], &[]), [(0, 4, vec![0, 1, 2, 3])]);
}

#[test]
fn flags_that_are_needed_forbid_a_look() {
    let code: &[&[u8]] = &[
        &[0x48, 0x39, 0xd0],       // cmp rax, rdx
        &[0x48, 0x8b, 0x0e],       // mov rcx, [rsi]
        &[0x48, 0x8b, 0x56, 0x08], // mov rdx, [rsi+8]
        &[0x48, 0x0f, 0x44, 0xca], // cmove rcx, rdx
        &[0x48, 0x8b, 0x56, 0x10], // mov rdx, [rsi+16]
    ];
    assert_eq!(runs(code, &[], &[]), []);
}

#[test]
fn what_is_far_off_is_looked_at_alone() {
    let code: &[&[u8]] = &[
        &[0x8b, 0x06],                         // mov eax, [rsi]
        &[0x8b, 0x96, 0x00, 0x00, 0x20, 0x00], // mov edx, [rsi+0x200000]
    ];
    assert_eq!(runs(code, &[], &[]), []);
}
