//! Says so when the committed eBPF object is not what its sources would build.
//!
//! The object is built by other tools than the users' toolchain, so it is committed; this keeps
//! an edit of the programs from being silently without effect.

use std::fs;
use std::path::Path;

#[path = "../tracer-ebpf/source_hash.rs"]
mod source_hash;

fn main() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tracer-ebpf");
    for watched in ["Cargo.toml", "src", "source_hash.rs", "object"] {
        println!(
            "cargo::rerun-if-changed={}",
            package.join(watched).display()
        );
    }
    let object = package.join("object/ffitrace.bpf.o");
    if !object.exists() {
        println!(
            "cargo::error=no eBPF object at {}: run `cargo xtask build-ebpf`",
            object.display()
        );
        return;
    }
    let recorded = fs::read_to_string(package.join("object/ffitrace.bpf.o.sources"));
    match (source_hash::source_hash(&package), recorded) {
        (Ok(now), Ok(then)) if now == then.trim() => {}
        (Ok(_), Ok(_)) => println!(
            "cargo::warning=the eBPF object is older than its sources in tracer-ebpf: \
             run `cargo xtask build-ebpf`"
        ),
        (Err(error), _) | (_, Err(error)) => println!(
            "cargo::warning=whether the eBPF object is up to date is not known ({error}): \
             run `cargo xtask build-ebpf`"
        ),
    }
}
