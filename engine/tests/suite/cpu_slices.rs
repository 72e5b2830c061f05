//! The cpu backend slice by slice: the same bits for every micro-batch, and less memory.

use cairn_engine::backend::{BackendError, Batch, Executor, Options, Tensor};
use cairn_engine::cpu::{Cpu, available};
use cairn_engine::grad::gradients;
use cairn_engine::graph::{Binary, DType, Graph, NodeId, Program, Random, RowOp, Shape, Unary};
use cairn_engine::reference::Reference;
use cairn_protocol::Seed;

use crate::cases::Numbers;
use crate::cpu_exact::{Point, hostile, options};
use crate::cpu_fuzz::{start, train};
use crate::programs::{Gpt, Mlp, gpt, mlp};

/// Rows of a slice that tests try; none is the planner's choice.
const MICRO_BATCHES: [Option<u32>; 5] = [None, Some(1), Some(2), Some(4), Some(u32::MAX)];

/// Every instruction set, number of threads, fusion or not, and micro-batch, each value of each with each of the others'
/// somewhere.
fn slicings() -> impl Iterator<Item = Options> {
    MICRO_BATCHES.into_iter().enumerate().flat_map(|(i, micro_batch)| {
        let all: Vec<Options> = options().collect();
        let last = all.len() - 1;
        [i % all.len(), last - i % 4].map(|at| Options { micro_batch, ..all[at] })
    })
}

/// Programs with a batch of 4 whose rows are chunks, so that it can be cut.
fn programs() -> [(&'static str, Program); 3] {
    let sizes = Gpt { batch: 4, context: 256, width: 8, heads: 2, key_heads: 1, ..Gpt::TINY };
    [
        ("gpt", gpt(&sizes)),
        ("windowed gpt of two blocks", gpt(&Gpt { window: 9, depth: 2, key_heads: 2, ..sizes })),
        ("mlp", mlp(&Mlp { batch: 4, context: 256, ..Mlp::TINY })),
    ]
}

#[test]
fn training_steps_have_the_same_bits_in_slices() {
    for (name, program) in &programs() {
        let (_, wanted) = start(program);
        let graph = &program.phases[0].graph;
        let want = train(program, &mut Reference::new(graph, &wanted), 2);
        for options in slicings() {
            let mut cpu = Cpu::sharing(graph, &wanted, &options, 1000).unwrap();
            assert!(train(program, &mut cpu, 2) == want, "{name} under {options:?}");
        }
    }
}

/// Some training steps in place: losses, and the state after them.
fn train_in_place(program: &Program, executor: &mut dyn Executor, steps: u64) -> Vec<Vec<u32>> {
    let (mut point, _) = start(program);
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    let mut losses = vec![];
    for step in 0..steps {
        let tables: Vec<f32> = program.tables.iter().map(|table| table[step as usize]).collect();
        let [a, b] = &point.inputs;
        let batch = Batch { inputs: [a, b], tables: &tables, seed: &Seed([7; 32]), step };
        losses.push(executor.step(&batch, &mut point.params, &mut point.states).unwrap());
    }
    [bits(&losses)].into_iter().chain(point.params.iter().chain(&point.states).map(|values| bits(values))).collect()
}

#[test]
fn training_in_place_has_the_same_bits() {
    for (name, program) in &programs() {
        let (_, wanted) = start(program);
        let graph = &program.phases[0].graph;
        let want = train_in_place(program, &mut Reference::new(graph, &wanted), 2);
        for options in slicings() {
            let mut cpu = Cpu::sharing(graph, &wanted, &options, 1000).unwrap();
            assert!(train_in_place(program, &mut cpu, 2) == want, "{name} under {options:?}");
        }
    }
}

/// A step that reads what it replaces in every way: along with it, whole, as a number, afterwards, not at all.
pub(crate) fn tangled() -> (Graph, Vec<NodeId>) {
    let mut g = Graph::default();
    let shape = || Shape(vec![40, 30]);
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| g.param(i, shape()).unwrap());
    let (e, f) = (g.param(4, Shape::default()).unwrap(), g.param(5, Shape(vec![30])).unwrap());
    let [s, t] = [0, 1].map(|i| g.state(i, shape()).unwrap());
    let mut add = |x, y| g.binary(Binary::Add, x, y).unwrap();
    let s_new = add(s, a);
    let a_new = add(a, s_new);
    // Read again after its own result is there.
    let late = add(a, a_new);
    let a_new = add(a_new, late);
    let b_new = add(b, f);
    // The old value is wanted elsewhere, the other way round too.
    let (c_new, d_new) = (add(d, e), add(c, e));
    let e_new = add(e, e);
    let (t_new, again) = (b, add(t, b_new));
    let sum = g.sum(again, &[0]).unwrap();
    let f_new = g.reshape(sum, Shape(vec![30])).unwrap();
    let all = g.sum(late, &[0, 1]).unwrap();
    let loss = g.reshape(all, Shape::default()).unwrap();
    (g, vec![loss, a_new, b_new, c_new, d_new, e_new, f_new, s_new, t_new])
}

#[test]
fn a_step_in_place_reads_old_values_only() {
    let (g, wanted) = tangled();
    let tensors = |name: &str, lengths: &[usize]| -> Vec<Vec<f32>> {
        lengths.iter().enumerate().map(|(i, &len)| hostile(&format!("{name} {i}"), len)).collect()
    };
    let run = |executor: &mut dyn Executor| {
        let nothing = Tensor::I32(vec![]);
        let batch = Batch { inputs: [&nothing, &nothing], tables: &[], seed: &Seed([7; 32]), step: 0 };
        let (mut params, mut states) = (tensors("p", &[1200, 1200, 1200, 1200, 1, 30]), tensors("s", &[1200; 2]));
        let losses = [0, 1].map(|_| executor.step(&batch, &mut params, &mut states).unwrap().to_bits());
        (losses, [params, states].concat())
    };
    let want = run(&mut Reference::new(&g, &wanted));
    for options in slicings() {
        assert!(run(&mut Cpu::sharing(&g, &wanted, &options, 100).unwrap()) == want, "{options:?}");
    }
    // A graph whose results are not its parameters and states is no step.
    let mut cpu = Cpu::new(&g, &wanted[1..], &options().next().unwrap()).unwrap();
    let nothing = Tensor::I32(vec![]);
    let batch = Batch { inputs: [&nothing, &nothing], tables: &[], seed: &Seed([7; 32]), step: 0 };
    let (mut params, mut states) = (tensors("p", &[1200, 1200, 1200, 1200, 1, 30]), tensors("s", &[1200; 2]));
    assert!(matches!(cpu.step(&batch, &mut params, &mut states), Err(BackendError::Feed(_))));
}

#[test]
fn a_smaller_micro_batch_takes_less_memory() {
    for (name, program) in &programs() {
        let (_, wanted) = start(program);
        let isa = available().last().copied();
        let bytes = [Some(1), Some(2), Some(4)].map(|micro_batch| {
            let options = Options { isa, micro_batch, ..options().next().unwrap() };
            Cpu::new(&program.phases[0].graph, &wanted, &options).unwrap().bytes()
        });
        assert!(bytes[0] * 10 < bytes[1] * 9 && bytes[1] * 10 < bytes[2] * 9, "{name}: {bytes:?}");
    }
}

/// Rows and positions of random graphs: rows of whole chunks.
const ROWS: u32 = 4;
const POSITIONS: u32 = 128;
const WIDTH: u32 = 6;
/// Widths of the hidden layers: one column, and a chunk of a contraction and its neighbours.
const HIDDEN: [u32; 5] = [1, 255, 256, 257, 513];
/// Random models of an ordinary run; one in so many when the fuzzer is asked for more graphs.
const MODELS: u64 = 30;
const GRAPHS_FOR_A_MODEL: u64 = 10;

/// A random model: nodes that treat examples apart, and now and then one that does not.
struct Model {
    g: Graph,
    params: Vec<NodeId>,
    tokens: NodeId,
    /// Nodes [rows, positions, width].
    nodes: Vec<NodeId>,
}

impl Model {
    fn new(seed: u32) -> Self {
        let mut g = Graph::default();
        let hidden = HIDDEN[seed as usize % HIDDEN.len()];
        let shapes: [&[u32]; 7] = [
            &[11, WIDTH],
            &[WIDTH, WIDTH],
            &[WIDTH],
            &[POSITIONS, WIDTH],
            &[POSITIONS, POSITIONS],
            &[WIDTH, hidden],
            &[hidden, WIDTH],
        ];
        let params: Vec<NodeId> = (0..).zip(shapes).map(|(i, s)| g.param(i, Shape(s.to_vec())).unwrap()).collect();
        let tokens = g.input(0, Shape(vec![ROWS, POSITIONS]), DType::I32).unwrap();
        let x = g.embedding(params[0], tokens).unwrap();
        let mut model = Self { g, params, tokens, nodes: vec![x] };
        let mut numbers = Numbers::new(&format!("model {seed}"));
        while model.nodes.len() < 14 {
            let node = model.grow(&mut numbers);
            model.nodes.push(node);
        }
        model
    }

    fn whole(&self) -> Shape {
        Shape(vec![ROWS, POSITIONS, WIDTH])
    }

    fn grow(&mut self, numbers: &mut Numbers) -> NodeId {
        let mut below = |n: usize| (numbers.uniform() * n as f64) as usize;
        let recent = self.nodes.len().saturating_sub(3);
        let mut pick = || {
            self.nodes[if below(2) == 0 { below(self.nodes.len()) } else { recent + below(self.nodes.len() - recent) }]
        };
        let (a, b, whole, kind) = (pick(), pick(), self.whole(), below(18));
        let [_, square, row, table, mixer, up, down] = self.params[..] else { unreachable!() };
        let g = &mut self.g;
        let one = 1.0f32.to_bits();
        let binary = [Binary::Add, Binary::Mul, Binary::Sub, Binary::Max][below(4)];
        let built = match kind {
            0 => g.unary(Unary::Tanh, a),
            1 => g.unary(Unary::Sigmoid, a),
            2 => g.binary(binary, a, b),
            3 => g.binary(binary, a, row),
            4 => g.binary(binary, table, a),
            5 | 6 => g.matmul(a, square),
            7 => {
                let hidden = g.matmul(a, up).unwrap();
                let hidden = g.unary(Unary::Relu, hidden).unwrap();
                g.matmul(hidden, down)
            }
            8 => g.row(RowOp::RmsNorm(one), &[a]),
            9 => g.row(RowOp::Softmax, &[a]),
            10 => {
                let rows = g.sum(a, &[1]).unwrap();
                let small = g.unary(Unary::Tanh, rows).unwrap();
                g.binary(Binary::Add, b, small)
            }
            11 => {
                let max = g.max(a, &[2]).unwrap();
                g.binary(Binary::Sub, b, max)
            }
            12 => {
                let stream = format!("noise {}", below(3));
                let noise = g.random(Random::Normal, &stream, whole).unwrap();
                g.binary(Binary::Mul, a, noise)
            }
            13 => {
                let later = g.slice(a, 1, 1, POSITIONS - 1).unwrap();
                g.pad(later, 1, 0, 1)
            }
            14 => {
                let halves = [g.slice(a, 2, 0, 3).unwrap(), g.slice(b, 2, 3, 3).unwrap()];
                g.concat(&halves, 2)
            }
            15 => {
                // The tokens, counted over the batch: whole, but of no parameter.
                let five = g.full_int(5, Shape::default()).unwrap();
                let counted = g.binary(Binary::Le, five, self.tokens).unwrap();
                let count = g.sum(counted, &[0, 1]).unwrap();
                let count = g.reshape(count, Shape::default()).unwrap();
                g.binary(Binary::Div, a, count)
            }
            16 => {
                let flat = g.reshape(a, Shape(vec![ROWS, POSITIONS * WIDTH])).unwrap();
                let swapped = g.reshape(flat, Shape(vec![ROWS, WIDTH, POSITIONS])).unwrap();
                let mixed = g.matmul(swapped, mixer).unwrap();
                g.permute(mixed, &[0, 2, 1])
            }
            _ if below(3) == 0 => {
                // Examples meet.
                let mean = g.sum(a, &[0]).unwrap();
                let small = g.unary(Unary::Tanh, mean).unwrap();
                g.binary(Binary::Mul, b, small)
            }
            _ => {
                let row = g.row(RowOp::LayerNorm(one), &[a]).unwrap();
                g.rope(row, 100.0f32.to_bits(), false)
            }
        };
        built.unwrap()
    }

    /// A whole step: a loss, gradients clipped by their norm, momentum. Its wanted nodes.
    fn step(&mut self) -> Vec<NodeId> {
        let last = self.nodes[self.nodes.len() - 1];
        let g = &mut self.g;
        let small = g.unary(Unary::Tanh, last).unwrap();
        let per_token = g.sum(small, &[2]).unwrap();
        let sum = g.sum(per_token, &[0, 1, 2]).unwrap();
        let loss = g.reshape(sum, Shape::default()).unwrap();
        let found = gradients(g, loss, &self.params).unwrap();
        let mut norm = g.full(1.0f32.to_bits(), Shape::default()).unwrap();
        for &gradient in &found {
            let square = g.binary(Binary::Mul, gradient, gradient).unwrap();
            let axes: Vec<u8> = (0..g.shape(gradient).unwrap().0.len() as u8).collect();
            let sum = g.sum(square, &axes).unwrap();
            let sum = g.reshape(sum, Shape::default()).unwrap();
            norm = g.binary(Binary::Add, norm, sum).unwrap();
        }
        let scale = g.unary(Unary::Rsqrt, norm).unwrap();
        let half = g.full(0.5f32.to_bits(), Shape::default()).unwrap();
        let (mut params_out, mut states_out) = (vec![], vec![]);
        for (i, (&p, &gradient)) in (0..).zip(self.params.iter().zip(&found)) {
            let m = g.state(i, g.shape(p).unwrap().clone()).unwrap();
            let clipped = g.binary(Binary::Mul, gradient, scale).unwrap();
            let kept = g.binary(Binary::Mul, m, half).unwrap();
            states_out.push(g.binary(Binary::Add, kept, clipped).unwrap());
            params_out.push(g.binary(Binary::Sub, p, states_out[i as usize]).unwrap());
        }
        [vec![loss], params_out, states_out].concat()
    }

    fn point(&self, seed: u32) -> Point {
        let lengths: Vec<usize> = self.params.iter().map(|&id| self.g.shape(id).unwrap().elements() as usize).collect();
        let tensor = |what: &str, (i, &len): (usize, &usize)| {
            let values = hostile(&format!("{what} {i} of {seed}"), len);
            if seed.is_multiple_of(3) { values } else { values.iter().map(|x| x.clamp(-2.0, 2.0)).collect() }
        };
        let mut point = Point::new(lengths.iter().enumerate().map(|it| tensor("p", it)).collect());
        point.states = lengths.iter().enumerate().map(|it| tensor("s", it)).collect();
        point.inputs[0] = Tensor::I32((0..ROWS * POSITIONS).map(|i| (i * 7919 % 13) as i32 - 1).collect());
        point
    }
}

/// A random model's step: its graph, what is wanted of it, and where.
pub(crate) fn model(seed: u32) -> (Graph, Vec<NodeId>, Point) {
    let mut model = Model::new(seed);
    let mut wanted = model.step();
    wanted.extend(&model.nodes[5..7]);
    let point = model.point(seed);
    (model.g, wanted, point)
}

/// How many random models a run compares.
pub(crate) fn models() -> u32 {
    (crate::cpu_fuzz::graphs() / GRAPHS_FOR_A_MODEL).max(MODELS) as u32
}

#[test]
fn random_models_have_the_bits_of_the_reference_in_slices() {
    let mut cut = 0;
    for seed in 0..models() {
        let (graph, wanted, point) = model(seed);
        let want = point.run(&mut Reference::new(&graph, &wanted), wanted.len()).unwrap();
        let all: Vec<Options> = slicings().collect();
        for turn in 0..4 {
            // Each graph meets some of the options, all graphs together meet all.
            let options = all[(seed as usize * 3 + turn * 5) % all.len()];
            let mut cpu = Cpu::sharing(&graph, &wanted, &options, 500).unwrap();
            cut += u32::from(cpu.slices() > 1);
            let got = point.run(&mut cpu, wanted.len()).unwrap();
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                let same = got.iter().map(|x| x.to_bits()).eq(want.iter().map(|x| x.to_bits()));
                assert!(same, "model {seed}, {options:?}, {} slices, output {i}", cpu.slices());
            }
        }
    }
    assert!(cut > 30, "only {cut} runs were cut into slices");
}

#[test]
fn batches_are_cut_only_where_examples_stay_apart() {
    let slices = |mix: &dyn Fn(&mut Graph, NodeId, NodeId) -> NodeId| {
        let mut g = Graph::default();
        let w = g.param(0, Shape(vec![11, 6])).unwrap();
        let tokens = g.input(0, Shape(vec![8, 128]), DType::I32).unwrap();
        let x = g.embedding(w, tokens).unwrap();
        let x = g.unary(Unary::Tanh, x).unwrap();
        let y = mix(&mut g, x, tokens);
        let y = g.unary(Unary::Tanh, y).unwrap();
        let options = Options { micro_batch: Some(2), ..options().next().unwrap() };
        Cpu::new(&g, &[y], &options).unwrap().slices()
    };
    let sum_of = |g: &mut Graph, x: NodeId, axes: &[u8]| g.sum(x, axes).unwrap();
    assert_eq!(slices(&|_, x, _| x), 4);
    assert_eq!(slices(&|g, x, _| sum_of(g, x, &[1])), 4, "sums within examples");
    assert_eq!(slices(&|g, x, _| sum_of(g, x, &[0, 1])), 4, "a sum over the batch that nobody else needs");
    assert_eq!(slices(&|g, x, _| sum_of(g, x, &[0, 1, 2])), 4, "the same by the row rule");
    let mean = |g: &mut Graph, x: NodeId, axes: &[u8]| {
        let sum = sum_of(g, x, axes);
        g.binary(Binary::Sub, x, sum).unwrap()
    };
    assert_eq!(slices(&|g, x, _| mean(g, x, &[1])), 4);
    assert_eq!(slices(&|g, x, _| mean(g, x, &[0])), 1, "normalised over the batch");
    assert_eq!(slices(&|g, x, _| mean(g, x, &[0, 1, 2])), 1, "normalised over everything");
    let counted = |g: &mut Graph, x: NodeId, tokens: NodeId| {
        let floats = g.unary(Unary::ToFloat, tokens).unwrap();
        let sum = sum_of(g, floats, &[0, 1]);
        let sum = g.reshape(sum, Shape::default()).unwrap();
        g.binary(Binary::Mul, x, sum).unwrap()
    };
    assert_eq!(slices(&counted), 4, "what needs no parameter is counted before");
    let similarity = |g: &mut Graph, x: NodeId, _| {
        let flat = g.reshape(x, Shape(vec![8, 768])).unwrap();
        let swapped = g.permute(flat, &[1, 0]).unwrap();
        g.matmul(flat, swapped).unwrap()
    };
    assert_eq!(slices(&similarity), 1, "every example meets every other");
}

#[test]
fn any_optimiser_is_one_pass_for_each_parameter() {
    // What a pass does not keep in registers takes as much memory as the parameter.
    let side = 600;
    let shape = || Shape(vec![side, side]);
    let all: [(&str, usize); 4] = [("sgd with momentum", 1), ("adamw", 2), ("lion", 1), ("clipped adamw", 2)];
    for (name, states) in all {
        let mut g = Graph::default();
        let p = g.param(0, shape()).unwrap();
        let s: Vec<NodeId> = (0..states as u32).map(|i| g.state(i, shape()).unwrap()).collect();
        let (rate, other) = (g.table(0).unwrap(), g.table(1).unwrap());
        let mut gradient = g.random(Random::Normal, "gradient", shape()).unwrap();
        let binary = |g: &mut Graph, op, a, b| g.binary(op, a, b).unwrap();
        let mut norm = rate;
        if name.starts_with("clipped") {
            let square = binary(&mut g, Binary::Mul, gradient, gradient);
            let sum = g.sum(square, &[0, 1]).unwrap();
            norm = g.reshape(sum, Shape::default()).unwrap();
            let root = g.unary(Unary::Sqrt, norm).unwrap();
            let most = binary(&mut g, Binary::Max, root, rate);
            gradient = binary(&mut g, Binary::Div, gradient, most);
        }
        let mean = |g: &mut Graph, old, new, by| {
            let (kept, taken) = (binary(g, Binary::Mul, old, by), binary(g, Binary::Mul, new, rate));
            binary(g, Binary::Add, kept, taken)
        };
        let mut new = vec![mean(&mut g, s[0], gradient, other)];
        let step = match name {
            "lion" => {
                let mixed = mean(&mut g, s[0], gradient, rate);
                g.unary(Unary::Sign, mixed).unwrap()
            }
            "sgd with momentum" => new[0],
            _ => {
                let square = binary(&mut g, Binary::Mul, gradient, gradient);
                new.push(mean(&mut g, s[1], square, other));
                let corrected = binary(&mut g, Binary::Div, new[1], other);
                let root = g.unary(Unary::Sqrt, corrected).unwrap();
                let hat = binary(&mut g, Binary::Div, new[0], rate);
                binary(&mut g, Binary::Div, hat, root)
            }
        };
        let decay = binary(&mut g, Binary::Mul, p, other);
        let step = binary(&mut g, Binary::Add, step, decay);
        let change = binary(&mut g, Binary::Mul, step, rate);
        let p_new = binary(&mut g, Binary::Sub, p, change);
        let wanted = [vec![norm, p_new], new].concat();
        let tensor = (side * side) as usize * size_of::<f32>();
        let bytes = |fuse| {
            let options = Options { fuse, ..options().next().unwrap() };
            Cpu::new(&g, &wanted, &options).unwrap().bytes()
        };
        // The gradient itself and, for its norm, its squares.
        let most = if name.starts_with("clipped") { 2 * tensor } else { tensor };
        assert!(bytes(true) < most + tensor / 4, "{name}: {} bytes, a tensor has {tensor}", bytes(true));
        assert!(bytes(false) > most + tensor / 2, "{name}: {} bytes, a tensor has {tensor}", bytes(false));
    }
}
