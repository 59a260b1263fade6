//! C sources built at test time, and calls into them.
#![allow(unsafe_code)]

use interp_bridge::ffi::{CallError, Library, NativeCall, Signature, Value};

use super::common;

/// A library of this C source. Its file is gone once it is loaded.
pub(crate) fn build(source: &str) -> Library {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (c, so) = (dir.path().join("types.c"), dir.path().join("libtypes.so"));
    std::fs::write(&c, source).expect("the source");
    common::compile("cc", &c, &so, &["-O1"]);
    Library::load(so.as_os_str()).expect("the library")
}

/// Address of an exported function.
pub(crate) fn address(library: &Library, name: &str) -> u64 {
    let found = library.function(name);
    found.unwrap_or_else(|e| panic!("{name}: {e}")).address
}

/// Calls a function of the library twice, since a prepared call must stand repetition.
pub(crate) fn call(
    library: &Library,
    name: &str,
    signature: Signature,
    values: &[Value],
) -> Result<Value, CallError> {
    let mut call = NativeCall::new(signature, address(library, name))?;
    call.set_values(values)?;
    // SAFETY: the tests declare each function as its C source has it.
    unsafe { call.run() }.ok();
    call.set_values(values)?;
    // SAFETY: as before.
    unsafe { call.run() }
}
