//! The f32 reference stays near the f64 oracle: 2^-10·√k for contractions over k terms, 1e-5 for all else.

use cairn_engine::backend::{Executor, Feed, Tensor};
use cairn_engine::grad::gradients;
use cairn_engine::graph::{Binary, DType, Graph, NodeId, Op, Program, Shape, Unary};
use cairn_engine::oracle::{Point, evaluate_given};
use cairn_engine::random;
use cairn_engine::reference::Reference;

use crate::cases::{CASES, Numbers, SEED, STEP, Values};
use crate::programs::{Gpt, Mlp, batch, gpt, gpt_objective, mlp, mlp_objective};

/// The wanted nodes on the reference backend.
pub(crate) fn reference(
    graph: &Graph,
    inputs: &[Tensor; 2],
    params: &[Vec<f32>],
    states: &[Vec<f32>],
    tables: &[f32],
    wanted: &[NodeId],
) -> Vec<Vec<f32>> {
    let feed = Feed { inputs: [&inputs[0], &inputs[1]], params, states, tables, seed: &SEED, step: STEP };
    let length = |&id: &NodeId| graph.shape(id).unwrap().elements() as usize;
    let mut out: Vec<Vec<f32>> = wanted.iter().map(|id| vec![0.0; length(id)]).collect();
    Reference::new(graph, wanted).run(&feed, &mut out).unwrap();
    out
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, x| most.max(x.abs()))
}

/// How far a node's elements may be from exact ones, given the largest elements of its operands.
fn allowed(graph: &Graph, id: NodeId, exact: &[f64], operands: &[f64]) -> Box<dyn Fn(f64) -> f64> {
    let node = &graph.nodes()[id as usize];
    let shape = |k: usize| &graph.shape(node.inputs[k]).unwrap().0;
    let elements = |k: usize| graph.shape(node.inputs[k]).unwrap().elements() as f64;
    let contraction = |k: f64, size: f64| 2f64.powi(-10) * k.sqrt() * size + 1e-7;
    match &node.op {
        Op::MatMul { .. } => {
            // m·k · k·n / (m·n) is k², for each product of a batch.
            let outputs = node.shape.elements() as f64;
            let batches = if node.shape.0.len() == 3 { f64::from(node.shape.0[0]) } else { 1.0 };
            let k = (elements(0) * elements(1) / outputs / batches).sqrt();
            let bound = contraction(k, operands[0] * operands[1]);
            Box::new(move |_| bound)
        }
        Op::Conv2d(_) | Op::Conv2dInputGrad(_) | Op::Conv2dWeightGrad(_) => {
            // A kernel for each output; for each input channel; an output's pixels.
            let k = match node.op {
                Op::Conv2d(_) => elements(1) / f64::from(shape(1)[0]),
                Op::Conv2dInputGrad(_) => elements(0) / f64::from(shape(0)[1]),
                _ => elements(1) / f64::from(shape(1)[1]),
            };
            let bound = contraction(k, operands[0] * operands[1]);
            Box::new(move |_| bound)
        }
        Op::Attention(options) | Op::AttentionGrad(options, _) => {
            // The scores' error moves the probabilities by as much, relatively.
            let terms = f64::from(shape(0)[3] + shape(1)[2]);
            let scale = f64::from(f32::from_bits(options.scale)).abs();
            let scores = operands[0] * operands[1] * scale * f64::from(shape(0)[3]).sqrt();
            let dy = operands.get(4).copied().unwrap_or(1.0);
            let bound = contraction(terms, scores.max(1.0) * operands[2].max(1.0) * dy.max(1.0));
            Box::new(move |_| bound)
        }
        Op::Unary(_) | Op::Binary(_) | Op::Where => Box::new(|exact| 1e-5 * exact.abs() + 1e-7),
        _ => {
            let scale = largest(exact).max(operands.iter().copied().fold(0.0, f64::max));
            Box::new(move |_| 1e-5 * scale)
        }
    }
}

/// Runs every float node on the reference, and checks each against the exact value on the operands that the reference had.
fn check(what: &str, graph: &Graph, inputs: [Tensor; 2], params: &[Vec<f32>], states: &[Vec<f32>], tables: &[f32]) {
    let wanted: Vec<NodeId> = (0..graph.len() as NodeId).filter(|&id| graph.dtype(id).unwrap() == DType::F32).collect();
    let found = reference(graph, &inputs, params, states, tables, &wanted);
    let mut given = vec![None; graph.len()];
    for (&id, found) in wanted.iter().zip(&found) {
        given[id as usize] = Some(found.clone());
    }
    let feed = Feed { inputs: [&inputs[0], &inputs[1]], params, states, tables, seed: &SEED, step: STEP };
    let exact = evaluate_given(graph, &Point::from(&feed), &given);
    for (&id, found) in wanted.iter().zip(&found) {
        let node = &graph.nodes()[id as usize];
        let operand = |&k: &NodeId| given[k as usize].as_deref().unwrap_or_default();
        let operands: Vec<f64> =
            node.inputs.iter().map(|k| operand(k).iter().fold(0.0, |most: f64, x| most.max(x.abs().into()))).collect();
        let exact = &exact[id as usize];
        let allowed = allowed(graph, id, exact, &operands);
        assert_eq!(found.len(), exact.len(), "{what}: {:?}", node.op);
        for (i, (&found, &exact)) in found.iter().zip(exact).enumerate() {
            let error = (f64::from(found) - exact).abs();
            assert!(error <= allowed(exact), "{what}: node {id} {:?}[{i}]: {found}, exactly {exact}", node.op);
        }
    }
}

#[test]
fn every_operation_and_its_gradient() {
    for case in CASES {
        let mut built = case.build();
        built.differentiate();
        let inputs = [built.ids.clone(), Tensor::I32(vec![])];
        check(case.name, &built.graph, inputs, &built.values, std::slice::from_ref(&built.weights), &[]);
    }
}

#[test]
fn long_reductions_and_contractions() {
    let mut g = Graph::default();
    let x = g.param(0, Shape(vec![3, 5000])).unwrap();
    let w = g.param(1, Shape(vec![5000, 4])).unwrap();
    g.contraction((x, false), (w, false)).unwrap();
    g.contraction((w, true), (w, false)).unwrap();
    g.sum(x, &[0, 1]).unwrap();
    g.sum(w, &[0]).unwrap();
    g.max(x, &[1]).unwrap();
    let mut numbers = Numbers::new("long");
    let values = [numbers.tensor(&[3, 5000], Values::Any), numbers.tensor(&[5000, 4], Values::Any)];
    let empty = [Tensor::I32(vec![]), Tensor::I32(vec![])];
    check("long", &g, empty, &values, &[], &[]);
}

#[test]
fn bf16_and_random_numbers() {
    let mut g = Graph::default();
    let x = g.param(0, Shape(vec![40])).unwrap();
    g.unary(Unary::RoundBf16, x).unwrap();
    for kind in [cairn_engine::graph::Random::Uniform, cairn_engine::graph::Random::Normal] {
        let noise = g.random(kind, "noise", Shape(vec![8, 5])).unwrap();
        g.binary(Binary::Mul, noise, noise).unwrap();
    }
    let values = [Numbers::new("bf16").tensor(&[40], Values::Any)];
    check("bf16", &g, [Tensor::I32(vec![]), Tensor::I32(vec![])], &values, &[], &[]);
}

/// Every node of a whole training step, AdamW included, in the middle of a run.
#[test]
fn every_node_of_a_training_step() {
    let programs: [(Program, [Tensor; 2]); 2] = [
        (gpt(&Gpt::TINY), batch(Gpt::TINY.vocab, Gpt::TINY.batch, Gpt::TINY.context)),
        (mlp(&Mlp::TINY), batch(Mlp::TINY.vocab, Mlp::TINY.batch, Mlp::TINY.context)),
    ];
    for (program, inputs) in programs {
        let params: Vec<Vec<f32>> = program.params.iter().map(|param| random::init(param, &SEED)).collect();
        let mut numbers = Numbers::new("states");
        let states: Vec<Vec<f32>> =
            program.states.iter().map(|state| numbers.tensor(&state.shape.0, Values::Positive)).collect();
        let tables: Vec<f32> = program.tables.iter().map(|table| table[STEP as usize]).collect();
        check("step", &program.phases[0].graph, inputs, &params, &states, &tables);
    }
}

/// From the first node to the last gradient: errors pile up, and stay within the bound of a contraction of each width.
#[test]
fn gradients_of_whole_models() {
    let mut models = [
        (gpt_objective(&Gpt::TINY), batch(Gpt::TINY.vocab, Gpt::TINY.batch, Gpt::TINY.context), Gpt::TINY.width),
        (mlp_objective(&Mlp::TINY), batch(Mlp::TINY.vocab, Mlp::TINY.batch, Mlp::TINY.context), Mlp::TINY.hidden),
    ];
    for ((builder, loss, nodes), inputs, width) in &mut models {
        let mut wanted = gradients(&mut builder.graph, *loss, nodes).unwrap();
        wanted.push(*loss);
        let params: Vec<Vec<f32>> = builder.params.iter().map(|param| random::init(param, &SEED)).collect();
        let found = reference(&builder.graph, inputs, &params, &[], &[], &wanted);
        let feed = Feed {
            inputs: [&inputs[0], &inputs[1]],
            params: &params,
            states: &[],
            tables: &[],
            seed: &SEED,
            step: STEP,
        };
        let exact = cairn_engine::oracle::evaluate(&builder.graph, &feed, &wanted);
        for (k, (found, exact)) in found.iter().zip(&exact).enumerate() {
            let allowed = 2f64.powi(-10) * f64::from(4 * *width).sqrt() * largest(exact);
            assert!(largest(exact) > 0.0, "gradient {k} is not 0");
            for (i, (&found, &exact)) in found.iter().zip(exact).enumerate() {
                let error = (f64::from(found) - exact).abs();
                assert!(error <= allowed, "gradient {k}[{i}]: {found}, exactly {exact}, allowed {allowed}");
            }
        }
    }
}
