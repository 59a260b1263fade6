//! Who is at the other end, by the kernel's word.

use std::{fs, io, os::fd::OwnedFd, os::unix::fs::MetadataExt as _};

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

    /// Whether the process has this file mapped with the right to execute it.
    ///
    /// # Errors
    /// Where the process has ended, or the file cannot be looked at.
    pub(super) fn executes(&self, file: &fs::File) -> io::Result<bool> {
        let wanted = file.metadata()?;
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.id()))?;
        // start-end permissions offset device inode path (proc_pid_maps(5))
        let inode = wanted.ino().to_string();
        let device = format!(
            "{:02x}:{:02x}",
            rustix::fs::major(wanted.dev()),
            rustix::fs::minor(wanted.dev())
        );
        for line in maps.lines() {
            let fields: Vec<&str> = line.split_whitespace().take(5).collect();
            let [range, rights, _, mapped_device, mapped_inode] = fields[..] else {
                continue;
            };
            if !rights.contains('x') || mapped_inode != inode {
                continue;
            }
            if mapped_device == device {
                return Ok(true);
            }
            // File systems such as btrfs show another device there than in the file's metadata:
            // then what the kernel itself resolves of the mapping is compared.
            let entry = format!("/proc/{}/map_files/{range}", self.id());
            if let Ok(mapped) = fs::metadata(entry)
                && (mapped.dev(), mapped.ino()) == (wanted.dev(), wanted.ino())
            {
                return Ok(true);
            }
        }
        Ok(false)
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
        let program = fs::File::open("/proc/self/exe").unwrap();
        let other = fs::File::open("/proc/self/comm").unwrap();
        assert!(own.executes(&program).unwrap());
        assert!(!own.executes(&other).unwrap());
        own.open().unwrap();
    }
}
