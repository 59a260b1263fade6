//! Libraries as they are found on disks: links, copies, dependencies, versions, replaced files,
//! unloading. Each is made by the C compiler here.
#![allow(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

use interp_bridge::bridge::{Bridge, CallOptions};
use interp_bridge::ctype::CType;
use interp_bridge::ffi::{
    CallError, Function, Libraries, Library, LibraryError, NativeCall, Signature, Unloaded, Use,
    Value,
};
use interp_bridge::native::statics::Statics;
use tracer_user::backend::Backend;

/// A directory with libraries in it.
struct Shelf(tempfile::TempDir);

impl Shelf {
    fn new() -> Shelf {
        Shelf(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Compiles `source` to `name` in the shelf.
    fn build(&self, name: &str, source: &str, flags: &[&str]) -> PathBuf {
        let (c, so) = (self.path("source.c"), self.path(name));
        std::fs::write(&c, source).expect("the source");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-w", "-o"])
            .args([&so, &c])
            .args(flags)
            .current_dir(self.0.path())
            .output()
            .expect("a C compiler as `cc`");
        let words = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{words}");
        so
    }
}

fn load(path: &Path) -> Library {
    Library::load(path.as_os_str()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn function(library: &Library, name: &str) -> Function {
    let found = library.function(name);
    found.unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn number(function: &Function) -> Value {
    let signature = Signature::new([], CType::i32());
    let mut call = NativeCall::of(signature, function).expect("a call");
    // SAFETY: all functions called here take nothing and return an int.
    unsafe { call.run() }.expect("an int")
}

fn refusal<T: std::fmt::Debug>(result: Result<T, LibraryError>) -> LibraryError {
    match result {
        Ok(found) => panic!("found {found:?}"),
        Err(error) => error,
    }
}

#[test]
fn names_are_resolved_in_the_order_of_loading() {
    let shelf = Shelf::new();
    let one = shelf.build(
        "libone.so",
        "int both(void) { return 1; } int first(void) { return 10; } int data;
         static int hidden(void) { return data; } int use(void) { return hidden(); }",
        &["-O0"],
    );
    let two = shelf.build(
        "libtwo.so",
        "int both(void) { return 2; } int second(void) { return 20; } void *malloc(unsigned long);
         void *get(void) { return malloc(1); } int hidden(void) { return 3; }",
        &[],
    );
    let mut libraries = Libraries::new();
    libraries.load(two.as_os_str()).expect("a library");
    libraries.load(one.as_os_str()).expect("a library");
    let found = libraries.function("both").expect("a function");
    assert_eq!(number(&found), Value::from(2));
    assert_eq!(found.library, two.canonicalize().expect("a path"));
    let found = libraries.function("first").expect("a function");
    assert_eq!(number(&found), Value::from(10));
    assert_eq!(
        libraries.at(found.address).map(Library::path),
        Some(found.library.as_path())
    );
    // Private in one library, exported by the other: that is the one.
    let found = libraries.function("hidden").expect("a function");
    assert_eq!(number(&found), Value::from(3));
    assert!(matches!(
        refusal(libraries.function("data")),
        LibraryError::Data { .. }
    ));
    match refusal(libraries.function("secont")) {
        LibraryError::Nowhere { paths, near, .. } => {
            assert_eq!(
                (paths.len(), near.as_slice()),
                (2, &["second".to_owned()][..])
            );
        }
        other => panic!("{other:?}"),
    }
    // malloc is in a dependency, which nobody named.
    assert!(matches!(
        refusal(libraries.function("malloc")),
        LibraryError::Imported { .. }
    ));
    assert_eq!(
        libraries.close(&found.library).expect("unloaded"),
        Unloaded::Gone
    );
    let found = libraries.function("both").expect("a function");
    assert_eq!(number(&found), Value::from(1));
    assert_eq!(libraries.iter().count(), 1);
}

#[test]
fn links_are_one_library_and_copies_are_two() {
    let shelf = Shelf::new();
    let real = shelf.build("libreal.so.1.2", "int f(void) { return 7; }", &[]);
    let (soft, hard, copy) = (
        shelf.path("libsoft.so"),
        shelf.path("libhard.so"),
        shelf.path("libcopy.so"),
    );
    std::os::unix::fs::symlink("libreal.so.1.2", &soft).expect("a link");
    std::fs::hard_link(&real, &hard).expect("a link");
    std::fs::copy(&real, &copy).expect("a copy");
    let mut libraries = Libraries::new();
    for path in [&soft, &hard, &real] {
        let library = libraries.load(path.as_os_str()).expect("a library");
        assert_eq!(number(&function(library, "f")), Value::from(7));
    }
    assert_eq!(libraries.iter().count(), 1);
    let other = libraries.load(copy.as_os_str()).expect("a library").clone();
    assert_eq!(libraries.iter().count(), 2);
    let first = libraries.function("f").expect("a function");
    assert_ne!(first.address, function(&other, "f").address);
    // A directory in between may be a link too.
    std::os::unix::fs::symlink(".", shelf.path("dir")).expect("a link");
    let library = load(&shelf.path("dir/libsoft.so"));
    assert_eq!(function(&library, "f").address, first.address);
}

#[test]
fn dependencies_are_not_searched() {
    let shelf = Shelf::new();
    shelf.build(
        "libinner.so",
        "int inner(void) { return 5; } int unused(void) { return 6; }",
        &[],
    );
    let outer = shelf.build(
        "libouter.so",
        "int inner(void); int outer(void) { return inner() + 1; }",
        &["-L.", "-linner", "-Wl,-rpath,$ORIGIN"],
    );
    let library = load(&outer);
    assert_eq!(number(&function(&library, "outer")), Value::from(6));
    for name in ["inner", "unused"] {
        match refusal(library.function(name)) {
            LibraryError::Imported {
                provider: Some(provider),
                ..
            } => assert!(provider.ends_with("libinner.so"), "{provider:?}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    let mut libraries = Libraries::new();
    libraries.add(library);
    libraries
        .load(shelf.path("libinner.so").as_os_str())
        .expect("a library");
    assert_eq!(
        number(&libraries.function("inner").expect("a function")),
        Value::from(5)
    );
}

#[test]
fn versions_and_indirect_functions() {
    let shelf = Shelf::new();
    std::fs::write(
        shelf.path("versions"),
        "V1 { global: multi; retired; local: *; };\nV2 { multi; chosen; } V1;\n",
    )
    .expect("the script");
    let path = shelf.build(
        "libversions.so",
        r#"
        int one(void) { return 1; } int two(void) { return 2; } int three(void) { return 3; }
        __asm__(".symver one,multi@V1"); __asm__(".symver two,multi@@V2");
        __asm__(".symver three,retired@V1");
        static int picked(void) { return 4; }
        static int (*resolve(void))(void) { return picked; }
        int chosen(void) __attribute__((ifunc("resolve")));
        int local_by_script(void) { return 5; }
        "#,
        &["-Wl,--version-script=versions"],
    );
    let library = load(&path);
    for (name, expected) in [
        ("multi", 2),
        ("multi@V1", 1),
        ("multi@V2", 2),
        ("multi@@V2", 2),
        ("retired@V1", 3),
        ("chosen", 4),
        ("chosen@@V2", 4),
    ] {
        assert_eq!(
            number(&function(&library, name)),
            Value::from(expected),
            "{name}"
        );
    }
    assert_eq!(function(&library, "multi@V1").name, "multi");
    match refusal(library.function("retired")) {
        error @ LibraryError::OldVersions { .. } => {
            assert!(
                error
                    .to_string()
                    .ends_with("for older programs only, as V1"),
                "{error}"
            );
            assert!(error.help().contains("`retired@V1`"));
        }
        other => panic!("{other:?}"),
    }
    for name in ["multi@@V1", "multi@V3", "chosen@V1"] {
        let error = refusal(library.function(name));
        assert!(
            matches!(error, LibraryError::Version { .. }),
            "{name}: {error:?}"
        );
    }
    assert_eq!(
        refusal(library.function("multi@V3")).help(),
        "its versions are V1, V2"
    );
    assert!(matches!(
        refusal(library.function("local_by_script")),
        LibraryError::Private { .. }
    ));
    // The C library's own: the old `memcpy` is another function than the one of today.
    let libc = Library::load("libc.so.6".as_ref()).expect("the C library");
    assert!(function(&libc, "memcpy@GLIBC_2.2.5").address != 0);
    assert!(function(&libc, "memcpy@@GLIBC_2.14").address != 0);
}

#[test]
fn a_replaced_file_is_noticed() {
    let shelf = Shelf::new();
    let path = shelf.build("libhere.so", "int f(void) { return 1; }", &[]);
    let library = load(&path);
    let new = shelf.build(
        "libnew.so",
        "int g(void) { return 0; } int f(void) { return 2; }",
        &[],
    );
    std::fs::rename(&new, &path).expect("a replaced file");
    // The loader knows the name, and answers with what is loaded; its symbols are not the file's.
    let error = refusal(Library::load(path.as_os_str()));
    assert!(matches!(error, LibraryError::Replaced { .. }), "{error:?}");
    assert!(!error.is_usage());
    assert_eq!(number(&function(&library, "f")), Value::from(1));
    assert_eq!(library.close().expect("unloaded"), Unloaded::Gone);
    let library = load(&path);
    assert_eq!(number(&function(&library, "f")), Value::from(2));
}

#[test]
fn variables_are_where_they_are() {
    let shelf = Shelf::new();
    let path = shelf.build(
        "libdata.so",
        "int counter = 7; static long inner[3] = {1, 2, 3}; const char text[6] = \"hello\";
         __thread int mine = 1; int *where(void) { return &counter; }
         long *inside(int i) { return &inner[i]; }",
        &[],
    );
    let library = load(&path);
    let statics = Statics::of_library(&library).expect("the statics");
    let of = |name: &str| {
        let found = statics.get(name);
        found
            .unwrap_or_else(|| panic!("{name}: {statics:?}"))
            .clone()
    };
    let pointer = |name: &str, argument: i32| {
        let signature = match name {
            "where" => Signature::new([], CType::ptr()),
            _ => Signature::new([CType::i32()], CType::ptr()),
        };
        let mut call = NativeCall::of(signature, &function(&library, name)).expect("a call");
        if name != "where" {
            call.set_values(&[argument.into()]).expect("an argument");
        }
        // SAFETY: the functions are declared as they are.
        unsafe { call.run() }
            .expect("a pointer")
            .as_address()
            .expect("a pointer")
    };
    let counter = of("counter");
    assert_eq!(
        (counter.size, counter.mutable, counter.exported),
        (4, true, true)
    );
    assert_eq!(counter.base, pointer("where", 0));
    let inner = of("inner");
    assert_eq!(
        (inner.size, inner.mutable, inner.exported),
        (24, true, false)
    );
    assert_eq!(inner.base + 16, pointer("inside", 2));
    let text = of("text");
    assert_eq!((text.size, text.mutable), (6, false));
    // SAFETY: a constant of the library, which is loaded.
    let bytes = unsafe { std::slice::from_raw_parts(text.base as *const u8, 6) };
    assert_eq!(bytes, b"hello\0");
    assert!(statics.left_out.iter().any(|(name, _)| name == "mine"));
    assert!(library.holds(counter.base) && !library.holds(&raw const library as u64));
}

#[test]
fn unloading_waits_for_everyone() {
    let shelf = Shelf::new();
    let path = shelf.build(
        "libgone.so",
        "static int *mark; void remember(int *m) { mark = m; } int f(void) { return 9; }
         __attribute__((destructor)) static void leave(void) { if (mark) *mark = 42; }",
        &[],
    );
    let library = load(&path);
    let mut mark = 0i32;
    let remember = function(&library, "remember");
    let signature = Signature::new([CType::ptr()], CType::void());
    let mut call = NativeCall::of(signature, &remember).expect("a call");
    call.set_values(&[Value::from(&raw mut mark)])
        .expect("an argument");
    // SAFETY: `remember` stores the pointer; what it points to outlives the library.
    unsafe { call.run() }.expect("nothing");

    let callbacks = [(); 2].map(|()| library.lease(Use::Callback).expect("a lease"));
    let error = refusal(library.close()).to_string();
    assert!(
        error.ends_with("cannot be unloaded: 2 callbacks are live, 1 call is prepared"),
        "{error}"
    );
    drop(callbacks);
    let error = refusal(library.close()).to_string();
    assert!(error.ends_with("1 call is prepared"), "{error}");
    drop(call);
    assert!(library.uses().is_none());

    let f = function(&library, "f");
    let clone = library.clone();
    assert_eq!(library.close().expect("unloaded"), Unloaded::Gone);
    // SAFETY: read as the destructor may have written it, through a pointer made above.
    assert_eq!(unsafe { (&raw const mark).read_volatile() }, 42);
    assert!(matches!(
        refusal(library.close()),
        LibraryError::Closed { .. }
    ));
    assert!(matches!(
        refusal(clone.function("f")),
        LibraryError::Closed { .. }
    ));
    assert!(matches!(
        refusal(clone.lease(Use::Call)),
        LibraryError::Closed { .. }
    ));
    assert!(!clone.holds(f.address));
    match NativeCall::of(Signature::new([], CType::i32()), &f) {
        Err(error @ CallError::Closed { .. }) => {
            assert_eq!(
                error.to_string(),
                "`f` belongs to a library that was unloaded"
            );
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("a call of unloaded code"),
    }

    // It can be loaded again, twice; then it stays until both are closed.
    let (one, two) = (load(&path), load(&path));
    assert!(one.is_same(&two));
    assert_eq!(one.close().expect("closed"), Unloaded::Kept);
    assert_eq!(number(&function(&two, "f")), Value::from(9));
    let call = NativeCall::of(Signature::new([], CType::i32()), &function(&two, "f"));
    let call = call.expect("a call");
    call.lease().expect("a lease").left_midway();
    drop(call);
    let error = refusal(two.close());
    assert!(
        error
            .to_string()
            .ends_with("cannot be unloaded: 1 call was left midway"),
        "{error}"
    );
    assert!(error.help().contains("for the life of the process"));
}

#[test]
fn a_library_with_callbacks_stays() {
    let shelf = Shelf::new();
    let source = "static int (*kept)(int);
        void keep(int (*f)(int)) { kept = f; }
        int use(int n) { return kept(n); }";
    let library = load(&shelf.build("libkeeps.so", source, &[]));
    let bridge = Bridge::new(Some(Backend::Inproc)).expect("a bridge");
    let invoke = |name: &str, signature: Signature, value: Value| {
        let mut call = NativeCall::of(signature, &function(&library, name)).expect("a call");
        // SAFETY: the signatures are those of the source.
        let done = unsafe { bridge.invoke(&mut call, &[value], CallOptions::default()) };
        done.expect("a call")
    };
    let keep = || Signature::new([CType::function_pointer()], CType::Void);
    let double = bridge.closure(|n: i32| -> i32 { 2 * n });
    let address = Value::from(double.address() as *const ());
    invoke("keep", keep(), address.clone());
    invoke("keep", keep(), address);
    let done = invoke(
        "use",
        Signature::new([CType::i32()], CType::i32()),
        Value::from(21),
    );
    assert!(matches!(done.value, Some(Ok(Value::Int(42)))), "{done:?}");
    assert_eq!(library.uses().callbacks, 1);
    let error = refusal(library.close()).to_string();
    assert!(error.contains("1 callback is live"), "{error}");
    drop(double);
    assert_eq!(library.uses().callbacks, 0);

    // Handed over in memory, where nobody sees it but the interpreter.
    let other = bridge.local_closure_once(|n: i32| -> i32 {
        assert!(n != 1, "the callback's own panic");
        n
    });
    other.lend_to(&library).expect("open");
    assert!(library.close().is_err());
    invoke("keep", keep(), Value::from(other.address() as *const ()));
    let one = || {
        invoke(
            "use",
            Signature::new([CType::i32()], CType::i32()),
            Value::from(1),
        )
    };
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(one));
    assert!(panic.is_err());
    drop(other);
    let error = refusal(library.close()).to_string();
    assert!(error.contains("1 call was left midway"), "{error}");
}
