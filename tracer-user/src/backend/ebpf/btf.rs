//! Where a field of a kernel structure is, by the kernel's own account of its types (BTF).
//!
//! ```text
//!  header ─► types: one after the other, each as long as its kind says (kernel docs, bpf/btf.rst)
//!         └► strings: names, by offset
//! ```
//! Programs in C have such offsets filled in by their loader; those in Rust cannot say yet that they
//! want it, and the crate that loads them shows no members. So they are looked up here, and handed
//! over as a constant.

/// First bytes of the data, little endian.
const MAGIC: u16 = 0xeb9f;

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;

/// A type as its first twelve bytes have it, and the members that follow.
struct Type<'a> {
    name: u32,
    kind: u32,
    /// Bit fields are encoded in the members' offsets.
    has_bit_fields: bool,
    members: &'a [u8],
}

/// Offset in bytes of the field `member` of `struct structure` in the kernel's types `btf`, also
/// where it lies in structures without a name. `None` where there is no such field, or the data is
/// not BTF.
pub(super) fn member_offset(btf: &[u8], structure: &str, member: &str) -> Option<u64> {
    if u16::from_le_bytes(btf.get(..2)?.try_into().ok()?) != MAGIC {
        return None;
    }
    let header = word(btf, 4)? as usize;
    let part = |at: usize| {
        let start = header.checked_add(word(btf, at)? as usize)?;
        btf.get(start..start.checked_add(word(btf, at + 4)? as usize)?)
    };
    let (types, strings) = (parse(part(8)?)?, part(16)?);
    let named = |name: u32, wanted: &str| text(strings, name) == Some(wanted.as_bytes());
    types
        .iter()
        .filter(|found| found.kind == KIND_STRUCT && named(found.name, structure))
        .find_map(|found| find(&types, found, &|name| named(name, member), 0))
        .map(|bits| bits / 8)
}

/// Offset in bits of the member that `wanted` knows. `depth` bounds what broken data can do.
fn find(
    types: &[Type<'_>],
    within: &Type<'_>,
    wanted: &dyn Fn(u32) -> bool,
    depth: u32,
) -> Option<u64> {
    if depth > 8 {
        return None;
    }
    within.members.chunks_exact(12).find_map(|member| {
        let (name, id, offset) = (word(member, 0)?, word(member, 4)?, word(member, 8)?);
        let bits = u64::from(if within.has_bit_fields {
            offset & 0xff_ffff
        } else {
            offset
        });
        if wanted(name) {
            return Some(bits);
        }
        // Type 0 is void and not listed.
        let inner = types.get(id.checked_sub(1)? as usize)?;
        let nameless = name == 0 && matches!(inner.kind, KIND_STRUCT | KIND_UNION);
        let found = nameless
            .then(|| find(types, inner, wanted, depth + 1))
            .flatten()?;
        Some(bits + found)
    })
}

fn parse(mut rest: &[u8]) -> Option<Vec<Type<'_>>> {
    let mut types = Vec::new();
    while !rest.is_empty() {
        let (name, info) = (word(rest, 0)?, word(rest, 4)?);
        let (count, kind) = ((info & 0xffff) as usize, info >> 24 & 0x1f);
        // Bytes that follow the first twelve, by kind (kernel docs, bpf/btf.rst, 2.2).
        let more = match kind {
            1 | 14 | 17 => 4,
            3 => 12,
            KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * count,
            6 | 13 => 8 * count,
            2 | 7..=12 | 16 | 18 => 0,
            _ => return None,
        };
        types.push(Type {
            name,
            kind,
            has_bit_fields: info >> 31 != 0,
            members: rest.get(12..12 + more)?,
        });
        rest = rest.get(12 + more..)?;
    }
    Some(types)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

fn text(strings: &[u8], at: u32) -> Option<&[u8]> {
    strings.get(at as usize..)?.split(|byte| *byte == 0).next()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kernel() -> Option<Vec<u8>> {
        std::fs::read("/sys/kernel/btf/vmlinux").ok()
    }

    #[test]
    fn finds_fields_whose_place_the_abi_fixes() {
        let Some(btf) = kernel() else {
            return eprintln!("not tested: this kernel does not describe its types");
        };
        assert_eq!(member_offset(&btf, "pt_regs", "ip"), Some(128));
        assert_eq!(member_offset(&btf, "pt_regs", "orig_ax"), Some(120));
        assert_eq!(member_offset(&btf, "pt_regs", "nothing"), None);
        assert_eq!(member_offset(&btf, "no_such_struct", "ip"), None);
        let mm = member_offset(&btf, "task_struct", "mm").unwrap();
        assert!(mm.is_multiple_of(8) && mm < 16384, "{mm}");
    }

    /// `struct outer { int a; struct { int b; int c:3; }; }`
    #[test]
    fn looks_into_nameless_structures() {
        let strings = b"\0outer\0a\0b\0c\0";
        let words: &[u32] = &[
            // 1: int
            0,
            1 << 24,
            4,
            32,
            // 2: the nameless one, with bit fields
            0,
            1 << 31 | 4 << 24 | 2,
            8,
            9,
            1,
            0,
            11,
            1,
            3 << 24 | 32,
            // 3: outer
            1,
            4 << 24 | 2,
            12,
            7,
            1,
            0,
            0,
            2,
            32,
        ];
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let header = [
            u32::from(MAGIC) | 1 << 16,
            24,
            0,
            types.len() as u32,
            types.len() as u32,
            strings.len() as u32,
        ];
        let mut btf: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
        btf.extend(types);
        btf.extend(strings);
        assert_eq!(member_offset(&btf, "outer", "a"), Some(0));
        assert_eq!(member_offset(&btf, "outer", "b"), Some(4));
        assert_eq!(member_offset(&btf, "outer", "c"), Some(8));
    }

    proptest! {
        #[test]
        fn never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 24..256)) {
            bytes[..2].copy_from_slice(&MAGIC.to_le_bytes());
            bytes[4..8].copy_from_slice(&24u32.to_le_bytes());
            bytes[8..12].copy_from_slice(&0u32.to_le_bytes());
            let _ = member_offset(&bytes, "task_struct", "mm");
        }
    }
}
