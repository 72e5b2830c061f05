//! Subscripts of tensors, and operations that take indices.

use cairn_engine::graph::{Binary, DType, NodeId, Shape, Unary};

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

    /// Elements `start`, `start + step`, … of an axis, `len` of them: the axis is cut into runs of `step`, of which one
    /// column is kept. A run that would reach beyond the end is its own slice.
    pub(crate) fn stepped_axis(&mut self, x: NodeId, axis: u8, [start, len, step]: [u32; 3]) -> Outcome<Value> {
        if len == 1 || step == 1 {
            return self.sliced_axis(x, axis, start, len);
        }
        let mut shape = self.shape_of(x)?;
        let (before, rest) = shape.split_at(usize::from(axis));
        let Some((&length, after)) = rest.split_first() else {
            return fail(Kind::Internal, "a slice of an axis that is not there");
        };
        let (before, after) = (Shape(before.to_vec()).elements() as u32, Shape(after.to_vec()).elements() as u32);
        // The runs may begin before the first element, so that the last one ends in time.
        let end = u64::from(start) + u64::from(len) * u64::from(step);
        let early = end.saturating_sub(length.into());
        if early > u64::from(start.min(step - 1)) {
            let most = self.stepped_axis(x, axis, [start, len - 1, step])?;
            let last = self.sliced_axis(x, axis, start + (len - 1) * step, 1)?;
            let parts = [self.node("index", most)?, self.node("index", last)?];
            return self.build(2, |graph| graph.concat(&parts, axis));
        }
        let early = early as u32;
        let window = self.sliced_axis(x, axis, start - early, len * step)?;
        let window = self.node("index", window)?;
        let runs = self.build(1, |graph| graph.reshape(window, Shape(vec![before, len, step, after])))?;
        let column = self.sliced_axis(self.node("index", runs)?, 2, early, 1)?;
        let column = self.node("index", column)?;
        if let Some(kept) = shape.get_mut(usize::from(axis)) {
            *kept = len;
        }
        self.build(1, |graph| graph.reshape(column, Shape(shape)))
    }

    /// `x[…]`: ints, slices, `...`, `None`; an integer tensor takes elements of its axis.
    pub(crate) fn tensor_item(&mut self, x: Value, key: Value) -> Outcome<Value> {
        let id = self.node("index", x)?;
        let keys = match key {
            Value::Tuple(keys) => self.tuple(keys)?.to_vec(),
            single => vec![single],
        };
        let ids = the_tensor(&keys)?;
        let shape = self.shape_of(id)?;
        let keys = self.expanded(&keys, &shape)?;
        // One slice for each axis that is cut, then one reshape for axes that go or come.
        let (mut current, mut axis, mut result, mut taken) = (id, 0u8, Vec::new(), 0u8);
        for key in keys {
            if key == Value::None {
                result.push(1);
                continue;
            }
            if let Value::Tensor(..) = key {
                taken = result.len() as u8;
            }
            let length = shape.get(usize::from(axis)).copied().unwrap_or(1);
            let (part, keep) = self.axis_key(key, axis, length)?;
            let cut = self.stepped_axis(current, axis, part)?;
            current = self.node("index", cut)?;
            if keep {
                result.push(part[1]);
            }
            axis += 1;
        }
        let cut = self.build(1, |graph| graph.reshape(current, Shape(result)))?;
        match ids {
            None => Ok(cut),
            Some(ids) => self.selected(self.node("index", cut)?, taken, ids),
        }
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

    /// What a key takes of an axis: start, length and step, and whether the axis stays.
    fn axis_key(&mut self, key: Value, axis: u8, length: u32) -> Outcome<([u32; 3], bool)> {
        match key {
            Value::Ellipsis | Value::Tensor(..) => Ok(([0, length, 1], true)),
            Value::Int(int) => {
                let at = if int < 0 { int.saturating_add(length.into()) } else { int };
                match u32::try_from(at) {
                    Ok(at) if at < length => Ok(([at, 1, 1], false)),
                    _ => fail(Kind::Index, format!("index {int} is outside of axis {axis} of length {length}")),
                }
            }
            Value::Slice(slice) => {
                let slice = self.slice_of(slice, length.into())?;
                if slice.step < 0 && slice.len > 1 {
                    return fail_hint(
                        Kind::Value,
                        "a slice of a tensor has a step above 0",
                        "flip(x, dim) turns an axis round",
                    );
                }
                let step = if slice.len > 1 { slice.step } else { 1 };
                match (u32::try_from(slice.start), u32::try_from(slice.len), u32::try_from(step)) {
                    (Ok(start), Ok(len), Ok(step)) if len > 0 => Ok(([start, len, step], true)),
                    _ => fail(Kind::Shape, format!("an empty slice of axis {axis} of length {length}")),
                }
            }
            other => fail(Kind::Type, format!("a tensor is indexed by ints and slices, not {}", self.article(other))),
        }
    }

    /// The elements of an axis that ids name, whose axes take its place; zeros where an id is outside.
    pub(crate) fn selected(&mut self, x: NodeId, axis: u8, ids: Value) -> Outcome<Value> {
        let ids = self.node("index", ids)?;
        if self.dtype_of(ids)? != DType::I32 {
            return fail_hint(
                Kind::Type,
                "a tensor is not indexed by a mask",
                "tensors have fixed shapes: use where(mask, a, b), or multiply by the mask",
            );
        }
        if self.dtype_of(x)? == DType::I32 {
            // Exact below 2^24, as conversions are.
            let floats = self.float_operand("index", self.tensor_of(x))?;
            let taken = self.selected(floats, axis, self.tensor_of(ids))?;
            return self.unary(Unary::ToInt, taken);
        }
        let (shape, ids_shape) = (self.shape_of(x)?, self.shape_of(ids)?);
        let mut others = shape.clone();
        if usize::from(axis) >= others.len() {
            return fail(Kind::Shape, format!("axis {axis} of a tensor of shape {shape:?}"));
        }
        let length = others.remove(usize::from(axis));
        let front: Vec<u8> =
            std::iter::once(axis).chain((0..shape.len() as u8).filter(|&other| other != axis)).collect();
        let moved = self.permuted(x, &front)?;
        let width = Shape(others.clone()).elements() as u32;
        let table = self.build(1, |graph| graph.reshape(moved, Shape(vec![length, width])))?;
        let table = self.node("index", table)?;
        let rows = self.build(2, |graph| graph.embedding(table, ids))?;
        let rows = self.node("index", rows)?;
        let rows = self.build(1, |graph| graph.reshape(rows, Shape([&ids_shape[..], &others[..]].concat())))?;
        let rows = self.node("index", rows)?;
        // Axes in front of the one that was taken go back there.
        let (own, before) = (ids_shape.len() as u8, axis);
        let back: Vec<u8> = (own..own + before).chain(0..own).chain(own + before..own + others.len() as u8).collect();
        let back = self.permuted(rows, &back)?;
        Ok(self.tensor_of(back))
    }

    /// Axes in a new order; the node itself where that is the old one.
    pub(crate) fn permuted(&mut self, x: NodeId, perm: &[u8]) -> Outcome<NodeId> {
        if perm.iter().copied().eq(0..perm.len() as u8) {
            return Ok(x);
        }
        let permuted = self.build(1, |graph| graph.permute(x, perm))?;
        self.node("permute", permuted)
    }
}

/// The one tensor among the keys of an index, if there is one.
fn the_tensor(keys: &[Value]) -> Outcome<Option<Value>> {
    let tensors: Vec<usize> =
        keys.iter().enumerate().filter(|(_, key)| matches!(key, Value::Tensor(..))).map(|(at, _)| at).collect();
    let ints = keys.iter().enumerate().filter(|(_, key)| matches!(key, Value::Int(_))).map(|(at, _)| at);
    match tensors[..] {
        [] => Ok(None),
        // Further apart, NumPy puts the axes of the ids in front.
        [at] if ints.clone().all(|int| int.abs_diff(at) == 1) => Ok(keys.get(at).copied()),
        [_] => fail_hint(
            Kind::Value,
            "an index has an int and a tensor that do not stand side by side",
            "index in two steps: x[0][:, ids]",
        ),
        _ => fail_hint(
            Kind::Value,
            "an index has more than one tensor",
            "gather(x, dim, index) takes elements along an axis, take(x, ids) one of each row; or index in steps",
        ),
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

/// Index of the first maximum of an axis, or of all elements in row-major order.
pub(super) fn argmax(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, dim, keep] = a.bind(m, "argmax", ["x|input", "dim|axis", "keepdim|keepdims"], 1)?;
    let mut x = m.float_operand("argmax", x.unwrap_or(Value::None))?;
    let keep = m.truth(keep.unwrap_or(Value::Bool(false)))?;
    let mut shape = m.shape_of(x)?;
    let dim = match dim {
        None | Some(Value::None) => {
            let elements = Shape(shape.clone()).elements() as u32;
            let flat = m.build(1, |graph| graph.reshape(x, Shape(vec![elements])))?;
            x = m.node("argmax", flat)?;
            shape = if keep { vec![1; shape.len()] } else { Vec::new() };
            let found = m.build(1, |graph| graph.argmax(x))?;
            let found = m.node("argmax", found)?;
            return m.build(1, |graph| graph.reshape(found, Shape(shape)));
        }
        Some(dim) => dim,
    };
    let axis = m.axis("argmax", dim, shape.len())?;
    let mut perm: Vec<u8> = (0..shape.len() as u8).collect();
    perm.swap(usize::from(axis), shape.len() - 1);
    let last = m.permuted(x, &perm)?;
    let found = m.build(1, |graph| graph.argmax(last))?;
    let found = m.node("argmax", found)?;
    let found = m.permuted(found, &perm)?;
    if keep { Ok(m.tensor_of(found)) } else { m.without_axis(m.tensor_of(found), axis.into()) }
}
