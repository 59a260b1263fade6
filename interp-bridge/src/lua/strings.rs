//! Lua's strings as memory for native code.
//!
//! ```text
//!  "text" ─► known? ─► the allocation it has          same text, same address
//!               └ no ─► a new one, read-only: the text and a zero byte
//!  more than 64 MiB, or 65,536 of them ─► what was not used for longest is freed
//! ```
//! LuaJIT hands its own strings over, which stay as long as the script keeps them; nobody can ask
//! for how long that is. So these stay for as long as can be afforded.

use std::{cell::RefCell, collections::BTreeMap, collections::HashMap, rc::Rc};

use mlua::LuaString;

use super::{failure::Done, session::Session};
use crate::memory::{AllocId, AllocKind, AllocRequest, Init, Memory, Pointer};

/// Bytes of strings that are kept.
const MAX_BYTES: usize = 64 << 20;
/// Strings that are kept.
const MAX_STRINGS: usize = 1 << 16;
/// Characters of a string in the name of its allocation.
const SHOWN: usize = 24;

/// The strings that native code knows.
#[derive(Default)]
pub(super) struct Strings {
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    known: HashMap<Rc<[u8]>, Known>,
    /// By the last time they were used.
    order: BTreeMap<u64, Rc<[u8]>>,
    clock: u64,
    bytes: usize,
}

struct Known {
    id: AllocId,
    pointer: Pointer,
    used: u64,
}

impl Session {
    /// A pointer to the bytes of a string, and a zero byte after them.
    pub(super) fn text_pointer(&self, text: &LuaString) -> Done<Pointer> {
        let bytes = text.as_bytes_with_nul();
        let mut inner = self.strings.inner.borrow_mut();
        inner.clock += 1;
        let now = inner.clock;
        if let Some(known) = inner.known.get_mut(&*bytes) {
            let (pointer, before) = (known.pointer, std::mem::replace(&mut known.used, now));
            if let Some(text) = inner.order.remove(&before) {
                inner.order.insert(now, text);
            }
            return Ok(pointer);
        }
        let text: Rc<[u8]> = Rc::from(&*bytes);
        let id = self.bridge.memory().allocate(&AllocRequest {
            name: Some(&name(&text)),
            size: text.len() as u64,
            align: 1,
            init: Init::Bytes(&text),
            mutable: false,
            kind: AllocKind::Global,
        })?;
        let pointer = self.pointer_to(id)?;
        inner.bytes += text.len();
        inner.order.insert(now, text.clone());
        let used = now;
        inner.known.insert(text, Known { id, pointer, used });
        inner.shrink(&mut self.bridge.memory());
        Ok(pointer)
    }
}

impl Inner {
    /// Frees what was not used for longest, until the rest can be afforded. What was used last
    /// always stays.
    fn shrink(&mut self, memory: &mut Memory) {
        while (self.bytes > MAX_BYTES || self.known.len() > MAX_STRINGS) && self.known.len() > 16 {
            let Some((_, text)) = self.order.pop_first() else {
                return;
            };
            self.bytes -= text.len();
            if let Some(known) = self.known.remove(&text) {
                // It is live: nobody else knows its id.
                let _ = memory.free(known.id);
            }
        }
    }
}

/// `"the text"`, shortened.
fn name(text: &[u8]) -> String {
    let text = &text[..text.len() - 1];
    let shown = String::from_utf8_lossy(&text[..text.len().min(SHOWN)]);
    let more = if text.len() > SHOWN { "…" } else { "" };
    format!("\"{}{more}\"", shown.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn names_are_short_and_printable() {
        assert_eq!(name(b"hello\0"), "\"hello\"");
        assert_eq!(name(b"a\nb\0"), "\"a\\nb\"");
        let long = [b'x'; 100];
        assert_eq!(name(&long), format!("\"{}…\"", "x".repeat(24)));
    }
}
