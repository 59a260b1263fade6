//! The sessions in `examples/`, as they stand.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use ffitrace_tests::call::Backend;
use ffitrace_tests::check;
use ffitrace_tests::host::Need;
use ffitrace_tests::suite::Suite;
use serde_json::Value;

use crate::session::{root, run, run_stock, shown};

/// Those that use `ffi` alone, and a line of what each prints.
const PLAIN: [(&str, &str); 3] = [
    ("zlib.lua", "uncompress  1471 bytes"),
    ("sqlite.lua", "closed"),
    ("qsort.lua", "4 5 8 9"),
];

pub(crate) fn add(suite: &mut Suite) {
    for (script, line) in PLAIN {
        let stem = script.trim_end_matches(".lua");
        for backend in Backend::ALL {
            suite.add(
                format!("examples::{stem}::{}", backend.name()),
                backend.needs(),
                move || plain(script, line, backend),
            );
        }
        let recorders = [Need::Bpf, Need::Ptrace];
        suite.add(
            format!("examples::{stem}::traces_are_equal"),
            recorders,
            move || traces_are_equal(script),
        );
        suite.add(
            format!("examples::{stem}::stock_luajit"),
            [Need::LuaJit],
            move || same_output_as_stock(script),
        );
    }
    for backend in Backend::ALL {
        suite.add(
            format!("examples::find_bugs::{}", backend.name()),
            backend.needs(),
            move || find_bugs(backend),
        );
    }
}

fn folder() -> PathBuf {
    root().join("examples")
}

fn plain(script: &str, line: &str, backend: Backend) -> Result<()> {
    let finished = run(&folder(), &["--backend", backend.name(), script])?;
    check!(finished.code == Some(0), "{}", shown(&finished));
    check!(finished.stdout.contains(line), "{}", shown(&finished));
    let recorder = format!("recorded by {}: no violation", backend.name());
    check!(finished.stderr.contains(&recorder), "{}", shown(&finished));
    Ok(())
}

/// An access, without what differs from run to run: addresses, threads, and who took it down.
fn comparable(line: &str) -> Result<String> {
    let event: Value = serde_json::from_str(line).context("a line of events")?;
    let field = |name: &str| event.get(name).cloned().unwrap_or_default().to_string();
    let fields = ["kind", "certain", "size", "allocation", "offset", "symbol"];
    Ok(fields.map(field).join(" "))
}

fn events(script: &str, backend: &str, into: &Path) -> Result<Vec<String>> {
    let file = into.join(format!("{backend}.jsonl"));
    let name = file.display().to_string();
    let finished = run(
        &folder(),
        &["--backend", backend, "--events", &name, script],
    )?;
    check!(finished.code == Some(0), "{}", shown(&finished));
    let text = std::fs::read_to_string(&file).context("the events")?;
    text.lines().map(comparable).collect()
}

fn traces_are_equal(script: &str) -> Result<()> {
    let into = tempfile::tempdir()?;
    let first = events(script, "inproc", into.path())?;
    check!(first.len() > 20, "only {} accesses", first.len());
    for backend in ["ebpf", "ptrace"] {
        let other = events(script, backend, into.path())?;
        let difference = first.iter().zip(&other).position(|(a, b)| a != b);
        if let Some(at) = difference {
            let (one, two) = (&first[at], &other[at]);
            anyhow::bail!("access {at}: inproc {one}, {backend} {two}");
        }
        check!(
            first.len() == other.len(),
            "inproc {} accesses, {backend} {}",
            first.len(),
            other.len()
        );
    }
    Ok(())
}

fn same_output_as_stock(script: &str) -> Result<()> {
    let ours = run(&folder(), &["--backend", "inproc", script])?;
    let stock = run_stock(&folder(), &[script])?;
    check!(stock.code == Some(0), "{}", shown(&stock));
    check!(
        ours.stdout == stock.stdout,
        "ffitrace: {}\nluajit: {}",
        shown(&ours),
        shown(&stock)
    );
    Ok(())
}

fn find_bugs(backend: Backend) -> Result<()> {
    let into = tempfile::tempdir()?;
    let library = into.path().join("libinventory.so");
    let built = Command::new("cc")
        .args(["-g", "-O1", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(folder().join("inventory.c"))
        .status()
        .context("cc")?;
    check!(built.success(), "inventory.c does not build");
    let library = library.display().to_string();
    let arguments = ["--backend", backend.name(), "find_bugs.lua", &library];
    let finished = run(&folder(), &arguments)?;
    check!(finished.code == Some(0), "{}", shown(&finished));
    check!(
        finished.stdout.contains("3 mistakes found"),
        "{}",
        shown(&finished)
    );
    check!(
        finished.stderr.contains("no violation, 2 expected"),
        "{}",
        shown(&finished)
    );
    Ok(())
}
