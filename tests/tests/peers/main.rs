//! What the best peer, Miri's tracer of native calls, gets wrong: each row of the list, and the
//! right answer under every recorder.

use std::process::ExitCode;

use ffitrace_tests::suite::Suite;

mod accesses;
mod expect;
mod rules;
mod running;
mod system;
mod vectors;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    accesses::add(&mut suite);
    rules::add(&mut suite);
    running::add(&mut suite);
    system::add(&mut suite);
    vectors::add(&mut suite);
    suite.run()
}
