//! What client and agent say to each other: one JSON object a packet.
//!
//! ```text
//!  Hello ─► Welcome      Open ─► Opened (+ 2 descriptors)      Probe (+ 2), Unprobe, Close ─► Done
//!  anything ─► Refused, with a text for people                 (the process ended) ─► Ended
//! ```
//! The first message says which protocol its sender speaks. There is no guessing between versions: one
//! that is not known is refused, and so is a message with a field that is not known.

use serde::{Deserialize, Serialize};

use super::Evidence;

/// Version of the protocol. It changes whenever a message does.
pub(super) const PROTOCOL: u32 = 1;

/// Longest packet in bytes.
pub(super) const MAX_PACKET: usize = 16 << 10;

/// From a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// First of all.
    Hello {
        /// Version of the protocol that the client speaks.
        protocol: u32,
        /// [`tracer_ebpf::LAYOUT_VERSION`] of the client.
        layout: u16,
    },
    /// Begin to record what the sender does to its arena.
    Open {
        /// First address of the arena.
        arena_base: u64,
        /// Its length in bytes.
        arena_len: u64,
        /// Address at which touches of system calls are told, or 0.
        marker: u64,
        /// Wanted size of the ring in bytes; the agent may give a smaller one.
        ring_bytes: u32,
    },
    /// Mark the calls of a function. The packet carries the library and the sender's
    /// `/proc/self/maps`, both open for reading.
    Probe {
        /// Offset of the function's first byte in the file.
        file_offset: u64,
        /// What messages call the function.
        name: String,
        /// What its records carry.
        cookie: u64,
        /// Whether its returns are to be marked, too.
        returns: bool,
    },
    /// Remove all marks.
    Unprobe,
    /// End the session.
    Close,
    /// What is the agent doing?
    Status,
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// To `Hello`.
    Welcome {
        /// Version of the agent's program.
        version: String,
    },
    /// To `Open`. The packet carries the ring and the shared pages, in this order.
    Opened {
        /// Size of the ring in bytes.
        ring_bytes: u32,
    },
    /// It is done.
    Done,
    /// It is not, and nothing has changed.
    Refused {
        /// Which kind of reason.
        why: Refusal,
        /// The reason for people, with what mends it.
        message: String,
    },
    /// To `Status`.
    Status {
        /// Sessions of all users.
        sessions: usize,
        /// Of those, the ones of the sender's user.
        own_sessions: usize,
        /// Whether the programs are attached.
        attached: bool,
    },
    /// Unasked: the session's process has ended, and this is what it left.
    Ended(Evidence),
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The message, or its place in the conversation.
    Protocol,
    /// A limit of the agent.
    Limit,
    /// Not the sender's.
    Permission,
    /// What the agent's host or kernel does not allow.
    Host,
    /// The agent is ending.
    Stopping,
}

/// The message in a packet.
///
/// # Errors
/// A text that says what is wrong with it.
pub(super) fn parse<T: serde::de::DeserializeOwned>(packet: &[u8]) -> Result<T, String> {
    serde_json::from_slice(packet)
        .map_err(|error| format!("not a message of protocol {PROTOCOL}: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requests() -> impl Strategy<Value = Request> {
        prop_oneof![
            any::<(u32, u16)>().prop_map(|(protocol, layout)| Request::Hello { protocol, layout }),
            any::<(u64, u64, u64, u32)>().prop_map(
                |(arena_base, arena_len, marker, ring_bytes)| {
                    Request::Open {
                        arena_base,
                        arena_len,
                        marker,
                        ring_bytes,
                    }
                }
            ),
            any::<(u64, String, u64, bool)>().prop_map(|(file_offset, name, cookie, returns)| {
                Request::Probe {
                    file_offset,
                    name,
                    cookie,
                    returns,
                }
            }),
            Just(Request::Unprobe),
            Just(Request::Close),
            Just(Request::Status),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(request in requests()) {
            let packet = serde_json::to_vec(&request).unwrap();
            prop_assert_eq!(parse::<Request>(&packet), Ok(request));
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse::<Request>(&bytes);
            let _ = parse::<Reply>(&bytes);
        }

        /// A message with some bytes changed is one, or is refused; it never does anything else.
        #[test]
        fn damaged_messages_do_not_panic(request in requests(), at in any::<usize>(), byte in any::<u8>()) {
            let mut packet = serde_json::to_vec(&request).unwrap();
            let at = at % packet.len();
            packet[at] = byte;
            let _ = parse::<Request>(&packet);
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let more = br#"{"hello":{"protocol":1,"layout":4,"more":1}}"#;
        assert!(parse::<Request>(more).unwrap_err().contains("more"));
        assert!(parse::<Request>(br#"{"dance":{}}"#).is_err());
        let deep = "[".repeat(100_000);
        assert!(parse::<Request>(deep.as_bytes()).is_err());
    }
}
