//! The one door from bytes to records: length, kind and version are checked here and nowhere
//! else.

use bytemuck::Pod;
use tracer_ebpf::{
    AuxRecord, CallRecord, FaultRecord, KernelFaultRecord, KnownFaultRecord, LAYOUT_VERSION,
    RecordHeader, TouchRecord, kind,
};

/// A record of any kind.
#[derive(Clone, Copy, Debug)]
pub enum Record {
    /// Native code touched the native view.
    Fault(FaultRecord),
    /// A listed site touched the native view.
    KnownFault(KnownFaultRecord),
    /// Machine state that completes a fault.
    Aux(AuxRecord),
    /// The probed function was entered.
    CallEnter(CallRecord),
    /// The probed function returned.
    CallReturn(CallRecord),
    /// A system call touched the native view.
    KernelFault(KernelFaultRecord),
    /// A dispatched system call touched the native view.
    Touch(TouchRecord),
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Fewer bytes than the record of this kind has.
    #[error("a record of kind {kind} has {need} bytes, only {got} arrived")]
    Short {
        /// Kind in the header, 0 where even the header is short.
        kind: u16,
        /// Bytes needed.
        need: usize,
        /// Bytes there.
        got: usize,
    },
    /// Written by other code than this version's.
    #[error("record layout version {0}, this program reads version {LAYOUT_VERSION}")]
    Version(u16),
    /// A kind that this version does not know.
    #[error("unknown record kind {0}")]
    Kind(u16),
}

fn take<R: Pod>(kind: u16, bytes: &[u8]) -> Result<R, WireError> {
    let need = size_of::<R>();
    match bytes.get(..need) {
        Some(exact) => Ok(bytemuck::pod_read_unaligned(exact)),
        None => Err(WireError::Short {
            kind,
            need,
            got: bytes.len(),
        }),
    }
}

/// Reads one record from the start of `bytes`. Bytes after it are padding and ignored.
///
/// # Errors
/// [`WireError`] where the bytes are not a record of this layout version.
pub fn read(bytes: &[u8]) -> Result<Record, WireError> {
    let header: RecordHeader = take(0, bytes)?;
    if header.version != LAYOUT_VERSION {
        return Err(WireError::Version(header.version));
    }
    Ok(match header.kind {
        kind::FAULT => Record::Fault(take(header.kind, bytes)?),
        kind::KNOWN_FAULT => Record::KnownFault(take(header.kind, bytes)?),
        kind::AUX => Record::Aux(take(header.kind, bytes)?),
        kind::CALL_ENTER => Record::CallEnter(take(header.kind, bytes)?),
        kind::CALL_RETURN => Record::CallReturn(take(header.kind, bytes)?),
        kind::KERNEL_FAULT => Record::KernelFault(take(header.kind, bytes)?),
        kind::TOUCH => Record::Touch(take(header.kind, bytes)?),
        other => return Err(WireError::Kind(other)),
    })
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_was_written() {
        let mut record = AuxRecord::zeroed();
        record.header = RecordHeader {
            kind: kind::AUX,
            version: LAYOUT_VERSION,
            tid: 7,
        };
        record.ip = 0x1234;
        match read(bytemuck::bytes_of(&record)) {
            Ok(Record::Aux(back)) => assert_eq!(back, record),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn refuses_short_foreign_and_unknown() {
        assert_eq!(
            read(&[1, 0]).unwrap_err(),
            WireError::Short {
                kind: 0,
                need: 8,
                got: 2
            }
        );
        let mut header = [0u8; 8];
        header[0] = kind::FAULT as u8;
        assert_eq!(read(&header).unwrap_err(), WireError::Version(0));
        header[2] = LAYOUT_VERSION as u8;
        assert!(matches!(
            read(&header),
            Err(WireError::Short { kind: 1, .. })
        ));
        header[0] = 99;
        assert_eq!(read(&header).unwrap_err(), WireError::Kind(99));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = read(&bytes);
        }
    }
}
