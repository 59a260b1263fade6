//! Hot code is translated; who looks at the trace or at the result cannot tell.
//!
//! Each call runs untraced, without translation (`--hot off`), with it as it comes, and with a
//! translation at the first fault (`--hot 1`): same result, same memory, and in each thread the same
//! events in the same order.

use std::process::ExitCode;

use ffitrace_tests::suite::Suite;

mod control;
mod crashes;
mod modes;
mod random;
mod scale;
mod signals;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    // What takes longest begins first, and has the others beside it.
    scale::add(&mut suite);
    if let Err(error) = random::add(&mut suite) {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    control::add(&mut suite);
    signals::add(&mut suite);
    crashes::add(&mut suite);
    suite.run()
}
