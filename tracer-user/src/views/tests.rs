//! Both views of real memory, and the limits of the host.

use super::*;

fn one_segment() -> (Views, u64) {
    let mut views = Views::new().expect("address space for the arena");
    let native = views.add_segment().expect("one segment");
    (views, native)
}

/// Permissions of the mapping that holds `addr`, from the kernel's own list.
fn permissions(addr: u64) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        (start..end).contains(&addr).then(|| rest[..4].to_owned())
    })
}

#[test]
fn views_are_aligned_protected_and_equal() {
    let (mut views, native) = one_segment();
    let session = views.session();
    assert_eq!(session.arena_base % PAIR_SIZE, 0);
    assert!(session.is_native(native) && !session.is_native(native + DELTA));
    assert_eq!(permissions(native).as_deref(), Some("---s"));
    assert_eq!(permissions(native + DELTA).as_deref(), Some("rw-s"));
    views.write(native + 5, b"hello").expect("in range");

    // The native view shows the same bytes once it may be read.
    let at = ptr::with_exposed_provenance_mut(native as usize);
    // SAFETY: the first page of our own segment, whose bytes nobody else uses.
    let seen = unsafe {
        rustix::mm::mprotect(at, 4096, rustix::mm::MprotectFlags::READ).expect("mprotect");
        at.cast::<u8>().add(5).cast::<[u8; 5]>().read_volatile()
    };
    assert_eq!(&seen, b"hello");
}

#[test]
fn ranges_are_checked() {
    let (mut views, native) = one_segment();
    let mut buffer = [0; 8];
    assert!(views.read(native + SEGMENT_SIZE - 8, &mut buffer).is_ok());
    assert!(views.read(native + SEGMENT_SIZE - 7, &mut buffer).is_err());
    assert!(views.write(native - 1, &buffer).is_err());
    assert!(views.write(native + DELTA, &buffer).is_err());
    assert!(views.zero(native + PAIR_SIZE, 1).is_err(), "not mapped yet");
    assert!(views.zero(native + 16, u64::MAX - 8).is_err());
    let second = views.add_segment().expect("second segment");
    assert_eq!(second, native + PAIR_SIZE);
    assert!(views.write(second, &buffer).is_ok());
    assert_eq!(views.segments(), 2);
}

#[test]
fn discard_zeroes_exactly_and_gives_memory_back() {
    let (mut views, native) = one_segment();
    let len = 1 << 20;
    views.write(native, &vec![7; len + 2]).expect("in range");
    let resident = |views: &Views| {
        let mut pages = vec![0u8; len / 4096];
        // SAFETY: the range is mapped and the vector has one byte a page.
        let result = unsafe { libc::mincore(views.host(native).cast(), len, pages.as_mut_ptr()) };
        assert_eq!(result, 0);
        pages.iter().filter(|page| **page & 1 == 1).count()
    };
    assert_eq!(resident(&views), 256);
    views.discard(native + 1, len as u64).expect("in range");
    // The first page and the one after the last keep the neighbours' bytes.
    assert!(resident(&views) <= 1, "{} pages left", resident(&views));
    let mut bytes = vec![1; len + 2];
    views.read(native, &mut bytes).expect("in range");
    assert_eq!((bytes[0], bytes[len + 1]), (7, 7));
    assert!(bytes[1..=len].iter().all(|byte| *byte == 0));
}

#[test]
fn a_child_does_not_inherit_the_arena() {
    let (mut views, native) = one_segment();
    views.write(native, b"x").expect("in range");
    // SAFETY: the child only makes one system call and exits. EFAULT shows that the parent's
    // memory is absent.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: write(2) checks its buffer itself and returns EFAULT; _exit is
        // async-signal-safe.
        unsafe {
            let null = libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY);
            let got = libc::read(null, views.host(native).cast(), 1);
            libc::_exit(if got == -1 { 0 } else { 1 });
        }
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    assert_eq!(status, 0, "the child could write the arena");
}

/// Prints what [`Views::new`] makes of the limits it runs under.
#[test]
#[ignore = "run by limits_are_respected_and_named, in a process of its own"]
fn under_a_limit() {
    match Views::new() {
        Ok(mut views) => match views.add_segment() {
            Ok(_) => println!("pairs: {}", views.session().arena_len / PAIR_SIZE),
            Err(error) => println!("segment: {error}"),
        },
        Err(error) => println!("views: {error}"),
    }
}

#[test]
fn limits_are_respected_and_named() {
    let run = |limit: &str| {
        let script = format!(
            "{limit} && exec \"$0\" --exact views::tests::under_a_limit --ignored --nocapture"
        );
        let program = std::env::current_exe().expect("this program");
        let output = std::process::Command::new("sh")
            .arg("-c")
            .arg(script)
            .arg(program)
            .output();
        String::from_utf8_lossy(&output.expect("a shell").stdout).into_owned()
    };
    let text = run("ulimit -v 12582912"); // 12 GiB, given in KiB
    assert!(text.contains("pairs: 3"), "half of the limit: {text}");
    let text = run("ulimit -v 1572864");
    assert!(text.contains("views: cannot reserve 2 GiB"), "{text}");
    assert!(
        text.contains("`ulimit -v`) is 1536 MiB: raise it to at least 6144 MiB"),
        "{text}"
    );
    let text = run("ulimit -f 1000");
    assert!(
        text.contains("segment: the file size limit (`ulimit -f`"),
        "{text}"
    );

    let mut full = Views {
        base: 0,
        pairs: 0,
        segments: 0,
    };
    assert!(matches!(full.add_segment(), Err(ViewsError::Exhausted(0))));
    std::mem::forget(full);
}
