//! `ffitrace agent`: records for processes that may not load eBPF programs.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tracer_user::agent::{
    AgentError, Connection, DEFAULT_SOCKET, Limits, Listener, Reply, ServeError, Server,
};

use super::Exit;
use super::args::{Format, seconds};
use super::failure::Failure;
use super::output::Output;
use crate::report::json;

const EXAMPLES: &str = "\
Examples:
  sudo ffitrace agent
  sudo ffitrace agent --socket /run/ffitrace/agent.sock --mode 666
  ffitrace agent --status
  ffitrace call --agent /run/ffitrace/agent.sock libz.so.1 ...

Clients find an agent at /run/ffitrace/agent.sock, or where FFITRACE_AGENT says,
by themselves. Each may trace its own process only, and sees its own records
only. Limits are a TOML file (these are the defaults):
  sessions = 1024                 sessions_per_user = 256
  arena_bytes = 274877906944      ring_bytes = 4194304
  memory_per_user = 2147483648    probes_per_session = 64
  connections_per_user = 512      requests_per_second = 100
  arenas_anywhere = false

Signals: SIGTERM and SIGINT let the sessions end first, SIGHUP reads the limits
anew. Units for systemd are in the directory systemd of the sources.";

/// Record by eBPF for processes that may not: a service for unprivileged users
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct AgentArguments {
    /// Where to listen, or whom to ask
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,

    /// Who may connect, as an octal file mode
    #[arg(long, value_name = "MODE", default_value = "660", value_parser = mode)]
    mode: u32,

    /// Read limits from this file
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,

    /// How long to wait for sessions when told to end
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    grace: Duration,

    /// Say what a running agent does, instead
    #[arg(long)]
    status: bool,

    /// How to report the status
    #[arg(long, value_enum, default_value_t = Format::Text, requires = "status")]
    format: Format,
}

/// What `--status` says.
#[derive(serde::Serialize)]
struct Status {
    schema: u32,
    sessions: usize,
    own_sessions: usize,
    attached: bool,
}

pub(super) fn run(args: &AgentArguments) -> Result<Exit, Failure> {
    if args.status {
        return status(args);
    }
    // A service's log is its standard error; FFITRACE_LOG may ask for more, or less.
    let _ = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .try_init();
    let server = Server::new(limits(args.limits.as_deref())?)?;
    let listener = match Listener::from_service_manager() {
        Some(inherited) => inherited.map_err(|error| {
            Failure::environment(
                format!("the socket of the service manager cannot be used: {error}"),
                "see ffitrace-agent.socket in the sources' directory systemd",
            )
        })?,
        None => Listener::bind(&args.socket, args.mode)?,
    };
    let ready = || {
        tracing::info!("listening at {}", args.socket.display());
        // Nobody may have asked to be told.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    };
    let reload = || limits(args.limits.as_deref()).map_err(|failure| failure.what);
    let files: Vec<&Path> = args.limits.as_deref().into_iter().collect();
    server.run(&listener, args.grace, &files, reload, ready)?;
    Ok(Exit::status(0))
}

fn status(args: &AgentArguments) -> Result<Exit, Failure> {
    let reply = Connection::to(&args.socket).and_then(|agent| agent.status())?;
    let Reply::Status {
        sessions,
        own_sessions,
        attached,
    } = reply
    else {
        return Err(AgentError::Answer(format!("{reply:?}")).into());
    };
    let status = Status {
        schema: 1,
        sessions,
        own_sessions,
        attached,
    };
    Output::take(args.format).write(|out, _| match args.format {
        Format::Json => json::write(out, &status),
        Format::Text => {
            let attached = if attached { "attached" } else { "detached" };
            writeln!(out, "sessions: {sessions} (of this user: {own_sessions})")?;
            writeln!(out, "programs: {attached}")?;
            out.flush()
        }
    })?;
    Ok(Exit::status(0))
}

fn limits(file: Option<&Path>) -> Result<Limits, Failure> {
    let Some(file) = file else {
        return Ok(Limits::default());
    };
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::usage(
            format!("--limits {}: {error}", file.display()),
            "name a file that can be read, or leave --limits out",
        )
    })?;
    Limits::parse(&text).map_err(|error| {
        Failure::usage(
            format!("--limits {}: {}", file.display(), error.trim_end()),
            "ffitrace agent --help lists all limits",
        )
    })
}

fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "an octal file mode, such as 660 or 666".into())
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Failure {
        // Each error names its remedy.
        Failure::environment(error.to_string(), "")
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Failure {
        Failure::environment(error.to_string(), "")
    }
}
