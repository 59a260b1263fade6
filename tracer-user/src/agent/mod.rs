//! The eBPF recorder for processes that may not load programs: one that may serves them.
//!
//! ```text
//!  interpreter, no privileges                 agent: root, or the parent half of a sudo session
//!  ──────────────────────────                 ────────────────────────────────────────────────
//!  client.rs   Open: arena ──────────────►    who sent this? the kernel says   peer.rs
//!              ring, shared pages ◄──────     limits; session of that process  service.rs, limits.rs
//!  maps them, reads its ring itself           waits for its end                connection.rs
//!  Probe: file, offset ──────────────────►    is it mapped there? probed
//!              (killed)                       what it had not read             evidence.rs
//!                 its parent ◄── Ended ──     session closed
//! ```
//! A packet is a message (`protocol.rs`), and carries the credentials of its sender
//! (`channel.rs`): a session is always that of the process that asked for it, a process sees no ring
//! but its own, and nothing that it sends names another.

mod channel;
mod client;
mod connection;
mod evidence;
mod limits;
mod listener;
mod peer;
mod protocol;
mod ready;
mod server;
mod service;

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

pub use channel::{hand_over, pair, take_over};
pub use client::{AgentError, Connection, last_words};
pub use evidence::{Evidence, LastAccess};
pub use limits::Limits;
pub use listener::{Listener, ServeError};
pub use protocol::{Refusal, Reply, Request};
pub use server::{Server, serve_child};

/// Where an agent listens if nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/ffitrace/agent.sock";

/// Environment variable with the path of an agent's socket.
pub const SOCKET_VARIABLE: &str = "FFITRACE_AGENT";

/// How this process gets at the eBPF programs.
#[derive(Debug, Default)]
pub enum Access {
    /// By its own privileges; without, by the agent that [`SOCKET_VARIABLE`] names, or that
    /// listens at [`DEFAULT_SOCKET`].
    #[default]
    Auto,
    /// By the agent at this socket only.
    At(PathBuf),
    /// By the agent at the other end of this socket only.
    Connected(OwnedFd),
}

static ACCESS: Mutex<Access> = Mutex::new(Access::Auto);

/// Says how the next session of this process gets at the eBPF programs.
pub fn set_access(access: Access) {
    *ACCESS.lock().unwrap_or_else(PoisonError::into_inner) = access;
}

/// The connection to the agent that a session has to use; none where this process is to load the
/// programs itself. `privileged` says whether it could.
pub(crate) fn connection(privileged: bool) -> Result<Option<Connection>, AgentError> {
    let access = ACCESS.lock().unwrap_or_else(PoisonError::into_inner);
    match &*access {
        Access::Connected(socket) => {
            let socket = socket.try_clone().map_err(AgentError::Socket)?;
            Connection::over(socket).map(Some)
        }
        Access::At(path) => Connection::to(path).map(Some),
        Access::Auto if privileged => Ok(None),
        Access::Auto => match std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()) {
            Some(path) => Connection::to(Path::new(&path)).map(Some),
            None if !Path::new(DEFAULT_SOCKET).exists() => Ok(None),
            None => Connection::to(Path::new(DEFAULT_SOCKET)).map(Some),
        },
    }
}
