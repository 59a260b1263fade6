//! Standard output, kept for the report alone where that is promised.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use super::args::Format;
use super::failure::Failure;
use crate::report::Theme;

/// Where the report goes.
pub(super) struct Output {
    /// The stdout that the process was started with, if native code has been given another.
    kept: Option<File>,
    theme: Theme,
}

impl Output {
    /// Takes stdout. For JSON, whatever else the process prints from now on goes to stderr:
    /// native code may call `puts`, and a script reads one object and nothing else.
    pub(super) fn take(format: Format) -> Output {
        let theme = Theme::of(&io::stdout());
        let kept = match format {
            Format::Text => None,
            Format::Json => set_stdout_aside().ok(),
        };
        Output { kept, theme }
    }

    /// Writes the report. A reader that has gone away (`| head`) is no error.
    pub(super) fn write(
        &mut self,
        report: impl FnOnce(&mut dyn Write, Theme) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let done = match &mut self.kept {
            Some(file) => report(file, self.theme),
            None => report(&mut io::stdout().lock(), self.theme),
        };
        match done {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::environment(
                format!("cannot write the report: {error}"),
                "check where stdout goes",
            )),
            _ => Ok(()),
        }
    }
}

fn set_stdout_aside() -> io::Result<File> {
    let kept = rustix::io::fcntl_dupfd_cloexec(io::stdout().as_fd(), 3)?;
    rustix::stdio::dup2_stdout(io::stderr().as_fd())?;
    Ok(File::from(kept))
}
