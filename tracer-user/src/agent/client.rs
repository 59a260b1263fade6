//! The client's end: a process that asks an agent to record for it.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    sockopt::{self, Timeout},
};
use tracer_ebpf::{LAYOUT_VERSION, Session};

use super::{
    channel::{self, Packet},
    protocol::{self, PROTOCOL, Refusal, Reply, Request},
};
use crate::backend::ebpf::{Returns, SessionFiles, Target};

/// How long an agent may take for an answer. It makes and ends sessions one after the other, and each
/// time the kernel has it wait for some tenths of a second: with a hundred clients at once that adds up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why an agent is of no help. Each message says what would mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Nobody listens there.
    #[error(
        "no agent at {} ({source}): start one with `sudo ffitrace agent`, or its service with \
         `sudo systemctl start ffitrace-agent.socket`", .path.display()
    )]
    Absent {
        /// The socket.
        path: PathBuf,
        /// What connecting said.
        source: io::Error,
    },
    /// The socket is not for this user.
    #[error(
        "the agent at {} may not be used by this user: its administrator can add you to the \
         socket's group, or set another mode with `ffitrace agent --mode`", .path.display()
    )]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The connection broke.
    #[error(
        "the agent has gone away in the middle of the conversation: look at its log, and try again"
    )]
    Gone,
    /// The agent does not answer.
    #[error("the agent did not answer within {} s: look at its log (`journalctl -u ffitrace-agent`)", PATIENCE.as_secs())]
    Silent,
    /// A system call on the socket failed.
    #[error("the connection to the agent failed: {0}")]
    Socket(io::Error),
    /// The agent said something that this version does not understand.
    #[error(
        "the agent's answer is not understood ({0}): install the same version of ffitrace for both"
    )]
    Answer(String),
    /// The agent said no.
    #[error("{}{message}", if *.why == Refusal::Host { "" } else { "the agent refused: " })]
    Refused {
        /// Which kind of reason.
        why: Refusal,
        /// The reason.
        message: String,
    },
}

/// A connection to an agent.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

impl Connection {
    /// Connects to the agent that listens at `path`.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn to(path: &Path) -> Result<Connection, AgentError> {
        let address =
            SocketAddrUnix::new(path).map_err(|error| AgentError::Socket(error.into()))?;
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|error| AgentError::Socket(error.into()))?;
        connect(&socket, &address).map_err(|error| match error {
            rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => AgentError::Denied {
                path: path.to_owned(),
            },
            other => AgentError::Absent {
                path: path.to_owned(),
                source: other.into(),
            },
        })?;
        Connection::over(socket)
    }

    /// Uses a connected socket that keeps packets apart.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn over(socket: OwnedFd) -> Result<Connection, AgentError> {
        sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))
            .and_then(|()| sockopt::set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE)))
            .map_err(|error| AgentError::Socket(error.into()))?;
        let connection = Connection { socket };
        let hello = Request::Hello {
            protocol: PROTOCOL,
            layout: LAYOUT_VERSION,
        };
        match connection.ask(&hello, &[])?.0 {
            Reply::Welcome { .. } => Ok(connection),
            other => Err(unexpected(other)),
        }
    }

    /// What the agent is doing.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn status(&self) -> Result<Reply, AgentError> {
        match self.ask(&Request::Status, &[])?.0 {
            status @ Reply::Status { .. } => Ok(status),
            other => Err(unexpected(other)),
        }
    }

    /// The socket, for who outlives this process: the agent says there how the session ended.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether the agent has gone away, as far as it is known without asking.
    pub(crate) fn is_gone(&self) -> bool {
        let mut ends = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut ends, Some(&now)).is_ok()
            && ends[0]
                .revents()
                .intersects(PollFlags::HUP | PollFlags::ERR)
    }

    pub(crate) fn open(
        &self,
        arena: Session,
        marker: u64,
        ring_bytes: u32,
    ) -> Result<SessionFiles, AgentError> {
        let request = Request::Open {
            arena_base: arena.arena_base,
            arena_len: arena.arena_len,
            marker,
            ring_bytes,
        };
        let (reply, files) = self.ask(&request, &[])?;
        let (Reply::Opened { ring_bytes }, Ok([ring, shared])) =
            (&reply, <[OwnedFd; 2]>::try_from(files))
        else {
            return Err(unexpected(reply));
        };
        Ok(SessionFiles {
            ring,
            ring_bytes: *ring_bytes,
            shared,
        })
    }

    pub(crate) fn probe(&self, target: &Target<'_>) -> Result<(), AgentError> {
        // By its number: it is what the agent knows this process by.
        let maps = format!("/proc/{}/maps", std::process::id());
        let maps = File::open(maps).map_err(AgentError::Socket)?;
        let request = Request::Probe {
            file_offset: target.file_offset,
            name: target.name.to_owned(),
            cookie: target.cookie,
            returns: target.returns == Returns::Seen,
        };
        self.done(&request, &[target.file.as_fd(), maps.as_fd()])
    }

    pub(crate) fn unprobe(&self) -> Result<(), AgentError> {
        self.done(&Request::Unprobe, &[])
    }

    pub(crate) fn close(&self) -> Result<(), AgentError> {
        self.done(&Request::Close, &[])
    }

    fn done(&self, request: &Request, files: &[BorrowedFd<'_>]) -> Result<(), AgentError> {
        match self.ask(request, files)?.0 {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn ask(
        &self,
        request: &Request,
        files: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), AgentError> {
        let bytes =
            serde_json::to_vec(request).map_err(|error| AgentError::Answer(error.to_string()))?;
        channel::send(&self.socket, &bytes, files).map_err(of_io)?;
        let Packet { bytes, files, .. } = self.receive()?.ok_or(AgentError::Gone)?;
        match protocol::parse(&bytes).map_err(AgentError::Answer)? {
            Reply::Refused { why, message } => Err(AgentError::Refused { why, message }),
            reply => Ok((reply, files)),
        }
    }

    fn receive(&self) -> Result<Option<Packet>, AgentError> {
        loop {
            match channel::receive(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(of_io),
            }
        }
    }
}

/// What the agent said at the end of a session, on a copy of its connection: call it when the session's
/// process has ended, from one that had the socket too. None where it said nothing in time.
pub fn last_words(socket: &OwnedFd, patience: Duration) -> Option<super::Evidence> {
    sockopt::set_socket_timeout(socket, Timeout::Recv, Some(patience)).ok()?;
    // Answers to requests that the process did not live to see come first.
    for _ in 0..16 {
        let packet = channel::receive(socket).ok()??;
        if let Ok(Reply::Ended(evidence)) = protocol::parse(&packet.bytes) {
            return Some(evidence);
        }
    }
    None
}

fn of_io(error: io::Error) -> AgentError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AgentError::Silent,
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::NotConnected => AgentError::Gone,
        _ => AgentError::Socket(error),
    }
}

fn unexpected(reply: Reply) -> AgentError {
    AgentError::Answer(format!("{reply:?}"))
}
