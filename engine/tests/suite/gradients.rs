//! Gradients: autodiff in `f64` against central differences, and what calculus does not settle.

use std::collections::BTreeSet;

use cairn_engine::backend::Tensor;
use cairn_engine::grad::gradients;
use cairn_engine::graph::{Binary, Graph, GraphError, NodeId, Op, RowOp, Shape, Unary};
use cairn_engine::oracle::{Point, evaluate_at};

use crate::cases::{CASES, Numbers, Values, name, names_without, point};
use crate::programs::{Gpt, Mlp, batch, gpt_objective, mlp_objective};

/// Checks each element of each gradient against a central difference of the loss.
pub(crate) fn check(what: &str, graph: &Graph, loss: NodeId, gradients: &[NodeId], point: &Point) {
    const STEP: f64 = 1e-5;
    let found = evaluate_at(graph, point, gradients);
    let (graph, roots) = graph.pruned(&[loss]);
    let loss_at = |i: usize, j: usize, by: f64| {
        let mut moved = point.clone();
        moved.params[i][j] += by;
        evaluate_at(&graph, &moved, &roots)[0][0]
    };
    for (i, gradient) in found.iter().enumerate() {
        assert_eq!(gradient.len(), point.params[i].len(), "{what}: gradient {i}");
        for (j, &found) in gradient.iter().enumerate() {
            let difference = (loss_at(i, j, STEP) - loss_at(i, j, -STEP)) / (2.0 * STEP);
            let allowed = 1e-6 * difference.abs().max(found.abs()) + 1e-9;
            assert!(
                (found - difference).abs() <= allowed,
                "{what}: operand {i}[{j}]: {found}, difference {difference}"
            );
        }
    }
}

#[test]
fn every_operation_agrees_with_central_differences() {
    for case in CASES {
        let mut built = case.build();
        let (loss, gradients) = built.differentiate();
        check(case.name, &built.graph, loss, &gradients, &built.point());
    }
}

#[test]
fn whole_models_agree_with_central_differences() {
    let window = Gpt { window: 3, depth: 2, ..Gpt::TINY };
    let mut models = vec![
        (gpt_objective(&Gpt::TINY), batch(Gpt::TINY.vocab, Gpt::TINY.batch, Gpt::TINY.context)),
        (mlp_objective(&Mlp::TINY), batch(Mlp::TINY.vocab, Mlp::TINY.batch, Mlp::TINY.context)),
        (gpt_objective(&window), batch(window.vocab, window.batch, window.context)),
    ];
    for ((builder, loss, params), inputs) in &mut models {
        let gradients = gradients(&mut builder.graph, *loss, params).unwrap();
        let mut numbers = Numbers::new("parameters");
        let values: Vec<_> = builder.params.iter().map(|p| numbers.tensor(&p.shape.0, Values::Any)).collect();
        check("model", &builder.graph, *loss, &gradients, &point(inputs.clone(), &values, &[]));
    }
}

#[test]
fn the_cases_and_their_gradients_have_every_operation() {
    let mut had = BTreeSet::new();
    for case in CASES {
        let mut built = case.build();
        built.differentiate();
        had.extend(built.graph.nodes().iter().map(|node| name(&node.op)));
    }
    // Nothing flows through these but through the rounding, whose gradient is not the difference's (see below).
    let elsewhere = ["Table", "Random Uniform", "Random Normal", "Unary RoundBf16"];
    assert_eq!(had, names_without(&elsewhere));
}

/// A graph of one parameter of 4 elements, what is built on it, and the gradient of its sum, at `x`.
fn gradient_of_sum(x: [f32; 4], build: impl Fn(&mut Graph, NodeId) -> NodeId) -> Vec<f64> {
    let mut g = Graph::default();
    let p = g.param(0, Shape(vec![4])).unwrap();
    let y = build(&mut g, p);
    let axes: Vec<u8> = (0..g.shape(y).unwrap().0.len() as u8).collect();
    let loss = g.sum(y, &axes).unwrap();
    let found = gradients(&mut g, loss, &[p]).unwrap();
    evaluate_at(&g, &point([Tensor::I32(vec![]), Tensor::I32(vec![])], &[x.to_vec()], &[]), &found).remove(0)
}

#[test]
fn kinks_and_ties_have_the_listed_gradients() {
    let unary = |op, x| gradient_of_sum(x, |g, p| g.unary(op, p).unwrap());
    assert_eq!(unary(Unary::Relu, [-1.0, 0.0, 0.5, 2.0]), [0.0, 0.0, 1.0, 1.0]);
    assert_eq!(unary(Unary::Abs, [-1.0, 0.0, 0.5, 2.0]), [-1.0, 0.0, 1.0, 1.0]);
    assert_eq!(unary(Unary::RoundBf16, [1.0 + 1e-4, 0.0, 0.1, -3.0]), [1.0; 4], "as a cast passes it");
    let max = |shape: [u32; 2], axes: &'static [u8]| {
        gradient_of_sum([1.0, 3.0, 3.0, 3.0], move |g, p| {
            let square = g.reshape(p, Shape(shape.to_vec())).unwrap();
            g.max(square, axes).unwrap()
        })
    };
    assert_eq!(max([1, 4], &[1]), [0.0, 1.0, 0.0, 0.0]);
    assert_eq!(max([2, 2], &[0, 1]), [0.0, 1.0, 0.0, 0.0]);
    assert_eq!(max([2, 2], &[0]), [0.0, 1.0, 1.0, 0.0]);
    // Against itself, element by element, the first operand takes all; a second use then adds nothing.
    for op in [Binary::Max, Binary::Min] {
        let first = gradient_of_sum([1.0, 2.0, 2.0, 5.0], |g, p| {
            let other = g.full(2.0f32.to_bits(), Shape::default()).unwrap();
            g.binary(op, p, other).unwrap()
        });
        let second = gradient_of_sum([1.0, 2.0, 2.0, 5.0], |g, p| {
            let other = g.full(2.0f32.to_bits(), Shape::default()).unwrap();
            g.binary(op, other, p).unwrap()
        });
        let (low, high) = if op == Binary::Max { (0.0, 1.0) } else { (1.0, 0.0) };
        assert_eq!(first, [low, 1.0, 1.0, high]);
        assert_eq!(second, [low, 0.0, 0.0, high]);
    }
}

#[test]
fn what_passes_no_gradient_passes_none() {
    let square = |g: &mut Graph, p| g.binary(Binary::Mul, p, p).unwrap();
    let stopped = gradient_of_sum([1.0, 2.0, 3.0, 4.0], |g, p| {
        let constant = g.stop_gradient(p).unwrap();
        g.binary(Binary::Mul, p, constant).unwrap()
    });
    assert_eq!(stopped, [1.0, 2.0, 3.0, 4.0], "half of what x*x passes");
    let none = gradient_of_sum([1.0, 2.0, 3.0, 4.0], |g, p| {
        let squared = square(g, p);
        g.stop_gradient(squared).unwrap()
    });
    assert_eq!(none, [0.0; 4]);
}

#[test]
fn terms_are_added_by_descending_consumer_and_ascending_operand() {
    let mut g = Graph::default();
    let shape = || Shape(vec![3]);
    let [p, q] = [0, 1].map(|i| g.param(i, shape()).unwrap());
    let early = g.unary(Unary::Tanh, p).unwrap();
    let twice = g.binary(Binary::Sub, p, p).unwrap();
    let late = g.binary(Binary::Mul, p, q).unwrap();
    let sum = g.binary(Binary::Add, early, twice).unwrap();
    let sum = g.binary(Binary::Add, sum, late).unwrap();
    let loss = g.sum(sum, &[0]).unwrap();
    let found = gradients(&mut g, loss, &[p]).unwrap()[0];
    // ((late's + twice's first) + twice's second) + early's
    let node = |id: NodeId| &g.nodes()[id as usize];
    let mut terms = vec![];
    let mut sum = found;
    while node(sum).op == Op::Binary(Binary::Add) {
        terms.push(node(sum).inputs[1]);
        sum = node(sum).inputs[0];
    }
    terms.push(sum);
    let [from_early, second, first, from_late] = terms[..] else { panic!("{terms:?}") };
    assert_eq!((&node(from_late).op, node(from_late).inputs[1]), (&Op::Binary(Binary::Mul), q));
    assert_eq!(node(second).op, Op::Unary(Unary::Neg));
    assert_eq!(node(second).inputs[0], first);
    assert_eq!(node(from_early).op, Op::Binary(Binary::Mul));
}

#[test]
fn gradients_are_blamed_on_the_forward_line() {
    let mut g = Graph::default();
    g.set_line(3);
    let p = g.param(0, Shape(vec![2, 2])).unwrap();
    g.set_line(5);
    let product = g.matmul(p, p).unwrap();
    g.set_line(7);
    let tanh = g.unary(Unary::Tanh, product).unwrap();
    g.set_line(9);
    let loss = g.sum(tanh, &[0, 1]).unwrap();
    g.set_line(11);
    let forward = g.len();
    gradients(&mut g, loss, &[p]).unwrap();
    assert_eq!(g.line(), 11, "the caller's line is kept");
    let lines: Vec<_> = (forward..g.len()).map(|id| (name(&g.nodes()[id].op), g.line_of(id as NodeId))).collect();
    let expected =
        [("Full", 9), ("BroadcastTo", 9), ("Binary Mul", 7), ("Full", 7), ("Binary Sub", 7), ("Binary Mul", 7)];
    assert_eq!(lines[..6], expected.map(|(name, line)| (name.to_owned(), line)));
    assert!(lines[6..].iter().all(|(_, line)| *line == 5), "{lines:?}");
}

#[test]
fn a_weight_shared_by_all_rows_gets_one_contraction() {
    let mut g = Graph::default();
    let (x, w) = (g.state(0, Shape(vec![2, 3, 4])).unwrap(), g.param(0, Shape(vec![4, 5])).unwrap());
    let y = g.matmul(x, w).unwrap();
    let loss = g.sum(y, &[0, 1, 2]).unwrap();
    let found = gradients(&mut g, loss, &[w]).unwrap()[0];
    let node = &g.nodes()[found as usize];
    assert_eq!(node.op, Op::MatMul { ta: true, tb: false });
    assert_eq!(g.shape(node.inputs[0]).unwrap().0, [6, 4]);
}

#[test]
fn refusals() {
    let mut g = Graph::default();
    let p = g.param(0, Shape(vec![3])).unwrap();
    assert!(matches!(gradients(&mut g, p, &[p]), Err(GraphError::Shape(_))), "three losses");
    let twice = g.row(RowOp::SoftmaxGrad, &[p, p]).unwrap();
    let loss = g.sum(twice, &[0]).unwrap();
    assert!(matches!(gradients(&mut g, loss, &[p]), Err(GraphError::Gradient(_))), "a second derivative");
    let unused = g.param(1, Shape(vec![2])).unwrap();
    let one = g.full(1.0f32.to_bits(), Shape::default()).unwrap();
    let zero = gradients(&mut g, one, &[unused]).unwrap()[0];
    assert_eq!((&g.nodes()[zero as usize].op, g.shape(zero).unwrap()), (&Op::Full(0), &Shape(vec![2])));
}
