//! Errors are told by their cause.

use super::*;
use aya::sys::SyscallError;

fn refusal() -> io::Error {
    io::Error::from_raw_os_error(libc::EPERM)
}

#[test]
fn a_rejection_carries_the_end_of_the_log() {
    let log: String = (0..40).map(|line| format!("line {line}\n\n")).collect();
    let refused = io::Error::from_raw_os_error(libc::EACCES);
    let text = EbpfError::not_loaded("page_fault_user", refused, &log).to_string();
    assert!(
        text.contains("page_fault_user") && text.ends_with("line 39"),
        "{text}"
    );
    assert!(
        text.contains("line 28") && !text.contains("line 27"),
        "{text}"
    );
}

#[test]
fn a_refused_probe_names_the_setting() {
    let error = ProgramError::SyscallError(SyscallError {
        call: "perf_event_open",
        io_error: refusal(),
    });
    let text = EbpfError::from_probe("crc32", error).to_string();
    assert!(
        text.contains("crc32") && text.contains("perf_event_paranoid"),
        "{text}"
    );
}

#[test]
fn a_map_that_is_not_created_is_told_by_its_cause() {
    let of = |errno| EbpfError::not_created("RECORDS".into(), io::Error::from_raw_os_error(errno));
    assert!(matches!(of(libc::ENOSYS), EbpfError::NoBpf { .. }));
    assert!(matches!(of(libc::EINVAL), EbpfError::MapKind { .. }));
    assert!(matches!(of(libc::ENOMEM), EbpfError::Memory { .. }));
    assert!(matches!(of(libc::EMFILE), EbpfError::Map { .. }));
    for errno in [libc::ENOSYS, libc::EINVAL, libc::ENOMEM, libc::EPERM] {
        let (_, remedy) = remedy::split(&of(errno).to_string());
        assert!(remedy.is_some(), "{}", of(errno));
    }
}

#[test]
fn a_refusal_without_a_log_is_no_rejection() {
    let error = EbpfError::not_loaded("page_fault_user", refusal(), "\n");
    assert!(
        matches!(error, EbpfError::Denied { .. } | EbpfError::Lockdown),
        "{error}"
    );
}
