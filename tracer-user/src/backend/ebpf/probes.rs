//! Probes of functions: the kernel marks their calls in the ring, in this process only.
//!
//! ```text
//!  Programs::probe ─► may it be probed, and where? (prologue) ─► call_enter
//!                                              Returns::Seen  ─► call_return
//!  unprobe ◄─ both detached
//! ```

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use aya::programs::UProbe;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLinkId, UProbeScope};
use tracer_ebpf::names;

use super::object::program;
use super::{EbpfError, Programs, prologue, unwinding};

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

/// A function to be probed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// The library's file.
    pub(crate) file: &'a File,
    /// Offset of the function's first byte in the file.
    pub(crate) file_offset: u64,
    /// What messages call the function.
    pub(crate) name: &'a str,
    /// What its records carry.
    pub(crate) cookie: u64,
    /// Whether its returns are to be seen.
    pub(crate) returns: Returns,
}

impl Programs {
    /// Counts the calls of a function in the process of a session, and records its outermost ones.
    ///
    /// # Errors
    ///
    /// [`EbpfError::ProbeOnNop`] for a function that must not be probed, and whatever keeps the
    /// kernel from probing; the session goes on without this probe.
    pub(crate) fn probe(&mut self, slot: u32, target: &Target<'_>) -> Result<(), EbpfError> {
        let inside = probe_offset(target.file, target.file_offset, target.name)?;
        let offset = target.file_offset + inside;
        let (object, loaded) = self.object();
        if !*loaded {
            for name in [names::CALL_ENTER, names::CALL_RETURN] {
                let program: &mut UProbe = program(object, name)?;
                program
                    .load()
                    .map_err(|error| EbpfError::from_load(name, error))?;
            }
            *loaded = true;
        }
        let Some((process, _)) = self.session(slot) else {
            return Ok(());
        };
        let enter = self.attach_probe(names::CALL_ENTER, process, offset, target)?;
        let mut probe = Probe { enter, leave: None };
        if target.returns == Returns::Seen {
            match self.attach_probe(names::CALL_RETURN, process, offset, target) {
                Ok(leave) => probe.leave = Some(leave),
                Err(error) => {
                    self.detach_probe(probe);
                    return Err(error);
                }
            }
        }
        if let Some((_, probes)) = self.session(slot) {
            probes.push(probe);
        }
        Ok(())
    }

    fn attach_probe(
        &mut self,
        name: &'static str,
        process: u32,
        offset: u64,
        target: &Target<'_>,
    ) -> Result<UProbeLinkId, EbpfError> {
        let program: &mut UProbe = program(self.object().0, name)?;
        let point = UProbeAttachPoint {
            location: UProbeAttachLocation::AbsoluteOffset(offset),
            cookie: Some(target.cookie),
        };
        // By its id, which is that of the first thread: a probe that belonged to the calling
        // thread would end with it. It fires in every thread of the process.
        let scope = match std::num::NonZeroU32::new(process) {
            Some(process) => UProbeScope::OneProcess(process),
            None => UProbeScope::CallingProcess,
        };
        // What the descriptor refers to, whatever has become of its name.
        let path = format!("/proc/self/fd/{}", target.file.as_raw_fd());
        program
            .attach(point, path, scope)
            .map_err(|error| EbpfError::from_probe(target.name, error))
    }

    /// How many functions are probed in a session.
    pub(crate) fn probes(&mut self, slot: u32) -> usize {
        self.session(slot).map_or(0, |(_, probes)| probes.len())
    }

    /// Removes all probes of a session.
    pub(crate) fn unprobe(&mut self, slot: u32) {
        let probes = self.session(slot).map(|(_, probes)| std::mem::take(probes));
        for probe in probes.into_iter().flatten() {
            self.detach_probe(probe);
        }
    }

    pub(super) fn detach_probe(&mut self, probe: Probe) {
        let links = [
            (names::CALL_ENTER, Some(probe.enter)),
            (names::CALL_RETURN, probe.leave),
        ];
        for (name, link) in links {
            let (Ok(program), Some(link)) = (program::<UProbe>(self.object().0, name), link) else {
                continue;
            };
            if let Err(error) = program.detach(link) {
                tracing::warn!("the probe {name} is not detached: {error}");
            }
        }
    }
}

/// Offset from the function's start at which it can be probed.
fn probe_offset(library: &File, file_offset: u64, name: &str) -> Result<u64, EbpfError> {
    let mut code = [0; prologue::PROLOGUE];
    let length = match read_up_to(library, &mut code, file_offset) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        other => other,
    }
    .map_err(|source| EbpfError::ProbeFile {
        function: name.to_owned(),
        offset: file_offset,
        source,
    })?;
    prologue::probe_offset(&code[..length]).map_err(|reason| {
        let function = name.to_owned();
        match reason {
            prologue::Unprobeable::Nop5 => EbpfError::ProbeOnNop { function },
            prologue::Unprobeable::Memory => EbpfError::ProbeOnMemory { function },
        }
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
