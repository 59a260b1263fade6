//! A case: an instruction, the state it starts from and the memory that matters to it; as data,
//! and as a line of text that can be replayed.
//!
//! ```text
//!  code=c5f8ae13 rip=f000123 rbx=10100ffc flags=202 seed=1f k1=ff v3=00ff… @10100ffc=801f0000
//! ```
//! All numbers are hexadecimal. What is not named is 0, but for vectors and memory, which follow
//! from the seed.

use std::fmt::Write as _;

use tracer_ebpf::Regs;

use crate::hardware::{Area, components, tracked};
use crate::random::Random;

/// Names of general registers in the order of `Regs::gpr`.
const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    /// The instruction.
    pub(crate) code: Vec<u8>,
    /// General registers; rip is where the instruction lies.
    pub(crate) regs: Regs,
    /// Base of the gs segment.
    pub(crate) gs: u64,
    /// What vectors, x87 registers and memory are filled from.
    pub(crate) seed: u64,
    /// State components that are in their initial state.
    pub(crate) absent: u64,
    /// Mask registers k0–k7.
    pub(crate) masks: [u64; 8],
    /// Vector registers that matter.
    pub(crate) vectors: Vec<(usize, [u8; 64])>,
    /// Configuration of the tile registers; zero for none.
    pub(crate) tiles: [u8; 64],
    /// Memory that matters.
    pub(crate) memory: Vec<(u64, Vec<u8>)>,
}

impl Default for Case {
    fn default() -> Case {
        Case {
            code: Vec::new(),
            regs: Regs {
                gpr: [0; 16],
                rip: 0,
                rflags: 0x202,
            },
            gs: 0,
            seed: 0,
            absent: 0,
            masks: [0; 8],
            vectors: Vec::new(),
            tiles: [0; 64],
            memory: Vec::new(),
        }
    }
}

impl Case {
    /// The state beside general registers.
    pub(crate) fn area(&self) -> Box<Area> {
        let mut random = Random::new(self.seed);
        let mut area = Area::clean();
        let present = tracked() & !self.absent;
        for at in (32..416).step_by(8) {
            area.0[at..at + 8].copy_from_slice(&random.value().to_le_bytes());
        }
        let mxcsr = 0x1f80 | (random.next() as u32 & 0xe040);
        area.0[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
        area.0[2..4].copy_from_slice(&((random.next() as u16 & 7) << 11).to_le_bytes());
        area.0[4] = random.next() as u8;
        area.0[24..28].copy_from_slice(&mxcsr.to_le_bytes());
        area.0[512..520].copy_from_slice(&present.to_le_bytes());
        for (component, (from, len)) in components().filter(|entry| matches!(entry.0, 2 | 6 | 7)) {
            for at in (from..from + len).step_by(8) {
                area.0[at..at + 8].copy_from_slice(&random.value().to_le_bytes());
            }
            let _ = component;
        }
        let find = |wanted| components().find(|entry| entry.0 == wanted);
        if let Some((_, (from, _))) = find(5) {
            for (index, mask) in self.masks.iter().enumerate() {
                let at = from + 8 * index;
                area.0[at..at + 8].copy_from_slice(&mask.to_le_bytes());
            }
        }
        for (number, value) in &self.vectors {
            let mut put = |component, at: usize, bytes: &[u8]| {
                if let Some((_, (from, _))) = find(component) {
                    area.0[from + at..from + at + bytes.len()].copy_from_slice(bytes);
                }
            };
            if *number < 16 {
                put(1, 16 * number, &value[..16]);
                put(2, 16 * number, &value[16..32]);
                put(6, 32 * number, &value[32..]);
            } else {
                put(7, 64 * (number - 16), value);
            }
        }
        if let Some((_, (from, len))) = find(17) {
            area.0[from..from + len].copy_from_slice(&self.tiles[..len]);
            if self.tiles == [0; 64] {
                let present = present & !(3 << 17);
                area.0[512..520].copy_from_slice(&present.to_le_bytes());
            }
        }
        area
    }

    /// The line of text.
    pub(crate) fn text(&self) -> String {
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
        };
        let mut text = format!("code={} rip={:x}", hex(&self.code), self.regs.rip);
        for (name, value) in NAMES.iter().zip(self.regs.gpr) {
            if value != 0 {
                let _ = write!(text, " {name}={value:x}");
            }
        }
        let _ = write!(text, " flags={:x} seed={:x}", self.regs.rflags, self.seed);
        if self.gs != 0 {
            let _ = write!(text, " gs={:x}", self.gs);
        }
        if self.absent != 0 {
            let _ = write!(text, " absent={:x}", self.absent);
        }
        for (number, mask) in self.masks.iter().enumerate().filter(|entry| *entry.1 != 0) {
            let _ = write!(text, " k{number}={mask:x}");
        }
        for (number, value) in &self.vectors {
            let _ = write!(text, " v{number}={}", hex(value));
        }
        if self.tiles != [0; 64] {
            let _ = write!(text, " tiles={}", hex(&self.tiles));
        }
        for (addr, bytes) in &self.memory {
            let _ = write!(text, " @{addr:x}={}", hex(bytes));
        }
        text
    }

    /// Reads a line of text; the error is the word that is not understood.
    pub(crate) fn parse(line: &str) -> Result<Case, String> {
        let mut case = Case::default();
        for word in line.split_whitespace() {
            let entry = || -> Option<(&str, &str)> { word.split_once('=') };
            let (name, value) = entry().ok_or(word)?;
            let number = || u64::from_str_radix(value, 16).map_err(|_| word.to_owned());
            let bytes = || {
                (0..value.len() / 2)
                    .map(|i| u8::from_str_radix(&value[2 * i..2 * i + 2], 16))
                    .collect::<Result<Vec<u8>, _>>()
                    .map_err(|_| word.to_owned())
            };
            let block = || <[u8; 64]>::try_from(bytes()?).map_err(|_| word.to_owned());
            let index = || name[1..].parse::<usize>().map_err(|_| word.to_owned());
            match name {
                "code" => case.code = bytes()?,
                "rip" => case.regs.rip = number()?,
                "flags" => case.regs.rflags = number()?,
                "seed" => case.seed = number()?,
                "gs" => case.gs = number()?,
                "absent" => case.absent = number()?,
                "tiles" => case.tiles = block()?,
                _ if name.starts_with('k') => case.masks[index()? & 7] = number()?,
                _ if name.starts_with('v') => case.vectors.push((index()?, block()?)),
                _ if name.starts_with('@') => {
                    let addr = u64::from_str_radix(&name[1..], 16).map_err(|_| word.to_owned())?;
                    case.memory.push((addr, bytes()?));
                }
                _ => {
                    let register = NAMES.iter().position(|known| *known == name).ok_or(word)?;
                    case.regs.gpr[register] = number()?;
                }
            }
        }
        Ok(case)
    }
}
