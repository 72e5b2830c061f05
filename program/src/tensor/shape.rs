//! Operations that move elements or only rename them.

use cairn_engine::graph::{NodeId, Shape};

use crate::diagnostic::Kind;
use crate::fault::{Outcome, fail, fail_hint};
use crate::machine::{Arguments, Machine};
use crate::value::Value;

/// The tensor and the other positional arguments of a function that takes any number of ints.
fn with_ints(m: &mut Machine<'_>, mut a: Arguments, name: &str, keyword: &str) -> Outcome<(NodeId, Vec<i64>)> {
    if let Some((given, value)) = a.keywords.pop() {
        if !keyword.split('|').any(|known| known == m.ast.name(given)) || a.positional.len() != 1 {
            return fail(Kind::Type, format!("{name}() has no argument '{}'", m.ast.name(given)));
        }
        a.positional.push(value);
    }
    let Some((&x, ints)) = a.positional.split_first().filter(|(_, ints)| !ints.is_empty()) else {
        return fail(Kind::Type, format!("{name}() needs a tensor and ints"));
    };
    let x = m.node(name, x)?;
    Ok((x, m.integers(name, ints)?))
}

/// `x.reshape(a, b, -1)`, `reshape(x, (a, b, -1))`: one length may be -1 and follows from the others.
pub(super) fn reshape(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let (x, mut dims) = with_ints(m, a, "reshape", "shape")?;
    let old = Shape(m.shape_of(x)?);
    let unknown: Vec<usize> = dims.iter().enumerate().filter(|(_, n)| **n == -1).map(|(i, _)| i).collect();
    match unknown[..] {
        [] => {}
        [at] => {
            let known = dims.iter().filter(|&&n| n != -1).try_fold(1i64, |product, &n| product.checked_mul(n));
            let elements = old.elements() as i64;
            match known {
                Some(known) if known > 0 && elements % known == 0 => {
                    if let Some(n) = dims.get_mut(at) {
                        *n = elements / known;
                    }
                }
                _ => {
                    return fail(
                        Kind::Shape,
                        format!("reshape: the {elements} elements of {old} do not divide into {dims:?}"),
                    );
                }
            }
        }
        _ => return fail(Kind::Shape, "reshape: more than one length is -1"),
    }
    let shape = m.new_shape("reshape", &dims)?;
    m.build(1, |graph| graph.reshape(x, shape))
}

/// Swaps two axes, as in PyTorch.
pub(super) fn transpose(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    if a.positional.len() > 3 || matches!(a.positional.get(1), Some(Value::Tuple(_) | Value::List(_))) {
        return fail_hint(Kind::Type, "transpose() swaps two axes", "use permute(…) to reorder all of them");
    }
    let [x, one, other] = a.bind(m, "transpose", ["x|input", "dim0|axis1", "dim1|axis2"], 3)?;
    let x = m.node("transpose", x.unwrap_or(Value::None))?;
    let rank = m.shape_of(x)?.len();
    let one = m.axis("transpose", one.unwrap_or(Value::None), rank)?;
    let other = m.axis("transpose", other.unwrap_or(Value::None), rank)?;
    if one == other {
        return Ok(m.tensor_of(x));
    }
    let mut perm: Vec<u8> = (0..rank as u8).collect();
    perm.swap(usize::from(one), usize::from(other));
    m.build(1, |graph| graph.permute(x, &perm))
}

/// All axes in a new order: output axis i is input axis `dims[i]`.
pub(super) fn permute(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let (x, dims) = with_ints(m, a, "permute", "dims|axes")?;
    let rank = m.shape_of(x)?.len();
    let perm: Vec<u8> = dims.into_iter().map(|dim| m.axis("permute", Value::Int(dim), rank)).collect::<Outcome<_>>()?;
    if perm.iter().copied().eq(0..rank as u8) {
        return Ok(m.tensor_of(x));
    }
    m.build(1, |graph| graph.permute(x, &perm))
}

pub(super) fn broadcast_to(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, shape] = a.two(m, "broadcast_to", ["x|input", "shape|size"])?;
    let x = m.operand("broadcast_to", x)?;
    let shape = m.shape_argument("broadcast_to", shape)?;
    m.build(1, |graph| graph.broadcast_to(x, shape))
}

/// PyTorch's `expand`: -1 keeps a length.
pub(super) fn expand(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let (x, mut dims) = with_ints(m, a, "expand", "size|shape")?;
    let old = m.shape_of(x)?;
    let missing = dims.len().saturating_sub(old.len());
    for (n, &length) in dims.iter_mut().skip(missing).zip(&old) {
        if *n == -1 {
            *n = length.into();
        }
    }
    let shape = m.new_shape("expand", &dims)?;
    m.build(1, |graph| graph.broadcast_to(x, shape))
}

pub(super) fn flatten(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, start, end] = a.bind(m, "flatten", ["x|input", "start_dim", "end_dim"], 1)?;
    let x = m.node("flatten", x.unwrap_or(Value::None))?;
    let shape = m.shape_of(x)?;
    if shape.is_empty() {
        return m.build(1, |graph| graph.reshape(x, Shape(vec![1])));
    }
    let start = usize::from(m.axis("flatten", start.unwrap_or(Value::Int(0)), shape.len())?);
    let end = usize::from(m.axis("flatten", end.unwrap_or(Value::Int(-1)), shape.len())?);
    if start > end {
        return fail(Kind::Shape, "flatten: start_dim comes after end_dim");
    }
    let (before, rest) = shape.split_at(start);
    let (middle, after) = rest.split_at(end + 1 - start);
    let dims: Vec<i64> = [
        before.iter().map(|&n| i64::from(n)).collect::<Vec<_>>(),
        vec![middle.iter().map(|&n| i64::from(n)).fold(1i64, i64::saturating_mul)],
        after.iter().map(|&n| i64::from(n)).collect(),
    ]
    .concat();
    let shape = m.new_shape("flatten", &dims)?;
    m.build(1, |graph| graph.reshape(x, shape))
}

pub(super) fn squeeze(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, dim] = a.bind(m, "squeeze", ["x|input", "dim|axis"], 1)?;
    let x = m.node("squeeze", x.unwrap_or(Value::None))?;
    let shape = m.shape_of(x)?;
    let drop = match dim {
        None | Some(Value::None) => None,
        Some(dim) => Some(usize::from(m.axis("squeeze", dim, shape.len())?)),
    };
    let kept = shape.iter().enumerate().filter(|(i, n)| **n != 1 || drop.is_some_and(|drop| drop != *i));
    let kept = Shape(kept.map(|(_, &n)| n).collect());
    m.build(1, |graph| graph.reshape(x, kept))
}

pub(super) fn unsqueeze(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, dim] = a.two(m, "unsqueeze", ["x|input", "dim|axis"])?;
    let x = m.node("unsqueeze", x)?;
    let mut shape = m.shape_of(x)?;
    let at = m.axis("unsqueeze", dim, shape.len() + 1)?;
    shape.insert(usize::from(at), 1);
    m.build(1, |graph| graph.reshape(x, Shape(shape)))
}

/// Tensors in a list or tuple, or given one by one.
fn tensors(m: &mut Machine<'_>, name: &str, value: Value) -> Outcome<Vec<NodeId>> {
    let values = match value {
        Value::Tensor(..) => {
            return fail_hint(
                Kind::Type,
                format!("{name}() takes a list of tensors"),
                format!("write {name}([a, b], dim=…)"),
            );
        }
        values => m.collect(values)?,
    };
    let any_float = values.iter().try_fold(false, |any, &value| {
        Ok::<bool, Box<crate::fault::Fault>>(
            any || m.number(value).is_some() || m.dtype_of(m.node(name, value)?)? == cairn_engine::graph::DType::F32,
        )
    })?;
    values.into_iter().map(|value| if any_float { m.float_operand(name, value) } else { m.node(name, value) }).collect()
}

pub(super) fn concat(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [list, dim] = a.bind(m, "concat", ["tensors", "dim|axis"], 1)?;
    let parts = tensors(m, "concat", list.unwrap_or(Value::None))?;
    let rank = match parts.first() {
        Some(&first) => m.shape_of(first)?.len(),
        None => return fail(Kind::Shape, "concat: nothing to join"),
    };
    let axis = m.axis("concat", dim.unwrap_or(Value::Int(0)), rank)?;
    if let [single] = parts[..] {
        return Ok(m.tensor_of(single));
    }
    m.build(parts.len(), |graph| graph.concat(&parts, axis))
}

pub(super) fn stack(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [list, dim] = a.bind(m, "stack", ["tensors", "dim|axis"], 1)?;
    let parts = tensors(m, "stack", list.unwrap_or(Value::None))?;
    let Some(&first) = parts.first() else {
        return fail(Kind::Shape, "stack: nothing to join");
    };
    let shape = m.shape_of(first)?;
    let axis = m.axis("stack", dim.unwrap_or(Value::Int(0)), shape.len() + 1)?;
    let mut rows = Vec::with_capacity(parts.len());
    for part in parts {
        let mut longer = m.shape_of(part)?;
        if longer != shape {
            return fail(Kind::Shape, format!("stack: shapes {shape:?} and {longer:?} must be equal"));
        }
        longer.insert(usize::from(axis), 1);
        let row = m.build(1, |graph| graph.reshape(part, Shape(longer)))?;
        rows.push(m.node("stack", row)?);
    }
    if let [single] = rows[..] {
        return Ok(m.tensor_of(single));
    }
    m.build(rows.len(), |graph| graph.concat(&rows, axis))
}

/// Parts of these lengths along an axis.
fn parts(m: &mut Machine<'_>, x: NodeId, axis: u8, lengths: &[u32]) -> Outcome<Value> {
    let mut start = 0u32;
    let mut values = Vec::with_capacity(lengths.len());
    for &len in lengths {
        values.push(m.sliced_axis(x, axis, start, len)?);
        start = start.saturating_add(len);
    }
    m.new_tuple(&values)
}

/// `split(x, size, dim)`: parts of `size` (the last may be shorter), or of the sizes in a list.
pub(super) fn split(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, sizes, dim] = a.bind(m, "split", ["x|input", "sizes|split_size_or_sections|size", "dim|axis"], 2)?;
    let x = m.node("split", x.unwrap_or(Value::None))?;
    let shape = m.shape_of(x)?;
    let axis = m.axis("split", dim.unwrap_or(Value::Int(0)), shape.len())?;
    let length = shape.get(usize::from(axis)).copied().unwrap_or(1);
    let sizes = sizes.unwrap_or(Value::None);
    let lengths = match sizes {
        Value::List(_) | Value::Tuple(_) => {
            let sizes = m.integers("split", &[sizes])?;
            if sizes.iter().sum::<i64>() != i64::from(length) {
                return fail(Kind::Shape, format!("split: {sizes:?} do not sum to the length {length} of axis {axis}"));
            }
            m.new_shape("split", &sizes)?.0
        }
        size => {
            let size = m.integer("split: size", size)?;
            let Some(size) = u32::try_from(size).ok().filter(|&size| size > 0) else {
                return fail(Kind::Shape, "split: the size is at least 1");
            };
            m.burn(u64::from(length / size))?;
            let rest = length % size;
            let mut lengths = vec![size; (length / size) as usize];
            lengths.extend((rest > 0).then_some(rest));
            lengths
        }
    };
    parts(m, x, axis, &lengths)
}

/// `chunk(x, n, dim)`: n parts of equal length.
pub(super) fn chunk(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, count, dim] = a.bind(m, "chunk", ["x|input", "chunks|n", "dim|axis"], 2)?;
    let x = m.node("chunk", x.unwrap_or(Value::None))?;
    let shape = m.shape_of(x)?;
    let axis = m.axis("chunk", dim.unwrap_or(Value::Int(0)), shape.len())?;
    let length = shape.get(usize::from(axis)).copied().unwrap_or(1);
    let count = m.integer("chunk", count.unwrap_or(Value::None))?;
    match u32::try_from(count) {
        Ok(count) if count > 0 && length % count == 0 => {
            m.burn(u64::from(count))?;
            parts(m, x, axis, &vec![length / count; count as usize])
        }
        _ => fail(Kind::Shape, format!("chunk: axis {axis} of length {length} has no {count} equal parts")),
    }
}

/// `pad(x, before, after, dim)`: zeros around one axis.
pub(super) fn pad(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, before, after, dim] = a.bind(m, "pad", ["x|input", "before", "after", "dim|axis"], 3)?;
    if let Some(Value::Tuple(_) | Value::List(_)) = before {
        return fail_hint(Kind::Type, "pad() takes two ints", "write pad(x, before, after, dim=…), one axis at a time");
    }
    let x = m.float_operand("pad", x.unwrap_or(Value::None))?;
    let rank = m.shape_of(x)?.len();
    let axis = m.axis("pad", dim.unwrap_or(Value::Int(-1)), rank)?;
    let mut zeros = [0u32; 2];
    for (to, value) in zeros.iter_mut().zip([before, after]) {
        let n = m.integer("pad", value.unwrap_or(Value::None))?;
        *to = match u32::try_from(n) {
            Ok(n) => n,
            Err(_) => return fail_hint(Kind::Shape, format!("pad: {n} zeros"), "cut with a slice"),
        };
    }
    if zeros == [0, 0] {
        return Ok(m.tensor_of(x));
    }
    m.build(1, |graph| graph.pad(x, axis, zeros[0], zeros[1]))
}

pub(super) fn ndim(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let x = a.one(m, "dim", "x")?;
    let x = m.node("dim", x)?;
    Ok(Value::Int(m.shape_of(x)?.len() as i64))
}

pub(super) fn numel(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let x = a.one(m, "numel", "x")?;
    let x = m.node("numel", x)?;
    Ok(Value::Int(Shape(m.shape_of(x)?).elements() as i64))
}

/// `x.size()` is the shape, `x.size(i)` one length.
pub(super) fn size(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, dim] = a.bind(m, "size", ["x", "dim"], 1)?;
    let x = m.node("size", x.unwrap_or(Value::None))?;
    let shape = m.shape_of(x)?;
    match dim {
        Some(dim) => {
            let axis = m.axis("size", dim, shape.len())?;
            Ok(Value::Int(shape.get(usize::from(axis)).copied().unwrap_or(1).into()))
        }
        None => {
            let dims: Vec<Value> = shape.into_iter().map(|n| Value::Int(n.into())).collect();
            m.new_tuple(&dims)
        }
    }
}
