//! What is wrong with a free, in words, with the call sites that it is about.

use tracer_user::symbols::Symbols;

use super::foreign::Foreign;
use super::heap::MALLOC_ALIGN;
use super::record::{Caller, NativeAllocation};
use super::request::Release;
use crate::memory::Memory;

/// Puts names to call sites, and remembers them.
#[derive(Default)]
pub(super) struct Words {
    symbols: Option<Symbols>,
}

impl Words {
    /// `malloc in make+0x1a (heap.c:7)`.
    pub(super) fn caller(&mut self, caller: &Caller) -> String {
        let symbols = self.symbols.get_or_insert_with(Symbols::new);
        let symbol = symbols.lookup_return(caller.site);
        match &symbol.source {
            Some(source) => format!("{} in {symbol} ({source})", caller.function),
            None => format!("{} in {symbol}", caller.function),
        }
    }

    /// `` `heap#3` (24 bytes, by malloc in make+0x1a (heap.c:7)) ``.
    fn title(&mut self, allocation: &NativeAllocation) -> String {
        format!(
            "`{}` ({}, by {})",
            allocation.name(),
            bytes(allocation.size),
            self.caller(&allocation.made)
        )
    }

    /// Why an allocation may not be given back in this way, if it may not.
    pub(super) fn mismatch(
        &mut self,
        allocation: &NativeAllocation,
        release: &Release,
    ) -> Option<String> {
        let (made, by) = (allocation.family(), release.by.function);
        let over_aligned = allocation.align > MALLOC_ALIGN;
        if made != by.family() {
            let title = self.title(allocation);
            return Some(format!(
                "{by} of {title}: what {} makes is given back by {}",
                allocation.made.function,
                made.given_back_by()
            ));
        }
        if let Some(size) = release.size.filter(|size| *size != allocation.size) {
            let title = self.title(allocation);
            return Some(format!(
                "{by} of {title}, as if it had {}: it was made for another type",
                bytes(size)
            ));
        }
        let align = release.align.unwrap_or(0);
        if by.is_operator() && (align > 0 || over_aligned) && align.max(1) != allocation.align {
            let title = self.title(allocation);
            return Some(format!(
                "{by} of {title}, which was made with an alignment of {} bytes, as if it had {}",
                allocation.align,
                if align == 0 {
                    "none of its own".to_owned()
                } else {
                    bytes(align)
                }
            ));
        }
        None
    }

    /// An address inside an allocation, or inside a freed one.
    pub(super) fn interior(
        &mut self,
        allocation: &NativeAllocation,
        addr: u64,
        by: &Caller,
    ) -> String {
        let title = self.title(allocation);
        let offset = bytes(addr.wrapping_sub(allocation.base));
        let freed = match &allocation.freed {
            Some(freed) => format!(", which was freed by {}", self.caller(freed)),
            None => String::new(),
        };
        format!(
            "{} of an address {offset} inside {title}{freed}: only its beginning can be given back",
            by.function
        )
    }

    /// An allocation that was freed already.
    pub(super) fn double(&mut self, allocation: &NativeAllocation, by: &Caller) -> String {
        let title = self.title(allocation);
        let before = match &allocation.freed {
            Some(freed) => self.caller(freed),
            None => "the interpreter".to_owned(),
        };
        format!(
            "{} of {title}, which was freed already by {before}",
            by.function
        )
    }

    /// An address of the arena that the native heap does not know.
    pub(super) fn interpreters(&mut self, memory: &Memory, addr: u64, by: &Caller) -> String {
        let found = memory.locate(addr);
        let record = found.and_then(|place| Some((place, memory.get(place.allocation)?)));
        match record {
            Some((place, record)) if (0..=record.size() as i64).contains(&place.offset) => {
                let freed = if record.is_live() {
                    ""
                } else {
                    ", freed already,"
                };
                format!(
                    "{} of {}{freed} at offset {}: it is the interpreter's, native code may not \
                     give it back",
                    by.function,
                    record.title(),
                    place.offset
                )
            }
            _ => format!("{} of {addr:#x}, where no allocation begins", by.function),
        }
    }

    /// An address of something else than a heap.
    pub(super) fn foreign(&mut self, what: &Foreign, addr: u64, by: &Caller) -> String {
        let function = by.function;
        match what {
            Foreign::Heap => format!(
                "{function} of {addr:#x}, which no allocating function returned: it is not a \
                 multiple of {MALLOC_ALIGN}"
            ),
            Foreign::Stack => format!("{function} of {addr:#x}, which is on a stack"),
            Foreign::File(path) => format!(
                "{function} of {addr:#x}, which is data of {}",
                path.file_name()
                    .unwrap_or(path.as_os_str())
                    .to_string_lossy()
            ),
            Foreign::Unmapped => format!("{function} of {addr:#x}, where nothing is mapped"),
        }
    }
}

/// `1 byte`, `44 bytes`.
fn bytes(count: u64) -> String {
    if count == 1 {
        "1 byte".to_owned()
    } else {
        format!("{count} bytes")
    }
}
