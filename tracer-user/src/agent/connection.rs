//! One client's conversation: greeting, requests, the end of its process.
//!
//! ```text
//!  greeting in time? ─► requests, one after the other ─► service.rs
//!     └ no: closed         └ faster than allowed: waits
//!  with a session: its process ends ─► records left ─► Ended ─► closed
//! ```
//! It waits for nobody but its own client: what a client does not take of its answers is not kept but
//! ends its connection.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use tokio::{
    io::Interest,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    channel::{self, Packet},
    peer::Peer,
    protocol::{self, Refusal, Reply, Request},
    ready::{self, Ready},
    service::{Answer, Served, Service},
};

/// How long a client may take for its greeting, and for taking an answer.
const MANNERS: Duration = Duration::from_secs(5);

/// How long a connection may be without a session.
const IDLE: Duration = Duration::from_secs(60);

/// How many seconds' worth of requests a connection may make at once.
const BURST: u32 = 10;

/// A session that is closed however its connection ends.
struct Held<'a> {
    service: &'a RefCell<Service>,
    session: Option<(Served, Ready)>,
}

impl Held<'_> {
    /// Closes the session; what is left of it, if its process was killed.
    fn close(&mut self, killed: bool) -> Option<super::Evidence> {
        let (session, _) = self.session.take()?;
        self.service.borrow_mut().close(session, killed)
    }

    /// Waits until the session's process ends, for ever if there is no session.
    async fn ended(&self) {
        match &self.session {
            Some((_, process)) => drop(process.readable().await),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.close(false);
    }
}

/// Talks to a client until it is gone.
pub(super) async fn serve(client: OwnedFd, service: &RefCell<Service>) -> io::Result<()> {
    rustix::io::ioctl_fionbio(&client, true)?;
    channel::ask_for_senders(&client)?;
    let client = ready::both(client)?;
    let greeting = timeout(MANNERS, receive(&client)).await??;
    let Some(greeting) = greeting else {
        return Ok(());
    };
    let reply = match protocol::parse(&greeting.bytes) {
        Ok(request) => service.borrow().greet(&request),
        Err(message) => Reply::Refused {
            why: Refusal::Protocol,
            message,
        },
    };
    send(&client, &reply, &[]).await?;
    if !matches!(reply, Reply::Welcome { .. }) {
        return Ok(());
    }
    let mut held = Held {
        service,
        session: None,
    };
    let mut pace = Pace::new();
    let mut idle_since = Instant::now();
    loop {
        let packet = tokio::select! {
            biased;
            () = held.ended() => {
                if let Some(evidence) = held.close(true) {
                    if !evidence.is_empty() {
                        tracing::info!(
                            "a process ended in the middle of its session: {} accesses recorded, {} \
                             records not read", evidence.emitted, evidence.unread
                        );
                    }
                    // Whoever else has the client's end, a parent, may want to know.
                    let _ = send_now(client.get_ref(), &Reply::Ended(evidence), &[]);
                }
                return Ok(());
            }
            packet = receive(&client) => packet?,
            () = sleep_until(idle_since + IDLE), if held.session.is_none() => {
                return Err(io::ErrorKind::TimedOut.into());
            }
        };
        let Some(packet) = packet else {
            return Ok(());
        };
        let per_second = service.borrow().limits().requests_per_second;
        pace.wait(per_second).await;
        let (request, peer) = match (protocol::parse::<Request>(&packet.bytes), packet.sender) {
            (Ok(request), Some(sender)) => (request, Peer::from(sender)),
            (Err(message), _) => {
                let refused = Reply::Refused {
                    why: Refusal::Protocol,
                    message,
                };
                return send(&client, &refused, &[]).await;
            }
            (_, None) => return Err(io::ErrorKind::InvalidData.into()),
        };
        let closing = matches!(request, Request::Close);
        let session = held.session.as_ref().map(|(session, _)| session);
        let Answer {
            reply,
            files,
            opened,
        } = service
            .borrow_mut()
            .answer(peer, session, request, packet.files);
        if let Some(session) = opened {
            // Opened after the session, which is that of an id: should the process have ended in
            // between, and another have its id, then that one has sent nothing.
            let process = peer.open().and_then(ready::readable);
            match process {
                Ok(process) => held.session = Some((session, process)),
                Err(error) => {
                    service.borrow_mut().close(session, false);
                    return Err(error);
                }
            }
        }
        if closing && matches!(reply, Reply::Done) {
            held.close(false);
            idle_since = Instant::now();
        }
        let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        send(&client, &reply, &files).await?;
    }
}

async fn receive(client: &Ready) -> io::Result<Option<Packet>> {
    client
        .async_io(Interest::READABLE, |client| channel::receive(client))
        .await
}

async fn send(client: &Ready, reply: &Reply, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let sent = client.async_io(Interest::WRITABLE, |client| send_now(client, reply, files));
    timeout(MANNERS, sent).await?
}

pub(super) fn send_now(
    client: impl AsFd,
    reply: &Reply,
    files: &[BorrowedFd<'_>],
) -> io::Result<()> {
    channel::send(client, &serde_json::to_vec(reply)?, files)
}

/// How fast a connection's requests may come: as a bucket of tokens.
struct Pace {
    tokens: f64,
    filled: Instant,
}

impl Pace {
    fn new() -> Pace {
        Pace {
            tokens: f64::INFINITY,
            filled: Instant::now(),
        }
    }

    /// Takes a token, waiting for one if need be.
    async fn wait(&mut self, per_second: u32) {
        let rate = f64::from(per_second.max(1));
        let now = Instant::now();
        let new = now.duration_since(self.filled).as_secs_f64() * rate;
        self.tokens = (self.tokens + new).min(rate * f64::from(BURST)) - 1.0;
        self.filled = now;
        if self.tokens < 0.0 {
            sleep(Duration::from_secs_f64(-self.tokens / rate)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracer_ebpf::LAYOUT_VERSION;

    use super::*;
    use crate::agent::{limits::Limits, protocol::PROTOCOL, server::runtime};
    use crate::backend::ebpf::EbpfError;

    /// A packet: a message, a damaged one, or any bytes.
    fn packets() -> impl Strategy<Value = Vec<u8>> {
        let hello = Request::Hello {
            protocol: PROTOCOL,
            layout: LAYOUT_VERSION,
        };
        let open = Request::Open {
            arena_base: 1 << 45,
            arena_len: 2 << 30,
            marker: 0,
            ring_bytes: 1 << 21,
        };
        let probe = Request::Probe {
            file_offset: 0,
            name: "f".to_owned(),
            cookie: 1,
            returns: true,
        };
        let messages = [
            hello,
            open,
            probe,
            Request::Unprobe,
            Request::Close,
            Request::Status,
        ]
        .map(|message| serde_json::to_vec(&message).unwrap_or_default());
        let message = proptest::sample::select(messages.to_vec());
        prop_oneof![
            6 => message.clone(),
            2 => (message, any::<usize>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
                let at = at % bytes.len();
                bytes[at] = byte;
                bytes
            }),
            1 => proptest::collection::vec(any::<u8>(), 1..300),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whatever a client says, and however it leaves, its connection ends and nothing else does.
        #[test]
        fn any_conversation_is_survived(
            greets in any::<bool>(),
            packets in proptest::collection::vec(packets(), 0..12),
        ) {
            let service = RefCell::new(Service::new(Err(EbpfError::Sessions), Limits::default()));
            let (ours, theirs) = channel::pair().unwrap();
            let file = std::fs::File::open("/proc/self/comm").unwrap();
            if greets {
                let hello = Request::Hello { protocol: PROTOCOL, layout: LAYOUT_VERSION };
                channel::send(&theirs, &serde_json::to_vec(&hello).unwrap(), &[]).unwrap();
            }
            for packet in &packets {
                channel::send(&theirs, packet, &[file.as_fd()]).unwrap();
            }
            drop(theirs);
            let ended = runtime().unwrap().block_on(async {
                timeout(Duration::from_secs(20), serve(ours, &service)).await
            });
            prop_assert!(ended.is_ok(), "it waits for a client who has gone");
            prop_assert_eq!(service.borrow().sessions(), 0);
        }
    }
}
