//! A client of the agent that is not the product: it says whatever a test wants said, over a Unix
//! socket that keeps packets apart.
//!
//! # Safety
//! The control messages of `sendmsg` and `recvmsg` are laid out by hand, in a buffer aligned for
//! their headers, with the sizes of cmsg(3). Descriptors that the kernel hands over are owned at
//! once. Pages of a map are read as atomics while the mapping lives, and it lives as long as what it
//! is read through.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

mod messages;

pub use messages::{APART, hello, open, probe, refusal};

/// Room for control messages: more descriptors than any test sends, and credentials.
const CONTROL: usize = 512;

/// Longest answer, with room to spare.
const ANSWER: usize = 64 << 10;

/// Length of the consumer's page, of the producer's, and of the counters.
const PAGE: usize = 4096;

/// A buffer aligned as `cmsghdr` wants it.
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// What a packet brought.
#[derive(Debug)]
pub struct Packet {
    /// The message.
    pub bytes: Vec<u8>,
    /// Its descriptors.
    pub files: Vec<OwnedFd>,
}

impl Packet {
    /// The message as JSON.
    ///
    /// # Errors
    /// Fails if it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.bytes).context("the agent's answer is no JSON")
    }
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
}

fn seqpacket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: a new socket, owned by nobody else.
    unsafe {
        let socket = libc::socket(libc::AF_UNIX, kind, 0);
        if socket == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(socket))
    }
}

fn address(path: &Path) -> io::Result<libc::sockaddr_un> {
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    Ok(address)
}

const ADDRESS: libc::socklen_t = size_of::<libc::sockaddr_un>() as libc::socklen_t;

/// A listening socket, as a service manager makes one.
///
/// # Errors
/// Fails if the path is taken or cannot be made.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    let (socket, address) = (seqpacket()?, address(path)?);
    // SAFETY: the address lives across the call, and the length is its own.
    let done = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS) == 0
            && libc::listen(socket.as_raw_fd(), 128) == 0
    };
    if done {
        Ok(socket)
    } else {
        Err(io::Error::last_os_error())
    }
}

impl Client {
    /// Connects, and says nothing.
    ///
    /// # Errors
    /// Fails if nobody listens there.
    pub fn connect(path: &Path) -> io::Result<Client> {
        let (socket, address) = (seqpacket()?, address(path)?);
        // SAFETY: the address lives across the call, and the length is its own.
        let done =
            unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS) };
        if done == -1 {
            return Err(io::Error::last_os_error());
        }
        let client = Client { socket };
        client.patience(Duration::from_secs(30))?;
        Ok(client)
    }

    /// Connects, and greets with the protocol that the product speaks.
    ///
    /// # Errors
    /// Fails if it is not welcome.
    pub fn greet(path: &Path) -> Result<Client> {
        let client = Client::connect(path)?;
        let reply = client.ask(&hello())?;
        if reply.get("welcome").is_none() {
            bail!("the greeting was answered by {reply}");
        }
        Ok(client)
    }

    /// Uses a connection that another process made.
    pub fn over(socket: OwnedFd) -> Client {
        Client { socket }
    }

    /// The socket.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// How long sending and receiving may take.
    ///
    /// # Errors
    /// Fails if the socket does not take that.
    pub fn patience(&self, limit: Duration) -> io::Result<()> {
        let time = libc::timeval {
            tv_sec: limit.as_secs().cast_signed(),
            tv_usec: i64::from(limit.subsec_micros()),
        };
        for option in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
            // SAFETY: the value lives across the call, and the length is its own.
            let done = unsafe {
                libc::setsockopt(
                    self.socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    option,
                    (&raw const time).cast(),
                    size_of::<libc::timeval>() as libc::socklen_t,
                )
            };
            if done == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// What `sendmsg` says.
    pub fn send(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let raw: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let content: Vec<u8> = raw.iter().flat_map(|file| file.to_ne_bytes()).collect();
        let control = (!files.is_empty()).then_some((libc::SCM_RIGHTS, content.as_slice()));
        self.send_with(bytes, control)
    }

    /// Sends a packet that claims to be from another process and user.
    ///
    /// # Errors
    /// What `sendmsg` says: not permitted, without privileges.
    pub fn send_as(&self, bytes: &[u8], pid: i32, user: u32) -> io::Result<()> {
        let mut content = Vec::new();
        content.extend(pid.to_ne_bytes());
        content.extend(user.to_ne_bytes());
        content.extend(user.to_ne_bytes());
        self.send_with(bytes, Some((libc::SCM_CREDENTIALS, &content)))
    }

    fn send_with(&self, bytes: &[u8], control: Option<(i32, &[u8])>) -> io::Result<()> {
        let mut space = Control([0; CONTROL]);
        let mut part = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: all-zero is a valid message.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if let Some((kind, content)) = control {
            let length = u32::try_from(content.len()).map_err(io::Error::other)?;
            // SAFETY: CMSG_SPACE only computes.
            let needed = unsafe { libc::CMSG_SPACE(length) } as usize;
            if needed > CONTROL {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            message.msg_control = space.0.as_mut_ptr().cast();
            message.msg_controllen = needed;
            // SAFETY: the buffer is aligned, and was found large enough for header and content.
            unsafe {
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::SOL_SOCKET;
                (*header).cmsg_type = kind;
                (*header).cmsg_len = libc::CMSG_LEN(length) as usize;
                std::ptr::copy_nonoverlapping(
                    content.as_ptr(),
                    libc::CMSG_DATA(header),
                    content.len(),
                );
            }
        }
        // SAFETY: the message and all it refers to live across the call.
        let sent = unsafe {
            libc::sendmsg(
                self.socket.as_raw_fd(),
                &raw const message,
                libc::MSG_NOSIGNAL,
            )
        };
        if sent == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Receives a packet; none where the other end is closed.
    ///
    /// # Errors
    /// What `recvmsg` says: that it would block, where nothing came in time.
    pub fn receive(&self) -> io::Result<Option<Packet>> {
        let mut space = Control([0; CONTROL]);
        let mut bytes = vec![0; ANSWER];
        let mut part = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: all-zero is a valid message.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = space.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL;
        // SAFETY: the message and all it refers to live across the call.
        let got = unsafe {
            libc::recvmsg(
                self.socket.as_raw_fd(),
                &raw mut message,
                libc::MSG_CMSG_CLOEXEC,
            )
        };
        let got = match usize::try_from(got) {
            Err(_) => {
                let error = io::Error::last_os_error();
                // Closed with packets in it that were not read.
                if error.kind() == io::ErrorKind::ConnectionReset {
                    return Ok(None);
                }
                return Err(error);
            }
            Ok(0) => return Ok(None),
            Ok(got) => got,
        };
        let mut files = Vec::new();
        // SAFETY: the kernel filled the control buffer, and the macros stay inside of it. The
        // descriptors in it are this process's, and nobody else has seen them.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(&raw const message);
            while !header.is_null() {
                if (*header).cmsg_type == libc::SCM_RIGHTS {
                    let content = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                    let first = libc::CMSG_DATA(header).cast::<RawFd>();
                    for index in 0..content / size_of::<RawFd>() {
                        files.push(OwnedFd::from_raw_fd(first.add(index).read_unaligned()));
                    }
                }
                header = libc::CMSG_NXTHDR(&raw const message, header);
            }
        }
        bytes.truncate(got);
        Ok(Some(Packet { bytes, files }))
    }

    /// Sends a message, and receives the answer with its descriptors.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn converse(&self, message: &Value, files: &[BorrowedFd<'_>]) -> Result<Packet> {
        self.send(message.to_string().as_bytes(), files)
            .with_context(|| format!("sending {message}"))?;
        let packet = self
            .receive()
            .with_context(|| format!("waiting for the answer to {message}"))?;
        packet.with_context(|| format!("the agent closed the connection at {message}"))
    }

    /// Sends a message, and receives the answer.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn ask(&self, message: &Value) -> Result<Value> {
        self.converse(message, &[])?.json()
    }

    /// Opens a session.
    ///
    /// # Errors
    /// Fails if it is refused.
    pub fn open(&self, base: u64, length: u64) -> Result<Files> {
        let packet = self.converse(&open(base, length), &[])?;
        let reply = packet.json()?;
        match <[OwnedFd; 2]>::try_from(packet.files) {
            Ok([ring, shared]) if reply.get("opened").is_some() => Ok(Files { ring, shared }),
            _ => bail!("a session was not opened: {reply}"),
        }
    }
}

/// What a session gives its process.
#[derive(Debug)]
pub struct Files {
    /// The ring.
    pub ring: OwnedFd,
    /// The pages with the counters.
    pub shared: OwnedFd,
}

impl Files {
    /// The first words of the counters: what was emitted and dropped of accesses, calls that were
    /// entered and left, what was emitted and dropped of other records.
    ///
    /// # Errors
    /// Fails if the pages cannot be mapped.
    pub fn counters(&self) -> io::Result<[u64; 6]> {
        words(&self.shared, 0)
    }

    /// Bytes that were ever written to the ring.
    ///
    /// # Errors
    /// Fails if it cannot be mapped.
    pub fn written(&self) -> io::Result<u64> {
        Ok(words::<1>(&self.ring, PAGE)?[0])
    }
}

/// The first words of a page of a map.
fn words<const N: usize>(map: &OwnedFd, offset: usize) -> io::Result<[u64; N]> {
    // SAFETY: a new mapping of one page, read as atomics before it is taken away.
    unsafe {
        let page = libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_READ,
            libc::MAP_SHARED,
            map.as_raw_fd(),
            offset.cast_signed() as libc::off_t,
        );
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = page.cast::<AtomicU64>();
        let read = std::array::from_fn(|index| (*first.add(index)).load(Ordering::Acquire));
        libc::munmap(page, PAGE);
        Ok(read)
    }
}
