//! The candle backend stays near the reference: every case with its gradients, and a short training.

use cairn_engine::backend::{BackendError, Feed, Kind, Options, Tensor, prepare};
use cairn_engine::data::Dataset;
use cairn_engine::graph::{DType, Graph, NodeId, Op, Program, Random, Shape, Unary};
use cairn_engine::run::{Control, Watch, train};
use cairn_protocol::{Hash32, Seed};

use crate::cases::{CASES, SEED, STEP};
use crate::closeness::reference;
use crate::programs::{Gpt, gpt};

fn options(kind: Kind) -> Options {
    Options { kind, threads: 1, isa: None, fuse: true, micro_batch: None }
}

fn candle(
    graph: &Graph,
    inputs: &[Tensor; 2],
    params: &[Vec<f32>],
    states: &[Vec<f32>],
    wanted: &[NodeId],
) -> Vec<Vec<f32>> {
    let feed = Feed { inputs: [&inputs[0], &inputs[1]], params, states, tables: &[], seed: &SEED, step: STEP };
    let mut out = vec![vec![]; wanted.len()];
    prepare(&options(Kind::Candle), graph, wanted).unwrap().run(&feed, &mut out).unwrap();
    out
}

/// The longest axis that a contraction may run over: its operands are rounded by us, not by candle.
fn longest(graph: &Graph) -> Option<u32> {
    let contraction = |op: &Op| {
        let convolution = matches!(op, Op::Conv2d(_) | Op::Conv2dInputGrad(_) | Op::Conv2dWeightGrad(_));
        convolution || matches!(op, Op::MatMul { .. } | Op::Attention(_) | Op::AttentionGrad(..))
    };
    let operands = graph.nodes().iter().filter(|node| contraction(&node.op)).flat_map(|node| node.inputs.clone());
    operands.flat_map(|id| graph.shape(id).unwrap().0.clone()).max()
}

fn close(what: &str, found: &[f32], wanted: &[f32], allowed: f64) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let scale = wanted.iter().fold(1e-3, |most: f64, x| most.max(x.abs().into()));
    for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let error = (f64::from(*found) - f64::from(*wanted)).abs();
        assert!(error <= allowed * scale, "{what}[{i}]: candle {found}, reference {wanted}");
    }
}

#[test]
fn every_case_and_its_gradients_are_near_the_reference() {
    for case in CASES {
        let mut built = case.build();
        let (loss, gradients) = built.differentiate();
        let wanted = [&[built.output, loss][..], &gradients].concat();
        let inputs = [built.ids.clone(), Tensor::I32(vec![])];
        let states = std::slice::from_ref(&built.weights);
        let exact = reference(&built.graph, &inputs, &built.values, states, &[], &wanted);
        let found = candle(&built.graph, &inputs, &built.values, states, &wanted);
        let allowed = longest(&built.graph).map_or(1e-5, |k| 2f64.powi(-9) * f64::from(k).sqrt());
        for (k, (found, exact)) in found.iter().zip(&exact).enumerate() {
            close(&format!("{} {k}", case.name), found, exact, allowed);
        }
    }
}

/// Where plain floats would give infinities or NaN, the listed results; random numbers are the same ones.
#[test]
fn edges_of_the_number_system_and_random_numbers() {
    use cairn_engine::graph::Binary::Div;
    let mut g = Graph::default();
    let x = g.param(0, Shape(vec![6])).unwrap();
    let zero = g.full(0, Shape::default()).unwrap();
    let mut wanted = vec![g.binary(Div, x, zero).unwrap(), g.binary(Div, zero, x).unwrap()];
    for op in
        [Unary::Log, Unary::Sqrt, Unary::Rsqrt, Unary::Recip, Unary::Exp, Unary::Round, Unary::RoundBf16, Unary::Sign]
    {
        wanted.push(g.unary(op, x).unwrap());
    }
    for kind in [Random::Uniform, Random::Normal] {
        wanted.push(g.random(kind, "noise", Shape(vec![7])).unwrap());
    }
    let params = [vec![0.0, -1.0, 2.5, 100.0, -200.0, 3.3]];
    let empty = [Tensor::I32(vec![]), Tensor::I32(vec![])];
    let exact = reference(&g, &empty, &params, &[], &[], &wanted);
    for ((id, found), exact) in wanted.iter().zip(candle(&g, &empty, &params, &[], &wanted)).zip(&exact) {
        for (found, exact) in found.iter().zip(exact) {
            let what = &g.nodes()[*id as usize].op;
            assert!((found - exact).abs() <= 1e-5 * exact.abs(), "{what:?}: candle {found}, reference {exact}");
        }
    }
}

#[test]
fn a_feed_that_does_not_fit_is_an_error() {
    let mut g = Graph::default();
    let x = g.param(0, Shape(vec![3])).unwrap();
    let ids = g.input(0, Shape(vec![2]), DType::I32).unwrap();
    let mut executor = prepare(&options(Kind::Candle), &g, &[x]).unwrap();
    let empty = Tensor::I32(vec![]);
    let feed = Feed { inputs: [&empty; 2], params: &[vec![1.0]], states: &[], tables: &[], seed: &SEED, step: 0 };
    assert!(matches!(executor.run(&feed, &mut [vec![]]), Err(BackendError::Feed(_))), "one element for three");
    assert!(matches!(executor.run(&feed, &mut []), Err(BackendError::Feed(_))), "no room for the result");
    let mut executor = prepare(&options(Kind::Candle), &g, &[ids]).unwrap();
    assert!(matches!(executor.run(&feed, &mut [vec![]]), Err(BackendError::Feed(_))), "an integer node is wanted");
}

#[derive(Default)]
struct Losses(Vec<f32>);

impl Watch for Losses {
    fn step(&mut self, _: u64, _: u64, loss: f32) -> Control {
        self.0.push(loss);
        Control::Continue
    }

    fn segment(&mut self, _: u16, _: Hash32, _: Option<Hash32>) -> Control {
        Control::Continue
    }
}

#[test]
fn a_training_stays_near_the_exact_one() {
    let text = b"to be or not to be, that is the question: ".repeat(100);
    let data = Dataset::load("bytes", &text).unwrap();
    let program: Program = gpt(&Gpt { vocab: 256, ..Gpt::TINY });
    let run = |kind| {
        let mut losses = Losses::default();
        let finished = train(&program, &data, &Seed([3; 32]), 1, &options(kind), &mut losses).unwrap();
        (losses.0, finished.metric)
    };
    let ((found, metric), (exact, exact_metric)) = (run(Kind::Candle), run(Kind::Cpu));
    assert_eq!(found.len(), exact.len());
    assert!(exact.last() < exact.first(), "it learns: {exact:?}");
    for (step, (found, exact)) in found.iter().zip(&exact).enumerate() {
        assert!((found - exact).abs() < 2e-3, "step {step}: candle {found}, exact {exact}");
    }
    let nats = (metric - exact_metric) as f64 / (1 << 24) as f64;
    assert!(nats.abs() < 2e-3, "metrics differ by {nats} nats");
}
