//! The processor as judge: guard pages at either edge of what the decoder claims.
//!
//! ```text
//!   ┌ inaccessible ┐┌ accessible ┐┌ inaccessible ┐
//!                   claim ends ─►│   must not fault; one byte further up must
//!                   │◄─ claim begins    must not fault; one byte further down must
//! ```
//! Every instruction of iced's list with an explicit memory operand that the decoder accepts and
//! this machine executes is run, masked ones with several masks.

use bytemuck::Zeroable;
use iced_x86::{Code, Encoder, Instruction, Mnemonic, OpKind, Register};
use tracer_ebpf::{AuxRecord, Regs};

use tracer_user::access::{Access, AccessKind};
use tracer_user::decode::{Decoded, Rep};

use crate::hardware::{self, End, PAGE, Pages, Start};

const RAX: usize = 0;

/// Two inaccessible pages around an accessible one.
struct Guarded {
    pages: Pages,
    code: hardware::Code,
}

/// What came of a run.
#[derive(Debug, PartialEq)]
enum Probe {
    Fine,
    PageFault,
    /// Not executable here, or it demands alignment.
    Unknown,
}

impl Guarded {
    fn new() -> Guarded {
        let pages = Pages::reserve(3 * PAGE);
        pages.protect(PAGE, PAGE, libc::PROT_READ | libc::PROT_WRITE);
        Guarded {
            pages,
            code: hardware::Code::new(PAGE),
        }
    }

    fn first(&self) -> u64 {
        self.pages.addr() + PAGE as u64
    }

    fn end(&self) -> u64 {
        self.first() + PAGE as u64
    }

    fn regs(&self, ip: u64, rax: u64) -> Regs {
        let mut regs = Regs {
            gpr: [0; 16],
            rip: ip,
            rflags: 0x202,
        };
        regs.gpr[RAX] = rax;
        regs
    }

    fn run(&self, ip: u64, rax: u64, masks: [u64; 8]) -> Probe {
        let outcome = hardware::execute(
            &self.regs(ip, rax),
            &Start {
                masks,
                ..Start::default()
            },
        );
        let guards = self.pages.addr()..self.pages.addr() + 3 * PAGE as u64;
        match outcome.end {
            End::Done => Probe::Fine,
            // A division by the zero that it read.
            End::Fault {
                signal: libc::SIGFPE,
                ..
            } => Probe::Fine,
            End::Fault {
                signal: libc::SIGSEGV,
                addr,
                ..
            } if guards.contains(&addr) => Probe::PageFault,
            _ => Probe::Unknown,
        }
    }

    /// Checks one instruction with one set of masks. `Ok(false)` if this machine cannot tell.
    fn check(&self, decoded: &Decoded, masks: [u64; 8]) -> Result<bool, String> {
        let aux = AuxRecord {
            masks,
            ..AuxRecord::zeroed()
        };
        let mut claim: Vec<Access> = Vec::new();
        let at = self.first() + 1024;
        if decoded
            .accesses(
                &self.regs(decoded.ip(), at),
                Some(&aux),
                Rep::Once,
                &mut claim,
            )
            .is_err()
        {
            return Ok(false);
        }
        let low = claim.iter().map(|access| access.addr).min();
        let high = claim.iter().map(|access| access.addr + access.len).max();
        let expect = |rax: u64, wanted: Probe, what: &str| match self.run(decoded.ip(), rax, masks)
        {
            Probe::Unknown => Ok(false),
            probe if probe == wanted => Ok(true),
            probe => Err(format!(
                "{} masks {masks:x?}: {what}: {probe:?}, claim {claim:x?}",
                decoded.text()
            )),
        };
        match (low, high) {
            (Some(low), Some(high)) => {
                let below = low.wrapping_sub(at);
                let above = high.wrapping_sub(at);
                let (top, bottom) = (
                    self.end().wrapping_sub(above),
                    self.first().wrapping_sub(below),
                );
                let known = expect(top, Probe::Fine, "ends at the guard page")?;
                expect(bottom, Probe::Fine, "begins after the guard page")?;
                expect(top + 1, Probe::PageFault, "a byte beyond the end")?;
                expect(bottom - 1, Probe::PageFault, "a byte before the start")?;
                if known {
                    self.check_contents(decoded, masks, at, &claim)?;
                }
                Ok(known)
            }
            // No access: it must not fault in the middle of nowhere. (Cache flushes do.)
            _ => expect(self.end() + 64, Probe::Fine, "claims no access"),
        }
    }

    /// Checks direction and exact bytes: a page that may only be read faults if and only if a
    /// write is claimed; bytes outside the claimed writes keep their values; bytes of a certain
    /// write without a read end up the same whatever they were before.
    fn check_contents(
        &self,
        decoded: &Decoded,
        masks: [u64; 8],
        at: u64,
        claim: &[Access],
    ) -> Result<(), String> {
        let wrong = |what: &str| {
            Err(format!(
                "{} masks {masks:x?}: {what}, claim {claim:x?}",
                decoded.text()
            ))
        };
        let writes = |access: &&Access| access.kind == AccessKind::Write;
        self.pages.protect(PAGE, PAGE, libc::PROT_READ);
        let probe = self.run(decoded.ip(), at, masks);
        self.pages
            .protect(PAGE, PAGE, libc::PROT_READ | libc::PROT_WRITE);
        let may_write = claim.iter().any(|access| writes(&access));
        if probe
            != if may_write {
                Probe::PageFault
            } else {
                Probe::Fine
            }
        {
            return wrong("direction");
        }
        if !may_write {
            return Ok(());
        }
        let offset = |access: &Access| (access.addr - self.first()) as usize;
        let range = |access: &Access| offset(access)..offset(access) + access.len as usize;
        let mut results = Vec::new();
        for fill in [0x55u8, 0xaa] {
            self.pages.write(PAGE, &[fill; PAGE]);
            self.run(decoded.ip(), at, masks);
            let after = self.pages.read(PAGE, PAGE);
            let untouched = |byte: usize| {
                !claim
                    .iter()
                    .filter(writes)
                    .any(|access| range(access).contains(&byte))
            };
            if (0..PAGE).any(|byte| after[byte] != fill && untouched(byte)) {
                return wrong("wrote outside");
            }
            results.push(after);
        }
        self.pages.write(PAGE, &[0; PAGE]);
        let reads = claim.iter().any(|access| access.kind == AccessKind::Read);
        let certain = claim.iter().filter(|access| access.certain);
        for access in certain.filter(writes) {
            if !reads && results[0][range(access)] != results[1][range(access)] {
                return wrong("left claimed bytes alone");
            }
        }
        Ok(())
    }
}

/// `code` with its memory operand at `[rax]`; `None` if it has none or cannot be built so.
pub(crate) fn at_rax(code: Code, broadcast: bool, masked: bool, ip: u64) -> Option<Vec<u8>> {
    let shape = code.op_code();
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    let mut memory = false;
    for operand in 0..shape.op_count() {
        let kind = format!("{:?}", shape.op_kind(operand));
        // Vector indices, AMX tiles, `movdir64b` and absolute addresses cannot be at `[rax]`.
        if kind.contains("vsib")
            || kind.starts_with("sibmem")
            || kind.contains("offs")
            || kind.contains("reg_mem")
        {
            return None;
        }
        if kind.contains("mem") {
            memory = true;
            instruction.set_op_kind(operand, OpKind::Memory);
            instruction.set_memory_base(Register::RAX);
        } else if kind.starts_with("imm") {
            instruction.set_op_kind(operand, OpKind::Immediate8);
        } else {
            let bank = |first: Register| first + 3 + operand;
            let register = match kind.split('_').next()? {
                "xmm" => Register::XMM0 + operand,
                "ymm" => Register::YMM0 + operand,
                "zmm" => Register::ZMM0 + operand,
                "mm" => bank(Register::MM0),
                "k" => bank(Register::K0),
                "bnd" | "cr" | "dr" | "tr" | "seg" | "tmm" => return None,
                "r8" | "cl" => Register::CL,
                "r16" => Register::DX,
                "r32" => Register::EDX,
                "r64" => Register::RDX,
                "al" => Register::AL,
                "ax" => Register::AX,
                "eax" => Register::EAX,
                "rax" => Register::RAX,
                "st0" => Register::ST0,
                _ => return None,
            };
            instruction.set_op_kind(operand, OpKind::Register);
            instruction.set_op_register(operand, register);
        }
    }
    instruction.set_is_broadcast(broadcast);
    if masked {
        instruction.set_op_mask(Register::K1);
    }
    let mut encoder = Encoder::new(64);
    let encoded = memory && encoder.encode(&instruction, ip).is_ok();
    encoded.then(|| encoder.take_buffer())
}

/// Instructions whose memory operand is not all that a run needs, or that would leave the test
/// process crippled: control transfers, segment registers, the stack, cache flushes.
pub(crate) fn is_left_out(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Call
            | Mnemonic::Jmp
            | Mnemonic::Push
            | Mnemonic::Pop
            | Mnemonic::Clflush
            | Mnemonic::Clflushopt
            | Mnemonic::Clwb
            | Mnemonic::Ldmxcsr
            | Mnemonic::Vldmxcsr
    )
}

#[test]
fn every_explicit_operand() {
    let guarded = Guarded::new();
    let ip = guarded.code.addr(0);
    let (mut checked, mut unknown) = (0, 0);
    let mut wrong = Vec::new();
    for code in Code::values() {
        if !code.op_code().is_instruction() || is_left_out(code.mnemonic()) {
            continue;
        }
        for (broadcast, masked) in [(false, false), (true, false), (false, true), (true, true)] {
            let shape = code.op_code();
            if (broadcast && !shape.can_broadcast())
                || (masked && !shape.can_use_op_mask_register())
            {
                continue;
            }
            let Some(bytes) = at_rax(code, broadcast, masked, ip) else {
                continue;
            };
            let Ok(decoded) = Decoded::parse(&bytes, ip) else {
                continue;
            };
            if decoded.instruction().code() != code {
                continue;
            }
            guarded.code.put_and_land(0, &bytes);
            let masks: Vec<u64> = if masked {
                let lanes = (0..64).map(|lane| 1 << lane);
                lanes
                    .chain([
                        0,
                        u64::MAX,
                        0x8421,
                        0xff00_ff00_ff00_ff00,
                        0xaaaa_aaaa_aaaa_aaaa,
                    ])
                    .collect()
            } else {
                vec![0]
            };
            for mask in masks {
                match guarded.check(&decoded, [0, mask, 0, 0, 0, 0, 0, 0]) {
                    Ok(true) => checked += 1,
                    Ok(false) => unknown += 1,
                    Err(error) => wrong.push(format!("{code:?} {error}")),
                }
            }
        }
    }
    println!("{checked} checked, {unknown} that this machine cannot judge");
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // What every x86-64 machine has, SSE2 included, is some 900 instructions.
    assert!(checked > 600, "only {checked} checked");
}
