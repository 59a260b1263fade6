//! Arithmetic and comparison of cdata.
//!
//! ```text
//!  numbers, at least one of them a cdata   64-bit integers, unsigned if one of them is
//!  pointer and number, two pointers        by elements
//!  everything else                         the script's metamethods, or an error
//! ```

use std::rc::Rc;

use mlua::Value;

use super::{
    cdata::{Boxed, Kind},
    failure::{Done, fail},
    index::Answer,
    number::{cut, widened},
    scalar::{Given, Scalar},
    session::Session,
    types::{Shape, Type, TypeId},
};
use crate::memory::Pointer;

/// What a metamethod does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Unm,
    Eq,
    Lt,
    Le,
    Len,
    Concat,
}

impl Op {
    pub(super) const ALL: [(&'static str, Op); 12] = [
        ("__add", Op::Add),
        ("__sub", Op::Sub),
        ("__mul", Op::Mul),
        ("__div", Op::Div),
        ("__mod", Op::Mod),
        ("__pow", Op::Pow),
        ("__unm", Op::Unm),
        ("__eq", Op::Eq),
        ("__lt", Op::Lt),
        ("__le", Op::Le),
        ("__len", Op::Len),
        ("__concat", Op::Concat),
    ];

    fn name(self) -> &'static str {
        let found = Op::ALL.iter().find(|(_, op)| *op == self);
        found.map_or("", |(name, _)| name)
    }
}

/// An operand, as far as there are operations for it.
enum Operand {
    /// A number: its bits, and whether it makes the operation unsigned.
    Number {
        bits: u64,
        unsigned: bool,
    },
    /// A pointer to elements of a type.
    Pointer {
        at: Pointer,
        to: TypeId,
    },
    Other,
}

impl Session {
    /// `a op b`.
    pub(super) fn operate(&self, op: Op, a: &Value, b: &Value) -> Done<Answer> {
        let (one, other) = (self.given(a)?, self.given(b)?);
        if !matches!(op, Op::Len | Op::Concat) {
            let operands = (
                self.operand(&one, &other)?,
                match op {
                    Op::Unm => Operand::Number {
                        bits: 0,
                        unsigned: false,
                    },
                    _ => self.operand(&other, &one)?,
                },
            );
            let done = match operands {
                (
                    Operand::Number { bits: a, unsigned },
                    Operand::Number {
                        bits: b,
                        unsigned: also,
                    },
                ) => Some(self.integers(op, a, b, unsigned || also)?),
                (
                    Operand::Pointer { at, to },
                    Operand::Pointer {
                        at: second,
                        to: also,
                    },
                ) => self.pointers(op, (at, to), (second, also))?,
                (Operand::Pointer { at, to }, Operand::Number { bits, .. }) => match op {
                    Op::Add => self.moved(at, to, bits as i64)?,
                    Op::Sub => self.moved(at, to, (bits as i64).wrapping_neg())?,
                    _ => None,
                },
                (Operand::Number { bits, .. }, Operand::Pointer { at, to }) if op == Op::Add => {
                    self.moved(at, to, bits as i64)?
                }
                _ => None,
            };
            if let Some(done) = done {
                return Ok(Answer::Value(done));
            }
        }
        for given in [&one, &other] {
            if let Some(ty) = self.type_with_methods(given)?
                && let Some(handler) = self.metamethod(&ty, op.name())
            {
                return Ok(Answer::Meta(handler));
            }
        }
        if op == Op::Eq {
            let equal = match (&one, &other) {
                (Given::Type, Given::Type) => {
                    let types = (self.boxed(a), self.boxed(b));
                    matches!(types, (Some(a), Some(b)) if self.same_types(a.ty, b.ty)?)
                }
                _ => matches!((address(&one), address(&other)), (Some(a), Some(b)) if a == b),
            };
            return Ok(Answer::Value(Value::Boolean(equal)));
        }
        let (a, b) = (self.name_given(&one), self.name_given(&other));
        match op {
            Op::Lt | Op::Le => fail(format!("attempt to compare '{a}' with '{b}'")),
            Op::Len => fail(format!("attempt to get length of '{a}'")),
            Op::Concat => fail(format!("attempt to concatenate '{a}' and '{b}'")),
            Op::Unm => fail(format!("attempt to perform arithmetic on '{a}'")),
            _ => fail(format!("attempt to perform arithmetic on '{a}' and '{b}'")),
        }
    }

    fn same_types(&self, a: TypeId, b: TypeId) -> Done<bool> {
        Ok(self
            .types()
            .same(&*self.types().get(a)?, &*self.types().get(b)?))
    }

    /// The type whose metamethods a value has: of a pointer, those of what it points to.
    pub(super) fn type_with_methods(&self, given: &Given) -> Done<Option<Rc<Type>>> {
        Ok(match given {
            Given::Scalar(ty, Scalar::Pointer(_)) => match ty.shape {
                Shape::Pointer { to } => Some(self.types().get(to)?),
                _ => None,
            },
            Given::Scalar(ty, _) | Given::Aggregate(ty, _) | Given::Code(ty, _) => Some(ty.clone()),
            _ => None,
        })
    }

    fn operand(&self, given: &Given, other: &Given) -> Done<Operand> {
        let wide = self.size_type(true);
        let int = |scalar| match cut(scalar, wide) {
            Scalar::Int(bits) => bits,
            _ => 0,
        };
        Ok(match given {
            Given::Nil => Operand::Pointer {
                at: Pointer::from_number(0),
                to: self.void_type(),
            },
            Given::Number(number) => Operand::Number {
                bits: int(Scalar::Float(*number)),
                unsigned: false,
            },
            Given::Text(name) => {
                // The name of a constant, beside a value of its enumeration.
                let Given::Scalar(ty, _) = other else {
                    return Ok(Operand::Other);
                };
                let Shape::Enum(shape) = &ty.shape else {
                    return Ok(Operand::Other);
                };
                match shape.value(&name.to_string_lossy()) {
                    Some(value) => Operand::Number {
                        bits: value as u64,
                        unsigned: false,
                    },
                    None => Operand::Other,
                }
            }
            Given::Scalar(ty, Scalar::Pointer(at)) => match ty.shape {
                Shape::Pointer { to } => Operand::Pointer { at: *at, to },
                _ => Operand::Other,
            },
            Given::Scalar(_, Scalar::Complex(..)) => Operand::Other,
            Given::Scalar(ty, scalar) => Operand::Number {
                bits: int(widened(ty, *scalar)),
                unsigned: ty.is_wide() && matches!(ty.shape, Shape::Int { signed: false }),
            },
            Given::Aggregate(ty, at) => match ty.shape {
                Shape::Array { of, .. } => Operand::Pointer { at: *at, to: of },
                _ => Operand::Other,
            },
            Given::Code(ty, at) => Operand::Pointer { at: *at, to: ty.id },
            _ => Operand::Other,
        })
    }

    fn integers(&self, op: Op, a: u64, b: u64, unsigned: bool) -> Done<Value> {
        let (x, y) = (a as i64, b as i64);
        let bits = match op {
            Op::Eq => return Ok(Value::Boolean(a == b)),
            Op::Lt if unsigned => return Ok(Value::Boolean(a < b)),
            Op::Lt => return Ok(Value::Boolean(x < y)),
            Op::Le if unsigned => return Ok(Value::Boolean(a <= b)),
            Op::Le => return Ok(Value::Boolean(x <= y)),
            Op::Add => a.wrapping_add(b),
            Op::Sub => a.wrapping_sub(b),
            Op::Mul => a.wrapping_mul(b),
            Op::Unm => a.wrapping_neg(),
            // What LuaJIT has for a division by zero.
            Op::Div | Op::Mod if b == 0 => 1 << 63,
            Op::Div if unsigned => a / b,
            Op::Div => x.wrapping_div(y) as u64,
            Op::Mod if unsigned => a % b,
            Op::Mod => x.wrapping_rem(y) as u64,
            Op::Pow if unsigned || y >= 0 => power(a, b),
            Op::Pow => match x {
                0 => i64::MAX as u64,
                1 => 1,
                -1 if y & 1 == 0 => 1,
                -1 => u64::MAX,
                _ => 0,
            },
            Op::Len | Op::Concat => 0,
        };
        self.new_integer(self.size_type(!unsigned), bits)
    }

    fn pointers(
        &self,
        op: Op,
        (a, to): (Pointer, TypeId),
        (b, also): (Pointer, TypeId),
    ) -> Done<Option<Value>> {
        if op == Op::Eq {
            return Ok(Some(Value::Boolean(a.addr == b.addr)));
        }
        let types = self.types();
        let (one, other) = (types.get(to)?, types.get(also)?);
        let is_void = |ty: &Type| matches!(ty.shape, Shape::Void);
        if !is_void(&one) && !is_void(&other) && !self.alike(&one, &other) {
            return Ok(None);
        }
        Ok(match op {
            Op::Lt => Some(Value::Boolean(a.addr < b.addr)),
            Op::Le => Some(Value::Boolean(a.addr <= b.addr)),
            Op::Sub => match one.size {
                Some(size) if size > 0 => {
                    let bytes = a.addr.wrapping_sub(b.addr) as i64;
                    Some(Value::Number((bytes / size as i64) as f64))
                }
                _ => None,
            },
            _ => None,
        })
    }

    /// Whether elements are alike, qualifiers aside.
    pub(super) fn alike(&self, one: &Type, other: &Type) -> bool {
        match (&one.shape, &other.shape) {
            (Shape::Int { .. }, Shape::Int { .. }) => one.size == other.size,
            (Shape::Function(_), Shape::Function(_)) => true,
            _ => self.types().same(one, other),
        }
    }

    fn moved(&self, at: Pointer, to: TypeId, by: i64) -> Done<Option<Value>> {
        let Some(size) = self.types().get(to)?.size else {
            return Ok(None);
        };
        let at = at.offset(by.wrapping_mul(size as i64));
        let ty = self.pointer_type(to)?;
        let value = self.new_boxed(&Boxed::pointer_to(ty, Kind::Value, at))?;
        Ok(Some(value))
    }
}

/// The address by which a value is equal to others.
fn address(given: &Given) -> Option<u64> {
    match given {
        Given::Aggregate(_, at) | Given::Code(_, at) | Given::Scalar(_, Scalar::Pointer(at)) => {
            Some(at.addr)
        }
        _ => None,
    }
}

fn power(mut base: u64, mut exponent: u64) -> u64 {
    let mut result = 1u64;
    while exponent != 0 {
        if exponent & 1 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::power;

    #[test]
    fn powers_wrap_as_multiplication_does() {
        assert_eq!(power(3, 0), 1);
        assert_eq!(power(3, 5), 243);
        assert_eq!(power(2, 64), 0);
        assert_eq!(power(u64::MAX, 3), u64::MAX);
    }
}
