//! Real libraries, as a distribution packages them: what they do to buffers is what they do
//! untraced, nothing is taken for a mistake, and exactly their output is initialised.
//!
//! What they write is found out without the product: see [`job`].

use std::process::ExitCode;

use ffitrace_tests::suite::Suite;

mod compression;
mod crypto;
mod images;
mod job;
mod sort;
mod sqlite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    compression::add(&mut suite);
    crypto::add(&mut suite);
    images::add(&mut suite);
    sort::add(&mut suite);
    sqlite::add(&mut suite);
    suite.run()
}
