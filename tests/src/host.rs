//! What this host can do, found out without the product.
//!
//! # Safety
//! Some system calls are made by hand: `bpf(BPF_MAP_CREATE)` and `bpf(BPF_…_GET_NEXT_ID)` with a zeroed
//! attribute block that outlives the call, the first one's descriptor is closed again, and `ptrace(PTRACE_TRACEME)` in a forked
//! child before `exec`, which is async-signal-safe.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Something that a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// Load and attach eBPF programs.
    Bpf,
    /// Be traced by a parent with ptrace.
    Ptrace,
    /// Be root, to become somebody else with `setpriv`.
    DropRoot,
    /// Make namespaces, and mount in them.
    Namespaces,
    /// zlib as installed (`libz.so.1`).
    Zlib,
    /// LuaJIT as installed (`luajit`).
    LuaJit,
    /// AVX.
    Avx,
    /// AVX2.
    Avx2,
    /// AVX-512 F, BW and VL.
    Avx512,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Need::Bpf => "eBPF",
            Need::Ptrace => "ptrace",
            Need::DropRoot => "root and setpriv",
            Need::Namespaces => "root and namespaces",
            Need::Zlib => "zlib",
            Need::LuaJit => "LuaJIT",
            Need::Avx => "AVX",
            Need::Avx2 => "AVX2",
            Need::Avx512 => "AVX-512 F, BW, VL",
        })
    }
}

/// Why `need` is not met here, or `None` if it is.
pub fn missing(need: Need) -> Option<String> {
    match need {
        Need::Bpf => bpf_missing().clone(),
        Need::Ptrace => ptrace_missing().clone(),
        Need::DropRoot => drop_root_missing(),
        Need::Namespaces => namespaces_missing().clone(),
        Need::Zlib => zlib_missing(),
        Need::LuaJit => luajit_missing().clone(),
        Need::Avx => cpu(std::is_x86_feature_detected!("avx"), need),
        Need::Avx2 => cpu(std::is_x86_feature_detected!("avx2"), need),
        Need::Avx512 => cpu(
            std::is_x86_feature_detected!("avx512f")
                && std::is_x86_feature_detected!("avx512bw")
                && std::is_x86_feature_detected!("avx512vl"),
            need,
        ),
    }
}

fn cpu(has: bool, need: Need) -> Option<String> {
    (!has).then(|| format!("this CPU has no {need}"))
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn luajit_missing() -> &'static Option<String> {
    static ANSWER: OnceLock<Option<String>> = OnceLock::new();
    ANSWER.get_or_init(|| {
        let mut luajit = Command::new("luajit");
        let found = luajit.arg("-v").stdout(Stdio::null()).status();
        let runs = found.is_ok_and(|status| status.success());
        (!runs).then(|| "no `luajit`: install the package luajit".into())
    })
}

fn bpf_missing() -> &'static Option<String> {
    static ANSWER: OnceLock<Option<String>> = OnceLock::new();
    ANSWER.get_or_init(|| {
        if !is_root() {
            return Some("not root: run the tests with sudo for the eBPF recorder".into());
        }
        if !Path::new("/sys/kernel/btf/vmlinux").exists() {
            return Some("the kernel has no BTF (/sys/kernel/btf/vmlinux)".into());
        }
        create_bpf_map()
            .err()
            .map(|error| format!("bpf(BPF_MAP_CREATE) failed: {error}"))
    })
}

/// Creates a one-element array map and closes it again.
fn create_bpf_map() -> io::Result<()> {
    const BPF_MAP_CREATE: libc::c_long = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    /// The first four fields of `union bpf_attr` for this command, and room for later ones.
    #[repr(C)]
    struct Attr {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        rest: [u64; 14],
    }
    let attr = Attr {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
        rest: [0; 14],
    };
    // SAFETY: `attr` is initialised, of the size given, and lives across the call; the kernel
    // accepts longer blocks than it knows if the rest is zero.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_CREATE,
            &raw const attr,
            std::mem::size_of::<Attr>(),
        )
    };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}

/// The programs, maps and links that the kernel has, of all processes.
///
/// # Errors
/// Fails without privileges.
pub fn bpf_objects() -> io::Result<BTreeSet<(&'static str, u32)>> {
    /// First fields of `union bpf_attr` for these commands, and room for later ones.
    #[repr(C)]
    struct Attr {
        start: u32,
        next: u32,
        rest: [u64; 15],
    }
    let mut found = BTreeSet::new();
    // BPF_PROG_GET_NEXT_ID, BPF_MAP_GET_NEXT_ID, BPF_LINK_GET_NEXT_ID
    let commands: [(libc::c_long, &str); 3] = [(11, "program"), (12, "map"), (31, "link")];
    for (command, kind) in commands {
        let mut attr = Attr {
            start: 0,
            next: 0,
            rest: [0; 15],
        };
        loop {
            // SAFETY: `attr` is initialised, of the size given, and lives across the call.
            let done = unsafe {
                libc::syscall(
                    libc::SYS_bpf,
                    command,
                    &raw mut attr,
                    std::mem::size_of::<Attr>(),
                )
            };
            if done == 0 {
                found.insert((kind, attr.next));
                attr.start = attr.next;
                continue;
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::ENOENT) {
                break;
            }
            return Err(error);
        }
    }
    Ok(found)
}

fn ptrace_missing() -> &'static Option<String> {
    static ANSWER: OnceLock<Option<String>> = OnceLock::new();
    ANSWER.get_or_init(|| {
        let mut command = Command::new("/bin/true");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let traceme = || {
            // SAFETY: PTRACE_TRACEME ignores its other arguments, and is async-signal-safe.
            if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        };
        // SAFETY: the closure makes one async-signal-safe system call and allocates nothing.
        unsafe { command.pre_exec(traceme) };
        match command.spawn() {
            Ok(mut child) => {
                // It stopped at its exec, traced by us: that was the question.
                let _ = child.kill();
                let _ = child.wait();
                None
            }
            Err(error) => Some(format!("ptrace(PTRACE_TRACEME) failed: {error}")),
        }
    })
}

fn drop_root_missing() -> Option<String> {
    if !is_root() {
        return Some("not root: already unprivileged, the other tests cover this".into());
    }
    let found = Command::new("setpriv")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    match found {
        Ok(status) if status.success() => None,
        _ => Some("no setpriv (package util-linux)".into()),
    }
}

fn namespaces_missing() -> &'static Option<String> {
    static ANSWER: OnceLock<Option<String>> = OnceLock::new();
    ANSWER.get_or_init(|| {
        if let Some(reason) = drop_root_missing() {
            return Some(reason);
        }
        let made = Command::new("unshare")
            .args(["-m", "-p", "-f", "--mount-proc", "sh", "-c"])
            .arg("mount -t tmpfs none /mnt && unshare -U -r true")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match made {
            Ok(status) if status.success() => None,
            _ => Some("no namespaces can be made (unshare -m -p -U, mount)".into()),
        }
    })
}

fn zlib_missing() -> Option<String> {
    let dirs = [
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib64",
        "/lib64",
        "/usr/lib",
    ];
    if dirs
        .iter()
        .any(|dir| Path::new(dir).join("libz.so.1").exists())
    {
        return None;
    }
    Some("no libz.so.1 (package zlib1g)".into())
}
