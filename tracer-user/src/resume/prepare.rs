//! Preparing sites outside of the signal context.
//!
//! Decoding and encoding allocate, so a handler that meets a new site posts its address and
//! waits; a helper thread decodes the instruction, writes the displaced copy, enters the site
//! into the table and wakes the handler. It translates hot code in the same way.
//!
//! ```text
//!  handler: free ─claim─► posted ──wake──► helper: site table, code pages
//!  handler: free ◄─taken── done  ◄──wake───
//! ```

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
};

use tracer_ebpf::KnownSite;

use super::{
    displaced,
    engine::Engine,
    safe::{self, Safe},
    site::Site,
};
use crate::{decode::Decoded, translate::Wanted};

/// Threads that can wait for a site at once; more of them take turns.
const REQUESTS: usize = 64;

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const POSTED: u32 = 2;
const DONE: u32 = 3;

/// A request for a site; any other number asks for a translation.
const SITE: u32 = u32::MAX;

struct Request {
    state: AtomicU32,
    ip: AtomicU64,
    /// [`SITE`], or what a translation is [`Wanted`] for.
    what: AtomicU32,
    site: AtomicPtr<Site>,
    translated: AtomicU64,
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
                    what: AtomicU32::new(SITE),
                    site: AtomicPtr::new(std::ptr::null_mut()),
                    translated: AtomicU64::new(0),
                }
            }; REQUESTS],
            posted: AtomicU32::new(0),
        }
    }

    /// The site at `ip`, prepared by the helper thread. Async-signal-safe.
    pub(super) fn ask(&self, safe: Safe, ip: u64) -> &'static Site {
        let take = |request: &Request| request.site.load(Ordering::Acquire);
        super::site::leaked(self.request(safe, ip, SITE, take))
    }

    /// Where `ip` is translated, by the helper thread; 0 where it is not. Async-signal-safe.
    pub(super) fn translate(&self, safe: Safe, ip: u64, wanted: Wanted) -> u64 {
        let take = |request: &Request| request.translated.load(Ordering::Acquire);
        self.request(safe, ip, wanted as u32, take)
    }

    fn request<T>(&self, safe: Safe, ip: u64, what: u32, take: impl FnOnce(&Request) -> T) -> T {
        let request = self.claim(safe);
        request.ip.store(ip, Ordering::Relaxed);
        request.what.store(what, Ordering::Relaxed);
        request.state.store(POSTED, Ordering::Release);
        self.posted.fetch_add(1, Ordering::AcqRel);
        safe::wake(safe, &self.posted);
        while request.state.load(Ordering::Acquire) != DONE {
            safe::wait(safe, &request.state, POSTED);
        }
        let result = take(request);
        request.state.store(FREE, Ordering::Release);
        result
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
                        request.answer(engine);
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

impl Request {
    /// Does what is asked for.
    fn answer(&self, engine: &Engine) {
        let ip = self.ip.load(Ordering::Relaxed);
        let wanted = match self.what.load(Ordering::Relaxed) {
            SITE => {
                let site = std::ptr::from_ref(make_site(engine, ip)).cast_mut();
                return self.site.store(site, Ordering::Release);
            }
            0 => Wanted::Site,
            1 => Wanted::Direct,
            2 => Wanted::Indirect,
            _ => Wanted::Return,
        };
        // Who asks waits for an answer, whatever happens, and can do without a translation.
        let translate = || {
            let translator = engine.translator();
            let touched = |ip| engine.sites.find(ip).is_some();
            translator.map_or(0, |translator| translator.translate(ip, wanted, &touched))
        };
        let translated = catch_unwind(AssertUnwindSafe(translate)).unwrap_or(0);
        self.translated.store(translated, Ordering::Release);
    }
}

/// What the kernel's part may be told of an instruction, if anything.
fn known(engine: &Engine, decoded: &Decoded) -> Option<KnownSite> {
    let registers = decoded.address_registers()?;
    let fixed = engine.translator()?.is_fixed(decoded.ip());
    KnownSite::new(decoded.ip(), registers).filter(|_| fixed)
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
            len: decoded.len() as u8,
            needs: decoded.needs(),
            touches_stack: decoded.touches_stack(),
            reach: (decoded.instruction().memory_size().size() as u64).max(1),
            action: displaced::place(&engine.code, &decoded),
            known: AtomicU64::new(known(engine, &decoded).map_or(0, KnownSite::word)),
            ..Site::stepped(ip, bytes, got as u8)
        },
        Err(_) => Site::stepped(ip, bytes, got as u8),
    };
    engine.sites.insert(site)
}
