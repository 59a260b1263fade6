//! `ffitrace agent`: one root process that records for processes without any privilege, each its own
//! accesses and nobody else's, whatever its neighbours do.
//!
//! ```text
//!  nobody: ffitrace call --agent ─┐
//!  somebody: a client that is     ├─► socket ─► ffitrace agent (root) ─► eBPF
//!   none of the product's,        │               ▲ watched from outside: /proc, --status, log
//!   client/, this program itself ─┘               └ signals
//! ```
//! Every case has an agent of its own. Clients that have to be somebody else are this program, run
//! again with a role as its first argument.

use std::process::ExitCode;
use std::sync::Arc;

use ffitrace_tests::host::Need;
use ffitrace_tests::suite::Suite;

mod activation;
mod calls;
mod client;
mod ends;
mod ground;
mod isolation;
mod limits;
mod manners;
mod many;
mod probes;
mod protocol;
mod soak;

use ground::Ground;

const NEEDS: [Need; 2] = [Need::Bpf, Need::DropRoot];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = client::main(&arguments) {
        return code;
    }
    let mut suite = Suite::new();
    let ground = Arc::new(Ground::default());
    // What takes longest begins first, and has the others beside it.
    many::add(&mut suite, &ground);
    soak::add(&mut suite, &ground);
    manners::add(&mut suite, &ground);
    isolation::add(&mut suite, &ground);
    ends::add(&mut suite, &ground);
    limits::add(&mut suite, &ground);
    protocol::add(&mut suite, &ground);
    probes::add(&mut suite, &ground);
    activation::add(&mut suite, &ground);
    calls::add(&mut suite, &ground);
    suite.run()
}
