//! Control flow that leaves hot code in other ways than it came. See `native/hot_flow.c` and
//! `native/hot_exceptions.cpp`.

use std::sync::Arc;

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::{Notes, Suite};

use crate::modes::{self, BACKENDS, Did, Mode, Reference};

/// A call, and whether its events are compared one by one.
struct Control {
    name: &'static str,
    lib: Lib,
    prototype: &'static str,
    bindings: &'static [&'static str],
    events: bool,
    /// Whether some of its code can be translated: not if all of it is in memory of no file.
    hot: bool,
    /// Whether it also runs with a code cache that is too small.
    small: bool,
    /// Whether most of its accesses are translated.
    mostly: bool,
    reference: Reference,
}

fn control(
    name: &'static str,
    prototype: &'static str,
    bindings: &'static [&'static str],
) -> Control {
    Control {
        name,
        lib: Lib::Hot,
        prototype,
        bindings,
        events: true,
        hot: true,
        small: false,
        mostly: false,
        reference: Reference::new(),
    }
}

fn thrown(name: &'static str, prototype: &'static str, n: &'static [&'static str]) -> Control {
    Control {
        lib: Lib::HotCpp,
        small: true,
        ..control(name, prototype, n)
    }
}

fn controls() -> Vec<Control> {
    vec![
        thrown(
            "exception_frames",
            "unsigned exception_frames(unsigned *buf, unsigned n)",
            &["buf=zero:64", "n=300"],
        ),
        thrown(
            "exception_rethrown",
            "unsigned exception_rethrown(unsigned *buf, unsigned n)",
            &["buf=zero:64", "n=300"],
        ),
        thrown(
            "exception_callee",
            "unsigned exception_callee(unsigned *buf, unsigned n)",
            &["buf=zero:64", "n=3000"],
        ),
        thrown(
            "exception_leaves",
            "unsigned exception_leaves(unsigned *buf, unsigned n)",
            &["buf=zero:64", "n=500"],
        ),
        control(
            "long_jump",
            "unsigned hot_jump(unsigned *buf, unsigned n)",
            &["buf=zero:64", "n=400"],
        ),
        control(
            "coroutines",
            "unsigned hot_coroutine(unsigned *buf, unsigned n)",
            &["buf=zero:64", "n=400"],
        ),
        control(
            "backtrace",
            "unsigned hot_backtrace(unsigned *buf, unsigned n)",
            &["buf=zero:64", "n=200"],
        ),
        control(
            "qsort",
            "int hot_qsort(int *p, size_t n)",
            &["p=zero:2400", "n=600"],
        ),
        Control {
            // Too many events for a log that is read again.
            events: false,
            ..control(
                "qsort_5000",
                "int hot_qsort(int *p, size_t n)",
                &["p=zero:20000", "n=5000"],
            )
        },
        control(
            "fork",
            "unsigned hot_fork(unsigned *buf, unsigned n)",
            &["buf=zero:64", "n=80"],
        ),
        control(
            "dlopen",
            "unsigned hot_dlopen(unsigned *buf, unsigned rounds)",
            &["buf=zero:64", "rounds=8"],
        ),
        Control {
            small: true,
            ..control(
                "jump_table",
                "unsigned hot_switch(unsigned *buf, unsigned n)",
                &["buf=zero:64", "n=3000"],
            )
        },
        Control {
            small: true,
            ..control(
                "recursion",
                "uint64_t hot_fib(uint64_t *memo, unsigned rounds)",
                &["memo=zero:512", "rounds=20"],
            )
        },
        Control {
            small: true,
            ..control(
                "call_chain",
                "uint32_t hot_chain(uint32_t *p, unsigned n)",
                &["p=zero:256", "n=40"],
            )
        },
        Control {
            hot: false,
            ..control(
                "code_without_file",
                "uint32_t hot_jit(uint32_t *p, unsigned n)",
                &["p=zero:8", "n=100"],
            )
        },
        control(
            "end_of_library",
            "uint32_t hot_at_end(uint32_t *p, unsigned n)",
            &["p=zero:8", "n=100"],
        ),
        Control {
            mostly: true,
            ..control(
                "threads",
                "uint64_t hot_threads(uint32_t *words, uint64_t *all, unsigned n)",
                &["words=zero:8000", "all=u64:0", "n=500"],
            )
        },
        control(
            "raise",
            "unsigned hot_raise(uint32_t *p, unsigned n)",
            &["p=zero:64", "n=1000"],
        ),
    ]
}

pub(crate) fn add(suite: &mut Suite) {
    for one in controls().into_iter().map(Arc::new) {
        for backend in BACKENDS {
            let (shared, notes) = (Arc::clone(&one), suite.notes());
            let name = format!("control::{}::{}", one.name, backend.name());
            suite.add(name, backend.needs(), move || {
                for &mode in modes::modes() {
                    shared.check(backend, mode, None, &notes)?;
                }
                Ok(())
            });
            if !one.small {
                continue;
            }
            for bytes in [4096, 16384] {
                let (shared, notes) = (Arc::clone(&one), suite.notes());
                let name = format!("cache_full::{bytes}::{}::{}", one.name, backend.name());
                suite.add(name, backend.needs(), move || {
                    shared.check(backend, Mode::Once, Some(bytes), &notes)
                });
            }
        }
    }
}

impl Control {
    fn check(&self, backend: Backend, mode: Mode, cache: Option<u32>, notes: &Notes) -> Result<()> {
        let mut call =
            Call::new(self.lib.path(), self.prototype, backend).bind(self.bindings.iter().copied());
        call.events = self.events;
        let reference = self.reference.get(&call)?;
        let mut call = call.option(mode.options().iter().copied());
        if let Some(bytes) = cache {
            call = call.variable("FFITRACE_CODE_CACHE", &bytes.to_string());
        }
        let run = || -> Result<()> {
            let outcome = call.run()?;
            outcome.expect_code(0)?;
            let did = Did::of(&outcome);
            reference.same_result(&did)?;
            reference.same_trace(&did)?;
            let stats = &outcome.report.stats;
            if mode != Mode::Off && self.hot && cache.is_none() {
                check!(stats.translated > 0, "nothing was translated: {stats:?}");
            }
            if mode != Mode::Off && self.mostly {
                check!(
                    stats.translated > stats.events / 2,
                    "little was translated: {stats:?}"
                );
            }
            if mode != Mode::Off {
                notes.add(format!(
                    "{}, {}, {mode:?}, cache {cache:?}: {} of {} accesses translated",
                    self.name,
                    backend.name(),
                    stats.translated,
                    stats.events
                ));
            }
            Ok(())
        };
        run().with_context(|| {
            let command = call.command().map(|command| format!("{command:?}"));
            format!(
                "{mode:?}, cache {cache:?}, against inproc --hot off: {}",
                command.unwrap_or_default()
            )
        })
    }
}
