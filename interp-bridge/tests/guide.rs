//! The guide tells the truth: its code is that of the example, and its output what that prints.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const GUIDE: &str = include_str!("../../docs/guide.md");
const EXAMPLE: &str = include_str!("../examples/tiny_interpreter.rs");

/// The contents of the guide's blocks in `language`.
fn blocks(language: &str) -> Vec<&'static str> {
    let parts = GUIDE.split("```").skip(1).step_by(2);
    parts
        .filter_map(|part| part.strip_prefix(language)?.strip_prefix('\n'))
        .collect()
}

/// Without indentation, which a part of a function loses in the guide.
fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn its_code_is_that_of_the_example() {
    let example = lines(EXAMPLE);
    let blocks = blocks("rust");
    assert!(blocks.len() >= 8, "{}", blocks.len());
    for block in blocks {
        let block = lines(block);
        let found = example.windows(block.len()).any(|part| part == block);
        assert!(found, "not in the example:\n{}", block.join("\n"));
    }
}

#[test]
fn the_example_has_a_hundred_lines() {
    let code = lines(EXAMPLE)
        .into_iter()
        .filter(|line| !line.starts_with("//"));
    assert!(code.count() <= 100);
}

/// The example's program. Cargo builds it for the tests, beside them; but where this test alone was
/// asked for, it has not.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path");
    let place = test
        .parent()
        .and_then(Path::parent)
        .expect("target/…/deps/guide");
    let program = place.join("examples/tiny_interpreter");
    if !program.exists() {
        let target = place.parent().expect("target/…");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--example", "tiny_interpreter"])
            .args(place.ends_with("release").then_some("--release"))
            .arg("--target-dir")
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.is_ok_and(|status| status.success()), "it builds");
    }
    program
}

/// What depends on the machine is left out: how wide the loads of libc's string functions are, and
/// where libc is.
fn steady(output: &str) -> Vec<String> {
    let mut lines: Vec<String> = output
        .lines()
        .map(|line| match line.trim_start() {
            found if found.starts_with("read of") || found.starts_with("write of") => {
                let (_, about) = found.split_once(" of `").unwrap_or(("", found));
                let (what, _) = found.split_once(' ').unwrap_or((found, ""));
                let (about, _) = about.split_once(':').unwrap_or((about, ""));
                format!("{what} … {about}")
            }
            error if error.starts_with("error: /") => {
                format!("error: {}", error.rsplit('/').next().unwrap_or(error))
            }
            other => other.to_owned(),
        })
        .collect();
    lines.dedup();
    lines
}

#[test]
fn its_output_is_what_the_example_prints() {
    let [session] = blocks("console")[..] else {
        panic!("one session");
    };
    let statement = |line: &&str| !line.starts_with("  ");
    let program_text: Vec<&str> = session.lines().filter(statement).collect();
    let mut child = Command::new(program())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the example runs");
    let mut input = child.stdin.take().expect("piped");
    input
        .write_all(program_text.join("\n").as_bytes())
        .expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).expect("text");
    assert_eq!(steady(&printed), steady(session));
}
