//! Preparing sites outside of the signal context.
//!
//! Decoding and encoding allocate, so a handler that meets a new site posts its address and
//! waits; a helper thread decodes the instruction, writes the displaced copy, enters the site
//! into the table and wakes the handler.
//!
//! ```text
//!  handler: free ─claim─► posted ──wake──► helper: site table, code pages
//!  handler: free ◄─taken── done  ◄──wake───
//! ```

use std::{
    io,
    sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
};

use super::{
    displaced,
    engine::Engine,
    safe::{self, Safe},
    site::{Action, Site},
};
use crate::decode::{Decoded, Needs};

/// Threads that can wait for a site at once; more of them take turns.
const REQUESTS: usize = 64;

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const POSTED: u32 = 2;
const DONE: u32 = 3;

struct Request {
    state: AtomicU32,
    ip: AtomicU64,
    site: AtomicPtr<Site>,
}

/// Requests of handlers to the helper thread.
pub(super) struct PrepareQueue {
    requests: [Request; REQUESTS],
    posted: AtomicU32,
}

impl PrepareQueue {
    pub(super) fn new() -> PrepareQueue {
        PrepareQueue {
            requests: [const {
                Request {
                    state: AtomicU32::new(FREE),
                    ip: AtomicU64::new(0),
                    site: AtomicPtr::new(std::ptr::null_mut()),
                }
            }; REQUESTS],
            posted: AtomicU32::new(0),
        }
    }

    /// The site at `ip`, prepared by the helper thread. Async-signal-safe.
    pub(super) fn ask(&self, safe: Safe, ip: u64) -> &'static Site {
        let request = self.claim(safe);
        request.ip.store(ip, Ordering::Relaxed);
        request.state.store(POSTED, Ordering::Release);
        self.posted.fetch_add(1, Ordering::AcqRel);
        safe::wake(safe, &self.posted);
        while request.state.load(Ordering::Acquire) != DONE {
            safe::wait(safe, &request.state, POSTED);
        }
        let site = request.site.load(Ordering::Acquire);
        request.state.store(FREE, Ordering::Release);
        super::site::leaked(site)
    }

    fn claim(&self, safe: Safe) -> &Request {
        loop {
            for request in &self.requests {
                let free = request.state.compare_exchange(
                    FREE,
                    CLAIMED,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
                if free.is_ok() {
                    return request;
                }
            }
            safe::wait(safe, &self.requests[0].state, CLAIMED);
        }
    }

    /// Starts the helper thread, which lives as long as the process.
    pub(super) fn start_thread(&'static self, engine: &'static Engine) -> io::Result<()> {
        crate::quiet::spawn("ffitrace-sites", move || {
            let safe = Safe::promise();
            loop {
                let posted = self.posted.load(Ordering::Acquire);
                for request in &self.requests {
                    if request.state.load(Ordering::Acquire) == POSTED {
                        let site = make_site(engine, request.ip.load(Ordering::Relaxed));
                        request
                            .site
                            .store(std::ptr::from_ref(site).cast_mut(), Ordering::Release);
                        request.state.store(DONE, Ordering::Release);
                        safe::wake(safe, &request.state);
                    }
                }
                if self.posted.load(Ordering::Acquire) == posted {
                    safe::wait_idle(safe, &self.posted, posted);
                }
            }
        })?;
        Ok(())
    }
}

/// Decodes the instruction at `ip` and prepares how its threads go on. An instruction that
/// cannot be read or decoded is single-stepped; the reader of the records refuses it by name.
fn make_site(engine: &Engine, ip: u64) -> &'static Site {
    let safe = Safe::promise();
    let mut bytes = [0; 15];
    let got = safe::read_memory(safe, safe::process_id(safe), ip, &mut bytes);
    // Two threads may have met the instruction at the same time: one site, so that it counts all.
    if let Some(site) = engine.sites.find(ip)
        && (site.bytes, usize::from(site.read)) == (bytes, got)
    {
        return site;
    }
    let site = match Decoded::parse(&bytes[..got], ip) {
        Ok(decoded) => Site {
            ip,
            bytes,
            read: got as u8,
            len: decoded.len() as u8,
            needs: decoded.needs(),
            touches_stack: decoded.touches_stack(),
            reach: (decoded.instruction().memory_size().size() as u64).max(1),
            action: displaced::place(&engine.code, &decoded),
            steps: AtomicU64::new(0),
        },
        Err(_) => Site {
            ip,
            bytes,
            read: got as u8,
            len: 0,
            needs: Needs::default(),
            touches_stack: false,
            reach: 1,
            action: Action::Step,
            steps: AtomicU64::new(0),
        },
    };
    engine.sites.insert(site)
}
