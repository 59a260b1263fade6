//! Source lines, from a module or its separate debug file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Object, ReadCache};

use super::SourceLine;

/// Where Linux distributions install debug files.
const DEBUG_ROOT: &str = "/usr/lib/debug";

/// The debug information of one module, read when the first line is asked for.
pub(super) struct DebugInfo {
    /// The file with the line tables.
    file: Option<PathBuf>,
    separate: bool,
    loader: Option<addr2line::Loader>,
}

/// What a file says of its own debug information.
struct Facts {
    has_lines: bool,
    build_id: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl DebugInfo {
    /// Finds the debug information of a module.
    pub(super) fn of(module: &Path) -> DebugInfo {
        let none = DebugInfo {
            file: None,
            separate: false,
            loader: None,
        };
        let Some(facts) = facts(module) else {
            return none;
        };
        if facts.has_lines {
            return DebugInfo {
                file: Some(module.to_owned()),
                ..none
            };
        }
        let Some(build_id) = facts.build_id.clone().filter(|id| id.len() > 1) else {
            return none;
        };
        let belongs = |file: &PathBuf| {
            self::facts(file).is_some_and(|other| other.build_id.as_ref() == Some(&build_id))
        };
        let file = candidates(module, &build_id, facts.link.as_deref())
            .into_iter()
            .find(belongs);
        DebugInfo {
            separate: file.is_some(),
            file,
            loader: None,
        }
    }

    /// The separate debug file, if it is one.
    pub(super) fn separate_file(&self) -> Option<&Path> {
        self.file.as_deref().filter(|_| self.separate)
    }

    /// The line of an address of the module.
    pub(super) fn line(&mut self, address: u64) -> Option<SourceLine> {
        if self.loader.is_none() {
            // Tried once: without a loader there is nothing to try again.
            let file = self.file.take()?;
            self.loader = addr2line::Loader::new(&file)
                .map_err(|error| tracing::debug!("no source lines in {}: {error}", file.display()))
                .ok();
        }
        let location = self.loader.as_ref()?.find_location(address).ok()??;
        Some(SourceLine {
            path: location.file?.to_owned(),
            line: location.line.unwrap_or(0),
        })
    }
}

fn facts(path: &Path) -> Option<Facts> {
    let data = ReadCache::new(std::fs::File::open(path).ok()?);
    let elf = ElfFile64::<object::Endianness, _>::parse(&data).ok()?;
    Some(Facts {
        has_lines: elf.section_by_name(".debug_info").is_some()
            && elf.section_by_name(".debug_line").is_some(),
        build_id: elf.build_id().ok().flatten().map(<[u8]>::to_vec),
        link: elf
            .gnu_debuglink()
            .ok()
            .flatten()
            .map(|(name, _crc)| name.to_vec()),
    })
}

/// Where a module's debug file may be, in GDB's order.
fn candidates(module: &Path, build_id: &[u8], link: Option<&[u8]>) -> Vec<PathBuf> {
    let hex: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let (first, rest) = hex.split_at(2);
    let mut files = vec![PathBuf::from(format!(
        "{DEBUG_ROOT}/.build-id/{first}/{rest}.debug"
    ))];
    if let (Some(link), Some(dir)) = (link, module.parent()) {
        let link = OsStr::from_bytes(link);
        files.push(dir.join(link));
        files.push(dir.join(".debug").join(link));
        let below = dir.strip_prefix("/").unwrap_or(dir);
        files.push(Path::new(DEBUG_ROOT).join(below).join(link));
    }
    files
}
