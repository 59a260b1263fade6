//! The object with the programs: what the host needs for it, where it comes from, what is in it.

use std::borrow::Cow;
use std::path::PathBuf;

use aya::Btf;
use aya::maps::{Map, MapData};

use super::EbpfError;
use crate::host::facts;

/// Environment variable with the path of an object to use instead of the embedded one.
const OBJECT_VARIABLE: &str = "FFITRACE_BPF_OBJECT";

/// The committed object. The programs in it fit the record layout of this build: one workspace.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../tracer-ebpf/object/ffitrace.bpf.o");

/// Oldest kernel with every helper that the programs use.
const MIN_KERNEL: (u32, u32) = (5, 15);

/// What can be known to be missing before the kernel is asked: its refusals say less.
pub(super) fn check_preconditions() -> Result<(), EbpfError> {
    let (version, release) = facts::kernel();
    if version < MIN_KERNEL {
        return Err(EbpfError::KernelTooOld { release });
    }
    let missing = facts::Capabilities::effective().missing_for_ebpf();
    if !missing.is_empty() {
        return Err(EbpfError::Privilege {
            missing: missing.join(" and "),
        });
    }
    match facts::in_initial_pid_namespace() {
        Ok(true) => Ok(()),
        // Without /proc it cannot be known, and a wrong process id would record nothing.
        Ok(false) | Err(_) => Err(EbpfError::PidNamespace),
    }
}

/// The kernel's type information.
pub(super) fn kernel_types() -> Result<Btf, EbpfError> {
    Btf::from_sys_fs().map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        EbpfError::NoBtf {
            reason: format!("{error}{}", source.unwrap_or_default()),
        }
    })
}

/// The object to load.
pub(super) fn object() -> Result<Cow<'static, [u8]>, EbpfError> {
    match std::env::var_os(OBJECT_VARIABLE).map(PathBuf::from) {
        None => Ok(Cow::Borrowed(OBJECT)),
        Some(path) => match std::fs::read(&path) {
            Ok(object) => Ok(Cow::Owned(object)),
            Err(source) => Err(EbpfError::ObjectFile { path, source }),
        },
    }
}

/// Takes a map out of the loaded object.
pub(super) fn take_map(programs: &mut aya::Ebpf, name: &'static str) -> Result<Map, EbpfError> {
    programs.take_map(name).ok_or_else(|| EbpfError::Object {
        reason: format!("it has no map `{name}`"),
    })
}

/// Takes an array map out of the loaded object.
pub(super) fn array(programs: &mut aya::Ebpf, name: &'static str) -> Result<MapData, EbpfError> {
    match take_map(programs, name)? {
        Map::Array(array) => Ok(array),
        _ => Err(EbpfError::Object {
            reason: format!("its map `{name}` is no array"),
        }),
    }
}

/// A program of the loaded object.
pub(super) fn program<'a, P>(
    programs: &'a mut aya::Ebpf,
    name: &'static str,
) -> Result<&'a mut P, EbpfError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program>,
{
    programs
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| EbpfError::Object {
            reason: format!("it has no program `{name}`"),
        })
}
