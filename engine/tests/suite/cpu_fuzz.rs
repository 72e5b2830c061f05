//! The cpu backend against the reference on graphs that nobody thought of, and on whole training steps.

use std::collections::BTreeSet;

use cairn_engine::backend::{Executor, Tensor};
use cairn_engine::cpu::Cpu;
use cairn_engine::grad::gradients;
use cairn_engine::graph::{Attention, Binary, Conv2d, DType, Graph, NodeId, Op, Program, Random, RowOp, Shape, Unary};
use cairn_engine::random::init;
use cairn_engine::reference::Reference;
use cairn_protocol::Seed;

use crate::cases::{self, Numbers};
use crate::cpu_exact::{Point, agree, hostile, options};
use crate::programs::{Gpt, Mlp, batch, gpt, mlp};

/// Operations of a random graph.
const NODES: usize = 40;
/// Operands of a random graph that are kernels of convolutions.
const KERNELS: usize = 2;
/// Most elements of a node: enough for several blocks.
const ELEMENTS: u64 = 4000;

/// Random graphs of an ordinary run; the variable in [`graphs`] asks for more.
const GRAPHS: u64 = 80;

/// How many random graphs this run compares.
pub(crate) fn graphs() -> u64 {
    let asked = std::env::var("CAIRN_FUZZ_GRAPHS");
    asked.map_or(GRAPHS, |text| text.parse().unwrap_or_else(|_| panic!("CAIRN_FUZZ_GRAPHS is no number: {text}")))
}

/// A whole number below `n`.
fn below(numbers: &mut Numbers, n: usize) -> usize {
    (numbers.uniform() * n as f64) as usize
}

fn one_of<T: Copy>(numbers: &mut Numbers, all: &[T]) -> T {
    all[below(numbers, all.len())]
}

/// One more node, or none when the drawn operands do not fit.
fn grow(g: &mut Graph, numbers: &mut Numbers, nodes: &[NodeId], ids: &mut Vec<NodeId>) -> Option<NodeId> {
    let recent = nodes.len().saturating_sub(8);
    let mut pick = || match below(numbers, 2) {
        0 => nodes[below(numbers, nodes.len())],
        _ => nodes[recent + below(numbers, nodes.len() - recent)],
    };
    let (a, b, c) = (pick(), pick(), pick());
    let shape = g.shape(a).unwrap().clone();
    let rank = shape.0.len();
    let axis = below(numbers, rank.max(1)) as u8;
    let length = shape.0.get(usize::from(axis)).copied().unwrap_or(0);
    let unary = [Unary::Tanh, Unary::Exp, Unary::Relu, Unary::Sqrt, Unary::Sin, Unary::Round, Unary::Recip];
    let binary = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Lt, Binary::Eq];
    let rows = [RowOp::Softmax, RowOp::LogSoftmax, RowOp::RmsNorm(1), RowOp::LayerNorm(1.0f32.to_bits())];
    let gradient_rows = [RowOp::SoftmaxGrad, RowOp::RmsNormGrad(1.0f32.to_bits())];
    match below(numbers, 34) {
        0..=3 => g.unary(one_of(numbers, &unary), a),
        4..=10 => g.binary(one_of(numbers, &binary), a, b),
        11 => g.where_(a, b, c),
        12 => g.sum(a, &[axis]),
        13 => g.sum(a, &(0..rank as u8).filter(|_| below(numbers, 2) == 0).collect::<Vec<_>>()),
        14 => g.max(a, &[axis]),
        15 => g.row(one_of(numbers, &rows), &[a]),
        16 => g.row(one_of(numbers, &gradient_rows), &[a, b]),
        17 => g.permute(a, &(0..rank as u8).rev().collect::<Vec<_>>()),
        18 => g.reshape(a, Shape(vec![shape.elements() as u32])),
        19 => g.broadcast_to(a, g.shape(b).unwrap().clone()),
        20 => g.matmul(a, b),
        21 => g.concat(&[a, b], axis),
        22 => g.pad(a, axis, 1, 2),
        23 => {
            let id = one_of(numbers, ids);
            let float = g.unary(Unary::ToFloat, id).unwrap();
            g.binary(Binary::Mul, a, float)
        }
        25 => g.cumsum(a, axis, below(numbers, 2) == 0),
        26 | 27 => {
            let id = one_of(numbers, ids);
            g.gather(a, id, axis)
        }
        28 => {
            let id = one_of(numbers, ids);
            g.scatter_add(id, a, axis, 1 + below(numbers, 50) as u32)
        }
        29 => {
            let order = g.topk(a, 1 + below(numbers, length.max(1) as usize) as u32).ok()?;
            ids.push(order);
            g.gather(a, order, rank.max(1) as u8 - 1)
        }
        30 => {
            let whole = g.unary(Unary::ToInt, a).ok()?;
            let id = one_of(numbers, ids);
            ids.push(g.where_(b, whole, id).ok().unwrap_or(whole));
            g.unary(Unary::ToFloat, *ids.last()?)
        }
        31..=33 => {
            let images: Vec<NodeId> = nodes.iter().copied().filter(|&id| g.shape(id).unwrap().0.len() == 4).collect();
            let (x, w) = (one_of(numbers, &images), one_of(numbers, &images[..KERNELS]));
            let mut pair = |n: usize, from: u32| [0; 2].map(|_| from + below(numbers, n) as u32);
            let (stride, padding, dilation) = (pair(2, 1), pair(3, 0), pair(2, 1));
            let groups = g.shape(x).unwrap().0[1] / g.shape(w).unwrap().0[1];
            g.conv2d(x, w, Conv2d { stride, padding, dilation, groups })
        }
        24 => g.full(one_of(numbers, &[0.0f32, 1.0, -0.5]).to_bits(), shape),
        _ => {
            let start = below(numbers, length.max(1) as usize) as u32;
            let len = 1 + below(numbers, length.saturating_sub(start).max(1) as usize) as u32;
            g.slice(a, axis, start, len)
        }
    }
    .ok()
    .filter(|&id| g.shape(id).unwrap().elements() <= ELEMENTS)
}

#[test]
pub(crate) fn random_graphs_have_the_bits_of_the_reference() {
    let mut had = BTreeSet::new();
    for seed in 0..graphs() {
        let name = format!("graph {seed}");
        let mut numbers = Numbers::new(&name);
        let mut g = Graph::default();
        // The first of four axes are kernels.
        let shapes: [&[u32]; 9] =
            [&[40, 60], &[60], &[40, 1], &[], &[2, 40, 5], &[60, 7], &[4, 2, 3, 2], &[2, 1, 2, 3], &[2, 2, 13, 11]];
        let mut nodes: Vec<NodeId> = (0..).zip(shapes).map(|(i, s)| g.param(i, Shape(s.to_vec())).unwrap()).collect();
        let params = nodes.clone();
        nodes.push(g.table(0).unwrap());
        nodes.push(g.random(Random::Normal, "noise", Shape(vec![40, 60])).unwrap());
        let range = g.arange(60).unwrap();
        let mut ids = vec![range, g.input(0, Shape(vec![40, 60]), DType::I32).unwrap()];
        while nodes.len() < NODES {
            nodes.extend(grow(&mut g, &mut numbers, &nodes, &mut ids));
        }
        let mut wanted: Vec<NodeId> = (0..5).map(|_| one_of(&mut numbers, &nodes)).collect();
        wanted.extend(&nodes[NODES - 3..]);
        // Backward through the last nodes, where their operations have gradients.
        let last = nodes[NODES - 1];
        let axes: Vec<u8> = (0..g.shape(last).unwrap().0.len() as u8).collect();
        let small = g.unary(Unary::Tanh, last).unwrap();
        let loss = if axes.is_empty() { small } else { g.sum(small, &axes).unwrap() };
        let before = g.clone();
        match gradients(&mut g, loss, &params) {
            Ok(found) => wanted.extend(found),
            Err(_) => g = before,
        }
        wanted.push(loss);
        let lengths = shapes.map(|s| Shape(s.to_vec()).elements() as usize);
        let plain = |i: usize| {
            let values = hostile(&format!("{name} {i}"), lengths[i]);
            if seed % 2 == 0 { values.iter().map(|x| x.clamp(-3.0, 3.0)).collect() } else { values }
        };
        let mut point = Point::new((0..lengths.len()).map(plain).collect());
        point.inputs[0] = Tensor::I32((0..2400).map(|i| i * 31 % 97 - 48).collect());
        point.tables = vec![0.25];
        agree(&name, &g, &wanted, &point);
        had.extend(g.nodes().iter().map(|node| cases::name(&node.op)));
    }
    for drawn in
        ["Conv2d", "Conv2dInputGrad", "Conv2dWeightGrad", "CumSum", "Gather", "ScatterAdd", "TopK", "Unary ToInt"]
    {
        assert!(had.contains(drawn), "no graph has {drawn}: {had:?}");
    }
}

/// The point at which a program's training starts, and what a step gives.
pub(crate) fn start(program: &Program) -> (Point, Vec<NodeId>) {
    let phase = &program.phases[0];
    let vocab = program.params[0].shape.0[0];
    let point = Point {
        inputs: batch(vocab, phase.batch, phase.context),
        params: program.params.iter().map(|param| init(param, &Seed([5; 32]))).collect(),
        states: program.states.iter().map(|state| vec![0.0; state.shape.elements() as usize]).collect(),
        tables: program.tables.iter().map(|table| table[0]).collect(),
        step: 0,
    };
    (point, phase.wanted())
}

/// Runs some steps and gives everything that came out.
pub(crate) fn train(program: &Program, executor: &mut dyn Executor, steps: u64) -> Vec<Vec<u32>> {
    let (mut point, wanted) = start(program);
    let mut all = vec![];
    for step in 0..steps {
        point.step = step;
        point.tables = program.tables.iter().map(|table| table[step as usize]).collect();
        let mut out = point.run(executor, wanted.len()).unwrap();
        all.extend(out.iter().map(|values| values.iter().map(|x| x.to_bits()).collect()));
        point.states = out.split_off(1 + point.params.len());
        point.params = out.split_off(1);
    }
    all
}

#[test]
pub(crate) fn training_steps_have_the_bits_of_the_reference() {
    let programs = [
        ("gpt", gpt(&Gpt { width: 24, context: 20, ..Gpt::TINY })),
        ("windowed gpt", gpt(&Gpt { window: 5, depth: 2, key_heads: 1, ..Gpt::TINY })),
        ("mlp", mlp(&Mlp { hidden: 70, batch: 9, ..Mlp::TINY })),
    ];
    for (name, program) in &programs {
        let (_, wanted) = start(program);
        let graph = &program.phases[0].graph;
        let want = train(program, &mut Reference::new(graph, &wanted), 3);
        for options in options() {
            let got = train(program, &mut Cpu::sharing(graph, &wanted, &options, 1000).unwrap(), 3);
            assert!(got == want, "{name} under {options:?}");
        }
    }
}

#[test]
pub(crate) fn a_large_step_is_the_same_under_every_option() {
    // Too large for the reference in a test, but large enough that every kind of step is shared among threads.
    let program = gpt(&Gpt { width: 64, context: 64, batch: 6, vocab: 50, ..Gpt::TINY });
    let (_, wanted) = start(&program);
    let mut all = options().map(|options| {
        let mut cpu = Cpu::new(&program.phases[0].graph, &wanted, &options).unwrap();
        (options, train(&program, &mut cpu, 2))
    });
    let (_, want) = all.next().unwrap();
    for (options, got) in all {
        assert!(got == want, "{options:?}");
    }
}

#[test]
pub(crate) fn chains_of_an_optimiser_become_one_pass() {
    // With fusion the step of a large parameter must not need memory for each of its nodes.
    let mut g = Graph::default();
    let shape = || Shape(vec![1000, 1000]);
    let (p, m) = (g.param(0, shape()).unwrap(), g.state(0, shape()).unwrap());
    let rate = g.table(0).unwrap();
    let mut x = g.binary(Binary::Mul, p, m).unwrap();
    for _ in 0..20 {
        let root = g.unary(Unary::Sqrt, x).unwrap();
        let step = g.binary(Binary::Mul, root, rate).unwrap();
        x = g.binary(Binary::Sub, m, step).unwrap();
    }
    let new = g.binary(Binary::Sub, p, x).unwrap();
    let bytes = |fuse| {
        let options = cairn_engine::backend::Options { fuse, ..options().next().unwrap() };
        Cpu::new(&g, &[new], &options).unwrap().bytes()
    };
    assert!(bytes(true) < 100_000, "{}", bytes(true));
    // Without, one tensor's memory is written over by node after node.
    assert!((4_000_000..4_100_000).contains(&bytes(false)), "{}", bytes(false));
}

#[test]
pub(crate) fn an_attention_graph_with_shared_operands() {
    let mut g = Graph::default();
    let x = g.param(0, Shape(vec![2, 2, 70, 6])).unwrap();
    let options = Attention { causal: true, window: 0, scale: 0.4f32.to_bits(), soft_cap: 0 };
    let y = g.attention(x, x, x, options).unwrap();
    let z = g.attention(y, x, y, options).unwrap();
    let loss = g.sum(z, &[0, 1, 2, 3]).unwrap();
    let found = gradients(&mut g, loss, &[x]).unwrap();
    assert!(g.nodes().iter().filter(|node| matches!(node.op, Op::AttentionGrad(..))).count() >= 5);
    agree("shared operands", &g, &[z, loss, found[0]], &Point::new(vec![hostile("x", 1680)]));
}
