//! The virtual machine, and what it writes to its console.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::packages::Packages;

/// Each is emulated by a thread of its own. Some tests want two at least; more would gain little, and
/// the tests' own processes are several already.
pub(super) const PROCESSORS: usize = 2;

/// How the machine came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was turned off, by itself or by a crash of its kernel.
    Off,
    /// It was not done after this time.
    TimedOut(Duration),
}

/// The command that starts it.
pub(super) fn command(packages: &Packages, image: &Path) -> Command {
    let mut command = Command::new(&packages.qemu);
    command
        .args(["-accel", "tcg,thread=multi"])
        // All that the emulator knows, but page tables of five levels: each miss of the TLB is
        // emulated too, and that is a fifth of the time.
        .args(["-cpu", "max,la57=off"])
        .args(["-smp", &PROCESSORS.to_string(), "-m", "4G"])
        .args(["-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-serial", "stdio"])
        .arg("-kernel")
        .arg(&packages.kernel)
        .arg("-initrd")
        .arg(image)
        // A crash of the kernel ends the machine at once.
        .args(["-append", "console=ttyS0 quiet panic=-1"]);
    command
}

/// Starts the machine, shows its console, hands over each line with the time since the start, and
/// ends the machine after `limit`.
pub(super) fn watch(
    command: &mut Command,
    limit: Duration,
    mut each: impl FnMut(Duration, &str),
) -> Result<Ended> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let console = child.stdout.take().context("no pipe")?;
    let (send, lines) = channel();
    let reader = std::thread::spawn(move || {
        let mut console = BufReader::new(console);
        let mut line = Vec::new();
        // By bytes: a failing test may print what is no UTF-8.
        while console.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if send.send(text).is_err() {
                break;
            }
        }
    });
    let ended = loop {
        match lines.recv_timeout(limit.saturating_sub(start.elapsed())) {
            Ok(line) => {
                println!("{line}");
                std::io::stdout().flush()?;
                each(start.elapsed(), &line);
            }
            Err(RecvTimeoutError::Disconnected) => break Ended::Off,
            Err(RecvTimeoutError::Timeout) => {
                child.kill().context("cannot end qemu")?;
                break Ended::TimedOut(limit);
            }
        }
    };
    child.wait().context("waiting for qemu")?;
    drop(lines);
    // It ends with the pipe, and panics nowhere.
    let _ = reader.join();
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(script: &str, limit: Duration) -> Result<(Ended, Vec<String>)> {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let ended = watch(&mut command, limit, |_, line| lines.push(line.to_owned()))?;
        Ok((ended, lines))
    }

    #[test]
    fn a_machine_that_ends_has_said_all() -> Result<()> {
        let (ended, lines) = watched("printf 'a\\r\\nb'", Duration::from_secs(60))?;
        assert_eq!((ended, lines), (Ended::Off, vec!["a".into(), "b".into()]));
        Ok(())
    }

    #[test]
    fn a_machine_that_hangs_is_ended() -> Result<()> {
        let limit = Duration::from_secs(1);
        let (ended, lines) = watched("echo a; exec sleep 1000", limit)?;
        assert_eq!((ended, lines), (Ended::TimedOut(limit), vec!["a".into()]));
        Ok(())
    }
}
