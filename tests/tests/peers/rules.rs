//! Rows about what is a mistake and what is not, and how it is told.

use anyhow::{Context, Result};
use ffitrace_tests::call::Backend;
use ffitrace_tests::check;
use ffitrace_tests::fixture::{Lib, marked_line};
use ffitrace_tests::report::hex;
use ffitrace_tests::suite::Suite;

use crate::expect::{bad, good, returned, row, touched};

pub(crate) fn add(suite: &mut Suite) {
    row(suite, "no_false_out_of_bounds::strlen", None, |backend| {
        let prototype = "size_t fx_strlen(const char *s)";
        let outcome = good(Lib::O2, prototype, backend, &["s=str:hello"])?;
        returned(&outcome, "5")?;
        touched(&outcome, "s", &[(0, 6)], &[])
    });
    row(suite, "no_false_out_of_bounds::printf_s", None, |backend| {
        let prototype = "int print_string(char *d, size_t n, const char *s)";
        let bindings = ["d=uninit:20", "n=20", "s=str:hello"];
        let outcome = good(Lib::O2, prototype, backend, &bindings)?;
        returned(&outcome, "7")?;
        touched(&outcome, "s", &[(0, 6)], &[])?;
        touched(&outcome, "d", &[], &[(0, 8)])
    });
    row(suite, "no_false_out_of_bounds::sscanf", None, |backend| {
        let prototype = "int scan_string(const char *s)";
        let outcome = good(Lib::O2, prototype, backend, &["s=str:37 words"])?;
        returned(&outcome, "2042")?;
        touched(&outcome, "s", &[(0, 9)], &[])
    });
    row(
        suite,
        "no_false_out_of_bounds::small_memset",
        None,
        |backend| {
            for n in [1u64, 2, 3, 7, 16] {
                let bindings = [format!("d=uninit:{n}"), "c=7".into(), format!("n={n}")];
                let bindings: Vec<&str> = bindings.iter().map(String::as_str).collect();
                let prototype = "void fx_memset(void *d, int c, size_t n)";
                let outcome = good(Lib::O2, prototype, backend, &bindings)?;
                touched(&outcome, "d", &[], &[(0, n)])?;
            }
            Ok(())
        },
    );
    row(suite, "out_of_bounds_on_a_mapped_page", None, mapped_page);
    row(suite, "write_through_a_shared_reference", None, |backend| {
        let (_, found) = bad(
            Lib::O2,
            "void write_const(const char *p)",
            backend,
            &["p=str:const"],
        )?;
        check!(found.kind == "write_to_read_only", "{found:#?}");
        Ok(())
    });
    row(suite, "memory_of_the_library::static", None, |backend| {
        let outcome = good(Lib::O2, "int *own_static(int *p)", backend, &["p=uninit:4"])?;
        touched(&outcome, "p", &[], &[(0, 4)])?;
        let ret = outcome.report.ret.as_ref().context("no result")?.text();
        check!(
            hex(&ret).is_some_and(|address| address != 0),
            "returned {ret}"
        );
        Ok(())
    });
    row(suite, "memory_of_the_library::heap", None, |backend| {
        let outcome = good(
            Lib::O2,
            "char *own_heap(const char *s)",
            backend,
            &["s=str:hello"],
        )?;
        touched(&outcome, "s", &[(0, 6)], &[])?;
        let ret = outcome.report.ret.as_ref().context("no result")?.text();
        check!(
            hex(&ret).is_some_and(|address| address != 0),
            "returned {ret}"
        );
        Ok(())
    });
    row(
        suite,
        "memory_of_the_library::pointer_stored",
        None,
        |backend| {
            let prototype = "void store_own_pointer(const char **slot)";
            let outcome = good(Lib::O2, prototype, backend, &["slot=uninit:8"])?;
            touched(&outcome, "slot", &[], &[(0, 8)])
        },
    );
    row(suite, "an_event_tells_who_and_where", None, told);
}

/// Behind a buffer of pages, and not at its edge: the pages there are mapped, and others' too.
fn mapped_page(backend: Backend) -> Result<()> {
    let prototype = "char oob_far(const char *p, size_t by)";
    let bindings = ["p=zero:8192", "by=12288"];
    let (outcome, found) = bad(Lib::O2, prototype, backend, &bindings)?;
    check!(
        found.kind == "out_of_bounds" && found.size == Some(1),
        "{found:#?}"
    );
    let base = outcome.allocation("p")?.base().context("base")?;
    check!(
        found.addr.as_deref().and_then(hex) == Some(base + 12288),
        "{found:#?}"
    );
    Ok(())
}

/// Instruction, thread, symbol of an event; of an error also line, buffer, stack and a sentence.
fn told(backend: Backend) -> Result<()> {
    let prototype = "int oob_in_helper(char *p, size_t n)";
    let (outcome, found) = bad(Lib::O2, prototype, backend, &["p=uninit:5", "n=5"])?;
    let [event] = &outcome.events[..] else {
        anyhow::bail!("not one event: {:?}", outcome.events);
    };
    let symbol = event.symbol.as_deref().context("no symbol")?;
    check!(symbol.starts_with("helper_writes+0x"), "{symbol}");
    check!(
        hex(&event.ip).is_some_and(|ip| ip != 0) && event.tid != 0,
        "{event:?}"
    );
    check!(event.allocation.as_deref() == Some("p"), "{event:?}");

    let line = marked_line("helper_writes")?;
    check!(found.source.as_deref() == Some(line.as_str()), "{found:#?}");
    check!(found.symbol.as_deref() == Some(symbol), "{found:#?}");
    check!(found.message.contains("`p` (5 bytes)"), "{}", found.message);
    let caller = found.backtrace.get(1).context("no caller in the stack")?;
    check!(caller.starts_with("oob_in_helper+0x"), "{caller}");
    Ok(())
}
