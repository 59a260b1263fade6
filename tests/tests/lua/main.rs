//! Lua sessions: LuaJIT's FFI as its users know it, what is checked beyond it, the examples.
//!
//! ```text
//!  tests/lua/*.lua          behaviours of LuaJIT's FFI; stock LuaJIT passes them too
//!  tests/lua/traced/*.lua   what only a traced session has: errors, `trace`
//!  examples/*.lua           run under each recorder, with equal traces
//! ```

mod behaviours;
mod command;
mod examples;
mod repl;
mod session;

use std::process::ExitCode;

use ffitrace_tests::suite::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    behaviours::add(&mut suite);
    examples::add(&mut suite);
    command::add(&mut suite);
    repl::add(&mut suite);
    suite.run()
}
