//! The kernel's recorder: loads the eBPF programs for this process, and reads what they write.
//!
//! ```text
//!  Ebpf::open ──► object (embedded, or $FFITRACE_BPF_OBJECT) ──► load, verify
//!             ──► COUNTERS[pid], SESSIONS[pid] ──► attach page_fault_{user,kernel}
//!  probe_function ──► call_enter, call_return at a function of a library, this process only
//!  drain ◄── RECORDS ring, in order              ring_view ──► how full, for the signal handler
//!  drop  ──► SESSIONS entry removed, everything detached
//! ```
//!
//! The object is committed, since the users' toolchain cannot build it; `cargo xtask build-ebpf`
//! does.

mod error;
mod guests;
mod log;
mod prologue;
mod recorder;
mod ring;
mod unwinding;

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData, RingBuf};
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLinkId, UProbeScope};
use aya::programs::{BtfTracePoint, UProbe};
use aya::{Btf, EbpfLoader};
use tracer_ebpf::{Counters, RING_BYTES, Session, names};

pub use error::EbpfError;
pub use recorder::Kernel;
pub use ring::RingView;

use crate::{host::facts, resume::gate};

/// Environment variable with the path of an object to use instead of the embedded one.
const OBJECT_VARIABLE: &str = "FFITRACE_BPF_OBJECT";

/// The committed object. The programs in it fit the record layout of this build: one workspace.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../tracer-ebpf/object/ffitrace.bpf.o");

/// Oldest kernel with every helper that the programs use.
const MIN_KERNEL: (u32, u32) = (5, 15);

/// Longest wait for a record that another thread is just writing. It takes that thread well under
/// a microsecond, unless the machine takes its processor away.
const MAX_BUSY: Duration = Duration::from_millis(100);

/// A [`Session`] as a map value. (`aya::Pod` cannot be implemented here for a foreign type.)
type SessionWords = [u64; 2];

/// [`Counters`] as a map value.
type CounterWords = [u64; 6];

/// The eBPF recorder of this process.
pub struct Ebpf {
    programs: aya::Ebpf,
    records: RingBuf<MapData>,
    pages: ring::RingPages,
    guests: guests::GuestPage,
    sessions: HashMap<MapData, u32, SessionWords>,
    counters: HashMap<MapData, u32, CounterWords>,
    /// Process id as the kernel knows it.
    process: u32,
    probes: Vec<Probe>,
    probes_loaded: bool,
    logger: Option<log::Logger>,
}

/// A probed function.
struct Probe {
    enter: UProbeLinkId,
    leave: Option<UProbeLinkId>,
}

impl std::fmt::Debug for Ebpf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ebpf")
            .field("process", &self.process)
            .field("ring", &self.pages.view())
            .field("probes", &self.probes.len())
            .finish_non_exhaustive()
    }
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
    /// Loads the programs and lets them record what this process does to the arena of `session`.
    ///
    /// # Errors
    ///
    /// Whatever this host or process lacks, with its remedy.
    pub fn open(session: Session) -> Result<Ebpf, EbpfError> {
        check_preconditions()?;
        let process = std::process::id();
        let types = kernel_types()?;
        let object = object()?;

        let level = log::level();
        let level_byte = level.map_or(0, |level| level as u8);
        let mut programs = EbpfLoader::new()
            .override_global(names::SOLE_PROCESS, &process, true)
            .override_global(names::MARKER, &gate::marked(), true)
            .override_global(aya_log::LEVEL, &level_byte, false)
            .load(&object)
            .map_err(EbpfError::from_open)?;
        let logger = match level {
            Some(_) => log::Logger::init_with_logger(&mut programs, log::ToTracing)
                .inspect_err(|error| tracing::warn!("no log lines of the eBPF programs: {error}"))
                .ok(),
            None => None,
        };

        let records = RingBuf::try_from(take_map(&mut programs, names::RECORDS)?)
            .map_err(|error| EbpfError::from_map(names::RECORDS, error))?;
        let pages = ring::RingPages::map(records.as_fd(), u64::from(RING_BYTES))
            .map_err(|error| EbpfError::from_map(names::RECORDS, error.into()))?;
        let Map::Array(list) = take_map(&mut programs, names::GUESTS)? else {
            let reason = format!("its map `{}` is no array", names::GUESTS);
            return Err(EbpfError::Object { reason });
        };
        let guests = guests::GuestPage::map(list)
            .map_err(|error| EbpfError::from_map(names::GUESTS, error.into()))?;
        let sessions = HashMap::try_from(take_map(&mut programs, names::SESSIONS)?)
            .map_err(|error| EbpfError::from_map(names::SESSIONS, error))?;
        let counters = HashMap::try_from(take_map(&mut programs, names::COUNTERS)?)
            .map_err(|error| EbpfError::from_map(names::COUNTERS, error))?;

        let probes = Vec::new();
        let mut ebpf = Ebpf {
            programs,
            records,
            pages,
            guests,
            sessions,
            counters,
            process,
            probes,
            probes_loaded: false,
            logger,
        };
        // The programs take a process without counters for an untraced one, so these go first.
        ebpf.counters
            .insert(
                process,
                bytemuck::cast::<Counters, CounterWords>(Counters::default()),
                0,
            )
            .map_err(|error| EbpfError::from_map(names::COUNTERS, error))?;
        ebpf.sessions
            .insert(process, bytemuck::cast::<Session, SessionWords>(session), 0)
            .map_err(|error| EbpfError::from_map(names::SESSIONS, error))?;
        for name in [names::PAGE_FAULT_USER, names::PAGE_FAULT_KERNEL] {
            let program: &mut BtfTracePoint = program(&mut ebpf.programs, name)?;
            program
                .load(name, &types)
                .map_err(|error| EbpfError::from_load(name, error))?;
            program
                .attach()
                .map_err(|error| EbpfError::from_attach(name, error))?;
        }
        Ok(ebpf)
    }

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

    /// Hands every record that is in the ring at the time of the call to `each`, in order, and
    /// says how many. Each is as long as its kind is, and 8-byte aligned.
    ///
    /// A record that another thread is writing at this moment is waited for.
    pub fn drain(&mut self, each: &mut dyn FnMut(&[u8])) -> usize {
        let view = self.pages.view();
        let end = view.written();
        let mut count = 0;
        let mut waiting_since = None;
        while view.read() < end {
            if let Some(record) = self.records.next() {
                each(&record);
                count += 1;
                waiting_since = None;
                continue;
            }
            let since = *waiting_since.get_or_insert_with(Instant::now);
            if since.elapsed() > MAX_BUSY {
                // It stays in the ring for the next call, and the counters show that it is owed.
                tracing::warn!("a record is reserved but not written after {MAX_BUSY:?}");
                break;
            }
            std::thread::yield_now();
        }
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        count
    }

    /// How full the ring is, readable in a signal handler.
    pub fn ring_view(&self) -> RingView {
        self.pages.view()
    }

    /// The list of processes that share this one's memory, which the programs read.
    pub fn guests(&self) -> *mut tracer_ebpf::Guests {
        self.guests.list()
    }

    /// Totals of this process since [`Ebpf::open`].
    ///
    /// # Errors
    ///
    /// If the kernel's map cannot be read.
    pub fn counters(&self) -> Result<Counters, EbpfError> {
        self.counters
            .get(&self.process, 0)
            .map(bytemuck::cast::<CounterWords, Counters>)
            .map_err(|error| EbpfError::from_map(names::COUNTERS, error))
    }
}

impl Drop for Ebpf {
    fn drop(&mut self) {
        // First, so that no record is written for a reader that is going. The programs detach as
        // their links drop with `self.programs`.
        if let Err(error) = self.sessions.remove(&self.process) {
            tracing::warn!(
                "the session of process {} is not removed: {error}",
                self.process
            );
        }
        self.unprobe();
    }
}

/// What can be known to be missing before the kernel is asked: its refusals say less.
fn check_preconditions() -> Result<(), EbpfError> {
    let (version, release) = facts::kernel();
    if version < MIN_KERNEL {
        return Err(EbpfError::KernelTooOld { release });
    }
    let missing = facts::Capabilities::effective().missing_for_ebpf();
    if !missing.is_empty() {
        return Err(EbpfError::Privilege {
            missing: missing.join(" and "),
        });
    }
    match facts::in_initial_pid_namespace() {
        Ok(true) => Ok(()),
        // Without /proc it cannot be known, and a wrong process id would record nothing.
        Ok(false) | Err(_) => Err(EbpfError::PidNamespace),
    }
}

/// The kernel's type information.
fn kernel_types() -> Result<Btf, EbpfError> {
    Btf::from_sys_fs().map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        EbpfError::NoBtf {
            reason: format!("{error}{}", source.unwrap_or_default()),
        }
    })
}

/// The object to load.
fn object() -> Result<Cow<'static, [u8]>, EbpfError> {
    match std::env::var_os(OBJECT_VARIABLE).map(PathBuf::from) {
        None => Ok(Cow::Borrowed(OBJECT)),
        Some(path) => match std::fs::read(&path) {
            Ok(object) => Ok(Cow::Owned(object)),
            Err(source) => Err(EbpfError::ObjectFile { path, source }),
        },
    }
}

/// Takes a map out of the loaded object.
fn take_map(programs: &mut aya::Ebpf, name: &'static str) -> Result<Map, EbpfError> {
    programs.take_map(name).ok_or_else(|| EbpfError::Object {
        reason: format!("it has no map `{name}`"),
    })
}

/// A program of the loaded object.
fn program<'a, P>(programs: &'a mut aya::Ebpf, name: &'static str) -> Result<&'a mut P, EbpfError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program>,
{
    programs
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| EbpfError::Object {
            reason: format!("it has no program `{name}`"),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorder_can_be_drained_by_another_thread() {
        fn is_send<T: Send>() {}
        fn is_shared<T: Copy + Send + Sync>() {}
        is_send::<Ebpf>();
        is_shared::<RingView>();
    }

    #[test]
    fn map_values_have_the_size_of_their_types() {
        assert_eq!(size_of::<SessionWords>(), size_of::<Session>());
        assert_eq!(size_of::<CounterWords>(), size_of::<Counters>());
    }
}
