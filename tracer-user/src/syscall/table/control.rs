//! Calls whose second or first argument says what the others are: `ioctl`, `fcntl`, `prctl`,
//! `arch_prctl`.

use crate::syscall::Reason;
use crate::syscall::shape::Arg::{Aimed, In, InOut, Not, Opaque, Out, Text};
use crate::syscall::shape::When::{AtOnce, Done, OnceOpen};
use crate::syscall::shape::{Arg, Shape, V, shape};

/// Something that is written when the call succeeds.
const fn out(len: u64) -> Arg {
    Out(len, Done)
}

/// Something that is read once the descriptor was found good.
const fn read(len: u64) -> Arg {
    In(len, OnceOpen)
}

/// `fcntl(fd, command, argument)`.
pub(super) fn fcntl(a: &[u64; 6]) -> Option<Shape> {
    const SET_OWNER: i32 = 15;
    const GET_OWNER: i32 = 16;
    const GET_OWNERS: i32 = 17;
    const GET_RW_HINT: i32 = 1035;
    const SET_RW_HINT: i32 = 1036;
    const GET_FILE_RW_HINT: i32 = 1037;
    const SET_FILE_RW_HINT: i32 = 1038;
    const LOCK: u64 = 32;
    shape(&[
        V,
        V,
        match a[1] as i32 {
            libc::F_SETLK | libc::F_SETLKW | libc::F_OFD_SETLK | libc::F_OFD_SETLKW => read(LOCK),
            libc::F_GETLK | libc::F_OFD_GETLK => InOut(LOCK, OnceOpen, Done),
            SET_OWNER => read(8),
            GET_OWNER | GET_OWNERS | GET_RW_HINT | GET_FILE_RW_HINT => out(8),
            SET_RW_HINT | SET_FILE_RW_HINT => read(8),
            // From F_DUPFD to F_SETFL, F_SETOWN to F_GETSIG, F_SETLEASE to F_GET_SEALS: an `int`
            // or nothing.
            0..=4 | 8..=11 | 1024..=1034 => V,
            _ => Not(Reason::UnlistedRequest),
        },
    ])
}

/// `ioctl(fd, request, argument)`. What a request is depends on the file, too; the listed ones
/// mean the same for every file that takes them.
pub(super) fn ioctl(a: &[u64; 6]) -> Option<Shape> {
    let request = a[1] as u32;
    // Bits 16 to 29 of a request that is made by the rules are the size of its structure.
    let structure = u64::from(request >> 16 & 0x3fff);
    shape(&[
        V,
        V,
        match request {
            // Terminals.
            0x5401 => out(36),                                    // TCGETS
            0x5402..=0x5404 => read(36),                          // TCSETS, TCSETSW, TCSETSF
            0x5405 => out(18),                                    // TCGETA
            0x5406..=0x5408 => read(18),                          // TCSETA, TCSETAW, TCSETAF
            0x802c_542a => out(44),                               // TCGETS2
            0x402c_542b..=0x402c_542d => read(44),                // TCSETS2, TCSETSW2, TCSETSF2
            0x5409..=0x540e | 0x5425 => V,                        // TCSBRK to TIOCSCTTY, TCSBRKP
            0x540f | 0x5411 | 0x5415 | 0x5424 | 0x5429 => out(4), // TIOCGPGRP OUTQ MGET GETD GSID
            0x5410 | 0x5416..=0x5418 | 0x5423 => read(4), // TIOCSPGRP, TIOCMBIS to MSET, SETD
            0x5412 => read(1),                            // TIOCSTI
            0x5413 => out(8),                             // TIOCGWINSZ
            0x5414 => read(8),                            // TIOCSWINSZ
            0x5419 => out(4),                             // TIOCGSOFTCAR
            0x541a | 0x5420 => read(4),                   // TIOCSSOFTCAR, TIOCPKT
            0x541d | 0x5422 | 0x5427 | 0x5428 => V,       // TIOCCONS, NOTTY, SBRK, CBRK
            0x8004_5430 | 0x8004_5438..=0x8004_5439 => out(4), // TIOCGPTN, GPKT, GPTLCK
            0x4004_5431 => read(4),                       // TIOCSPTLCK
            0x5441 => V,                                  // TIOCGPTPEER
            // Any file.
            0x541b => out(4),                     // FIONREAD, TIOCINQ, SIOCINQ
            0x5421 | 0x5452 => read(4),           // FIONBIO, FIOASYNC
            0x5450 | 0x5451 => V,                 // FIONCLEX, FIOCLEX
            0x5460 => out(8),                     // FIOQSIZE
            1 => InOut(4, OnceOpen, Done),        // FIBMAP
            2 => out(4),                          // FIGETBSZ
            0x8008_6601 | 0x8008_7601 => out(4),  // FS_IOC_GETFLAGS, GETVERSION: an int
            0x4008_6602 | 0x4008_7602 => read(4), // FS_IOC_SETFLAGS, SETVERSION
            0x801c_581f => out(28),               // FS_IOC_FSGETXATTR
            0x401c_5820 => read(28),              // FS_IOC_FSSETXATTR
            0x4004_9409 => V,                     // FICLONE
            0x4020_940d => read(32),              // FICLONERANGE
            // Block devices.
            0x8008_1272 | 0x1260 => out(8), // BLKGETSIZE64, BLKGETSIZE
            0x1268 | 0x125e => out(4),      // BLKSSZGET, BLKROGET
            // Sockets.
            0x8901 | 0x8902 => read(4), // FIOSETOWN, SIOCSPGRP
            0x8903..=0x8905 => out(4),  // FIOGETOWN, SIOCGPGRP, SIOCATMARK
            0x8906 | 0x8907 => out(16), // SIOCGSTAMP, SIOCGSTAMPNS
            // `struct ifreq`, of which the name says which interface.
            0x8910 | 0x8913 | 0x8915 | 0x8917 | 0x8919 | 0x891b | 0x891d | 0x8921 | 0x8927
            | 0x8933 | 0x8942 | 0x8970 => InOut(40, OnceOpen, Done),
            0x8914 | 0x8916 | 0x8918 | 0x891a | 0x891c | 0x891e | 0x8922 | 0x8924 | 0x8943 => {
                read(40)
            }
            // Random numbers.
            0x8004_5200 => out(4), // RNDGETENTCNT
            _ if structure == 0 => Not(Reason::UnlistedRequest),
            _ => Opaque(structure),
        },
    ])
}

/// `prctl(option, …)`.
pub(super) fn prctl(a: &[u64; 6]) -> Option<Shape> {
    const SET_VMA: i32 = 0x5356_4d41;
    const SET_SYSCALL_USER_DISPATCH: i32 = 59;
    const GET_AUXV: i32 = 0x4155_5856;
    const NAME: u64 = 16;
    let unknown = Not(Reason::UnlistedRequest);
    match a[0] as i32 {
        libc::PR_SET_NAME => shape(&[V, Text(NAME - 1, AtOnce)]),
        libc::PR_GET_NAME => shape(&[V, out(NAME)]),
        libc::PR_GET_PDEATHSIG
        | libc::PR_GET_UNALIGN
        | libc::PR_GET_FPEMU
        | libc::PR_GET_FPEXC
        | libc::PR_GET_ENDIAN
        | libc::PR_GET_TSC
        | libc::PR_GET_CHILD_SUBREAPER => shape(&[V, out(4)]),
        libc::PR_GET_TID_ADDRESS => shape(&[V, out(8)]),
        libc::PR_SET_SECCOMP => shape(&[V, V, Opaque(16)]),
        SET_VMA => shape(&[V, V, Aimed(a[3]), V, Text(80, AtOnce)]),
        SET_SYSCALL_USER_DISPATCH => shape(&[V, V, V, V, Not(Reason::Kept)]),
        GET_AUXV => shape(&[V, unknown]),
        libc::PR_SET_MM => shape(&[V, V, unknown, V, V]),
        libc::PR_SET_PDEATHSIG
        | libc::PR_GET_DUMPABLE
        | libc::PR_SET_DUMPABLE
        | libc::PR_SET_UNALIGN
        | libc::PR_GET_KEEPCAPS
        | libc::PR_SET_KEEPCAPS
        | libc::PR_GET_TIMING
        | libc::PR_SET_TIMING
        | libc::PR_GET_SECCOMP
        | libc::PR_CAPBSET_READ
        | libc::PR_CAPBSET_DROP
        | libc::PR_SET_TSC
        | libc::PR_GET_SECUREBITS
        | libc::PR_SET_SECUREBITS
        | libc::PR_SET_TIMERSLACK
        | libc::PR_GET_TIMERSLACK
        | libc::PR_TASK_PERF_EVENTS_DISABLE
        | libc::PR_TASK_PERF_EVENTS_ENABLE
        | libc::PR_MCE_KILL
        | libc::PR_MCE_KILL_GET
        | libc::PR_SET_PTRACER
        | libc::PR_SET_CHILD_SUBREAPER
        | libc::PR_SET_NO_NEW_PRIVS
        | libc::PR_GET_NO_NEW_PRIVS
        | libc::PR_GET_THP_DISABLE
        | libc::PR_SET_THP_DISABLE
        | libc::PR_CAP_AMBIENT
        | libc::PR_GET_SPECULATION_CTRL
        | libc::PR_SET_SPECULATION_CTRL => shape(&[]),
        _ => shape(&[V, unknown, unknown, unknown, unknown]),
    }
}

/// `arch_prctl(code, address)`.
pub(super) fn arch_prctl(a: &[u64; 6]) -> Option<Shape> {
    match a[0] as i32 {
        // ARCH_GET_FS, GET_GS, GET_XCOMP_SUPP, PERM and GUEST_PERM, SHSTK_STATUS
        0x1003 | 0x1004 | 0x1021 | 0x1022 | 0x1024 | 0x5005 => shape(&[V, out(8)]),
        // ARCH_SET_GS and SET_FS, GET_CPUID, SET_CPUID, REQ_XCOMP_*, MAP_VDSO_*, SHSTK_*
        0x1001 | 0x1002 | 0x1011 | 0x1012 | 0x1023 | 0x1025 | 0x2001..=0x2003 | 0x5001..=0x5004 => {
            shape(&[])
        }
        _ => shape(&[V, Not(Reason::UnlistedRequest)]),
    }
}
