//! The report as people read it.

use std::time::Duration;

use anyhow::Result;
use ffitrace_tests::call::{Backend, Call};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::process;
use ffitrace_tests::suite::Suite;

use crate::call;

pub(crate) fn add(suite: &mut Suite) {
    suite.add("text::in_80_columns", None, || {
        let text = shown(&call(Lib::Heap, "double_free", 0, Backend::Inproc), 1)?;
        for part in [
            "heap#1  24 bytes, freed",
            "made by        malloc in double_free+",
            "freed by       free in double_free+",
            "1. double_free",
            "native heap: 1 allocation, all given back",
        ] {
            check!(text.contains(part), "{part:?} is not in\n{text}");
        }
        let wide = text.lines().find(|line| line.chars().count() > 80);
        // A path is not broken.
        check!(wide.is_none_or(|line| line.contains('/')), "{wide:?}");
        Ok(())
    });
    suite.add("text::leaks", None, || {
        let leak = call(Lib::Heap, "leak", 0, Backend::Inproc);
        let text = shown(&leak, 0)?;
        let short = "native heap: 1 allocation, 1 live (5 bytes); --verbose lists them";
        check!(text.contains(short) && !text.contains("heap#1"), "{text}");
        let text = shown(&leak.option(["--verbose"]), 0)?;
        check!(
            text.contains("  heap#1, 5 bytes: strdup in leak+"),
            "{text}"
        );
        Ok(())
    });
    suite.add("text::a_library_of_the_program", None, || {
        let call = Call::new("libc.so.6", "int abs(int n)", Backend::Inproc)
            .bind(["n=-3"])
            .option(["--native-heap"]);
        let finished = process::run(&mut call.command()?, Duration::from_secs(20))?;
        check!(finished.code == Some(3), "{finished:?}");
        let told = &finished.stderr;
        check!(told.contains("part of this program itself"), "{told}");
        check!(told.contains("help:"), "{told}");
        Ok(())
    });
}

/// The text of a call that ends with this status.
fn shown(call: &Call, code: i32) -> Result<String> {
    let finished = process::run(&mut call.command()?, Duration::from_secs(20))?;
    check!(finished.code == Some(code), "{finished:?}");
    Ok(finished.stdout)
}
