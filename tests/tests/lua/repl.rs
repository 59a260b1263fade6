//! `ffitrace repl`: from a pipe, and from a terminal.
//!
//! # Safety
//! A pseudo-terminal is opened by `openpty(3)`; its descriptors are owned at once.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ffitrace_tests::binary;
use ffitrace_tests::check;
use ffitrace_tests::process::Finished;
use ffitrace_tests::suite::Suite;

use crate::session::shown;

pub(crate) fn add(suite: &mut Suite) {
    suite.add("repl::shows_values", [], values);
    suite.add("repl::shows_cdata_with_fields_and_a_byte_map", [], cdata);
    suite.add("repl::goes_on_after_errors_and_violations", [], errors);
    suite.add("repl::takes_statements_of_several_lines", [], several_lines);
    suite.add("repl::completes_and_keeps_its_history", [], terminal);
}

/// What a repl prints for these lines.
fn typed(lines: &[&str]) -> Result<Finished> {
    let home = tempfile::tempdir()?;
    let mut command = binary::command()?;
    command
        .args(["repl", "--backend", "inproc"])
        .env("XDG_STATE_HOME", home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("repl")?;
    let mut stdin = child.stdin.take().context("stdin")?;
    writeln!(stdin, "{}", lines.join("\n"))?;
    drop(stdin);
    let output = child.wait_with_output()?;
    Ok(Finished {
        code: output.status.code(),
        signal: None,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        ..Finished::default()
    })
}

fn has(finished: &Finished, words: &[&str]) -> Result<()> {
    for word in words {
        check!(
            finished.stdout.contains(word),
            "no {word:?}: {}",
            shown(finished)
        );
    }
    Ok(())
}

fn values() -> Result<()> {
    let finished = typed(&[
        "1 + 1",
        "'a\\nb', nil",
        "{1, x = 2}",
        "5LL",
        "= 6",
        "-- nothing",
    ])?;
    check!(finished.code == Some(0), "{}", shown(&finished));
    has(
        &finished,
        &[
            "2\n",
            "\"a\\nb\"\n",
            "table, 2 entries\n",
            "  x    2\n",
            "5LL\n",
            "6\n",
        ],
    )
}

fn cdata() -> Result<()> {
    let finished = typed(&[
        "ffi.cdef 'struct p { int x; short y; }; void *memset(void *, int, size_t);'",
        "p = ffi.new('struct p', 3, 4)",
        "p",
        "m = ffi.C.memset(p, 1, 2)",
        "p",
        "trace.uninit(ffi.new('int[2]'))",
        "ffi.cast('short *', p)",
    ])?;
    check!(finished.code == Some(0), "{}", shown(&finished));
    has(
        &finished,
        &[
            "8 bytes, `struct p at repl:2:1`\n",
            "  x  int    3\n",
            "  y  short  4\n",
            "  0000  03 00 00 00 04 00 00 00   |",
            "  0000  ww",
            "w written",
            "  [0]  int  not initialised\n",
            "  0000  ?? ?? ?? ?? ?? ?? ?? ??   |",
            ", offset 0 of `struct p at repl:2:1` (8 bytes)\n",
        ],
    )
}

fn errors() -> Result<()> {
    let finished = typed(&[
        "ffi.cdef 'void *memset(void *, int, size_t);'",
        "a = ffi.new('char[2]')",
        "a[2]",
        "ffi.C.memset(a, 0, 3)",
        "x = = 1",
        ":nothing",
        ":help",
        "'still here'",
    ])?;
    check!(finished.code == Some(0), "{}", shown(&finished));
    has(
        &finished,
        &[
            "error: repl:3:1: read of 1 byte",
            "out_of_bounds: write of",
            "  interpreter  repl:4:1 in the main chunk",
            "error: repl:5:1: unexpected symbol",
            "no command :nothing",
            ":quit",
            "\"still here\"",
        ],
    )?;
    check!(
        finished.stderr.contains("1 violation"),
        "{}",
        shown(&finished)
    );
    Ok(())
}

fn several_lines() -> Result<()> {
    let finished = typed(&[
        "for i = 1, 2 do",
        "print('n', i)",
        "end",
        "function f()",
        "return 7 end",
        "f()",
    ])?;
    has(&finished, &["n\t1\nn\t2\n", "7\n"])
}

/// How long the repl may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the editor writes last when it waits for a line: the cursor goes behind the prompt.
const PROMPT: &str = "\x1b[2C";

/// A repl at a terminal.
struct Terminal {
    child: std::process::Child,
    own: File,
    seen: String,
}

impl Terminal {
    fn start(state: &std::path::Path) -> Result<Terminal> {
        let (mut own, mut theirs) = (0, 0);
        let null = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: two descriptors are stored; the rest may be null.
        let opened =
            unsafe { libc::openpty(&mut own, &mut theirs, null.cast(), null.cast(), null.cast()) };
        check!(opened == 0, "openpty: {}", std::io::Error::last_os_error());
        // SAFETY: both were just opened, and nobody else has them.
        let (own, theirs) = unsafe { (File::from_raw_fd(own), OwnedFd::from_raw_fd(theirs)) };
        let mut command = binary::command()?;
        command
            .args(["repl", "--backend", "inproc"])
            .env("XDG_STATE_HOME", state)
            .env("TERM", "xterm")
            .stdin(theirs.try_clone()?)
            .stdout(theirs.try_clone()?)
            .stderr(theirs);
        let child = command.spawn().context("repl")?;
        let seen = String::new();
        Ok(Terminal { child, own, seen })
    }

    /// Reads until the words are there, and the prompt after them.
    fn wait_for(&mut self, words: &str) -> Result<()> {
        let begun = Instant::now();
        let mut bytes = [0; 4096];
        loop {
            if let Some((_, after)) = self.seen.split_once(words)
                && after.contains(PROMPT)
            {
                self.seen.clear();
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                let _ = self.child.kill();
                bail!("no {words:?} with a prompt after it in {:?}", self.seen);
            }
            if !self.is_readable() {
                continue;
            }
            // Once the other side has gone, reading fails.
            let got = self.own.read(&mut bytes).unwrap_or(0);
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..got]));
        }
    }

    /// Waits for a tenth of a second at most.
    fn is_readable(&self) -> bool {
        let mut look = libc::pollfd {
            fd: self.own.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry, of a descriptor that is open.
        unsafe { libc::poll(&mut look, 1, 100) == 1 }
    }

    fn type_in(&mut self, keys: &str) -> Result<()> {
        Ok(self.own.write_all(keys.as_bytes())?)
    }
}

fn terminal() -> Result<()> {
    let state = tempfile::tempdir()?;
    let mut terminal = Terminal::start(state.path())?;
    terminal.wait_for("recorded by inproc")?;
    terminal.type_in("ffi.cdef 'size_t strlen(const char *); struct q { int width; };'\r")?;
    terminal.wait_for("")?;
    terminal.type_in("ffi.C.strl\t('hello')\r")?;
    terminal.wait_for("5ULL")?;
    terminal.type_in("q = ffi.new('struct q', 77)\r")?;
    terminal.wait_for("")?;
    terminal.type_in("q.wi\t + 1\r")?;
    terminal.wait_for("78")?;
    // The arrow brings the last line back.
    terminal.type_in("\x1b[A2\r")?;
    terminal.wait_for("89")?;
    terminal.type_in("\x04")?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = terminal.child.try_wait()? {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            terminal.child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    check!(status.code() == Some(0), "{status}");
    let history = std::fs::read_to_string(state.path().join("ffitrace/history"))?;
    check!(history.contains("ffi.C.strlen('hello')"), "{history}");
    Ok(())
}
