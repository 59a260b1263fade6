//! The privileged part: the loaded programs, and the sessions that they record for.
//!
//! ```text
//!  load ──► object ──► maps, programs verified once
//!  open ──► ring and shared pages of a session ─► its slot ─► window ─► attached, if the first
//!           ─► JOINING[process]      first access of the process ─► MEMORIES[its memory]
//!  close ─► forgotten ─► slot given back ─► detached, if the last
//! ```
//! One set of programs serves any number of sessions, so a host pays for them once. All of it
//! detaches when this is dropped, or the process ends.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::EbpfLoader;
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError};
use aya::programs::BtfTracePoint;
use aya::programs::tp_btf::BtfTracePointLinkId;
use aya_obj::generated::bpf_map_type;
use tracer_ebpf::{
    MAX_SESSIONS, MIN_RING_BYTES, PAGE_BYTES, Session, Shared, Traced, Window, names,
};

use super::error::EbpfError;
use super::log;
use super::object::{check_preconditions, kernel_types, member_of_task, object, program, take_map};
use super::probes::Probe;

/// [`Traced`] and [`Window`] as aya wants map values. (`aya::Pod` cannot be implemented here for
/// a foreign type.)
type TracedWords = [u64; 4];
type WindowWords = [u64; 2];

const FAULTS: [&str; 2] = [names::PAGE_FAULT_USER, names::PAGE_FAULT_KERNEL];

/// What a session's process maps.
#[derive(Debug)]
pub(crate) struct SessionFiles {
    /// Its ring buffer.
    pub(crate) ring: OwnedFd,
    /// Size of the ring in bytes.
    pub(crate) ring_bytes: u32,
    /// Its array of one [`Shared`].
    pub(crate) shared: OwnedFd,
}

/// A session that the programs record for.
struct Open {
    traced: Traced,
    probes: Vec<Probe>,
}

/// See the module.
pub(crate) struct Programs {
    /// Declared first: programs detach before the maps go.
    object: aya::Ebpf,
    links: Vec<(&'static str, BtfTracePointLinkId)>,
    rings: Maps,
    shared: Maps,
    joining: HashMap<MapData, u32, TracedWords>,
    memories: HashMap<MapData, u64, TracedWords>,
    window: Array<MapData, WindowWords>,
    /// What a free slot holds, so that it keeps no session's memory.
    nothing: (MapData, MapData),
    sessions: Vec<Option<Open>>,
    probes_loaded: bool,
    logger: Option<log::Logger>,
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Programs")
            .field("sessions", &self.sessions.iter().flatten().count())
            .field("attached", &!self.links.is_empty())
            .finish_non_exhaustive()
    }
}

impl Programs {
    /// Loads the programs, and attaches none of them.
    ///
    /// # Errors
    /// Whatever this host or process lacks, with its remedy.
    pub(crate) fn load() -> Result<Programs, EbpfError> {
        check_preconditions()?;
        let types = kernel_types()?;
        let mm_offset = member_of_task("mm")?;
        let bytes = object()?;
        let level = log::level();
        let level_byte = level.map_or(0, |level| level as u8);
        let mut object = EbpfLoader::new()
            .override_global(names::MM_OFFSET, &mm_offset, true)
            .override_global(aya_log::LEVEL, &level_byte, false)
            .load(&bytes)
            .map_err(EbpfError::from_open)?;
        let logger = match level {
            Some(_) => log::Logger::init_with_logger(&mut object, log::ToTracing)
                .inspect_err(|error| tracing::warn!("no log lines of the eBPF programs: {error}"))
                .ok(),
            None => None,
        };
        for name in FAULTS {
            let program: &mut BtfTracePoint = program(&mut object, name)?;
            program
                .load(name, &types)
                .map_err(|error| EbpfError::from_load(name, error))?;
        }
        Ok(Programs {
            rings: take(&mut object, names::RINGS)?,
            shared: take(&mut object, names::SHARED)?,
            joining: take(&mut object, names::JOINING)?,
            memories: take(&mut object, names::MEMORIES)?,
            window: take(&mut object, names::WINDOW)?,
            nothing: (new_ring(PAGE_BYTES as u32)?, new_shared()?),
            object,
            links: Vec::new(),
            sessions: Vec::new(),
            probes_loaded: false,
            logger,
        })
    }

    /// Records from now on what the process with this id, as the kernel knows it, does to the arena
    /// of `session`. `marker` is the address of [`Traced::marker`], `ring_bytes`
    /// the size of its ring: a power of two from [`MIN_RING_BYTES`] on.
    ///
    /// # Errors
    /// [`EbpfError::Sessions`] where there are too many, and what the kernel refuses.
    pub(crate) fn open(
        &mut self,
        process: u32,
        session: Session,
        marker: u64,
        ring_bytes: u32,
    ) -> Result<(u32, SessionFiles), EbpfError> {
        debug_assert!(ring_bytes.is_power_of_two() && ring_bytes >= MIN_RING_BYTES);
        let ring = new_ring(ring_bytes)?;
        let shared = new_shared()?;
        let files = SessionFiles {
            ring: descriptor(&ring, names::RINGS)?,
            ring_bytes,
            shared: descriptor(&shared, names::SHARED)?,
        };
        let free = self.sessions.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.sessions.len());
        if slot == MAX_SESSIONS {
            return Err(EbpfError::Sessions);
        }
        let traced = Traced {
            session,
            marker,
            slot: slot as u32,
            process,
        };
        // A process that was joining while its session was closed may have come after the sweep.
        self.forget_memories(traced.slot);
        fill(
            &mut self.rings,
            &mut self.shared,
            traced.slot,
            (&ring, &shared),
        )?;
        let open = Open {
            traced,
            probes: Vec::new(),
        };
        match self.sessions.get_mut(slot) {
            Some(place) => *place = Some(open),
            None => self.sessions.push(Some(open)),
        }
        let begun = self.begin(&traced);
        if begun.is_err() {
            self.close(traced.slot);
        }
        begun.map(|()| (traced.slot, files))
    }

    fn begin(&mut self, traced: &Traced) -> Result<(), EbpfError> {
        self.set_window()?;
        self.attach()?;
        self.joining
            .insert(
                traced.process,
                bytemuck::cast::<Traced, TracedWords>(*traced),
                0,
            )
            .map_err(|error| EbpfError::from_map(names::JOINING, error))
    }

    /// Ends a session: nothing is recorded for it any more, and its memory goes when the process
    /// unmaps it. Detaches the programs with the last one.
    pub(crate) fn close(&mut self, slot: u32) {
        let Some(open) = self.sessions.get_mut(slot as usize).and_then(Option::take) else {
            return;
        };
        for probe in open.probes {
            self.detach_probe(probe);
        }
        // Not there once the process has joined.
        let _ = self.joining.remove(&open.traced.process);
        self.forget_memories(slot);
        if self.sessions.iter().all(Option::is_none) {
            self.detach();
        }
        let done = self.set_window().and_then(|()| {
            let Programs {
                rings,
                shared,
                nothing,
                ..
            } = self;
            fill(rings, shared, slot, (&nothing.0, &nothing.1))
        });
        if let Err(error) = done {
            tracing::warn!("a session's slot is not cleared: {error}");
        }
    }

    /// Whether the process has a session.
    pub(crate) fn has(&self, process: u32) -> bool {
        let mut open = self.sessions.iter().flatten();
        open.any(|open| open.traced.process == process)
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.iter().flatten().count()
    }

    /// Writes out what the programs have logged.
    pub(crate) fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// The loaded object, and whether its probes are loaded.
    pub(super) fn object(&mut self) -> (&mut aya::Ebpf, &mut bool) {
        (&mut self.object, &mut self.probes_loaded)
    }

    /// The process and the probes of a session.
    pub(super) fn session(&mut self, slot: u32) -> Option<(u32, &mut Vec<Probe>)> {
        let open = self.sessions.get_mut(slot as usize)?.as_mut()?;
        Some((open.traced.process, &mut open.probes))
    }

    fn forget_memories(&mut self, slot: u32) {
        let of_slot =
            |words: TracedWords| bytemuck::cast::<TracedWords, Traced>(words).slot == slot;
        let entries = self.memories.iter().filter_map(Result::ok);
        let memories: Vec<u64> = entries
            .filter(|(_, words)| of_slot(*words))
            .map(|(memory, _)| memory)
            .collect();
        for memory in memories {
            let _ = self.memories.remove(&memory);
        }
    }

    /// Makes the window as wide as the arenas of all sessions.
    fn set_window(&mut self) -> Result<(), EbpfError> {
        let arenas = || {
            self.sessions
                .iter()
                .flatten()
                .map(|open| open.traced.session)
        };
        let low = arenas().map(|arena| arena.arena_base).min();
        let high = arenas()
            .map(|arena| arena.arena_base + arena.arena_len)
            .max();
        let window = Window {
            low: low.unwrap_or(0),
            high: high.unwrap_or(0),
        };
        self.window
            .set(0, bytemuck::cast::<Window, WindowWords>(window), 0)
            .map_err(|error| EbpfError::from_map(names::WINDOW, error))
    }

    fn attach(&mut self) -> Result<(), EbpfError> {
        if !self.links.is_empty() {
            return Ok(());
        }
        for name in FAULTS {
            let program: &mut BtfTracePoint = program(&mut self.object, name)?;
            let link = program
                .attach()
                .map_err(|error| EbpfError::from_attach(name, error))?;
            self.links.push((name, link));
        }
        Ok(())
    }

    fn detach(&mut self) {
        for (name, link) in std::mem::take(&mut self.links) {
            let Ok(program) = program::<BtfTracePoint>(&mut self.object, name) else {
                continue;
            };
            if let Err(error) = program.detach(link) {
                tracing::warn!("the program {name} is not detached: {error}");
            }
        }
    }
}

type Maps = ArrayOfMaps<MapData, MapData>;

/// Gives a slot its ring and its shared pages.
fn fill(
    rings: &mut Maps,
    shared: &mut Maps,
    slot: u32,
    maps: (&MapData, &MapData),
) -> Result<(), EbpfError> {
    rings
        .set(slot, maps.0, 0)
        .map_err(|error| EbpfError::from_map(names::RINGS, error))?;
    shared
        .set(slot, maps.1, 0)
        .map_err(|error| EbpfError::from_map(names::SHARED, error))
}

fn take<M: TryFrom<Map, Error = MapError>>(
    object: &mut aya::Ebpf,
    name: &'static str,
) -> Result<M, EbpfError> {
    M::try_from(take_map(object, name)?).map_err(|error| EbpfError::from_map(name, error))
}

fn new_ring(bytes: u32) -> Result<MapData, EbpfError> {
    let kind = bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32;
    new_map(
        "ffitrace_ring",
        aya_obj::Map::new_from_params(kind, 0, 0, bytes, 0),
    )
}

fn new_shared() -> Result<MapData, EbpfError> {
    let kind = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    let value = size_of::<Shared>() as u32;
    let map = aya_obj::Map::new_from_params(kind, 4, value, 1, tracer_ebpf::MAPPABLE);
    new_map("ffitrace_shared", map)
}

fn new_map(name: &str, map: aya_obj::Map) -> Result<MapData, EbpfError> {
    MapData::create(map, name, None).map_err(EbpfError::from_new_map)
}

fn descriptor(map: &MapData, name: &'static str) -> Result<OwnedFd, EbpfError> {
    let copy = map.fd().as_fd().try_clone_to_owned();
    copy.map_err(|error| EbpfError::from_map(name, MapError::IoError(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_size_of_their_types() {
        assert_eq!(size_of::<TracedWords>(), size_of::<Traced>());
        assert_eq!(size_of::<WindowWords>(), size_of::<Window>());
    }
}
