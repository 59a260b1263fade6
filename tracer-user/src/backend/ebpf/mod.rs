//! The kernel's recorder: loads the eBPF programs for this process, and reads what they write.
//!
//! ```text
//!  Ebpf::open ──► object (embedded, or $FFITRACE_BPF_OBJECT) ──► load, verify
//!             ──► map COUNTERS, GUESTS, KNOWN ──► attach page_fault_{user,kernel}
//!  probe_function ──► call_enter, call_return at a function of a library, this process only
//!  drain ◄── RECORDS ring, in order              ring_view ──► how full, for the signal handler
//!  drop  ──► everything detached
//! ```
//!
//! The object is committed, since the users' toolchain cannot build it; `cargo xtask build-ebpf`
//! does.

mod counters;
mod error;
mod lent;
mod log;
mod object;
mod probes;
mod prologue;
mod recorder;
mod ring;
mod unwinding;

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use aya::EbpfLoader;
use aya::maps::{MapData, RingBuf};
use aya::programs::BtfTracePoint;
use tracer_ebpf::{Counters, Guests, KNOWN_SITES, RING_BYTES, Session, names};

pub use error::EbpfError;
use object::{array, check_preconditions, kernel_types, object, program, take_map};
use probes::Probe;
pub use probes::Returns;
pub(crate) use recorder::Kernel;
pub use ring::RingView;

use crate::resume::gate;

/// Longest wait for a record that another thread is just writing. It takes that thread well under
/// a microsecond, unless the machine takes its processor away.
const MAX_BUSY: Duration = Duration::from_millis(100);

/// A [`Session`] as a constant of the programs. (`aya::Pod` cannot be implemented here for a foreign type.)
type SessionWords = [u64; 2];

/// The eBPF recorder of this process.
pub struct Ebpf {
    programs: aya::Ebpf,
    records: RingBuf<MapData>,
    pages: ring::RingPages,
    guests: lent::LentMap<Guests>,
    known: lent::LentMap<[u64; KNOWN_SITES]>,
    counters: counters::CounterPage,
    /// Process id as the kernel knows it.
    process: u32,
    probes: Vec<Probe>,
    probes_loaded: bool,
    logger: Option<log::Logger>,
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

impl Ebpf {
    /// Loads the programs and lets them record what this process does to the arena of `session`.
    ///
    /// # Errors
    ///
    /// Whatever this host or process lacks, with its remedy.
    pub fn open(session: Session) -> Result<Ebpf, EbpfError> {
        check_preconditions()?;
        let process = std::process::id();
        let words = bytemuck::cast::<Session, SessionWords>(session);
        let types = kernel_types()?;
        let object = object()?;

        let level = log::level();
        let level_byte = level.map_or(0, |level| level as u8);
        let mut programs = EbpfLoader::new()
            .override_global(names::PROCESS, &process, true)
            .override_global(names::SESSION, &words, true)
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
        let guests = lent::LentMap::map(array(&mut programs, names::GUESTS)?)
            .map_err(|error| EbpfError::from_map(names::GUESTS, error.into()))?;
        let known = lent::LentMap::map(array(&mut programs, names::KNOWN)?)
            .map_err(|error| EbpfError::from_map(names::KNOWN, error.into()))?;
        let counters = counters::CounterPage::map(array(&mut programs, names::COUNTERS)?)
            .map_err(|error| EbpfError::from_map(names::COUNTERS, error.into()))?;

        let probes = Vec::new();
        let mut ebpf = Ebpf {
            programs,
            records,
            pages,
            guests,
            known,
            counters,
            process,
            probes,
            probes_loaded: false,
            logger,
        };
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
    pub fn guests(&self) -> *mut Guests {
        self.guests.value()
    }

    /// The table of listed sites, which the programs read: words of [`tracer_ebpf::KnownSite`], or
    /// 0. Stays mapped for good.
    pub fn known(&self) -> *mut [u64; KNOWN_SITES] {
        self.known.value()
    }

    /// Totals of this process since [`Ebpf::open`].
    pub fn counters(&self) -> Counters {
        self.counters.read()
    }
}

impl Drop for Ebpf {
    fn drop(&mut self) {
        // The others detach as their links drop with `self.programs`.
        self.unprobe();
    }
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
    fn constants_have_the_size_of_their_types() {
        assert_eq!(size_of::<SessionWords>(), size_of::<Session>());
    }
}
