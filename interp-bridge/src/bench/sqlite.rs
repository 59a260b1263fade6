//! sqlite with its heap in the arena: a database in memory, rows inserted and selected.
//!
//! sqlite is initialised and shut down in each piece of work, so that nothing of it stays in an
//! arena that goes.
//!
//! # Safety
//! The functions are called with sqlite's own signatures, in the order that it asks for, and the
//! work owns nothing. [`Work`] outlives the call that uses it.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, OsStr, c_char, c_int, c_void},
    mem, ptr,
};

use super::{
    BenchError,
    library::{Piece, Prepared},
};
use crate::{
    bridge::{Bridge, CallOptions, CallOutcome},
    ffi::Library,
    native::{NativeHeapMode, NativeHeapWatch},
};

/// See the module.
pub(super) struct Sqlite;

const NAME: &str = "libsqlite3.so.0";
const MAKE: &CStr = c"create table t(a integer primary key, b text, c real)";
const INSERT: &CStr = c"insert into t values(?1, 'row ' || (?1 * 37 % 100), ?1 / 7.0)";
const SELECT: &CStr = c"select sum(a * length(b)) + count(*) from \
    (select a, b from t where b > 'row 2' order by b, c limit 100)";
/// sqlite's `SQLITE_ROW` and `SQLITE_DONE`.
const ROW: c_int = 100;
const DONE: c_int = 101;

type Handle = *mut c_void;

/// The functions that the work calls.
#[derive(Clone, Copy)]
#[repr(C)]
struct Functions {
    initialize: unsafe extern "C" fn() -> c_int,
    shutdown: unsafe extern "C" fn() -> c_int,
    open: unsafe extern "C" fn(*const c_char, *mut Handle) -> c_int,
    close: unsafe extern "C" fn(Handle) -> c_int,
    prepare: unsafe extern "C" fn(
        Handle,
        *const c_char,
        c_int,
        *mut Handle,
        *mut *const c_char,
    ) -> c_int,
    bind: unsafe extern "C" fn(Handle, c_int, i64) -> c_int,
    step: unsafe extern "C" fn(Handle) -> c_int,
    reset: unsafe extern "C" fn(Handle) -> c_int,
    column: unsafe extern "C" fn(Handle, c_int) -> i64,
    finalize: unsafe extern "C" fn(Handle) -> c_int,
}

/// What the work is told, and what it tells.
#[repr(C)]
struct Work {
    functions: Functions,
    rows: u64,
    selected: i64,
    /// The first status that was not what was expected.
    status: c_int,
}

impl Functions {
    #[allow(
        clippy::missing_transmute_annotations,
        reason = "the fields that they go into say what they are"
    )]
    fn find(library: &Library) -> Result<Functions, String> {
        let find = |name| match library.function(name) {
            Ok(function) => Ok(function.address as usize as *const c_void),
            Err(error) => Err(error.to_string()),
        };
        // SAFETY: each is sqlite's function of that name, which has this signature for good.
        unsafe {
            Ok(Functions {
                initialize: mem::transmute::<*const c_void, _>(find("sqlite3_initialize")?),
                shutdown: mem::transmute::<*const c_void, _>(find("sqlite3_shutdown")?),
                open: mem::transmute::<*const c_void, _>(find("sqlite3_open")?),
                close: mem::transmute::<*const c_void, _>(find("sqlite3_close")?),
                prepare: mem::transmute::<*const c_void, _>(find("sqlite3_prepare_v2")?),
                bind: mem::transmute::<*const c_void, _>(find("sqlite3_bind_int64")?),
                step: mem::transmute::<*const c_void, _>(find("sqlite3_step")?),
                reset: mem::transmute::<*const c_void, _>(find("sqlite3_reset")?),
                column: mem::transmute::<*const c_void, _>(find("sqlite3_column_int64")?),
                finalize: mem::transmute::<*const c_void, _>(find("sqlite3_finalize")?),
            })
        }
    }
}

/// Opens a database in memory, fills a table, selects, and closes it all.
unsafe extern "C" fn database(data: *mut c_void) {
    // SAFETY: `data` is a `Work`; handles are used between their making and their end.
    unsafe {
        let work = &mut *data.cast::<Work>();
        let f = work.functions;
        work.status = 0;
        let mut db: Handle = ptr::null_mut();
        expect(&mut work.status, 0, (f.initialize)());
        expect(
            &mut work.status,
            0,
            (f.open)(c":memory:".as_ptr(), &raw mut db),
        );
        let prepare = |status: &mut c_int, sql: &CStr| {
            let mut statement: Handle = ptr::null_mut();
            let made = (f.prepare)(db, sql.as_ptr(), -1, &raw mut statement, ptr::null_mut());
            expect(status, 0, made);
            statement
        };
        let make = prepare(&mut work.status, MAKE);
        expect(&mut work.status, DONE, (f.step)(make));
        (f.finalize)(make);
        let insert = prepare(&mut work.status, INSERT);
        for row in 0..work.rows {
            (f.bind)(insert, 1, row as i64);
            expect(&mut work.status, DONE, (f.step)(insert));
            (f.reset)(insert);
        }
        (f.finalize)(insert);
        let select = prepare(&mut work.status, SELECT);
        expect(&mut work.status, ROW, (f.step)(select));
        work.selected = (f.column)(select, 0);
        (f.finalize)(select);
        expect(&mut work.status, 0, (f.close)(db));
        expect(&mut work.status, 0, (f.shutdown)());
    }
}

fn expect(status: &mut c_int, wanted: c_int, got: c_int) {
    if *status == 0 && got != wanted {
        *status = if got == 0 { -1 } else { got };
    }
}

struct Database<'b> {
    bridge: &'b Bridge,
    work: Box<Work>,
    _watch: NativeHeapWatch,
}

fn work(rows: u64) -> Result<(Library, Box<Work>), String> {
    let library = Library::load(OsStr::new(NAME)).map_err(|error| error.to_string())?;
    let functions = Functions::find(&library)?;
    let work = Work {
        functions,
        rows,
        selected: 0,
        status: 0,
    };
    Ok((library, Box::new(work)))
}

fn result(work: &Work) -> Vec<u8> {
    format!("status {}, selected {}", work.status, work.selected).into_bytes()
}

impl Piece for Sqlite {
    fn text(&self) -> &'static str {
        "sqlite: 300 inserts and a select, its heap in the arena"
    }

    fn sizes(&self) -> &'static [u64] {
        &[1, 2, 20, 60, 300]
    }

    fn words(&self, size: u64) -> String {
        crate::report::counted(size, "insert")
    }

    fn plain(&self, size: u64) -> Result<Vec<u8>, String> {
        let (_library, mut work) = work(size)?;
        // SAFETY: see the module.
        unsafe { database(ptr::from_mut(&mut *work).cast()) };
        match work.status {
            0 => Ok(result(&work)),
            status => Err(format!("sqlite failed with status {status}")),
        }
    }

    fn prepare<'b>(
        &'b self,
        bridge: &'b Bridge,
        size: u64,
    ) -> Result<Box<dyn Prepared + 'b>, BenchError> {
        let (library, work) = work(size).map_err(BenchError::Library)?;
        let watch = NativeHeapWatch::begin(bridge, &[library.path()], NativeHeapMode::Arena);
        Ok(Box::new(Database {
            bridge,
            work,
            _watch: watch.map_err(|error| BenchError::Library(error.to_string()))?,
        }))
    }
}

impl Prepared for Database<'_> {
    fn run(&mut self) -> Result<CallOutcome, BenchError> {
        let data = ptr::from_mut(&mut *self.work).cast();
        // SAFETY: see the module.
        Ok(unsafe { self.bridge.call(database, data, CallOptions::default()) }?)
    }

    fn result(&self) -> Result<Vec<u8>, BenchError> {
        Ok(result(&self.work))
    }
}
