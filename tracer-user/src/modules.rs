//! The files mapped into this process, and how their addresses relate to the process's.
//!
//! ```text
//!  address in the process ──(/proc/self/maps)──► offset in the file ──(PT_LOAD)──► address in
//!  the file's own terms, which symbols, line tables and unwind tables use
//! ```
//!
//! Going through the file offset needs no load address and is right for any linker's layout.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, ReadCache};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// It cannot be opened or read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not a 64-bit ELF file, or a damaged one.
    #[error("{path} is no 64-bit ELF file that can be read: {source}", path = path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: object::Error,
    },
}

/// One mapping of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its addresses.
    pub range: Range<u64>,
    /// Offset in the file of its first byte.
    pub offset: u64,
    /// Whether code in it can run.
    pub executable: bool,
    /// Whether it can be written.
    pub writable: bool,
    /// The file, or a name like `[vdso]`; empty for anonymous memory.
    pub path: PathBuf,
}

impl Mapping {
    /// Whether a file is mapped, that can (perhaps) be read under its path.
    pub fn is_file(&self) -> bool {
        self.path.is_absolute()
    }
}

/// All mappings of this process, by address.
///
/// # Errors
///
/// When `/proc/self/maps` cannot be read.
pub fn mappings() -> io::Result<Vec<Mapping>> {
    Ok(std::fs::read_to_string("/proc/self/maps")?
        .lines()
        .filter_map(parse_line)
        .collect())
}

/// The mapping in `sorted` that holds `addr`.
pub fn find(sorted: &[Mapping], addr: u64) -> Option<&Mapping> {
    let index = sorted.partition_point(|mapping| mapping.range.end <= addr);
    sorted
        .get(index)
        .filter(|mapping| mapping.range.contains(&addr))
}

/// One line: `7f00-7f10 r-xp 00001000 08:01 42    /usr/lib/libz.so.1`.
fn parse_line(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let (field, tail) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = tail.trim_start();
        field
    };
    let (start, end) = field().split_once('-')?;
    let permissions = field();
    let offset = field();
    let (_device, _inode) = (field(), field());
    let hex = |text| u64::from_str_radix(text, 16).ok();
    Some(Mapping {
        range: hex(start)?..hex(end)?,
        offset: hex(offset)?,
        executable: permissions.as_bytes().get(2) == Some(&b'x'),
        writable: permissions.as_bytes().get(1) == Some(&b'w'),
        path: PathBuf::from(rest),
    })
}

/// One loadable segment of an ELF file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    offset: u64,
    address: u64,
    len: u64,
    executable: bool,
}

const PAGE: u64 = 4096;

/// The loadable segments of an ELF file: between offsets in the file and its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout(Vec<Segment>);

impl Layout {
    /// Reads the program headers.
    pub(crate) fn of(header: &Header, data: &ReadCache<File>) -> object::read::Result<Layout> {
        let endian = header.endian()?;
        let loads = header.program_headers(endian, data)?.iter();
        Ok(Layout(
            loads
                .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
                .map(|segment| Segment {
                    offset: segment.p_offset(endian),
                    address: segment.p_vaddr(endian),
                    len: segment.p_filesz(endian),
                    executable: segment.p_flags(endian) & elf::PF_X != 0,
                })
                .collect(),
        ))
    }

    /// The file's address of a byte of the file that is mapped as `mapping` says.
    ///
    /// Whole pages are mapped, so the bytes around a segment are too, and a page on which one
    /// segment ends and the next begins is mapped twice, at different addresses: whether the
    /// mapping can run tells the code segment from its neighbours.
    pub fn address(&self, offset: u64, executable: bool) -> Option<u64> {
        let found = self
            .0
            .iter()
            .filter(|s| s.executable == executable)
            .find(|s| {
                let start = s.offset & !(PAGE - 1);
                let end = s.offset.saturating_add(s.len);
                // Compared by pages: the last one is mapped to its end.
                (start..end).contains(&(offset & !(PAGE - 1)))
            })?;
        Some(
            offset
                .wrapping_sub(found.offset)
                .wrapping_add(found.address),
        )
    }

    /// Where in the file the byte at one of its addresses is.
    pub fn offset(&self, address: u64) -> Option<u64> {
        let found = self
            .0
            .iter()
            .find(|s| (s.address..s.address.saturating_add(s.len)).contains(&address))?;
        Some(address - found.address + found.offset)
    }

    /// Whether one of the file's addresses lies in a segment that can run.
    pub fn is_code(&self, address: u64) -> bool {
        let mut code = self.0.iter().filter(|s| s.executable);
        code.any(|s| (s.address..s.address.saturating_add(s.len)).contains(&address))
    }

    /// All addresses of the file, from the lowest to behind the highest.
    pub fn span(&self) -> Range<u64> {
        let start = self.0.iter().map(|s| s.address).min().unwrap_or(0);
        let end = self
            .0
            .iter()
            .map(|s| s.address.saturating_add(s.len))
            .max()
            .unwrap_or(0);
        start..end
    }
}

/// The only kind of ELF file there is on x86-64, in the terms of `object`.
pub(crate) type Header = elf::FileHeader64<Endianness>;

/// Opens a file and parses its ELF header; only what is needed of it is read.
pub(crate) fn open(path: &Path) -> Result<(ReadCache<File>, Header), ModuleError> {
    let file = File::open(path).map_err(|source| ModuleError::Io {
        path: path.to_owned(),
        source,
    })?;
    let data = ReadCache::new(file);
    let header = *Header::parse(&data).map_err(|source| ModuleError::Elf {
        path: path.to_owned(),
        source,
    })?;
    Ok((data, header))
}

#[cfg(test)]
pub(crate) mod testing {
    //! Libraries made by the C compiler, for the tests of symbols and unwinding.

    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::path::PathBuf;
    use std::process::Command;

    /// A directory that goes with the test, and a shared library in it.
    pub(crate) struct Library {
        pub(crate) dir: tempfile::TempDir,
        pub(crate) path: PathBuf,
    }

    impl Library {
        /// Compiles `source` as `name`.c to lib`name`.so with the given flags.
        pub(crate) fn compile(name: &str, source: &str, flags: &[&str]) -> Library {
            let dir = tempfile::tempdir().expect("temporary directory");
            let file = dir.path().join(format!("{name}.c"));
            std::fs::write(&file, source).expect("write the source");
            let path = dir.path().join(format!("lib{name}.so"));
            let mut command = Command::new(std::env::var_os("CC").unwrap_or("cc".into()));
            command
                .args(["-shared", "-fPIC", "-o"])
                .arg(&path)
                .arg(&file)
                .args(flags);
            let status = command
                .current_dir(dir.path())
                .status()
                .expect("a C compiler");
            assert!(status.success(), "{command:?}");
            Library { dir, path }
        }

        /// Loads the library for the rest of the process.
        #[allow(unsafe_code)]
        pub(crate) fn load(&self) -> *mut libc::c_void {
            let path = CString::new(self.path.as_os_str().as_bytes()).expect("no NUL");
            // SAFETY: a NUL-terminated path; the library's code was written by the test.
            let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
            assert!(!handle.is_null(), "dlopen {path:?}");
            handle
        }

        /// Address of one of its dynamic symbols.
        #[allow(unsafe_code)]
        pub(crate) fn symbol(handle: *mut libc::c_void, name: &std::ffi::CStr) -> u64 {
            // SAFETY: a handle of `load`, and a NUL-terminated name.
            let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
            assert!(!address.is_null(), "dlsym {name:?}");
            address as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_maps_file() {
        let parse = |line| parse_line(line).expect("a mapping");
        let code = parse("7f00-7f10 r-xp 00001000 08:01 42                  /usr/lib/a b.so");
        assert_eq!(
            (code.range, code.offset, code.executable),
            (0x7f00..0x7f10, 0x1000, true)
        );
        assert_eq!(code.path, Path::new("/usr/lib/a b.so"));
        let anonymous = parse("1000-2000 rw-p 00000000 00:00 0 ");
        assert!(
            !anonymous.is_file() && !anonymous.executable && anonymous.path.as_os_str().is_empty()
        );
        assert!(!parse("1000-2000 r-xp 00000000 00:00 0    [vdso]").is_file());
        assert_eq!(parse_line("nonsense"), None);
    }

    #[test]
    fn this_process() {
        let maps = mappings().expect("maps");
        let here = this_process as fn() as usize as u64;
        let mapping = find(&maps, here).expect("this code is mapped");
        assert!(mapping.executable && mapping.is_file());
        assert_eq!(mapping.path, std::env::current_exe().expect("this program"));
        assert_eq!(find(&maps, 1), None);

        let (data, header) = open(&mapping.path).expect("an ELF file");
        let layout = Layout::of(&header, &data).expect("program headers");
        let offset = here - mapping.range.start + mapping.offset;
        let address = layout.address(offset, true).expect("in a segment");
        assert_eq!(layout.offset(address), Some(offset));
        // The first page of the mapping may hold the end of another segment.
        let first = layout.address(mapping.offset, true).expect("in a segment");
        assert_eq!(here - mapping.range.start, address - first);
        assert!(layout.span().contains(&address));
    }

    #[test]
    fn what_is_no_module() {
        assert!(matches!(
            open(Path::new("/nowhere")),
            Err(ModuleError::Io { .. })
        ));
        assert!(matches!(
            open(Path::new("/proc/self/maps")),
            Err(ModuleError::Elf { .. } | ModuleError::Io { .. })
        ));
    }
}
