//! Gradients and pruning on graphs that nobody thought of.

use cairn_engine::backend::Tensor;
use cairn_engine::grad::gradients;
use cairn_engine::graph::{Binary, Graph, NodeId, Op, RowOp, Shape, Unary};
use cairn_engine::oracle::evaluate_at;

use crate::cases::{Numbers, Values, point};
use crate::gradients::check;

/// Operations of a graph.
const NODES: usize = 12;

/// A whole number below `n`.
fn below(numbers: &mut Numbers, n: usize) -> usize {
    (numbers.uniform() * n as f64) as usize
}

/// One more node, or none when the drawn operands do not fit.
fn grow(g: &mut Graph, numbers: &mut Numbers, nodes: &[NodeId]) -> Option<NodeId> {
    let mut pick = || nodes[below(numbers, nodes.len())];
    let (a, b) = (pick(), pick());
    let shape = g.shape(a).unwrap().clone();
    let rank = shape.0.len();
    let axis = below(numbers, rank.max(1)) as u8;
    let length = shape.0.get(usize::from(axis)).copied().unwrap_or(0);
    match below(numbers, 17) {
        0 => g.unary(Unary::Tanh, a),
        1 => g.unary(Unary::Sin, a),
        2 => g.unary(Unary::Sigmoid, a),
        3 => g.unary(Unary::Neg, a),
        4 | 5 => g.binary(Binary::Add, a, b),
        6 => g.binary(Binary::Sub, a, b),
        7 | 8 => g.binary(Binary::Mul, a, b),
        9 => g.sum(a, &[axis]),
        10 => g.row([RowOp::Softmax, RowOp::LayerNorm(1.0f32.to_bits())][below(numbers, 2)], &[a]),
        11 => g.permute(a, &(0..rank as u8).rev().collect::<Vec<_>>()),
        12 => g.reshape(a, Shape(vec![shape.elements() as u32])),
        13 => g.matmul(a, b),
        14 => g.concat(&[a, b], axis),
        15 => g.cumsum(a, axis, below(numbers, 2) == 0),
        _ => {
            let start = below(numbers, length.max(1) as usize) as u32;
            g.slice(a, axis, start, length.saturating_sub(start))
        }
    }
    .ok()
    .filter(|&id| g.shape(id).unwrap().elements() <= 64)
}

#[test]
fn random_graphs_agree_with_central_differences() {
    let shapes: [&[u32]; 4] = [&[2, 3], &[3], &[2, 1], &[3, 3]];
    let mut had = 0;
    for seed in 0..60 {
        let mut numbers = Numbers::new(&format!("graph {seed}"));
        let mut g = Graph::default();
        let params: Vec<NodeId> = (0..).zip(shapes).map(|(i, s)| g.param(i, Shape(s.to_vec())).unwrap()).collect();
        let mut nodes = params.clone();
        while nodes.len() < params.len() + NODES {
            nodes.extend(grow(&mut g, &mut numbers, &nodes));
        }
        // The sum of sums of the last nodes, each kept small, so that differences keep their digits.
        let mut loss = g.full(0, Shape::default()).unwrap();
        for &id in &nodes[nodes.len() - 4..] {
            let axes: Vec<u8> = (0..g.shape(id).unwrap().0.len() as u8).collect();
            let small = g.unary(Unary::Tanh, id).unwrap();
            let sum = if axes.is_empty() { small } else { g.sum(small, &axes).unwrap() };
            let sum = g.reshape(sum, Shape::default()).unwrap();
            loss = g.binary(Binary::Add, loss, sum).unwrap();
        }
        let found = gradients(&mut g, loss, &params).unwrap();
        let values: Vec<Vec<f32>> = shapes.iter().map(|s| numbers.tensor(s, Values::Any)).collect();
        let point = point([Tensor::I32(vec![]), Tensor::I32(vec![])], &values, &[]);
        check(&format!("graph {seed}"), &g, loss, &found, &point);

        let wanted = [&[loss][..], &found].concat();
        let (pruned, roots) = g.pruned(&wanted);
        assert_eq!(evaluate_at(&pruned, &point, &roots), evaluate_at(&g, &point, &wanted), "graph {seed}");
        had += found.iter().filter(|&&id| !matches!(g.nodes()[id as usize].op, Op::Full(0))).count();
    }
    assert!(had > 120, "only {had} gradients were not trivial");
}
