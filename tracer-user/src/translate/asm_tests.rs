//! Each instruction decoded again by iced, for all registers.

use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

use super::*;

fn text(emit: impl FnOnce(&mut Assembler)) -> String {
    let mut asm = Assembler::new(0x1000);
    emit(&mut asm);
    let mut decoder = Decoder::with_ip(64, &asm.code, 0x1000, DecoderOptions::NONE);
    let mut all = Vec::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        assert!(!instruction.is_invalid(), "{:x?}", asm.code);
        let mut out = String::new();
        IntelFormatter::new().format(&instruction, &mut out);
        all.push(out);
    }
    all.join("; ")
}

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

fn low(number: u8) -> String {
    let name = NAMES[usize::from(number)];
    match name.strip_prefix('r') {
        Some(rest) if number < 8 => format!("e{rest}"),
        _ => format!("{name}d"),
    }
}

#[test]
fn one_register() {
    for r in 0..16u8 {
        let name = NAMES[usize::from(r)];
        let e = low(r);
        assert_eq!(
            text(|a| a.load_slot(r, 0x40)),
            format!("mov {name},gs:[40h]")
        );
        assert_eq!(
            text(|a| a.store_slot(0x40, r)),
            format!("mov gs:[40h],{name}")
        );
        assert_eq!(text(|a| a.mov_imm(r, 4)), format!("mov {e},4"));
        assert_eq!(text(|a| a.test(r)), format!("test {name},{name}"));
        assert_eq!(text(|a| a.shift_right(r, 4)), format!("shr {name},4"));
        assert_eq!(text(|a| a.halve32(r)), format!("shr {e},1"));
        assert_eq!(text(|a| a.and32(r, 15)), format!("and {e},0Fh"));
        assert_eq!(text(|a| a.add_lea(r, 8)), format!("lea {name},[{name}+8]"));
        assert_eq!(
            text(|a| a.store_imm(r, 5, 0x12)),
            format!("mov dword ptr [{name}+5],12h")
        );
    }
}

#[test]
fn two_registers() {
    for a in 0..16u8 {
        for b in 0..16u8 {
            let (x, y) = (NAMES[usize::from(a)], NAMES[usize::from(b)]);
            assert_eq!(text(|asm| asm.mov(a, b)), format!("mov {x},{y}"));
            assert_eq!(
                text(|asm| asm.mov32(a, b)),
                format!("mov {},{}", low(a), low(b))
            );
            assert_eq!(
                text(|asm| asm.compare32(a, b)),
                format!("cmp {},{}", low(a), low(b))
            );
            assert_eq!(
                text(|asm| asm.rotate_right(a, b, 30)),
                format!("rorx {x},{y},1Eh")
            );
            assert_eq!(text(|asm| asm.store(a, 0, b)), format!("mov [{x}],{y}"));
            assert_eq!(text(|asm| asm.load(a, b, 8)), format!("mov {x},[{y}+8]"));
            assert!(text(|asm| asm.low_word(a, b)).starts_with(&format!("movzx {},", low(a))));
            for c in [0u8, 1, 5, 9, 13] {
                let z = NAMES[usize::from(c)];
                assert_eq!(
                    text(|asm| asm.shift_right_by(a, b, c)),
                    format!("shrx {x},{y},{z}")
                );
            }
            if b != RSP {
                assert_eq!(
                    text(|asm| asm.load_byte(a, 13, b)),
                    format!("movzx {},byte ptr [r13+{y}]", low(a))
                );
                assert_eq!(
                    text(|asm| asm.load_table(a, b, 0x1000)),
                    format!("mov {x},[{y}*8+1000h]")
                );
                assert_eq!(
                    text(|asm| asm.or_table(a, b, 0x1000)),
                    format!("or {x},[{y}*8+1000h]")
                );
                assert_eq!(
                    text(|asm| asm.load_table_byte(a, b, 0x1000)),
                    format!("movzx {},byte ptr [{y}*1+1000h]", low(a))
                );
                assert_eq!(
                    text(|asm| asm.compare_byte(a, b, 0x26)),
                    format!("cmp byte ptr [{x}+{y}],26h")
                );
                assert_eq!(
                    text(|asm| asm.test_byte(a, b, 1)),
                    format!("test byte ptr [{x}+{y}],1")
                );
                assert_eq!(text(|asm| asm.sum(a, a, b)), format!("lea {x},[{x}+{y}]"));
            }
        }
    }
}

#[test]
fn the_rest() {
    assert_eq!(text(|a| a.jump_slot(0x40)), "jmp qword ptr gs:[40h]");
    assert_eq!(text(Assembler::flags_to_ax), "lahf; seto al");
    assert_eq!(text(Assembler::overflow_from_al), "add al,7Fh");
    assert_eq!(text(Assembler::sahf), "sahf");
    assert_eq!(text(|a| a.touch(0x1000)), "mov [1000h],al");
    let jumps = text(|a| {
        let here = a.label();
        a.bind(here);
        a.jump_if_rcx_zero(here);
        a.jump_short(here);
        a.jump(here);
        a.jump_if(Condition::Below, here);
        a.push_literal(9);
        a.jump_literal(9);
        let len = a.code.len();
        a.finish().unwrap();
        a.code.truncate(len);
    });
    assert!(
        jumps.starts_with(
            "jrcxz 0000000000001000h; jmp short 0000000000001000h; jmp 0000000000001000h; \
             jb 0000000000001000h; push qword ptr [1"
        ),
        "{jumps}"
    );
}
