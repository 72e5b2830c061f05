//! Operations along an axis that depend on order or on ids: running sums, gathering, sorting, turning round.

use cairn_engine::graph::{Binary, DType, NodeId, Shape, Unary};

use crate::diagnostic::Kind;
use crate::fault::{Outcome, fail};
use crate::machine::{Arguments, Machine};
use crate::value::Value;

/// The axis and its length.
fn along(m: &Machine<'_>, what: &str, x: NodeId, dim: Value) -> Outcome<(u8, u32)> {
    let shape = m.shape_of(x)?;
    let axis = m.axis(what, dim, shape.len())?;
    Ok((axis, shape.get(usize::from(axis)).copied().unwrap_or(1)))
}

/// Sums of all elements up to each one, along an axis.
pub(super) fn cumsum(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, dim] = a.two(m, "cumsum", ["x|input", "dim|axis"])?;
    let x = m.float_operand("cumsum", x)?;
    let (axis, _) = along(m, "cumsum", x, dim)?;
    m.build(1, |graph| graph.cumsum(x, axis, false))
}

/// PyTorch's `gather`.
pub(super) fn gather(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, dim, ids] = a.bind(m, "gather", ["x|input", "dim|axis", "index|ids"], 3)?.map(|v| v.unwrap_or(Value::None));
    let (x, ids) = (m.node("gather", x)?, m.node("gather: index", ids)?);
    let (axis, _) = along(m, "gather", x, dim)?;
    m.build(2, |graph| graph.gather(x, ids, axis))
}

/// PyTorch's `scatter_add`: x, to which the elements of `src` are added at `index`.
pub(super) fn scatter_add(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let names = ["x|input", "dim|axis", "index|ids", "src"];
    let [x, dim, ids, source] = a.bind(m, "scatter_add", names, 4)?.map(|v| v.unwrap_or(Value::None));
    let x = m.float_operand("scatter_add", x)?;
    let (ids, source) = (m.node("scatter_add: index", ids)?, m.float_operand("scatter_add: src", source)?);
    let (axis, length) = along(m, "scatter_add", x, dim)?;
    let added = m.build(2, |graph| graph.scatter_add(ids, source, axis, length))?;
    let id = m.node("scatter_add", added)?;
    let (shape, added_shape) = (m.shape_of(x)?, m.shape_of(id)?);
    if shape != added_shape {
        let message = format!("scatter_add: src makes {added_shape:?} along axis {axis}, and x is {shape:?}");
        return fail(Kind::Shape, message);
    }
    m.add(m.tensor_of(x), added)
}

/// Ids of the `k` largest (or smallest) elements of an axis, best first, ties by id.
fn best(m: &mut Machine<'_>, what: &str, x: NodeId, axis: u8, k: u32, largest: bool) -> Outcome<NodeId> {
    let rank = m.shape_of(x)?.len();
    let mut perm: Vec<u8> = (0..rank as u8).collect();
    perm.swap(usize::from(axis), rank - 1);
    let mut last = m.permuted(x, &perm)?;
    if !largest {
        let negative = m.unary(Unary::Neg, m.tensor_of(last))?;
        last = m.node(what, negative)?;
    }
    let ids = m.build(1, |graph| graph.topk(last, k))?;
    let ids = m.node(what, ids)?;
    m.permuted(ids, &perm)
}

/// The elements that ids name and the ids.
fn with_values(m: &mut Machine<'_>, x: NodeId, ids: NodeId, axis: u8) -> Outcome<Value> {
    let values = m.build(2, |graph| graph.gather(x, ids, axis))?;
    m.new_tuple(&[values, m.tensor_of(ids)])
}

/// `topk(x, k, dim, largest)`: values and ids.
pub(super) fn topk(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, k, dim, largest] = a.bind(m, "topk", ["x|input", "k", "dim|axis", "largest"], 2)?;
    let x = m.float_operand("topk", x.unwrap_or(Value::None))?;
    let (axis, length) = along(m, "topk", x, dim.unwrap_or(Value::Int(-1)))?;
    let k = m.integer("topk: k", k.unwrap_or(Value::None))?;
    let Some(k) = u32::try_from(k).ok().filter(|k| (1..=length).contains(k)) else {
        return fail(Kind::Shape, format!("topk: {k} of an axis of length {length}"));
    };
    let largest = m.truth(largest.unwrap_or(Value::Bool(true)))?;
    let ids = best(m, "topk", x, axis, k, largest)?;
    with_values(m, x, ids, axis)
}

fn sorted(m: &mut Machine<'_>, a: Arguments, name: &str) -> Outcome<(NodeId, NodeId, u8)> {
    let [x, dim, descending] = a.bind(m, name, ["x|input", "dim|axis", "descending"], 1)?;
    let x = m.float_operand(name, x.unwrap_or(Value::None))?;
    let (axis, length) = along(m, name, x, dim.unwrap_or(Value::Int(-1)))?;
    let descending = m.truth(descending.unwrap_or(Value::Bool(false)))?;
    Ok((x, best(m, name, x, axis, length, descending)?, axis))
}

/// `sort(x, dim, descending)`: values and ids; equal elements keep their order.
pub(super) fn sort(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let (x, ids, axis) = sorted(m, a, "sort")?;
    with_values(m, x, ids, axis)
}

/// `argsort(x, dim, descending)`: the ids of `sort`.
pub(super) fn argsort(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let (_, ids, _) = sorted(m, a, "argsort")?;
    Ok(m.tensor_of(ids))
}

/// `flip(x, dim)`: axes turned round.
pub(super) fn flip(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, dims] = a.two(m, "flip", ["x|input", "dims|dim|axis"])?;
    let mut x = m.node("flip", x)?;
    for dim in m.integers("flip", &[dims])? {
        let (axis, length) = along(m, "flip", x, Value::Int(dim))?;
        let ids = m.build(0, |graph| graph.arange(length))?;
        let places = m.pair(Binary::Sub, Value::Float(f64::from(length) - 1.0), ids)?;
        let reversed = m.unary(Unary::ToInt, places)?;
        let flipped = m.selected(x, axis, reversed)?;
        x = m.node("flip", flipped)?;
    }
    Ok(m.tensor_of(x))
}

/// `roll(x, shifts, dim)`: elements moved along an axis, those beyond the end back to the start.
pub(super) fn roll(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let [x, shift, dim] =
        a.bind(m, "roll", ["x|input", "shifts|shift", "dims|dim|axis"], 3)?.map(|v| v.unwrap_or(Value::None));
    let x = m.node("roll", x)?;
    let (axis, length) = along(m, "roll", x, dim)?;
    let shift = m.integer("roll: shifts", shift)?.rem_euclid(length.into()) as u32;
    if shift == 0 {
        return Ok(m.tensor_of(x));
    }
    let (end, start) = (m.sliced_axis(x, axis, length - shift, shift)?, m.sliced_axis(x, axis, 0, length - shift)?);
    let parts = [m.node("roll", end)?, m.node("roll", start)?];
    m.build(2, |graph| graph.concat(&parts, axis))
}

/// The last two axes below (`lower`) or above a diagonal, zeros elsewhere.
pub(super) fn triangle(m: &mut Machine<'_>, a: Arguments, name: &str, lower: bool) -> Outcome<Value> {
    let [x, diagonal] = a.bind(m, name, ["x|input", "diagonal"], 1)?;
    let x = m.float_operand(name, x.unwrap_or(Value::None))?;
    let diagonal = m.integer(&format!("{name}: diagonal"), diagonal.unwrap_or(Value::Int(0)))?;
    let shape = m.shape_of(x)?;
    let &[.., rows, columns] = &shape[..] else {
        return fail(Kind::Shape, format!("{name}: {shape:?} has no rows and columns"));
    };
    let row = m.build(0, |graph| graph.arange(rows))?;
    let row = m.node(name, row)?;
    let row = m.build(1, |graph| graph.reshape(row, Shape(vec![rows, 1])))?;
    let shifted = m.pair(Binary::Add, row, Value::Float(diagonal as f64))?;
    let column = m.build(0, |graph| graph.arange(columns))?;
    let (first, second) = if lower { (column, shifted) } else { (shifted, column) };
    let mask = m.pair(Binary::Le, first, second)?;
    m.pair(Binary::Mul, m.tensor_of(x), mask)
}

/// `masked_fill(x, mask, value)`: the value where the mask is not 0.
pub(super) fn masked_fill(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let names = ["x|input", "mask", "value"];
    let [x, mask, value] = a.bind(m, "masked_fill", names, 3)?.map(|v| v.unwrap_or(Value::None));
    super::elementwise::choose(m, "masked_fill", [mask, value, x])
}

/// The nearest integer, ties to even; integers as they are.
pub(super) fn to_int(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let x = a.one(m, "to_int", "x|input")?;
    let x = m.operand("to_int", x)?;
    if m.dtype_of(x)? == DType::I32 { Ok(m.tensor_of(x)) } else { m.unary(Unary::ToInt, m.tensor_of(x)) }
}

/// PyTorch's cast to an integer: towards 0.
pub(super) fn truncated(m: &mut Machine<'_>, a: Arguments, name: &str) -> Outcome<Value> {
    let x = a.one(m, name, "x|input")?;
    let x = m.operand(name, x)?;
    if m.dtype_of(x)? == DType::I32 {
        return Ok(m.tensor_of(x));
    }
    let x = m.tensor_of(x);
    let size = m.unary(Unary::Abs, x)?;
    let whole = m.unary(Unary::Floor, size)?;
    let sign = m.unary(Unary::Sign, x)?;
    let whole = m.pair(Binary::Mul, whole, sign)?;
    m.unary(Unary::ToInt, whole)
}
