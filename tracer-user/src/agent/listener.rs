//! The socket that clients connect to: made here, or by a service manager.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::Mode,
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
        sockopt,
    },
};

use super::ready;
use crate::backend::ebpf::EbpfError;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;

/// Why an agent does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The socket could not be made.
    #[error("cannot listen at {} ({source}): {remedy}", .path.display())]
    Listen {
        /// Its path.
        path: PathBuf,
        /// What would mend it.
        remedy: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another agent listens there.
    #[error("an agent listens at {} already: stop it first, or choose another --socket", .path.display())]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// The programs do not load.
    #[error(transparent)]
    Programs(#[from] EbpfError),
    /// The event loop failed.
    #[error("the agent's event loop failed: {0}")]
    Loop(#[from] io::Error),
}

/// A socket that clients connect to.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: OwnedFd,
    /// To be removed in the end, where this process made it.
    path: Option<PathBuf>,
}

impl Listener {
    /// Listens at a new socket with these permissions. One that a dead agent left is replaced.
    ///
    /// # Errors
    /// [`ServeError::Taken`] where somebody listens there, and what the system says.
    pub fn bind(path: &Path, mode: u32) -> Result<Listener, ServeError> {
        let failed = |error: Errno| ServeError::Listen {
            path: path.to_owned(),
            remedy: match error {
                Errno::NOENT => "make its directory first, or choose another --socket",
                Errno::ACCESS | Errno::PERM | Errno::ROFS => {
                    "run the agent as root, or choose another --socket"
                }
                _ => "choose another --socket",
            },
            source: error.into(),
        };
        let address = SocketAddrUnix::new(path).map_err(failed)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let make = || socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| {
            use std::os::unix::fs::FileTypeExt as _;
            found.file_type().is_socket()
        });
        if is_socket {
            match connect(make().map_err(failed)?, &address) {
                Err(Errno::CONNREFUSED) => {
                    let _ = std::fs::remove_file(path);
                }
                _ => {
                    return Err(ServeError::Taken {
                        path: path.to_owned(),
                    });
                }
            }
        }
        let socket = make().map_err(failed)?;
        // Nobody may connect before the mode is set.
        let umask = rustix::process::umask(Mode::from_raw_mode(0o777));
        let bound = bind(&socket, &address);
        rustix::process::umask(umask);
        bound.map_err(failed)?;
        let listener = Listener {
            socket,
            path: Some(path.to_owned()),
        };
        rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(failed)?;
        listen(&listener.socket, BACKLOG).map_err(failed)?;
        Ok(listener)
    }

    /// The listening socket of the service manager, if it started this process with one (sd_listen_fds(3)).
    /// Call it once.
    ///
    /// # Errors
    /// Where it is none that keeps packets apart.
    pub fn from_service_manager() -> Option<io::Result<Listener>> {
        ready::inherited().map(Listener::over)
    }

    /// Whether this process made the socket, and not who started it.
    pub(super) fn is_own(&self) -> bool {
        self.path.is_some()
    }

    /// Where this process is to remove the socket from.
    pub(super) fn directory(&self) -> &Path {
        let path = self.path.as_deref();
        path.and_then(Path::parent).unwrap_or(Path::new("/nowhere"))
    }

    fn over(socket: OwnedFd) -> io::Result<Listener> {
        if sockopt::socket_type(&socket)? != SocketType::SEQPACKET {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the inherited socket is not of type SOCK_SEQPACKET (ListenSequentialPacket=)",
            ));
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Listener { socket, path: None })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}
