//! Probes of functions: the kernel marks their calls in the ring, in this process only.
//!
//! ```text
//!  probe_function ─► may it be probed, and where? (prologue, unwinding) ─► call_enter
//!                                                     Returns::Seen     ─► call_return
//!  unprobe ◄─ both detached
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use aya::programs::UProbe;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLinkId, UProbeScope};
use tracer_ebpf::names;

use super::object::program;
use super::{Ebpf, EbpfError, prologue, unwinding};

/// A probed function.
pub(super) struct Probe {
    enter: UProbeLinkId,
    leave: Option<UProbeLinkId>,
}

/// Whether a function is probed for its returns too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// Yes. No exception can pass the function's frame then.
    Seen,
    /// No.
    Unseen,
}

impl Returns {
    /// Seen, unless stacks with functions of this library may be unwound.
    pub fn of(library: &Path) -> Returns {
        if unwinding::may_unwind(library) {
            Returns::Unseen
        } else {
            Returns::Seen
        }
    }
}

impl Ebpf {
    /// Counts the calls of a function of this process, and records its outermost ones.
    ///
    /// `file_offset` is the offset of the function's first byte in the file `library`, `name` what
    /// messages call it, `cookie` what its records carry. The file must be the one that is mapped.
    ///
    /// # Errors
    ///
    /// [`EbpfError::ProbeOnNop`] for a function that must not be probed, and whatever keeps the
    /// kernel from probing; the recorder works on without this probe.
    pub fn probe_function(
        &mut self,
        library: &Path,
        file_offset: u64,
        name: &str,
        cookie: u64,
        returns: Returns,
    ) -> Result<(), EbpfError> {
        let offset = file_offset + probe_offset(library, file_offset, name)?;
        if !self.probes_loaded {
            for program_name in [names::CALL_ENTER, names::CALL_RETURN] {
                let program: &mut UProbe = program(&mut self.programs, program_name)?;
                program
                    .load()
                    .map_err(|error| EbpfError::from_load(program_name, error))?;
            }
            self.probes_loaded = true;
        }
        let enter = self.attach(names::CALL_ENTER, library, offset, name, cookie)?;
        // Kept at once: should the second one fail, `unprobe` still finds the first.
        self.probes.push(Probe { enter, leave: None });
        if returns == Returns::Unseen {
            return Ok(());
        }
        let leave = self.attach(names::CALL_RETURN, library, offset, name, cookie);
        match (leave, self.probes.last_mut()) {
            (Ok(leave), Some(probe)) => {
                probe.leave = Some(leave);
                Ok(())
            }
            (Err(error), _) => {
                if let Some(probe) = self.probes.pop() {
                    self.detach(probe);
                }
                Err(error)
            }
            (Ok(_), None) => Ok(()),
        }
    }

    fn attach(
        &mut self,
        program_name: &'static str,
        library: &Path,
        offset: u64,
        function: &str,
        cookie: u64,
    ) -> Result<UProbeLinkId, EbpfError> {
        let program: &mut UProbe = program(&mut self.programs, program_name)?;
        let point = UProbeAttachPoint {
            location: UProbeAttachLocation::AbsoluteOffset(offset),
            cookie: Some(cookie),
        };
        // By its id, which is that of the first thread: a probe that belonged to the calling
        // thread would end with it. It fires in every thread of the process.
        let scope = match std::num::NonZeroU32::new(self.process) {
            Some(process) => UProbeScope::OneProcess(process),
            None => UProbeScope::CallingProcess,
        };
        program
            .attach(point, library, scope)
            .map_err(|error| EbpfError::from_probe(function, error))
    }

    /// Removes all probes of functions.
    pub fn unprobe(&mut self) {
        for probe in std::mem::take(&mut self.probes) {
            self.detach(probe);
        }
    }

    fn detach(&mut self, probe: Probe) {
        let links = [
            (names::CALL_ENTER, Some(probe.enter)),
            (names::CALL_RETURN, probe.leave),
        ];
        for (name, link) in links {
            let (Ok(program), Some(link)) = (program::<UProbe>(&mut self.programs, name), link)
            else {
                continue;
            };
            if let Err(error) = program.detach(link) {
                tracing::warn!("the probe {name} is not detached: {error}");
            }
        }
    }
}

/// Offset from the function's start at which it can be probed.
fn probe_offset(library: &Path, file_offset: u64, name: &str) -> Result<u64, EbpfError> {
    let mut code = [0; prologue::PROLOGUE];
    let read = File::open(library).and_then(|file| read_up_to(&file, &mut code, file_offset));
    match read {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(length) => Ok(length),
        Err(error) => Err(error),
    }
    .map_err(|source| EbpfError::ProbeFile {
        function: name.to_owned(),
        library: library.to_owned(),
        offset: file_offset,
        source,
    })
    .and_then(|length| {
        prologue::probe_offset(&code[..length]).map_err(|reason| {
            let function = name.to_owned();
            match reason {
                prologue::Unprobeable::Nop5 => EbpfError::ProbeOnNop { function },
                prologue::Unprobeable::Memory => EbpfError::ProbeOnMemory { function },
            }
        })
    })
}

/// Reads until the buffer is full or the file ends, and says how much.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset.saturating_add(filled as u64))? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
