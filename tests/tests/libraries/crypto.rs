//! libcrypto: SHA-256 and AES, by its EVP interface and by the low-level one.

use anyhow::Result;
use ffitrace_tests::call::Backend;
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::Suite;

use crate::job::{Job, add_test, binding, content, number, result, text};

const EVP_AES: &str = "int evp_aes(int mode, int encrypt, const uint8_t *key, const uint8_t *iv, \
     const uint8_t *in, int n, uint8_t *out, uint8_t *tag)";
const LOW_AES: &str = "int low_aes(struct schedule *schedule, const uint8_t *key, uint8_t *iv, \
     const uint8_t *in, size_t n, uint8_t *out, int encrypt)";

/// Modes of `evp_aes`: name, bytes of the key, bytes read of the initial vector, and whether the
/// output is filled up to a whole block and one more.
const MODES: [(&str, usize, u64, bool); 4] = [
    ("cbc", 16, 16, true),
    ("ctr", 16, 16, false),
    ("ecb", 32, 0, true),
    ("gcm", 16, 12, false),
];

pub(crate) fn add(suite: &mut Suite) {
    for len in [0, 3, 55, 56, 64, 1000, 3000] {
        add_test(suite, &format!("sha256::evp_of_{len}"), move |backend| {
            let prototype = "int evp_sha256(const uint8_t *in, size_t n, uint8_t *out)";
            let done = sha256(backend, prototype, None, len)?;
            check!(number(&done)? == 32, "not 32 bytes");
            Ok(())
        });
        if len > 0 {
            add_test(suite, &format!("sha256::pieces_of_{len}"), move |backend| {
                let prototype =
                    "int sha256_pieces(const uint8_t *in, size_t n, size_t piece, uint8_t *out)";
                sha256(backend, prototype, Some(37), len).map(drop)
            });
        }
    }
    add_test(suite, "sha256::known_answer", known_answer);
    for (mode, (name, ..)) in MODES.iter().enumerate() {
        for len in [1, 16, 100, 1000, 3000] {
            let name = format!("aes::{name}_of_{len}");
            add_test(suite, &name, move |backend| evp_aes(backend, mode, len));
        }
    }
    for len in [16, 160, 1600] {
        add_test(suite, &format!("aes::low_level_of_{len}"), move |backend| {
            low_aes(backend, len)
        });
    }
}

fn sha256(
    backend: Backend,
    prototype: &'static str,
    piece: Option<usize>,
    len: usize,
) -> Result<ffitrace_tests::call::Outcome> {
    let source = text(len);
    let ranges: &[(u64, u64)] = if len == 0 { &[] } else { &[(0, len as u64)] };
    let mut job = Job::new(Lib::Crypto, prototype)
        .read_part("in", &source, ranges)
        .input("n", len)
        .output("out", 32);
    if let Some(piece) = piece {
        job = job.input("piece", piece);
    }
    job.run(backend)
}

/// FIPS 180-2, appendix B.1, by the library's own function.
fn known_answer(backend: Backend) -> Result<()> {
    let prototype =
        "uint8_t *SHA256(const unsigned char *data, size_t count, unsigned char *md_buf)";
    let outcome = ffitrace_tests::call::Call::new("libcrypto.so.3", prototype, backend)
        .bind(["data=bytes:abc", "count=3", "md_buf=uninit:32"])
        .run()?;
    outcome.expect_code(0)?;
    let md = outcome.allocation("md_buf")?;
    check!(
        md.bytes == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "{}",
        md.bytes
    );
    check!(md.initialized == [(0, 32)], "{:?}", md.initialized);
    check!(outcome.allocation("data")?.read == [(0, 3)], "not all read");
    Ok(())
}

fn evp_aes(backend: Backend, mode: usize, len: usize) -> Result<()> {
    let (name, key, iv, fills_up) = MODES[mode];
    let (source, key) = (text(len), &text(32)[..key]);
    let iv_read: &[(u64, u64)] = if iv == 0 { &[] } else { &[(0, iv)] };
    let job = |encrypt: bool, input: &[u8], room: usize| {
        Job::new(Lib::Crypto, EVP_AES)
            .input("mode", mode)
            .input("encrypt", u8::from(encrypt))
            .read_whole("key", key)
            .read_part("iv", &text(16), iv_read)
            .read_whole("in", input)
            .input("n", input.len())
            .output("out", room)
    };
    let size = if fills_up { len / 16 * 16 + 16 } else { len };
    let there = job(true, &source, size).output("tag", 16).run(backend)?;
    check!(number(&there)? == size, "{name}: another size");
    let out = there.allocation("out")?;
    check!(
        out.initialized == [(0, size as u64)],
        "{:?}",
        out.initialized
    );
    let tag = content(&there, "tag")?;
    let back = job(false, &content(&there, "out")?, size)
        .input("tag", binding(&tag))
        .run(backend)?;
    check!(number(&back)? == len, "{name}: another length came back");
    let came = content(&back, "out")?;
    check!(came[..len] == source, "{name}: something else came back");
    Ok(())
}

/// The expanded key lies in a buffer: 11 round keys of 16 bytes, and their number.
fn low_aes(backend: Backend, len: usize) -> Result<()> {
    let source = text(len);
    let (key, iv) = (&text(64)[..16], &text(64)[48..]);
    let job = |encrypt: u8, input: &[u8]| {
        Job::new(Lib::Crypto, LOW_AES)
            .declare("struct schedule { unsigned keys[60]; int rounds; };")
            .output("schedule", 244)
            .read_whole("key", key)
            .input("iv", format!("mut:{}", binding(iv)))
            .read_whole("in", input)
            .input("n", input.len())
            .output("out", len)
            .input("encrypt", encrypt)
    };
    let there = job(1, &source).run(backend)?;
    check!(result(&there).as_deref() == Some("0"), "it failed");
    let schedule = there.allocation("schedule")?;
    check!(
        schedule.initialized == [(0, 176), (240, 244)],
        "{:?}",
        schedule.initialized
    );
    let back = job(0, &content(&there, "out")?).run(backend)?;
    check!(content(&back, "out")? == source, "something else came back");
    Ok(())
}
