//! A sign of life on stderr for calls that take longer than a second.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How long a call may take before anything is shown.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the figures are renewed.
const RENEW: Duration = Duration::from_millis(120);

/// A spinner with the number of accesses and their rate. It is gone from the screen once this
/// is dropped.
#[derive(Debug)]
pub struct Progress {
    worker: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Starts to watch `counter`, from a thread of its own. Does nothing where stderr is no
    /// terminal.
    pub fn start(what: &str, counter: impl Fn() -> u64 + Send + 'static) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress { worker: None };
        }
        let (stop, stopped) = channel();
        let what = what.to_owned();
        let work = move || {
            let started = Instant::now();
            if !matches!(
                stopped.recv_timeout(PATIENCE),
                Err(RecvTimeoutError::Timeout)
            ) {
                return;
            }
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                let unicode = super::stderr_theme().unicode;
                bar.set_style(if unicode {
                    style
                } else {
                    style.tick_chars("|/-\\ ")
                });
            }
            loop {
                bar.set_message(message(&what, counter(), started.elapsed()));
                bar.tick();
                if !matches!(stopped.recv_timeout(RENEW), Err(RecvTimeoutError::Timeout)) {
                    break;
                }
            }
            bar.finish_and_clear();
        };
        // Without a thread there is no spinner, and that is all.
        let thread = tracer_user::quiet::spawn("ffitrace-progress", work);
        Progress {
            worker: thread.ok().map(|thread| (stop, thread)),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.worker.take() {
            drop(stop);
            // It only ends early by a panic, and then there is no spinner to remove.
            let _ = thread.join();
        }
    }
}

/// `crc32: 1,234,567 accesses, 370k a second`.
fn message(what: &str, count: u64, elapsed: Duration) -> String {
    use crate::report::{count as counted, rate};
    let seconds = elapsed.as_secs_f64().max(1e-9);
    let accesses = counted(count);
    format!(
        "{what}: {accesses} accesses, {} a second",
        rate(count as f64 / seconds)
    )
}
