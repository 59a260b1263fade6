use super::*;
use crate::modules::testing::Library;
use std::process::Command;

const SOURCE: &str = "\
#include <stddef.h>
static int __attribute__((noinline)) helper(const int *p, size_t n) {
    int sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += p[i];
    return sum;
}

int entry(const int *p, size_t n) {
    return helper(p, n) + 1;
}
";

fn run(program: &str, arguments: &[&str], dir: &Path) {
    let status = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{program} {arguments:?}"
    );
}

/// The function that an exported one calls first, found by its `call` instruction.
fn callee(entry: u64) -> u64 {
    (entry..entry + 64)
        .find_map(|at| {
            #[allow(unsafe_code)]
            // SAFETY: reads code of the test's own library, well inside its text page.
            let bytes = unsafe { std::ptr::read_unaligned(at as *const [u8; 5]) };
            let [0xe8, displacement @ ..] = bytes else {
                return None;
            };
            let target = (at + 5).wrapping_add_signed(i64::from(i32::from_le_bytes(displacement)));
            (entry.abs_diff(target) < 4096).then_some(target)
        })
        .expect("a call")
}

#[test]
fn functions_lines_and_offsets() {
    let library = Library::compile("w", SOURCE, &["-g", "-O0", "-Wl,-soname,libw.so.7"]);
    let entry = Library::symbol(library.load(), c"entry");
    let mut symbols = Symbols::new();
    let symbol = symbols.lookup(entry);
    assert_eq!(symbol.to_string(), "entry+0x0");
    assert_eq!(symbol.module.as_deref(), Some(&*library.path));
    assert_eq!(symbol.module_name.as_deref(), Some("libw.so.7"));
    let source = symbol.source.as_ref().expect("a line");
    assert_eq!(source.to_string(), "w.c:9");
    assert!(source.path.ends_with("/w.c"), "{}", source.path);
    let export = LibrarySymbols::open(&library.path)
        .expect("a library")
        .get("entry");
    let Export::Function {
        file_offset, size, ..
    } = export
    else {
        panic!("{export:?}")
    };
    assert_eq!(symbol.file_offset, file_offset);

    let inner = symbols.lookup(callee(entry));
    assert_eq!(
        inner.to_string(),
        "helper+0x0",
        "a private function, from .symtab"
    );
    assert_eq!(
        inner.source.as_ref().map(SourceLine::to_string).as_deref(),
        Some("w.c:2")
    );
    assert!(Arc::ptr_eq(&inner, &symbols.lookup(inner.ip)), "kept");

    // A return address behind the last instruction still belongs to the function.
    let behind = symbols.lookup_return(entry + size);
    assert_eq!(behind.to_string(), format!("entry+{size:#x}"));
    assert_ne!(symbols.lookup(entry + size).name.as_deref(), Some("entry"));
}

#[test]
fn a_separate_debug_file_is_found_and_must_belong() {
    let library = Library::compile("split", SOURCE, &["-g", "-O0", "-Wl,--build-id=sha1"]);
    let dir = library.dir.path();
    run(
        "objcopy",
        &["--only-keep-debug", "libsplit.so", "libsplit.debug"],
        dir,
    );
    run("strip", &["--strip-all", "libsplit.so"], dir);
    run(
        "objcopy",
        &["--add-gnu-debuglink=libsplit.debug", "libsplit.so"],
        dir,
    );
    let entry = Library::symbol(library.load(), c"entry");
    let inner = callee(entry);
    let symbol = Symbols::new().lookup(inner);
    assert_eq!(symbol.to_string(), "helper+0x0");
    assert_eq!(
        symbol.source.as_ref().map(SourceLine::to_string).as_deref(),
        Some("split.c:2")
    );

    // The debug file of another build has another build id.
    let other = Library::compile("other", SOURCE, &["-g", "-O1", "-Wl,--build-id=sha1"]);
    std::fs::copy(&other.path, dir.join("libsplit.debug")).expect("copy");
    let symbol = Symbols::new().lookup(inner);
    assert_eq!((symbol.name.as_ref(), symbol.source.as_ref()), (None, None));
    assert_eq!(
        symbol.to_string(),
        format!("libsplit.so+{:#x}", symbol.offset)
    );
    assert_eq!(
        Symbols::new().lookup(entry).to_string(),
        "entry+0x0",
        "still in .dynsym"
    );
}

#[test]
fn this_program_and_the_c_library() {
    let mut symbols = Symbols::new();
    let here = this_program_and_the_c_library as fn() as usize as u64;
    let symbol = symbols.lookup(here);
    assert!(
        symbol
            .name
            .as_ref()
            .is_some_and(|name| name.contains("this_program")),
        "{symbol}"
    );
    let source = symbol
        .source
        .as_ref()
        .expect("tests have debug information")
        .to_string();
    assert!(source.starts_with("tests.rs:"), "{source}");

    let symbol = symbols.lookup(libc::getenv as *const () as u64);
    assert_eq!(symbol.to_string(), "getenv+0x0");
    assert_eq!(symbol.module_name.as_deref(), Some("libc.so.6"));
}

#[test]
fn addresses_without_a_name() {
    let mut symbols = Symbols::new();
    assert_eq!(symbols.lookup(0x10).to_string(), "0x10");
    assert_eq!(symbols.lookup(u64::MAX).module, None);
    assert_eq!(symbols.lookup_return(0).to_string(), "0x0");
    let maps = crate::modules::mappings().expect("maps");
    let vdso = maps
        .iter()
        .find(|m| m.path == Path::new("[vdso]"))
        .expect("a vdso");
    assert_eq!(
        symbols.lookup(vdso.range.start + 0x40).to_string(),
        "[vdso]+0x40"
    );
}

#[test]
fn sources_are_shown_by_their_own_name() {
    let line = |path: &str| {
        SourceLine {
            path: path.to_owned(),
            line: 12,
        }
        .to_string()
    };
    assert_eq!(line("/build/zlib-1.2.13/crc32.c"), "crc32.c:12");
    assert_eq!(line("w.c"), "w.c:12");
}

#[test]
fn lookups_can_move_between_threads() {
    fn sendable<T: Send>() {}
    sendable::<Symbols>();
    sendable::<crate::unwind::Unwinder>();
}
