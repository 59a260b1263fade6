//! Calls on paths: opening, attributes, links, mounts.

use syscalls::Sysno;

use super::Look;
use crate::syscall::Reason;
use crate::syscall::shape::Arg::{In, Not, Opaque, Out, Text};
use crate::syscall::shape::When::{AtOnce, Done, OnceOpen};
use crate::syscall::shape::{Arg, PATH, Shape, V, int, received, shape};

/// `struct stat`.
const STAT: Arg = Out(144, Done);
/// `struct statfs`.
const STATFS: Arg = Out(120, Done);
/// Name of an extended attribute (`XATTR_NAME_MAX` and the NUL).
const ATTRIBUTE: Arg = Text(256, OnceOpen);
/// Strings that mounting takes (`strndup_user` of a page).
const PAGE_TEXT: Arg = Text(4096, AtOnce);

/// Length of the value of an extended attribute; longer ones fail unread (`XATTR_SIZE_MAX`).
fn value(len: u64) -> u64 {
    if len > 1 << 16 { 0 } else { len }
}

/// See [`shape`](super::shape).
pub(super) fn shape_of(call: Sysno, a: &[u64; 6], look: &Look) -> Option<Shape> {
    use Sysno as S;
    match call {
        S::open
        | S::creat
        | S::access
        | S::chdir
        | S::chroot
        | S::mkdir
        | S::rmdir
        | S::unlink
        | S::chmod
        | S::chown
        | S::lchown
        | S::mknod
        | S::truncate
        | S::acct
        | S::swapon
        | S::swapoff
        | S::umount2
        | S::uselib => shape(&[PATH]),
        S::openat
        | S::faccessat
        | S::faccessat2
        | S::mkdirat
        | S::unlinkat
        | S::fchmodat
        | S::fchmodat2
        | S::fchownat
        | S::mknodat
        | S::inotify_add_watch
        | S::open_tree
        | S::fspick => shape(&[V, PATH]),
        S::openat2 => {
            // Below 24 bytes EINVAL, above a page E2BIG, and nothing is read.
            let how = if (24..=4096).contains(&a[3]) { a[3] } else { 0 };
            shape(&[V, PATH, In(how, AtOnce)])
        }
        S::stat | S::lstat => shape(&[PATH, STAT]),
        S::fstat => shape(&[V, STAT]),
        S::newfstatat => shape(&[V, PATH, STAT]),
        S::statx => shape(&[V, PATH, V, V, Out(256, Done)]),
        S::statfs => shape(&[PATH, STATFS]),
        S::fstatfs => shape(&[V, STATFS]),
        S::ustat => shape(&[V, Out(32, Done)]),
        S::readlink => shape(&[PATH, received(int(a[2]))]),
        S::readlinkat => shape(&[V, PATH, received(int(a[3]))]),
        S::getcwd => shape(&[received(a[1])]),
        S::rename | S::link | S::symlink | S::pivot_root => shape(&[PATH, PATH]),
        S::renameat | S::renameat2 | S::linkat => shape(&[V, PATH, V, PATH]),
        S::symlinkat => shape(&[PATH, V, PATH]),
        S::utime => shape(&[PATH, In(16, AtOnce)]),
        S::utimes => shape(&[PATH, In(32, AtOnce)]),
        S::futimesat => shape(&[V, PATH, In(32, AtOnce)]),
        S::utimensat => shape(&[V, PATH, In(32, AtOnce)]),
        S::fanotify_mark => shape(&[V, V, V, V, PATH]),
        // How much is written is told by the structure, and the errors write some of it.
        S::name_to_handle_at => shape(&[V, PATH, Not(Reason::Inside), Not(Reason::Inside)]),
        S::open_by_handle_at => {
            let room = u64::from(look.u32(a[1]));
            let handle = if room > 128 { 8 } else { 8 + room };
            shape(&[V, In(handle, OnceOpen)])
        }
        S::setxattr | S::lsetxattr => shape(&[PATH, ATTRIBUTE, In(value(a[3]), OnceOpen)]),
        S::fsetxattr => shape(&[V, ATTRIBUTE, In(value(a[3]), OnceOpen)]),
        S::getxattr | S::lgetxattr => shape(&[PATH, ATTRIBUTE, received(a[3])]),
        S::fgetxattr => shape(&[V, ATTRIBUTE, received(a[3])]),
        S::listxattr | S::llistxattr => shape(&[PATH, received(a[2])]),
        S::flistxattr => shape(&[V, received(a[2])]),
        S::removexattr | S::lremovexattr => shape(&[PATH, ATTRIBUTE]),
        S::fremovexattr => shape(&[V, ATTRIBUTE]),
        S::setxattrat | S::getxattrat => shape(&[V, PATH, V, ATTRIBUTE, Opaque(a[5])]),
        S::listxattrat => shape(&[V, PATH, V, received(a[4])]),
        S::removexattrat => shape(&[V, PATH, V, ATTRIBUTE]),
        S::file_getattr => shape(&[V, PATH, Out(a[3], Done)]),
        S::file_setattr => shape(&[V, PATH, In(a[3], OnceOpen)]),
        S::mount => shape(&[PAGE_TEXT, PATH, PAGE_TEXT, V, Not(Reason::Inside)]),
        S::move_mount => shape(&[V, PATH, V, PATH]),
        S::mount_setattr | S::open_tree_attr => shape(&[V, PATH, V, In(a[4], AtOnce)]),
        S::fsopen => shape(&[PAGE_TEXT]),
        S::fsconfig => shape(&[V, V, Text(256, OnceOpen), Not(Reason::Inside)]),
        S::quotactl => shape(&[V, PATH, V, Not(Reason::Inside)]),
        S::quotactl_fd => shape(&[V, V, V, Not(Reason::Inside)]),
        S::statmount | S::listmount => shape(&[Opaque(32), Not(Reason::Inside)]),
        S::mq_open => shape(&[PATH, V, V, In(64, AtOnce)]),
        S::mq_unlink => shape(&[PATH]),
        _ => None,
    }
}
