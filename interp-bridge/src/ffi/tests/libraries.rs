//! What a library has, and libraries that cannot be loaded.

use super::*;

#[test]
fn only_the_librarys_own_functions() {
    let library = Library::load(fixture().as_os_str()).unwrap_or_else(|e| panic!("{e}"));
    let error = |name: &str| match library.function(name) {
        Ok(found) => panic!("found {found:?}"),
        Err(error) => error,
    };
    assert!(matches!(error("hidden_two"), LibraryError::Private { .. }));
    assert!(matches!(error("hidden_one"), LibraryError::Private { .. }));
    assert!(matches!(error("data"), LibraryError::Data { .. }));
    match error("cos") {
        LibraryError::Imported {
            provider: Some(p), ..
        } => {
            assert!(p.to_string_lossy().contains("libm"), "{p:?}");
        }
        other => panic!("{other:?}"),
    }
    // In a dependency, though this library never mentions it.
    assert!(matches!(
        error("strlen"),
        LibraryError::Imported {
            provider: Some(_),
            ..
        }
    ));
    match error("uses_hiden") {
        LibraryError::Missing { near, .. } => assert_eq!(near, ["uses_hidden"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_file_offset_is_where_the_code_is() {
    let library = Library::load(fixture().as_os_str()).unwrap_or_else(|e| panic!("{e}"));
    let file = std::fs::read(fixture()).unwrap_or_else(|e| panic!("{e}"));
    for name in ["swap", "uses_hidden", "ifunc_triple"] {
        let function = library.function(name).unwrap_or_else(|e| panic!("{e}"));
        // SAFETY: the function is loaded code of at least one byte; compared as one byte each.
        let loaded = unsafe { std::slice::from_raw_parts(function.address as *const u8, 4) };
        assert_eq!(
            loaded,
            &file[function.file_offset as usize..][..4],
            "{name}"
        );
    }
    assert_eq!(fixture_call("int ifunc_triple(int x)", "", &["x=14"]), "42");
}

#[test]
fn libraries_that_cannot_be_loaded() {
    let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let text = dir.path().join("text.so");
    std::fs::write(&text, "hello").unwrap_or_else(|e| panic!("{e}"));
    let cases: &[(&OsStr, &str, &str)] = &[
        (
            "libno_such_thing.so.7".as_ref(),
            "finds no such library",
            "install",
        ),
        ("./no_such_file.so".as_ref(), "no such file", "path"),
        (dir.path().as_os_str(), "directory", "name the library"),
        (text.as_os_str(), "no ELF file", "shared library"),
        ("/bin/true".as_ref(), "program", "shared library"),
        ("".as_ref(), "no name", "shared library"),
    ];
    for (name, what, help) in cases {
        let Err(error) = Library::load(name) else {
            panic!("{name:?} was loaded")
        };
        let (text, mends) = (error.to_string(), error.help());
        assert!(text.contains(what), "{name:?}: {text}");
        assert!(mends.contains(help), "{name:?}: {mends}");
        assert!(!error.is_usage());
    }
}
