//! The words of arithmetic types: `unsigned long int`, `long double`.

use super::error::PrototypeError;
use crate::ctype::CType;

/// How often each word of an arithmetic type occurred (C11 6.7.2).
#[derive(Default, PartialEq)]
pub(super) struct Words {
    pub(super) char: u8,
    pub(super) short: u8,
    pub(super) int: u8,
    pub(super) long: u8,
    pub(super) float: u8,
    pub(super) double: u8,
    pub(super) signed: u8,
    pub(super) unsigned: u8,
    pub(super) complex: u8,
}

impl Words {
    pub(super) fn resolve(&self, spelling: &str) -> Result<CType, PrototypeError> {
        let invalid = || PrototypeError::Invalid {
            what: format!("`{spelling}` is no type of C"),
        };
        let signs = self.signed + self.unsigned;
        let signed = self.unsigned == 0;
        let integer = signs <= 1 && self.int <= 1 && self.float + self.double + self.complex == 0;
        match self {
            Words { complex: 1.., .. } => match (self.float, self.double, self.long) {
                (1, 0, 0) => Ok(CType::ComplexFloat),
                // GCC takes `_Complex` alone for `double _Complex`.
                (0, 0 | 1, 0) if signs + self.int + self.char + self.short == 0 => {
                    Ok(CType::ComplexDouble)
                }
                _ => Ok(CType::Opaque {
                    name: spelling.to_owned(),
                    reason: "complex long doubles are not supported".to_owned(),
                }),
            },
            Words {
                float: 1,
                double: 0,
                char: 0,
                short: 0,
                int: 0,
                long: 0,
                ..
            } if signs == 0 => Ok(CType::Float),
            Words {
                double: 1,
                float: 0,
                char: 0,
                short: 0,
                int: 0,
                ..
            } if signs == 0 => match self.long {
                0 => Ok(CType::Double),
                1 => Ok(CType::LongDouble),
                _ => Err(invalid()),
            },
            Words {
                char: 1,
                short: 0,
                int: 0,
                long: 0,
                ..
            } if integer => match signs {
                0 => Ok(CType::Char),
                _ => Ok(CType::int(1, signed)),
            },
            Words {
                char: 0,
                short: 1,
                long: 0,
                ..
            } if integer => Ok(CType::int(2, signed)),
            Words {
                char: 0,
                short: 0,
                long: 1 | 2,
                ..
            } if integer => Ok(CType::int(8, signed)),
            Words {
                char: 0,
                short: 0,
                long: 0,
                ..
            } if integer && self.int + signs > 0 => Ok(CType::int(4, signed)),
            Words {
                char: 0,
                short: 0,
                long: 0,
                int: 0,
                ..
            } if integer => {
                let what = "a declaration without a type".to_owned();
                Err(PrototypeError::Invalid { what })
            }
            _ => Err(invalid()),
        }
    }
}
