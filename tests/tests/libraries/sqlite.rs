//! sqlite3 with its whole heap in a buffer: every structure of a database engine is traced.

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::Suite;

use crate::job::{add_test, content, result};

const PROTOTYPE: &str =
    "int sqlite_run(void *buf, size_t len, const char *sql, char *out, int *how)";

const SMALL: &str = "create table t(a, b); insert into t values(1, 'one'); select b, a from t;";
const LARGE: &str = "create table t(a integer primary key, b text, c real); \
     create index by_b on t(b); \
     with recursive n(i) as (select 1 union all select i + 1 from n where i < 60) \
       insert into t select i, 'row ' || (i * 37 % 100), i / 7.0 from n; \
     select count(*), sum(a), round(avg(c), 3) from t; \
     select a, b from t where b > 'row 8' order by b limit 5; \
     delete from t where a % 3 = 0; update t set b = upper(b) where a < 10; \
     select group_concat(b) from t where a < 10; \
     begin; insert into t values(1000, 'gone', 0); rollback; select max(a) from t;";

pub(crate) fn add(suite: &mut Suite) {
    add_test(suite, "sqlite::heap_in_a_buffer", |backend| {
        let sql = if backend == Backend::Ptrace {
            SMALL
        } else {
            LARGE
        };
        database(backend, sql)
    });
    add_test(suite, "sqlite::error_in_the_statement", |backend| {
        let outcome = call(backend, "selec 1;")?.run()?;
        outcome.expect_code(0)?;
        check!(result(&outcome).as_deref() == Some("1"), "not SQLITE_ERROR");
        Ok(())
    });
}

fn call(backend: Backend, sql: &str) -> Result<Call> {
    Ok(Call::new(Lib::Sqlite.built()?, PROTOTYPE, backend).bind([
        "buf=uninit:1M",
        "len=len(buf)",
        &format!("sql=str:{sql}"),
        "out=zero:1000",
        "how=i32:0",
    ]))
}

fn database(backend: Backend, sql: &str) -> Result<()> {
    let traced = call(backend, sql)?.run()?;
    let untraced = call(backend, sql)?.untraced().run()?;
    traced.expect_code(0)?;
    check!(traced.report.stats.complete, "the trace is not complete");
    for (which, outcome) in [("traced", &traced), ("untraced", &untraced)] {
        check!(result(outcome).as_deref() == Some("0"), "{which}: failed");
    }
    let rows = rows(&traced)?;
    check!(!rows.is_empty(), "nothing was selected");
    check!(rows == self::rows(&untraced)?, "other rows than untraced");
    let how = content(&traced, "how")?[0];
    check!(how == 1 || how == 2, "the heap was not given to sqlite");
    let heap = traced.allocation("buf")?;
    check!(
        heap.written == heap.initialized,
        "written {:?}, initialised {:?}",
        heap.written,
        heap.initialized
    );
    // The locks lie in it, too, and are taken by an exchange that may not write.
    check!(!heap.maybe_written.is_empty(), "no lock was taken");
    let used: u64 = heap.written.iter().map(|range| range.1 - range.0).sum();
    check!(used > 10_000, "only {used} bytes of the heap were used");
    let text = traced.allocation("sql")?;
    check!(
        text.read == [(0, text.size)],
        "read of the statement: {:?}",
        text.read
    );
    let out = traced.allocation("out")?;
    let end = rows.len() as u64 + 1;
    check!(
        out.written == [(0, end)],
        "written of the output: {:?}",
        out.written
    );
    Ok(())
}

fn rows(outcome: &Outcome) -> Result<String> {
    let bytes = content(outcome, "out")?;
    let end = bytes.iter().position(|byte| *byte == 0).context("no NUL")?;
    Ok(String::from_utf8(bytes[..end].to_vec())?)
}
