//! Every `test("…")` of the Lua files as a case of its own.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context, Result, anyhow, bail};
use ffitrace_tests::call::Backend;
use ffitrace_tests::check;
use ffitrace_tests::host::Need;
use ffitrace_tests::suite::Suite;

use crate::session::{root, run, run_stock, shown};

/// As many as there have to be at least: none gets lost by a slip in how they are found.
const AT_LEAST: usize = 700;

/// A file and its behaviours.
#[derive(Clone)]
struct File {
    /// Path below `tests/lua`.
    name: String,
    tests: Vec<String>,
}

/// What a run of a file printed for each behaviour, `None` for those that passed.
type Results = BTreeMap<String, Option<String>>;

pub(crate) fn add(suite: &mut Suite) {
    let files = match files() {
        Ok(files) => files,
        Err(error) => {
            let error = format!("{error:#}");
            suite.add("behaviours::files", [], move || Err(anyhow!(error)));
            return;
        }
    };
    let count: usize = files.iter().map(|file| file.tests.len()).sum();
    suite.add("behaviours::are_all_found", [], move || {
        check!(count >= AT_LEAST, "only {count} behaviours, of {AT_LEAST}");
        Ok(())
    });
    for file in &files {
        let stem = file.name.trim_end_matches(".lua").replace('/', "::");
        for test in &file.tests {
            let (file, test) = (file.clone(), test.clone());
            suite.add(format!("behaviours::{stem}::{test}"), [], move || {
                passed(&file, &test)
            });
        }
        for backend in [Backend::Ebpf, Backend::Ptrace] {
            let file = file.clone();
            let name = format!("behaviours::{stem}::{}", backend.name());
            suite.add(name, backend.needs(), move || {
                all_passed(&file, &results_of(&file, backend.name())?)
            });
        }
        if !file.name.contains('/') {
            let file = file.clone();
            suite.add(
                format!("behaviours::{stem}::stock_luajit"),
                [Need::LuaJit, Need::Zlib],
                move || {
                    let finished = run_stock(&folder(), &[&file.name])?;
                    all_passed(&file, &parse(&file, &finished.stdout, &shown(&finished))?)
                },
            );
        }
    }
}

fn folder() -> PathBuf {
    root().join("tests/lua")
}

fn files() -> Result<Vec<File>> {
    let mut files = Vec::new();
    for part in ["", "traced/"] {
        let folder = folder().join(part);
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.ends_with(".lua") || name == "behaviour.lua" {
                continue;
            }
            let text = fs::read_to_string(folder.join(&name))?;
            let names = text.lines().filter_map(|line| {
                let rest = line.strip_prefix("test(\"")?;
                Some(rest.split_once('"')?.0.to_owned())
            });
            let tests: Vec<String> = names.collect();
            check!(!tests.is_empty(), "{name} has no test");
            files.push(File {
                name: format!("{part}{name}"),
                tests,
            });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// One behaviour, under the recorder that needs no privileges: the file runs once for all of them.
fn passed(file: &File, test: &str) -> Result<()> {
    type Known = Mutex<HashMap<String, Arc<OnceLock<Result<Results, String>>>>>;
    static KNOWN: OnceLock<Known> = OnceLock::new();
    let known = KNOWN.get_or_init(Mutex::default);
    let cell = {
        let mut known = known.lock().map_err(|_| anyhow!("a case panicked"))?;
        known.entry(file.name.clone()).or_default().clone()
    };
    let results =
        cell.get_or_init(|| results_of(file, "inproc").map_err(|error| format!("{error:#}")));
    let results = results.as_ref().map_err(|error| anyhow!("{error}"))?;
    match results.get(test) {
        Some(None) => Ok(()),
        Some(Some(message)) => bail!("{message}"),
        None => bail!("it did not run"),
    }
}

fn results_of(file: &File, backend: &str) -> Result<Results> {
    let finished = run(&folder(), &["--backend", backend, &file.name])?;
    let results = parse(file, &finished.stdout, &shown(&finished))?;
    // Where each of them passed, nothing else may have been wrong.
    if results.values().all(Option::is_none) {
        // Those of traced sessions break rules that they do not announce.
        let status = i32::from(file.name.starts_with("traced/"));
        check!(finished.code == Some(status), "{}", shown(&finished));
    }
    Ok(results)
}

fn parse(file: &File, stdout: &str, shown: &str) -> Result<Results> {
    let mut results = Results::new();
    for line in stdout.lines() {
        if let Some(name) = line.strip_prefix("ok - ") {
            results.insert(name.to_owned(), None);
        } else if let Some(rest) = line.strip_prefix("not ok - ") {
            let found = file.tests.iter().find(|test| rest.starts_with(*test));
            let name = found.map_or(rest, String::as_str);
            results.insert(name.to_owned(), Some(rest.to_owned()));
        }
    }
    let done = format!("done {}", file.tests.len());
    check!(
        stdout.lines().any(|line| line == done),
        "{} did not come to its end with {done:?}: {shown}",
        file.name
    );
    Ok(results)
}

fn all_passed(file: &File, results: &Results) -> Result<()> {
    for test in &file.tests {
        match results.get(test) {
            Some(None) => {}
            Some(Some(message)) => bail!("{message}"),
            None => bail!("{test}: it did not run"),
        }
    }
    Ok(())
}
