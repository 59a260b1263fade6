//! libpng and libjpeg(-turbo): an image to memory, and the image back.

use anyhow::Result;
use ffitrace_tests::call::Backend;
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::Suite;

use crate::job::{Job, add_test, content, result, word};

const PNG: &str =
    "int png_pack(const uint8_t *pixels, unsigned w, unsigned h, uint8_t *out, uint64_t *len)";
const PNG_BACK: &str = "int png_unpack(const uint8_t *in, uint64_t len, uint8_t *pixels)";
const JPEG: &str =
    "int jpeg_pack(const uint8_t *pixels, unsigned w, unsigned h, uint8_t *out, uint64_t *len)";
const JPEG_BACK: &str = "int jpeg_unpack(const uint8_t *in, uint64_t len, uint8_t *pixels)";
/// Room for the output.
const ROOM: usize = 4000;

pub(crate) fn add(suite: &mut Suite) {
    for (w, h) in [(1, 1), (5, 3), (31, 30)] {
        add_test(suite, &format!("png::{w}x{h}"), move |backend| {
            let pixels = picture(w, h, 4);
            let back = there_and_back(backend, Lib::Png, (PNG, PNG_BACK), (w, h), &pixels)?;
            check!(back == pixels, "other pixels came back");
            Ok(())
        });
    }
    for (w, h) in [(1, 1), (17, 9), (40, 32)] {
        add_test(suite, &format!("jpeg::{w}x{h}"), move |backend| {
            let pixels = picture(w, h, 3);
            let back = there_and_back(backend, Lib::Jpeg, (JPEG, JPEG_BACK), (w, h), &pixels)?;
            // It is lossy; what comes back was compared with the untraced call.
            check!(back.len() == pixels.len(), "another size came back");
            Ok(())
        });
    }
}

/// A picture with few colours next to each other.
fn picture(w: usize, h: usize, depth: usize) -> Vec<u8> {
    let byte = |i: usize| (i / depth % w * 5 + i / depth / w * 3 + i % depth * 60) as u8;
    (0..w * h * depth).map(byte).collect()
}

/// Bytes at the end of a PNG file that say no more than that it ends (the chunk IEND); the reader
/// has all that it needs before.
const PNG_END: usize = 12;

fn there_and_back(
    backend: Backend,
    lib: Lib,
    (pack, unpack): (&'static str, &'static str),
    (w, h): (usize, usize),
    pixels: &[u8],
) -> Result<Vec<u8>> {
    let packed = Job::new(lib, pack)
        .read_whole("pixels", pixels)
        .input("w", w)
        .input("h", h)
        .output("out", ROOM)
        .input("len", format!("u64:{ROOM}"))
        .run(backend)?;
    check!(result(&packed).as_deref() == Some("1"), "it failed");
    let len = word(&packed, "len")?;
    let out = packed.allocation("out")?;
    check!(
        out.initialized == [(0, len as u64)],
        "the image has {len} bytes, but {:?} are initialised",
        out.initialized
    );
    let image = content(&packed, "out")?;
    let end = if lib == Lib::Png { len - PNG_END } else { len };
    let back = Job::new(lib, unpack)
        .read_part("in", &image[..len], &[(0, end as u64)])
        .input("len", len)
        .output("pixels", pixels.len())
        .run(backend)?;
    check!(result(&back).as_deref() == Some("1"), "it failed");
    content(&back, "pixels")
}
