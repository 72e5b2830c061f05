//! From a unit to the work that computes it.

use crate::graph::{Conv2d, NodeId, Op};
use crate::reference::conv::Sizes;

use super::super::attention::{Backward, Forward, Shape as Heads};
use super::super::choose::{Choose, Kind as Chosen, TopK};
use super::super::conv::{Conv, Kind as ConvKind};
use super::super::index::{Indexed, Kind};
use super::super::isa::Level;
use super::super::matmul::{MatMul, Pack};
use super::super::memory::Place;
use super::super::moves::{Axis, Move};
use super::super::random::Draw;
use super::super::reduce::Reduce;
use super::super::rows::Rows;
use super::super::scan::Scan;
use super::super::step::{Sharing, Work};
use super::chain;
use super::layout::Layout;
use crate::plan::analysis::is_elementwise;

/// Work of a unit; more than one where a result is put together from parts.
pub(super) fn unit(layout: &Layout<'_, '_>, unit: &[NodeId], sharing: Sharing, level: Level) -> Vec<Work> {
    let Some(&first) = unit.first() else {
        return vec![];
    };
    let analysis = layout.analysis;
    let node = analysis.node(first);
    if is_elementwise(&node.op) {
        return vec![Work::Elementwise(chain::program(layout, unit))];
    }
    let result = layout.result(first);
    let (to, out) = (result.place, result.dims());
    let input = |i: usize| layout.operand(first, i).place;
    let shape = |i: usize| layout.operand(first, i).dims();
    let one = |work| vec![work];
    match &node.op {
        Op::MatMul { ta, tb } => one(Work::MatMul(matmul(layout, first, (*ta, *tb), sharing, level))),
        Op::Attention(options) => {
            let heads = Heads::new(options, &shape(0), &shape(1));
            one(Work::Forward(Forward { heads, q: input(0), k: input(1), v: input(2), y: to }))
        }
        Op::AttentionGrad(options, _) => {
            let heads = Heads::new(options, &shape(0), &shape(1));
            let mut work = Backward { heads, inputs: [0, 1, 2, 3, 4].map(input), gradients: [None; 3] };
            for &id in unit {
                if let Op::AttentionGrad(_, of) = analysis.node(id).op {
                    work.gradients[of as usize] = Some(layout.result(id).place);
                }
            }
            one(Work::Backward(work))
        }
        Op::Row(op) => {
            let width = shape(0).last().copied().unwrap_or(1);
            let inputs = (0..node.inputs.len()).map(input).collect();
            one(Work::Rows(Rows::new(*op, layout.operand(first, 0).len() / width, width, inputs, to)))
        }
        Op::Rope { base, inverse } => one(Work::Rows(Rows::rope(*base, *inverse, &out, input(0), to))),
        Op::Sum(axes) => {
            let sum = Reduce::sum(&shape(0), axes, input(0), to);
            one(Work::Reduce(match layout.unfinished(first) {
                Some(unfinished) => sum.over_slices(unfinished),
                None => sum,
            }))
        }
        Op::Max(axes) => one(Work::Reduce(Reduce::max(&shape(0), axes, input(0), to))),
        Op::ArgMax => one(Work::Reduce(Reduce::argmax(&shape(0), input(0), to))),
        Op::Embedding | Op::EmbeddingGrad(_) | Op::Take | Op::TakeGrad(_) => one(Work::Indexed(indexed(layout, first))),
        Op::Random(kind, name) => one(Work::Draw(Draw { kind: *kind, name: name.clone(), len: result.len(), to })),
        Op::Permute(perm) => {
            let from = strides(&shape(0));
            let axes = out.iter().zip(strides(&out)).zip(perm);
            one(copy(input(0), to, axes.map(|((&len, to), &axis)| Axis { len, from: from[usize::from(axis)], to })))
        }
        Op::BroadcastTo => vec![],
        Op::Slice { axis, start } => {
            let from = strides(&shape(0));
            let start = shifted(input(0), *start as usize * from[usize::from(*axis)]);
            one(copy(start, to, boxed(&out, &from, &strides(&out))))
        }
        Op::Pad { axis, before, .. } => {
            let within = strides(&out);
            let start = shifted(to, *before as usize * within[usize::from(*axis)]);
            let inner = shape(0);
            let copied = copy(input(0), start, boxed(&inner, &strides(&inner), &within));
            vec![Work::Move(Move::clear(to, result.len())), copied]
        }
        Op::Concat(axis) => {
            let within = strides(&out);
            let mut before = 0;
            let part = |i: usize| {
                let part = shape(i);
                let start = shifted(to, before * within[usize::from(*axis)]);
                before += part[usize::from(*axis)];
                copy(input(i), start, boxed(&part, &strides(&part), &within))
            };
            (0..node.inputs.len()).map(part).collect()
        }
        Op::Conv2d(options) => one(conv(layout, first, (ConvKind::Forward, *options), sharing, level)),
        Op::Conv2dInputGrad(options) => one(conv(layout, first, (ConvKind::InputGrad, *options), sharing, level)),
        Op::Conv2dWeightGrad(options) => one(conv(layout, first, (ConvKind::WeightGrad, *options), sharing, level)),
        Op::CumSum { axis, reverse } => {
            one(Work::Scan(Scan { axes: around(&out, *axis), reverse: *reverse, from: input(0), to }))
        }
        Op::Gather(axis) => {
            let (kind, n) = (Chosen::Gather, shape(0)[usize::from(*axis)]);
            one(Work::Choose(Choose { kind, values: input(0), ids: input(1), axes: around(&out, *axis), n, to }))
        }
        Op::ScatterAdd { axis, len } => {
            let (kind, axes, n) = (Chosen::ScatterAdd, around(&shape(0), *axis), *len as usize);
            one(Work::Choose(Choose { kind, values: input(1), ids: input(0), axes, n, to }))
        }
        Op::TopK(k) => {
            let n = shape(0).last().copied().unwrap_or(1);
            let rows = layout.operand(first, 0).len() / n;
            one(Work::TopK(TopK { rows, n, k: *k as usize, from: input(0), to }))
        }
        _ => vec![],
    }
}

/// Lengths before, of, and after an axis.
fn around(shape: &[usize], axis: u8) -> [usize; 3] {
    let axis = usize::from(axis);
    [shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product()]
}

fn conv(
    layout: &Layout<'_, '_>,
    id: NodeId,
    (kind, options): (ConvKind, Conv2d),
    sharing: Sharing,
    level: Level,
) -> Work {
    let seen = [layout.operand(id, 0), layout.operand(id, 1), layout.result(id)];
    let [a, b, out] = seen.each_ref().map(|seen| &seen.shape.0[..]);
    let sizes = match kind {
        ConvKind::Forward => Sizes::new(options, a, b, out),
        ConvKind::InputGrad => Sizes::new(options, out, a, b),
        ConvKind::WeightGrad => Sizes::new(options, a, out, b),
    };
    let [a, b, out] = seen.map(|seen| seen.place);
    Work::Conv(Conv::new(kind, &sizes, [a, b], out, sharing, level))
}

/// Copies of wanted values that stand elsewhere.
pub(super) fn copies<'a>(layout: &'a Layout<'_, '_>) -> impl Iterator<Item = Work> + 'a {
    layout.copies.iter().map(|&(index, id)| {
        let axis = Axis { len: layout.analysis.len(id), from: 1, to: 1 };
        copy(layout.place(id, false), layout.output(index), [axis])
    })
}

/// Packs the right operands that the loop over slices uses again and again.
pub(super) fn packing<'a>(layout: &'a Layout<'_, '_>) -> impl Iterator<Item = Work> + 'a {
    layout.packed.iter().map(|(&(.., [k, n], transposed), &(to, product))| {
        let b = (layout.operand(product, 1).place, transposed);
        Work::Pack(Pack { k, n, b, to })
    })
}

/// Distances of a row-major tensor's elements along its axes.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

fn boxed<'a>(shape: &'a [usize], from: &'a [usize], to: &'a [usize]) -> impl Iterator<Item = Axis> + 'a {
    shape.iter().zip(from).zip(to).map(|((&len, &from), &to)| Axis { len, from, to })
}

fn shifted(place: Place, by: usize) -> Place {
    Place { offset: place.offset + by, ..place }
}

fn copy(from: Place, to: Place, axes: impl IntoIterator<Item = Axis>) -> Work {
    Work::Move(Move::copy(from, to, &axes.into_iter().collect::<Vec<_>>()))
}

fn matmul(layout: &Layout<'_, '_>, id: NodeId, (ta, tb): (bool, bool), sharing: Sharing, level: Level) -> MatMul {
    let (left, right, result) = (layout.operand(id, 0), layout.operand(id, 1), layout.result(id));
    let (a, out) = (left.dims(), result.dims());
    let rank = out.len();
    let mut matmul = MatMul {
        batch: out[..rank - 2].iter().product(),
        m: out[rank - 2],
        n: out[rank - 1],
        k: if ta { a[rank - 2] } else { a[rank - 1] },
        a: (left.place, ta),
        b: (right.place, tb),
        c: result.place,
        over_slices: layout.slices.is_sum(id),
        packed: layout.packed(id),
        part: (0, 0),
    };
    matmul.split(sharing, level);
    matmul
}

fn indexed(layout: &Layout<'_, '_>, id: NodeId) -> Indexed {
    let node = layout.analysis.node(id);
    let operand = |i: usize| layout.operand(id, i);
    let (place, len) = (|i: usize| operand(i).place, |i: usize| operand(i).len());
    let last = |i: usize| operand(i).dims().last().copied().unwrap_or(1);
    let to = layout.result(id).place;
    let (kind, values, ids, count, rows, width) = match node.op {
        Op::Embedding => (Kind::Embedding, place(0), place(1), len(1), len(0) / last(0), last(0)),
        Op::EmbeddingGrad(rows) => (Kind::EmbeddingGrad, place(1), place(0), len(0), rows as usize, last(1)),
        Op::Take => (Kind::Take, place(0), place(1), len(1), last(0), 1),
        Op::TakeGrad(n) => (Kind::TakeGrad, place(1), place(0), len(0), n as usize, 1),
        _ => unreachable!("only operations with indices come here"),
    };
    Indexed { kind, values, ids, count, rows, width, to, over_slices: layout.slices.is_sum(id) }
}
