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

fn registers(regs: &Regs) -> UnwindRegsX86_64 {
    // In the order of the instruction encoding, as `Regs::gpr` is.
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
#[allow(unsafe_code)]
mod tests {
    use super::*;
    use crate::modules::testing::Library;

    const SOURCE: &str = r#"
        #include <stdint.h>
        #include <string.h>
        struct snap { uint64_t gpr[16]; uint64_t rip; uint64_t returns[4]; char stack[32768]; } snap;
        #define NOTE(n) snap.returns[n] = (uint64_t)__builtin_return_address(0)

        __attribute__((noinline)) static long leaf(long a) {
            NOTE(0);
            __asm__ volatile(
                "mov %%rax, 0(%0)\n mov %%rcx, 8(%0)\n mov %%rdx, 16(%0)\n mov %%rbx, 24(%0)\n"
                "mov %%rsp, 32(%0)\n mov %%rbp, 40(%0)\n mov %%rsi, 48(%0)\n mov %%rdi, 56(%0)\n"
                "mov %%r8, 64(%0)\n mov %%r9, 72(%0)\n mov %%r10, 80(%0)\n mov %%r11, 88(%0)\n"
                "mov %%r12, 96(%0)\n mov %%r13, 104(%0)\n mov %%r14, 112(%0)\n"
                "mov %%r15, 120(%0)\n lea 0f(%%rip), %%rax\n 0: mov %%rax, 128(%0)\n"
                :: "r"(&snap) : "rax", "memory");
            memcpy(snap.stack, (void *)snap.gpr[4], sizeof snap.stack);
            return a * 3;
        }
        __attribute__((noinline)) static long inner(long a, volatile char *room) {
            NOTE(1);
            char buffer[200 + (a & 15)];   /* a frame of unknown size needs a frame pointer */
            memset(buffer, (int)a, sizeof buffer);
            *room = buffer[a];
            return leaf(a + 1) + buffer[3];
        }
        __attribute__((noinline)) static long middle(long a, long b, long c) {
            NOTE(2);
            volatile char room[1000];
            return inner(a + b, room) * c + room[0] + inner(a, room);
        }
        __attribute__((noinline)) long outer(long a) {
            NOTE(3);
            return middle(a, a + 1, a + 2) + a;
        }
        long snap_size(void) { return sizeof snap; }
    "#;

    #[repr(C)]
    struct Snap {
        gpr: [u64; 16],
        rip: u64,
        returns: [u64; 4],
        stack: [u8; 32768],
    }

    /// Runs the C code in this thread and returns its snapshot and true return addresses.
    ///
    /// The thread is a fresh one with a known stack, so that copying 32 KiB upwards is safe.
    fn snapshot(flags: &'static [&'static str]) -> (StackSnapshot, [u64; 4], Library) {
        std::thread::Builder::new()
            .stack_size(1 << 20)
            .spawn(move || {
                // Puts the snapshot well below the top of the stack.
                let room = std::hint::black_box([0u8; 40_000]);
                let result = run(flags);
                std::hint::black_box(room);
                result
            })
            .expect("a thread")
            .join()
            .expect("no panic")
    }

    #[inline(never)]
    fn run(flags: &[&str]) -> (StackSnapshot, [u64; 4], Library) {
        let library = Library::compile("chain", SOURCE, flags);
        let handle = library.load();
        let outer = Library::symbol(handle, c"outer");
        let snap = Library::symbol(handle, c"snap") as *const Snap;
        // SAFETY: `outer` has this signature and only touches its own statics and stack.
        let outer: extern "C" fn(i64) -> i64 = unsafe { std::mem::transmute(outer as usize) };
        outer(5);
        // SAFETY: `snap` is the library's static of this layout, written by the call above.
        let snap = unsafe { &*snap };
        let regs = Regs {
            gpr: snap.gpr,
            rip: snap.rip,
            rflags: 0,
        };
        let snapshot = StackSnapshot {
            regs,
            sp: snap.gpr[4],
            bytes: snap.stack.to_vec(),
        };
        // The unwinder reads the file, so it has to stay.
        (snapshot, snap.returns, library)
    }

    fn returns_are_found(flags: &'static [&'static str]) {
        let (snapshot, returns, _library) = snapshot(flags);
        let mut unwinder = Unwinder::new();
        let found = unwinder.unwind(&snapshot, &|_| false, 64);
        assert!(
            found.len() > 4,
            "{found:x?}, expected {returns:x?} and the callers in Rust"
        );
        assert_eq!(found[..4], returns);

        // Whose frames are they: stop before the first that is not the library's.
        let own = |addr: u64| addr == returns[3];
        assert_eq!(unwinder.unwind(&snapshot, &own, 64), returns[..3]);
        assert_eq!(unwinder.unwind(&snapshot, &|_| false, 2), returns[..2]);

        // Half a stack gives half a backtrace, not a wrong one.
        let cut = StackSnapshot {
            bytes: snapshot.bytes[..600].to_vec(),
            ..snapshot.clone()
        };
        let some = unwinder.unwind(&cut, &|_| false, 64);
        assert!(some.len() < 4 && returns.starts_with(&some), "{some:x?}");
    }

    #[test]
    fn without_frame_pointers() {
        returns_are_found(&["-O2", "-fomit-frame-pointer"]);
    }

    #[test]
    fn with_frame_pointers() {
        returns_are_found(&["-O2", "-fno-omit-frame-pointer"]);
    }

    #[test]
    fn a_call_through_a_null_pointer() {
        let (mut snapshot, returns, _library) = snapshot(&["-O2"]);
        // As if `leaf` had called address 0: the return address is on top of the stack.
        let top = snapshot.regs.gpr[4] - 8;
        let rip = snapshot.regs.rip;
        snapshot.bytes.splice(0..0, rip.to_le_bytes());
        snapshot.sp = top;
        snapshot.regs.gpr[4] = top;
        snapshot.regs.rip = 0;
        let found = Unwinder::new().unwind(&snapshot, &|_| false, 5);
        assert_eq!(found[0], rip);
        assert_eq!(found[1..5], returns);
        assert!(Unwinder::new().unwind(&snapshot, &|_| true, 5).is_empty());
        assert!(Unwinder::new().unwind(&snapshot, &|_| false, 0).is_empty());
    }

    #[test]
    fn nonsense_ends_at_once() {
        let regs = Regs {
            gpr: [u64::MAX; 16],
            rip: u64::MAX,
            rflags: 0,
        };
        let snapshot = StackSnapshot {
            regs,
            sp: u64::MAX,
            bytes: vec![1, 2, 3],
        };
        assert!(Unwinder::new().unwind(&snapshot, &|_| false, 64).is_empty());
    }
}
