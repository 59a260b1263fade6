//! `ffitrace run` as a command: statuses, reports, options.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use ffitrace_tests::check;
use ffitrace_tests::host::Need;
use ffitrace_tests::process::Finished;
use ffitrace_tests::suite::Suite;
use serde_json::Value;

use crate::session::{run, run_text, shown};

type Case = fn() -> Result<()>;

/// A buffer of four bytes, of which native code writes five.
const OVERRUN: &str = "\
local ffi = require 'ffi'
ffi.cdef 'void *memset(void *at, int byte, size_t len);'
local a = ffi.new('char[4]')
local function break_it()
  ffi.C.memset(a, 1, 5)
  return 1
end
break_it()
print 'went on'
";

pub(crate) fn add(suite: &mut Suite) {
    let cases: [(&str, Case); 23] = [
        ("a_good_session_ends_with_0", good),
        ("a_violation_stops_the_script", violation_stops),
        ("a_violation_has_stacks_and_bytes", violation_report),
        ("a_violation_that_is_caught_still_counts", caught_violation),
        ("keep_going_collects", keep_going),
        (
            "stop_at_first_keeps_the_write_from_happening",
            stop_at_first,
        ),
        ("json_is_one_object", json),
        ("events_go_to_a_file", events),
        ("an_error_has_the_lua_stack", error_stack),
        ("a_session_that_is_no_lua_is_wrong_usage", no_lua),
        ("a_session_that_is_not_there_is_wrong_usage", not_there),
        ("a_library_that_is_not_there_ends_with_3", no_library),
        ("arguments_reach_the_script", arguments),
        ("os_exit_reports_and_passes_its_status_on", os_exit),
        ("os_exit_does_not_hide_a_violation", os_exit_violation),
        ("a_native_crash_ends_the_call_and_not_the_script", crash),
        ("output_survives_a_call_that_was_ended", freed_callback),
        ("a_timeout_ends_the_call", timeout),
        (
            "a_script_comes_from_stdin_or_has_a_first_line_for_the_shell",
            shebang,
        ),
        (
            "finalizers_run_at_the_end_with_their_objects_alive",
            finalizers_at_end,
        ),
        ("require_looks_beside_the_session", require_beside),
        ("memory_does_not_grow_with_calls", memory_of_calls),
        ("memory_does_not_grow_with_objects", memory_of_objects),
    ];
    for (name, case) in cases {
        suite.add(format!("command::{name}"), [], case);
    }
    suite.add(
        "command::an_exit_of_native_code_is_reported::ebpf",
        [Need::Bpf],
        || native_exit("ebpf"),
    );
    suite.add(
        "command::an_exit_of_native_code_is_reported::inproc",
        [],
        || native_exit("inproc"),
    );
    suite.add(
        "command::ptrace_refuses_to_stop_at_first",
        [Need::Ptrace],
        || {
            let finished = run_text(&["--backend", "ptrace", "--stop-at-first"], "print 'no'")?;
            ends(&finished, 3)?;
            says(&finished.stderr, "--stop-at-first", &finished)
        },
    );
}

fn ends(finished: &Finished, status: i32) -> Result<()> {
    check!(
        finished.code == Some(status),
        "not {status}: {}",
        shown(finished)
    );
    Ok(())
}

fn says(text: &str, words: &str, finished: &Finished) -> Result<()> {
    check!(text.contains(words), "no {words:?}: {}", shown(finished));
    Ok(())
}

fn inproc(text: &str) -> Result<Finished> {
    run_text(&["--backend", "inproc"], text)
}

fn good() -> Result<()> {
    let finished = inproc("print(require('ffi').sizeof('int'))")?;
    ends(&finished, 0)?;
    check!(finished.stdout == "4\n", "{}", shown(&finished));
    says(
        &finished.stderr,
        "0 native calls, 0 accesses, recorded by inproc",
        &finished,
    )
}

fn violation_stops() -> Result<()> {
    let finished = inproc(OVERRUN)?;
    ends(&finished, 1)?;
    check!(finished.stdout.is_empty(), "{}", shown(&finished));
    says(
        &finished.stderr,
        "error: session.lua:5: memset: out_of_bounds",
        &finished,
    )
}

fn violation_report() -> Result<()> {
    let finished = inproc(OVERRUN)?;
    for words in [
        "out_of_bounds: write of 4 bytes at offset 1 of",
        "`char [4] at session.lua:3`",
        "  at           __memset",
        "  interpreter  session.lua:5 in break_it",
        "               session.lua:8 in the main chunk",
        "  bytes\n    0000  01 01 01 01  |",
        "^^ ^^ ^^ ^^",
        "1 native call, 2 accesses",
        "1 violation",
    ] {
        says(&finished.stderr, words, &finished)?;
    }
    let wide = finished
        .stderr
        .lines()
        .find(|line| line.chars().count() > 80);
    check!(wide.is_none(), "wider than 80: {wide:?}");
    Ok(())
}

fn caught_violation() -> Result<()> {
    let text = OVERRUN.replace("\nbreak_it()", "\nprint(pcall(break_it))");
    let finished = inproc(&text)?;
    ends(&finished, 1)?;
    says(
        &finished.stdout,
        "false\tsession.lua:5: memset: out_of_bounds",
        &finished,
    )?;
    says(&finished.stdout, "went on", &finished)
}

fn keep_going() -> Result<()> {
    let finished = run_text(&["--backend", "inproc", "--keep-going"], OVERRUN)?;
    ends(&finished, 1)?;
    check!(finished.stdout == "went on\n", "{}", shown(&finished));
    check!(!finished.stderr.contains("error:"), "{}", shown(&finished));
    says(
        &finished.stderr,
        "out_of_bounds: write of 4 bytes",
        &finished,
    )
}

fn stop_at_first() -> Result<()> {
    let text = format!(
        "{}\n",
        OVERRUN.replace("\nbreak_it()", "\npcall(break_it) print(a[3])")
    );
    let finished = run_text(&["--backend", "inproc", "--stop-at-first"], &text)?;
    ends(&finished, 1)?;
    // memset writes its first four bytes, and the last four, which are the violation, not.
    says(&finished.stdout, "1\nwent on", &finished)?;
    says(&finished.stderr, "out_of_bounds", &finished)
}

fn report(arguments: &[&str], text: &str) -> Result<(Finished, Value)> {
    let all: Vec<&str> = ["--backend", "inproc", "--format", "json"]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    let finished = run_text(&all, text)?;
    let report = serde_json::from_str(&finished.stdout)
        .with_context(|| format!("no JSON: {}", shown(&finished)))?;
    Ok((finished, report))
}

fn json() -> Result<()> {
    let (finished, report) = report(&["--keep-going"], OVERRUN)?;
    ends(&finished, 1)?;
    says(&finished.stderr, "went on", &finished)?;
    check!(report["schema"] == 1, "{report}");
    check!(report["session"] == "session.lua", "{report}");
    check!(report["backend"] == "inproc", "{report}");
    check!(report["error"].is_null(), "{report}");
    check!(report["unexpected"] == 1, "{report}");
    let violation = &report["violations"][0];
    check!(violation["kind"] == "out_of_bounds", "{violation}");
    check!(violation["access"] == "write", "{violation}");
    check!(violation["offset"] == 1, "{violation}");
    check!(violation["expected"] == false, "{violation}");
    check!(
        violation["bytes"].as_array().is_some_and(|b| !b.is_empty()),
        "{violation}"
    );
    let stack = violation["interpreter_stack"].to_string();
    check!(stack.contains("session.lua:5"), "{violation}");
    let function = &report["functions"][0];
    check!(
        function["name"] == "memset" && function["calls"] == 1,
        "{function}"
    );
    check!(report["stats"]["calls"] == 1, "{report}");
    check!(report["stats"]["complete"] == true, "{report}");
    Ok(())
}

fn events() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("trace.jsonl");
    let name = file.display().to_string();
    let finished = run_text(
        &["--backend", "inproc", "--keep-going", "--events", &name],
        OVERRUN,
    )?;
    ends(&finished, 1)?;
    let text = fs::read_to_string(&file)?;
    let lines: Vec<Value> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    check!(lines.len() == 2, "{text}");
    check!(
        lines[0]["allocation"] == "char [4] at session.lua:3",
        "{text}"
    );
    check!(
        lines[1]["offset"] == 1 && lines[1]["kind"] == "write",
        "{text}"
    );
    Ok(())
}

fn error_stack() -> Result<()> {
    let finished = inproc("local function f(t)\n  return t.x + 1\nend\nlocal y = f({})\nprint(y)")?;
    ends(&finished, 1)?;
    says(
        &finished.stderr,
        "error: session.lua:2: attempt to perform arithmetic",
        &finished,
    )?;
    says(
        &finished.stderr,
        "  at           session.lua:2 in f",
        &finished,
    )?;
    says(
        &finished.stderr,
        "  called from  session.lua:4 in the main chunk",
        &finished,
    )
}

fn no_lua() -> Result<()> {
    let finished = inproc("local x = = 1")?;
    ends(&finished, 2)?;
    says(
        &finished.stderr,
        "session.lua:1: unexpected symbol",
        &finished,
    )
}

fn not_there() -> Result<()> {
    let finished = run(Path::new("/"), &["--backend", "inproc", "nowhere.lua"])?;
    ends(&finished, 2)?;
    says(&finished.stderr, "cannot read nowhere.lua", &finished)
}

fn no_library() -> Result<()> {
    let finished = inproc("require('ffi').load('nosuchlibrary')")?;
    ends(&finished, 3)?;
    says(&finished.stderr, "cannot load \"nosuchlibrary\"", &finished)
}

fn arguments() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = "print(arg[0], arg[1], arg[2], #arg, ...)";
    fs::write(folder.path().join("s.lua"), script)?;
    let finished = run(
        folder.path(),
        &["--backend", "inproc", "s.lua", "one", "--two"],
    )?;
    ends(&finished, 0)?;
    check!(
        finished.stdout == "s.lua\tone\t--two\t2\tone\t--two\n",
        "{}",
        shown(&finished)
    );
    Ok(())
}

fn os_exit() -> Result<()> {
    let finished = inproc("print 'here' os.exit(7)")?;
    ends(&finished, 7)?;
    check!(finished.stdout == "here\n", "{}", shown(&finished));
    says(&finished.stderr, "0 native calls", &finished)?;
    ends(&inproc("os.exit()")?, 0)?;
    ends(&inproc("os.exit(false)")?, 1)
}

fn os_exit_violation() -> Result<()> {
    let text = OVERRUN.replace("\nbreak_it()", "\npcall(break_it) os.exit(0)");
    let finished = inproc(&text)?;
    ends(&finished, 1)?;
    says(&finished.stderr, "out_of_bounds", &finished)
}

fn crash() -> Result<()> {
    let finished = inproc(
        "local ffi = require 'ffi'
        ffi.cdef 'void abort(void); int abs(int);'
        print(pcall(ffi.C.abort))
        print(ffi.C.abs(-3))",
    )?;
    ends(&finished, 1)?;
    says(
        &finished.stdout,
        "false\tsession.lua:3: abort: native_crash",
        &finished,
    )?;
    says(&finished.stdout, "\n3\n", &finished)
}

/// What was printed before and after a call that was ended midway is all there.
fn freed_callback() -> Result<()> {
    let text = "local ffi = require 'ffi'
        local callback = ffi.cast('int (*)(int)', function(n) return n end)
        print('before', callback(3))
        callback:free()
        print(pcall(callback, 4))
        print(pcall(ffi.fill, ffi.new('char[4]'), -1))";
    let finished = run_text(&["--backend", "inproc", "--keep-going"], text)?;
    ends(&finished, 1)?;
    says(&finished.stdout, "before\t3\nfalse\t", &finished)?;
    says(&finished.stdout, "a length that is negative", &finished)?;
    says(&finished.stderr, "freed_callback", &finished)
}

fn timeout() -> Result<()> {
    let text = "local ffi = require 'ffi'
        ffi.cdef 'unsigned sleep(unsigned seconds);'
        print(pcall(ffi.C.sleep, 60))";
    let finished = run_text(&["--backend", "inproc", "--timeout", "0.3"], text)?;
    ends(&finished, 1)?;
    says(&finished.stdout, "timeout", &finished)
}

fn shebang() -> Result<()> {
    let finished = inproc("#!/usr/bin/env ffitrace\nprint 'ran'\nerror 'x'")?;
    ends(&finished, 1)?;
    says(&finished.stdout, "ran", &finished)?;
    // The line is left out and counted all the same.
    says(&finished.stderr, "session.lua:3: x", &finished)
}

fn finalizers_at_end() -> Result<()> {
    let finished = inproc(
        "local ffi = require 'ffi'
        local data = ffi.new('int[1]', 5)
        anchor = ffi.gc(ffi.new('int *[1]', { data }), function(box) print('last', box[0][0]) end)",
    )?;
    ends(&finished, 0)?;
    says(&finished.stdout, "last\t5", &finished)
}

fn require_beside() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("inner"))?;
    fs::write(folder.path().join("inner/part.lua"), "return { x = 42 }")?;
    fs::write(
        folder.path().join("inner/s.lua"),
        "print(require('part').x)",
    )?;
    let finished = run(folder.path(), &["--backend", "inproc", "inner/s.lua"])?;
    ends(&finished, 0)?;
    check!(finished.stdout == "42\n", "{}", shown(&finished));
    Ok(())
}

/// Prints by how many KiB the process grew while `work(count)` ran once more.
fn growth(warm: u32, work: &str) -> Result<f64> {
    let text = format!(
        "local ffi = require 'ffi'
        ffi.cdef 'int abs(int); size_t strlen(const char *); void *memset(void *, int, size_t);'
        local function resident()
          collectgarbage() collectgarbage()
          local file = io.open '/proc/self/statm'
          local _, pages = file:read('*n', '*n')
          file:close()
          return pages * 4
        end
        {work}
        work({warm})
        local before = resident()
        work(60000)
        print(resident() - before)"
    );
    let finished = inproc(&text)?;
    ends(&finished, 0)?;
    finished
        .stdout
        .trim()
        .parse()
        .with_context(|| shown(&finished))
}

fn memory_of_calls() -> Result<()> {
    let grown = growth(
        20_000,
        "local buffer = ffi.new('char[16]')
        local function work(count)
          for i = 1, count do
            ffi.C.abs(-i)
            ffi.C.memset(buffer, i % 100, 16)
            if ffi.C.strlen('text') ~= 4 then error 'strlen' end
          end
        end",
    )?;
    check!(grown < 4096.0, "it grew by {grown} KiB in 180,000 calls");
    Ok(())
}

fn memory_of_objects() -> Result<()> {
    // As many as are kept, freed, to be told from new ones, and more.
    let grown = growth(
        120_000,
        "local function work(count)
          for i = 1, count do
            local object = ffi.new('int[64]')
            object[0] = i
          end
        end",
    )?;
    // What was made is 15 MiB, and twice that with what lies between objects.
    check!(grown < 10240.0, "it grew by {grown} KiB");
    Ok(())
}

fn native_exit(backend: &str) -> Result<()> {
    let text = "local ffi = require 'ffi'
        ffi.cdef 'int kill(int pid, int signal); int getpid(void);'
        ffi.C.kill(ffi.C.getpid(), 9)";
    let finished = run_text(&["--backend", backend], text)?;
    ends(&finished, 1)?;
    says(&finished.stdout, "SIGKILL", &finished)?;
    says(&finished.stdout, "kill", &finished)
}
