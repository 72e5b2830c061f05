//! From a unit to the work that computes it.

use crate::graph::{Conv2d, NodeId, Op};
use crate::reference::conv::Sizes;

use super::super::attention::{Backward, Forward, Shape as Heads};
use super::super::choose::{Choose, Kind as Chosen, TopK};
use super::super::conv::{Conv, Kind as ConvKind};
use super::super::index::{Indexed, Kind};
use super::super::isa::Level;
use super::super::matmul::MatMul;
use super::super::memory::Place;
use super::super::moves::{Axis, Move};
use super::super::random::Draw;
use super::super::reduce::Reduce;
use super::super::rows::Rows;
use super::super::scan::Scan;
use super::super::step::{Sharing, Work};
use super::analysis::is_elementwise;
use super::chain;
use super::layout::Layout;

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
    let to = layout.place(first);
    let input = |i: usize| layout.place(node.inputs[i]);
    let shape = |i: usize| dims(layout, node.inputs[i]);
    let out = dims(layout, first);
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
                    work.gradients[of as usize] = Some(layout.place(id));
                }
            }
            one(Work::Backward(work))
        }
        Op::Row(op) => {
            let width = shape(0).last().copied().unwrap_or(1);
            let inputs = node.inputs.iter().map(|&id| layout.place(id)).collect();
            one(Work::Rows(Rows::new(*op, analysis.len(node.inputs[0]) / width, width, inputs, to)))
        }
        Op::Rope { base, inverse } => one(Work::Rows(Rows::rope(*base, *inverse, &out, input(0), to))),
        Op::Sum(axes) => one(Work::Reduce(Reduce::sum(&shape(0), axes, input(0), to))),
        Op::Max(axes) => one(Work::Reduce(Reduce::max(&shape(0), axes, input(0), to))),
        Op::ArgMax => one(Work::Reduce(Reduce::argmax(&shape(0), input(0), to))),
        Op::Embedding | Op::EmbeddingGrad(_) | Op::Take | Op::TakeGrad(_) => one(Work::Indexed(indexed(layout, first))),
        Op::Random(kind, name) => {
            one(Work::Draw(Draw { kind: *kind, name: name.clone(), len: analysis.len(first), to }))
        }
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
            vec![Work::Move(Move::clear(to, analysis.len(first))), copied]
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
        Op::Conv2d(options) => one(conv(layout, first, ConvKind::Forward, *options)),
        Op::Conv2dInputGrad(options) => one(conv(layout, first, ConvKind::InputGrad, *options)),
        Op::Conv2dWeightGrad(options) => one(conv(layout, first, ConvKind::WeightGrad, *options)),
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
            let rows = analysis.len(node.inputs[0]) / n;
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

fn conv(layout: &Layout<'_, '_>, id: NodeId, kind: ConvKind, options: Conv2d) -> Work {
    let node = layout.analysis.node(id);
    let shapes = [node.inputs[0], node.inputs[1], id].map(|id| &layout.analysis.node(id).shape.0[..]);
    let [x, w, y] = match (kind, shapes) {
        (ConvKind::Forward, [x, w, y]) | (ConvKind::InputGrad, [w, y, x]) | (ConvKind::WeightGrad, [x, y, w]) => {
            [x, w, y]
        }
    };
    let placed = |id| (layout.place(id), layout.analysis.len(id));
    let (inputs, to) = ([placed(node.inputs[0]), placed(node.inputs[1])], placed(id));
    Work::Conv(Conv { kind, sizes: Sizes::new(options, x, w, y), inputs, to })
}

/// Copies of wanted values that stand elsewhere.
pub(super) fn copies<'a>(layout: &'a Layout<'_, '_>) -> impl Iterator<Item = Work> + 'a {
    layout.copies.iter().map(|&(index, id)| {
        let axis = Axis { len: layout.analysis.len(id), from: 1, to: 1 };
        copy(layout.place(id), layout.output(index), [axis])
    })
}

fn dims(layout: &Layout<'_, '_>, id: NodeId) -> Vec<usize> {
    layout.analysis.node(id).shape.0.iter().map(|&len| len as usize).collect()
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
    let node = layout.analysis.node(id);
    let (left, out) = (dims(layout, node.inputs[0]), dims(layout, id));
    let rank = out.len();
    let mut matmul = MatMul {
        batch: out[..rank - 2].iter().product(),
        m: out[rank - 2],
        n: out[rank - 1],
        k: if ta { left[rank - 2] } else { left[rank - 1] },
        a: (layout.place(node.inputs[0]), ta),
        b: (layout.place(node.inputs[1]), tb),
        c: layout.place(id),
        part: (0, 0),
    };
    matmul.split(sharing, level);
    matmul
}

fn indexed(layout: &Layout<'_, '_>, id: NodeId) -> Indexed {
    let node = layout.analysis.node(id);
    let place = |i: usize| layout.place(node.inputs[i]);
    let len = |i: usize| layout.analysis.len(node.inputs[i]);
    let last = |i: usize| dims(layout, node.inputs[i]).last().copied().unwrap_or(1);
    let to = layout.place(id);
    let (kind, values, ids, count, rows, width) = match node.op {
        Op::Embedding => (Kind::Embedding, place(0), place(1), len(1), len(0) / last(0), last(0)),
        Op::EmbeddingGrad(rows) => (Kind::EmbeddingGrad, place(1), place(0), len(0), rows as usize, last(1)),
        Op::Take => (Kind::Take, place(0), place(1), len(1), last(0), 1),
        Op::TakeGrad(n) => (Kind::TakeGrad, place(1), place(0), len(0), n as usize, 1),
        _ => unreachable!("only operations with indices come here"),
    };
    Indexed { kind, values, ids, count, rows, width, to }
}
