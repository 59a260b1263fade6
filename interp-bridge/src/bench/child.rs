//! Work that this program does in a process of its own, without a session: `ffitrace bench-work`.
//!
//! ```text
//!  page-faults   touches fresh pages: what a page fault costs another process
//!  signal        faults, with a handler that mends a register: the bare round trip
//!  session       begins and ends sessions as it is told
//!  loop          the loop of reads, as often as is wanted, for other tracers to run
//! ```

mod pages;
mod session;
mod signal;

use std::{fmt, process::Command, str::FromStr, time::Duration};

use super::{
    question::{Answer, Figure, Terms},
    work,
};

/// Name of the command that does it, which `--help` does not show.
pub const COMMAND: &str = "bench-work";

/// What is done in the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Touches fresh pages for so many seconds; answers nanoseconds a fault.
    PageFaults,
    /// Takes SIGSEGV for so many seconds; answers nanoseconds a round trip.
    Signal,
    /// Reads so many 4-byte items; answers their sum.
    Loop,
    /// Begins and ends sessions as its input says; answers how many.
    Session,
}

impl Work {
    /// All of them.
    pub const ALL: [Work; 4] = [Work::PageFaults, Work::Signal, Work::Loop, Work::Session];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Work::PageFaults => "page-faults",
            Work::Signal => "signal",
            Work::Loop => "loop",
            Work::Session => "session",
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Work, String> {
        let found = Work::ALL.into_iter().find(|work| work.name() == text);
        found.ok_or_else(|| "page-faults, signal, loop or session".to_owned())
    }
}

/// Does the work, in this process, and returns its answer: a count and a number, as its parent reads
/// them. To be called in a process without a session.
///
/// # Errors
/// What the system refuses.
pub fn run(work: Work, amount: f64) -> std::io::Result<(u64, f64)> {
    let time = || Duration::try_from_secs_f64(amount).unwrap_or(Duration::from_secs(1));
    match work {
        Work::PageFaults => pages::measure(time()),
        Work::Signal => signal::measure(time()),
        Work::Loop => Ok(read(amount as u64)),
        Work::Session => session::hold(),
    }
}

/// Has a process of this program do the work for as long as `terms` say, and waits for it.
pub(super) fn ask(terms: &Terms, work: Work) -> Answer {
    let Some(program) = &terms.program else {
        return Answer::LeftOut("it takes the program ffitrace itself".to_owned());
    };
    let output = Command::new(program)
        .args([COMMAND, work.name()])
        .arg(terms.each.as_secs_f64().to_string())
        .output();
    let text = match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Ok(output) => return Answer::LeftOut(format!("{COMMAND} {work}: {}", output.status)),
        Err(error) => return Answer::LeftOut(format!("{}: {error}", program.display())),
    };
    let mut words = text.split_whitespace();
    let count = words.next().and_then(|word| word.parse().ok());
    let ns = words.next().and_then(|word| word.parse().ok());
    match (count, ns) {
        (Some(count), Some(ns)) => Figure::new(count, ns).into(),
        _ => Answer::LeftOut(format!("{COMMAND} {work} answered {text:?}")),
    }
}

/// The loop of reads, on memory of its own.
#[allow(unsafe_code, reason = "runs the loop on a buffer that lives as long")]
fn read(items: u64) -> (u64, f64) {
    let mut buffer = vec![1u32; 16 << 10];
    let mut loop_work = work::Work {
        from: buffer.as_mut_ptr().cast(),
        to: std::ptr::null_mut(),
        own: std::ptr::null_mut(),
        len: buffer.len() * 4,
        items,
        result: 0,
    };
    // SAFETY: the buffer is readable and `len` bytes long.
    unsafe { work::scalar_loop((&raw mut loop_work).cast()) };
    (items, loop_work.result as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for work in Work::ALL {
            assert_eq!(work.to_string().parse(), Ok(work));
        }
        assert!("sleep".parse::<Work>().is_err());
    }

    #[test]
    fn the_loop_reads_each_item() {
        assert_eq!(run(Work::Loop, 20_000.0).ok(), Some((20_000, 20_000.0)));
    }
}
