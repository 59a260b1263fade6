//! Checks of memory: what limits it, and whether the arena can be had.

use rustix::process::{Resource, getrlimit};
use tracer_ebpf::{RING_BYTES, SEGMENT_SIZE};

use super::facts;
use super::remedy;
use super::trials;
use super::{Check, Recorder};
use crate::shadow::{Shadow, table_size};
use crate::views::{MAX_PAIRS, PAIR_SIZE, Views, ViewsError};

/// Buffers lie in the arena under every recorder.
const ALL: &[Recorder] = &Recorder::ALL;

const EBPF: &[Recorder] = &[Recorder::Ebpf];

const NOTHING: &str = "nothing: no recorder can do without buffers";

const UNLIMITED: &str = "ulimit -v unlimited";

/// Control groups with less than this get tight: rings, tables and debug information of the
/// library take some 100 MiB.
const COMFORTABLE: u64 = 256 << 20;

/// The checks, causes before effects.
pub(super) fn checks() -> Vec<Check> {
    let mut views = Views::new();
    let filled = views.as_mut().map_or(Ok(()), fill);
    vec![
        address_space_limit(&views),
        file_size_limit(
            views
                .as_ref()
                .map_or(0, |views| table_size(views.session())),
        ),
        memory_limit(),
        overcommit(),
        memlock(),
        memfd(),
        arena(views, filled),
    ]
}

fn address_space_limit(views: &Result<Views, ViewsError>) -> Check {
    let name = "address_space_limit";
    let Some(limit) = getrlimit(Resource::As).current else {
        return Check::ok(name, ALL, "unlimited");
    };
    let check = Check::ok(name, ALL, format!("{} (ulimit -v)", size(limit)));
    if views.is_err() {
        check.missing(UNLIMITED.to_owned(), NOTHING)
    } else if limit / 2 < MAX_PAIRS * PAIR_SIZE {
        check.degraded(UNLIMITED.to_owned(), "fewer buffers, as `arena` says")
    } else {
        check
    }
}

/// Makes what every session makes: the table of what is live, and the first segment.
fn fill(views: &mut Views) -> Result<(), String> {
    let _table = Shadow::new(views.session()).map_err(|error| error.to_string())?;
    views.add_segment().map_err(|error| error.to_string())?;
    Ok(())
}

/// `table`: bytes of the table for an arena of the size that can be had.
fn file_size_limit(table: u64) -> Check {
    let name = "file_size_limit";
    let needed = table.max(SEGMENT_SIZE);
    match getrlimit(Resource::Fsize).current {
        None => Check::ok(name, ALL, "unlimited"),
        Some(limit) if limit >= needed => Check::ok(name, ALL, size(limit)),
        Some(limit) => Check::ok(
            name,
            ALL,
            format!(
                "{} (ulimit -f), less than the {} of a memory file",
                size(limit),
                size(needed)
            ),
        )
        .missing(remedy::FILE_SIZE.to_owned(), NOTHING),
    }
}

fn memory_limit() -> Check {
    let name = "memory_limit";
    let Some((limit, file)) = facts::memory_limit() else {
        return Check::ok(name, ALL, "none of a control group");
    };
    let check = Check::ok(name, ALL, format!("{} ({})", size(limit), file.display()));
    if limit >= COMFORTABLE {
        return check;
    }
    check.degraded(
        "raise the control group's limit (`docker run --memory`, MemoryMax= of a service)"
            .to_owned(),
        "the kernel ends the process when buffers and tables no longer fit: use small buffers",
    )
}

fn overcommit() -> Check {
    let name = "overcommit";
    match facts::sysctl("vm.overcommit_memory") {
        Some(2) => Check::ok(
            name,
            ALL,
            "vm.overcommit_memory is 2: no memory beyond the commit limit",
        )
        .degraded(
            "sysctl vm.overcommit_memory=0".to_owned(),
            "a call ends with an error where the limit leaves too little for its buffers",
        ),
        Some(mode) => Check::ok(name, ALL, format!("vm.overcommit_memory is {mode}")),
        None => Check::ok(name, ALL, "not told by /proc"),
    }
}

/// From 5.11 the kernel charges eBPF memory to the control group instead.
fn memlock() -> Check {
    let limit = getrlimit(Resource::Memlock).current;
    let charged = facts::kernel().0 < (5, 11);
    let detail = limit.map_or_else(|| "unlimited".to_owned(), size);
    let name = "memlock";
    match limit {
        Some(limit) if charged && limit < 2 * u64::from(RING_BYTES) => {
            Check::ok(name, EBPF, detail).missing("ulimit -l unlimited".to_owned(), remedy::INPROC)
        }
        Some(_) if !charged => Check::ok(
            name,
            EBPF,
            format!("{detail}: of no matter since Linux 5.11"),
        ),
        _ => Check::ok(name, EBPF, detail),
    }
}

fn memfd() -> Check {
    match trials::memfd() {
        Ok(()) => Check::ok("memfd", ALL, "memory can be mapped twice"),
        Err(error) => Check::ok("memfd", ALL, format!("memfd_create failed ({error})"))
            .missing(remedy::MEMFD.to_owned(), NOTHING),
    }
}

/// `filled`: what filling it said.
fn arena(views: Result<Views, ViewsError>, filled: Result<(), String>) -> Check {
    let views = views.map_err(|error| error.to_string());
    let views = match views.and_then(|views| filled.map(|()| views)) {
        Ok(views) => views,
        Err(message) => {
            let (cause, remedy) = remedy::split(&message);
            return Check::ok("arena", ALL, cause).missing(remedy, NOTHING);
        }
    };
    let bytes = views.session().arena_len / 2;
    let check = Check::ok("arena", ALL, format!("room for {} of buffers", size(bytes)));
    if bytes == MAX_PAIRS * SEGMENT_SIZE {
        return check;
    }
    let without = format!("calls whose buffers take more than {} fail", size(bytes));
    check.degraded(UNLIMITED.to_owned(), &without)
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(unit, _)| bytes >= *unit);
    match unit {
        Some((unit, name)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(size(64 << 30), "64 GiB");
        assert_eq!(size((3 << 29) + 1), "1.5 GiB");
        assert_eq!(size(8 << 20), "8 MiB");
        assert_eq!(size(100), "100 bytes");
    }

    #[test]
    fn an_arena_that_cannot_be_made_says_what_mends_it() {
        let refused = ViewsError::Segment {
            call: "memfd_create",
            segment: 0,
            source: rustix::io::Errno::PERM,
        };
        let check = arena(Views::new(), Err(refused.to_string()));
        assert_eq!(check.remedy.as_deref(), Some(remedy::MEMFD));
        assert!(check.detail.contains("memfd_create"), "{check:?}");
    }
}
