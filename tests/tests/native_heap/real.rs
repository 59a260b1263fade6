//! Real libraries with their heap in the arena: no false alarm, and the results that they have
//! without us.

use anyhow::Result;
use ffitrace_tests::call::{Backend, Call};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::Suite;

use crate::{add_test, heap};

const COMPRESS: &str = "int compress2(unsigned char *dest, unsigned long *destLen, \
     const unsigned char *source, unsigned long sourceLen, int level)";
const UNCOMPRESS: &str = "int uncompress(unsigned char *dest, unsigned long *destLen, \
     const unsigned char *source, unsigned long sourceLen)";
const PNG: &str =
    "int png_pack(const uint8_t *pixels, unsigned w, unsigned h, uint8_t *out, uint64_t *len)";
const SQLITE: &str = "int sqlite_plain(const char *sql, char *out)";

const SMALL: &str = "create table t(a); insert into t values(1); select a from t;";
const LARGE: &str = "create table t(a integer primary key, b text, c real); \
     create index by_b on t(b); \
     with recursive n(i) as (select 1 union all select i + 1 from n where i < 20) \
       insert into t select i, 'row ' || (i * 37 % 100), i / 7.0 from n; \
     select count(*), sum(a), round(avg(c), 3) from t; \
     delete from t where a % 3 = 0; select group_concat(b) from t where a < 10;";

pub(crate) fn add(suite: &mut Suite) {
    add_test(suite, "real::zlib", |backend| {
        let text = "a text that repeats, repeats and repeats itself ".repeat(3);
        let packed = same(
            Call::new("libz.so.1", COMPRESS, backend).bind([
                "dest=zero:500".to_owned(),
                "destLen=u64:500".into(),
                format!("source=bytes:{text}"),
                "sourceLen=len(source)".into(),
                "level=9".into(),
            ]),
            "dest",
        )?;
        let packed = packed.trim_end_matches("00");
        let unpacked = same(
            Call::new("libz.so.1", UNCOMPRESS, backend).bind([
                format!("dest=zero:{}", text.len()),
                "destLen=u64:len(dest)".into(),
                format!(
                    "source=hex:{packed}{}",
                    if packed.len() % 2 == 1 { "0" } else { "" }
                ),
                "sourceLen=len(source)".into(),
            ]),
            "dest",
        )?;
        let expected: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        check!(unpacked == expected, "another text came back");
        Ok(())
    });
    add_test(suite, "real::png", |backend| {
        let pixels: String = (0..5 * 3 * 4)
            .map(|i| format!("{:02x}", i * 5 % 256))
            .collect();
        same(
            Call::new(Lib::Png.built()?, PNG, backend).bind([
                format!("pixels=hex:{pixels}"),
                "w=5".into(),
                "h=3".into(),
                "out=zero:2000".into(),
                "len=u64:2000".into(),
            ]),
            "out",
        )?;
        Ok(())
    });
    add_test(suite, "real::sqlite", |backend| {
        let sql = if backend == Backend::Ptrace {
            SMALL
        } else {
            LARGE
        };
        let out = same(
            Call::new(Lib::Sqlite.built()?, SQLITE, backend)
                .bind([format!("sql=str:{sql}"), "out=zero:1000".into()]),
            "out",
        )?;
        check!(!out.starts_with("00"), "nothing was selected");
        Ok(())
    });
}

/// Makes a call with the heap in the arena, and without any tracing, and compares. The result is
/// the content of a buffer.
fn same(call: Call, output: &str) -> Result<String> {
    let traced = call.clone().option(["--native-heap"]).run()?;
    traced.expect_code(0)?;
    check!(traced.report.stats.complete, "the trace is not complete");
    let heap = heap(&traced)?;
    check!(heap.allocations > 0, "it allocates nothing");
    check!(heap.live == 0, "not given back: {:?}", heap.leaks);
    let untraced = call.untraced().run()?;
    let result =
        |outcome: &ffitrace_tests::call::Outcome| outcome.report.ret.as_ref().map(|ret| ret.text());
    check!(
        result(&traced) == result(&untraced),
        "the result is {:?}, untraced {:?}",
        result(&traced),
        result(&untraced)
    );
    let content = traced.allocation(output)?.bytes.clone();
    check!(
        content == untraced.allocation(output)?.bytes,
        "{output} has another content than untraced"
    );
    Ok(content)
}
