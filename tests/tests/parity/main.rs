//! The same native call under every recorder: same result, same coverage, same events, no loss.

use std::process::ExitCode;

use ffitrace_tests::case::add_cases;
use ffitrace_tests::suite::Suite;

mod atomics;
mod flow;
mod operands;
mod peers;
mod repstr;
mod simd;
mod strings;
mod sys;
mod values;
mod widths;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    add_cases(&mut suite, "widths", widths::cases());
    add_cases(&mut suite, "values", values::cases());
    add_cases(&mut suite, "strings", strings::cases());
    add_cases(&mut suite, "repstr", repstr::cases());
    add_cases(&mut suite, "atomics", atomics::cases());
    add_cases(&mut suite, "operands", operands::cases());
    add_cases(&mut suite, "peers", peers::cases());
    add_cases(&mut suite, "simd", simd::cases());
    add_cases(&mut suite, "flow", flow::cases());
    add_cases(&mut suite, "sys", sys::cases());
    suite.run()
}
