//! System calls: what they touched, those that were not made, and those that failed in the kernel.

use tracer_ebpf::{KernelFaultRecord, TouchRecord, touch};

use super::{Pipeline, direction};
use crate::{
    access::{Access, AccessKind, EventSink, Refused, Source},
    resume::refusal,
};

impl Pipeline {
    /// What a system call touched, as its dispatcher told it.
    pub(super) fn touch(&mut self, record: &TouchRecord, sink: &mut dyn EventSink) {
        let tid = record.header.tid;
        self.totals.touches += 1;
        if record.flags & touch::FIRST != 0 {
            self.totals.syscalls += 1;
        }
        let kind = if record.flags & touch::WRITE != 0 {
            AccessKind::Write
        } else {
            AccessKind::Read
        };
        if record.flags & touch::REFUSED != 0 {
            self.totals.rejected += 1;
            let reason = (record.flags >> touch::REASON_SHIFT) as u8;
            let mut what = format!(
                "system call {} was not made: {}",
                syscall_name(record.syscall),
                refusal::text(reason)
            );
            if record.len != 0 {
                what += &format!(" ({:#x})", record.len);
            }
            // The kernel's record of a refusal that is about no address has the arena's first one,
            // where nothing is ever allocated.
            let somewhere = record.addr != self.session.arena_base;
            return sink.refused(&Refused {
                tid,
                ip: record.ip,
                addr: if somewhere { record.addr } else { 0 },
                kind,
                what,
            });
        }
        if record.len == 0 || record.addr.checked_add(record.len).is_none() {
            self.totals.rejected += 1;
            return sink.refused(&Refused {
                tid,
                ip: record.ip,
                addr: record.addr,
                kind,
                what: format!(
                    "system call {} was recorded with {:#x} bytes, which is no range of memory",
                    syscall_name(record.syscall),
                    record.len
                ),
            });
        }
        let access = Access {
            kind,
            certain: record.flags & touch::CERTAIN != 0,
            addr: record.addr,
            len: record.len,
        };
        self.event(access, tid, record.ip, Source::Syscall, sink);
        self.deliver_one();
    }

    /// A system call on a buffer that nobody made on the host view.
    pub(super) fn kernel_fault(&mut self, fault: &KernelFaultRecord, sink: &mut dyn EventSink) {
        self.totals.syscalls += 1;
        self.totals.failed_syscalls += 1;
        self.totals.rejected += 1;
        sink.refused(&Refused {
            tid: fault.header.tid,
            // The kernel shows the address after the `syscall` instruction, of 2 bytes.
            ip: fault.ip.saturating_sub(2),
            addr: fault.addr,
            kind: direction(fault.error),
            what: format!(
                "system call {} was given interpreter memory, and fails with EFAULT",
                syscall_name(fault.syscall)
            ),
        });
    }
}

/// `read`, or the number of a system call without a known name.
fn syscall_name(number: u32) -> String {
    usize::try_from(number)
        .ok()
        .and_then(syscalls::Sysno::new)
        .map_or_else(|| number.to_string(), |call| call.name().to_owned())
}
