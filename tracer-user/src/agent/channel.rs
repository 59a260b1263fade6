//! One packet with its descriptors and its sender, over a Unix socket that keeps packets apart.
//!
//! The kernel adds the sender's process and user to each packet (`SO_PASSCRED`, unix(7)): they cannot be
//! made up without privileges, and hold for the process that sends, whoever opened the socket.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, UCred, recvmsg,
    sendmsg, socketpair, sockopt,
};

use super::protocol::MAX_PACKET;

/// Most descriptors that a packet brings; more are closed by the kernel.
const MAX_FILES: usize = 2;

/// A packet.
#[derive(Debug)]
pub(super) struct Packet {
    /// The message.
    pub(super) bytes: Vec<u8>,
    /// Descriptors that came with it.
    pub(super) files: Vec<OwnedFd>,
    /// Who sent it; none where the socket was not told to ask.
    pub(super) sender: Option<UCred>,
}

/// Two ends of a connection within this process and those that it makes.
///
/// # Errors
/// What `socketpair(2)` says.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

/// Gives the process at the other end of a socket a copy of a descriptor.
///
/// # Errors
/// Those of `sendmsg(2)`.
pub fn hand_over(to: impl AsFd, file: BorrowedFd<'_>) -> io::Result<()> {
    send(to, b"descriptor", &[file])
}

/// The descriptor that was handed over at the other end of a socket, without waiting for one.
///
/// # Errors
/// Those of `recvmsg(2)`: `WouldBlock` where none was.
pub fn take_over(from: impl AsFd) -> io::Result<Option<OwnedFd>> {
    rustix::io::ioctl_fionbio(&from, true)?;
    Ok(receive(from)?.and_then(|packet| packet.files.into_iter().next()))
}

/// Has the kernel say who sends.
pub(super) fn ask_for_senders(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_passcred(socket, true)?)
}

/// Sends a packet as a whole.
///
/// # Errors
/// Those of `sendmsg(2)`: `WouldBlock` where the socket does not wait, `BrokenPipe` where nobody is there.
pub(super) fn send(socket: impl AsFd, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives a packet, or none where the other end is closed.
///
/// # Errors
/// Those of `recvmsg(2)`, and `InvalidData` for a packet that is longer than any message.
pub(super) fn receive(socket: impl AsFd) -> io::Result<Option<Packet>> {
    let mut bytes = vec![0; MAX_PACKET];
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let (mut files, mut sender) = (Vec::new(), None);
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(received) => files.extend(received),
            RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials),
            _ => {}
        }
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a packet of more than {MAX_PACKET} bytes"),
        ));
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    bytes.truncate(received.bytes);
    // The space also serves for credentials, which not everybody asks for.
    files.truncate(MAX_FILES);
    Ok(Some(Packet {
        bytes,
        files,
        sender,
    }))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _};

    use super::*;

    #[test]
    fn packets_stay_apart_and_say_who_sent_them() {
        let (left, right) = pair().unwrap();
        ask_for_senders(&right).unwrap();
        send(&left, b"one", &[]).unwrap();
        send(
            &left,
            b"two",
            &[File::open("/proc/self/comm").unwrap().as_fd()],
        )
        .unwrap();
        let one = receive(&right).unwrap().unwrap();
        assert_eq!((one.bytes.as_slice(), one.files.len()), (&b"one"[..], 0));
        let sender = one.sender.unwrap();
        assert_eq!(sender.pid, rustix::process::getpid());
        assert_eq!(sender.uid, rustix::process::getuid());
        let mut two = receive(&right).unwrap().unwrap();
        assert_eq!(two.bytes, b"two");
        let mut text = String::new();
        File::from(two.files.pop().unwrap())
            .read_to_string(&mut text)
            .unwrap();
        assert!(!text.is_empty());
        drop(left);
        assert!(receive(&right).unwrap().is_none());
    }

    #[test]
    fn more_descriptors_than_allowed_are_not_kept() {
        let (left, right) = pair().unwrap();
        let file = File::open("/proc/self/comm").unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file.as_fd(); 16];
        assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
        sendmsg(
            &left,
            &[IoSlice::new(b"x")],
            &mut control,
            SendFlags::empty(),
        )
        .unwrap();
        let packet = receive(&right).unwrap().unwrap();
        assert_eq!(packet.files.len(), MAX_FILES);
    }

    #[test]
    fn a_packet_that_is_too_long_is_an_error() {
        let (left, right) = pair().unwrap();
        send(&left, &vec![b' '; MAX_PACKET + 1], &[]).unwrap();
        let error = receive(&right).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
