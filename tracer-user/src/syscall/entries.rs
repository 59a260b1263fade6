//! Directory entries, as `getdents64` and `getdents` write them.
//!
//! ```text
//!  getdents64:  │ ino 8 │ off 8 │ reclen 2 │ type 1 │ name, NUL │ untouched, to a multiple of 8 │
//!  getdents:    │ ino 8 │ off 8 │ reclen 2 │ name, NUL │ untouched │ type 1, the last byte      │
//! ```
//! The kernel leaves the padding alone (`filldir64` and `filldir`, fs/readdir.c).

use super::effect::Telling;
use super::{arena, memory};
use crate::access::AccessKind::Write;

/// Tells which of the `bytes` bytes at `addr` were written.
pub(super) fn tell(telling: &mut Telling<'_>, addr: u64, bytes: u64, old: bool) {
    let name = if old { 18 } else { 19 };
    let mut at = 0;
    while at + name < bytes {
        let record = addr + at;
        let host = arena::address(telling.arena, record);
        let Some(header) = memory::load_u32(telling.safe, host + 16) else {
            return;
        };
        let size = u64::from(header as u16).min(bytes - at);
        let text = memory::text(telling.safe, host + name, size.saturating_sub(name));
        let Some(text) = text.filter(|text| text.ended) else {
            return;
        };
        telling.tell(Write, record, name + text.len, true);
        if old && name + text.len < size {
            telling.tell(Write, record + size - 1, 1, true);
        }
        at += size;
    }
}
