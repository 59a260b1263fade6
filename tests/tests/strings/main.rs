//! The memory and string functions of glibc and musl: exact at every size, and what they read
//! past a string on purpose is a class of its own, which user code that looks alike is not.

use std::process::ExitCode;

use ffitrace_tests::suite::Suite;

mod buffers;
mod functions;
mod overreads;
mod sweep;
mod variants;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    sweep::add(&mut suite);
    variants::add(&mut suite);
    overreads::add(&mut suite);
    suite.run()
}
