//! Sizes, and the buffers that a sweep works on.

use std::io::Write;

use anyhow::Result;
use ffitrace_tests::call::{Backend, Call};
use ffitrace_tests::fixture::Lib;

use crate::functions::{Function, Unit};

/// The largest size.
pub(crate) const MOST: usize = 8192;

/// Length of a buffer that begins an arena and ends with a page: it lies behind a red zone of an
/// eighth of its size, a multiple of 16.
pub(crate) const TO_THE_PAGE: usize = 10_912;

/// Which sizes are run through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// Each from 0 to [`MOST`].
    All,
    /// Each small one, and large ones that the number tells from those of other functions.
    Spread(usize),
    /// A few.
    Few,
}

impl Sizes {
    /// The sizes in bytes for a function of this unit.
    pub(crate) fn list(self, unit: Unit) -> Vec<usize> {
        const SMALL: usize = 100;
        const STRIDE: usize = 257;
        let (step, least) = match unit {
            Unit::Bytes => (1, 0),
            Unit::Chars => (1, 1),
            Unit::Words => (4, 0),
            Unit::Wide => (4, 4),
        };
        let sizes: Vec<usize> = match self {
            Sizes::All => (0..=MOST).collect(),
            Sizes::Spread(phase) => (0..=SMALL)
                .chain((SMALL + 1 + phase * 5 % STRIDE..=MOST).step_by(STRIDE))
                .map(|n| n / step * step)
                .collect(),
            Sizes::Few => (0..=40).chain([63, 64, 65, 128, 257, 1000]).collect(),
        };
        let mut sizes: Vec<usize> = sizes
            .into_iter()
            .filter(|n| *n >= least && n.is_multiple_of(step))
            .collect();
        sizes.dedup();
        sizes
    }
}

/// Text that ends in a NUL, of characters of one byte or four.
pub(crate) fn text(len: usize, unit: Unit) -> Vec<u8> {
    let mut bytes = match unit {
        Unit::Bytes | Unit::Chars => vec![b'x'; len],
        Unit::Words | Unit::Wide => b"x\0\0\0".repeat(len / 4),
    };
    let zeros = if matches!(unit, Unit::Bytes | Unit::Chars) {
        1
    } else {
        4
    };
    bytes[len - zeros..].fill(0);
    bytes
}

/// A call of `sweep_<name>`, and the file that its buffers come from.
pub(crate) fn call(
    backend: Backend,
    lib: Lib,
    name: &str,
    compares: bool,
    source: &[u8],
    sizes: &[usize],
    calls_each: usize,
) -> Result<(Call, tempfile::NamedTempFile)> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(source)?;
    file.flush()?;
    let list: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    let content = format!("@{}", file.path().display());
    let dst = match compares {
        true => content.clone(),
        false => format!("uninit:{}", source.len()),
    };
    let prototype = format!(
        "uint64_t sweep_{name}(char *src, char *dst, unsigned char *mark, size_t len, \
         const uint32_t *sizes, size_t count)"
    );
    let call = Call::new(lib.built()?, &prototype, backend).bind([
        format!("src={content}"),
        format!("dst={dst}"),
        format!("mark=uninit:{}", sizes.len() * calls_each),
        "len=len(src)".into(),
        format!("sizes=u32:{}", list.join(",")),
        format!("count={}", sizes.len()),
    ]);
    Ok((call, file))
}

/// [`call`] for one function.
pub(crate) fn call_one(
    backend: Backend,
    lib: Lib,
    function: &Function,
    source: &[u8],
    sizes: &[usize],
) -> Result<(Call, tempfile::NamedTempFile)> {
    call(
        backend,
        lib,
        function.name,
        function.compares(),
        source,
        sizes,
        1,
    )
}
