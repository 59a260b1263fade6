//! Processes that share this one's memory for a while (`vfork`), as the kernel's part is told.
//!
//! # Safety
//! The list is the map of the eBPF programs, mapped for good (see `backend/ebpf/guests.rs`), or a
//! list of our own that nobody reads. Its words are written atomically.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use tracer_ebpf::{Guests as List, MAX_GUESTS};

/// See the module.
pub(super) struct Guests {
    list: AtomicPtr<List>,
}

impl Guests {
    pub(super) const fn new() -> Guests {
        Guests {
            list: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Tells who reads the list, null for nobody.
    pub(super) fn lend(&self, list: *mut List) {
        self.list.store(list, Ordering::Release);
    }

    fn words(&self) -> Option<(&AtomicU32, &[AtomicU32; MAX_GUESTS])> {
        let list = self.list.load(Ordering::Acquire);
        if list.is_null() {
            return None;
        }
        // SAFETY: a list that stays mapped; words and atomic words have the same form.
        unsafe {
            Some((
                &*(&raw const (*list).active).cast(),
                &*(&raw const (*list).processes).cast(),
            ))
        }
    }

    /// Enters a process. Where there are too many, the handler's count shows that its accesses are
    /// missing. Async-signal-safe.
    pub(super) fn add(&self, process: i32) {
        let Some((active, processes)) = self.words() else {
            return;
        };
        let process = process as u32;
        let entered = processes.iter().any(|entry| {
            entry
                .compare_exchange(0, process, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
        });
        if entered {
            active.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Removes a process, if it is there. Async-signal-safe.
    pub(super) fn remove(&self, process: i32) {
        let Some((active, processes)) = self.words() else {
            return;
        };
        let process = process as u32;
        let removed = processes.iter().any(|entry| {
            entry
                .compare_exchange(process, 0, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
        });
        if removed {
            active.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    #[test]
    fn enters_and_removes() {
        let list = Box::leak(Box::new(List::zeroed()));
        let guests = Guests::new();
        guests.add(3);
        guests.lend(list);
        let seen = || guests.words().unwrap();
        for process in 1..=40 {
            guests.add(process);
        }
        assert_eq!(seen().0.load(Ordering::Relaxed), MAX_GUESTS as u32);
        for process in 1..=40 {
            guests.remove(process);
            guests.remove(process);
        }
        assert_eq!(seen().0.load(Ordering::Relaxed), 0);
        assert!(
            seen()
                .1
                .iter()
                .all(|entry| entry.load(Ordering::Relaxed) == 0)
        );
    }
}
