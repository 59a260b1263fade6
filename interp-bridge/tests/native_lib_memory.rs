//! What native code does with pointers that it is given: the behaviours that Miri's native-lib mode
//! has tests for, with fixtures of our own and the same verdicts.
//!
//! Signal handlers belong to the process, so these tests take turns.
//!
//! # Safety
//! Functions are called with the signatures of the source here, and with pointers into live
//! allocations, or dangling ones that they do not follow.
#![allow(unsafe_code)]

mod common;

use std::sync::OnceLock;

use interp_bridge::{
    bridge::Bridge,
    ffi::{Library, NativeCall, Value},
    memory::{AllocId, AllocRequest, Init, MemoryError, Pointer, Provenance, ViolationKind},
    prototype::Prototype,
};

use common::{TRACED, within};

const SOURCE: &str = "
    #include <stddef.h>
    #include <stdint.h>
    int32_t read_it(const int32_t *p) { return *p; }
    void bump(int32_t *n) { *n += 1; }
    void fill(int32_t *to, size_t n, int32_t value) { while (n--) *to++ = value; }
    struct holder { int32_t *inner; };
    void put_inner(const struct holder *h, int32_t value) { *h->inner = value; }
    void look_away(const int32_t *p) { (void)p; }
    void store(const int32_t *p, const int32_t **to) { *to = p; }
    void clear(const int32_t **p) { *p = NULL; }
    struct three { int32_t *a, *b, *c; };
    void swap_outer(struct three *t) { int32_t *a = t->a; t->a = t->c; t->c = a; }
    const int32_t *same(const int32_t *p) { return p; }
    void put_at(uintptr_t at, int32_t value) { *(int32_t *)at = value; }
    static int32_t **shared;
    void share(int32_t **p) { shared = p; }
    void put_shared(int32_t value) { **shared = value; }
    struct node { int64_t value; struct node *next; };
    int64_t last(const struct node *n) {
        if (!n) return 0;
        while (n->next) n = n->next;
        return n->value;
    }
    int64_t around(const struct node *n) { return n->next->next->value; }
    void init_n(int32_t n, char *p) { for (int i = 0; i < n; i++) p[i] = 0; }
    uintptr_t one_deref(const int32_t ***p) { return (uintptr_t)*p; }
    int32_t call_it(int32_t (*f)(int32_t)) { return f ? f(42) : -1; }
";

fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let place = tempfile::tempdir().expect("a directory");
        let (source, file) = (
            place.path().join("m.c"),
            place.path().join("libm_pointers.so"),
        );
        std::fs::write(&source, SOURCE).expect("the source");
        common::compile("cc", &source, &file, &["-O1"]);
        Library::load(file.as_os_str()).expect("a library")
    })
}

fn each(mut body: impl FnMut(&Bridge)) {
    common::each(TRACED, |bridge| body(&bridge));
}

/// Calls a function by its prototype; it returns, and breaks no rule.
fn call(bridge: &Bridge, prototype: &str, values: &[Value]) -> Value {
    let prototype = Prototype::parse(prototype, &[]).expect("a prototype");
    let function = library().function(&prototype.name).expect("exported");
    let mut call = NativeCall::prepare(&prototype, &function).expect("a call");
    // SAFETY: see the module.
    let done = unsafe { bridge.invoke(&mut call, values, within(20)) }.expect("a call");
    let memory = bridge.memory();
    let found = memory.violations().entries();
    assert!(found.is_empty(), "{}: {found:?}", prototype.name);
    assert!(done.outcome.stats.complete(), "{done:?}");
    done.value.expect("it returned").expect("a value")
}

fn room(bridge: &Bridge, size: u64, init: Init<'_>) -> AllocId {
    let request = AllocRequest {
        size,
        align: 8,
        init,
        ..AllocRequest::default()
    };
    bridge.memory().allocate(&request).expect("room")
}

fn int(bridge: &Bridge, value: i32) -> AllocId {
    room(bridge, 4, Init::Bytes(&value.to_le_bytes()))
}

fn pointer(bridge: &Bridge, id: AllocId) -> Value {
    bridge.pointer(id, 0).expect("known")
}

/// Stores a pointer to an allocation, as the interpreted program does.
fn link(bridge: &Bridge, at: AllocId, offset: u64, to: AllocId) {
    let to = Pointer::to(to, bridge.address(to).expect("known"));
    let stored = bridge.memory().write_pointer(at, offset, to);
    stored.expect("inside");
}

/// The number at the pointer that is stored at an offset: what the program would get.
fn through(bridge: &Bridge, at: AllocId, offset: u64) -> i32 {
    let memory = bridge.memory();
    let pointer = memory.read_pointer(at, offset).expect("a pointer");
    let (id, offset) = memory.resolve(pointer, 4).expect("it leads somewhere");
    memory.read_scalar(id, offset, 4).expect("initialised") as i32
}

fn number(bridge: &Bridge, id: AllocId) -> i32 {
    let read = bridge.memory().read_scalar(id, 0, 4);
    read.expect("initialised") as i32
}

#[test]
fn numbers_are_read_changed_and_made() {
    each(|bridge| {
        let n = int(bridge, -42);
        let got = call(
            bridge,
            "int32_t read_it(const int32_t *p)",
            &[pointer(bridge, n)],
        );
        assert_eq!(got.as_int(), Some(-42));
        call(bridge, "void bump(int32_t *n)", &[pointer(bridge, n)]);
        assert_eq!(number(bridge, n), -41);
        let array = room(bridge, 12, Init::Uninit);
        assert!(bridge.memory().read_init(array, 0..12).is_err());
        let values = [pointer(bridge, array), Value::from(3), Value::from(31)];
        call(
            bridge,
            "void fill(int32_t *to, size_t n, int32_t value)",
            &values,
        );
        let memory = bridge.memory();
        let read = |index: u64| memory.read_scalar(array, index * 4, 4).expect("filled");
        assert_eq!([0, 1, 2].map(read), [31; 3]);
    });
}

#[test]
fn chains_and_loops_are_followed() {
    each(|bridge| {
        let nodes = [97i64, 98, 99].map(|value| {
            let bytes = [value.to_le_bytes(), [0; 8]].concat();
            room(bridge, 16, Init::Bytes(&bytes))
        });
        link(bridge, nodes[2], 8, nodes[1]);
        link(bridge, nodes[1], 8, nodes[0]);
        let last = "int64_t last(const void *n)";
        let found = call(bridge, last, &[pointer(bridge, nodes[2])]);
        assert_eq!(found.as_int(), Some(97));
        assert_eq!(call(bridge, last, &[Value::null()]).as_int(), Some(0));
        // A constant that points to itself.
        let bytes = [9001i64.to_le_bytes(), [0; 8]].concat();
        let own = room(bridge, 16, Init::Bytes(&bytes));
        link(bridge, own, 8, own);
        bridge.memory().set_mutable(own, false).expect("live");
        let found = call(
            bridge,
            "int64_t around(const void *n)",
            &[pointer(bridge, own)],
        );
        assert_eq!(found.as_int(), Some(9001));
    });
}

#[test]
fn a_constant_may_lead_to_what_is_written() {
    each(|bridge| {
        let inner = room(bridge, 4, Init::Uninit);
        let holder = room(bridge, 8, Init::Uninit);
        link(bridge, holder, 0, inner);
        bridge.memory().set_mutable(holder, false).expect("live");
        let values = [pointer(bridge, holder), Value::from(41)];
        call(
            bridge,
            "void put_inner(const void *h, int32_t value)",
            &values,
        );
        assert_eq!(number(bridge, inner), 41);
    });
}

#[test]
fn what_is_passed_is_exposed_whether_it_is_used_or_not() {
    each(|bridge| {
        let (passed, kept) = (int(bridge, 51), int(bridge, 52));
        call(
            bridge,
            "void look_away(const int32_t *p)",
            &[pointer(bridge, passed)],
        );
        let memory = bridge.memory();
        let again = |id| memory.with_exposed_provenance(memory.address(id).expect("known"));
        let (id, offset) = memory
            .resolve(again(passed).expect("exposed"), 4)
            .expect("live");
        assert_eq!((id, offset), (passed, 0));
        assert!(again(kept).is_err());
    });
}

#[test]
fn pointers_are_stored_and_exchanged() {
    each(|bridge| {
        let (n, place) = (int(bridge, 61), room(bridge, 8, Init::Uninit));
        let values = [pointer(bridge, n), pointer(bridge, place)];
        call(
            bridge,
            "void store(const int32_t *p, const int32_t **to)",
            &values,
        );
        assert_eq!(through(bridge, place, 0), 61);
        // The one in the middle dangles, and nobody looks at it.
        let [a, gone, c] = [101, 111, 121].map(|value| int(bridge, value));
        let three = room(bridge, 24, Init::Uninit);
        for (index, id) in [a, gone, c].into_iter().enumerate() {
            link(bridge, three, index as u64 * 8, id);
        }
        bridge.memory().free(gone).expect("live");
        call(
            bridge,
            "void swap_outer(void *t)",
            &[pointer(bridge, three)],
        );
        assert_eq!(through(bridge, three, 16), 101);
        assert_eq!(through(bridge, three, 0), 121);
        let middle = bridge.memory().read_pointer(three, 8).expect("untouched");
        assert_eq!(middle.provenance, Provenance::Alloc(gone));
    });
}

#[test]
fn dangling_pointers_may_be_passed_and_overwritten() {
    each(|bridge| {
        let gone = int(bridge, 81);
        let place = room(bridge, 8, Init::Uninit);
        link(bridge, place, 0, gone);
        let dangling = pointer(bridge, gone);
        bridge.memory().free(gone).expect("live");
        call(bridge, "void look_away(const int32_t *p)", &[dangling]);
        call(
            bridge,
            "void clear(const int32_t **p)",
            &[pointer(bridge, place)],
        );
        let cleared = bridge.memory().read_pointer(place, 0).expect("written");
        assert_eq!(cleared.addr, 0);
    });
}

#[test]
fn a_pointer_comes_back_and_goes_as_a_number() {
    each(|bridge| {
        let n = int(bridge, 131);
        let back = call(
            bridge,
            "const int32_t *same(const int32_t *p)",
            &[pointer(bridge, n)],
        );
        let address = back.as_address().expect("a pointer");
        {
            let memory = bridge.memory();
            let pointer = memory.with_exposed_provenance(address).expect("exposed");
            assert_eq!(memory.resolve(pointer, 4), Ok((n, 0)));
        }
        // An interpreter that turns a pointer into a number exposes it.
        let target = room(bridge, 4, Init::Uninit);
        bridge.memory().expose(target).expect("live");
        let number_of = Value::from(bridge.address(target).expect("known"));
        call(
            bridge,
            "void put_at(uintptr_t at, int32_t value)",
            &[number_of, Value::from(42)],
        );
        assert_eq!(number(bridge, target), 42);
    });
}

#[test]
fn memory_shared_by_an_earlier_call_is_used_by_a_later_one() {
    each(|bridge| {
        let place = room(bridge, 8, Init::Zeroed);
        call(bridge, "void share(int32_t **p)", &[pointer(bridge, place)]);
        // Only afterwards does the program store a pointer there, to what nobody has passed.
        let target = room(bridge, 4, Init::Uninit);
        link(bridge, place, 0, target);
        call(bridge, "void put_shared(int32_t value)", &[Value::from(42)]);
        assert_eq!(number(bridge, target), 42);
        assert!(bridge.memory().get(target).expect("live").is_exposed());
    });
}

#[test]
fn only_what_was_written_may_be_read() {
    each(|bridge| {
        let bytes = room(bridge, 3, Init::Uninit);
        let values = [Value::from(2), pointer(bridge, bytes)];
        call(bridge, "void init_n(int32_t n, char *p)", &values);
        let memory = bridge.memory();
        assert_eq!(memory.read_init(bytes, 0..2).expect("written"), [0, 0]);
        let error = memory.read_init(bytes, 2..3);
        assert!(
            matches!(error, Err(MemoryError::Uninit { .. })),
            "{error:?}"
        );
    });
}

#[test]
fn a_read_exposes_one_link_of_a_chain() {
    each(|bridge| {
        let inner = int(bridge, 42);
        let [a, b, exposed] = [0; 3].map(|_| room(bridge, 8, Init::Uninit));
        link(bridge, a, 0, inner);
        link(bridge, b, 0, a);
        link(bridge, exposed, 0, b);
        call(
            bridge,
            "uintptr_t one_deref(const void *p)",
            &[pointer(bridge, exposed)],
        );
        let memory = bridge.memory();
        let again = |id| memory.with_exposed_provenance(memory.address(id).expect("known"));
        assert!(again(b).is_ok() && again(a).is_err() && again(inner).is_err());
    });
}

#[test]
fn function_pointers_are_called() {
    each(|bridge| {
        let double = bridge.closure(|n: i32| -> i32 { 2 * n });
        let prototype = "int32_t call_it(int32_t (*f)(int32_t))";
        let f = Value::from(double.address() as *const ());
        assert_eq!(call(bridge, prototype, &[f]).as_int(), Some(84));
        assert_eq!(call(bridge, prototype, &[Value::null()]).as_int(), Some(-1));
    });
}

#[test]
fn what_is_wrong_is_found() {
    each(|bridge| {
        let (short, gone) = (room(bridge, 3, Init::Zeroed), int(bridge, 1));
        let fixed = int(bridge, 1);
        bridge.memory().set_mutable(fixed, false).expect("live");
        let dangling = pointer(bridge, gone);
        bridge.memory().free(gone).expect("live");
        for (prototype, value, expected) in [
            (
                "int32_t read_it(const int32_t *p)",
                pointer(bridge, short),
                ViolationKind::OutOfBounds,
            ),
            (
                "int32_t read_it(const int32_t *p)",
                dangling,
                ViolationKind::UseAfterFree,
            ),
            (
                "void bump(int32_t *n)",
                pointer(bridge, fixed),
                ViolationKind::WriteToReadOnly,
            ),
            (
                "int32_t read_it(const int32_t *p)",
                Value::null(),
                ViolationKind::WildAccess,
            ),
        ] {
            let prototype = Prototype::parse(prototype, &[]).expect("a prototype");
            let function = library().function(&prototype.name).expect("exported");
            let mut call = NativeCall::prepare(&prototype, &function).expect("a call");
            // SAFETY: not sound, on purpose; what is wrong stays in the arena or crashes.
            let done = unsafe { bridge.invoke(&mut call, &[value], within(20)) };
            done.expect("a call");
            let mut memory = bridge.memory();
            let found = &memory.violations().entries()[0].violation;
            assert_eq!(found.kind, expected, "{found:?}");
            memory.violations_mut().clear();
        }
    });
}
