//! What is wrong with a library's use of its heap.

use anyhow::{Context, Result};
use ffitrace_tests::call::Backend;
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::report::{Int, Violation};
use ffitrace_tests::suite::Suite;

use crate::{add_test, call, heap, word};

pub(crate) fn add(suite: &mut Suite) {
    add_test(suite, "wrong::overrun_by_one", overrun);
    add_test(suite, "wrong::use_after_free", |backend| {
        let found = one(Lib::Heap, "use_after_free", "use_after_free", backend)?;
        check!(offset(&found) == Some(3), "{found:?}");
        Ok(())
    });
    add_test(suite, "wrong::use_after_realloc", |backend| {
        let found = one(Lib::Heap, "use_old_pointer", "use_after_free", backend)?;
        check!(offset(&found) == Some(1), "{found:?}");
        Ok(())
    });
    add_test(suite, "wrong::double_free", |backend| {
        let found = one(Lib::Heap, "double_free", "double_free", backend)?;
        says(&found, "malloc in double_free+")?;
        says(&found, "freed already by free in double_free+")?;
        says(&found, "heap.c:")
    });
    for (function, kind, words) in [
        ("free_inside", "invalid_free", "8 bytes inside `heap#1`"),
        ("free_static", "invalid_free", "data of libfx_heap.so"),
        ("free_stack", "invalid_free", "on a stack"),
    ] {
        add_test(suite, &format!("wrong::{function}"), move |backend| {
            says(&one(Lib::Heap, function, kind, backend)?, words)
        });
    }
    add_test(suite, "wrong::free_of_a_buffer", free_of_a_buffer);
    for (function, words) in [
        ("free_of_new", "given back by operator delete"),
        ("delete_of_malloc", "given back by free"),
        ("delete_of_array", "given back by operator delete[]"),
        ("delete_as_other_type", "as if it had 16 bytes"),
    ] {
        add_test(suite, &format!("wrong::{function}"), move |backend| {
            let found = one(Lib::HeapCpp, function, "mismatched_free", backend)?;
            says(&found, words)?;
            says(&found, "heap.cpp:")
        });
    }
}

/// The one violation of a call.
fn one(lib: Lib, function: &str, kind: &str, backend: Backend) -> Result<Violation> {
    let outcome = call(lib, function, 0, backend).run()?;
    outcome.expect_code(1)?;
    let found = &outcome.report.violations;
    check!(
        found.len() == 1 && found[0].kind == kind,
        "not one {kind}: {found:?}"
    );
    let symbol = found[0].symbol.as_deref().unwrap_or_default();
    check!(
        symbol.starts_with(function),
        "in {symbol}, not in {function}"
    );
    Ok(found[0].clone())
}

fn offset(violation: &Violation) -> Option<i64> {
    violation.offset.as_ref().and_then(Int::value)
}

fn says(violation: &Violation, words: &str) -> Result<()> {
    check!(
        violation.message.contains(words),
        "{words:?} is not in {:?}",
        violation.message
    );
    Ok(())
}

fn overrun(backend: Backend) -> Result<()> {
    let outcome = call(Lib::Heap, "overrun", 0, backend).run()?;
    outcome.expect_code(1)?;
    let found = &outcome.report.violations;
    check!(found.len() == 1, "{found:?}");
    check!(found[0].kind == "out_of_bounds", "{found:?}");
    check!(offset(&found[0]) == Some(10), "{found:?}");
    check!(found[0].size == Some(1), "{found:?}");
    let name = found[0].allocation.as_deref().context("no allocation")?;
    let block = outcome.allocation(name)?;
    check!(block.size == 10 && block.written == [(0, 10)], "{block:?}");
    let made = block.made_by.as_deref().unwrap_or_default();
    check!(made.starts_with("malloc in overrun+"), "{block:?}");
    check!(heap(&outcome)?.allocations == 1, "not one allocation");
    Ok(())
}

fn free_of_a_buffer(backend: Backend) -> Result<()> {
    let mut call = call(Lib::Heap, "free_interpreters", 0, backend);
    call.bindings = vec!["word=ptr:&other".into(), "other=zero:32".into()];
    let outcome = call.run()?;
    outcome.expect_code(1)?;
    let found = &outcome.report.violations;
    check!(found.len() == 1, "{found:?}");
    check!(found[0].kind == "invalid_free", "{found:?}");
    check!(found[0].allocation.as_deref() == Some("other"), "{found:?}");
    check!(!outcome.allocation("other")?.freed, "it was carried out");
    check!(word(&outcome)? != 0, "the pointer is gone");
    Ok(())
}
