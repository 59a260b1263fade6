//! The object with the programs: what the host needs for it, where it comes from, what is in it.

use std::borrow::Cow;
use std::path::PathBuf;

use aya::Btf;
use aya::maps::Map;

use super::{EbpfError, btf};
use crate::host::facts;

/// Environment variable with the path of an object to use instead of the embedded one.
const OBJECT_VARIABLE: &str = "FFITRACE_BPF_OBJECT";

/// The committed object. The programs in it fit the record layout of this build: one workspace.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../tracer-ebpf/object/ffitrace.bpf.o");

/// The kernel's account of its types.
const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

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
    check_process()
}

/// What a process needs that an agent records for.
pub(super) fn check_process() -> Result<(), EbpfError> {
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

/// Offset in bytes of a field of the kernel's `task_struct`.
pub(super) fn member_of_task(member: &str) -> Result<u64, EbpfError> {
    let no_btf = |reason: String| EbpfError::NoBtf { reason };
    let types = std::fs::read(KERNEL_TYPES).map_err(|error| no_btf(error.to_string()))?;
    btf::member_offset(&types, "task_struct", member)
        .ok_or_else(|| no_btf(format!("it has no `{member}` in `task_struct`")))
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
