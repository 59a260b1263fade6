//! How much an agent gives to whom.

use serde::{Deserialize, Serialize};
use tracer_ebpf::{MAX_SESSIONS, MIN_RING_BYTES};

/// Limits of an agent. Each has a default; a file of them is TOML, `sessions_per_user = 16`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Sessions of all users.
    pub sessions: usize,
    /// Sessions of one user.
    pub sessions_per_user: usize,
    /// Longest arena, in bytes of address space.
    pub arena_bytes: u64,
    /// Size of a session's ring in bytes, at most; a power of two.
    pub ring_bytes: u32,
    /// Memory of the kernel for all sessions of one user, in bytes.
    pub memory_per_user: u64,
    /// Functions that a session may have marked at once.
    pub probes_per_session: usize,
    /// Connections of one user, those without a session among them.
    pub connections_per_user: usize,
    /// Requests a second that a connection may make for long; a burst may be 10 times that.
    pub requests_per_second: u32,
    /// Whether arenas may lie where other memory of processes does. Page faults of all processes cost
    /// more then.
    pub arenas_anywhere: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            sessions: MAX_SESSIONS,
            sessions_per_user: 256,
            arena_bytes: 256 << 30,
            ring_bytes: 4 << 20,
            memory_per_user: 2 << 30,
            probes_per_session: 64,
            connections_per_user: 512,
            requests_per_second: 100,
            arenas_anywhere: false,
        }
    }
}

impl Limits {
    /// Those of a parent that serves one child: a ring as large as without an agent.
    pub fn for_one_child() -> Limits {
        Limits {
            ring_bytes: tracer_ebpf::RING_BYTES,
            arenas_anywhere: true,
            ..Limits::default()
        }
    }

    /// Reads limits from TOML.
    ///
    /// # Errors
    /// A text that says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Limits, String> {
        let limits: Limits = toml::from_str(text).map_err(|error| error.to_string())?;
        if !limits.ring_bytes.is_power_of_two() || limits.ring_bytes < MIN_RING_BYTES {
            return Err(format!(
                "ring_bytes is {}: it must be a power of two from {MIN_RING_BYTES} on",
                limits.ring_bytes
            ));
        }
        if limits.sessions > MAX_SESSIONS {
            return Err(format!(
                "sessions is {}: one agent serves at most {MAX_SESSIONS}",
                limits.sessions
            ));
        }
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_mistakes_named() {
        assert_eq!(Limits::parse(""), Ok(Limits::default()));
        assert_eq!(
            Limits::parse("sessions_per_user = 3")
                .unwrap()
                .sessions_per_user,
            3
        );
        assert!(
            Limits::parse("sesions = 3")
                .unwrap_err()
                .contains("sesions")
        );
        assert!(
            Limits::parse("ring_bytes = 5000000")
                .unwrap_err()
                .contains("power of two")
        );
        assert!(
            Limits::parse("sessions = 100000")
                .unwrap_err()
                .contains("1024")
        );
    }
}
