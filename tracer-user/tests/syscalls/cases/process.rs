//! Processes, threads, signals, clocks, mappings, System V objects.

use std::process::{Child, Command};

use syscalls::Sysno as S;

use super::{CONTENT, Make, full, signal};
use crate::case::{Block, Case, issue, opened};

fn case(call: S) -> Case {
    Case::new(call)
}

/// A child that has ended.
fn ended() -> Child {
    Command::new("/bin/true").spawn().unwrap()
}

/// The clock of most cases.
const NOW: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// A new object of System V, removed when dropped.
struct Object(i64, S, usize);

impl Object {
    fn new(get: S, args: [u64; 6], control: S, command: usize) -> Object {
        let id = issue(get as u64, args);
        assert!(id >= 0, "{get}: {id}");
        Object(id, control, command)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let mut args = [self.0 as u64, 0, 0, 0, 0, 0];
        args[self.2] = libc::IPC_RMID as u64;
        issue(self.1 as u64, args);
    }
}

fn messages() -> Object {
    let mode = 0o600;
    Object::new(S::msgget, [0, mode, 0, 0, 0, 0], S::msgctl, 1)
}

fn segment() -> Object {
    Object::new(S::shmget, [0, 4096, 0o600, 0, 0, 0], S::shmctl, 1)
}

fn semaphores() -> Object {
    Object::new(S::semget, [0, 3, 0o600, 0, 0, 0], S::semctl, 2)
}

fn of(call: S, object: Object) -> Case {
    case(call).num(object.0).keep(object)
}

/// A queue with a message of 20 bytes.
fn letter() -> Object {
    let queue = messages();
    let message = [1u64, 2, 3, 4];
    let at = message.as_ptr().expose_provenance() as u64;
    assert_eq!(
        issue(S::msgsnd as u64, [queue.0 as u64, at, 20, 0, 0, 0]),
        0
    );
    queue
}

/// A timer of this process.
struct Timer(u64);

impl Timer {
    fn new() -> Timer {
        let mut id = 0u32;
        let at = (&raw mut id).expose_provenance() as u64;
        assert_eq!(
            issue(S::timer_create as u64, [NOW as u64, 0, at, 0, 0, 0]),
            0
        );
        Timer(id.into())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        issue(S::timer_delete as u64, [self.0, 0, 0, 0, 0, 0]);
    }
}

/// A queue that has a name only until it is open.
fn queue() -> std::os::fd::OwnedFd {
    let name = c"ffitrace-test".as_ptr().expose_provenance() as u64;
    let flags = (libc::O_RDWR | libc::O_CREAT) as u64;
    let queue = opened(S::mq_open, [name, flags, 0o600, 0, 0, 0]);
    issue(S::mq_unlink as u64, [name, 0, 0, 0, 0, 0]);
    queue
}

/// A name that no queue has, before and after.
struct Name;

impl Name {
    fn free(&self) {
        let name = c"ffitrace-named".as_ptr().expose_provenance() as u64;
        issue(S::mq_unlink as u64, [name, 0, 0, 0, 0, 0]);
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.free();
    }
}

/// Opening a queue by name, with attributes.
fn named(flags: i32) -> Case {
    let name = Name;
    name.free();
    let attributes = [0, 5, 64, 0, 0, 0, 0, 0];
    let case = case(S::mq_open)
        .text("ffitrace-named")
        .num(flags)
        .num(0o600);
    case.words(&attributes).keep(name)
}

/// An executable file that is not a program: the call fails when it has read everything.
fn junk() -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = full("junk");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

/// A call on a private futex, mostly: the kernel wants the page of a shared one writable even if it
/// only compares the word.
fn futex(word: u32, op: i32) -> Case {
    case(S::futex).input(&word.to_le_bytes()).aligned(4).num(op)
}

pub(crate) const ALL: &[(&str, Make)] = &[
    ("uname", || case(S::uname).output(400)),
    ("sysinfo", || case(S::sysinfo).output(200)),
    ("getrandom", || {
        case(S::getrandom).output(300).num(300).num(0)
    }),
    ("getcpu", || case(S::getcpu).output(4).output(4).num(0)),
    ("getcpu, one", || case(S::getcpu).num(0).output(4).num(0)),
    ("times", || case(S::times).output(64)),
    ("time", || case(S::time).output(16)),
    ("gettimeofday", || {
        case(S::gettimeofday).output(16).output(8)
    }),
    ("clock_gettime", || {
        case(S::clock_gettime).num(NOW).output(32)
    }),
    ("clock_gettime, bad clock", || {
        case(S::clock_gettime)
            .num(99)
            .output(32)
            .fails(libc::EINVAL)
    }),
    ("clock_getres", || case(S::clock_getres).num(NOW).output(32)),
    ("clock_adjtime", || {
        case(S::clock_adjtime).num(0).input(&[0; 208]).rewritten()
    }),
    ("adjtimex", || {
        case(S::adjtimex).input(&[0; 208]).rewritten()
    }),
    ("nanosleep", || {
        case(S::nanosleep).words(&[0, 1000]).output(16)
    }),
    ("nanosleep, interrupted", || {
        case(S::nanosleep).words(&[9, 0]).output(16).interrupted()
    }),
    ("nanosleep, bad", || {
        case(S::nanosleep)
            .words(&[0, u64::MAX])
            .output(16)
            .fails(libc::EINVAL)
    }),
    ("clock_nanosleep", || {
        case(S::clock_nanosleep)
            .num(NOW)
            .num(0)
            .words(&[0, 1])
            .output(16)
    }),
    ("clock_nanosleep, interrupted", || {
        case(S::clock_nanosleep)
            .num(NOW)
            .num(0)
            .words(&[9, 0])
            .output(16)
            .interrupted()
    }),
    ("clock_nanosleep, until", || {
        case(S::clock_nanosleep)
            .num(NOW)
            .num(1)
            .words(&[1 << 40, 0])
            .output(16)
            .interrupted()
    }),
    ("getitimer", || {
        case(S::getitimer).num(libc::ITIMER_VIRTUAL).output(64)
    }),
    ("setitimer", || {
        case(S::setitimer)
            .num(libc::ITIMER_VIRTUAL)
            .words(&[0; 4])
            .output(32)
    }),
    ("timer_create", || {
        let mut event = [0; 8];
        event[1] = 1 << 32; // SIGEV_NONE
        case(S::timer_create).num(NOW).words(&event).output(4)
    }),
    ("timer_settime", || {
        let timer = Timer::new();
        let case = case(S::timer_settime).num(timer.0 as i64).num(0);
        case.words(&[0, 0, 999, 0]).output(32).keep(timer)
    }),
    ("timer_gettime", || {
        let timer = Timer::new();
        case(S::timer_gettime)
            .num(timer.0 as i64)
            .output(64)
            .keep(timer)
    }),
    ("getrusage", || case(S::getrusage).num(0).output(200)),
    ("getrlimit", || case(S::getrlimit).num(7).output(64)),
    ("setrlimit", || {
        case(S::setrlimit)
            .num(libc::RLIMIT_CORE as i64)
            .words(&[0, 0])
    }),
    ("prlimit64", || {
        case(S::prlimit64)
            .num(0)
            .num(libc::RLIMIT_CORE as i64)
            .words(&[0, 0])
            .output(16)
    }),
    ("prlimit64, only get", || {
        case(S::prlimit64).num(0).num(7).num(0).output(16)
    }),
    ("getgroups", || case(S::getgroups).num(64).output(256)),
    ("getgroups, count", || case(S::getgroups).num(0).output(256)),
    ("getresuid", || {
        case(S::getresuid).output(4).output(4).output(4)
    }),
    ("getresgid", || {
        case(S::getresgid).output(4).output(4).output(4)
    }),
    ("capget", || {
        case(S::capget).words(&[0x2008_0522]).output(24)
    }),
    ("capget, first version", || {
        case(S::capget).words(&[0x1998_0330]).output(24)
    }),
    ("sched_getparam", || {
        case(S::sched_getparam).num(0).output(16)
    }),
    ("sched_setparam", || {
        case(S::sched_setparam).num(0).input(&[0; 4])
    }),
    ("sched_setscheduler", || {
        case(S::sched_setscheduler).num(0).num(0).input(&[0; 4])
    }),
    ("sched_rr_get_interval", || {
        case(S::sched_rr_get_interval).num(0).output(64)
    }),
    ("sched_getaffinity", || {
        case(S::sched_getaffinity).num(0).num(128).output(128)
    }),
    ("sched_setaffinity", || {
        case(S::sched_setaffinity).num(0).num(8).words(&[3])
    }),
    ("sched_getattr", || {
        case(S::sched_getattr).num(0).output(56).num(56).num(0)
    }),
    ("sched_getattr, first version", || {
        case(S::sched_getattr).num(0).output(48).num(48).num(0)
    }),
    ("sched_setattr", || {
        case(S::sched_setattr)
            .num(0)
            .words(&[48, 0, 0, 0, 0, 0])
            .num(0)
    }),
    ("wait4", || {
        let child = ended();
        case(S::wait4)
            .num(child.id())
            .output(4)
            .num(0)
            .output(144)
            .keep(child)
    }),
    ("wait4, nobody", || {
        case(S::wait4)
            .num(1)
            .output(4)
            .num(0)
            .output(144)
            .fails(libc::ECHILD)
    }),
    ("wait4, not yet", || {
        let child = Command::new("/bin/sleep").arg("0.1").spawn().unwrap();
        case(S::wait4)
            .num(child.id())
            .output(4)
            .num(libc::WNOHANG)
            .output(144)
            .keep(child)
    }),
    ("waitid", || {
        let child = ended();
        case(S::waitid)
            .num(libc::P_PID as i64)
            .num(child.id())
            .output(128)
            .num(libc::WEXITED)
            .output(144)
            .keep(child)
    }),
    ("waitid, nobody", || {
        case(S::waitid)
            .num(libc::P_PID as i64)
            .num(1)
            .output(128)
            .num(libc::WEXITED)
            .output(144)
            .fails(libc::ECHILD)
    }),
    ("prctl, PR_SET_NAME", || {
        case(S::prctl).num(libc::PR_SET_NAME).text("name")
    }),
    ("prctl, PR_SET_NAME, long", || {
        case(S::prctl).num(libc::PR_SET_NAME).input(&CONTENT[..40])
    }),
    ("prctl, PR_GET_NAME", || {
        case(S::prctl).num(libc::PR_GET_NAME).output(64)
    }),
    ("prctl, PR_GET_PDEATHSIG", || {
        case(S::prctl).num(libc::PR_GET_PDEATHSIG).output(64)
    }),
    ("prctl, PR_GET_TSC", || {
        case(S::prctl).num(libc::PR_GET_TSC).output(64)
    }),
    ("prctl, PR_GET_CHILD_SUBREAPER", || {
        case(S::prctl).num(libc::PR_GET_CHILD_SUBREAPER).output(64)
    }),
    ("arch_prctl, ARCH_GET_FS", || {
        case(S::arch_prctl).num(0x1003).output(64)
    }),
    ("arch_prctl, ARCH_GET_XCOMP_SUPP", || {
        case(S::arch_prctl).num(0x1021).output(64)
    }),
    ("get_robust_list", || {
        case(S::get_robust_list).num(0).output(8).output(8)
    }),
    ("rt_sigprocmask", || {
        case(S::rt_sigprocmask).num(0).words(&[0]).output(8).num(8)
    }),
    ("rt_sigprocmask, bad size", || {
        case(S::rt_sigprocmask)
            .num(0)
            .words(&[0])
            .output(8)
            .num(16)
            .fails(libc::EINVAL)
    }),
    ("rt_sigaction", || {
        case(S::rt_sigaction)
            .num(libc::SIGUSR2)
            .words(&[1, 0, 0, 0])
            .output(32)
            .num(8)
    }),
    ("rt_sigpending", || case(S::rt_sigpending).output(8).num(8)),
    ("rt_sigpending, less", || {
        case(S::rt_sigpending).output(8).num(3)
    }),
    ("rt_sigsuspend", || {
        case(S::rt_sigsuspend).words(&[0]).num(8).interrupted()
    }),
    ("rt_sigtimedwait, in vain", || {
        case(S::rt_sigtimedwait)
            .words(&[0])
            .output(128)
            .words(&[0, 1])
            .num(8)
            .fails(libc::EAGAIN)
    }),
    ("rt_sigtimedwait", || {
        let pending = signal::Pending::new();
        let set = 1 << (libc::SIGUSR2 - 1);
        case(S::rt_sigtimedwait)
            .words(&[set])
            .output(128)
            .words(&[9, 0])
            .num(8)
            .keep(pending)
    }),
    ("rt_tgsigqueueinfo", || {
        let mut info = [0; 16];
        info[0] = 23;
        info[1] = u64::from((-1i32) as u32);
        let me = std::process::id();
        let thread = issue(S::gettid as u64, [0; 6]);
        case(S::rt_tgsigqueueinfo)
            .num(me)
            .num(thread)
            .num(23)
            .words(&info)
    }),
    ("pidfd_send_signal", || {
        let mut info = [0; 16];
        info[0] = 23;
        info[1] = u64::from((-1i32) as u32);
        let process = opened(S::pidfd_open, [std::process::id().into(), 0, 0, 0, 0, 0]);
        case(S::pidfd_send_signal)
            .fd(process)
            .num(23)
            .words(&info)
            .num(0)
    }),
    ("execve, not a program", || {
        let strings = |case: Case| case.link(0, 2).link(8, 3);
        let case = strings(case(S::execve).text(&junk()).words(&[0, 0, 0]));
        let case = case
            .aside(Block::input(b"one\0"))
            .aside(Block::input(b"another\0"));
        case.num(0).fails(libc::ENOEXEC)
    }),
    ("execve, with an environment", || {
        let case = case(S::execve).text(&junk()).words(&[0, 0]).link(0, 3);
        let case = case.words(&[0, 0]).link(0, 4);
        let case = case
            .aside(Block::input(b"one\0"))
            .aside(Block::input(b"A=B\0"));
        case.fails(libc::ENOEXEC)
    }),
    ("execveat, not a program", || {
        let case = case(S::execveat)
            .here()
            .text(&junk())
            .words(&[0, 0])
            .link(0, 2);
        case.aside(Block::input(b"one\0"))
            .num(0)
            .num(0)
            .fails(libc::ENOEXEC)
    }),
    ("sigaltstack, set", || {
        case(S::sigaltstack).words(&[0, 2, 0]).output(24)
    }),
    ("mq_timedsend", || {
        let case = case(S::mq_timedsend)
            .fd(queue())
            .input(b"message")
            .num(7)
            .num(1);
        case.words(&[1 << 40, 0])
    }),
    ("mq_timedreceive", || {
        let queue = queue();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&queue) as u64;
        let message = b"message".as_ptr().expose_provenance() as u64;
        assert_eq!(issue(S::mq_timedsend as u64, [fd, message, 7, 1, 0, 0]), 0);
        let case = case(S::mq_timedreceive)
            .fd(queue)
            .output(8192)
            .num(8192)
            .output(4);
        case.words(&[1 << 40, 0])
    }),
    ("mq_open", || named(libc::O_RDWR | libc::O_CREAT)),
    ("mq_open, without making it", || {
        let case = named(libc::O_RDWR);
        let name = c"ffitrace-named".as_ptr().expose_provenance() as u64;
        let made = [name, (libc::O_RDWR | libc::O_CREAT) as u64, 0o600, 0, 0, 0];
        case.keep(opened(S::mq_open, made))
    }),
    ("mq_getsetattr", || {
        case(S::mq_getsetattr).fd(queue()).words(&[0; 8]).output(64)
    }),
    ("landlock_create_ruleset", || {
        case(S::landlock_create_ruleset).words(&[1]).num(8).num(0)
    }),
    ("add_key", || {
        let case = case(S::add_key)
            .text("user")
            .text("ffitrace test")
            .input(b"payload");
        case.num(7).num(-2)
    }),
    ("waitid, not yet", || {
        let child = Command::new("/bin/sleep").arg("0.1").spawn().unwrap();
        let case = case(S::waitid)
            .num(libc::P_PID as i64)
            .num(child.id())
            .output(128);
        case.num(libc::WEXITED | libc::WNOHANG)
            .output(144)
            .keep(child)
    }),
    ("rt_sigqueueinfo", || {
        let mut info = [0; 16];
        info[0] = 23; // SIGURG, which is ignored
        info[1] = u64::from((-1i32) as u32); // SI_QUEUE
        case(S::rt_sigqueueinfo)
            .num(std::process::id())
            .num(23)
            .words(&info)
    }),
    ("sigaltstack", || case(S::sigaltstack).num(0).output(64)),
    ("futex, FUTEX_WAIT, changed", || {
        futex(5, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG)
            .num(6)
            .num(0)
            .fails(libc::EAGAIN)
    }),
    ("futex, FUTEX_WAIT, in vain", || {
        futex(5, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG)
            .num(5)
            .words(&[0, 1000])
            .fails(libc::ETIMEDOUT)
    }),
    ("futex, FUTEX_WAIT_BITSET, interrupted", || {
        let case = futex(5, libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG);
        case.num(5).num(0).num(0).num(1).interrupted()
    }),
    ("futex, FUTEX_CMP_REQUEUE", || {
        futex(5, libc::FUTEX_CMP_REQUEUE | 128)
            .num(1)
            .num(1)
            .output(4)
            .num(5)
    }),
    ("futex, FUTEX_WAKE_OP", || {
        let case = case(S::futex)
            .output(4)
            .aligned(4)
            .num(libc::FUTEX_WAKE_OP | 128);
        case.num(1).num(1).output(4).num(0x0012_3000)
    }),
    ("futex_wait", || {
        let case = case(S::futex_wait).input(&[5, 0, 0, 0]).aligned(4);
        case.num(6)
            .num(1)
            .num(2 | 128)
            .num(0)
            .num(0)
            .fails(libc::EAGAIN)
    }),
    ("futex_waitv", || {
        let case = case(S::futex_waitv).words(&[6, 0, 2 | 128]).link(8, 1);
        let case = case.aside(Block::input(&[5, 0, 0, 0])).aligned(4);
        case.num(1).num(0).num(0).num(0).fails(libc::EAGAIN)
    }),
    ("mincore", || {
        // A page of this test; that of a block is not known here.
        let page = CONTENT.as_ptr().expose_provenance() as i64 & !4095;
        case(S::mincore).num(page).num(4096).output(1)
    }),
    ("get_mempolicy", || {
        case(S::get_mempolicy).output(4).num(0).num(0).num(0).num(0)
    }),
    ("io_setup", || {
        case(S::io_setup).num(1).words(&[0]).rewritten()
    }),
    ("msgsnd", || {
        of(S::msgsnd, messages())
            .words(&[1, 2, 3, 4])
            .num(20)
            .num(0)
    }),
    ("msgrcv", || {
        of(S::msgrcv, letter()).output(64).num(56).num(0).num(0)
    }),
    ("msgctl, IPC_STAT", || {
        of(S::msgctl, messages()).num(libc::IPC_STAT).output(200)
    }),
    ("msgctl, IPC_SET", || {
        of(S::msgctl, messages()).num(libc::IPC_SET).words(&[0; 15])
    }),
    ("msgctl, IPC_INFO", || {
        case(S::msgctl).num(0).num(3).output(200)
    }),
    ("msgctl, MSG_INFO", || {
        case(S::msgctl).num(0).num(12).output(200)
    }),
    ("shmctl, IPC_STAT", || {
        of(S::shmctl, segment()).num(libc::IPC_STAT).output(200)
    }),
    ("shmctl, IPC_INFO", || {
        case(S::shmctl).num(0).num(3).output(200)
    }),
    ("shmctl, SHM_INFO", || {
        case(S::shmctl).num(0).num(14).output(200)
    }),
    ("semctl, IPC_STAT", || {
        of(S::semctl, semaphores())
            .num(0)
            .num(libc::IPC_STAT)
            .output(200)
    }),
    ("semctl, IPC_INFO", || {
        case(S::semctl).num(0).num(0).num(3).output(200)
    }),
    ("semctl, GETVAL", || {
        of(S::semctl, semaphores()).num(0).num(12).output(200)
    }),
    ("semop", || {
        of(S::semop, semaphores())
            .input(&[0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0])
            .num(2)
    }),
    ("semtimedop", || {
        let case = of(S::semtimedop, semaphores()).input(&[0, 0, 0xff, 0xff, 0, 0]);
        case.num(1).words(&[0, 1000]).fails(libc::EAGAIN)
    }),
];
