//! Operations along rows, sums, maxima, rotary positions, and where the largest elements are.

use cairn_engine::backend::{Options, Tensor};
use cairn_engine::gpu::Gpu;
use cairn_engine::graph::{DType, Graph, NodeId, RowOp, Shape, Unary};

use super::{agree, agree_with, choices, options};
use crate::cpu_exact::{Point, hostile};

/// Row lengths around what a lane, a row's lanes, a block, and a round of blocks hold.
const LENGTHS: [u32; 13] = [1, 2, 15, 16, 17, 32, 33, 64, 100, 1000, 4096, 4097, 9000];

const EPS: u32 = 1e-5f32.to_bits();

/// Operations on rows of one operand, or of two.
const ONE: [RowOp; 4] = [RowOp::Softmax, RowOp::LogSoftmax, RowOp::RmsNorm(EPS), RowOp::LayerNorm(EPS)];
const TWO: [RowOp; 4] = [RowOp::SoftmaxGrad, RowOp::LogSoftmaxGrad, RowOp::RmsNormGrad(EPS), RowOp::LayerNormGrad(EPS)];

fn param(g: &mut Graph, i: u32, shape: &[u32]) -> NodeId {
    g.param(i, Shape(shape.to_vec())).unwrap()
}

/// Class ids for rows of `n`: most of them known, some padding, some out of range on either side.
fn ids(rows: u32, n: u32) -> Vec<i32> {
    let id = |row: u32| match row % 7 {
        3 => -1,
        5 => [n as i32, i32::MAX, i32::MIN, -7][(row / 7 % 4) as usize],
        _ => (row.wrapping_mul(2_654_435_761) % n) as i32,
    };
    (0..rows).map(id).collect()
}

/// Every row operation on `rows` rows of `n`.
fn every_row_operation(rows: u32, n: u32) {
    let mut g = Graph::default();
    let (x, dy) = (param(&mut g, 0, &[rows, n]), param(&mut g, 1, &[rows, n]));
    let id = g.input(0, Shape(vec![rows]), DType::I32).unwrap();
    let gradient = param(&mut g, 2, &[rows]);
    let mut wanted: Vec<NodeId> = ONE.iter().map(|&op| g.row(op, &[x]).unwrap()).collect();
    wanted.extend(TWO.map(|op| g.row(op, &[x, dy]).unwrap()));
    wanted.push(g.row(RowOp::CrossEntropy, &[x, id]).unwrap());
    wanted.push(g.row(RowOp::CrossEntropyGrad, &[x, id, gradient]).unwrap());
    // Gradients of what the forward operations give, too, whose numbers are of their range.
    for (forward, backward) in ONE.into_iter().zip(TWO).take(2) {
        let y = g.row(forward, &[x]).unwrap();
        wanted.push(g.row(backward, &[y, dy]).unwrap());
    }
    let count = (rows * n) as usize;
    let plain = |name: &str, count| hostile(name, count).iter().map(|x| x % 8.0).collect::<Vec<f32>>();
    for (kind, x, dy) in
        [("hostile", hostile("x", count), hostile("dy", count)), ("plain", plain("x", count), plain("dy", count))]
    {
        let mut point = Point::new(vec![x, dy, hostile("g", rows as usize)]);
        point.inputs[0] = Tensor::I32(ids(rows, n));
        agree(&format!("{rows} rows of {n}, {kind}"), &g, &wanted, &point);
    }
}

#[test]
fn every_row_operation_on_rows_of_every_length() {
    for n in LENGTHS {
        every_row_operation(7, n);
    }
    for (rows, n) in [(1, 16), (1, 100), (64, 16), (65, 27), (300, 33), (3, 70_000)] {
        every_row_operation(rows, n);
    }
}

/// Every set of axes.
fn sets(rank: u8) -> impl Iterator<Item = Vec<u8>> {
    (1u32..1 << rank).map(move |set| (0..rank).filter(|axis| set >> axis & 1 == 1).collect())
}

fn sums_and_maxima(shape: &[u32]) {
    let mut g = Graph::default();
    let x = param(&mut g, 0, shape);
    let mut wanted = vec![];
    for axes in sets(shape.len() as u8) {
        wanted.extend([g.sum(x, &axes).unwrap(), g.max(x, &axes).unwrap()]);
    }
    let count = shape.iter().product::<u32>() as usize;
    agree(&format!("{shape:?}"), &g, &wanted, &Point::new(vec![hostile("x", count)]));
}

#[test]
fn sums_and_maxima_over_every_set_of_axes() {
    for shape in
        [&[1][..], &[7], &[1, 1], &[3, 1], &[1, 5], &[6, 10], &[5, 1, 7], &[4, 5, 6], &[3, 4, 5, 6], &[2, 1, 3, 2]]
    {
        sums_and_maxima(shape);
    }
}

#[test]
fn sums_and_maxima_of_lengths_around_a_chunk_and_a_block() {
    for n in [255, 256, 257, 511, 512, 513, 1000, 4095, 4096, 4097, 8192, 9000] {
        sums_and_maxima(&[n]);
        sums_and_maxima(&[n, 3]);
        sums_and_maxima(&[3, n]);
    }
    for shape in [&[40, 3, 50][..], &[2, 700, 5], &[130, 4100], &[1, 300_000], &[300, 1, 300], &[70, 70, 70]] {
        sums_and_maxima(shape);
    }
    // So many blocks that their sums are more than one.
    sums_and_maxima(&[(1 << 24) + 70_001]);
}

/// Numbers of which many are equal.
fn ties(name: &str, count: usize) -> Vec<f32> {
    hostile(name, count).iter().map(|x| if x.abs() < 3.0 { x.round() + 0.0 } else { *x }).collect()
}

#[test]
fn first_maxima_and_largest_elements_with_ties() {
    for (rows, n) in LENGTHS.map(|n| (5, n)).into_iter().chain([(2, 70_000)]) {
        let mut g = Graph::default();
        let x = param(&mut g, 0, &[rows, n]);
        let mut found = vec![g.argmax(x).unwrap()];
        found.extend([1, 2, n.div_ceil(2), n].map(|k| g.topk(x, k.min(n)).unwrap()));
        let wanted: Vec<NodeId> = found.iter().map(|&id| g.unary(Unary::ToFloat, id).unwrap()).collect();
        let count = (rows * n) as usize;
        for (kind, x) in [("hostile", hostile("x", count)), ("ties", ties("x", count)), ("equal", vec![-1.0; count])] {
            agree(&format!("largest of {n}, {kind}"), &g, &wanted, &Point::new(vec![x]));
        }
    }
}

#[test]
fn rotary_positions_both_ways() {
    for shape in [&[1, 2][..], &[5, 2], &[3, 17, 16], &[2, 3, 100, 6], &[40, 300, 24], &[1, 1, 5000, 4]] {
        let mut g = Graph::default();
        let x = param(&mut g, 0, shape);
        let mut wanted = vec![];
        for base in [10_000.0f32, 1.0, 0.0, -3.0, f32::NAN, 1e30, 500_000.0] {
            wanted.extend([false, true].map(|inverse| g.rope(x, base.to_bits(), inverse).unwrap()));
        }
        let count = shape.iter().product::<u32>() as usize;
        agree(&format!("rope of {shape:?}"), &g, &wanted, &Point::new(vec![hostile("x", count)]));
    }
}

#[test]
fn sums_over_slices_of_the_batch() {
    // Slices shorter than a chunk, longer, of whole chunks, and such that begin within one and end within another.
    for (rows, micro_batch, shape) in [
        (24, 3, &[5][..]),
        (24, 3, &[7, 2]),
        (12, 3, &[100, 3]),
        (12, 3, &[256, 2]),
        (6, 1, &[255, 2]),
        (6, 2, &[700, 3]),
        (4, 2, &[512, 5]),
        (9, 3, &[1, 1]),
        (6, 3, &[2, 30_000]),
    ] {
        let shape = [&[rows], shape].concat();
        let rank = shape.len() as u8;
        let mut g = Graph::default();
        let x = g.input(0, Shape(shape.clone()), DType::F32).unwrap();
        let mut y = g.row(RowOp::RmsNorm(EPS), &[x]).unwrap();
        y = g.row(RowOp::SoftmaxGrad, &[y, x]).unwrap();
        let wanted: Vec<NodeId> = sets(rank).map(|axes| g.sum(y, &axes).unwrap()).collect();
        let inputs = shape.iter().product::<u32>() as usize;
        let mut point = Point::new(vec![]);
        point.inputs[0] = Tensor::F32(hostile("x", inputs));
        // The row rule does not go on from slice to slice: such sums are another graph's.
        let by_rows = |id: &NodeId| g.nodes()[*id as usize].shape.0.first() == Some(&1) && !ends(&g, *id);
        let sums: Vec<NodeId> = wanted.iter().copied().filter(by_rows).collect();
        for &choice in choices() {
            let options = Options { micro_batch: Some(micro_batch), ..options(choice) };
            let name = format!("{shape:?} in slices of {micro_batch}");
            let gpu = Gpu::new(&g, &sums, &options, choice).unwrap();
            assert_eq!(gpu.slices() as u32, rows / micro_batch, "{name}");
            agree_with(&name, &g, &sums, &point, &options, choice);
            agree_with(&name, &g, &wanted, &point, &options, choice);
        }
    }
}

/// Whether a sum is over the last axis as well.
fn ends(g: &Graph, id: NodeId) -> bool {
    let node = &g.nodes()[id as usize];
    matches!(&node.op, cairn_engine::graph::Op::Sum(axes) if axes.last().is_some_and(|&a| usize::from(a) + 1 == node.shape.0.len()))
}

#[test]
fn a_row_of_more_elements_than_loops_may_have_iterations() {
    let n = 256 * 65_536 + 70_001;
    let mut g = Graph::default();
    let x = param(&mut g, 0, &[1, n]);
    let y = g.row(RowOp::Softmax, &[x]).unwrap();
    let numbers = (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 12) as f32 / 1e5 - 5.0).collect();
    agree("a long row", &g, &[y], &Point::new(vec![numbers]));
}
