//! Binary and unary operators of all types.

use super::number::{self, Number};
use super::{Machine, VALUE_BYTES};
use crate::ast::BinaryOp;
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, fail};
use crate::value::Value;

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        match number {
            Number::Int(int) => Value::Int(int),
            Number::Float(float) => Value::Float(float),
        }
    }
}

impl Machine<'_> {
    pub(crate) fn binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Outcome<Value> {
        if let (Some(a), Some(b)) = (self.number(a), self.number(b)) {
            let result = match op {
                BinaryOp::Add => number::add(a, b)?,
                BinaryOp::Sub => number::sub(a, b)?,
                BinaryOp::Mul => number::mul(a, b)?,
                BinaryOp::Div => number::div(a, b)?,
                BinaryOp::FloorDiv => number::floor_div(a, b)?,
                BinaryOp::Mod => number::modulo(a, b)?,
                BinaryOp::Pow => number::pow(a, b)?,
                BinaryOp::MatMul => return fail(Kind::Type, "`@` multiplies tensors, not numbers"),
            };
            return Ok(result.into());
        }
        if matches!(a, Value::Tensor(..)) || matches!(b, Value::Tensor(..)) {
            return self.binary_tensors(op, a, b);
        }
        match (op, a, b) {
            (BinaryOp::Add, Value::Text(left), Value::Text(right)) => {
                let (left, right) = (self.text(left)?, self.text(right)?);
                self.charge((left.len() + right.len()) as u64)?;
                self.new_text(&[&*left, &*right].concat())
            }
            (BinaryOp::Add, Value::List(_), Value::List(_)) => {
                let (left, right) = (self.collect(a)?, self.collect(b)?);
                self.new_list([left, right].concat())
            }
            (BinaryOp::Add, Value::Tuple(_), Value::Tuple(_)) => {
                let (left, right) = (self.collect(a)?, self.collect(b)?);
                self.new_tuple(&[left, right].concat())
            }
            (BinaryOp::Mul, Value::Text(_) | Value::List(_) | Value::Tuple(_), count) => self.repeated(a, count),
            (BinaryOp::Mul, count, Value::Text(_) | Value::List(_) | Value::Tuple(_)) => self.repeated(b, count),
            (BinaryOp::Mod, Value::Text(_), _) => {
                Err(Fault::new(Kind::Unsupported, "`%` on text is not part of the training language")
                    .hint("use an f-string: f\"block{i}\""))
            }
            _ => {
                let message = format!("`{}` does not go with {} and {}", op.symbol(), self.article(a), self.article(b));
                let fault = Fault::new(Kind::Type, message);
                let text = matches!(a, Value::Text(_)) || matches!(b, Value::Text(_));
                Err(if text && op == BinaryOp::Add { fault.hint("use an f-string: f\"block{i}\"") } else { fault })
            }
        }
    }

    /// `sequence * count`.
    fn repeated(&mut self, sequence: Value, count: Value) -> Outcome<Value> {
        let Some(Number::Int(count)) = self.number(count) else {
            return fail(
                Kind::Type,
                format!("{} is repeated an int times, not {}", self.article(sequence), self.article(count)),
            );
        };
        let count = count.max(0) as u64;
        match sequence {
            Value::Text(id) => {
                let text = self.text(id)?;
                let bytes = count.saturating_mul(text.len() as u64);
                self.burn(bytes / 64)?;
                self.charge(bytes)?;
                self.new_text(&text.repeat(if text.is_empty() { 0 } else { count as usize }))
            }
            _ => {
                let values = self.collect(sequence)?;
                let total = count.saturating_mul(values.len() as u64);
                self.burn(total)?;
                self.charge(total.saturating_mul(VALUE_BYTES))?;
                let values = values.repeat(if values.is_empty() { 0 } else { count as usize });
                if let Value::Tuple(_) = sequence { self.new_tuple(&values) } else { self.new_list(values) }
            }
        }
    }

    pub(crate) fn negate(&mut self, value: Value) -> Outcome<Value> {
        match (self.number(value), value) {
            (Some(number), _) => Ok(number::negate(number)?.into()),
            (None, Value::Tensor(..)) => self.negate_tensor(value),
            (None, other) => fail(Kind::Type, format!("`-` does not go with {}", self.article(other))),
        }
    }

    pub(super) fn plus(&mut self, value: Value) -> Outcome<Value> {
        match (self.number(value), value) {
            (Some(number), _) => Ok(number.into()),
            (None, Value::Tensor(..)) => Ok(value),
            (None, other) => fail(Kind::Type, format!("`+` does not go with {}", self.article(other))),
        }
    }
}
