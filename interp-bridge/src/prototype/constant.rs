//! Integer constant expressions: array lengths and the values of enumerators.

use lang_c::ast::{BinaryOperator, Constant, Expression, IntegerBase, TypeName, UnaryOperator};
use lang_c::span::Node;

use super::error::PrototypeError;

/// What a constant expression may refer to.
pub(super) trait Scope {
    /// The value of an enumeration constant.
    fn constant(&self, name: &str) -> Option<i128>;
    /// The size in bytes of a type.
    fn size_of(&mut self, name: &Node<TypeName>) -> Result<i128, PrototypeError>;
    /// The text of a node, for messages.
    fn text(&self, start: usize, end: usize) -> String;
}

pub(super) fn evaluate(
    expression: &Node<Expression>,
    scope: &mut dyn Scope,
) -> Result<i128, PrototypeError> {
    value(expression, scope)?.ok_or_else(|| PrototypeError::Unsupported {
        what: format!(
            "`{}` is no integer constant that can be worked out here",
            scope.text(expression.span.start, expression.span.end)
        ),
        help: "write the number itself".into(),
    })
}

/// `Ok(None)` for what is not a constant, or overflows.
fn value(
    expression: &Node<Expression>,
    scope: &mut dyn Scope,
) -> Result<Option<i128>, PrototypeError> {
    Ok(match &expression.node {
        Expression::Constant(constant) => match &constant.node {
            Constant::Integer(integer) => {
                let radix = match integer.base {
                    IntegerBase::Decimal => 10,
                    IntegerBase::Octal => 8,
                    IntegerBase::Hexadecimal => 16,
                    IntegerBase::Binary => 2,
                };
                i128::from_str_radix(&integer.number, radix).ok()
            }
            Constant::Character(text) => {
                let inner = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\''));
                inner.and_then(crate::binding::char_value).map(i128::from)
            }
            Constant::Float(_) => None,
        },
        Expression::Identifier(name) => scope.constant(&name.node.name),
        Expression::SizeOfTy(size) => Some(scope.size_of(&size.node.0)?),
        Expression::UnaryOperator(unary) => {
            let operand = value(&unary.node.operand, scope)?;
            operand.and_then(|v| match unary.node.operator.node {
                UnaryOperator::Plus => Some(v),
                UnaryOperator::Minus => v.checked_neg(),
                UnaryOperator::Complement => Some(!v),
                UnaryOperator::Negate => Some(i128::from(v == 0)),
                _ => None,
            })
        }
        Expression::BinaryOperator(binary) => {
            let left = value(&binary.node.lhs, scope)?;
            let right = value(&binary.node.rhs, scope)?;
            match (left, right) {
                (Some(a), Some(b)) => apply(&binary.node.operator.node, a, b),
                _ => None,
            }
        }
        _ => None,
    })
}

fn apply(operator: &BinaryOperator, a: i128, b: i128) -> Option<i128> {
    let shift = u32::try_from(b).ok().filter(|s| *s < 64);
    Some(match operator {
        BinaryOperator::Multiply => a.checked_mul(b)?,
        BinaryOperator::Divide => a.checked_div(b)?,
        BinaryOperator::Modulo => a.checked_rem(b)?,
        BinaryOperator::Plus => a.checked_add(b)?,
        BinaryOperator::Minus => a.checked_sub(b)?,
        BinaryOperator::ShiftLeft => a.checked_mul(1i128 << shift?)?,
        BinaryOperator::ShiftRight => a >> shift?,
        BinaryOperator::BitwiseAnd => a & b,
        BinaryOperator::BitwiseXor => a ^ b,
        BinaryOperator::BitwiseOr => a | b,
        _ => return None,
    })
}
