//! The command line of ffitrace.

use std::mem::ManuallyDrop;

use interp_bridge::cli::{self, Tracing, keeper};

// Native code may crash while it holds the lock of the C library's allocator, and the report
// must still be written, so our own memory comes from another one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|command| command == "call" || command == "run" || command == "repl")
    {
        keeper::split();
        cli::watch::split();
    }
    // Never dropped: threads of native code, and what its library runs at exit, may use the
    // memory until the process ends.
    let mut engine = ManuallyDrop::new(Tracing::default());
    let exit = cli::run(
        std::env::args_os(),
        cli::Hooks {
            engine: &mut *engine,
            bench: &mut cli::run_benches,
            doctor: &mut cli::look_at_host,
        },
    );
    exit.leave()
}
