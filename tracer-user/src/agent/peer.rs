//! Who is at the other end, by the kernel's word.

use std::{
    fs,
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
};

use rustix::{
    net::UCred,
    process::{Pid, PidfdFlags, pidfd_open},
};

/// A process that asked for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its id.
    pub(super) process: Pid,
    /// Its user.
    pub(super) user: u32,
}

impl From<UCred> for Peer {
    fn from(credentials: UCred) -> Peer {
        Peer {
            process: credentials.pid,
            user: credentials.uid.as_raw(),
        }
    }
}

impl Peer {
    /// The id as the programs see it.
    pub(super) fn id(&self) -> u32 {
        self.process.as_raw_nonzero().get().cast_unsigned()
    }

    /// A descriptor of the process, which shows when it has ended.
    ///
    /// # Errors
    /// Where the process has ended already.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        Ok(pidfd_open(self.process, PidfdFlags::empty())?)
    }

    /// Whether the process has this file mapped with the right to execute it. `maps` is its own
    /// `/proc/PID/maps`, which it opened itself: so nobody else's rights are needed to read it.
    ///
    /// # Errors
    /// Where `maps` is something else, or the file cannot be looked at.
    pub(super) fn executes(&self, file: &fs::File, mut maps: fs::File) -> io::Result<bool> {
        let is_proc = rustix::fs::fstatfs(&maps)?.f_type == libc::PROC_SUPER_MAGIC;
        let name = fs::read_link(format!("/proc/self/fd/{}", maps.as_raw_fd()))?;
        if !is_proc || name != Path::new(&format!("/proc/{}/maps", self.id())) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the second descriptor is not of the process's own /proc/self/maps",
            ));
        }
        let wanted = file.metadata()?;
        let device = format!(
            "{:02x}:{:02x}",
            rustix::fs::major(wanted.dev()),
            rustix::fs::minor(wanted.dev())
        );
        let inode = wanted.ino().to_string();
        let mut text = String::new();
        maps.read_to_string(&mut text)?;
        // start-end permissions offset device inode path (proc_pid_maps(5))
        Ok(text.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().take(5).collect();
            matches!(fields[..], [_, rights, _, at, number]
                if rights.contains('x') && at == device && number == inode)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_this_process_executes() {
        let own = Peer {
            process: rustix::process::getpid(),
            user: rustix::process::getuid().as_raw(),
        };
        let open = |path| fs::File::open(path).unwrap();
        let maps = || open(format!("/proc/{}/maps", std::process::id()));
        assert!(
            own.executes(&open("/proc/self/exe".to_owned()), maps())
                .unwrap()
        );
        assert!(
            !own.executes(&open("/proc/self/comm".to_owned()), maps())
                .unwrap()
        );
        // What only looks like it, and what is another's.
        let forged = tempfile::NamedTempFile::new().unwrap().into_file();
        assert!(
            own.executes(&open("/proc/self/exe".to_owned()), forged)
                .is_err()
        );
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let others = open(format!("/proc/{}/maps", child.id()));
        assert!(
            own.executes(&open("/proc/self/exe".to_owned()), others)
                .is_err()
        );
        child.kill().unwrap();
        child.wait().unwrap();
        own.open().unwrap();
    }
}
