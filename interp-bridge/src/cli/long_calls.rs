//! A sign of life for native calls of a session that take longer than a second.
//!
//! ```text
//!  call: number + 1, inside ─► … ─► outside           two stores, no clock
//!  a thread that looks now and then: still the same call? ─► a spinner, until it is over
//! ```

use std::{
    io::IsTerminal,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::progress::Progress;

/// How often it is looked whether a call is the one of the last time.
const LOOK: Duration = Duration::from_millis(250);

/// Set in the number while a call is under way.
const INSIDE: u64 = 1 << 63;

/// See the module.
pub(super) struct LongCalls {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

struct Shared {
    /// The number of the call that began last.
    call: AtomicU64,
    name: Mutex<String>,
    spinner: Mutex<Option<Progress>>,
    ended: AtomicU64,
    counter: Arc<AtomicU64>,
}

impl LongCalls {
    /// Starts to look, where stderr is a terminal. `counter` has the accesses so far.
    pub(super) fn watch(counter: Arc<AtomicU64>) -> LongCalls {
        let shared = Arc::new(Shared {
            call: AtomicU64::new(0),
            name: Mutex::default(),
            spinner: Mutex::default(),
            ended: AtomicU64::new(0),
            counter,
        });
        let worker = std::io::stderr().is_terminal().then(|| {
            let shared = shared.clone();
            tracer_user::quiet::spawn("ffitrace-long", move || shared.look())
        });
        LongCalls {
            shared,
            worker: worker.and_then(Result::ok),
        }
    }

    /// A call begins, of a function whose name may be another than that of the last.
    pub(super) fn begins(&self, other_name: Option<&str>) {
        if self.worker.is_none() {
            return;
        }
        if let Some(name) = other_name {
            let mut known = lock(&self.shared.name);
            known.clear();
            known.push_str(name);
        }
        let number = self.shared.call.load(Ordering::Relaxed) & !INSIDE;
        self.shared
            .call
            .store((number + 1) | INSIDE, Ordering::Release);
    }

    /// The script runs in the middle of it: the spinner goes, and may come again later.
    pub(super) fn interrupted(&self) {
        if self.worker.is_some() {
            self.shared.call.fetch_add(1, Ordering::SeqCst);
            drop(lock(&self.shared.spinner).take());
        }
    }

    /// It is over; the spinner is gone from the screen when this returns.
    pub(super) fn ends(&self) {
        if self.worker.is_none() {
            return;
        }
        let number = self.shared.call.load(Ordering::Relaxed);
        self.shared.call.store(number & !INSIDE, Ordering::SeqCst);
        drop(lock(&self.shared.spinner).take());
    }
}

impl Drop for LongCalls {
    fn drop(&mut self) {
        self.shared.ended.store(1, Ordering::Release);
        if let Some(worker) = self.worker.take() {
            worker.thread().unpark();
            // It only ends early by a panic, and then there is no spinner to remove.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn look(&self) {
        let mut before = 0;
        while self.ended.load(Ordering::Acquire) == 0 {
            let call = self.call.load(Ordering::SeqCst);
            if call & INSIDE != 0 && call == before {
                let mut spinner = lock(&self.spinner);
                // It may have come to its end before the spinner was there to be taken away.
                if spinner.is_none() && self.call.load(Ordering::SeqCst) == call {
                    let begun = self.counter.load(Ordering::Relaxed);
                    let counter = self.counter.clone();
                    let name = lock(&self.name).clone();
                    *spinner = Some(Progress::start(&name, move || {
                        counter.load(Ordering::Relaxed).saturating_sub(begun)
                    }));
                }
            }
            before = call;
            std::thread::park_timeout(LOOK);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
