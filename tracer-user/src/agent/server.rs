//! The agent's event loop: who comes, what the administrator says, its own end. One thread does all.
//!
//! ```text
//!  listener.rs ─► accepted ─► too many of this user? ─► a task: connection.rs
//!  SIGHUP: limits anew     SIGTERM, SIGINT: no new sessions; ends with the last one
//! ```

use std::{
    cell::RefCell, collections::HashMap, io, os::fd::OwnedFd, path::Path, rc::Rc, time::Duration,
};

use rustix::{
    net::{SocketFlags, accept_with, sockopt},
    process::Pid,
};
use tokio::{
    io::Interest,
    task::LocalSet,
    time::{Instant, sleep},
};

use super::{
    connection::{send_now, serve},
    limits::Limits,
    listener::{Listener, ServeError},
    protocol::{Refusal, Reply},
    ready::{self, Ready},
    service::Service,
};
use crate::{backend::ebpf::Programs, privileges};

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
        let service = Service::new(Ok(Programs::load()?), limits);
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
            let tells = listener.is_own();
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
    let service = RefCell::new(Service::new(Programs::load(), limits));
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

pub(super) fn runtime() -> io::Result<tokio::runtime::Runtime> {
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
