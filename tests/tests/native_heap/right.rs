//! What is right must be found right, and do what it does without us.

use ffitrace_tests::call::Backend;
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::Suite;

use crate::{add_test, call, heap, word};

pub(crate) fn add(suite: &mut Suite) {
    for (lib, function, expected, live) in [
        (Lib::Heap, "fine", 45, 0),
        (Lib::Heap, "resize", 3, 0),
        (Lib::Heap, "strings", 1, 0),
        (Lib::Heap, "zeroed", 1, 0),
        (Lib::Heap, "aligned", 1, 1),
        (Lib::Heap, "none", 2, 0),
        (Lib::Heap, "libcs_own", 1, 0),
        (Lib::Heap, "huge", 2, 0),
        (Lib::HeapCpp, "containers", 1225, 0),
        (Lib::HeapCpp, "exceptions", 3, 0),
        (Lib::HeapCpp, "operators", 2, 0),
    ] {
        add_test(suite, &format!("right::{function}"), move |backend| {
            let outcome = call(lib, function, 0, backend).run()?;
            outcome.expect_code(0)?;
            check!(
                word(&outcome)? == expected,
                "{function}: {:?}",
                word(&outcome)
            );
            check!(heap(&outcome)?.live == live, "{:?}", heap(&outcome));
            Ok(())
        });
    }
    add_test(suite, "right::threads", |backend| {
        let outcome = call(Lib::Heap, "threads", 0, backend).run()?;
        outcome.expect_code(0)?;
        check!(word(&outcome)? == 1, "a thread found something else");
        check!(heap(&outcome)?.allocations == 1600, "{:?}", heap(&outcome));
        Ok(())
    });
    add_test(suite, "right::pairs", |backend| {
        // A supervisor takes much longer for each.
        let pairs = if backend == Backend::Ptrace {
            2000
        } else {
            100_000
        };
        let outcome = call(Lib::Heap, "pairs", pairs, backend).run()?;
        outcome.expect_code(0)?;
        let heap = heap(&outcome)?;
        check!(heap.frees == pairs as u64 && heap.live == 0, "{heap:?}");
        Ok(())
    });
    for function in ["forks", "in_handler"] {
        add_test(suite, &format!("right::{function}"), move |backend| {
            let outcome = call(Lib::Heap, function, 0, backend).run()?;
            outcome.expect_code(0)?;
            check!(word(&outcome)? == 1, "{function} went wrong");
            Ok(())
        });
    }
    // What the library keeps for its destructors is in an arena that nobody traces by then, so
    // they do not run.
    add_test(suite, "right::kept_to_the_end", |backend| {
        let kept = call(Lib::Heap, "keep", 0, backend);
        let outcome = kept.run()?;
        outcome.expect_code(0)?;
        check!(heap(&outcome)?.live == 1, "{:?}", heap(&outcome));
        check!(!outcome.process.stderr.contains("Until the end"), "it ran");
        let mut kept = kept;
        kept.options.clear();
        let outcome = kept.run()?;
        outcome.expect_code(0)?;
        check!(
            outcome.process.stderr.contains("Until the end"),
            "it did not run"
        );
        Ok(())
    });
    add_test(suite, "right::leaks", |backend| {
        let outcome = call(Lib::Heap, "leak", 0, backend).run()?;
        outcome.expect_code(0)?;
        let heap = heap(&outcome)?;
        check!(heap.live == 1 && heap.live_bytes == 5, "{heap:?}");
        check!(heap.leaks.len() == 1 && heap.leaks[0].size == 5, "{heap:?}");
        let made = &heap.leaks[0].made_by;
        check!(made.starts_with("strdup in leak+"), "{heap:?}");
        check!(
            outcome.report.allocations.len() == 1,
            "a leak is no violation"
        );
        Ok(())
    });
    add_test(suite, "right::not_asked_for", |backend| {
        let mut call = call(Lib::Heap, "leak", 0, backend);
        call.options.clear();
        let outcome = call.run()?;
        outcome.expect_code(0)?;
        check!(outcome.report.native_heap.is_none(), "nobody asked");
        check!(outcome.report.stats.events == 1, "the word alone");
        Ok(())
    });
}
