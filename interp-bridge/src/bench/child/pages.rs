//! Page faults of a process that has nothing to do with any session.
//!
//! # Safety
//! The mapping is this module's own; it is written to within its length and then unmapped.
#![allow(unsafe_code)]

use std::{
    io, ptr,
    time::{Duration, Instant},
};

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Pages touched in one round.
const PAGES: usize = 512;
/// Size of a page in bytes.
const PAGE: usize = 4096;

/// Touches fresh pages for so long. Returns how many, and the best round's nanoseconds for one.
pub(super) fn measure(time: Duration) -> io::Result<(u64, f64)> {
    let begun = Instant::now();
    let (mut faults, mut best) = (0, f64::MAX);
    while faults == 0 || begun.elapsed() < time {
        best = best.min(round()?.as_nanos() as f64 / PAGES as f64);
        faults += PAGES as u64;
    }
    Ok((faults, best))
}

/// Maps pages, touches each, and unmaps them; only the touching is timed.
fn round() -> io::Result<Duration> {
    let len = PAGES * PAGE;
    // SAFETY: a fresh mapping at an address of the kernel's choice; it is written to within `len`,
    // and no pointer to it is left when it is unmapped.
    unsafe {
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        let at = rustix::mm::mmap_anonymous(ptr::null_mut(), len, prot, flags)?;
        // A huge page would be one fault; kernels without them refuse the advice.
        let _ = rustix::mm::madvise(at, len, Advice::LinuxNoHugepage);
        let begun = Instant::now();
        for page in 0..PAGES {
            at.cast::<u8>().add(page * PAGE).write_volatile(1);
        }
        let took = begun.elapsed();
        rustix::mm::munmap(at, len)?;
        Ok(took)
    }
}
