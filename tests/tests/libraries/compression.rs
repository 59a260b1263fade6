//! lz4 and zstd, there and back. (zlib has a suite of its own.)

use anyhow::Result;
use ffitrace_tests::call::Backend;
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::Suite;

use crate::job::{Job, add_test, content, number, text};

/// Room for the output.
const ROOM: usize = 4096;

const LZ4: &str = "int lz4_pack(const char *in, int n, char *out, int room)";
const LZ4_HC: &str = "int lz4_pack_hc(const char *in, int n, char *out, int room)";
const LZ4_BACK: &str = "int lz4_unpack(const char *in, int n, char *out, int room)";
const ZSTD: &str =
    "unsigned long zstd_pack(const void *in, size_t n, void *out, size_t room, int level)";
const ZSTD_BACK: &str =
    "unsigned long zstd_unpack(const void *in, size_t n, void *out, size_t room)";

pub(crate) fn add(suite: &mut Suite) {
    for len in [1, 13, 500, 3000] {
        add_test(suite, &format!("lz4::of_{len}"), move |backend| {
            round_trip(backend, Lib::Lz4, LZ4, LZ4_BACK, None, len)
        });
        add_test(suite, &format!("lz4::best_of_{len}"), move |backend| {
            round_trip(backend, Lib::Lz4, LZ4_HC, LZ4_BACK, None, len)
        });
        for level in [1, 3, 9] {
            add_test(
                suite,
                &format!("zstd::level_{level}_of_{len}"),
                move |backend| round_trip(backend, Lib::Zstd, ZSTD, ZSTD_BACK, Some(level), len),
            );
        }
    }
    add_test(suite, "zstd::stream", stream);
}

fn round_trip(
    backend: Backend,
    lib: Lib,
    pack: &'static str,
    unpack: &'static str,
    level: Option<u32>,
    len: usize,
) -> Result<()> {
    let len = if backend == Backend::Ptrace {
        len.min(500)
    } else {
        len
    };
    let source = text(len);
    let mut job = Job::new(lib, pack)
        .read_whole("in", &source)
        .input("n", len)
        .output("out", ROOM)
        .input("room", ROOM);
    if let Some(level) = level {
        job = job.input("level", level);
    }
    let packed = job.run(backend)?;
    let size = number(&packed)?;
    check!(size > 0 && size < ROOM, "{size} bytes");
    let packed = content(&packed, "out")?;
    let back = Job::new(lib, unpack)
        .read_whole("in", &packed[..size])
        .input("n", size)
        .output("out", len)
        .input("room", len)
        .run(backend)?;
    check!(number(&back)? == len, "another length came back");
    check!(content(&back, "out")? == source, "something else came back");
    Ok(())
}

/// The descriptors of both buffers are buffers, too, and have pointers in them.
fn stream(backend: Backend) -> Result<()> {
    let source = text(300);
    let done = Job::new(
        Lib::Zstd,
        "unsigned long zstd_stream(struct in *in, struct out *out)",
    )
    .declare(
        "struct in { const void *at; unsigned long size, pos; }; \
         struct out { void *at; unsigned long size, pos; };",
    )
    .read_whole("from", &source)
    .output("to", 1000)
    .input("in", "{&from,300,0}")
    .input("out", "{&to,1000,0}")
    .run(backend)?;
    check!(number(&done)? == 0, "not all was written");
    Ok(())
}
