//! Message headers (`struct msghdr` and `struct mmsghdr`), rebuilt, accounted for, and their
//! answers written back.
//!
//! ```text
//!  msghdr:  0 name  8 namelen  16 iov  24 iovlen  32 control  40 controllen  48 flags
//!  mmsghdr: the same, 56 len
//!  scratch: │ headers as the kernel gets them │ one Record each │ vectors of buffers │
//! ```
//! The kernel copies a whole header, but of `flags` and the padding nothing comes of it, so they
//! do not count as read. A receiving call writes `namelen`, `controllen` and `flags`, to the
//! copy; [`tell`] writes them to native code's header.

use super::effect::{Telling, done, happened};
use super::prepare::Preparing;
use super::shape::When;
use super::{Reason, Scratch, arena, buffers, memory};
use crate::access::AccessKind::{self, Read, Write};

/// Words of a `msghdr`, and of a `mmsghdr`.
const HEADER: usize = 7;
const LONG_HEADER: usize = 8;
/// Words of a [`Record`].
const RECORD: usize = 8;
/// Longest address of a socket in bytes (`struct sockaddr_storage`); the kernel looks at no more.
const LONGEST_NAME: u64 = 128;
/// Bytes of a `cmsghdr`: length, level, type.
const CONTROL_HEADER: u64 = 16;

/// Whether a receiving call with these flags may count bytes that it writes nowhere: a stream
/// socket discards them, a datagram socket does not.
pub(super) fn discards(flags: u64) -> bool {
    flags as i32 & libc::MSG_TRUNC != 0
}

/// Headers in the scratch memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rebuilt {
    kind: AccessKind,
    /// Address of native code's headers.
    addr: u64,
    /// How many.
    count: usize,
    /// Words of one: which of the two structures it is.
    stride: usize,
    /// Index of the first copy.
    pub(super) at: usize,
    /// Index of the first [`Record`].
    records: usize,
    /// Whether the result tells what was written to the buffers.
    certain: bool,
}

/// What native code said in a header.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Record {
    name: u64,
    name_len: u64,
    vector: u64,
    vector_len: u64,
    control: u64,
    control_len: u64,
    natives: u64,
    buffers: u64,
}

/// Copies one `msghdr`, or `count` `mmsghdr`s, with all that they point to moved. `None` where
/// there is nothing to move, or not all is readable; then nothing is taken.
pub(super) fn rebuild(
    this: &mut Preparing<'_>,
    kind: AccessKind,
    addr: u64,
    count: Option<u64>,
    certain: bool,
) -> Result<Option<Rebuilt>, Reason> {
    let stride = match count {
        None => HEADER,
        Some(_) => LONG_HEADER,
    };
    let count = count.unwrap_or(1).min(buffers::MAX_BUFFERS) as usize;
    if addr == 0 || count == 0 {
        return Ok(None);
    }
    let from = arena::place(this.arena, addr, (count * stride * 8) as u64)?;
    let mark = this.scratch.mark();
    let at = this.take(count * stride)?;
    let records = this.take(count * RECORD)?;
    let headers = this.scratch.words(at, count * stride);
    if !memory::load(this.safe, from, bytemuck::cast_slice_mut(headers)) {
        this.scratch.release(mark);
        return Ok(None);
    }
    let mut moved = from != addr;
    for index in 0..count {
        moved |= one(this, at + index * stride, records + index * RECORD)?;
    }
    if !moved {
        this.scratch.release(mark);
        return Ok(None);
    }
    Ok(Some(Rebuilt {
        kind,
        addr,
        count,
        stride,
        at,
        records,
        certain,
    }))
}

/// Moves what the header at word `at` points to; whether anything is arena memory.
fn one(this: &mut Preparing<'_>, at: usize, record: usize) -> Result<bool, Reason> {
    let [name, name_len, vector, vector_len, control, control_len] =
        std::array::from_fn(|field| this.scratch.word(at + field));
    let said = Record {
        name,
        // An `int`; the upper half is padding. Negative ones are refused by the kernel.
        name_len: u64::try_from(name_len as i32)
            .unwrap_or(0)
            .min(LONGEST_NAME),
        vector,
        vector_len: 0,
        control,
        control_len,
        natives: 0,
        buffers: 0,
    };
    let to_name = arena::place(this.arena, name, said.name_len)?;
    let to_control = arena::place(this.arena, control, control_len)?;
    let (to_vector, natives, buffers, moved) = match buffers::rebuild(this, vector, vector_len)? {
        Some(rebuilt) => {
            let to = this.scratch.addr(rebuilt.at);
            (to, rebuilt.natives, rebuilt.count, rebuilt.moved)
        }
        None => (arena::address(this.arena, vector), 0, 0, false),
    };
    let header = this.scratch.words(at, 6);
    header[0] = to_name;
    header[2] = to_vector;
    header[4] = to_control;
    let record = this.scratch.words(record, RECORD);
    record.copy_from_slice(bytemuck::cast_ref::<Record, [u64; RECORD]>(&Record {
        vector_len: buffers as u64 * 16,
        natives: natives as u64,
        buffers: buffers as u64,
        ..said
    }));
    Ok(moved || to_name != name || to_control != control)
}

/// Tells what was read and written, and writes the kernel's answers to native code's headers.
pub(super) fn tell(
    telling: &mut Telling<'_>,
    rebuilt: &Rebuilt,
    result: i64,
    scratch: &mut Scratch,
) {
    let many = rebuilt.stride == LONG_HEADER;
    let count = match done(result) {
        Some(messages) if many => (messages as usize).min(rebuilt.count),
        Some(_) => 1,
        None => 0,
    };
    if count == 0
        && let Some(certain) = happened(Read, When::OnceOpen, result)
    {
        read(telling, rebuilt, 0, scratch, certain);
    }
    for index in 0..count {
        read(telling, rebuilt, index, scratch, true);
        let header = rebuilt.at + index * rebuilt.stride;
        let bytes = if many {
            scratch.word(header + HEADER) & u64::from(u32::MAX)
        } else {
            result as u64
        };
        let record = record(rebuilt, index, scratch);
        let vector = (record.natives as usize, record.buffers as usize);
        let certain = rebuilt.certain;
        buffers::tell(telling, scratch, vector, rebuilt.kind, bytes, certain);
        if rebuilt.kind == Write {
            answer(telling, rebuilt, index, scratch);
        }
        if many {
            write_back(telling, rebuilt, index, 56, &(bytes as u32).to_le_bytes());
        }
    }
}

/// What is read of a message whatever becomes of it.
fn read(
    telling: &mut Telling<'_>,
    rebuilt: &Rebuilt,
    index: usize,
    scratch: &Scratch,
    certain: bool,
) {
    let addr = rebuilt.addr + (index * rebuilt.stride * 8) as u64;
    let record = record(rebuilt, index, scratch);
    telling.tell(Read, addr, 12, certain);
    telling.tell(Read, addr + 16, 32, certain);
    if rebuilt.kind == Read {
        telling.tell(Read, record.name, record.name_len, certain);
    }
    telling.tell(Read, record.vector, record.vector_len, certain);
    if rebuilt.kind == Read {
        telling.tell(Read, record.control, record.control_len, certain);
    }
}

/// What a receiving call wrote besides the data: address, control data, three fields.
fn answer(telling: &mut Telling<'_>, rebuilt: &Rebuilt, index: usize, scratch: &Scratch) {
    let header = rebuilt.at + index * rebuilt.stride;
    let record = record(rebuilt, index, scratch);
    let (name_len, control_len) = (scratch.word(header + 1) as u32, scratch.word(header + 5));
    if record.name != 0 {
        let len = u64::from(name_len).min(record.name_len);
        telling.tell(Write, record.name, len, true);
        write_back(telling, rebuilt, index, 8, &name_len.to_le_bytes());
    }
    control(telling, record.control, control_len.min(record.control_len));
    let flags = scratch.word(header + 6) as u32;
    write_back(telling, rebuilt, index, 48, &flags.to_le_bytes());
    write_back(telling, rebuilt, index, 40, &control_len.to_le_bytes());
}

/// Control messages: `cmsg_len` bytes each, the gaps between them stay as they were (`put_cmsg`,
/// net/core/scm.c).
fn control(telling: &mut Telling<'_>, addr: u64, bytes: u64) {
    let mut at = 0;
    while bytes.saturating_sub(at) >= CONTROL_HEADER {
        let host = arena::address(telling.arena, addr.wrapping_add(at));
        let Some(len) = memory::load_u64(telling.safe, host) else {
            return;
        };
        if len < CONTROL_HEADER {
            return;
        }
        telling.tell(Write, addr.wrapping_add(at), len.min(bytes - at), true);
        at = at.saturating_add(len.checked_next_multiple_of(8).unwrap_or(bytes));
    }
}

/// Writes a field of native code's header, `offset` bytes into it.
fn write_back(
    telling: &mut Telling<'_>,
    rebuilt: &Rebuilt,
    index: usize,
    offset: u64,
    bytes: &[u8],
) {
    let addr = rebuilt.addr + (index * rebuilt.stride * 8) as u64 + offset;
    let host = arena::address(telling.arena, addr);
    if memory::store(telling.safe, host, bytes) {
        telling.tell(Write, addr, bytes.len() as u64, true);
    } else {
        telling.fault = true;
    }
}

fn record(rebuilt: &Rebuilt, index: usize, scratch: &Scratch) -> Record {
    let at = rebuilt.records + index * RECORD;
    bytemuck::cast::<[u64; RECORD], Record>(std::array::from_fn(|word| scratch.word(at + word)))
}
