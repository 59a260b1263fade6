//! Displaced copies, run: the same effect as the instruction in place, at every boundary.
//!
//! ```text
//!  native run:  instruction at ip, native view accessible ──► registers, flags, memory  ┐ equal
//!  copy's run:  copy elsewhere, native view inaccessible  ──► registers, flags, memory  ┘
//!  stopped run: copy up to a boundary, original_state, rest in place                    ┘
//! ```

use std::os::fd::{AsRawFd, OwnedFd};

use iced_x86::{Code, Mnemonic};
use tracer_ebpf::{DELTA, Regs, Session};
use tracer_user::decode::{Decoded, RepKind, WholeRep, runs_whole};
use tracer_user::resume::displace::{CodeCopy, Form, displace};

use crate::hardware::{self, End, Outcome, PAGE, Pages, Start, landing};
use crate::operands::{at_rax, is_left_out};

const RCX: usize = 1;
const RSP: usize = 4;

/// Bytes of test memory behind both views.
const LEN: usize = 2 * PAGE;
/// Where it begins in its segments.
const AT: usize = 1 << 20;
/// Where in it the address of the landing is, for branches.
const TARGET: usize = 0x800;

/// Two views of a memfd, [`DELTA`] apart, ordinary memory, a stack and code.
struct World {
    segments: Pages,
    host: Pages,
    outside: Pages,
    code: hardware::Code,
    _fd: OwnedFd,
}

/// What a run left behind.
#[derive(Debug, PartialEq)]
struct Effect {
    end: Option<i32>,
    gpr: [u64; 16],
    rflags: u64,
    xmm: [[u64; 2]; 2],
    memory: Vec<u8>,
    outside: Vec<u8>,
}

impl World {
    fn new() -> World {
        let fd = hardware::memfd(LEN);
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let segments = Pages::reserve(2 * DELTA as usize);
        segments.overlay(AT, LEN, libc::PROT_NONE, fd.as_raw_fd());
        segments.overlay(AT + DELTA as usize, LEN, prot, fd.as_raw_fd());
        let host = Pages::reserve(LEN);
        host.overlay(0, LEN, prot, fd.as_raw_fd());
        let outside = Pages::reserve(LEN);
        outside.protect(0, LEN, prot);
        World {
            segments,
            host,
            outside,
            code: hardware::Code::new(2 * PAGE),
            _fd: fd,
        }
    }

    fn native(&self) -> u64 {
        self.segments.addr() + AT as u64
    }

    fn session(&self) -> Session {
        Session {
            arena_base: self.segments.addr(),
            arena_len: 2 * DELTA,
        }
    }

    fn reset(&self) {
        let mut pattern: Vec<u8> = (0..LEN as u32).map(|i| (i * 37 + i / 256) as u8).collect();
        pattern[0x300..0x400].fill(0);
        pattern[0x345] = 9;
        pattern[TARGET..TARGET + 8].copy_from_slice(&landing().to_le_bytes());
        self.host.write(0, &pattern);
        self.outside.write(0, &pattern);
    }

    fn allow_native(&self, allow: bool) {
        let prot = if allow {
            libc::PROT_READ | libc::PROT_WRITE
        } else {
            libc::PROT_NONE
        };
        self.segments.protect(AT, LEN, prot);
    }

    fn effect(&self, outcome: &Outcome) -> Effect {
        let end = match outcome.end {
            End::Done => None,
            End::Fault { signal, .. } => Some(signal),
            End::Stopped { .. } => Some(libc::SIGTRAP),
        };
        Effect {
            end,
            gpr: outcome.regs.gpr,
            rflags: outcome.regs.rflags,
            xmm: outcome.xmm,
            memory: self.host.read(0, LEN),
            outside: self.outside.read(0, LEN),
        }
    }

    fn start(&self) -> Start {
        let xmm = [
            [0x1122_3344_5566_7788, 0x99aa],
            [0x3ff0_0000_0000_0000, 0x4000_0000],
        ];
        Start {
            xmm,
            masks: [0, 0x5a5a_5a5a_5a5a_5a5a, 0, 0, 0, 0, 0, 0],
            stop: [0, 0],
        }
    }

    /// Runs the instruction in place with the native view open.
    fn in_place(&self, regs: &Regs) -> Effect {
        self.reset();
        self.allow_native(true);
        let outcome = hardware::execute(regs, &self.start());
        self.allow_native(false);
        self.effect(&outcome)
    }

    /// Runs the copy with the native view closed.
    fn copied(&self, copy: &CodeCopy, regs: &Regs) -> Effect {
        self.reset();
        let rip = self.code.put(PAGE + 16, &copy.code);
        self.effect(&hardware::execute(&Regs { rip, ..*regs }, &self.start()))
    }

    /// Runs the copy to the boundary at `offset`, translates the state back, and finishes in
    /// place. `None` if the run does not come by there.
    fn stopped(&self, copy: &CodeCopy, offset: usize, regs: &Regs) -> Option<Effect> {
        self.reset();
        let rip = self.code.put(PAGE + 16, &copy.code);
        let here = rip + offset as u64;
        let start = Start {
            stop: [here, here + 1],
            ..self.start()
        };
        let stepping = Regs {
            rip,
            rflags: regs.rflags | 0x100,
            ..*regs
        };
        let outcome = hardware::execute(&stepping, &start);
        if outcome.end != (End::Stopped { rip: here }) {
            return None;
        }
        let mut original = outcome.regs;
        copy.original_state(offset, &outcome.regs)
            .expect("a boundary")
            .apply(&mut original);
        self.allow_native(true);
        let start = Start {
            xmm: outcome.xmm,
            ..self.start()
        };
        let finished = hardware::execute(&original, &start);
        self.allow_native(false);
        Some(self.effect(&finished))
    }

    /// Registers from `name=value` words, where N is the native view and O is outside memory.
    fn registers(&self, setup: &str) -> Regs {
        const NAMES: [&str; 16] = [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11",
            "r12", "r13", "r14", "r15",
        ];
        let mut regs = Regs {
            gpr: [0; 16],
            rip: self.code.addr(0),
            rflags: 0x202,
        };
        regs.gpr[RSP] = self.outside.addr() + (LEN - 512) as u64;
        for word in setup.split_whitespace() {
            let Some((name, value)) = word.split_once('=') else {
                regs.rflags |= if word == "df" { 1 << 10 } else { 1 };
                continue;
            };
            let number = NAMES
                .iter()
                .position(|known| *known == name)
                .expect("a register");
            let number_of = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
            let (base, rest) = match value.split_at(1) {
                ("N", rest) => (self.native(), rest),
                ("O", rest) => (self.outside.addr(), rest),
                _ => (0, value),
            };
            let rest = rest.trim_start_matches('+');
            regs.gpr[number] = base + if rest.is_empty() { 0 } else { number_of(rest) };
        }
        regs
    }
}

fn bytes(text: &str) -> Vec<u8> {
    let byte = |i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hexadecimal");
    (0..text.len() / 2).map(byte).collect()
}

/// The copy that these registers ask for.
fn choose(decoded: &Decoded, regs: &Regs, session: &Session) -> CodeCopy {
    match displace(decoded) {
        Form::Operand { code } => code,
        Form::String { source, dest, both } => {
            let op = decoded.string_op().expect("a string instruction");
            let copy = match runs_whole(&op, regs, session) {
                WholeRep::Source => source,
                WholeRep::Dest => dest,
                WholeRep::Both => both,
                WholeRep::No => None,
            };
            copy.unwrap_or_else(|| panic!("no copy for {}", decoded.text()))
        }
        Form::Step { why } => panic!("{}: {why}", decoded.text()),
    }
}

/// Machine code and registers.
const CASES: &[(&str, &str)] = &[
    ("8b448b08", "rbx=N rcx=10"),                   // mov eax, [rbx+rcx*4+8]
    ("488943f8", "rbx=N+100 rax=1122334455667788"), // mov [rbx-8], rax
    ("0103", "rbx=N+3 rax=7"),                      // add [rbx], eax
    ("f00fc10b", "rbx=N rcx=5"),                    // lock xadd [rbx], ecx
    ("f00fb10b", "rbx=N rcx=5 rax=1"),              // lock cmpxchg [rbx], ecx
    ("f0480fc70b", "rbx=N rcx=5"),                  // lock cmpxchg16b [rbx]
    ("4c870b", "rbx=N r9=5"),                       // xchg [rbx], r9
    ("4c0fab0b", "rbx=N+100 r9=ffffffffffffffbf"),  // bts [rbx], r9
    ("801c2b03", "rbx=N rbp=9 cf"),                 // sbb byte ptr [rbx+rbp], 3
    ("0f104301", "rbx=N"),                          // movups xmm0, [rbx+1]
    ("f30f7f4b7f", "rbx=N"),                        // movdqu [rbx+0x7f], xmm1
    ("66410f744500", "r13=N+40"),                   // pcmpeqb xmm0, [r13]
    ("c48170580474", "r12=N r14=20"),               // vaddps xmm0, xmm1, [r12+r14*2]
    ("ff33", "rbx=N"),                              // push qword ptr [rbx]
    ("8f4310", "rbx=N"),                            // pop qword ptr [rbx+16]
    ("66ff33", "rbx=N"),                            // push word ptr [rbx]
    ("ff13", "rbx=N+800"),                          // call [rbx]
    ("42ff94cb00010000", "rbx=N+680 r9=10"),        // call [rbx+r9*8+0x100]
    ("ff23", "rbx=N+800"),                          // jmp [rbx]
    ("d7", "rbx=N rax=77"),                         // xlatb
    ("a4", "rsi=N rdi=N+100"),                      // movsb
    ("48a5", "rsi=N rdi=O"),                        // movsq
    ("a5", "rsi=O rdi=N+7 df"),                     // movsd
    ("48ab", "rdi=N rax=1234567890"),               // stosq
    ("66ad", "rsi=N+5"),                            // lodsw
    ("a6", "rsi=N rdi=N+1"),                        // cmpsb
    ("a7", "rsi=O rdi=N"),                          // cmpsd
    ("ae", "rdi=N rax=5"),                          // scasb
    ("f3a4", "rsi=N rdi=N+100 rcx=33"),             // rep movsb
    ("f3a4", "rsi=N+100 rdi=N+0 rcx=133"),          // rep movsb
    ("f348a5", "rsi=N+100 rdi=O+100 rcx=5 df"),     // rep movsq
    ("f3a5", "rsi=O rdi=N rcx=5"),                  // rep movsd
    ("f3aa", "rdi=N+13 rcx=40 rax=5a"),             // rep stosb
    ("f348ab", "rdi=N+200 rcx=4 rax=5a df"),        // rep stosq
    ("f3ac", "rsi=N rcx=9"),                        // rep lodsb
    ("f3a6", "rsi=N+300 rdi=N+340 rcx=10"),         // repe cmpsb
    ("f3a6", "rsi=N+300 rdi=O+300 rcx=1"),          // repe cmpsb
    ("f3a6", "rsi=N rdi=N+1 rcx=10"),               // repe cmpsb
    ("66f2a7", "rsi=N rdi=N+100 rcx=10"),           // repne cmpsw
    ("f2a6", "rsi=O+300 rdi=N+300 rcx=10"),         // repne cmpsb
    ("f2ae", "rdi=N rax=1000 rcx=1"),               // repne scasb
    ("f2ae", "rdi=N rcx=40 rax=7"),                 // repne scasb
    ("f348af", "rdi=N+300 rcx=6 rax=0 df"),         // repe scasq
];

#[test]
fn copies_do_what_the_instruction_does() {
    let world = World::new();
    let mut stops = 0;
    for (code, setup) in CASES {
        let mut regs = world.registers(setup);
        let code = bytes(code);
        let decoded = Decoded::parse(&code, regs.rip).expect("decodes");
        let what = format!("{} with {setup}", decoded.text());
        world.code.put_and_land(0, &code);
        let copy = choose(&decoded, &regs, &world.session());

        let conditional = decoded
            .string_op()
            .is_some_and(|op| matches!(op.rep, RepKind::RepConditional(_)));
        let expected = world.in_place(&regs);
        assert_eq!(expected.end, None, "{what}");
        if !conditional {
            assert_eq!(world.copied(&copy, &regs), expected, "{what}");
        }
        for offset in copy.boundaries() {
            if let Some(effect) = world.stopped(&copy, offset, &regs) {
                assert_eq!(effect, expected, "{what} stopped at {offset}");
                stops += 1;
            }
        }
        // A conditional repetition comes back to the original for each further iteration.
        if conditional {
            world.reset();
            let mut iterations = 0;
            let effect = loop {
                let rip = world.code.put(PAGE + 16, &copy.code);
                let start = Start {
                    stop: [regs.rip, regs.rip + 1],
                    ..world.start()
                };
                let stepping = Regs {
                    rip,
                    rflags: regs.rflags | 0x100,
                    ..regs
                };
                let outcome = hardware::execute(&stepping, &start);
                iterations += 1;
                if outcome.end == End::Done {
                    break world.effect(&outcome);
                }
                assert_eq!(outcome.end, End::Stopped { rip: regs.rip }, "{what}");
                regs = outcome.regs;
                assert!(iterations < 100, "{what} does not end");
            };
            let effect = Effect {
                rflags: effect.rflags & !0x100,
                ..effect
            };
            assert_eq!(effect, expected, "{what} after {iterations} iterations");
            let before = world.registers(setup).gpr[RCX];
            assert_eq!(iterations, before - expected.gpr[RCX], "{what}");
        }
    }
    // Each copy has a boundary before and, but for jumps, one after the instruction.
    assert!(stops >= 2 * CASES.len() - 1, "only {stops} stops");
}

/// Every instruction with an explicit operand that the decoder accepts and this machine executes.
#[test]
fn every_explicit_operand() {
    let world = World::new();
    let mut equal = 0;
    for code in Code::values() {
        let shape = code.op_code();
        // lea has no copy: its result is the address.
        let left_out = is_left_out(code.mnemonic()) || code.mnemonic() == Mnemonic::Lea;
        if !shape.is_instruction() || left_out {
            continue;
        }
        for (broadcast, masked) in [(false, false), (true, false), (false, true), (true, true)] {
            if (broadcast && !shape.can_broadcast())
                || (masked && !shape.can_use_op_mask_register())
            {
                continue;
            }
            let regs = world.registers("rax=N+100 rcx=5 rdx=3");
            let Some(bytes) = at_rax(code, broadcast, masked, regs.rip) else {
                continue;
            };
            let Ok(decoded) = Decoded::parse(&bytes, regs.rip) else {
                continue;
            };
            if decoded.instruction().code() != code {
                continue;
            }
            let copy = match displace(&decoded) {
                Form::Operand { code } => code,
                form => panic!("{}: {form:?}", decoded.text()),
            };
            world.code.put_and_land(0, &bytes);
            let expected = world.in_place(&regs);
            if expected.end == Some(libc::SIGILL) {
                continue;
            }
            assert_eq!(
                world.copied(&copy, &regs),
                expected,
                "{code:?} {}",
                decoded.text()
            );
            equal += 1;
        }
    }
    println!("{equal} instructions equal");
    assert!(equal > 600, "only {equal} compared");
}
