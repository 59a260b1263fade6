//! The objects that the dynamic loader has loaded, and which of them came with a library.
//!
//! ```text
//!  program ──needs──► libc.so.6, libgcc_s.so.1 …              the program's own: never touched
//!  library ──needs──► libstdc++.so.6, libm.so.6, libc.so.6    libstdc++ came with the library
//! ```
//!
//! # Safety
//! `dl_iterate_phdr` hands a callback structures that are good while it runs; they are copied.
#![allow(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, OsStr, c_int, c_void};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::elf;
use object::read::elf::{Dyn, FileHeader};
use object::{Endianness, ReadCache};

/// A loaded object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoadedObject {
    /// Canonical path of its file; what the loader calls it where there is none (`[vdso]`).
    pub(super) path: PathBuf,
    /// What has to be added to the file's addresses.
    pub(super) bias: u64,
    /// Addresses in the process, from its lowest segment to behind its highest.
    pub(super) range: Range<u64>,
}

impl LoadedObject {
    /// The file's own name, for messages.
    pub(super) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().into_owned()
    }
}

/// All loaded objects, the program first.
pub(super) fn loaded() -> Vec<LoadedObject> {
    let mut all: Vec<LoadedObject> = Vec::new();
    // SAFETY: the callback gets the pointer to `all` back, which nobody else uses meanwhile.
    unsafe { libc::dl_iterate_phdr(Some(collect), (&raw mut all).cast()) };
    for object in &mut all {
        if let Ok(path) = object.path.canonicalize() {
            object.path = path;
        }
    }
    all
}

unsafe extern "C" fn collect(info: *mut libc::dl_phdr_info, _: usize, data: *mut c_void) -> c_int {
    // SAFETY: the loader passes a description that is good during this call, with `dlpi_phnum`
    // program headers and a C string or null; `data` is the vector of `loaded`.
    unsafe {
        let all = &mut *data.cast::<Vec<LoadedObject>>();
        let info = &*info;
        let name = if info.dlpi_name.is_null() {
            &[][..]
        } else {
            CStr::from_ptr(info.dlpi_name).to_bytes()
        };
        let path = if name.is_empty() && all.is_empty() {
            PathBuf::from("/proc/self/exe")
        } else {
            PathBuf::from(OsStr::from_bytes(name))
        };
        let mut range: Option<Range<u64>> = None;
        for index in 0..usize::from(info.dlpi_phnum) {
            let header = &*info.dlpi_phdr.add(index);
            if header.p_type == libc::PT_LOAD {
                let start = info.dlpi_addr.wrapping_add(header.p_vaddr);
                let end = start.wrapping_add(header.p_memsz);
                range = Some(range.map_or(start..end, |r| r.start.min(start)..r.end.max(end)));
            }
        }
        all.push(LoadedObject {
            path,
            bias: info.dlpi_addr,
            range: range.unwrap_or(0..0),
        });
    }
    0
}

/// The library at `path` and those of its dependencies that the program itself does not need,
/// neither directly nor through others. The C library and the loader are never among them.
pub(super) fn came_with(path: &Path, all: &[LoadedObject]) -> Vec<LoadedObject> {
    let wanted = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let names = Names::of(all);
    let program = names.closure(0);
    let Some(library) = all.iter().position(|object| object.path == wanted) else {
        return Vec::new();
    };
    let libc = all.iter().position(|object| {
        let malloc = libc::malloc as *const () as u64;
        object.range.contains(&malloc)
    });
    names
        .closure(library)
        .difference(&program)
        .filter(|index| Some(**index) != libc && !is_system(&all[**index]))
        .map(|index| all[*index].clone())
        .collect()
}

/// Whether it is the C library, the loader or the kernel's own object.
fn is_system(object: &LoadedObject) -> bool {
    let name = object.name();
    [
        "libc.so",
        "libc-",
        "ld-linux",
        "ld-musl",
        "linux-vdso",
        "[vdso]",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}

/// Which object a name of a dependency means, and who needs whom.
struct Names {
    by_name: HashMap<String, usize>,
    needed: Vec<Vec<String>>,
}

impl Names {
    fn of(all: &[LoadedObject]) -> Names {
        let mut by_name = HashMap::new();
        let mut needed = Vec::new();
        for (index, object) in all.iter().enumerate() {
            by_name.entry(object.name()).or_insert(index);
            let entry = dependencies(&object.path).unwrap_or_default();
            if let Some(soname) = entry.soname {
                by_name.entry(soname).or_insert(index);
            }
            needed.push(entry.needed);
        }
        Names { by_name, needed }
    }

    /// An object and all that it needs.
    fn closure(&self, start: usize) -> BTreeSet<usize> {
        let mut seen = BTreeSet::new();
        let mut open = vec![start];
        while let Some(index) = open.pop() {
            let Some(needed) = self.needed.get(index) else {
                continue;
            };
            if seen.insert(index) {
                open.extend(needed.iter().filter_map(|name| self.by_name.get(name)));
            }
        }
        seen
    }
}

/// What an object's dynamic section says of names.
#[derive(Debug, Default)]
struct Dependencies {
    soname: Option<String>,
    needed: Vec<String>,
}

/// None for what has no file that can be read.
fn dependencies(path: &Path) -> Option<Dependencies> {
    let data = ReadCache::new(std::fs::File::open(path).ok()?);
    let header = elf::FileHeader64::<Endianness>::parse(&data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, &data).ok()?;
    let (entries, link) = sections.dynamic(endian, &data).ok()??;
    let strings = sections.strings(endian, &data, link).ok()?;
    let mut found = Dependencies::default();
    for entry in entries {
        let text = || {
            let name = strings.get(u32::try_from(entry.d_val(endian)).ok()?).ok()?;
            Some(String::from_utf8_lossy(name).into_owned())
        };
        match entry.d_tag(endian) {
            elf::DT_NEEDED => found.needed.extend(text()),
            elf::DT_SONAME => found.soname = text(),
            elf::DT_NULL => break,
            _ => {}
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::testing::Fixture;

    #[test]
    fn the_program_and_its_libraries_are_left_out() {
        let fixture = Fixture::cpp(
            "came_with",
            "#include <string>\nstd::string *kept;\n\
             extern \"C\" void make() { kept = new std::string(100, 'x'); }\n",
            &["-O1"],
        );
        // SAFETY: the fixture has no constructors that do anything.
        let library = unsafe { libloading::Library::new(&fixture.path) }.expect("loads");
        let all = loaded();
        assert_eq!(all[0].path, std::env::current_exe().expect("this program"));
        let here = loaded as fn() -> Vec<LoadedObject> as usize as u64;
        assert!(all[0].range.contains(&here));
        let names: Vec<String> = came_with(&fixture.path, &all)
            .iter()
            .map(LoadedObject::name)
            .collect();
        assert!(names.contains(&"came_with.cpp.so".to_owned()), "{names:?}");
        assert!(
            names.iter().any(|name| name.starts_with("libstdc++.so")),
            "{names:?}"
        );
        assert!(!names.iter().any(|name| name.starts_with("libc.so")));
        assert!(!names.iter().any(|name| name.starts_with("libgcc_s")));
        assert!(came_with(Path::new("/etc/passwd"), &all).is_empty());
        drop(library);
    }
}
