//! Sockets.

use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use syscalls::Sysno as S;

use super::{CONTENT, Make};
use crate::case::{Block, Case, issue, opened};

fn case(call: S) -> Case {
    Case::new(call)
}

/// A stream with something to read, and its other end.
fn stream() -> (UnixStream, UnixStream) {
    let (one, mut other) = UnixStream::pair().unwrap();
    other.write_all(CONTENT).unwrap();
    (one, other)
}

/// A socket with a datagram of 100 bytes to read, whose sender has an address.
fn datagram() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender
        .send_to(CONTENT, socket.local_addr().unwrap())
        .unwrap();
    socket
}

/// A stream socket without an address.
fn unbound() -> OwnedFd {
    let kind = libc::SOCK_STREAM as u64;
    opened(S::socket, [libc::AF_INET as u64, kind, 0, 0, 0, 0])
}

/// The address of a socket that listens to datagrams, which stays open.
fn somewhere() -> (UdpSocket, [u8; 16]) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_be_bytes();
    (socket, address(port))
}

/// A `sockaddr_in` of this host.
fn address(port: [u8; 2]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&[2, 0, port[0], port[1], 127, 0, 0, 1]);
    bytes
}

/// A length word.
fn room(len: u32) -> [u8; 4] {
    len.to_le_bytes()
}

/// A listening socket with a connection to accept.
fn listener() -> (TcpListener, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener, stream)
}

/// A `msghdr` whose name, vector and control data are the given blocks. What does not matter of
/// it has no content.
fn header(
    name: Option<(usize, u32)>,
    vector: (usize, u64),
    control: Option<(usize, u64)>,
) -> Block {
    let mut bytes = vec![None; 56];
    let mut put = |at: usize, value: &[u8]| {
        for (byte, value) in bytes[at..].iter_mut().zip(value) {
            *byte = Some(*value);
        }
    };
    put(0, &[0; 12]);
    put(16, &[0; 32]);
    put(8, &name.map_or(0, |name| name.1).to_le_bytes());
    put(24, &vector.1.to_le_bytes());
    put(40, &control.map_or(0, |control| control.1).to_le_bytes());
    let mut links = vec![(16, vector.0)];
    links.extend(name.map(|name| (0, name.0)));
    links.extend(control.map(|control| (32, control.0)));
    Block {
        bytes,
        links,
        soft: false,
        whole: true,
        rewritten: true,
    }
}

/// Two buffers, which are the next two blocks after block `at`.
fn vector(at: usize, lens: [usize; 2]) -> Block {
    let words = [0, lens[0] as u64, 0, lens[1] as u64];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Block {
        links: vec![(0, at + 1), (16, at + 2)],
        ..Block::input(&bytes)
    }
}

/// A control message that carries a descriptor.
fn rights(fd: i32) -> Block {
    let mut bytes = Vec::new();
    bytes.extend(20u64.to_le_bytes());
    bytes.extend(libc::SOL_SOCKET.to_le_bytes());
    bytes.extend(libc::SCM_RIGHTS.to_le_bytes());
    bytes.extend(fd.to_le_bytes());
    bytes.extend([0; 4]);
    Block::input(&bytes)
}

/// `recvmsg` of a message with a descriptor.
fn receive(flags: i32) -> Case {
    let (one, other) = UnixDatagram::pair().unwrap();
    let control: Vec<u8> = rights(other.as_raw_fd())
        .bytes
        .into_iter()
        .flatten()
        .collect();
    let whole = [CONTENT.as_ptr().expose_provenance() as u64, 100];
    let message = [
        0,
        0,
        whole.as_ptr().expose_provenance() as u64,
        1,
        control.as_ptr().expose_provenance() as u64,
        control.len() as u64,
        0,
    ];
    let message = message.as_ptr().expose_provenance() as u64;
    let args = [other.as_raw_fd() as u64, message, 0, 0, 0, 0];
    assert_eq!(issue(S::sendmsg as u64, args), 100);
    case(S::recvmsg)
        .fd(one)
        .block(header(None, (1, 2), Some((4, 64))))
        .aside(vector(1, [60, 70]))
        .aside(Block::output(60))
        .aside(Block::output(70))
        // What does not fit is cut off, and the descriptors with it.
        .aside(Block::output(64))
        .soft()
        .num(flags)
        .keep(other)
}

/// `getsockopt` with so much room.
fn option(level: i32, name: i32, len: u32) -> Case {
    case(S::getsockopt)
        .fd(TcpListener::bind("127.0.0.1:0").unwrap())
        .num(level)
        .num(name)
        .output(len as usize)
        .input(&room(len))
        .rewritten()
}

/// `setsockopt` with this value.
fn setting(level: i32, name: i32, value: &[u8]) -> Case {
    case(S::setsockopt)
        .fd(TcpListener::bind("127.0.0.1:0").unwrap())
        .num(level)
        .num(name)
        .input(value)
        .num(value.len() as i64)
}

/// `mmsghdr`s of two messages with one buffer each: vectors are blocks 1 and 2, buffers 3 and 4.
fn messages(input: bool) -> [Block; 5] {
    let mut bytes = Vec::new();
    for _ in 0..2 {
        bytes.extend(header(None, (0, 1), None).bytes);
        bytes.extend([None; 8]);
    }
    let buffer = |len: usize| {
        if input {
            Block::input(&CONTENT[..len])
        } else {
            Block::output(len)
        }
    };
    let one = |to: usize, len: u64| Block {
        links: vec![(0, to)],
        ..Block::input(&[[0; 8], len.to_le_bytes()].concat())
    };
    let headers = Block {
        bytes,
        links: vec![(16, 1), (80, 2)],
        soft: false,
        whole: true,
        rewritten: true,
    };
    [headers, one(3, 30), one(4, 40), buffer(30), buffer(40)]
}

fn many(call: S, socket: UnixDatagram, input: bool) -> Case {
    let [headers, one, two, three, four] = messages(input);
    case(call)
        .fd(socket)
        .block(headers)
        .aside(one)
        .aside(two)
        .aside(three)
        .aside(four)
        .num(2)
        .num(0)
}

pub(crate) const ALL: &[(&str, Make)] = &[
    ("bind", || {
        case(S::bind).fd(unbound()).input(&address([0, 0])).num(16)
    }),
    ("bind, closed", || {
        case(S::bind)
            .num(-1)
            .input(&address([0, 0]))
            .num(16)
            .fails(libc::EBADF)
    }),
    ("connect", || {
        let (there, address) = somewhere();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        case(S::connect)
            .fd(socket)
            .input(&address)
            .num(16)
            .keep(there)
    }),
    ("connect, refused", || {
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port().to_be_bytes()
        };
        case(S::connect)
            .fd(unbound())
            .input(&address(port))
            .num(16)
            .fails(libc::ECONNREFUSED)
    }),
    ("accept", || {
        let (listener, stream) = listener();
        case(S::accept)
            .fd(listener)
            .output(64)
            .input(&room(64))
            .rewritten()
            .keep(stream)
    }),
    ("accept, short", || {
        let (listener, stream) = listener();
        case(S::accept)
            .fd(listener)
            .output(5)
            .input(&room(5))
            .rewritten()
            .keep(stream)
    }),
    ("accept4", || {
        let (listener, stream) = listener();
        case(S::accept4)
            .fd(listener)
            .output(64)
            .input(&room(64))
            .rewritten()
            .num(0)
            .keep(stream)
    }),
    ("accept, nobody asks", || {
        let (listener, stream) = listener();
        case(S::accept).fd(listener).num(0).num(0).keep(stream)
    }),
    ("getsockname", || {
        case(S::getsockname)
            .fd(datagram())
            .output(64)
            .input(&room(64))
            .rewritten()
    }),
    ("getsockname, closed", || {
        case(S::getsockname)
            .num(-1)
            .output(64)
            .input(&room(64))
            .rewritten()
            .fails(libc::EBADF)
    }),
    ("getpeername", || {
        let (listener, stream) = listener();
        case(S::getpeername)
            .fd(stream)
            .output(64)
            .input(&room(64))
            .rewritten()
            .keep(listener)
    }),
    ("sendto", || {
        let (there, address) = somewhere();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        case(S::sendto)
            .fd(socket)
            .input(CONTENT)
            .num(100)
            .num(0)
            .input(&address)
            .num(16)
            .keep(there)
    }),
    ("sendto, stream", || {
        let (one, other) = stream();
        case(S::sendto)
            .fd(one)
            .input(CONTENT)
            .num(100)
            .num(0)
            .num(0)
            .num(0)
            .keep(other)
    }),
    ("recvfrom", || {
        let case = case(S::recvfrom).fd(datagram()).output(200).num(200).num(0);
        case.output(64).input(&room(64)).rewritten()
    }),
    ("recvfrom, cut off", || {
        let case = case(S::recvfrom).fd(datagram()).output(50).num(50).num(0);
        case.output(9).input(&room(9)).rewritten()
    }),
    ("recvfrom, stream", || {
        let (one, other) = stream();
        case(S::recvfrom)
            .fd(one)
            .output(60)
            .num(60)
            .num(0)
            .num(0)
            .num(0)
            .keep(other)
    }),
    ("recvfrom, nothing there", || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let case = case(S::recvfrom)
            .fd(socket)
            .output(60)
            .num(60)
            .num(libc::MSG_DONTWAIT);
        case.output(64)
            .input(&room(64))
            .rewritten()
            .fails(libc::EAGAIN)
    }),
    ("sendmsg", || {
        let (there, address) = somewhere();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        case(S::sendmsg)
            .fd(socket)
            .block(header(Some((4, 16)), (1, 2), None))
            .aside(vector(1, [30, 40]))
            .aside(Block::input(&CONTENT[..30]))
            .aside(Block::input(&CONTENT[..40]))
            .aside(Block::input(&address))
            .num(0)
            .keep(there)
    }),
    ("sendmsg, a descriptor", || {
        let (one, other) = stream();
        let fd = other.as_raw_fd();
        case(S::sendmsg)
            .fd(one)
            .block(header(None, (1, 2), Some((4, 24))))
            .aside(vector(1, [30, 40]))
            .aside(Block::input(&CONTENT[..30]))
            .aside(Block::input(&CONTENT[..40]))
            .aside(rights(fd))
            .num(0)
            .keep(other)
    }),
    ("recvmsg, a descriptor", || receive(0)),
    ("recvmsg, with name", || {
        case(S::recvmsg)
            .fd(datagram())
            .block(header(Some((4, 64)), (1, 2), None))
            .aside(vector(1, [60, 70]))
            .aside(Block::output(60))
            .aside(Block::output(70))
            .aside(Block::output(64))
            .num(0)
    }),
    ("recvmsg, short name, cut off", || {
        case(S::recvmsg)
            .fd(datagram())
            .block(header(Some((4, 9)), (1, 2), None))
            .aside(vector(1, [20, 30]))
            .aside(Block::output(20))
            .aside(Block::output(30))
            .aside(Block::output(9))
            .num(0)
    }),
    ("recvmsg, nothing there", || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        case(S::recvmsg)
            .fd(socket)
            .block(header(None, (1, 2), None))
            .aside(vector(1, [60, 70]))
            .aside(Block::output(60))
            .aside(Block::output(70))
            .num(libc::MSG_DONTWAIT)
            .fails(libc::EAGAIN)
    }),
    ("sendmmsg", || {
        let (one, other) = UnixDatagram::pair().unwrap();
        many(S::sendmmsg, one, true).keep(other)
    }),
    ("recvmmsg", || {
        let (one, other) = UnixDatagram::pair().unwrap();
        other.send(&CONTENT[..25]).unwrap();
        other.send(&CONTENT[..40]).unwrap();
        many(S::recvmmsg, one, false)
            .words(&[9, 0])
            .rewritten()
            .keep(other)
    }),
    ("socketpair", || {
        case(S::socketpair)
            .num(libc::AF_UNIX)
            .num(libc::SOCK_STREAM)
            .num(0)
            .output(8)
    }),
    ("getsockopt, SO_TYPE", || {
        option(libc::SOL_SOCKET, libc::SO_TYPE, 64)
    }),
    ("getsockopt, SO_TYPE, short", || {
        option(libc::SOL_SOCKET, libc::SO_TYPE, 2)
    }),
    ("getsockopt, SO_LINGER", || {
        option(libc::SOL_SOCKET, libc::SO_LINGER, 64)
    }),
    ("getsockopt, SO_RCVTIMEO", || {
        option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, 64)
    }),
    ("getsockopt, SO_PEERCRED", || {
        let (one, other) = stream();
        case(S::getsockopt)
            .fd(one)
            .num(libc::SOL_SOCKET)
            .num(libc::SO_PEERCRED)
            .output(12)
            .input(&room(12))
            .rewritten()
            .keep(other)
    }),
    ("getsockopt, TCP_INFO", || {
        option(libc::IPPROTO_TCP, libc::TCP_INFO, 256)
    }),
    ("getsockopt, TCP_CONGESTION", || {
        option(libc::IPPROTO_TCP, libc::TCP_CONGESTION, 64)
    }),
    ("getsockopt, IP_TTL", || {
        option(libc::IPPROTO_IP, libc::IP_TTL, 64)
    }),
    ("getsockopt, unknown", || {
        option(libc::SOL_SOCKET, 9999, 64).fails(libc::ENOPROTOOPT)
    }),
    ("setsockopt, SO_REUSEADDR", || {
        setting(libc::SOL_SOCKET, libc::SO_REUSEADDR, &[1, 0, 0, 0])
    }),
    ("setsockopt, SO_REUSEADDR, longer", || {
        setting(
            libc::SOL_SOCKET,
            libc::SO_REUSEADDR,
            &[1, 0, 0, 0, 9, 9, 9, 9],
        )
    }),
    ("setsockopt, SO_LINGER", || {
        setting(libc::SOL_SOCKET, libc::SO_LINGER, &[0; 8])
    }),
    ("setsockopt, SO_RCVTIMEO", || {
        setting(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &[1; 1].repeat(16)).fails(libc::EDOM)
    }),
    ("setsockopt, TCP_NODELAY", || {
        setting(libc::IPPROTO_TCP, libc::TCP_NODELAY, &[1, 0, 0, 0])
    }),
    ("setsockopt, TCP_CONGESTION", || {
        setting(libc::IPPROTO_TCP, libc::TCP_CONGESTION, b"reno")
    }),
    ("setsockopt, IP_TTL", || {
        setting(libc::IPPROTO_IP, libc::IP_TTL, &[9, 0, 0, 0])
    }),
    ("setsockopt, IP_TTL, a byte", || {
        setting(libc::IPPROTO_IP, libc::IP_TTL, &[9])
    }),
    ("ioctl, SIOCATMARK", || {
        let (one, other) = stream();
        case(S::ioctl).fd(one).num(0x8905).output(8).keep(other)
    }),
    ("ioctl, SIOCGIFINDEX", || {
        let mut request = [0; 40];
        request[..2].copy_from_slice(b"lo");
        case(S::ioctl)
            .fd(datagram())
            .num(0x8933)
            .input(&request)
            .rewritten()
    }),
    ("ioctl, SIOCGIFFLAGS", || {
        let mut request = [0; 40];
        request[..2].copy_from_slice(b"lo");
        case(S::ioctl)
            .fd(datagram())
            .num(0x8913)
            .input(&request)
            .rewritten()
    }),
];
