//! The main job, on zlib as installed: which bytes do `crc32`, `adler32` and `compress` touch?

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::host::Need;
use ffitrace_tests::suite::Suite;

const LIBRARY: &str = "libz.so.1";
const CRC32: &str =
    "unsigned long crc32(unsigned long crc, const unsigned char *buf, unsigned int len)";
const ADLER32: &str =
    "unsigned long adler32(unsigned long adler, const unsigned char *buf, unsigned int len)";
const COMPRESS: &str = "int compress(unsigned char *dest, unsigned long *destLen, \
     const unsigned char *source, unsigned long sourceLen)";
const UNCOMPRESS: &str = "int uncompress(unsigned char *dest, unsigned long *destLen, \
     const unsigned char *source, unsigned long sourceLen)";

fn main() -> ExitCode {
    let mut suite = Suite::new();
    for backend in Backend::ALL {
        let needs: Vec<Need> = backend.needs().into_iter().chain([Need::Zlib]).collect();
        let named = |name: &str| format!("{name}::{}", backend.name());
        suite.add(named("crc32_of_readme"), needs.clone(), move || {
            crc32_of_file(backend)
        });
        for len in [0usize, 1, 7, 8, 9, 1000, 70_000] {
            suite.add(
                named(&format!("crc32_of_{len}")),
                needs.clone(),
                move || sums(backend, len),
            );
        }
        suite.add(named("crc32_of_a_part"), needs.clone(), move || {
            crc32_of_part(backend)
        });
        suite.add(named("compress_and_back"), needs.clone(), move || {
            round_trip(backend)
        });
        suite.add(named("compress_no_room"), needs.clone(), move || {
            no_room(backend)
        });
        suite.add(named("version"), needs, move || version(backend));
    }
    suite.run()
}

/// CRC-32 (IEEE 802.3), bit by bit: the definition, without the tricks that zlib uses.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

/// Adler-32 (RFC 1950).
fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1u32, 0u32);
    for &byte in bytes {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    b << 16 | a
}

/// Bytes that neither repeat nor compress to nothing.
fn sample(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b"etaoin shrdlu\n"[(state % 14) as usize]
        })
        .collect()
}

fn file_with(bytes: &[u8]) -> Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(bytes)?;
    file.flush()?;
    Ok(file)
}

fn at(file: &tempfile::NamedTempFile) -> String {
    file.path().display().to_string()
}

/// Fails unless the whole of `name` was read, none of it written, and nothing lost.
fn read_exactly(outcome: &Outcome, name: &str, end: u64) -> Result<()> {
    let buffer = outcome.allocation(name)?;
    let expected: &[(u64, u64)] = if end == 0 { &[] } else { &[(0, end)] };
    check!(
        buffer.read == expected,
        "read {:?}, not {expected:?}",
        buffer.read
    );
    check!(buffer.written.is_empty(), "written {:?}", buffer.written);
    check!(
        buffer.maybe_written.is_empty(),
        "maybe_written {:?}",
        buffer.maybe_written
    );
    check!(
        !buffer.mutable,
        "a const parameter's buffer is reported as mutable"
    );
    let stats = &outcome.report.stats;
    check!(
        stats.dropped == 0 && stats.rejected == 0 && stats.complete,
        "{stats:?}"
    );
    Ok(())
}

fn returned(outcome: &Outcome, expected: u32) -> Result<()> {
    let ret = outcome.report.ret.as_ref().context("no result")?;
    check!(
        ret.text() == expected.to_string(),
        "returned {}, not {expected}",
        ret.text()
    );
    check!(ret.ty == "unsigned long", "type {}", ret.ty);
    Ok(())
}

/// The example that the project leads with, on its own README (or this file, before there is one).
fn crc32_of_file(backend: Backend) -> Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = [root.join("../README.md"), root.join("tests/zlib.rs")]
        .into_iter()
        .find(|path| path.is_file())
        .context("no file to sum up")?;
    let bytes = std::fs::read(&path)?;
    let outcome = Call::new(LIBRARY, CRC32, backend)
        .bind([
            "crc=0".into(),
            format!("buf=@{}", path.display()),
            "len=len(buf)".into(),
        ])
        .with_events()
        .run()?;
    outcome.expect_code(0)?;
    returned(&outcome, crc32(&bytes))?;
    check!(
        outcome.report.function == "crc32",
        "function {}",
        outcome.report.function
    );
    check!(
        outcome.report.library.contains(LIBRARY),
        "library {}",
        outcome.report.library
    );
    check!(
        outcome.allocation("buf")?.size == bytes.len() as u64,
        "size"
    );
    read_exactly(&outcome, "buf", bytes.len() as u64)
}

fn sums(backend: Backend, len: usize) -> Result<()> {
    let bytes = sample(len);
    let file = file_with(&bytes)?;
    let buf = format!("buf=@{}", at(&file));
    // zlib treats a null buffer and a length of zero differently; an empty file is neither.
    let outcome = Call::new(LIBRARY, CRC32, backend)
        .bind(["crc=0", &buf, "len=len(buf)"])
        .run()?;
    outcome.expect_code(0)?;
    returned(&outcome, crc32(&bytes))?;
    read_exactly(&outcome, "buf", len as u64)?;

    let outcome = Call::new(LIBRARY, ADLER32, backend)
        .bind(["adler=1", &buf, "len=len(buf)"])
        .run()?;
    outcome.expect_code(0)?;
    returned(&outcome, adler32(&bytes))?;
    read_exactly(&outcome, "buf", len as u64)
}

/// Told of 1000 bytes, it reads 1000 of 4096.
fn crc32_of_part(backend: Backend) -> Result<()> {
    let bytes = sample(4096);
    let file = file_with(&bytes)?;
    let buf = format!("buf=@{}", at(&file));
    let outcome = Call::new(LIBRARY, CRC32, backend)
        .bind(["crc=0", &buf, "len=1000"])
        .run()?;
    outcome.expect_code(0)?;
    returned(&outcome, crc32(&bytes[..1000]))?;
    read_exactly(&outcome, "buf", 1000)
}

/// A zlib compression of `source` into an uninitialised buffer: the output's bytes.
fn compress(backend: Backend, source: &[u8]) -> Result<Vec<u8>> {
    let file = file_with(source)?;
    let bound = source.len() + source.len() / 1000 + 64;
    let outcome = Call::new(LIBRARY, COMPRESS, backend)
        .bind([
            format!("dest=uninit:{bound}"),
            format!("destLen=u64:{bound}"),
            format!("source=@{}", at(&file)),
            "sourceLen=len(source)".into(),
        ])
        .within(Duration::from_secs(180))
        .run()?;
    outcome.expect_code(0)?;
    check!(
        outcome
            .report
            .ret
            .as_ref()
            .is_some_and(|ret| ret.text() == "0"),
        "not Z_OK"
    );
    read_exactly(&outcome, "source", source.len() as u64)?;
    let out = u64_at_0(&outcome, "destLen")?;
    let dest = outcome.allocation("dest")?;
    check!(out > 0 && out <= bound as u64, "destLen {out}");
    check!(
        dest.initialized == [(0, out)],
        "initialized {:?}, not [(0, {out})]",
        dest.initialized
    );
    check!(
        dest.written == [(0, out)],
        "written {:?}, not [(0, {out})]",
        dest.written
    );
    check!(
        out <= 4096,
        "choose a smaller sample: the report shows 4096 bytes, not {out}"
    );
    unhex(&dest.bytes[..out as usize * 2])
}

fn u64_at_0(outcome: &Outcome, name: &str) -> Result<u64> {
    let bytes = unhex(&outcome.allocation(name)?.bytes)?;
    Ok(u64::from_le_bytes(
        bytes.get(..8).context("eight bytes")?.try_into()?,
    ))
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).context("hexadecimal digits"))
        .collect()
}

/// What was compressed under the tracer is uncompressed under the tracer, and is the same.
fn round_trip(backend: Backend) -> Result<()> {
    let source = sample(3000);
    let packed = compress(backend, &source)?;
    let digits: String = packed.iter().map(|byte| format!("{byte:02x}")).collect();
    let outcome = Call::new(LIBRARY, UNCOMPRESS, backend)
        .bind([
            format!("dest=uninit:{}", source.len()),
            format!("destLen=u64:{}", source.len()),
            format!("source=hex:{digits}"),
            "sourceLen=len(source)".into(),
        ])
        .within(Duration::from_secs(180))
        .run()?;
    outcome.expect_code(0)?;
    check!(
        u64_at_0(&outcome, "destLen")? == source.len() as u64,
        "another length"
    );
    read_exactly(&outcome, "source", packed.len() as u64)?;
    let dest = outcome.allocation("dest")?;
    let whole = [(0, source.len() as u64)];
    check!(
        dest.initialized == whole,
        "initialized {:?}",
        dest.initialized
    );
    if unhex(&dest.bytes)? != source {
        bail!("what came back is not what went in");
    }
    Ok(())
}

/// Too small a buffer: zlib says so (Z_BUF_ERROR) and stays inside it.
fn no_room(backend: Backend) -> Result<()> {
    let file = file_with(&sample(2000))?;
    let outcome = Call::new(LIBRARY, COMPRESS, backend)
        .bind(["dest=uninit:20", "destLen=u64:20"].map(String::from))
        .bind([
            format!("source=@{}", at(&file)),
            "sourceLen=len(source)".into(),
        ])
        .within(Duration::from_secs(180))
        .run()?;
    outcome.expect_code(0)?;
    check!(
        outcome
            .report
            .ret
            .as_ref()
            .is_some_and(|ret| ret.text() == "-5"),
        "not Z_BUF_ERROR"
    );
    let dest = outcome.allocation("dest")?;
    check!(dest.written == [(0, 20)], "written {:?}", dest.written);
    Ok(())
}

/// A call without buffers.
fn version(backend: Backend) -> Result<()> {
    let outcome = Call::new(LIBRARY, "unsigned long zlibCompileFlags(void)", backend).run()?;
    outcome.expect_code(0)?;
    check!(
        outcome.report.allocations.is_empty(),
        "{:?}",
        outcome.report.allocations
    );
    check!(
        outcome.report.stats.events == 0,
        "{:?}",
        outcome.report.stats
    );
    Ok(())
}
