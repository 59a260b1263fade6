//! Logs, written as translated code and the handler do.

#![allow(unsafe_code, reason = "writes entries as translated code does")]

use super::*;

fn logs() -> Logs {
    Logs::new().unwrap()
}

/// An entry, as translated code appends it; false where it runs into the guard.
fn append(log: &Log<'_>, word: u64) -> bool {
    let at = log.pointer();
    if log.is_guard(at) {
        return false;
    }
    // SAFETY: inside the buffer, as was just seen; nobody else writes.
    unsafe { (at as *mut u64).write_volatile(word) };
    log.publish(1);
    true
}

fn read_all(log: &Log<'_>) -> Vec<u64> {
    let mut all = Vec::new();
    log.read(&mut |words| {
        all.extend_from_slice(words);
        words.len()
    });
    all
}

#[test]
fn a_thread_keeps_its_log_and_the_next_one_gets_another() {
    let (logs, safe) = (logs(), Safe::promise());
    let first = logs.take(safe, 7).unwrap();
    let second = logs.take(safe, 8).unwrap();
    assert_ne!(first.area(), second.area());
    assert_eq!(logs.take(safe, 7).unwrap().area(), first.area());
    assert!(!first.has_ended());
    first.end();
    assert!(first.has_ended() && first.is_read());
    assert!(logs.find(7).is_some(), "nobody has given it back");
    first.give_back();
    assert!(logs.find(7).is_none());
    assert_eq!(logs.take(safe, 9).unwrap().area(), first.area());
}

#[test]
fn entries_and_marks_come_out_in_order() {
    let (logs, safe) = (logs(), Safe::promise());
    let log = logs.take(safe, 7).unwrap();
    let word = |n: u64| 5 << ADDRESS_BITS | n;
    assert!(append(&log, word(1)) && log.mark(Mark::Take) && append(&log, word(2)));
    assert_eq!(read_all(&log), [word(1), 1, word(2)]);
    assert!(read_all(&log).is_empty());
    assert_eq!(logs.entries(), 2);
    assert_eq!(split(word(2)), (5, 2));
}

#[test]
fn what_is_not_published_is_not_there() {
    let (logs, safe) = (logs(), Safe::promise());
    let log = logs.take(safe, 7).unwrap();
    // SAFETY: the buffer is empty, and nobody else writes.
    unsafe { (log.pointer() as *mut u64).write_volatile(9 << ADDRESS_BITS) };
    assert!(read_all(&log).is_empty());
    log.publish(1);
    assert_eq!(read_all(&log), [9 << ADDRESS_BITS]);
}

#[test]
fn a_full_log_waits_for_its_reader_and_loses_nothing() {
    let (logs, safe) = (logs(), Safe::promise());
    let log = logs.take(safe, 7).unwrap();
    let mut written = 0u64;
    let word = |n: u64| 1 << ADDRESS_BITS | n;
    loop {
        while append(&log, word(written)) {
            written += 1;
        }
        if !log.turn() {
            break;
        }
    }
    assert_eq!(
        written as usize,
        BUFFERS * BUFFER / 8,
        "all buffers are full"
    );
    assert!(!log.mark(Mark::Skip));
    let all = read_all(&log);
    assert!(all.iter().copied().eq((0..written).map(word)));
    assert!(log.turn() && append(&log, word(written)));
    assert_eq!(read_all(&log), [word(written)]);
    assert_eq!(logs.entries(), written + 1);
}

#[test]
fn a_reader_that_stops_goes_on_there() {
    let (logs, safe) = (logs(), Safe::promise());
    let log = logs.take(safe, 7).unwrap();
    for n in 0..10 {
        append(&log, 1 << ADDRESS_BITS | n);
    }
    assert_eq!(log.read(&mut |_| 4), 4);
    assert!(!log.is_read());
    assert_eq!(read_all(&log).len(), 6);
    assert!(log.is_read());
}

#[test]
fn one_writes_and_another_reads() {
    let (logs, safe) = (logs(), Safe::promise());
    let log = logs.take(safe, 7).unwrap();
    let total = 500_000u64;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..total {
                while !append(&log, 1 << ADDRESS_BITS | n) {
                    while !log.turn() {
                        std::thread::yield_now();
                    }
                }
            }
        });
        let mut next = 0;
        while next < total {
            for word in read_all(&log) {
                assert_eq!(split(word), (1, next));
                next += 1;
            }
            std::thread::yield_now();
        }
    });
}
