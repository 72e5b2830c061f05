//! Subscripts of tensors, and operations that take indices.

use cairn_engine::graph::{Binary, DType, NodeId, Shape};

use crate::diagnostic::Kind;
use crate::fault::{Outcome, fail, fail_hint};
use crate::machine::{Arguments, Machine};
use crate::value::Value;

impl Machine<'_> {
    /// `len` elements of an axis, the tensor itself where that is all of them.
    pub(crate) fn sliced_axis(&mut self, x: NodeId, axis: u8, start: u32, len: u32) -> Outcome<Value> {
        if start == 0 && self.shape_of(x)?.get(usize::from(axis)) == Some(&len) {
            return Ok(self.tensor_of(x));
        }
        self.build(1, |graph| graph.slice(x, axis, start, len))
    }

    /// `x[…]`: ints, slices without steps, `...`, `None`; an integer tensor takes rows of a table.
    pub(crate) fn tensor_item(&mut self, x: Value, key: Value) -> Outcome<Value> {
        let id = self.node("index", x)?;
        if let Value::Tensor(..) = key {
            return self.rows_of(id, key);
        }
        let keys = match key {
            Value::Tuple(keys) => self.tuple(keys)?.to_vec(),
            single => vec![single],
        };
        let shape = self.shape_of(id)?;
        let keys = self.expanded(&keys, &shape)?;
        // One slice for each axis that is cut, then one reshape for axes that go or come.
        let (mut current, mut axis, mut result) = (id, 0u8, Vec::new());
        for key in keys {
            if key == Value::None {
                result.push(1);
                continue;
            }
            let length = shape.get(usize::from(axis)).copied().unwrap_or(1);
            let (start, len, keep) = self.axis_key(key, axis, length)?;
            let cut = self.sliced_axis(current, axis, start, len)?;
            current = self.node("index", cut)?;
            if keep {
                result.push(len);
            }
            axis += 1;
        }
        self.build(1, |graph| graph.reshape(current, Shape(result)))
    }

    /// Keys with `...` written out, as many as there are axes, `None`s besides.
    fn expanded(&self, keys: &[Value], shape: &[u32]) -> Outcome<Vec<Value>> {
        let used = keys.iter().filter(|key| !matches!(key, Value::None | Value::Ellipsis)).count();
        let dots = keys.iter().filter(|key| matches!(key, Value::Ellipsis)).count();
        if dots > 1 {
            return fail(Kind::Type, "an index has more than one `...`");
        }
        let Some(missing) = shape.len().checked_sub(used) else {
            return fail(Kind::Shape, format!("{used} indices for a tensor of shape {shape:?}"));
        };
        let mut expanded = Vec::with_capacity(keys.len() + missing);
        for &key in keys {
            match key {
                Value::Ellipsis => expanded.extend(std::iter::repeat_n(Value::Ellipsis, missing)),
                key => expanded.push(key),
            }
        }
        if dots == 0 {
            expanded.extend(std::iter::repeat_n(Value::Ellipsis, missing));
        }
        Ok(expanded)
    }

    /// What a key takes of an axis: start, length, and whether the axis stays.
    fn axis_key(&mut self, key: Value, axis: u8, length: u32) -> Outcome<(u32, u32, bool)> {
        match key {
            Value::Ellipsis => Ok((0, length, true)),
            Value::Int(int) => {
                let at = if int < 0 { int.saturating_add(length.into()) } else { int };
                match u32::try_from(at) {
                    Ok(at) if at < length => Ok((at, 1, false)),
                    _ => fail(Kind::Index, format!("index {int} is outside of axis {axis} of length {length}")),
                }
            }
            Value::Slice(slice) => {
                let slice = self.slice_of(slice, length.into())?;
                if slice.step != 1 && slice.len > 1 {
                    return fail_hint(
                        Kind::Unavailable,
                        "slices of tensors with steps are not available yet",
                        "reshape the axis into (n, step) and take [..., 0]",
                    );
                }
                match (u32::try_from(slice.start), u32::try_from(slice.len)) {
                    (Ok(start), Ok(len)) if len > 0 => Ok((start, len, true)),
                    _ => fail(Kind::Shape, format!("an empty slice of axis {axis} of length {length}")),
                }
            }
            Value::Tensor(..) => fail_hint(
                Kind::Unavailable,
                "indexing some axes by tensors is not available yet",
                "use embedding(ids, table) for rows, take(x, ids) for one element of each row, where(mask, a, b) for masks",
            ),
            other => fail(Kind::Type, format!("a tensor is indexed by ints and slices, not {}", self.article(other))),
        }
    }

    /// `table[ids]`.
    fn rows_of(&mut self, table: NodeId, ids: Value) -> Outcome<Value> {
        let ids = self.node("index", ids)?;
        if self.dtype_of(ids)? != DType::I32 {
            return fail_hint(
                Kind::Type,
                "a tensor is not indexed by a mask",
                "tensors have fixed shapes: use where(mask, a, b), or multiply by the mask",
            );
        }
        self.build(2, |graph| graph.embedding(table, ids))
    }
}

/// `take(x, ids)`: of each row of x [.., n], the element at ids [..].
pub(super) fn take(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, ids] = a.two(m, "take", ["x|input", "ids|index"])?;
    let (x, ids) = (m.float_operand("take", x)?, m.node("take", ids)?);
    m.build(2, |graph| graph.take(x, ids))
}

/// `one_hot(ids, n)`: 1 at each id, else 0, along a new last axis.
pub(super) fn one_hot(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [ids, classes] = a.two(m, "one_hot", ["ids|x|input", "num_classes|n"])?;
    let ids = m.node("one_hot", ids)?;
    let n = m.integer("one_hot", classes)?;
    let Some(n) = u32::try_from(n).ok().filter(|&n| n > 0) else {
        return fail(Kind::Shape, "one_hot: at least one class");
    };
    let mut shape = m.shape_of(ids)?;
    shape.push(1);
    let column = m.build(1, |graph| graph.reshape(ids, Shape(shape)))?;
    let column = m.node("one_hot", column)?;
    let classes = m.build(0, |graph| graph.arange(n))?;
    let classes = m.node("one_hot", classes)?;
    m.build(2, |graph| graph.binary(Binary::Eq, column, classes))
}

/// Index of the first maximum of the last axis.
pub(super) fn argmax(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, dim, keep] = a.bind(m, "argmax", ["x|input", "dim|axis", "keepdim|keepdims"], 1)?;
    let x = m.float_operand("argmax", x.unwrap_or(Value::None))?;
    let rank = m.shape_of(x)?.len();
    let axis = m.axis("argmax", dim.unwrap_or(Value::Int(-1)), rank)?;
    if usize::from(axis) + 1 != rank || (dim.is_none() && rank > 1) {
        return fail_hint(
            Kind::Unavailable,
            "argmax over other axes than the last is not available yet",
            "write argmax(x, dim=-1), transpose x first",
        );
    }
    let keep = m.truth(keep.unwrap_or(Value::Bool(false)))?;
    let found = m.build(1, |graph| graph.argmax(x))?;
    if keep { Ok(found) } else { m.without_axis(found, rank - 1) }
}
