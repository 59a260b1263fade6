//! Calls that are handed no memory: their arguments are numbers, or nothing.

use syscalls::Sysno;

use crate::syscall::shape::{Shape, shape};

/// See [`shape`](super::shape).
pub(super) fn shape_of(call: Sysno) -> Option<Shape> {
    use Sysno as S;
    match call {
        // Descriptors.
        S::close
        | S::close_range
        | S::dup
        | S::dup2
        | S::dup3
        | S::lseek
        | S::flock
        | S::fsync
        | S::fdatasync
        | S::sync
        | S::syncfs
        | S::sync_file_range
        | S::fallocate
        | S::ftruncate
        | S::fadvise64
        | S::readahead
        | S::fchdir
        | S::fchmod
        | S::fchown
        | S::tee
        | S::eventfd
        | S::eventfd2
        | S::epoll_create
        | S::epoll_create1
        | S::inotify_init
        | S::inotify_init1
        | S::inotify_rm_watch
        | S::fanotify_init
        | S::timerfd_create
        | S::memfd_secret
        | S::userfaultfd
        | S::pidfd_open
        | S::pidfd_getfd
        | S::fsmount
        | S::io_destroy => {}
        // Sockets.
        S::socket | S::shutdown | S::listen => {}
        // Processes, threads, identities.
        S::getpid
        | S::getppid
        | S::gettid
        | S::getuid
        | S::geteuid
        | S::getgid
        | S::getegid
        | S::setuid
        | S::setgid
        | S::setreuid
        | S::setregid
        | S::setresuid
        | S::setresgid
        | S::setfsuid
        | S::setfsgid
        | S::getpgrp
        | S::getpgid
        | S::setpgid
        | S::getsid
        | S::setsid
        | S::fork
        | S::vfork
        | S::exit
        | S::exit_group
        | S::sched_yield
        | S::sched_get_priority_max
        | S::sched_get_priority_min
        | S::sched_getscheduler
        | S::getpriority
        | S::setpriority
        | S::ioprio_get
        | S::ioprio_set
        | S::personality
        | S::unshare
        | S::setns
        | S::kcmp
        | S::umask
        | S::vhangup
        | S::iopl
        | S::ioperm
        | S::membarrier
        | S::process_mrelease
        | S::landlock_restrict_self => {}
        // Signals and time.
        S::kill
        | S::tkill
        | S::tgkill
        | S::pause
        | S::alarm
        | S::rt_sigreturn
        | S::restart_syscall
        | S::timer_delete
        | S::timer_getoverrun => {}
        // System V objects, keys of memory protection.
        S::shmget | S::shmdt | S::semget | S::msgget | S::pkey_alloc | S::pkey_free => {}
        // The kernel's own, from its own page.
        S::uretprobe | S::uprobe => {}
        // Numbers without a call (`sys_ni_syscall`): ENOSYS, whatever the arguments.
        S::create_module
        | S::get_kernel_syms
        | S::query_module
        | S::nfsservctl
        | S::getpmsg
        | S::putpmsg
        | S::afs_syscall
        | S::tuxcall
        | S::security
        | S::epoll_ctl_old
        | S::epoll_wait_old
        | S::vserver
        | S::_sysctl
        | S::lookup_dcookie => {}
        _ => return None,
    }
    shape(&[])
}
