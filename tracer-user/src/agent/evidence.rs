//! What a process that was killed had recorded and not read: the last of it, from its ring.

use serde::{Deserialize, Serialize};
use tracer_ebpf::Counters;

use crate::{
    backend::ebpf::{Ring, SessionFiles, SharedPages},
    wire::{self, Record},
};

/// How many accesses are told one by one: the last.
const LAST: usize = 16;

/// Bit of a page fault's error code: the access was a write (Intel SDM volume 3, 4.7).
const WRITE: u32 = 1 << 1;

/// What a session left whose process ended without closing it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Accesses that the kernel recorded, in the session's life.
    pub emitted: u64,
    /// Accesses that it could not record.
    pub dropped: u64,
    /// Accesses whose records the process had not read.
    pub unread: u64,
    /// The last accesses, oldest first: at most 16 of the unread ones.
    pub last: Vec<LastAccess>,
}

/// An access that its process did not live to see reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastAccess {
    /// Thread.
    pub tid: u32,
    /// Address of the native view.
    pub addr: u64,
    /// Address of the instruction; 0 where that is not known.
    pub ip: u64,
    /// Whether it was a write.
    pub write: bool,
    /// Bytes of the instruction, where they were recorded.
    pub insn: Vec<u8>,
}

impl Evidence {
    /// Reads what is left in the files of a session that nothing is recorded for any more.
    ///
    /// # Errors
    /// Where they cannot be mapped.
    pub(super) fn of(files: &SessionFiles) -> std::io::Result<Evidence> {
        use std::os::fd::AsFd as _;
        let counters = SharedPages::map(files.shared.as_fd())?.counters();
        let mut ring = Ring::map(files.ring.as_fd(), files.ring_bytes)?;
        Ok(Evidence::from_ring(counters, |each| {
            ring.drain(each);
        }))
    }

    fn from_ring(counters: Counters, drain: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Evidence {
        let mut evidence = Evidence {
            emitted: counters.emitted,
            dropped: counters.dropped,
            ..Evidence::default()
        };
        let mut last = std::collections::VecDeque::with_capacity(LAST);
        drain(&mut |bytes| {
            if let Some(access) = access(bytes) {
                evidence.unread += 1;
                if last.len() == LAST {
                    last.pop_front();
                }
                last.push_back(access);
            }
        });
        evidence.last = last.into();
        evidence
    }

    /// Whether there is anything to tell.
    pub fn is_empty(&self) -> bool {
        self.emitted == 0
    }
}

/// The access in a record, if it is one.
fn access(bytes: &[u8]) -> Option<LastAccess> {
    Some(match wire::read(bytes).ok()? {
        Record::Fault(fault) => LastAccess {
            tid: fault.header.tid,
            addr: fault.addr,
            ip: fault.regs.rip,
            write: fault.error & WRITE != 0,
            insn: fault.insn[..usize::from(fault.insn_len).min(fault.insn.len())].to_vec(),
        },
        Record::KnownFault(fault) => LastAccess {
            tid: fault.header.tid,
            addr: fault.addr,
            ip: fault.ip,
            write: fault.error & WRITE != 0,
            insn: Vec::new(),
        },
        Record::Touch(touch) => LastAccess {
            tid: touch.header.tid,
            addr: touch.addr,
            ip: touch.ip,
            write: touch.flags & tracer_ebpf::touch::WRITE != 0,
            insn: Vec::new(),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use proptest::prelude::*;
    use tracer_ebpf::{KnownFaultRecord, LAYOUT_VERSION, RecordHeader, kind};

    use super::*;

    #[test]
    fn keeps_the_last_and_counts_all() {
        let counters = Counters {
            emitted: 50,
            dropped: 2,
            ..Counters::zeroed()
        };
        let evidence = Evidence::from_ring(counters, |each| {
            for number in 0..40 {
                let mut record = KnownFaultRecord::zeroed();
                record.header = RecordHeader {
                    kind: kind::KNOWN_FAULT,
                    version: LAYOUT_VERSION,
                    tid: 7,
                };
                record.addr = number;
                record.error = WRITE;
                each(bytemuck::bytes_of(&record));
            }
        });
        assert_eq!(
            (evidence.emitted, evidence.dropped, evidence.unread),
            (50, 2, 40)
        );
        assert_eq!(evidence.last.len(), LAST);
        assert_eq!(
            evidence.last.last().map(|last| (last.addr, last.write)),
            Some((39, true))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..256), 0..40)) {
            let evidence = Evidence::from_ring(Counters::zeroed(), |each| records.iter().for_each(|record| each(record)));
            prop_assert!(evidence.unread <= records.len() as u64);
        }
    }
}
