//! Vector, mask and MMX registers as an xsave area in the standard format holds them: in a signal
//! frame, and in what ptrace says of a stopped thread (Intel SDM volume 1, 13.4).

use std::arch::x86_64::__cpuid_count;

/// Offset of `XSTATE_BV`, directly behind the fxsave area.
const XSTATE_BV: usize = 512;
/// Bits of `XSTATE_BV`, and CPUID leaf 0xD sub-leaves.
const SSE: u32 = 1;
const AVX: u32 = 2;
const OPMASK: u32 = 5;
const ZMM_UPPER: u32 = 6;
const ZMM_HIGH: u32 = 7;
const TILES: u32 = 17;

/// Offsets of components, 0 where the processor does not have one. Constant for the life of the
/// machine; ask once.
#[derive(Clone, Copy, Debug)]
pub struct Offsets {
    ymm_upper: usize,
    masks: usize,
    zmm_upper: usize,
    zmm_high: usize,
    tiles: usize,
}

impl Offsets {
    /// Those of this machine.
    pub fn of_this_machine() -> Offsets {
        let offset = |component| {
            let leaf = __cpuid_count(0xd, component);
            if leaf.eax == 0 { 0 } else { leaf.ebx as usize }
        };
        Offsets {
            ymm_upper: offset(AVX),
            masks: offset(OPMASK),
            zmm_upper: offset(ZMM_UPPER),
            zmm_high: offset(ZMM_HIGH),
            tiles: offset(TILES),
        }
    }
}

/// An xsave area, or an fxsave area only. What it does not hold reads as 0, which is what
/// registers in their initial state hold.
#[derive(Clone, Copy, Debug)]
pub struct XState<'a> {
    area: &'a [u8],
    offsets: Offsets,
}

impl<'a> XState<'a> {
    /// The registers in `area`.
    pub fn new(area: &'a [u8], offsets: Offsets) -> XState<'a> {
        XState { area, offsets }
    }

    fn has(&self, component: u32) -> bool {
        match self.area.get(XSTATE_BV..XSTATE_BV + 8) {
            Some(bits) => bits[component as usize / 8] >> (component % 8) & 1 == 1,
            None => component == SSE,
        }
    }

    /// Copies from `at` of `component` to `to`, if it is there.
    fn copy(&self, component: u32, at: usize, to: &mut [u8]) {
        if let (true, Some(from)) = (self.has(component), self.area.get(at..at + to.len())) {
            to.copy_from_slice(from);
        }
    }

    /// Mask registers k0–k7.
    pub fn masks(&self) -> [u64; 8] {
        let mut bytes = [[0; 8]; 8];
        if self.offsets.masks != 0 {
            self.copy(OPMASK, self.offsets.masks, bytes.as_flattened_mut());
        }
        bytes.map(u64::from_le_bytes)
    }

    /// Vector register `number`, 0 to 31.
    pub fn vector(&self, number: usize) -> [u8; 64] {
        let Offsets {
            ymm_upper,
            zmm_upper,
            zmm_high,
            ..
        } = self.offsets;
        let mut vector = [0; 64];
        if number < 16 {
            self.copy(SSE, 160 + 16 * number, &mut vector[..16]);
            if ymm_upper != 0 {
                self.copy(AVX, ymm_upper + 16 * number, &mut vector[16..32]);
            }
            if zmm_upper != 0 {
                self.copy(ZMM_UPPER, zmm_upper + 32 * number, &mut vector[32..]);
            }
        } else if zmm_high != 0 && number < 32 {
            self.copy(ZMM_HIGH, zmm_high + 64 * (number - 16), &mut vector);
        }
        vector
    }

    /// MMX register `number`, 0 to 7, in the first 8 bytes. The area holds the x87 registers from
    /// the top of their stack on.
    pub fn mmx(&self, number: usize) -> [u8; 64] {
        let top = self.area.get(3).map_or(0, |status| status >> 3 & 7);
        let place = number.wrapping_sub(usize::from(top)) & 7;
        let mut register = [0; 64];
        if let Some(from) = self.area.get(32 + 16 * place..40 + 16 * place) {
            register[..8].copy_from_slice(from);
        }
        register
    }

    /// The configuration of the tile registers.
    pub fn tiles(&self) -> [u8; 64] {
        let mut config = [0; 64];
        if self.offsets.tiles != 0 {
            self.copy(TILES, self.offsets.tiles, &mut config);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_registers() {
        let offsets = Offsets {
            ymm_upper: 576,
            masks: 832,
            zmm_upper: 896,
            zmm_high: 1408,
            tiles: 0,
        };
        let mut area: Vec<u8> = (0..2432).map(|i| (i / 16) as u8).collect();
        area[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&0xe7u64.to_le_bytes());
        area[3] = 3 << 3;
        let state = XState::new(&area, offsets);
        let expected = |parts: [usize; 4]| -> Vec<u8> {
            let part = |at: usize| [(at / 16) as u8; 16];
            parts.iter().flat_map(|at| part(*at)).collect()
        };
        assert_eq!(state.vector(5).to_vec(), expected([240, 656, 1056, 1072]));
        assert_eq!(
            state.vector(17).to_vec(),
            expected([1472, 1488, 1504, 1520])
        );
        assert_eq!(state.masks()[2], u64::from_le_bytes([53; 8]));
        // mm3 is at the top of the stack, mm2 below it.
        assert_eq!(state.mmx(3)[..8], [2; 8]);
        assert_eq!(state.mmx(2)[..9], [9, 9, 9, 9, 9, 9, 9, 9, 0]);
        // Only what `XSTATE_BV` names is there.
        area[XSTATE_BV] = 2;
        let state = XState::new(&area, offsets);
        assert_eq!(
            state.vector(5)[..17],
            [15; 17].map(|byte| byte)[..16]
                .iter()
                .copied()
                .chain([0])
                .collect::<Vec<u8>>()
        );
        assert_eq!(state.vector(17), [0; 64]);
        assert_eq!(state.masks(), [0; 8]);
        // An fxsave area alone.
        let state = XState::new(&area[..512], offsets);
        assert_eq!(state.vector(1)[..16], [11; 16]);
        assert_eq!(state.masks(), [0; 8]);
    }
}
