//! The agent's event loop: connections, ends of processes, its own end.
//!
//! ```text
//!  listener ─► connection ─► greeting in time? ─► requests, one after the other ─► service.rs
//!                │              └ no: closed          └ faster than allowed: waits
//!                └─ with a session: its process ends ─► records left ─► Ended ─► closed
//! ```
//! One thread does all. A connection waits for nobody but its own client: what a client does not
//! take of its answers is not kept but ends its connection.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use rustix::{
    fs::Mode,
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
        socket_with, sockopt,
    },
    process::Pid,
};
use tokio::{
    io::Interest,
    task::LocalSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    channel::{self, Packet},
    limits::Limits,
    peer::Peer,
    protocol::{self, Refusal, Reply, Request},
    ready::{self, Ready},
    service::{Answer, Served, Service},
};
use crate::{backend::ebpf::EbpfError, privileges};

/// How long a client may take for its greeting, and for taking an answer.
const MANNERS: Duration = Duration::from_secs(5);

/// How long a connection may be without a session.
const IDLE: Duration = Duration::from_secs(60);

/// How many seconds' worth of requests a connection may make at once.
const BURST: u32 = 10;

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
    socket: OwnedFd,
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

    /// Where this process is to remove the socket from.
    fn directory(&self) -> &Path {
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

/// An agent.
pub struct Server {
    service: Rc<RefCell<Service>>,
    connections: Rc<RefCell<HashMap<u32, usize>>>,
}

impl Server {
    /// Loads the programs.
    ///
    /// # Errors
    /// Whatever this host or process lacks, with its remedy.
    pub fn new(limits: Limits) -> Result<Server, ServeError> {
        let service = Service::new(limits).check()?;
        raise_descriptors();
        Ok(Server {
            service: Rc::new(RefCell::new(service)),
            connections: Rc::default(),
        })
    }

    /// Serves until SIGTERM or SIGINT, and then until the sessions that there are have ended, at most
    /// for `grace`. At SIGHUP `reload` gives other limits; sessions go on. `ready` is called
    /// when clients can connect. Where the kernel has Landlock, `files` and what else is in their
    /// directories are from then on the only ones that this process can open, but for the kernel's own.
    ///
    /// # Errors
    /// Where the event loop cannot be had.
    pub fn run(
        self,
        listener: &Listener,
        grace: Duration,
        files: &[&Path],
        mut reload: impl FnMut() -> Result<Limits, String>,
        ready: impl FnOnce(),
    ) -> Result<(), ServeError> {
        // A file that is changed is, more often than not, another one in its place.
        let around = files.iter().filter_map(|file| match file.parent()? {
            here if here.as_os_str().is_empty() => Some(Path::new(".")),
            directory => Some(directory),
        });
        let readable: Vec<&Path> = files.iter().copied().chain(around).collect();
        confine_to(&readable, &[listener.directory()]);
        let runtime = runtime()?;
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut hang_up = signal(SignalKind::hangup())?;
            let socket = ready::readable(listener.socket.try_clone()?)?;
            ready();
            loop {
                tokio::select! {
                    accepted = accept(&socket) => match accepted {
                        Ok(client) => self.welcome(client),
                        Err(error) => {
                            // Out of descriptors, most likely: those who are there go on.
                            tracing::warn!("a connection is not accepted: {error}");
                            sleep(Duration::from_millis(100)).await;
                        }
                    },
                    _ = hang_up.recv() => match reload() {
                        Ok(limits) => {
                            tracing::info!("reloaded: {limits:?}");
                            self.service.borrow_mut().set_limits(limits);
                        }
                        Err(error) => tracing::error!("the limits are as before: {error}"),
                    },
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                }
            }
            self.service.borrow_mut().stop();
            let sessions = self.service.borrow().sessions();
            tracing::info!("ending; sessions: {sessions}");
            let deadline = Instant::now() + grace;
            // Who comes now is told so. At a service manager's socket they wait for the next agent.
            let tells = listener.path.is_some();
            while self.service.borrow().sessions() > 0 && Instant::now() < deadline {
                tokio::select! {
                    () = sleep(Duration::from_millis(20)) => {}
                    Ok(client) = accept(&socket), if tells => self.welcome(client),
                    // Asked a second time, it does not wait.
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                }
            }
            Ok(())
        })
    }

    fn welcome(&self, client: OwnedFd) {
        let Ok(credentials) = sockopt::socket_peercred(&client) else {
            return;
        };
        let user = credentials.uid.as_raw();
        let mut connections = self.connections.borrow_mut();
        let count = connections.entry(user).or_default();
        let limit = self.service.borrow().limits().connections_per_user;
        if *count >= limit {
            let why = Reply::Refused {
                why: Refusal::Limit,
                message: format!("the agent's limit `connections_per_user` is {limit}"),
            };
            let _ = send_now(&client, &why, &[]);
            return;
        }
        *count += 1;
        let (service, connections) = (Rc::clone(&self.service), Rc::clone(&self.connections));
        tokio::task::spawn_local(async move {
            if let Err(error) = serve(client, &service).await {
                tracing::debug!(user, "a connection ended: {error}");
            }
            let mut connections = connections.borrow_mut();
            if let Some(count) = connections.get_mut(&user) {
                *count -= 1;
                if *count == 0 {
                    connections.remove(&user);
                }
            }
        });
    }
}

/// Serves one client over a connected socket, until it is gone or the process `child` has ended:
/// the privileged half of a session. What keeps the programs from loading is told to
/// the client when it asks for a session.
///
/// # Errors
/// Where the event loop cannot be had.
pub fn serve_child(socket: OwnedFd, child: Pid, limits: Limits) -> io::Result<()> {
    let service = RefCell::new(Service::new(limits));
    // Loaded by now, and nothing but these is looked at from here on.
    confine_to(&[], &[]);
    let runtime = runtime()?;
    runtime.block_on(async {
        let ended = rustix::process::pidfd_open(child, rustix::process::PidfdFlags::empty())?;
        let ended = ready::readable(ended)?;
        tokio::select! {
            done = serve(socket, &service) => done,
            _ = ended.readable() => Ok(()),
        }
    })
}

/// Lets this process have as many descriptors as it may: the usual 1024 are fewer than a few users'
/// connections, and a session takes five.
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit of descriptors is not raised: {error}");
    }
}

/// Takes from this process the right to open any files but the kernel's accounts of itself and `files`,
/// for reading, and what is in `directories`. Where the kernel cannot, that is as it was.
fn confine_to(files: &[&Path], directories: &[&Path]) {
    let kernels = [Path::new("/proc"), Path::new("/sys")];
    match privileges::confine(&[&kernels, files].concat(), directories) {
        Ok(confinement) => tracing::info!("files: {confinement}"),
        Err(error) => tracing::warn!("files are not confined: {error}"),
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

async fn accept(socket: &Ready) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket
        .async_io(Interest::READABLE, |socket| Ok(accept_with(socket, flags)?))
        .await
}

/// A session that is closed however its connection ends.
struct Held<'a> {
    service: &'a RefCell<Service>,
    session: Option<(Served, Ready)>,
}

impl Held<'_> {
    /// Closes the session; what is left of it, if its process was killed.
    fn close(&mut self, killed: bool) -> Option<super::Evidence> {
        let (session, _) = self.session.take()?;
        self.service.borrow_mut().close(session, killed)
    }

    /// Waits until the session's process ends, for ever if there is no session.
    async fn ended(&self) {
        match &self.session {
            Some((_, process)) => drop(process.readable().await),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.close(false);
    }
}

/// Talks to a client until it is gone.
async fn serve(client: OwnedFd, service: &RefCell<Service>) -> io::Result<()> {
    rustix::io::ioctl_fionbio(&client, true)?;
    channel::ask_for_senders(&client)?;
    let client = ready::both(client)?;
    let greeting = timeout(MANNERS, receive(&client)).await??;
    let Some(greeting) = greeting else {
        return Ok(());
    };
    let reply = match protocol::parse(&greeting.bytes) {
        Ok(request) => service.borrow().greet(&request),
        Err(message) => Reply::Refused {
            why: Refusal::Protocol,
            message,
        },
    };
    send(&client, &reply, &[]).await?;
    if !matches!(reply, Reply::Welcome { .. }) {
        return Ok(());
    }
    let mut held = Held {
        service,
        session: None,
    };
    let mut pace = Pace::new();
    let mut idle_since = Instant::now();
    loop {
        let packet = tokio::select! {
            biased;
            () = held.ended() => {
                if let Some(evidence) = held.close(true) {
                    if !evidence.is_empty() {
                        tracing::info!(
                            "a process ended in the middle of its session: {} accesses recorded, {} \
                             records not read", evidence.emitted, evidence.unread
                        );
                    }
                    // Whoever else has the client's end, a parent, may want to know.
                    let _ = send_now(client.get_ref(), &Reply::Ended(evidence), &[]);
                }
                return Ok(());
            }
            packet = receive(&client) => packet?,
            () = sleep_until(idle_since + IDLE), if held.session.is_none() => {
                return Err(io::ErrorKind::TimedOut.into());
            }
        };
        let Some(packet) = packet else {
            return Ok(());
        };
        let per_second = service.borrow().limits().requests_per_second;
        pace.wait(per_second).await;
        let (request, peer) = match (protocol::parse::<Request>(&packet.bytes), packet.sender) {
            (Ok(request), Some(sender)) => (request, Peer::from(sender)),
            (Err(message), _) => {
                let refused = Reply::Refused {
                    why: Refusal::Protocol,
                    message,
                };
                return send(&client, &refused, &[]).await;
            }
            (_, None) => return Err(io::ErrorKind::InvalidData.into()),
        };
        let closing = matches!(request, Request::Close);
        let session = held.session.as_ref().map(|(session, _)| session);
        let Answer {
            reply,
            files,
            opened,
        } = service
            .borrow_mut()
            .answer(peer, session, request, packet.files);
        if let Some(session) = opened {
            // Opened after the session, which is that of an id: should the process have ended in
            // between, and another have its id, then that one has sent nothing.
            let process = peer.open().and_then(ready::readable);
            match process {
                Ok(process) => held.session = Some((session, process)),
                Err(error) => {
                    service.borrow_mut().close(session, false);
                    return Err(error);
                }
            }
        }
        if closing && matches!(reply, Reply::Done) {
            held.close(false);
            idle_since = Instant::now();
        }
        let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        send(&client, &reply, &files).await?;
    }
}

async fn receive(client: &Ready) -> io::Result<Option<Packet>> {
    client
        .async_io(Interest::READABLE, |client| channel::receive(client))
        .await
}

async fn send(client: &Ready, reply: &Reply, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let sent = client.async_io(Interest::WRITABLE, |client| send_now(client, reply, files));
    timeout(MANNERS, sent).await?
}

fn send_now(client: impl AsFd, reply: &Reply, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    channel::send(client, &serde_json::to_vec(reply)?, files)
}

/// How fast a connection's requests may come: as a bucket of tokens.
struct Pace {
    tokens: f64,
    filled: Instant,
}

impl Pace {
    fn new() -> Pace {
        Pace {
            tokens: f64::INFINITY,
            filled: Instant::now(),
        }
    }

    /// Takes a token, waiting for one if need be.
    async fn wait(&mut self, per_second: u32) {
        let rate = f64::from(per_second.max(1));
        let now = Instant::now();
        let new = now.duration_since(self.filled).as_secs_f64() * rate;
        self.tokens = (self.tokens + new).min(rate * f64::from(BURST)) - 1.0;
        self.filled = now;
        if self.tokens < 0.0 {
            sleep(Duration::from_secs_f64(-self.tokens / rate)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracer_ebpf::LAYOUT_VERSION;

    use super::*;
    use crate::agent::protocol::PROTOCOL;

    /// A packet: a message, a damaged one, or any bytes.
    fn packets() -> impl Strategy<Value = Vec<u8>> {
        let hello = Request::Hello {
            protocol: PROTOCOL,
            layout: LAYOUT_VERSION,
        };
        let open = Request::Open {
            arena_base: 1 << 45,
            arena_len: 2 << 30,
            marker: 0,
            ring_bytes: 1 << 21,
        };
        let probe = Request::Probe {
            file_offset: 0,
            name: "f".to_owned(),
            cookie: 1,
            returns: true,
        };
        let messages = [
            hello,
            open,
            probe,
            Request::Unprobe,
            Request::Close,
            Request::Status,
        ]
        .map(|message| serde_json::to_vec(&message).unwrap_or_default());
        let message = proptest::sample::select(messages.to_vec());
        prop_oneof![
            6 => message.clone(),
            2 => (message, any::<usize>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
                let at = at % bytes.len();
                bytes[at] = byte;
                bytes
            }),
            1 => proptest::collection::vec(any::<u8>(), 1..300),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whatever a client says, and however it leaves, its connection ends and nothing else does.
        #[test]
        fn any_conversation_is_survived(
            greets in any::<bool>(),
            packets in proptest::collection::vec(packets(), 0..12),
        ) {
            let service = RefCell::new(Service::without_programs(Limits::default()));
            let (ours, theirs) = channel::pair().unwrap();
            let file = std::fs::File::open("/proc/self/comm").unwrap();
            if greets {
                let hello = Request::Hello { protocol: PROTOCOL, layout: LAYOUT_VERSION };
                channel::send(&theirs, &serde_json::to_vec(&hello).unwrap(), &[]).unwrap();
            }
            for packet in &packets {
                channel::send(&theirs, packet, &[file.as_fd()]).unwrap();
            }
            drop(theirs);
            let ended = runtime().unwrap().block_on(async {
                timeout(Duration::from_secs(20), serve(ours, &service)).await
            });
            prop_assert!(ended.is_ok(), "it waits for a client who has gone");
            prop_assert_eq!(service.borrow().sessions(), 0);
        }
    }
}
