//! From a return address to the call before it.

use std::collections::HashMap;

use tracer_user::resume::safe::{self, Safe};

/// Calls by where they return to; there are few, however often they are made.
#[derive(Debug, Default)]
pub(super) struct CallSites(HashMap<u64, u64>);

impl CallSites {
    /// See [`before`].
    pub(super) fn call_before(&mut self, site: u64) -> u64 {
        *self.0.entry(site).or_insert_with(|| before(site))
    }
}

/// Address of the call instruction that returns to `site`, or of the byte before `site` where
/// none of the usual forms ends there.
fn before(site: u64) -> u64 {
    const LONGEST: usize = 7;
    let mut code = [0; LONGEST];
    let safe = Safe::promise();
    let start = site.wrapping_sub(LONGEST as u64);
    let read = safe::read_memory(safe, safe::process_id(safe), start, &mut code);
    if read < LONGEST {
        return site.wrapping_sub(1);
    }
    let from_end = |count: usize| &code[LONGEST - count..];
    let register = |modrm: u8| modrm & 0xf8 == 0xd0;
    let len = if from_end(5)[0] == 0xe8 {
        5
    } else if from_end(6)[..2] == [0xff, 0x15] {
        6
    } else if from_end(3)[..2] == [0x41, 0xff] && register(from_end(1)[0]) {
        3
    } else if from_end(2)[0] == 0xff && register(from_end(1)[0]) {
        2
    } else if from_end(3)[0] == 0xff && from_end(2)[0] & 0xf8 == 0x50 {
        // `call [register + displacement of 8 bits]`.
        3
    } else {
        1
    };
    site.wrapping_sub(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_calls() {
        let forms: [(&[u8], u64); 6] = [
            (&[0xe8, 1, 2, 3, 4], 5),
            (&[0xff, 0x15, 1, 2, 3, 4], 6),
            (&[0xff, 0xd0], 2),
            (&[0x41, 0xff, 0xd4], 3),
            (&[0xff, 0x53, 0x18], 3),
            (&[0x90], 1),
        ];
        for (form, len) in forms {
            let code: Vec<u8> = [0x90; 16].iter().chain(form).copied().collect();
            let site = code.as_ptr_range().end as u64;
            assert_eq!(before(site), site - len, "{form:x?}");
        }
        assert_eq!(before(0x10), 0xf);
    }
}
