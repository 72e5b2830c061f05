//! The cpu backend against the reference, bit for bit, under every option.

use std::collections::BTreeSet;

use cairn_engine::backend::{BackendError, Executor, Feed, Isa, Kind, Options, Tensor, prepare};
use cairn_engine::cpu::{Cpu, available};
use cairn_engine::graph::{Attention, Binary, DType, Graph, NodeId, Random, RowOp, Shape, Unary};
use cairn_engine::reference::Reference;
use cairn_protocol::Seed;

use crate::cases::{CASES, Numbers, name, names_without};

/// What a graph is run on.
pub(crate) struct Point {
    pub(crate) inputs: [Tensor; 2],
    pub(crate) params: Vec<Vec<f32>>,
    pub(crate) states: Vec<Vec<f32>>,
    pub(crate) tables: Vec<f32>,
    pub(crate) step: u64,
}

impl Point {
    pub(crate) fn new(params: Vec<Vec<f32>>) -> Self {
        let nothing = || Tensor::I32(vec![]);
        Self { inputs: [nothing(), nothing()], params, states: vec![], tables: vec![], step: 3 }
    }

    pub(crate) fn run(&self, executor: &mut dyn Executor, outputs: usize) -> Result<Vec<Vec<f32>>, BackendError> {
        let mut out = vec![vec![]; outputs];
        let [a, b] = &self.inputs;
        let feed = Feed {
            inputs: [a, b],
            params: &self.params,
            states: &self.states,
            tables: &self.tables,
            seed: &Seed([7; 32]),
            step: self.step,
        };
        executor.run(&feed, &mut out)?;
        Ok(out)
    }
}

/// Every instruction set, one and two threads, with and without fusion.
pub(crate) fn options() -> impl Iterator<Item = Options> {
    let of = |isa: Isa| {
        [(1, true), (1, false), (2, true), (2, false)].into_iter().map(move |(threads, fuse)| Options {
            kind: Kind::Cpu,
            threads,
            isa: Some(isa),
            fuse,
            micro_batch: None,
        })
    };
    available().into_iter().flat_map(of)
}

/// Where two tensors first differ, as bits.
pub(crate) fn difference(a: &[f32], b: &[f32]) -> Option<String> {
    if a.len() != b.len() {
        return Some(format!("lengths {} and {}", a.len(), b.len()));
    }
    let at = a.iter().zip(b).position(|(a, b)| a.to_bits() != b.to_bits())?;
    let count = a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    let (a, b) = (a[at], b[at]);
    Some(format!("{count} differ, first at {at}: {a:e} ({:08x}) and {b:e} ({:08x})", a.to_bits(), b.to_bits()))
}

/// Asserts that the backend gives the reference's bits, in a first run and in a second one. Within [`crate::gpu::on`] the
/// backend is the GPU's.
pub(crate) fn agree(name: &str, graph: &Graph, wanted: &[NodeId], point: &Point) {
    if crate::gpu::is_on() {
        return crate::gpu::agree(name, graph, wanted, point);
    }
    let want = point.run(&mut Reference::new(graph, wanted), wanted.len()).unwrap();
    for options in options() {
        // Two threads share even the smallest work.
        let mut cpu = Cpu::sharing(graph, wanted, &options, 100).unwrap();
        for run in ["first", "second"] {
            let got = point.run(&mut cpu, wanted.len()).unwrap();
            for ((got, want), &id) in got.iter().zip(&want).zip(wanted) {
                if let Some(difference) = difference(got, want) {
                    let node = &graph.nodes()[id as usize];
                    panic!("{name}, {options:?}, {run} run, node {id} {:?} {}: {difference}", node.op, node.shape);
                }
            }
        }
    }
}

/// Canonical numbers that hurt: zeros, the smallest and the largest, neighbours, pairs that cancel, and plain ones.
pub(crate) fn hostile(name: &str, count: usize) -> Vec<f32> {
    let mut numbers = Numbers::new(name);
    let mut last = 1.0f32;
    (0..count)
        .map(|_| {
            let sign = if numbers.uniform() < 0.5 { -1.0 } else { 1.0 };
            let plain = (4.0 * numbers.uniform() - 2.0) as f32;
            let power = |least: f64, most: f64, u: f64| 2f32.powi((least + u * (most - least)) as i32);
            let x = match (numbers.uniform() * 16.0) as u32 {
                0 => 0.0,
                1 => sign * power(-100.0, -90.0, numbers.uniform()) * (1.0 + 0.5 * plain.abs()),
                2 => sign * power(50.0, 60.0, numbers.uniform()),
                3 => sign * 2f32.powi(60),
                4 => -last,
                5 => f32::from_bits(last.to_bits() ^ 1),
                6 => sign * (plain * 4.0).round() * 0.5,
                7 => sign * power(-30.0, 20.0, numbers.uniform()) * (1.0 + 0.4 * plain.abs()),
                8 => plain * 40.0,
                _ => plain,
            };
            last = cairn_engine::number::from_foreign(x);
            last
        })
        .collect()
}

fn param(g: &mut Graph, i: u32, shape: &[u32]) -> NodeId {
    g.param(i, Shape(shape.to_vec())).unwrap()
}

const UNARY: [Unary; 17] = [
    Unary::Neg,
    Unary::Exp,
    Unary::Log,
    Unary::Sqrt,
    Unary::Rsqrt,
    Unary::Recip,
    Unary::Tanh,
    Unary::Sigmoid,
    Unary::Erf,
    Unary::Sin,
    Unary::Cos,
    Unary::Relu,
    Unary::Abs,
    Unary::Sign,
    Unary::Floor,
    Unary::Round,
    Unary::RoundBf16,
];

/// How often a case is run on hostile numbers.
const HOSTILE_DRAWS: usize = 3;

const BINARY: [Binary; 9] =
    [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min, Binary::Lt, Binary::Le, Binary::Eq];

#[test]
pub(crate) fn every_operation_in_every_case_and_its_gradients() {
    let mut had = BTreeSet::new();
    for case in CASES {
        let mut built = case.build();
        let (loss, gradients) = built.differentiate();
        let wanted = [&[loss, built.output][..], &gradients].concat();
        let mut point = Point::new(built.values);
        point.inputs[0] = built.ids;
        point.states = vec![built.weights];
        agree(case.name, &built.graph, &wanted, &point);
        had.extend(built.graph.nodes().iter().map(|node| name(&node.op)));
        // Operands of a case are short: several draws hold every kind of number.
        for draw in 0..HOSTILE_DRAWS {
            let values = |(i, values): (usize, &Vec<f32>)| hostile(&format!("{} {draw} {i}", case.name), values.len());
            point.params = point.params.iter().enumerate().map(values).collect();
            agree(&format!("{}, hostile", case.name), &built.graph, &wanted, &point);
        }
    }
    // What no gradient flows through is not among the cases.
    let mut g = Graph::default();
    let (x, table) = (param(&mut g, 0, &[700]), g.table(0).unwrap());
    let rounded = g.unary(Unary::RoundBf16, x).unwrap();
    let noise = [Random::Uniform, Random::Normal].map(|kind| g.random(kind, "noise", Shape(vec![700])).unwrap());
    let scaled = [rounded, noise[0], noise[1]].map(|id| g.binary(Binary::Mul, id, table).unwrap());
    let mut point = Point::new(vec![hostile("x", 700)]);
    for table in [0.0, -0.0, 1e30, -1e-30, f32::NAN, 0.75] {
        point.tables = vec![table];
        agree("rounded, random", &g, &[scaled[0], scaled[1], scaled[2], rounded, noise[0], noise[1]], &point);
    }
    had.extend(g.nodes().iter().map(|node| name(&node.op)));
    assert_eq!(had, names_without(&[]));
}

#[test]
pub(crate) fn every_elementwise_operation_on_hostile_numbers() {
    // More than a block, not a multiple of any width, and enough to be shared among threads.
    let shape = [9, 3001];
    let count = 9 * 3001;
    let mut g = Graph::default();
    let (a, b) = (param(&mut g, 0, &shape), param(&mut g, 1, &shape));
    let (row, column) = (param(&mut g, 2, &[3001]), param(&mut g, 3, &[9, 1]));
    let one = param(&mut g, 4, &[]);
    let mut wanted: Vec<NodeId> = UNARY.iter().map(|&op| g.unary(op, a).unwrap()).collect();
    let whole = g.unary(Unary::ToInt, a).unwrap();
    let (most, least) =
        (g.full_int(1 << 24, Shape::default()).unwrap(), g.full_int(-(1 << 24), Shape::default()).unwrap());
    wanted.extend([most, least].map(|end| g.binary(Binary::Eq, whole, end).unwrap()));
    for (c, b) in [(b, most), (row, whole), (one, whole)] {
        let chosen = g.where_(c, whole, b).unwrap();
        wanted.push(g.unary(Unary::ToFloat, chosen).unwrap());
    }
    for op in BINARY {
        for (a, b) in [(a, b), (a, row), (column, a), (a, one), (one, b), (row, column)] {
            wanted.push(g.binary(op, a, b).unwrap());
        }
    }
    for (c, a, b) in [(a, b, row), (row, a, one), (a, one, b), (a, one, column), (one, a, b), (column, row, row)] {
        let mask = g.binary(Binary::Lt, c, b).unwrap();
        wanted.push(g.where_(mask, a, b).unwrap());
        wanted.push(g.where_(c, a, b).unwrap());
    }
    let values = [("a", count), ("b", count), ("row", 3001), ("column", 9), ("one", 1)].map(|(n, len)| hostile(n, len));
    agree("elementwise", &g, &wanted, &Point::new(values.to_vec()));
}

#[test]
pub(crate) fn integers_masks_and_constants() {
    let mut g = Graph::default();
    let x = param(&mut g, 0, &[6, 700]);
    let ids = g.input(0, Shape(vec![6, 700]), DType::I32).unwrap();
    let floats = g.input(1, Shape(vec![6, 1]), DType::F32).unwrap();
    let (range, rows) = (g.arange(700).unwrap(), g.arange(6).unwrap());
    let rows = g.reshape(rows, Shape(vec![6, 1])).unwrap();
    let five = g.full_int(5, Shape(vec![1, 700])).unwrap();
    let noncanonical = g.full(f32::NAN.to_bits(), Shape(vec![6, 700])).unwrap();
    let tiny = g.full((-1e-38f32).to_bits(), Shape::default()).unwrap();
    let mut wanted = vec![noncanonical, tiny];
    for op in [Binary::Lt, Binary::Le, Binary::Eq] {
        for (a, b) in [(ids, range), (rows, ids), (five, ids), (range, rows), (five, range)] {
            let mask = g.binary(op, a, b).unwrap();
            wanted.push(g.where_(mask, x, floats).unwrap());
        }
    }
    for a in [ids, range, five] {
        let a = g.unary(Unary::ToFloat, a).unwrap();
        wanted.extend([a, g.binary(Binary::Mul, a, x).unwrap(), g.binary(Binary::Add, a, tiny).unwrap()]);
    }
    let table = g.table(1).unwrap();
    let uniform = g.full(0.3f32.to_bits(), Shape(vec![6, 700])).unwrap();
    let all_scalar = g.binary(Binary::Mul, uniform, table).unwrap();
    wanted.extend([all_scalar, g.binary(Binary::Add, all_scalar, x).unwrap(), table]);
    wanted.push(g.broadcast_to(floats, Shape(vec![2, 6, 700])).unwrap());
    let permuted = g.permute(ids, &[1, 0]).unwrap();
    let (sliced, joined) = (g.slice(permuted, 0, 3, 500).unwrap(), g.concat(&[ids, ids], 1).unwrap());
    wanted.extend([sliced, joined].map(|id| g.unary(Unary::ToFloat, id).unwrap()));
    wanted.extend([x, x, wanted[3]]);
    let mut point = Point::new(vec![hostile("x", 4200)]);
    let numbers: Vec<i32> = (0..4200i32).map(|i| (i * 7919) % 1400 - 700).collect();
    point.inputs = [
        Tensor::I32(numbers.iter().map(|&i| if i == 0 { i32::MIN } else { i.wrapping_mul(i.pow(2) | 1) }).collect()),
        Tensor::F32(vec![f32::NAN, f32::INFINITY, -0.0, 1e-39, 0.5, -2.0]),
    ];
    point.tables = vec![0.0, f32::from_bits(1)];
    agree("integers", &g, &wanted, &point);
    point.tables = vec![0.0, -0.125];
    agree("integers, another table", &g, &wanted, &point);
}

#[test]
pub(crate) fn reductions_over_every_set_of_axes() {
    for shape in [&[3, 5, 7, 2][..], &[2, 300, 1, 33], &[1, 9001], &[9001, 1], &[70, 600], &[5000, 2], &[]] {
        let mut g = Graph::default();
        let x = param(&mut g, 0, shape);
        let rank = shape.len() as u8;
        let mut wanted = vec![];
        for set in 1..1u32 << rank {
            let axes: Vec<u8> = (0..rank).filter(|axis| set >> axis & 1 == 1).collect();
            wanted.extend([g.sum(x, &axes).unwrap(), g.max(x, &axes).unwrap()]);
        }
        if rank > 0 {
            let first = g.argmax(x).unwrap();
            wanted.push(g.unary(Unary::ToFloat, first).unwrap());
        }
        let count = Shape(shape.to_vec()).elements() as usize;
        agree(&format!("reductions of {shape:?}"), &g, &wanted, &Point::new(vec![hostile("x", count)]));
        let small: Vec<f32> = hostile("y", count).iter().map(|x| x.clamp(-3.0, 3.0).round()).collect();
        agree(&format!("reductions with ties of {shape:?}"), &g, &wanted, &Point::new(vec![small]));
    }
}

#[test]
pub(crate) fn a_sum_of_more_than_a_block_of_blocks() {
    let mut g = Graph::default();
    let x = param(&mut g, 0, &[4099]);
    let wide = g.broadcast_to(x, Shape(vec![4101, 4099])).unwrap();
    let flat = g.reshape(wide, Shape(vec![4101 * 4099])).unwrap();
    let sum = g.sum(flat, &[0]).unwrap();
    let point = Point::new(vec![hostile("x", 4099).iter().map(|x| x.clamp(-4.0, 4.0)).collect()]);
    let want = point.run(&mut Reference::new(&g, &[sum]), 1).unwrap();
    let mut cpu = Cpu::new(&g, &[sum], &options().last().unwrap()).unwrap();
    assert_eq!(point.run(&mut cpu, 1).unwrap(), want);
}

#[test]
pub(crate) fn rows_of_every_length() {
    for n in [2, 15, 16, 17, 64, 333, 4096, 5000] {
        let rows = if n > 1000 { 3 } else { 40 };
        let mut g = Graph::default();
        let (x, dy) = (param(&mut g, 0, &[rows, n]), param(&mut g, 1, &[rows, n]));
        let weights = param(&mut g, 2, &[rows]);
        let ids = g.input(0, Shape(vec![rows]), DType::I32).unwrap();
        let eps = 1e-5f32.to_bits();
        let mut wanted = vec![];
        for op in [RowOp::Softmax, RowOp::LogSoftmax, RowOp::RmsNorm(eps), RowOp::LayerNorm(eps), RowOp::RmsNorm(0)] {
            wanted.push(g.row(op, &[x]).unwrap());
        }
        for op in [RowOp::SoftmaxGrad, RowOp::LogSoftmaxGrad, RowOp::RmsNormGrad(eps), RowOp::LayerNormGrad(eps)] {
            wanted.push(g.row(op, &[x, dy]).unwrap());
        }
        wanted.push(g.row(RowOp::CrossEntropy, &[x, ids]).unwrap());
        wanted.push(g.row(RowOp::CrossEntropyGrad, &[x, ids, weights]).unwrap());
        if n % 2 == 0 {
            wanted.extend([false, true].map(|back| g.rope(x, 10_000f32.to_bits(), back).unwrap()));
        }
        let count = (rows * n) as usize;
        let mut point = Point::new(vec![hostile("x", count), hostile("dy", count), hostile("w", rows as usize)]);
        point.inputs[0] = Tensor::I32((0..rows as i32).map(|i| i * 5 % (n as i32 + 2) - 1).collect());
        agree(&format!("rows of {n}, hostile"), &g, &wanted, &point);
        point.params = point.params.iter().map(|x| x.iter().map(|x| x.clamp(-4.0, 4.0)).collect()).collect();
        agree(&format!("rows of {n}"), &g, &wanted, &point);
    }
}

#[test]
pub(crate) fn products_of_every_shape_and_orientation() {
    let shapes = [
        (0, 1, 1, 1),
        (0, 3, 5, 255),
        (0, 13, 33, 256),
        (0, 50, 70, 257),
        (0, 12, 100, 513),
        (0, 200, 17, 40),
        (3, 7, 9, 11),
        (5, 33, 40, 65),
    ];
    for (batch, m, n, k) in shapes {
        let mut g = Graph::default();
        let stored = |rows: u32, columns: u32, swapped: bool| {
            let matrix = if swapped { [columns, rows] } else { [rows, columns] };
            if batch == 0 { matrix.to_vec() } else { [&[batch][..], &matrix].concat() }
        };
        let mut wanted = vec![];
        for (i, (ta, tb)) in (0..).zip([(false, false), (false, true), (true, false), (true, true)]) {
            let (a, b) = (param(&mut g, 2 * i, &stored(m, k, ta)), param(&mut g, 2 * i + 1, &stored(k, n, tb)));
            wanted.push(g.contraction((a, ta), (b, tb)).unwrap());
        }
        let half = g.full(0.7f32.to_bits(), Shape(stored(k, n, false))).unwrap();
        let first = g.param(0, Shape(stored(m, k, false))).unwrap();
        wanted.push(g.contraction((first, false), (half, false)).unwrap());
        let count = batch.max(1);
        let lengths = (0..4).flat_map(|_| [count * m * k, count * k * n]);
        let values: Vec<Vec<f32>> = lengths.zip(0..).map(|(len, i)| hostile(&format!("{i}"), len as usize)).collect();
        agree(&format!("products {batch} {m} {n} {k}, hostile"), &g, &wanted, &Point::new(values.clone()));
        let plain = values.iter().map(|x| x.iter().map(|x| x.clamp(-2.0, 2.0)).collect()).collect();
        agree(&format!("products {batch} {m} {n} {k}"), &g, &wanted, &Point::new(plain));
    }
}

#[test]
pub(crate) fn attention_of_every_kind() {
    let scale = 0.37f32.to_bits();
    let plain = Attention { causal: false, window: 0, scale, soft_cap: 0 };
    let causal = Attention { causal: true, ..plain };
    let cap = 2.5f32.to_bits();
    let kinds: [(Attention, [u32; 6]); 12] = [
        (plain, [2, 2, 2, 50, 70, 8]),
        (causal, [1, 2, 2, 300, 300, 5]),
        (causal, [2, 4, 2, 97, 97, 16]),
        (Attention { window: 20, ..causal }, [1, 2, 1, 310, 310, 4]),
        (Attention { window: 300, ..plain }, [1, 1, 1, 600, 600, 3]),
        (Attention { soft_cap: cap, ..causal }, [1, 3, 1, 130, 130, 7]),
        (Attention { soft_cap: cap, ..plain }, [1, 2, 2, 3, 260, 300]),
        (causal, [3, 2, 2, 1, 1, 2]),
        // Small heads, side by side: whole groups, and rests.
        (causal, [8, 4, 4, 16, 16, 4]),
        (plain, [3, 7, 7, 3, 37, 5]),
        (Attention { window: 6, ..causal }, [2, 5, 5, 40, 40, 9]),
        (plain, [2, 4, 4, 250, 7, 2]),
    ];
    for (options, [batch, heads, key_heads, queries, keys, depth]) in kinds {
        let mut g = Graph::default();
        let q_shape = [batch, heads, queries, depth];
        let k_shape = [batch, key_heads, keys, depth];
        let q = param(&mut g, 0, &q_shape);
        let (k, v) = (param(&mut g, 1, &k_shape), param(&mut g, 2, &k_shape));
        let (other, dy) = (param(&mut g, 3, &q_shape), param(&mut g, 4, &q_shape));
        let y = g.attention(q, k, v, options).unwrap();
        let mut wanted = vec![y];
        use cairn_engine::graph::AttentionInput::{K, Q, V};
        for y in [y, other] {
            wanted.extend([Q, K, V].map(|of| g.attention_grad([q, k, v, y, dy], options, of).unwrap()));
        }
        let lengths = [&q_shape, &k_shape, &k_shape, &q_shape, &q_shape].map(|s| s.iter().product::<u32>() as usize);
        let values: Vec<Vec<f32>> = lengths.iter().zip(0..).map(|(&len, i)| hostile(&format!("{i}"), len)).collect();
        agree(&format!("{options:?}, hostile"), &g, &wanted, &Point::new(values.clone()));
        let plain: Vec<Vec<f32>> = values.iter().map(|x| x.iter().map(|x| x.clamp(-2.0, 2.0)).collect()).collect();
        agree(&format!("{options:?}"), &g, &wanted, &Point::new(plain));
        // One gradient alone is computed by other steps than all three.
        for one in &wanted[1..4] {
            agree(&format!("{options:?}, one gradient"), &g, &[*one], &Point::new(values.clone()));
        }
    }
}

#[test]
pub(crate) fn random_numbers_depend_on_their_place_alone() {
    let mut g = Graph::default();
    let wanted: Vec<NodeId> = [Random::Uniform, Random::Normal]
        .into_iter()
        .flat_map(|kind| [(kind, "a", 5003), (kind, "b", 1), (kind, "a", 7)])
        .map(|(kind, name, n)| g.random(kind, name, Shape(vec![n])).unwrap())
        .collect();
    let mut point = Point::new(vec![]);
    for step in [0, 1, 1 << 20] {
        point.step = step;
        agree("random", &g, &wanted, &point);
    }
}

#[test]
pub(crate) fn moved_elements_keep_their_bits() {
    let mut g = Graph::default();
    let x = param(&mut g, 0, &[5, 37, 4, 18]);
    let mut wanted = vec![];
    for perm in [[0, 1, 3, 2], [1, 0, 2, 3], [0, 2, 1, 3], [3, 2, 1, 0], [2, 3, 0, 1], [1, 3, 0, 2]] {
        wanted.push(g.permute(x, &perm).unwrap());
    }
    for (axis, start, len) in [(0, 1, 3), (1, 36, 1), (2, 0, 3), (3, 5, 9)] {
        let part = g.slice(x, axis, start, len).unwrap();
        let padded = g.pad(part, axis, 2, 1).unwrap();
        let joined = g.concat(&[part, x, part], axis).unwrap();
        wanted.extend([part, padded, joined]);
    }
    let row = g.slice(x, 0, 2, 1).unwrap();
    let inner = g.slice(row, 1, 3, 30).unwrap();
    let squared = g.binary(Binary::Mul, inner, inner).unwrap();
    let flat = g.reshape(inner, Shape(vec![30 * 72])).unwrap();
    let moved = g.permute(inner, &[1, 0, 2, 3]).unwrap();
    // A node that reads a part of another one in its own chain.
    let sum = g.binary(Binary::Add, x, x).unwrap();
    let first = g.slice(sum, 0, 0, 1).unwrap();
    let difference = g.binary(Binary::Sub, sum, first).unwrap();
    wanted.extend([inner, squared, flat, moved, difference]);
    agree("moves", &g, &wanted, &Point::new(vec![hostile("x", 5 * 37 * 4 * 18)]));
}

#[test]
pub(crate) fn an_instruction_set_that_the_processor_lacks_is_an_error() {
    let graph = Graph::default();
    for isa in [Isa::Scalar, Isa::Neon, Isa::Avx2, Isa::Avx512] {
        let options = Options { kind: Kind::Cpu, threads: 1, isa: Some(isa), fuse: true, micro_batch: None };
        match prepare(&options, &graph, &[]) {
            Ok(_) => assert!(available().contains(&isa)),
            Err(error) => assert_eq!(error, BackendError::Isa(isa, available())),
        }
    }
}

#[test]
pub(crate) fn a_feed_that_does_not_fit_is_an_error() {
    let mut g = Graph::default();
    let (x, s) = (param(&mut g, 1, &[3]), g.state(0, Shape(vec![3])).unwrap());
    let ids = g.input(0, Shape(vec![3]), DType::I32).unwrap();
    let (ids, table) = (g.unary(Unary::ToFloat, ids).unwrap(), g.table(0).unwrap());
    let sums = g.binary(Binary::Add, x, s).unwrap();
    let scaled = g.binary(Binary::Mul, sums, table).unwrap();
    let y = g.binary(Binary::Add, scaled, ids).unwrap();
    let mut cpu = Cpu::new(&g, &[y], &options().next().unwrap()).unwrap();
    let good = || Point {
        inputs: [Tensor::I32(vec![1, 2, 3]), Tensor::I32(vec![])],
        params: vec![vec![], vec![1.0; 3]],
        states: vec![vec![1.0; 3]],
        tables: vec![2.0],
        step: 0,
    };
    assert_eq!(good().run(&mut cpu, 1).unwrap(), [[5.0, 6.0, 7.0]]);
    let wrong: [fn(&mut Point); 6] = [
        |p| p.inputs[0] = Tensor::I32(vec![1, 2]),
        |p| p.inputs[0] = Tensor::F32(vec![1.0; 3]),
        |p| p.params.truncate(1),
        |p| p.params[1].push(0.0),
        |p| p.states[0].clear(),
        |p| p.tables.clear(),
    ];
    for (i, spoil) in wrong.iter().enumerate() {
        let mut point = good();
        spoil(&mut point);
        assert!(matches!(point.run(&mut cpu, 1), Err(BackendError::Feed(_))), "{i}");
    }
    assert!(matches!(good().run(&mut cpu, 2), Err(BackendError::Feed(_))));
    assert!(matches!(Cpu::new(&g, &[99], &options().next().unwrap()), Err(BackendError::Feed(_))));
}
