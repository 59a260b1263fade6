//! What an agent does about a request: checks, limits, sessions. No sockets here.
//!
//! ```text
//!  Open  ─► arena sound? limits of the user? ─► Programs::open ─► a session of the sender
//!  Probe ─► session of the sender? does it execute that file?  ─► Programs::probe
//! ```

use std::{collections::HashMap, fs::File, os::fd::OwnedFd};

use tracer_ebpf::{LAYOUT_VERSION, MIN_RING_BYTES, SEGMENT_SIZE, Session, Shared};

use super::{
    evidence::Evidence,
    limits::Limits,
    peer::Peer,
    protocol::{PROTOCOL, Refusal, Reply, Request},
};
use crate::backend::ebpf::{EbpfError, Programs, Returns, SessionFiles, Target};
use crate::views::APART;

/// First address that no process has with four levels of page tables.
const ADDRESSES: u64 = 1 << 47;

/// An open session.
pub(super) struct Served {
    slot: u32,
    peer: Peer,
    files: SessionFiles,
}

/// The answer to a request.
pub(super) struct Answer {
    pub(super) reply: Reply,
    /// Descriptors that go with it.
    pub(super) files: Vec<OwnedFd>,
    /// A session that begins with it.
    pub(super) opened: Option<Served>,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        Answer {
            reply,
            files: Vec::new(),
            opened: None,
        }
    }
}

/// What one user has.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    sessions: usize,
    memory: u64,
}

type Refused = (Refusal, String);

/// See the module.
pub(super) struct Service {
    /// Or why there are none.
    programs: Result<Programs, EbpfError>,
    limits: Limits,
    users: HashMap<u32, Usage>,
    stopping: bool,
}

impl Service {
    /// With these programs, which are attached while there are sessions, or with the reason why there are
    /// none, which who asks for a session is told.
    pub(super) fn new(programs: Result<Programs, EbpfError>, limits: Limits) -> Service {
        Service {
            programs,
            limits,
            users: HashMap::new(),
            stopping: false,
        }
    }

    fn programs(&mut self) -> Result<&mut Programs, Refused> {
        let programs = self.programs.as_mut();
        programs.map_err(|error| (Refusal::Host, error.to_string()))
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Other limits, for what is asked for from now on.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Refuses new sessions from now on.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// How many sessions there are.
    pub(super) fn sessions(&self) -> usize {
        self.programs.as_ref().map_or(0, Programs::sessions)
    }

    /// Answers a greeting, which says whether client and agent understand each other.
    pub(super) fn greet(&self, request: &Request) -> Reply {
        match *request {
            Request::Hello {
                protocol: PROTOCOL,
                layout: LAYOUT_VERSION,
            } => Reply::Welcome {
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            Request::Hello { protocol, layout } => refused((
                Refusal::Protocol,
                format!(
                    "the client speaks protocol {protocol} with records of layout {layout}, this agent \
                     {PROTOCOL} with layout {LAYOUT_VERSION}: install the same version of ffitrace for both"
                ),
            )),
            _ => refused((
                Refusal::Protocol,
                "the first message has to be `hello`".to_owned(),
            )),
        }
    }

    /// Answers a request of `peer`, who has `session`, if any.
    pub(super) fn answer(
        &mut self,
        peer: Peer,
        session: Option<&Served>,
        request: Request,
        files: Vec<OwnedFd>,
    ) -> Answer {
        let own = session.is_none_or(|session| session.peer.process == peer.process);
        if !own && !matches!(request, Request::Status) {
            return refused((
                Refusal::Permission,
                "the session on this connection is another process's".to_owned(),
            ))
            .into();
        }
        let done = match (request, session) {
            (Request::Hello { .. }, _) => {
                Err((Refusal::Protocol, "`hello` was said before".to_owned()))
            }
            (Request::Status, _) => Ok(self.status(peer).into()),
            (Request::Open { .. }, Some(_)) => Err((
                Refusal::Protocol,
                "this connection has a session already: close it first".to_owned(),
            )),
            (
                Request::Open {
                    arena_base,
                    arena_len,
                    marker,
                    ring_bytes,
                },
                None,
            ) => {
                let arena = Session {
                    arena_base,
                    arena_len,
                };
                self.open(peer, arena, marker, ring_bytes)
            }
            (
                Request::Probe {
                    file_offset,
                    name,
                    cookie,
                    returns,
                },
                Some(session),
            ) => {
                let returns = if returns {
                    Returns::Seen
                } else {
                    Returns::Unseen
                };
                self.probe(session, files, file_offset, &name, cookie, returns)
            }
            (Request::Unprobe, Some(session)) => self.programs().map(|programs| {
                programs.unprobe(session.slot);
                Reply::Done.into()
            }),
            // Also where there is none.
            (Request::Close, _) => Ok(Reply::Done.into()),
            (Request::Probe { .. } | Request::Unprobe, None) => Err((
                Refusal::Protocol,
                "this connection has no session: `open` one first".to_owned(),
            )),
        };
        done.unwrap_or_else(|why| refused(why).into())
    }

    fn status(&self, peer: Peer) -> Reply {
        let sessions = self.sessions();
        Reply::Status {
            sessions,
            own_sessions: self.users.get(&peer.user).map_or(0, |usage| usage.sessions),
            attached: sessions > 0,
        }
    }

    fn open(
        &mut self,
        peer: Peer,
        arena: Session,
        marker: u64,
        ring_bytes: u32,
    ) -> Result<Answer, Refused> {
        if self.stopping {
            return Err((
                Refusal::Stopping,
                "the agent is ending: try again in a moment".to_owned(),
            ));
        }
        self.check_arena(arena)?;
        let ring_bytes = ring_bytes
            .min(self.limits.ring_bytes)
            .max(MIN_RING_BYTES)
            .next_power_of_two();
        let memory = memory(ring_bytes);
        let usage = self.users.get(&peer.user).copied().unwrap_or_default();
        let limit = |name: &str, value: String| {
            let why = format!(
                "the agent's limit `{name}` is {value}: end other sessions, or have it raised \
                 in the agent's configuration"
            );
            Err((Refusal::Limit, why))
        };
        if self.sessions() >= self.limits.sessions {
            return limit("sessions", self.limits.sessions.to_string());
        }
        if usage.sessions >= self.limits.sessions_per_user {
            return limit(
                "sessions_per_user",
                self.limits.sessions_per_user.to_string(),
            );
        }
        if usage.memory + memory > self.limits.memory_per_user {
            return limit(
                "memory_per_user",
                format!("{} bytes", self.limits.memory_per_user),
            );
        }
        if self.programs()?.has(peer.id()) {
            return Err((
                Refusal::Limit,
                "this process has a session already, on another connection: end that one first"
                    .to_owned(),
            ));
        }
        let opened = self.programs()?.open(peer.id(), arena, marker, ring_bytes);
        let (slot, files) = opened.map_err(|error| (Refusal::Host, error.to_string()))?;
        let usage = self.users.entry(peer.user).or_default();
        usage.sessions += 1;
        usage.memory += memory;
        let session = Served { slot, peer, files };
        let copy = |file: &OwnedFd| {
            let copy = file.try_clone();
            copy.map_err(|error| {
                (
                    Refusal::Host,
                    format!("no descriptor for the session: {error}"),
                )
            })
        };
        match copy(&session.files.ring)
            .and_then(|ring| Ok(vec![ring, copy(&session.files.shared)?]))
        {
            Ok(files) => Ok(Answer {
                reply: Reply::Opened { ring_bytes },
                files,
                opened: Some(session),
            }),
            Err(why) => {
                self.close(session, false);
                Err(why)
            }
        }
    }

    fn check_arena(&self, arena: Session) -> Result<(), Refused> {
        let Session {
            arena_base,
            arena_len,
        } = arena;
        let pair = 2 * SEGMENT_SIZE;
        let end = arena_base.checked_add(arena_len);
        let whole =
            arena_base.is_multiple_of(pair) && arena_len.is_multiple_of(pair) && arena_len > 0;
        if !whole || end.is_none_or(|end| end > ADDRESSES) {
            return Err((
                Refusal::Protocol,
                format!(
                    "{arena_len:#x} bytes at {arena_base:#x} are no arena: pairs of segments of 1 GiB"
                ),
            ));
        }
        let apart = arena_base >= APART.start && end.is_some_and(|end| end <= APART.end);
        if !apart && !self.limits.arenas_anywhere {
            return Err((
                Refusal::Limit,
                format!(
                    "the agent's limit `arenas_anywhere` is false, and an arena at {arena_base:#x} would \
                     slow down the page faults of other processes: have it raised, or lift the \
                     limit on this process's address space (`ulimit -v`)"
                ),
            ));
        }
        if arena_len > self.limits.arena_bytes {
            return Err((
                Refusal::Limit,
                format!(
                    "the agent's limit `arena_bytes` is {} bytes",
                    self.limits.arena_bytes
                ),
            ));
        }
        Ok(())
    }

    fn probe(
        &mut self,
        session: &Served,
        files: Vec<OwnedFd>,
        file_offset: u64,
        name: &str,
        cookie: u64,
        returns: Returns,
    ) -> Result<Answer, Refused> {
        let Ok([file, maps]) = <[OwnedFd; 2]>::try_from(files) else {
            let why = "`probe` comes with the descriptors of the library and of /proc/self/maps";
            return Err((Refusal::Protocol, why.to_owned()));
        };
        let file = File::from(file);
        let limit = self.limits.probes_per_session;
        if self.programs()?.probes(session.slot) >= limit {
            return Err((
                Refusal::Limit,
                format!("the agent's limit `probes_per_session` is {limit}"),
            ));
        }
        match session.peer.executes(&file, File::from(maps)) {
            Ok(true) => {}
            Ok(false) => {
                return Err((
                    Refusal::Permission,
                    format!(
                        "`{name}` is not marked: its file is no code that this process has mapped"
                    ),
                ));
            }
            Err(error) => return Err((Refusal::Host, format!("`{name}` is not marked: {error}"))),
        }
        let target = Target {
            file: &file,
            file_offset,
            name,
            cookie,
            returns,
        };
        let done = self.programs()?.probe(session.slot, &target);
        done.map_err(|error| (Refusal::Host, error.to_string()))?;
        Ok(Reply::Done.into())
    }

    /// Ends a session, and says what its process had not read, if that was `killed`.
    pub(super) fn close(&mut self, session: Served, killed: bool) -> Option<Evidence> {
        if let Ok(programs) = &mut self.programs {
            programs.close(session.slot);
        }
        if let Some(usage) = self.users.get_mut(&session.peer.user) {
            usage.sessions -= 1;
            usage.memory -= memory(session.files.ring_bytes);
            if usage.sessions == 0 {
                self.users.remove(&session.peer.user);
            }
        }
        if !killed {
            return None;
        }
        Evidence::of(&session.files)
            .inspect_err(|error| {
                tracing::warn!("the records of a killed process cannot be read: {error}")
            })
            .ok()
    }
}

/// Memory of the kernel for a session, in bytes.
fn memory(ring_bytes: u32) -> u64 {
    u64::from(ring_bytes) + size_of::<Shared>() as u64
}

fn refused((why, message): Refused) -> Reply {
    Reply::Refused { why, message }
}
