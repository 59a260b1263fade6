//! What the decoder has to know of the processor that it runs on: its maker, and which state
//! components the system has enabled.
//!
//! # Safety
//! `xgetbv` is executed only where CPUID says that the system has enabled it.
#![allow(unsafe_code)]

use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::LazyLock;

use iced_x86::DecoderOptions;

/// State components that an xsave area can hold (XCR0 has 63 bits for them).
const COMPONENTS: usize = 63;
/// The component of the protection keys: a register of 4 bytes, in a place of 8.
const PKRU: usize = 9;

/// Makers whose processors read some bytes differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// Intel, and Zhaoxin, which follows it.
    Intel,
    /// AMD, and Hygon, which follows it.
    Amd,
    /// Any other.
    Other,
}

impl Maker {
    /// The maker of this processor.
    pub(super) fn of_this_machine() -> Maker {
        static MAKER: LazyLock<Maker> = LazyLock::new(|| {
            let leaf = __cpuid(0);
            let name: Vec<u8> = [leaf.ebx, leaf.edx, leaf.ecx]
                .iter()
                .flat_map(|part| part.to_le_bytes())
                .collect();
            match name.as_slice() {
                b"GenuineIntel" | b"  Shanghai  " | b"CentaurHauls" => Maker::Intel,
                b"AuthenticAMD" | b"HygonGenuine" => Maker::Amd,
                _ => Maker::Other,
            }
        });
        *MAKER
    }
}

/// How iced has to read bytes to read them as this processor does; `None` if the maker is not
/// known, so that only what all makers agree on may be taken.
pub(crate) fn options() -> Option<u32> {
    match Maker::of_this_machine() {
        Maker::Intel => Some(DecoderOptions::NONE),
        Maker::Amd => Some(DecoderOptions::AMD),
        Maker::Other => None,
    }
}

/// Where a state component lies in an xsave area (CPUID leaf 0xD, Intel SDM volume 1, 13.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Component {
    /// Offset in the standard format, in bytes.
    pub(super) offset: u64,
    /// Bytes that are used, 0 where the processor does not have the component.
    pub(super) size: u64,
    /// Whether the compacted format aligns it to 64 bytes.
    pub(super) aligned: bool,
}

/// The state components of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StateLayout {
    /// Components that the system has enabled: XCR0.
    pub(super) enabled: u64,
    /// By number; x87 and SSE (0 and 1) are in the legacy region and have no entry here.
    pub(super) components: [Component; COMPONENTS],
}

impl StateLayout {
    /// That of this machine, which does not change while it runs.
    pub(super) fn of_this_machine() -> &'static StateLayout {
        static LAYOUT: LazyLock<StateLayout> = LazyLock::new(|| {
            let enabled = xcr0();
            let mut components = [Component::default(); COMPONENTS];
            for (number, component) in components.iter_mut().enumerate().skip(2) {
                if enabled >> number & 1 == 1 {
                    let leaf = __cpuid_count(0xd, number as u32);
                    *component = Component {
                        offset: u64::from(leaf.ebx),
                        size: match number {
                            PKRU => 4,
                            _ => u64::from(leaf.eax),
                        },
                        aligned: leaf.ecx & 2 != 0,
                    };
                }
            }
            StateLayout {
                enabled,
                components,
            }
        });
        &LAYOUT
    }
}

/// XCR0, or 0 where the system has not enabled xsave.
fn xcr0() -> u64 {
    const OSXSAVE: u32 = 1 << 27;
    #[target_feature(enable = "xsave")]
    fn read() -> u64 {
        // SAFETY: the caller has asked CPUID; XCR0 exists wherever xgetbv does.
        unsafe { _xgetbv(0) }
    }
    if __cpuid(1).ecx & OSXSAVE == 0 {
        return 0;
    }
    // SAFETY: CPUID says that the system has enabled the instruction.
    unsafe { read() }
}
