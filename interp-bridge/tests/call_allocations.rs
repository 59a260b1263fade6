//! A prepared call with scalars allocates nothing: setting its arguments, making it, and taking
//! its result.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use interp_bridge::ctype::CType;
use interp_bridge::ffi::{LongDouble, NativeCall, Signature, Value};

/// The system's allocator, counting.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: by the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: by the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

extern "C" fn sum(a: i8, b: u64, c: f64, d: *const i32, e: bool) -> i64 {
    // SAFETY: the test gives a good pointer.
    i64::from(a) + b as i64 + c as i64 + i64::from(unsafe { *d }) + i64::from(e)
}

#[test]
fn scalars_cost_no_allocation() {
    let params = [
        CType::i8(),
        CType::u64(),
        CType::f64(),
        CType::ptr(),
        CType::bool(),
    ];
    let signature = Signature::new(params, CType::i64());
    let mut call = NativeCall::new(signature, sum as *const () as u64).expect("a call");
    let cell = 1000i32;
    let mut total = 0;
    let before = COUNT.with(Cell::get);
    for round in 0..1000u64 {
        let values = [
            Value::from(-1i8),
            Value::from(round),
            Value::from(2.5),
            Value::from(&raw const cell),
            Value::from(true),
        ];
        call.set_values(&values).expect("arguments");
        // SAFETY: `sum` has this signature, and the pointer is good.
        total += unsafe { call.run() }
            .expect("a sum")
            .as_int()
            .expect("an integer");
    }
    assert_eq!(COUNT.with(Cell::get) - before, 0);
    assert_eq!(total, 1000 * (999 / 2) + 500 + 1000 * 1002);
    // The counter counts.
    let text = LongDouble::from(1.5).to_string();
    assert!(text == "1.5" && COUNT.with(Cell::get) > before);
}
