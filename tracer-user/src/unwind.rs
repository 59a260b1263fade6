//! Backtraces from a snapshot of registers and stack.
//!
//! ```text
//!  fault ──handler──► registers, a copy of the stack ──later──► return addresses ──► symbols
//! ```
//!
//! The handler only copies; walking needs the unwind tables (`.eh_frame`) of the mapped files
//! and allocates, so it happens afterwards, when the real stack is long something else. Only the
//! copy is looked at. A frame whose unwind tables are missing ends the walk, or is crossed by the
//! frame pointer where that leads to code.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use framehop::x86_64::{CacheX86_64, Reg, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder as _};
use object::read::elf::{FileHeader, SectionHeader};
use tracer_ebpf::Regs;

use crate::modules::{self, Layout, Mapping, ModuleError};

/// What a thread looked like when it was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackSnapshot {
    /// Its registers, with the address of the original instruction in `rip`.
    pub regs: Regs,
    /// Address of the first of `bytes`, usually the stack pointer.
    pub sp: u64,
    /// The stack from `sp` upwards, as much as was copied.
    pub bytes: Vec<u8>,
}

impl StackSnapshot {
    /// The eight bytes at an address of the stack.
    fn read(&self, addr: u64) -> Option<u64> {
        let start = usize::try_from(addr.checked_sub(self.sp)?).ok()?;
        let bytes = self.bytes.get(start..start.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }
}

/// A mapped file's tables: shared with the unwinder, which owns its copies.
type Table = Arc<[u8]>;

/// Walks stacks of this process. Keeps the unwind tables of the files it met.
pub struct Unwinder {
    unwinder: UnwinderX86_64<Table>,
    cache: CacheX86_64,
    maps: Vec<Mapping>,
    /// Whether the module at a load address was added, with the file it came from.
    known: HashMap<u64, PathBuf>,
}

impl Default for Unwinder {
    fn default() -> Unwinder {
        Unwinder::new()
    }
}

impl Unwinder {
    /// An unwinder that knows no module yet.
    pub fn new() -> Unwinder {
        Unwinder {
            unwinder: UnwinderX86_64::new(),
            cache: CacheX86_64::new(),
            maps: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// The return addresses of a snapshot, innermost first, without the stopped instruction
    /// itself: at most `max`, and up to but without the first one for which `stop_at` holds (the
    /// bridge's own code). Incomplete where the snapshot or the unwind tables end.
    pub fn unwind(
        &mut self,
        snapshot: &StackSnapshot,
        stop_at: &dyn Fn(u64) -> bool,
        max: usize,
    ) -> Vec<u64> {
        let mut regs = registers(&snapshot.regs);
        let mut found = Vec::new();
        let mut frame = FrameAddress::from_instruction_pointer(snapshot.regs.rip);
        if !self.learn(snapshot.regs.rip) {
            // Called through a bad function pointer: nothing has been pushed since the call.
            let Some(caller) = snapshot.read(regs.sp()) else {
                return found;
            };
            if !self.learn(caller.wrapping_sub(1)) {
                return found;
            }
            regs.set_sp(regs.sp().wrapping_add(8));
            regs.set_ip(caller);
            match FrameAddress::from_return_address(caller) {
                Some(address) if max > 0 && !stop_at(caller) => frame = address,
                _ => return found,
            }
            found.push(caller);
        }
        let mut read_stack = |addr| snapshot.read(addr).ok_or(());
        while found.len() < max {
            let Ok(Some(caller)) =
                self.unwinder
                    .unwind_frame(frame, &mut regs, &mut self.cache, &mut read_stack)
            else {
                break;
            };
            // A heuristic step may end anywhere; what does not lead to code is no caller.
            if stop_at(caller) || !self.learn(caller.wrapping_sub(1)) {
                break;
            }
            found.push(caller);
            let Some(next) = FrameAddress::from_return_address(caller) else {
                break;
            };
            frame = next;
        }
        found
    }

    /// The registers of the nearest frame below the snapshot's own whose code is not `ours`: where
    /// foreign code called ours. `rip` is a return address there, and registers that ours did not
    /// keep are not told. `None` where no such frame is found among `max`.
    pub fn foreign_caller(
        &mut self,
        snapshot: &StackSnapshot,
        ours: &dyn Fn(u64) -> bool,
        max: usize,
    ) -> Option<Regs> {
        let mut regs = registers(&snapshot.regs);
        let mut frame = FrameAddress::from_instruction_pointer(snapshot.regs.rip);
        self.learn(snapshot.regs.rip);
        let mut read_stack = |addr| snapshot.read(addr).ok_or(());
        for _ in 0..max {
            let cache = &mut self.cache;
            let step = self
                .unwinder
                .unwind_frame(frame, &mut regs, cache, &mut read_stack);
            let caller = step.ok().flatten()?;
            if !self.learn(caller.wrapping_sub(1)) {
                return None;
            }
            if !ours(caller) {
                return Some(Regs {
                    gpr: ORDER.map(|reg| regs.get(reg)),
                    rip: caller,
                    rflags: 0,
                });
            }
            frame = FrameAddress::from_return_address(caller)?;
        }
        None
    }

    /// Sees to it that the unwind tables for `addr` are known. False if no code is there.
    fn learn(&mut self, addr: u64) -> bool {
        let code = |maps: &[Mapping]| {
            modules::find(maps, addr)
                .filter(|mapping| mapping.executable)
                .cloned()
        };
        let Some(mapping) = code(&self.maps).or_else(|| {
            self.maps = modules::mappings().unwrap_or_default();
            code(&self.maps)
        }) else {
            return false;
        };
        if !mapping.is_file() {
            return true;
        }
        match self.known.get(&mapping.range.start) {
            Some(path) if *path == mapping.path => return true,
            // Another file is there by now.
            Some(_) => self.forget(),
            None => {}
        }
        self.known.insert(mapping.range.start, mapping.path.clone());
        // A file that cannot be read has no unwind tables for us; the frame pointer may do.
        match load(&mapping) {
            Ok(Some(module)) => self.unwinder.add_module(module),
            Ok(None) => {}
            Err(error) => tracing::debug!("no unwind tables: {error}"),
        }
        true
    }

    fn forget(&mut self) {
        let maps = std::mem::take(&mut self.maps);
        *self = Unwinder {
            maps,
            ..Unwinder::new()
        };
    }
}

/// In the order of the instruction encoding, as `Regs::gpr` is.
const ORDER: [Reg; 16] = [
    Reg::RAX,
    Reg::RCX,
    Reg::RDX,
    Reg::RBX,
    Reg::RSP,
    Reg::RBP,
    Reg::RSI,
    Reg::RDI,
    Reg::R8,
    Reg::R9,
    Reg::R10,
    Reg::R11,
    Reg::R12,
    Reg::R13,
    Reg::R14,
    Reg::R15,
];

fn registers(regs: &Regs) -> UnwindRegsX86_64 {
    let mut unwind = UnwindRegsX86_64::new(regs.rip, regs.gpr[4], regs.gpr[5]);
    for (reg, value) in ORDER.into_iter().zip(regs.gpr) {
        unwind.set(reg, value);
    }
    unwind
}

/// Reads the unwind tables of the file of an executable mapping.
fn load(mapping: &Mapping) -> Result<Option<Module<Table>>, ModuleError> {
    let path: &Path = &mapping.path;
    let (data, header) = modules::open(path)?;
    let fail = |source| ModuleError::Elf {
        path: path.to_owned(),
        source,
    };
    let layout = Layout::of(&header, &data).map_err(fail)?;
    let Some(address) = layout.address(mapping.offset, mapping.executable) else {
        return Ok(None);
    };
    let bias = mapping.range.start.wrapping_sub(address);

    let endian = header.endian().map_err(fail)?;
    let sections = header.sections(endian, &data).map_err(fail)?;
    let section = |name: &[u8]| {
        let (_, section) = sections.section_by_name(endian, name)?;
        let start = section.sh_addr(endian);
        let bytes = section.data(endian, &data).ok()?;
        Some((start..start + section.sh_size(endian), Table::from(bytes)))
    };
    let (text_svma, text) = section(b".text").unzip();
    let (eh_frame_svma, eh_frame) = section(b".eh_frame").unzip();
    let (eh_frame_hdr_svma, eh_frame_hdr) = section(b".eh_frame_hdr").unzip();
    let info = ExplicitModuleSectionInfo {
        base_svma: 0,
        text_svma,
        text,
        got_svma: section(b".got").map(|(range, _)| range),
        eh_frame_svma,
        eh_frame,
        eh_frame_hdr_svma,
        eh_frame_hdr,
        ..Default::default()
    };
    let span = layout.span();
    let range = bias.wrapping_add(span.start)..bias.wrapping_add(span.end);
    Ok(Some(Module::new(
        path.display().to_string(),
        range,
        bias,
        info,
    )))
}

#[cfg(test)]
mod tests;
