//! A process that begins and ends a session of the eBPF recorder, as its standard input says.

use std::io::{self, BufRead as _, Write as _};

use tracer_user::{
    agent::{Access, SOCKET_VARIABLE, set_access},
    backend::ebpf::Ebpf,
    views::Views,
};

/// Takes a line after the other, `open` or `close`, and answers `done` or why not. Returns at the end of
/// the input: how many sessions there were.
pub(super) fn hold() -> io::Result<(u64, f64)> {
    if let Some(agent) = std::env::var_os(SOCKET_VARIABLE) {
        set_access(Access::At(agent.into()));
    }
    let views = Views::new().map_err(io::Error::other)?;
    let mut session = None;
    let mut count = 0;
    for order in io::stdin().lock().lines() {
        session = match order?.as_str() {
            "open" => match Ebpf::open(views.session()) {
                Ok(ebpf) => Some(ebpf),
                Err(error) => {
                    println!("{error}");
                    break;
                }
            },
            _ => None,
        };
        count += u64::from(session.is_some());
        println!("done");
        io::stdout().flush()?;
    }
    drop(session);
    Ok((count, 0.0))
}
