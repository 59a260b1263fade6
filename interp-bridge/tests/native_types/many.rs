//! Sixty-four arguments of all types, most of them on the stack.

use std::fmt::Write;

use interp_bridge::ctype::CType;
use interp_bridge::ffi::{Signature, Value, marshal};

use super::fixture::{build, call};
use super::random::{self, Bytes};

#[test]
fn sixty_four_arguments() {
    for seed in 0..8u64 {
        let all = random::scalars();
        let types: Vec<_> = (0..64u64)
            .map(|i| all[((i * 7 + seed * 5 + i * i * seed) % all.len() as u64) as usize].clone())
            .collect();
        let mut params = Vec::new();
        let mut body = String::new();
        let mut random = Bytes(seed);
        let (mut values, mut expected) = (Vec::new(), Vec::new());
        for (i, (name, ty)) in types.iter().enumerate() {
            params.push(format!("{name} a{i}"));
            let _ = write!(body, "memcpy(out + {i} * 16, &a{i}, sizeof a{i}); ");
            let size = ty.by_value().expect("a size").size as usize;
            let mut bytes = vec![0; size];
            random.fill(&mut bytes);
            random::make_valid(ty, &mut bytes);
            values.push(marshal::decode(ty, &bytes).expect("a value"));
            let mut mask = vec![false; 16];
            random::mark(ty, 0, &mut mask);
            bytes.resize(16, 0);
            let kept = bytes
                .iter()
                .zip(&mask)
                .map(|(b, m)| if *m { *b } else { 0 });
            expected.extend(kept);
        }
        let source = format!(
            "{}static unsigned char out[64 * 16];
             int many({}) {{ memset(out, 0, sizeof out); {body} return 64; }}
             unsigned char *taken(void) {{ return out; }}
             unsigned char at(int i) {{ return out[i]; }}",
            random::PRELUDE,
            params.join(", ")
        );
        let library = build(&source);
        let signature = Signature::new(types.iter().map(|t| t.1.clone()), CType::i32());
        let found = call(&library, "many", signature, &values);
        assert_eq!(found, Ok(Value::from(64)));
        for (i, byte) in expected.iter().enumerate() {
            // The six bytes of padding in a long double are whatever they are.
            if types[i / 16].1 == CType::LongDouble && i % 16 >= 10 {
                continue;
            }
            let at = Signature::new([CType::i32()], CType::u8());
            let found = call(&library, "at", at, &[Value::from(i)]);
            let name = types[i / 16].0;
            assert_eq!(
                found,
                Ok(Value::from(*byte)),
                "argument {} ({name})",
                i / 16
            );
        }
    }
}
