//! The rest of the assembly file: the way into a program and out of it, and what programs share.

use std::fmt::Write as _;

use super::rng::Rng;
use super::state::name;

/// Seed of the constants, the same in every file.
const CONSTANTS: u64 = 99;

/// The whole file.
pub(super) fn file(programs: &[String], wide: bool) -> String {
    let mut text = String::from(".intel_syntax noprefix\n");
    for hidden in [
        "private", "arena", "stack", "target", "in", "out", "programs", "count", "enter",
    ] {
        let _ = writeln!(text, ".hidden hot_{hidden}");
    }
    text.push_str(".text\n");
    enter(&mut text, wide);
    for program in programs {
        text.push_str(program);
    }
    tables(&mut text, programs.len());
    text
}

/// `hot_enter` loads every register from `hot_in`, calls `hot_target` and stores them to `hot_out`.
fn enter(text: &mut String, wide: bool) {
    text.push_str(".globl hot_enter\n.type hot_enter, @function\nhot_enter:\n.cfi_startproc\n");
    let mut op = |line: String| {
        let _ = writeln!(text, "\t{line}");
    };
    let saved = ["rbx", "rbp", "r12", "r13", "r14", "r15"];
    for reg in saved {
        op(format!("push {reg}"));
    }
    op("sub rsp, 8".into());
    let (load, bank) = if wide {
        ("vmovdqu", "ymm")
    } else {
        ("movdqu", "xmm")
    };
    for lane in 0..16 {
        let at = 17 * 8 + lane * 32;
        op(format!("{load} {bank}{lane}, [rip+hot_in+{at}]"));
    }
    op("push qword ptr [rip+hot_in+128]".into());
    op("popfq".into());
    let general = || (0..16).filter(|&reg| reg != 4);
    for reg in general() {
        op(format!("mov {}, [rip+hot_in+{}]", name(reg, 8), reg * 8));
    }
    op("call qword ptr [rip+hot_target]".into());
    for reg in general() {
        op(format!("mov [rip+hot_out+{}], {}", reg * 8, name(reg, 8)));
    }
    op("pushfq".into());
    op("pop qword ptr [rip+hot_out+128]".into());
    for lane in 0..16 {
        let at = 17 * 8 + lane * 32;
        op(format!("{load} [rip+hot_out+{at}], {bank}{lane}"));
    }
    if wide {
        op("vzeroupper".into());
    }
    op("add rsp, 8".into());
    for reg in saved.iter().rev() {
        op(format!("pop {reg}"));
    }
    op("ret".into());
    text.push_str(".cfi_endproc\n.size hot_enter, .-hot_enter\n");
}

fn tables(text: &mut String, programs: usize) {
    text.push_str(".section .rodata\n.p2align 5\nhot_lanes:\n");
    let mut rng = Rng::new(CONSTANTS);
    for _ in 0..8 {
        let _ = writeln!(text, "\t.long {}", rng.within(-250, 250));
    }
    text.push_str("hot_limits:\n");
    for value in 0..64 {
        let _ = writeln!(text, "\t.long {value}");
    }
    text.push_str(".p2align 4\nhot_ten:\n\t.quad 0xc90fdaa22168c235\n\t.short 0x4000\n");
    let _ = writeln!(
        text,
        ".p2align 2\n.globl hot_count\nhot_count:\n\t.long {programs}"
    );
    text.push_str(
        ".section .data.rel.ro, \"aw\"\n.p2align 3\n.globl hot_programs\nhot_programs:\n",
    );
    for number in 0..programs {
        let _ = writeln!(text, "\t.quad prog_{number}");
    }
    text.push_str(".section .note.GNU-stack, \"\", @progbits\n");
}
