//! Subscripts: items and slices.

use super::Machine;
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, fail};
use crate::value::{Range, Value};

impl Machine<'_> {
    /// `container[key]`.
    pub(super) fn item(&mut self, container: Value, key: Value) -> Outcome<Value> {
        if let (Value::Slice(id), Value::List(_) | Value::Tuple(_) | Value::Text(_) | Value::Range(_)) =
            (key, container)
        {
            return self.sliced(container, id);
        }
        match container {
            Value::List(id) => {
                let at = self.position(key, self.list(id)?.len(), "list")?;
                self.list(id)?.get(at).copied().ok_or_else(|| Fault::new(Kind::Internal, "an item"))
            }
            Value::Tuple(id) => {
                let tuple = self.tuple(id)?;
                let at = self.position(key, tuple.len(), "tuple")?;
                tuple.get(at).copied().ok_or_else(|| Fault::new(Kind::Internal, "an item"))
            }
            Value::Range(id) => {
                let range = self.range(id)?;
                let at = self.position(key, range.len as usize, "range")?;
                Ok(Value::Int(range.get(at as i64)))
            }
            Value::Text(id) => {
                let text = self.text(id)?;
                self.burn(text.len() as u64 / 64)?;
                let at = self.position(key, text.chars().count(), "str")?;
                let character: String = text.chars().skip(at).take(1).collect();
                self.new_text(&character)
            }
            Value::Dict(id) => match self.dict_get(id, key)? {
                Some(value) => Ok(value),
                None => {
                    let shown = self.repr(key)?;
                    fail(Kind::Key, format!("the dict has no key {shown}"))
                }
            },
            Value::Tensor(..) => self.tensor_item(container, key),
            Value::Items(_) => {
                Err(Fault::new(Kind::Type, format!("{} has no items by position", self.article(container)))
                    .hint("make a list of it: list(…)[i]"))
            }
            other => fail(Kind::Type, format!("{} has no items", self.article(other))),
        }
    }

    /// `container[key] = value`.
    pub(super) fn set_item(&mut self, container: Value, key: Value, value: Value) -> Outcome<()> {
        match container {
            Value::List(id) => {
                if let Value::Slice(_) = key {
                    return fail(Kind::Unsupported, "assignment to a slice is not part of the training language");
                }
                let at = self.position(key, self.list(id)?.len(), "list")?;
                if let Some(item) = self.list_mut(id)?.get_mut(at) {
                    *item = value;
                }
                Ok(())
            }
            Value::Dict(id) => self.dict_set(id, key, value),
            Value::Tensor(..) => Err(Fault::new(Kind::Type, "a tensor cannot be changed")
                .hint("build a new one with where(mask, a, b) or concat([…])")),
            other => fail(Kind::Type, format!("the items of {} cannot be set", self.article(other))),
        }
    }

    /// An index, negative from the end, checked.
    fn position(&self, key: Value, len: usize, what: &str) -> Outcome<usize> {
        let index = match key {
            Value::Int(int) => int,
            Value::Bool(bool) => i64::from(bool),
            other => return fail(Kind::Type, format!("the index of a {what} is an int, not {}", self.article(other))),
        };
        let at = if index < 0 { index.saturating_add(len as i64) } else { index };
        if at < 0 || at >= len as i64 {
            return fail(Kind::Index, format!("index {index} is outside of a {what} of length {len}"));
        }
        Ok(at as usize)
    }

    /// Start, step and length of a slice of something of length `len`, by Python's rules.
    pub(crate) fn slice_of(&self, id: u32, len: i64) -> Outcome<Range> {
        let Some(&[start, stop, step]) = self.heap.slices.get(id as usize) else {
            return fail(Kind::Internal, "a slice that is not there");
        };
        let bound = |value: Value| match value {
            Value::None => Ok(None),
            Value::Int(int) => Ok(Some(int)),
            Value::Bool(bool) => Ok(Some(i64::from(bool))),
            other => fail(Kind::Type, format!("the bounds of a slice are int or None, not {}", self.article(other))),
        };
        let step = bound(step)?.unwrap_or(1);
        if step == 0 {
            return fail(Kind::Value, "the step of a slice cannot be 0");
        }
        let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
        let clamp = |value: Option<i64>, default: i64| match value {
            None => default,
            Some(value) if value < 0 => value.saturating_add(len).max(low),
            Some(value) => value.min(high),
        };
        let (from, to) = if step > 0 { (0, len) } else { (len - 1, -1) };
        let (start, stop) = (clamp(bound(start)?, from), clamp(bound(stop)?, to));
        Ok(Range { start, step, len: span_len(start, stop, step) })
    }

    fn sliced(&mut self, container: Value, id: u32) -> Outcome<Value> {
        let length = match container {
            Value::List(list) => self.list(list)?.len(),
            Value::Tuple(tuple) => self.tuple(tuple)?.len(),
            Value::Text(text) => {
                let text = self.text(text)?;
                self.burn(text.len() as u64 / 64)?;
                text.chars().count()
            }
            Value::Range(range) => self.range(range)?.len as usize,
            _ => return fail(Kind::Internal, "a slice of nothing"),
        };
        let slice = self.slice_of(id, length as i64)?;
        if let Value::Range(range) = container {
            let range = self.range(range)?;
            let start = range.get(slice.start);
            return self.new_range(Range { start, step: range.step.saturating_mul(slice.step), len: slice.len });
        }
        self.burn(slice.len as u64)?;
        self.charge(super::VALUE_BYTES.saturating_mul(slice.len as u64))?;
        let places = (0..slice.len).map(|i| slice.get(i) as usize);
        match container {
            Value::List(list) => {
                let list = self.list(list)?;
                let values = places.filter_map(|at| list.get(at).copied()).collect();
                self.new_list(values)
            }
            Value::Tuple(tuple) => {
                let tuple = self.tuple(tuple)?;
                let values: Vec<Value> = places.filter_map(|at| tuple.get(at).copied()).collect();
                self.new_tuple(&values)
            }
            Value::Text(text) => {
                let characters: Vec<char> = self.text(text)?.chars().collect();
                let text: String = places.filter_map(|at| characters.get(at)).collect();
                self.new_text(&text)
            }
            _ => fail(Kind::Internal, "a slice of nothing"),
        }
    }
}

/// Length of start, start + step, … before stop.
pub(crate) fn span_len(start: i64, stop: i64, step: i64) -> i64 {
    let (distance, step) = if step > 0 {
        (i128::from(stop) - i128::from(start), i128::from(step))
    } else {
        (i128::from(start) - i128::from(stop), -i128::from(step))
    };
    if distance <= 0 { 0 } else { i64::try_from((distance + step - 1) / step).unwrap_or(i64::MAX) }
}
