//! Going over values, one at a time and without copying them first.

use super::Machine;
use crate::diagnostic::Kind;
use crate::fault::{Fault, Outcome, fail};
use crate::value::Value;

/// A position in something iterable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Iterator {
    over: Value,
    next: usize,
    /// Entries that a dict had at the start.
    len: usize,
}

impl Machine<'_> {
    /// Starts going over a value.
    pub(crate) fn iterate(&mut self, over: Value) -> Outcome<Iterator> {
        let len = match over {
            Value::Dict(id) => self.dict(id)?.entries.len(),
            Value::List(_) | Value::Tuple(_) | Value::Range(_) | Value::Text(_) | Value::Items(_) => 0,
            Value::Tensor(..) => {
                return Err(Fault::new(Kind::Type, "a tensor cannot be gone over in a loop")
                    .hint("use slices such as x[:, i], or chunk(x, n, dim=…)"));
            }
            Value::Int(_) => {
                return Err(Fault::new(Kind::Type, "an int is not iterable").hint("use range(n)"));
            }
            other => return fail(Kind::Type, format!("{} is not iterable", self.article(other))),
        };
        Ok(Iterator { over, next: 0, len })
    }

    /// The next item; pays for it.
    pub(crate) fn next_item(&mut self, iterator: &mut Iterator) -> Outcome<Option<Value>> {
        self.burn(1)?;
        let at = iterator.next;
        iterator.next += 1;
        match iterator.over {
            Value::List(id) => Ok(self.list(id)?.get(at).copied()),
            Value::Tuple(id) => Ok(self.heap.tuples.get(id as usize).and_then(|tuple| tuple.get(at)).copied()),
            Value::Range(id) => {
                let range = self.range(id)?;
                Ok((at < range.len as usize).then(|| Value::Int(range.get(at as i64))))
            }
            Value::Dict(id) => {
                let entries = &self.dict(id)?.entries;
                if entries.len() != iterator.len {
                    return fail(Kind::Value, "the dict changes its size while it is gone over");
                }
                Ok(entries.get(at).map(|entry| entry.0))
            }
            Value::Text(id) => {
                // The position is in bytes.
                let text = self.text(id)?;
                let Some(character) = text.get(at..).and_then(|rest| rest.chars().next()) else { return Ok(None) };
                iterator.next = at + character.len_utf8();
                self.new_text(character.encode_utf8(&mut [0; 4])).map(Some)
            }
            Value::Items(id) => {
                let Some(items) = self.heap.items.get(id as usize).copied() else {
                    return fail(Kind::Internal, "an iterator that is not there");
                };
                let at = if items.view { at } else { items.taken };
                let value = self.list(items.list)?.get(at).copied();
                if !items.view && value.is_some() {
                    if self.frozen.is_some_and(|mark| (id as usize) < mark.items) {
                        return fail(Kind::Value, "a schedule uses up an iterator outside of itself");
                    }
                    if let Some(items) = self.heap.items.get_mut(id as usize) {
                        items.taken += 1;
                    }
                }
                Ok(value)
            }
            _ => fail(Kind::Internal, "an iterator over nothing"),
        }
    }

    /// All items; pays for each.
    pub(crate) fn collect(&mut self, over: Value) -> Outcome<Vec<Value>> {
        let mut iterator = self.iterate(over)?;
        let mut values = Vec::new();
        while let Some(value) = self.next_item(&mut iterator)? {
            self.charge(super::VALUE_BYTES)?;
            values.push(value);
        }
        Ok(values)
    }
}
