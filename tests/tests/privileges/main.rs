//! What native code may do when ffitrace was started by somebody who may do more.
//!
//! Started as by `sudo`, with `--user` and in a root shell, native code tries what only root may
//! ([`attempts`]), and `--as-root` shows that each attempt succeeds where it may. What the user may
//! not read, ffitrace does not read for them ([`files`]). However a call ends, all of its processes
//! end, and the one that was started ends as the call did ([`endings`]).

use std::process::ExitCode;

use ffitrace_tests::host::Need;
use ffitrace_tests::suite::Suite;

mod attempts;
mod endings;
mod files;
mod start;

use start::{Start, recorders};

fn main() -> ExitCode {
    let mut suite = Suite::new();
    for recorder in recorders() {
        let needs = |more: Option<Need>| [Need::DropRoot].into_iter().chain(more);
        let named = |name: &str| format!("{name}::{}", recorder.name);
        for start in Start::ALL {
            let name = named(&format!("attempts::{}", start.name()));
            suite.add(name, needs(recorder.needs), move || {
                attempts::all(recorder, start)
            });
        }
        let session = named("session_keyring");
        suite.add(session, needs(recorder.needs), move || {
            attempts::session_keyring(recorder)
        });
        for (name, test) in files::TESTS {
            suite.add(named(name), needs(recorder.needs), move || test(recorder));
        }
        for (name, test) in endings::TESTS {
            suite.add(named(name), needs(recorder.needs), move || test(recorder));
        }
    }
    suite.add("options", [Need::DropRoot], files::options);
    suite.add("not_root", [Need::DropRoot], files::not_root);
    suite.run()
}
