//! Paths, attributes, links.

use syscalls::Sysno as S;

use super::{CONTENT, Make, file, folder, free, full, link};
use crate::case::Case;

fn case(call: S) -> Case {
    Case::new(call)
}

/// A new file with an extended attribute.
fn marked(name: &str) -> String {
    let path = full(name);
    rustix::fs::setxattr(
        &path,
        "user.mark",
        b"value",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    path
}

fn marked_file() -> std::fs::File {
    std::fs::File::open(marked("marked")).unwrap()
}

/// `struct open_how` for reading.
const HOW: [u64; 3] = [0, 0, 0];

pub(crate) const ALL: &[(&str, Make)] = &[
    ("open", || case(S::open).text(&full("a")).num(0).num(0)),
    ("open, missing", || {
        case(S::open)
            .text(&free("a"))
            .num(0)
            .num(0)
            .fails(libc::ENOENT)
    }),
    ("open, empty", || {
        case(S::open).text("").num(0).num(0).fails(libc::ENOENT)
    }),
    ("openat", || {
        case(S::openat).here().text(&full("a")).num(0).num(0)
    }),
    ("openat, bad directory", || {
        case(S::openat)
            .num(-5)
            .text("relative")
            .num(0)
            .num(0)
            .fails(libc::EBADF)
    }),
    ("openat2", || {
        case(S::openat2).here().text(&full("a")).words(&HOW).num(24)
    }),
    ("openat2, longer", || {
        case(S::openat2)
            .here()
            .text(&full("a"))
            .words(&[0; 5])
            .num(40)
    }),
    ("creat", || case(S::creat).text(&free("a")).num(0o600)),
    ("access", || case(S::access).text(&full("a")).num(0)),
    ("faccessat", || {
        case(S::faccessat).here().text(&full("a")).num(0)
    }),
    ("faccessat2", || {
        case(S::faccessat2).here().text(&full("a")).num(0).num(0)
    }),
    ("stat", || case(S::stat).text(&full("a")).output(144)),
    ("stat, missing", || {
        case(S::stat)
            .text(&free("a"))
            .output(144)
            .fails(libc::ENOENT)
    }),
    ("lstat", || case(S::lstat).text(&link("l")).output(144)),
    ("fstat", || case(S::fstat).fd(file()).output(200)),
    ("fstat, closed", || {
        case(S::fstat).num(-1).output(144).fails(libc::EBADF)
    }),
    ("newfstatat", || {
        case(S::newfstatat)
            .here()
            .text(&full("a"))
            .output(144)
            .num(0)
    }),
    ("newfstatat, empty path", || {
        case(S::newfstatat)
            .fd(file())
            .text("")
            .output(144)
            .num(libc::AT_EMPTY_PATH)
    }),
    ("statx", || {
        case(S::statx)
            .here()
            .text(&full("a"))
            .num(0)
            .num(0xfff)
            .output(256)
    }),
    ("statfs", || case(S::statfs).text(&full("a")).output(120)),
    ("fstatfs", || case(S::fstatfs).fd(file()).output(120)),
    ("readlink", || {
        case(S::readlink).text(&link("l")).output(64).num(64)
    }),
    ("readlink, short", || {
        case(S::readlink).text(&link("l")).output(5).num(5)
    }),
    ("readlinkat", || {
        case(S::readlinkat)
            .here()
            .text(&link("l"))
            .output(64)
            .num(64)
    }),
    ("getcwd", || case(S::getcwd).output(4096).num(4096)),
    ("getcwd, short", || {
        case(S::getcwd).output(2).num(2).fails(libc::ERANGE)
    }),
    ("chdir", || case(S::chdir).text(".")),
    ("rename", || {
        case(S::rename).text(&full("a")).text(&free("b"))
    }),
    ("renameat", || {
        case(S::renameat)
            .here()
            .text(&full("a"))
            .here()
            .text(&free("b"))
    }),
    ("renameat2", || {
        case(S::renameat2)
            .here()
            .text(&full("a"))
            .here()
            .text(&free("b"))
            .num(0)
    }),
    ("rename, missing", || {
        case(S::rename)
            .text(&free("a"))
            .text(&free("b"))
            .fails(libc::ENOENT)
    }),
    ("mkdir", || case(S::mkdir).text(&free("d")).num(0o700)),
    ("mkdirat", || {
        case(S::mkdirat).here().text(&free("d")).num(0o700)
    }),
    ("rmdir", || case(S::rmdir).text(&folder("d"))),
    ("link", || case(S::link).text(&full("a")).text(&free("b"))),
    ("linkat", || {
        case(S::linkat)
            .here()
            .text(&full("a"))
            .here()
            .text(&free("b"))
            .num(0)
    }),
    ("unlink", || case(S::unlink).text(&full("a"))),
    ("unlinkat", || {
        case(S::unlinkat).here().text(&full("a")).num(0)
    }),
    ("symlink", || {
        case(S::symlink).text("anywhere").text(&free("b"))
    }),
    ("symlinkat", || {
        case(S::symlinkat).text("anywhere").here().text(&free("b"))
    }),
    ("chmod", || case(S::chmod).text(&full("a")).num(0o600)),
    ("fchmodat", || {
        case(S::fchmodat).here().text(&full("a")).num(0o600)
    }),
    ("fchmodat2", || {
        case(S::fchmodat2).here().text(&full("a")).num(0o600).num(0)
    }),
    ("chown", || case(S::chown).text(&full("a")).num(-1).num(-1)),
    ("lchown", || {
        case(S::lchown).text(&full("a")).num(-1).num(-1)
    }),
    ("fchownat", || {
        case(S::fchownat)
            .here()
            .text(&full("a"))
            .num(-1)
            .num(-1)
            .num(0)
    }),
    ("mknod", || {
        case(S::mknod).text(&free("n")).num(0o010_600).num(0)
    }),
    ("mknodat", || {
        case(S::mknodat)
            .here()
            .text(&free("n"))
            .num(0o010_600)
            .num(0)
    }),
    ("truncate", || case(S::truncate).text(&full("a")).num(10)),
    ("utime", || case(S::utime).text(&full("a")).words(&[1, 2])),
    ("utime, now", || case(S::utime).text(&full("a")).num(0)),
    ("utimes", || {
        case(S::utimes).text(&full("a")).words(&[1, 2, 3, 4])
    }),
    ("futimesat", || {
        case(S::futimesat)
            .here()
            .text(&full("a"))
            .words(&[1, 2, 3, 4])
    }),
    ("utimensat", || {
        case(S::utimensat)
            .here()
            .text(&full("a"))
            .words(&[1, 2, 3, 4])
            .num(0)
    }),
    ("utimensat, of a descriptor", || {
        case(S::utimensat)
            .fd(file())
            .num(0)
            .words(&[1, 2, 3, 4])
            .num(0)
    }),
    ("setxattr", || {
        case(S::setxattr)
            .text(&full("a"))
            .text("user.mark")
            .input(b"value")
            .num(5)
            .num(0)
    }),
    ("lsetxattr", || {
        case(S::lsetxattr)
            .text(&full("a"))
            .text("user.mark")
            .input(b"value")
            .num(5)
            .num(0)
    }),
    ("fsetxattr", || {
        case(S::fsetxattr)
            .fd(file())
            .text("user.mark")
            .input(b"value")
            .num(5)
            .num(0)
    }),
    ("getxattr", || {
        case(S::getxattr)
            .text(&marked("m"))
            .text("user.mark")
            .output(64)
            .num(64)
    }),
    ("getxattr, size only", || {
        case(S::getxattr)
            .text(&marked("m"))
            .text("user.mark")
            .output(64)
            .num(0)
    }),
    ("lgetxattr", || {
        case(S::lgetxattr)
            .text(&marked("m"))
            .text("user.mark")
            .output(64)
            .num(64)
    }),
    ("fgetxattr", || {
        case(S::fgetxattr)
            .fd(marked_file())
            .text("user.mark")
            .output(64)
            .num(64)
    }),
    ("listxattr", || {
        case(S::listxattr).text(&marked("m")).output(64).num(64)
    }),
    ("llistxattr", || {
        case(S::llistxattr).text(&marked("m")).output(64).num(64)
    }),
    ("flistxattr", || {
        case(S::flistxattr).fd(marked_file()).output(64).num(64)
    }),
    ("listxattrat", || {
        case(S::listxattrat)
            .here()
            .text(&marked("m"))
            .num(0)
            .output(64)
            .num(64)
    }),
    ("removexattr", || {
        case(S::removexattr).text(&marked("m")).text("user.mark")
    }),
    ("lremovexattr", || {
        case(S::lremovexattr).text(&marked("m")).text("user.mark")
    }),
    ("fremovexattr", || {
        case(S::fremovexattr).fd(marked_file()).text("user.mark")
    }),
    ("removexattrat", || {
        case(S::removexattrat)
            .here()
            .text(&marked("m"))
            .num(0)
            .text("user.mark")
    }),
    ("file_getattr", || {
        case(S::file_getattr)
            .here()
            .text(&full("a"))
            .output(24)
            .num(24)
            .num(0)
    }),
    ("file_getattr, longer", || {
        case(S::file_getattr)
            .here()
            .text(&full("a"))
            .output(40)
            .num(40)
            .num(0)
    }),
    ("inotify_add_watch", || {
        let queue = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::empty()).unwrap();
        case(S::inotify_add_watch)
            .fd(queue)
            .text(&full("a"))
            .num(libc::IN_MODIFY)
    }),
    ("memfd_create", || case(S::memfd_create).text("name").num(0)),
    ("mq_open, mq_unlink", || {
        case(S::mq_unlink).text("no such queue").fails(libc::ENOENT)
    }),
    ("pread64", || {
        case(S::pread64).fd(file()).output(200).num(200).num(1)
    }),
    ("pwrite64", || {
        case(S::pwrite64).fd(file()).input(CONTENT).num(100).num(1)
    }),
];
