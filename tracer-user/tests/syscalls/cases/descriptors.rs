//! Transfers, waiting, directories, terminals.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::epoll;
use syscalls::Sysno as S;

use super::{CONTENT, Make, file, full, listing, pipe};
use crate::case::{Block, Case};

fn case(call: S) -> Case {
    Case::new(call)
}

/// Vectors for three buffers, which are blocks 1, 2 and 3.
fn vectors(case: Case, lens: [usize; 3], input: bool) -> Case {
    let mut words = [0; 6];
    for (index, len) in lens.iter().enumerate() {
        words[2 * index + 1] = *len as u64;
    }
    let mut case = case.words(&words).link(0, 1).link(16, 2).link(32, 3);
    for len in lens {
        case = case.aside(if input {
            Block::input(&CONTENT[..len])
        } else {
            Block::output(len)
        });
    }
    case.num(3)
}

/// The `struct pollfd` of a descriptor.
fn pollfd(fd: i32, events: i16) -> Block {
    let mut bytes: Vec<Option<u8>> = fd.to_le_bytes().into_iter().map(Some).collect();
    bytes.extend(events.to_le_bytes().into_iter().map(Some));
    bytes.extend([None; 2]);
    Block {
        bytes,
        ..Block::default()
    }
}

fn readable() -> Case {
    let (from, to) = pipe();
    let polled = pollfd(from.as_raw_fd(), libc::POLLIN);
    case(S::poll)
        .block(polled)
        .num(1)
        .num(1000)
        .keep((from, to))
}

/// An epoll that has an event to tell.
fn ready() -> (OwnedFd, (OwnedFd, OwnedFd)) {
    let epoll = epoll::create(epoll::CreateFlags::empty()).unwrap();
    let (from, to) = pipe();
    epoll::add(
        &epoll,
        &from,
        epoll::EventData::new_u64(7),
        epoll::EventFlags::IN,
    )
    .unwrap();
    (epoll, (from, to))
}

/// Sets for `select` of which the first has a readable pipe.
fn selected(call: S) -> Case {
    let (from, to) = pipe();
    let fd = from.as_raw_fd();
    assert!(fd < 64, "descriptor {fd}");
    case(call)
        .num(fd + 1)
        .words(&[1 << fd])
        .rewritten()
        .words(&[0])
        .rewritten()
        .words(&[0])
        .rewritten()
        .keep((from, to))
}

fn terminal() -> (File, File) {
    use std::os::unix::fs::OpenOptionsExt;
    let open = |path: &str| {
        let mut options = File::options();
        options.read(true).write(true).custom_flags(libc::O_NOCTTY);
        options.open(path).unwrap()
    };
    let master = open("/dev/ptmx");
    let mut number = 0u32;
    for (request, word) in [(0x4004_5431, &mut 0u32), (0x8004_5430, &mut number)] {
        let word = (&raw mut *word).expose_provenance() as u64;
        let args = [master.as_raw_fd() as u64, request, word, 0, 0, 0];
        assert_eq!(crate::case::issue(S::ioctl as u64, args), 0);
    }
    let slave = open(&format!("/dev/pts/{number}"));
    (master, slave)
}

/// `ioctl` of a terminal.
fn on_terminal(request: u64) -> Case {
    let (master, slave) = terminal();
    case(S::ioctl).fd(slave).num(request as i64).keep(master)
}

fn timer() -> OwnedFd {
    let clock = rustix::time::TimerfdClockId::Monotonic;
    rustix::time::timerfd_create(clock, rustix::time::TimerfdFlags::empty()).unwrap()
}

/// A `struct flock` of a whole file.
fn lock(kind: i32) -> [u64; 4] {
    [kind as u16 as u64, 0, 0, 0]
}

/// What `ioctl(TCGETS)` wrote.
fn settings() -> Vec<u8> {
    let (_master, slave) = terminal();
    let mut bytes = vec![0u8; 36];
    let args = [
        slave.as_raw_fd() as u64,
        0x5401,
        bytes.as_mut_ptr().expose_provenance() as u64,
        0,
        0,
        0,
    ];
    assert_eq!(crate::case::issue(S::ioctl as u64, args), 0);
    bytes
}

pub(crate) const ALL: &[(&str, Make)] = &[
    ("read, file", || {
        case(S::read).fd(file()).output(200).num(200)
    }),
    ("read, exactly", || {
        case(S::read).fd(file()).output(100).num(100)
    }),
    ("read, nothing", || {
        case(S::read).fd(file()).output(100).num(0)
    }),
    ("read, pipe", || {
        let (from, to) = pipe();
        case(S::read).fd(from).output(60).num(60).keep(to)
    }),
    ("read, closed", || {
        case(S::read).num(-1).output(60).num(60).fails(libc::EBADF)
    }),
    ("read, end of file", || {
        case(S::read)
            .fd(File::open("/dev/null").unwrap())
            .output(9)
            .num(9)
    }),
    ("write, file", || {
        case(S::write).fd(file()).input(CONTENT).num(100)
    }),
    ("write, pipe", || {
        let (from, to) = pipe();
        case(S::write).fd(to).input(CONTENT).num(100).keep(from)
    }),
    ("write, closed", || {
        case(S::write)
            .num(-1)
            .input(CONTENT)
            .num(100)
            .fails(libc::EBADF)
    }),
    ("readv", || {
        vectors(case(S::readv).fd(file()), [30, 40, 50], false)
    }),
    ("readv, partly", || {
        vectors(case(S::readv).fd(file()), [90, 40, 50], false)
    }),
    ("readv, closed", || {
        vectors(case(S::readv).num(-1), [3, 4, 5], false).fails(libc::EBADF)
    }),
    ("writev", || {
        vectors(case(S::writev).fd(file()), [30, 40, 20], true)
    }),
    ("preadv", || {
        vectors(case(S::preadv).fd(file()), [30, 40, 50], false)
            .num(1)
            .num(0)
    }),
    ("pwritev", || {
        vectors(case(S::pwritev).fd(file()), [30, 40, 20], true)
            .num(1)
            .num(0)
    }),
    ("preadv2", || {
        vectors(case(S::preadv2).fd(file()), [30, 40, 50], false)
            .num(1)
            .num(0)
            .num(0)
    }),
    ("pwritev2", || {
        vectors(case(S::pwritev2).fd(file()), [30, 40, 9], true)
            .num(1)
            .num(0)
            .num(0)
    }),
    ("process_vm_readv, this process", || {
        case(S::process_vm_readv)
            .num(std::process::id())
            .words(&[0, 50])
            .link(0, 1)
            .aside(Block::output(50))
            .num(1)
            .words(&[0, 50])
            .link(0, 3)
            .aside(Block::input(&CONTENT[..50]))
            .num(1)
            .num(0)
    }),
    ("process_vm_writev, this process", || {
        case(S::process_vm_writev)
            .num(std::process::id())
            .words(&[0, 50])
            .link(0, 1)
            .aside(Block::input(&CONTENT[..50]))
            .num(1)
            .words(&[0, 50])
            .link(0, 3)
            .aside(Block::output(50))
            .num(1)
            .num(0)
    }),
    ("splice", || {
        let (from, to) = rustix::pipe::pipe().unwrap();
        case(S::splice)
            .fd(file())
            .words(&[5])
            .rewritten()
            .fd(to)
            .num(0)
            .num(20)
            .num(0)
            .keep(from)
    }),
    ("splice, out", || {
        let (from, to) = pipe();
        case(S::splice)
            .fd(from)
            .num(0)
            .fd(file())
            .words(&[5])
            .rewritten()
            .num(20)
            .num(0)
            .keep(to)
    }),
    ("copy_file_range", || {
        let to = File::create(full("copy")).unwrap();
        case(S::copy_file_range)
            .fd(file())
            .words(&[5])
            .rewritten()
            .fd(to)
            .words(&[9])
            .rewritten()
            .num(20)
            .num(0)
    }),
    ("copy_file_range, nothing left", || {
        let to = File::create(full("copy")).unwrap();
        case(S::copy_file_range)
            .fd(file())
            .words(&[500])
            .rewritten()
            .fd(to)
            .words(&[9])
            .rewritten()
            .num(20)
            .num(0)
    }),
    ("sendfile", || {
        let (from, to) = rustix::pipe::pipe().unwrap();
        case(S::sendfile)
            .fd(to)
            .fd(file())
            .words(&[5])
            .rewritten()
            .num(20)
            .keep(from)
    }),
    ("sendfile, closed", || {
        case(S::sendfile)
            .num(-1)
            .fd(file())
            .words(&[5])
            .rewritten()
            .num(20)
            .fails(libc::EBADF)
    }),
    ("getdents64", || {
        case(S::getdents64).fd(listing()).output(4096).num(4096)
    }),
    ("getdents64, few", || {
        case(S::getdents64).fd(listing()).output(60).num(60)
    }),
    ("getdents", || {
        case(S::getdents).fd(listing()).output(4096).num(4096)
    }),
    ("pipe", || case(S::pipe).output(8)),
    ("pipe2", || case(S::pipe2).output(8).num(libc::O_CLOEXEC)),
    ("pipe2, bad flags", || {
        case(S::pipe2).output(8).num(1).fails(libc::EINVAL)
    }),
    ("signalfd4", || {
        case(S::signalfd4).num(-1).words(&[0]).num(8).num(0)
    }),
    ("signalfd", || case(S::signalfd).num(-1).words(&[0]).num(8)),
    ("timerfd_settime", || {
        case(S::timerfd_settime)
            .fd(timer())
            .num(0)
            .words(&[0, 0, 99, 0])
            .output(32)
    }),
    ("timerfd_settime, no old", || {
        case(S::timerfd_settime)
            .fd(timer())
            .num(0)
            .words(&[0, 0, 99, 0])
            .num(0)
    }),
    ("timerfd_gettime", || {
        case(S::timerfd_gettime).fd(timer()).output(32)
    }),
    ("cachestat", || {
        case(S::cachestat)
            .fd(file())
            .words(&[0, 0])
            .output(40)
            .num(0)
    }),
    ("epoll_ctl", || {
        let epoll = epoll::create(epoll::CreateFlags::empty()).unwrap();
        let (from, to) = pipe();
        case(S::epoll_ctl)
            .fd(epoll)
            .num(libc::EPOLL_CTL_ADD)
            .fd(from)
            .input(&[1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8])
            .keep(to)
    }),
    ("epoll_ctl, delete", || {
        let (epoll, (from, to)) = ready();
        case(S::epoll_ctl)
            .fd(epoll)
            .num(libc::EPOLL_CTL_DEL)
            .fd(from)
            .output(12)
            .keep(to)
    }),
    ("epoll_wait", || {
        let (epoll, pipe) = ready();
        case(S::epoll_wait)
            .fd(epoll)
            .output(36)
            .num(3)
            .num(1000)
            .keep(pipe)
    }),
    ("epoll_wait, nothing", || {
        let epoll = epoll::create(epoll::CreateFlags::empty()).unwrap();
        case(S::epoll_wait).fd(epoll).output(36).num(3).num(1)
    }),
    ("epoll_pwait", || {
        let (epoll, pipe) = ready();
        let case = case(S::epoll_pwait).fd(epoll).output(36).num(3).num(1000);
        case.words(&[0]).num(8).keep(pipe)
    }),
    ("epoll_pwait2", || {
        let (epoll, pipe) = ready();
        let case = case(S::epoll_pwait2)
            .fd(epoll)
            .output(36)
            .num(3)
            .words(&[9, 0]);
        case.words(&[0]).num(8).keep(pipe)
    }),
    ("poll", readable),
    ("poll, nothing", || {
        let (from, to) = rustix::pipe::pipe().unwrap();
        let polled = pollfd(from.as_raw_fd(), libc::POLLIN);
        case(S::poll).block(polled).num(1).num(1).keep((from, to))
    }),
    ("poll, interrupted", || {
        let (from, to) = rustix::pipe::pipe().unwrap();
        let polled = pollfd(from.as_raw_fd(), libc::POLLIN);
        case(S::poll)
            .block(polled)
            .num(1)
            .num(-1)
            .keep((from, to))
            .interrupted()
    }),
    ("ppoll", || {
        let (from, to) = pipe();
        let polled = pollfd(from.as_raw_fd(), libc::POLLIN);
        case(S::ppoll)
            .block(polled)
            .num(1)
            .words(&[9, 0])
            .soft()
            .rewritten()
            .words(&[0])
            .num(8)
            .keep((from, to))
    }),
    ("ppoll, no time", || {
        let (from, to) = pipe();
        let polled = pollfd(from.as_raw_fd(), libc::POLLIN);
        case(S::ppoll)
            .block(polled)
            .num(1)
            .words(&[0, 0])
            .num(0)
            .num(8)
            .keep((from, to))
    }),
    ("select", || {
        selected(S::select).words(&[9, 0]).soft().rewritten()
    }),
    ("select, no time", || selected(S::select).words(&[0, 0])),
    ("select, more than there are", || {
        let set = Block {
            // No table of this process is long enough for the last of them.
            bytes: [vec![Some(0); 120], vec![None; 8]].concat(),
            soft: true,
            rewritten: true,
            whole: true,
            ..Block::default()
        };
        case(S::select)
            .num(1024)
            .block(set)
            .num(0)
            .num(0)
            .words(&[0, 1])
            .soft()
            .rewritten()
    }),
    ("select, for ever", || selected(S::select).num(0)),
    ("pselect6", || {
        let case = selected(S::pselect6).words(&[9, 0]).soft().rewritten();
        case.words(&[0, 8]).link(0, 5).aside(Block::input(&[0; 8]))
    }),
    ("pselect6, interrupted", || {
        let case = case(S::pselect6)
            .num(0)
            .num(0)
            .num(0)
            .num(0)
            .words(&[9, 0])
            .soft()
            .rewritten();
        case.words(&[0, 8])
            .link(0, 2)
            .aside(Block::input(&[0; 8]))
            .interrupted()
    }),
    ("fcntl, F_GETLK", || {
        case(S::fcntl)
            .fd(file())
            .num(libc::F_GETLK)
            .words(&lock(libc::F_RDLCK))
            .rewritten()
    }),
    ("fcntl, F_SETLK", || {
        case(S::fcntl)
            .fd(file())
            .num(libc::F_SETLK)
            .words(&lock(libc::F_RDLCK))
    }),
    ("fcntl, F_OFD_SETLK", || {
        case(S::fcntl)
            .fd(file())
            .num(libc::F_OFD_SETLK)
            .words(&lock(libc::F_RDLCK))
    }),
    ("fcntl, F_GETOWN_EX", || {
        case(S::fcntl).fd(pipe().0).num(16).output(8)
    }),
    ("fcntl, F_SETOWN_EX", || {
        case(S::fcntl).fd(pipe().0).num(15).words(&[0])
    }),
    ("fcntl, F_GETFL", || {
        case(S::fcntl).fd(file()).num(libc::F_GETFL).output(8)
    }),
    ("fcntl, F_GET_RW_HINT", || {
        case(S::fcntl).fd(file()).num(1035).output(8)
    }),
    ("fcntl, F_SET_RW_HINT", || {
        case(S::fcntl).fd(file()).num(1036).words(&[1])
    }),
    ("ioctl, TCGETS", || on_terminal(0x5401).output(60)),
    ("ioctl, TCGETS of a file", || {
        case(S::ioctl)
            .fd(file())
            .num(0x5401)
            .output(60)
            .fails(libc::ENOTTY)
    }),
    ("ioctl, TCSETS", || on_terminal(0x5402).input(&settings())),
    ("ioctl, TCGETS2", || on_terminal(0x802c_542a).output(60)),
    ("ioctl, TCGETA", || on_terminal(0x5405).output(60)),
    ("ioctl, TIOCGWINSZ", || on_terminal(0x5413).output(60)),
    ("ioctl, TIOCSWINSZ", || on_terminal(0x5414).words(&[7])),
    ("ioctl, TIOCOUTQ", || on_terminal(0x5411).output(60)),
    ("ioctl, TIOCGETD", || on_terminal(0x5424).output(60)),
    ("ioctl, TIOCGPTN", || {
        let (master, slave) = terminal();
        case(S::ioctl)
            .fd(master)
            .num(0x8004_5430i64)
            .output(60)
            .keep(slave)
    }),
    ("ioctl, TIOCSPTLCK", || {
        let (master, slave) = terminal();
        case(S::ioctl)
            .fd(master)
            .num(0x4004_5431)
            .input(&[0; 4])
            .keep(slave)
    }),
    ("ioctl, FIONREAD", || {
        let (from, to) = pipe();
        case(S::ioctl).fd(from).num(0x541b).output(60).keep(to)
    }),
    ("ioctl, FIONBIO", || {
        case(S::ioctl).fd(pipe().0).num(0x5421).input(&[1, 0, 0, 0])
    }),
    ("ioctl, FIOQSIZE", || {
        case(S::ioctl).fd(file()).num(0x5460).output(60)
    }),
    ("ioctl, FIGETBSZ", || {
        case(S::ioctl).fd(file()).num(2).output(60)
    }),
    ("ioctl, FIOCLEX", || {
        case(S::ioctl).fd(file()).num(0x5451).output(8)
    }),
    ("ioctl, RNDGETENTCNT", || {
        case(S::ioctl)
            .fd(File::open("/dev/urandom").unwrap())
            .num(0x8004_5200i64)
            .output(60)
    }),
];
