//! Comparisons, equality, membership and sorting.

use std::cmp::Ordering;

use super::Machine;
use super::number::{self, Number};
use crate::ast::CompareOp;
use crate::diagnostic::Kind;
use crate::fault::{Outcome, fail};
use crate::value::Value;

/// Deepest nesting of sequences that are compared.
const DEPTH_MAX: u32 = 32;

impl Machine<'_> {
    /// The number that a value is, if it is one.
    pub(crate) fn number(&self, value: Value) -> Option<Number> {
        match value {
            Value::Bool(bool) => Some(Number::Int(i64::from(bool))),
            Value::Int(int) => Some(Number::Int(int)),
            Value::Float(float) => Some(Number::Float(float)),
            _ => None,
        }
    }

    pub(super) fn compare(&mut self, op: CompareOp, a: Value, b: Value) -> Outcome<Value> {
        let result = match op {
            CompareOp::Is => self.same(a, b)?,
            CompareOp::IsNot => !self.same(a, b)?,
            CompareOp::In => self.contains(b, a)?,
            CompareOp::NotIn => !self.contains(b, a)?,
            _ if matches!(a, Value::Tensor(..)) || matches!(b, Value::Tensor(..)) => {
                return self.compare_tensors(op, a, b);
            }
            CompareOp::Eq => self.equal(a, b, 0)?,
            CompareOp::NotEq => !self.equal(a, b, 0)?,
            CompareOp::Lt => self.order(op, a, b)?.is_some_and(Ordering::is_lt),
            CompareOp::LtE => self.order(op, a, b)?.is_some_and(Ordering::is_le),
            CompareOp::Gt => self.order(op, a, b)?.is_some_and(Ordering::is_gt),
            CompareOp::GtE => self.order(op, a, b)?.is_some_and(Ordering::is_ge),
        };
        Ok(Value::Bool(result))
    }

    /// Identity, of what has one: of numbers and text it would depend on how they are stored.
    fn same(&self, a: Value, b: Value) -> Outcome<bool> {
        let plain = |value: Value| matches!(value, Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Tuple(_));
        if plain(a) && plain(b) {
            return fail(
                Kind::Unsupported,
                "`is` between numbers, text or tuples is not part of the training language",
            )
            .map_err(|fault: Box<crate::fault::Fault>| fault.hint("use `==`"));
        }
        Ok(a == b)
    }

    pub(crate) fn equal(&mut self, a: Value, b: Value, depth: u32) -> Outcome<bool> {
        self.burn(1)?;
        if depth > DEPTH_MAX {
            return fail(Kind::Recursion, format!("comparison of values nested deeper than {DEPTH_MAX}"));
        }
        if let (Some(a), Some(b)) = (self.number(a), self.number(b)) {
            return Ok(number::compare(a, b) == Some(Ordering::Equal));
        }
        match (a, b) {
            (Value::Text(a), Value::Text(b)) => {
                let (a, b) = (self.text(a)?, self.text(b)?);
                self.burn(a.len().min(b.len()) as u64 / 64)?;
                Ok(a == b)
            }
            (Value::List(a), Value::List(b)) => {
                let len = self.list(a)?.len();
                if len != self.list(b)?.len() {
                    return Ok(false);
                }
                for i in 0..len {
                    let (Some(&x), Some(&y)) = (self.list(a)?.get(i), self.list(b)?.get(i)) else { return Ok(false) };
                    if !self.equal(x, y, depth + 1)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Tuple(a), Value::Tuple(b)) => {
                let (a, b) = (self.tuple(a)?, self.tuple(b)?);
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (&x, &y) in a.iter().zip(b.iter()) {
                    if !self.equal(x, y, depth + 1)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Dict(a), Value::Dict(b)) => self.equal_dicts(a, b, depth),
            (Value::Range(a), Value::Range(b)) => {
                let (a, b) = (self.range(a)?, self.range(b)?);
                Ok(a.len == b.len && (a.len == 0 || a.start == b.start) && (a.len < 2 || a.step == b.step))
            }
            (Value::Tensor(..), _) | (_, Value::Tensor(..)) => {
                fail(Kind::Type, "tensors have no values to be compared while the graph is built")
            }
            (a, b) => Ok(a == b),
        }
    }

    fn equal_dicts(&mut self, a: u32, b: u32, depth: u32) -> Outcome<bool> {
        let len = self.dict(a)?.entries.len();
        if len != self.dict(b)?.entries.len() {
            return Ok(false);
        }
        for i in 0..len {
            let Some(&(key, x)) = self.dict(a)?.entries.get(i) else { return Ok(false) };
            match self.dict_get(b, key)? {
                Some(y) if self.equal(x, y, depth + 1)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Which comes first; none where one is not a number.
    fn order(&mut self, op: CompareOp, a: Value, b: Value) -> Outcome<Option<Ordering>> {
        self.ordering(op.symbol(), a, b, 0)
    }

    pub(crate) fn ordering(&mut self, op: &str, a: Value, b: Value, depth: u32) -> Outcome<Option<Ordering>> {
        self.burn(1)?;
        if depth > DEPTH_MAX {
            return fail(Kind::Recursion, format!("comparison of values nested deeper than {DEPTH_MAX}"));
        }
        if let (Some(a), Some(b)) = (self.number(a), self.number(b)) {
            return Ok(number::compare(a, b));
        }
        match (a, b) {
            (Value::Text(a), Value::Text(b)) => {
                let (a, b) = (self.text(a)?, self.text(b)?);
                self.burn(a.len().min(b.len()) as u64 / 64)?;
                // Code points and UTF-8 sort alike.
                Ok(Some(a.cmp(&b)))
            }
            (Value::List(_), Value::List(_)) | (Value::Tuple(_), Value::Tuple(_)) => {
                let (a, b) = (self.collect(a)?, self.collect(b)?);
                for (&x, &y) in a.iter().zip(&b) {
                    if !self.equal(x, y, depth + 1)? {
                        return self.ordering(op, x, y, depth + 1);
                    }
                }
                Ok(Some(a.len().cmp(&b.len())))
            }
            (a, b) => fail(Kind::Type, format!("`{op}` does not go with {} and {}", self.article(a), self.article(b))),
        }
    }

    pub(crate) fn contains(&mut self, container: Value, item: Value) -> Outcome<bool> {
        match container {
            Value::Dict(id) => Ok(self.dict_get(id, item)?.is_some()),
            Value::Range(id) => {
                let range = self.range(id)?;
                let Some(Number::Int(int)) = self.number(item) else { return Ok(false) };
                let distance = i128::from(int) - i128::from(range.start);
                let step = i128::from(range.step);
                Ok(distance % step == 0 && (0..i128::from(range.len)).contains(&(distance / step)))
            }
            Value::Text(id) => {
                let Value::Text(part) = item else {
                    return fail(Kind::Type, format!("`in` of a str needs a str, not {}", self.article(item)));
                };
                let (text, part) = (self.text(id)?, self.text(part)?);
                self.burn(text.len() as u64 + part.len() as u64)?;
                Ok(text.contains(&*part))
            }
            Value::List(_) | Value::Tuple(_) | Value::Items(_) => {
                let mut iterator = self.iterate(container)?;
                while let Some(value) = self.next_item(&mut iterator)? {
                    if self.equal(value, item, 0)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            other => fail(Kind::Type, format!("`in` does not go with {}", self.article(other))),
        }
    }

    /// A stable sort of values by their keys: merging runs of doubling length.
    pub(crate) fn sort(&mut self, mut values: Vec<(Value, Value)>, reverse: bool) -> Outcome<Vec<(Value, Value)>> {
        let mut width = 1;
        while width < values.len() {
            let mut merged = Vec::with_capacity(values.len());
            for run in values.chunks(2 * width) {
                let (left, right) = run.split_at(width.min(run.len()));
                let (mut i, mut j) = (0, 0);
                while let (Some(&a), Some(&b)) = (left.get(i), right.get(j)) {
                    let (first, second) = if reverse { (a, b) } else { (b, a) };
                    let right_first = self.ordering("<", first.0, second.0, 0)?.is_some_and(Ordering::is_lt);
                    if right_first {
                        merged.push(b);
                        j += 1;
                    } else {
                        merged.push(a);
                        i += 1;
                    }
                }
                merged.extend_from_slice(left.get(i..).unwrap_or(&[]));
                merged.extend_from_slice(right.get(j..).unwrap_or(&[]));
            }
            self.burn(values.len() as u64)?;
            values = merged;
            width *= 2;
        }
        Ok(values)
    }
}
