//! Memory operands of random shapes that end up at chosen addresses.

use iced_x86::{Code, MemoryOperand, Mnemonic, OpKind, Register};

use crate::operands::{Draft, LOW, RSP};
use crate::world::ZONE_PAGES;

const RCX: usize = 1;
const RSI: usize = 6;
const RDI: usize = 7;

impl Draft<'_> {
    /// An address, as a register of the chosen width holds it: upper half at random.
    pub(crate) fn wide(&mut self, value: u64) -> u64 {
        if self.narrow {
            value & LOW | self.random.next() & !LOW
        } else {
            value
        }
    }

    /// An operand at rsi or rdi.
    pub(crate) fn string(&mut self, operand: u32, kind: &str) -> Option<()> {
        let first = kind != "es_rDI" || self.instruction.op_count() == 1;
        let at = self.aim.at[usize::from(!first || kind == "es_rDI" && self.has_source())];
        let base = if kind == "es_rDI" { 0 } else { self.segment };
        let value = at.wrapping_sub(base);
        if self.narrow && value > LOW {
            return None;
        }
        let value = self.wide(value);
        let (register, narrow, wide) = match kind {
            "seg_rSI" => (RSI, OpKind::MemorySegESI, OpKind::MemorySegRSI),
            "seg_rDI" => (RDI, OpKind::MemorySegEDI, OpKind::MemorySegRDI),
            _ => (RDI, OpKind::MemoryESEDI, OpKind::MemoryESRDI),
        };
        let kind = if self.narrow { narrow } else { wide };
        self.settle(register, value)?;
        self.instruction.set_op_kind(operand, kind);
        let count = self.random.below(40);
        let count = self.wide(count);
        if register != RCX && !self.settled[RCX] {
            self.settle(RCX, count)?;
        }
        Some(())
    }

    fn has_source(&self) -> bool {
        use Mnemonic as M;
        matches!(
            self.instruction.mnemonic(),
            M::Movsb | M::Movsw | M::Movsd | M::Movsq | M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq
        )
    }

    /// A register of the address size.
    fn address_register(&self, number: usize) -> Register {
        if self.narrow {
            Register::EAX + number as u32
        } else {
            Register::RAX + number as u32
        }
    }

    /// The value of a register that is to be part of an address.
    fn part(&mut self, register: usize) -> u64 {
        self.settled[register] = true;
        let value = self.case.regs.gpr[register];
        if self.narrow { value & LOW } else { value }
    }

    /// An explicit memory operand at `aim.at[0]`.
    pub(crate) fn memory(&mut self, operand: u32, tile: bool) -> Option<()> {
        let target = self.aim.at[0].wrapping_sub(self.segment);
        if self.narrow && target > LOW {
            return None;
        }
        let scale = 1 << self.random.below(4);
        let (displacement, size) = match self.random.below(3) {
            0 => (0, 0),
            1 => (self.random.next() as i8 as i64 as u64, 1),
            _ => (
                self.random.next() as i32 as i64 as u64,
                if self.narrow { 4 } else { 8 },
            ),
        };
        let full = if self.narrow { 4 } else { 8 };
        let mut memory = MemoryOperand {
            segment_prefix: self.instruction.segment_prefix(),
            base: Register::None,
            index: Register::None,
            scale: 1,
            displacement: displacement as i64,
            displ_size: size,
            is_broadcast: self.instruction.is_broadcast(),
        };
        let base = self.random.below(16) as usize;
        let index = self.random.below(16) as usize;
        if self.settled[base] {
            return None;
        }
        match if tile { 1 } else { self.random.below(8) } {
            // Base and index; the same register twice is left to the index alone.
            0 | 1 if index != RSP && index != base => {
                memory.base = self.address_register(base);
                memory.index = self.address_register(index);
                memory.scale = scale as u32;
                if tile {
                    // Rows lie so far apart.
                    let stride = self.random.below(200);
                    self.settle(index, stride)?;
                    let value = self.wide(target.wrapping_sub(displacement));
                    self.settle(base, value)?;
                } else {
                    let part = self.part(index).wrapping_mul(scale);
                    let value = self.wide(target.wrapping_sub(part).wrapping_sub(displacement));
                    self.settle(base, value)?;
                }
            }
            // A scaled index, with what it cannot reach in the displacement.
            2 if base != RSP => {
                let displacement = self.random.below(0x1000_0000);
                let rest = target.wrapping_sub(displacement) % scale;
                memory.index = self.address_register(base);
                memory.scale = scale as u32;
                memory.displacement = (displacement + rest) as i64;
                memory.displ_size = full;
                let value = self.wide(target.wrapping_sub(displacement + rest) / scale);
                self.settle(base, value)?;
            }
            // Base and index are the same register.
            3 if base != RSP => {
                let displacement = self.random.below(0x1000_0000);
                let times = scale + 1;
                let rest = target.wrapping_sub(displacement) % times;
                memory.base = self.address_register(base);
                memory.index = self.address_register(base);
                memory.scale = scale as u32;
                memory.displacement = (displacement + rest) as i64;
                memory.displ_size = full;
                let value = self.wide(target.wrapping_sub(displacement + rest) / times);
                self.settle(base, value)?;
            }
            4 => {
                let fits = i32::try_from(target as i64).is_ok() || self.narrow;
                if !fits {
                    return None;
                }
                memory.displacement = target as i64;
                memory.displ_size = full;
            }
            5 => {
                let near = target.wrapping_sub(self.case.regs.rip) as i64;
                if i32::try_from(near).is_err() {
                    return None;
                }
                memory.base = if self.narrow {
                    Register::EIP
                } else {
                    Register::RIP
                };
                memory.displacement = target as i64;
                memory.displ_size = full;
            }
            _ => {
                memory.base = self.address_register(base);
                let value = self.wide(target.wrapping_sub(displacement));
                self.settle(base, value)?;
            }
        }
        if tile && matches!(memory.base, Register::RIP | Register::EIP) {
            return None;
        }
        self.place(operand, &memory);
        Some(())
    }

    fn place(&mut self, operand: u32, memory: &MemoryOperand) {
        let instruction = &mut self.instruction;
        instruction.set_op_kind(operand, OpKind::Memory);
        instruction.set_memory_base(memory.base);
        instruction.set_memory_index(memory.index);
        instruction.set_memory_index_scale(memory.scale);
        instruction.set_memory_displ_size(memory.displ_size);
        let displacement = memory.displacement as u64;
        instruction.set_memory_displacement64(if self.narrow {
            displacement & LOW
        } else {
            displacement
        });
    }

    /// Lanes at the edges of pages, inactive ones anywhere.
    pub(crate) fn vector_index(&mut self, code: Code, operand: u32, kind: &str) -> Option<()> {
        let evex = code.op_code().encoding() == iced_x86::EncodingKind::EVEX;
        let number = self.random.below(if evex { 32 } else { 16 }) as usize;
        let bank = match kind.as_bytes().last() {
            Some(b'x') => Register::XMM0,
            Some(b'y') => Register::YMM0,
            _ => Register::ZMM0,
        };
        let wide = kind.contains("64");
        let element = code.op_code().memory_size().size() as u64;
        let scale = 1 << self.random.below(4);
        let base = self.random.below(16) as usize;
        let displacement = self.random.next() as i16 as i64 as u64;
        // A base near the zones for indices of 32 bits, anything for those of 64.
        let start = if wide && !self.narrow {
            self.random.next() & !7
        } else {
            (self.aim.zones[0].base + self.random.below(1 << 16)) & !7
        };
        let with_base = self.settled[base] || !self.random.once_in(8);
        if with_base {
            let value = start.wrapping_sub(self.segment).wrapping_sub(displacement);
            let value = self.wide(value);
            if self.settled[base] {
                return None;
            }
            self.settle(base, value)?;
        }
        let origin = if with_base {
            start
        } else {
            displacement.wrapping_add(self.segment)
        };
        let mut indices = [0u8; 64];
        let far = self.random.once_in(4);
        for lane in 0..if wide { 8 } else { 16 } {
            let zone = if far {
                self.random.of(&self.aim.zones)
            } else {
                self.aim.zones[0]
            };
            let page = zone.base + self.random.below(ZONE_PAGES / 2) * 2 * 4096 + 4096;
            let at = match self.random.below(5) {
                0 => page,
                1 => page - element,
                2 => page - 1,
                3 => page - element + 1,
                _ => page + self.random.below(2048),
            };
            let index = at.wrapping_sub(origin) as i64 / scale;
            let index = if wide {
                index
            } else {
                i64::from(i32::try_from(index).ok()?)
            };
            let size = if wide { 8 } else { 4 };
            let bytes = index.to_le_bytes();
            indices[lane * size..(lane + 1) * size].copy_from_slice(&bytes[..size]);
        }
        self.case.vectors.push((number, indices));
        let memory = MemoryOperand {
            segment_prefix: self.instruction.segment_prefix(),
            base: if with_base {
                self.address_register(base)
            } else {
                Register::None
            },
            index: bank + number as u32,
            scale: scale as u32,
            displacement: displacement as i64,
            displ_size: if self.narrow { 4 } else { 8 },
            is_broadcast: false,
        };
        self.place(operand, &memory);
        Some(())
    }
}
