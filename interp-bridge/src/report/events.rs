//! The file of `--events`: one JSON object a line for each access, while the call runs.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tracer_user::access::{AccessKind, Source};

use super::model::Hex;

/// One access.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct EventLine<'a> {
    /// Position in the trace, from 0.
    pub seq: u64,
    /// Kernel thread id.
    pub tid: u32,
    /// Direction.
    pub kind: AccessKind,
    /// False where the instruction may have left the bytes alone.
    pub certain: bool,
    /// First address.
    pub addr: Hex,
    /// Size in bytes.
    pub size: u64,
    /// The buffer, if it is in one.
    pub allocation: Option<&'a str>,
    /// Offset in bytes from the buffer's start.
    pub offset: Option<i64>,
    /// Address of the instruction.
    pub ip: Hex,
    /// `function+0x…`.
    pub symbol: Option<&'a str>,
    /// What recorded it.
    pub source: Source,
}

/// Why a trace cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// A format that is not there yet.
    #[error("`{}`: traces as .{format} are not in this version", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its extension.
        format: String,
    },
    /// The file cannot be made.
    #[error("cannot create {}: {source}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file was made, and could not be written in full.
    #[error("the trace in {} ends after {written} of {total} accesses: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Accesses handed over before the first error; buffered ones may be missing too.
        written: u64,
        /// All accesses.
        total: u64,
        /// The system's reason.
        source: io::Error,
    },
}

impl EventsError {
    /// What mends it.
    pub fn help(&self) -> String {
        match self {
            EventsError::Format { path, .. } => {
                format!("write {} instead", path.with_extension("jsonl").display())
            }
            EventsError::Create { .. } => "name a file in a directory that can be written".into(),
            EventsError::Write { .. } => "make room, or name a file on another disk".into(),
        }
    }

    /// Whether it is wrong usage (exit 2), not an incomplete trace (exit 4).
    pub fn is_usage(&self) -> bool {
        !matches!(self, EventsError::Write { .. })
    }
}

/// Writes the events of a call.
#[derive(Debug)]
pub struct EventsWriter {
    path: PathBuf,
    out: BufWriter<File>,
    total: u64,
    /// The first error, and how many lines went before it.
    failed: Option<(u64, io::Error)>,
}

impl EventsWriter {
    /// Checks the name of an events file without touching the file.
    ///
    /// # Errors
    /// [`EventsError::Format`].
    pub fn check(path: &Path) -> Result<(), EventsError> {
        let extension = path.extension().map(|e| e.to_string_lossy().into_owned());
        // A pipe or a device takes lines whatever its name is.
        let special = std::fs::metadata(path).is_ok_and(|m| {
            let kind = m.file_type();
            kind.is_fifo() || kind.is_char_device()
        });
        match extension.as_deref() {
            Some("jsonl") => Ok(()),
            _ if special => Ok(()),
            other => Err(EventsError::Format {
                path: path.to_owned(),
                format: other.unwrap_or("(no extension)").to_owned(),
            }),
        }
    }

    /// Makes the file.
    ///
    /// # Errors
    /// [`EventsError::Format`] and [`EventsError::Create`].
    pub fn create(path: &Path) -> Result<EventsWriter, EventsError> {
        EventsWriter::check(path)?;
        let file = File::create(path).map_err(|source| EventsError::Create {
            path: path.to_owned(),
            source,
        })?;
        let out = BufWriter::with_capacity(256 << 10, file);
        Ok(EventsWriter {
            path: path.to_owned(),
            out,
            total: 0,
            failed: None,
        })
    }

    /// Writes one line. An error stops all further writing and is told by
    /// [`finish`](Self::finish), so that a full disk does not stop the call.
    pub fn write(&mut self, event: &EventLine<'_>) {
        let before = self.total;
        self.total += 1;
        if self.failed.is_some() {
            return;
        }
        let line = serde_json::to_writer(&mut self.out, event).map_err(io::Error::from);
        if let Err(error) = line.and_then(|()| self.out.write_all(b"\n")) {
            self.failed = Some((before, error));
        }
    }

    /// Writes what is buffered; answers how many lines the file has.
    ///
    /// # Errors
    /// [`EventsError::Write`] if anything at all could not be written.
    pub fn finish(mut self) -> Result<u64, EventsError> {
        let flushed = self.flush();
        // Dropping the BufWriter would try the buffer once more; take it apart instead.
        let _ = self.out.into_parts();
        flushed
    }

    /// The same for a writer that somebody else has too: what comes later is written later.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn flush(&mut self) -> Result<u64, EventsError> {
        let (path, total) = (self.path.clone(), self.total);
        let failed = match self.failed.take() {
            Some(failed) => Some(failed),
            None => self.out.flush().err().map(|error| (total, error)),
        };
        match failed {
            None => Ok(total),
            Some((written, source)) => Err(EventsError::Write {
                path,
                written,
                total,
                source,
            }),
        }
    }
}
