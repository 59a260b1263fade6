//! The Miri-shaped door, used by a small interpreter in Miri's style: allocations of its own with
//! bytes in memory of the door, an initialised flag for each byte and provenance for pointers, calls
//! through libffi, and a loop that applies the events.
//!
//! # Safety
//! The C functions get the arguments that they are declared with; what they do wrong on purpose
//! stays in the arena, or crashes and ends the call. The interpreter reads and writes only bytes
//! of its live allocations, at the addresses that the allocator gave it.
#![allow(unsafe_code)]

mod common;

use std::{
    alloc::Layout,
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    ffi::c_void,
    time::Duration,
};

use interp_bridge::{
    bridge::{CallOptions, StopAt},
    door::{AccessEvent, DoorError, Ended, IsolatedAlloc, MemEvents, Supervisor},
    ffi::Library,
    memory::ViolationKind,
};
use libffi::middle::{Cif, Type};
use tracer_user::backend::Backend;

use common::{IN_PROCESS, if_possible, turn};

const SOURCE: &str = "\
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
struct node { int32_t value; struct node *next; };
int64_t sum(const struct node *n) { int64_t s = 0; for (; n; n = n->next) s += n->value; return s; }
void set_first(int32_t *words) { words[0] = 42; }
void swap(void **a, void **b) { void *t = *a; *a = *b; *b = t; }
static int32_t *kept;
void keep(int32_t *p) { kept = p; }
int32_t use_kept(void) { return *kept; }
int64_t length(const char *s) { return strlen(s); }
int32_t behind(const int32_t *p) { return p[4]; }
void crash(int32_t *p) { p[0] = 1; *(volatile int *)0 = 1; p[1] = 2; }
void hang(void) { for (;;) __asm__ volatile(\"\"); }
void read_some(char *to, int fd) { if (read(fd, to, 5) != 5) abort(); }
int32_t with_callback(int32_t *p, int32_t (*f)(int32_t *)) { p[0] = 5; int32_t r = f(p); return r + p[0]; }
";

fn library() -> (tempfile::TempDir, Library) {
    let directory = tempfile::tempdir().expect("a directory");
    let (source, library) = (
        directory.path().join("d.c"),
        directory.path().join("libd.so"),
    );
    std::fs::write(&source, SOURCE).expect("writable");
    common::compile("cc", &source, &library, &["-O1"]);
    let library = Library::load(library.as_os_str()).expect("loadable");
    (directory, library)
}

/// An allocation of the interpreter.
struct Allocation {
    ptr: *mut u8,
    layout: Layout,
    init: Vec<bool>,
    mutable: bool,
    /// By offset, the allocation that a stored pointer may be used for, by its address.
    provenance: BTreeMap<usize, usize>,
}

#[derive(Debug)]
#[allow(
    dead_code,
    reason = "what is inside is for the messages of failed tests"
)]
enum Error {
    Undefined(&'static str),
    Ended(Ended),
    Door(DoorError),
}

/// The interpreter. Addresses are what native code knows, as in Miri's address map.
struct Machine {
    alloc: IsolatedAlloc,
    live: BTreeMap<usize, Allocation>,
    exposed: BTreeSet<usize>,
    /// Has to outlive the functions that are called.
    library: Library,
    _directory: tempfile::TempDir,
}

impl Machine {
    fn new(alloc: IsolatedAlloc) -> Machine {
        let (directory, library) = library();
        Machine {
            alloc,
            live: BTreeMap::new(),
            exposed: BTreeSet::new(),
            library,
            _directory: directory,
        }
    }

    fn allocate(&mut self, len: usize) -> usize {
        let layout = Layout::from_size_align(len, 8).expect("a layout");
        let ptr = self.alloc.alloc(layout);
        let addr = self.alloc.native_addr(ptr);
        assert_eq!(self.alloc.host_ptr(addr), Some(ptr));
        let init = vec![false; len];
        let provenance = BTreeMap::new();
        let record = Allocation {
            ptr,
            layout,
            init,
            mutable: true,
            provenance,
        };
        self.live.insert(addr, record);
        addr
    }

    fn free(&mut self, addr: usize) {
        let record = self.live.remove(&addr).expect("live");
        // SAFETY: it came from this allocator, and its record is gone.
        unsafe { self.alloc.dealloc(record.ptr, record.layout) };
    }

    fn store(&mut self, addr: usize, offset: usize, bytes: &[u8]) {
        let record = self.live.get_mut(&addr).expect("live");
        record.init[offset..offset + bytes.len()].fill(true);
        // SAFETY: inside the allocation, as the line above has checked.
        unsafe { std::ptr::copy(bytes.as_ptr(), record.ptr.add(offset), bytes.len()) };
    }

    fn store_pointer(&mut self, addr: usize, offset: usize, target: usize) {
        self.store(addr, offset, &target.to_ne_bytes());
        let record = self.live.get_mut(&addr).expect("live");
        record.provenance.insert(offset, target);
    }

    fn load<const N: usize>(&self, addr: usize, offset: usize) -> Result<[u8; N], Error> {
        let record = &self.live[&addr];
        if !record.init[offset..offset + N].iter().all(|init| *init) {
            return Err(Error::Undefined("a read of uninitialised memory"));
        }
        // SAFETY: inside the allocation, as the line above has checked.
        Ok(unsafe { record.ptr.add(offset).cast::<[u8; N]>().read_unaligned() })
    }

    fn word(&self, addr: usize, offset: usize) -> Result<i32, Error> {
        Ok(i32::from_ne_bytes(self.load(addr, offset)?))
    }

    /// As Miri's `call_native_raw`.
    fn call_native_raw(
        &self,
        name: &str,
        args: &[usize],
        options: CallOptions,
    ) -> Result<(Result<u64, Ended>, Option<MemEvents>), DoorError> {
        let code = self.library.function(name).expect("exported").address;
        Supervisor::do_ffi(&self.alloc, |native| {
            // All of this owns memory, and is dropped also where native code crashes.
            let cif = Cif::new(args.iter().map(|_| Type::u64()), Type::u64());
            let mut pointers: Vec<*mut c_void> = args
                .iter()
                .map(|arg| std::ptr::from_ref(arg).cast_mut().cast())
                .collect();
            let mut ret = Box::new(0u64);
            let (cif, pointers) = (cif.as_raw_ptr(), pointers.as_mut_ptr());
            let out: *mut u64 = &raw mut *ret;
            // SAFETY: the function takes words and returns at most one; the closure and libffi
            // own nothing while it runs.
            let ended = unsafe {
                native.run_with(options, || {
                    let code = std::mem::transmute::<usize, unsafe extern "C" fn()>(code as usize);
                    libffi::raw::ffi_call(cif, Some(code), out.cast(), pointers);
                })
            };
            ended.map(|()| *ret)
        })
    }

    /// As Miri's `tracing_apply_accesses`.
    fn apply(&mut self, events: &MemEvents) -> Result<(), Error> {
        for event in &events.acc_events {
            let range = event.range();
            let found = self.live.range_mut(..=range.addr).next_back();
            let found = found.filter(|(base, record)| range.end() <= **base + record.layout.size());
            let Some((base, record)) = found else {
                return Err(Error::Undefined("an access outside of all allocations"));
            };
            let inside = range.addr - base..range.end() - base;
            match event {
                AccessEvent::Read(_) => {
                    let pointers = record.provenance.range(inside.start..inside.end);
                    self.exposed.extend(pointers.map(|(_, target)| *target));
                }
                AccessEvent::Write(_, certain) => {
                    if *certain || record.mutable {
                        record.provenance.retain(|at, _| !inside.contains(at));
                        record.init[inside].fill(true);
                    }
                }
            }
        }
        Ok(())
    }

    /// A call and all that follows from it.
    fn call(&mut self, name: &str, args: &[usize]) -> Result<u64, Error> {
        let options = CallOptions::default();
        let (result, events) = self
            .call_native_raw(name, args, options)
            .map_err(Error::Door)?;
        self.apply(&events.expect("traced"))?;
        result.map_err(Error::Ended)
    }
}

fn each(body: impl Fn(&mut Machine)) {
    let _turn = turn();
    for backend in IN_PROCESS.iter().copied() {
        let made = match IsolatedAlloc::new(Some(backend)) {
            Err(DoorError::Bridge(error)) => Err(error),
            made => Ok(made.expect("an arena")),
        };
        if let Some(alloc) = if_possible(backend, made) {
            body(&mut Machine::new(alloc));
        }
    }
}

#[test]
fn a_list_is_walked_and_its_pointers_exposed() {
    each(|machine| {
        let nodes: Vec<usize> = (0..3).map(|_| machine.allocate(16)).collect();
        let unreached = machine.allocate(16);
        for (index, node) in nodes.iter().enumerate() {
            machine.store(*node, 0, &(index as i32 + 1).to_ne_bytes());
            match nodes.get(index + 1) {
                Some(next) => machine.store_pointer(*node, 8, *next),
                None => machine.store(*node, 8, &[0; 8]),
            }
        }
        assert_eq!(machine.call("sum", &[nodes[0]]).expect("sound"), 6);
        assert_eq!(machine.exposed, BTreeSet::from([nodes[1], nodes[2]]));
        assert!(!machine.exposed.contains(&unreached));
    });
}

#[test]
fn only_what_is_written_is_initialised() {
    each(|machine| {
        let words = machine.allocate(8);
        machine.call("set_first", &[words]).expect("sound");
        assert_eq!(machine.word(words, 0).expect("initialised"), 42);
        assert!(matches!(machine.word(words, 4), Err(Error::Undefined(_))));
    });
}

#[test]
fn pointers_in_memory_are_those_that_native_code_knows() {
    each(|machine| {
        let (one, two) = (machine.allocate(4), machine.allocate(4));
        let (first, second) = (machine.allocate(8), machine.allocate(8));
        machine.store_pointer(first, 0, one);
        machine.store_pointer(second, 0, two);
        machine.call("swap", &[first, second]).expect("sound");
        assert_eq!(machine.exposed, BTreeSet::from([one, two]));
        let stored = |at| machine.load(at, 0).map(usize::from_ne_bytes);
        assert_eq!(stored(first).expect("written"), two);
        assert_eq!(stored(second).expect("written"), one);
        // Kept by native code, used by a later call.
        machine.store(one, 0, &7i32.to_ne_bytes());
        machine.call("keep", &[one]).expect("sound");
        assert_eq!(machine.call("use_kept", &[]).expect("sound") as i32, 7);
        machine.free(one);
        let dangling = machine.call("use_kept", &[]);
        assert!(matches!(dangling, Err(Error::Undefined(_))), "{dangling:?}");
    });
}

#[test]
fn out_of_bounds_is_told_and_an_overread_is_not() {
    each(|machine| {
        let words = machine.allocate(16);
        let found = machine.call("behind", &[words]);
        assert!(matches!(found, Err(Error::Undefined(_))), "{found:?}");
        let text = machine.allocate(6);
        machine.store(text, 0, b"hello\0");
        assert_eq!(machine.call("length", &[text]).expect("sound"), 5);
        let options = CallOptions {
            stop: StopAt::First,
            ..CallOptions::default()
        };
        let (result, _) = machine
            .call_native_raw("behind", &[words], options)
            .expect("complete");
        assert!(matches!(result, Err(Ended::Stopped)), "{result:?}");
    });
}

#[test]
fn a_crash_is_an_error_value_and_what_came_before_it_is_told() {
    each(|machine| {
        let words = machine.allocate(8);
        for _ in 0..50 {
            let options = CallOptions::default();
            let (result, events) = machine
                .call_native_raw("crash", &[words], options)
                .expect("complete");
            let kind = ViolationKind::WildAccess;
            assert!(
                matches!(&result, Err(Ended::Badly { kind: found, .. }) if *found == kind),
                "{result:?}"
            );
            let events = events.expect("traced");
            assert_eq!(events.acc_events.len(), 1);
            machine.apply(&events).expect("sound");
            assert_eq!(machine.word(words, 0).expect("written"), 1);
            assert!(machine.word(words, 4).is_err());
        }
        let options = CallOptions {
            timeout: Some(Duration::from_millis(20)),
            ..CallOptions::default()
        };
        let (result, _) = machine
            .call_native_raw("hang", &[], options)
            .expect("complete");
        let text = result.expect_err("it never returns").to_string();
        assert!(text.starts_with("timeout: "), "{text}");
        machine.call("set_first", &[words]).expect("the next works");
    });
}

#[test]
fn a_system_call_is_told() {
    each(|machine| {
        let buffer = machine.allocate(8);
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        std::io::Write::write_all(&mut writer, b"bytes").expect("room");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&reader) as usize;
        machine.call("read_some", &[buffer, fd]).expect("sound");
        assert_eq!(&machine.load::<5>(buffer, 0).expect("written"), b"bytes");
        assert!(machine.load::<6>(buffer, 0).is_err());
    });
}

thread_local! {
    static MACHINE: Cell<*mut Machine> = const { Cell::new(std::ptr::null_mut()) };
}

/// The interpreter's function, as a libffi closure of Miri's would be.
unsafe extern "C" fn called_back(at: usize) -> i32 {
    let machine = MACHINE.get();
    // SAFETY: the test put its machine there, and waits for the call; this frame owns nothing.
    unsafe {
        let alloc = &raw const (*machine).alloc;
        (*alloc).callback(|events| {
            let machine = &mut *machine;
            machine.apply(&events.expect("traced")).expect("sound");
            let before = machine.word(at, 0).expect("written before");
            machine.store(at, 0, &8i32.to_ne_bytes());
            // And it calls native code in turn.
            machine.call("set_first", &[at]).expect("sound");
            before
        })
    }
}

#[test]
fn a_callback_sees_what_came_before_it() {
    each(|machine| {
        let words = machine.allocate(4);
        MACHINE.set(std::ptr::from_mut(machine));
        let args = [words, called_back as *const () as usize];
        let result = machine.call("with_callback", &args).expect("sound");
        assert_eq!(result as i32, 5 + 42);
        assert_eq!(machine.word(words, 0).expect("written"), 42);
    });
}

#[test]
fn without_a_recorder_there_are_no_events() {
    let _turn = turn();
    let mut machine = Machine::new(IsolatedAlloc::new(Some(Backend::None)).expect("an arena"));
    assert!(!Supervisor::is_enabled(&machine.alloc));
    let words = machine.allocate(8);
    let (result, events) = machine
        .call_native_raw("set_first", &[words], CallOptions::default())
        .expect("a call");
    assert!(result.is_ok() && events.is_none());
    machine.store(words, 4, &[0; 4]);
    assert_eq!(machine.load::<4>(words, 4).expect("stored"), [0; 4]);
    let ptr = machine.live[&words].ptr;
    // SAFETY: inside the live allocation.
    assert_eq!(unsafe { ptr.cast::<i32>().read() }, 42);
}

#[test]
fn events_survive_serde_and_pages_hold_them() {
    each(|machine| {
        let words = machine.allocate(8);
        let (_, events) = machine
            .call_native_raw("set_first", &[words], CallOptions::default())
            .expect("complete");
        let events = events.expect("traced");
        let text = serde_json::to_string(&events).expect("serialisable");
        let expected =
            format!(r#"{{"acc_events":[{{"Write":[{{"addr":{words},"size":4}},true]}}]}}"#);
        assert_eq!(text, expected);
        let back: MemEvents = serde_json::from_str(&text).expect("readable");
        assert_eq!(back, events);
        let mut pages = machine.alloc.pages();
        assert!(pages.any(|(first, len)| {
            assert_eq!(
                (first.as_ptr() as usize | len) % machine.alloc.page_size(),
                0
            );
            (first.as_ptr() as usize..first.as_ptr() as usize + len).contains(&words)
        }));
    });
}

#[test]
fn it_may_be_used_again_inside_itself() {
    each(|machine| {
        let words = machine.allocate(8);
        let (alloc, machine) = (&machine.alloc, &*machine);
        let ((inner, lens), events) = Supervisor::do_ffi(alloc, |_| {
            let set = || machine.call_native_raw("set_first", &[words], CallOptions::default());
            let (first, events) = set().expect("complete");
            let lens = events.expect("traced").acc_events.len();
            (first.is_ok(), lens)
        })
        .expect("complete");
        assert!(inner);
        assert_eq!(lens, 1);
        assert_eq!(events.expect("traced").acc_events.len(), 0);
        // And the other threads may again.
        let set = || machine.call_native_raw("set_first", &[words], CallOptions::default());
        assert!(set().expect("complete").0.is_ok());
    });
}
