//! The questions: small graphs that have each operation in every form, and what they are run on.
//!
//! *Invariant:* every operation that a kernel can compute is here, on at least [`super::VECTORS`] numbers; a test
//! counts.

#[cfg(test)]
use std::collections::BTreeMap;

use super::numbers::{Numbers, Values};
use crate::backend::Tensor;
use crate::graph::{
    Attention, AttentionInput, Binary, Conv2d, DType, Graph, GraphError, NodeId, Op, Random, RowOp, Shape, Unary,
};
use Values::{Against, Factor, Halves, Hostile, Plain};

/// A graph, and how its operands are drawn.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) graph: Graph,
    pub(super) wanted: Vec<NodeId>,
    /// Times that it is run, each on other numbers.
    pub(super) draws: u32,
    /// Whether it has contractions, which are written in several forms.
    pub(super) contracts: bool,
    operands: Vec<(usize, Values)>,
    inputs: [Input; 2],
    tables: usize,
}

/// What a part of the batch holds.
#[derive(Clone, Copy)]
enum Input {
    Nothing,
    /// Indices below a number, and some outside.
    Indices(usize, u32),
    /// Any integers.
    Integers(usize),
    /// Floats that are not of the number system.
    Foreign(usize),
}

/// What a case is run on.
pub(super) struct Point {
    pub(super) inputs: [Tensor; 2],
    pub(super) params: Vec<Vec<f32>>,
    pub(super) tables: Vec<f32>,
    pub(super) step: u64,
}

/// Values of a table, one for each draw.
const TABLES: [f32; 6] = [0.75, -0.0, 1e30, -1e-30, f32::NAN, -0.125];
/// Floats from outside.
const FOREIGN: [f32; 8] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-39, -1e-31, f32::MAX, 1.234_567_8e-30];

impl Case {
    /// What it is run on, the `draw`-th time.
    pub(super) fn point(&self, draw: u32) -> Point {
        let mut params: Vec<Vec<f32>> = Vec::with_capacity(self.operands.len());
        for (stream, &(len, values)) in (1..).zip(&self.operands) {
            let tensor = Numbers::new(stream, draw).tensor(values, len, &params);
            params.push(tensor);
        }
        let inputs = [0, 1].map(|at| {
            let mut numbers = Numbers::new(100 + at as u64, draw);
            match self.inputs[at] {
                Input::Nothing => Tensor::I32(vec![]),
                Input::Indices(len, below) => Tensor::I32(numbers.indices(below, len)),
                Input::Integers(len) => Tensor::I32(numbers.integers(len)),
                Input::Foreign(len) => {
                    let mut values = numbers.tensor(Hostile, len, &[]);
                    let places = values.iter_mut().step_by(5).zip(FOREIGN.iter().cycle());
                    places.for_each(|(value, &foreign)| *value = foreign);
                    Tensor::F32(values)
                }
            }
        });
        let tables = vec![TABLES[draw as usize % TABLES.len()]; self.tables];
        // Only random numbers depend on the step: the first, a usual one, and the last that there can be.
        let steps = if self.has_random() { [0, 3, (1 << 20) - 1] } else { [0, 1, 2] };
        let step = steps[draw as usize % steps.len()];
        Point { inputs, params, tables, step }
    }

    fn has_random(&self) -> bool {
        self.graph.nodes().iter().any(|node| matches!(node.op, Op::Random(..)))
    }

    /// The name of a node's operation, or of its operand's where it only makes it a float.
    pub(super) fn operation(&self, id: NodeId) -> String {
        let node = &self.graph.nodes()[id as usize];
        let of = node.inputs.first().map(|&input| &self.graph.nodes()[input as usize]);
        match (&node.op, of) {
            (Op::Unary(Unary::ToFloat), Some(of)) if of.dtype == DType::I32 => name(&of.op),
            _ => name(&node.op),
        }
        .unwrap_or_else(|| "a leaf".into())
    }

    /// Numbers that each operation computes in one draw. What sums or chooses counts the numbers that it reads.
    #[cfg(test)]
    pub(super) fn vectors(&self) -> BTreeMap<String, u64> {
        let mut vectors = BTreeMap::new();
        for node in self.graph.nodes() {
            let Some(name) = name(&node.op) else { continue };
            let read = node.inputs.iter().map(|&id| self.graph.nodes()[id as usize].shape.elements()).max();
            let reads = matches!(
                node.op,
                Op::Sum(_)
                    | Op::Max(_)
                    | Op::ArgMax
                    | Op::TopK(_)
                    | Op::EmbeddingGrad(_)
                    | Op::ScatterAdd { .. }
                    | Op::Take
                    | Op::Row(RowOp::CrossEntropy)
                    | Op::Conv2dWeightGrad(_)
            );
            let count = node.shape.elements().max(read.filter(|_| reads).unwrap_or(0));
            *vectors.entry(name).or_default() += count;
        }
        vectors
    }
}

/// The name of an operation that a kernel computes; none of a leaf, or of what is only another name for a value.
fn name(op: &Op) -> Option<String> {
    let lower = |text: String| text.split([' ', '(', '{']).next().unwrap_or_default().to_lowercase();
    Some(match op {
        Op::Input(_) | Op::Param(_) | Op::State(_) | Op::Table(_) => return None,
        Op::Full(_) | Op::FullInt(_) | Op::Arange | Op::StopGradient | Op::Reshape => return None,
        Op::Random(kind, _) => format!("random {}", lower(format!("{kind:?}"))),
        Op::Unary(op) => lower(format!("{op:?}")),
        Op::Binary(op) => lower(format!("{op:?}")),
        Op::MatMul { ta, tb } => {
            let letter = |transposed: &bool| if *transposed { 't' } else { 'n' };
            format!("matmul {}{}", letter(ta), letter(tb))
        }
        Op::AttentionGrad(_, of) => format!("attention gradient of {}", lower(format!("{of:?}"))),
        Op::Row(op) => lower(format!("{op:?}")),
        Op::Rope { .. } => "rope".into(),
        Op::Where
        | Op::Sum(_)
        | Op::Max(_)
        | Op::ArgMax
        | Op::Attention(_)
        | Op::Embedding
        | Op::EmbeddingGrad(_)
        | Op::Take
        | Op::TakeGrad(_)
        | Op::Permute(_)
        | Op::BroadcastTo
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Concat(_)
        | Op::Conv2d(_)
        | Op::Conv2dInputGrad(_)
        | Op::Conv2dWeightGrad(_)
        | Op::CumSum { .. }
        | Op::Gather(_)
        | Op::ScatterAdd { .. }
        | Op::TopK(_) => lower(format!("{op:?}")),
    })
}

/// Names of all operations.
#[cfg(test)]
pub(super) fn operations() -> Vec<String> {
    const ROWS: [RowOp; 10] = [
        RowOp::Softmax,
        RowOp::SoftmaxGrad,
        RowOp::LogSoftmax,
        RowOp::LogSoftmaxGrad,
        RowOp::RmsNorm(0),
        RowOp::RmsNormGrad(0),
        RowOp::LayerNorm(0),
        RowOp::LayerNormGrad(0),
        RowOp::CrossEntropy,
        RowOp::CrossEntropyGrad,
    ];
    let plain = "where sum max argmax attention embedding embeddinggrad take takegrad permute broadcastto slice pad concat \
                 conv2d conv2dinputgrad conv2dweightgrad cumsum gather scatteradd topk rope";
    let mut names: Vec<String> = plain.split(' ').map(str::to_owned).collect();
    let ops = UNARY.map(Op::Unary).into_iter().chain([Unary::ToFloat, Unary::ToInt].map(Op::Unary));
    let ops = ops.chain(BINARY.map(Op::Binary)).chain(ROWS.map(Op::Row));
    let ops = ops.chain([Random::Uniform, Random::Normal].map(|kind| Op::Random(kind, String::new())));
    let ops = ops.chain(ORIENTATIONS.map(|(ta, tb)| Op::MatMul { ta, tb }));
    let plain = Attention { causal: false, window: 0, scale: 0, soft_cap: 0 };
    let ops = ops.chain(GRADIENTS.map(|of| Op::AttentionGrad(plain, of)));
    names.extend(ops.filter_map(|op| name(&op)));
    names
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
const BINARY: [Binary; 9] =
    [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min, Binary::Lt, Binary::Le, Binary::Eq];
const ORIENTATIONS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];
const GRADIENTS: [AttentionInput; 3] = [AttentionInput::Q, AttentionInput::K, AttentionInput::V];
const EPS: u32 = 1e-5f32.to_bits();

type Made<T = NodeId> = Result<T, GraphError>;
/// Shapes of a convolution's operands.
type ImagesAndKernels = ([u32; 4], [u32; 4]);
/// Name, options, sizes, draws.
type Sizes<O, S> = (&'static str, O, S, u32);

/// A case under construction.
struct Making {
    g: Graph,
    operands: Vec<(usize, Values)>,
    inputs: [Input; 2],
    wanted: Vec<NodeId>,
}

fn len(shape: &[u32]) -> usize {
    shape.iter().map(|&n| n as usize).product()
}

impl Making {
    fn new() -> Self {
        Self { g: Graph::default(), operands: vec![], inputs: [Input::Nothing; 2], wanted: vec![] }
    }

    fn param(&mut self, shape: &[u32], values: Values) -> Made {
        let id = self.g.param(self.operands.len() as u32, Shape(shape.to_vec()))?;
        self.operands.push((len(shape), values));
        Ok(id)
    }

    fn ids(&mut self, shape: &[u32], below: u32) -> Made {
        self.inputs[0] = Input::Indices(len(shape), below);
        self.g.input(0, Shape(shape.to_vec()), DType::I32)
    }

    fn want(&mut self, id: Made) -> Made<()> {
        self.wanted.push(id?);
        Ok(())
    }

    /// Wants integers, as floats: they are below 2^24.
    fn want_int(&mut self, id: Made) -> Made<()> {
        let id = id?;
        let float = self.g.unary(Unary::ToFloat, id);
        self.want(float)
    }

    fn done(self, name: &'static str, draws: u32) -> Case {
        let Self { g, operands, inputs, wanted } = self;
        let (graph, wanted) = (g, wanted);
        let mut tables = 0;
        let mut contracts = false;
        for node in graph.nodes() {
            match node.op {
                Op::Table(i) => tables = tables.max(i as usize + 1),
                Op::MatMul { .. }
                | Op::Attention(_)
                | Op::AttentionGrad(..)
                | Op::Conv2d(_)
                | Op::Conv2dInputGrad(_)
                | Op::Conv2dWeightGrad(_) => contracts = true,
                _ => {}
            }
        }
        Case { name, graph, wanted, draws, contracts, operands, inputs, tables }
    }
}

/// All cases.
pub(super) fn all() -> Result<Vec<Case>, GraphError> {
    let mut cases = vec![
        unary()?,
        integers()?,
        binary("two operands", &BINARY[..4])?,
        binary("two operands, compared", &BINARY[4..])?,
        broadcast()?,
        choice()?,
        chains()?,
        random()?,
        foreign()?,
        moves()?,
        moves_small()?,
        reductions("reductions of rows", &[1024, 256], 4)?,
        reductions("reductions of long rows", &[40, 4097], 1)?,
        reductions("reductions of cubes", &[17, 33, 70], 1)?,
        largest()?,
        running()?,
        indexed()?,
        chosen()?,
    ];
    for (name, n, rows, draws) in [
        ("rows of 1", 1, 64, 1),
        ("rows of 2", 2, 300, 1),
        ("rows of 15", 15, 40, 1),
        ("rows of 16", 16, 700, 1),
        ("rows of 17", 17, 40, 1),
        ("rows of 256", 256, 1024, 4),
        ("rows of 5000", 5000, 3, 1),
    ] {
        cases.push(rows_of(name, n, rows, draws)?);
    }
    cases.extend(products()?);
    cases.extend(convolutions()?);
    cases.extend(attentions()?);
    Ok(cases)
}

fn unary() -> Made<Case> {
    let mut m = Making::new();
    let x = m.param(&[512, 512], Hostile)?;
    for op in UNARY {
        let y = m.g.unary(op, x);
        m.want(y)?;
    }
    let whole = m.g.unary(Unary::ToInt, x);
    m.want_int(whole)?;
    Ok(m.done("one operand", 4))
}

fn integers() -> Made<Case> {
    let mut m = Making::new();
    let shape = Shape(vec![256, 512]);
    m.inputs = [Input::Integers(256 * 512), Input::Integers(256 * 512)];
    let a = m.g.input(0, shape.clone(), DType::I32)?;
    let b = m.g.input(1, shape.clone(), DType::I32)?;
    let floats = m.g.unary(Unary::ToFloat, a);
    m.want(floats)?;
    let (range, five) = (m.g.arange(512)?, m.g.full_int(5, Shape::default())?);
    for op in [Binary::Lt, Binary::Le, Binary::Eq] {
        for (a, b) in [(a, b), (a, range), (five, b)] {
            let mask = m.g.binary(op, a, b);
            m.want(mask)?;
        }
    }
    let mask = m.g.binary(Binary::Lt, a, b)?;
    let chosen = m.g.where_(mask, range, b);
    m.want_int(chosen)?;
    Ok(m.done("integers", 8))
}

fn binary(name: &'static str, ops: &[Binary]) -> Made<Case> {
    let mut m = Making::new();
    let (a, b) = (m.param(&[512, 512], Hostile)?, m.param(&[512, 512], Against(0))?);
    for &op in ops {
        let y = m.g.binary(op, a, b);
        m.want(y)?;
    }
    Ok(m.done(name, 4))
}

fn broadcast() -> Made<Case> {
    let mut m = Making::new();
    let x = m.param(&[96, 301], Hostile)?;
    let (row, column, one) = (m.param(&[301], Hostile)?, m.param(&[96, 1], Hostile)?, m.param(&[], Plain)?);
    let table = m.g.table(0)?;
    let uniform = m.g.full(0.3f32.to_bits(), Shape(vec![96, 301]))?;
    for op in BINARY {
        for (a, b) in [(x, row), (column, x), (x, one), (one, x), (row, column), (x, table), (uniform, x)] {
            let y = m.g.binary(op, a, b);
            m.want(y)?;
        }
    }
    Ok(m.done("two operands, broadcasting", 3))
}

fn choice() -> Made<Case> {
    let mut m = Making::new();
    let (a, b) = (m.param(&[512, 512], Hostile)?, m.param(&[512, 512], Against(0))?);
    let (row, one) = (m.param(&[512], Hostile)?, m.param(&[], Hostile)?);
    let zero = m.g.full(0, Shape::default())?;
    let mask = m.g.binary(Binary::Lt, zero, a)?;
    for (c, x, y) in [(mask, a, b), (a, b, row), (row, one, a), (one, row, b)] {
        let chosen = m.g.where_(c, x, y);
        m.want(chosen)?;
    }
    let wide = m.g.broadcast_to(row, Shape(vec![512, 512]));
    m.want(wide)?;
    Ok(m.done("choices", 4))
}

/// Elementwise operations that run together: a gelu and an update by AdamW, where dropping one rounding shows.
fn chains() -> Made<Case> {
    let mut m = Making::new();
    let x = m.param(&[300, 259], Hostile)?;
    let (p, g) = (m.param(&[300, 259], Plain)?, m.param(&[300, 259], Against(1))?);
    let (first, second) = (m.param(&[300, 259], Plain)?, m.param(&[300, 259], Hostile)?);
    let number = |m: &mut Making, value: f32| m.g.full(value.to_bits(), Shape::default());
    let (root, one, half) =
        (number(&mut m, std::f32::consts::FRAC_1_SQRT_2)?, number(&mut m, 1.0)?, number(&mut m, 0.5)?);
    let scaled = m.g.binary(Binary::Mul, x, root)?;
    let erf = m.g.unary(Unary::Erf, scaled)?;
    let weight = m.g.binary(Binary::Add, one, erf)?;
    let halved = m.g.binary(Binary::Mul, x, half)?;
    let gelu = m.g.binary(Binary::Mul, halved, weight);
    m.want(gelu)?;
    let mean = |m: &mut Making, old: NodeId, of: NodeId, keep: f32| -> Made {
        let (keep, take) = (number(m, keep)?, number(m, 1.0 - keep)?);
        let (kept, taken) = (m.g.binary(Binary::Mul, old, keep)?, m.g.binary(Binary::Mul, of, take)?);
        m.g.binary(Binary::Add, kept, taken)
    };
    let square = m.g.binary(Binary::Mul, g, g)?;
    let (first, second) = (mean(&mut m, first, g, 0.9)?, mean(&mut m, second, square, 0.95)?);
    let (deviation, eps) = (m.g.unary(Unary::Sqrt, second)?, number(&mut m, 1e-8)?);
    let below = m.g.binary(Binary::Add, deviation, eps)?;
    let step = m.g.binary(Binary::Div, first, below)?;
    let decay = number(&mut m, 0.1)?;
    let decayed = m.g.binary(Binary::Mul, p, decay)?;
    let direction = m.g.binary(Binary::Add, step, decayed)?;
    let rate = m.g.table(0)?;
    let change = m.g.binary(Binary::Mul, direction, rate)?;
    let updated = m.g.binary(Binary::Sub, p, change);
    m.want(updated)?;
    m.wanted.extend([first, second]);
    // What an optimiser that rearranges would turn into x.
    let there = m.g.binary(Binary::Add, x, g)?;
    let back = m.g.binary(Binary::Sub, there, g);
    m.want(back)?;
    let product = m.g.binary(Binary::Mul, x, g)?;
    let sum = m.g.binary(Binary::Add, product, p);
    m.want(sum)?;
    Ok(m.done("chains", 4))
}

fn random() -> Made<Case> {
    let mut m = Making::new();
    for kind in [Random::Uniform, Random::Normal] {
        for (stream, n) in [("a", (1 << 18) + 3), ("b", 7)] {
            let numbers = m.g.random(kind, stream, Shape(vec![n]));
            m.want(numbers)?;
        }
    }
    Ok(m.done("random numbers", 4))
}

fn foreign() -> Made<Case> {
    let mut m = Making::new();
    m.inputs[1] = Input::Foreign(3000);
    let x = m.g.input(1, Shape(vec![3000]), DType::F32)?;
    let (table, one) = (m.g.table(0)?, m.g.full(1.0f32.to_bits(), Shape::default())?);
    let strange = [f32::NAN.to_bits(), (-1e-38f32).to_bits(), f32::INFINITY.to_bits(), (-0.0f32).to_bits()];
    for bits in strange {
        let full = m.g.full(bits, Shape(vec![7]))?;
        m.want(Ok(full))?;
        let sum = m.g.binary(Binary::Add, full, one);
        m.want(sum)?;
    }
    let product = m.g.binary(Binary::Mul, x, table);
    m.want(product)?;
    let scaled = m.g.binary(Binary::Mul, one, table);
    m.want(scaled)?;
    Ok(m.done("numbers from outside", 6))
}

fn moves() -> Made<Case> {
    let mut m = Making::new();
    let x = m.param(&[16, 64, 16, 16], Hostile)?;
    for perm in [[0, 2, 1, 3], [0, 1, 3, 2]] {
        let moved = m.g.permute(x, &perm);
        m.want(moved)?;
    }
    let part = m.g.slice(x, 1, 1, 62)?;
    m.want(Ok(part))?;
    let last = m.g.slice(x, 3, 3, 9);
    m.want(last)?;
    let padded = m.g.pad(part, 3, 2, 3);
    m.want(padded)?;
    let joined = m.g.concat(&[part, x], 1);
    m.want(joined)?;
    let wide = m.g.slice(x, 2, 0, 1)?;
    let wide = m.g.broadcast_to(wide, Shape(vec![16, 64, 16, 16]));
    m.want(wide)?;
    Ok(m.done("moves", 5))
}

fn moves_small() -> Made<Case> {
    let mut m = Making::new();
    let x = m.param(&[5, 37, 4, 18], Hostile)?;
    m.inputs[0] = Input::Integers(5 * 37);
    let ids = m.g.input(0, Shape(vec![5, 37]), DType::I32)?;
    for perm in [[1, 0, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1], [1, 3, 0, 2]] {
        let moved = m.g.permute(x, &perm);
        m.want(moved)?;
    }
    for (axis, start, len) in [(0, 1, 3), (1, 36, 1), (2, 0, 3), (3, 5, 9)] {
        let part = m.g.slice(x, axis, start, len)?;
        m.want(Ok(part))?;
        let padded = m.g.pad(part, axis, 2, 1);
        m.want(padded)?;
        let joined = m.g.concat(&[part, x, part], axis);
        m.want(joined)?;
    }
    let moved = m.g.permute(ids, &[1, 0])?;
    m.want_int(Ok(moved))?;
    let part = m.g.slice(moved, 0, 3, 20);
    m.want_int(part)?;
    let joined = m.g.concat(&[ids, ids], 1);
    m.want_int(joined)?;
    let flat = m.g.reshape(x, Shape(vec![37, 360]))?;
    let stopped = m.g.stop_gradient(flat)?;
    let sum = m.g.binary(Binary::Add, stopped, flat);
    m.want(sum)?;
    Ok(m.done("small moves", 2))
}

fn reductions(name: &'static str, shape: &[u32], draws: u32) -> Made<Case> {
    let mut m = Making::new();
    let (x, tied) = (m.param(shape, Hostile)?, m.param(shape, Halves)?);
    let rank = shape.len() as u8;
    for set in 1..1u32 << rank {
        let axes: Vec<u8> = (0..rank).filter(|axis| set >> axis & 1 == 1).collect();
        for x in [x, tied] {
            let sum = m.g.sum(x, &axes);
            m.want(sum)?;
            let most = m.g.max(x, &axes);
            m.want(most)?;
        }
    }
    for x in [x, tied] {
        let first = m.g.argmax(x);
        m.want_int(first)?;
    }
    Ok(m.done(name, draws))
}

fn largest() -> Made<Case> {
    let mut m = Making::new();
    for (n, k, values) in [(64, 8, Hostile), (64, 64, Halves), (1000, 3, Hostile), (17, 5, Halves), (2, 1, Hostile)] {
        let x = m.param(&[(1 << 16) / n, n], values)?;
        let order = m.g.topk(x, k);
        m.want_int(order)?;
    }
    Ok(m.done("the largest", 4))
}

fn running() -> Made<Case> {
    let mut m = Making::new();
    for (shape, axis) in [(vec![256, 1024], 1), (vec![600, 300], 0), (vec![3, 257, 70], 1), (vec![513], 0)] {
        for values in [Hostile, Factor] {
            let x = m.param(&shape, values)?;
            for reverse in [false, true] {
                let sums = m.g.cumsum(x, axis, reverse);
                m.want(sums)?;
            }
        }
    }
    Ok(m.done("running sums", 1))
}

/// Tables that are read and summed by indices.
fn indexed() -> Made<Case> {
    let mut m = Making::new();
    let (rows, width) = (97, 64);
    let ids = m.ids(&[4, 1024], rows)?;
    let table = m.param(&[rows, width], Hostile)?;
    let dy = m.param(&[4, 1024, width], Factor)?;
    let embedded = m.g.embedding(table, ids);
    m.want(embedded)?;
    let sums = m.g.embedding_grad(ids, dy, rows);
    m.want(sums)?;
    let x = m.param(&[4, 1024, rows], Hostile)?;
    let taken = m.g.take(x, ids);
    m.want(taken)?;
    let one = m.param(&[4, 1024], Hostile)?;
    let spread = m.g.take_grad(ids, one, rows);
    m.want(spread)?;
    Ok(m.done("tables", 4))
}

/// Elements that are chosen and summed along an axis.
fn chosen() -> Made<Case> {
    let mut m = Making::new();
    let ids = m.ids(&[256, 512], 300)?;
    let (x, columns) = (m.param(&[256, 300], Hostile)?, m.param(&[300, 512], Hostile)?);
    let src = m.param(&[256, 512], Factor)?;
    for axis in [1, 0] {
        let chosen = m.g.gather(if axis == 1 { x } else { columns }, ids, axis);
        m.want(chosen)?;
        let sums = m.g.scatter_add(ids, src, axis, 300);
        m.want(sums)?;
    }
    let whole = m.g.unary(Unary::ToInt, x)?;
    let chosen = m.g.gather(whole, ids, 1);
    m.want_int(chosen)?;
    Ok(m.done("chosen elements", 8))
}

fn rows_of(name: &'static str, n: u32, rows: u32, draws: u32) -> Made<Case> {
    let mut m = Making::new();
    let shape = [rows, n];
    for values in if draws > 1 { &[Hostile][..] } else { &[Hostile, Plain] } {
        let (x, dy) = (m.param(&shape, *values)?, m.param(&shape, Plain)?);
        let weights = m.param(&[rows], *values)?;
        let ids = m.ids(&[rows], n)?;
        for op in [RowOp::Softmax, RowOp::LogSoftmax, RowOp::RmsNorm(EPS), RowOp::LayerNorm(EPS), RowOp::RmsNorm(0)] {
            let y = m.g.row(op, &[x]);
            m.want(y)?;
        }
        for op in [RowOp::SoftmaxGrad, RowOp::LogSoftmaxGrad, RowOp::RmsNormGrad(EPS), RowOp::LayerNormGrad(EPS)] {
            let dx = m.g.row(op, &[x, dy]);
            m.want(dx)?;
        }
        let losses = m.g.row(RowOp::CrossEntropy, &[x, ids]);
        m.want(losses)?;
        let dx = m.g.row(RowOp::CrossEntropyGrad, &[x, ids, weights]);
        m.want(dx)?;
        if n.is_multiple_of(2) {
            for inverse in [false, true] {
                let turned = m.g.rope(x, 10_000f32.to_bits(), inverse);
                m.want(turned)?;
            }
        }
    }
    Ok(m.done(name, draws))
}

/// Products in every orientation, with sums that end on, before and after a chunk of 256.
fn products() -> Made<Vec<Case>> {
    let sizes: [(&str, [u32; 4], u32); 11] = [
        ("products, 1 by 1 by 1", [0, 1, 1, 1], 1),
        ("products, 3 by 5 by 255", [0, 3, 5, 255], 2),
        ("products, 13 by 33 by 256", [0, 13, 33, 256], 2),
        ("products, 50 by 70 by 257", [0, 50, 70, 257], 2),
        ("products, 12 by 100 by 513", [0, 12, 100, 513], 2),
        ("products, 200 by 17 by 40", [0, 200, 17, 40], 2),
        ("products, 64 by 128 by 1024", [0, 64, 128, 1024], 1),
        ("products, 512 by 512 by 300", [0, 512, 512, 300], 4),
        ("products of 3, 7 by 9 by 11", [3, 7, 9, 11], 2),
        ("products of 5, 33 by 40 by 65", [5, 33, 40, 65], 2),
        ("products of 8, 64 by 64 by 288", [8, 64, 64, 288], 1),
    ];
    let made = |&(name, [batch, rows, columns, k], draws): &(&'static str, [u32; 4], u32)| {
        let mut m = Making::new();
        let stored = |rows: u32, columns: u32, swapped: bool| {
            let matrix = if swapped { [columns, rows] } else { [rows, columns] };
            if batch == 0 { matrix.to_vec() } else { [&[batch][..], &matrix].concat() }
        };
        for (ta, tb) in ORIENTATIONS {
            let (a, b) = (m.param(&stored(rows, k, ta), Factor)?, m.param(&stored(k, columns, tb), Factor)?);
            let product = m.g.contraction((a, ta), (b, tb));
            m.want(product)?;
        }
        let (a, b) = (m.param(&stored(rows, k, false), Hostile)?, m.param(&stored(k, columns, false), Hostile)?);
        let product = m.g.contraction((a, false), (b, false))?;
        m.want(Ok(product))?;
        // Bias, activation and residual, which may be computed where the product is.
        let bias = m.param(&[columns], Plain)?;
        let biased = m.g.binary(Binary::Add, product, bias)?;
        let active = m.g.unary(Unary::Relu, biased);
        m.want(active)?;
        Ok(m.done(name, draws))
    };
    sizes.iter().map(made).collect()
}

fn convolutions() -> Made<Vec<Case>> {
    let conv = |stride: u32, padding: u32, dilation: u32, groups: u32| Conv2d {
        stride: [stride; 2],
        padding: [padding; 2],
        dilation: [dilation; 2],
        groups,
    };
    let lopsided = Conv2d { stride: [2, 1], padding: [1, 2], dilation: [1, 2], groups: 2 };
    let sizes: [Sizes<Conv2d, ImagesAndKernels>; 11] = [
        ("convolutions, 1 by 1", conv(1, 0, 1, 1), ([5, 20, 4, 3], [33, 20, 1, 1]), 1),
        ("convolutions, padded", conv(1, 1, 1, 1), ([3, 2, 7, 7], [5, 2, 3, 3]), 1),
        ("convolutions, strided", conv(2, 1, 1, 1), ([2, 3, 9, 8], [4, 3, 3, 3]), 1),
        ("convolutions, far apart", conv(3, 2, 2, 1), ([2, 2, 11, 10], [3, 2, 3, 2]), 1),
        ("convolutions, mostly padding", conv(1, 5, 3, 1), ([1, 2, 2, 3], [2, 2, 4, 4]), 1),
        ("convolutions, lopsided", lopsided, ([2, 4, 9, 11], [6, 2, 3, 2]), 1),
        ("convolutions, a group for each channel", conv(1, 1, 1, 19), ([2, 19, 6, 5], [19, 1, 3, 3]), 1),
        ("convolutions, sums of more than a chunk", conv(1, 1, 1, 1), ([1, 31, 4, 4], [3, 31, 3, 3]), 1),
        ("convolutions, sums of many images", conv(1, 1, 1, 1), ([3, 2, 17, 19], [31, 2, 3, 3]), 1),
        ("convolutions, lines", Conv2d { padding: [0, 1], ..conv(1, 0, 1, 1) }, ([2, 3, 1, 700], [4, 3, 1, 3]), 1),
        ("convolutions, 8 images of 32 by 32", conv(1, 1, 1, 1), ([8, 16, 32, 32], [16, 16, 3, 3]), 8),
    ];
    let made = |&(name, options, (x, w), draws): &Sizes<Conv2d, ImagesAndKernels>| {
        let mut m = Making::new();
        for values in if draws > 1 { &[Factor][..] } else { &[Factor, Hostile] } {
            let (input, kernel) = (m.param(&x, *values)?, m.param(&w, *values)?);
            let y = m.g.conv2d(input, kernel, options)?;
            let shape = m.g.shape(y)?.0.clone();
            m.want(Ok(y))?;
            let dy = m.param(&shape, *values)?;
            let dx = m.g.conv2d_input_grad(kernel, dy, options, [x[2], x[3]]);
            m.want(dx)?;
            let dw = m.g.conv2d_weight_grad(input, dy, options, [w[2], w[3]]);
            m.want(dw)?;
        }
        Ok(m.done(name, draws))
    };
    sizes.iter().map(made).collect()
}

fn attentions() -> Made<Vec<Case>> {
    let plain = Attention { causal: false, window: 0, scale: 0.37f32.to_bits(), soft_cap: 0 };
    let causal = Attention { causal: true, ..plain };
    let cap = 2.5f32.to_bits();
    // Batch, heads, heads of the keys, queries, keys, depth.
    let sizes: [Sizes<Attention, [u32; 6]>; 8] = [
        ("attention", plain, [2, 2, 2, 50, 70, 8], 1),
        ("attention, more keys than a chunk", causal, [1, 2, 2, 300, 300, 5], 1),
        ("attention, shared keys", causal, [2, 4, 2, 97, 97, 16], 1),
        ("attention, a window", Attention { window: 20, ..causal }, [1, 2, 1, 310, 310, 4], 1),
        ("attention, capped", Attention { soft_cap: cap, ..causal }, [1, 3, 1, 130, 130, 7], 1),
        ("attention, deep heads", Attention { soft_cap: cap, ..plain }, [1, 2, 2, 3, 260, 300], 1),
        ("attention, one position", causal, [3, 2, 2, 1, 1, 2], 1),
        ("attention, 32 heads of 64 positions", causal, [8, 4, 4, 64, 64, 32], 16),
    ];
    let made = |&(name, options, shape, draws): &Sizes<Attention, [u32; 6]>| {
        let [batch, heads, shared, queries, keys, depth] = shape;
        let mut m = Making::new();
        let (q_shape, k_shape) = ([batch, heads, queries, depth], [batch, shared, keys, depth]);
        for values in if draws > 1 { &[Plain][..] } else { &[Factor, Hostile] } {
            let (q, k) = (m.param(&q_shape, *values)?, m.param(&k_shape, *values)?);
            let (v, dy) = (m.param(&k_shape, *values)?, m.param(&q_shape, *values)?);
            let y = m.g.attention(q, k, v, options)?;
            m.want(Ok(y))?;
            for of in GRADIENTS {
                let gradient = m.g.attention_grad([q, k, v, y, dy], options, of);
                m.want(gradient)?;
            }
        }
        Ok(m.done(name, draws))
    };
    sizes.iter().map(made).collect()
}
